"""The training loop of a network on a sequence task, in this process or in several."""

import os
import signal
import socket
import traceback
from collections.abc import Mapping, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fwbio.errors import FwbioError
from fwbio.models.networks.batches import Batch, Stream, losses, right, sequences
from fwbio.models.networks.checkpoints import discard
from fwbio.models.networks.fit import Learner, Places, Plan, fit, processes, share_of_peak_rate
from fwbio.models.networks.models import build
from fwbio.models.networks.seeds import seed_of
from fwbio.models.networks.training import SequenceTraining, save, validation_episode
from fwbio.tasks import TASKS

CHANCE = 3
INTERRUPTED = 130  # exit status of a process that Ctrl-C or SIGTERM stopped
SETTLING = 2.0  # seconds in which processes end that have lost one of their group
ENDING = 30.0  # seconds in which they answer SIGTERM
GOES_ON = "train again: it goes on from its last checkpoint"


def learn(
    config: SequenceTraining, path: Path, *, progress: bool, devices: int, **saving: Any
) -> None:
    """Train a network and write it to `path`: the work of `training.train`."""
    world = processes()
    if world > 1 and devices not in (1, world):
        raise FwbioError(
            f"{devices} devices in a group of {world} processes",
            where="devices",
            mend="leave it out: all processes of the group train together",
        )
    if config.batch < max(world, devices):
        raise FwbioError(
            f"{max(world, devices)} devices can't share a batch of {config.batch}",
            where="devices",
            mend="give fewer of them, or a larger batch",
        )
    if world == 1 and devices > 1:
        _start(config, path, progress=progress, devices=devices, **saving)
        return
    plan = Plan(
        name=config.name,
        label=config.name.rpartition("-")[0],
        steps=config.steps_an_epoch,
        epochs=config.epochs,
        patience=config.patience,
        clip=config.clip,
        precision=config.precision,
        accelerator="auto",
        log=path.with_suffix(".csv"),
        log_every=config.log_every,
        **saving,
    )
    unfinished = path.with_suffix(".ckpt")
    module = SequenceLearner(config, plan)
    state, rows = fit(module, plan, unfinished, progress=progress)
    if module.trainer.is_global_zero:
        save(path, config, state, rows)
        discard(unfinished)
    if world > 1:
        torch.distributed.barrier()


class SequenceLearner(Learner):
    """A network with its loss and its sequences."""

    def __init__(self, config: SequenceTraining, plan: Plan) -> None:
        super().__init__(plan)
        self.config = config
        task, (sizes, _) = TASKS[config.task], config.split_sizes
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.model = build(config.model)
        self.stream = Stream(
            task, sizes, batch=config.batch, examples=config.examples, seed=config.seed
        )
        self.held_out = sequences(validation_episode(config))

    def training_batch(self, step: int) -> Batch:
        """This process's share of the batch of a step."""
        return self.stream.at(step).batch(self.trainer.global_rank, self.trainer.world_size)

    def validation_batches(self) -> Places:
        """This process's shares of the batches of the validation."""
        size = self.config.batch
        return Places(self._validation_batch, range(-(-len(self.held_out) // size)))

    def _validation_batch(self, place: int) -> Batch:
        start = place * self.config.batch
        shown = self.held_out.rows(slice(start, start + self.config.batch))
        return shown.batch(self.trainer.global_rank, self.trainer.world_size)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """The loss of a batch."""
        seed = seed_of(self.config.seed, CHANCE, self.global_step)
        torch.default_generator.manual_seed(seed)  # torch.manual_seed takes half a millisecond
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)
        outputs = batch.scored(self.model(*batch.inputs))
        return losses(outputs, batch.target, batch.loss).sum() / batch.weight

    def validation_step(self, batch: Batch, index: int) -> None:
        """The loss of a batch and, of classes, the share that is right."""
        outputs = batch.scored(self.model(*batch.inputs))
        count = len(batch.where)
        several = self.trainer.world_size > 1
        loss = losses(outputs, batch.target, batch.loss).sum() / max(count, 1)
        self.log("validation_loss", loss, batch_size=count, sync_dist=several)
        if (hits := right(outputs, batch.target)) is not None:
            accuracy = hits.sum() / max(count, 1)
            self.log("validation_accuracy", accuracy, batch_size=count, sync_dist=several)

    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW, whose decay spares vectors."""
        config = self.config
        parameters = list(self.model.parameters())
        groups = [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(
            [group for group in groups if group["params"]], lr=config.learning_rate, fused=True
        )

    def rate(self, step: int) -> float:
        """The share of the peak step size that a step takes."""
        total = self.plan.steps * self.plan.epochs
        return share_of_peak_rate(
            step, warm_up=self.config.warm_up, total=total, schedule=self.config.schedule
        )

    def weights(self) -> Mapping[str, Tensor]:
        """The network's."""
        return self.model.state_dict()


def _start(config: SequenceTraining, path: Path, *, devices: int, **how: Any) -> None:
    """Train in several new processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = torch.multiprocessing.get_context("spawn").SimpleQueue()
    processes = torch.multiprocessing.spawn(
        _take_part,
        (devices, port, config.to_dict(), path, how, told),
        nprocs=devices,
        join=False,
    ).processes
    try:
        codes = _exit_codes(processes)
    finally:
        _end(processes)
    heard = []
    while not told.empty():
        heard.append(told.get())
    if (failure := _failure(codes, heard, where=f"training {config.name}")) is not None:
        raise failure


def _exit_codes(processes: Sequence[BaseProcess]) -> list[int | None]:
    """The exit codes when all have ended, or soon after one has failed: None of those that run."""
    running = list(processes)
    while running:
        failed = any(process.exitcode for process in processes)
        if not wait([process.sentinel for process in running], SETTLING if failed else None):
            break
        running = [process for process in running if process.exitcode is None]
    return [process.exitcode for process in processes]


def _end(processes: Sequence[BaseProcess]) -> None:
    """Stop those that still run."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(ENDING)
        process.kill()
        process.join()


def _failure(
    codes: Sequence[int | None], heard: Sequence[FwbioError | str], *, where: str
) -> BaseException | None:
    """What went wrong in a group: a mistake, a process that was killed, a stop, or a crash.

    Args:
        codes: exit codes; None of what still ran when another had failed.
        heard: mistakes and tracebacks as they came; what a process raises for want of another
            comes after it.
        where: for the errors.
    """
    if not any(codes):
        return None
    for mistake in heard:
        if isinstance(mistake, FwbioError):
            return mistake
    stops = {INTERRUPTED, -signal.SIGINT, -signal.SIGTERM}
    for rank, code in enumerate(codes):
        if code is not None and code < 0 and code not in stops:
            return FwbioError(
                f"process {rank + 1} of {len(codes)} was ended by {_signal(-code)}",
                where=where,
                mend=f"if memory ran out, free some or give fewer devices; then {GOES_ON}",
            )
    if stops & set(codes):
        return KeyboardInterrupt()
    crash = str(next(iter(heard), "")).strip()
    last = crash.splitlines()[-1] if crash else f"exit codes {list(codes)}"
    failure = FwbioError(
        f"one of {len(codes)} processes failed ({last})",
        where=where,
        mend=f"mend that and {GOES_ON}",
    )
    failure.__cause__ = RuntimeError(crash) if crash else None
    return failure


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def _take_part(
    rank: int,
    devices: int,
    port: int,
    config: dict[str, Any],
    path: Path,
    how: dict[str, Any],
    told: Any,
) -> None:
    """Be one of several processes that train together."""
    os.environ.update(
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(devices),
        LOCAL_WORLD_SIZE=str(devices),
        OMP_NUM_THREADS="1",
    )
    try:
        learn(SequenceTraining.from_dict(config), path, devices=devices, **how)
    except FwbioError as mistake:
        told.put(mistake)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except Exception:
        told.put(traceback.format_exc())
        raise SystemExit(1) from None
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
