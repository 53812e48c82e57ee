"""The normal form step by step in torch: differentiable, any device, float32 and float64."""

import torch
from torch import Tensor

from fwbio.normal_form import NormalForm


def run(
    form: NormalForm, state: Tensor, *, keep_every: int | None = None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Run the general step over time.

        W~ = diag(exp(log_decay)) W;   W <- W~ + k u^T - k (p^T W~);   y = W^T q

    Args:
        form: its operands, laid out [batch, time, head, channel].
        state: [batch, head, row, column].
        keep_every: keep the state after every so many steps, or not at all.

    Returns:
        The read-outs [batch, step, head, column], not yet normalised; the last state; the kept
        states [batch, kept, head, row, column], or None.
    """
    steps, writes = form.query.shape[1], form.writes_per_step
    readouts, kept = [], []
    decay = None if form.log_decay is None else form.log_decay.exp()
    for step in range(steps):
        for t in range(step * writes, (step + 1) * writes):
            if decay is not None:
                state = decay[:, t, :, :, None] * state
            write = form.write[:, t]
            if form.erase is not None:
                write = write - torch.einsum("bhk,bhkv->bhv", form.erase[:, t], state)
            state = state + form.key[:, t, :, :, None] * write[:, :, None, :]
        read = "bhvk,bhk->bhv" if form.transposed else "bhkv,bhk->bhv"
        readouts.append(torch.einsum(read, state, form.query[:, step]))
        if keep_every and (step + 1) % keep_every == 0:
            kept.append(state)
    empty_side = state.shape[-2] if form.transposed else state.shape[-1]
    batch, heads = state.shape[:2]
    y = torch.stack(readouts, 1) if readouts else state.new_zeros(batch, 0, heads, empty_side)
    if not keep_every:
        return y, state, None
    trajectory = torch.stack(kept, 1) if kept else state.new_zeros(batch, 0, *state.shape[1:])
    return y, state, trajectory
