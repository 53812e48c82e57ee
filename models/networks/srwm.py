"""The self-referential weight matrix, which reads and writes all of itself (Irie et al. 2022)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fwbio.models.networks.checks import Checks, divided

BETAS = 4
INITIAL_BETA = -1.0


@dataclass(frozen=True, kw_only=True)
class SRWMConfig:
    """A layer of self-referential weight matrices.

    Args:
        heads: matrices, each of an equal share of the layer's width.
        softmax_input: whether the input too passes through a softmax, an option of the authors'
            code.

    Raises:
        FwbioError: a number out of its range.
    """

    heads: int = 2
    softmax_input: bool = False

    def __post_init__(self) -> None:
        checks = Checks("SRWMConfig")
        checks.whole("heads", self.heads)
        checks.flags(softmax_input=self.softmax_input)


class SRWM(nn.Module):
    """A matrix that emits its own keys, queries and rates of writing, and writes into itself.

        [y, q, k, b] = W^T x;   W <- W + phi(k) (sigmoid(b) (W^T phi(q) - W^T phi(k)))^T

    with phi the softmax; with `softmax_input`, x is phi(x). The columns of W are those of y, q
    and k, E each, and of b, 4; the four entries of b are the rates of these four blocks. The W
    that is read is that before the write. W's start is learned: normal with standard deviation
    1 / sqrt(E), the columns of b about -1, so that inputs that sum to 1 are written at
    sigmoid(-1) = .27. All heads' y go through one linear map. All numbers are dimensionless.

    Args:
        config: its heads.
        width: channels of the input, and of the output.

    Raises:
        FwbioError: heads that don't divide the width.

    Source: Irie, Schlag, Csordas & Schmidhuber 2022, arXiv:2202.05780.
    """

    def __init__(self, config: SRWMConfig, width: int) -> None:
        super().__init__()
        self.config = config
        self.out_features = width
        self.channels = divided(width, config.heads, None, where="SRWMConfig.heads")
        blocks = torch.tensor([self.channels] * 3 + [BETAS])
        self.register_buffer("block", torch.arange(BETAS).repeat_interleave(blocks), False)
        start = torch.randn(config.heads, self.channels, 3 * self.channels + BETAS)
        start /= self.channels**0.5
        start[..., -BETAS:] += INITIAL_BETA
        self.initial = nn.Parameter(start)
        self.output = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, run: Callable[..., Any] | None = None) -> Tensor:
        """The read-outs of a sequence.

        Args:
            x: the sequence [B, T, width].
            run: as every mixer takes it; ignored: no rule of the table writes its own keys.

        Returns:
            [B, T, width].
        """
        with torch.autocast(x.device.type, enabled=False):
            read = self._read(x.to(self.initial.dtype))
        return self.output(read)

    def _read(self, x: Tensor) -> Tensor:
        """What the heads read, [B, T, width], before the last map."""
        batch, steps, width = x.shape
        heads, channels = self.config.heads, self.channels
        x = x.transpose(0, 1).reshape(steps, batch * heads, channels)
        if self.config.softmax_input:
            x = x.softmax(-1)
        W = self.initial.expand(batch, -1, -1, -1).flatten(0, 1)
        last = steps - 1
        readouts = []
        for t, step in enumerate(x.unsqueeze(2).unbind(0)):
            if t == last:
                readouts.append(torch.bmm(step, W[..., :channels]))
                break
            emitted = torch.bmm(step, W)
            y, addresses, rates = emitted.split([channels, 2 * channels, BETAS], -1)
            readouts.append(y)
            q, k = addresses.view(batch * heads, 2, channels).softmax(-1).split(1, 1)
            change = torch.bmm(q - k, W) * rates.sigmoid().index_select(-1, self.block)
            W = torch.baddbmm(W, k.transpose(1, 2), change)
        if not readouts:
            return x.new_zeros(batch, 0, width)
        return torch.stack(readouts).view(steps, batch, width).transpose(0, 1)
