"""Lowering: how a rule's normal form becomes runs of the one recurrence that backends know."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fwbio.kernels import local
from fwbio.kernels.recurrence import Recurrence, Run
from fwbio.normal_form import NormalForm, normal_form, normalised, stabilisers
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
    scale: float = 1.0,
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
        scale: factor on the read-outs.

    Returns:
        The read-outs [B, T, H, V] in the query's dtype, the final state, and the kept states
        [B, kept, H, K, columns] or None.
    """
    dtype = streams["query"].dtype
    if rule.terms.traces:
        # a trace is a product of many factors, and vectors cost little beside a state
        streams = {name: x.double() for name, x in streams.items()}
    if rule.terms.traces and ends is not None:
        streams["since"] = _started(streams["interval"], ends)
    if not rule.terms.linear:
        y, final, kept = local.run(rule, streams, state, keep_every, ends)
        y = y.to(dtype)
    elif rule.terms.write == "exponential":
        y, final, kept = _stabilised(rule, streams, state, run, keep_every, ends)
    else:
        form = normal_form(rule, streams, xp=torch, time_axis=1, writes_per_step=writes)
        if form.transposed:
            y, final, kept = _transposed(form, state, run, keep_every, ends)
        elif form.ridge is not None:
            y, final, kept = _ridge(form, state, run, keep_every, ends)
        elif form.normaliser != "none":
            y, final, kept = _normalised(form, state, run, keep_every, ends)
        else:
            recurrence = _recurrence(form, dtype, state.dtype)
            return run(replace(recurrence, scale=scale), state, keep_every, ends)
    return y if scale == 1 else scale * y, final, kept


def _started(interval: Tensor, ends: tuple[int, ...]) -> Tensor:
    """Intervals [B, T, H, 1], infinite where a packed sequence starts."""
    starts = [start for start, end in pairwise(ends) if end > start]
    started = torch.zeros_like(interval, dtype=torch.bool)
    started[:, starts] = True
    return torch.where(started, torch.inf, interval)


def _normalised(
    form: NormalForm,
    state: Tensor,
    run: Run,
    keep_every: int | None,
    ends: tuple[int, ...] | None,
) -> Outputs:
    """A rule that is one run, its read-outs divided by the normaliser's."""
    y, final, kept = run(_recurrence(form, form.query.dtype, state.dtype), state, keep_every, ends)
    return normalised(y.to(state.dtype), form, torch).to(y.dtype), final, kept


def _recurrence(form: NormalForm, dtype: torch.dtype, wide: torch.dtype) -> Recurrence:
    """The normal form as a backend takes it, whichever side of the state is read.

    Args:
        form: of the rule.
        dtype: of all operands but for strength and log_decay.
        wide: the state's dtype, to which those are cut.
    """
    return Recurrence(
        query=form.query.to(dtype),
        key=form.key.to(dtype),
        value=form.value.to(dtype),
        strength=None if form.strength is None else _cut(form.strength.squeeze(-1), wide),
        erase=None if form.reading is None else form.reading.to(dtype),
        log_decay=_scalar_or_channel(form.log_decay, wide),
        tied=form.tied,
        undecayed=form.undecayed,
        writes=form.writes_per_step,
    )


def _cut(gate: Tensor, wide: torch.dtype) -> Tensor:
    return gate.to(wide) if gate.dtype == torch.float64 else gate


def _scalar_or_channel(log_decay: Tensor | None, wide: torch.dtype) -> Tensor | None:
    """[B, M, H] where all channels decay alike, [B, M, H, K] where each has its own decay."""
    if log_decay is None:
        return None
    return _cut(log_decay.squeeze(-1) if log_decay.shape[-1] == 1 else log_decay, wide)


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
    mirrored = _recurrence(form, form.query.dtype, state.dtype)
    predictions = _predictions(mirrored, form.erase, state.transpose(-1, -2), run, ends)
    errors = form.write - predictions
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
    erase: Tensor | None,
    state: Tensor,
    run: Run,
    ends: tuple[int, ...] | None,
) -> Tensor:
    """What the state predicts before each write, p_t^T W~_t, [B, M, H, V].

    Each is a read-out after the write before it, by the erase key decayed in place of the state;
    a sequence's first is read from its initial state.
    """
    assert erase is not None
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


def _stabilised(
    rule: Rule,
    streams: dict[str, Tensor],
    state: Tensor,
    run: Run,
    keep_every: int | None,
    ends: tuple[int, ...] | None,
) -> Outputs:
    """A rule whose state is divided by exp(m), m in the state's last column, the same in every row.

    m is computed in float64, since it is a small difference of large sums, and rounded to the
    state's dtype, so that the state holds exactly the m that it is divided by.
    """
    streams = streams | {name: streams[name].double() for name in ("log_decay", "log_beta")}
    started = state[:, None, :, :1, -1]
    scales = []
    for i, (first, end) in enumerate(pairwise(ends or (0, streams["log_beta"].shape[1]))):
        start = started if ends is None else started[i : i + 1]
        exponents = (streams[name][:, first:end] for name in ("log_decay", "log_beta"))
        _, after = stabilisers(*exponents, xp=torch, time_axis=1, start=start.double())
        scales.append(torch.cat([start, after.to(state.dtype)], 1))
    before, after = (
        torch.cat([m[:, part] for m in scales], 1) for part in (slice(-1), slice(1, None))
    )
    form = normal_form(rule, streams, xp=torch, time_axis=1, stabiliser=(before, after))
    y, final, kept = _normalised(form, state[..., :-1], run, keep_every, ends)
    final = _with_scale(final, torch.cat([m[:, -1] for m in scales]))
    if keep_every is not None and kept is not None:
        kept = _with_scale(kept, torch.cat([m[:, keep_every::keep_every] for m in scales], 1))
    return y, final, kept


def _with_scale(states: Tensor, scale: Tensor) -> Tensor:
    """States [.., H, K, column] with a last column of scales [.., H, 1]."""
    return torch.cat([states, scale[..., None].expand_as(states[..., :1])], -1)


def _ridge(
    form: NormalForm,
    state: Tensor,
    run: Run,
    keep_every: int | None,
    ends: tuple[int, ...] | None,
) -> Outputs:
    """A rule that reads its weights G by x of (H + diag(ridge)) x = q, H its keys' second moments.

    x is found without a graph, by conjugate gradients whose products with H_t, of all steps at
    once, are the read-outs of one run. Its gradients are those of the function that the equation
    implies: they come through the residual q - (H + diag(ridge)) x, which has a graph.
    """
    wide = state.dtype
    recurrence = _recurrence(form, wide, wide)
    assert form.ridge is not None
    ridge = form.ridge.to(wide)
    post = state.shape[-1] - state.shape[-2]
    gram = state[..., post:]
    gram = (gram + gram.transpose(-1, -2)) / 2
    moments = replace(recurrence, value=recurrence.key)
    solver = _Solver(moments, gram, ridge, run, ends)
    x = solver.solution(recurrence.query)
    products, gram, grams = run(replace(moments, query=x), gram, keep_every, ends)
    x = _Implied.apply(x, recurrence.query - products - ridge * x, solver)
    sums = replace(recurrence, query=x, value=recurrence.value[..., :post])
    y, final, kept = run(sums, state[..., :post], keep_every, ends)
    final = torch.cat([final, gram], -1)
    if kept is not None and grams is not None:
        kept = torch.cat([kept, grams], -1)
    return y.to(form.query.dtype), final, kept


class _Solver:
    """Solves (H_t + diag(ridge_t)) x_t = b_t at every step t, by conjugate gradients.

    They are preconditioned by the matrices' diagonals, and go on until each step's residual is at
    rounding, or for twice as many iterations as there are channels: always so many where torch
    compiles or knows shapes alone, which can't ask. A step that is done changes no more, so that
    none depends on a later one.

    Args:
        moments: the recurrence whose state is H.
        gram: H before the first step, symmetric, [N, H, K, K].
        ridge: [B, T, H, K].
        run: the backend.
        ends: of packed sequences, or None.
    """

    def __init__(
        self,
        moments: Recurrence,
        gram: Tensor,
        ridge: Tensor,
        run: Run,
        ends: tuple[int, ...] | None,
    ) -> None:
        self._moments = moments.detached()
        self._gram, self._ridge = gram.detach(), ridge.detach()
        self._run, self._ends = run, ends
        self._diagonal = self._squares() + self._ridge

    def _squares(self) -> Tensor:
        """The diagonals of H_t [B, T, H, K]: a run of one row that sums the squares of the keys."""
        moments = self._moments
        squares = replace(
            moments,
            query=torch.ones_like(moments.query[..., :1]),
            key=torch.ones_like(moments.key[..., :1]),
            value=moments.key.square(),
        )
        start = self._gram.diagonal(dim1=-2, dim2=-1)[..., None, :]
        return self._run(squares, start, None, self._ends)[0]

    def _product(self, x: Tensor) -> Tensor:
        read, _, _ = self._run(replace(self._moments, query=x), self._gram, None, self._ends)
        return read + self._ridge * x

    def solution(self, b: Tensor) -> Tensor:
        """The solutions [B, T, H, K] of right sides b [B, T, H, K], without a graph."""
        with torch.no_grad():
            return self._iterated(b)

    def _iterated(self, b: Tensor) -> Tensor:
        size = b.abs().amax(-1, keepdim=True)
        size = torch.where(size > 0, size, 1.0)
        residual = b / size
        x = torch.zeros_like(b)
        step = residual / self._diagonal
        power = (residual * step).sum(-1, keepdim=True)
        enough = torch.finfo(b.dtype).eps ** 2 * power
        for _ in range(2 * b.shape[-1]):
            going = power > enough
            if not (torch.compiler.is_compiling() or going.is_meta or going.any()):
                break
            product = self._product(step)
            curvature = (step * product).sum(-1, keepdim=True)
            length = torch.where(going, power / torch.where(going, curvature, 1.0), 0.0)
            x = x + length * step
            residual = residual - length * product
            scaled = residual / self._diagonal
            after = (residual * scaled).sum(-1, keepdim=True)
            turn = torch.where(going, after / torch.where(going, power, 1.0), 0.0)
            step, power = scaled + turn * step, after
        return size * x


class _Implied(torch.autograd.Function):
    """x as a function of the residual that it makes vanish: dx = (H + diag(ridge))^-1 dresidual."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, residual: Tensor, solver: _Solver) -> Tensor:
        ctx.solver = solver
        return x.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, None]:
        return None, ctx.solver.solution(grad), None
