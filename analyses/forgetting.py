"""Forgetting: recall against what has passed since a pair was stored, and the laws fitted to it.

What has passed is counted in presentations, in steps of the program or in seconds. A curve holds
means over trials with their standard errors, and every mean again without each one of the trials,
so that a law fitted to it (`fwbio.analyses.forgetting_fits`) knows that the points of one trial err
together.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import xarray as xr

from fwbio.analyses.blockwise import blockwise
from fwbio.analyses.recall import per_step, ratio, require, sums_by_trial
from fwbio.errors import FwbioError, unknown_name

Against = Literal["lag", "steps", "time"]
AXES: Mapping[str, tuple[str, str]] = {
    "lag": ("1", "presentations since the pair was stored"),
    "steps": ("1", "steps since the pair was stored"),
    "time": ("s", "time since the pair was stored"),
}
QUANTITIES: Mapping[str, str] = {
    "accuracy": "share of cues whose nearest stored value is the right one",
    "cosine": "cosine of the read-out with its target",
    "signal": "projection of the read-out on its target",
}
_NEVER = -1  # of steps that ask for nothing
_NANOSECONDS = 9  # digits of a second
_MOST_TIMES = 12


def source_steps(record: xr.Dataset) -> xr.DataArray:
    """The step that stored what each step asks for, (.., step), -1 where it asks for nothing.

    A step presents something where its key is not zero; the source of a cue of lag m is the m-th
    presentation before the last one up to the cue.

    Args:
        record: a program or a record, with `key` and `lag`.

    Raises:
        FwbioError: the record has no `lag`.
    """
    require(record, "lag")
    channels = [d for d in record.key.dims if d in ("substep", "pre")]
    shown = (record.key != 0).any(channels)
    found: xr.DataArray = blockwise(
        _source, shown, record.lag, core=[["step"], ["step"]], out=["step"], dtype=np.int64
    )
    return found


def elapsed(
    record: xr.Dataset, against: Against = "lag", *, step_s: float | None = None
) -> xr.DataArray:
    """What has passed between storing a pair and asking for it, (.., step), NaN where none is.

        lag    presentations after it           steps    t - s of the program
        time   onset(t) - onset(s), seconds from the start of its step to the start of the cue's

    Args:
        record: with `key` and `lag`; for time also `onset` (synaptic runs have it) or `interval`.
        against: "lag", "steps" or "time".
        step_s: seconds of a step, for records that hold no times.

    Raises:
        FwbioError: there is no `lag`, no such axis, or the record holds no times and `step_s` is
            not given.
    """
    if against not in AXES:
        raise unknown_name(against, AXES, kind="axis", where="against")
    source = source_steps(record)
    asked = source > _NEVER
    if against == "lag":
        passed = record.lag.astype(float)
    elif against == "steps":
        passed = (-source + _position(record)).astype(float)
    else:
        clock = _clock(record, step_s)
        passed = blockwise(_between, clock, source, core=[["step"], ["step"]], out=["step"])
    units, words = AXES[against]
    return passed.where(asked).assign_attrs(units=units, long_name=words).rename("elapsed")


def forgetting_curve(
    record: xr.Dataset,
    against: Against = "lag",
    *,
    edges: Sequence[float] | None = None,
    bins: int | None = None,
    step_s: float | None = None,
    beside: Mapping[str, xr.DataArray] | None = None,
) -> xr.Dataset:
    """Recall against what has passed since the cued pair was stored.

    Args:
        record: with `target`, `scored`, `stored` and `lag`; may be lazy, and is then reduced chunk
            by chunk.
        against: "lag" in presentations, "steps", or "time" in seconds.
        edges: of the bins that points are pooled from, (bins + 1,), ascending; the last is within.
        bins: how many bins of equal counts to pool, where `edges` are not given; without either
            every value that occurs is a point, for time at most 12 bins.
        step_s: seconds of a step, for records that hold no times.
        beside: further quantities (.., step) to average alike, by name, such as
            `fwbio.analyses.forgetting_theory.expected_signal`.

    Returns:
        Over the dim `against`, whose coordinate is the mean of what has passed at each point:
        `accuracy`, `cosine`, `signal` (1 for exact recall) and what stands beside them, each with
        its standard error over trials `<name>_se` and, of more than one trial, its mean over all
        other trials `<name>_without` (left_out, ..); `count`, the read-outs behind a point.

    Raises:
        FwbioError: the record lacks one of these, no read-out is scored, or bins are not sound.
    """
    require(record, "target", "scored", "stored")
    passed = elapsed(record, against, step_s=step_s).where(record.scored).load()
    if not np.isfinite(passed.values).any():
        raise FwbioError(
            "no read-out is scored", where="record", mend="mark the steps that count in `scored`"
        )
    pool = _pools(passed, against, edges, bins)
    quantities = per_step(record).assign(dict(beside or {})).compute()
    names = [str(name) for name in quantities]
    sums, counts = sums_by_trial(quantities.assign(passed=passed), pool)
    curve = xr.Dataset(
        {name: v for n in names for name, v in _points(n, sums[n], counts, against).items()}
        | {"count": (against, counts.sum(0))},
        coords={against: sums["passed"].sum(0) / counts.sum(0)},
    )
    units, words = AXES[against]
    curve[against].attrs |= {"units": units, "long_name": words}
    curve["count"].attrs |= {"units": "1", "long_name": "read-outs"}
    for name in names:
        told = QUANTITIES.get(name, quantities[name].attrs.get("long_name", name))
        _tell(curve, name, told)
    curve.attrs["step_length"] = _step_length(record, against, step_s)
    return curve


def _source(shown: np.ndarray, lag: np.ndarray) -> np.ndarray:
    """`source_steps` on arrays (.., step)."""
    shown, lag = np.broadcast_arrays(shown, lag)
    so_far = np.cumsum(shown, axis=-1)
    wanted = so_far - lag
    first = (so_far[..., None, :] >= wanted[..., :, None]).argmax(-1)
    return np.where((lag >= 0) & (wanted > 0), first, _NEVER)


def _between(clock: np.ndarray, source: np.ndarray) -> np.ndarray:
    clock = np.broadcast_to(clock, source.shape)
    passed = clock - np.take_along_axis(clock, np.maximum(source, 0), axis=-1)
    return passed.round(_NANOSECONDS)  # equal times are to be one, whatever sums of steps round to


def _position(record: xr.Dataset) -> xr.DataArray:
    return xr.DataArray(np.arange(record.sizes["step"]), dims="step")


def _clock(record: xr.Dataset, step_s: float | None) -> xr.DataArray:
    """Seconds at the start of every step, (.., step)."""
    if "onset" in record:
        return record.onset
    if "interval" in record:
        return record.interval.cumsum("step")
    if step_s is None:
        raise FwbioError(
            "it holds no times",
            where="record",
            mend="give step_s, the seconds of a step, or run the program on synapses",
        )
    if not 0 < step_s < np.inf:
        raise FwbioError(f"{step_s!r} s is no time", where="step_s", mend="give more than 0 s")
    return step_s * _position(record)


def _step_length(record: xr.Dataset, against: str, step_s: float | None) -> float:
    """What a step adds to the axis: 1, or its seconds on average."""
    if against != "time":
        return 1.0
    clock = _clock(record, step_s)
    steps = record.sizes["step"] - 1
    return float((clock.isel(step=-1) - clock.isel(step=0)).mean()) / max(steps, 1)


def _pools(
    passed: xr.DataArray, against: str, edges: Sequence[float] | None, bins: int | None
) -> xr.DataArray:
    """The point that each read-out belongs to, -1 for none; points without read-outs are left out.

    Raises:
        FwbioError: the edges don't ascend, no read-out lies between them, or bins are below 1.
    """
    values = passed.values[np.isfinite(passed.values)]
    every = np.unique(values)
    if edges is None and bins is None and (against != "time" or every.size <= _MOST_TIMES):
        index = np.searchsorted(every, passed.values)
        return passed.copy(data=np.where(np.isfinite(passed.values), index, _NEVER))
    if edges is None:
        bins = _MOST_TIMES if bins is None else bins
        if isinstance(bins, bool) or bins < 1:
            raise FwbioError(f"can't pool {bins} bins", where="bins", mend="give 1 or more")
        limits = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)))
        limits = limits if limits.size > 1 else limits + np.array([0.0, 1.0])
    else:
        limits = np.asarray(edges, dtype=float)
    if limits.size < 2 or not (np.diff(limits) > 0).all():
        raise FwbioError(
            "they don't ascend", where="edges", mend="give two or more ascending numbers"
        )
    index = np.searchsorted(limits, passed.values, side="right") - 1
    index = np.where(passed.values == limits[-1], limits.size - 2, index)
    inside = (passed.values >= limits[0]) & (passed.values <= limits[-1])
    if not inside.any():
        raise FwbioError(
            f"no read-out lies between {limits[0]:g} and {limits[-1]:g}",
            where="edges",
            mend=f"they lie from {values.min():g} to {values.max():g}",
        )
    index[inside] = np.unique(index[inside], return_inverse=True)[1]
    return passed.copy(data=np.where(inside, index, _NEVER))


def _points(
    name: str, sums: np.ndarray, counts: np.ndarray, against: str
) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    """Means, standard errors of a ratio of sums over trials, and means without each trial."""
    mean, error = ratio(sums, counts)
    found: dict[str, tuple[tuple[str, ...], np.ndarray]]
    found = {name: ((against,), mean), f"{name}_se": ((against,), error)}
    if len(counts) < 2:
        return found
    others = counts.sum(0) - counts
    left = (sums.sum(0) - sums) / np.where(others > 0, others, 1)
    return found | {f"{name}_without": (("left_out", against), np.where(others > 0, left, mean))}


def _tell(curve: xr.Dataset, name: str, words: str) -> None:
    curve[name].attrs |= {"units": "1", "long_name": words}
    curve[f"{name}_se"].attrs |= {"units": "1", "long_name": f"standard error of: {words}"}
    if f"{name}_without" in curve:
        told = f"{words}, without one of the trials"
        curve[f"{name}_without"].attrs |= {"units": "1", "long_name": told}
