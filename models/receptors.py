"""Synaptic receptors: what a spike does to a conductance, in closed form and as Brian2 text.

A receptor called NAME opens a gate s_NAME by its kinetics and passes the current

    I_NAME = g_NAME s_NAME [B_NAME(v)] (e_NAME - v)

into the cell.

| kinetics | equations | at a spike |
| --- | --- | --- |
| exponential | ds/dt = -s / tau | s += w |
| double exponential | ds/dt = (gain x - s) / decay; dx/dt = -x / rise | x += w |
| saturating | ds/dt = -s / decay + alpha x (1 - s); dx/dt = -x / rise | x += 1 |
| two-state | ds/dt = binding T (1 - s) - unbinding s | T = transmitter, for `duration` |

The first two are linear, so one gate a cell holds the sum of all its synapses. The other two
saturate, each synapse by itself: at `site="synapse"` the gate is the synapse's own, and the cell's
total_NAME sums them by weight. In Brian2 a spike of the time step [t, t + dt) acts from t + dt on.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from fwbio.data import constants
from fwbio.errors import FwbioError, unknown_name
from fwbio.models.kinetics import (
    DoubleExponential,
    Exponential,
    Kinetics,
    require_number,
    require_resolved,
)
from fwbio.models.kinetics_saturating import Saturating, TwoState
from fwbio.models.magnesium import MagnesiumBlock, half_block_voltage
from fwbio.table import Table

Site = Literal["cell", "synapse"]

_TABLE = constants("receptors")

__all__ = [
    "RECEPTORS",
    "Composition",
    "DoubleExponential",
    "Exponential",
    "Kinetics",
    "MagnesiumBlock",
    "Receptor",
    "Saturating",
    "TwoState",
    "compose",
    "double_exponential",
    "exponential",
    "half_block_voltage",
    "receptor",
    "require_resolved",
    "saturating",
    "two_state",
]


@dataclass(frozen=True, kw_only=True)
class Receptor:
    """A receptor as Brian2 text; its variables end in its name, so that several share a cell.

    Args:
        name: ends every variable: s_NAME, g_NAME, I_NAME.
        kinetics: how its gate opens and closes, with the closed forms.
        conductance: g_NAME, S, of a gate that is 1; None for a gate alone, without a current.
        reversal: e_NAME, V.
        magnesium: the block of an NMDA receptor.
        site: whether the gate is the cell's, one for all its synapses, or each synapse's own.
        weight: what a spike counts: a number or a variable of the synapse, as Brian2 text.

    Raises:
        FwbioError: a name that can't end a variable, a negative conductance, a weight for a
            saturating gate that all synapses share.
    """

    name: str
    kinetics: Kinetics
    conductance: float | None = None
    reversal: float = _TABLE["e_exc"]
    magnesium: MagnesiumBlock | None = None
    site: Site = "cell"
    weight: str = "1"

    def __post_init__(self) -> None:
        where = f"receptor {self.name!r}"
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", self.name) or self.name.endswith(
            ("_pre", "_post")
        ):
            raise FwbioError(
                "the name can't end a variable of Brian2",
                where=where,
                mend="give letters, digits and underscores, starting with a letter",
            )
        if self.conductance is not None:
            require_number(self.conductance, "conductance", where, zero=True)
        if not np.isfinite(self.reversal):
            raise FwbioError(
                f"reversal = {self.reversal!r} is no potential", where=where, mend="give volts"
            )
        if self.site not in ("cell", "synapse"):
            raise unknown_name(self.site, ("cell", "synapse"), kind="site", where=where)
        if self.site == "cell" and self.weight != "1" and not self.kinetics.linear:
            raise FwbioError(
                "a gate that saturates can't be shared by synapses of unequal weights",
                where=where,
                mend='give site="synapse"',
            )

    @property
    def gate(self) -> str:
        """The equations of the gate, wherever it stands."""
        return self.kinetics.equations.format(n=self.name)

    @property
    def opened(self) -> str:
        """The cell's variable that its conductance multiplies: the gate, or the sum of gates."""
        return f"s_{self.name}" if self.site == "cell" else f"total_{self.name}"

    @property
    def current(self) -> str:
        """The name of its current, or nothing where it has no conductance."""
        return "" if self.conductance is None else f"I_{self.name}"

    @property
    def equations(self) -> str:
        """What the cell needs: the gate or the sum of its synapses' gates, and the current."""
        n, opened = self.name, self.opened
        lines = [self.gate if self.site == "cell" else f"{opened} : 1"]
        if self.current:
            block = f" * B_{n}" if self.magnesium else ""
            lines.append(f"{self.current} = g_{n} * {opened}{block} * (e_{n} - v) : amp")
        if self.current and self.magnesium:
            lines.append(f"B_{n} = 1 / (1 + mg_{n} / mghalf_{n} * exp(-mgslope_{n} * v)) : 1")
        return "\n".join(lines)

    @property
    def synapse(self) -> str:
        """What the synapse needs: nothing, or its own gate, which the cell sums by weight.

        One Synapses object makes the sum, as a second would overwrite it; within a time step the
        cell sees the gates at its start.
        """
        if self.site == "cell":
            return ""
        gate = re.sub(r"(?m)^(d.*)$", r"\1 (clock-driven)", self.gate)
        return f"{gate}\n{self.opened}_post = {self.weight} * s_{self.name} : 1 (summed)"

    @property
    def on_pre(self) -> str:
        """What a presynaptic spike does, as a statement of the synapse."""
        at = "_post" if self.site == "cell" else ""
        return self.kinetics.on_spike.format(n=self.name, at=at, w=self.weight)

    @property
    def method(self) -> str:
        """Brian2's integrator of the gate by itself, exact where there is an exact one."""
        return self.kinetics.method

    @property
    def namespace(self) -> dict[str, Any]:
        """Its constants as Brian2 quantities."""
        import brian2 as b2

        units = {
            "1": 1.0,
            "s": b2.second,
            "1/s": b2.Hz,
            "mM": b2.mmolar,
            "1/(mM s)": 1 / (b2.mmolar * b2.second),
        }
        values = {name: value * units[unit] for name, (value, unit) in self.kinetics.values.items()}
        if self.conductance is not None:
            values |= {"g": self.conductance * b2.siemens, "e": self.reversal * b2.volt}
        if self.conductance is not None and self.magnesium:
            block = self.magnesium
            values |= {"mg": block.mg * b2.mmolar, "mghalf": block.half * b2.mmolar}
            values["mgslope"] = block.slope / b2.volt
        return {f"{name}_{self.name}": value for name, value in values.items()}

    def conducting(
        self,
        conductance: float,
        *,
        reversal: float | None = None,
        magnesium: MagnesiumBlock | None = None,
    ) -> "Receptor":
        """The same receptor with a current.

        Args:
            conductance: of a gate that is 1, S.
            reversal: V; as it was where not given.
            magnesium: its block; as it was where not given.

        Raises:
            FwbioError: the conductance is negative, or the block is none.
        """
        if magnesium is not None and not isinstance(magnesium, MagnesiumBlock):
            raise FwbioError(
                f"magnesium = {magnesium!r} is no block",
                where=f"receptor {self.name}",
                mend="give MagnesiumBlock(), or MagnesiumBlock(mg=...) with mg in mM",
            )
        return replace(
            self,
            conductance=conductance,
            reversal=self.reversal if reversal is None else reversal,
            magnesium=magnesium or self.magnesium,
        )

    def require_resolved(self, dt: float) -> None:
        """Refuse a time step (s) of more than a fifth of one of its time constants.

        Raises:
            FwbioError: it is, naming the time constant.
        """
        require_resolved(dt, self.kinetics.time_constants, where=f"receptor {self.name!r}")


def exponential(name: str, *, tau: float = _TABLE["tau_ampa"], **options: Any) -> Receptor:
    """A receptor that opens at once: s(t) = exp(-t / tau); Wang's AMPA receptor by default.

    Args:
        name: of the receptor.
        tau: decay, s.
        options: as `Receptor`.

    Raises:
        FwbioError: as `Exponential` and `Receptor` say.
    """
    return Receptor(name=name, kinetics=Exponential(tau), **options)


def double_exponential(
    name: str,
    *,
    rise: float = _TABLE["tau_nmda_rise"],
    decay: float = _TABLE["tau_nmda_decay"],
    **options: Any,
) -> Receptor:
    """A receptor that rises and decays to a peak of 1; Wang's NMDA times by default.

    Args:
        name: of the receptor.
        rise: s; equal to `decay`, it gives the alpha function.
        decay: s.
        options: as `Receptor`.

    Raises:
        FwbioError: as `DoubleExponential` and `Receptor` say.
    """
    return Receptor(name=name, kinetics=DoubleExponential(rise, decay), **options)


def saturating(
    name: str,
    *,
    rise: float = _TABLE["tau_nmda_rise"],
    decay: float = _TABLE["tau_nmda_decay"],
    alpha: float = _TABLE["alpha_nmda"],
    **options: Any,
) -> Receptor:
    """A receptor that saturates at 1: ds/dt = -s / decay + alpha x (1 - s); Wang's NMDA receptor.

    Args:
        name: of the receptor.
        rise: decay of x, to which a spike adds 1, s.
        decay: of the gate, s.
        alpha: opening rate, 1/s.
        options: as `Receptor`.

    Raises:
        FwbioError: as `Saturating` and `Receptor` say.
    """
    return Receptor(name=name, kinetics=Saturating(rise, decay, alpha), **options)


def two_state(
    name: str,
    *,
    binding: float = _TABLE["ampa_binding"],
    unbinding: float = _TABLE["ampa_unbinding"],
    transmitter: float = _TABLE["transmitter"],
    duration: float = _TABLE["transmitter_duration"],
    **options: Any,
) -> Receptor:
    """A receptor open or closed, which pulses of transmitter open; Destexhe's AMPA by default.

    Args:
        name: of the receptor.
        binding: 1/(mM s).
        unbinding: 1/s.
        transmitter: in a pulse, mM.
        duration: of a pulse, s.
        options: as `Receptor`.

    Raises:
        FwbioError: as `TwoState` and `Receptor` say.
    """
    kinetics = TwoState(binding, unbinding, transmitter, duration)
    return Receptor(name=name, kinetics=kinetics, **options)


RECEPTORS: Table[Receptor] = Table(
    {
        "ampa": exponential("ampa"),
        "nmda": saturating("nmda", magnesium=MagnesiumBlock(), site="synapse"),
        "gaba": exponential("gaba", tau=_TABLE["tau_gaba"], reversal=_TABLE["e_gaba"]),
        "ampa_two_state": two_state("ampa_two_state", site="synapse"),
        "nmda_two_state": two_state(
            "nmda_two_state",
            binding=_TABLE["nmda_binding"],
            unbinding=_TABLE["nmda_unbinding"],
            magnesium=MagnesiumBlock(),
            site="synapse",
        ),
        "gaba_two_state": two_state(
            "gaba_two_state",
            binding=_TABLE["gaba_binding"],
            unbinding=_TABLE["gaba_unbinding"],
            reversal=_TABLE["e_gaba"],
            site="synapse",
        ),
    },
    kind="receptor",
    name="fwbio.models.receptors.RECEPTORS",
)


def receptor(name: str) -> Receptor:
    """A receptor of the table `RECEPTORS`, without a conductance: give one by `conducting`.

    Raises:
        FwbioError: there is none of that name.
    """
    return RECEPTORS.row(name, where="receptor")


@dataclass(frozen=True, kw_only=True)
class Composition:
    """Several receptors in one cell.

    Args:
        equations: to add to a cell's; the current into the cell is `total`.
        synapse: equations of synapses that have all of the receptors.
        on_pre: what a spike of such a synapse does.
        namespace: constants of all these.
        method: an integrator that suits them: that of the gates where they agree and no current
            joins them to a potential, else "rk4".
    """

    equations: str
    synapse: str
    on_pre: str
    namespace: Mapping[str, Any]
    method: str


def compose(receptors: Iterable[Receptor], *, total: str = "I_syn") -> Composition:
    """Join receptors into the equations of one cell.

        total = sum of I_NAME over the receptors with a conductance

    For synapses with some of the receptors only, take those receptors' own `synapse` and `on_pre`.

    Args:
        receptors: of distinct names.
        total: the name of the summed current.

    Raises:
        FwbioError: there is none, or two share a name, or one's current has the total's.
    """
    chosen = tuple(receptors)
    names = [each.name for each in chosen]
    currents = [each.current for each in chosen if each.current]
    if not chosen:
        raise FwbioError("there is no receptor", where="compose", mend="give at least one")
    if len(set(names)) < len(names) or total in currents:
        raise FwbioError(
            f"two of {', '.join([*names, total])} would have the same variables",
            where="compose",
            mend="give receptors distinct names, and the total another",
        )
    methods = {each.method for each in chosen}
    parts = [each.equations for each in chosen]
    if currents:
        parts.append(f"{total} = {' + '.join(currents)} : amp")
    return Composition(
        equations="\n".join(parts),
        synapse="\n".join(each.synapse for each in chosen if each.synapse),
        on_pre="\n".join(each.on_pre for each in chosen),
        namespace=MappingProxyType({k: v for each in chosen for k, v in each.namespace.items()}),
        method="rk4" if currents or len(methods) > 1 else methods.pop(),
    )
