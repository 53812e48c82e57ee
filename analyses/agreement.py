"""How closely a substrate follows the reference: numbers from two records of one program.

Lazy records are gone through block by block, by sums of each trial that are then merged.
"""

from typing import Any, Literal

import numpy as np
import xarray as xr

from fwbio.analyses.blockwise import blockwise
from fwbio.analyses.recall import cosine
from fwbio.errors import FwbioError
from fwbio.program import EXECUTED
from fwbio.record import with_snapshots

ROUNDING = 1e-14  # of a mean, below which what is left about it is none


def align(record: xr.Dataset, reference: xr.Dataset) -> tuple[xr.Dataset, xr.Dataset]:
    """The trials that two records of the same program share: the first ones of the longer.

    Args:
        record: a run of a program, or of its first trials.
        reference: another.

    Returns:
        Both, with weights over snapshots where they have weights.

    Raises:
        FwbioError: the rules or any stream of the two programs differ.
    """
    names = [str(r.attrs.get("rule")) for r in (record, reference)]
    if names[0] != names[1]:
        raise _differ(f"the rules {names[0]!r} and {names[1]!r} differ")
    if ("trial" in record.dims) != ("trial" in reference.dims):
        raise _differ("one record has the dim trial and the other has not")
    record, reference = (with_snapshots(r) for r in first_trials(record, reference))
    equal: dict[str, Any] = {}
    for name in EXECUTED:
        if name not in record and name not in reference:
            continue
        if name not in record or name not in reference:
            raise _differ(f"only one of them has {name!r}")
        equal[name] = _equal(record[name].variable, reference[name].variable)
    for name, same in _computed(equal).items():
        if not same:
            raise _differ(f"{name!r} differs")
    return record, reference


def need(*records: xr.Dataset, name: Literal["readout", "weights"]) -> None:
    """Check that records have what they are to be compared by.

    Raises:
        FwbioError: one of them lacks it.
    """
    if not all(name in record for record in records):
        words = {"readout": "read-outs", "weights": "weights"}[name]
        raise FwbioError(
            f"one of them has no {name!r}",
            where="the two records to compare",
            mend=f"give records of {words}, or compare them by the other",
        )


def first_trials(record: xr.Dataset, other: xr.Dataset) -> tuple[xr.Dataset, xr.Dataset]:
    """Two records, of the longer one as many first trials as the other has."""
    trials = [r.sizes["trial"] for r in (record, other) if "trial" in r.dims]
    if len(trials) == 2 and trials[0] != trials[1]:
        first = {"trial": slice(min(trials))}
        return record.isel(first), other.isel(first)
    return record, other


def readout_agreement(record: xr.Dataset, reference: xr.Dataset) -> float:
    """Pearson's r of the scored read-outs of two runs, every post channel an observation.

        r = cos(y - mean(y), y' - mean(y'))

    Blind to the scale and the offset of the read-out; `relative_error` sees both. NaN where one of
    the two is constant.

    Args:
        record: with `readout` (.., step, post); steps count where `scored`, all where it is absent.
        reference: the run to compare with.

    Raises:
        FwbioError: the two ran different programs, or one lacks what is compared.
    """
    record, reference = align(record, reference)
    return correlation(scored_moments(record, reference))


def weight_agreement(record: xr.Dataset, reference: xr.Dataset) -> float:
    """The cosine of the final weights of two runs, averaged over trials (and other leading dims).

        cos(W, W') = sum_ij W_ij W'_ij / (|W| |W'|)

    Args:
        record: with `weights` (.., snapshot, pre, post).
        reference: the run to compare with.

    Raises:
        FwbioError: the two ran different programs, or one lacks what is compared.
    """
    return float(weight_cosine(*align(record, reference)).mean())


def relative_error(
    record: xr.Dataset,
    reference: xr.Dataset,
    *,
    of: Literal["readout", "weights"] = "readout",
) -> float:
    """The norm of the difference of two runs over the norm of the reference.

        e = |x - x'| / |x'|

    Args:
        record: a record.
        reference: the run to compare with, x'.
        of: "readout", x all scored read-outs; "weights", x all final weights.

    Raises:
        FwbioError: the two ran different programs, one lacks what is compared, or `of` is neither.
    """
    if of not in ("readout", "weights"):
        raise FwbioError(f"there is no error of {of!r}", where="of", mend="readout or weights")
    record, reference = align(record, reference)
    if of == "readout":
        return difference(scored_moments(record, reference))
    return difference(weight_moments(record, reference))


def scored_readouts(record: xr.Dataset, reference: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """The scored read-outs of two runs of one program, observation by observation, (n,) each.

    Raises:
        FwbioError: the two ran different programs, or one lacks what is compared.
    """
    record, reference = align(record, reference)
    y, y_ref, counted = xr.broadcast(record.readout, reference.readout, scored_steps(record))
    where = counted.values
    return y.values[where].astype(np.float64), y_ref.values[where].astype(np.float64)


def scored_steps(record: xr.Dataset) -> xr.DataArray:
    """Which steps count, (.., step): those that are `scored`, all where the record doesn't say."""
    everywhere = xr.ones_like(record.step, dtype=bool).drop_vars("step", errors="ignore")
    scored: xr.DataArray = record.get("scored", everywhere)
    return scored


def moments(x: np.ndarray, x_ref: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """What two samples need for their correlation and distance, of each leading index.

    Args:
        x: (.., m, n).
        x_ref: (.., m, n).
        counted: (.., m), true where a row counts.

    Returns:
        (.., 8): the count, both means, both sums of squares about the mean, the sum of products
        about it, and the sums of squares of `x_ref` and of the difference.
    """
    counted = counted[..., None]
    n = counted.sum((-1, -2)) * x.shape[-1]
    a, b = (np.where(counted, side, 0).astype(np.float64) for side in (x, x_ref))
    power, apart = (np.einsum("...ij,...ij->...", side, side) for side in (b, a - b))
    mean_a, mean_b = (side.sum((-1, -2)) / np.maximum(n, 1) for side in (a, b))
    a, b = ((side - mean[..., None, None]) * counted for side, mean in ((a, mean_a), (b, mean_b)))
    products = [np.einsum("...ij,...ij->...", *pair) for pair in ((a, a), (b, b), (a, b))]
    return np.stack(np.broadcast_arrays(n, mean_a, mean_b, *products, power, apart), -1)


def scored_moments(record: xr.Dataset, reference: xr.Dataset) -> xr.DataArray:
    """`moments` of the scored read-outs of two aligned records, (.., moment)."""
    need(record, reference, name="readout")
    found: xr.DataArray = blockwise(
        moments,
        record.readout,
        reference.readout,
        scored_steps(record),
        core=[["step", "post"], ["step", "post"], ["step"]],
        out=["moment"],
        sizes={"moment": 8},
    )
    return found


def weight_moments(record: xr.Dataset, reference: xr.Dataset) -> xr.DataArray:
    """`moments` of the final weights of two aligned records, (.., moment)."""
    need(record, reference, name="weights")
    found: xr.DataArray = blockwise(
        moments,
        *(r.weights.isel(snapshot=-1, drop=True) for r in (record, reference)),
        xr.DataArray(np.ones(record.sizes["pre"], dtype=bool), dims="pre"),
        core=[["pre", "post"], ["pre", "post"], ["pre"]],
        out=["moment"],
        sizes={"moment": 8},
    )
    return found


def weight_cosine(record: xr.Dataset, reference: xr.Dataset) -> xr.DataArray:
    """The cosine of the final weights of two aligned records, of each trial (..)."""
    need(record, reference, name="weights")

    def flat_cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        flat = (x.reshape(*x.shape[:-2], -1).astype(np.float64) for x in (a, b))
        return cosine(*flat)

    finals = (r.weights.isel(snapshot=-1, drop=True) for r in (record, reference))
    found: xr.DataArray = blockwise(flat_cosine, *finals, core=[["pre", "post"]] * 2)
    return found


def correlation(parts: xr.DataArray) -> float:
    """Pearson's r of all samples together; NaN where one of the two is constant.

    Args:
        parts: their `moments` (.., moment), which are merged (Chan, Golub & LeVeque 1983).
    """
    n, mean, mean_ref, square, square_ref, product, *_ = _moment_columns(parts)
    share = n / max(n.sum(), 1)
    off, off_ref = mean - (share * mean).sum(), mean_ref - (share * mean_ref).sum()
    square, square_ref, product = (
        (within + n * between).sum()
        for within, between in (
            (square, off * off),
            (square_ref, off_ref * off_ref),
            (product, off * off_ref),
        )
    )
    least = n.sum() * (ROUNDING * np.array([abs(mean).max(), abs(mean_ref).max()])) ** 2
    if square <= least[0] or square_ref <= least[1]:
        return float("nan")
    return float(np.clip(product / np.sqrt(square) / np.sqrt(square_ref), -1, 1))


def difference(parts: xr.DataArray) -> float:
    """The norm of the difference of all samples together over that of the reference's.

    Args:
        parts: their `moments` (.., moment).
    """
    *_, power, apart = _moment_columns(parts)
    return float(np.sqrt(apart.sum() / power.sum())) if power.sum() > 0 else float("nan")


def _moment_columns(parts: xr.DataArray) -> np.ndarray:
    return np.moveaxis(parts.transpose(..., "moment").values.reshape(-1, 8), -1, 0)


def _differ(what: str) -> FwbioError:
    return FwbioError(
        what,
        where="the two records to compare",
        mend="compare runs of one program, or of its first trials",
    )


def _equal(a: xr.Variable, b: xr.Variable) -> Any:
    """Whether two variables are equal; a lazy truth where one of them is lazy."""
    if a.dims != b.dims or a.shape != b.shape:
        return False
    return a.data is b.data or (a.data == b.data).all()


def _computed(truths: dict[str, Any]) -> dict[str, bool]:
    """The truths, lazy ones in one pass."""
    lazy = {name: xr.Variable((), truth) for name, truth in truths.items()}
    return {str(name): bool(truth) for name, truth in xr.Dataset(lazy).compute().items()}
