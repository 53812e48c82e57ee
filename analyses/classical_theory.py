"""The two classical associative memories in closed form: Willshaw's net and Hopfield's.

Willshaw's clips its Hebbian sum at one, W = min(sum_m k_m v_m^T, 1), with binary patterns that have
a fixed number of active units, and reads by a threshold at the number of active key units
(Willshaw, Buneman & Longuet-Higgins 1969, 10.1038/222960a0). Hopfield's sums,
W = 1/N sum_m x_m x_m^T without its diagonal, and reads by iterating signs (Hopfield 1982,
10.1073/pnas.79.8.2554).
"""

from functools import cache

import numpy as np
from scipy import special, stats
from scipy.optimize import brentq, minimize_scalar

from fwbio.analyses.capacity_theory import sign_bit_error
from fwbio.errors import FwbioError

LN2 = float(np.log(2))


def active_synapses(pairs: int, key_share: float, value_share: float) -> float:
    """Share of synapses that are on, of a clipped Hebbian sum; exact.

        p1 = 1 - (1 - f_k f_v)^P

    for independent pairs whose numbers of active units are fixed: a synapse is written by a pair
    with probability f_k f_v.

    Args:
        pairs: P.
        key_share: f_k, active share of a key's units.
        value_share: f_v, of a value's.
    """
    return float(-np.expm1(pairs * np.log1p(-key_share * value_share)))


def spurious(pairs: int, pre: int, active: int, value_share: float) -> float:
    """Probability that a unit that should be silent fires, cued by a stored key; exact.

        p01 = (T^(P-1))_(0, M),   T = (1 - f_v) I + f_v H
        H_(c, c + d) = C(M - c, d) C(K - M + c, M - d) / C(K, M)

    A silent unit fires where other pairs have switched on its synapses from all M active units of
    the cue. T is what one other pair makes of the number c of those that are on: with probability
    f_v it has the unit active, and its key then hits d of the M - c that are off. All terms are
    positive, so that nothing cancels. The same by inclusion and exclusion, with alternating signs,

        p01 = sum_s (-1)^s C(M, s) (1 - f_v (1 - C(K - s, M) / C(K, M)))^(P - 1)

    It is above `spurious_of_independent`, as synapses of one unit go together: by its usage, the
    number of pairs that have it active (Buckingham & Willshaw 1992,
    10.1088/0954-898X_3_4_005; Knoblauch 2008, 10.1137/070700012; both recalled).

    Args:
        pairs: P.
        pre: K, units of a key; up to some 10^7, where f_v M^2 / K nears the rounding of 1.
        active: M, of them active.
        value_share: f_v, active share of a value's units.

    Raises:
        FwbioError: no pair, or no number of active units from 1 to K.
    """
    _require_pattern(pre, active)
    _require_pairs(pairs)
    step = (1 - value_share) * np.eye(active + 1) + value_share * _coverage(pre, active)
    return float(np.linalg.matrix_power(step, int(pairs) - 1)[0, active])


def spurious_of_independent(pairs: int, active: int, key_share: float, value_share: float) -> float:
    """The same probability as if a unit's synapses were independent, an approximation from below.

        p1^M,   p1 of the P - 1 other pairs

    Args:
        pairs: P.
        active: M, active units of a key.
        key_share: f_k, active share of a key's units.
        value_share: f_v, of a value's.

    The source is Willshaw 1969, 10.1038/222960a0.
    """
    return active_synapses(pairs - 1, key_share, value_share) ** active


def pattern_information(units: int, active: int, extra: np.ndarray) -> np.ndarray:
    """What a recalled set of units tells of a pattern of M active ones, in bits.

        I = log2 C(N, M) - log2 C(M + n, M)

    Recall without missing units leaves, of M + n units that fire, which M were stored. Its mean
    over n is the mutual information of a stored value and its recall, exactly: by symmetry of the
    units every set of M among those that fire is as likely.

    Args:
        units: N.
        active: M.
        extra: n, units that fire and should not, any shape.
    """
    return _log2_ways(units, active) - _log2_ways(np.asarray(extra) + active, active)


def information(pairs: int, units: int, active: int, pre: int, rate: float) -> float:
    """Information that is recalled per synapse, in bits; an approximation.

        I = P / (K N) (log2 C(N, M) - E log2 C(M + n, M)),   n ~ Binomial(N - M, p01)

    It takes spurious units for independent, which have the cue's overlaps in common.

    Args:
        pairs: P.
        units: N, of a value; M of them active.
        active: M.
        pre: K, units of a key.
        rate: p01, as `spurious` gives it.
    """
    most = units - active
    reach = stats.binom(most, rate).ppf(1 - 1e-12)
    extra = np.arange(int(min(most, max(reach, 1) + 1)) + 1)
    share = stats.binom(most, rate).pmf(extra)
    return float(pairs / (pre * units) * (share @ pattern_information(units, active, extra)))


def best_information(
    units: int, *, active: int | None = None, errors: float = np.inf
) -> tuple[float, int, int]:
    """The most information per synapse that N x N clipped synapses give back, by `information`.

    Args:
        units: N, of keys and of values; up to some 10^6.
        active: M; the best number unless given.
        errors: most spurious units allowed in the mean, as a share of M: .01 asks for nearly clean
            recall. Without a limit the best memory is full and noisy.

    Returns:
        Bits per synapse, the pairs P that give it, and M.
    """
    if active is None:
        return _climbed(units, errors)
    share = active / units
    scale = 1 / share**2  # pairs at one write a synapse

    def rate(pairs: float) -> float:
        return spurious(max(round(pairs), 1), units, active, share)

    def told(pairs: float) -> float:
        return information(max(round(pairs), 1), units, active, units, rate(pairs))

    most, allowed = 2.0 * scale, errors * active / (units - active)
    if rate(most) > allowed:
        if rate(1) > allowed:
            return 0.0, 1, active
        low, high = 1, round(most)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if rate(middle) <= allowed else (low, middle)
        most = low
    found = minimize_scalar(
        lambda pairs: -told(pairs), bounds=(1, most), method="bounded", options={"xatol": 0.4}
    )
    best = max((most, float(found.x)), key=told)
    return told(best), max(round(best), 1), active


def _climbed(units: int, errors: float) -> tuple[float, int, int]:
    """The best number of active units, from below: information rises with it, then falls."""
    best = best_information(units, active=2, errors=errors)
    for active in range(3, units // 2):
        here = best_information(units, active=active, errors=errors)
        if here[0] < best[0] and best[0] > 0:
            return best
        best = max(best, here)
    return best


def sparse_information(doublings: float, on: float = 0.5) -> float:
    """Information per synapse of a huge net of N = 2^n units with M = n of them active, in bits.

        I = -ln(1 - p1) / M^2 (log2 C(N, M) - E log2 C(M + n, M)),   n ~ Poisson(N p1^M)

    At p1 = 1/2 it tends to ln 2 (Willshaw 1969), slowly: a pattern has log2 C(N, M) bits, which is
    log2 M! short of the M^2 that would make it ln 2. Units and synapses are taken for independent,
    as they are in the limit.

    Args:
        doublings: n, a whole number up to a thousand.
        on: p1, share of the synapses that are on.
    """
    active = int(doublings)
    mean = np.exp(active * (LN2 + np.log(on)))
    extra = np.arange(int(mean + 12 * np.sqrt(mean) + 24))
    share = stats.poisson(mean).pmf(extra)
    whole = (active * active * LN2 - special.gammaln(active + 1)) / LN2  # M << N
    told = whole - share @ _log2_ways(extra + active, active)
    return float(-np.log1p(-on) * told / active**2)


def bit_error(pairs: int, units: int, *, flipped: int = 0, self_coupling: bool = False) -> float:
    """Share of units of the wrong sign after one step of a Hopfield net from a cue; exact.

        P(S < -s) + P(S = -s) / 2,   S the sum of (P - 1)(N - 1) signs
        s = N - 1 - 2 b      of the N - b units that the cue has right (+ P with self-coupling)
        s = N + 1 - 2 b      of the b units that are flipped in it     (- P with self-coupling)

    A unit that receives 0 counts as half. Without flips and with many pairs it is `gaussian_error`.

    Args:
        pairs: P, independent patterns of +1 and -1.
        units: N.
        flipped: b, units of the cue that are flipped.
        self_coupling: whether the weights keep their diagonal, P / N.

    Raises:
        FwbioError: no pair, or more flips than units.
    """
    _require_pairs(pairs)
    if not 0 <= flipped <= units:
        raise FwbioError(
            f"{flipped} of {units} units can't be flipped",
            where="flipped",
            mend=f"give a number from 0 to {units}",
        )
    own = pairs if self_coupling else 0
    signs = (pairs - 1) * (units - 1)
    right = _below(-(units - 1 - 2 * flipped + own), signs)
    wrong = _below(-(units + 1 - 2 * flipped - own), signs)
    return ((units - flipped) * right + flipped * wrong) / units


def gaussian_error(pairs: int, units: int) -> float:
    """Share of units of a stored pattern that one step turns, as if crosstalk were normal.

        Q(sqrt((N - 1) / (P - 1)))

    Args:
        pairs: P, above 1.
        units: N.
    """
    return float(sign_bit_error(np.asarray(1.0), np.asarray((pairs - 1) / (units - 1))))


def load_of(y: np.ndarray | float) -> np.ndarray:
    """The load P / N of the fixed point with overlap erf(y) at zero temperature.

        m = erf(y), y = m / sqrt(2 alpha r), r = 1 / (1 - C)^2, C = sqrt(2 / (pi alpha r)) e^(-y^2)

    of Amit, Gutfreund & Sompolinsky 1985, 10.1103/PhysRevLett.55.1530, and 1987,
    10.1016/0003-4916(87)90092-3 (recalled), solved for alpha:

        sqrt(2 alpha) = (erf(y) - 2 y e^(-y^2) / sqrt(pi)) / y

    Args:
        y: above 0, any shape.
    """
    y = np.asarray(y, float)
    field = special.erf(y) - 2 / np.sqrt(np.pi) * y * np.exp(-(y**2))
    return (field / y) ** 2 / 2


def critical_load() -> float:
    """The load above which no pattern is retrieved, .1379: the largest of `load_of`.

    It holds for infinitely many units and replica symmetry. Broken once, Crisanti, Amit & Gutfreund
    1986, 10.1209/0295-5075/2/4/012, have .144 (recalled); Steffan & Kuehn 1994 do not confirm it
    and have .1382, with .137905 for replica symmetry (their abstract was read).
    """
    return float(load_of(_edge()))


@cache
def _edge() -> float:
    """The y of the largest load."""
    most = minimize_scalar(
        lambda y: -load_of(y), bounds=(1.0, 2.5), method="bounded", options={"xatol": 1e-10}
    )
    return float(most.x)


def retrieval_overlap(load: float) -> float:
    """Overlap of a retrieved pattern with the stored one in a large net; NaN above `critical_load`.

    Args:
        load: alpha = P / N, above 0.
    """
    if load > critical_load():
        return float("nan")
    high = 40.0
    if load <= load_of(high):
        return 1.0
    return float(special.erf(brentq(lambda y: float(load_of(y)) - load, _edge(), high, xtol=1e-14)))


@cache
def _coverage(pre: int, active: int) -> np.ndarray:
    """H: how many of M units are covered, before and after one more key, (M + 1, M + 1)."""
    before, after = np.indices((active + 1, active + 1))
    hits = np.maximum(after - before, 0)
    share = stats.hypergeom.pmf(hits, pre, active - before, active)
    found = np.where(after >= before, share, 0.0)
    found.flags.writeable = False  # it is kept
    return found


def _below(edge: int, signs: int) -> float:
    """P(S < edge) + P(S = edge) / 2 for a sum of that many signs."""
    if signs == 0:
        return float((edge > 0) + (edge == 0) / 2)
    highest = -(-(edge + signs) // 2) - 1  # largest number of +1 that leaves S below the edge
    below = stats.binom.cdf(highest, signs, 0.5)
    at = stats.binom.pmf((edge + signs) // 2, signs, 0.5) if (edge + signs) % 2 == 0 else 0.0
    return float(below + at / 2)


def _log2_ways(n: np.ndarray | int, k: int) -> np.ndarray:
    """log2 of n over k, without the cancellation of large factorials."""
    terms = np.arange(k)
    wide = np.asarray(n, float)[..., None] - terms
    return np.log2(wide / (k - terms)).sum(-1)


def _require_pattern(units: int, active: int) -> None:
    if not 1 <= active <= units:
        raise FwbioError(
            f"{active} of {units} units can't be active",
            where="active",
            mend=f"give a number from 1 to {units}",
        )


def _require_pairs(pairs: int) -> None:
    if pairs < 1:
        raise FwbioError(f"{pairs} pairs store nothing", where="pairs", mend="give 1 or more")
