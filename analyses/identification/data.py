"""What an identification is given: what was presented and what was seen, as plain arrays."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import ceil, prod
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
# Weights that started at zero are no larger than the writes up to where they were first seen; a
# first write may be the largest of a few, by less than this.
BEYOND_WRITES = 3.0
_INNER = frozenset({"step", "substep", "pre", "post", "snapshot", "pre_other"})
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
        left_out: how many trials more there were.
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
    left_out: int = 0

    @property
    def start(self) -> Literal["zero", "given", "observed"]:
        """What the weights are taken to be before the first step, or where they are first seen."""
        if self.initial is None:
            return "observed"
        return "given" if self.initial.any() else "zero"

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

    def first(self, trials: int) -> "Recording":
        """The recording of its first trials.

        Raises:
            FwbioError: `trials` is below 1.
        """
        _check_trials(trials)
        if self.trials <= trials:
            return self
        names = ("keys", "values", "queries", "weights", "readout", "initial")
        some: dict[str, Any] = {
            name: None if getattr(self, name) is None else getattr(self, name)[:trials]
            for name in names
        }
        for name in ("courses", "presented"):
            some[name] = {stream: x[:trials] for stream, x in getattr(self, name).items()}
        return replace(self, **some, left_out=self.left_out + self.trials - trials)

    def observations(self, observed: Literal["weights", "readout"]) -> np.ndarray:
        """The weights (trial, snapshot, pre, post), or the read-outs (trial, step, post).

        Raises:
            FwbioError: they were not observed.
        """
        found = self.weights if observed == "weights" else self.readout
        if found is None:
            needs = "weights" if observed == "weights" else "readout with query"
            raise FwbioError(
                f"there is no {needs}", where="observed", mend="give it, or explain the other"
            )
        return found


def from_record(
    record: xr.Dataset,
    *,
    initial: Initial = "auto",
    trials: int | None = None,
    where: str = "record",
) -> Recording:
    """The recording that a record or a user's own dataset holds.

    Args:
        record: `key` (.., step, pre) and `value` (.., step, post), dimensionless; `weights`
            (.., snapshot or step, pre, post), in any unit, and `query` with `readout` where they
            are known. Gates may be there: those that vary are taken as known up to a factor, the
            others are forgotten, to be fitted. Leading dims are trials.
        initial: what the weights were before the first step: "zero", "observed", the first
            observed ones (later steps are then explained); "auto" takes `initial_weights` where
            they are given, what the attribute `initial` says, zero for runs of this toolkit, and
            of others the observed ones where these are too large for the writes that led to them:
            rms of the first seen > 3 x (writes up to then) x largest rms change.
        trials: how many to take, the first ones; all unless given. Others are not read.
        where: what to call the record in errors.

    Raises:
        FwbioError: a variable is missing, empty, of the wrong shape, not numbers or not finite;
            fewer than three steps, or some left out; nothing observed, or weights that never
            change.
    """
    if initial not in INITIALS:
        raise FwbioError(f"{initial!r} is no start", where="initial", mend=", ".join(INITIALS))
    if trials is not None:
        _check_trials(trials)
    given = _Layout(record, where, trials)
    keys = given.array("key", "step", "substep", "pre")
    values = given.array("value", "step", "substep", "post")
    _check_pairs(keys, values, where)
    weights, snapshots = _weights(given)
    queries, readout = _asked(given)
    if weights is None and readout is None:
        asked = "readout" not in record or "query" in record
        raise FwbioError(
            "nothing of the memory was observed"
            if asked
            else "there is `readout` without `query`, so nothing says what it answered",
            where=where,
            mend="give `weights` over steps, or `readout` with `query`",
        )
    shown = np.abs(keys).max(-1) > 0
    gates = {
        name: given.array(name, "step", "substep", channel, optional=("substep", channel))
        for name, channel in GATES.items()
        if name in record
    }
    return Recording(
        keys=keys,
        values=values,
        queries=queries,
        weights=weights,
        snapshots=snapshots,
        readout=readout,
        courses={name: course for name, course in gates.items() if _varies(course, shown)},
        presented={
            name: given.array(name, "step", channel, optional=(channel,))
            for name, channel in PRESENTED.items()
            if name in record
        },
        initial=_initial(given, initial, weights, snapshots),
        weight_units=given.units("weights"),
        readout_units=given.units("readout"),
        left_out=given.left_out,
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


class _Layout:
    """A dataset's variables as float64 arrays whose first axis is all leading dims together."""

    def __init__(self, record: xr.Dataset, where: str, trials: int | None) -> None:
        check_dataset(record, where)
        for name in ("key", "value"):
            if name not in record:
                raise FwbioError(
                    f"there is no {name!r}", where=where, mend="name what was presented so"
                )
        _check_steps(record, where)
        leading = [d for d in record["key"].dims if d not in _INNER]
        whole = prod(record.sizes[d] for d in leading)
        self.trials = whole if trials is None else min(trials, whole)
        self.left_out = whole - self.trials
        if leading:
            each = whole // record.sizes[leading[0]]
            record = record.isel({leading[0]: slice(ceil(self.trials / each))})
        self.record, self.where = record, where
        self.leading = {d: record.sizes[d] for d in leading}

    def array(
        self, name: str, *dims: str, optional: tuple[str, ...] = ("substep",), gaps: bool = False
    ) -> np.ndarray:
        """A variable as (trial, *dims): an optional last dim that it lacks has size 1."""
        array, where = self.record[name], f"{self.where}, {name}"
        absent = [d for d in dims if d not in array.dims and d not in optional]
        if absent or any(d not in dims and d not in self.leading for d in array.dims):
            needed = ", ".join(d for d in dims if d != "substep")
            raise FwbioError(
                f"dims {array.dims} where (.., {needed}) is needed",
                where=where,
                mend="name the dim of presentations `step` and those of channels `pre` and `post`",
            )
        array = array.expand_dims({d: n for d, n in self.leading.items() if d not in array.dims})
        here = [d for d in dims if d in array.dims]
        values = np.asarray(array.transpose(*self.leading, *here).values)
        _check_numbers(values, where, gaps=gaps)
        values = values.reshape(-1, *values.shape[len(self.leading) :])[: self.trials]
        values = values.astype(np.float64)
        return values[..., None] if dims[-1] in optional and dims[-1] not in here else values

    def units(self, name: str) -> str:
        """The units that the dataset says a variable has, "" where it says nothing."""
        return str(self.record[name].attrs.get("units", "")) if name in self.record else ""


def check_dataset(record: object, where: str) -> None:
    """Refuse what is no dataset.

    Raises:
        FwbioError: it isn't one.
    """
    if not isinstance(record, xr.Dataset):
        raise FwbioError(
            f"one record is needed, not a {type(record).__name__}",
            where=where,
            mend="give a dataset: read(path) of a file, node.to_dataset() of a comparison's node",
        )


def _check_trials(trials: int) -> None:
    if trials < 1:
        raise FwbioError(f"{trials} trials are none", where="trials", mend="1 or more")


def _check_steps(record: xr.Dataset, where: str) -> None:
    empty = [d for name in ("key", "value") for d, n in record[name].sizes.items() if n == 0]
    if empty:
        raise FwbioError(
            f"there is no {empty[0]} in it", where=where, mend="give a recording that is not empty"
        )
    if "step" not in record.coords or record["step"].dims != ("step",):
        return
    steps = record["step"].values
    if steps.dtype.kind not in "iuf" or (steps != np.round(steps)).any():
        raise FwbioError(
            f"steps {steps[:3]} are not whole numbers",
            where=where,
            mend="number presentations 0, 1, 2, .. and give times as `interval` (s)",
        )
    if (np.diff(steps) != 1).any():
        after = steps[:-1][np.diff(steps) != 1][0]
        raise FwbioError(
            f"steps are left out or out of order after step {int(after)}",
            where=where,
            mend="give every step that was presented, and leave only weights that were not seen"
            " empty",
        )


def _check_numbers(values: np.ndarray, where: str, *, gaps: bool) -> None:
    if values.dtype.kind not in "biuf":
        raise FwbioError(f"{values.dtype} is no number", where=where, mend="give real numbers")
    bad = np.isinf(values) if gaps else ~np.isfinite(values)
    if bad.any():
        raise FwbioError(
            f"{'infinite' if gaps else 'NaN or infinite'} in {int(bad.sum())} places",
            where=where,
            mend="leave what was not seen empty (NaN)"
            if gaps
            else "give every step that was presented, with its numbers: only weights and read-outs"
            " may be empty",
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


def _weights(given: _Layout) -> tuple[np.ndarray | None, np.ndarray]:
    if "weights" not in given.record:
        return None, np.arange(0)
    record, where = given.record, f"{given.where}, weights"
    absent = [d for d in ("pre", "post") if d not in record["weights"].dims]
    if absent:
        raise FwbioError(
            f"dims {record['weights'].dims} where (.., snapshot, pre, post) are needed",
            where=where,
            mend="name those of channels `pre` and `post`, that of times `snapshot` or `step`",
        )
    sizes = tuple(record["weights"].sizes.get(d, 0) for d in ("pre", "post"))
    wanted = tuple(record[name].sizes[d] for name, d in (("key", "pre"), ("value", "post")))
    if sizes != wanted:
        raise FwbioError(
            f"weights of {sizes} channels for keys and values of {wanted}",
            where=where,
            mend="give one weight for each pair of channels, dims pre and post",
        )
    over = "step" if "step" in record["weights"].dims else "snapshot"
    weights = given.array("weights", over, "pre", "post", gaps=True)
    steps = record.sizes["step"]
    snapshots = np.arange(steps) if over == "step" else _snapshots(record, steps, where)
    seen = np.isfinite(weights)
    if not seen.any():
        raise FwbioError(
            "no weight was observed, all are empty",
            where=where,
            mend="give those of some steps, or `readout` with `query` and no weights",
        )
    kept = seen.any(axis=(0, 2, 3))
    weights, snapshots = weights[:, kept], snapshots[kept]
    moved = np.fmax.reduce(weights, axis=1) > np.fmin.reduce(weights, axis=1)
    if len(snapshots) > 1 and not moved.any():
        raise FwbioError(
            "the weights never change", where=where, mend="record a memory that is being written"
        )
    return weights, snapshots


def _snapshots(record: xr.Dataset, steps: int, where: str) -> np.ndarray:
    count = record.sizes["snapshot"]
    if "snapshot" not in record.coords and count != steps:
        raise FwbioError(
            f"nothing says after which steps the {count} snapshots were taken",
            where=where,
            mend="give the coordinate `snapshot`: steps, counted from 0",
        )
    found = np.asarray(record["snapshot"].values)
    whole = np.issubdtype(found.dtype, np.number) and (found == np.round(found)).all()
    if not whole or (np.diff(found) <= 0).any() or found.min() < 0 or found.max() >= steps:
        raise FwbioError(
            f"snapshots {found[:5]} are not steps from 0 to {steps - 1} in rising order",
            where=where,
            mend="count steps from 0, each at most once",
        )
    return found.astype(int)


def _asked(given: _Layout) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Queries, and read-outs that are NaN where nothing was asked; None where there are none."""
    if "query" not in given.record:
        return None, None
    queries = given.array("query", "step", "pre")
    if "readout" not in given.record:
        return queries, None
    readout = given.array("readout", "step", "post", gaps=True)
    asked = queries.any(-1) & np.isfinite(readout).any(-1)
    return queries, np.where(asked[..., None], readout, np.nan) if asked.any() else None


def _varies(course: np.ndarray, shown: np.ndarray) -> bool:
    """Whether a gate is not the same at all steps that present a key."""
    here = course[shown] if course.ndim > shown.ndim else course[shown.any(-1)]
    return bool(here.size and (np.ptp(here, axis=0) > 1e-9 * np.abs(here).max(initial=0)).any())


def _initial(
    given: _Layout, initial: Initial, weights: np.ndarray | None, snapshots: np.ndarray
) -> np.ndarray | None:
    record = given.record
    if "initial_weights" in record and initial == "auto":
        return given.array("initial_weights", "pre", "post")
    zero = np.zeros((given.trials, record.sizes["pre"], record.sizes["post"]))
    if initial != "auto":
        return None if initial == "observed" else zero
    if record.attrs.get("initial") == "observed":
        return None
    ours = "substrate" in record.attrs
    return None if weights is not None and not ours and _underway(weights, snapshots) else zero


def _underway(weights: np.ndarray, snapshots: np.ndarray) -> bool:
    """Whether the first weights seen are too large for the writes that led to them."""
    if len(snapshots) < 2:
        return False
    changes = np.diff(weights, axis=1)
    there = np.isfinite(changes)
    sizes = np.where(there, changes, 0.0) ** 2
    seen = there.sum(axis=(0, 2, 3))
    if not seen.any():
        return False
    largest = np.sqrt((sizes.sum(axis=(0, 2, 3))[seen > 0] / seen[seen > 0]).max())
    writes = (snapshots[0] + 1) / np.diff(snapshots).min()
    return bool(np.sqrt(np.nanmean(weights[:, 0] ** 2)) > BEYOND_WRITES * writes * largest)


def interval(recording: Recording) -> np.ndarray:
    """Seconds since the step before, (trial, step, 1); the table's default where not recorded."""
    if "interval" in recording.presented:
        return recording.presented["interval"]
    return np.full((recording.trials, recording.steps, 1), DEFAULTS["interval"])
