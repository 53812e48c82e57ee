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
import triton.language as tl
from torch import Tensor

from fwbio.errors import FwbioError
from fwbio.kernels.recurrence import Decay, Erase, Recurrence, state_dtype
from fwbio.kernels.triton_common import (
    Compilation,
    Launch,
    check_device,
    exponential,
    first_kept,
    load_number,
    load_row,
    span,
)

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


@triton.jit
def _decayed(W, log_decay, DECAY: tl.constexpr):
    """D W."""
    if DECAY == "none":
        return W
    elif DECAY == "scalar":
        return exponential(log_decay) * W
    else:
        return exponential(log_decay)[:, None] * W


@triton.jit
def _load_decay(log_decay, index, K: tl.constexpr, rows, inside, DECAY: tl.constexpr, DTYPE):
    if DECAY == "channel":
        return load_row(log_decay, index, K, rows, inside, DTYPE)
    else:
        return load_number(log_decay, index, inside, 0.0, DTYPE)


@triton.jit
def _load_erase(erase, key, strength, index, K: tl.constexpr, rows, inside, TIED, DTYPE):
    """p: its own row, or the key times its strength."""
    if TIED:
        return strength * key
    else:
        return load_row(erase, index, K, rows, inside, DTYPE)


@triton.jit
def _step(
    query,
    key,
    value,
    strength,
    erase,
    log_decay,
    first,
    m,
    inside,
    heads,
    head,
    rows,
    columns,
    K: tl.constexpr,
    V: tl.constexpr,
    WRITES: tl.constexpr,
    DECAY: tl.constexpr,
    TIED: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """The operands q, k, v, s, p and log D of write m; q is 0 but for a step's last write."""
    index = (first * WRITES + m) * heads + head
    reading = (m % WRITES == WRITES - 1) & inside
    q_index = (first + m // WRITES) * heads + head
    q = load_row(query, q_index, K, rows, reading, DTYPE)
    k = load_row(key, index, K, rows, inside, DTYPE)
    v = load_row(value, index, V, columns, inside, DTYPE)
    s = load_number(strength, index, inside, 1.0, DTYPE)
    p = _load_erase(erase, k, s, index, K, rows, inside, TIED, DTYPE)
    g = _load_decay(log_decay, index, K, rows, inside, DECAY, DTYPE)
    return q, k, v, s, p, g


@triton.jit
def _anchored(m, last, ANCHOR: tl.constexpr):
    """Whether the state before write m is kept: at multiples, and before the last write."""
    return ((m % ANCHOR == 0) | (m == last - 1)) & (m > 0) & (m < last)


@triton.jit(do_not_specialize=["steps", "keep_every", "kept_steps"])
def _forward(
    query,
    key,
    value,
    strength,
    erase,
    log_decay,
    state,
    packing,
    y,
    final,
    kept,
    write,
    anchors,
    steps,
    heads,
    keep_every,
    kept_steps,
    K: tl.constexpr,
    V: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    WRITES: tl.constexpr,
    DECAY: tl.constexpr,
    TIED: tl.constexpr,
    UNDECAYED: tl.constexpr,
    ANCHOR: tl.constexpr,
):
    """The recurrence of one block of columns of one head of one sequence."""
    DTYPE: tl.constexpr = state.dtype.element_ty
    ERASES: tl.constexpr = TIED or erase is not None
    BLOCKS: tl.constexpr = tl.cdiv(V, COLUMNS)
    program = tl.program_id(0)
    head = program // BLOCKS % heads
    sequence = (program // BLOCKS // heads).to(tl.int64)
    rows = tl.arange(0, ROWS)
    columns = program % BLOCKS * COLUMNS + tl.arange(0, COLUMNS)
    tile = rows[:, None] * V + columns[None, :]
    within = (rows < K)[:, None] & (columns < V)[None, :]

    first, steps = span(packing, sequence, steps)
    last = steps * WRITES
    own_state = (sequence * heads + head) * K * V
    W = tl.load(state + own_state + tile, mask=within, other=0.0)
    q, k, v, s, p, g = _step(
        query, key, value, strength, erase, log_decay, first, 0, last > 0, heads, head,
        rows, columns, K, V, WRITES, DECAY, TIED, DTYPE,
    )  # fmt: skip
    for m in range(last):
        # The next write's operands are on their way while this one's are worked on.
        next_q, next_k, next_v, next_s, next_p, next_g = _step(
            query, key, value, strength, erase, log_decay, first, m + 1, m + 1 < last, heads, head,
            rows, columns, K, V, WRITES, DECAY, TIED, DTYPE,
        )  # fmt: skip
        decayed = _decayed(W, g, DECAY)
        # With two axes u stays where the threads have the state: no detour by shared memory.
        u = (s * v)[None, :]
        if ERASES:
            u -= tl.sum((W if UNDECAYED else decayed) * p[:, None], axis=0, keep_dims=True)
        W = tl.fma(k[:, None], u, decayed)
        step = m // WRITES
        if m % WRITES == WRITES - 1:
            seen = tl.sum(W * q[:, None], axis=0)
            own_y = ((first + step) * heads + head) * V
            tl.store(y + own_y + columns, seen.to(y.dtype.element_ty), mask=columns < V)
            if kept is not None:
                if (step + 1) % keep_every == 0:
                    row = first_kept(packing, sequence, kept_steps) + (step + 1) // keep_every - 1
                    tl.store(kept + (row * heads + head) * K * V + tile, W, mask=within)
        if write is not None:
            own_write = ((first * WRITES + m) * heads + head) * V
            tl.store(write + own_write + columns[None, :], u, mask=(columns < V)[None, :])
        if anchors is not None:
            if _anchored(m + 1, last, ANCHOR):
                row = first * WRITES // ANCHOR + sequence + m // ANCHOR
                tl.store(anchors + (row * heads + head) * K * V + tile, W, mask=within)
        q, k, v, s, p, g = next_q, next_k, next_v, next_s, next_p, next_g
    tl.store(final + own_state + tile, W, mask=within)


@triton.jit
def _step_back(
    query,
    key,
    value,
    strength,
    erase,
    log_decay,
    write,
    dy,
    first,
    m,
    inside,
    heads,
    head,
    rows,
    columns,
    K: tl.constexpr,
    V: tl.constexpr,
    WRITES: tl.constexpr,
    DECAY: tl.constexpr,
    TIED: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """The operands of write m with its u and, where a step is read, dy."""
    q, k, v, s, p, g = _step(
        query, key, value, strength, erase, log_decay, first, m, inside, heads, head,
        rows, columns, K, V, WRITES, DECAY, TIED, DTYPE,
    )  # fmt: skip
    reading = (m % WRITES == WRITES - 1) & inside
    index = (first * WRITES + m) * heads + head
    y_index = (first + m // WRITES) * heads + head
    u = load_row(write, index, V, columns, inside, DTYPE)
    out = load_row(dy, y_index, V, columns, reading, DTYPE)
    return q, k, v, s, p, g, u, out


@triton.jit
def _left(
    dwrite,
    later,
    first,
    m,
    part,
    inside,
    heads,
    head,
    rows,
    columns,
    K: tl.constexpr,
    V: tl.constexpr,
    WRITES: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """What the way back has left of write m: du and F u."""
    index = (first * WRITES + m) * heads + head
    du = load_row(dwrite, index, V, columns, inside, DTYPE)
    own = part * WRITES + index
    Fu = load_row(later, own, K, rows, inside, DTYPE)
    return du, Fu


@triton.jit
def _settle(
    dlog_decay,
    c,
    gap,
    own,
    start,
    end,
    heads,
    rows,
    K: tl.constexpr,
    DECAY: tl.constexpr,
    ANCHOR: tl.constexpr,
):
    """Store c from start to end after an anchor, the gap found at the end spread over it."""
    since = tl.arange(0, ANCHOR)
    share = since.to(c.dtype) / tl.maximum(end, 1).to(c.dtype)
    number = own + since * heads
    if DECAY == "channel":
        settled = c + share[:, None] * gap[None, :]
        place = number[:, None] * K + rows[None, :]
        mask = ((since >= start) & (since < end))[:, None] & (rows < K)[None, :]
    else:
        settled = c + share * tl.sum(gap, axis=0)
        place = number
        mask = (since >= start) & (since < end)
    tl.store(dlog_decay + place, settled.to(dlog_decay.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["times", "anchor_rows", "steps", "keep_every", "kept_steps"])
def _backward(
    query,
    key,
    value,
    strength,
    erase,
    log_decay,
    state,
    packing,
    write,
    anchors,
    dy,
    dfinal,
    dkept,
    dquery,
    dkey,
    dvalue,
    dstrength,
    derase,
    dlog_decay,
    dstate,
    dwrite,
    later,
    overlap,
    times,
    anchor_rows,
    steps,
    heads,
    keep_every,
    kept_steps,
    K: tl.constexpr,
    V: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    WRITES: tl.constexpr,
    DECAY: tl.constexpr,
    TIED: tl.constexpr,
    UNDECAYED: tl.constexpr,
    ANCHOR: tl.constexpr,
):
    """All gradients of one block of columns of one head of one sequence: back, then forth.

    What is summed over columns goes to the block's own part of its tensor. The way back leaves to
    the way forth: in `dwrite` du [B, M, H, V]; in `later` F u [blocks, B, M, H, K]; in `overlap` a
    at the anchors [blocks, anchors, H, K].
    """
    DTYPE: tl.constexpr = state.dtype.element_ty
    ERASES: tl.constexpr = TIED or erase is not None
    DECAYS: tl.constexpr = DECAY != "none"
    BLOCKS: tl.constexpr = tl.cdiv(V, COLUMNS)
    program = tl.program_id(0)
    head = program // BLOCKS % heads
    sequence = (program // BLOCKS // heads).to(tl.int64)
    rows = tl.arange(0, ROWS)
    columns = program % BLOCKS * COLUMNS + tl.arange(0, COLUMNS)
    tile = rows[:, None] * V + columns[None, :]
    within = (rows < K)[:, None] & (columns < V)[None, :]
    part = (program % BLOCKS).to(tl.int64) * times * heads
    anchor_part = (program % BLOCKS).to(tl.int64) * anchor_rows

    first, steps = span(packing, sequence, steps)
    last = steps * WRITES
    own_state = (sequence * heads + head) * K * V
    first_kept_row = first_kept(packing, sequence, kept_steps)
    first_anchor = first * WRITES // ANCHOR + sequence

    LATE: tl.constexpr = UNDECAYED and ERASES and DECAYS
    p_after = tl.zeros([ROWS], DTYPE)
    du_after = tl.zeros([COLUMNS], DTYPE)
    if dfinal is not None:
        F = tl.load(dfinal + own_state + tile, mask=within, other=0.0)
    else:  # zeros, by a load of nothing so that threads have F as they have W
        nothing = within & (tile < tl.where(last < 0, K * V, 0))
        F = tl.load(state + own_state + tile, mask=nothing, other=0.0)
    q, k, v, s, p, g, u, out = _step_back(
        query, key, None, strength, erase, log_decay, write, dy, first, last - 1, last > 0, heads,
        head, rows, columns, K, V, WRITES, DECAY, TIED, DTYPE,
    )  # fmt: skip
    for i in range(last):
        m = last - 1 - i
        index = (first * WRITES + m) * heads + head
        next_q, next_k, v, next_s, next_p, next_g, next_u, next_out = _step_back(
            query, key, None, strength, erase, log_decay, write, dy, first, m - 1, m > 0, heads,
            head, rows, columns, K, V, WRITES, DECAY, TIED, DTYPE,
        )  # fmt: skip
        if anchors is not None:
            if _anchored(m + 1, last, ANCHOR):
                row = (first_anchor + m // ANCHOR) * heads + head
                W = tl.load(anchors + row * K * V + tile, mask=within, other=0.0)
                own = (anchor_part * heads + row) * K
                tl.store(overlap + own + rows, tl.sum(W * F, axis=1), mask=rows < K)
        if later is not None:
            own = (part * WRITES + index) * K
            tl.store(later + own + rows, tl.sum(F * u[None, :], axis=1), mask=rows < K)
        G = F
        if LATE:
            G = tl.fma(p_after[:, None], -du_after[None, :], G)
        G = tl.fma(q[:, None], out[None, :], G)
        if dkept is not None:
            if (m + 1) % (WRITES * keep_every) == 0:
                row = first_kept_row + (m + 1) // (WRITES * keep_every) - 1
                G += tl.load(dkept + (row * heads + head) * K * V + tile, mask=within, other=0.0)
        if later is None:
            own = (part * WRITES + index) * K
            own_dkey = tl.sum(G * u[None, :], axis=1).to(dkey.dtype.element_ty)
            tl.store(dkey + own + rows, own_dkey, mask=rows < K)
        du = tl.sum(G * k[:, None], axis=0)
        own_dvalue = (s * du).to(dvalue.dtype.element_ty)
        tl.store(dvalue + index * V + columns, own_dvalue, mask=columns < V)
        if dwrite is not None:
            tl.store(dwrite + index * V + columns, du, mask=columns < V)
        if LATE:
            p_after, du_after = p, du
        elif ERASES:
            G = tl.fma(p[:, None], -du[None, :], G)
        F = _decayed(G, g, DECAY)
        q, k, s, p, g, u, out = next_q, next_k, next_s, next_p, next_g, next_u, next_out
    initial = F
    if LATE:
        initial = tl.fma(p_after[:, None], -du_after[None, :], F)
    tl.store(dstate + own_state + tile, initial, mask=within)

    tl.debug_barrier()  # what was left on the way back is now there to be read by every thread
    W = tl.load(state + own_state + tile, mask=within, other=0.0)
    a = tl.sum(W * F, axis=1)
    recent = tl.arange(0, ANCHOR)
    if DECAY == "channel":
        recent_c = tl.zeros([ANCHOR, ROWS], DTYPE)
    elif DECAY == "scalar":
        recent_c = tl.zeros([ANCHOR], DTYPE)
    q, k, v, s, p, g, u, out = _step_back(
        query, key, value, strength, erase, log_decay, write, dy, first, 0, last > 0, heads, head,
        rows, columns, K, V, WRITES, DECAY, TIED, DTYPE,
    )  # fmt: skip
    du, Fu = _left(
        dwrite, later, first, 0, part, last > 0, heads, head, rows, columns, K, V, WRITES, DTYPE
    )
    for m in range(last):
        index = (first * WRITES + m) * heads + head
        next_q, next_k, next_v, next_s, next_p, next_g, next_u, next_out = _step_back(
            query, key, value, strength, erase, log_decay, write, dy, first, m + 1, m + 1 < last,
            heads, head, rows, columns, K, V, WRITES, DECAY, TIED, DTYPE,
        )  # fmt: skip
        next_du, next_Fu = _left(
            dwrite, later, first, m + 1, part, m + 1 < last, heads, head, rows, columns, K, V,
            WRITES, DTYPE,
        )  # fmt: skip
        if anchors is not None:
            if _anchored(m, last, ANCHOR):
                row = (first_anchor + (m - 1) // ANCHOR) * heads + head
                own = (anchor_part * heads + row) * K
                exact = tl.load(overlap + own + rows, mask=rows < K, other=0.0)
                begun = (m - 1) // ANCHOR * ANCHOR
                own = part * WRITES + (first * WRITES + begun) * heads + head
                _settle(
                    dlog_decay,
                    recent_c,
                    exact - a,
                    own,
                    0,
                    m - begun,
                    heads,
                    rows,
                    K,
                    DECAY,
                    ANCHOR,
                )
                a = exact
        if DECAY == "channel":
            recent_c = tl.where((recent == m % ANCHOR)[:, None], a[None, :], recent_c)
        elif DECAY == "scalar":
            recent_c = tl.where(recent == m % ANCHOR, tl.sum(a, axis=0), recent_c)
        decayed = _decayed(W, g, DECAY)
        W_before = W
        W = tl.fma(k[:, None], u[None, :], decayed)
        own = (part * WRITES + index) * K
        ds = tl.sum(v * du, axis=0)
        dk = Fu + q * tl.sum(u * out, axis=0)
        change = -k * Fu
        if LATE:
            dk -= next_p * tl.sum(u * next_du, axis=0)
            change -= next_p * tl.sum(decayed * next_du[None, :], axis=1)
        if ERASES:
            dp = -tl.sum((W_before if LATE else decayed) * du[None, :], axis=1)
            if not LATE:
                change += p * dp
            if TIED:
                dk += s * dp
                ds += tl.sum(k * dp, axis=0)
            else:
                tl.store(derase + own + rows, dp.to(derase.dtype.element_ty), mask=rows < K)
        seen = tl.sum(decayed * out[None, :], axis=1)
        change += q * seen
        if dkept is not None:
            if (m + 1) % (WRITES * keep_every) == 0:
                row = first_kept_row + (m + 1) // (WRITES * keep_every) - 1
                H = tl.load(dkept + (row * heads + head) * K * V + tile, mask=within, other=0.0)
                dk += tl.sum(H * u[None, :], axis=1)
                change += tl.sum(decayed * H, axis=1)
        if m % WRITES == WRITES - 1:
            dq = seen + k * tl.sum(u * out, axis=0)
            own_q = (part + (first + m // WRITES) * heads + head) * K
            tl.store(dquery + own_q + rows, dq.to(dquery.dtype.element_ty), mask=rows < K)
        if later is not None:
            tl.store(dkey + own + rows, dk.to(dkey.dtype.element_ty), mask=rows < K)
        if dstrength is not None:
            own_number = part * WRITES + index
            tl.store(dstrength + own_number, ds.to(dstrength.dtype.element_ty))
        a -= change
        q, k, v, s, p, g, u, out = (
            next_q, next_k, next_v, next_s, next_p, next_g, next_u, next_out
        )  # fmt: skip
        du, Fu = next_du, next_Fu
    if DECAYS:
        begun = tl.maximum(last - 1, 0) // ANCHOR * ANCHOR
        own = part * WRITES + (first * WRITES + begun) * heads + head
        _settle(
            dlog_decay,
            recent_c,
            tl.zeros([ROWS], DTYPE),
            own,
            last - 1 - begun,
            last - begun,
            heads,
            rows,
            K,
            DECAY,
            ANCHOR,
        )


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
    return _launch(_forward, FORWARD, recurrence, state, arguments)


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
    return _launch(_backward, BACKWARD, recurrence, state, arguments)


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
    check_device(_forward, query)
    operands = (query, key, value, strength, erase, log_decay)
    recurrence = _recurrence(operands, tied, undecayed, writes)
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
    decay = _recurrence(
        (query, key, value, strength, erase, log_decay), tied, undecayed, writes
    ).decays
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
    recurrence = _recurrence(operands, tied, undecayed, writes)
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


def _recurrence(
    operands: tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None],
    tied: bool,
    undecayed: bool,
    writes: int,
) -> Recurrence:
    query, key, value, strength, erase, log_decay = operands
    return Recurrence(
        query=query,
        key=key,
        value=value,
        strength=strength,
        erase=erase,
        log_decay=log_decay,
        tied=tied,
        undecayed=undecayed,
        writes=writes,
    )


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
    check_device(_forward, state)
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
