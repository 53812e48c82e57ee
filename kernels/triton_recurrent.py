"""The recurrence in Triton with the state in registers: one launch forward, one backward.

    W~_t = D_t W_{t-1};   u_t = s_t v_t - R_t^T p_t;   W_t = W~_t + k_t u_t^T;   y_t = W_t^T q_t
    R = W~, or `undecayed` the state before it; p = s k (`tied`), or `erase`, or 0

A program owns one head of one sequence and a block of the state's columns, and walks through time.
Kept for the backward pass are u and, where there is a decay, a state every ANCHOR writes. With F_t
the gradient of W_t that comes from later writes, G_t all of it, the backward pass goes

    back:   G_t = F_t + q_t dy_t^T + dkept_t;   du_t = G_t^T k_t
            F_{t-1} = D_t (G_t - p_t du_t^T), or undecayed D_t G_t - p_t du_t^T
    forth:  W_t = D_t W_{t-1} + k_t u_t^T again, to the bit
            dq_t = W_t dy_t;   dp_t = -R_t du_t;   dk_t = G_t u_t (+ s_t dp_t)

The gradient c_t of log D_t is W~_t G_t less W~_t p_t du_t^T, summed over columns: it needs both
states at once, which no single direction has. But from one write to the next it changes by a few
products of rows only. With a_t = sum over columns of W_t F_t,

    c_t = a_{t-1}
    a_t = a_{t-1} - p_t dp_t - q_t (W~_t dy_t) - sum over columns of W~_t dkept_t + k_t (F_t u_t)

where no term holds what its own step writes and reads, so that each is as small as the decay makes
c. Undecayed, F stands for D_{t+1} G_{t+1} alone and p_{t+1} (W~_t du_{t+1}) takes the place of
-p_t dp_t, for the same reason. At the anchors, the last before the last write, a is computed from
both states on the way back. What the writes between two anchors make of it on the way forth misses
that by their roundings, and the gap is spread over them, which brings the error down to that of
direct sums. Only where one write forgets far more than its neighbours is c smaller than their
roundings, and these are its error.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise, product
from types import MappingProxyType
from typing import Any, NamedTuple, NoReturn

import torch
import triton
from torch import Tensor

from fwbio.errors import FwbioError
from fwbio.kernels import triton_steps as kernels
from fwbio.kernels.recurrence import Decay, Erase, Recurrence, state_dtype
from fwbio.kernels.triton_common import Compilation, Launch, check_device

# Writes between two anchors, powers of two: with 64 the roundings of c begin to outweigh those of a
# direct sum. A program has as many c in its registers, with a decay by channel a row of each.
ANCHORS: Mapping[Decay, int] = MappingProxyType({"none": 32, "scalar": 32, "channel": 16})
NARROWEST = 4


class Tile(NamedTuple):
    """A program's share: how many of the state's columns, and the warps it has for them."""

    columns: int
    warps: int


class Tiles(NamedTuple):
    """The tiles of one height of the state, for many programs and for few."""

    many: Tile
    few: Tile


# By the rows of the state, rounded up to a power of two. A thread holds at most 32 numbers of the
# state; one warp reduces without a barrier, so that more are used only where rows need them. In the
# backward pass every block of columns has partial sums to write, hence wider ones.
FORWARD = {
    16: Tiles(Tile(64, 1), Tile(16, 1)),
    32: Tiles(Tile(32, 1), Tile(8, 1)),
    64: Tiles(Tile(16, 1), Tile(8, 1)),
    128: Tiles(Tile(8, 1), Tile(8, 1)),
    256: Tiles(Tile(8, 2), Tile(8, 2)),
}
BACKWARD = {
    16: Tiles(Tile(64, 1), Tile(16, 1)),
    32: Tiles(Tile(32, 1), Tile(16, 1)),
    64: Tiles(Tile(32, 2), Tile(16, 1)),
    128: Tiles(Tile(32, 4), Tile(16, 2)),
    256: Tiles(Tile(16, 4), Tile(8, 4)),
}
MANY = 512  # heads of sequences that keep a GPU busy, with a warp or two for each


def tile(K: int, V: int, programs: int, dtype: torch.dtype, table: Mapping[int, Tiles]) -> Tile:
    """The tile for a state [K, V] of a dtype, of which there are `programs`.

    Raises:
        FwbioError: K is larger than the largest tile.
    """
    if not 1 <= K <= max(table):
        raise FwbioError(
            f"{K} channels don't fit the registers of a program",
            where="k",
            mend=f'give 1 to {max(table)} channels, or use backend="recurrent"',
        )
    tiles = table[_height(K)]
    columns, warps = tiles.many if programs >= MANY else tiles.few
    if dtype == torch.float64:  # a number takes two registers
        columns, warps = max(NARROWEST, columns // 4), 2 * warps
    return Tile(min(columns, max(NARROWEST, triton.next_power_of_2(V))), warps)


def _height(K: int) -> int:
    """The rows of a program's tile."""
    return max(min(FORWARD), triton.next_power_of_2(K))


def _own_tile(state: Tensor, table: Mapping[int, Tiles]) -> Tile:
    sequences, heads, K, V = state.shape
    return tile(K, V, sequences * heads, state.dtype, table)


def _blocks(state: Tensor, table: Mapping[int, Tiles]) -> int:
    """Blocks of columns."""
    return triton.cdiv(state.shape[-1], _own_tile(state, table).columns)


def _launch(
    kernel: Any,
    table: Mapping[int, Tiles],
    recurrence: Recurrence,
    state: Tensor,
    arguments: tuple[Tensor | int | None, ...],
) -> Launch:
    """A kernel's launch on contiguous arguments."""
    sequences, heads, K, V = state.shape
    chosen = _own_tile(state, table)
    constants = {
        "K": K,
        "V": V,
        "ROWS": _height(K),
        "COLUMNS": chosen.columns,
        "WRITES": recurrence.writes,
        "DECAY": recurrence.decays,
        "TIED": recurrence.tied,
        "UNDECAYED": recurrence.undecayed,
        "ANCHOR": ANCHORS[recurrence.decays],
    }
    programs = _blocks(state, table) * heads * sequences
    dense = tuple(x.contiguous() if isinstance(x, Tensor) else x for x in arguments)
    return Launch(kernel, programs, dense, constants, chosen.warps)


def _forward_launch(
    recurrence: Recurrence,
    state: Tensor,
    packing: Tensor | None,
    keep_every: int,
    results: tuple[Tensor, ...],
) -> Launch:
    """The launch that fills in the results of `fwbio::triton_recurrent`."""
    y, final, kept, write, anchors = results
    arguments = (
        *recurrence.operands,
        state,
        packing,
        y,
        final,
        kept if keep_every else None,
        _unless_empty(write),
        _unless_empty(anchors),
        *recurrence.query.shape[1:3],
        keep_every,
        kept.shape[1],
    )
    return _launch(kernels.forward, FORWARD, recurrence, state, arguments)


def _backward_launch(
    recurrence: Recurrence,
    state: Tensor,
    packing: Tensor | None,
    saved: tuple[Tensor, Tensor],
    upstream: tuple[Tensor | None, Tensor | None, Tensor | None],
    keep_every: int,
    parts: Sequence[Tensor | None],
) -> Launch:
    """The launch that fills in the gradients, or their parts, from those of the three outputs."""
    batch, steps, heads, _ = recurrence.query.shape
    write, anchors = map(_unless_empty, saved)
    blocks = _blocks(state, BACKWARD)
    replays = recurrence.erases != "none" or recurrence.strength is not None
    decays = recurrence.decays != "none"
    kept = upstream[-1]
    arguments = (
        *recurrence.operands,
        state,
        packing,
        write,
        anchors,
        *upstream,
        *parts,
        torch.empty_like(saved[0]) if replays else None,
        state.new_empty(blocks, *recurrence.key.shape) if decays or recurrence.tied else None,
        None if anchors is None else state.new_empty(blocks, *anchors.shape[:3]),
        batch * steps,
        saved[1].shape[0],
        steps,
        heads,
        keep_every,
        0 if kept is None else kept.shape[1],
    )
    return _launch(kernels.backward, BACKWARD, recurrence, state, arguments)


def _parts(recurrence: Recurrence, state: Tensor) -> list[Tensor | None]:
    """Where the gradients of the operands and the state go: those that are summed over columns
    with a part for each block of columns, if there are several.
    """
    blocks = _blocks(state, BACKWARD)

    def part(x: Tensor | None) -> Tensor | None:
        if x is None or blocks == 1 or x is recurrence.value:
            return None if x is None else x.new_empty(x.shape)
        return state.new_empty(blocks, *x.shape)

    return [*map(part, recurrence.operands), state.new_empty(state.shape)]


def _unless_empty(x: Tensor) -> Tensor | None:
    return x if x.numel() else None


@torch.library.custom_op("fwbio::triton_recurrent", mutates_args=())
def _operator(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    strength: Tensor | None,
    erase: Tensor | None,
    log_decay: Tensor | None,
    state: Tensor,
    packing: Tensor | None,
    tied: bool,
    undecayed: bool,
    writes: int,
    keep_every: int,
    kept_states: int,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The recurrence as an operator, its operands those of `Recurrence`.

    `packing` [N + 1, 2] tells after how many steps and how many kept states each sequence ends;
    `keep_every` is 0 to keep no state, `kept_states` how many there are in a row of the batch.
    Returned are the read-outs, the final states, the kept states, and, empty unless `save`, what
    the backward pass needs: u [B, M, H, V] and the states at the anchors [anchors, H, K, V].
    """
    check_device(kernels.forward, query)
    operands = (query, key, value, strength, erase, log_decay)
    recurrence = Recurrence.of(operands, tied=tied, undecayed=undecayed, writes=writes)
    results = _results(
        *operands, state, packing, tied, undecayed, writes, keep_every, kept_states, save
    )
    _forward_launch(recurrence, state, packing, keep_every, results).run()
    return results


@_operator.register_fake
def _results(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    strength: Tensor | None,
    erase: Tensor | None,
    log_decay: Tensor | None,
    state: Tensor,
    packing: Tensor | None,
    tied: bool,
    undecayed: bool,
    writes: int,
    keep_every: int,
    kept_states: int,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The operator's results, not yet filled in."""
    batch, times = key.shape[:2]
    decay = Recurrence.of((query, key, value, strength, erase, log_decay)).decays
    anchors = batch * times // ANCHORS[decay] + state.shape[0] if save and decay != "none" else 0
    return (
        query.new_empty(*query.shape[:3], value.shape[-1]),
        state.new_empty(state.shape),
        state.new_empty(batch, kept_states, *state.shape[1:]),
        state.new_empty(value.shape if save else (0,)),
        state.new_empty(anchors, *state.shape[1:]),
    )


@torch.library.custom_op("fwbio::triton_recurrent_backward", mutates_args=())
def _backward_operator(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    strength: Tensor | None,
    erase: Tensor | None,
    log_decay: Tensor | None,
    state: Tensor,
    packing: Tensor | None,
    write: Tensor,
    anchors: Tensor,
    dy: Tensor | None,
    dfinal: Tensor | None,
    dkept: Tensor | None,
    tied: bool,
    undecayed: bool,
    writes: int,
    keep_every: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The gradients of the operands (empty for one that is None) and of the initial states, from
    those of the read-outs, the final and the kept states.
    """
    operands = (query, key, value, strength, erase, log_decay)
    recurrence = Recurrence.of(operands, tied=tied, undecayed=undecayed, writes=writes)
    parts = _parts(recurrence, state)
    _backward_launch(
        recurrence, state, packing, (write, anchors), (dy, dfinal, dkept), keep_every, parts
    ).run()

    def whole(part: Tensor | None, x: Tensor | None) -> Tensor:
        if part is None or x is None:
            return state.new_empty(0)
        return part if part.ndim == x.ndim else part.sum(0).to(x.dtype)

    dquery, dkey, dvalue, dstrength, derase, dlog_decay, dstate = map(
        whole, parts, (*operands, state)
    )
    return dquery, dkey, dvalue, dstrength, derase, dlog_decay, dstate


@_backward_operator.register_fake
def _gradients(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    strength: Tensor | None,
    erase: Tensor | None,
    log_decay: Tensor | None,
    state: Tensor,
    *_: Tensor | int | None,
) -> tuple[Tensor, ...]:
    """The gradients, not yet filled in."""
    operands = (query, key, value, strength, erase, log_decay, state)
    return tuple(state.new_empty(0) if x is None else x.new_empty(x.shape) for x in operands)


def _save(ctx: Any, inputs: tuple, output: tuple[Tensor, ...]) -> None:
    *tensors, tied, undecayed, writes, keep_every, _, save = inputs
    write, anchors = output[3:]
    assert save, "whoever calls the operator is to save what its gradients need"
    ctx.switches = (tied, undecayed, writes, keep_every)
    ctx.save_for_backward(*tensors, write, anchors)
    ctx.mark_non_differentiable(write, anchors)
    ctx.set_materialize_grads(False)


def _differentiate(
    ctx: Any, dy: Tensor | None, dfinal: Tensor | None, dkept: Tensor | None, *_: None
) -> tuple[Tensor | None, ...]:
    tensors = ctx.saved_tensors
    dkept = dkept if ctx.switches[-1] else None
    gradients = torch.ops.fwbio.triton_recurrent_backward(
        *tensors, dy, dfinal, dkept, *ctx.switches
    )
    given = (None if x is None else dx for x, dx in zip(tensors, gradients, strict=False))
    return (*given, *(None,) * 7)


def _once(ctx: Any, *_: Tensor | None) -> NoReturn:
    raise FwbioError(
        "the Triton kernels can be differentiated only once",
        where="backend",
        mend='use backend="recurrent" for second derivatives',
    )


_operator.register_autograd(_differentiate, setup_context=_save)
_backward_operator.register_autograd(_once)


def run(
    recurrence: Recurrence,
    state: Tensor,
    keep_every: int | None = None,
    ends: tuple[int, ...] | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Run the recurrence over time with the state in registers, differentiable once.

    Args:
        recurrence: its operands, float64, float32, bfloat16 or float16, with K up to 256.
        state: [N, H, K, V] in `state_dtype`, in which everything is computed.
        keep_every: keep the state after every so many steps, or not at all.
        ends: of N packed sequences, from 0 to T, or None.

    Returns:
        The read-outs [B, T, H, V] in the query's dtype; the states after it [N, H, K, V]; the kept
        states [B, kept, H, K, V], of packed sequences one after another, or None.

    Raises:
        FwbioError: K is over 256, or the tensors are on no GPU and Triton doesn't interpret.
    """
    operands = (*recurrence.operands, state)
    check_device(kernels.forward, state)
    _own_tile(state, FORWARD)
    kept_states = recurrence.query.shape[1] // keep_every if keep_every else 0
    packing = None
    if ends is not None:
        lengths = (end - start for start, end in pairwise(ends))
        kept = (length // keep_every if keep_every else 0 for length in lengths)
        kept_ends = tuple(accumulate(kept, initial=0))
        kept_states = kept_ends[-1]
        packing = torch.tensor(list(zip(ends, kept_ends, strict=True)), device=state.device)
    save = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in operands)
    y, final, states, _, _ = torch.ops.fwbio.triton_recurrent(
        *operands,
        packing,
        recurrence.tied,
        recurrence.undecayed,
        recurrence.writes,
        keep_every or 0,
        kept_states,
        save,
    )
    if recurrence.scale != 1:
        y = recurrence.scale * y
    return y, final, states if keep_every else None


class _Variant(NamedTuple):
    """A recurrence whose kernels are compiled ahead of time."""

    dtype: torch.dtype
    decay: Decay
    erase: Erase
    undecayed: bool = False
    writes: int = 1
    packed: bool = False
    keep_every: int = 0


_VARIANTS = (
    _Variant(torch.float32, "scalar", "tied"),
    *(
        _Variant(dtype, "channel", "separate", undecayed=True, writes=2, packed=True, keep_every=4)
        for dtype in (torch.bfloat16, torch.float64)
    ),
)


def compilations() -> Iterator[Compilation]:
    """Both kernels with every tile, for common switches and for those that take most registers."""
    for K, variant, programs in product(BACKWARD, _VARIANTS, (1, MANY)):
        recurrence, state, packing = _shapes(K, variant, programs)
        operands = recurrence.operands
        steps = recurrence.query.shape[1]
        results = _results(
            *operands,
            state,
            packing,
            recurrence.tied,
            recurrence.undecayed,
            recurrence.writes,
            variant.keep_every,
            steps // variant.keep_every if variant.keep_every else 0,
            True,
        )
        name = f"{K} channels, {programs} programs, {variant}"
        yield _forward_launch(recurrence, state, packing, variant.keep_every, results).compilation(
            f"forward, {name}"
        )
        y, final, kept, write, anchors = results
        yield _backward_launch(
            recurrence,
            state,
            packing,
            (write, anchors),
            (y, final, kept if variant.keep_every else None),
            variant.keep_every,
            _parts(recurrence, state),
        ).compilation(f"backward, {name}")


def _shapes(K: int, variant: _Variant, programs: int) -> tuple[Recurrence, Tensor, Tensor | None]:
    """Operands without numbers, a state as wide as high, and where packed sequences end."""
    dtype, times = variant.dtype, 64
    rows = times * variant.writes
    batch = 1 if variant.packed else programs
    key = torch.empty(batch, rows, 1, K, dtype=dtype, device="meta")
    state = torch.empty(programs, 1, K, K, dtype=state_dtype(dtype), device="meta")
    recurrence = Recurrence(
        query=key[:, :times],
        key=key,
        value=key,
        strength=key[..., 0] if variant.erase == "tied" else None,
        erase=key if variant.erase == "separate" else None,
        log_decay={"none": None, "scalar": key[..., 0], "channel": key}[variant.decay],
        tied=variant.erase == "tied",
        undecayed=variant.undecayed,
        writes=variant.writes,
    )
    packing = torch.empty(programs + 1, 2, dtype=torch.int64, device="meta")
    return recurrence, state, packing if variant.packed else None
