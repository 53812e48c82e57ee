"""The entry: any rule of the table over tensors, by the backend asked for."""

import functools
import operator
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from fwbio.errors import FwbioError, unknown_name
from fwbio.kernels import chunked, lowering, recurrent
from fwbio.kernels.recurrence import Recurrence, Run, state_dtype
from fwbio.kernels.support import PRECISIONS, backend_of, chosen
from fwbio.program import check_streams
from fwbio.rule import DEFAULTS, Range, Rule, Stream
from fwbio.rules import resolve
from fwbio.traces import SHORTEST

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
# by range: what is outside of it, the value of a tensor that is furthest out, and the mend
_OUTSIDE: Mapping[Range, tuple[Callable[..., bool], Callable[[Tensor], Tensor], str]] = {
    "<= 0": (operator.gt, torch.amax, "up to"),
    ">= 0": (operator.lt, torch.amin, "from"),
    "> 0": (operator.le, torch.amin, "above"),
}


def scan(
    rule: Rule | str,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    log_decay: Tensor | float | None = None,
    beta: Tensor | float | None = None,
    erase: Tensor | float | None = None,
    initial_state: Tensor | None = None,
    scale: float = 1.0,
    cu_seqlens: Tensor | None = None,
    return_states: int | None = None,
    backend: str = "auto",
    precision: str | None = None,
    **streams: Tensor,
) -> tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor]:
    """Run a fast-weight rule over sequences, differentiably.

        W~ = diag(exp(log_decay)) W;   W <- W~ + k (beta v)^T - k (p^T W~);   y = scale W^T q / n

    or, where a rule has an equation of its own, by `fwbio.RULES[name].equation`.

    Every tensor is dimensionless. q, k and v share one device and one dtype: float64, float32,
    bfloat16 or float16. The state is float64 for float64, float32 for all that is shorter; gates
    and the initial state are in either dtype. T is time, H heads. A number, or a size of 1, stands
    for the same number along an axis. Autocast changes nothing in here.

    Streams out of their range are refused where asking is free: numbers everywhere, tensors on the
    CPU, but not inside `torch.compile` or `torch.vmap`. On a GPU they are run, for asking would
    make the caller wait. NaN goes through, as in torch. Tensors on "meta" give shapes.

    Args:
        rule: a rule or its name.
        q: queries [B, T, H, K].
        k: keys [B, T, H, K], or [B, T n, H, K] for a rule that writes n times a step.
        v: values [B, T, H, V], or [B, T n, H, V].
        log_decay: [B, T, H], or [B, T, H, K] for a rule that decays by channel; retnet's is
            log(1 - 2^-(5 + h)) for head h unless given.
        beta: [B, T, H] (or T n), or [B, T, H, V] for a rule that writes by channel.
        erase: the erase gate [B, T, H, K] of a rule that has one.
        initial_state: [B, H, K, V], zero unless given, and further columns of what the rule sums
            beside its weights: with a normaliser [B, H, K, V + 1], the last column being the
            summed keys; with a ridge [B, H, K, V + K], the last being the keys' second moments; of
            a rule that writes exponentially [B, H, K, V + 2], all divided by exp(m) but for a last
            column that holds m in every row (0 for an empty memory).
        scale: factor on the read-out.
        cu_seqlens: [N + 1] ends of N sequences packed along T, from 0 to T, with B = 1; states
            then have N in place of B.
        return_states: s, to have the states after every s-th step as well.
        backend: "recurrent" (step by step), "chunked" (torch), "triton_recurrent" (state in
            registers), "triton_chunked", "triton" for either of these, or "auto": by device and
            shape, as `fwbio.kernels.support.TABLE` says. Without a GPU Triton's run on its
            interpreter, for tests, where TRITON_INTERPRET=1 is set before Python starts.
        precision: of products in "triton_chunked": "ieee" (that of float32 and float64 unless
            told), "tf32" (that of float16), "tf32x3" or "bf16" (that of bfloat16); states and sums
            are float32 all the same. Every other backend has the state's own products.
        **streams: further streams that the rule declares: `erase_key`, `erase_direction` and
            `ridge` (above 0) [B, T, H, K]; `log_beta`, `interval` (seconds, above 0 and what
            `fwbio.traces.SHORTEST` says), `theta_p` and `theta_d` (from 0 up) [B, T, H].

    Returns:
        The read-outs [B, T, H, V] in q's dtype and the final state, shaped as `initial_state`;
        with `return_states` also the states [B, T // s, H, K, V] (packed: one after another along
        the second axis). All can be differentiated once, and twice by the recurrent backend, but
        for a rule with a ridge. Traces of keys and values, of rules that keep some, start anew with
        every call: they are no part of the state.

    Raises:
        FwbioError: an unknown rule, backend or stream, a stream that the rule lacks or needs,
            tensors that disagree in shape, dtype or device, or that the backend can't take, a
            stream out of its range.
    """
    rule = resolve(rule)
    gates: dict[str, Any] = {"log_decay": log_decay, "beta": beta, "erase": erase, **streams}
    gates = {name: x for name, x in gates.items() if x is not None}
    check_streams(rule, set(gates))
    writes = _check_shapes(rule, q, k, v)
    if rule.default_decay_offset is not None and "log_decay" not in gates:
        gates["log_decay"] = _default_log_decay(rule, q)
    gates = {name: x for name, x in DEFAULTS.items() if name in rule.streams} | gates
    laid_out = {"query": q, "key": k, "value": v}
    for name, gate in gates.items():
        least = SHORTEST.get(rule.terms.plasticity, 0.0) if name == "interval" else 0.0
        _refuse_outside(rule.streams[name], gate, least)
        laid_out[name] = _gate(rule.streams[name], gate, q, k, v)
    if return_states is not None and not (type(return_states) is int and return_states > 0):
        raise FwbioError(
            f"can't keep every {return_states!r}-th state",
            where="return_states",
            mend="give a positive number of steps, or None",
        )
    ends = _ends(cu_seqlens, q)
    state = _initial_state(rule, initial_state, q, v, len(ends) - 1 if ends else q.shape[0])
    longest = max(end - start for start, end in pairwise(ends)) if ends else q.shape[1]
    ran = backend_of(
        rule,
        backend,
        device=q.device.type,
        stretch=min(longest, return_states or longest),
        heads=state.shape[0] * state.shape[1],
    )
    run = _runner(ran, precision)
    with _own_precision(q):
        y, state, kept = lowering.execute(
            rule,
            laid_out,
            state,
            run,
            writes=writes,
            keep_every=return_states,
            ends=ends,
            scale=float(scale),
        )
    return (y, state) if kept is None else (y, state, kept)


def run_recurrence(
    recurrence: Recurrence,
    state: Tensor,
    keep_every: int | None = None,
    *,
    backend: str = "auto",
) -> tuple[Tensor, Tensor, Tensor | None, str]:
    """Run the recurrence that backends know, without a rule.

    Args:
        recurrence: its operands.
        state: before it, [B, H, K, V].
        keep_every: keep the state after every so many steps, or not at all.
        backend: as `scan` takes it.

    Returns:
        The read-outs [B, T, H, V], the last state, the kept ones [B, kept, H, K, V] or None, and
        the backend that ran.

    Raises:
        FwbioError: there is no such backend.
    """
    steps = recurrence.query.shape[1]
    ran = chosen(
        backend,
        device=recurrence.query.device.type,
        stretch=min(steps, keep_every or steps),
        heads=state.shape[0] * state.shape[1],
    )
    return *_runner(ran, None)(recurrence, state, keep_every, None), ran


def _runner(backend: str, precision: str | None) -> Run:
    """The function behind a backend; Triton is loaded here, not before."""
    if precision is not None and precision not in PRECISIONS:
        raise unknown_name(precision, PRECISIONS, kind="precision", where="precision")
    if precision not in (None, "ieee") and backend != "triton_chunked":
        raise FwbioError(
            f"the backend {backend!r} has no {precision} products",
            where="precision",
            mend='leave it out, or give backend="triton_chunked"',
        )
    if backend == "recurrent":
        return recurrent.run
    if backend == "chunked":
        return chunked.run
    try:
        from fwbio.kernels import triton_chunked, triton_recurrent
    except ImportError as error:
        raise FwbioError(
            f"Triton can't be loaded ({error})",
            where="backend",
            mend='install triton, or give backend="chunked"',
        ) from error
    if backend == "triton_recurrent":
        return triton_recurrent.run
    return functools.partial(triton_chunked.run, precision=precision)


def _check_shapes(rule: Rule, q: Tensor, k: Tensor, v: Tensor) -> int:
    """The number of writes a step, once query, key and value agree."""
    for name, x in (("q", q), ("k", k), ("v", v)):
        if not isinstance(x, Tensor) or x.ndim != 4 or x.dtype not in DTYPES:
            raise FwbioError(
                f"{_seen(x)} is not a floating tensor of four axes",
                where=name,
                mend="give [batch, time, head, channel] in float64, float32, bfloat16 or float16",
            )
        _alike(name, x, q, (q.dtype,))
    batch, steps, heads, pre = q.shape
    writes = max(1, k.shape[1] // steps) if rule.terms.substeps and steps else 1
    if k.shape != (batch, steps * writes, heads, pre):
        raise FwbioError(
            f"shape {tuple(k.shape)} does not fit q's {tuple(q.shape)}",
            where="k",
            mend=f"give [{batch}, {steps}{' n' if rule.terms.substeps else ''}, {heads}, {pre}]",
        )
    if v.shape[:3] != k.shape[:3]:
        raise FwbioError(
            f"shape {tuple(v.shape)} does not fit k's {tuple(k.shape)}",
            where="v",
            mend=f"give [{batch}, {steps * writes}, {heads}, V]",
        )
    return writes


def _seen(x: object) -> str:
    if not isinstance(x, Tensor):
        return type(x).__name__
    return f"shape {tuple(x.shape)}, {x.dtype} on {x.device}"


def _alike(name: str, x: object, q: Tensor, dtypes: tuple[torch.dtype, ...]) -> Tensor:
    """The argument itself, once it is a tensor of one of the dtypes on the query's device."""
    if not isinstance(x, Tensor) or x.dtype not in dtypes or x.device != q.device:
        raise FwbioError(
            f"{_seen(x)}, but q is {q.dtype} on {q.device}",
            where=name,
            mend="give tensors of one dtype on one device"
            if len(set(dtypes)) == 1
            else f"give {' or '.join(map(str, dtypes))} on {q.device}",
        )
    return x


def _gate(stream: Stream, x: Tensor | float, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """A stream as [B, time, H, channel or 1], the size of each axis checked."""
    times = k.shape[1] if "substep" in stream.dims else q.shape[1]
    channels = {"pre": q.shape[-1], "post": v.shape[-1]}.get(stream.dims[-1], 1)
    full = (q.shape[0], times, q.shape[2], channels)
    wide_dtype = state_dtype(q.dtype)
    given = torch.tensor(x, dtype=wide_dtype, device=q.device) if isinstance(x, (int, float)) else x
    gate = _alike(stream.name, given, q, (q.dtype, wide_dtype))
    wide = gate[..., None] if gate.ndim == 3 else gate
    if wide.ndim not in (0, 4) or any(
        n not in (1, size) for n, size in zip(wide.shape, full, strict=wide.ndim == 4)
    ):
        last = [str(channels)] if channels > 1 or stream.dims[-1] in {"pre", "post"} else []
        raise FwbioError(
            f"shape {tuple(gate.shape)} does not fit",
            where=stream.name,
            mend=f"give [{', '.join([*map(str, full[:3]), *last])}], or sizes of 1",
        )
    return wide.expand(*full[:3], full[3] if wide.ndim and wide.shape[-1] > 1 else 1)


def _refuse_outside(stream: Stream, x: object, bound: float) -> None:
    """Refuse a stream out of its range, where it can be seen without waiting for a device."""
    if stream.range == "any":
        return
    outside, furthest, mend = _OUTSIDE[stream.range]
    if isinstance(x, Tensor):
        if torch.compiler.is_compiling() or x.device.type != "cpu" or not x.numel():
            return
        try:
            reached = furthest(x.detach()).item()
        except RuntimeError:  # a transform, such as vmap, hides its values
            return
    elif isinstance(x, (int, float)):
        reached = x
    else:
        return
    if outside(reached, bound):
        raise FwbioError(
            f"it reaches {reached:g}", where=stream.name, mend=f"give it {mend} {bound:g}"
        )


def _own_precision(q: Tensor) -> AbstractContextManager:
    """Autocast, where the device has any, switched off."""
    if not torch.amp.is_autocast_available(q.device.type):
        return nullcontext()
    return torch.autocast(q.device.type, enabled=False)


def _default_log_decay(rule: Rule, q: Tensor) -> Tensor:
    """log(1 - 2^-(h + offset)) for head h, [1, 1, H]."""
    assert rule.default_decay_offset is not None
    h = torch.arange(q.shape[2], dtype=state_dtype(q.dtype), device=q.device)
    return torch.log1p(-torch.exp2(-(h + rule.default_decay_offset)))[None, None]


def _initial_state(rule: Rule, given: Tensor | None, q: Tensor, v: Tensor, batch: int) -> Tensor:
    """The first state as [batch, H, K, column], in the state's dtype."""
    dtype = state_dtype(q.dtype)
    columns = v.shape[-1] + rule.terms.extra_columns(q.shape[-1])
    shape = (batch, q.shape[2], q.shape[3], columns)
    if given is None:
        return q.new_zeros(shape, dtype=dtype)
    state = _alike("initial_state", given, q, (q.dtype, dtype))
    if state.shape != shape:
        raise FwbioError(
            f"shape {tuple(state.shape)} does not fit",
            where="initial_state",
            mend=f"give {list(shape)}",
        )
    return state.to(dtype)


def _ends(cu_seqlens: Tensor | None, q: Tensor) -> tuple[int, ...] | None:
    """The ends of the packed sequences, from 0 to T."""
    if cu_seqlens is None:
        return None
    ends = cu_seqlens.tolist() if isinstance(cu_seqlens, Tensor) else cu_seqlens
    whole = isinstance(ends, list) and all(type(end) is int for end in ends)
    sound = whole and q.shape[0] == 1 and len(ends) > 1 and ends[0] == 0 and ends[-1] == q.shape[1]
    if not sound or any(a > b for a, b in pairwise(ends)):
        raise FwbioError(
            f"{ends} does not divide {q.shape[1]} steps of a batch of {q.shape[0]}",
            where="cu_seqlens",
            mend="pack sequences along time with B = 1, and give ascending ends from 0 to T",
        )
    return tuple(ends)
