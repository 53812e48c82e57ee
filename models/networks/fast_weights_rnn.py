"""The recurrent net whose fast weights attend to its own recent past (Ba et al. 2016)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from fwbio.models.networks.checks import Checks

INITIAL_RECURRENCE = 0.05
STEPS_PER_UNIT = 2  # up to which reading the past is cheaper than keeping a matrix


@dataclass(frozen=True, kw_only=True)
class FastWeightsRNNConfig:
    """A net whose hidden states are stored, and fade, in fast weights.

    Args:
        units: hidden units U; None: as many as the input has channels.
        decay: what the fast weights keep from step to step, lambda, from 0 to 1.
        rate: how strongly they take up a hidden state, eta, from 0 up.
        inner: how often a step's hidden state reads them before it is final, S.
        layer_norm: whether each of these readings is normalised over the units.

    Raises:
        FwbioError: a number out of its range.
    """

    units: int | None = None
    decay: float = 0.95
    rate: float = 0.5
    inner: int = 1
    layer_norm: bool = True

    def __post_init__(self) -> None:
        checks = Checks("FastWeightsRNNConfig")
        if self.units is not None:
            checks.whole("units", self.units)
        checks.whole("inner", self.inner)
        checks.number("decay", self.decay)
        checks.that(self.decay <= 1, f"decay = {self.decay!r}", "give a number up to 1")
        checks.number("rate", self.rate)
        checks.flags(layer_norm=self.layer_norm)


class FastWeightsRNN(nn.Module):
    """A recurrent net with fast weights, as a mixer.

        h_0(t+1) = relu(W h(t) + C x(t+1) + c)
        h_{s+1}(t+1) = relu(LN[W h(t) + C x(t+1) + c + A(t) h_s(t+1)]),  s < S
        h(t+1) = h_S(t+1);   A(t) = lambda A(t-1) + eta h(t) h(t)^T

    from h(0) = 0 and A(0) = 0. LN is over the units, with a gain and a bias; A(t) holds final
    hidden states only, up to that of step t. W starts as 0.05 times the identity. All numbers
    are dimensionless.

    Args:
        config: its sizes and constants.
        width: channels of the input.

    Source: Ba, Hinton, Mnih, Leibo & Ionescu 2016, arXiv:1610.06258.
    """

    def __init__(self, config: FastWeightsRNNConfig, width: int) -> None:
        super().__init__()
        self.config = config
        self.out_features = units = config.units or width
        self.project = nn.Linear(width, units)
        self.recurrent = nn.Parameter(INITIAL_RECURRENCE * torch.eye(units))
        self.norm = nn.LayerNorm(units) if config.layer_norm else None

    def forward(self, x: Tensor, run: Callable[..., Any] | None = None) -> Tensor:
        """Hidden states of every step.

        Args:
            x: the sequence [B, T, width].
            run: as every mixer takes it; ignored: these fast weights are part of the recurrence.

        Returns:
            h [B, T, units].
        """
        drive = self.project(x.transpose(0, 1).contiguous())
        with torch.autocast(x.device.type, enabled=False):
            drive = drive.to(self.recurrent.dtype)
            few = len(drive) <= STEPS_PER_UNIT * self.out_features
            form = _from_history if few else _from_matrix
            states = form(drive, self.recurrent, self.config, self._squash)
        return torch.stack(states, 1) if states else drive.transpose(0, 1)

    def _squash(self, x: Tensor) -> Tensor:
        if self.norm is not None:
            x = layer_norm(x, self.norm.normalized_shape, self.norm.weight, self.norm.bias)
        return torch.relu(x)


def _from_history(
    drive: Tensor, W: Tensor, config: FastWeightsRNNConfig, squash: Callable[[Tensor], Tensor]
) -> list[Tensor]:
    """The net with A never formed: A(t) h = eta sum over past steps of lambda^(t-s) h(s) (h(s).h).

    Args:
        drive: C x + c, [T, B, U].
        W: slow weights, [U, U].
        config: the constants.
        squash: the non-linearity after a reading.

    Returns:
        The hidden states, [B, U] each.
    """
    ages = torch.arange(len(drive) - 1, -1, -1, dtype=drive.dtype, device=drive.device)
    strength = config.rate * config.decay ** ages[:, None, None]
    past = drive[:0]
    states: list[Tensor] = []
    for step in drive.unbind(0):
        if not states:
            states.append(squash(step))  # every reading of an empty memory is the same
            continue
        past = torch.cat((past, states[-1].unsqueeze(0)))
        given = torch.addmm(step, states[-1], W.T)
        h = torch.relu(given)
        for _ in range(config.inner):
            scores = (past * h).sum(-1, keepdim=True) * strength[-len(states) :]
            h = squash(given + (past * scores).sum(0))
        states.append(h)
    return states


def _from_matrix(
    drive: Tensor, W: Tensor, config: FastWeightsRNNConfig, squash: Callable[[Tensor], Tensor]
) -> list[Tensor]:
    """The net with A as a matrix of each sequence, read by rows, as it is symmetric.

    Args:
        drive: C x + c, [T, B, U].
        W: slow weights, [U, U].
        config: the constants.
        squash: the non-linearity after a reading.

    Returns:
        The hidden states, [B, U] each.
    """
    A = drive.new_zeros(drive.shape[1], *W.shape)
    states: list[Tensor] = []
    for step in drive.unbind(0):
        if not states:
            states.append(squash(step))
            continue
        column, row = states[-1].unsqueeze(2), states[-1].unsqueeze(1)
        A = torch.baddbmm(A, column, row, beta=config.decay, alpha=config.rate)
        given = torch.addmm(step, states[-1], W.T)
        h = torch.relu(given)
        for _ in range(config.inner):
            h = squash(torch.baddbmm(given.unsqueeze(1), h.unsqueeze(1), A).squeeze(1))
        states.append(h)
    return states
