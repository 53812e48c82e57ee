"""Schlag et al. 2021: how many pairs a memory of a finite width holds, and how it forgets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

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
    found,
    near,
    ratio_at_least,
)
from fwbio.models.networks.features import width
from fwbio.models.networks.key_value_model import KeyValueModelConfig
from fwbio.models.networks.training import SequenceTraining, TrainedNetwork, evaluate
from fwbio.tasks import TASKS

TASK = "key_value"
D_KEY, NU = 64, 1
BATCH, LEARNING_RATE = 32, 1e-3
NEAR = 0.03
TIMES_LOWER = 10
TEST_SEED = 2021


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How many keys there are in each setting, and how much is trained on and tested."""

    unique: tuple[int, ...]
    repeated: tuple[int, ...]
    steps: int
    epochs: int
    validation: int
    test: int


FULL = Sizes(
    unique=(40, 100, 200), repeated=(20, 40, 80), steps=100, epochs=15, validation=64, test=500
)
QUICK = Sizes(unique=(20, 100), repeated=(20,), steps=100, epochs=2, validation=64, test=100)

# by setting and model: the rule and the feature map
MODELS: Mapping[tuple[int, str], tuple[str, str]] = MappingProxyType(
    {
        (1, "sum, linear"): ("hebb", "elu"),
        (1, "sum, DPFP-1"): ("hebb", "dpfp"),
        (2, "sum, DPFP-1"): ("hebb", "dpfp"),
        (2, "delta, DPFP-1"): ("delta", "dpfp"),
    }
)
# the minimum evaluation loss by setting, model and keys; of setting 2 as its figure shows it
PUBLISHED: Mapping[tuple[int, str, int], float] = MappingProxyType(
    {
        (1, "sum, linear", 60): 0.025,
        (1, "sum, linear", 100): 0.164,
        (1, "sum, linear", 200): 0.342,
        (1, "sum, DPFP-1", 60): 0.0004,
        (1, "sum, DPFP-1", 100): 0.0002,
        (1, "sum, DPFP-1", 200): 0.173,
        **{(2, "sum, DPFP-1", keys): 0.10 for keys in (20, 40, 80)},
        **{(2, "delta, DPFP-1", keys): 0.006 for keys in (20, 40, 80)},
    }
)
NOTES = {(2, "sum, DPFP-1"): "about", (2, "delta, DPFP-1"): "at most"}


def floor(keys: int, feature: str) -> float:
    """What a sum of unique keys leaves of the loss at best, (1 - d / S) / 2.

    Args:
        keys: S, how many pairs there are.
        feature: the map of keys and queries, whose width is d.
    """
    return max(0.0, (1 - width(feature, D_KEY, NU) / keys) / 2)


def runs(quick: bool, seeds: Sequence[int]) -> list[Run]:
    """Every model of each setting with every number of keys."""
    sizes = QUICK if quick else FULL
    return [
        Run(
            condition={"setting": setting, "model": model, "keys": keys},
            training=SequenceTraining(
                task=TASK,
                sizes={"keys": keys, "repeated": setting == 2},
                model=KeyValueModelConfig(
                    keys=keys, values=keys, d_key=D_KEY, rule=rule, feature=feature, nu=NU
                ),
                batch=BATCH,
                steps=sizes.steps,
                epochs=sizes.epochs,
                validation=sizes.validation,
                learning_rate=LEARNING_RATE,
                seed=seed,
            ),
            test={"trials": sizes.test},
            cost=keys * setting * (2.0 if rule == "delta" else 1.0),
        )
        for (setting, model), (rule, feature) in MODELS.items()
        for keys in (sizes.repeated if setting == 2 else sizes.unique)
        for seed in seeds
    ]


def measure(network: TrainedNetwork, run: Run) -> Measured:
    """The loss of the best weights on fresh sequences, and that of the validation meanwhile."""
    episode = TASKS[TASK](TEST_SEED, **{**run.training.sizes, **run.test})
    rows = [row for row in network.history if "validation_loss" in row]
    return Measured(
        {"loss": evaluate(network.model, episode)["loss"]},
        {
            "step": [row["step"] for row in rows],
            "validation_loss": [row["validation_loss"] for row in rows],
        },
    )


def claims(outcomes: Sequence[Outcome]) -> list[Claim]:
    """The sum is as good as its rank lets it be; the delta rule overwrites what that piles up."""
    made = []
    for (setting, model), (_, feature) in MODELS.items():
        for keys in FULL.unique if setting == 1 else ():
            losses = found(outcomes, "loss", setting=1, model=model, keys=keys)
            named = f"setting 1, {model}, {keys} keys: loss within {NEAR} of the"
            least = floor(keys, feature)
            made.append(near(f"{named} rank floor, {least:g}", losses, least, NEAR))
            if (setting, model, keys) in PUBLISHED:
                told = PUBLISHED[setting, model, keys]
                made.append(near(f"{named} published {told:g}", losses, told, NEAR))
    made.extend(
        ratio_at_least(
            f"setting 2, {keys} keys: loss of delta at least {TIMES_LOWER} times below that of sum",
            found(outcomes, "loss", setting=2, model="sum, DPFP-1", keys=keys),
            found(outcomes, "loss", setting=2, model="delta, DPFP-1", keys=keys),
            TIMES_LOWER,
        )
        for keys in FULL.repeated
    )
    return made


def unique_keys(outcomes: Sequence[Outcome], ax: Axes) -> Axes:
    """Setting 1: the loss against the number of keys, with the rank floors as lines."""
    keys = np.arange(1, max(FULL.unique) + 1)
    for feature, style, name in (("elu", "-", "linear"), ("dpfp", ":", "DPFP-1")):
        floors = [floor(int(count), feature) for count in keys]
        label = f"floor, {name}"
        ax.plot(keys, floors, color=plots.FAINT, linestyle=style, linewidth=1, label=label)
    return _by_keys(outcomes, 1, ax)


def repeated_keys(outcomes: Sequence[Outcome], ax: Axes) -> Axes:
    """Setting 2: the same on a logarithmic scale."""
    ax.set_yscale("log")
    return _by_keys(outcomes, 2, ax)


def _by_keys(outcomes: Sequence[Outcome], setting: int, ax: Axes) -> Axes:
    x: dict[str, list[float]] = {}
    y: dict[str, np.ndarray] = {}
    squares: dict[str, Mapping[float, float]] = {}
    for number, model in MODELS:
        measured = {
            x.condition["keys"]
            for x in outcomes
            if x.condition["setting"] == setting and x.condition["model"] == model
        }
        if number != setting or not measured:
            continue
        x[model] = sorted(float(keys) for keys in measured)
        y[model] = np.stack(
            [found(outcomes, "loss", setting=setting, model=model, keys=int(k)) for k in x[model]],
            axis=1,
        )
        squares[model] = {
            keys: value for (s, m, keys), value in PUBLISHED.items() if (s, m) == (setting, model)
        }
    return plots.bands(
        x,
        y,
        ax,
        xlabel=f"{'unique' if setting == 1 else 'repeated'} keys in a sequence (keys)",
        ylabel="loss (dimensionless)",
        squares=squares,
        points=True,
    )


SCHLAG2021 = Reproduction(
    name="schlag2021",
    title="Key-value pairs in a memory of finite width",
    source="Schlag, Irie & Schmidhuber 2021, arXiv:2102.11174",
    runs=runs,
    measure=measure,
    metrics={"loss": "loss"},
    published=tuple(
        Published(
            condition={"setting": setting, "model": model, "keys": keys},
            metric="loss",
            value=value,
            note=NOTES.get((setting, model), ""),
        )
        for (setting, model, keys), value in PUBLISHED.items()
    ),
    claims=claims,
    panels=(unique_keys, repeated_keys),
)
