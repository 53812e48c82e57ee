"""How well a memory recalls: numbers from one record.

`hits`, `cosine` and `projection` work on arrays; the functions that take a record name its axes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import xarray as xr

from fwbio.errors import FwbioError

ROUNDING = 1e-12  # cosines nearer to each other than this are a tie


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

    A tie with a different value is a miss, and so is a read-out of zeros: a memory that can't tell
    is not credited with a guess. Stored values equal to the target count as the target.

    Args:
        readout: y (.., step, post).
        target: (.., step, post).
        value: (.., step, post), the candidates.
        stored: (.., step), which of them are candidates.

    Returns:
        (.., step), true or false.
    """
    cosines = np.einsum("...tv,...sv->...ts", _unit(readout), _unit(value))
    own = cosine(readout, target)
    right = np.empty(own.shape, dtype=bool)
    for step in range(own.shape[-1]):
        rivals = stored & (value != target[..., step, None, :]).any(-1)
        best = np.where(rivals, cosines[..., step, :], -np.inf).max(-1)
        right[..., step] = own[..., step] > best + ROUNDING
    return right & readout.any(-1)


def recall_accuracy(record: xr.Dataset) -> Estimate:
    """The share of scored read-outs whose nearest stored value is the target's.

    Args:
        record: with `target`, `scored` and `stored`; dimensionless.

    Raises:
        FwbioError: the record lacks one of these, or no read-out is scored.
    """
    return _mean(recall_hits(record), _scored(record))


def recall_cosine(record: xr.Dataset) -> Estimate:
    """The mean cosine of scored read-outs with their targets.

    Args:
        record: with `target` and `scored`; dimensionless.

    Raises:
        FwbioError: the record lacks one of these, or no read-out is scored.
    """
    return _mean(_per_step(cosine, record), _scored(record))


def recall_hits(record: xr.Dataset) -> xr.DataArray:
    """Whether the stored value nearest to each read-out is its target, (.., step).

    The value of a step with substeps is that of its last one.

    Raises:
        FwbioError: the record has no `target` or no `stored`.
    """
    _require(record, "target", "stored")
    return xr.apply_ufunc(
        hits,
        record.readout,
        record.target,
        shown_value(record),
        record.stored,
        input_core_dims=[["step", "post"]] * 3 + [["step"]],
        output_core_dims=[["step"]],
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
    _require(record, "lag")
    if width < 1:
        raise FwbioError(
            f"can't pool {width} lags", where="width", mend="give a whole number from 1"
        )
    scored = _scored(record)
    pool = (record.lag // width).where(scored & (record.lag >= 0), -1)
    pools = np.unique(pool.values[pool.values >= 0])
    curves = {
        "accuracy": recall_hits(record),
        "cosine": _per_step(cosine, record),
        "signal": _per_step(projection, record),
    }
    found: dict[str, tuple[str, list[float]]] = {}
    for name, quantity in curves.items():
        points = [_mean(quantity, pool == p) for p in pools]
        found[name] = ("lag", [p.value for p in points])
        found[f"{name}_se"] = ("lag", [p.standard_error for p in points])
        found["count"] = ("lag", [p.count for p in points])
    curve = xr.Dataset(found, coords={"lag": pools * width + (width - 1) / 2})
    for variable in curve.variables:
        curve[variable].attrs = {"units": "1"}
    curve["lag"].attrs["long_name"] = "presentations since the pair was stored"
    return curve


def chance_level(record: xr.Dataset) -> float:
    """The accuracy of guessing: the mean of 1 / candidates over scored read-outs.

    Raises:
        FwbioError: the record has no `stored`, or no read-out is scored.
    """
    _require(record, "stored")
    scored = _scored(record)
    return _mean(1 / record.stored.sum("step").clip(min=1) * xr.ones_like(scored), scored).value


def shown_value(record: xr.Dataset) -> xr.DataArray:
    """The value bound at each step, (.., step, post): the last substep's where there are any."""
    return record.value.isel(substep=-1) if "substep" in record.value.dims else record.value


def nearest_stored(record: xr.Dataset) -> xr.DataArray:
    """The step whose stored value is nearest to each read-out by cosine, (.., step).

    Raises:
        FwbioError: the record has no `stored`.
    """
    _require(record, "stored")

    def nearest(readout: np.ndarray, value: np.ndarray, stored: np.ndarray) -> np.ndarray:
        cosines = np.einsum("...tv,...sv->...ts", _unit(readout), _unit(value))
        return np.where(stored[..., None, :], cosines, -np.inf).argmax(-1)

    return xr.apply_ufunc(
        nearest,
        record.readout,
        shown_value(record),
        record.stored,
        input_core_dims=[["step", "post"], ["step", "post"], ["step"]],
        output_core_dims=[["step"]],
    )


def _unit(x: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(x, axis=-1, keepdims=True)
    return x / np.where(norm > 0, norm, 1)


def _per_step(
    measure: Callable[[np.ndarray, np.ndarray], np.ndarray], record: xr.Dataset
) -> xr.DataArray:
    _require(record, "target")
    return xr.apply_ufunc(
        measure, record.readout, record.target, input_core_dims=[["post"], ["post"]]
    )


def _scored(record: xr.Dataset) -> xr.DataArray:
    _require(record, "scored")
    if not record.scored.values.any():
        raise FwbioError(
            "no read-out is scored", where="record", mend="mark the steps that count in `scored`"
        )
    return record.scored


def _require(record: xr.Dataset, *names: str) -> None:
    for name in names:
        if name not in record:
            raise FwbioError(
                f"there is no {name!r}",
                where="record",
                mend=f"give {name} to fwbio.program.make, or use a task's episode",
            )


def _mean(quantity: xr.DataArray, counted: xr.DataArray) -> Estimate:
    """The mean where `counted`, with the standard error of a ratio of sums over trials."""
    quantity, counted = xr.broadcast(quantity, counted)
    within = [d for d in quantity.dims if d != "trial"]
    n = counted.sum(within).values
    total = quantity.where(counted, 0).sum(within).values
    value = total.sum() / n.sum()
    if n.size < 2:
        return Estimate(value=float(value), standard_error=float("nan"), count=int(n.sum()))
    spread = np.std(total - value * n, ddof=1) / np.sqrt(n.size)
    return Estimate(value=float(value), standard_error=float(spread / n.mean()), count=int(n.sum()))
