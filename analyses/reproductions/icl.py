"""In-context linear regression: layers of fast weights that learn as classical rules do.

Linear attention's sum of writes is one step of gradient descent from zero weights (von Oswald et
al. 2023), the delta rule's is online least mean squares (Widrow & Hoff 1960):

    w = (eta / n) sum_i y_i x_i;      w <- w + eta (y_i - w.x_i) x_i;      prediction w.x_query
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Final

import numpy as np
import torch
import xarray as xr
from matplotlib.axes import Axes

from fwbio.analyses.reproductions import plots
from fwbio.analyses.reproductions.reproduction import (
    Claim,
    Measured,
    Outcome,
    Published,
    Reproduction,
    Run,
    at_least,
    at_most,
    found,
    series,
)
from fwbio.kernels import scan
from fwbio.models.networks.memory import FastWeightMemoryConfig
from fwbio.models.networks.sequence_model import SequenceModelConfig
from fwbio.models.networks.training import SequenceTraining, TrainedNetwork, evaluate
from fwbio.tasks import TASKS

TASK = "regression"
INPUTS, EXAMPLES = 5, 20
WIDTH = 16  # of the delta rule's model: room for its positions beside x and y
POSITION_STD = 0.1
BATCH, LEARNING_RATE, CLIP = 64, 1e-2, 1.0
SCHEDULE: Final = "cosine"
STEP_SIZES = np.linspace(0.01, 0.4, 40)
DRAWN = 300
CORRELATED, EXACT = 0.99, 1e-12
TEST_SEED = 2022


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is trained on and tested."""

    steps: Mapping[str, int]
    epochs: int
    validation: int
    test: int


SUM, DELTA = "linear attention", "delta rule"
FULL = Sizes(steps={SUM: 200, DELTA: 300}, epochs=10, validation=1_000, test=2_000)
QUICK = Sizes(steps={SUM: 100, DELTA: 150}, epochs=8, validation=500, test=500)


def model(name: str) -> SequenceModelConfig:
    """One layer of one head that reads x and y, without norms and MLPs.

    The delta rule's has a vector of each position, by which it can leave the query's step, whose y
    of 0 is no example, unwritten: its write would erase part of what the query reads.
    """
    memory = FastWeightMemoryConfig(
        rule="hebb" if name == SUM else "delta",
        heads=1,
        key_width=INPUTS + 1,
        value_width=INPUTS + 1,
        normalise="none",
        output_norm=False,
    )
    plain = SequenceModelConfig(
        features=INPUTS + 1,
        classes=1,
        width=INPUTS + 1,
        layers=1,
        mixer=memory,
        norm="none",
        mlp=0,
        embed=False,
    )
    if name == SUM:
        return plain
    return SequenceModelConfig(
        features=INPUTS + 1,
        classes=1,
        width=WIDTH,
        layers=1,
        mixer=memory,
        norm="none",
        mlp=0,
        positions="learned",
        max_length=EXAMPLES + 1,
        embedding_std=POSITION_STD,
    )


def runs(quick: bool, seeds: Sequence[int]) -> list[Run]:
    """Both layers."""
    sizes = QUICK if quick else FULL
    return [
        Run(
            condition={"layer": name},
            training=SequenceTraining(
                task=TASK,
                sizes={"inputs": INPUTS, "examples": EXAMPLES},
                model=model(name),
                batch=BATCH,
                steps=steps,
                epochs=sizes.epochs,
                validation=sizes.validation,
                learning_rate=LEARNING_RATE,
                schedule=SCHEDULE,
                clip=CLIP,
                seed=seed,
            ),
            test={"trials": sizes.test},
            cost=steps,
        )
        for name, steps in sizes.steps.items()
        for seed in seeds
    ]


def gradient_step(x: np.ndarray, y: np.ndarray, step_size: float) -> np.ndarray:
    """The weights (trial, input) after one step of gradient descent from zero.

    w = (eta / n) sum_i y_i x_i, on the mean of (y_i - w.x_i)^2 / 2.

    Args:
        x: examples (trial, example, input).
        y: their values (trial, example).
        step_size: eta.
    """
    return step_size * np.einsum("tei,te->ti", x, y) / x.shape[1]


def least_mean_squares(x: np.ndarray, y: np.ndarray, step_size: float) -> np.ndarray:
    """The weights (trial, input) after one step for each example, in their order, from zero.

    w <- w + eta (y_i - w.x_i) x_i. Arguments as of `gradient_step`. Source: Widrow & Hoff 1960.
    """
    w = np.zeros((x.shape[0], x.shape[2]))
    for i in range(x.shape[1]):
        error = y[:, i] - np.einsum("ti,ti->t", w, x[:, i])
        w = w + step_size * error[:, None] * x[:, i]
    return w


def by_scan(x: np.ndarray, y: np.ndarray, step_size: float) -> np.ndarray:
    """What the delta rule's kernel makes of keys x and values y; arguments as `gradient_step`'s."""
    k, v = torch.from_numpy(x)[:, :, None], torch.from_numpy(y)[:, :, None, None]
    beta = torch.full(k.shape[:3], step_size, dtype=k.dtype)
    return scan("delta", torch.zeros_like(k), k, v, beta=beta)[1][:, 0, :, 0].numpy()


# a function that makes weights of examples and a step size
Learner = Callable[[np.ndarray, np.ndarray, float], np.ndarray]
LEARNERS: Mapping[str, Learner] = MappingProxyType({SUM: gradient_step, DELTA: least_mean_squares})


def best(
    learn: Learner, x: np.ndarray, y: np.ndarray, query: np.ndarray, target: np.ndarray
) -> float:
    """The step size of the lowest squared error of predictions w.x_query, (trial,) of them."""
    if learn is gradient_step:  # in closed form, for predictions are proportional to it
        predicted = np.einsum("ti,ti->t", learn(x, y, 1.0), query)
        return float(predicted @ target / (predicted @ predicted))
    errors = [
        np.square(np.einsum("ti,ti->t", learn(x, y, eta), query) - target).mean()
        for eta in STEP_SIZES
    ]
    return float(STEP_SIZES[int(np.argmin(errors))])


def measure(network: TrainedNetwork, run: Run) -> Measured:
    """How far a layer's predictions, and what they weigh the query by, are those of its rule."""
    episode = TASKS[TASK](TEST_SEED, **{**run.training.sizes, **run.test})
    x, y, query, target = _split(episode)
    learn = LEARNERS[str(run.condition["layer"])]
    step_size = best(learn, x, y, query, target)
    weights = learn(x, y, step_size)
    classical = np.einsum("ti,ti->t", weights, query)
    predicted, gradient = _predictions(network.model, episode)
    cosine = np.einsum("ti,ti->t", gradient, weights) / np.maximum(
        np.linalg.norm(gradient, axis=1) * np.linalg.norm(weights, axis=1), 1e-12
    )
    metrics = {
        "correlation": float(np.corrcoef(predicted, classical)[0, 1]),
        "cosine": float(cosine.mean()),
        "loss": evaluate(network.model, episode)["loss"],
        "classical_loss": float(np.square(classical - target).mean() / 2),
        "step_size": step_size,
    }
    if learn is least_mean_squares:
        distance = np.abs(by_scan(x, y, step_size) - weights).max()
        metrics["identity_error"] = float(distance / np.abs(weights).max())
    return Measured(
        metrics, {"predicted": predicted[:DRAWN].tolist(), "classical": classical[:DRAWN].tolist()}
    )


def _split(episode: xr.Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Examples x and y, the query and its target."""
    shown = episode.features.values
    return shown[:, :-1, :-1], shown[:, :-1, -1], shown[:, -1, :-1], episode.target.values[:, -1, 0]


def _predictions(network: torch.nn.Module, episode: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """What a network answers (trial,), and the derivative by the query (trial, input)."""
    shown = torch.from_numpy(episode.features.values).float().requires_grad_()
    with torch.enable_grad():
        answers = network(shown)[:, -1, 0]
        (gradient,) = torch.autograd.grad(answers.sum(), shown)
    return answers.detach().double().numpy(), gradient[:, -1, :-1].double().numpy()


def claims(outcomes: Sequence[Outcome]) -> list[Claim]:
    """A layer that is trained to predict learns in context as its rule does."""
    return [
        at_least(
            f"{SUM}: predictions correlate at least {CORRELATED} with one step of gradient descent",
            found(outcomes, "correlation", layer=SUM),
            CORRELATED,
        ),
        at_least(
            f"{DELTA}: predictions correlate at least {CORRELATED} with online least mean squares",
            found(outcomes, "correlation", layer=DELTA),
            CORRELATED,
        ),
        at_most(
            f"{DELTA} of keys x and values y: online least mean squares, to {EXACT:g}",
            found(outcomes, "identity_error", layer=DELTA),
            EXACT,
        ),
    ]


def predictions(name: str, called: str, outcomes: Sequence[Outcome], ax: Axes) -> Axes:
    """The first seed's predictions against those of a classical rule.

    Args:
        name: the layer.
        called: the rule.
        outcomes: what was measured.
        ax: where to draw.
    """
    return plots.against(
        series(outcomes, "classical", layer=name)[0],
        series(outcomes, "predicted", layer=name)[0],
        ax,
        xlabel=f"prediction of\n{called} (dimensionless)",
        ylabel=f"prediction of a trained layer:\n{name} (dimensionless)",
        label="a query each",
    )


ICL = Reproduction(
    name="icl",
    title="Linear regression in context",
    source="von Oswald et al. 2023, arXiv:2212.07677; Widrow & Hoff 1960",
    runs=runs,
    measure=measure,
    metrics={
        "correlation": "correlation of predictions",
        "cosine": "cosine of weights",
        "loss": "loss",
        "classical_loss": "loss of the classical rule",
        "identity_error": "scan against the classical rule",
    },
    published=tuple(
        Published(condition={"layer": name}, metric="correlation", value=1.0, note=note)
        for name, note in (
            (SUM, "equal by construction, its proposition 1"),
            (DELTA, "the same equation"),
        )
    ),
    claims=claims,
    panels=(
        partial(predictions, SUM, "one step of gradient descent"),
        partial(predictions, DELTA, "online least mean squares"),
    ),
)
