"""What to measure of the classical memories: sizes, loads, cues and substrates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from fwbio.analyses.substrates import SUBSTRATES
from fwbio.errors import FwbioError, unknown_name

SLOW = MappingProxyType({"gap": 1.0, "dt": 2e-3})
MEASURES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "active_synapses": ("1", "share of synapses that are on"),
        "spurious": ("1", "share of silent units that fire"),
        "missed": ("1", "share of active units that do not fire"),
        "information": ("bits", "information recalled per synapse"),
        "bit_error": ("1", "share of units wrong after one step"),
        "overlap": ("1", "overlap of the settled state with the stored pattern"),
        "settled": ("1", "share of cues that settled"),
    }
)


def _limits() -> Mapping[str, int]:
    return {"reference": 128, "flow": 64, "rate": 64, "spiking": 64}


def _fewer() -> Mapping[str, int]:
    return {"rate": 16, "spiking": 4}


@dataclass(frozen=True, kw_only=True)
class WillshawSweep:
    """Loads and sizes at which to measure Willshaw's memory.

    Args:
        units: N of keys and of values.
        loads: writes per synapse, P M^2 / N^2, increasing.
        active: M of each size; log2 N, rounded, unless given.
        substrates: of "reference", "kernel", "flow", "rate" and "spiking".
        trials: independent memories of each point; trials_on: fewer, the first ones, by substrate.
        most_units: the largest size that a substrate runs; all sizes unless named.
        options: further arguments of a substrate's `execute`, by substrate. Rate and spiking
            synapses get gaps of 1 s: with shorter ones what is left of the last teaching input
            takes weights off their bound.
        seed: of the patterns, and of the synapses' noise.
    """

    units: Sequence[int] = (64, 128, 256, 512)
    loads: Sequence[float] = (0.1, 0.2, 0.3, 0.45, 0.7, 1.0, 1.4)
    active: Sequence[int] = ()
    substrates: Sequence[str] = ("reference", "kernel", "rate", "spiking")
    trials: int = 64
    trials_on: Mapping[str, int] = field(default_factory=_fewer)
    most_units: Mapping[str, int] = field(default_factory=_limits)
    options: Mapping[str, Mapping[str, Any]] = field(
        default_factory=lambda: {"rate": dict(SLOW), "spiking": {"gap": 1.0}}
    )
    seed: int = 0

    def __post_init__(self) -> None:
        _check(self)
        if not self.active:
            object.__setattr__(self, "active", tuple(round(float(np.log2(n))) for n in self.units))
        if len(self.active) != len(self.units):
            raise FwbioError(
                f"{len(self.active)} numbers of active units for {len(self.units)} sizes",
                where="active",
                mend="give one for each size, or none",
            )
        if any(not 1 <= m < n for m, n in zip(self.active, self.units, strict=True)):
            raise FwbioError(
                "a pattern has no such number of active units",
                where="active",
                mend="give numbers from 1 to below the units",
            )

    def pairs(self, units: int, load: float) -> int:
        """P, 2 at least."""
        return max(2, round(load * (units / self.active[list(self.units).index(units)]) ** 2))


@dataclass(frozen=True, kw_only=True)
class HopfieldSweep:
    """Loads, sizes and cues at which to measure Hopfield's memory.

    Args:
        units: N.
        loads: patterns per unit, P / N, increasing.
        flipped: shares of a cue's units that have the other sign.
        cues: patterns of each memory that are cued until it settles; all are for one step.
        sweeps: of all units, after which a state counts as not settled.
        substrates, trials, trials_on, most_units, options, seed: as of `WillshawSweep`.
    """

    units: Sequence[int] = (64, 256, 1024)
    loads: Sequence[float] = (0.05, 0.08, 0.1, 0.11, 0.12, 0.13, 0.14, 0.15, 0.16, 0.18, 0.2)
    flipped: Sequence[float] = (0.0, 0.2)
    cues: int = 8
    sweeps: int = 200
    substrates: Sequence[str] = ("reference", "kernel", "rate", "spiking")
    trials: int = 64
    trials_on: Mapping[str, int] = field(default_factory=_fewer)
    most_units: Mapping[str, int] = field(default_factory=_limits)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"rate": {"dt": 2e-3}})
    seed: int = 0

    def __post_init__(self) -> None:
        _check(self)
        if not self.flipped or any(not 0 <= share <= 0.5 for share in self.flipped):
            raise FwbioError(
                "such a share of a cue can't be flipped",
                where="flipped",
                mend="give shares from 0 to .5",
            )
        if self.cues < 1 or self.sweeps < 1:
            raise FwbioError(
                "nothing is cued", where="cues or sweeps", mend="give whole numbers from 1"
            )

    def pairs(self, units: int, load: float) -> int:
        """P, 2 at least."""
        return max(2, round(load * units))


Sweep = WillshawSweep | HopfieldSweep


def trials_of(sweep: Sweep, substrate: str) -> int:
    """How many trials a substrate runs."""
    return min(sweep.trials, sweep.trials_on.get(substrate, sweep.trials))


def attributes(name: str) -> dict[str, str]:
    """The unit and the long name of a measure."""
    units, words = MEASURES.get(name, ("1", name.replace("_", " ")))
    return {"units": units, "long_name": words}


def _check(sweep: Sweep) -> None:
    for name in sweep.substrates:
        if name not in SUBSTRATES:
            raise unknown_name(name, SUBSTRATES, kind="substrate", where="substrates")
    for name in ("units", "loads", "substrates"):
        if not getattr(sweep, name):
            raise FwbioError("there is none", where=name, mend="give one or more")
    if any(n < 4 for n in sweep.units):
        raise FwbioError("a pattern has too few units", where="units", mend="give 4 or more")
    if any(not load > 0 for load in sweep.loads):
        raise FwbioError("a load must be above 0", where="loads", mend="give numbers above 0")
    if min(sweep.trials, *sweep.trials_on.values(), sweep.trials) < 2:
        raise FwbioError(
            "one trial has no standard error", where="trials", mend="give 2 or more of each"
        )


def sweeps(trials: int, seed: int) -> tuple[WillshawSweep, WillshawSweep, HopfieldSweep]:
    """What `fwbio sweep classical` measures; the second where two active units hold most."""
    few = WillshawSweep(
        units=(32, 64, 128),
        active=(2, 2, 2),
        loads=(0.73,),
        substrates=("kernel",),
        trials=trials,
        seed=seed,
    )
    return (
        WillshawSweep(trials=trials, seed=seed),
        few,
        HopfieldSweep(trials=trials, seed=seed),
    )


def quick_sweeps(seed: int) -> tuple[WillshawSweep, WillshawSweep, HopfieldSweep]:
    """The same of small nets, in some seconds."""
    coarse = {"engine": "numpy", "dt": 5e-3}
    return (
        WillshawSweep(
            units=(16, 32),
            loads=(0.3, 0.7),
            substrates=("reference", "kernel", "rate"),
            trials=8,
            trials_on={"rate": 2},
            most_units={"rate": 16},
            options={"rate": coarse | {"gap": 1.0}},
            seed=seed,
        ),
        WillshawSweep(
            units=(16,), active=(2,), loads=(0.73,), substrates=("kernel",), trials=8, seed=seed
        ),
        HopfieldSweep(
            units=(32, 64),
            loads=(0.1, 0.2),
            substrates=("reference", "kernel", "rate"),
            trials=8,
            trials_on={"rate": 2},
            most_units={"rate": 32},
            options={"rate": coarse},
            seed=seed,
        ),
    )
