"""The recurrence in chunks: batched products and triangular solves, with a backward of its own.

One operator runs a sequence segment by segment, each of as many chunks as stay in the cache, so
that the forward pass needs no memory that grows with time but for its outputs. For the backward
pass it keeps the states at the chunks' starts; the rest is made anew. The algebra of a segment
stands in `chunks`.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fwbio.errors import FwbioError
from fwbio.kernels.chunks import Chunks, Layout, Segment, power_of_two
from fwbio.kernels.packing import by_sequence
from fwbio.kernels.recurrence import Recurrence

# Of a chunk, as many as the state has, within these bounds: more cost more and round worse.
FEWEST_ROWS, MOST_ROWS = 16, 64
CACHED = 3 * 2**15  # numbers in a segment's largest operand, at most, where a chunk is not larger


@by_sequence
def run(
    recurrence: Recurrence, state: Tensor, keep_every: int | None = None, *, rows: int | None = None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Run the recurrence chunk by chunk.

    Args:
        recurrence: its operands.
        state: [B, H, K, V], in its own dtype.
        keep_every: keep the state after every so many steps, or not at all.
        rows: writes in a chunk, at most; by default as many as the state has rows, 16 to 64.

    Returns:
        The read-outs [B, T, H, V] in the query's dtype; the last state; the kept states
        [B, kept, H, K, V], or None.
    """
    operands = (*recurrence.operands, state)
    if rows is None:
        rows = min(max(power_of_two(state.shape[-2]), FEWEST_ROWS), MOST_ROWS)
    save = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in operands)
    y, final, kept, _ = _chunked(
        *operands,
        recurrence.tied,
        recurrence.undecayed,
        recurrence.writes,
        keep_every or 0,
        rows,
        recurrence.scale,
        save,
    )
    return y, final, kept if keep_every else None


def _segments(steps: int, longest: int, every: int, count: int) -> list[Segment]:
    """The chunks of a sequence, none across a kept step, grouped where they are equally long."""
    interval = every or max(steps, 1)
    longest = min(longest, interval)
    # A length that divides the interval spares each of its ends a short chunk.
    divisors = (n for n in range(longest, longest // 4, -1) if every and every % n == 0)
    length = next(divisors, longest)
    lengths: list[int] = []
    for start in range(0, steps, interval):
        whole, rest = divmod(min(interval, steps - start), length)
        lengths += [length] * whole + [rest] * (rest > 0)
    found: list[Segment] = []
    start = chunks = 0
    for size, run_of in itertools.groupby(lengths):
        equal = len(list(run_of))
        for taken in range(0, equal, count):
            found.append(Segment(start, size, min(count, equal - taken), chunks))
            start, chunks = found[-1].end, chunks + found[-1].count
    return found


@dataclass(frozen=True)
class _Plan:
    """In which segments and which parts of the batch an operator does its work."""

    segments: list[Segment]
    batches: list[slice]

    @property
    def chunks(self) -> int:
        return sum(segment.count for segment in self.segments)

    @classmethod
    def of(cls, query: Tensor, state: Tensor, writes: int, keep_every: int, rows: int) -> "_Plan":
        # int: a compiler's symbolic sizes are fixed here, for the plan depends on them.
        batch, steps, heads, pre = map(int, query.shape)
        length = max(rows // writes, 1)
        chunk = heads * length * writes * max(length * writes, pre, int(state.shape[-1]))
        count = max(CACHED // (chunk * batch), 1)
        at_once = max(CACHED // chunk, 1)
        parts = [slice(b, min(b + at_once, batch)) for b in range(0, batch, at_once)]
        return cls(_segments(steps, length, keep_every, count), parts)


@torch.library.custom_op("fwbio::chunked", mutates_args=())
def _chunked(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    strength: Tensor | None,
    erase: Tensor | None,
    log_decay: Tensor | None,
    state: Tensor,
    tied: bool,
    undecayed: bool,
    writes: int,
    keep_every: int,
    rows: int,
    scale: float,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Read-outs, last state, kept states, and (to `save`) the states at the chunks' starts."""
    operands = (query, key, value, strength, erase, log_decay)
    switches = {"tied": tied, "undecayed": undecayed, "writes": writes, "scale": scale}
    recurrence = Recurrence.of(operands, **switches)
    y, final, kept, starts = _outputs(query, value, state, writes, keep_every, rows, save)
    final.copy_(state)
    plan = _Plan.of(query, state, writes, keep_every, rows)
    for segment in plan.segments:
        for part in plan.batches:
            layout = Layout(segment, part, writes, state.dtype)
            last = final[part].flatten(0, 1)
            states = last.new_empty(segment.count + 1, *last.shape)
            states[0] = last
            chunks = Chunks(layout, recurrence, states)
            layout.put(chunks.read(), y, reads=True)
            last.copy_(states[-1])
            if save:
                own = starts[segment.first : segment.first + segment.count, part]
                own.copy_(states[:-1].view_as(own))
            for i, at in segment.kept(keep_every):
                kept[part, at] = states[i + 1].view_as(kept[part, at])
            del chunks  # before the next ones need memory
    return y, final, kept, starts


def _outputs(
    query: Tensor,
    value: Tensor,
    state: Tensor,
    writes: int,
    keep_every: int,
    rows: int,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    batch, steps, heads, _ = query.shape
    plan = _Plan.of(query, state, writes, keep_every, rows)
    return (
        value.new_empty(batch, steps, heads, value.shape[-1]),
        torch.empty_like(state, memory_format=torch.contiguous_format),
        state.new_empty(batch, steps // keep_every if keep_every else 0, *state.shape[1:]),
        state.new_empty(plan.chunks if save else 0, *state.shape),
    )


@_chunked.register_fake
def _(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    strength: Tensor | None,
    erase: Tensor | None,
    log_decay: Tensor | None,
    state: Tensor,
    tied: bool,
    undecayed: bool,
    writes: int,
    keep_every: int,
    rows: int,
    scale: float,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _outputs(query, value, state, writes, keep_every, rows, save)


@torch.library.custom_op("fwbio::chunked_backward", mutates_args=())
def _chunked_backward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    strength: Tensor | None,
    erase: Tensor | None,
    log_decay: Tensor | None,
    starts: Tensor,
    y_grad: Tensor | None,
    final_grad: Tensor | None,
    kept_grad: Tensor | None,
    tied: bool,
    undecayed: bool,
    writes: int,
    keep_every: int,
    rows: int,
    scale: float,
) -> list[Tensor]:
    """The gradients of the first state and of every operand that there is, in this order."""
    operands = (query, key, value, strength, erase, log_decay)
    switches = {"tied": tied, "undecayed": undecayed, "writes": writes, "scale": scale}
    recurrence = Recurrence.of(operands, **switches)
    state_grad, *present = _gradients(recurrence.operands, starts)
    if final_grad is None:
        state_grad.zero_()
    else:
        state_grad.copy_(final_grad)
    if y_grad is None:
        y_grad = value.new_zeros(1, 1, 1, 1).expand(*query.shape[:3], value.shape[-1])
    unfilled = iter(present)
    grads = [None if x is None else next(unfilled) for x in recurrence.operands]
    plan = _Plan.of(query, state_grad, writes, keep_every, rows)
    for segment in reversed(plan.segments):
        for part in plan.batches:
            layout = Layout(segment, part, writes, starts.dtype)
            own = starts[segment.first : segment.first + segment.count, part]
            chunks = Chunks(layout, recurrence, own.flatten(1, 2))
            after = state_grad[part].flatten(0, 1)
            at_ends = {}
            if kept_grad is not None:
                for i, at in segment.kept(keep_every):
                    at_ends[i] = kept_grad[part, at].reshape_as(after)
            first, found = chunks.backward(layout.rows(y_grad, reads=True), after, at_ends)
            after.copy_(first)
            for i, (rows_grad, grad) in enumerate(zip(found, grads, strict=True)):
                if rows_grad is not None and grad is not None:
                    layout.put(rows_grad, grad, reads=i == 0)
            del chunks, found, rows_grad  # before the next ones need memory
    return [state_grad, *present]


def _gradients(operands: Sequence[Tensor | None], starts: Tensor) -> list[Tensor]:
    present = [torch.empty_like(x) for x in operands if x is not None]
    return [starts.new_empty(starts.shape[1:]), *present]


@_chunked_backward.register_fake
def _(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    strength: Tensor | None,
    erase: Tensor | None,
    log_decay: Tensor | None,
    starts: Tensor,
    y_grad: Tensor | None,
    final_grad: Tensor | None,
    kept_grad: Tensor | None,
    tied: bool,
    undecayed: bool,
    writes: int,
    keep_every: int,
    rows: int,
    scale: float,
) -> list[Tensor]:
    return _gradients((query, key, value, strength, erase, log_decay), starts)


def _save(ctx: Any, inputs: tuple, output: tuple) -> None:
    ctx.set_materialize_grads(False)
    *operands, _, tied, undecayed, writes, keep_every, rows, scale, _ = inputs
    ctx.save_for_backward(*operands, output[3])
    ctx.mark_non_differentiable(output[3])
    ctx.settings = (tied, undecayed, writes, keep_every, rows, scale)


def _backward(
    ctx: Any, y_grad: Tensor, final_grad: Tensor, kept_grad: Tensor, _: Tensor
) -> tuple[Tensor | None, ...]:
    *operands, starts = ctx.saved_tensors
    state_grad, *present = _chunked_backward(
        *operands, starts, y_grad, final_grad, kept_grad, *ctx.settings
    )
    grads = iter(present)
    return (*(None if x is None else next(grads) for x in operands), state_grad, *[None] * 7)


def _no_second_derivative(ctx: Any, *grads: Any) -> None:
    raise FwbioError(
        "it has no second derivative",
        where="backend 'chunked'",
        mend='use backend="recurrent", which has one',
    )


_chunked.register_autograd(_backward, setup_context=_save)
_chunked_backward.register_autograd(_no_second_derivative)
