"""Sequences as batches of tensors, each a function of a seed and its place in training."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import xarray as xr
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from fwbio.errors import FwbioError
from fwbio.models.networks.seeds import seed_of
from fwbio.task import Task

STEPS_A_BLOCK = 16
TRAINING, VALIDATION, ORDER = 0, 1, 2


@dataclass(frozen=True, kw_only=True, eq=False)
class Sequences:
    """Sequences of a task as tensors.

    Args:
        inputs: what a model is called with: tokens [B, T] or features [B, T, F], and contents
            [B, T] where the task has them.
        target: classes [B, T], or outputs [B, T, O].
        scored: whether a step's answer counts [B, T].
        loss: "cross_entropy" or "squared".
    """

    inputs: tuple[Tensor, ...]
    target: Tensor
    scored: Tensor
    loss: str

    def __len__(self) -> int:
        return len(self.target)

    def rows(self, which: slice | Tensor) -> "Sequences":
        """Some of them."""
        return Sequences(
            inputs=tuple(x[which] for x in self.inputs),
            target=self.target[which],
            scored=self.scored[which],
            loss=self.loss,
        )

    def batch(self, process: int = 0, processes: int = 1) -> "Batch":
        """A batch of them: the share of one process."""
        total = int(self.scored.sum()) if processes > 1 else None
        share = self.rows(slice(process, None, processes)) if processes > 1 else self
        where = share.scored.flatten().nonzero()[:, 0]
        target = share.target.flatten(0, 1)[where]
        return Batch(
            inputs=share.inputs,
            where=where,
            target=target,
            weight=max(len(where) if total is None else total / processes, 1),
            loss=self.loss,
        )


class Batch:
    """What one step learns from.

    Args:
        inputs: what the model is called with.
        where: the scored steps [N], as places in [B T].
        target: classes [N], or outputs [N, O], of the scored steps.
        weight: what the summed loss is divided by: the mean number of scored steps of a process.
        loss: "cross_entropy" or "squared".
    """

    __slots__ = ("inputs", "loss", "target", "weight", "where")

    def __init__(
        self,
        *,
        inputs: tuple[Tensor, ...],
        where: Tensor,
        target: Tensor,
        weight: float,
        loss: str,
    ) -> None:
        self.inputs, self.where, self.target = inputs, where, target
        self.weight, self.loss = weight, loss

    def to(self, device: torch.device, **how: Any) -> "Batch":
        """The same on a device."""
        return Batch(
            inputs=tuple(x.to(device, **how) for x in self.inputs),
            where=self.where.to(device, **how),
            target=self.target.to(device, **how),
            weight=self.weight,
            loss=self.loss,
        )

    def scored(self, outputs: Tensor) -> Tensor:
        """The scored steps [N, classes] of a model's outputs [B, T, classes], in float32 at least.

        Raises:
            FwbioError: outputs of another shape.
        """
        steps = self.inputs[0].shape[:2]
        if outputs.shape[:2] != steps:
            raise FwbioError(
                f"outputs of shape {list(outputs.shape)} for inputs of {list(steps)}",
                where="model",
                mend="give outputs [B, T, classes]",
            )
        outputs = outputs.flatten(0, 1).index_select(0, self.where)
        return outputs if outputs.dtype == torch.float64 else outputs.float()


def losses(outputs: Tensor, target: Tensor, loss: str) -> Tensor:
    """The loss of every scored step [N].

        cross_entropy: -log softmax(outputs)[target];   squared: 1/2 |outputs - target|^2

    Args:
        outputs: [N, O].
        target: classes [N], which "squared" takes one-hot, or outputs [N, O].
        loss: "cross_entropy" or "squared".
    """
    if loss == "cross_entropy":
        return cross_entropy(outputs, target, reduction="none")
    if target.ndim == 1:
        target = one_hot(target, outputs.shape[-1])
    return (outputs - target).square().sum(-1) / 2


def right(outputs: Tensor, target: Tensor) -> Tensor | None:
    """Whether the largest output [N, O] is the target's class [N]; None for other targets."""
    return outputs.argmax(-1) == target if target.ndim == 1 else None


def sequences(episode: xr.Dataset) -> Sequences:
    """The tensors of an episode of a sequence task.

    Raises:
        FwbioError: an episode of another kind.
    """
    names = [name for name in ("tokens", "features", "contents") if name in episode]
    if not names or "loss" not in episode.attrs:
        raise FwbioError(
            f"an episode of {episode.attrs.get('task', 'no task')!r} shows no sequences",
            where="episode",
            mend="give one of a task in fwbio.tasks.SEQUENCE_TASKS",
        )
    return Sequences(
        inputs=tuple(_tensor(episode[name]) for name in names),
        target=_tensor(episode.target),
        scored=torch.from_numpy(episode.scored.values),
        loss=str(episode.attrs["loss"]),
    )


def _tensor(values: xr.DataArray) -> Tensor:
    tensor = torch.from_numpy(values.values)
    return tensor.float() if tensor.is_floating_point() else tensor.long()


class Stream:
    """The training batches of a task: fresh ones, or a fixed set in a new order each pass.

    Args:
        task: a sequence task.
        sizes: its sizes.
        batch: sequences of a batch.
        examples: how many sequences there are, or None for ever new ones.
        seed: of the sequences and their order.
    """

    def __init__(
        self, task: Task, sizes: Mapping[str, Any], *, batch: int, examples: int | None, seed: int
    ) -> None:
        self.task, self.sizes, self.size, self.seed = task, dict(sizes), batch, seed
        self.passing = None if examples is None else examples // batch
        self.examples = None if examples is None else self._made(0, examples)
        self._block = lru_cache(maxsize=1)(self._new_block)
        self._order = lru_cache(maxsize=1)(self._new_order)

    def at(self, step: int) -> Sequences:
        """The batch of a step, counted from 0."""
        if self.examples is not None and self.passing is not None:
            turn, place = divmod(step, self.passing)
            start = place * self.size
            return self.examples.rows(self._order(turn)[start : start + self.size])
        block, place = divmod(step, STEPS_A_BLOCK)
        start = place * self.size
        return self._block(block).rows(slice(start, start + self.size))

    def _new_block(self, block: int) -> Sequences:
        return self._made(block, STEPS_A_BLOCK * self.size)

    def _new_order(self, turn: int) -> Tensor:
        chance = torch.Generator().manual_seed(seed_of(self.seed, ORDER, turn))
        return torch.randperm(len(self.examples or ()), generator=chance)

    def _made(self, place: int, trials: int) -> Sequences:
        seed = seed_of(self.seed, TRAINING, place)
        return sequences(self.task(seed, trials=trials, **self.sizes))
