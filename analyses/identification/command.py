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
from fwbio.errors import unknown_name
from fwbio.rules import RULES, resolve

OBSERVED, SCALES, STARTS = (
    ("auto", "weights", "readout"),
    ("auto", "known", "fitted"),
    ("auto", "zero", "observed"),
)
LISTED = 12  # nodes that an error names


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
    "Weights before the first step; auto takes what the file says, or zero.",
)
@click.option("--at", metavar="NODE", help="Which record of a tree, as of `fwbio compare`.")
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
      step                  presentation, a whole number
      trial                 optional: the episode
      key_0, key_1, ..      presynaptic activity
      value_0, ..           teaching input; or post_0, .., postsynaptic activity
      weight_0_0, ..        weight_PRE_POST after the step; empty where it was not seen
      query_0, .. readout_0, ..     what the memory was asked by, and answered
      log_decay, beta, interval     optional: gates that varied; seconds since the step before

    \b
    Examples:
      fwbio identify recording.csv
      fwbio identify recording.nc --rules hebb,retnet,delta --scale fitted --out results/mine
      fwbio identify results/comparison.nc --at /designed/spiking/delta --from readout
    """
    from fwbio.analyses.identification import from_record, identify
    from fwbio.analyses.identification.tables import plain, tables

    candidates = [resolve(rule) for rule in rules] or None
    if out is not None:
        check_writable(out)
    where = f"{file} {at}" if at else str(file)
    recording = from_record(_dataset(file, at), initial=initial, where=where)
    answer = identify(recording, rules=candidates, progress=True, **settings)
    if as_json:
        click.echo(json.dumps(plain(answer), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        click.echo(answer.sentence)
        for table in tables(answer):
            terminal().print(table)
    if out is not None:
        from fwbio.analyses.identification.outputs import write

        command = _command(file, rules, at, {"initial": initial, **settings})
        written = write(answer, recording, out, command=command)
        click.echo("\n".join(map(str, written)), err=as_json)


def _dataset(file: Path, at: str | None) -> xr.Dataset:
    """The record in a file, or the one of its nodes that is asked for."""
    if file.suffix.lower() == ".csv":
        from fwbio.analyses.identification.csv_table import read_csv

        found: xr.Dataset | xr.DataTree = read_csv(file)
    else:
        found = record.load(file)
    if isinstance(found, xr.Dataset):
        if at is not None:
            raise FwbioError(
                "holds one record and no nodes", where=str(file), mend="leave out --at"
            )
        return found
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
    names = {"observed": "--from", "scale": "--scale", "initial": "--initial"}
    for name, value in settings.items():
        words += [names[name], value] if value != "auto" else []
    return shlex.join(words)
