"""Time scales: which process of a synapse a time constant may stand for, and which it may not."""

from dataclasses import dataclass
from math import log

from fwbio.data import entries
from fwbio.errors import FwbioError, unknown_name
from fwbio.table import Table


@dataclass(frozen=True)
class TimeScale:
    """The time constants that a process of loss may have.

    Args:
        name: of the preset.
        low: shortest time constant, s.
        high: longest time constant, s.
        process: what it is, in words.
        source: of both ends.
    """

    name: str
    low: float
    high: float
    process: str
    source: str


def _scale(name: str, process: str) -> TimeScale:
    table = entries("turnover")
    low, high = table[f"{name}_low"], table[f"{name}_high"]
    source = "; ".join(dict.fromkeys([low["source"], high["source"]]))
    return TimeScale(name, low["value"], high["value"], process, source)


PRESETS: Table[TimeScale] = Table(
    {
        name: _scale(name, process)
        for name, process in (
            ("receptor_kinetics", "receptor kinetics"),
            ("short_term_plasticity", "short-term plasticity"),
            ("calcium_plasticity", "calcium-driven plasticity"),
            ("trafficking", "receptor trafficking"),
            ("protein_turnover", "protein turnover"),
        )
    },
    kind="process",
    name="fwbio.models.time_scales.PRESETS",
)
"""The processes by which a weight may be lost, fastest first."""


def time_scale(tau: float) -> tuple[TimeScale, ...]:
    """The presets that a time constant may stand for: none, one, or two where they overlap.

    Args:
        tau: s.
    """
    return tuple(scale for scale in PRESETS.values() if scale.low <= tau <= scale.high)


def require_scale(tau: float, preset: str, where: str = "tau") -> TimeScale:
    """The preset, if it may have this time constant.

    Args:
        tau: s.
        preset: a name of `PRESETS`.
        where: what the time constant is called, for the error.

    Raises:
        FwbioError: there is no such preset, or a process of that name does not take that long.
    """
    if preset not in PRESETS:
        raise unknown_name(preset, PRESETS, kind="time scale", where=where)
    wanted = PRESETS[preset]
    if wanted.low <= tau <= wanted.high:
        return wanted
    fitting = " or ".join(scale.process for scale in time_scale(tau))
    raise FwbioError(
        f"{_duration(tau)} is no {wanted.process}, which takes {_duration(wanted.low)} to"
        f" {_duration(wanted.high)}",
        where=where,
        mend=f"it may stand for {fitting}" if fitting else "no process of PRESETS takes that long",
    )


def _duration(seconds: float) -> str:
    """A time in the unit that a reader would choose: 172800 is 2 days."""
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0)):
        if seconds >= length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds * 1e3:.3g} ms"


def half_life(tau: float) -> float:
    """The time, in the unit of `tau`, after which half of a decay e^(-t / tau) is left."""
    return tau * log(2)


def from_half_life(half: float) -> float:
    """The time constant, in the unit of `half`, of a decay of this half-life."""
    return half / log(2)
