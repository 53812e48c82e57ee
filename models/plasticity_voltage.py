"""Plasticity by the postsynaptic voltage, and the cell that its constants were fitted with."""

from collections import deque
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fwbio.data import constants
from fwbio.errors import FwbioError, unknown_name
from fwbio.models.parameters import check, within
from fwbio.models.synapse import PlasticSynapse

_TIMING = constants("plasticity")
AMPLITUDES = ("fixed", "sliding")


@dataclass(frozen=True, kw_only=True)
class Clopath:
    """Synapses that read the postsynaptic voltage: spikes of the cell need not be told to them.

        at a presynaptic spike    w <- w - a_ltd [u_minus - theta_minus]+;   x += 1 / tau_x
        always                    dw/dt = a_ltp x [v - theta_plus]+ [u_plus - theta_minus]+

    with u_minus and u_plus the voltage v filtered over tau_minus and tau_plus and read `delay` ago,
    so that an action potential does not see itself, x a decaying trace, and w within 0 and w_max.
    A sliding amplitude is a_ltd u_square / u_square_ref, where u_square is (v - rest)^2 filtered
    over tau_bar. Integrated by steps of the simulation's clock, weights by midpoint, the filters by
    Euler; what is past w_max by the last step of potentiation is not taken back.

    Args:
        a_ltd: amplitude of depression, 1/V.
        a_ltp: amplitude of potentiation, 1/V^2.
        v_theta_minus: filtered voltage above which synapses are plastic, V.
        v_theta_plus: voltage above which they are potentiated, V.
        tau_minus, tau_plus: filters of the voltage, s.
        tau_x: decay of the presynaptic trace, s.
        delay: age at which filtered voltages are read, s; unless 0, the network needs `delay_line`.
        amplitude: of depression: "fixed" or "sliding".
        u_square_ref: mean square depolarisation at which both are the same, V^2.
        tau_bar: filter of the square depolarisation, s: 1.2 as in the authors' code; ports take
            .5 or 2.4.
        v_rest: what depolarisation counts from, V.
        w_max: the largest weight, 1.

    Raises:
        FwbioError: a number out of its range, thresholds in the wrong order, no such amplitude.

    Source: Clopath, Busing, Vasilaki & Gerstner 2010, 10.1038/nn.2479; constants and delay from
    the authors' code, ModelDB 144566.
    """

    a_ltd: float = within(_TIMING["clopath_a_ltd"])
    a_ltp: float = within(_TIMING["clopath_a_ltp"])
    v_theta_minus: float = _TIMING["clopath_theta_minus"]
    v_theta_plus: float = _TIMING["clopath_theta_plus"]
    tau_minus: float = _TIMING["clopath_tau_minus"]
    tau_plus: float = _TIMING["clopath_tau_plus"]
    tau_x: float = _TIMING["clopath_tau_x"]
    delay: float = within(_TIMING["clopath_delay"])
    amplitude: str = "fixed"
    u_square_ref: float = _TIMING["clopath_u_square_ref"]
    tau_bar: float = _TIMING["clopath_tau_bar"]
    v_rest: float = _TIMING["adex_rest"]
    w_max: float = within(np.inf)

    def __post_init__(self) -> None:
        check(self, "Clopath")
        if self.amplitude not in AMPLITUDES:
            raise unknown_name(self.amplitude, AMPLITUDES, kind="choice", where="amplitude")

    def faults(self) -> list[tuple[str, str]]:
        """Combinations of parameters that make no synapse, each with its mend."""
        if self.v_theta_minus < self.v_theta_plus:
            return []
        low, high = self.v_theta_minus, self.v_theta_plus
        return [
            (
                f"v_theta_minus = {low:g} V is not below v_theta_plus = {high:g} V",
                "depression must begin at a lower voltage than potentiation",
            )
        ]

    def clamped(self, v: ArrayLike) -> np.ndarray:
        """The change of a weight by one presynaptic spike at a voltage held for long.

            -A [v - theta_minus]+ + a_ltp [v - theta_plus]+ [v - theta_minus]+

        with A = a_ltd, or a_ltd (v - rest)^2 / u_square_ref where it slides.

        Args:
            v: the voltage, V, of any shape.
        """
        volts = np.asarray(v, float)
        above = np.maximum(volts - self.v_theta_minus, 0)
        a_ltd: Any = self.a_ltd
        if self.amplitude == "sliding":
            a_ltd = self.a_ltd * (volts - self.v_rest) ** 2 / self.u_square_ref
        return above * (self.a_ltp * np.maximum(volts - self.v_theta_plus, 0) - a_ltd)

    @property
    def crossing(self) -> float:
        """The held voltage, V, above which a fixed amplitude's depression is outweighed."""
        return self.v_theta_plus + self.a_ltd / self.a_ltp

    def synapse(self) -> PlasticSynapse:
        """As Brian2 text; the postsynaptic cell has its voltage in `v`.

        The network also needs `delay_line(cells, dt)`, unless the delay is 0: without it no
        voltage is ever shown to the synapses, and their weights are not a number.
        """
        import brian2 as b2

        sliding = "* u_square_post / u_square_ref" if self.amplitude == "sliding" else ""
        seen = "= {} : volt" if self.delay == 0 else ": volt"
        return PlasticSynapse(
            rule="clopath",
            equations="""
            dw/dt = a_ltp * x * over * before * int(w < w_max) : 1 (clock-driven)
            dx/dt = -x / tau_x : Hz (clock-driven)
            over = (v_post - theta_plus) * int(v_post > theta_plus) : volt
            before = seen_plus_above * int(seen_plus_above > 0 * volt) / shown_post : volt
            seen_plus_above = seen_plus_post - theta_minus : volt
            """,
            on_pre={
                "pre": f"""
                read = (seen_minus_post - theta_minus) * int(seen_minus_post > theta_minus)
                read = read / shown_post
                w = clip(w - a_ltd {sliding} * read, 0, w_max)
                x += 1 / tau_x
                """
            },
            cell=f"""
            du_minus/dt = (v - u_minus) / tau_minus : volt
            du_plus/dt = (v - u_plus) / tau_plus : volt
            du_square/dt = ((v - u_rest)**2 - u_square) / tau_bar : volt**2
            seen_minus {seen.format("u_minus")}
            seen_plus {seen.format("u_plus")}
            shown {"= 1 : 1" if self.delay == 0 else ": 1"}
            """,
            namespace={
                "a_ltd": self.a_ltd / b2.volt,
                "a_ltp": self.a_ltp / b2.volt**2,
                "theta_minus": self.v_theta_minus * b2.volt,
                "theta_plus": self.v_theta_plus * b2.volt,
                "tau_minus": self.tau_minus * b2.second,
                "tau_plus": self.tau_plus * b2.second,
                "tau_x": self.tau_x * b2.second,
                "u_square_ref": self.u_square_ref * b2.volt**2,
                "tau_bar": self.tau_bar * b2.second,
                "u_rest": self.v_rest * b2.volt,
                "w_max": self.w_max,
            },
            method="rk2",
        )

    def delay_line(self, cells: Any, dt: float, *, name: str = "delay_line") -> Any:
        """What shows the cells' filtered voltages to synapses `delay` late; part of the network.

        Args:
            cells: a Brian2 group with the equations of `synapse().cell`, its voltages set.
            dt: the simulation's time step, s.
            name: of the Brian2 object.

        Raises:
            FwbioError: the delay is not a positive number of steps, or a filter is shorter than
                some.
        """
        import brian2 as b2

        shortest = min(self.tau_minus, self.tau_plus, self.tau_x)
        if 2 * dt > shortest:
            raise FwbioError(
                f"steps of {dt:g} s are too long for a time constant of {shortest:g} s",
                where="dt",
                mend=f"give at most {shortest / 2:g} s",
            )
        steps = round(self.delay / dt)
        if steps < 1 or abs(steps * dt - self.delay) > 1e-6 * dt:
            raise FwbioError(
                f"delay = {self.delay:g} s is not a positive number of steps of {dt:g} s",
                where="Clopath",
                mend="choose a dt that divides it; a delay of 0 needs no delay line",
            )
        past: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=steps + 1)
        cells.shown = 1

        def show() -> None:
            past.append((cells.u_minus_[:].copy(), cells.u_plus_[:].copy()))
            cells.seen_minus_, cells.seen_plus_ = past[0]

        return b2.NetworkOperation(show, dt=dt * b2.second, when="start", name=name)


@dataclass(frozen=True, kw_only=True)
class AdExCell:
    """The adaptive exponential cell of the voltage rule, with an afterdepolarisation.

        C dv/dt = -g (v - rest) + g slope e^((v - v_t) / slope) - adaptation + after
        tau_adaptation d(adaptation)/dt = coupling (v - rest) - adaptation

    The threshold v_t returns to v_threshold over tau_threshold, `after` to 0 over tau_after. Past
    v_peak, or once `evoked` is set, v is held at v_spike for `width`, then set to v_reset; the
    adaptation grows by adaptation_jump, `after` becomes after_jump and v_t its value at rest plus
    v_jump.

    Args:
        capacitance: F.
        leak, coupling: S.
        v_rest, v_slope, v_threshold, v_jump, v_peak, v_spike, v_reset: V.
        tau_threshold, tau_adaptation, tau_after: s.
        adaptation_jump, after_jump: A.
        width: of an action potential, s.

    Raises:
        FwbioError: a number out of its range, or voltages in the wrong order.

    Source: Brette & Gerstner 2005, 10.1152/jn.00686.2005; Clopath 2010, 10.1038/nn.2479;
    constants from the authors' code, ModelDB 144566.
    """

    capacitance: float = _TIMING["adex_capacitance"]
    leak: float = _TIMING["adex_leak"]
    v_rest: float = _TIMING["adex_rest"]
    v_slope: float = _TIMING["adex_slope"]
    v_threshold: float = _TIMING["adex_threshold"]
    v_jump: float = _TIMING["adex_threshold_jump"]
    tau_threshold: float = _TIMING["adex_tau_threshold"]
    coupling: float = within(_TIMING["adex_coupling"])
    tau_adaptation: float = _TIMING["adex_tau_adaptation"]
    adaptation_jump: float = within(_TIMING["adex_adaptation_jump"])
    after_jump: float = within(_TIMING["adex_afterdepolarisation"])
    tau_after: float = _TIMING["adex_tau_afterdepolarisation"]
    v_peak: float = _TIMING["adex_peak"]
    v_spike: float = _TIMING["adex_spike"]
    width: float = _TIMING["adex_spike_width"]
    v_reset: float = _TIMING["adex_reset"]

    def __post_init__(self) -> None:
        check(self, "AdExCell")

    def faults(self) -> list[tuple[str, str]]:
        """Combinations of parameters that make no cell, each with its mend."""
        found = []
        if not max(self.v_rest, self.v_reset) < self.v_peak:
            found.append(
                (
                    f"v_peak = {self.v_peak:g} V is not above rest and reset",
                    "give v_rest and v_reset below v_peak",
                )
            )
        if not (self.v_slope > 0 and self.v_rest < self.v_threshold):
            found.append(
                (
                    f"v_slope = {self.v_slope:g} V and v_threshold = {self.v_threshold:g} V make "
                    "no threshold above rest",
                    "give a positive slope and a threshold above v_rest",
                )
            )
        return found

    def group(self, count: int, plastic: PlasticSynapse, dt: float, *, name: str = "cells") -> Any:
        """Cells at rest, stepped by Euler, with what a plastic synapse asks of them.

        Args:
            count: number of cells.
            plastic: whose variables they carry; its filters of voltage start at rest.
            dt: the simulation's time step, s; it divides `width`.
            name: of the Brian2 object.

        Raises:
            FwbioError: dt does not divide the width of an action potential.
        """
        import brian2 as b2

        steps = round(self.width / dt)
        if steps < 1 or abs(steps * dt - self.width) > 1e-6 * dt:
            raise FwbioError(
                f"an action potential of {self.width:g} s is no whole number of steps of {dt:g} s",
                where="dt",
                mend="choose a dt that divides it",
            )
        cells = b2.NeuronGroup(
            count,
            # the exponential is bounded where an action potential has begun anyway
            f"""
            dv/dt = (-leak * (v - v_rest) + leak * v_slope * exp(clip((v - v_t) / v_slope, -50, 20))
                     - adaptation + after) / capacitance * int(left == 0) : volt
            dv_t/dt = (v_threshold - v_t) / tau_threshold : volt
            dadaptation/dt = (coupling * (v - v_rest) - adaptation) / tau_adaptation : amp
            dafter/dt = -after / tau_after : amp
            left : integer
            evoked : 1
            {plastic.cell}
            """,
            threshold="(v > v_peak or evoked > 0) and left == 0",
            reset=f"v = v_spike\nleft = {steps}\nevoked = 0\n{plastic.cell_on_spike}",
            events={"step": "left > 0"},
            method="euler",
            namespace=self._namespace() | dict(plastic.namespace),
            name=name,
        )
        cells.run_on_event(
            "step",
            """
            left -= 1
            v = v_spike * int(left > 0) + v_reset * int(left == 0)
            adaptation += adaptation_jump * int(left == 0)
            after = after * int(left > 0) + after_jump * int(left == 0)
            v_t = v_t * int(left > 0) + (v_threshold + v_jump) * int(left == 0)
            """,
            when="after_resets",
        )
        for variable in ("v", "u_minus", "u_plus", "seen_minus", "seen_plus"):
            if variable in cells.variables and not cells.variables[variable].read_only:
                setattr(cells, variable, self.v_rest * b2.volt)
        cells.v_t = self.v_threshold * b2.volt
        return cells

    def _namespace(self) -> dict[str, Any]:
        import brian2 as b2

        units = {"v": b2.volt, "tau": b2.second}
        found = {
            "leak": self.leak * b2.siemens,
            "coupling": self.coupling * b2.siemens,
            "capacitance": self.capacitance * b2.farad,
            "adaptation_jump": self.adaptation_jump * b2.amp,
            "after_jump": self.after_jump * b2.amp,
        }
        for parameter in fields(self):
            unit = units.get(parameter.name.split("_")[0])
            if unit is not None:
                found[parameter.name] = getattr(self, parameter.name) * unit
        return found
