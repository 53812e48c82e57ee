"""What a reproduction is: runs, what was published of them, what must show, how it is drawn."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes

from fwbio.analyses.words import number
from fwbio.models.networks.training import SequenceTraining, TrainedNetwork

Condition = Mapping[str, str | int | float]
LEAST_SEEDS = 3  # with fewer, an order of results is no claim


@dataclass(frozen=True, kw_only=True)
class Run:
    """A network to train and to measure.

    Args:
        condition: what tells it from other runs but for the seed, such as the model and its units.
        training: what it is trained on and how, its seed included.
        test: the sizes of the fresh sequences that it is measured on, `trials` among them, where
            they differ from those of training.
        cost: how long it takes beside other runs; the longest are started first.
    """

    condition: Condition
    training: SequenceTraining
    test: Mapping[str, Any]
    cost: float = 1.0


class Measured(NamedTuple):
    """What is measured of a trained network: numbers, and the series that figures need."""

    metrics: Mapping[str, float]
    curves: Mapping[str, Sequence[float]]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a run.

    Args:
        condition: the run's.
        seed: the run's.
        metrics: measured numbers by name.
        curves: measured series by name.
        seconds: of training, on one thread, but for stretches that were killed.
        steps: gradient steps taken.
        training: the config as plain data.
        checkpoint: the file that holds the network.
    """

    condition: Condition
    seed: int
    metrics: Mapping[str, float]
    curves: Mapping[str, Sequence[float]]
    seconds: float
    steps: int
    training: Mapping[str, Any]
    checkpoint: str


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published figure.

    Args:
        condition: which runs it stands beside: those that have these fields.
        metric: of them.
        value: as published.
        note: how the published setting differs from the one that is measured.
    """

    condition: Condition
    metric: str
    value: float
    note: str = ""

    def concerns(self, condition: Condition, metric: str) -> bool:
        """Whether it stands beside this metric of this condition."""
        return metric == self.metric and matches(condition, self.condition)


class Claim(NamedTuple):
    """What must show: in words, whether it does (None: it can't be told), and the numbers."""

    text: str
    holds: bool | None
    found: str


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """A published result, and what it takes to see whether it comes out.

    Args:
        name: as it is asked for; title: what it shows; source: the publication.
        runs: the runs of the full or the quick form, for these seeds.
        measure: what is measured of a trained network; a function of a module, so that other
            processes find it.
        metrics: the measured numbers that the table shows, each with its heading.
        published: the published figures.
        claims: what must show, held to what was found.
        panels: the figure, each function drawing the outcomes on the Axes it is given.
        seeds: how many seeds unless told; quick_seeds: the same of the quick form.
    """

    name: str
    title: str
    source: str
    runs: Callable[[bool, Sequence[int]], list[Run]]
    measure: Callable[[TrainedNetwork, Run], Measured]
    metrics: Mapping[str, str]
    claims: Callable[[Sequence[Outcome]], list[Claim]]
    panels: tuple[Callable[[Sequence[Outcome], Axes], Axes], ...]
    published: tuple[Published, ...] = field(default=())
    seeds: int = 3
    quick_seeds: int = 1


def told(value: float) -> str:
    """A number in words: as `fwbio.analyses.words.number`, four digits where it is above 1.

    >>> [told(x) for x in (61.65, 0.0, 0.98, -2.0)]
    ['61.65', '0', '0.980', '-2']
    """
    return f"{value:.4g}" if abs(value) >= 1 else number(value)


def matches(condition: Condition, wanted: Condition) -> bool:
    """Whether a condition has these fields."""
    return all(condition.get(name) == value for name, value in wanted.items())


def found(outcomes: Sequence[Outcome], metric: str, **condition: str | int | float) -> np.ndarray:
    """A metric of the runs of a condition, one number a seed in the order of seeds, (seed,)."""
    mine = [x for x in outcomes if matches(x.condition, condition) and metric in x.metrics]
    return np.array([x.metrics[metric] for x in sorted(mine, key=lambda x: x.seed)])


def series(outcomes: Sequence[Outcome], name: str, **condition: str | int | float) -> np.ndarray:
    """A curve of the runs of a condition, (seed, point)."""
    mine = [x for x in outcomes if matches(x.condition, condition) and name in x.curves]
    return np.array([x.curves[name] for x in sorted(mine, key=lambda x: x.seed)])


def conditions(outcomes: Sequence[Outcome]) -> list[Condition]:
    """Every condition once, in the order of the runs."""
    return list({tuple(x.condition.items()): x.condition for x in outcomes}.values())


def at_most(text: str, values: np.ndarray, bound: float) -> Claim:
    """The claim that a mean over seeds is at most so much."""
    return _bounded(text, values, holds=lambda mean: mean <= bound)


def at_least(text: str, values: np.ndarray, bound: float) -> Claim:
    """The claim that a mean over seeds is at least so much."""
    return _bounded(text, values, holds=lambda mean: mean >= bound)


def near(text: str, values: np.ndarray, value: float, distance: float) -> Claim:
    """The claim that a mean over seeds is no further than that from a value."""
    return _bounded(text, values, holds=lambda mean: abs(mean - value) <= distance)


def ratio_at_least(text: str, above: np.ndarray, below: np.ndarray, bound: float) -> Claim:
    """The claim that one mean over seeds is at least so many times another."""
    if not (above.size and below.size):
        return Claim(text, None, "not run")
    ratio = above.mean() / max(below.mean(), np.finfo(float).tiny)
    words = f"{told(above.mean())} / {told(below.mean())} = {ratio:.3g}"
    return Claim(text, bool(ratio >= bound), words)


def ordered(text: str, groups: Mapping[str, np.ndarray]) -> Claim:
    """The claim that the means fall from group to group.

    It can't be told from fewer than three seeds. What is found says of each pair of neighbours
    whether the worst seed of the one is still above the best of the other.
    """
    if any(values.size < LEAST_SEEDS for values in groups.values()):
        return Claim(text, None, f"fewer than {LEAST_SEEDS} seeds")
    means = {name: values.mean() for name, values in groups.items()}
    pairs = list(pairwise(groups))
    apart = [
        f"{a} {'over' if groups[a].min() > groups[b].max() else 'not over'} {b} in every seed"
        for a, b in pairs
    ]
    words = ", ".join(f"{name} {told(mean)}" for name, mean in means.items())
    holds = all(means[a] > means[b] for a, b in pairs)
    return Claim(text, holds, "; ".join([words, *apart]))


def _bounded(text: str, values: np.ndarray, *, holds: Callable[[float], bool]) -> Claim:
    if not values.size:
        return Claim(text, None, "not run")
    mean = float(values.mean())
    words = told(mean)
    if values.size > 1:
        words += f" ({told(float(values.min()))} .. {told(float(values.max()))})"
    return Claim(text, bool(holds(mean)), words)
