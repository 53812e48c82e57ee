"""What the numbers of an identification mean: its constants, their units, and what is taken."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import xarray as xr

from fwbio.analyses.identification.answer import Candidate, Identification, Parameter
from fwbio.analyses.identification.data import Recording, from_record
from fwbio.data import entries
from fwbio.rule import DEFAULTS, TIMED, VOLLEYS
from fwbio.rules import RULES

ARBITRARY = "a.u."
TIME = "time_constant"
DERIVED = frozenset({"half_life", TIME})  # of the decay, which is what was fitted
MEANINGS: Mapping[str, str] = MappingProxyType(
    {
        "decay": "share of a weight that is left after a step, 1 for no decay",
        "half_life": "steps after which half is left",
        TIME: "seconds after which 1/e is left, by the recording's `interval`",
        "decay_factor": "factor on the recorded log_decay",
        "beta": "strength of writing, or of rules that correct errors the share of the error that"
        " a key of length 1 corrects",
        "erase": "share of what a key of length 1 reads that is erased before writing",
        "erase_factor": "factor on the recorded erase",
        "ridge": "penalty of the regression that reads",
        "theta_p": "key times error above which weights grow",
        "theta_d": "key times error below minus which weights shrink",
        "scale": "one unit of the rule's weights in the unit of the recording",
    }
)
START = {
    "zero": "zero",
    "given": "as the file gives it",
    "observed": "as first observed, later steps are explained",
}
# of each plasticity, the tables and prefixes of the constants that its steps read
_READ: Mapping[str, tuple[tuple[str, str], ...]] = MappingProxyType(
    {
        "bcm": (("plasticity", "bcm_tau_"),),
        "covariance": (("plasticity", "covariance_tau_"),),
        "pairs": (("plasticity", "pair_tau_"), ("plasticity", "pair_depression")),
        "triplets": (("plasticity", "triplet_"),),
        "voltage": (
            *(("plasticity", f"clopath_{name}") for name in ("a_", "theta_", "tau_minus")),
            *(("plasticity", f"clopath_{name}") for name in ("tau_plus", "tau_x")),
            ("volleys", "hold"),
            ("volleys", "swing"),
        ),
        "release": (("short_term", "mongillo_"),),
        "dendritic": (("plasticity", "dendritic_phi_"), ("plasticity", "dendritic_g_")),
        "calcium": (
            ("plasticity", "theta_"),
            *(("plasticity", f"cortical_slice_{name}") for name in ("tau", "delay")),
            *(("plasticity", f"cortical_slice_{name}") for name in ("c_", "gamma_")),
        ),
        "calcium_control": (
            *(("plasticity", f"shouval_{name}") for name in ("omega_", "rate_", "magnesium")),
            *(("plasticity", f"shouval_{name}") for name in ("rest", "v_calcium", "g_nmda")),
            *(("plasticity", f"shouval_{name}") for name in ("calcium_decay", "open_fraction")),
            ("volleys", "shouval_swing"),
        ),
    }
)


def in_units(answer: Identification, record: Recording | xr.Dataset) -> Identification:
    """The answer with its constants as quantities of the synapse that was recorded.

        tau = interval half_life / ln 2

    `scale` is in the unit of the weights, and so is `beta` of rules that have no scale, unless
    weights were taken to be in the rule's own unit; "a.u." where the recording names none. Where
    all steps are equally long, a decay has its `time_constant` tau beside it, in seconds.

    Args:
        answer: of `fwbio.analyses.identification.identify`; one that was in units stays as it is.
        record: what it is about.

    Raises:
        FwbioError: the dataset is no recording.
    """
    recording = record if isinstance(record, Recording) else from_record(record)
    units = recording.weight_units if answer.observed == "weights" else recording.readout_units
    carried = units if units not in {"", "1"} else ARBITRARY
    interval = _even_interval(recording)
    made = []
    for candidate in answer.candidates:
        names = [p.name for p in candidate.parameters]
        carries = ("scale" if "scale" in names else "beta") if answer.scale == "fitted" else None
        told = [
            replace(p, units=carried) if p.name == carries and p.units == "1" else p
            for p in candidate.parameters
        ]
        if interval is not None and TIME not in names:
            told = [each for p in told for each in _timed(p, interval)]
        made.append(replace(candidate, parameters=tuple(told)))
    return replace(answer, candidates=tuple(made))


def _even_interval(recording: Recording) -> float | None:
    """The seconds from step to step, where they are given and all the same."""
    given = recording.presented.get("interval")
    if given is None:
        return None
    first = float(np.ravel(given)[0])
    return first if np.allclose(given, first, rtol=1e-6, atol=0) else None


def _timed(parameter: Parameter, interval: float) -> tuple[Parameter, ...]:
    """A half-life in steps with the time constant that it is, or any other constant alone."""
    if parameter.name != "half_life":
        return (parameter,)
    value, low, high = (
        np.asarray(end * interval / math.log(2))
        for end in (parameter.value, parameter.low, parameter.high)
    )
    tau = replace(parameter, name=TIME, value=value, low=low, high=high, units="s")
    return (parameter, tau)


def taken(answer: Identification, recording: Recording) -> dict[str, dict[str, Any]]:
    """Constants that the rules of the answer, or the nearest, have from the literature, not fitted.

    Args:
        answer: of `fwbio.analyses.identification.identify`.
        recording: what it is about.

    Returns:
        Rule to name to `value`, `unit` and `meaning`; rules without such constants are left out.
    """
    found = {rule: _taken(rule, recording) for rule in _said(answer) if rule in RULES}
    return {rule: constants for rule, constants in found.items() if constants}


def _said(answer: Identification) -> Sequence[str]:
    fitted = [c.rule for c in answer.candidates if c.refused is None]
    return answer.rules or fitted[:1]


def _taken(rule: str, recording: Recording) -> dict[str, Any]:
    plasticity = RULES[rule].terms.plasticity
    read = _READ.get(plasticity, ())
    found = {
        name: {key: entry[key] for key in ("value", "unit", "meaning")}
        for table, prefix in read
        for name, entry in entries(table).items()
        if name.startswith(prefix)
    }
    volleys = entries("volleys")
    if plasticity in VOLLEYS - {"release", "calcium_control"}:
        meaning = "from a row's key to its value, so that both of one row are causal"
        found["lead"] = {"value": volleys["lead"]["value"], "unit": "s", "meaning": meaning}
    if plasticity in TIMED and "interval" not in recording.presented:
        meaning = "from step to step, for the recording has no `interval`"
        found["interval"] = {"value": DEFAULTS["interval"], "unit": "s", "meaning": meaning}
    return found


def share(explained: float) -> str:
    """A share as per cent, with as many digits as tell it from all.

    >>> share(0.5), share(0.99962), share(1.0), share(float("nan"))
    ('50.0 %', '99.96 %', '100 %', '–')
    """
    if math.isnan(explained):
        return "\N{EN DASH}"
    left = 1 - explained
    if left < 1e-6:
        return "100 %"
    digits = 1 if left >= 0.005 else -math.floor(math.log10(100 * left))
    return f"{100 * explained:.{max(digits, 1)}f} %"


def notes(answer: Identification, recording: Recording, shown: Sequence[Candidate]) -> list[str]:
    """What to know beside the table: one line each.

    Args:
        answer: of `fwbio.analyses.identification.identify`.
        recording: what it is about.
        shown: the candidates whose constants the table has, the one of the answer first.
    """
    names = {p.name for c in shown for p in c.parameters}
    units = {p.units for c in shown for p in c.parameters}
    made = [f"{name.replace('_', ' ')}: {MEANINGS[name]}" for name in MEANINGS if name in names]
    if math.isfinite(shown[0].explainable):
        noise = "what is not noise of observing, at most: all that a rule can explain"
        made.insert(0, f"explainable: {share(shown[0].explainable)}, {noise}")
    if ARBITRARY in units:
        made.append(f"{ARBITRARY}: the unit of the recording, which it does not name")
    if answer.observed == "weights":
        made.append(f"weights before the first step: {START[answer.start]} (see --initial)")
    for rule, constants in taken(answer, recording).items():
        told = ", ".join(f"{name} {_told(entry)}" for name, entry in constants.items())
        made.append(f"taken, not fitted, of {rule}: {told}")
    if recording.post > 1 and "oja" in _said(answer):
        made.append("oja: of several postsynaptic channels it is Oja's subspace rule")
    return made


def _told(entry: Mapping[str, Any]) -> str:
    unit = "" if entry["unit"] == "1" else f" {entry['unit']}"
    return f"{entry['value']:.4g}{unit}"
