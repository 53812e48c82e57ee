"""The recurrence in chunks by Triton kernels: for long sequences, on a GPU.

Forward three launches, backward four: `prepare`, what every chunk needs but the states; `scan`, the
states from chunk to chunk; `read_out` - and `prepare`, `scan_back`, `value_gradients`,
`key_gradients`. Only the states before every chunk are saved for the backward pass.

Few heads over a long time leave most of a GPU idle while the states are scanned: then the chunks of
a sequence are split into pieces, the affine map of every piece is found by the same scan of
[I | 0], small products give the state before every piece, and all pieces are scanned at once.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
import triton
from torch import Tensor

from fwbio.errors import FwbioError, unknown_name
from fwbio.kernels import triton_chunks as kernels
from fwbio.kernels.recurrence import Recurrence, state_dtype
from fwbio.kernels.support import PRECISIONS
from fwbio.kernels.triton_chunked_plan import (
    Layout,
    Plan,
    chunk_count,
    decay_of,
    padded,
    planned,
    tiles,
)
from fwbio.kernels.triton_common import Compilation

_PRECISION = {
    torch.float64: "ieee",
    torch.float32: "ieee",
    torch.float16: "tf32",
    torch.bfloat16: "bf16",
}
WIDEST_KEY = 256


def _prepared(plan: Plan, grad_y: Tensor | None) -> dict[str, Tensor | None]:
    """What the chunks need but the states: `prepare`'s results by its names for them."""
    decays, backward = plan.decay != "none", grad_y is not None
    pairs = (plan.chunks, plan.heads, plan.tiles.chunk, plan.tiles.chunk)
    channels = plan.query.shape[-1:] if plan.decay == "channel" else ()
    written = plan.erases or plan.strength is not None
    results = {
        "scores": None if backward else plan.empty(*pairs),
        "reads": plan.empty(*plan.query.shape) if decays else plan.query,
        "writes": plan.empty(*plan.key.shape) if decays else plan.key,
        "erasers": plan.empty(*plan.key.shape) if plan.erases else None,
        "updates": plan.empty(*plan.value.shape) if written else plan.value,
        "totals": plan.empty(*pairs[:2], *channels, dtype=plan.wide) if decays else None,
        "inverses": plan.empty(*pairs) if backward and plan.erases else None,
        "grad_updates": plan.empty(*plan.value.shape) if backward else None,
    }
    plan.launch_by_chunk(
        kernels.prepare,
        pairs[:2],
        query=plan.query,
        key=plan.key,
        value=plan.value,
        strength=plan.strength,
        erase=plan.erase,
        log_decay=plan.log_decay,
        grad_y=grad_y,
        **results,
    )
    return results


def _scan(kernel: Any, plan: Plan, edge: str, far_edge: str, **tensors: Tensor | None) -> Tensor:
    """Scan all pieces from the states at their edges to those at their far edges.

    Without states at the edges, it is the affine map of every piece instead.
    """
    identity = plan.query.shape[-1] if tensors[edge] is None else 0
    width = plan.value.shape[-1] + identity
    pieces = plan.layout.pieces.shape[0]
    out = plan.empty(pieces, plan.heads, plan.query.shape[-1], width, dtype=plan.wide)
    plan.launch(
        kernel,
        (pieces, plan.heads, triton.cdiv(width, plan.tiles.columns)),
        {"num_warps": plan.tiles.scan_warps, "num_stages": plan.tiles.stages},
        pieces=plan.layout.pieces,
        BV=plan.tiles.columns,
        IDENTITY=identity,
        **tensors,
        **{far_edge: out},
    )
    return out


def _edges(maps: Tensor, state: Tensor, layout: Layout, backward: bool) -> Tensor:
    """The state at the edge of every piece, from the affine maps of pieces and the sequences' own.

    S <- A S + B, of [pieces, H, K, K + V] = [A | B]
    """
    keys = state.shape[-2]
    edges: list[Tensor] = [state] * layout.of_sequence[-1]
    for n, (first, last) in enumerate(pairwise(layout.of_sequence)):
        edge = state[n]
        for piece in range(last - 1, first - 1, -1) if backward else range(first, last):
            edges[piece] = edge
            edge = maps[piece, :, :, :keys] @ edge + maps[piece, :, :, keys:]
    return torch.stack(edges)


def _of_sequences(edges: Tensor, layout: Layout, backward: bool) -> Tensor:
    """Of the states at the far edges of all pieces, those of the sequences."""
    if not layout.split:
        return edges
    at = layout.of_sequence[:-1] if backward else [last - 1 for last in layout.of_sequence[1:]]
    return torch.stack([edges[piece] for piece in at])


def _run_forward(plan: Plan, state: Tensor, kept: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
    """Read-outs and last states; it fills the kept states and those before every chunk."""
    ready = _prepared(plan, None)
    scores, reads, updates = ready["scores"], ready["reads"], ready["updates"]
    scanned = {name: ready[name] for name in ("writes", "erasers", "updates", "totals")}
    edges = state.contiguous()
    if plan.layout.split:
        nothing = {"initial": None, "corrected": None, "states": None, "kept": None}
        maps = _scan(kernels.scan, plan, "initial", "final", **scanned, **nothing)
        edges = _edges(maps, state, plan.layout, False)
    corrected = plan.empty(*plan.value.shape) if plan.erases else updates
    final = _scan(
        kernels.scan,
        plan,
        "initial",
        "final",
        **scanned,
        initial=edges,
        corrected=corrected if plan.erases else None,
        states=states,
        kept=kept if kept.numel() else None,
    )
    y = torch.empty_like(plan.value)
    plan.launch_by_chunk(
        kernels.read_out,
        (plan.chunks, plan.heads, triton.cdiv(plan.value.shape[-1], plan.tiles.values)),
        scores=scores,
        reads=reads,
        updates=corrected,
        states=states,
        y=y,
    )
    return y, _of_sequences(final, plan.layout, False)


def _gradient(plan: Plan, x: Tensor | None, parts: int = 0) -> Tensor | None:
    """A tensor for the gradient of x, in parts that a further axis counts, or whole."""
    if x is None:
        return None
    return plan.empty(*x.shape, parts, dtype=plan.wide) if parts else torch.empty_like(x)


def _run_backward(
    plan: Plan, grad_y: Tensor, grad_final: Tensor, grad_kept: Tensor | None, states: Tensor
) -> tuple[Tensor | None, ...]:
    """The gradients of query, key, value, strength, erase, log_decay and the first states."""
    layout = plan.layout
    ready = _prepared(plan, grad_y)
    updates = ready["updates"]
    scanned = {name: ready[name] for name in ("reads", "writes", "erasers", "totals")}
    scanned |= {
        "grad_y": grad_y,
        "grad_updates": ready["grad_updates"],
        "grad_kept": None if grad_kept is None else grad_kept.contiguous(),
    }
    edges = grad_final.contiguous()
    if layout.split:
        nothing = {"grad_final": None, "grad_corrected": None, "grad_states": None}
        maps = _scan(kernels.scan_back, plan, "grad_final", "grad_initial", **scanned, **nothing)
        edges = _edges(maps, grad_final, layout, True)
    grad_corrected = plan.empty(*plan.value.shape)
    grad_states = torch.empty_like(states)
    grad_state = _scan(
        kernels.scan_back,
        plan,
        "grad_final",
        "grad_initial",
        **scanned,
        grad_final=edges,
        grad_corrected=grad_corrected,
        grad_states=grad_states,
    )
    pairs = (plan.chunks, plan.heads, plan.tiles.chunk, plan.tiles.chunk)
    blocks = padded(plan.query.shape[-1]) // plan.tiles.keys
    parts = blocks + 1 if plan.tied else 1
    gradients = {
        "grad_query": _gradient(plan, plan.query),
        "grad_key": _gradient(plan, plan.key),
        "grad_value": _gradient(plan, plan.value),
        "grad_strength": _gradient(plan, plan.strength, parts),
        "grad_erase": _gradient(plan, plan.erase),
        "grad_log_decay": _gradient(plan, plan.log_decay, plan.decay == "scalar" and blocks),
    }
    shared = {
        "strength": plan.strength,
        "log_decay": plan.log_decay,
        "states": states,
        "corrected": plan.empty(*plan.value.shape) if plan.erases else updates,
        "residuals": plan.empty(*plan.value.shape) if plan.erases else grad_corrected,
        "grad_y": grad_y,
        "grad_scores": plan.empty(*pairs),
        "grad_system": plan.empty(*pairs) if plan.erases else None,
        **gradients,
    }
    plan.launch_by_chunk(
        kernels.value_gradients,
        pairs[:2],
        value=plan.value,
        erasers=ready["erasers"],
        updates=updates,
        inverses=ready["inverses"],
        grad_corrected=grad_corrected,
        PARTS=parts,
        **shared,
    )
    plan.launch_by_chunk(
        kernels.key_gradients,
        (*pairs[:2], blocks),
        query=plan.query,
        key=plan.key,
        erase=plan.erase,
        grad_states=grad_states,
        **shared,
    )
    for name, of_heads in (("grad_strength", True), ("grad_log_decay", plan.decay == "scalar")):
        gradient = gradients[name]
        if of_heads and gradient is not None:
            gradients[name] = gradient.sum(-1)
    return *gradients.values(), _of_sequences(grad_state, layout, True)


def _state_shapes(
    query: Tensor,
    value: Tensor,
    keep_every: int,
    ends: Sequence[int] | None,
    save: bool,
    chunk: int,
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shapes of the kept states and of the states before every chunk."""
    batch, rows, heads, keys = query.shape
    state = (heads, keys, value.shape[-1])
    if ends is None:
        kept = rows // keep_every if keep_every else 0
        chunks = batch * chunk_count(rows, chunk, keep_every)
    else:
        lengths = [b - a for a, b in pairwise(ends)]
        kept = sum(length // keep_every for length in lengths) if keep_every else 0
        chunks = sum(chunk_count(length, chunk, keep_every) for length in lengths)
    return (batch, kept, *state), (chunks, *state) if save else (0,)


_OPERANDS = "Tensor query, Tensor key, Tensor value, Tensor? strength, Tensor? erase, "
_OPERANDS += "Tensor? log_decay"
_SWITCHES = "bool tied, bool undecayed, int keep_every, SymInt[]? ends"
_CHOICES = "str precision, int chunk, int pieces"


@torch.library.custom_op(
    "fwbio::triton_chunked",
    mutates_args=(),
    schema=f"({_OPERANDS}, Tensor state, {_SWITCHES}, {_CHOICES}, bool save)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
)
def forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    strength: Tensor | None,
    erase: Tensor | None,
    log_decay: Tensor | None,
    state: Tensor,
    tied: bool,
    undecayed: bool,
    keep_every: int,
    ends: Sequence[int] | None,
    precision: str,
    chunk: int,
    pieces: int,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The operator: read-outs, last states, kept states, and the states before every chunk.

    The arguments are those of `run`, laid out by writes; 0 stands for None, and the states before
    every chunk are there only to `save` them for the backward pass.
    """
    operands = (query, key, value, strength, erase, log_decay)
    plan = planned(*operands, tied, undecayed, keep_every, ends, precision, chunk, pieces)
    kept_shape, states_shape = _state_shapes(query, value, keep_every, ends, True, plan.tiles.chunk)
    kept = plan.empty(*kept_shape, dtype=plan.wide)
    states = plan.empty(*states_shape, dtype=plan.wide)
    if query.numel() and value.numel():
        y, final = _run_forward(plan, state, kept, states)
    else:
        y, final = torch.zeros_like(plan.value), state.clone()
    return y, final, kept, states if save else states.new_empty(0)


@torch.library.custom_op(
    "fwbio::triton_chunked_backward",
    mutates_args=(),
    schema=f"(Tensor? grad_y, Tensor? grad_final, Tensor? grad_kept, Tensor states, {_OPERANDS}, "
    f"{_SWITCHES}, {_CHOICES}) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def backward(
    grad_y: Tensor | None,
    grad_final: Tensor | None,
    grad_kept: Tensor | None,
    states: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    strength: Tensor | None,
    erase: Tensor | None,
    log_decay: Tensor | None,
    tied: bool,
    undecayed: bool,
    keep_every: int,
    ends: Sequence[int] | None,
    precision: str,
    chunk: int,
    pieces: int,
) -> tuple[Tensor, ...]:
    """The operator's gradients: of its six operands (empty for what is None) and the state."""
    operands = (query, key, value, strength, erase, log_decay)
    plan = planned(*operands, tied, undecayed, keep_every, ends, precision, chunk, pieces)
    if grad_y is None:
        grad_y = torch.zeros_like(plan.value)
    if grad_final is None:
        sequences = len(plan.layout.of_sequence) - 1
        grad_final = plan.empty(sequences, *states.shape[1:], dtype=plan.wide).zero_()
    if not (query.numel() and value.numel()):
        gradients = [query.new_empty(0) if x is None else torch.zeros_like(x) for x in operands]
        return *gradients, grad_final.clone()
    found = _run_backward(plan, grad_y.contiguous(), grad_final, grad_kept, states)
    return tuple(
        query.new_empty(0) if x is None or gradient is None else gradient.to(x.dtype)
        for x, gradient in zip((*operands, grad_final), found, strict=True)
    )


@forward.register_fake
def _(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    strength: Tensor | None,
    erase: Tensor | None,
    log_decay: Tensor | None,
    state: Tensor,
    tied: bool,
    undecayed: bool,
    keep_every: int,
    ends: Sequence[int] | None,
    precision: str,
    chunk: int,
    pieces: int,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    chunk = chunk or tiles(query.shape[-1], value.shape[-1], precision, decay_of(log_decay)).chunk
    wide = state_dtype(query.dtype)
    kept, states = _state_shapes(query, value, keep_every, ends, save, chunk)
    return (
        query.new_empty(value.shape),
        query.new_empty(state.shape, dtype=wide),
        query.new_empty(kept, dtype=wide),
        query.new_empty(states, dtype=wide),
    )


@backward.register_fake
def _(
    grad_y: Tensor | None,
    grad_final: Tensor | None,
    grad_kept: Tensor | None,
    states: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    strength: Tensor | None,
    erase: Tensor | None,
    log_decay: Tensor | None,
    tied: bool,
    undecayed: bool,
    keep_every: int,
    ends: Sequence[int] | None,
    precision: str,
    chunk: int,
    pieces: int,
) -> tuple[Tensor, ...]:
    operands = (query, key, value, strength, erase, log_decay)
    sequences = query.shape[0] if ends is None else len(ends) - 1
    gradients = [query.new_empty(0) if x is None else x.new_empty(x.shape) for x in operands]
    shape = (sequences, *query.shape[2:], value.shape[-1])
    return *gradients, query.new_empty(shape, dtype=state_dtype(query.dtype))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(output[3], *inputs[:6])
    ctx.options, ctx.saves = inputs[7:14], inputs[14]


def _differentiate(
    ctx: Any,
    grad_y: Tensor | None,
    grad_final: Tensor | None,
    grad_kept: Tensor | None,
    grad_states: Tensor | None,
) -> tuple[Tensor | None, ...]:
    if not ctx.saves:
        raise FwbioError(
            "the states that the backward pass needs were not kept",
            where="fwbio::triton_chunked",
            mend="call it with save=True",
        )
    states, *operands = ctx.saved_tensors
    *gradients, grad_state = backward(
        grad_y, grad_final, grad_kept, states, *operands, *ctx.options
    )
    found = [None if x is None else dx for x, dx in zip(operands, gradients, strict=True)]
    return *found, grad_state, *[None] * 8


def _differentiate_twice(ctx: Any, *gradients: Tensor) -> None:
    raise FwbioError(
        "the chunked Triton kernels have no second derivative",
        where="backend",
        mend='use backend="recurrent"',
    )


forward.register_autograd(_differentiate, setup_context=_setup_context)
backward.register_autograd(_differentiate_twice)


def run(
    recurrence: Recurrence,
    state: Tensor,
    keep_every: int | None = None,
    ends: tuple[int, ...] | None = None,
    *,
    precision: str | None = None,
    chunk: int | None = None,
    pieces: int | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Run the recurrence in chunks, differentiably (once).

    Args:
        recurrence: its operands.
        state: the states before it, [N, H, K, V].
        keep_every: keep the state after every so many steps, or not at all.
        ends: of N packed sequences, from 0 to T, or None.
        precision: of products: "ieee" (all that float64 has, and the default of float32), "tf32"
            (that of float16), "tf32x3", or "bf16" (that of bfloat16): of operands rounded to
            bfloat16, the states among them, summed in float32.
        chunk: rows of a chunk, 16, 32 or 64, by default by shape and dtype.
        pieces: into how many pieces to split the time of a sequence, by default as many as a
            GPU has room for.

    Returns:
        The read-outs [B, T, H, V] in the query's dtype; the last states [N, H, K, V]; the kept
        states [B, kept, H, K, V] (packed: one sequence's after another's), or None.

    Raises:
        FwbioError: a precision or a chunk that there is not, keys wider than 256, or tensors that
            lie on no GPU while the kernels are not interpreted.
    """
    query, key, writes = recurrence.query, recurrence.key, recurrence.writes
    if precision is not None and precision not in PRECISIONS:
        raise unknown_name(precision, PRECISIONS, kind="precision", where="precision")
    if chunk not in (None, 16, 32, 64):
        raise FwbioError(f"no chunk has {chunk} rows", where="chunk", mend="choose 16, 32 or 64")
    if query.shape[-1] > WIDEST_KEY:
        raise FwbioError(
            f"keys of {query.shape[-1]} channels don't fit a program",
            where="k",
            mend=f'give at most {WIDEST_KEY}, or use backend="recurrent"',
        )
    batch, steps, heads, keys = query.shape
    if writes > 1:  # what is read between the writes of a step is zero, and dropped
        silent = query.new_zeros(batch, steps, writes - 1, heads, keys)
        query = torch.cat([silent, query[:, :, None]], 2).flatten(1, 2)
    operands = (query, key, *recurrence.operands[2:])
    needs_gradient = torch.is_grad_enabled() and any(
        x is not None and x.requires_grad for x in (*operands, state)
    )
    y, final, kept, _ = forward(
        *operands,
        state.to(state_dtype(query.dtype)),
        recurrence.tied,
        recurrence.undecayed,
        (keep_every or 0) * writes,
        None if ends is None else [end * writes for end in ends],
        (precision if query.dtype != torch.float64 else None) or _PRECISION[query.dtype],
        chunk or 0,
        pieces or 0,
        needs_gradient,
    )
    if writes > 1:
        y = y[:, writes - 1 :: writes]
    if recurrence.scale != 1:
        y = recurrence.scale * y
    return y, final, kept if keep_every else None


def compilations() -> Iterator[Compilation]:
    """Every kernel with every configuration of the table, at its widest and with most to do."""
    for keys, dtype, precision, decay, erase in (
        (64, torch.float32, "ieee", "scalar", "tied"),
        (128, torch.float32, "ieee", "channel", "separate"),
        (128, torch.float32, "tf32x3", "scalar", "tied"),
        (128, torch.bfloat16, "bf16", "scalar", "tied"),
        (128, torch.bfloat16, "bf16", "channel", "separate"),
        (128, torch.bfloat16, "tf32", "scalar", "separate"),
        (128, torch.bfloat16, "tf32", "channel", "separate"),
        (128, torch.float64, "ieee", "channel", "separate"),
    ):
        plan = _compiled(keys, dtype, precision, decay, erase)
        for compilation in plan.compilations:
            name = f"{compilation.name}, {keys} channels, {dtype}, {precision}, {decay}, {erase}"
            yield compilation._replace(name=name)


def _compiled(keys: int, dtype: torch.dtype, precision: str, decay: str, erase: str) -> Plan:
    """The plan of a call without numbers, launched both ways."""
    steps, heads, wide = 128, 2, state_dtype(dtype)
    x = torch.empty(1, steps, heads, keys, dtype=dtype, device="meta")
    gate = torch.empty_like(x if decay == "channel" else x[..., 0], dtype=wide)
    separate = x if erase == "separate" else None
    operands = (x, x, x, gate if decay == "scalar" else x[..., 0], separate, gate)
    plan = planned(*operands, erase == "tied", True, 32, None, precision, 0, 1)
    states = torch.empty(plan.chunks, heads, keys, keys, dtype=wide, device="meta")
    kept, state = states[None, : steps // 32], states[:1]
    _run_forward(plan, state, kept, states)
    _run_backward(plan, x, state, kept, states)
    return plan
