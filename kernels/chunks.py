"""The chunks of one segment of a sequence, run forward and back: the algebra of `chunked`.

A chunk has R rows (writes), S is the state at its start, and the rows' decays stand in the pairs:

    A = q k^T, j <= i;  L = p k^T, j < i;  q^ k^ p^: as the chunk's start and end meet them
    U' = (I + L)^-1 (u - p^ S);   O = q^ S + A U';   S' = whole S + k^^T U'
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fwbio.kernels.decays import ChannelDecay, Decay, NoDecay, ScalarDecay
from fwbio.kernels.recurrence import Recurrence


@dataclass(frozen=True)
class Segment:
    """Chunks of equal length, one after another: `count` of `length` steps from `start`.

    `first` is the number of the first of them among all chunks.
    """

    start: int
    length: int
    count: int
    first: int

    @property
    def end(self) -> int:
        """The step after its last."""
        return self.start + self.length * self.count

    def kept(self, every: int) -> list[tuple[int, int]]:
        """Its chunks that end on a kept step, each with the number of that kept state."""
        ends = range(self.start + self.length, self.end + 1, self.length)
        return [(i, end // every - 1) for i, end in enumerate(ends) if every and end % every == 0]


@dataclass(frozen=True)
class Layout:
    """How a segment's rows lie in memory: [B, time, H, X] outside, [count, B, H, R, X] inside.

    A chunk has `rows` = length * writes rows, padded by rows of zeros to R, a power of two. A step
    is read at the last of its rows.
    """

    segment: Segment
    batch: slice
    writes: int
    dtype: torch.dtype

    def rows(self, x: Tensor, *, reads: bool = False) -> Tensor:
        """A segment's rows of an operand as [count * B * H, R, X]."""
        inner = self._inner(x, reads)
        count, batch, heads, _, channels = inner.shape
        used = self.segment.length * self.writes
        padded = power_of_two(used)
        shape = (count, batch, heads, padded, channels)
        make = x.new_empty if padded == inner.shape[3] else x.new_zeros
        rows = make(shape, dtype=self.dtype)
        rows[..., self._within(reads), :] = inner
        return rows.view(-1, padded, channels)

    def rows_if_any(self, x: Tensor | None) -> Tensor | None:
        """The same of an operand that may be missing."""
        return None if x is None else self.rows(x)

    def put(self, rows: Tensor, x: Tensor, *, reads: bool = False) -> None:
        """Write a segment's rows to where they belong in an output or a gradient."""
        inner = self._inner(x, reads)
        whole = rows.view(*inner.shape[:3], -1, inner.shape[-1])
        inner.copy_(whole[..., self._within(reads), :])

    def _within(self, reads: bool) -> slice:
        used = self.segment.length * self.writes
        return slice(self.writes - 1, used, self.writes) if reads else slice(used)

    def _inner(self, x: Tensor, reads: bool) -> Tensor:
        n = 1 if reads else self.writes
        wide = x[..., None] if x.ndim == 3 else x
        times = wide[self.batch, self.segment.start * n : self.segment.end * n]
        return times.unflatten(1, (self.segment.count, -1)).permute(1, 0, 3, 2, 4)


class Chunks:
    """A segment's chunks, run forward, and kept for running back.

    Args:
        layout: of the segment.
        recurrence: of the whole sequence.
        states: [count + 1, B * H, K, V], of which the first is the state at the segment's start,
            and the others, at the chunks' ends, are found; or [count, B * H, K, V], those at the
            chunks' starts, where all are known.
    """

    def __init__(self, layout: Layout, recurrence: Recurrence, states: Tensor) -> None:
        self._tied = recurrence.tied
        self._scale = recurrence.scale
        self._query = layout.rows(recurrence.query, reads=True)
        if self._scale != 1:
            self._query *= self._scale
        self._key, self._value = layout.rows(recurrence.key), layout.rows(recurrence.value)
        self._strength = layout.rows_if_any(recurrence.strength)
        self._erase = layout.rows_if_any(recurrence.erase)
        written = self._value if self._strength is None else self._strength * self._value
        if self._tied:
            self._erase = self._key if self._strength is None else self._strength * self._key
        log_decay = layout.rows_if_any(recurrence.log_decay)
        self._decay = _decay(self._key, log_decay, recurrence.undecayed)
        self._count = layout.segment.count
        self._held = self._decay.to_end()
        whole = self._decay.whole
        self._whole = None if whole is None else self._by_chunk(whole)
        self._starts = states[: self._count].flatten(0, 1)
        self._corrected = written
        if self._erase is not None:
            self._predicts = self._decay.pairs(self._erase, strict=True)
            self._erasing = self._decay.from_start(self._erase, strict=True)
            self._inverse = torch.linalg.solve_triangular(
                self._predicts,
                torch.eye(written.shape[1], dtype=written.dtype, device=written.device),
                upper=False,
                unitriangular=True,
            )
            if len(states) == self._count:
                error = torch.baddbmm(written, self._erasing, self._starts, alpha=-1)
                self._corrected = torch.bmm(self._inverse, error)
            else:
                self._corrected = torch.empty_like(written)
                self._correct(written, states.unbind(0))
        elif len(states) > self._count:
            self._sum_up(states.unbind(0))

    def _by_chunk(self, x: Tensor) -> tuple[Tensor, ...]:
        return x.view(self._count, -1, *x.shape[1:]).unbind(0)

    def _sum_up(self, states: Sequence[Tensor]) -> None:
        """Find the states of what is only written."""
        added = self._by_chunk(torch.bmm(self._held.mT, self._corrected))
        for i in range(self._count):
            if self._whole is None:
                torch.add(states[i], added[i], out=states[i + 1])
            else:
                torch.addcmul(added[i], self._whole[i], states[i], out=states[i + 1])

    def _correct(self, written: Tensor, states: Sequence[Tensor]) -> None:
        """Correct what is written, and find the states of that."""
        errors, inverse, held = map(self._by_chunk, (written, self._inverse, self._held))
        erasing, corrected = map(self._by_chunk, (self._erasing, self._corrected))
        for i in range(self._count):
            error = torch.baddbmm(errors[i], erasing[i], states[i], alpha=-1)
            torch.bmm(inverse[i], error, out=corrected[i])
            if self._whole is None:
                states[i + 1].copy_(states[i])
            else:
                torch.mul(self._whole[i], states[i], out=states[i + 1])
            states[i + 1].baddbmm_(held[i].mT, corrected[i])

    def read(self) -> Tensor:
        """The read-outs, [count * B * H, R, V]."""
        recent = self._decay.pairs(self._query, strict=False)
        seen = self._decay.from_start(self._query, strict=False)
        return torch.bmm(seen, self._starts).baddbmm_(recent, self._corrected)

    def backward(
        self, grad: Tensor, state_grad: Tensor, kept_grads: Mapping[int, Tensor]
    ) -> tuple[Tensor, list[Tensor | None]]:
        """The gradients of the segment, from those of its read-outs and of its later states.

        Args:
            grad: of the read-outs, [count * B * H, R, V].
            state_grad: of the state at the segment's end, [B * H, K, V].
            kept_grads: of the states at the ends of some chunks, by chunk, [B * H, K, V].

        Returns:
            Those of the state at the segment's start, and of the rows of query, key, value,
            strength, erase and log_decay, None where there is none.
        """
        decay, starts = self._decay, self._starts
        recent = decay.pairs(self._query, strict=False)
        seen = decay.from_start(self._query, strict=False)
        corrected_grad = torch.bmm(recent.mT, grad)
        states_grad, written_grad = self._back_through_states(
            corrected_grad, torch.bmm(seen.mT, grad), state_grad, kept_grads
        )
        ends_grad = states_grad[1:].flatten(0, 1)
        query_grad = decay.pairs_backward(
            torch.bmm(grad, self._corrected.mT), recent, self._query, strict=False
        )
        query_grad += decay.from_start_backward(torch.bmm(grad, starts.mT), seen, strict=False)
        if self._scale != 1:
            query_grad *= self._scale
        decay.to_end_backward(torch.bmm(self._corrected, ends_grad.mT))
        if decay.whole is not None:
            shared = (1, 2) if decay.whole.shape[1] == 1 else (2,)
            decay.whole_backward((ends_grad * starts).sum(shared, keepdim=True))
        erase_grad = None
        if self._erase is not None:
            predicted_grad = -written_grad
            erase_grad = decay.pairs_backward(
                torch.bmm(predicted_grad, self._corrected.mT),
                self._predicts,
                self._erase,
                strict=True,
            )
            erase_grad += decay.from_start_backward(
                torch.bmm(predicted_grad, starts.mT), self._erasing, strict=True
            )
        key_grad, value_grad, strength_grad = decay.keys_gradient(), written_grad, None
        if self._strength is not None:
            value_grad = self._strength * written_grad
            strength_grad = torch.linalg.vecdot(self._value, written_grad)[..., None]
        if self._tied and erase_grad is not None:
            if self._strength is None or strength_grad is None:
                key_grad += erase_grad
            else:
                key_grad.addcmul_(self._strength.expand_as(erase_grad), erase_grad)
                strength_grad += torch.linalg.vecdot(self._key, erase_grad)[..., None]
            erase_grad = None
        operands = [query_grad, key_grad, value_grad, strength_grad, erase_grad, decay.gradient()]
        return states_grad[0], operands

    def _back_through_states(
        self, corrected_grad: Tensor, read: Tensor, state_grad: Tensor, kept: Mapping[int, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The gradients of the states at the chunks' starts and at the end, and of what is written.

        Completes the gradient of the corrected values, to which the later states add.
        """
        states_grad = state_grad.new_empty(self._count + 1, *state_grad.shape)
        states_grad[-1] = state_grad
        written_grad = corrected_grad
        states, direct = states_grad.unbind(0), self._by_chunk(read)
        if self._erase is not None:
            written_grad = torch.empty_like(corrected_grad)
            corrected, written = map(self._by_chunk, (corrected_grad, written_grad))
            held, inverse = map(self._by_chunk, (self._held, self._inverse))
            erasing = self._by_chunk(self._erasing)
        for i in reversed(range(self._count)):
            if i in kept:
                states[i + 1].add_(kept[i])
            if self._whole is None:
                torch.add(states[i + 1], direct[i], out=states[i])
            else:
                torch.addcmul(direct[i], self._whole[i], states[i + 1], out=states[i])
            if self._erase is not None:
                corrected[i].baddbmm_(held[i], states[i + 1])
                torch.bmm(inverse[i].mT, corrected[i], out=written[i])
                states[i].baddbmm_(erasing[i].mT, written[i], alpha=-1)
        if self._erase is None:
            corrected_grad.baddbmm_(self._held, states_grad[1:].flatten(0, 1))
        return states_grad, written_grad


def _decay(keys: Tensor, log_decay: Tensor | None, undecayed: bool) -> Decay:
    if log_decay is None:
        return NoDecay(keys)
    kind = ScalarDecay if log_decay.shape[-1] == 1 else ChannelDecay
    return kind(log_decay, keys, undecayed=undecayed)


def power_of_two(n: int) -> int:
    """The least power of two that is not below n."""
    return 1 << (n - 1).bit_length()
