"""Gates of fast-weight memories, as the layers of their publications parameterise them.

Gates are computed in the dtype of the memory's state, whatever the layer before them is in.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, softplus

from fwbio.kernels.recurrence import state_dtype
from fwbio.rule import Rule

Squash = Callable[[Tensor], Tensor]
STEPS = (1e-3, 1e-1)
RATES = (1.0, 16.0)
GLA_RANK, GLA_TEMPERATURE = 16, 16.0
FORGET_BIASES = (3.0, 6.0)
SLOWEST_RWKV7, FASTEST_RWKV7 = -5.5, 0.5
SMALLEST_RIDGE, INITIAL_RIDGE = 0.25, 1.0


class Gate(nn.Module):
    """squash(A x + b), or squash(B act(A x) + b) through a bottleneck.

    Args:
        width: of x.
        shape: of the gate at one step.
        squash: elementwise.
        rank: of the bottleneck, or None for a full matrix.
        activation: in the bottleneck.
        start: b at the start, broadcast to `shape`.
        still: whether A starts at zero, so that the gate starts as a constant.
    """

    def __init__(
        self,
        width: int,
        shape: tuple[int, ...],
        squash: Squash,
        *,
        rank: int | None = None,
        activation: Squash | None = None,
        start: Tensor | float = 0.0,
        still: bool = False,
    ) -> None:
        super().__init__()
        size = math.prod(shape)
        self.shape, self.squash = shape, squash
        self.activation = activation or nn.Identity()
        self.inner = nn.Linear(width, rank, bias=False) if rank else nn.Identity()
        self.outer = nn.Linear(rank or width, size, bias=False)
        self.bias = nn.Parameter(torch.as_tensor(start).expand(shape).clone())
        if still:
            nn.init.zeros_(self.outer.weight)

    def forward(self, x: Tensor) -> Tensor:
        """The gate of every step, [B, T, *shape], of x [B, T, width]."""
        drive = self.outer(self.activation(self.inner(x)))
        return self.squash(drive.to(state_dtype(drive.dtype)).unflatten(-1, self.shape) + self.bias)


class StepGate(nn.Module):
    """Mamba2's step and decay: dt = softplus(A x + b), log alpha = -dt exp(a), a per head.

    dt starts log-uniform in [.001, .1], exp(a) uniform in [1, 16].

    Args:
        width: of x.
        shape: of the gate at one step, heads first.
        rank: of a bottleneck before dt, or None.

    Source: Dao & Gu 2024, arXiv:2405.21060, and its public code; by channel through a bottleneck,
    Kimi Linear 2025, arXiv:2510.26692.
    """

    def __init__(self, width: int, shape: tuple[int, ...], *, rank: int | None = None) -> None:
        super().__init__()
        low, high = (math.log(step) for step in STEPS)
        dt = torch.exp(low + (high - low) * torch.rand(shape))
        self.steps = Gate(width, shape, softplus, rank=rank, start=inverse_softplus(dt))
        rates = torch.empty(shape[0], *[1] * (len(shape) - 1)).uniform_(*RATES)
        self.log_rate = nn.Parameter(rates.log())

    def forward(self, x: Tensor) -> Tensor:
        """The logs of alpha of every step, [B, T, *shape]."""
        return -self.steps(x) * self.log_rate.exp()


class Constant(nn.Module):
    """One number for each of `shape`, whatever is shown: squash(start), learned unless `fixed`.

    Args:
        start: [*shape], before `squash`.
        squash: elementwise.
        fixed: whether it stays as it is.
    """

    start: Tensor

    def __init__(self, start: Tensor, squash: Squash, *, fixed: bool = False) -> None:
        super().__init__()
        self.squash = squash
        if fixed:
            self.register_buffer("start", start)
        else:
            self.start = nn.Parameter(start)

    def forward(self, x: Tensor) -> Tensor:
        """The same at every step, [B, T, *shape]."""
        gate = self.squash(self.start.to(state_dtype(self.start.dtype)))
        return gate.expand(*x.shape[:2], *gate.shape)


def inverse_softplus(y: Tensor) -> Tensor:
    """The x of which softplus is y, above 0."""
    return y + torch.log(-torch.expm1(-y))


def _doubled_sigmoid(x: Tensor) -> Tensor:
    return 2 * torch.sigmoid(x)


def strength(
    how: str, width: int, shape: tuple[int, ...], *, doubled: bool = False
) -> Gate | Constant:
    """beta, or an erase gate: "sigmoid", in (0, 1) or in (0, 2) if doubled; "softplus"; "one"."""
    if how == "one":
        return Constant(torch.ones(shape), nn.Identity(), fixed=True)
    squash = {"sigmoid": _doubled_sigmoid if doubled else torch.sigmoid, "softplus": softplus}[how]
    return Gate(width, shape, squash)


def log_strength(width: int, heads: int) -> Gate:
    """The input gate of mLSTM before its exponential: any number; it starts as noise about 0.

    Source: Beck 2024, arXiv:2405.04517, and its public code.
    """
    return Gate(width, (heads,), nn.Identity(), start=0.1 * torch.randn(heads), still=True)


def ridge(heads: int, keys: int) -> Constant:
    """The mesa layer's penalty, .25 + softplus, learned for each channel; it starts at 1.

    Source: von Oswald 2025, arXiv:2506.05233, and its public code.
    """
    start = inverse_softplus(torch.full((heads, keys), INITIAL_RIDGE - SMALLEST_RIDGE))
    return Constant(start, _ridge)


def _ridge(x: Tensor) -> Tensor:
    return softplus(x) + SMALLEST_RIDGE


def decay(rule: Rule, width: int, heads: int, keys: int, values: int) -> nn.Module:
    """The log of a rule's decay as its publication has it, [B, T, H] or [B, T, H, K].

    Args:
        rule: one that decays; where nothing else is known of it, as mamba2 or kda does.
        width: of x.
        heads: H.
        keys: K.
        values: V, the rank of kda's bottleneck.
    """
    if rule.default_decay_offset is not None:
        return _retention(heads, rule.default_decay_offset)
    if rule.name in _DECAYS:
        return _DECAYS[rule.name](width, heads, keys)
    if rule.terms.decay == "scalar":
        return StepGate(width, (heads,))
    return StepGate(width, (heads, keys), rank=values)


def steps(rule: Rule) -> bool:
    """Whether a rule's decay is that of a step, which may be its write strength too."""
    return rule.default_decay_offset is None and rule.name not in _DECAYS


def _retention(heads: int, offset: float) -> Constant:
    """log(1 - 2^-(5 + h)): Sun 2023, arXiv:2307.08621."""
    h = torch.arange(heads, dtype=torch.get_default_dtype())
    return Constant(torch.log1p(-torch.exp2(-offset - h)), nn.Identity(), fixed=True)


def _gla(width: int, heads: int, keys: int) -> Gate:
    """The log of sigmoid(B A x + b) / 16 of rank 16: Yang 2023, arXiv:2312.06635."""
    return Gate(width, (heads, keys), _cooled, rank=GLA_RANK)


def _cooled(x: Tensor) -> Tensor:
    return logsigmoid(x) / GLA_TEMPERATURE


def _mlstm(width: int, heads: int, keys: int) -> Gate:
    """The log of a sigmoid, biases from 3 to 6 over heads: Beck 2024, arXiv:2405.04517, code."""
    start = torch.linspace(*FORGET_BIASES, heads)
    return Gate(width, (heads,), logsigmoid, start=start, still=True)


def _mesa(width: int, heads: int, keys: int) -> Gate:
    """The log of sigmoid(A x + b): von Oswald 2025, arXiv:2506.05233, public code."""
    return Gate(width, (heads,), logsigmoid)


def _rwkv7(width: int, heads: int, keys: int) -> Gate:
    """-exp(-1/2) sigmoid(B tanh(A x) + b), b spread over channels: Peng 2025, arXiv:2503.14456."""
    return Gate(
        width,
        (heads, keys),
        _bounded,
        rank=max(1, width // 2),
        activation=torch.tanh,
        start=torch.linspace(SLOWEST_RWKV7, FASTEST_RWKV7, keys),
    )


def _bounded(x: Tensor) -> Tensor:
    return -math.exp(-0.5) * torch.sigmoid(x)


_DECAYS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "gla": _gla,
    "mlstm": _mlstm,
    "mesa": _mesa,
    "rwkv7": _rwkv7,
}
