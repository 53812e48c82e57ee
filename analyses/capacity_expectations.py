"""What the coefficients of a read-out lead to: noise, wrong signs, wrong answers.

The means are exact where the coefficients' moments are; probabilities are integrals over them.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
from scipy import special, stats

from fwbio.analyses.capacity_overlaps import chi_square_nodes, legendre_nodes, normal_nodes
from fwbio.analyses.capacity_theory import Coefficients, below_zero, frequencies

POSITIONS = 9
_KINDS = 8
_SCORES, _LENGTHS, _RIVALS, _POWERS, _SHARED = 24, 10, 9, 8, 12


def expected(g: Coefficients, post: int) -> Mapping[str, float]:
    """What coefficients lead to, averaged over the pairs asked for.

        signal  S = E g_i,   noise power N,   residual  E|y - v_i|^2/|v_i|^2 = E (g_i - 1)^2 + N

    exact where the moments are; and by quadrature, with g taken as Gaussian and independent:
    `bit_error`, `recall_accuracy` and `recall_cosine` (see `sign_error` and `recall`).

    Args:
        g: the coefficients' moments.
        post: V, channels of a value.
    """
    accuracy, cosine = recall(g, post)
    return {
        "signal": float(g.own_mean.mean()),
        "noise_power": float(g.noise.mean()),
        "residual": float((1 - 2 * g.own_mean + g.own_square + g.noise).mean()),
        "bit_error": sign_error(g),
        "recall_accuracy": accuracy,
        "recall_cosine": cosine,
    }


def sign_error(g: Coefficients) -> float:
    """Share of channels of the wrong sign, values +1 and -1, coefficients Gaussian.

        E P(g_i + sum_j s_j g_j < 0) = 1/2 - 1/pi int E sin(t g_i) prod_j E cos(t g_j) / t dt

    with signs s of +1 and -1 (Gil-Pelaez 1951). Gaussian in sum only where many pairs share the
    noise: means that are not 0 leave a sum of signs.

    Args:
        g: the coefficients' moments.
    """

    def error(i: int) -> float:
        if not g.noise[i]:
            return 0.0
        found = 0.0
        own_mean, own_variance = g.own_mean[i], g.own_variance[i]
        for together, share in zip(*_normal(g.shared), strict=True):
            spread = np.maximum(g.other_variance[i] - g.shared * g.other_mean[i] ** 2, 0)
            t, weight = frequencies(spread.sum() + own_variance or g.noise[i])
            mean = (1 + np.sqrt(g.shared) * together) * g.other_mean[i]
            values, times = _repeated(mean, spread, without=i)
            phase = np.cos(t[:, None] * values[:, 0])
            cosines = phase * np.exp(-(t[:, None] ** 2) * values[:, 1] / 2)
            own = np.sin(t * own_mean) * np.exp(-(t**2) * own_variance / 2)
            found += share * below_zero(own, (cosines**times).prod(-1), t, weight)
        return found

    return float(_over_pairs(error, g))


def recall(g: Coefficients, post: int) -> tuple[float, float]:
    """The probability that the stored value nearest to the read-out is the right one; its cosine.

        y = g_i v_i + g_j v_j + r;   a = <g_i v_i + r, v_i> = g_i + sqrt(N'/V) z,   N' = N - g_j^2
        <y, v_i> > <y, v_j>  <=>  u < (a - g_j) / sqrt((a - g_j)^2 + N'/V chi^2_(V-1))
        accuracy = E prod_(j != i) P(u < ..),   cosine = E a / sqrt(a^2 + N/V chi^2_(V-1)), N' = N

    for unit values, u one coordinate of an isotropic unit vector in R^V. The condition on one rival
    v_j is exact: it counts that the rival's value is part of the read-out. The expectation is over
    z, chi^2, each g_j (Gaussian) and N (gamma, with the variance that Gaussian g_j give it); rivals
    are independent given these.

    Args:
        g: the coefficients' moments.
        post: V, channels of a value, at least 2.
    """
    z, z_weight = normal_nodes(_SCORES)
    chi, chi_weight = chi_square_nodes(_LENGTHS, post - 1)
    c, c_weight = normal_nodes(_RIVALS)

    def both(i: int) -> np.ndarray:
        mean, variance = g.other_mean[i], g.other_variance[i]
        total = g.noise[i]
        factor, share = _gamma_nodes(_POWERS, _swings(mean, variance, g.shared))
        weight = z_weight[:, None, None] * chi_weight[:, None] * share
        values, times = _repeated(mean, variance, without=i)
        below = np.ones(weight.shape)
        spread = np.sqrt(g.own_variance[i])
        for (m, v), count in zip(values, times, strict=True):
            a, across = _components(
                g.own_mean[i], spread, (total - m**2 - v) / post, z, chi, factor
            )
            ahead = a[..., None] - (m + np.sqrt(v) * c)
            length = np.sqrt(ahead**2 + across[..., None])
            below *= (_sphere_cdf(ahead / np.maximum(length, 1e-300), post) @ c_weight) ** count
        a, across = _components(g.own_mean[i], spread, total / post, z, chi, factor)
        length = np.sqrt(a**2 + across)
        return np.array([(weight * below).sum(), (weight * a / np.maximum(length, 1e-300)).sum()])

    accuracy, cosine = _over_pairs(both, g)
    return float(accuracy), float(cosine)


def _normal(variance: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of a standard normal variable: one where what it scales does not vary."""
    return normal_nodes(_SHARED) if variance else normal_nodes(1)


def _swings(mean: np.ndarray, variance: np.ndarray, shared: float) -> float:
    """The variance of sum_j g_j^2, Gaussian g, over its mean's square."""
    alone = (2 * variance**2 + 4 * mean**2 * variance).sum()
    together = (mean**2).sum() ** 2 * (4 * shared + 2 * shared**2)
    total = (mean**2 + variance).sum()
    return float((alone + together) / total**2) if total else 0.0


def _components(
    mean: float, spread: float, noise: float, z: np.ndarray, chi: np.ndarray, factor: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of a read-out: its part along the target, and the square of the rest, (z, chi, factor)."""
    power = max(noise, 0.0) * factor
    along = mean + np.sqrt(spread**2 + power) * z[:, None, None]
    return along, power * chi[:, None]


def _over_pairs(measure: Callable[[int], Any], g: Coefficients) -> np.ndarray:
    """The mean over pairs of what is measured at some of them, and between these interpolated."""
    count = len(g.own_mean)
    alike = np.ptp(g.own_mean) == 0 and np.ptp(g.noise) <= 1e-12 * g.noise.max()
    if alike:
        return np.asarray(measure(0))
    at = np.unique(np.linspace(0, count - 1, POSITIONS).round().astype(int))
    found = np.array([np.atleast_1d(measure(i)) for i in at])
    whole = [np.interp(np.arange(count), at, column).mean() for column in found.T]
    return np.squeeze(whole)


def _gamma_nodes(count: int, variance: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of a gamma variable of mean 1, (count,) each; one node without variance."""
    if variance < 1e-12:
        return np.ones(1), np.ones(1)
    nodes, weights = legendre_nodes(count)
    found = stats.gamma.ppf((nodes + 1) / 2, 1 / variance, scale=variance)
    return found / (weights @ found / 2), weights / 2


def _repeated(
    mean: np.ndarray, variance: np.ndarray, *, without: int
) -> tuple[np.ndarray, np.ndarray]:
    """Kinds of rivals, (mean, variance) each, (kind, 2), and how many there are of each.

    Where many differ, those of neighbouring power count as one kind with their average.
    """
    rivals = np.delete(np.stack([mean, variance], -1), without, axis=0)
    values, times = np.unique(rivals.round(15), axis=0, return_counts=True)
    if len(values) <= _KINDS:
        return values.reshape(-1, 2), times
    order = np.argsort((rivals * [[1, 0]]).sum(-1) ** 2 + rivals[:, 1])
    parts = np.array_split(rivals[order], _KINDS)
    return np.array([part.mean(0) for part in parts]), np.array([len(part) for part in parts])


def _sphere_cdf(x: np.ndarray, dimensions: int) -> np.ndarray:
    """P(u < x) for one coordinate u of an isotropic unit vector."""
    grid, below = _sphere_table(dimensions)
    return np.interp(x, grid, below)


@cache
def _sphere_table(dimensions: int) -> tuple[np.ndarray, np.ndarray]:
    """That probability on a grid: between its points straight lines are off by 1e-7 at most."""
    grid = np.linspace(-1, 1, 2**14 + 1)
    half = special.betainc(0.5, (dimensions - 1) / 2, grid**2)
    return grid, (1 + np.sign(grid) * half) / 2
