"""One look at a record, in one pass: recall, agreement with its reference, and geometry."""

from typing import Any

import xarray as xr

from fwbio.analyses import agreement, recall
from fwbio.analyses.geometry import MEASURES, spectra
from fwbio.analyses.labels import label, over_trials
from fwbio.errors import FwbioError

SNAPSHOTS = 20
RECALL = {
    "accuracy": "share of scored read-outs nearest to their target",
    "cosine": "cosine of scored read-outs with their targets",
    "signal": "projection of scored read-outs on their targets",
}


def overview(
    record: xr.Dataset,
    reference: xr.Dataset | None = None,
    *,
    snapshots: int | None = SNAPSHOTS,
    progress: bool = False,
) -> xr.Dataset:
    """Recall, agreement and geometry of a record, each read once, block by block where it is lazy.

    Args:
        record: with `weights` (.., snapshot or step, pre, post); recall needs `readout`, `target`
            and `stored`, curves over lags `lag`: what is missing is left out.
        reference: another run of its program, to agree with in what both have.
        snapshots: how many snapshots' singular values to take, evenly spaced and the last among
            them; None for all.
        progress: whether a bar shows how far it is.

    Returns:
        `recall_accuracy`, `recall_cosine`, `recall_signal` and their standard errors over trials;
        the same over `lag` as `lag_accuracy` and so on, with `lag_count`; `readout_agreement`,
        `weight_agreement`, `relative_error` and `weight_relative_error` as the functions of these
        names have them; and means over trials of the measures of `spectra` over `snapshot`.

    Raises:
        FwbioError: the record has neither weights nor read-outs to look at, or weights that are
            NaN; the two ran different programs.
    """
    lazy: dict[str, Any] = {}
    if {"target", "stored", "readout"} <= set(record):
        per_step = recall.per_step(record)
        lazy |= {f"recall_{name}": per_step[name] for name in RECALL}
        lazy["counted"] = agreement.scored_steps(record)
        if "lag" in record:
            lazy["lags"] = record.lag
    if "weights" in record:
        shapes = spectra(record, snapshots=snapshots).drop_vars("singular_value")
        lazy |= {str(name): shapes[name] for name in shapes}
    if reference is not None:
        mine, theirs = agreement.align(record, reference)
        if "readout" in mine and "readout" in theirs:
            lazy["readout_moments"] = agreement.scored_moments(mine, theirs)
        if "weights" in mine and "weights" in theirs:
            lazy["weight_moments"] = agreement.weight_moments(mine, theirs)
            lazy["weight_cosine"] = agreement.weight_cosine(mine, theirs)
    if not lazy:
        raise FwbioError(
            "there is nothing to look at",
            where="record",
            mend="give a record with `weights`, or with `readout` and `target` or a reference",
        )
    return _described(_computed(lazy, progress=progress))


def _computed(lazy: dict[str, xr.DataArray], *, progress: bool) -> dict[str, xr.DataArray]:
    """Everything that is asked for, in one pass over what it is made from."""
    import dask

    from fwbio.analyses.blockwise import shown

    with shown("overview", progress=progress):
        found: tuple[dict[str, xr.DataArray]] = dask.compute(lazy)
    return found[0]


def _described(found: dict[str, xr.DataArray]) -> xr.Dataset:
    """The numbers that all trials together give."""
    made = xr.Dataset()
    if "counted" in found:
        made = made.assign(_recall(found))
    geometry = over_trials(xr.Dataset({name: found[name] for name in MEASURES if name in found}))
    made = made.assign(geometry.data_vars)
    told = {}
    if "readout_moments" in found:
        told["readout_agreement"] = (
            agreement.correlation(found["readout_moments"]),
            "Pearson's r with the reference's scored read-outs",
        )
        told["relative_error"] = (
            agreement.difference(found["readout_moments"]),
            "relative distance of scored read-outs from the reference's",
        )
    if "weight_moments" in found:
        told["weight_agreement"] = (
            float(found["weight_cosine"].mean()),
            "cosine with the reference's final weights",
        )
        told["weight_relative_error"] = (
            agreement.difference(found["weight_moments"]),
            "relative distance of final weights from the reference's",
        )
    return made.assign({n: label(xr.DataArray(x), words) for n, (x, words) in told.items()})


def _recall(found: dict[str, xr.DataArray]) -> dict[str, xr.DataArray]:
    """Recall of all scored read-outs, and by lag where there are lags."""
    made: dict[str, xr.DataArray] = {}
    counted = found["counted"]
    curves = xr.Dataset({name: found[f"recall_{name}"] for name in RECALL})
    for name, words in RECALL.items():
        mean = recall.estimate(curves[name], counted)
        made[f"recall_{name}"] = label(xr.DataArray(mean.value), words)
        error = xr.DataArray(mean.standard_error)
        made[f"recall_{name}_se"] = label(error, f"standard error of: {words}")
    if "lags" in found:
        seen = counted & (found["lags"] >= 0)
        by_lag = recall.pooled_by_lag(curves, found["lags"], seen)
        for what, curve in ((str(key), curve) for key, curve in by_lag.data_vars.items()):
            words = RECALL.get(what.removesuffix("_se"), "read-outs behind each lag")
            words = f"standard error of: {words}" if what.endswith("_se") else words
            made[f"lag_{what}"] = label(curve, words)
    return made
