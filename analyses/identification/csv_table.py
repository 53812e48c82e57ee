"""Recordings as CSV: one row a presentation, one column a channel.

    step          presentation: whole numbers in a row, every one that there was
    trial         optional: the episode, a number or a name
    key_0, ..     presynaptic activity; or pre_0, ..
    value_0, ..   the value or teaching input; or post_0, .., postsynaptic activity
    query_0, ..   optional: what the memory was asked by after the step
    readout_0, .. optional: what it answered, empty where it was not seen
    weight_I_J    optional: the weight from channel I to channel J after the step, likewise
    log_decay, beta, interval    optional: gates that varied, and seconds since the step before

Columns are separated by commas, semicolons or tabs. Others than these are left aside, and named in
the attribute `ignored_columns`, unless they look like one of these spelt wrong. Trials may end
early: to the longest's end they are filled up with steps that present nothing and see nothing, and
the attribute `padded_trials` says how many are.

Source of the form: one observation a row, Wickham 2014, 10.18637/jss.v059.i10.
"""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from fwbio.errors import FwbioError
from fwbio.files import written_aside
from fwbio.record import SCHEMA

GATES = ("log_decay", "beta", "interval")
_VECTORS = {"key": "pre", "value": "post", "query": "pre", "readout": "post"}
_PRESENTED = ("key", "value", "query")
_WORDS = ("step", "trial", *GATES)
_ALIASES = {"pre": "key", "post": "value"}
_COLUMN = re.compile(r"(key|pre|value|post|query|readout)_(\d+)|weight_(\d+)_(\d+)")
_FAMILY = re.compile(
    r"(keys?|pre(?![a-z])|values?|posts?|query|queries|readouts?|weights?)[ _.-]?\w*",
    re.IGNORECASE,
)
_MAY_BE_EMPTY = ("weight_", "readout_")
_SEPARATORS = ",;\t"
_ALIKE, _INITIAL_ALIKE = 0.7, 0.6  # how near a name is to the one meant, and of w_0_0


def read_csv(path: str | Path) -> xr.Dataset:
    """The dataset (trial, step, pre, post) that a CSV file of a recording holds.

    Args:
        path: of a file with the columns of this module.

    Returns:
        The variables of its columns; trials that are named have their names as coordinate.

    Raises:
        FwbioError: there is no such file, or it is no table or has no rows; a column is missing,
            misspelt, has gaps in its numbering or is not of finite numbers; a step is missing, not
            a whole number or there twice, or trials start at different ones; read-outs alone have
            no queries.
    """
    path = Path(path)
    frame = _frame(path)
    columns, ignored = _columns(frame, path)
    frame = _numbers(frame.drop(columns=ignored), path)
    labels = _trials(frame, path)
    frame = frame.sort_values(["trial", "step"], kind="stable")
    _check_steps(frame, labels, path)
    _check_seen(frame, columns, path)
    frame, padded = _padded(frame, columns)
    trials = len(labels)

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
    if any(isinstance(label, str) for label in labels):
        dataset = dataset.assign_coords(trial=("trial", list(map(str, labels))))
        dataset["trial"].attrs = {"units": "1", "long_name": "episode"}
    told = {"ignored_columns": ignored, "padded_trials": padded}
    return dataset.assign_attrs({name: what for name, what in told.items() if what})


def write_csv(record: xr.Dataset, path: str | Path) -> Path:
    """Write what `read_csv` reads of a record: aside, then renamed.

    Args:
        record: with `key`, `value` and any of `query`, `readout`, `weights` and gates; leading dims
            are numbered as trials.
        path: the file.

    Returns:
        The path.

    Raises:
        FwbioError: the record has substeps, or gates that vary by step and channel, which rows
            can't hold, or the folder can't be written.
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
    columns |= {gate: over(gate, "step")[:, 0] for gate in _gates(flat, path)}
    with written_aside(path) as aside:
        pd.DataFrame(columns).to_csv(aside, index=False)
    return path


def _gates(record: xr.Dataset, path: Path) -> list[str]:
    """The gates that a row holds: one number a step."""
    found = []
    for gate in (name for name in GATES if name in record):
        array = record[gate]
        if not {"pre", "post"} & set(array.dims):
            found.append(gate)
        elif bool((array != array.isel(step=0)).any()):
            raise FwbioError(
                f"{gate} of every channel varies, which is more than a row holds",
                where=str(path),
                mend="use fwbio.record.save",
            )
    return found


def _frame(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise FwbioError("there is no such file", where=str(path), mend="check the name")
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            header = file.readline()
        separator = max(_SEPARATORS, key=header.count)
        frame = pd.read_csv(path, sep=separator, skipinitialspace=True, index_col=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, OSError) as error:
        raise FwbioError(
            f"no table of comma-separated values ({str(error).splitlines()[0]})",
            where=str(path),
            mend="give one header line and rows of as many columns",
        ) from error
    frame.columns = [str(name).strip() for name in frame.columns]
    return frame


def _columns(frame: pd.DataFrame, path: Path) -> tuple[dict[str, list[str]], list[str]]:
    """The columns of each variable, in the order of their channels, and those left aside."""
    found: dict[str, dict[tuple[int, ...], str]] = {}
    ignored = []
    for column in map(str, frame.columns):
        if column in _WORDS:
            continue
        match = _COLUMN.fullmatch(column)
        if match is None:
            _check_spelling(column, frame.columns, path)
            ignored.append(column)
            continue
        name = _ALIASES.get(match[1], match[1]) if match[1] else "weight"
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
                f"there is no column {column!r}",
                where=str(path),
                mend="number presentations in it" if name == "step" else "give one a channel",
            )
    if frame.empty:
        raise FwbioError(
            "a header and no rows", where=str(path), mend="give one row a presentation"
        )
    _check_channels(found, path)
    return {name: [by[i] for i in sorted(by)] for name, by in found.items()}, ignored


def _check_spelling(column: str, columns: pd.Index, path: Path) -> None:
    """Refuse a column that was meant to be one of a recording; one of something else passes."""
    base = re.sub(r"\.\d+$", "", column)  # how pandas tells columns of one name apart
    if base != column and base in columns:
        raise FwbioError(
            f"the column {base!r} is there twice", where=str(path), mend="keep one of them"
        )
    digits = re.findall(r"\d+", column)
    families = {1: (*_VECTORS, *_ALIASES), 2: ("weight",)}.get(len(digits), ())
    names = ["_".join([name, *digits]) for name in families]
    words = [word for word in _WORDS if word not in columns]
    initial = len(digits) == 2 and column[0] in "wW"
    alike = _INITIAL_ALIKE if initial else _ALIKE
    near = get_close_matches(column.lower(), [*names, *words], n=1, cutoff=alike)
    if near or _FAMILY.fullmatch(column):
        told = f"did you mean {near[0]!r}? (" if near else "("
        raise FwbioError(
            f"the column {column!r} is none that a recording has",
            where=str(path),
            mend=f"{told}there are {', '.join(_WORDS)}, key_0 .. or pre_0 .., value_0 .. or"
            " post_0 .., query_0 .., readout_0 .., weight_0_0 ..)",
        )


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
    """The columns as finite numbers, but for `trial`; weights and read-outs may be empty."""
    numbers = {}
    for column in map(str, frame.columns.drop("trial", errors="ignore")):
        values = pd.to_numeric(frame[column], errors="coerce").astype(np.float64)
        optional = column.startswith(_MAY_BE_EMPTY)
        faults = {
            "not a number": values.isna() & frame[column].notna(),
            "empty": values.isna() & (not optional),
            "infinite": np.isinf(values),
        }
        for what, fault in faults.items():
            if fault.any():
                row = int(np.flatnonzero(fault)[0])
                told = f" ({frame[column].iloc[row]!r})" if what == "not a number" else ""
                raise FwbioError(
                    f"column {column!r} is {what} in line {row + 2}{told}",
                    where=str(path),
                    mend=_mend(column, optional),
                )
        numbers[column] = values
    return frame.assign(**numbers)


def _mend(column: str, optional: bool) -> str:
    if optional:
        return (
            "give a number, decimals with a point, or leave the field empty where it was not seen"
        )
    if column == "step":
        return "number every presentation"
    return (
        "give a number, decimals with a point; where nothing was presented it is 0, and no row of"
        " a presentation may be left out"
    )


def _trials(frame: pd.DataFrame, path: Path) -> list[float | str]:
    """The trials in their order, numbered in the column `trial` from then on."""
    if "trial" not in frame:
        frame["trial"] = 0
        return [0.0]
    named = frame["trial"]
    if named.isna().any():
        line = int(np.flatnonzero(named.isna())[0]) + 2
        raise FwbioError(
            f"column 'trial' is empty in line {line}",
            where=str(path),
            mend="say of every row which trial it is of",
        )
    numbers = pd.to_numeric(named, errors="coerce")
    codes, labels = pd.factorize(numbers if numbers.notna().all() else named.astype(str), sort=True)
    frame["trial"] = codes
    return list(labels)


def _check_steps(frame: pd.DataFrame, labels: list[float | str], path: Path) -> None:
    def of(row: pd.Series) -> str:
        label = labels[int(row["trial"])]
        return f"step {row['step']:g} of trial {label if isinstance(label, str) else f'{label:g}'}"

    twice = frame.duplicated(["trial", "step"])
    if twice.any():
        raise FwbioError(
            f"{of(frame[twice].iloc[0])} is there twice",
            where=str(path),
            mend="give each step one row, or name trials in a column `trial`",
        )
    broken = frame["step"] != frame["step"].round()
    if broken.any():
        raise FwbioError(
            f"{of(frame[broken].iloc[0])} is no whole number",
            where=str(path),
            mend="number presentations 0, 1, 2 ..; times go into `interval`, in seconds since the"
            " step before",
        )
    far = frame.groupby("trial")["step"].diff() > 1
    if far.any():
        row = frame[far].iloc[0]
        raise FwbioError(
            f"before {of(row)} a step is missing",
            where=str(path),
            mend="give every step that was presented, and leave only weights or read-outs empty:"
            " decay and traces go on in between",
        )
    first = frame.groupby("trial")["step"].first()
    if (first != first.iloc[0]).any():
        late = frame.drop_duplicates("trial")[(first != first.iloc[0]).to_numpy()].iloc[0]
        raise FwbioError(
            f"trials differ in their steps: one starts at {first.iloc[0]:g}, one at {of(late)}",
            where=str(path),
            mend="number steps anew in each trial; a trial may end before others do",
        )


def _padded(frame: pd.DataFrame, columns: Mapping[str, list[str]]) -> tuple[pd.DataFrame, int]:
    """Trials of as many steps as the longest, and how many of them ended earlier.

    What is added presents nothing and nothing is seen of it, so it changes no likelihood; gates
    stay at their last.
    """
    lengths = frame.groupby("trial").size()
    short = int((lengths < lengths.max()).sum())
    if not short:
        return frame, 0
    steps = frame["step"].iloc[0] + np.arange(lengths.max())
    every = pd.MultiIndex.from_product([lengths.index, steps], names=["trial", "step"])
    whole = frame.set_index(["trial", "step"]).reindex(every)
    gates = [gate for gate in GATES if gate in frame]
    whole[gates] = whole[gates].groupby("trial").ffill()
    silent = [column for name in _PRESENTED for column in columns.get(name, ())]
    whole[silent] = whole[silent].fillna(0.0)
    return whole.reset_index(), short


def _check_seen(frame: pd.DataFrame, columns: dict[str, list[str]], path: Path) -> None:
    if "weight" in columns and frame[columns["weight"]].isna().all(axis=None):
        if "readout" in columns:
            mend = "fill in those that were seen, or remove these columns to explain read-outs"
        else:
            mend = "fill in those that were seen"
        raise FwbioError(
            "no weight was observed: all fields of weights are empty", where=str(path), mend=mend
        )
    if "readout" in columns and "query" not in columns and "weight" not in columns:
        raise FwbioError(
            "there are read-outs, and nothing says what was asked",
            where=str(path),
            mend="give query_0 .., one for each key_0 ..; the key itself, where it was the query",
        )
