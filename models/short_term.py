"""Short-term plasticity: release that depresses and facilitates, as Tsodyks and Markram have it.

Between a synapse's spikes, and at each of them in this order,

    du/dt = -u / tau_f        u <- u + U (1 - u)
    dx/dt = (1 - x) / tau_d   release = u x;  x <- x - release

The first spike thus releases U. The other notation in use, u recovering to U and moved after the
release (Mongillo 2008), has the same releases: its u before a spike is this u after it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import comb

import brian2 as b2
import numpy as np

from fwbio.data import constants
from fwbio.errors import FwbioError, unknown_name
from fwbio.models.parameters import check, within
from fwbio.models.synapse import PlasticSynapse

_CONSTANTS = constants("short_term")
PRESETS = ("depressing", "facilitating", "mongillo", "masse_facilitating", "masse_depressing")


@dataclass(frozen=True, kw_only=True)
class ShortTerm:
    """A synapse's use and recovery of its resources (Markram, Wang & Tsodyks 1998).

    Args:
        use: U, the share of the resources that a first spike releases, at most 1.
        tau_f: recovery from facilitation, s; at 0 nothing facilitates, u = U.
        tau_d: recovery from depression, s; at 0 nothing depresses, x = 1.

    Raises:
        FwbioError: a parameter is out of its range.
    """

    use: float
    tau_f: float = within(0.0, high=1e6)
    tau_d: float = within(0.0, high=1e6)

    def __post_init__(self) -> None:
        check(self, "ShortTerm")

    def faults(self) -> list[tuple[str, str]]:
        """Combinations of parameters that make no synapse, each with its mend."""
        if self.use > 1:
            return [(f"use = {self.use:g} releases more than there is", "give at most 1")]
        return []

    @classmethod
    def preset(cls, name: str) -> "ShortTerm":
        """Published parameters, one of `PRESETS`; their sources are in `data/short_term.toml`.

        Raises:
            FwbioError: there is no such preset.
        """
        if name not in PRESETS:
            raise unknown_name(name, PRESETS, kind="short-term synapse", where="preset")
        return cls(**{part: _CONSTANTS[f"{name}_{part}"] for part in ("use", "tau_f", "tau_d")})

    def synapse(self) -> PlasticSynapse:
        """A synapse of constant weight w whose `release` at a spike is u x.

        What a spike does with it, such as `g_post += w * release`, is for the caller to append.
        """
        fixed = PlasticSynapse(rule="tsodyks_markram", equations="w : 1")
        return self.transmit(fixed)

    def transmit(self, synapse: PlasticSynapse, pathway: str = "pre") -> PlasticSynapse:
        """The same plastic synapse, with releases that depress and facilitate.

        Args:
            synapse: whose pathway shall find the amount just released in `release`.
            pathway: the presynaptic one that transmits.
        """
        facilitates, depresses = self.tau_f > 0, self.tau_d > 0
        equations = [
            "du/dt = -u / tau_f : 1 (event-driven)" if facilitates else "u : 1",
            "dx/dt = (1 - x) / tau_d : 1 (event-driven)" if depresses else "x : 1",
            "release : 1",
        ]
        spike = [
            "u += use * (1 - u)" if facilitates else "u = use",
            "release = u * x",
            *(["x -= release"] if depresses else []),
        ]
        before = synapse.on_pre.get(pathway, "")
        times = {"tau_f": self.tau_f * b2.second, "tau_d": self.tau_d * b2.second}
        return replace(
            synapse,
            equations="\n".join([synapse.equations, *equations]),
            on_pre={**synapse.on_pre, pathway: "\n".join([*spike, before])},
            namespace={**synapse.namespace, **times, "use": self.use},
            initial={**synapse.initial, "x": 1.0},
        )

    def train(self, times: np.ndarray) -> Mapping[str, np.ndarray]:
        """What the spikes of a train find and release, exactly, from rest.

        Args:
            times: of the spikes, s, ascending: (..., spike).

        Returns:
            `u` and `x` (..., spike), as they enter the release u x, and `release`.

        Raises:
            FwbioError: the times do not ascend.
        """
        times = np.asarray(times, dtype=float)
        gaps = np.diff(times, axis=-1)
        if (gaps < 0).any():
            raise FwbioError("spikes go back in time", where="times", mend="sort them")
        u, x = np.full(times.shape, self.use), np.ones(times.shape)
        for n in range(1, times.shape[-1]):
            u[..., n], x[..., n] = self._next(u[..., n - 1], x[..., n - 1], gaps[..., n - 1])
        return {"u": u, "x": x, "release": u * x}

    def _next(
        self, u: np.ndarray, x: np.ndarray, interval: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        f, d = _left(interval, self.tau_f), _left(interval, self.tau_d)
        return self.use + u * (1 - self.use) * f, 1 - d + x * (1 - u) * d

    def steady(self, rate: np.ndarray) -> Mapping[str, np.ndarray]:
        """What the spikes of a regular train find and release in the end.

            u = U / (1 - (1 - U) e^(-1 / (rate tau_f)))
            x = (1 - e^(-1 / (rate tau_d))) / (1 - (1 - u) e^(-1 / (rate tau_d)))

        Args:
            rate: of the train, Hz.

        Returns:
            `u`, `x` and `release` in the shape of `rate`.
        """
        interval = 1 / np.asarray(rate, dtype=float)
        f, d = _left(interval, self.tau_f), _left(interval, self.tau_d)
        u = self.use / (1 - (1 - self.use) * f)
        x = (1 - d) / (1 - (1 - u) * d)
        return {"u": u, "x": x, "release": u * x}

    def mean_field(self, rate: np.ndarray) -> Mapping[str, np.ndarray]:
        """What Poisson spikes find and release on average, were u and x independent.

            u = U (1 + rate tau_f) / (1 + U rate tau_f);    x = 1 / (1 + u rate tau_d)

        u is exact; so is x where nothing facilitates (Mongillo 2008, recalled; `poisson` has no
        such assumption).

        Args:
            rate: Hz.

        Returns:
            `u`, `x` and `release` in the shape of `rate`.
        """
        rate = np.asarray(rate, dtype=float)
        u = self.use * (1 + rate * self.tau_f) / (1 + self.use * rate * self.tau_f)
        x = 1 / (1 + u * rate * self.tau_d)
        return {"u": u, "x": x, "release": u * x}

    def poisson(self, rate: float, moments: int = 60) -> Mapping[str, float]:
        """What Poisson spikes find and release on average, by the moments E[u^k x].

        u and x depend on each other through the intervals that both have seen. From one spike to
        the next, E[u^k] and E[u^k x] follow linearly from moments up to the k-th, and from
        E[u^(k + 1) x]; the last of these is closed by E[u^(K + 1) x] = u E[u^K x] at the mean u.

        Args:
            rate: above 0 Hz.
            moments: K, above which they are closed.

        Returns:
            the means `u`, `x` and `release`.
        """
        U = self.use

        def through(k: int, recovers: int) -> float:
            """E[f^k d^recovers] over exponential intervals; 0^0 = 1."""
            if (k and not self.tau_f) or (recovers and not self.tau_d):
                return 0.0
            loss = (k / self.tau_f if k else 0.0) + (1 / self.tau_d if recovers else 0.0)
            return rate / (rate + loss)

        def share(k: int, j: int) -> float:
            return comb(k, j) * U ** (k - j) * (1 - U) ** j

        powers = np.ones(moments + 1)
        for k in range(1, moments + 1):
            below = sum(share(k, j) * through(j, 0) * powers[j] for j in range(k))
            powers[k] = below / (1 - share(k, k) * through(k, 0))
        matrix, known = np.eye(moments + 1), np.zeros(moments + 1)
        for k in range(moments + 1):
            for j in range(k + 1):
                kept = share(k, j) * through(j, 1)
                known[k] += share(k, j) * (through(j, 0) - through(j, 1)) * powers[j]
                matrix[k, j] -= kept
                if j < moments:
                    matrix[k, j + 1] += kept
                else:
                    matrix[k, j] += kept * powers[1]
        solved = np.linalg.solve(matrix, known)
        return {"u": float(powers[1]), "x": float(solved[0]), "release": float(solved[1])}

    def paired_pulse(self, interval: np.ndarray) -> np.ndarray:
        """The second release over the first, from rest.

            (1 + (1 - U) e^(-interval / tau_f)) (1 - U e^(-interval / tau_d))

        Args:
            interval: between the two spikes, s.
        """
        f, d = _left(interval, self.tau_f), _left(interval, self.tau_d)
        return (1 + (1 - self.use) * f) * (1 - self.use * d)


def _left(interval: np.ndarray, tau: float) -> np.ndarray:
    """What an interval leaves of a decay: e^(-interval / tau), and nothing at tau = 0."""
    interval = np.asarray(interval, dtype=float)
    return np.exp(-interval / tau) if tau else np.zeros_like(interval)
