"""Capacity in closed form: what rules that are linear in their values must read out.

Such a rule reads y = sum_j g_j v_j for a cue of pair i, with coefficients g that keys alone decide.
Values that are independent of them and of each other, in all directions alike, then leave

    signal  E<y, v_i>/|v_i|^2 = E g_i        noise power  N = sum_(j != i) E g_j^2

so the first two moments of g tell what is recalled. `sum_rule`, `delta_rule` and `least_squares`
give these moments; what follows from them is `fwbio.analyses.capacity_expectations`.
"""

from dataclasses import dataclass

import numpy as np
from scipy import special
from scipy.optimize import brentq

from fwbio.analyses.capacity_overlaps import (
    Overlaps,
    legendre_nodes,
    normal_nodes,
    sphere_nodes,
)
from fwbio.analyses.forgetting_theory import kept_by_decay
from fwbio.errors import FwbioError

_NODES, _COORDINATES = 9, 96
_FREQUENCIES = 600


@dataclass(frozen=True, kw_only=True)
class Coefficients:
    """Moments of the coefficients g of y = sum_j g_j v_j, pair by pair.

    Args:
        own_mean: E g_i of the pair asked for, (pair,); own_square: E g_i^2, (pair,).
        other_mean: E g_j, (pair, pair), a row for each pair asked for, with a diagonal of zeros.
        other_square: E g_j^2, likewise.
        shared: Cov(g_j, g_l) / (E g_j E g_l) of two rivals; 0 where their means are.
    """

    own_mean: np.ndarray
    own_square: np.ndarray
    other_mean: np.ndarray
    other_square: np.ndarray
    shared: float = 0.0

    @property
    def own_variance(self) -> np.ndarray:
        """Var g_i, (pair,)."""
        return np.maximum(self.own_square - self.own_mean**2, 0)

    @property
    def other_variance(self) -> np.ndarray:
        """Var g_j, (pair, pair)."""
        return np.maximum(self.other_square - self.other_mean**2, 0)

    @property
    def noise(self) -> np.ndarray:
        """The noise power N of each pair asked for, (pair,)."""
        return self.other_square.sum(-1)


def crosstalk_power(pairs: np.ndarray, pre: np.ndarray) -> np.ndarray:
    """Noise power of the sum rule with unit isotropic keys and unit values, exact.

        N = (P - 1) / K

    Args:
        pairs: P, any shape.
        pre: K, broadcast against it.
    """
    return (np.asarray(pairs) - 1) / np.asarray(pre)


def sign_bit_error(signal: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Share of channels of the wrong sign where noise is Gaussian: of many pairs.

        Q(S / sqrt(N)),  Q(x) = P(normal > x);  the sum rule's is Q(sqrt(K / (P - 1)))

    Args:
        signal: S, the projection on a target of +1 and -1, any shape.
        noise: N, the noise power over that of the target, broadcast against it; above 0.

    The source is the signal-to-noise analysis of Hopfield 1982, 10.1073/pnas.79.8.2554.
    """
    return special.ndtr(-np.asarray(signal) / np.sqrt(noise))


def sign_bit_error_of_few(pairs: int, pre: int) -> float:
    """Share of channels of the wrong sign by the sum rule with unit isotropic keys, exact.

        P(c_1 + .. + c_(P-1) < -1) = 1/2 - 1/pi int_0^inf sin(t) f(t)^(P-1) / t dt,
        f(t) = E cos(t c)

    with c the coordinates of unit vectors and f their characteristic function (Gil-Pelaez 1951,
    10.1093/biomet/38.3-4.481). It tends to `sign_bit_error` as P grows, and is 0 for P up to 2.

    Args:
        pairs: P.
        pre: K, at least 2.
    """
    if pairs <= 2:
        return 0.0
    noise = (pairs - 1) / pre
    t, weight = frequencies(noise)
    coordinate, share = sphere_nodes(_COORDINATES, pre)
    characteristic = np.cos(t[:, None] * coordinate) @ share
    return below_zero(np.sin(t), characteristic ** (pairs - 1), t, weight)


def sign_bit_error_of_binary(pairs: int, pre: int, ones: int) -> float:
    """Share of channels of the wrong sign by the sum rule with unit binary keys, exact.

        P(s_1 h_1 + .. + s_(P-1) h_(P-1) < -n) + 1/2 P(.. = -n)

    with h the ones that two keys share, hypergeometric, and signs s of +1 and -1: a channel that
    reads 0 counts as half.

    Args:
        pairs: P.
        pre: K.
        ones: n, of each key.
    """
    shared = np.arange(ones + 1)
    ways = _log_ways(ones, shared) + _log_ways(pre - ones, ones - shared) - _log_ways(pre, ones)
    share = np.exp(ways) / 2
    single = np.concatenate([share[:0:-1], [2 * share[0]], share[1:]])
    length = 2 * ones * (pairs - 1) + 1
    total = np.fft.irfft(np.fft.rfft(single, length) ** (pairs - 1), length)
    edge = ones * (pairs - 1) - ones
    return float(np.clip(total[:edge].sum() + total[edge : edge + 1].sum() / 2, 0, 1))


def decayed_power(decay: float, pairs: np.ndarray, youngest: np.ndarray | int = 0) -> np.ndarray:
    """Sum of the squares of what is left of P pairs written one after another.

        sum_(m = a)^(a + P - 1) gamma^(2m) = gamma^(2a) (1 - gamma^(2P)) / (1 - gamma^2)

    Args:
        decay: gamma, above 0 and at most 1.
        pairs: P, any shape.
        youngest: a, steps since the last of them was written, broadcast against it.
    """
    pairs, start = np.asarray(pairs, float), kept_by_decay(youngest, 2 * np.log(decay))
    if decay == 1:
        return start * pairs
    return start * -np.expm1(2 * pairs * np.log(decay)) / (1 - decay**2)


def least_squares_residual(pairs: np.ndarray, pre: np.ndarray) -> np.ndarray:
    """Mean squared error of the best linear map on the P pairs it was fitted to, exact.

        1 - K / P for P > K, else 0

    Args:
        pairs: P, any shape.
        pre: K, broadcast against it; keys in general position, values independent of them.
    """
    return np.maximum(1 - np.asarray(pre) / np.asarray(pairs), 0)


def sum_rule(
    overlaps: Overlaps, pairs: int, *, strength: float = 1.0, decay: float = 1.0, wait: int = 0
) -> Coefficients:
    """Of rules that add and decay, W <- gamma W + b k v^T; exact.

        g_j = b gamma^(age of j) k_j . q

    Args:
        overlaps: of the cue with the keys.
        pairs: P, written one a step.
        strength: b.
        decay: gamma, of every step, above 0.
        wait: steps from the last pair to the read-out.
    """
    left = strength * kept_by_decay(wait + np.arange(pairs)[::-1], np.log(decay))
    return Coefficients(
        own_mean=left * overlaps.own_mean,
        own_square=left**2 * overlaps.own_square,
        other_mean=_off_diagonal(np.tile(left * overlaps.other_mean, (pairs, 1))),
        other_square=_off_diagonal(np.tile(left**2 * overlaps.other_square, (pairs, 1))),
        shared=overlaps.shared / overlaps.other_mean**2 if overlaps.other_mean else 0.0,
    )


def delta_rule(
    overlaps: Overlaps, pairs: int, *, strength: float = 1.0, decay: float = 1.0, wait: int = 0
) -> Coefficients:
    """Of the delta rule in one pass over unit isotropic keys, with decay; exact.

        g_j = b gamma^(age of j) q^T A_P .. A_(j+1) k_j,   A = I - b k k^T
        E g_i = b gamma^age (1 - b/K)^m E[k_i . q],   m later pairs
        E g_j^2 = b^2 gamma^(2 age) / K * r^(P - j) for j > i,   r = 1 - (2b - b^2)/K
        E g_j^2 = b^2 gamma^(2 age) / K * r^(i - 1 - j) (r^m - (2b - b^2) a_m) for j < i

    where a_m = E[(k_i . A_(i+1) .. A_P q)^2] grows from a_0 = E[(k_i . q)^2] by

        a' = a (1 - 2b/K + 2b^2/(K(K + 2))) + r^m b^2/(K(K + 2))

    since E[(k . h)^2 (h . u)^2] = (|u|^2 + 2 (k . u)^2)/(K(K + 2)) for an isotropic unit h. With
    b = 1 each later pair takes 1/K off what is left. The mean-square recursion is that of
    normalised least mean squares with isotropic inputs (Slock 1993, 10.1109/78.236504, recalled).

    Args:
        overlaps: of isotropic keys.
        pairs: P, written one a step.
        strength: b = beta |k|^2.
        decay: gamma, of every step, above 0, before the error is read.
        wait: steps from the last pair to the read-out.

    Raises:
        FwbioError: the keys are not isotropic.
    """
    _require_isotropic(overlaps, "delta_rule")
    pre, b = overlaps.pre, strength
    lags = np.arange(pairs)
    erased = (2 * b - b**2) / pre
    fourth = b**2 / (pre * (pre + 2))
    kept = (1 - erased) ** lags
    own = np.empty(pairs)
    own[0] = overlaps.own_square
    for m in range(pairs - 1):
        own[m + 1] = own[m] * (1 - 2 * b / pre + 2 * fourth) + kept[m] * fourth
    later = lags[::-1]  # of each pair, how many follow it
    age = kept_by_decay(wait + later, np.log(decay))
    through = kept[later] - (2 * b - b**2) * own[later]
    between = np.maximum(lags[:, None] - 1 - lags, 0)
    before = through[:, None] * (1 - erased) ** between
    power = np.where(lags < lags[:, None], before, kept[later])
    square = _off_diagonal(b**2 / pre * power * age**2)
    return Coefficients(
        own_mean=b * age * (1 - b / pre) ** later * overlaps.own_mean,
        own_square=(b * age) ** 2 * own[later],
        other_mean=np.zeros((pairs, pairs)),
        other_square=square,
    )


def least_squares(
    overlaps: Overlaps,
    pairs: int,
    *,
    strength: float = 1.0,
    decay: float = 1.0,
    wait: int = 0,
    ridge: float = 1.0,
) -> Coefficients:
    """Of the mesa layer, y = sum_j w_j v_j k_j^T (H + ridge)^-1 q, with isotropic keys.

        w_j = b gamma^(age of j),   H = sum_j w_j k_j k_j^T
        m (ridge + 1/K sum_j w_j / (1 + w_j m)) = 1,   m = E tr (H + ridge)^-1 / K
        E g_i = w_i m / (1 + w_i m) E[k_i . q]
        N_i = m2 B (E[(k_i . q)^2] / (1 + w_i m)^2 + 1 - E[(k_i . q)^2])
        B = 1/K sum_j w_j^2 / (1 + w_j m)^2,   m2 = m^2 / (1 - m^2 B)

    for large K and P: the deterministic equivalent of Silverstein & Bai 1995,
    10.1006/jmva.1995.1051, and its derivative. Corrections are of order 1/K.

    Args:
        overlaps: of isotropic keys.
        pairs: P, written one a step.
        strength: b.
        decay: gamma, of every step, above 0.
        wait: steps from the last pair to the read-out.
        ridge: penalty of every channel, above 0.

    Raises:
        FwbioError: the keys are not isotropic, or the ridge is not above 0.
    """
    _require_isotropic(overlaps, "least_squares")
    if ridge <= 0:
        raise FwbioError(f"{ridge:g} is no ridge", where="ridge", mend="give a number above 0")
    pre = overlaps.pre
    z, along = normal_nodes(_NODES)
    weight = strength * kept_by_decay(wait + np.arange(pairs)[::-1], np.log(decay))
    own_mean, own_square, noise = (np.empty(pairs) for _ in range(3))
    for i in range(pairs):
        m, second, read, both = _without(np.delete(weight, i), pre, ridge)
        spread = max(2 / (pre + 2) * (second - m**2), 0.0)
        slope = 2 / (pre + 2) * (both - m * read) / spread if spread > 1e-15 else 0.0
        h = np.maximum(m + np.sqrt(spread) * z, 0)
        share = weight[i] * h / (1 + weight[i] * h)
        own_mean[i] = along @ share * overlaps.own_mean
        own_square[i] = along @ share**2 * overlaps.own_square
        noise[i] = (
            overlaps.own_square * (along @ ((read + slope * (h - m)) / (1 + weight[i] * h) ** 2))
            + (1 - overlaps.own_square) * read
        )
    each = _off_diagonal(np.tile((weight / (1 + weight * m)) ** 2, (pairs, 1)))
    each *= (noise / np.maximum(each.sum(-1), np.finfo(float).tiny))[:, None]
    return Coefficients(
        own_mean=own_mean,
        own_square=own_square,
        other_mean=np.zeros((pairs, pairs)),
        other_square=each,
    )


def frequencies(noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of an integral over a characteristic function of that variance."""
    nodes, weights = legendre_nodes(_FREQUENCIES)
    top = 9 / np.sqrt(noise)
    return (nodes + 1) / 2 * top, weights / 2 * top


def below_zero(own: np.ndarray, others: np.ndarray, t: np.ndarray, weight: np.ndarray) -> float:
    """P(x + s < 0) for s symmetric about 0 (Gil-Pelaez 1951, 10.1093/biomet/38.3-4.481).

        1/2 - 1/pi int_0^inf E sin(t x) E cos(t s) / t dt

    Args:
        own: E sin(t x), (node,).
        others: E cos(t s), (node,).
        t: the nodes, as `frequencies` gives them, (node,).
        weight: their weights, (node,).
    """
    return float(np.clip(0.5 - (weight * own * others / t).sum() / np.pi, 0, 1))


def _off_diagonal(x: np.ndarray) -> np.ndarray:
    return np.where(np.eye(len(x), dtype=bool), 0, x)


def _log_ways(n: int, k: np.ndarray | int) -> np.ndarray:
    """Log of n over k, minus infinity where there is no way."""
    k = np.asarray(k)
    possible = (k >= 0) & (k <= n)
    at = np.where(possible, k, 0)
    ways = special.gammaln(n + 1) - special.gammaln(at + 1) - special.gammaln(n - at + 1)
    return np.where(possible, ways, -np.inf)


def _without(weight: np.ndarray, pre: int, ridge: float) -> tuple[float, float, float, float]:
    """Traces over K of R, R^2, R H2 R and R^2 H2 R, R = (H + ridge)^-1 of the given pairs."""

    def read(penalty: float) -> tuple[float, float, float]:
        def excess(m: float) -> float:
            return float(m * (penalty + (weight / (1 + weight * m)).sum() / pre) - 1)

        m = float(brentq(excess, 0.0, 1 / penalty, xtol=1e-15, rtol=1e-14))
        each = float(((weight / (1 + weight * m)) ** 2).sum() / pre)
        second = m**2 / (1 - m**2 * each)
        return m, second, second * each

    step = 1e-4 * ridge
    slope = (read(ridge + step)[2] - read(ridge - step)[2]) / (2 * step)
    return *read(ridge), -slope / 2


def _require_isotropic(overlaps: Overlaps, where: str) -> None:
    if not overlaps.isotropic:
        raise FwbioError(
            "there is no closed form for keys that are not isotropic",
            where=where,
            mend="give capacity_overlaps.isotropic(...), or measure",
        )
