"""Modern Hopfield networks: patterns stored as they are, and retrieved by iterated softmax."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from fwbio.errors import FwbioError
from fwbio.models.networks.attention import attend, split_heads
from fwbio.models.networks.checks import Checks, divided


@dataclass(frozen=True, kw_only=True)
class HopfieldConfig:
    """A modern Hopfield layer over a sequence's past.

    Args:
        heads: associative memories, each with projections of its own.
        key_width: channels of a stored pattern and of a state; None: width / heads.
        value_width: channels of what a memory returns; None: width / heads.
        beta: inverse temperature; None: 1 / sqrt(key_width).
        steps: updates of the state, the last of which reads the values.

    Raises:
        FwbioError: a number out of its range.
    """

    heads: int = 2
    key_width: int | None = None
    value_width: int | None = None
    beta: float | None = None
    steps: int = 3

    def __post_init__(self) -> None:
        checks = Checks("HopfieldConfig")
        checks.whole("heads", self.heads)
        checks.whole("steps", self.steps)
        for name in ("key_width", "value_width"):
            if getattr(self, name) is not None:
                checks.whole(name, getattr(self, name))
        if self.beta is not None:
            checks.number("beta", self.beta)


class Hopfield(nn.Module):
    """Retrieval from the patterns that a sequence has stored so far.

        xi <- q_t;  xi <- sum_s softmax_s(beta xi . k_s) k_s, steps - 1 times
        y_t = sum_s softmax_s(beta xi . k_s) v_s   over s <= t;   out_t = O [y_t of every head]

    The patterns that step t can retrieve are those up to t. With one step and the default beta it
    is softmax attention; more steps move the state towards a stored pattern, or a mean of several,
    before its value is read.

    Args:
        config: its sizes, beta and steps.
        width: channels of what it is given, and of what it returns.

    Raises:
        FwbioError: heads that do not divide the width.

    Source: Ramsauer et al. (2021), Hopfield networks is all you need, with values of their own
    weights (theirs are a map of the patterns' projections).
    """

    def __init__(self, config: HopfieldConfig, width: int) -> None:
        super().__init__()
        self.config, self.out_features = config, width
        keys = divided(width, config.heads, config.key_width, where="HopfieldConfig")
        values = divided(width, config.heads, config.value_width, where="HopfieldConfig")
        self.beta = keys**-0.5 if config.beta is None else config.beta
        self.query = nn.Linear(width, config.heads * keys, bias=False)
        self.key = nn.Linear(width, config.heads * keys, bias=False)
        self.value = nn.Linear(width, config.heads * values, bias=False)
        self.output = nn.Linear(config.heads * values, width, bias=False)

    def forward(self, x: Tensor, run: Callable[..., Any] | None = None) -> Tensor:
        """What each token retrieves from its past.

        Args:
            x: the sequence [B, T, width].
            run: as every mixer takes it; there are no fast weights here to run.

        Returns:
            [B, T, width].
        """
        state, k, v = (
            split_heads(project(x), self.config.heads)
            for project in (self.query, self.key, self.value)
        )
        for _ in range(self.config.steps - 1):
            state = attend(state, k, k, scale=self.beta)
        y = attend(state, k, v, scale=self.beta)
        return self.output(y.transpose(1, 2).flatten(2))


def retrieve(patterns: Tensor, state: Tensor, *, beta: float, steps: int = 1) -> Tensor:
    """The state that a modern Hopfield network goes to: xi <- X softmax(beta X^T xi).

    Each step lowers `energy`. A pattern that is well apart from the others has a fixed point close
    to it, and one step from nearby comes as close.

    Args:
        patterns: the stored patterns, the columns of X, as rows [N, K].
        state: xi to start from [..., K].
        beta: inverse temperature: towards 0 every state goes to the patterns' mean, and for a
            large one to the nearest pattern.
        steps: updates.

    Raises:
        FwbioError: states of another size than the patterns.

    Source: Ramsauer et al. (2021), eq. 3.

    >>> import torch
    >>> patterns = torch.tensor([[4.0, 0.0], [0.0, 4.0]])
    >>> retrieve(patterns, torch.tensor([3.0, 1.0]), beta=2.0).round().tolist()
    [4.0, 0.0]
    """
    _require_same_size(patterns, state)
    for _ in range(steps):
        state = (beta * state @ patterns.mT).softmax(-1) @ patterns
    return state


def energy(patterns: Tensor, state: Tensor, *, beta: float) -> Tensor:
    """What retrieval lowers: E = -lse(beta, X^T xi) + |xi|^2 / 2 + log(N) / beta + M^2 / 2.

    lse(beta, z) = log(sum_i exp(beta z_i)) / beta, and M is the largest norm of a pattern, so that
    0 <= E wherever |xi| <= M.

    Args:
        patterns: the stored patterns [N, K].
        state: xi [..., K].
        beta: inverse temperature, above 0.

    Returns:
        [...].

    Raises:
        FwbioError: states of another size than the patterns.

    Source: Ramsauer et al. (2021), eq. 2.
    """
    _require_same_size(patterns, state)
    scores = (beta * state @ patterns.mT).logsumexp(-1)
    largest = patterns.square().sum(-1).max()
    return (math.log(len(patterns)) - scores) / beta + (state.square().sum(-1) + largest) / 2


def _require_same_size(patterns: Tensor, state: Tensor) -> None:
    if patterns.ndim != 2 or state.shape[-1:] != patterns.shape[-1:]:
        raise FwbioError(
            f"states {list(state.shape)} for patterns {list(patterns.shape)}",
            where="hopfield",
            mend="give patterns [N, K] and states [..., K]",
        )
