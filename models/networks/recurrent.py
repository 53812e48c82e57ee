"""Recurrent baselines, whose memory is a vector: the LSTM, and the ReLU net with identity start."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fwbio.models.networks.checks import Checks


@dataclass(frozen=True, kw_only=True)
class LSTMConfig:
    """A layer of long short-term memory.

    Args:
        units: of the hidden state; None: as wide as the input.
        forget_bias: what the forget gates' biases start at, the sum of torch's two. 1 keeps what
            is stored for long enough to learn from.

    Raises:
        FwbioError: a number out of its range.
    """

    units: int | None = None
    forget_bias: float = 1.0

    def __post_init__(self) -> None:
        checks = Checks("LSTMConfig")
        if self.units is not None:
            checks.whole("units", self.units)
        checks.number("forget_bias", self.forget_bias)


class LSTM(nn.Module):
    """Long short-term memory, by torch, from a state of zero.

        i, f, o = sigmoid(A x + B h + b);  c <- f c + i tanh(C x + D h + d);  h <- o tanh(c)

    Args:
        config: its size and start.
        width: channels of what it is given.

    Source: Hochreiter & Schmidhuber (1997), with the forget gate of Gers, Schmidhuber & Cummins
    (2000), its bias started as Jozefowicz, Zaremba & Sutskever (2015) advise.
    """

    def __init__(self, config: LSTMConfig, width: int) -> None:
        super().__init__()
        self.config = config
        self.out_features = units = config.units or width
        self.cells = nn.LSTM(width, units, batch_first=True)
        start = dict(self.cells.named_parameters())
        with torch.no_grad():  # torch's order of gates: input, forget, candidate, output
            start["bias_ih_l0"][units : 2 * units] = config.forget_bias
            start["bias_hh_l0"][units : 2 * units] = 0.0

    def forward(self, x: Tensor, run: Callable[..., Any] | None = None) -> Tensor:
        """The hidden states [B, T, units] of a sequence.

        Args:
            x: the sequence [B, T, width].
            run: as every mixer takes it; there are no fast weights here to run.
        """
        return self.cells(x)[0]


@dataclass(frozen=True, kw_only=True)
class IRNNConfig:
    """A layer of ReLU units that start by keeping their activity.

    Args:
        units: of the hidden state; None: as wide as the input.
        identity: what the diagonal of the recurrent weights starts at.
        input_std: standard deviation that the input weights start with.

    Raises:
        FwbioError: a number out of its range.
    """

    units: int | None = None
    identity: float = 1.0
    input_std: float = 1e-3

    def __post_init__(self) -> None:
        checks = Checks("IRNNConfig")
        if self.units is not None:
            checks.whole("units", self.units)
        checks.number("identity", self.identity)
        checks.number("input_std", self.input_std)


class IRNN(nn.Module):
    """A recurrent net of ReLU units whose recurrent weights start at the identity, by torch.

        h_t = relu(A x_t + R h_{t-1} + b);  R = identity I, b = 0, A ~ N(0, input_std^2) at first

    Args:
        config: its size and start.
        width: channels of what it is given.

    Source: Le, Jaitly & Hinton (2015), A simple way to initialize recurrent networks of rectified
    linear units.
    """

    def __init__(self, config: IRNNConfig, width: int) -> None:
        super().__init__()
        self.config = config
        self.out_features = units = config.units or width
        self.cells = nn.RNN(width, units, nonlinearity="relu", batch_first=True)
        start = dict(self.cells.named_parameters())
        with torch.no_grad():
            start["weight_ih_l0"].normal_(std=config.input_std)
            start["weight_hh_l0"].copy_(config.identity * torch.eye(units))
            start["bias_ih_l0"].zero_()
            start["bias_hh_l0"].zero_()

    def forward(self, x: Tensor, run: Callable[..., Any] | None = None) -> Tensor:
        """The hidden states [B, T, units] of a sequence, from a state of zero.

        Args:
            x: the sequence [B, T, width].
            run: as every mixer takes it; there are no fast weights here to run.
        """
        return self.cells(x)[0]
