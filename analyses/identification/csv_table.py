"""Recordings as CSV: one row a presentation, one column a channel.

    step          presentation, a whole number; each at most once a trial
    trial         optional: the episode
    key_0, ..     presynaptic activity
    value_0, ..   the value or teaching input; or post_0, .., postsynaptic activity
    query_0, ..   optional: what the memory was asked by after the step
    readout_0, .. optional: what it answered, empty where it was not seen
    weight_I_J    optional: the weight from channel I to channel J after the step, likewise
    log_decay, beta, interval    optional: gates that varied, and seconds since the step before

Source of the form: one observation a row, Wickham 2014, 10.18637/jss.v059.i10.
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from fwbio.errors import FwbioError
from fwbio.files import written_aside
from fwbio.record import SCHEMA

GATES = ("log_decay", "beta", "interval")
_VECTORS = {"key": "pre", "value": "post", "query": "pre", "readout": "post"}
_COLUMN = re.compile(r"(key|value|post|query|readout)_(\d+)|weight_(\d+)_(\d+)")


def read_csv(path: str | Path) -> xr.Dataset:
    """The dataset (trial, step, pre, post) that a CSV file of a recording holds.

    Args:
        path: of a file with the columns of this module.

    Raises:
        FwbioError: there is no such file, or it is no table; a column is missing, unknown, has gaps
            in its numbering or is not of numbers; a step is there twice, or not in every trial.
    """
    path = Path(path)
    frame = _frame(path)
    columns = _columns(frame, path)
    frame = _numbers(frame, path)
    trial = frame["trial"] if "trial" in frame else pd.Series(0, index=frame.index)
    frame = frame.assign(trial=trial).sort_values(["trial", "step"], kind="stable")
    _check_steps(frame, path)
    trials = frame["trial"].nunique()

    def block(names: list[str], *shape: int) -> np.ndarray:
        return frame[names].to_numpy(np.float64).reshape(trials, -1, *shape)

    sizes = {"pre": len(columns["key"]), "post": len(columns["value"])}
    found: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}
    for name, channel in _VECTORS.items():
        if name in columns:
            found[name] = (("trial", "step", channel), block(columns[name], sizes[channel]))
    if "weight" in columns:
        shape = (sizes["pre"], sizes["post"])
        found["weights"] = (("trial", "step", "pre", "post"), block(columns["weight"], *shape))
    for gate in GATES:
        if gate in frame:
            found[gate] = (("trial", "step"), block([gate], 1)[..., 0])
    dataset = xr.Dataset(found)
    for name in found:
        dataset[name].attrs = {"long_name": SCHEMA[name].long_name}
    return dataset


def write_csv(record: xr.Dataset, path: str | Path) -> Path:
    """Write what `read_csv` reads of a record: aside, then renamed.

    Args:
        record: with `key`, `value` and any of `query`, `readout`, `weights` and gates; leading dims
            are numbered as trials.
        path: the file.

    Returns:
        The path.

    Raises:
        FwbioError: the record has substeps, which rows can't hold, or the folder can't be written.
    """
    path = Path(path)
    if "substep" in record.dims:
        raise FwbioError(
            "substeps are more than a row holds", where=str(path), mend="use fwbio.record.save"
        )
    inner = {"step", "pre", "post", "snapshot"}
    leading = [d for d in record["key"].dims if d not in inner]
    flat = (
        record.stack(trial_=leading, create_index=False)
        if leading
        else record.expand_dims("trial_")
    )
    trials, steps = flat.sizes["trial_"], flat.sizes["step"]
    columns: dict[str, np.ndarray] = {
        "trial": np.repeat(np.arange(trials), steps),
        "step": np.tile(np.arange(steps), trials),
    }

    def over(name: str, *dims: str) -> np.ndarray:
        array = flat[name]
        if "trial_" not in array.dims:
            array = array.expand_dims(trial_=trials)
        return array.transpose("trial_", *dims).values.reshape(trials * steps, -1)

    for name, channel in _VECTORS.items():
        if name in flat:
            block = over(name, "step", channel)
            columns |= {f"{name}_{i}": column for i, column in enumerate(block.T)}
    if "weights" in flat:
        if "snapshot" in flat.weights.dims:
            flat["weights"] = flat.weights.rename(snapshot="step").reindex(step=flat.step)
        block = over("weights", "step", "pre", "post")
        names = [f"weight_{i}_{j}" for i, j in np.ndindex(flat.sizes["pre"], flat.sizes["post"])]
        columns |= dict(zip(names, block.T, strict=True))
    for gate in GATES:
        if gate in flat and flat[gate].ndim == flat.key.ndim - 1:
            columns[gate] = over(gate, "step")[:, 0]
    with written_aside(path) as aside:
        pd.DataFrame(columns).to_csv(aside, index=False)
    return path


def _frame(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise FwbioError("there is no such file", where=str(path), mend="check the name")
    try:
        frame = pd.read_csv(path, skipinitialspace=True)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, OSError) as error:
        raise FwbioError(
            f"no table of comma-separated values ({str(error).splitlines()[0]})",
            where=str(path),
            mend="give one header line and rows of as many columns",
        ) from error
    frame.columns = [str(name).strip() for name in frame.columns]
    return frame


def _columns(frame: pd.DataFrame, path: Path) -> dict[str, list[str]]:
    """The columns of each variable, in the order of their channels."""
    found: dict[str, dict[tuple[int, ...], str]] = {}
    for column in map(str, frame.columns):
        if column in {"step", "trial", *GATES}:
            continue
        match = _COLUMN.fullmatch(column)
        if match is None:
            raise FwbioError(
                f"the column {column!r} is none that a recording has",
                where=str(path),
                mend="use step, trial, key_0 .., value_0 .., query_0 .., readout_0 .., weight_0_0"
                f" .., {', '.join(GATES)}",
            )
        name = {None: "weight", "post": "value"}.get(match[1], match[1])
        index = tuple(int(i) for i in (match[2], match[3], match[4]) if i is not None)
        if index in found.setdefault(name, {}):
            raise FwbioError(
                f"{column!r} and {found[name][index]!r} are the same channel",
                where=str(path),
                mend="keep one of them",
            )
        found[name][index] = column
    for name in ("step", "key", "value"):
        if name not in frame and name not in found:
            column = name if name == "step" else f"{name}_0"
            raise FwbioError(
                f"there is no column {column!r}", where=str(path), mend="give one column a channel"
            )
    _check_channels(found, path)
    return {name: [by[i] for i in sorted(by)] for name, by in found.items()}


def _check_channels(found: dict[str, dict[tuple[int, ...], str]], path: Path) -> None:
    pre, post = len(found["key"]), len(found["value"])
    wanted = {
        "key": list(np.ndindex(pre)),
        "value": list(np.ndindex(post)),
        "query": list(np.ndindex(pre)),
        "readout": list(np.ndindex(post)),
        "weight": list(np.ndindex(pre, post)),
    }
    for name, by in found.items():
        apart = sorted(set(wanted[name]) ^ set(by))
        if apart:
            column = "_".join(map(str, (name, *apart[0])))
            what = "missing" if apart[0] in wanted[name] else "one too many"
            raise FwbioError(
                f"the column {column!r} is {what} for {pre} keys and {post} values",
                where=str(path),
                mend="number channels from 0 without gaps",
            )


def _numbers(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    for column in frame.columns:
        values = pd.to_numeric(frame[column], errors="coerce")
        bad = values.isna() & frame[column].notna()
        gaps = values.isna() & ~str(column).startswith(("weight_", "readout_"))
        for fault, what in ((bad, "not a number"), (gaps, "empty")):
            if fault.any():
                row = int(np.flatnonzero(fault)[0])
                told = f" ({frame[column].iloc[row]!r})" if what == "not a number" else ""
                raise FwbioError(
                    f"column {column!r} is {what} in line {row + 2}{told}",
                    where=str(path),
                    mend="give a number, or leave out the row",
                )
        frame = frame.assign(**{str(column): values})
    return frame


def _check_steps(frame: pd.DataFrame, path: Path) -> None:
    twice = frame.duplicated(["trial", "step"])
    if twice.any():
        row = frame[twice].iloc[0]
        raise FwbioError(
            f"step {row['step']:g} of trial {row['trial']:g} is there twice",
            where=str(path),
            mend="give each step one row, or number trials in a column `trial`",
        )
    steps = [tuple(rows) for _, rows in frame.groupby("trial")["step"]]
    if any(other != steps[0] for other in steps):
        raise FwbioError(
            "trials differ in their steps",
            where=str(path),
            mend="give every trial the same steps, with weights left empty where not seen",
        )
