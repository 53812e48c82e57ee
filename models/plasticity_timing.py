"""Plasticity by spike timing alone: rules of pairs and of triplets of spikes, with closed forms."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fwbio.data import constants
from fwbio.errors import FwbioError, unknown_name
from fwbio.models.parameters import check, within
from fwbio.models.synapse import PlasticSynapse

_TIMING = constants("plasticity")
NEIGHBOURS = ("all", "nearest")


@dataclass(frozen=True, kw_only=True)
class PairSTDP:
    """Each pair of a pre- and a postsynaptic spike changes the weight by their lag.

        w <- w + a_plus (1 - w / w_max)^mu e^(-lag / tau_plus)      post after pre, lag > 0
        w <- w - a_minus (w / w_max)^mu e^(lag / tau_minus)         pre after post, lag < 0

    and w stays within 0 and w_max. Spikes of the same time step count as pre before post.

    Args:
        a_plus: potentiation by a pair without lag, 1.
        a_minus: depression by a pair without lag, 1.
        tau_plus: decay of potentiation with the lag, s.
        tau_minus: decay of depression with the lag, s.
        w_max: the largest weight, 1.
        mu: how the change depends on the weight: 0, not at all; 1, by the distance from its bound.
        neighbours: whether a spike pairs with "all" that came before it on the other side, or with
            the "nearest" alone.

    Raises:
        FwbioError: a number out of its range, or no such neighbours.

    Source: Song, Miller & Abbott 2000, 10.1038/78829; mu, Gutig 2003 (recalled).
    """

    a_plus: float = within(_TIMING["pair_a_plus"])
    a_minus: float = within(_TIMING["pair_a_plus"] * _TIMING["pair_depression"])
    tau_plus: float = _TIMING["pair_tau_plus"]
    tau_minus: float = _TIMING["pair_tau_minus"]
    w_max: float = 1.0
    mu: float = within(0.0, high=1.0)
    neighbours: str = "all"

    def __post_init__(self) -> None:
        check(self, "PairSTDP")
        if self.neighbours not in NEIGHBOURS:
            raise unknown_name(self.neighbours, NEIGHBOURS, kind="choice", where="neighbours")

    def faults(self) -> list[tuple[str, str]]:
        """Combinations of parameters that make no synapse: there are none."""
        return []

    def window(self, lag: ArrayLike, w: float = 0.0) -> np.ndarray:
        """The change of a weight by one pair, bounds apart.

        Args:
            lag: postsynaptic less presynaptic spike, s, of any shape.
            w: the weight before; of no account where mu = 0.
        """
        lag, share = np.asarray(lag, float), w / self.w_max
        grown = self.a_plus * (1 - share) ** self.mu * np.exp(-np.abs(lag) / self.tau_plus)
        shrunk = self.a_minus * share**self.mu * np.exp(-np.abs(lag) / self.tau_minus)
        return np.where(lag >= 0, grown, -shrunk)

    def drift(self, pre_rate: ArrayLike, post_rate: ArrayLike) -> np.ndarray:
        """The mean change of a weight per second under independent Poisson spikes, where mu = 0.

        All pairs: x y (a_plus tau_plus - a_minus tau_minus). Nearest: a spike's partner is the
        last one, so that tau becomes tau / (1 + tau times the partner's rate).

        Args:
            pre_rate: x, Hz, of any shape.
            post_rate: y, Hz, of a shape that goes with it.
        """
        x, y = np.asarray(pre_rate, float), np.asarray(post_rate, float)
        alone = self.neighbours == "nearest"
        plus = self.tau_plus / (1 + alone * self.tau_plus * x)
        minus = self.tau_minus / (1 + alone * self.tau_minus * y)
        return x * y * (self.a_plus * plus - self.a_minus * minus)

    def synapse(self) -> PlasticSynapse:
        """As Brian2 text; event-driven, so exact at any time step."""
        mark = "+= 1" if self.neighbours == "all" else "= 1"
        return PlasticSynapse(
            rule="stdp",
            equations="""
            w : 1
            dr1/dt = -r1 / tau_plus : 1 (event-driven)
            do1/dt = -o1 / tau_minus : 1 (event-driven)
            """,
            on_pre={
                "pre": f"""
                w = clip(w - a_minus * (w / w_max)**mu * o1, 0, w_max)
                r1 {mark}
                """
            },
            on_post={
                "post": f"""
                w = clip(w + a_plus * (1 - w / w_max)**mu * r1, 0, w_max)
                o1 {mark}
                """
            },
            namespace=_namespace(self, "a_plus a_minus w_max mu", "tau_plus tau_minus"),
            amplitudes=("a_plus", "a_minus"),
        )


@dataclass(frozen=True, kw_only=True)
class TripletSTDP:
    """Pairs of spikes change the weight by the lag and by what came before, triplet by triplet.

        at a presynaptic spike    w <- w - o1 (a2_minus + a3_minus r2);  r1 += 1;  r2 += 1
        at a postsynaptic spike   w <- w + r1 (a2_plus + a3_plus o2);    o1 += 1;  o2 += 1

    where traces decay exponentially and every one is read before its own spike adds to it. Spikes
    of the same time step count as pre before post. With a3 = 0 it is the rule of pairs.

    Args:
        a2_plus, a3_plus: potentiation by a pair, and by a triplet of one pre- and two postsynaptic
            spikes, 1.
        a2_minus, a3_minus: depression by a pair, and by a triplet of one post- and two
            presynaptic spikes, 1.
        tau_plus, tau_minus: decays of r1 and o1, s.
        tau_x, tau_y: decays of r2 and o2, s.
        w_max: the largest weight, 1; the smallest is 0.

    Raises:
        FwbioError: a number out of its range.

    Source: Pfister & Gerstner 2006, 10.1523/JNEUROSCI.1425-06.2006: visual cortex, all spikes,
    full model.
    """

    a2_plus: float = within(_TIMING["triplet_a2_plus"])
    a3_plus: float = within(_TIMING["triplet_a3_plus"])
    a2_minus: float = within(_TIMING["triplet_a2_minus"])
    a3_minus: float = within(_TIMING["triplet_a3_minus"])
    tau_plus: float = _TIMING["triplet_tau_plus"]
    tau_minus: float = _TIMING["triplet_tau_minus"]
    tau_x: float = _TIMING["triplet_tau_x"]
    tau_y: float = _TIMING["triplet_tau_y"]
    w_max: float = within(np.inf)

    def __post_init__(self) -> None:
        check(self, "TripletSTDP")

    def faults(self) -> list[tuple[str, str]]:
        """Combinations of parameters that make no synapse: there are none."""
        return []

    def pairing(self, frequency: ArrayLike, lag: float, pairs: int) -> np.ndarray:
        """The change of a weight by a regular train of pairings, exactly, bounds apart.

        The k-th reading of a trace is a geometric series of its decays between pairings; so is the
        sum of their products over k.

        Args:
            frequency: of the pairings, Hz, of any shape.
            lag: postsynaptic less presynaptic spike, s; not 0, and shorter than a period.
            pairs: number of pairings.

        Raises:
            FwbioError: the lag is 0 or not shorter than a period.
        """
        period = 1 / np.asarray(frequency, float)
        if lag == 0 or (np.abs(lag) >= period).any():
            raise FwbioError(
                f"a lag of {lag:g} s has no order of spikes in a period of {period.min():g} s",
                where="lag",
                mend="give one that is not 0 and shorter than a period",
            )
        first, wait = lag > 0, period - abs(lag)
        grown = _readings(
            period, abs(lag) if first else wait, first, pairs,
            (self.tau_plus, self.tau_y), (self.a2_plus, self.a3_plus),
        )  # fmt: skip
        shrunk = _readings(
            period, wait if first else abs(lag), not first, pairs,
            (self.tau_minus, self.tau_x), (self.a2_minus, self.a3_minus),
        )  # fmt: skip
        return grown - shrunk

    def drift(self, pre_rate: ArrayLike, post_rate: ArrayLike, *, dt: float = 0.0) -> np.ndarray:
        """The mean change of a weight per second under independent Poisson spikes.

            x y (tau_plus (a2_plus + a3_plus tau_y y) - tau_minus (a2_minus + a3_minus tau_x x))

        In time steps a trace's mean is its rate times dt / (e^(dt / tau) - 1) in place of tau, and
        r1 has the spikes of the step beside.

        Args:
            pre_rate: x, Hz, of any shape.
            post_rate: y, Hz, of a shape that goes with it.
            dt: time step of a simulation, s, in each of which a cell fires at most once; 0 for
                continuous time.
        """

        def lasting(tau: float) -> float:
            return float(dt / np.expm1(dt / tau)) if dt else tau

        x, y = np.asarray(pre_rate, float), np.asarray(post_rate, float)
        grown = self.a2_plus + self.a3_plus * lasting(self.tau_y) * y
        shrunk = self.a2_minus + self.a3_minus * lasting(self.tau_x) * x
        plus, minus = lasting(self.tau_plus) + dt, lasting(self.tau_minus)
        return x * y * (plus * grown - minus * shrunk)

    def threshold(self, pre_rate: ArrayLike) -> np.ndarray:
        """The postsynaptic rate, Hz, above which uncorrelated spikes potentiate.

        The sliding threshold of Bienenstock, Cooper & Munro, at rest; negative where there is
        always potentiation.

        Args:
            pre_rate: Hz, of any shape.

        Raises:
            FwbioError: no triplet potentiates, so that there is none.
        """
        if self.a3_plus == 0:
            raise FwbioError(
                "a3_plus = 0 leaves no threshold of the postsynaptic rate",
                where="TripletSTDP",
                mend="give a positive number",
            )
        x = np.asarray(pre_rate, float)
        shrunk = self.tau_minus * (self.a2_minus + self.a3_minus * self.tau_x * x)
        return (shrunk / self.tau_plus - self.a2_plus) / (self.a3_plus * self.tau_y)

    def synapse(self) -> PlasticSynapse:
        """As Brian2 text; event-driven, so exact at any time step."""
        return PlasticSynapse(
            rule="triplet_stdp",
            equations="""
            w : 1
            dr1/dt = -r1 / tau_plus : 1 (event-driven)
            dr2/dt = -r2 / tau_x : 1 (event-driven)
            do1/dt = -o1 / tau_minus : 1 (event-driven)
            do2/dt = -o2 / tau_y : 1 (event-driven)
            """,
            on_pre={
                "pre": """
                w = clip(w - o1 * (a2_minus + a3_minus * r2), 0, w_max)
                r1 += 1
                r2 += 1
                """
            },
            on_post={
                "post": """
                w = clip(w + r1 * (a2_plus + a3_plus * o2), 0, w_max)
                o1 += 1
                o2 += 1
                """
            },
            namespace=_namespace(
                self,
                "a2_plus a3_plus a2_minus a3_minus w_max",
                "tau_plus tau_minus tau_x tau_y",
            ),
            amplitudes=("a2_plus", "a3_plus", "a2_minus", "a3_minus"),
        )


def _namespace(model: object, numbers: str, times: str) -> dict[str, object]:
    import brian2 as b2

    plain = {name: getattr(model, name) for name in numbers.split()}
    return plain | {name: getattr(model, name) * b2.second for name in times.split()}


def _readings(
    period: np.ndarray,
    lag: np.ndarray | float,
    same: bool,
    pairs: int,
    taus: tuple[float, float],
    amplitudes: tuple[float, float],
) -> np.ndarray:
    """The sum over pairings k of fast_k (a2 + a3 slow_k), where n is `pairs`.

    fast_k = e^(-lag / tau) (1 - q^(k + same)) / (1 - q) of the other side, with q = e^(-period /
    tau), slow_k = r (1 - r^k) / (1 - r) of the own side: k earlier spikes each, and the other
    side's of the same pairing if it came first.
    """
    (tau, tau_slow), (a2, a3) = taus, amplitudes
    q, r = np.exp(-period / tau), np.exp(-period / tau_slow)
    last = np.exp(-lag / tau) / (1 - q)
    level = a3 * r / (1 - r)
    missing = q if same else 1.0
    steady = (a2 + level) * (pairs - missing * _geometric(q, pairs))
    rising = level * (_geometric(r, pairs) - missing * _geometric(q * r, pairs))
    return last * (steady - rising)


def _geometric(ratio: np.ndarray, terms: int) -> np.ndarray:
    return (1 - ratio**terms) / (1 - ratio)
