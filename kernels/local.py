"""Rules that are not linear in their weights, step by step in torch: differentiable, any device."""

from itertools import pairwise

import torch
from torch import Tensor

from fwbio.local import stepper
from fwbio.rule import Rule


def run(
    rule: Rule,
    streams: dict[str, Tensor],
    state: Tensor,
    keep_every: int | None,
    ends: tuple[int, ...] | None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Run a rule's own step over time.

    Args:
        rule: one whose terms are not linear.
        streams: [B, T, H, channel], a scalar a step with one channel.
        state: [N, H, K, V], in its own dtype.
        keep_every: keep the state after every so many steps, or not at all.
        ends: of packed sequences, from 0 to T, or None.

    Returns:
        The read-outs [B, T, H, V] in the query's dtype; the last states; the kept states
        [B, kept, H, K, V], or None.
    """
    dtype, wide = streams["query"].dtype, state.dtype
    streams = {name: x.to(torch.promote_types(x.dtype, wide)) for name, x in streams.items()}
    streams.setdefault("beta", torch.ones_like(streams["query"][..., :1]))
    query = streams["query"].to(wide)
    step = stepper(rule, streams, xp=torch, axis=1)
    spans = list(pairwise(ends or (0, streams["query"].shape[1])))
    readouts: list[Tensor] = []
    kept: list[Tensor] = []
    finals: list[Tensor] = []
    for i, (start, end) in enumerate(spans):
        weights = state if ends is None else state[i : i + 1]
        for t in range(start, end):
            weights = step(t, weights).to(wide)
            readouts.append(torch.einsum("bhkv,bhk->bhv", weights, query[:, t]))
            if keep_every and (t + 1 - start) % keep_every == 0:
                kept.append(weights)
        finals.append(weights)
    heads, columns = state.shape[1], state.shape[-1]
    rows = streams["query"].shape[0]
    y = torch.stack(readouts, 1) if readouts else state.new_zeros(rows, 0, heads, columns)
    final = torch.cat(finals)
    if not keep_every:
        return y.to(dtype), final, None
    trajectory = torch.stack(kept, 1) if kept else state.new_zeros(rows, 0, *state.shape[1:])
    return y.to(dtype), final, trajectory
