"""Which closed form belongs to which run of a sweep, and how far the measured points are from it.

A rule's terms decide: sums with or without one decay, the delta rule in one pass, least squares.
Its keys do as well: isotropic, correlated or binary ones, as they are or coded by ON and OFF cells.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from fwbio.analyses.capacity_config import KEYS
from fwbio.analyses.capacity_expectations import expected
from fwbio.analyses.capacity_measures import MEASURES
from fwbio.analyses.capacity_overlaps import (
    Overlaps,
    active_ones,
    correlated,
    correlated_on_off,
    isotropic,
    on_off,
    sparse,
)
from fwbio.analyses.capacity_theory import (
    Coefficients,
    delta_rule,
    least_squares,
    sign_bit_error_of_binary,
    sign_bit_error_of_few,
    sum_rule,
)
from fwbio.analyses.labels import attributes, label
from fwbio.rule import Rule
from fwbio.rules import RULES

FOLLOWING = ("reference", "kernel", "flow", "rate")  # substrates whose own noise is no noise
MOMENTS = ("signal", "noise_power", "residual")
_TIME_CONSTANT, _PRE, _POST, _SIMILARITY, _ACTIVE = 32.0, 64, 32, 0.5, 0.1
_FEW_ONES, _READS = 8, 9
_EVERY_PAIR, _LOADS, _PLACES = 16, 15, 33


def theory(
    measured: xr.Dataset, *, approximate: bool = False, at: Sequence[float] | None = None
) -> xr.Dataset:
    """What the points of a sweep must be on a substrate that follows the rule exactly.

    Of sums all measures are there. Of the delta rule and of least squares signal, noise power and
    residual are; their other measures, which take coefficients for independent, are some percent
    off and given only where `approximate` ones are asked for.

    Args:
        measured: as `fwbio.analyses.capacity.capacity` makes it.
        approximate: whether to give these too.
        at: places along the axis; those that were measured unless given.

    Returns:
        The measures by (programmer, rule, axis), dimensionless, NaN where no closed form exists.
    """
    config = measured.attrs["config"]
    axis = config["axis"]
    dims = ("programmer", "rule", axis)
    places = measured[axis] if at is None else xr.DataArray(list(at), dims=axis)
    coords = {"programmer": measured.programmer, "rule": measured.rule, axis: places}
    shape = tuple(coords[d].size for d in dims)
    names = [name for name in MEASURES if name in measured]
    found = {name: np.full(shape, np.nan) for name in names}
    for p, programmer in enumerate(measured.programmer.values):
        for r, rule in enumerate(measured.rule.values):
            for v, value in enumerate(places.values):
                point = _point(config, str(programmer), RULES[str(rule)], value, approximate)
                for name in found.keys() & point.keys():
                    found[name][p, r, v] = point[name]
    return xr.Dataset(
        {name: (dims, found[name], attributes(f"{MEASURES[name][1]}, theory")) for name in names},
        coords={d: (d, x.values, measured[d].attrs) for d, x in coords.items()},
        attrs={"approximate": approximate},
    )


def places(measured: xr.Dataset) -> list[float]:
    """Where along its axis a closed form is a number of its own, so that lines are to be drawn.

    Of pairs these are whole numbers, all of them up to 16: odd and even ones differ where keys
    share a mean, since an even number of equal rivals may cancel. Of the active share they are n/K,
    for a key has a whole number n of ones. Along noise and likeness 33 places stand for all.

    Args:
        measured: as `fwbio.analyses.capacity.capacity` makes it.
    """
    config = measured.attrs["config"]
    axis = config["axis"]
    low, high = float(measured[axis].min()), float(measured[axis].max())
    if axis == "pairs":
        every = np.arange(low, min(high, _EVERY_PAIR) + 1)
        return [float(x) for x in np.union1d(every, np.geomspace(low, high, _LOADS).round())]
    if axis == "active":
        pre = config["sizes"].get("pre", _PRE)
        ones = [active_ones(share, pre) for share in (low, high)]
        return [n / pre for n in range(ones[0], ones[1] + 1)]
    return [float(x) for x in np.linspace(low, high, _PLACES)]


def as_shown(measured: xr.Dataset) -> xr.Dataset:
    """The same at the places along its axis that were really run: of the active share n/K.

    Args:
        measured: as `fwbio.analyses.capacity.capacity` makes it.
    """
    config = measured.attrs["config"]
    if config["axis"] != "active":
        return measured
    pre = config["sizes"].get("pre", _PRE)
    shares = [active_ones(share, pre) / pre for share in measured.active.values]
    return measured.assign_coords(active=("active", shares, measured.active.attrs))


def deviations(measured: xr.Dataset) -> xr.Dataset:
    """How far measured points are from the closed forms, in standard errors.

        z = (measured - theory) / se

    Of shares (accuracy, wrong signs) the standard error is at least that of independent draws of
    the theory's own share, so that a share that was 1 in every trial is judged too. Standard errors
    of few trials are themselves uncertain: z then follows Student's t with trials - 1 degrees.
    Where trials don't differ, and not from the theory either, z is 0; infinite where they do.

    Args:
        measured: as `fwbio.analyses.capacity.capacity` makes it.

    Returns:
        z of every measure by (programmer, substrate, rule, axis), for substrates that follow the
        rule exactly; NaN where no closed form exists or nothing was run.
    """
    config = measured.attrs["config"]
    must = theory(measured)
    following = [s for s in measured.substrate.values if s in FOLLOWING]
    here = measured.sel(substrate=following)
    pairs = here[config["axis"]] if config["axis"] == "pairs" else config["pairs"]
    cues = here.trials * pairs
    found = {}
    for name, line in must.data_vars.items():
        error = here[f"{name}_se"]
        if name in {"recall_accuracy", "bit_error"}:
            draws = cues * (config["sizes"].get("post", _POST) if name == "bit_error" else 1)
            share = line.clip(0, 1)
            error = np.maximum(error, np.sqrt(share * (1 - share) / draws))
        gap = here[name] - line
        with np.errstate(divide="ignore", invalid="ignore"):
            off = gap / error
        z = xr.where(np.abs(gap) < 1e-9, 0 * gap, off)
        words = f"{MEASURES[str(name)][1]}, standard errors off"
        found[name] = label(z.transpose(*here[name].dims), words)
    return xr.Dataset(found)


def _point(
    config: Mapping[str, Any], programmer: str, rule: Rule, value: float, approximate: bool
) -> Mapping[str, float]:
    """The closed forms at one point; empty where there are none."""
    sizes = {"pairs": config["pairs"], "noise": config["noise"], **config["sizes"]}
    sizes[config["axis"]] = value
    code = config["code"]
    overlaps = _overlaps(config, programmer, sizes)
    if overlaps is None or not _known(rule, overlaps) or config["task"] != "random_pairs":
        return {}
    pairs, gap, post = int(sizes["pairs"]), sizes.get("gap", 0), sizes.get("post", _POST)
    decay = _decay(rule, code)
    whole = np.arange(gap + 1, gap + 1 + (1 if decay == 1 else pairs))
    waits = whole
    if rule.terms.readout == "ridge":  # slow, and smooth: between some of them straight lines do
        waits = np.unique(np.linspace(whole[0], whole[-1], _READS).round().astype(int))
    reads = [_coefficients(rule, overlaps, pairs, code, decay, int(wait)) for wait in waits]
    sums = rule.terms.erase == "none" and rule.terms.readout == "weights"
    moments = [_moments(g) for g in reads]
    found = {name: _mean_of(moments, name, waits, whole) for name in MOMENTS}
    if not (sums or approximate):
        return found
    if overlaps.ones is None or overlaps.ones >= _FEW_ONES:
        found = dict(expected(reads[len(reads) // 2], post)) | found
    if sums and decay == 1 and sizes["noise"] == 0 and overlaps.isotropic:
        found["bit_error"] = sign_bit_error_of_few(pairs, overlaps.pre)
    if overlaps.ones is not None:
        found.pop("bit_error", None)
        if sums and decay == 1:
            found["bit_error"] = sign_bit_error_of_binary(pairs, overlaps.pre, overlaps.ones)
    return found


def _mean_of(
    moments: list[Mapping[str, float]], name: str, waits: np.ndarray, whole: np.ndarray
) -> float:
    return float(np.interp(whole, waits, [found[name] for found in moments]).mean())


def _moments(g: Coefficients) -> Mapping[str, float]:
    return {
        "signal": float(g.own_mean.mean()),
        "noise_power": float(g.noise.mean()),
        "residual": float((1 - 2 * g.own_mean + g.own_square + g.noise).mean()),
    }


def _known(rule: Rule, overlaps: Overlaps) -> bool:
    """Whether a rule's coefficients have moments in closed form."""
    terms = rule.terms
    plain = (
        terms.decay in {"none", "scalar"}
        and terms.write == "scalar"
        and terms.feature == "identity"
        and terms.normaliser == "none"
        and terms.plasticity == "product"
        and not (terms.substeps or terms.transposed)
    )
    simple = terms.erase == "none" and terms.readout == "weights"
    return plain and (simple or (terms.erase in {"none", "key"} and overlaps.isotropic))


def _overlaps(
    config: Mapping[str, Any], programmer: str, sizes: Mapping[str, Any]
) -> Overlaps | None:
    """The overlaps of a code, where they are known."""
    if programmer == "trained" or "coding" in config["code"]:
        return None
    keys = KEYS.get(config["axis"], sizes.get("keys", "gaussian"))
    pre, noise = sizes.get("pre", _PRE), float(sizes["noise"])
    plain = programmer == "direct"
    if keys == "gaussian":
        return isotropic(pre, noise=noise) if plain else on_off(pre, noise=noise)
    if keys == "correlated":
        similarity = float(sizes.get("similarity", _SIMILARITY))
        if plain:
            return correlated(pre, similarity, noise=noise)
        return correlated_on_off(pre, similarity) if noise == 0 else None
    if keys == "sparse" and noise == 0:
        return sparse(pre, float(sizes.get("active", _ACTIVE)))
    return None


def _decay(rule: Rule, code: Mapping[str, Any]) -> float:
    if rule.terms.decay == "none":
        return 1.0
    if rule.default_decay_offset is not None:
        return float(1 - 2.0**-rule.default_decay_offset)
    return float(np.exp(-1 / code.get("time_constant", _TIME_CONSTANT)))


def _coefficients(
    rule: Rule, overlaps: Overlaps, pairs: int, code: Mapping[str, Any], decay: float, wait: int
) -> Coefficients:
    strength = float(code.get("strength", 1.0))
    if rule.terms.readout == "ridge":
        ridge = float(code.get("ridge", 1.0))
        return least_squares(
            overlaps, pairs, strength=strength, decay=decay, wait=wait, ridge=ridge
        )
    if rule.terms.erase == "none":
        return sum_rule(overlaps, pairs, strength=strength, decay=decay, wait=wait)
    solved = {
        "explicit": strength,
        "implicit": strength / (1 + strength),
        "flow": -np.expm1(-strength),
    }
    step = float(solved[rule.terms.solve])
    return delta_rule(overlaps, pairs, strength=step, decay=decay, wait=wait)
