"""Plasticity by the level of calcium through NMDA receptors: Shouval, Bear & Cooper 2002."""

from dataclasses import dataclass
from typing import Any

import brian2 as b2
import numpy as np
from scipy.signal import lfilter

from fwbio.data import constants
from fwbio.models.parameters import check, within
from fwbio.models.synapse import PlasticSynapse

_CONSTANTS = constants("plasticity")
_S = {n.removeprefix("shouval_"): v for n, v in _CONSTANTS.items() if n.startswith("shouval_")}
_GRID = 5e-5
_FALL = 15


@dataclass(frozen=True, kw_only=True)
class Shouval:
    """A weight that calcium through NMDA receptors draws to a target, at a rate of its own.

        tau(Ca) dw/dt = Omega(Ca) - w
        Omega(Ca) = rest + sig(Ca - high) - rest sig(Ca - low),   sig(x) = 1 / (1 + e^(-slope x))
        tau(Ca) = p1 / (p2 + Ca^3) + p4
        dCa/dt = g_nmda (fast + slow) B(V) (v_calcium - V) - Ca / tau_ca
        B(V) = 1 / (1 + [Mg] / 3.57 mM e^(-V / 16.1 mV))
        V = v_rest + EPSP + BPAP

    Below `omega_low` the target is the resting weight, and it is approached in hours: no change.
    From there to `omega_high` it is near 0: depression. Above, it is near 1: potentiation.

    A presynaptic spike opens a share `open_fraction` of the receptors that are closed, and adds an
    EPSP (decay minus rise); a postsynaptic one brings a back-propagating action potential of two
    exponentials, the last one alone counting. How spikes add up is our reading of the paper.

    Args:
        omega_low, omega_high: calcium at the edges of the region of depression, umol/L.
        omega_slope: slope of both edges, per umol/L.
        omega_rest: the target at rest, dimensionless.
        rate_p1, rate_p2, rate_p4: of the time constant, s, 1 and s (calcium in umol/L).
        open_fraction: share of the closed receptors that a spike opens.
        nmda_fast_share: share of the fast component of their current.
        tau_nmda_fast, tau_nmda_slow: decays of both components, s.
        g_nmda: influx of calcium through open receptors, umol/L per V and s.
        v_calcium: reversal potential of calcium, V.
        calcium_decay: tau_ca, s.
        magnesium: outside the cell, mmol/L.
        v_rest: resting potential, V; a voltage clamp's, where `epsp` is 0 and nothing fires.
        bpap: height of a back-propagating action potential, V.
        bpap_fast_share: share of its fast component.
        tau_bpap_fast, tau_bpap_slow: decays of both components, s.
        bpap_delay: until it arrives, s.
        epsp: height of an EPSP, V.
        tau_epsp_rise, tau_epsp_decay: its time constants, s.

    Raises:
        FwbioError: a parameter is out of range, or two of a pair are in the wrong order.

    Source: Shouval, Bear & Cooper 2002, 10.1073/pnas.152343099; magnesium block of Jahr &
    Stevens 1990.
    """

    omega_low: float = _S["omega_low"]
    omega_high: float = _S["omega_high"]
    omega_slope: float = _S["omega_slope"]
    omega_rest: float = within(_S["omega_rest"], high=1.0)
    rate_p1: float = _S["rate_p1"]
    rate_p2: float = _S["rate_p2"]
    rate_p4: float = _S["rate_p4"]
    open_fraction: float = within(_S["open_fraction"], high=1.0)
    nmda_fast_share: float = within(_S["nmda_fast_share"], high=1.0)
    tau_nmda_fast: float = _S["tau_nmda_fast"]
    tau_nmda_slow: float = _S["tau_nmda_slow"]
    g_nmda: float = within(_S["g_nmda"])
    v_calcium: float = _S["v_calcium"]
    calcium_decay: float = _S["calcium_decay"]
    magnesium: float = within(_S["magnesium"])
    v_rest: float = _S["rest"]
    bpap: float = within(_S["bpap"])
    bpap_fast_share: float = within(_S["bpap_fast_share"], high=1.0)
    tau_bpap_fast: float = _S["tau_bpap_fast"]
    tau_bpap_slow: float = _S["tau_bpap_slow"]
    bpap_delay: float = within(_S["bpap_delay"])
    epsp: float = within(_S["epsp"])
    tau_epsp_rise: float = _S["tau_epsp_rise"]
    tau_epsp_decay: float = _S["tau_epsp_decay"]

    def __post_init__(self) -> None:
        check(self, "Shouval")

    def faults(self) -> list[tuple[str, str]]:
        """Combinations of parameters that make no such synapse, each with its mend."""
        pairs = ("omega_low", "omega_high"), ("tau_epsp_rise", "tau_epsp_decay")
        return [
            (f"{low} is not below {high}", "exchange them")
            for low, high in pairs
            if not getattr(self, low) < getattr(self, high)
        ]

    def omega(self, calcium: np.ndarray) -> np.ndarray:
        """The weight's target Omega at a level of calcium (any shape), umol/L."""
        high, low = (
            1 / (1 + np.exp(-self.omega_slope * (np.asarray(calcium) - edge)))
            for edge in (self.omega_high, self.omega_low)
        )
        return self.omega_rest + high - self.omega_rest * low

    def time_constant(self, calcium: np.ndarray) -> np.ndarray:
        """The weight's time constant tau, s, at a level of calcium (any shape), umol/L."""
        return self.rate_p1 / (self.rate_p2 + np.asarray(calcium) ** 3) + self.rate_p4

    def relaxed(self, calcium: np.ndarray, duration: float, w: float) -> np.ndarray:
        """The weight after a constant level of calcium: Omega + (w - Omega) e^(-T / tau).

        Args:
            calcium: any shape, umol/L.
            duration: T, s.
            w: the weight at first.
        """
        target = self.omega(calcium)
        return target + (w - target) * np.exp(-duration / self.time_constant(calcium))

    def block(self, v: np.ndarray) -> np.ndarray:
        """The share B of NMDA receptors free of magnesium at a potential (any shape), V."""
        blocked = self.magnesium / _S["magnesium_scale"] * np.exp(-_S["magnesium_slope"] * v)
        return 1 / (1 + blocked)

    def synapse(self) -> PlasticSynapse:
        """The model in Brian2's notation: weight `w`, calcium `ca`, spine potential `v_spine`.

        `v_rest` and `epsp` are variables of the synapse. Brian2 rounds `bpap_delay` to a whole
        number of time steps.
        """
        equations = """
            dw/dt = (omega - w) / (p1 / (p2 + ca**3) + p4) : 1 (clock-driven)
            omega = rest + 1 / (1 + exp(-slope * (ca - high)))
                    - rest / (1 + exp(-slope * (ca - low))) : 1
            dca/dt = influx - ca / tau_ca : 1 (clock-driven)
            influx = g_nmda * (fast + slow) * (v_calcium - v_spine) / (1 + blocked) : Hz
            blocked = magnesium * exp(-mg_slope * v_spine) : 1
            v_spine = v_rest + epsp * peak * (decaying - rising) + bpap * (spike + after) : volt
            dfast/dt = -fast / tau_fast : 1 (clock-driven)
            dslow/dt = -slow / tau_slow : 1 (clock-driven)
            ddecaying/dt = -decaying / tau_decay : 1 (clock-driven)
            drising/dt = -rising / tau_rise : 1 (clock-driven)
            dspike/dt = -spike / tau_spike : 1 (clock-driven)
            dafter/dt = -after / tau_after : 1 (clock-driven)
            v_rest : volt (constant)
            epsp : volt (constant)
        """
        on_pre = """
            opened = open_fraction * (1 - fast - slow)
            fast += fast_share * opened
            slow += (1 - fast_share) * opened
            decaying += 1
            rising += 1
        """
        return PlasticSynapse(
            rule="shouval",
            equations=equations,
            on_pre={"pre": on_pre},
            on_post={"post": "spike = spike_share\nafter = 1 - spike_share"},
            delays={"post": self.bpap_delay},
            namespace=self._namespace(),
            initial={
                "w": self.omega_rest,
                "v_rest": self.v_rest * b2.volt,
                "epsp": self.epsp * b2.volt,
            },
            method="rk2",
        )

    def steady_calcium(self, frequency: float, lag: float | None = None) -> np.ndarray:
        """One period of calcium when spikes repeat for ever, from the presynaptic one on, umol/L.

        Every exponential of the drive is summed over all earlier spikes exactly; calcium's own
        equation is linear, and is integrated by trapezia of 0.05 ms at most.

        Args:
            frequency: of the spikes, Hz.
            lag: post minus pre, s; None where the postsynaptic cell is silent.
        """
        period = 1 / frequency
        t = np.linspace(0, period, int(np.ceil(period / _GRID)) + 1)
        risen = self._risen(t, period, lag, last=False)
        at_first = risen[-1] / -np.expm1(-period / self.calcium_decay)
        return risen + at_first * np.exp(-t / self.calcium_decay)

    def repeated(self, frequency: float, repeats: int, lag: float | None = None) -> float:
        """The weight after spikes repeated so often, over the resting one it started from.

        With periodic calcium, w is mapped linearly once a period: w <- A w + B, where
        A = exp(-integral of 1 / tau) and B = integral of Omega / tau times what remains after it.
        After the last spikes calcium falls, through the region of depression if it was above.

        Args:
            frequency: of the spikes, Hz.
            repeats: number of presynaptic spikes.
            lag: post minus pre, s; None where the postsynaptic cell is silent.
        """
        period = 1 / frequency
        calcium = self.steady_calcium(frequency, lag)
        kept, added = self._mapped(calcium, period / (calcium.size - 1))
        end = added / (1 - kept)
        w = end + (self.omega_rest - end) * kept ** (repeats - 1)
        falling = period + _FALL * max(self.tau_nmda_slow, self.calcium_decay)
        t = np.linspace(0, falling, int(np.ceil(falling / _GRID)) + 1)
        last = calcium[0] * np.exp(-t / self.calcium_decay)
        kept, added = self._mapped(last + self._risen(t, period, lag, last=True), t[1])
        return float((kept * w + added) / self.omega_rest)

    def _namespace(self) -> dict[str, Any]:
        s, V = b2.second, b2.volt
        return {
            "slope": self.omega_slope,
            "high": self.omega_high,
            "low": self.omega_low,
            "rest": self.omega_rest,
            "p1": self.rate_p1 * s,
            "p2": self.rate_p2,
            "p4": self.rate_p4 * s,
            "g_nmda": self.g_nmda / (V * s),
            "v_calcium": self.v_calcium * V,
            "tau_ca": self.calcium_decay * s,
            "magnesium": self.magnesium / _S["magnesium_scale"],
            "mg_slope": _S["magnesium_slope"] / V,
            "peak": 1 / self._peak,
            "bpap": self.bpap * V,
            "tau_fast": self.tau_nmda_fast * s,
            "tau_slow": self.tau_nmda_slow * s,
            "tau_decay": self.tau_epsp_decay * s,
            "tau_rise": self.tau_epsp_rise * s,
            "tau_spike": self.tau_bpap_fast * s,
            "tau_after": self.tau_bpap_slow * s,
            "open_fraction": self.open_fraction,
            "fast_share": self.nmda_fast_share,
            "spike_share": self.bpap_fast_share,
        }

    @property
    def _peak(self) -> float:
        rise, decay = self.tau_epsp_rise, self.tau_epsp_decay
        at = np.log(decay / rise) * rise * decay / (decay - rise)
        return float(np.exp(-at / decay) - np.exp(-at / rise))

    def _open(self, t: np.ndarray, period: float) -> np.ndarray:
        taus = np.array([self.tau_nmda_fast, self.tau_nmda_slow])
        shares = np.array([self.nmda_fast_share, 1 - self.nmda_fast_share])
        left = np.exp(-period / taus)
        # after a spike: x = left x + open_fraction shares (1 - sum(left x))
        system = np.eye(2) - np.diag(left) + self.open_fraction * np.outer(shares, left)
        return np.linalg.solve(system, self.open_fraction * shares) @ np.exp(-t / taus[:, None])

    def _risen(self, t: np.ndarray, period: float, lag: float | None, *, last: bool) -> np.ndarray:
        v = self._potential(t, period, lag, last=last)
        drive = self.g_nmda * self._open(t, period) * self.block(v) * (self.v_calcium - v)
        h = t[1]
        kept = np.exp(-h / self.calcium_decay)
        steps = h * (drive[:-1] * kept + drive[1:]) / 2
        return np.concatenate([[0.0], lfilter([1.0], [1.0, -kept], steps)])

    def _mapped(self, calcium: np.ndarray, h: float) -> tuple[float, float]:
        middle = (calcium[1:] + calcium[:-1]) / 2
        rate = h / self.time_constant(middle)
        remaining = np.exp(np.cumsum(rate) - rate.sum())
        added = (self.omega(middle) * -np.expm1(-rate) * remaining).sum()
        return float(np.exp(-rate.sum())), float(added)

    def _potential(
        self, t: np.ndarray, period: float, lag: float | None, *, last: bool
    ) -> np.ndarray:
        decaying, rising = (
            np.exp(-t / tau) / -np.expm1(-period / tau)
            for tau in (self.tau_epsp_decay, self.tau_epsp_rise)
        )
        v = self.v_rest + self.epsp / self._peak * (decaying - rising)
        if lag is None:
            return v
        since = t - lag - self.bpap_delay
        since = np.where(since < 0, since + period, since) if last else since % period
        spike = self.bpap_fast_share * np.exp(-since / self.tau_bpap_fast)
        after = (1 - self.bpap_fast_share) * np.exp(-since / self.tau_bpap_slow)
        return v + self.bpap * (spike + after)
