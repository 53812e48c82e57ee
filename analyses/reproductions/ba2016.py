"""Ba et al. 2016: fast weights attend to the recent past (associative retrieval, 4 pairs)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

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
from fwbio.models.networks.fast_weights_rnn import FastWeightsRNNConfig
from fwbio.models.networks.recurrent import IRNNConfig, LSTMConfig
from fwbio.models.networks.sequence_model import SequenceModelConfig
from fwbio.models.networks.training import SequenceTraining, TrainedNetwork, evaluate
from fwbio.tasks import TASKS

TASK, PAIRS = "associative_retrieval", 4
VOCABULARY, CLASSES = 37, 10
EMBEDDING, HEAD = 100, (100,)
BATCH, LEARNING_RATE = 128, 1e-3
GUESS = 61.65  # error % of answering with a sequence's most frequent digit
TEST_SEED = 2016


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is trained on and tested."""

    examples: int
    epochs: int
    validation: int
    test: int


FULL = Sizes(examples=100_000, epochs=100, validation=2_000, test=20_000)
QUICK = Sizes(examples=10_000, epochs=3, validation=500, test=2_000)

MODELS: Mapping[tuple[str, int], Any] = MappingProxyType(
    {
        ("fast weights", 20): FastWeightsRNNConfig(units=20, decay=0.95, rate=0.5, inner=1),
        ("fast weights", 50): FastWeightsRNNConfig(units=50, decay=0.95, rate=0.5, inner=1),
        ("lstm", 20): LSTMConfig(units=20),
        ("irnn", 20): IRNNConfig(units=20),
    }
)
COSTS = {("fast weights", 20): 1.0, ("fast weights", 50): 1.5, ("lstm", 20): 0.6, ("irnn", 20): 0.4}
PUBLISHED = {
    ("fast weights", 20): 1.81,
    ("fast weights", 50): 0.0,
    ("lstm", 20): 60.81,
    ("irnn", 20): 62.11,
}


def runs(quick: bool, seeds: Sequence[int]) -> list[Run]:
    """Every model at the same number of steps."""
    sizes = QUICK if quick else FULL
    return [
        Run(
            condition={"model": model, "units": units},
            training=SequenceTraining(
                task=TASK,
                sizes={"pairs": PAIRS},
                model=SequenceModelConfig(
                    vocabulary=VOCABULARY,
                    classes=CLASSES,
                    width=EMBEDDING,
                    layers=1,
                    mixer=mixer,
                    residual=False,
                    norm="none",
                    mlp=0,
                    head=HEAD,
                ),
                batch=BATCH,
                examples=sizes.examples,
                epochs=sizes.epochs,
                validation=sizes.validation,
                learning_rate=LEARNING_RATE,
                seed=seed,
            ),
            test={"trials": sizes.test},
            cost=COSTS[model, units],
        )
        for (model, units), mixer in MODELS.items()
        for seed in seeds
    ]


def measure(network: TrainedNetwork, run: Run) -> Measured:
    """The error on fresh sequences, and that of the validation after every epoch."""
    episode = TASKS[TASK](TEST_SEED, **{**run.training.sizes, **run.test})
    error = 100 * (1 - evaluate(network.model, episode)["accuracy"])
    rows = [row for row in network.history if "validation_accuracy" in row]
    return Measured(
        {"error": error},
        {
            "sequences": [row["step"] * run.training.batch for row in rows],
            "validation_error": [100 * (1 - row["validation_accuracy"]) for row in rows],
        },
    )


def claims(outcomes: Sequence[Outcome]) -> list[Claim]:
    """Fast weights recall what nets of the same size without them only guess."""
    return [
        at_most(
            "fast weights, 20 units: error at most 1.8 %",
            found(outcomes, "error", model="fast weights", units=20),
            1.8,
        ),
        at_most(
            "fast weights, 50 units: error at most 0.1 %",
            found(outcomes, "error", model="fast weights", units=50),
            0.1,
        ),
        *(
            at_least(
                f"{model}, 20 units: error no more than 3 points below guessing, {GUESS} %",
                found(outcomes, "error", model=model, units=20),
                GUESS - 3,
            )
            for model in ("lstm", "irnn")
        ),
    ]


def learning_curves(outcomes: Sequence[Outcome], ax: Axes) -> Axes:
    """The error on validation sequences against the training sequences seen."""
    x, y, dashed = {}, {}, {}
    for model, units in MODELS:
        name = f"{model} {units}"
        errors = series(outcomes, "validation_error", model=model, units=units)
        if errors.size:
            x[name] = series(outcomes, "sequences", model=model, units=units)[0]
            y[name], dashed[name] = errors, PUBLISHED[model, units]
    return plots.bands(
        x,
        y,
        ax,
        xlabel="training (sequences)",
        ylabel="validation error (%)",
        dashed=dashed | {"most frequent digit": GUESS},
        above=True,
    )


BA2016 = Reproduction(
    name="ba2016",
    title="Associative retrieval of 4 pairs by recurrent nets",
    source="Ba, Hinton, Mnih, Leibo & Ionescu 2016, arXiv:1610.06258",
    runs=runs,
    measure=measure,
    metrics={"error": "error %"},
    published=tuple(
        Published(condition={"model": model, "units": units}, metric="error", value=value)
        for (model, units), value in PUBLISHED.items()
    ),
    claims=claims,
    panels=(learning_curves,),
)
