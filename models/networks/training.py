"""Training a network on a sequence task, or finding the one that was trained already."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from torch import nn

from fwbio.errors import FwbioError, unknown_name
from fwbio.files import written_aside
from fwbio.models.networks.batches import VALIDATION, losses, right, sequences
from fwbio.models.networks.checkpoints import (
    ANEW,
    fitting_together,
    read_format,
    write_plain,
)
from fwbio.models.networks.checks import Checks
from fwbio.models.networks.models import build, config_from_dict, config_to_dict
from fwbio.models.networks.seeds import seed_of
from fwbio.record import versions
from fwbio.tasks import SEQUENCE_TASKS, TASKS

FORMAT = "fwbio trained network 1"
CORPUS_DIGITS = 10
SHOWN = ("vocabulary", "features", "classes")


@dataclass(frozen=True, kw_only=True)
class SequenceTraining:
    """What a network is trained on and how: equal configs give equal networks.

    Args:
        task: a task of `fwbio.tasks.SEQUENCE_TASKS`.
        sizes: the task's sizes, but `trials`; of one with splits, "train" unless given.
        model: the config of a model in `fwbio.models.networks.models.MODELS`; what a sequence model
            says of vocabulary, features and classes gives way to the task's own.
        batch: sequences a gradient step.
        steps: gradient steps an epoch; None: one pass over the `examples`.
        epochs: at most so many.
        examples: sequences to train on, made once and shown in a new order each pass; None: every
            batch is new.
        validation: sequences after each epoch, the same every time.
        validation_sizes: the task's sizes in which these differ.
        patience: epochs without a lower validation loss before training stops; None: all epochs.
        learning_rate: peak step size of AdamW.
        schedule: "constant", or "cosine" for a descent to zero over all epochs.
        warm_up: steps in which the step size rises to its peak, in a line.
        weight_decay: of AdamW, for parameters with two or more dims.
        clip: the largest norm of a gradient, which is scaled down to it; None: any.
        precision: "float32", or "bfloat16" for autocast to it where that is precise enough.
        log_every: steps between the rows of losses within an epoch; None: a row an epoch.
        seed: of the initial weights, the sequences and their order.

    Raises:
        FwbioError: an unknown task, size or word, or a number out of its range.
    """

    task: str
    model: Any
    sizes: Mapping[str, Any] = field(default_factory=dict)
    batch: int = 32
    steps: int | None = None
    epochs: int = 10
    examples: int | None = None
    validation: int = 256
    validation_sizes: Mapping[str, Any] = field(default_factory=dict)
    patience: int | None = None
    learning_rate: float = 1e-3
    schedule: Literal["constant", "cosine"] = "constant"
    warm_up: int = 0
    weight_decay: float = 0.0
    clip: float | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    log_every: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        checks = Checks("SequenceTraining")
        if self.task not in SEQUENCE_TASKS:
            raise unknown_name(
                self.task, SEQUENCE_TASKS, kind="sequence task", where="SequenceTraining.task"
            )
        checks.that(
            "model" in config_to_dict(self.model),
            f"{type(self.model).__name__} is no model's config",
            "give a SequenceModelConfig with it as the mixer",
        )
        for name in ("sizes", "validation_sizes"):
            object.__setattr__(self, name, _plain_sizes(self.task, name, getattr(self, name)))
        for name in ("batch", "epochs", "validation"):
            checks.whole(name, getattr(self, name))
        for name in ("steps", "examples", "patience", "log_every"):
            if getattr(self, name) is not None:
                checks.whole(name, getattr(self, name))
        for name in ("warm_up", "seed"):
            checks.whole(name, getattr(self, name), low=0)
        checks.number("learning_rate", self.learning_rate, above=True)
        checks.number("weight_decay", self.weight_decay)
        if self.clip is not None:
            checks.number("clip", self.clip, above=True)
        checks.choice("schedule", self.schedule, ("constant", "cosine"))
        checks.choice("precision", self.precision, ("float32", "bfloat16"))
        checks.that(
            self.steps is not None or self.examples is not None,
            "neither steps nor examples",
            "say how many steps an epoch has, or how many examples there are",
        )
        checks.that(
            self.examples is None or self.examples >= self.batch,
            f"{self.examples} examples make no batch of {self.batch}",
            "give more of them, or a smaller batch",
        )

    @property
    def name(self) -> str:
        """Task, rule and a short hash of every field: the stem of the checkpoint's file name."""
        text = json.dumps([FORMAT, self.to_dict()], sort_keys=True)
        model = config_to_dict(self.model)
        mixer = model.get("mixer")
        kind = mixer.get("rule", mixer["mixer"]) if isinstance(mixer, dict) else model["rule"]
        return f"{self.task}-{kind}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"

    @property
    def steps_an_epoch(self) -> int:
        """Gradient steps of an epoch."""
        return self.steps or (self.examples or 0) // self.batch

    @property
    def split_sizes(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The task's sizes for training and for validation, each with its split."""
        sizes = dict(self.sizes), {**self.sizes, **self.validation_sizes}
        if "split" not in {size.name for size in fields(TASKS[self.task].config)}:
            return sizes
        validation = {**sizes[1], "split": self.validation_sizes.get("split", "validation")}
        return {"split": "train"} | sizes[0], validation

    def to_dict(self) -> dict[str, Any]:
        """The config as plain data, as the file of a trained network holds it."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        return plain | {"model": config_to_dict(self.model)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "SequenceTraining":
        """The config of `to_dict`'s plain data.

        Raises:
            FwbioError: an unknown or missing field, or a value that the config refuses.
        """
        known = {field.name: field for field in fields(cls)}
        for name in data:
            if name not in known:
                raise unknown_name(name, known, kind="field", where="SequenceTraining")
        for name in ("task", "model"):
            if name not in data:
                raise Checks("SequenceTraining").error(
                    f"{name} is missing", "give it, for it has no default"
                )
        return cls(**{**data, "model": config_from_dict(data["model"])})

    def fitted(self) -> "SequenceTraining":
        """The config whose model takes what the task shows and gives what it asks for.

        Raises:
            FwbioError: a model that can't take what the task shows, or validation that shows more.
        """
        shown = TASKS[self.task](0, trials=1, **self.split_sizes[0])
        kind = config_to_dict(self.model)["model"]
        if ("contents" in shown) != (kind == "key_value"):
            raise FwbioError(
                f"the task {self.task!r} {'shows' if 'contents' in shown else 'has no'} contents",
                where=f"model {kind!r}",
                mend="give key_value's model to the task of that name, a sequence model to others",
            )
        told = shown_sizes(self.task, self.split_sizes[0])
        told = {f.name: told[f.name] for f in fields(self.model) if f.name in told}
        model = replace(self.model, **told)
        if kind == "key_value" and model != self.model:
            raise FwbioError(
                f"it has {self.model.keys} keys and {self.model.values} values",
                where=f"model {kind!r}",
                mend=f"give {told['keys']} and {told['values']}, as the task does",
            )
        self._check_validation()
        return replace(self, model=model)

    def _check_validation(self) -> None:
        """Refuse validation that shows or asks for what training does not."""
        trained, validated = (shown_sizes(self.task, sizes) for sizes in self.split_sizes)
        for name, size in trained.items():
            if validated[name] > size or (name == "features" and validated[name] != size):
                raise FwbioError(
                    f"{name} = {validated[name]} in validation, {size} in training",
                    where="SequenceTraining.validation_sizes",
                    mend="leave out what changes it",
                )


def shown_sizes(task: str, sizes: Mapping[str, Any]) -> dict[str, int]:
    """What a task's sizes ask of a model, by the names of its config's fields.

    Args:
        task: a sequence task.
        sizes: its sizes, but `trials`.

    Raises:
        FwbioError: a size that the task lacks, or one out of its range.
    """
    attrs = TASKS[task](0, trials=1, **_plain_sizes(task, "sizes", sizes)).attrs
    told = {name: int(attrs[name]) for name in SHOWN}
    return told | {"keys": told["vocabulary"], "values": told["classes"]}


def _plain_sizes(task: str, name: str, sizes: object) -> dict[str, Any]:
    """A task's sizes, but `trials`, as plain data."""
    checks = Checks("SequenceTraining")
    if not isinstance(sizes, Mapping):
        raise checks.error(f"{name} = {sizes!r}", "give sizes of the task by their names")
    checks.that(
        "trials" not in sizes,
        f"{name} has trials",
        "give batch, examples or validation in their place",
    )
    plain = {size: x.item() if isinstance(x, np.generic) else x for size, x in sizes.items()}
    TASKS[task].configure(**plain)
    return plain


def validation_episode(config: SequenceTraining) -> xr.Dataset:
    """The sequences after each epoch, which choose the weights that are kept."""
    seed = seed_of(config.seed, VALIDATION, 0)
    return TASKS[config.task](seed, trials=config.validation, **config.split_sizes[1])


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainedNetwork:
    """A network that was trained.

    Args:
        model: the network, with the weights of its lowest validation loss, in float32.
        config: what it was trained on and how.
        history: rows of `epoch`, `step` and `training_loss`, the mean since the row before; at an
            epoch's end also `validation_loss` and, of classes, `validation_accuracy`.
        checkpoint: the name of the file that holds it.
    """

    model: nn.Module
    config: SequenceTraining
    history: tuple[Mapping[str, float], ...]
    checkpoint: str


Network = TrainedNetwork | nn.Module


def model_of(network: Network) -> nn.Module:
    """The model of a trained network, or the model itself."""
    return network.model if isinstance(network, TrainedNetwork) else network


def require_fitting(model: nn.Module, episode: xr.Dataset) -> None:
    """Refuse an episode with other tokens, features or classes than a model was made for.

    Sequences of another task may have the right shape all the same; its other sizes may differ.
    """
    config: Any = getattr(model, "config", None)
    if not is_dataclass(config):
        return
    own = {f.name: getattr(config, f.name) for f in fields(config)}
    paired = "keys" in own
    names = {"vocabulary": "keys", "classes": "values"} if paired else {}
    other = [
        f"{names.get(name, name)} = {episode.attrs[name]} in place of {own[names.get(name, name)]}"
        for name in (("vocabulary", "classes") if paired else SHOWN)
        if name in episode.attrs and episode.attrs[name] != own[names.get(name, name)]
    ]
    if paired != ("contents" in episode):
        other.insert(0, "no contents" if paired else "contents")
    if other:
        raise FwbioError(
            f"an episode of {episode.attrs.get('task')!r} does not fit the network: it has "
            f"{', '.join(other)}",
            where="episode",
            mend="show it one of the task that it was trained on",
        )


def checkpoint_path(config: SequenceTraining, folder: str | Path) -> Path:
    """Where a network of this config is kept: FOLDER/TASK-RULE-HASH.pt.

    Of a text, whose path may hold another one tomorrow, the first digits of its hash are added.
    """
    fitted = config.fitted()
    shown = TASKS[fitted.task](0, trials=1, **fitted.split_sizes[0])
    text = str(shown.attrs.get("corpus_sha256", ""))[:CORPUS_DIGITS]
    return Path(folder) / f"{'-'.join(filter(None, (fitted.name, text)))}.pt"


def train(
    config: SequenceTraining,
    folder: str | Path,
    *,
    progress: bool = True,
    devices: int = 1,
    save_every: int | None = None,
    save_seconds: float = 60.0,
) -> TrainedNetwork:
    """The trained network of a config, trained unless `folder` holds it already.

    The loss is the mean over the scored steps of a batch of

        -log softmax(y_t)[target_t],  or  1/2 |y_t - target_t|^2  where the task says "squared"

    Training keeps NAME.ckpt, the one before it and NAME.csv, the losses, in `folder`; it goes on
    from there when it was stopped or killed and is asked for again, and ends bit for bit where it
    would have ended on the same machine. The weights of the lowest validation loss are kept.

    Args:
        config: what to train on and how.
        folder: where the checkpoint is looked for and kept; nothing is written elsewhere.
        progress: whether to show a progress bar, on standard error.
        devices: processes that share every batch, on a GPU each where there are some. Several
            are started anew, so that a script needs `if __name__ == "__main__":`; under torchrun
            all of its processes train together.
        save_every: steps between the checkpoints within an epoch; None: by the clock alone.
        save_seconds: seconds after which there is a checkpoint at the latest.

    Raises:
        FwbioError: a model that the task does not fit, a number of devices that is none, a folder
            that can't be written, a checkpoint that is damaged or another config's, or a loss that
            became infinite.
    """
    Checks("train").whole("devices", devices)
    config = config.fitted()
    path = checkpoint_path(config, folder)
    if path.exists():
        found = load(path)
        if found.config != config:
            raise FwbioError("it holds a network of another config", where=str(path), mend=ANEW)
        return found
    from fwbio.models.networks.learner import learn

    learn(
        config,
        path,
        progress=progress,
        devices=devices,
        save_every=save_every,
        save_seconds=save_seconds,
    )
    return load(path)


def save(
    path: Path,
    config: SequenceTraining,
    state: Mapping[str, torch.Tensor],
    history: list[dict[str, float]],
) -> None:
    """Write a trained network as plain data and tensors, for `load` to read."""
    content = {
        "format": FORMAT,
        "config": config.to_dict(),
        "versions": versions(),
        "history": history,
        "state": {name: x.cpu() for name, x in state.items()},
    }
    with written_aside(path) as aside:
        write_plain(content, aside)


def load(path: str | Path) -> TrainedNetwork:
    """Read what `train` wrote. Nothing in the file is executed.

    Raises:
        FwbioError: there is no such file, it is cut short, or it holds something else.
    """
    path = Path(path)
    content = read_format(path, FORMAT, holds="trained network")
    with fitting_together(path):
        config = SequenceTraining.from_dict(content["config"])
        with torch.random.fork_rng(devices=[]):
            model = build(config.model)
        model.load_state_dict(content["state"])
        history = tuple(content["history"])
    model.requires_grad_(False).eval()
    return TrainedNetwork(model=model, config=config, history=history, checkpoint=path.name)


def evaluate(network: Network, episode: xr.Dataset, batch: int = 256) -> dict[str, Any]:
    """How well a network does on an episode.

    Args:
        network: a trained one, or a model as `fwbio.models.networks.models.build` makes it.
        episode: of a sequence task, with the network's vocabulary, features and classes.
        batch: sequences at once.

    Returns:
        `loss`, its mean over the scored steps; `accuracy`, the share of them that are right; and
        `step_accuracy` (step,), the same for each step, nan where none is scored. Of targets that
        are no classes, accuracies are nan.

    Raises:
        FwbioError: an episode that shows no sequences or does not fit the network, or a batch of
            none.
    """
    Checks("evaluate").whole("batch", batch)
    model, shown = model_of(network), sequences(episode)
    require_fitting(model, episode)
    device = next((x.device for x in model.parameters()), torch.device("cpu"))
    trials, steps = shown.scored.shape
    correct, count, loss = np.zeros(steps), np.zeros(steps), 0.0
    classes = shown.target.ndim == 2
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for start in range(0, trials, batch):
                part = shown.rows(slice(start, start + batch)).batch().to(device)
                outputs = part.scored(model(*part.inputs))
                loss += float(losses(outputs, part.target, part.loss).double().sum())
                step = (part.where % steps).cpu().numpy()
                count += np.bincount(step, minlength=steps)
                if (hits := right(outputs, part.target)) is not None:
                    correct += np.bincount(step, hits.cpu().numpy(), minlength=steps)
    finally:
        model.train(training)
    total = count.sum()
    share = np.full(steps, np.nan)
    if classes:
        np.divide(correct, count, out=share, where=count > 0)
    return {
        "loss": loss / float(total) if total else math.nan,
        "accuracy": float(correct.sum() / total) if classes and total else math.nan,
        "step_accuracy": share,
    }
