"""How closely a substrate follows the reference: numbers from two records of one program."""

from typing import Literal

import numpy as np
import xarray as xr

from fwbio.analyses.recall import cosine
from fwbio.errors import FwbioError
from fwbio.program import EXECUTED


def align(record: xr.Dataset, reference: xr.Dataset) -> tuple[xr.Dataset, xr.Dataset]:
    """The trials that two records of the same program share: the first ones of the longer.

    Args:
        record: a run of a program, or of its first trials.
        reference: another.

    Raises:
        FwbioError: the rules or any stream of the two programs differ.
    """
    names = [str(r.attrs.get("rule")) for r in (record, reference)]
    if names[0] != names[1]:
        raise _differ(f"the rules {names[0]!r} and {names[1]!r} differ")
    trials = [r.sizes["trial"] for r in (record, reference) if "trial" in r.dims]
    if len(trials) == 1:
        raise _differ("one record has the dim trial and the other has not")
    if trials:
        first = {"trial": slice(min(trials))}
        record, reference = record.isel(first), reference.isel(first)
    for name in EXECUTED:
        if name not in record and name not in reference:
            continue
        if name not in record or name not in reference:
            raise _differ(f"only one of them has {name!r}")
        if not record[name].variable.equals(reference[name].variable):
            raise _differ(f"{name!r} differs")
    return record, reference


def readout_agreement(record: xr.Dataset, reference: xr.Dataset) -> float:
    """Pearson's r of the scored read-outs of two runs, every post channel an observation.

        r = cos(y - mean(y), y' - mean(y'))

    Blind to the scale and the offset of the read-out; `relative_error` sees both. NaN where one of
    the two is constant.

    Args:
        record: with `readout` (.., step, post); steps count where `scored`, all where it is absent.
        reference: the run to compare with.

    Raises:
        FwbioError: the two ran different programs.
    """
    y, y_ref = scored_readouts(record, reference)
    y, y_ref = y - y.mean(), y_ref - y_ref.mean()
    return float(cosine(y, y_ref)) if y.any() and y_ref.any() else float("nan")


def weight_agreement(record: xr.Dataset, reference: xr.Dataset) -> float:
    """The cosine of the final weights of two runs, averaged over trials (and other leading dims).

        cos(W, W') = sum_ij W_ij W'_ij / (|W| |W'|)

    Args:
        record: with `weights` (.., snapshot, pre, post).
        reference: the run to compare with.

    Raises:
        FwbioError: the two ran different programs.
    """
    record, reference = align(record, reference)
    final, final_ref = (
        r.weights.isel(snapshot=-1).stack(synapse=("pre", "post"), create_index=False)
        for r in (record, reference)
    )
    core = [["synapse"], ["synapse"]]
    return float(xr.apply_ufunc(cosine, final, final_ref, input_core_dims=core).mean())


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
        FwbioError: the two ran different programs, or `of` is neither.
    """
    if of == "readout":
        x, x_ref = scored_readouts(record, reference)
    elif of == "weights":
        record, reference = align(record, reference)
        final, final_ref = xr.broadcast(
            record.weights.isel(snapshot=-1, drop=True),
            reference.weights.isel(snapshot=-1, drop=True),
        )
        x, x_ref = final.values, final_ref.values
    else:
        raise FwbioError(f"there is no error of {of!r}", where="of", mend="readout or weights")
    norm = np.linalg.norm(x_ref)
    return float(np.linalg.norm(x - x_ref) / norm) if norm > 0 else float("nan")


def scored_readouts(record: xr.Dataset, reference: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """The scored read-outs of two runs of one program, observation by observation, (n,) each.

    Raises:
        FwbioError: the two ran different programs.
    """
    record, reference = align(record, reference)
    everywhere = xr.ones_like(record.step, dtype=bool)
    scored = record.get("scored", everywhere)
    y, y_ref, counted = xr.broadcast(record.readout, reference.readout, scored)
    where = counted.values
    return y.values[where].astype(np.float64), y_ref.values[where].astype(np.float64)


def _differ(what: str) -> FwbioError:
    return FwbioError(
        what,
        where="the two records to compare",
        mend="compare runs of one program, or of its first trials",
    )
