"""The one linear recurrence that every backend runs, and what its switches are.

    for every step, for each of its n writes:
        W~ = diag(exp(log_decay)) W
        u' = strength value - W~^T p          p = strength key, or p = erase, or nothing erased
        W  = W~ + key u'^T                    (`undecayed`: W^T p in place of W~^T p)
    y = scale W^T query

A rule reaches a backend by lowering its normal form to such recurrences (`lowering`), so that a
backend knows nothing of rules.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

Decay = Literal["none", "scalar", "channel"]
Erase = Literal["none", "tied", "separate"]
OPERANDS = ("query", "key", "value", "strength", "erase", "log_decay")


@dataclass(frozen=True, kw_only=True)
class Recurrence:
    """The operands of the recurrence, B batch, T steps, M = T n writes, H heads.

    All have one floating dtype, but for `strength` and `log_decay`, which may have the state's.

    Args:
        query: [B, T, H, K].
        key: [B, M, H, K].
        value: [B, M, H, V].
        strength: factor on the value (and, where `tied`, on the erase key), [B, M, H], or None.
        erase: p, a key of its own by which the prediction to erase is read, [B, M, H, K], or None.
        log_decay: [B, M, H], or [B, M, H, K], or None.
        tied: whether what is erased is read by strength * key.
        undecayed: whether it is read from the weights before they decay.
        writes: n.
        scale: factor on the read-outs.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    strength: Tensor | None = None
    erase: Tensor | None = None
    log_decay: Tensor | None = None
    tied: bool = False
    undecayed: bool = False
    writes: int = 1
    scale: float = 1.0

    @property
    def decays(self) -> Decay:
        """Which decay it has."""
        if self.log_decay is None:
            return "none"
        return "scalar" if self.log_decay.ndim == 3 else "channel"

    @property
    def erases(self) -> Erase:
        """Which error correction it has."""
        if self.tied:
            return "tied"
        return "none" if self.erase is None else "separate"

    @property
    def operands(self) -> tuple[Tensor | None, ...]:
        """Its tensors, in the order of `OPERANDS`."""
        return (self.query, self.key, self.value, self.strength, self.erase, self.log_decay)

    @classmethod
    def of(cls, operands: Sequence[Any], **switches: Any) -> "Recurrence":
        """The recurrence of `operands`, as an operator takes and gives them."""
        return cls(**dict(zip(OPERANDS, operands, strict=True)), **switches)

    def detached(self) -> "Recurrence":
        """The same recurrence, outside of any graph."""
        outside: dict[str, Any] = {
            name: None if x is None else x.detach()
            for name, x in zip(OPERANDS, self.operands, strict=True)
        }
        return replace(self, **outside)

    def between(self, start: int, end: int) -> "Recurrence":
        """The recurrence of the steps from start to end."""
        writes = slice(start * self.writes, end * self.writes)
        return replace(
            self,
            query=self.query[:, start:end],
            key=self.key[:, writes],
            value=self.value[:, writes],
            strength=None if self.strength is None else self.strength[:, writes],
            erase=None if self.erase is None else self.erase[:, writes],
            log_decay=None if self.log_decay is None else self.log_decay[:, writes],
        )


# A backend: from a recurrence, the state before it [N, H, K, V], how often to keep the state (or
# never) and the ends of packed sequences (or None: N = B sequences, one a row of the batch), to the
# read-outs [B, T, H, V], the states after it [N, H, K, V], and the kept states [B, kept, H, K, V]
# (of packed sequences one after another along the second axis) or None.
Run = Callable[
    [Recurrence, Tensor, int | None, tuple[int, ...] | None],
    tuple[Tensor, Tensor, Tensor | None],
]


def state_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of the state: float64 for float64, float32 for all that is shorter."""
    return torch.float64 if dtype == torch.float64 else torch.float32
