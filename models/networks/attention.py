"""Softmax attention over a sequence's past: the baseline that remembers every token."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from fwbio.models.networks.checks import Checks, divided


@dataclass(frozen=True, kw_only=True)
class AttentionConfig:
    """Causal softmax attention.

    Args:
        heads: attention heads.
        key_width: query and key channels of a head; None: width / heads.
        value_width: value channels of a head; None: width / heads.
        window: how many tokens are seen, the present one included; None: all of the past.
        rotary: whether queries and keys are turned by their positions (`rotated`).
        base: of the rotary wavelengths, from 2 pi to nearly 2 pi base tokens.

    Raises:
        FwbioError: a number out of its range, or rotary positions with an odd key width.
    """

    heads: int = 2
    key_width: int | None = None
    value_width: int | None = None
    window: int | None = None
    rotary: bool = False
    base: float = 10000.0

    def __post_init__(self) -> None:
        checks = Checks("AttentionConfig")
        checks.whole("heads", self.heads)
        for name in ("key_width", "value_width", "window"):
            if getattr(self, name) is not None:
                checks.whole(name, getattr(self, name))
        checks.flags(rotary=self.rotary)
        checks.number("base", self.base, low=1.0, above=True)
        if self.rotary and self.key_width is not None:
            _require_even(self.key_width)


class Attention(nn.Module):
    """Causal softmax attention with heads of its own projections.

        y_t = sum_s softmax_s(q_t . k_s / sqrt(K)) v_s   over t - window < s <= t
        out_t = O [y_t of every head]

    Args:
        config: its sizes.
        width: channels of what it is given, and of what it returns.

    Raises:
        FwbioError: heads that do not divide the width, or rotary positions with an odd key width.

    Source: Vaswani et al. (2017), Attention is all you need. The sliding window is that of
    Beltagy, Peters & Cohan (2020), Longformer.
    """

    def __init__(self, config: AttentionConfig, width: int) -> None:
        super().__init__()
        self.config, self.out_features = config, width
        where = "AttentionConfig"
        keys = divided(width, config.heads, config.key_width, where=where)
        values = divided(width, config.heads, config.value_width, where=where)
        if config.rotary:
            _require_even(keys)
        self.query = nn.Linear(width, config.heads * keys, bias=False)
        self.key = nn.Linear(width, config.heads * keys, bias=False)
        self.value = nn.Linear(width, config.heads * values, bias=False)
        self.output = nn.Linear(config.heads * values, width, bias=False)

    def forward(self, x: Tensor, run: Callable[..., Any] | None = None) -> Tensor:
        """What each token finds in its past.

        Args:
            x: the sequence [B, T, width].
            run: as every mixer takes it; there are no fast weights here to run.

        Returns:
            [B, T, width].
        """
        q, k, v = (
            split_heads(project(x), self.config.heads)
            for project in (self.query, self.key, self.value)
        )
        if self.config.rotary:
            q, k = rotated(q, base=self.config.base), rotated(k, base=self.config.base)
        y = attend(q, k, v, window=self.config.window)
        return self.output(y.transpose(1, 2).flatten(2))


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Channels [B, T, H * C] as heads [B, H, T, C]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def attend(
    q: Tensor, k: Tensor, v: Tensor, *, window: int | None = None, scale: float | None = None
) -> Tensor:
    """Causal softmax attention: sum_s softmax_s(scale q_t . k_s) v_s over t - window < s <= t.

    Args:
        q: queries [..., T, K].
        k: keys [..., T, K].
        v: values [..., T, V].
        window: how many tokens are seen, the present one included; None: all of the past.
        scale: None: 1 / sqrt(K).

    Returns:
        [..., T, V].
    """
    steps = q.shape[-2]
    if window is None or window >= steps:
        return scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
    step = torch.arange(steps, device=q.device)
    lag = step[:, None] - step
    seen = (lag >= 0) & (lag < window)
    return scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=scale)


def rotated(x: Tensor, *, base: float = 10000.0) -> Tensor:
    """Channels turned by their positions, so that products depend on the distance alone.

        (x_i, x_{i + K/2}) of token t is turned by the angle t base^(-2 i / K),  i < K/2

    Args:
        x: queries or keys [..., T, K], K even.
        base: of the wavelengths.

    Source: Su et al. (2021), RoFormer.
    """
    half = x.shape[-1] // 2
    exact = torch.float64 if x.dtype == torch.float64 else torch.float32
    channel = torch.arange(half, device=x.device, dtype=exact)
    step = torch.arange(x.shape[-2], device=x.device, dtype=exact)
    angle = step[:, None] * base ** (-channel / half)
    cos, sin = angle.cos(), angle.sin()
    first, second = x[..., :half], x[..., half:]
    turned = torch.cat([first * cos - second * sin, first * sin + second * cos], -1)
    return turned.to(x.dtype)


def _require_even(keys: int) -> None:
    Checks("AttentionConfig").that(
        keys % 2 == 0,
        f"rotary positions turn channels in pairs, and a head has {keys}",
        "give an even key_width",
    )
