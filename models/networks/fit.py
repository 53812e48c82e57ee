"""The one training harness, by Lightning: logged, clipped, stopped early, resumed exactly.

Training is a function of a config and a step: a `Learner` makes each batch from its place alone,
so that what was killed in the middle of an epoch goes on as if nothing had happened.
"""

import logging
import math
import os
import signal
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as lightning
import torch
from lightning.fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, Checkpoint
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.seed import isolate_rng
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from tqdm import tqdm

from fwbio.errors import FwbioError
from fwbio.models.networks.checkpoints import discard, keep, read_plain, resumable, write_rows

Row = dict[str, float]
Precision = Literal["float32", "bfloat16"]
LOG_SECONDS = 1.0
_CHATTER = (
    "Checkpoint directory .* exists and is not empty",
    "You're resuming from a checkpoint that ended before the epoch ended",
    "GPU available but not used",
    ".*LeafSpec.* is deprecated",
)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long something is trained, and what is kept of it meanwhile.

    Args:
        name: of the config: an unfinished checkpoint of another name is refused.
        label: what the progress bar says.
        steps: gradient steps an epoch; epochs: at most so many.
        patience: epochs without a lower validation loss before training stops; None: all epochs.
        clip: the largest norm of a gradient, which is scaled down to it; None: any.
        precision: "float32", or "bfloat16" for autocast to it where that is precise enough.
        accelerator: "cpu", or "auto" for a GPU where there is one.
        log: the CSV file of the losses, or None for none.
        log_every: steps between its rows within an epoch; None: one row an epoch.
        save_every: steps between the checkpoints within an epoch; None: by the clock alone.
        save_seconds: seconds after which there is a checkpoint at the latest.
    """

    name: str
    label: str
    steps: int
    epochs: int
    patience: int | None = None
    clip: float | None = None
    precision: Precision = "float32"
    accelerator: Literal["cpu", "auto"] = "cpu"
    log: Path | None = None
    log_every: int | None = None
    save_every: int | None = None
    save_seconds: float = 60.0


class Learner(lightning.LightningModule, ABC):
    """What `fit` trains: batches that are functions of their place alone, and their loss.

    Args:
        plan: how it is trained.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan
        self.rows: list[Row] = []
        self.best: dict[str, Tensor] | None = None
        self.summed, self.counted = torch.zeros((), dtype=torch.float64), 0
        self.logged = -math.inf

    @abstractmethod
    def training_batch(self, step: int) -> Any:
        """The batch of a step, counted from 0 over all epochs."""

    @abstractmethod
    def validation_batches(self) -> "Places":
        """The batches of a validation, the same every time."""

    @abstractmethod
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer, at the largest step size."""

    @abstractmethod
    def rate(self, step: int) -> float:
        """The share of the largest step size that a step takes."""

    @abstractmethod
    def weights(self) -> Mapping[str, Tensor]:
        """The tensors to keep where the validation loss is lowest."""

    def train_dataloader(self) -> "Places":
        """The batches of an epoch, from the next step on."""
        steps = self.plan.steps
        start = self.global_step
        return Places(self.training_batch, range(start, start // steps * steps + steps), steps)

    def val_dataloader(self) -> "Places":
        """The batches of a validation."""
        return self.validation_batches()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The optimizer, its step size a function of the step."""
        optimizer = self.optimizer()
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.rate)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def configure_gradient_clipping(self, *_: Any, **__: Any) -> None:
        """Scale a gradient down to the plan's largest norm."""
        if self.plan.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters(), self.plan.clip)

    def on_train_start(self) -> None:
        """Leave training stopped if it had stopped before it was resumed."""
        self.trainer.should_stop = has_stopped(self.rows, self.plan.patience)

    def note(self, loss: Tensor) -> None:
        """Count a step's loss, and now and then add a row of their mean."""
        self.summed, self.counted = self.summed + loss.double(), self.counted + 1
        step = self.global_step
        every = self.plan.log_every
        if every is not None and step % every == 0 and step % self.plan.steps:
            self._add_row({})

    def on_train_epoch_end(self) -> None:
        """Add the epoch's row, keep its weights where they are the best, and stop if it is time."""
        metrics = {name: float(x) for name, x in self.trainer.callback_metrics.items()}
        losses = [row["validation_loss"] for row in self.rows if "validation_loss" in row]
        if metrics["validation_loss"] < min(losses, default=math.inf):
            self.best = {name: x.detach().clone() for name, x in self.weights().items()}
        self._add_row(metrics)
        self.trainer.should_stop = has_stopped(self.rows, self.plan.patience)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what Lightning doesn't keep: the best weights and the losses."""
        checkpoint["fwbio"] = {
            "name": self.plan.name,
            "best": self.best,
            "rows": self.rows,
            "summed": self._summed(),
            "counted": self.counted,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it up again."""
        kept = checkpoint["fwbio"]
        self.best, self.rows = kept["best"], kept["rows"]
        self.summed, self.counted = kept["summed"], kept["counted"]

    def _summed(self) -> Tensor:
        """The losses since the last row, summed: the mean over processes, which all take part."""
        if self.trainer.world_size == 1:
            return self.summed
        shared = self.trainer.strategy.reduce(self.summed.to(self.device), reduce_op="mean")
        assert isinstance(shared, Tensor)
        return shared

    def _add_row(self, metrics: Row) -> None:
        """A row of the mean loss since the row before, and of the validation if there was one."""
        step = self.global_step
        self.rows.append(
            {
                "epoch": math.ceil(step / self.plan.steps),
                "step": step,
                "training_loss": float(self._summed()) / self.counted,
                **metrics,
            }
        )
        self.summed, self.counted = torch.zeros((), dtype=torch.float64), 0
        now = time.monotonic()
        due = bool(metrics) or now - self.logged > LOG_SECONDS
        if self.plan.log is not None and due and self.trainer.is_global_zero:
            write_rows(self.rows, self.plan.log)
            self.logged = now


class Places:
    """Batches, each made from its place alone.

    Args:
        make: the batch of a place.
        places: the places still to come.
        length: how many there are in all, those before included; those to come unless given.
    """

    def __init__(self, make: Callable[[int], Any], places: range, length: int | None = None):
        self.make, self.places = make, places
        self.length = len(places) if length is None else length

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Any]:
        return map(self.make, self.places)


def has_stopped(rows: list[Row], patience: int | None) -> bool:
    """Whether the validation loss is infinite, or has not fallen for so many epochs."""
    losses = [row["validation_loss"] for row in rows if "validation_loss" in row]
    if not losses:
        return False
    if not math.isfinite(losses[-1]):
        return True
    return patience is not None and len(losses) - 1 - losses.index(min(losses)) >= patience


def share_of_peak_rate(
    step: int, *, warm_up: float, total: int, schedule: Literal["constant", "cosine"]
) -> float:
    """The step size as a share of its peak: up in a line, then level or down along a cosine."""
    risen = min(1.0, (step + 1) / max(1.0, warm_up))
    if schedule == "constant":
        return risen
    return risen * (1 + math.cos(math.pi * min(1.0, step / total))) / 2


def processes() -> int:
    """How many processes train together: those that torchrun, or `train`, started."""
    launched = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys()
    return int(os.environ["WORLD_SIZE"]) if launched else 1


def fit(
    module: Learner, plan: Plan, unfinished: Path, *, progress: bool
) -> tuple[dict[str, Tensor], list[Row]]:
    """Train from the beginning, or from the step that `unfinished` holds.

    Equal modules and plans give equal weights and rows, to the bit on one machine, however often
    training was killed and taken up again. Of the last two unfinished checkpoints, the newest
    that is whole counts. The processes of a group, where there is one, share every batch.

    Args:
        module: what is trained, freshly initialised.
        plan: how long, and what is kept.
        unfinished: the file that keeps the state, beside the one before it.
        progress: whether to show a progress bar.

    Returns:
        The weights of the lowest validation loss, and the rows of losses: `epoch`, `step`, the
        mean `training_loss` since the row before, and at an epoch's end what validation logged.

    Raises:
        FwbioError: `unfinished` is damaged or another config's, a precision that the device
            lacks, or the loss became infinite.
        KeyboardInterrupt: it was stopped, by Ctrl-C or SIGTERM; it can be resumed.
    """
    start = resumable(unfinished, plan.name)
    handler = signal.getsignal(signal.SIGINT)
    with _quiet_lightning(), _one_thread(), isolate_rng(include_cuda=False), torch.enable_grad():
        trainer = _trainer(plan, unfinished, progress=progress)
        try:
            trainer.fit(module, ckpt_path=start)
        except (
            SystemExit
        ) as stopped:  # what Lightning makes of Ctrl-C, deaf from then on, and SIGTERM
            signal.signal(signal.SIGINT, handler)
            raise KeyboardInterrupt from stopped
    if module.best is None:
        discard(unfinished)
        raise FwbioError(
            "the validation loss became infinite",
            where=f"training {plan.name}",
            mend="lower the learning rate",
        )
    return module.best, module.rows


def _trainer(plan: Plan, unfinished: Path, *, progress: bool) -> lightning.Trainer:
    world = processes()
    device = "cuda" if plan.accelerator == "auto" and torch.cuda.is_available() else "cpu"
    _check_precision(plan.precision, device)
    local = int(os.environ.get("LOCAL_WORLD_SIZE", world)) if world > 1 else 1
    backend = "nccl" if device == "cuda" else "gloo"
    return lightning.Trainer(
        accelerator=device,
        devices=local,
        num_nodes=world // local,
        strategy=DDPStrategy(process_group_backend=backend) if world > 1 else "auto",
        precision="bf16-mixed" if plan.precision == "bfloat16" else "32-true",
        max_epochs=plan.epochs,
        reload_dataloaders_every_n_epochs=1,
        default_root_dir=unfinished.parent,
        callbacks=[_Checkpoints(plan, unfinished), *([_ProgressBar(plan)] if progress else [])],
        plugins=[
            _WholeFiles(),
            TorchElasticEnvironment() if world > 1 else LightningEnvironment(),
        ],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


def _check_precision(precision: str, device: str) -> None:
    if precision != "bfloat16" or device == "cpu":
        return
    if not torch.cuda.is_bf16_supported(including_emulation=False):
        raise FwbioError(
            f"{torch.cuda.get_device_name()} has no bfloat16",
            where="precision",
            mend="train in 'float32'",
        )


class _Checkpoints(Checkpoint):
    """Checkpoints at the end of every epoch, after so many steps, and by the clock.

    The step's loss is noted here, for the learner's own hook would come after the checkpoint.
    """

    def __init__(self, plan: Plan, unfinished: Path) -> None:
        self.plan, self.unfinished = plan, unfinished
        self.saved = time.monotonic()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, learner: Any, outputs: Any, *_: Any
    ) -> None:
        learner.note(outputs["loss"])
        step = trainer.global_step
        if step % self.plan.steps == 0:
            return
        due = time.monotonic() - self.saved >= self.plan.save_seconds
        if trainer.world_size > 1:
            due = trainer.strategy.reduce_boolean_decision(due, all=False)
        every = self.plan.save_every
        if due or (every is not None and step % every == 0):
            self._save(trainer)

    def on_train_epoch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        self._save(trainer)

    def _save(self, trainer: lightning.Trainer) -> None:
        trainer.save_checkpoint(self.unfinished)
        self.saved = time.monotonic()


class _WholeFiles(TorchCheckpointIO):
    """Checkpoints that appear whole or not at all, and hold plain data and tensors only."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        keep(checkpoint, Path(path))

    def load_checkpoint(self, path: str | Path, *_: Any, **__: Any) -> Any:
        return read_plain(Path(path))


class _ProgressBar(Callback):
    """One bar over all of training, with the last epoch's validation."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.bar = tqdm(disable=True)

    def on_train_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        self.bar = tqdm(
            desc=f"training {self.plan.label}",
            total=self.plan.steps * self.plan.epochs,
            initial=trainer.global_step,
            unit="step",
            disable=not trainer.is_global_zero,
        )

    def on_train_batch_end(self, *_: Any) -> None:
        self.bar.update()

    def on_train_epoch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        metrics = {name: f"{float(x):.4g}" for name, x in trainer.callback_metrics.items()}
        self.bar.set_postfix(metrics)

    def on_train_end(self, *_: Any) -> None:
        self.bar.close()

    def on_exception(self, *_: Any) -> None:
        self.bar.close()


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
