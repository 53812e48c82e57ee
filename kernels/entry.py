"""The entry: any rule of the table over tensors, by the backend asked for."""

import dataclasses
from collections.abc import Callable, Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from fwbio.errors import FwbioError
from fwbio.kernels import recurrent
from fwbio.kernels.support import chosen
from fwbio.normal_form import NormalForm, normal_form, normalised
from fwbio.program import check_streams
from fwbio.rule import Rule, Stream
from fwbio.rules import resolve

Run = Callable[..., tuple[Tensor, Tensor, Tensor | None]]

_RUN: Mapping[str, Run] = MappingProxyType({"recurrent": recurrent.run})


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
    **streams: Tensor,
) -> tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor]:
    """Run a fast-weight rule over sequences, differentiably.

        W~ = diag(exp(log_decay)) W;   W <- W~ + k (beta v)^T - k (p^T W~);   y = scale W^T q / n

    Every tensor is dimensionless and shares one floating dtype and one device; T is time, H
    heads. A number, or a size of 1, stands for the same number along an axis.

    Args:
        rule: a rule or its name.
        q: queries [B, T, H, K].
        k: keys [B, T, H, K], or [B, T n, H, K] for a rule that writes n times a step.
        v: values [B, T, H, V], or [B, T n, H, V].
        log_decay: [B, T, H], or [B, T, H, K] for a rule that decays by channel; retnet's is
            log(1 - 2^-(5 + h)) for head h unless given.
        beta: [B, T, H] (or T n), or [B, T, H, V] for a rule that writes by channel.
        erase: the erase gate [B, T, H, K] of a rule that has one.
        initial_state: [B, H, K, V], zero unless given; with a normaliser [B, H, K, V + 1], its
            last column being the summed keys.
        scale: factor on the read-out.
        cu_seqlens: [N + 1] ends of N sequences packed along T, from 0 to T, with B = 1; states
            then have N in place of B.
        return_states: s, to have the states after every s-th step as well.
        backend: "recurrent", or "auto" to choose by shape and device.
        **streams: further streams that the rule declares (`erase_key` [B, T, H, K]).

    Returns:
        The read-outs [B, T, H, V] and the final state, shaped as `initial_state`; with
        `return_states` also the states [B, T // s, H, K, V] (packed: one after another along the
        second axis).

    Raises:
        FwbioError: an unknown rule, backend or stream, a stream that the rule lacks or needs, or
            tensors that disagree in shape, dtype or device.
    """
    rule = resolve(rule)
    run = _RUN[chosen(backend)]
    gates: dict[str, Any] = {"log_decay": log_decay, "beta": beta, "erase": erase, **streams}
    gates = {name: x for name, x in gates.items() if x is not None}
    check_streams(rule, set(gates))
    if rule.default_decay_offset is not None and "log_decay" not in gates:
        gates["log_decay"] = _default_log_decay(rule, q)
    writes = _check_shapes(rule, q, k, v)
    laid_out = {"query": q, "key": k, "value": v}
    for name, gate in gates.items():
        laid_out[name] = _gate(rule.streams[name], gate, q, k, v)
    form = normal_form(rule, laid_out, xp=torch, time_axis=1, writes_per_step=writes)
    if return_states is not None and not (type(return_states) is int and return_states > 0):
        raise FwbioError(
            f"can't keep every {return_states!r}-th state",
            where="return_states",
            mend="give a positive number of steps, or None",
        )
    spans = _spans(cu_seqlens, q)
    state = _initial_state(form, initial_state, q, v, len(spans) if spans else q.shape[0])
    if spans is None:
        y, state, kept = run(form, state, keep_every=return_states)
    else:
        parts = [
            run(_slice(form, start, end), state[i : i + 1], keep_every=return_states)
            for i, (start, end) in enumerate(spans)
        ]
        y = torch.cat([part[0] for part in parts], 1)
        state = torch.cat([part[1] for part in parts])
        trajectories = [part[2] for part in parts if part[2] is not None]
        kept = torch.cat(trajectories, 1) if trajectories else None
    y = scale * (normalised(y, torch) if form.normaliser else y)
    if form.transposed:
        state = state.transpose(-1, -2)
        kept = None if kept is None else kept.transpose(-1, -2)
    return (y, state) if kept is None else (y, state, kept)


def _check_shapes(rule: Rule, q: Tensor, k: Tensor, v: Tensor) -> int:
    """The number of writes a step, once query, key and value agree."""
    for name, x in (("q", q), ("k", k), ("v", v)):
        if not isinstance(x, Tensor) or x.ndim != 4 or not x.is_floating_point():
            raise FwbioError(
                f"{_seen(x)} is not a floating tensor of four axes",
                where=name,
                mend="lay it out as [batch, time, head, channel]",
            )
        _alike(name, x, q)
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


def _alike(name: str, x: object, q: Tensor) -> Tensor:
    """The argument itself, once it is a tensor of the query's dtype on its device."""
    if not isinstance(x, Tensor) or x.dtype != q.dtype or x.device != q.device:
        raise FwbioError(
            f"{_seen(x)}, but q is {q.dtype} on {q.device}",
            where=name,
            mend="give tensors of one dtype on one device",
        )
    return x


def _gate(stream: Stream, x: Tensor | float, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """A stream as [B, time, H, channel or 1], the size of each axis checked."""
    times = k.shape[1] if "substep" in stream.dims else q.shape[1]
    channels = {"pre": q.shape[-1], "post": v.shape[-1]}.get(stream.dims[-1], 1)
    full = (q.shape[0], times, q.shape[2], channels)
    gate = _alike(stream.name, q.new_tensor(x) if isinstance(x, (int, float)) else x, q)
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


def _default_log_decay(rule: Rule, q: Tensor) -> Tensor:
    """log(1 - 2^-(h + offset)) for head h, [1, 1, H]."""
    assert rule.default_decay_offset is not None
    h = torch.arange(q.shape[2], dtype=q.dtype, device=q.device)
    return torch.log1p(-torch.exp2(-(h + rule.default_decay_offset)))[None, None]


def _initial_state(
    form: NormalForm, given: Tensor | None, q: Tensor, v: Tensor, batch: int
) -> Tensor:
    """The first state as [batch, H, row, column]."""
    columns = v.shape[-1] + (1 if form.normaliser else 0)
    shape = (batch, q.shape[2], q.shape[3], columns)
    state = q.new_zeros(shape) if given is None else _alike("initial_state", given, q)
    if state.shape != shape:
        raise FwbioError(
            f"shape {tuple(state.shape)} does not fit",
            where="initial_state",
            mend=f"give {list(shape)}",
        )
    return state.transpose(-1, -2) if form.transposed else state


def _spans(cu_seqlens: Tensor | None, q: Tensor) -> list[tuple[int, int]] | None:
    """The start and end of each packed sequence."""
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
    return list(pairwise(ends))


def _slice(form: NormalForm, start: int, end: int) -> NormalForm:
    """The operands of the steps from start to end."""
    n = form.writes_per_step
    times = slice(start * n, end * n)
    return dataclasses.replace(
        form,
        key=form.key[:, times],
        write=form.write[:, times],
        erase=None if form.erase is None else form.erase[:, times],
        log_decay=None if form.log_decay is None else form.log_decay[:, times],
        query=form.query[:, start:end],
    )
