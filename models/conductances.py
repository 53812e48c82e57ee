"""What a gap does to conductances that turn over unevenly and at random, and whole receptors."""

import numpy as np


def spread(cv: float, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Factors of turnover rates that differ from synapse to synapse, with mean 1.

    Gamma-distributed factors f of coefficient of variation cv have

        E exp(-f lambda t) = (1 + cv^2 lambda t)^(-1 / cv^2)

    Args:
        cv: above 0.
        shape: of the synapses.
        rng: where they are drawn from.
    """
    return rng.gamma(1 / cv**2, cv**2, shape)


def fluctuated(
    x: np.ndarray,
    turnover: np.ndarray,
    duration: float,
    *,
    multiplicative: float,
    additive: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """What fluctuating turnover makes of x, with the mean and the variance of the diffusion

        dx = -lambda x dt + sigma x dB + tau dB'
        E x(t) = x e^(-lambda t),   E x(t)^2 = x^2 e^(-z) + tau^2 t (1 - e^(-z)) / z

    where z = (2 lambda - sigma^2) t. The part that comes from x is exact in distribution
    (log-normal); the part that comes from tau is drawn as a Gaussian of the right variance.

    Args:
        x: (..), in any unit.
        turnover: lambda, 1/s, broadcast to x.
        duration: t, s.
        multiplicative: sigma, 1 / sqrt(s).
        additive: tau, units of x / sqrt(s).
        rng: where the noise is drawn from.

    Source: Kesten 1973, 10.1007/BF02392040 (recalled), for the process in discrete time.
    """
    x = x * np.exp(-turnover * duration)
    if multiplicative:
        scale = multiplicative * np.sqrt(duration)
        x = x * np.exp(scale * rng.standard_normal(x.shape) - scale**2 / 2)
    if additive:
        z = (2 * turnover - multiplicative**2) * duration
        small = np.abs(z) < 1e-9
        safe = np.where(small, 1.0, z)
        variance = additive**2 * duration * np.where(small, 1.0, -np.expm1(-safe) / safe)
        x = x + np.sqrt(variance) * rng.standard_normal(x.shape)
    return x


def whole(x: np.ndarray, quantum: float, rng: np.random.Generator) -> np.ndarray:
    """Whole numbers of quanta: x rounded up or down at random, such that the mean is x.

    Args:
        x: from 0 up.
        quantum: in the unit of x.
        rng: where the rounding is drawn from.
    """
    return quantum * np.floor(x / quantum + rng.random(x.shape))
