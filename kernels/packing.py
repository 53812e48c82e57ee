"""Packed sequences for a backend that runs a batch of equal lengths: one after another."""

import functools
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from fwbio.kernels.recurrence import Recurrence, Run

Outputs = tuple[Tensor, Tensor, Tensor | None]


def by_sequence(run: Callable[..., Outputs]) -> Run:
    """A backend that runs packed sequences, from one that doesn't."""

    @functools.wraps(run)
    def runs(
        recurrence: Recurrence,
        state: Tensor,
        keep_every: int | None = None,
        ends: tuple[int, ...] | None = None,
        **options: Any,
    ) -> Outputs:
        if ends is None:
            return run(recurrence, state, keep_every, **options)
        parts = [
            run(recurrence.between(start, end), state[i : i + 1], keep_every, **options)
            for i, (start, end) in enumerate(pairwise(ends))
        ]
        kept = [part[2] for part in parts if part[2] is not None]
        return (
            torch.cat([part[0] for part in parts], 1),
            torch.cat([part[1] for part in parts]),
            torch.cat(kept, 1) if kept else None,
        )

    return runs
