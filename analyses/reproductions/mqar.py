"""Multi-query associative recall (Zoology): which rules keep many pairs in a small state."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from matplotlib.axes import Axes

from fwbio.analyses.palette import RULE_STYLES, Style
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
    ordered,
)
from fwbio.models.networks.memory import FastWeightMemoryConfig
from fwbio.models.networks.sequence_model import SequenceModelConfig
from fwbio.models.networks.training import SequenceTraining, TrainedNetwork, evaluate
from fwbio.tasks import TASKS

TASK = "mqar"
LAYERS, HEADS, MLP = 2, 1, 0
BATCH, LEARNING_RATE, WEIGHT_DECAY, CLIP = 64, 3e-3, 0.1, 1.0
SCHEDULE: Final = "cosine"
LEAST = 0.99
TEST_SEED = 2023


@dataclass(frozen=True, kw_only=True)
class Size:
    """A size of the task, the width of the models, and the models that are given it."""

    vocabulary: int
    length: int
    pairs: int
    width: int
    models: tuple[tuple[str, int], ...]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is trained on and tested, at which sizes of the task."""

    smallest: Size
    apart: Size
    examples: int
    epochs: int
    test: int


RULES = ("delta", "mamba2", "gla", "retnet")
# steps that the short convolution of a rule's streams sees: gla and retnet are published without
CONVOLUTION = 4
AS_PUBLISHED = {"delta": CONVOLUTION, "mamba2": CONVOLUTION, "gla": 0, "retnet": 0}
ALIKE = dict.fromkeys(RULES, CONVOLUTION)
MODELS = tuple(dict.fromkeys([*AS_PUBLISHED.items(), *ALIKE.items()]))
SMALLEST = (("delta", CONVOLUTION),)
FULL = Sizes(
    smallest=Size(vocabulary=256, length=64, pairs=4, width=64, models=SMALLEST),
    apart=Size(vocabulary=256, length=128, pairs=16, width=32, models=MODELS),
    examples=10_000,
    epochs=10,
    test=1_000,
)
QUICK = Sizes(
    smallest=Size(vocabulary=64, length=32, pairs=4, width=32, models=SMALLEST),
    apart=Size(vocabulary=64, length=64, pairs=8, width=16, models=MODELS),
    examples=2_000,
    epochs=4,
    test=200,
)

COSTS = {"delta": 2.0, "mamba2": 1.5, "gla": 1.5, "retnet": 1.0}
# accuracy at length 512 with 64 pairs and width 64; the second of Mamba, not Mamba2
PUBLISHED = {"delta": 1.0, "mamba2": 0.81, "gla": 0.22, "retnet": 0.05}
PUBLISHED_AT = "length 512, 64 pairs, width 64"
NOTES = {"mamba2": f"{PUBLISHED_AT} (Mamba)"}


def runs(quick: bool, seeds: Sequence[int]) -> list[Run]:
    """Delta at the smallest size, and every rule where they differ."""
    sizes = QUICK if quick else FULL
    return [
        Run(
            condition={
                "length": size.length,
                "pairs": size.pairs,
                "width": size.width,
                "rule": rule,
                "convolution": convolution,
            },
            training=SequenceTraining(
                task=TASK,
                sizes={
                    "vocabulary": size.vocabulary,
                    "length": size.length,
                    "pairs": size.pairs,
                },
                model=SequenceModelConfig(
                    vocabulary=size.vocabulary,
                    classes=size.vocabulary,
                    width=size.width,
                    layers=LAYERS,
                    mixer=FastWeightMemoryConfig(rule=rule, heads=HEADS, convolution=convolution),
                    mlp=MLP,
                ),
                batch=BATCH,
                examples=sizes.examples,
                epochs=sizes.epochs,
                validation=sizes.test,
                learning_rate=LEARNING_RATE,
                schedule=SCHEDULE,
                weight_decay=WEIGHT_DECAY,
                clip=CLIP,
                seed=seed,
            ),
            test={"trials": sizes.test},
            cost=size.length * size.width * COSTS[rule],
        )
        for size in (sizes.smallest, sizes.apart)
        for rule, convolution in size.models
        for seed in seeds
    ]


def measure(network: TrainedNetwork, run: Run) -> Measured:
    """The share of queries answered on fresh sequences, and on those of validation meanwhile."""
    episode = TASKS[TASK](TEST_SEED, **{**run.training.sizes, **run.test})
    rows = [row for row in network.history if "validation_accuracy" in row]
    return Measured(
        {"accuracy": evaluate(network.model, episode)["accuracy"]},
        {
            "step": [row["step"] for row in rows],
            "validation_accuracy": [row["validation_accuracy"] for row in rows],
        },
    )


def claims(outcomes: Sequence[Outcome]) -> list[Claim]:
    """The delta rule recalls, and the others less and less."""
    smallest, apart = FULL.smallest, FULL.apart
    return [
        at_least(
            f"delta, length {smallest.length}, {smallest.pairs} pairs, width {smallest.width}:"
            f" accuracy at least {LEAST}",
            found(
                outcomes,
                "accuracy",
                rule="delta",
                length=smallest.length,
                pairs=smallest.pairs,
                width=smallest.width,
            ),
            LEAST,
        ),
        *(
            ordered(
                f"length {apart.length}, {apart.pairs} pairs, width {apart.width}, {how}:"
                f" accuracy of {' > '.join(RULES)}",
                {
                    rule: found(
                        outcomes,
                        "accuracy",
                        rule=rule,
                        convolution=convolution,
                        length=apart.length,
                        pairs=apart.pairs,
                        width=apart.width,
                    )
                    for rule, convolution in models.items()
                },
            )
            for how, models in (
                ("convolutions as published", AS_PUBLISHED),
                ("all with the same convolution", ALIKE),
            )
        ),
    ]


def by_rule(outcomes: Sequence[Outcome], ax: Axes) -> Axes:
    """The accuracy of each rule where they differ, beside what was published for a larger size."""
    length = max(int(x.condition["length"]) for x in outcomes)
    groups: dict[str, np.ndarray] = {}
    styles: dict[str, Style] = {}
    published: dict[str, float] = {}
    for rule, convolution in MODELS:
        values = found(outcomes, "accuracy", rule=rule, convolution=convolution, length=length)
        if values.size:
            alike = convolution != AS_PUBLISHED[rule]
            name = f"{rule}\nconvolved" if alike else rule
            groups[name], styles[name] = values, RULE_STYLES[rule]
            published |= {} if alike else {name: PUBLISHED[rule]}
    return plots.strip(
        groups,
        ax,
        xlabel=f"rule (length {length})",
        ylabel="accuracy (share of queries)",
        styles=styles,
        published=published,
        published_label=f"published, {PUBLISHED_AT}",
    )


MQAR = Reproduction(
    name="mqar",
    title="Multi-query associative recall",
    source="Arora et al. 2023, arXiv:2312.04927 (Zoology); figures of Yang et al. 2024,"
    " arXiv:2406.06484 (recalled)",
    runs=runs,
    measure=measure,
    metrics={"accuracy": "accuracy"},
    published=tuple(
        Published(
            condition={"rule": rule, "convolution": AS_PUBLISHED[rule]},
            metric="accuracy",
            value=value,
            note=NOTES.get(rule, PUBLISHED_AT),
        )
        for rule, value in PUBLISHED.items()
    ),
    claims=claims,
    panels=(by_rule,),
)
