"""Turnover: how a weight is lost, over which time, by which process, and how evenly.

A weight decays as its receptors and proteins are replaced, dw/dt = -w / tau. What a time constant
may stand for is told by `fwbio.models.time_scales`: seconds are no protein turnover. Rates that
differ among synapses make the population's mean decay slower than any exponential, and turnover
that fluctuates makes weights of a heavy tail (`Kesten`).
"""

from dataclasses import dataclass

import brian2 as b2
import numpy as np

from fwbio.errors import FwbioError, unknown_name
from fwbio.models import conductances
from fwbio.models.parameters import check, within
from fwbio.models.synapse import PlasticSynapse
from fwbio.models.time_scales import require_scale

SHAPES = ("gamma", "lognormal")
_NODES = 64


@dataclass(frozen=True, kw_only=True)
class Turnover:
    """A weight that only decays: dw/dt = -pace w / tau, pace 1 unless a synapse is given its own.

    Args:
        tau: s.
        preset: the process of `PRESETS` that it stands for.

    Raises:
        FwbioError: a process of that name does not take that long, as `require_scale` says.
    """

    tau: float
    preset: str

    def __post_init__(self) -> None:
        check(self, "Turnover")
        require_scale(self.tau, self.preset, where="tau")

    def faults(self) -> list[tuple[str, str]]:
        """Combinations of parameters that make no turnover: `require_scale` tells them."""
        return []

    def synapse(self) -> PlasticSynapse:
        """The decay in Brian2, exact; rates of `heterogeneous_rates` times tau are paces."""
        return PlasticSynapse(
            rule=None,
            equations="dw/dt = -pace * w / tau : 1 (clock-driven)\npace : 1 (constant)",
            namespace={"tau": self.tau * b2.second},
            initial={"pace": 1.0},
            method="exact",
        )


def heterogeneous_rates(
    rng: np.random.Generator, mean_rate: float, cv: float, shape: str, size: int
) -> np.ndarray:
    """Turnover rates (size,) of synapses that differ, in 1/s.

    Gamma rates have a mean decay in closed form, which ends as a power of time: however long one
    waits, some synapses are slower. Log-normal rates are what many independent factors multiply
    to, and have log-normal lifetimes; their mean decay is an integral (`mean_decay`).

    Args:
        rng: the source of random numbers.
        mean_rate: 1/s.
        cv: standard deviation over mean, above 0.
        shape: "gamma" or "lognormal".
        size: the number of synapses.

    Raises:
        FwbioError: a number is not positive, or there is no such shape.
    """
    _check_rates(mean_rate, cv, shape)
    if shape == "gamma":
        return mean_rate * conductances.spread(cv, (size,), rng)
    spread = np.sqrt(np.log1p(cv**2))
    return rng.lognormal(np.log(mean_rate) - spread**2 / 2, spread, size)


def mean_decay(times: np.ndarray, mean_rate: float, cv: float, shape: str) -> np.ndarray:
    """The mean over synapses of e^(-rate t), in the shape of `times`.

        gamma      (1 + theta t)^(-1 / cv^2),  theta = mean_rate cv^2
        lognormal  the Gaussian mean of exp(-t e^z), by Gauss-Hermite quadrature

    Args:
        times: s, from 0 up.
        mean_rate: 1/s.
        cv: standard deviation of the rates over their mean, above 0.
        shape: "gamma" or "lognormal".

    Raises:
        FwbioError: a number is not positive, or there is no such shape.
    """
    _check_rates(mean_rate, cv, shape)
    times = np.asarray(times, dtype=float)
    if shape == "gamma":
        return (1 + mean_rate * cv**2 * times) ** (-1 / cv**2)
    spread = np.sqrt(np.log1p(cv**2))
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    rates = mean_rate * np.exp(spread * nodes - spread**2 / 2)
    return np.exp(-times[..., None] * rates) @ (weights / weights.sum())


def _check_rates(mean_rate: float, cv: float, shape: str) -> None:
    if shape not in SHAPES:
        raise unknown_name(shape, SHAPES, kind="shape of rates", where="shape")
    for name, value in (("mean_rate", mean_rate), ("cv", cv)):
        if not 0 < value < np.inf:
            raise FwbioError(
                f"{name} = {value!r} is out of range", where=name, mend="give a positive number"
            )


@dataclass(frozen=True, kw_only=True)
class Kesten:
    """Turnover that fluctuates: in the sense of Ito, with independent W_m and W_a,

        dw = -w / tau dt + sigma_m w dW_m + sigma_a dW_a

    w is a weight's distance from where it is held. The squared noise D(w) = sigma_m^2 w^2 +
    sigma_a^2 and a current that vanishes, -w p / tau = (D p)' / 2, give the stationary density

        p(w) ~ D(w)^(-1 - 1 / (tau sigma_m^2))

    which is Student's t of mu = 1 + 2 / (tau sigma_m^2) degrees of freedom and scale sigma_a /
    (sigma_m sqrt(mu)): a tail of w^-(1 + mu) (Kesten 1973, 10.1007/BF02392040, recalled; of
    synapses' sizes, Statman 2014, 10.1371/journal.pcbi.1003846, recalled).

    Args:
        tau: mean decay, s.
        sigma_m: noise in proportion to the weight, 1/sqrt(s).
        sigma_a: noise beside it, weights per sqrt(s).

    Raises:
        FwbioError: a parameter is out of its range.
    """

    tau: float
    sigma_m: float = within(0.0, high=1e6)
    sigma_a: float = within(0.0, high=1e6)

    def __post_init__(self) -> None:
        check(self, "Kesten")

    def faults(self) -> list[tuple[str, str]]:
        """Combinations of parameters that make no process: none."""
        return []

    @property
    def tail(self) -> float:
        """The mu of a stationary density that falls as w^-(1 + mu); infinite without sigma_m."""
        return 1 + 2 / (self.tau * self.sigma_m**2) if self.sigma_m else np.inf

    @property
    def scale(self) -> float:
        """The scale of the stationary Student's t, in weights.

        Raises:
            FwbioError: without sigma_m it is a Gaussian.
        """
        if not self.sigma_m:
            raise FwbioError(
                "without noise in proportion to the weight its law is Gaussian",
                where="sigma_m",
                mend="use stationary_variance",
            )
        return self.sigma_a / (self.sigma_m * float(np.sqrt(self.tail)))

    @property
    def stationary_variance(self) -> float:
        """The variance in the end: sigma_a^2 / (2 / tau - sigma_m^2), infinite where mu <= 2."""
        loss = self._loss
        return self.sigma_a**2 / loss if loss > 0 else np.inf

    @property
    def _loss(self) -> float:
        """What the second moment is lost by, 1/s."""
        return 2 / self.tau - self.sigma_m**2

    def mean(self, start: np.ndarray | float, times: np.ndarray) -> np.ndarray:
        """E[w(t)] = w_0 e^(-t / tau), `start` and `times` (s) broadcast together."""
        return start * np.exp(-np.asarray(times, dtype=float) / self.tau)

    def variance(self, start: np.ndarray | float, times: np.ndarray) -> np.ndarray:
        """Var[w(t)] from a known start, with a = 2 / tau - sigma_m^2:

            w_0^2 (e^(-a t) - e^(-2 t / tau)) + sigma_a^2 (1 - e^(-a t)) / a

        Args:
            start: weights w_0.
            times: s, broadcast with `start`.
        """
        times = np.asarray(times, dtype=float)
        kept = np.exp(-self._loss * times) - np.exp(-2 * times / self.tau)
        return np.asarray(start) ** 2 * kept + self._added(times)

    def _added(self, times: np.ndarray) -> np.ndarray:
        loss = self._loss
        return self.sigma_a**2 * (-np.expm1(-loss * times) / loss if loss else times)

    def step(self, rng: np.random.Generator, weights: np.ndarray, interval: float) -> np.ndarray:
        """Weights after an interval, between presentations: w <- a w + b.

        a is log-normal, exactly what the equation makes of a weight without sigma_a, and E[a^mu]
        = 1, so the tail's exponent is the equation's. b is Gaussian given a, its variance that
        which sigma_a adds on average, in proportion to 1 + a^2: noise of the interval's end is
        kept, noise of its start has shared the fate of the weight. Mean, variance and correlations
        over time are exact for any interval, the whole law in the limit of short ones.

        Args:
            rng: the source of random numbers.
            weights: any shape.
            interval: s.

        Raises:
            FwbioError: the interval is negative.
        """
        if not interval >= 0:
            raise FwbioError(
                f"{interval!r} s is no time", where="interval", mend="give 0 s or more"
            )
        weights = np.asarray(weights, dtype=float)
        drift = -(1 / self.tau + self.sigma_m**2 / 2) * interval
        shaken = self.sigma_m * np.sqrt(interval) * rng.standard_normal(weights.shape)
        a = np.exp(drift + shaken)
        share = (1 + a**2) / (1 + np.exp(-self._loss * interval))
        added = np.sqrt(self._added(np.asarray(interval)) * share)
        return a * weights + added * rng.standard_normal(weights.shape)

    def synapse(self) -> PlasticSynapse:
        """The equation in Brian2, by Heun's method.

        Heun's method takes noise in the sense of Stratonovich, so the drift has -sigma_m^2 w / 2
        beside Ito's. Steps must be well below tau.
        """
        return PlasticSynapse(
            rule=None,
            equations="dw/dt = -w * (1 / tau + sigma_m**2 / 2)"
            " + sigma_m * w * xi_m + sigma_a * xi_a : 1 (clock-driven)",
            namespace={
                "tau": self.tau * b2.second,
                "sigma_m": self.sigma_m / b2.second**0.5,
                "sigma_a": self.sigma_a / b2.second**0.5,
            },
            method="heun",
        )
