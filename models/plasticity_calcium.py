"""Plasticity by the time that calcium spends above two thresholds: Graupner & Brunel 2012."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import brian2 as b2
import numpy as np
from scipy.special import erf

from fwbio.data import constants
from fwbio.errors import FwbioError, unknown_name
from fwbio.models.parameters import check, within
from fwbio.models.synapse import PlasticSynapse

_CONSTANTS = constants("plasticity")
_DP = {name.removeprefix("dp_"): v for name, v in _CONSTANTS.items() if name.startswith("dp_")}
Times = Sequence[float] | np.ndarray
SETS = ("hippocampal_slice", "hippocampal_culture", "cortical_slice", "dp")


def time_above(foot: np.ndarray, tau: float, threshold: float, length: np.ndarray) -> np.ndarray:
    """How long a decaying trace c = foot exp(-t / tau) stays above a threshold, s.

    min(max(tau ln(foot / threshold), 0), length), exactly.

    Args:
        foot: where the decays start (segment,).
        tau: time constant, s.
        threshold: above 0, in the units of `foot`.
        length: how long each decay lasts, s (segment,).
    """
    with np.errstate(divide="ignore"):
        return np.clip(tau * np.log(np.asarray(foot) / threshold), 0, length)


class Fractions(NamedTuple):
    """The shares of time that calcium spends above theta_d and theta_p, dimensionless."""

    above_d: float
    above_p: float


class Moments(NamedTuple):
    """The mean and the variance of the efficacy, dimensionless."""

    mean: float
    variance: float


_EVENT = """
c += {jump}
until_d = t + dt + tau_ca * log(clip(c / theta_d, 1e-30, inf))
until_p = t + dt + tau_ca * log(clip(c / theta_p, 1e-30, inf))
"""


@dataclass(frozen=True, kw_only=True)
class GraupnerBrunel:
    """A bistable efficacy rho that calcium above two thresholds pushes up or down.

        tau drho/dt = -potential rho (1 - rho) (rho_star - rho) + gamma_p (1 - rho) H(c - theta_p)
                      - gamma_d rho H(c - theta_d)
                      + sigma sqrt(tau) sqrt(H(c - theta_p) + H(c - theta_d)) xi
        dc/dt = -c / tau_ca + c_pre (presynaptic spikes, `delay` later) + c_post (postsynaptic ones)
        w = 1 + (b - 1) rho

    Below theta_d nothing changes; between theta_d and theta_p the synapse is depressed; above
    theta_p both terms act, and potentiation wins, for gamma_p > gamma_d. The noise is that of the
    paper's Correction, 10.1073/pnas.1220044110 (recalled); the paper first printed it without
    its second step function.

    Args:
        tau_ca: decay of calcium, s.
        c_pre, c_post: calcium of a pre- and a postsynaptic spike.
        theta_d, theta_p: the thresholds of depression and potentiation, in units of calcium.
        gamma_d, gamma_p: rates of both, times tau.
        sigma: size of the noise.
        tau: time constant of the efficacy, s.
        delay: of the presynaptic calcium, s.
        rho_star: the efficacy between the basins of DOWN (0) and UP (1).
        beta: share of the synapses that are DOWN at first.
        b: weight of an UP synapse, that of a DOWN one being 1.
        potential: factor of the bistable term: 1 as published, 0 for the linear model, for which
            `moments` is exact.

    Raises:
        FwbioError: a parameter is out of range, or the thresholds are in the wrong order.

    Source: Graupner & Brunel 2012, 10.1073/pnas.1109359109. The defaults are its DP set.
    """

    tau_ca: float = _DP["tau_ca"]
    c_pre: float = within(_DP["c_pre"])
    c_post: float = within(_DP["c_post"])
    theta_d: float = _CONSTANTS["theta_d"]
    theta_p: float = _CONSTANTS["theta_p"]
    gamma_d: float = within(_DP["gamma_d"])
    gamma_p: float = within(_DP["gamma_p"])
    sigma: float = within(_DP["sigma"])
    tau: float = _DP["tau"]
    delay: float = within(_DP["delay"])
    rho_star: float = within(_CONSTANTS["rho_star"], high=1.0)
    beta: float = within(_DP["beta"], high=1.0)
    b: float = _DP["b"]
    potential: float = within(1.0)

    @classmethod
    def named(cls, name: str) -> "GraupnerBrunel":
        """The model with a published set of parameters.

        Args:
            name: "hippocampal_slice", "hippocampal_culture" or "cortical_slice", fits of measured
                curves (Table S2), or "dp", a demonstration (Table S1).

        Raises:
            FwbioError: there is no such set.
        """
        if name not in SETS:
            raise unknown_name(name, SETS, kind="set of parameters", where="GraupnerBrunel")
        return cls(**{p: _CONSTANTS[f"{name}_{p}"] for p in _DP})

    def __post_init__(self) -> None:
        check(self, "GraupnerBrunel")

    def faults(self) -> list[tuple[str, str]]:
        """Combinations of parameters that make no such synapse, each with its mend."""
        if self.theta_d < self.theta_p:
            return []
        wrong = f"theta_d = {self.theta_d:g} is not below theta_p = {self.theta_p:g}"
        return [(wrong, "give the threshold of depression the smaller value")]

    def synapse(self) -> PlasticSynapse:
        """The model in Brian2's notation: efficacy `rho`, weight `w`, calcium `calcium`.

        A step counts as above a threshold for the share of it in which its calcium is, which
        follows exactly from the last spike; the efficacy takes Euler-Maruyama steps. Brian2 rounds
        `delay` to a whole number of time steps.
        """
        equations = """
            drho/dt = (-potential * rho * (1 - rho) * (rho_star - rho)
                       + gamma_p * (1 - rho) * above_p - gamma_d * rho * above_d) / tau
                      + sigma * sqrt((above_p + above_d) / tau) * xi : 1 (clock-driven)
            dc/dt = -c / tau_ca : 1 (event-driven)
            above_d = clip((until_d - t) / dt, 0, 1) : 1 (constant over dt)
            above_p = clip((until_p - t) / dt, 0, 1) : 1 (constant over dt)
            calcium = theta_d * exp((until_d - t) / tau_ca) : 1
            w = 1 + (b - 1) * rho : 1
            until_d : second
            until_p : second
        """
        units = {"tau_ca": b2.second, "tau": b2.second}
        names = "tau_ca c_pre c_post theta_d theta_p gamma_d gamma_p sigma tau rho_star b potential"
        past = -100 * self.tau_ca * b2.second
        return PlasticSynapse(
            rule="calcium",
            equations=equations,
            on_pre={"pre": _EVENT.format(jump="c_pre")},
            on_post={"post": _EVENT.format(jump="c_post")},
            delays={"pre": self.delay},
            namespace={name: getattr(self, name) * units.get(name, 1) for name in names.split()},
            amplitudes=("gamma_p", "gamma_d"),
            initial={"until_d": past, "until_p": past},
            method="euler",
        )

    def fractions(self, period: float, pre: Times, post: Times) -> Fractions:
        """The shares of time above both thresholds when a motif of spikes repeats for ever.

        Each decay is solved by itself, from the periodic trace's value at its start:
        alpha = sum_i min(max(tau_ca ln(c_i / theta), 0), t_(i+1) - t_i) / period.

        Args:
            period: of the motif, s.
            pre: presynaptic spike times in the motif, s.
            post: postsynaptic spike times in the motif, s.

        Raises:
            FwbioError: the period is not above 0.
        """
        if not period > 0:
            raise FwbioError(f"period = {period:g} s", where="fractions", mend="give more than 0 s")
        times, jumps = self._jumps(pre, post)
        if times.size == 0:
            return Fractions(0.0, 0.0)
        order = np.argsort(times % period)
        times, jumps = (times % period)[order], jumps[order]
        since = (times[:, None] - times) % period
        summed = np.exp(-since / self.tau_ca) / -np.expm1(-period / self.tau_ca)
        # spikes that coincide share the foot of the last of them, and the others' decays are empty
        feet, lengths = summed @ jumps, np.diff(times, append=times[0] + period)
        above = [
            float(time_above(feet, self.tau_ca, theta, lengths).sum() / period)
            for theta in (self.theta_d, self.theta_p)
        ]
        return Fractions(*above)

    def pair_fractions(self, frequency: float, lag: float) -> Fractions:
        """The shares of time above both thresholds for pairs of spikes at a frequency.

        Args:
            frequency: of the pairs, Hz.
            lag: post minus pre, s.
        """
        return self.fractions(1 / frequency, [0.0], [lag])

    def moments(self, pre: Times, post: Times, until: float, rho: float) -> Moments:
        """The efficacy's mean and variance after given spikes, without the bistable term, exactly.

        In each stretch of time in which neither step function changes, with rate
        k = (gamma_p H_p + gamma_d H_d) / tau,

            mean <- m + (mean - m) e^(-k T),   m = gamma_p H_p / (gamma_p H_p + gamma_d H_d)
            variance <- variance e^(-2 k T) + sigma^2 (H_p + H_d) (1 - e^(-2 k T)) / (2 k tau)

        Args:
            pre: presynaptic spike times, s, from 0 on.
            post: postsynaptic spike times, s, from 0 on.
            until: when the efficacy is asked for, s.
            rho: the efficacy at first.
        """
        times, jumps = self._jumps(pre, post)
        order = np.argsort(times)
        times, jumps = times[order], jumps[order]
        kept = times < until
        times, jumps = times[kept], jumps[kept]
        lengths = np.diff(times, append=until)
        feet = np.empty_like(times)
        trace = 0.0
        for i, jump in enumerate(jumps):
            feet[i] = trace + jump
            trace = feet[i] * np.exp(-lengths[i] / self.tau_ca)
        above_d = time_above(feet, self.tau_ca, self.theta_d, lengths)
        above_p = time_above(feet, self.tau_ca, self.theta_p, lengths)
        mean, variance = rho, 0.0
        for both, depressed in zip(above_p, above_d - above_p, strict=True):
            for stay, p in ((both, 1), (depressed, 0)):
                drive = self.gamma_p * p + self.gamma_d
                kept_share = np.exp(-drive * stay / self.tau)
                if drive > 0:
                    mean = self.gamma_p * p / drive * (1 - kept_share) + mean * kept_share
                    spread = (1 - kept_share**2) / (2 * drive)
                else:
                    spread = stay / self.tau
                variance = variance * kept_share**2 + self.sigma**2 * (p + 1) * spread
        return Moments(float(mean), float(variance))

    def averaged(self, above: Fractions, duration: float, rho: float) -> Moments:
        """The efficacy's mean and variance as the paper has them: drive and noise spread over time.

            Gamma_x = gamma_x alpha_x,  tau_eff = tau / (Gamma_p + Gamma_d)
            rho_bar = Gamma_p / (Gamma_p + Gamma_d)
            mean = rho_bar + (rho - rho_bar) e^(-T / tau_eff)
            variance = sigma_rho^2 (1 - e^(-2 T / tau_eff)) / 2
            sigma_rho^2 = sigma^2 (alpha_p + alpha_d) / (Gamma_p + Gamma_d)

        The paper's sigma_rho^2 is twice the stationary variance. The bistable term is left out.

        Args:
            above: shares of time above both thresholds.
            duration: T, s.
            rho: the efficacy at first.
        """
        up, down = self.gamma_p * above.above_p, self.gamma_d * above.above_d
        noise = self.sigma**2 * (above.above_p + above.above_d)
        if up + down == 0:
            return Moments(rho, noise * duration / self.tau)
        rho_bar = up / (up + down)
        faded = np.exp(-duration * (up + down) / self.tau)
        variance = noise / (up + down) * (1 - faded**2) / 2
        return Moments(float(rho_bar + (rho - rho_bar) * faded), float(variance))

    def switching(self, up: Moments, down: Moments) -> tuple[float, float]:
        """The probabilities U and D that a DOWN synapse ends UP, and an UP one DOWN.

        U = (1 - erf((rho_star - mean) / sqrt(2 variance))) / 2, D = 1 - U of the other start.

        Args:
            up: moments of the efficacy that started DOWN, at 0.
            down: moments of the one that started UP, at 1.
        """
        return self._passed(up), 1 - self._passed(down)

    def change(self, U: np.ndarray | float, D: np.ndarray | float) -> np.ndarray | float:
        """Synaptic strength after a protocol over that before it.

        ((1-U) beta + D (1-beta) + b (U beta + (1-D) (1-beta))) / (beta + b (1-beta))

        Args:
            U: probability that a DOWN synapse ends UP (any shape).
            D: probability that an UP synapse ends DOWN (that shape).
        """
        beta, b = self.beta, self.b
        low = (1 - U) * beta + D * (1 - beta)
        high = U * beta + (1 - D) * (1 - beta)
        return (low + b * high) / (beta + b * (1 - beta))

    def published_change(self, frequency: float, repeats: int, pre: Times, post: Times) -> float:
        """The change of strength that the paper's formulas give for a motif repeated.

        Args:
            frequency: of the motif, Hz.
            repeats: how often it is shown.
            pre: presynaptic spike times in the motif, s.
            post: postsynaptic spike times in the motif, s.
        """
        above = self.fractions(1 / frequency, pre, post)
        ends = [self.averaged(above, repeats / frequency, rho) for rho in (0.0, 1.0)]
        return float(self.change(*self.switching(*ends)))

    def _passed(self, end: Moments) -> float:
        if end.variance == 0:
            return float(end.mean > self.rho_star)
        return float(1 - erf((self.rho_star - end.mean) / np.sqrt(2 * end.variance))) / 2

    def _jumps(self, pre: Times, post: Times) -> tuple[np.ndarray, np.ndarray]:
        times = np.concatenate([np.asarray(pre, float) + self.delay, np.asarray(post, float)])
        return times, np.repeat([self.c_pre, self.c_post], [len(pre), len(post)])
