"""Overlaps: what codes make of the inner products of a cue with the keys that a memory holds.

A memory that is linear in its values reads y = sum_j g_j v_j, and everything that pairs do to each
other goes through the overlaps k_j . q of a unit cue q with unit keys k_j. Here are their first
two moments: of the cue with its own key, and with any other.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import special, stats

from fwbio.errors import FwbioError

_NODES, _FEW = 32, 12
_ANGLES = 720


@dataclass(frozen=True, kw_only=True)
class Overlaps:
    """Moments of the overlaps of a unit cue with unit keys, drawn independently of each other.

    Args:
        pre: features of an item, K.
        own_mean: E[k . q] of the cue's own key; own_square: E[(k . q)^2].
        other_mean: E[k' . q] of any other key; other_square: E[(k' . q)^2].
        isotropic: whether the other keys have no direction that they share.
        shared: Cov[k' . q, k'' . q] of two other keys.
        ones: of binary keys, how many of their features are 1; None for others.
    """

    pre: int
    own_mean: float = 1.0
    own_square: float = 1.0
    other_mean: float
    other_square: float
    isotropic: bool = False
    shared: float = 0.0
    ones: int | None = None

    @property
    def own_variance(self) -> float:
        """Var[k . q] of the cue's own key."""
        return max(self.own_square - self.own_mean**2, 0.0)

    @property
    def other_variance(self) -> float:
        """Var[k' . q] of any other key."""
        return max(self.other_square - self.other_mean**2, 0.0)


def isotropic(pre: int, *, noise: float = 0.0) -> Overlaps:
    """Unit keys in all directions alike, cued with noise; exact.

        q = (k + s n) / |k + s n|,  n ~ N(0, I/K);   E[k' . q] = 0,  E[(k' . q)^2] = 1/K

    Args:
        pre: K, at least 2.
        noise: s, the norm of the cue's noise in units of the key's.

    Raises:
        FwbioError: `pre` is below 2, or the noise is negative.
    """
    _check(pre, noise)
    cosines, weight = cue_cosine(pre, noise)
    return Overlaps(
        pre=pre,
        own_mean=float(weight @ cosines),
        own_square=float(weight @ cosines**2),
        other_mean=0.0,
        other_square=1 / pre,
        isotropic=True,
    )


def on_off(pre: int, *, noise: float = 0.0) -> Overlaps:
    """Isotropic items coded by ON and OFF cells, k = [max(x, 0), max(-x, 0)], |x| = 1.

        k' . q = sum_i max(x'_i c_i, 0)
        E[k' . q] = K m^2 / 2,  m = E|x_i| = Gamma(K/2) / (sqrt(pi) Gamma((K + 1)/2))
        E[(k' . q)^2] = 1/(2K) + (1 - 1/K)/pi^2
        E[k . q | angle h] = (sin h + (pi - h) cos h) / pi

    The first three are exact; so is the last (the arc-cosine kernel, Cho & Saul 2009), of which the
    square is taken to first order in 1/K.

    Args:
        pre: features of an item, K, at least 2; there are 2K cells.
        noise: s, the norm of the noise on the cue before it is coded, in units of the item's.

    Raises:
        FwbioError: `pre` is below 2, or the noise is negative.
    """
    _check(pre, noise)
    cosines, weight = cue_cosine(pre, noise)
    mean, variance = _rectified(cosines, pre)
    size = np.exp(special.gammaln(pre / 2) - special.gammaln((pre + 1) / 2)) / np.sqrt(np.pi)
    return Overlaps(
        pre=pre,
        own_mean=float(weight @ mean),
        own_square=float(weight @ (mean**2 + variance)),
        other_mean=float(pre * size**2 / 2),
        other_square=1 / (2 * pre) + (1 - 1 / pre) / np.pi**2,
    )


def correlated(pre: int, similarity: float, *, noise: float = 0.0) -> Overlaps:
    """Unit keys that share a direction, k = a / |a| with a = sqrt(r) c + sqrt(1 - r) f; exact.

        A = E[k . c],  B = E[(k . c)^2],   E[k' . k] = A^2,  E[(k' . k)^2] = B^2 + (1 - B)^2/(K - 1)
        E[k' . q] = A^2 E[k . q]
        E[(k' . q)^2] = e E[(k . q)^2] + (1 - e) (1 - E[(k . q)^2])/(K - 1),  e = E[(k' . k)^2]
        Cov[k' . q, k'' . q] = A^2 Var[c . q]

    c and f are isotropic unit vectors, c common to a trial's keys. E[k' . k] tends to r as K grows.

    Args:
        pre: K, at least 3.
        similarity: r, from 0 to 1.
        noise: s, the norm of the cue's noise in units of the key's.

    Raises:
        FwbioError: `pre` is below 3, or a number is out of its range.
    """
    _check(pre, noise, least=3)
    own = isotropic(pre, noise=noise)
    along, weight = _along_common(pre, similarity)
    first, second = float(weight @ along), float(weight @ along**2)
    square = second**2 + (1 - second) ** 2 / (pre - 1)
    mean = first**2 * own.own_mean
    common = second * own.own_square + (1 - second) * (1 - own.own_square) / (pre - 1)
    return Overlaps(
        pre=pre,
        own_mean=own.own_mean,
        own_square=own.own_square,
        other_mean=mean,
        other_square=square * own.own_square + (1 - square) * (1 - own.own_square) / (pre - 1),
        shared=first**2 * max(common - (first * own.own_mean) ** 2, 0.0),
    )


def correlated_on_off(pre: int, similarity: float) -> Overlaps:
    """Correlated items coded by ON and OFF cells, cued without noise.

    Args:
        pre: features of an item, K, at least 3.
        similarity: the mean cosine of items as K grows, from 0 to 1.

    Returns:
        The mean is exact, the square to first order in 1/K.

    Raises:
        FwbioError: `pre` is below 3, or a number is out of its range.
    """
    _check(pre, 0.0, least=3)
    cosines, weight = _correlated_cosine(pre, similarity)
    mean, variance = _rectified(cosines, pre)
    return Overlaps(
        pre=pre,
        other_mean=float(weight @ mean),
        other_square=float(weight @ (mean**2 + variance)),
    )


def sparse(pre: int, active: float) -> Overlaps:
    """Binary keys with n = max(1, round(active K)) ones, divided by sqrt(n), cued exactly.

        n k' . k ~ hypergeometric(K, n, n);   E = n/K,  Var = (1 - n/K)^2 / (K - 1)

    Args:
        pre: K, at least 2.
        active: the share of ones, from 0 to 1.

    Raises:
        FwbioError: a number is out of its range.
    """
    _check(pre, 0.0)
    _check_share("active", active)
    ones = active_ones(active, pre)
    share = ones / pre
    variance = (1 - share) ** 2 / (pre - 1)
    return Overlaps(pre=pre, other_mean=share, other_square=share**2 + variance, ones=ones)


def active_ones(active: float, pre: int) -> int:
    """How many ones a binary key has, max(1, round(active K)).

    Args:
        active: the share of ones that was asked for, from 0 to 1.
        pre: K, features of a key.
    """
    return max(1, round(active * pre))


def cue_cosine(pre: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of the cosine of a noisy cue with its item.

        cos = (1 + s n) / sqrt((1 + s n)^2 + s^2 R),   n ~ N(0, 1/K),   R ~ chi^2_(K-1) / K

    Args:
        pre: K, at least 2.
        noise: s, the norm of the noise in units of the item's.

    Returns:
        The cosines and their weights, (n,) each, which sum to 1.
    """
    if noise == 0:
        return np.ones(1), np.ones(1)
    along, weight = normal_nodes(_NODES)
    across, share = chi_square_nodes(_NODES, pre - 1)
    along = 1 + noise * along[:, None] / np.sqrt(pre)
    cosines = along / np.hypot(along, noise * np.sqrt(across / pre))
    return cosines.ravel(), np.outer(weight, share).ravel()


@cache
def legendre_nodes(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre nodes and weights of an integral from -1 to 1, (count,) each."""
    nodes, weights = special.roots_legendre(count)
    return nodes, weights


@cache
def normal_nodes(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Hermite nodes and weights of a standard normal variable, (count,) each."""
    nodes, weights = special.roots_hermitenorm(count)
    return nodes, weights / weights.sum()


def chi_square_nodes(count: int, degrees: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of a chi-square variable: quantiles at Gauss-Legendre shares, (count,)."""
    nodes, weights = legendre_nodes(count)
    return stats.chi2.ppf((nodes + 1) / 2, degrees), weights / 2


def sphere_nodes(count: int, dimensions: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Jacobi nodes and weights of one coordinate of an isotropic unit vector, (count,)."""
    nodes, weights = special.roots_jacobi(count, (dimensions - 3) / 2, (dimensions - 3) / 2)
    return nodes, weights / weights.sum()


def _along_common(pre: int, similarity: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of the overlap of a key with the direction that keys share."""
    _check_share("similarity", similarity)
    free, weight = sphere_nodes(_FEW, pre)
    along = np.sqrt(similarity) + np.sqrt(1 - similarity) * free
    across = np.sqrt((1 - similarity) * (1 - free**2))
    return along / np.hypot(along, across), weight


def _correlated_cosine(pre: int, similarity: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of the cosine of two keys that share a direction."""
    along, weight = _along_common(pre, similarity)
    rest, share = sphere_nodes(_FEW, pre - 1)
    one, other = along[:, None, None], along[:, None]
    cosines = one * other + np.sqrt((1 - one**2) * (1 - other**2)) * rest
    return cosines.ravel(), (weight[:, None, None] * weight[:, None] * share).ravel()


def _rectified(cosines: np.ndarray, pre: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of the overlap of two items' ON and OFF codes, by the items' cosine.

    The mean is exact. The variance is that of sum f / sqrt(sum g^2 sum h^2), f = max(gh, 0), with g
    and h Gaussian and sum gh / sqrt(sum g^2 sum h^2) given, to first order in 1/K.
    """
    angle = np.arccos(np.clip(cosines, -1, 1))
    mean = (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / np.pi
    turn = 2 * np.pi * np.arange(_ANGLES)[:, None] / _ANGLES
    one, other = np.cos(turn), np.cos(turn - angle)
    length = (one**2 + other**2) / 2
    turned = (np.pi - angle) / np.pi * (one * other - np.cos(angle) * length)
    left = np.maximum(one * other, 0) - mean * length - turned
    return mean, 8 * (left**2).mean(0) / pre  # the fourth moment of a radius in the plane is 8


def _check(pre: int, noise: float, *, least: int = 2) -> None:
    if pre < least:
        raise FwbioError(
            f"there are no such overlaps in {pre} dimensions",
            where="pre",
            mend=f"give at least {least}",
        )
    if noise < 0:
        raise FwbioError(f"{noise:g} is negative", where="noise", mend="give a number from 0")


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise FwbioError(f"{value:g} is no share", where=name, mend="give a number from 0 to 1")
