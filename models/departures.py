"""Where the rate synapses depart from the ideal: saturation, whole receptors, uneven turnover.

All randomness is drawn here, by NumPy, before a run: a seed means the same for every engine. What
turnover does at random in a gap is put into one factor and one shift at its end,

    w <- F w + S,   F = exp(-(lambda_ij - lambda_i) T) G,   lambda_ij = lambda_i g_ij

g and the solution of Kesten's dw = -lambda_ij w dt + m w dB + a dB' over a gap of length T,
w e^(-lambda_ij T) G + S, as `fwbio.models.conductances` draws them; g is the same at every gap.
"""

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from fwbio.errors import FwbioError
from fwbio.models import conductances
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
    rates: np.ndarray,
    rounded: tuple[int, int, int, int],
    *,
    columns: int,
    scale: float,
    seed: int,
) -> dict[str, np.ndarray]:
    """The random tables of a schedule: `factor`, `shift` and `chance`.

    Args:
        model: parameters.
        rates: turnover at the gaps in which weights turn over at random, 1/s, (n, gap, row).
        rounded: shape of `chance`, (write, n, column, row).
        columns: how many there are.
        scale: what a weight of 1 in the model's units is in the code's.
        seed: of all draws; each departure has a stream of its own.
    """
    uneven, noise, additive, whole = map(
        np.random.default_rng, np.random.SeedSequence(seed).spawn(4)
    )
    n, gaps, rows = rates.shape
    shape = (gaps, n, columns, rows)
    mean = np.moveaxis(rates, 1, 0)[:, :, None, :]
    rate = mean
    if model.turnover_cv:
        rate = mean * conductances.spread(model.turnover_cv, shape[1:], uneven)
    m, a = model.noise_multiplicative, model.noise_additive * scale
    return {
        "factor": conductances.fluctuated(
            np.ones(shape), rate - mean, model.gap, multiplicative=m, additive=0.0, rng=noise
        ),
        "shift": conductances.fluctuated(
            np.zeros(shape), rate, model.gap, multiplicative=m, additive=a, rng=additive
        ),
        "chance": whole.random(rounded),
    }


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
