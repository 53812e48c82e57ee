"""Decay inside a chunk of rows, as products of exponentials whose exponents are never above 0.

Row i reads what row j < i wrote through exp(l_{j+1} + .. + l_i), l the log decays. Where all
channels decay alike, every pair of rows has its weight. Where each channel has its own decay, that
would be one a channel as well, and one anchor a chunk would overflow; there the pairs are split by
a binary tree. At the level of spans of s rows, every second span reads what the span before it
wrote through

    exp(prefix_i) exp(suffix_j),   prefix_i = sum of l from the span's start to i,
                                   suffix_j = sum of l after j to the span's end,

sums of numbers of one sign, each built from the level below. What the gradient of a log decay sums
up runs back over the same tree, and cancels nothing either.

Shapes are [N chunks, R rows, channel], R a power of two.
"""

import functools
from abc import ABC, abstractmethod

import torch
from torch import Tensor
from typing_extensions import override

NOTHING_LEFT = -2000.0  # a log decay whose exponential is 0 in every dtype


class Decay(ABC):
    """How reads, keys and state meet in chunks, and the gradients of that.

    Attributes:
        whole: what a chunk leaves of the state at its start, [N, 1 or K, 1], or None for all of it.
    """

    whole: Tensor | None = None
    _keys: Tensor
    _keys_gradient: Tensor | None = None

    @abstractmethod
    def pairs(self, reads: Tensor, *, strict: bool) -> Tensor:
        """reads_i . keys_j, decayed, for j <= i (j < i where `strict`), 0 elsewhere, [N, R, R]."""

    @abstractmethod
    def pairs_backward(self, grad: Tensor, pairs: Tensor, reads: Tensor, *, strict: bool) -> Tensor:
        """The gradient of the reads, from that of the pairs (which is spent)."""

    @abstractmethod
    def from_start(self, reads: Tensor, *, strict: bool) -> Tensor:
        """The reads as the state at the chunk's start meets them."""

    @abstractmethod
    def from_start_backward(self, grad: Tensor, seen: Tensor, *, strict: bool) -> Tensor:
        """The gradient of the reads, from that of what they became."""

    @abstractmethod
    def to_end(self) -> Tensor:
        """The keys as the state at the chunk's end holds them."""

    @abstractmethod
    def to_end_backward(self, grad: Tensor) -> None:
        """Take the gradient of `to_end`."""

    @abstractmethod
    def whole_backward(self, grad: Tensor) -> None:
        """Take the gradient of `whole`."""

    def keys_gradient(self) -> Tensor:
        """The gradient of the keys, once all others have been taken."""
        assert self._keys_gradient is not None
        return self._keys_gradient

    @abstractmethod
    def gradient(self) -> Tensor | None:
        """The gradient of the log decays, once all others have been taken, or None."""

    def _take_keys_gradient(self, grad: Tensor) -> None:
        self._keys_gradient = grad if self._keys_gradient is None else self._keys_gradient + grad


class NoDecay(Decay):
    """Nothing decays: every read meets every earlier write whole."""

    def __init__(self, keys: Tensor) -> None:
        self._keys = keys
        ones = keys.new_ones(keys.shape[1], keys.shape[1])
        self._mask = {strict: ones.tril(-int(strict)) for strict in (False, True)}

    @override
    def pairs(self, reads: Tensor, *, strict: bool) -> Tensor:
        return torch.bmm(reads, self._keys.mT).mul_(self._mask[strict])

    @override
    def pairs_backward(self, grad: Tensor, pairs: Tensor, reads: Tensor, *, strict: bool) -> Tensor:
        grad.mul_(self._mask[strict])
        self._take_keys_gradient(torch.bmm(grad.mT, reads))
        return torch.bmm(grad, self._keys)

    @override
    def from_start(self, reads: Tensor, *, strict: bool) -> Tensor:
        return reads

    @override
    def from_start_backward(self, grad: Tensor, seen: Tensor, *, strict: bool) -> Tensor:
        return grad

    @override
    def to_end(self) -> Tensor:
        return self._keys

    @override
    def to_end_backward(self, grad: Tensor) -> None:
        self._take_keys_gradient(grad)

    @override
    def whole_backward(self, grad: Tensor) -> None:
        pass

    @override
    def gradient(self) -> Tensor | None:
        return None


class _Decaying(Decay):
    """What scalar and channel decay share.

    Args:
        keys: [N, R, K].
        undecayed: whether strict reads come before their own row's decay.
    """

    whole: Tensor

    def __init__(self, keys: Tensor, *, undecayed: bool) -> None:
        self._keys = keys
        self._undecayed = undecayed

    def _late(self, x: Tensor, strict: bool, *, first: float) -> Tensor:
        """What a read at each row meets: of the row before, where it comes before the decay."""
        if not (strict and self._undecayed):
            return x
        moved = torch.full_like(x, first)
        moved[..., 1:, :] = x[..., :-1, :]
        return moved

    def _take(self, total: Tensor, grad: Tensor, strict: bool) -> None:
        """Add the gradient of `_late`."""
        if strict and self._undecayed:
            total[..., :-1, :] += grad[..., 1:, :]
        else:
            total += grad


class ScalarDecay(_Decaying):
    """One factor a row for all channels: the pairs are weighed after their product.

    Cumulative sums in float64 have differences exact enough for any dtype. Their gradients, too,
    are summed up in float64: a number that is added at one row and subtracted at another leaves
    nothing beyond these.

    Args:
        log_decay: [N, R, 1].
        keys: [N, R, K].
        undecayed: whether strict reads come before their own row's decay.
    """

    def __init__(self, log_decay: Tensor, keys: Tensor, *, undecayed: bool) -> None:
        super().__init__(keys, undecayed=undecayed)
        self._sums = log_decay.double().clamp_min(NOTHING_LEFT).cumsum(1)
        self._sums_gradient = torch.zeros_like(self._sums)
        self._from_start = self._exponential(self._sums)
        self._to_end = self._exponential(self._sums[:, -1:] - self._sums)
        self._held = self._to_end * keys
        self.whole = self._from_start[:, -1:]

    def _exponential(self, exponent: Tensor) -> Tensor:
        return exponent.to(self._keys.dtype).exp()

    @functools.cached_property
    def _weight(self) -> Tensor:
        """What is left at row i of row j <= i, 0 elsewhere, [N, R, R]."""
        return self._weights(self._sums)

    @functools.cached_property
    def _strict_weight(self) -> Tensor:
        """The same of strict reads; their own row, j = i, is no matter."""
        if not self._undecayed:
            return self._weight
        return self._weights(self._late(self._sums, strict=True, first=0.0))

    def _weights(self, sums: Tensor) -> Tensor:
        exponents = (sums - self._sums.mT).to(self._keys.dtype)
        return exponents.clamp_max_(0.0).exp_().tril_()

    @override
    def pairs(self, reads: Tensor, *, strict: bool) -> Tensor:
        weight = self._strict_weight if strict else self._weight
        pairs = torch.bmm(reads, self._keys.mT).mul_(weight)
        if strict:
            pairs.diagonal(dim1=1, dim2=2).zero_()
        return pairs

    @override
    def pairs_backward(self, grad: Tensor, pairs: Tensor, reads: Tensor, *, strict: bool) -> Tensor:
        both = grad * pairs
        self._take(self._sums_gradient, both.sum(2, keepdim=True, dtype=torch.float64), strict)
        self._sums_gradient -= both.sum(1, dtype=torch.float64)[..., None]
        grad.mul_(self._strict_weight if strict else self._weight)
        if strict:
            grad.diagonal(dim1=1, dim2=2).zero_()
        self._take_keys_gradient(torch.bmm(grad.mT, reads))
        return torch.bmm(grad, self._keys)

    @override
    def from_start(self, reads: Tensor, *, strict: bool) -> Tensor:
        return reads * self._late(self._from_start, strict, first=1.0)

    @override
    def from_start_backward(self, grad: Tensor, seen: Tensor, *, strict: bool) -> Tensor:
        self._take(self._sums_gradient, _dot(grad, seen), strict)
        return grad * self._late(self._from_start, strict, first=1.0)

    @override
    def to_end(self) -> Tensor:
        return self._held

    @override
    def to_end_backward(self, grad: Tensor) -> None:
        held = _dot(grad, self._held)
        self._sums_gradient -= held
        self._sums_gradient[:, -1] += held.sum(1)
        self._take_keys_gradient(grad * self._to_end)

    @override
    def whole_backward(self, grad: Tensor) -> None:
        self._sums_gradient[:, -1] += (grad * self.whole)[..., 0]

    @override
    def gradient(self) -> Tensor:
        crossing = self._sums_gradient.flip(1).cumsum(1).flip(1)
        return crossing.to(self._keys.dtype)


class ChannelDecay(_Decaying):
    """A factor a row and channel: reads and keys are weighed before their product, by level.

    Args:
        log_decay: [N, R, K].
        keys: [N, R, K].
        undecayed: whether strict reads come before their own row's decay.
    """

    def __init__(self, log_decay: Tensor, keys: Tensor, *, undecayed: bool) -> None:
        super().__init__(keys, undecayed=undecayed)
        prefix, suffix = log_decay.clone(), torch.zeros_like(log_decay)
        self._levels = []  # of the second spans' prefixes and the first spans' suffixes
        span = 1
        while span < log_decay.shape[1]:
            before, after = _spans(prefix, span), _spans(suffix, span)
            self._levels.append((before[:, :, 1].clone(), after[:, :, 0].clone()))
            after[:, :, 0] += before[:, :, 1, -1:]
            before[:, :, 1] += before[:, :, 0, -1:]
            span *= 2
        self._from_start = prefix.exp()
        self._to_end = suffix.exp_()
        self._held = self._to_end * keys
        self.whole = self._from_start[:, -1, :, None]
        self._factors = [(prefix.exp(), suffix.exp()) for prefix, suffix in self._levels]
        self._written = [
            _spans(keys, 2**level)[:, :, 0] * after
            for level, (_, after) in enumerate(self._factors)
        ]

    @functools.cached_property
    def _levels_gradient(self) -> list[tuple[Tensor, Tensor]]:
        return [
            (torch.zeros_like(before), torch.zeros_like(after)) for before, after in self._levels
        ]

    @functools.cached_property
    def _prefix_gradient(self) -> Tensor:
        return torch.zeros_like(self._from_start)

    @functools.cached_property
    def _suffix_gradient(self) -> Tensor:
        return torch.zeros_like(self._from_start)

    @override
    def from_start(self, reads: Tensor, *, strict: bool) -> Tensor:
        return reads * self._late(self._from_start, strict, first=1.0)

    @override
    def from_start_backward(self, grad: Tensor, seen: Tensor, *, strict: bool) -> Tensor:
        self._take(self._prefix_gradient, grad * seen, strict)
        return grad * self._late(self._from_start, strict, first=1.0)

    @override
    def to_end(self) -> Tensor:
        return self._held

    @override
    def to_end_backward(self, grad: Tensor) -> None:
        self._suffix_gradient += grad * self._held
        self._take_keys_gradient(grad * self._to_end)

    @override
    def whole_backward(self, grad: Tensor) -> None:
        self._prefix_gradient[:, -1] += (grad * self.whole)[..., 0]

    @functools.cached_property
    def _written_gradient(self) -> list[Tensor]:
        return [torch.zeros_like(written) for written in self._written]

    @override
    def pairs(self, reads: Tensor, *, strict: bool) -> Tensor:
        batch, rows, _ = reads.shape
        pairs = reads.new_zeros(batch, rows, rows)
        if not strict:
            torch.linalg.vecdot(reads, self._keys, out=pairs.diagonal(dim1=1, dim2=2))
        for level, written in enumerate(self._written):
            seen = self._seen(reads, level, strict)
            _blocks(pairs, 2**level).copy_(seen @ written.mT)
        return pairs

    @override
    def pairs_backward(self, grad: Tensor, pairs: Tensor, reads: Tensor, *, strict: bool) -> Tensor:
        reads_gradient = torch.zeros_like(reads)
        if not strict:
            own = grad.diagonal(dim1=1, dim2=2)[..., None]
            reads_gradient.addcmul_(own, self._keys)
            self._take_keys_gradient(own * reads)
        for level, written in enumerate(self._written):
            block = _blocks(grad, 2**level).contiguous()
            seen = self._seen(reads, level, strict)
            to_seen = block @ written
            self._written_gradient[level] += block.mT @ seen
            self._take(self._levels_gradient[level][0], to_seen * seen, strict)
            before = self._late(self._factors[level][0], strict, first=1.0)
            _spans(reads_gradient, 2**level)[:, :, 1].addcmul_(to_seen, before)
        return reads_gradient

    @override
    def keys_gradient(self) -> Tensor:
        total = super().keys_gradient()
        for level, grad in enumerate(self._written_gradient):
            after = self._factors[level][1]
            _spans(total, 2**level)[:, :, 0].addcmul_(grad, after)
        return total

    @override
    def gradient(self) -> Tensor:
        for level, grad in enumerate(self._written_gradient):
            self._levels_gradient[level][1].addcmul_(grad, self._written[level])
        prefix, suffix = self._prefix_gradient, self._suffix_gradient
        span = prefix.shape[1]
        for to_prefix, to_suffix in reversed(self._levels_gradient):
            span //= 2
            before, after = _spans(prefix, span), _spans(suffix, span)
            before[:, :, 0, -1] += before[:, :, 1].sum(2)
            before[:, :, 1, -1] += after[:, :, 0].sum(2)
            before[:, :, 1] += to_prefix
            after[:, :, 0] += to_suffix
        return prefix

    def _seen(self, reads: Tensor, level: int, strict: bool) -> Tensor:
        """The second spans' reads as the writes of the spans before them meet them."""
        before = self._late(self._factors[level][0], strict, first=1.0)
        return _spans(reads, 2**level)[:, :, 1] * before


def _spans(x: Tensor, span: int) -> Tensor:
    """[N, R, D] as [N, pair of spans, 2, row, D]."""
    return x.view(x.shape[0], -1, 2, span, x.shape[-1])


def _blocks(x: Tensor, span: int) -> Tensor:
    """The blocks of [N, R, R] where a second span reads its first one, [N, pair, row, row]."""
    pairs = x.shape[1] // (2 * span)
    blocks = x.view(x.shape[0], pairs, 2, span, pairs, 2, span).diagonal(dim1=1, dim2=4)
    return blocks[:, 1, :, 0].permute(0, 3, 1, 2)


def _dot(x: Tensor, y: Tensor) -> Tensor:
    """Products summed over the channels, [N, R, 1], to be summed further in float64."""
    return torch.linalg.vecdot(x, y).double()[..., None]
