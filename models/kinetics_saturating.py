"""Receptors that saturate: Wang's gate, driven by a filtered train, and Destexhe's two states."""

from dataclasses import dataclass

import numpy as np
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import exp1, gamma, gammainc, gammaincc, hyp1f1
from typing_extensions import override

from fwbio.models.kinetics import Kinetics, State, require_number, require_order

# nearer to 1 than this, rise / decay is taken as 1: the gamma functions lose as many digits
_SAME = 1e-8
_TINY = 1e-300


@dataclass(frozen=True)
class Saturating(Kinetics):
    """A gate that saturates at 1: ds/dt = -s / decay + alpha x (1 - s), dx/dt = -x / rise.

    With y = alpha rise x, from a to y(t) = a exp(-t / rise), and p = rise / decay,

        s(t) = exp(-t / decay) (s(0) exp(y - a) + a^p exp(y) G)
        G = integral from y to a of z^-p exp(-z) dz

    where G is a difference of incomplete gamma functions, and of exponential integrals at p = 1.

    Args:
        rise: decay of x, s.
        decay: of the gate, s, at least `rise`.
        alpha: opening rate per unit of x, 1/s; a spike adds 1 to x.

    Raises:
        FwbioError: a number is not positive, or the rise outlasts the decay.

    Source: Wang 2002, 10.1016/S0896-6273(02)01092-9.
    """

    rise: float
    decay: float
    alpha: float
    equations = (
        "ds_{n}/dt = -s_{n} / decay_{n} + alpha_{n} * x_{n} * (1 - s_{n}) : 1\n"
        "dx_{n}/dt = -x_{n} / rise_{n} : 1"
    )
    on_spike = "x_{n}{at} += 1"
    method = "rk4"

    def __post_init__(self) -> None:
        require_order(self.rise, self.decay, "saturating")
        require_number(self.alpha, "alpha", "saturating")

    @property
    @override
    def values(self) -> dict[str, tuple[float, str]]:
        return {"rise": (self.rise, "s"), "decay": (self.decay, "s"), "alpha": (self.alpha, "1/s")}

    @property
    @override
    def time_constants(self) -> dict[str, float]:
        return {"rise": self.rise, "decay": self.decay, "1 / alpha": 1 / self.alpha}

    @property
    @override
    def peak_time(self) -> float:
        """By a root: there alpha x (1 - s) decay = s."""
        one = np.ones(())

        def slope(t: float) -> float:
            s, x = self.later(np.array(t), 0 * one, one)
            return float(self.alpha * x * (1 - s) * self.decay - s)

        end = self.rise
        while slope(end) > 0:
            end *= 2
        return float(brentq(slope, 0, end, xtol=1e-15 * end, rtol=1e-14))

    @property
    @override
    def area(self) -> float:
        """The decay times the integral from 0 to alpha rise of 1F1(1; 1 + rise / decay; -y) dy."""
        p = self.rise / self.decay
        whole = quad(lambda y: hyp1f1(1, 1 + p, -y), 0, self.alpha * self.rise, epsrel=1e-12)
        return float(self.decay * whole[0])

    @override
    def after_spike(self, s: np.ndarray, x: np.ndarray) -> State:
        return s, x + 1

    @override
    def later(self, t: np.ndarray, s: np.ndarray, x: np.ndarray) -> State:
        bound = x * np.exp(-t / self.rise)
        p, scale = self.rise / self.decay, self.alpha * self.rise
        a, y = scale * x, np.maximum(scale * bound, _TINY)
        if 1 - p < _SAME:
            opened = a * np.exp(y) * (exp1(y) - exp1(a))
        else:
            opened = a**p * np.exp(y) * gamma(1 - p) * _between(1 - p, y, a)
        return np.exp(-t / self.decay) * (s * np.exp(y - a) + opened), bound

    @override
    def driven(self, period: float) -> np.ndarray:
        return np.array(-1 / np.expm1(-period / self.rise))


@dataclass(frozen=True)
class TwoState(Kinetics):
    """Closed receptors that open while transmitter lasts: ds/dt = binding T (1 - s) - unbinding s.

    T is `transmitter` for `duration` after each spike, else 0; a spike within a pulse prolongs it.
    With c = binding transmitter + unbinding and open = binding transmitter / c,

        s(t) = open + (s(0) - open) exp(-c t) in a pulse,    s(0) exp(-unbinding t) after it

    Args:
        binding: 1/(mM s).
        unbinding: 1/s.
        transmitter: mM (mol/m^3).
        duration: of a pulse, s; in a simulation, rounded to whole time steps.

    Raises:
        FwbioError: a number is not positive.

    Source: Destexhe, Mainen & Sejnowski 1994, 10.1007/BF00961734.
    """

    binding: float
    unbinding: float
    transmitter: float
    duration: float
    equations = (
        "ds_{n}/dt = binding_{n} * T_{n} * (1 - s_{n}) - unbinding_{n} * s_{n} : 1\n"
        "T_{n} = transmitter_{n} * int(t + dt / 2 < off_{n}) : mmolar (constant over dt)\n"
        "off_{n} : second"
    )
    on_spike = "off_{n}{at} = t + dt + duration_{n}"
    method = "exponential_euler"  # exact here: T stands still within a time step

    def __post_init__(self) -> None:
        for name in ("binding", "unbinding", "transmitter", "duration"):
            require_number(getattr(self, name), name, "two-state")

    @property
    @override
    def values(self) -> dict[str, tuple[float, str]]:
        return {
            "binding": (self.binding, "1/(mM s)"),
            "unbinding": (self.unbinding, "1/s"),
            "transmitter": (self.transmitter, "mM"),
            "duration": (self.duration, "s"),
        }

    @property
    @override
    def time_constants(self) -> dict[str, float]:
        return {"duration": self.duration, "1 / unbinding": 1 / self.unbinding}

    @property
    def approach(self) -> float:
        """The rate (1/s) at which receptors reach `open_share` in a pulse."""
        return self.binding * self.transmitter + self.unbinding

    @property
    def open_share(self) -> float:
        """The share of receptors open in a pulse without end; the gate never exceeds it."""
        return self.binding * self.transmitter / self.approach

    @property
    @override
    def peak_time(self) -> float:
        return self.duration

    @property
    @override
    def area(self) -> float:
        peak = -self.open_share * np.expm1(-self.approach * self.duration)
        return float(self.open_share * self.duration - peak / self.approach + peak / self.unbinding)

    @override
    def after_spike(self, s: np.ndarray, x: np.ndarray) -> State:
        return s, np.full(np.shape(x), self.duration)

    @override
    def later(self, t: np.ndarray, s: np.ndarray, x: np.ndarray) -> State:
        on = np.minimum(t, x)
        opened = self.open_share + (s - self.open_share) * np.exp(-self.approach * on)
        return opened * np.exp(-self.unbinding * (t - on)), x - on

    @override
    def driven(self, period: float) -> np.ndarray:
        return np.array(self.duration)

    @override
    def poisson_mean(self, rate: float) -> float:
        """The mean gate under a Poisson train, of which overlapping pulses merge.

        Transmitter comes in busy periods, between which an exponential time passes. With c the
        rate of approach, d the duration and L the Laplace transform of a busy period at c,

            L = (rate + c) exp(-(rate + c) d) / (c + rate exp(-(rate + c) d))

        the gate's mean at each end of a busy period follows, and from it the mean over the cycle.

        Raises:
            FwbioError: the rate is not positive.
        """
        require_number(rate, "rate", "two-state")
        c, opened = self.approach, self.open_share
        left = np.exp(-(rate + c) * self.duration)
        transform = (rate + c) * left / (c + rate * left)
        remaining = rate / (rate + self.unbinding)
        end = opened * (1 - transform) / (1 - remaining * transform)
        busy = np.expm1(rate * self.duration) / rate
        inside = opened * busy + (end * remaining - opened) * (1 - transform) / c
        outside = end / (rate + self.unbinding)
        return float((inside + outside) / (busy + 1 / rate))


def _between(q: float, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The regularised incomplete gamma function from low to high, from the end that is nearer."""
    below = gammainc(q, high) - gammainc(q, low)
    return np.where(low > 1, gammaincc(q, low) - gammaincc(q, high), below)
