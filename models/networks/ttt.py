"""Layers whose state is a model that is trained on what they are shown (Sun et al. 2024)."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm

from fwbio.models.networks.checks import Checks, divided

INITIAL_STD = 0.02
EPSILON = 1e-6

Weights = tuple[Tensor, ...]


@dataclass(frozen=True, kw_only=True)
class _TTTConfig:
    heads: int = 2
    mini_batch: int = 16
    rate: float = 1.0
    layer_norm: bool = True
    residual: bool = True

    def __post_init__(self) -> None:
        checks = Checks(type(self).__name__)
        checks.whole("heads", self.heads)
        checks.whole("mini_batch", self.mini_batch)
        checks.number("rate", self.rate, above=True)
        checks.flags(layer_norm=self.layer_norm, residual=self.residual)


@dataclass(frozen=True, kw_only=True)
class TTTLinearConfig(_TTTConfig):
    """A layer of linear models trained on what they are shown.

    Args:
        heads: models, each of an equal share of the layer's width.
        mini_batch: tokens whose gradients are taken at the same weights.
        rate: the greatest inner learning rate, times a head's channels.
        layer_norm: whether the model normalises what it gives, over its channels.
        residual: whether the model adds its input to what it gives.

    Raises:
        FwbioError: a number out of its range.
    """


@dataclass(frozen=True, kw_only=True)
class TTTMLPConfig(_TTTConfig):
    """A layer of models with one hidden layer, trained on what they are shown.

    Args:
        heads: models, each of an equal share of the layer's width.
        mini_batch: tokens whose gradients are taken at the same weights.
        rate: the greatest inner learning rate, times a head's channels.
        layer_norm: whether the model normalises what it gives, over its channels.
        residual: whether the model adds its input to what it gives.
        expansion: hidden units of a model, as a multiple of its channels.

    Raises:
        FwbioError: a number out of its range.
    """

    rate: float = 0.1
    expansion: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        Checks(type(self).__name__).whole("expansion", self.expansion)


class _TTT(nn.Module, ABC):
    """What both layers share: the streams, the walk over mini-batches, and the inner loss."""

    def __init__(self, config: Any, width: int) -> None:
        super().__init__()
        self.config = config
        self.out_features = width
        self.channels = divided(width, config.heads, None, where=f"{type(config).__name__}.heads")
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.rate = nn.Linear(width, config.heads)
        self.output = nn.Linear(width, width, bias=False)
        if config.layer_norm:
            self.gain = nn.Parameter(torch.ones(config.heads, 1, self.channels))
            self.bias = nn.Parameter(torch.zeros(config.heads, 1, self.channels))

    def streams(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Queries, keys and values [B, heads, T, channels] and inner rates [B, heads, T, 1]."""
        q, k, v = (
            project(x).unflatten(-1, (self.config.heads, -1)).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )
        rate = self.config.rate / self.channels * self.rate(x).sigmoid()
        return q, k, v, rate.transpose(1, 2).unsqueeze(-1)

    def forward(self, x: Tensor, run: Callable[..., Any] | None = None) -> Tensor:
        """What the models answer to the queries of a sequence.

        Args:
            x: the sequence [B, T, width].
            run: as every mixer takes it; ignored: these models are no rule of the table.

        Returns:
            [B, T, width].
        """
        streams = self.streams(x)
        with torch.autocast(x.device.type, enabled=False):
            answers = self._answers(*(s.to(self.output.weight.dtype) for s in streams))
        return self.output(answers.transpose(1, 2).flatten(2))

    def _answers(self, *streams: Tensor) -> Tensor:
        """The answers [B, heads, T, channels] to streams as `streams` gives them."""
        weights = self._initial()
        parts = []
        mini_batches = (stream.split(self.config.mini_batch, 2) for stream in streams)
        for q, k, v, rate in zip(*mini_batches, strict=True):
            weights, z = self._learn(weights, q, k, v, rate)
            parts.append(self._answer(q, z))
        return torch.cat(parts, 2)

    @abstractmethod
    def _initial(self) -> Weights:
        """The models' first weights, [heads, in, out] each."""

    @abstractmethod
    def _learn(
        self, weights: Weights, q: Tensor, k: Tensor, v: Tensor, rate: Tensor
    ) -> tuple[Weights, Tensor]:
        """The weights after a mini-batch, and what they gave each query before norm and residual.

        The t-th query is read by the weights after the first t gradients (t included), all taken
        at the mini-batch's first weights.
        """

    def _answer(self, x: Tensor, z: Tensor) -> Tensor:
        """The models' answers to x, of which z is what their weights give."""
        if self.config.layer_norm:
            z = self.gain * layer_norm(z, z.shape[-1:], eps=EPSILON) + self.bias
        return x + z if self.config.residual else z

    def _gradient(self, k: Tensor, v: Tensor, z: Tensor) -> Tensor:
        """The gradient by z of 1/2 |f(k) - v|^2, of which z is what the weights give k."""
        if not self.config.layer_norm:
            return self._answer(k, z) - v
        unit, scale = _normalised(z)
        wanted = v - k if self.config.residual else v
        gradient = self.gain * (self.gain * unit + self.bias - wanted)
        gradient = gradient - gradient.mean(-1, keepdim=True)
        return scale * (gradient - unit * (gradient * unit).mean(-1, keepdim=True))


def _normalised(z: Tensor) -> tuple[Tensor, Tensor]:
    """A vector with mean 0 and variance 1 over the channels, and what it was multiplied by."""
    centred = z - z.mean(-1, keepdim=True)
    scale = (centred.square().mean(-1, keepdim=True) + EPSILON).rsqrt()
    return centred * scale, scale


def _step(
    W: Tensor, x: Tensor, read: Tensor, gradient: Tensor, rate: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradient steps on a linear map, and what it gives in their course: the dual form.

        z_t = W_t^T r_t;   W_t = W - sum over s <= t of rate_s x_s gradient_s^T

    without forming any but the last W_t.
    """
    stride = rate * gradient
    likeness = torch.tril(read @ x.transpose(-1, -2))
    return W - x.transpose(-1, -2) @ stride, read @ W - likeness @ stride


class TTTLinear(_TTT):
    """A layer whose state is a linear model, which learns to give a token's value for its key.

        W_t = W_t' - sum over s of eta_s grad_W 1/2 |f(k_s; W_t') - v_s|^2;   y_t = f(q_t; W_t)
        f(x; W) = x + LN(W^T x);   eta_s = rate sigmoid(a.x_s + b) / channels

    summed from the mini-batch's first token to t, with t' the last token of the one before. Where
    W starts is learned, as are a, b and the norm's gain and bias, which the inner steps leave
    alone. Without norm and residual and with mini-batches of 1 it is `delta` with beta = eta. All
    numbers are dimensionless.

    Args:
        config: its heads and constants.
        width: channels of the input, and of the output.

    Raises:
        FwbioError: heads that don't divide the width.

    Source: Sun et al. 2024, arXiv:2407.04620. The authors' code also has biases in f, rotary
    positions and a norm before the last map, and divides the sum by its number of terms.
    """

    def __init__(self, config: TTTLinearConfig, width: int) -> None:
        super().__init__(config, width)
        size = (config.heads, self.channels, self.channels)
        self.initial = nn.Parameter(INITIAL_STD * torch.randn(size))

    def _initial(self) -> Weights:
        return (self.initial,)

    def _learn(
        self, weights: Weights, q: Tensor, k: Tensor, v: Tensor, rate: Tensor
    ) -> tuple[Weights, Tensor]:
        (W,) = weights
        W, z = _step(W, k, q, self._gradient(k, v, k @ W), rate)
        return (W,), z


class TTTMLP(_TTT):
    """A layer whose state is a model with one hidden layer, trained as `TTTLinear`'s is.

        f(x; W, U) = x + LN(U^T gelu(W^T x))

    Args:
        config: its heads and constants.
        width: channels of the input, and of the output.

    Raises:
        FwbioError: heads that don't divide the width.

    Source: Sun et al. 2024, arXiv:2407.04620, with the same departures.
    """

    def __init__(self, config: TTTMLPConfig, width: int) -> None:
        super().__init__(config, width)
        hidden = config.expansion * self.channels
        size = (config.heads, self.channels, hidden)
        self.initial = nn.Parameter(INITIAL_STD * torch.randn(size))
        self.initial_upper = nn.Parameter(INITIAL_STD * torch.randn(size).transpose(1, 2))

    def _initial(self) -> Weights:
        return self.initial, self.initial_upper

    def _learn(
        self, weights: Weights, q: Tensor, k: Tensor, v: Tensor, rate: Tensor
    ) -> tuple[Weights, Tensor]:
        W, U = weights
        below = k @ W
        hidden = gelu(below)
        above = self._gradient(k, v, hidden @ U)
        gradient = above @ U.transpose(-1, -2) * _gelu_slope(below)
        W, read = _step(W, k, q, gradient, rate)
        U, z = _step(U, hidden, gelu(read), above, rate)
        return (W, U), z


def _gelu_slope(x: Tensor) -> Tensor:
    return torch.special.ndtr(x) + x * torch.exp(-x.square() / 2) / math.sqrt(2 * math.pi)
