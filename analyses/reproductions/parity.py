"""Grazzi et al. 2024: parity beyond the lengths of training takes negative eigenvalues."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
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
    found,
    near,
    series,
)
from fwbio.models.networks.attention import AttentionConfig
from fwbio.models.networks.memory import FastWeightMemoryConfig
from fwbio.models.networks.sequence_model import SequenceModelConfig
from fwbio.models.networks.training import SequenceTraining, TrainedNetwork, evaluate
from fwbio.tasks import TASKS

TASK = "parity"
WIDTH, LAYERS, HEADS, MLP = 32, 1, 1, 2
# SiLU, and no look at the bit before: what a step writes then is the same beyond the lengths of
# training, while of two steps and more it can differ, and drifts in some seeds
CONVOLUTION = 1
BATCH, LEARNING_RATE, CLIP = 32, 1e-2, 1.0
SCHEDULE: Final = "cosine"
CHANCE, NEAR_CHANCE = 0.5, 0.05
TEST_SEED = 2024


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How long sequences are, and how much is trained on and tested."""

    length: int
    test_length: int
    steps: int
    epochs: int
    validation: int
    test: int


FULL = Sizes(length=40, test_length=256, steps=200, epochs=10, validation=256, test=1_000)
QUICK = Sizes(length=20, test_length=64, steps=100, epochs=4, validation=128, test=200)

MODELS: Mapping[str, Any] = MappingProxyType(
    {
        "delta, beta in (0, 2)": FastWeightMemoryConfig(
            rule="delta", heads=HEADS, convolution=CONVOLUTION, negative_eigenvalues=True
        ),
        "delta, beta in (0, 1)": FastWeightMemoryConfig(
            rule="delta", heads=HEADS, convolution=CONVOLUTION
        ),
        "softmax attention": AttentionConfig(heads=HEADS),
    }
)
NEGATIVE, POSITIVE, SOFTMAX = MODELS
PUBLISHED = {NEGATIVE: 1.0, POSITIVE: 0.017, SOFTMAX: 0.022}


def runs(quick: bool, seeds: Sequence[int]) -> list[Run]:
    """One layer of each kind, trained on short sequences and tested on longer ones."""
    sizes = QUICK if quick else FULL
    return [
        Run(
            condition={"model": name},
            training=SequenceTraining(
                task=TASK,
                sizes={"length": sizes.length},
                model=SequenceModelConfig(
                    vocabulary=2, classes=2, width=WIDTH, layers=LAYERS, mixer=mixer, mlp=MLP
                ),
                batch=BATCH,
                steps=sizes.steps,
                epochs=sizes.epochs,
                validation=sizes.validation,
                learning_rate=LEARNING_RATE,
                schedule=SCHEDULE,
                clip=CLIP,
                seed=seed,
            ),
            test={"length": sizes.test_length, "trials": sizes.test},
        )
        for name, mixer in MODELS.items()
        for seed in seeds
    ]


def measure(network: TrainedNetwork, run: Run) -> Measured:
    """The share of positions that are right, from the last that was trained on to the end."""
    episode = TASKS[TASK](TEST_SEED, **{**run.training.sizes, **run.test})
    by_position = evaluate(network.model, episode)["step_accuracy"]
    accuracy = float(np.mean(by_position[run.training.sizes["length"] - 1 :]))
    return Measured(
        {"accuracy": accuracy, "scaled_accuracy": 2 * accuracy - 1},
        {"accuracy_by_position": by_position},
    )


def claims(outcomes: Sequence[Outcome]) -> list[Claim]:
    """A memory whose eigenvalues are never negative can't count modulo 2."""
    return [
        at_least(
            f"{NEGATIVE}: accuracy beyond the lengths of training at least .99",
            found(outcomes, "accuracy", model=NEGATIVE),
            0.99,
        ),
        *(
            near(
                f"{model}: accuracy beyond the lengths of training within {NEAR_CHANCE} of chance",
                found(outcomes, "accuracy", model=model),
                CHANCE,
                NEAR_CHANCE,
            )
            for model in (POSITIVE, SOFTMAX)
        ),
    ]


def by_position(outcomes: Sequence[Outcome], ax: Axes) -> Axes:
    """The accuracy at each position."""
    curves = {name: series(outcomes, "accuracy_by_position", model=name) for name in MODELS}
    curves = {name: curve for name, curve in curves.items() if curve.size}
    trained = outcomes[0].training["sizes"]["length"]
    ax.axvline(trained, color=plots.FAINT, linewidth=1, label=f"trained on {trained}")
    return plots.bands(
        {name: range(1, curve.shape[1] + 1) for name, curve in curves.items()},
        curves,
        ax,
        xlabel="position (bits)",
        ylabel="accuracy (share of sequences)",
        dashed={"chance": CHANCE},
        above=True,
    )


PARITY = Reproduction(
    name="parity",
    title="Parity beyond the lengths of training",
    source="Grazzi, Siems, Zela, Franke, Hutter & Pontil 2024, arXiv:2411.12537",
    runs=runs,
    measure=measure,
    metrics={"scaled_accuracy": "scaled accuracy", "accuracy": "accuracy"},
    published=tuple(
        Published(condition={"model": model}, metric="scaled_accuracy", value=value)
        for model, value in PUBLISHED.items()
    ),
    claims=claims,
    panels=(by_position,),
)
