"""`fwbio identify`: which rule of the table made these weights, or these read-outs?"""

import json
import shlex
from pathlib import Path
from typing import Any

import click
import xarray as xr

from fwbio import FwbioError, record
from fwbio.analyses import options
from fwbio.analyses.outputs import check_writable
from fwbio.analyses.tables import terminal
from fwbio.analyses.words import plural
from fwbio.errors import unknown_name
from fwbio.rules import RULES, resolve

OBSERVED, SCALES, STARTS = (
    ("auto", "weights", "readout"),
    ("auto", "known", "fitted"),
    ("auto", "zero", "observed"),
)
LISTED = 12  # nodes that an error names
ENDINGS = (".nc", ".zarr", ".csv")
NETCDF = frozenset({".nc", ".nc4", ".cdf", ".netcdf", ".h5", ".hdf5", ""})


def _chosen(option: str, target: str, among: tuple[str, ...], what: str) -> Any:
    return click.option(
        option, target, default="auto", show_default=True, type=click.Choice(among), help=what
    )


@click.command("identify")
@click.argument("file", type=click.Path(path_type=Path))
@options.several("--rules", tuple(RULES), (), "Candidates; the whole table unless named")
@_chosen("--from", "observed", OBSERVED, "What to explain; auto takes the weights, if they change.")
@_chosen(
    "--scale",
    "scale",
    SCALES,
    "Whether weights are in the rule's unit, or up to a factor; auto takes the attribute `units`.",
)
@_chosen(
    "--initial",
    "initial",
    STARTS,
    "Weights before the first step; auto takes what the file says, or zero unless the first ones"
    " are too large for the steps before them: then those first observed.",
)
@click.option("--at", metavar="NODE", help="Which record of a tree, as of `fwbio compare`.")
@click.option(
    "--trials",
    type=click.IntRange(min=1),
    help="How many trials to fit, the first ones; as many as some 30 s allow, unless given.",
)
@click.option("--check", is_flag=True, help="Print what was read of FILE, and fit nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs to read.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder that gets identification.json, .csv and .png.",
)
def identify_command(
    file: Path,
    rules: tuple[str, ...],
    at: str | None,
    initial: Any,
    trials: int | None,
    check: bool,
    as_json: bool,
    out: Path | None,
    **settings: Any,
) -> None:
    """Which rule made these weights?

    Fits every rule of the table to what was seen of a memory, and says which made it, with its
    constants; or that these data can't tell, and what would.

    FILE is NetCDF (.nc) or Zarr (.zarr) with `key` (step, pre), `value` (step, post) and `weights`
    (step, pre, post), or `query` (step, pre) and `readout` (step, post); or a CSV file (.csv) with
    one row a step and one column a channel:

    \b
      step                  presentation: whole numbers, every one that there was
      trial                 optional: the episode, a number or a name
      key_0, key_1, ..      presynaptic activity; or pre_0, ..
      value_0, ..           teaching input; or post_0, .., postsynaptic activity
      weight_0_0, ..        weight_PRE_POST after the step; empty where it was not seen
      query_0, .. readout_0, ..     what the memory was asked by, and answered
      log_decay, beta, interval     optional: gates that varied; seconds since the step before

    Columns of other names are left aside. Leave weights empty that were not seen, and no step that
    was presented out. Trials may end early.

    Fitted are the constants that the table prints. Time constants and thresholds of biological
    rules are taken from the literature, not fitted: of bcm, the 20 s over which its threshold
    averages; of stdp, windows of 20 ms; the others' are printed with the answer. They need
    `interval`, the seconds since the step before (.1 s unless given); key and value of one row are
    causal, the value 10 ms after the key. Of several postsynaptic channels oja is Oja's subspace
    rule.

    Notebook 5 (analyses/notebooks/5_bring_your_own_recording.ipynb) goes from a file to an answer.

    \b
    Examples:
      fwbio identify recording.csv --check
      fwbio identify recording.csv
      fwbio identify recording.nc --rules hebb,retnet,delta --scale fitted --out results/mine
      fwbio identify results/comparison.nc --at /designed/spiking/delta --from readout
    """
    from fwbio.analyses.identification import from_record, identify
    from fwbio.analyses.identification.identifying import affordable
    from fwbio.analyses.identification.tables import plain, tables

    candidates = _candidates(rules)
    if out is not None:
        if check:
            raise click.UsageError("--check writes nothing; leave out --out")
        check_writable(out)
    where = f"{file} {at}" if at else str(file)
    dataset = _dataset(file, at)
    _tell_changed(dataset)
    many = trials if trials or check else affordable(dataset, candidates)
    recording = from_record(dataset, initial=initial, trials=many, where=where)
    if check:
        _check(recording, as_json)
        return
    answer = identify(recording, rules=candidates, trials=trials, progress=True, **settings)
    if as_json:
        told = plain(answer, recording)
        click.echo(json.dumps(told, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        click.echo(answer.sentence)
        for table in tables(answer, recording):
            terminal().print(table)
    if out is not None:
        from fwbio.analyses.identification.outputs import write

        command = _command(file, rules, at, {"initial": initial, "trials": trials, **settings})
        written = write(answer, recording, out, command=command)
        click.echo("\n".join(map(str, written)), err=as_json)


def _candidates(rules: tuple[str, ...]) -> list[Any] | None:
    """The rules named, or None for the whole table."""
    source = click.get_current_context().get_parameter_source("rules")
    if not rules and source is not click.core.ParameterSource.DEFAULT:
        raise FwbioError(
            "no rule is named", where="--rules", mend="name some, or leave it out for all"
        )
    return [resolve(rule) for rule in rules] or None


def _tell_changed(dataset: xr.Dataset) -> None:
    """What of a CSV file was left aside, and what was added to it."""
    ignored = dataset.attrs.get("ignored_columns", [])
    if ignored:
        names = ", ".join(map(repr, ignored))
        click.echo(f"Left aside, for no recording has such columns: {names}", err=True)
    padded = dataset.attrs.get("padded_trials", 0)
    if padded:
        ended = f"{plural(padded, 'trial')} of {dataset.sizes['trial']} ended early"
        click.echo(f"{ended}: filled up with steps that present and see nothing", err=True)


def _check(recording: Any, as_json: bool) -> None:
    from fwbio.analyses.identification.checking import contents, table

    if as_json:
        click.echo(json.dumps(contents(recording), indent=2))
    else:
        terminal().print(table(recording))


def _dataset(file: Path, at: str | None) -> xr.Dataset:
    """The record in a file, or the one of its nodes that is asked for."""
    ending = file.suffix.lower()
    if ending == ".csv":
        from fwbio.analyses.identification.csv_table import read_csv

        found: xr.Dataset | xr.DataTree = read_csv(file)
    else:
        _check_ending(file, ending)
        found = record.load(file)
    if isinstance(found, xr.Dataset):
        if at is not None:
            raise FwbioError(
                "holds one record and no nodes", where=str(file), mend="leave out --at"
            )
        return found
    return _node(found, file, at)


def _check_ending(file: Path, ending: str) -> None:
    known = ", ".join(ENDINGS[:-1]) + f" or {ENDINGS[-1]}"
    if file.is_dir() and ending != ".zarr":
        raise FwbioError("a folder is not a record", where=str(file), mend=f"name a {known} in it")
    if file.is_file() and ending not in NETCDF:
        raise FwbioError(
            f"{ending} is not read as a recording", where=str(file), mend=f"save it as {known}"
        )


def _node(found: xr.DataTree, file: Path, at: str | None) -> xr.Dataset:
    """The record of a tree that is asked for."""
    nodes = [node.path for node in found.subtree if {"key", "value"} <= set(node.data_vars)]
    shown = ", ".join(nodes[:LISTED]) + (", .." if len(nodes) > LISTED else "")
    if not nodes:
        raise FwbioError(
            "none of its nodes has `key` and `value`", where=str(file), mend="give a record"
        )
    if at is None:
        raise FwbioError(
            f"holds {len(nodes)} records", where=str(file), mend=f"choose one by --at: {shown}"
        )
    at = "/" + at.strip("/")
    if at not in nodes:
        raise unknown_name(at, nodes, kind="record", where=f"{file} --at")
    return found[at].to_dataset()


def _command(file: Path, rules: tuple[str, ...], at: str | None, settings: dict[str, Any]) -> str:
    """What makes the same again."""
    words = ["fwbio", "identify", str(file)]
    words += ["--rules", ",".join(rules)] if rules else []
    words += ["--at", at] if at else []
    names = {
        "observed": "--from",
        "scale": "--scale",
        "initial": "--initial",
        "trials": "--trials",
    }
    for name, value in settings.items():
        words += [names[name], str(value)] if value not in ("auto", None) else []
    return shlex.join(words)
