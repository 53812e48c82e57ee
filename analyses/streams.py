"""How closely a program, and what it makes of a memory, follow the program it was meant to be."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr

from fwbio.analyses.recall import cosine
from fwbio.errors import FwbioError
from fwbio.rules import RULES

CODES = ("key", "value", "query")


@dataclass(frozen=True, kw_only=True)
class StreamAgreement:
    """Two versions of a stream, compared over the steps where either is not silent.

    Args:
        correlation: Pearson's r of all entries; NaN where one of them is constant.
        relative_error: the norm of their difference over that of the imposed one.
        scale: the norm of the emitted one over that of the imposed one.
    """

    correlation: float
    relative_error: float
    scale: float


def stream_agreement(program: xr.Dataset, imposed: xr.Dataset) -> Mapping[str, StreamAgreement]:
    """How closely each stream of a program follows that of an imposed one.

    Args:
        program: as a programmer emits it.
        imposed: a program of the same episode and rule, its trials first.

    Raises:
        FwbioError: the programs are of different rules or sizes.
    """
    rule = str(imposed.attrs.get("rule"))
    if program.attrs.get("rule") != rule:
        raise _differ(f"the rules {program.attrs.get('rule')!r} and {rule!r} differ")
    names = [*CODES, *(name for name in RULES[rule].streams if name in imposed)]
    found = {}
    for name in names:
        x, wanted = program[name], _first(imposed[name], program)
        if x.sizes != wanted.sizes:
            raise _differ(f"{name!r} has the sizes {dict(x.sizes)} and {dict(wanted.sizes)}")
        channels = bool({"pre", "post"} & set(x.dims))
        found[name] = _agreement(x.values, wanted.values, channels=channels)
    return found


def program_agreement(program: xr.Dataset, imposed: xr.Dataset) -> float:
    """The least correlation, over key, value and query, of a program with an imposed one.

    Raises:
        FwbioError: the programs are of different rules or sizes.
    """
    found = stream_agreement(program, imposed)
    return min(found[name].correlation for name in CODES)


def imposed_agreement(record: xr.Dataset, imposed: xr.Dataset) -> float:
    """Pearson's r of scored read-outs with those of a run of the imposed program.

        r = cos(y - mean(y), y' - mean(y'))

    Args:
        record: a run of a program.
        imposed: a run of the imposed program of the same episode, its trials first.

    Raises:
        FwbioError: the runs are of different sizes, or ask at different steps.
    """
    names = ("readout", "scored")
    wanted = {name: _first(imposed[name], record) for name in names}
    for name in names:
        if record[name].sizes != wanted[name].sizes:
            raise _differ(f"{name!r} differs in size")
    if (record.scored.values != wanted["scored"].values).any():
        raise _differ("they ask at different steps")
    y, target, asked = xr.broadcast(record.readout, wanted["readout"], record.scored)
    return _correlation(y.values[asked.values], target.values[asked.values])


def _first(imposed: xr.DataArray, like: xr.Dataset) -> xr.DataArray:
    """As many of its first trials as the other has."""
    return imposed.isel(trial=slice(like.sizes["trial"])) if "trial" in imposed.dims else imposed


def _agreement(x: np.ndarray, wanted: np.ndarray, *, channels: bool) -> StreamAgreement:
    active = (x != 0) | (wanted != 0)
    if channels:
        active = active.any(-1)
    x, wanted = x[active].ravel(), wanted[active].ravel()
    size = float(np.linalg.norm(wanted)) or np.nan
    return StreamAgreement(
        correlation=_correlation(x, wanted),
        relative_error=float(np.linalg.norm(x - wanted)) / size,
        scale=float(np.linalg.norm(x)) / size,
    )


def _correlation(x: np.ndarray, wanted: np.ndarray) -> float:
    if x.size == 0 or np.ptp(x) == 0 or np.ptp(wanted) == 0:
        return float("nan")
    return float(cosine(x - x.mean(), wanted - wanted.mean()))


def _differ(what: str) -> FwbioError:
    return FwbioError(
        what,
        where="the program and the imposed one",
        mend="compare programs of one rule and episode, or of its first trials",
    )
