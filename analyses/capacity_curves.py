"""Curves of capacity: means over trials with what their points err together, and crossings."""

import numpy as np
import xarray as xr

from fwbio.analyses.capacity_measures import MEASURES
from fwbio.analyses.labels import label
from fwbio.errors import unknown_name


def curve_of(
    total: np.ndarray, count: np.ndarray, *, together: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A curve of means over trials, and how its points err, alone and together.

        y_a = sum_i x_ia / sum_i n_ia,   d_ia = (x_ia - y_a n_ia) / mean_i n_ia
        cov_ab = sum_i d_ia d_ib / (T (T - 1)),   se_a = sqrt(cov_aa)

    Args:
        total: x (.., point, trial), sums over what counts in a trial.
        count: n (.., point, trial), how much counts; NaN where a trial was not run.
        together: whether trial i has the same episode at all points; else they are independent.

    Returns:
        y, se and the covariance of each point with the next one, (.., point) each; the last of
        these covariances is NaN, as are all errors of a single trial, and all of a point with a
        trial that is no number.
    """
    run = np.isfinite(count)
    total, count = np.where(run, total, 0), np.where(run, count, 0)
    trials = run.sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total.sum(-1) / count.sum(-1)
        each = (count.sum(-1) / trials)[..., None]
        off = np.where(run, (total - mean[..., None] * count) / each, 0)
        error = np.sqrt((off**2).sum(-1) / (trials * (trials - 1)))
        both = (run[..., :-1, :] & run[..., 1:, :]).sum(-1)
        covariance = (off[..., :-1, :] * off[..., 1:, :]).sum(-1) / (both * (both - 1))
    if not together:
        covariance = np.where(np.isfinite(covariance), 0.0, covariance)
    last = np.full((*mean.shape[:-1], 1), np.nan)
    return mean, error, np.concatenate([covariance, last], -1)


def crossing(
    axis: np.ndarray,
    curve: np.ndarray,
    error: np.ndarray,
    level: float,
    covariance: np.ndarray | None = None,
) -> tuple[float, float]:
    """Where a curve first falls below a level, by straight lines between its points.

        x = x0 + (x1 - x0) f,   f = (y0 - level) / (y0 - y1)
        se^2 = (x1 - x0)^2 ((1 - f)^2 se0^2 + 2 f (1 - f) cov01 + f^2 se1^2) / (y0 - y1)^2

    to first order in the errors (the delta method), of the two points that the level lies between.

    Args:
        axis: x (n,), increasing.
        curve: y (n,).
        error: standard errors of y (n,).
        level: in the curve's unit.
        covariance: of each point with the next one, (n,), as `curve_of` gives it; points are
            independent unless given.

    Returns:
        The place and its standard error; NaN for both where the curve stays above the level, or
        starts below it.
    """
    below = np.flatnonzero(curve < level)
    if not below.size or below[0] == 0 or not curve[below[0] - 1] >= level:
        return float("nan"), float("nan")
    one, other = below[0] - 1, below[0]
    fall, width = curve[one] - curve[other], axis[other] - axis[one]
    share = (curve[one] - level) / fall
    shared = 0.0 if covariance is None else covariance[one]
    alone = ((1 - share) * error[one]) ** 2 + (share * error[other]) ** 2
    spread = np.sqrt(np.maximum(alone + 2 * share * (1 - share) * shared, 0))
    return float(axis[one] + width * share), float(width * spread / fall)


def crossings(measured: xr.Dataset, level: float = 0.5, of: str = "recall_accuracy") -> xr.Dataset:
    """The capacity of every run: where along the axis a measure falls below a level.

    Args:
        measured: as `fwbio.analyses.capacity.capacity` makes it.
        level: of the measure.
        of: a name of `MEASURES` that falls along the axis.

    Returns:
        `capacity` and `capacity_se` by (programmer, substrate, rule), in the axis's unit.

    Raises:
        FwbioError: there is no such measure in it.
    """
    if of not in measured:
        known = [name for name in MEASURES if name in measured]
        raise unknown_name(of, known, kind="measure", where="crossings")
    axis = str(measured.attrs["config"]["axis"])
    at, spread = xr.apply_ufunc(
        crossing,
        measured[axis],
        measured[of],
        measured[f"{of}_se"],
        level,
        measured[f"{of}_cov"],
        input_core_dims=[[axis], [axis], [axis], [], [axis]],
        output_core_dims=[[], []],
        vectorize=True,
    )
    units = measured[axis].attrs["units"]
    name = f"{axis} at which {of} falls below {level:g}"
    return xr.Dataset(
        {
            "capacity": label(at, name, units),
            "capacity_se": label(spread, f"standard error of {name}", units),
        }
    )
