"""What an identification is given: keys, values and what was seen of the weights, as plain arrays."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr

from fwbio.analyses.identification import csv_table
from fwbio.errors import FwbioError
from fwbio.record import load
from fwbio.rule import DEFAULTS

Initial = Literal["auto", "zero", "observed"]
INITIALS = ("auto", "zero", "observed")
FEWEST_STEPS = 3
GATES = {
    "log_decay": "pre",
    "beta": "post",
    "log_beta": "channel",
    "erase": "pre",
    "theta_p": "channel",
    "theta_d": "channel",
}
PRESENTED = {"interval": "channel", "ridge": "pre", "erase_key": "pre", "erase_direction": "pre"}


@dataclass(frozen=True, kw_only=True)
class Recording:
    """What was presented, step by step, and what was seen of a memory.

    Args:
        keys: (trial, step, pre), or (trial, step, substep, pre).
        values: (trial, step, post), or (trial, step, substep, post).
        queries: (trial, step, pre), or None.
        weights: (trial, snapshot, pre, post), NaN where not observed, or None.
        snapshots: the step after which each of them was seen, (snapshot,).
        readout: (trial, step, post), NaN where not observed, or None.
        courses: gates that varied, (trial, step, 1 or channel).
        presented: `interval` [s], `ridge`, `erase_key` and `erase_direction`, likewise.
        initial: the weights before the first step (trial, pre, post); None where the first observed
            ones are to stand for them.
        weight_units, readout_units: the units that the observations are in, "" where not known.
    """

    keys: np.ndarray
    values: np.ndarray
    queries: np.ndarray | None = None
    weights: np.ndarray | None = None
    snapshots: np.ndarray = field(default_factory=lambda: np.arange(0))
    readout: np.ndarray | None = None
    courses: Mapping[str, np.ndarray] = field(default_factory=dict)
    presented: Mapping[str, np.ndarray] = field(default_factory=dict)
    initial: np.ndarray | None = None
    weight_units: str = ""
    readout_units: str = ""

    @property
    def trials(self) -> int:
        """How many independent episodes there are."""
        return self.keys.shape[0]

    @property
    def steps(self) -> int:
        """How many presentations an episode has."""
        return self.keys.shape[1]

    @property
    def pre(self) -> int:
        """How many presynaptic channels there are."""
        return self.keys.shape[-1]

    @property
    def post(self) -> int:
        """How many postsynaptic channels there are."""
        return self.values.shape[-1]


def from_record(
    record: xr.Dataset, *, initial: Initial = "auto", where: str = "record"
) -> Recording:
    """The recording that a record or a user's own dataset holds.

    Args:
        record: `key` (.., step, pre) and `value` (.., step, post), dimensionless; `weights`
            (.., snapshot or step, pre, post), in any unit, and `query` with `readout` where they
            are known. Gates may be there: those that vary are taken as known up to a factor, the
            others are forgotten, to be fitted. Leading dims are trials.
        initial: what the weights were before the first step: "zero", "observed", the first
            observed ones (later steps are then explained); "auto" takes `initial_weights` where
            they are given, what the attribute `initial` says, and zero otherwise.
        where: what to call the record in errors.

    Raises:
        FwbioError: a variable is missing, of the wrong shape, not numbers or not finite; fewer than
            three steps; nothing observed, or weights that never change.
    """
    if initial not in INITIALS:
        raise FwbioError(f"{initial!r} is no start", where="initial", mend=", ".join(INITIALS))
    if not isinstance(record, xr.Dataset):
        raise FwbioError(
            f"one record is needed, not a {type(record).__name__}",
            where=where,
            mend="name a file of one record, or a node of a comparison: tree['/...'].to_dataset()",
        )
    for name in ("key", "value"):
        if name not in record:
            raise FwbioError(
                f"there is no {name!r}", where=where, mend="name what was presented key and value"
            )
    inner = {"step", "substep", "pre", "post", "snapshot", "pre_other"}
    leading = [d for d in record["key"].dims if d not in inner]
    sizes = {d: record.sizes[d] for d in leading}

    def laid_out(
        name: str, *dims: str, optional: tuple[str, ...] = ("substep",), gaps: bool = False
    ) -> np.ndarray:
        array = record[name]
        absent = [d for d in dims if d not in array.dims and d not in optional]
        if absent or any(d not in dims and d not in sizes for d in array.dims):
            raise FwbioError(
                f"dims {array.dims} where (.., {', '.join(dims)}) is needed",
                where=f"{where}, {name}",
                mend="rename its dims, or leave it out",
            )
        array = array.expand_dims({d: n for d, n in sizes.items() if d not in array.dims})
        values = np.asarray(array.transpose(*leading, *(d for d in dims if d in array.dims)).values)
        _check_numbers(values, f"{where}, {name}", gaps=gaps)
        values = values.reshape(-1, *values.shape[len(leading) :]).astype(np.float64)
        return values[..., None] if dims[-1] in optional and dims[-1] not in array.dims else values

    keys, values = (
        laid_out("key", "step", "substep", "pre"),
        laid_out("value", "step", "substep", "post"),
    )
    _check_pairs(keys, values, where)
    weights, snapshots = _weights(record, laid_out, where)
    queries = laid_out("query", "step", "pre") if "query" in record else None
    readout = laid_out("readout", "step", "post", gaps=True) if "readout" in record else None
    if readout is not None:
        readout = _where_asked(readout, queries, where)
    if weights is None and readout is None:
        raise FwbioError(
            "nothing of the memory was observed",
            where=where,
            mend="give `weights` over steps, or `readout` with `query`",
        )
    shown = np.abs(keys).max(-1) > 0
    courses, presented = {}, {}
    for name, channel in GATES.items():
        if name in record:
            course = laid_out(name, "step", "substep", channel, optional=("substep", channel))
            if _varies(course, shown):
                courses[name] = course
    for name, channel in PRESENTED.items():
        if name in record:
            presented[name] = laid_out(name, "step", channel, optional=(channel,))
    start = _initial(record, laid_out, initial, keys, values)
    return Recording(
        keys=keys,
        values=values,
        queries=queries,
        weights=weights,
        snapshots=snapshots,
        readout=readout,
        courses=courses,
        presented=presented,
        initial=start,
        weight_units=str(record["weights"].attrs.get("units", "")) if weights is not None else "",
        readout_units=str(record["readout"].attrs.get("units", "")) if readout is not None else "",
    )


def read(path: str | Path, *, initial: Initial = "auto") -> Recording:
    """The recording in a file: NetCDF (`.nc`) or Zarr (`.zarr`) with the names of `from_record`, or
    CSV (`.csv`, see `fwbio.analyses.identification.csv_table`).

    Args:
        path: the file.
        initial: as in `from_record`.

    Raises:
        FwbioError: there is no such file, it can't be read, or what it holds is not a recording.
    """
    path = Path(path)
    record: Any = csv_table.read_csv(path) if path.suffix.lower() == ".csv" else load(path)
    return from_record(record, initial=initial, where=str(path))


def _check_numbers(values: np.ndarray, where: str, *, gaps: bool) -> None:
    if values.dtype.kind not in "biuf":
        raise FwbioError(f"{values.dtype} is no number", where=where, mend="give real numbers")
    bad = np.isinf(values) if gaps else ~np.isfinite(values)
    if bad.any():
        raise FwbioError(
            f"NaN or infinite in {int(bad.sum())} places",
            where=where,
            mend="leave out the steps that were not seen, or fill them in",
        )


def _check_pairs(keys: np.ndarray, values: np.ndarray, where: str) -> None:
    if keys.ndim != values.ndim or keys.shape[:-1] != values.shape[:-1]:
        raise FwbioError(
            f"key has shape {keys.shape} and value {values.shape}, (trial, step, .., channel)",
            where=where,
            mend="give both at the same steps and substeps",
        )
    if keys.shape[1] < FEWEST_STEPS:
        raise FwbioError(
            f"{keys.shape[1]} steps are too few to tell rules apart",
            where=where,
            mend=f"give at least {FEWEST_STEPS} steps; 100 or more tell most of them apart",
        )
    if not keys.any() or not values.any():
        what = "value" if keys.any() else "key"
        raise FwbioError(f"every {what} is zero", where=where, mend="give what was presented")


def _weights(record: xr.Dataset, laid_out: Any, where: str) -> tuple[np.ndarray | None, np.ndarray]:
    if "weights" not in record:
        return None, np.arange(0)
    steps = record.sizes["step"]
    if "step" in record["weights"].dims:
        weights, snapshots = laid_out("weights", "step", "pre", "post", gaps=True), np.arange(steps)
    else:
        weights = laid_out("weights", "snapshot", "pre", "post", gaps=True)
        snapshots = _snapshots(record, steps, where)
    if weights.shape[-2:] != (record.sizes["pre"], record.sizes["post"]):
        raise FwbioError(
            f"weights of {weights.shape[-2:]} channels for keys and values of"
            f" {(record.sizes['pre'], record.sizes['post'])}",
            where=f"{where}, weights",
            mend="give one weight for each pair of channels",
        )
    seen = np.isfinite(weights)
    if not seen.any():
        raise FwbioError("no weight was observed", where=f"{where}, weights", mend="leave it out")
    kept = seen.any(axis=(0, 2, 3))
    weights, snapshots = weights[:, kept], snapshots[kept]
    if len(snapshots) > 1 and (np.nanmax(weights, 1) == np.nanmin(weights, 1)).all():
        raise FwbioError(
            "the weights never change",
            where=f"{where}, weights",
            mend="record a memory that is being written",
        )
    return weights, snapshots


def _snapshots(record: xr.Dataset, steps: int, where: str) -> np.ndarray:
    count = record.sizes["snapshot"]
    if "snapshot" in record.coords:
        found = np.asarray(record["snapshot"].values)
    elif count == steps:
        found = np.arange(steps)
    else:
        raise FwbioError(
            f"nothing says after which steps the {count} snapshots were taken",
            where=f"{where}, weights",
            mend="give the coordinate `snapshot`: steps, counted from 0",
        )
    whole = np.issubdtype(found.dtype, np.number) and (found == np.round(found)).all()
    if not whole or (np.diff(found) <= 0).any() or found.min() < 0 or found.max() >= steps:
        raise FwbioError(
            f"snapshots {found[:5]} are not steps from 0 to {steps - 1} in rising order",
            where=f"{where}, snapshot",
            mend="count steps from 0, each at most once",
        )
    return found.astype(int)


def _where_asked(readout: np.ndarray, queries: np.ndarray | None, where: str) -> np.ndarray | None:
    """Read-outs, NaN where nothing was asked; None where no query is known."""
    if queries is None:
        return None
    asked = queries.any(-1) & np.isfinite(readout).all(-1)
    if not asked.any():
        return None
    return np.where(asked[..., None], readout, np.nan)


def _varies(course: np.ndarray, shown: np.ndarray) -> bool:
    """Whether a gate is not the same at all steps that present a key."""
    here = course[shown] if course.ndim > shown.ndim else course[shown.any(-1)]
    return bool(here.size and (np.ptp(here, axis=0) > 1e-9 * np.abs(here).max(initial=0)).any())


def _initial(
    record: xr.Dataset, laid_out: Any, initial: Initial, keys: np.ndarray, values: np.ndarray
) -> np.ndarray | None:
    if "initial_weights" in record and initial == "auto":
        found: np.ndarray = laid_out("initial_weights", "pre", "post")
        return found
    if initial == "observed" or (initial == "auto" and record.attrs.get("initial") == "observed"):
        return None
    return np.zeros((keys.shape[0], keys.shape[-1], values.shape[-1]))


def spread(stream: np.ndarray, steps: int, substeps: int = 1) -> np.ndarray:
    """A stream (trial, step, channel) repeated for every substep, (trial, time, channel)."""
    return np.repeat(stream, substeps, axis=1) if stream.shape[1] == steps else stream


def interval(recording: Recording) -> np.ndarray:
    """Seconds since the step before, (trial, step, 1); the table's default where not recorded."""
    if "interval" in recording.presented:
        return recording.presented["interval"]
    return np.full((recording.trials, recording.steps, 1), DEFAULTS["interval"])
