"""Where the rate synapses depart from the ideal: saturation, whole receptors, uneven turnover.

All randomness is drawn here, by NumPy, before a run: a seed means the same for every engine. What
turnover does at random in a gap is put into one factor and one shift at its end,

    w <- F w + S,   F = exp(-(lambda_ij - lambda_i) T) G,   lambda_ij = lambda_i g_ij

g gamma-distributed with mean 1 and the variation `turnover_cv`, the same at every gap; G and S the
solution of Kesten's dw = -lambda_ij w dt + m w dB + a dB' over a gap of length T,

    G = exp(m B_T - m^2 T / 2),   var S = a^2 (e^(cT) - 1) / c,   c = m^2 - 2 lambda_ij

G is exact, S normal with the exact variance. The mean weight decays by the gamma distribution's
Laplace transform (1 + cv^2 lambda T)^(-1 / cv^2). Kesten 1973, 10.1007/BF02392040 (recalled).
"""

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from fwbio.errors import FwbioError
from fwbio.models.presentations import Plan


class Departing(Protocol):
    """The parameters of these departures, as `fwbio.models.rate.RateModel` tells them."""

    @property
    def gap(self) -> float: ...  # noqa: D102
    @property
    def ceiling(self) -> float: ...  # noqa: D102
    @property
    def bound(self) -> float: ...  # noqa: D102
    @property
    def receptors(self) -> int: ...  # noqa: D102
    @property
    def turnover_cv(self) -> float: ...  # noqa: D102
    @property
    def noise_multiplicative(self) -> float: ...  # noqa: D102
    @property
    def noise_additive(self) -> float: ...  # noqa: D102


def events(model: Departing) -> tuple[tuple[bool, str], tuple[bool, str]]:
    """Whether weights turn over at random at the ends of gaps, and are rounded after writes."""
    random = model.turnover_cv or model.noise_multiplicative or model.noise_additive
    return (random > 0, "gap"), (model.receptors > 0, "write")


def saturated(course: Plan, ceiling: float) -> tuple[np.ndarray, ...]:
    """Keys, queries, the rates that predict and the teaching inputs, as cells that saturate fire.

    Args:
        course: the rates asked for.
        ceiling: share, from 0 to 1, of the largest rate asked of key cells (keys, queries and the
            rates that predict), or of teaching cells, that is their highest.

    Returns:
        key, query, predict and teach, shaped as in `course`.
    """
    if ceiling == 1:
        return course.key, course.query, course.predict, course.teach
    keys = (course.key, course.query, course.predict)
    highest = ceiling * max(rates.max(initial=0.0) for rates in keys)
    most = ceiling * np.abs(course.teach).max(initial=0.0)
    return (*(np.minimum(rates, highest) for rates in keys), np.clip(course.teach, -most, most))


def drawn(
    model: Departing,
    turnover: np.ndarray,
    rounded: tuple[int, int, int, int],
    *,
    columns: int,
    scale: float,
    seed: int,
) -> dict[str, np.ndarray]:
    """The random tables of a schedule: `factor`, `shift` and `chance`.

    Args:
        model: parameters.
        turnover: rates at the gaps in which weights turn over at random, 1/s, (n, gap, row).
        rounded: shape of `chance`, (write, n, column, row).
        columns: how many there are.
        scale: what a weight of 1 in the model's units is in the code's.
        seed: of all draws; each departure has a stream of its own.
    """
    uneven, noise, additive, whole = map(
        np.random.default_rng, np.random.SeedSequence(seed).spawn(4)
    )
    n, gaps, rows = turnover.shape
    shape = (gaps, n, columns, rows)
    mean = np.moveaxis(turnover, 1, 0)[:, :, None, :]
    rate, cv = mean, model.turnover_cv
    if cv:
        rate = mean * uneven.gamma(cv**-2, cv**2, shape[1:])
    factor = np.broadcast_to(np.exp(-(rate - mean) * model.gap), shape)
    shift = np.zeros(shape)
    if m := model.noise_multiplicative:
        spread = m * np.sqrt(model.gap)
        factor = factor * np.exp(spread * noise.standard_normal(shape) - spread**2 / 2)
    if a := model.noise_additive * scale:
        variance = a**2 * model.gap * _growth((m**2 - 2 * rate) * model.gap)
        shift = np.sqrt(variance) * additive.standard_normal(shape)
    return {"factor": factor, "shift": shift, "chance": whole.random(rounded)}


def _growth(x: np.ndarray) -> np.ndarray:
    """(e^x - 1) / x, 1 at 0."""
    small = np.abs(x) < 1e-12
    return np.where(small, 1.0, np.expm1(x) / np.where(small, 1.0, x))


def require_within(initial: np.ndarray, bound: float) -> None:
    """Refuse weights before the first step that no conductance within the bound could carry.

    Raises:
        FwbioError: some |weight| is above the bound.
    """
    largest = np.abs(initial).max(initial=0.0)
    if largest > bound * (1 + 1e-12):
        raise FwbioError(
            f"an initial weight of size {largest:.3g} would need a conductance below 0,"
            f" which bound allows from -{bound:.3g} to {bound:.3g} about the baseline",
            where="rate substrate",
            mend="raise bound, or scale the initial weights down",
        )


def told(model: Departing) -> Iterator[str]:
    """What is not ideal in a run, in words."""
    if model.ceiling < 1:
        yield f"cells saturate at {model.ceiling:g} of the largest rate asked for"
    if model.bound < np.inf:
        yield f"weights end at {model.bound:g} times what independent writes would add up to"
    if model.receptors:
        yield f"conductances are rounded to {model.receptors} receptors after each presentation"
    if model.turnover_cv:
        yield f"turnover rates vary over synapses by {model.turnover_cv:g} of their mean"
    if model.noise_multiplicative or model.noise_additive:
        yield (
            "turnover is noisy: its multiplicative part exact, the additive one normal with the"
            " exact variance over a gap"
        )
