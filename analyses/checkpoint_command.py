"""`fwbio compare --checkpoint FILE`: a file that `fwbio train` wrote, on every substrate."""

import shlex
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import xarray as xr
from click.core import ParameterSource

from fwbio.analyses.compare import compare
from fwbio.analyses.compare_network import compare_network, is_network
from fwbio.analyses.outputs import check_folder, check_writable, write
from fwbio.analyses.tables import print_summary
from fwbio.errors import FwbioError

SAID_BY_FILE = ("task", "rules", "programmers", "pairs", "noise", "gap")

checkpoint_option = click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A file that `fwbio train` wrote: run that network, on its own task, in place of TASK.",
)


def compare_checkpoint(
    context: click.Context, path: Path, out: Path, settings: Mapping[str, Any]
) -> None:
    """Compare what a file holds on the substrates, write it and print it.

    A network on sequences is run on fresh ones, `fwbio.analyses.compare_network`; a trained
    programmer is the programmer "trained" of `fwbio.analyses.compare`, at its own task and rule.

    Args:
        context: of the command, to know which options were given.
        path: the file.
        out: folder to write to.
        settings: the command's other options.

    Raises:
        FwbioError: an option that the file decides, or a file that holds neither.
    """
    given = {name for name in settings if _was_given(context, name)}
    for name in SAID_BY_FILE:
        if name in given:
            raise FwbioError(
                f"the file {path.name} says that already",
                where=f"compare --{name}",
                mend="leave it out, or leave out --checkpoint",
            )
    check_writable(out)
    from fwbio.models.networks.checkpoints import read_plain
    from fwbio.models.slow_net import FORMAT

    content = read_plain(path)
    if isinstance(content, dict) and content.get("format") == FORMAT:
        _compare_programmer(path, out, settings, given)
        return
    from fwbio.analyses.network_outputs import print_network, write_network

    names = ("substrates", "trials", "synaptic_trials", "seed", "sizes")
    tree = compare_network(path, **{name: settings[name] for name in names}, progress=True)
    print_network(tree, write_network(tree, out))


def print_again(tree: xr.Dataset | xr.DataTree, out: Path) -> bool:
    """Make the table and the figure of a network's comparison again; False of other records."""
    if not (isinstance(tree, xr.DataTree) and is_network(tree)):
        return False
    from fwbio.analyses.network_outputs import print_network, write_network

    print_network(tree, write_network(tree, out, with_tree=False))
    return True


def _was_given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) not in (None, ParameterSource.DEFAULT)


def _compare_programmer(
    path: Path, out: Path, settings: Mapping[str, Any], given: set[str]
) -> None:
    from fwbio.models.checkpoint import load

    check_folder(out)
    config = load(path).config
    if "seed" in given and settings["seed"] != config.seed:
        raise FwbioError(
            f"{settings['seed']} is not the seed {config.seed} that the programmer has",
            where="compare --seed",
            mend="leave it out",
        )
    own = ("task", "pairs", "noise", "gap", "seed")
    training = {name: x for name, x in asdict(config).items() if name not in {*own, "rule"}}
    names = ("substrates", "trials", "synaptic_trials", "sizes")
    with tempfile.TemporaryDirectory() as folder:
        # where training looks for it, whatever its file is called
        shutil.copy(path, Path(folder) / f"{config.name}.pt")
        tree = compare(
            **{name: getattr(config, name) for name in own},
            **{name: settings[name] for name in names},
            rules=(config.rule,),
            programmers=("trained",),
            training=training,
            checkpoints=folder,
            progress=True,
        )
    words = ["fwbio", "compare", "--checkpoint", str(path)]
    for name in ("substrates", "trials", "synaptic_trials"):
        value = settings[name]
        words += [f"--{name.replace('_', '-')}", value if name != "substrates" else ",".join(value)]
    for name, value in settings["sizes"].items():
        words += ["--size", f"{name}={value}"]
    tree.attrs["command"] = shlex.join([*map(str, words), "--out", "DIR"])
    print_summary(tree, write(tree, out, progress=True))
