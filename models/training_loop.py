"""The training loop of the slow net, by Lightning: episodes in, the best weights out."""

import logging
import math
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import torch
import xarray as xr
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.utilities.seed import isolate_rng
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize
from tqdm import tqdm

from fwbio.errors import FwbioError
from fwbio.files import written_aside
from fwbio.kernels import scan
from fwbio.models.checkpoint import read_torch_file
from fwbio.models.slow_net import SlowNet, TrainingConfig, inputs
from fwbio.rule import Rule
from fwbio.tasks import TASKS

_CHATTER = (
    "Checkpoint directory .* exists and is not empty",
    "The dirpath has changed from",
    "GPU available but not used",
    ".*LeafSpec.* is deprecated",
)


def fit(
    config: TrainingConfig, unfinished: Path, *, progress: bool
) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    """Train from the beginning, or from the end of the last epoch that `unfinished` holds.

    Args:
        config: what to train on and how.
        unfinished: the file that keeps the state between epochs.
        progress: whether to show a progress bar.

    Returns:
        The weights of the lowest validation loss, and every epoch's losses.

    Raises:
        FwbioError: `unfinished` is damaged or another config's, or the loss became infinite.
        KeyboardInterrupt: it was stopped, by Ctrl-C or SIGTERM; it can be resumed.
    """
    if unfinished.exists():
        _check_resumable(unfinished, config)
    handler = signal.getsignal(signal.SIGINT)
    with _quiet_lightning(), _one_thread(), isolate_rng(include_cuda=False), torch.enable_grad():
        torch.manual_seed(config.seed)
        training = Training(config)
        trainer = lightning.Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=config.epochs,
            reload_dataloaders_every_n_epochs=1,
            default_root_dir=unfinished.parent,
            callbacks=[
                EarlyStopping(
                    "validation_loss", patience=config.patience, check_on_train_epoch_end=True
                ),
                ModelCheckpoint(
                    dirpath=unfinished.parent,
                    filename=unfinished.stem,
                    save_on_train_epoch_end=True,
                    enable_version_counter=False,
                ),
                *([_ProgressBar(config)] if progress else []),
            ],
            plugins=[_WholeFiles(), LightningEnvironment()],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        try:
            trainer.fit(training, ckpt_path=unfinished if unfinished.exists() else None)
        except (
            SystemExit
        ) as stopped:  # what Lightning makes of Ctrl-C, deaf from then on, and SIGTERM
            signal.signal(signal.SIGINT, handler)
            raise KeyboardInterrupt from stopped
    if training.best is None:
        unfinished.unlink(missing_ok=True)
        raise FwbioError(
            "the validation loss became infinite",
            where=f"training {config.name}",
            mend="lower the learning rate",
        )
    return training.best, training.history


class Training(lightning.LightningModule):
    """The slow net with its loss, its episodes and the best weights so far."""

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__()
        self.config = config
        first = training_episode(config, 0)
        baselines = (torch.tensor(first[f"{x}_baseline"].values) for x in ("item", "content"))
        self.net = SlowNet(config, *baselines)
        self.log_sharpness = torch.nn.Parameter(torch.tensor(10.0).log())
        self.history: list[dict[str, float]] = []
        self.best: dict[str, Tensor] | None = None
        self.epoch_losses: list[float] = []

    def train_dataloader(self) -> "Episodes":
        """The training episodes, new ones in every epoch."""
        first = self.current_epoch * self.config.steps
        return Episodes(self.config, range(first, first + self.config.steps))

    def val_dataloader(self) -> "Episodes":
        """The validation episodes, the same in every epoch."""
        return Episodes(self.config, range(self.config.validation), validation=True)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Adam, warmed up and then let down along a cosine."""
        optimizer = torch.optim.Adam(self.parameters(), lr=self.config.learning_rate)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._share_of_peak_rate)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        """The loss of a batch, its rates made noisy."""
        noise = torch.Generator().manual_seed(_seed(self.config, 2, self.global_step))
        loss, _ = self.loss(batch, noise)
        self.epoch_losses.append(loss.item())
        return loss

    def validation_step(self, batch: dict[str, Tensor], index: int) -> None:
        """The loss and the recall accuracy of a batch, without noise."""
        loss, accuracy = self.loss(batch, None)
        self.log("validation_loss", loss, batch_size=self.config.batch)
        self.log("validation_accuracy", accuracy, batch_size=self.config.batch)

    def on_train_start(self) -> None:
        """Leave training stopped if it had stopped before it was resumed."""
        for callback in self.trainer.early_stopping_callbacks:
            if callback.wait_count >= callback.patience:
                self.trainer.should_stop = True

    def on_train_epoch_end(self) -> None:
        """Keep the epoch's losses, and its weights where they are the best."""
        metrics = {name: float(x) for name, x in self.trainer.callback_metrics.items()}
        least = min((epoch["validation_loss"] for epoch in self.history), default=math.inf)
        if metrics["validation_loss"] < least:
            self.best = {name: x.clone() for name, x in self.net.state_dict().items()}
        self.history.append({"training_loss": float(np.mean(self.epoch_losses)), **metrics})
        self.epoch_losses = []

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what Lightning doesn't keep: the best weights and the history."""
        checkpoint["fwbio"] = {
            "name": self.config.name,
            "best": self.best,
            "history": self.history,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it up again."""
        self.best = checkpoint["fwbio"]["best"]
        self.history = checkpoint["fwbio"]["history"]

    def loss(
        self, batch: dict[str, Tensor], noise: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """The loss of a batch and its recall accuracy.

        Args:
            batch: as `Episodes` gives it.
            noise: where the noise of the rates comes from, or None for none.
        """
        shown = {name: batch[name] for name in ("stimulus", "content", "writes", "scored")}
        streams = self.net(**shown, noise=noise)
        value = streams["value"][..., -1, :]
        readout = read(self.net.rule, streams)
        scored, source = batch["scored"], batch["source"]
        guess = normalize(readout, dim=-1) @ value.transpose(1, 2) * self.log_sharpness.exp()
        guess = guess.masked_fill(~batch["stored"][:, None], -math.inf)[scored]
        target = value.take_along_dim(source.clamp_min(0)[..., None], 1)
        miss = (readout - target).square().sum(-1)[scored].mean() / 2
        source = source[scored]
        loss = cross_entropy(guess, source)
        accuracy = (guess.argmax(-1) == source).float().mean()
        return loss + self.config.regression * miss, accuracy

    def _share_of_peak_rate(self, step: int) -> float:
        total = self.config.steps * self.config.epochs
        warm_up = min(1.0, (step + 1) / max(1.0, 0.1 * total))
        return warm_up * (1 + math.cos(math.pi * min(1.0, step / total))) / 2


def read(rule: Rule, streams: dict[str, Tensor]) -> Tensor:
    """The read-outs [B, T, V] of a rule on the streams that a slow net emits."""
    of_writes = {"key", "value"} | {x for x, s in rule.streams.items() if "substep" in s.dims}
    laid_out: dict[str, Any] = {
        name: (stream.flatten(1, 2) if name in of_writes else stream).unsqueeze(2)
        for name, stream in streams.items()
    }
    q, k, v = (laid_out.pop(name) for name in ("query", "key", "value"))
    return scan(rule, q, k, v, **laid_out)[0][:, :, 0]


class Episodes:
    """Batches of episodes, each a function of the config and its place in training alone."""

    def __init__(self, config: TrainingConfig, places: range, *, validation: bool = False) -> None:
        self.config, self.places, self.validation = config, places, validation

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for place in self.places:
            episode = training_episode(self.config, place, validation=self.validation)
            batch = inputs(episode, torch.float32)
            for name in ("stored", "source"):
                batch[name] = torch.tensor(episode[name].values)
            yield batch


def training_episode(config: TrainingConfig, place: int, *, validation: bool = False) -> xr.Dataset:
    """The batch of episodes at a place, of training images or of validation images."""
    task = TASKS[config.task]
    sizes: dict[str, Any] = {"pairs": config.pairs, "noise": config.noise, "gap": config.gap}
    if "split" in task.config.__dataclass_fields__:
        sizes["split"] = "validation" if validation else "train"
    return task(_seed(config, int(validation), place), trials=config.batch, **sizes)


def _seed(config: TrainingConfig, purpose: int, place: int) -> int:
    sequence = np.random.SeedSequence(config.seed, spawn_key=(purpose, place))
    return int(sequence.generate_state(1, np.uint64)[0] >> 1)


class _WholeFiles(TorchCheckpointIO):
    """Checkpoints that appear whole or not at all, and hold plain data and tensors only."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        with written_aside(path) as aside:
            torch.save(checkpoint, aside)

    def load_checkpoint(self, path: str | Path, *_: Any, **__: Any) -> Any:
        return read_torch_file(Path(path))


class _ProgressBar(Callback):
    """One bar over all of training, with the last epoch's validation."""

    def __init__(self, config: TrainingConfig) -> None:
        self.config = config
        self.bar = tqdm(disable=True)

    def on_train_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        self.bar = tqdm(
            desc=f"training {self.config.rule}",
            total=self.config.steps * self.config.epochs,
            initial=trainer.global_step,
            unit="step",
        )

    def on_train_batch_end(self, *_: Any) -> None:
        self.bar.update()

    def on_train_epoch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        accuracy = float(trainer.callback_metrics["validation_accuracy"])
        self.bar.set_postfix(validation_accuracy=f"{accuracy:.3f}")

    def on_train_end(self, *_: Any) -> None:
        self.bar.close()

    def on_exception(self, *_: Any) -> None:
        self.bar.close()


def _check_resumable(unfinished: Path, config: TrainingConfig) -> None:
    kept = read_torch_file(unfinished)
    if not isinstance(kept, dict) or kept.get("fwbio", {}).get("name") != config.name:
        raise FwbioError(
            "it holds no unfinished training of this config",
            where=str(unfinished),
            mend="delete it and train anew",
        )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep torch to one thread, which also keeps the order of its sums."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep Lightning's tips, device lists and remarks on resuming off the user's screen."""
    loggers = [logging.getLogger(f"lightning.{part}") for part in ("pytorch", "fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for message in _CHATTER:
            warnings.filterwarnings("ignore", message=message)
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
