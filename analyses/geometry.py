"""The geometry of fast weights: singular values, and how many directions they fill.

`singular_values` and the measures of them work on arrays; `spectra` names the axes of a record, and
goes through a lazy one block by block.
"""

import numpy as np
import xarray as xr

from fwbio.analyses.blockwise import blockwise
from fwbio.analyses.labels import label
from fwbio.errors import FwbioError
from fwbio.record import with_snapshots

MEASURES = {
    "effective_rank": "effective rank",
    "participation_ratio": "participation ratio of the squared singular values",
    "stable_rank": "stable rank",
    "rank": "numerical rank",
    "condition": "condition number",
    "spectral_norm": "spectral norm",
    "frobenius_norm": "Frobenius norm",
}


def singular_values(weights: np.ndarray) -> np.ndarray:
    """The singular values of matrices, in float64, largest first.

    Args:
        weights: W (.., pre, post).

    Returns:
        (.., mode), as many as the smaller of pre and post.
    """
    found: np.ndarray = np.linalg.svd(weights.astype(np.float64), compute_uv=False)
    return found


def effective_rank(values: np.ndarray) -> np.ndarray:
    """How many directions matrices fill, by the entropy of their singular values.

        exp(-sum_i p_i ln p_i),   p_i = s_i / sum_j s_j

    from 1 to the number of modes; 0 for a zero matrix. Scaling and rotating W leaves it as it is.

    Args:
        values: singular values s (.., mode).

    Source: Roy & Vetterli 2007, "The effective rank", EUSIPCO.
    """
    total = values.sum(-1, keepdims=True)
    p = values / np.where(total > 0, total, 1)
    entropy = -(p * np.log(np.where(p > 0, p, 1))).sum(-1)
    return np.where(total[..., 0] > 0, np.exp(entropy), 0.0)


def participation_ratio(values: np.ndarray) -> np.ndarray:
    """How many directions share the power of matrices.

        (sum_i s_i^2)^2 / sum_i s_i^4

    from 1 to the number of modes; 0 for a zero matrix.

    Args:
        values: singular values s (.., mode).
    """
    power = _relative(values) ** 2
    fourth = (power * power).sum(-1)
    return power.sum(-1) ** 2 / np.where(fourth > 0, fourth, 1)


def stable_rank(values: np.ndarray) -> np.ndarray:
    """The power of matrices in units of their first mode's.

        sum_i s_i^2 / s_1^2

    from 1 to the number of modes; 0 for a zero matrix.

    Args:
        values: singular values s (.., mode), largest first.
    """
    found: np.ndarray = (_relative(values) ** 2).sum(-1)
    return found


def numerical_rank(values: np.ndarray, *, precision: float | None = None) -> np.ndarray:
    """How many singular values are more than rounding.

        s_i > precision * n * s_1

    Args:
        values: singular values s (.., mode), largest first; n is their number.
        precision: of the numbers in the matrix; that of float64 unless given.
    """
    precision = float(np.finfo(np.float64).eps) if precision is None else precision
    found: np.ndarray = (_relative(values) > precision * values.shape[-1]).sum(-1)
    return found


def condition(values: np.ndarray, *, precision: float | None = None) -> np.ndarray:
    """The condition number, infinite for a matrix that is singular to rounding.

        s_1 / s_n

    Args:
        values: singular values s (.., mode), largest first.
        precision: of the numbers in the matrix; that of float64 unless given.
    """
    full = numerical_rank(values, precision=precision) == values.shape[-1]
    last = _relative(values)[..., -1]
    return np.where(full, 1 / np.where(full, last, 1), np.inf)


def spectra(record: xr.Dataset, *, snapshots: int | None = None) -> xr.Dataset:
    """The singular values of a record's weights, and the measures of them, snapshot by snapshot.

    Args:
        record: with `weights` (.., snapshot or step, pre, post).
        snapshots: how many of them, evenly spaced and the last among them; all unless given.

    Returns:
        `singular_value` (.., snapshot, mode) and (.., snapshot) `effective_rank`,
        `participation_ratio`, `stable_rank`, `rank`, `condition`, `spectral_norm` and
        `frobenius_norm`: norms in the unit of the weights, the others dimensionless; lazy where the
        record is.

    Raises:
        FwbioError: the record has no weights, or no snapshots are asked for; a weight is NaN or
            infinite (of a lazy record as it is computed).
    """
    weights = kept_weights(record, snapshots)
    modes = min(weights.sizes["pre"], weights.sizes["post"])
    after = weights["snapshot"].drop_vars("snapshot", errors="ignore")
    values: xr.DataArray = blockwise(
        _finite_singular_values,
        weights,
        after,
        core=[["pre", "post"], []],
        out=["mode"],
        sizes={"mode": modes},
    ).assign_coords(mode=np.arange(1, modes + 1))
    precision = float(np.finfo(weights.dtype if weights.dtype.kind == "f" else float).eps)
    of_values = {
        "effective_rank": (effective_rank, {}),
        "participation_ratio": (participation_ratio, {}),
        "stable_rank": (stable_rank, {}),
        "rank": (numerical_rank, {"precision": precision}),
        "condition": (condition, {"precision": precision}),
    }
    found = xr.Dataset({"singular_value": values})
    for name, (measure, options) in of_values.items():
        dtype = np.int64 if name == "rank" else np.float64
        found[name] = blockwise(measure, values, core=[["mode"]], dtype=dtype, options=options)
    found["spectral_norm"] = values.isel(mode=0, drop=True)
    found["frobenius_norm"] = np.sqrt((values**2).sum("mode"))
    unit = weights.attrs.get("units", "1")
    for name, words in {**MEASURES, "singular_value": "singular value of the weights"}.items():
        label(found[name], words, unit if name.endswith(("norm", "value")) else "1")
    label(found["mode"], "singular value, from the largest")
    label(found["snapshot"], "step after which weights were kept")
    return found


def kept_weights(record: xr.Dataset, snapshots: int | None = None) -> xr.DataArray:
    """A record's weights, all snapshots or some evenly spaced ones and the last.

    Raises:
        FwbioError: the record has no weights, or not over snapshots or steps, or no snapshots are
            asked for.
    """
    if "weights" not in record:
        raise FwbioError(
            "there are no weights", where="record", mend="keep them: weights='all' as it is run"
        )
    record = with_snapshots(record)
    if snapshots is None:
        return record.weights
    if snapshots < 1:
        raise FwbioError(
            f"{snapshots} snapshots show nothing", where="snapshots", mend="ask for at least 1"
        )
    count = record.sizes["snapshot"]
    steps = np.unique(np.linspace(0, count - 1, min(snapshots, count)).round().astype(int))
    return record.weights.isel(snapshot=steps if snapshots > 1 else [count - 1])


def _finite_singular_values(weights: np.ndarray, after: np.ndarray) -> np.ndarray:
    """`singular_values` of weights (.., pre, post) kept after steps (..), if they have any."""
    bad = ~np.isfinite(weights).all((-2, -1))
    if bad.any():
        steps = np.unique(np.broadcast_to(after, bad.shape)[bad])
        more = f" and {len(steps) - 1} more" if len(steps) > 1 else ""
        raise FwbioError(
            f"weights are NaN or infinite at snapshot {steps[0]}{more}",
            where="record, weights",
            mend="leave these out, or fill them in",
        )
    return singular_values(weights)


def _relative(values: np.ndarray) -> np.ndarray:
    """Singular values in units of the largest; zeros of a zero matrix."""
    first = values[..., :1]
    return values / np.where(first > 0, first, 1)
