"""How well a memory recalls: numbers from one record.

`hits`, `guesses`, `nearest`, `cosine` and `projection` work on arrays; the functions that take a
record name its axes, and go through a lazy one block by block.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import xarray as xr

from fwbio.analyses.blockwise import blockwise, pieces
from fwbio.errors import FwbioError

ROUNDING = 1e-12  # cosines nearer to each other than this are a tie, of float64
ROUNDED = 8  # and nearer than so many steps of coarser numbers


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over scored read-outs and its uncertainty.

    Args:
        value: the mean.
        standard_error: of that mean, from its spread over trials; NaN for a single trial.
        count: the scored read-outs behind it.
    """

    value: float
    standard_error: float
    count: int


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The cosine of vectors along the last axis, 0 where one of them is zero.

        cos(a, b) = <a, b> / (|a| |b|)

    Args:
        a: (.., n).
        b: (.., n), broadcast against `a`.
    """
    return np.clip((_unit(a) * _unit(b)).sum(-1), -1, 1)


def projection(readout: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The share of the target that the read-out holds: 1 for exact recall, 0 for a zero target.

        s = <y, t> / |t|^2

    Args:
        readout: y (.., n).
        target: t (.., n).
    """
    power = (target * target).sum(-1)
    return (readout * target).sum(-1) / np.where(power > 0, power, 1)


def hits(
    readout: np.ndarray, target: np.ndarray, value: np.ndarray, stored: np.ndarray
) -> np.ndarray:
    """Whether the stored value nearest to each read-out, by cosine, is its target.

        hit_t = cos(y_t, target_t) > max over stored v != target_t of cos(y_t, v)

    A tie with a different value, to the rounding of the numbers given, is a miss, and so is a
    read-out of zeros: a memory that can't tell is not credited with a guess. Stored values equal to
    the target count as the target.

    Args:
        readout: y (.., step, post).
        target: (.., step, post).
        value: (.., step, post), the candidates.
        stored: (.., step), which of them are candidates.

    Returns:
        (.., step), true or false.
    """
    own = cosine(readout.astype(np.float64), target.astype(np.float64))
    tie = max(_tie(array.dtype) for array in (readout, target, value))
    right = np.empty(np.broadcast_shapes(own.shape, stored.shape), dtype=bool)
    for where, cosines, same in _compared(readout, value, stored, target):
        best = np.where(same, -np.inf, cosines).max(-1, initial=-np.inf)
        right[where] = np.broadcast_to(own, right.shape)[where] > best + tie
    return right & readout.any(-1)


def guesses(target: np.ndarray, value: np.ndarray, stored: np.ndarray) -> np.ndarray:
    """The share of stored values that are each target: how often a guess among them is a hit.

        p_t = #{stored s: v_s = target_t} / #{stored s}

    Args:
        target: (.., step, post).
        value: (.., step, post), the candidates.
        stored: (.., step), which of them are candidates.

    Returns:
        (.., step), 0 where nothing is stored.
    """
    among, wanted, v = _alike(stored, target, value)
    right = np.empty(wanted.shape[:-1])
    for index, rows in pieces(among.shape[:-1], wanted.shape[-2], max(v.shape[-2:])):
        same = _equal(wanted[index][..., rows, :], v[index])
        where: tuple = (*index, ..., rows)
        right[where] = (same & among[index][..., None, :]).sum(-1)
    return right / np.maximum(among.sum(-1, keepdims=True), 1)


def nearest(readout: np.ndarray, value: np.ndarray, stored: np.ndarray) -> np.ndarray:
    """The step whose stored value is nearest to each read-out by cosine.

        s_t = argmax over stored v_s of cos(y_t, v_s)

    Args:
        readout: y (.., step, post).
        value: (.., step, post), the candidates.
        stored: (.., step), which of them are candidates.

    Returns:
        (.., step), the first of equally near ones.
    """
    _, y, _ = _alike(stored, readout, value)
    found = np.empty(y.shape[:-1], dtype=np.intp)
    for where, cosines, _ in _compared(readout, value, stored):
        found[where] = cosines.argmax(-1)
    return found


def recall_accuracy(record: xr.Dataset) -> Estimate:
    """The share of scored read-outs whose nearest stored value is the target's.

    Args:
        record: with `target`, `scored` and `stored`; dimensionless.

    Raises:
        FwbioError: the record lacks one of these, or no read-out is scored.
    """
    return estimate(recall_hits(record), require_scored(record))


def recall_cosine(record: xr.Dataset) -> Estimate:
    """The mean cosine of scored read-outs with their targets.

    Args:
        record: with `target` and `scored`; dimensionless.

    Raises:
        FwbioError: the record lacks one of these, or no read-out is scored.
    """
    return estimate(measured(cosine, record), require_scored(record))


def recall_hits(record: xr.Dataset) -> xr.DataArray:
    """Whether the stored value nearest to each read-out is its target, (.., step).

    The value of a step with substeps is that of its last one.

    Raises:
        FwbioError: the record has no `target` or no `stored`.
    """
    return _by_stored(hits, record, "readout", "target", dtype=bool)


def per_step(record: xr.Dataset) -> xr.Dataset:
    """Recall of every read-out: `accuracy` (a hit or not), `cosine` and `signal`, (.., step).

    `signal` is the read-out's projection on its target, 1 for exact recall. All are dimensionless,
    and lazy where the record is.

    Raises:
        FwbioError: the record has no `target` or no `stored`.
    """
    return xr.Dataset(
        {
            "accuracy": recall_hits(record),
            "cosine": measured(cosine, record),
            "signal": measured(projection, record),
        }
    )


def recall_by_lag(record: xr.Dataset, *, width: int = 1) -> xr.Dataset:
    """Recall against the presentations since the cued pair was stored.

    Args:
        record: with `target`, `scored`, `stored` and `lag`.
        width: lags to pool into one point; `lag` is then the middle of those pooled.

    Returns:
        `accuracy`, `cosine` and `signal` (the read-out's projection on its target, 1 for exact
        recall) over `lag` [presentations], each with its standard error over trials in
        `<name>_se`; `count` is the number of read-outs behind each.

    Raises:
        FwbioError: the record lacks one of these, or no read-out is scored; a width below 1.
    """
    require(record, "lag")
    if width < 1:
        raise FwbioError(
            f"can't pool {width} lags", where="width", mend="give a whole number from 1"
        )
    scored = require_scored(record)
    curves = per_step(record).assign(lag=record.lag, counted=scored & (record.lag >= 0)).compute()
    return pooled_by_lag(curves.drop_vars(["lag", "counted"]), curves.lag, curves.counted, width)


def pooled_by_lag(
    curves: xr.Dataset, lag: xr.DataArray, counted: xr.DataArray, width: int = 1
) -> xr.Dataset:
    """Means of what each step has by the lag of its cue, each with its standard error over trials.

    Args:
        curves: quantities (.., step), as `per_step` gives them, in memory.
        lag: (.., step) [presentations].
        counted: (.., step), which steps count; their lags are not negative.
        width: lags to pool into one point.

    Returns:
        The curves over `lag`, with `<name>_se` and `count`.
    """
    lag, counted = xr.broadcast(lag, counted)
    pools, which = np.unique(lag.values[counted.values] // width, return_inverse=True)
    pool = xr.full_like(lag, -1, dtype=np.intp)
    pool.values[counted.values] = which
    sums, n = sums_by_trial(curves, pool)
    found = {}
    for name, total in sums.items():
        mean, spread = ratio(total, n)
        found[name], found[f"{name}_se"] = ("lag", mean), ("lag", spread)
    found["count"] = ("lag", n.sum(0))
    made = xr.Dataset(found, coords={"lag": pools * width + (width - 1) / 2})
    for variable in made.variables:
        made[variable].attrs = {"units": "1"}
    made["lag"].attrs["long_name"] = "presentations since the pair was stored"
    return made


def sums_by_trial(
    quantities: xr.Dataset, pool: xr.DataArray
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Sums of what each step has over the steps of each pool, trial by trial.

    Args:
        quantities: (.., step), in memory.
        pool: which pool each step belongs to, from 0 without gaps, -1 for none; (.., step).

    Returns:
        The sums by name, (trial, pool) each, and how many steps they are of, (trial, pool).
    """
    quantities, pool = xr.broadcast(quantities, pool)
    within = pool.values >= 0
    shape = (pool.sizes.get("trial", 1), int(pool.max()) + 1)
    cell = np.ravel_multi_index((_trial_index(pool)[within], pool.values[within]), shape)

    def summed(weights: np.ndarray | None = None) -> np.ndarray:
        return np.bincount(cell, weights, shape[0] * shape[1]).reshape(shape)

    sums = {
        str(name): summed(x.transpose(*pool.dims).values[within].astype(np.float64))
        for name, x in quantities.items()
    }
    return sums, summed()


def chance_level(record: xr.Dataset) -> float:
    """The accuracy of guessing: the mean of `guesses` over scored read-outs.

    It is 1 / candidates, or more where stored values repeat.

    Raises:
        FwbioError: the record has no `target` or no `stored`, or no read-out is scored.
    """
    return estimate(_by_stored(guesses, record, "target"), require_scored(record)).value


def shown_value(record: xr.Dataset) -> xr.DataArray:
    """The value bound at each step, (.., step, post): the last substep's where there are any."""
    return record.value.isel(substep=-1) if "substep" in record.value.dims else record.value


def nearest_stored(record: xr.Dataset) -> xr.DataArray:
    """The step whose stored value is nearest to each read-out by cosine, (.., step).

    Raises:
        FwbioError: the record has no `stored`.
    """
    return _by_stored(nearest, record, "readout", dtype=np.intp)


def estimate(quantity: xr.DataArray, counted: xr.DataArray) -> Estimate:
    """The mean where `counted`, with the standard error of a ratio of sums over trials.

        mean = sum_i x_i / sum_i n_i;   se = sd(x_i - mean n_i) / (sqrt(trials) mean of n_i)

    Args:
        quantity: (.., step), or any other dims.
        counted: true where it counts, broadcast against it; x_i and n_i are sums over a trial.
            Where it counts and is NaN, as of a memory that diverged, the mean is NaN.
    """
    quantity, counted = xr.broadcast(quantity, counted)
    within = [d for d in quantity.dims if d != "trial"]
    x = quantity.where(counted, 0).sum(within, skipna=False)
    sums = xr.Dataset({"x": x, "n": counted.sum(within)}).compute()
    total, n = (np.atleast_1d(sums[name].values)[:, None] for name in "xn")
    mean, spread = ratio(total, n)
    return Estimate(value=float(mean[0]), standard_error=float(spread[0]), count=int(n.sum()))


def ratio(total: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ratios of sums over trials and their standard errors, NaN of a single trial.

        mean = sum_i x_i / sum_i n_i;   se = sd(x_i - mean n_i) / (sqrt(trials) mean of n_i)

    Args:
        total: x, (trial, k).
        n: (trial, k), each column with a number that is not 0.

    Returns:
        The mean and its standard error, (k,) each.
    """
    mean = total.sum(0) / n.sum(0)
    if len(n) < 2:
        return mean, np.full(mean.shape, np.nan)
    spread = np.std(total - mean * n, axis=0, ddof=1) / np.sqrt(len(n))
    return mean, spread / n.mean(0)


def measured(
    measure: Callable[[np.ndarray, np.ndarray], np.ndarray], record: xr.Dataset
) -> xr.DataArray:
    """What a measure of (readout, target), (.., post) each, says of every read-out, (.., step).

    Raises:
        FwbioError: the record has no `target`.
    """
    require(record, "target")
    found: xr.DataArray = blockwise(
        measure, record.readout, record.target, core=[["post"], ["post"]]
    )
    return found


def require_scored(record: xr.Dataset) -> xr.DataArray:
    """Which steps are scored, (.., step).

    Raises:
        FwbioError: the record doesn't say, or none is.
    """
    require(record, "scored")
    if not bool(record.scored.any()):
        raise FwbioError(
            "no read-out is scored", where="record", mend="mark the steps that count in `scored`"
        )
    return record.scored


def require(record: xr.Dataset, *names: str) -> None:
    """Check that a record has what a program may leave out.

    Raises:
        FwbioError: it lacks one of the variables.
    """
    for name in names:
        if name not in record:
            raise FwbioError(
                f"there is no {name!r}",
                where="record",
                mend=f"give {name} to fwbio.program.make, or use a task's episode",
            )


def _by_stored(
    function: Callable[..., np.ndarray], record: xr.Dataset, *names: str, dtype: type = float
) -> xr.DataArray:
    """What a function of arrays, of the values and of which are stored says of every step."""
    require(record, *names, "stored")
    found: xr.DataArray = blockwise(
        function,
        *(record[name] for name in names),
        shown_value(record),
        record.stored,
        core=[["step", "post"]] * (len(names) + 1) + [["step"]],
        out=["step"],
        dtype=dtype,
    )
    return found


def _trial_index(array: xr.DataArray) -> np.ndarray:
    """The trial of every entry; 0 where there is no such dim."""
    if "trial" not in array.dims:
        return np.zeros(array.shape, dtype=np.intp)
    index = xr.DataArray(np.arange(array.sizes["trial"]), dims="trial")
    return index.broadcast_like(array.drop_vars(array.coords)).transpose(*array.dims).values


def _compared(
    readout: np.ndarray,
    value: np.ndarray,
    stored: np.ndarray,
    target: np.ndarray | None = None,
) -> Iterator[tuple[tuple, np.ndarray, np.ndarray]]:
    """Cosines of read-outs with candidates, a few trials at a time so that memory stays bounded.

    Yields:
        Where the read-outs belong in (.., step); their cosines with every value (item, t, s), -inf
        with those that are not stored; whether each value equals the target.
    """
    target = readout if target is None else target
    among, y, v, wanted = _alike(stored, readout, value, target)
    for index, rows in pieces(among.shape[:-1], y.shape[-2], max(v.shape[-2:])):
        candidates = v[index].astype(np.float64)
        here = y[index][..., rows, :].astype(np.float64)
        cosines = _unit(here) @ np.swapaxes(_unit(candidates), -1, -2)
        cosines = np.where(among[index][..., None, :], cosines, -np.inf)
        yield (*index, ..., rows), cosines, _equal(wanted[index][..., rows, :], candidates)


def _alike(stored: np.ndarray, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    """Stored (.., step) and arrays (.., row, n), with the leading axes of all."""
    leading = np.broadcast_shapes(*(x.shape[:-2] for x in arrays), stored.shape[:-1])
    among = np.broadcast_to(stored, (*leading, stored.shape[-1]))
    return among, *(np.broadcast_to(x, (*leading, *x.shape[-2:])) for x in arrays)


def _equal(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Which rows of a (.., row, n) are which of b (.., other row, n), (.., row, other row)."""
    known: dict[bytes, int] = {}
    labels = []
    for array in (a, b):
        rows = np.ascontiguousarray(array.astype(np.float64) + 0.0)  # -0 is 0
        each = [
            known.setdefault(row.tobytes(), len(known)) for row in rows.reshape(-1, rows.shape[-1])
        ]
        labels.append(np.reshape(each, rows.shape[:-1]))
    return np.asarray(labels[0][..., :, None] == labels[1][..., None, :])


def _tie(dtype: np.dtype) -> float:
    """How near to each other cosines of such numbers are one."""
    return max(ROUNDING, ROUNDED * float(np.finfo(dtype).eps)) if dtype.kind == "f" else ROUNDING


def _unit(x: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(x, axis=-1, keepdims=True)
    return x / np.where(norm > 0, norm, 1)
