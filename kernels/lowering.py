"""Lowering: how a rule's normal form becomes runs of the one recurrence that backends know."""

from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from fwbio.kernels.recurrence import Recurrence, Run
from fwbio.normal_form import NormalForm, normal_form, normalised
from fwbio.rule import Rule

Outputs = tuple[Tensor, Tensor, Tensor | None]


def execute(
    rule: Rule,
    streams: dict[str, Tensor],
    state: Tensor,
    run: Run,
    *,
    writes: int,
    keep_every: int | None,
    ends: tuple[int, ...] | None,
) -> Outputs:
    """Run a rule over sequences by a backend.

    Args:
        rule: any rule of the table.
        streams: `query`, `key`, `value` and the rule's own, as `fwbio.normal_form.normal_form`
            takes them: [B, time, H, channel], a scalar a step with one channel.
        state: [N, H, K, columns] in the state's dtype, as `scan` takes it.
        run: the backend.
        writes: writes a step.
        keep_every: keep the state after every so many steps, or not at all.
        ends: of packed sequences, from 0 to T, or None.

    Returns:
        The read-outs [B, T, H, V] in the query's dtype, the final state, and the kept states
        [B, kept, H, K, columns] or None.
    """
    form = normal_form(rule, streams, xp=torch, time_axis=1, writes_per_step=writes)
    if form.transposed:
        return _transposed(form, state, run, keep_every, ends)
    y, state, kept = run(_recurrence(form), state, keep_every, ends)
    return normalised(y, torch) if form.normaliser else y, state, kept


def _recurrence(form: NormalForm) -> Recurrence:
    """The normal form as a backend takes it, whichever side of the state is read."""
    dtype = form.query.dtype
    return Recurrence(
        query=form.query,
        key=form.key.to(dtype),
        value=form.value.to(dtype),
        strength=None if form.strength is None else form.strength.squeeze(-1),
        erase=None if form.reading is None else form.reading.to(dtype),
        log_decay=_scalar_or_channel(form.log_decay),
        tied=form.tied,
        writes=form.writes_per_step,
    )


def _scalar_or_channel(log_decay: Tensor | None) -> Tensor | None:
    """[B, M, H] where all channels decay alike, [B, M, H, K] where each has its own decay."""
    if log_decay is None or log_decay.shape[-1] > 1:
        return log_decay
    return log_decay.squeeze(-1)


def _transposed(
    form: NormalForm,
    state: Tensor,
    run: Run,
    keep_every: int | None,
    ends: tuple[int, ...] | None,
) -> Outputs:
    """A rule that corrects its prediction on the other side of the state, Z = W^T, in two runs.

        u'_t = u_t - Z~_t^T p_t  from a run on Z;   W_t = W~_t + u'_t k_t^T,  y_t = W_t^T q_t

    The second is a sum, since the first has told what each write adds.
    """
    mirrored = _recurrence(form)
    errors = form.write - _predictions(mirrored, form.erase, state.transpose(-1, -2), run, ends)
    upright = replace(
        mirrored,
        key=errors.to(form.query.dtype),
        value=mirrored.key,
        strength=None,
        tied=False,
    )
    return run(upright, state, keep_every, ends)


def _predictions(
    recurrence: Recurrence,
    erase: Tensor,
    state: Tensor,
    run: Run,
    ends: tuple[int, ...] | None,
) -> Tensor:
    """What the state predicts before each write, p_t^T W~_t, [B, M, H, V].

    Each is a read-out after the write before it, by the erase key decayed in place of the state;
    a sequence's first is read from its initial state.
    """
    if recurrence.log_decay is not None:
        decay = recurrence.log_decay.exp()
        erase = (decay[..., None] if decay.ndim == 3 else decay) * erase
    erase = erase.to(recurrence.key.dtype)
    shifted = replace(recurrence, query=erase.roll(-1, 1), writes=1)
    writes = recurrence.writes
    micro_ends = None if ends is None else tuple(end * writes for end in ends)
    after, _, _ = run(shifted, state, None, micro_ends)
    spans = list(pairwise(micro_ends or (0, erase.shape[1])))
    filled = [i for i, (start, end) in enumerate(spans) if end > start]
    at = torch.tensor([spans[i][0] for i in filled], dtype=torch.int64, device=erase.device)
    reads = erase[:, at].to(state.dtype)
    if ends is None:
        first = torch.einsum("bnhk,bhkv->bnhv", reads, state)
    else:
        first = torch.einsum("bnhk,nhkv->bnhv", reads, state[filled])
    return after.roll(1, 1).index_copy(1, at, first.to(after.dtype))
