"""What the chunked Triton kernels are made of: reads and writes of blocks, sums of decays, a solve.

Rows lie at `start + row` of [rows, H, width] tensors, states in [states, H, K, V] and pairs of a
chunk's rows in [chunks, H, C, C].
"""

import triton
import triton.language as tl

from fwbio.kernels.triton_common import exponential


@triton.jit
def product(a, b, PRECISION: tl.constexpr):
    """The matrix product a b: of operands rounded to bfloat16, or by an input precision."""
    if PRECISION == "bf16":
        result = tl.dot(a.to(tl.bfloat16), b.to(tl.bfloat16))
    elif PRECISION == "bf16 interpreted":  # where products of bfloat16 are of their bit patterns
        result = tl.dot(a.to(tl.bfloat16).to(tl.float32), b.to(tl.bfloat16).to(tl.float32))
    else:
        result = tl.dot(a, b, input_precision=PRECISION)
    return result


@triton.jit
def row_tile(length, heads, first, C: tl.constexpr, BLOCK: tl.constexpr, WIDTH):
    """Offsets (from a chunk's first row) and mask of its rows [C, BLOCK], from column `first`."""
    row = tl.arange(0, C)
    column = first + tl.arange(0, BLOCK)
    within = (row < length)[:, None] & ((column >= 0) & (column < WIDTH))[None, :]
    return row[:, None] * (heads * WIDTH) + column[None, :], within


@triton.jit
def read_rows(
    x, start, length, head, heads, first, C: tl.constexpr, BLOCK: tl.constexpr, WIDTH, WIDE
):
    """A chunk's rows [C, BLOCK] of x [rows, H, WIDTH], from column `first`; zero beyond them."""
    offsets, within = row_tile(length, heads, first, C, BLOCK, WIDTH)
    origin = x + (start * heads + head) * WIDTH
    return tl.load(origin + offsets, mask=within, other=0.0).to(WIDE)


@triton.jit
def write_rows(
    x, rows, start, length, head, heads, first, C: tl.constexpr, BLOCK: tl.constexpr, WIDTH
):
    """Store what `read_rows` reads."""
    offsets, within = row_tile(length, heads, first, C, BLOCK, WIDTH)
    tl.store(x + (start * heads + head) * WIDTH + offsets, rows, mask=within)


@triton.jit
def state_tile(row, column, BK: tl.constexpr, BV: tl.constexpr, K: tl.constexpr, V):
    """Offsets and mask [BK, BV] within a state [K, V], from a row and a column."""
    row += tl.arange(0, BK)
    column += tl.arange(0, BV)
    within = (row < K)[:, None] & ((column >= 0) & (column < V))[None, :]
    return row[:, None] * V + column[None, :], within


@triton.jit
def read_state(
    x, index, head, heads, row, column, BK: tl.constexpr, BV: tl.constexpr, K: tl.constexpr, V
):
    """A block [BK, BV] of a state of x [states, H, K, V]; zero beyond it, or at index -1."""
    offsets, within = state_tile(row, column, BK, BV, K, V)
    origin = x + (index * heads + head) * K * V
    return tl.load(origin + offsets, mask=tl.where(index >= 0, within, False), other=0.0)


@triton.jit
def write_state(
    x, S, index, head, heads, row, column, BK: tl.constexpr, BV: tl.constexpr, K: tl.constexpr, V
):
    """Store what `read_state` reads."""
    offsets, within = state_tile(row, column, BK, BV, K, V)
    origin = x + (index * heads + head) * K * V
    tl.store(origin + offsets, S, mask=tl.where(index >= 0, within, False))


@triton.jit
def read_pairs(x, chunk, head, heads, within, C: tl.constexpr, WIDE):
    """A chunk's pairs of rows [C, C], of x [chunks, H, C, C]; zero where not `within`."""
    row = tl.arange(0, C)
    origin = x + (chunk * heads + head) * C * C
    return tl.load(origin + (row[:, None] * C + row[None, :]), mask=within, other=0.0).to(WIDE)


@triton.jit
def write_pairs(x, pairs, chunk, head, heads, C: tl.constexpr):
    """Store what `read_pairs` reads."""
    row = tl.arange(0, C)
    tl.store(x + (chunk * heads + head) * C * C + (row[:, None] * C + row[None, :]), pairs)


@triton.jit
def read_scalars(x, start, length, head, heads, shift: tl.constexpr, C: tl.constexpr, WIDE):
    """A chunk's scalars [C] of x [rows, H], `shift` rows on, zero where there are none."""
    row = tl.arange(0, C) + shift
    within = (row >= 0) & (row < length)
    return tl.load(x + start * heads + head + row * heads, mask=within, other=0.0).to(WIDE)


@triton.jit
def bounded(log_decay):
    """The log decay, but finite where it is minus infinity: its exponential is 0 either way."""
    return tl.where(log_decay < -1e4, -1e4, log_decay)


@triton.jit
def spans(i, t, level, UNDECAYED: tl.constexpr):
    """Whether row i's exponent sums the log decay of row t, for pairs of halves of 2**level rows.

    A row of a later half sums from the middle to itself (or until it, `undecayed`), a row of an
    earlier half from the row after it to the middle.
    """
    later = ((i >> level) & 1) == 1
    same = (i >> level) == (t >> level)
    summed = (t > i) != later
    if UNDECAYED:
        summed = later & (t < i)
    return same & summed


@triton.jit
def gaps(log_decay, start, length, head, heads, SHIFT: tl.constexpr, C: tl.constexpr, WIDE):
    """Exp of the sums of a head's log decay over j < t <= i, [C, C]; of j < t < i at SHIFT -1."""
    i, j = tl.arange(0, C)[:, None], tl.arange(0, C)[None, :]
    gate = bounded(read_scalars(log_decay, start, length, head, heads, SHIFT, C, WIDE))
    return exponential(tl.cumsum(tl.where(i + SHIFT > j, gate[:, None], 0.0), 0))


@triton.jit
def inverse_of(L, C: tl.constexpr, FINE: tl.constexpr):
    """(I + L)^-1 [C, C] of a strictly lower triangular L: by rows in blocks of 16, then by halves.

    Of 2m rows, with the inverses X and Z of the two diagonal blocks: -Z L X is the block below.
    """
    BLOCKS: tl.constexpr = C // 16
    own = tl.arange(0, BLOCKS)[:, None, None, None] == tl.arange(0, BLOCKS)[None, None, :, None]
    diagonal = tl.sum(tl.where(own, tl.reshape(L, [BLOCKS, 16, BLOCKS, 16]), 0.0), 2)
    i, j = tl.arange(0, 16)[None, :, None], tl.arange(0, 16)[None, None, :]
    X = tl.where(i == j, diagonal * 0.0 + 1.0, 0.0)
    for pivot in range(15):
        row = tl.sum(tl.where(i == pivot, X, 0.0), 1)
        column = tl.sum(tl.where(j == pivot, diagonal, 0.0), 2)  # zero above the pivot's row
        X -= column[:, :, None] * row[:, None, :]
    X = tl.reshape(tl.where(own, X[:, :, None, :], 0.0), [C, C])
    i, j = tl.arange(0, C)[:, None], tl.arange(0, C)[None, :]
    for level in tl.static_range(4, 4 + (C >= 32) + (C >= 64)):
        below = ((i >> (level + 1)) == (j >> (level + 1))) & ((i >> level) != (j >> level))
        X -= product(X, product(tl.where(below, L, 0.0), X, FINE), FINE)
    return X


@triton.jit
def erase_rows(
    key,
    strength,
    erase,
    start,
    length,
    head,
    heads,
    first,
    C: tl.constexpr,
    BK: tl.constexpr,
    K,
    WIDE,
):
    """A chunk's erase keys p [C, BK]: its own, or its keys by their strengths."""
    if erase is not None:
        p = read_rows(erase, start, length, head, heads, first, C, BK, K, WIDE)
    else:
        p = read_rows(key, start, length, head, heads, first, C, BK, K, WIDE)
        if strength is not None:
            p *= read_scalars(strength, start, length, head, heads, 0, C, WIDE)[:, None]
    return p
