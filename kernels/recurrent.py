"""The recurrence step by step in torch: differentiable (twice, too), any device and dtype."""

import torch
from torch import Tensor

from fwbio.kernels.packing import by_sequence
from fwbio.kernels.recurrence import Recurrence


@by_sequence
def run(
    recurrence: Recurrence, state: Tensor, keep_every: int | None = None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Run the recurrence over time, one product after another.

    Args:
        recurrence: its operands.
        state: [B, H, K, V], in its own dtype.
        keep_every: keep the state after every so many steps, or not at all.

    Returns:
        The read-outs [B, T, H, V] in the query's dtype; the last state; the kept states
        [B, kept, H, K, V], or None.
    """
    dtype, wide = recurrence.query.dtype, state.dtype
    query, key, value, strength, erase, log_decay = (
        None if x is None else x.to(wide) for x in recurrence.operands
    )
    assert query is not None and key is not None and value is not None
    if strength is not None:
        value = strength[..., None] * value
        erase = strength[..., None] * key if recurrence.tied else erase
    elif recurrence.tied:
        erase = key
    decay = None if log_decay is None else log_decay.exp()
    if decay is not None and decay.ndim == 3:
        decay = decay[..., None]
    readouts, kept = [], []
    for step in range(query.shape[1]):
        for t in range(step * recurrence.writes, (step + 1) * recurrence.writes):
            decayed = state if decay is None else decay[:, t, :, :, None] * state
            write = value[:, t]
            if erase is not None:
                read = state if recurrence.undecayed else decayed
                write = write - torch.einsum("bhk,bhkv->bhv", erase[:, t], read)
            state = decayed + key[:, t, :, :, None] * write[:, :, None, :]
        readouts.append(torch.einsum("bhkv,bhk->bhv", state, query[:, step]))
        if keep_every and (step + 1) % keep_every == 0:
            kept.append(state)
    batch, heads, _, columns = state.shape
    y = torch.stack(readouts, 1) if readouts else state.new_zeros(batch, 0, heads, columns)
    y = (y if recurrence.scale == 1 else recurrence.scale * y).to(dtype)
    if not keep_every:
        return y, state, None
    trajectory = torch.stack(kept, 1) if kept else state.new_zeros(batch, 0, *state.shape[1:])
    return y, state, trajectory
