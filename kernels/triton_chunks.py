"""Triton kernels of the recurrence in chunks: what is parallel over chunks, and what scans them.

Within a chunk of C rows (writes), with S the state before it, b the strengths, g the log decays,
G_i the sum of g over the rows up to i (and G'_i over the rows read before: up to i, or to i - 1
where `undecayed`), p the erase keys:

    A_ij = sum_c q_ic k_jc exp(G_ic - G_jc), i >= j
    L_ij = sum_c p_ic k_jc exp(G'_ic - G_jc), i > j
    T = (I + L)^-1;   U = T (b v - (p exp(G')) S);   y = (q exp(G)) S + A U
    S <- exp(G_C) S + (k exp(G_C - G))^T U

Every exponent is a sum of log decays over a span of rows, never a difference of sums, so that it
stays exact whatever the decays. With a decay per channel, pairs of rows are split in halves: of
2m rows, the pairs of a later with an earlier half meet at the middle, and both their exponents
lead away from it.

Rows lie at `start + row` of [rows, H, width] tensors; `chunks` [chunks, 3] holds every chunk's
first row, length and the kept state at its end (or -1); `pieces` [pieces, 2] the first chunk and
the chunk after the last of what a scan runs through. Absent tensors are None.
"""

import triton
import triton.language as tl

from fwbio.kernels.triton_chunked_parts import (
    bounded,
    erase_rows,
    gaps,
    inverse_of,
    product,
    read_pairs,
    read_rows,
    read_scalars,
    read_state,
    spans,
    write_pairs,
    write_rows,
    write_state,
)
from fwbio.kernels.triton_common import exponential


@triton.jit
def prepare(
    query,
    key,
    value,
    strength,
    erase,
    log_decay,
    chunks,
    scores,
    reads,
    writes,
    erasers,
    updates,
    totals,
    grad_y,
    inverses,
    grad_updates,
    heads,
    K: tl.constexpr,
    V: tl.constexpr,
    KEYS: tl.constexpr,
    VALUES: tl.constexpr,
    C: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    LEVELS: tl.constexpr,
    DECAY: tl.constexpr,
    ERASES: tl.constexpr,
    UNDECAYED: tl.constexpr,
    PRECISION: tl.constexpr,
    FINE: tl.constexpr,
    WIDE: tl.constexpr,
):
    """All of a chunk and head that needs no state.

    scores A [chunks, H, C, C]; reads q exp(G), writes k exp(G_C - G), erasers T (p exp(G'))
    [rows, H, K]; updates T b v [rows, H, V]; totals exp(G_C) [chunks, H, K] or [chunks, H]. For the
    backward pass, given grad_y: inverses T, and grad_updates A^T grad_y in place of the scores.
    """
    chunk, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    start, length = tl.load(chunks + 3 * chunk), tl.load(chunks + 3 * chunk + 1)
    row = tl.arange(0, C)
    i, j = row[:, None], row[None, :]
    A = tl.zeros([C, C], WIDE)
    L = tl.zeros([C, C], WIDE)
    for first in range(0, KEYS, BK):
        q = read_rows(query, start, length, head, heads, first, C, BK, K, WIDE)
        k = read_rows(key, start, length, head, heads, first, C, BK, K, WIDE)
        p = q
        if ERASES:
            p = erase_rows(key, strength, erase, start, length, head, heads, first, C, BK, K, WIDE)
        if DECAY == "channel":
            g = bounded(read_rows(log_decay, start, length, head, heads, first, C, BK, K, WIDE))
            A += tl.where(i == j, tl.sum(q * k, 1)[:, None], 0.0)
            for level in range(LEVELS):
                pairs = (i >> (level + 1)) == (j >> (level + 1))
                later = ((i >> level) & 1) == 1
                away = exponential(product(spans(i, j, level, False).to(WIDE), g, FINE))
                earlier = tl.trans(tl.where(later, 0.0, k * away))
                A += tl.where(
                    pairs, product(tl.where(later, q * away, 0.0), earlier, PRECISION), 0.0
                )
                if ERASES:
                    if UNDECAYED:
                        away = exponential(product(spans(i, j, level, True).to(WIDE), g, FINE))
                    L += tl.where(
                        pairs, product(tl.where(later, p * away, 0.0), earlier, PRECISION), 0.0
                    )
        else:
            A += product(q, tl.trans(k), PRECISION)
            if ERASES:
                L += product(p, tl.trans(k), PRECISION)
    A = tl.where(i >= j, A, 0.0)
    L = tl.where(i > j, L, 0.0)
    if DECAY == "scalar":
        gap = gaps(log_decay, start, length, head, heads, 0, C, WIDE)
        A *= gap
        if UNDECAYED:
            gap = gaps(log_decay, start, length, head, heads, -1, C, WIDE)
        L *= gap
        g = bounded(read_scalars(log_decay, start, length, head, heads, 0, C, WIDE))
        total = exponential(tl.sum(g, 0))
        tl.store(totals + chunk * heads + head, total)
    if scores is not None:
        write_pairs(scores, A, chunk, head, heads, C)
    T = L
    if ERASES:
        T = inverse_of(L, C, FINE)
        if inverses is not None:
            write_pairs(inverses, T, chunk, head, heads, C)
    if ERASES or DECAY != "none":
        for first in range(0, KEYS, BK):
            p = L
            if ERASES:
                p = erase_rows(
                    key, strength, erase, start, length, head, heads, first, C, BK, K, WIDE
                )
            if DECAY != "none":
                q = read_rows(query, start, length, head, heads, first, C, BK, K, WIDE)
                k = read_rows(key, start, length, head, heads, first, C, BK, K, WIDE)
                if DECAY == "channel":
                    g = bounded(
                        read_rows(log_decay, start, length, head, heads, first, C, BK, K, WIDE)
                    )
                    since = exponential(product((i >= j).to(WIDE), g, FINE))
                    until = exponential(product((i < j).to(WIDE), g, FINE))
                    column = first + tl.arange(0, BK)
                    tl.store(
                        totals + (chunk * heads + head) * K + column,
                        exponential(tl.sum(g, 0)),
                        mask=column < K,
                    )
                    before = since
                    if UNDECAYED:
                        before = exponential(product((i > j).to(WIDE), g, FINE))
                else:
                    since = exponential(tl.sum(tl.where(i >= j, g[None, :], 0.0), 1))[:, None]
                    until = exponential(tl.sum(tl.where(i < j, g[None, :], 0.0), 1))[:, None]
                    before = since
                    if UNDECAYED:
                        before = exponential(tl.sum(tl.where(i > j, g[None, :], 0.0), 1))[:, None]
                write_rows(reads, q * since, start, length, head, heads, first, C, BK, K)
                write_rows(writes, k * until, start, length, head, heads, first, C, BK, K)
                if ERASES:
                    p *= before
            if ERASES:
                write_rows(
                    erasers, product(T, p, PRECISION), start, length, head, heads, first, C, BK, K
                )
    if ERASES or strength is not None or grad_y is not None:
        for first in range(0, VALUES, BV):
            if ERASES or strength is not None:
                u = read_rows(value, start, length, head, heads, first, C, BV, V, WIDE)
                if strength is not None:
                    u *= read_scalars(strength, start, length, head, heads, 0, C, WIDE)[:, None]
                if ERASES:
                    u = product(T, u, PRECISION)
                write_rows(updates, u, start, length, head, heads, first, C, BV, V)
            if grad_y is not None:
                dy = read_rows(grad_y, start, length, head, heads, first, C, BV, V, WIDE)
                write_rows(
                    grad_updates,
                    product(tl.trans(A), dy, PRECISION),
                    start,
                    length,
                    head,
                    heads,
                    first,
                    C,
                    BV,
                    V,
                )


@triton.jit
def scan(
    writes,
    erasers,
    updates,
    totals,
    chunks,
    pieces,
    initial,
    corrected,
    states,
    kept,
    final,
    heads,
    K: tl.constexpr,
    V: tl.constexpr,
    KEYS: tl.constexpr,
    C: tl.constexpr,
    BV: tl.constexpr,
    IDENTITY: tl.constexpr,
    DECAY: tl.constexpr,
    ERASES: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDE: tl.constexpr,
):
    """The states of a piece from chunk to chunk, a block of value columns a program.

        U = updates - erasers S;   S <- totals S + writes^T U

    It keeps U in `corrected`, S before every chunk in `states`, S at the ends asked for in `kept`.
    With IDENTITY = K (else 0), `final` is the piece's affine map instead, [pieces, H, K, K + V]:
    K columns more, which begin as the identity and are never written, the others begin at zero.
    """
    piece, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    first = tl.program_id(2) * BV - IDENTITY
    row, column = tl.arange(0, KEYS), tl.arange(0, BV)
    if IDENTITY > 0:
        S = (row[:, None] == (first + IDENTITY + column)[None, :]).to(WIDE)
        S = tl.where((row < K)[:, None], S, 0.0)
    else:
        S = read_state(initial, piece, head, heads, 0, first, KEYS, BV, K, V).to(WIDE)
    begin, end = tl.load(pieces + 2 * piece), tl.load(pieces + 2 * piece + 1)
    for chunk in range(begin, end):
        start, length = tl.load(chunks + 3 * chunk), tl.load(chunks + 3 * chunk + 1)
        if states is not None:
            write_state(states, S, chunk, head, heads, 0, first, KEYS, BV, K, V)
        u = read_rows(updates, start, length, head, heads, first, C, BV, V, WIDE)
        if ERASES:
            w = read_rows(erasers, start, length, head, heads, 0, C, KEYS, K, WIDE)
            u -= product(w, S, PRECISION)
            if corrected is not None:
                write_rows(corrected, u, start, length, head, heads, first, C, BV, V)
        k = read_rows(writes, start, length, head, heads, 0, C, KEYS, K, WIDE)
        if DECAY == "scalar":
            S *= tl.load(totals + chunk * heads + head)
        elif DECAY == "channel":
            total = tl.load(totals + (chunk * heads + head) * K + row, mask=row < K, other=0.0)
            S *= total[:, None]
        S += product(tl.trans(k), u, PRECISION)
        if kept is not None:
            index = tl.load(chunks + 3 * chunk + 2)
            write_state(kept, S, index, head, heads, 0, first, KEYS, BV, K, V)
    write_state(final, S, piece, head, heads, 0, first + IDENTITY, KEYS, BV, K, V + IDENTITY)


@triton.jit
def read_out(
    scores,
    reads,
    updates,
    states,
    chunks,
    y,
    heads,
    K: tl.constexpr,
    V: tl.constexpr,
    KEYS: tl.constexpr,
    C: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Y = reads S + scores U, of a chunk, a head and a block of value columns."""
    chunk, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    column = tl.program_id(2) * BV
    start, length = tl.load(chunks + 3 * chunk), tl.load(chunks + 3 * chunk + 1)
    i, j = tl.arange(0, C)[:, None], tl.arange(0, C)[None, :]
    A = read_pairs(scores, chunk, head, heads, i >= j, C, WIDE)
    u = read_rows(updates, start, length, head, heads, column, C, BV, V, WIDE)
    out = product(A, u, PRECISION)
    for first in range(0, KEYS, BK):
        q = read_rows(reads, start, length, head, heads, first, C, BK, K, WIDE)
        S = read_state(states, chunk, head, heads, first, column, BK, BV, K, V)
        out += product(q, S, PRECISION)
    write_rows(y, out, start, length, head, heads, column, C, BV, V)


@triton.jit
def scan_back(
    reads,
    writes,
    erasers,
    totals,
    chunks,
    pieces,
    grad_y,
    grad_final,
    grad_kept,
    grad_updates,
    grad_corrected,
    grad_states,
    grad_initial,
    heads,
    K: tl.constexpr,
    V: tl.constexpr,
    KEYS: tl.constexpr,
    C: tl.constexpr,
    BV: tl.constexpr,
    IDENTITY: tl.constexpr,
    DECAY: tl.constexpr,
    ERASES: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDE: tl.constexpr,
):
    """The gradients of the states of a piece, from its last chunk to its first.

        dU = A^T dy + writes dS;   dS <- totals dS + reads^T dy - erasers^T dU

    It keeps dS after every chunk in `grad_states` and dU in `grad_corrected`. With IDENTITY = K,
    `grad_initial` is the piece's affine map, as in `scan`.
    """
    piece, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    first = tl.program_id(2) * BV - IDENTITY
    row, column = tl.arange(0, KEYS), tl.arange(0, BV)
    if IDENTITY > 0:
        dS = (row[:, None] == (first + IDENTITY + column)[None, :]).to(WIDE)
        dS = tl.where((row < K)[:, None], dS, 0.0)
    else:
        dS = read_state(grad_final, piece, head, heads, 0, first, KEYS, BV, K, V).to(WIDE)
    begin, end = tl.load(pieces + 2 * piece), tl.load(pieces + 2 * piece + 1)
    for step in range(begin, end):
        chunk = begin + (end - 1 - step)
        start, length = tl.load(chunks + 3 * chunk), tl.load(chunks + 3 * chunk + 1)
        if grad_kept is not None:
            index = tl.load(chunks + 3 * chunk + 2)
            dS += read_state(grad_kept, index, head, heads, 0, first, KEYS, BV, K, V)
        if grad_states is not None:
            write_state(grad_states, dS, chunk, head, heads, 0, first, KEYS, BV, K, V)
        dy = read_rows(grad_y, start, length, head, heads, first, C, BV, V, WIDE)
        du = read_rows(grad_updates, start, length, head, heads, first, C, BV, V, WIDE)
        k = read_rows(writes, start, length, head, heads, 0, C, KEYS, K, WIDE)
        du += product(k, dS, PRECISION)
        if grad_corrected is not None:
            write_rows(grad_corrected, du, start, length, head, heads, first, C, BV, V)
        if DECAY == "scalar":
            dS *= tl.load(totals + chunk * heads + head)
        elif DECAY == "channel":
            total = tl.load(totals + (chunk * heads + head) * K + row, mask=row < K, other=0.0)
            dS *= total[:, None]
        q = read_rows(reads, start, length, head, heads, 0, C, KEYS, K, WIDE)
        dS += product(tl.trans(q), dy, PRECISION)
        if ERASES:
            w = read_rows(erasers, start, length, head, heads, 0, C, KEYS, K, WIDE)
            dS -= product(tl.trans(w), du, PRECISION)
    write_state(
        grad_initial, dS, piece, head, heads, 0, first + IDENTITY, KEYS, BV, K, V + IDENTITY
    )


@triton.jit
def value_gradients(
    value,
    strength,
    log_decay,
    erasers,
    updates,
    inverses,
    states,
    grad_corrected,
    grad_y,
    chunks,
    corrected,
    residuals,
    grad_scores,
    grad_system,
    grad_value,
    grad_strength,
    heads,
    K: tl.constexpr,
    V: tl.constexpr,
    KEYS: tl.constexpr,
    VALUES: tl.constexpr,
    C: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    PARTS: tl.constexpr,
    DECAY: tl.constexpr,
    ERASES: tl.constexpr,
    UNDECAYED: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Of a chunk and head, the gradients of values, strengths, scores A and system L.

        U = updates - erasers S;   dR = T^T dU;   dv = b dR;   db = dR . v
        dA = dy U^T, i >= j;   dL = -dR U^T, i > j

    With a decay per head, both already by the exponentials in A and L, as gradients of q k^T and
    p k^T. It keeps U in `corrected` and dR in `residuals` (without erasing both are there already).
    """
    chunk, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    start, length = tl.load(chunks + 3 * chunk), tl.load(chunks + 3 * chunk + 1)
    row = tl.arange(0, C)
    i, j = row[:, None], row[None, :]
    dA = tl.zeros([C, C], WIDE)
    dL = tl.zeros([C, C], WIDE)
    db = tl.zeros([C], WIDE)
    for column in range(0, VALUES, BV):
        u = read_rows(updates, start, length, head, heads, column, C, BV, V, WIDE)
        dr = read_rows(grad_corrected, start, length, head, heads, column, C, BV, V, WIDE)
        if ERASES:
            for first in range(0, KEYS, BK):
                w = read_rows(erasers, start, length, head, heads, first, C, BK, K, WIDE)
                S = read_state(states, chunk, head, heads, first, column, BK, BV, K, V)
                u -= product(w, S, PRECISION)
            write_rows(corrected, u, start, length, head, heads, column, C, BV, V)
            T = read_pairs(inverses, chunk, head, heads, i >= j, C, WIDE)
            dr = product(tl.trans(T), dr, PRECISION)
            write_rows(residuals, dr, start, length, head, heads, column, C, BV, V)
            dL -= product(dr, tl.trans(u), PRECISION)
        dy = read_rows(grad_y, start, length, head, heads, column, C, BV, V, WIDE)
        dA += product(dy, tl.trans(u), PRECISION)
        dv = dr
        if strength is not None:
            v = read_rows(value, start, length, head, heads, column, C, BV, V, WIDE)
            db += tl.sum(dr * v, 1)
            dv *= read_scalars(strength, start, length, head, heads, 0, C, WIDE)[:, None]
        write_rows(grad_value, dv, start, length, head, heads, column, C, BV, V)
    if DECAY == "scalar":
        gap = gaps(log_decay, start, length, head, heads, 0, C, WIDE)
        dA *= gap
        if UNDECAYED:
            gap = gaps(log_decay, start, length, head, heads, -1, C, WIDE)
        dL *= gap
    write_pairs(grad_scores, tl.where(i >= j, dA, 0.0), chunk, head, heads, C)
    if ERASES:
        write_pairs(grad_system, tl.where(i > j, dL, 0.0), chunk, head, heads, C)
    if strength is not None:
        part = (start * heads + head + row * heads) * PARTS + PARTS - 1
        tl.store(grad_strength + part, db, mask=row < length)


@triton.jit
def key_gradients(
    query,
    key,
    strength,
    erase,
    log_decay,
    states,
    grad_states,
    corrected,
    residuals,
    grad_y,
    grad_scores,
    grad_system,
    chunks,
    grad_query,
    grad_key,
    grad_erase,
    grad_log_decay,
    grad_strength,
    heads,
    K: tl.constexpr,
    V: tl.constexpr,
    KEYS: tl.constexpr,
    VALUES: tl.constexpr,
    C: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    LEVELS: tl.constexpr,
    DECAY: tl.constexpr,
    ERASES: tl.constexpr,
    UNDECAYED: tl.constexpr,
    PRECISION: tl.constexpr,
    FINE: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Of a chunk, a head and a block of key columns, the gradients of what has key columns.

    Through the state: d(q exp(G)) = dy S^T, d(p exp(G')) = -dR S^T, d(k exp(G_C - G)) = U dS^T and
    sum_v S exp(G_C) dS. Through the pairs: by dA and dL. A log decay gathers, without ever taking
    a difference, what passes over its row: pairs of a row from it on with a row before it, reads
    from it on, writes before it, and the state itself. What a head has one of is one part of
    grad_log_decay [rows, H, blocks] or grad_strength [rows, H, blocks + 1].
    """
    chunk, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    block, first = tl.program_id(2), tl.program_id(2) * BK
    BLOCKS: tl.constexpr = KEYS // BK
    start, length = tl.load(chunks + 3 * chunk), tl.load(chunks + 3 * chunk + 1)
    row = tl.arange(0, C)
    i, j = row[:, None], row[None, :]
    scalars = start * heads + head + row * heads
    dq = tl.zeros([C, BK], WIDE)
    dk = tl.zeros([C, BK], WIDE)
    dp = tl.zeros([C, BK], WIDE)
    stay = tl.zeros([BK], WIDE)
    for column in range(0, VALUES, BV):
        S = read_state(states, chunk, head, heads, first, column, BK, BV, K, V)
        dS = read_state(grad_states, chunk, head, heads, first, column, BK, BV, K, V)
        dy = read_rows(grad_y, start, length, head, heads, column, C, BV, V, WIDE)
        u = read_rows(corrected, start, length, head, heads, column, C, BV, V, WIDE)
        dq += product(dy, tl.trans(S), PRECISION)
        dk += product(u, tl.trans(dS), PRECISION)
        if ERASES:
            dr = read_rows(residuals, start, length, head, heads, column, C, BV, V, WIDE)
            dp -= product(dr, tl.trans(S), PRECISION)
        if DECAY != "none":
            stay += tl.sum(S * dS, 1)
    q = read_rows(query, start, length, head, heads, first, C, BK, K, WIDE)
    k = read_rows(key, start, length, head, heads, first, C, BK, K, WIDE)
    p = q
    if ERASES:
        p = erase_rows(key, strength, erase, start, length, head, heads, first, C, BK, K, WIDE)
    if DECAY == "channel":
        g = bounded(read_rows(log_decay, start, length, head, heads, first, C, BK, K, WIDE))
        dg = tl.zeros([C, BK], WIDE) + (exponential(tl.sum(g, 0)) * stay)[None, :]
        since = exponential(product((i >= j).to(WIDE), g, FINE))
        dq *= since
        dk *= exponential(product((i < j).to(WIDE), g, FINE))
        moving = dq * q
        if ERASES:
            if UNDECAYED:
                dp *= exponential(product((i > j).to(WIDE), g, FINE))
                dg += product((i < j).to(WIDE), dp * p, FINE)
            else:
                dp *= since
                moving += dp * p
        dg += product((i <= j).to(WIDE), moving, FINE)
        dg += product((i > j).to(WIDE), dk * k, FINE)
        own = tl.load(grad_scores + (chunk * heads + head) * C * C + row * (C + 1))
        own = own.to(WIDE)[:, None]
        dq += own * k
        dk += own * q
        for level in range(LEVELS):
            pairs = (i >> (level + 1)) == (j >> (level + 1))
            pairs &= ((i >> level) & 1 == 1) & ((j >> level) & 1 == 0)
            later = ((i >> level) & 1) == 1
            away = exponential(product(spans(i, j, level, False).to(WIDE), g, FINE))
            ka = k * away
            passed = read_pairs(grad_scores, chunk, head, heads, pairs, C, WIDE)
            dqa = product(passed, ka, PRECISION)
            dka = product(tl.trans(passed), q * away, PRECISION)
            dq += dqa * away
            moving = dqa * q * away
            if ERASES:
                away_read = away
                if UNDECAYED:
                    away_read = exponential(product(spans(i, j, level, True).to(WIDE), g, FINE))
                passed = read_pairs(grad_system, chunk, head, heads, pairs, C, WIDE)
                dpa = product(passed, ka, PRECISION)
                dka += product(tl.trans(passed), p * away_read, PRECISION)
                dp += dpa * away_read
                if UNDECAYED:
                    dg += product(spans(j, i, level, True).to(WIDE), dpa * p * away_read, FINE)
                else:
                    moving += dpa * p * away
            dk += dka * away
            moving = tl.where(later, moving, dka * ka)
            dg += product(spans(j, i, level, False).to(WIDE), moving, FINE)
        write_rows(grad_log_decay, dg, start, length, head, heads, first, C, BK, K)
    else:
        dA = read_pairs(grad_scores, chunk, head, heads, i >= j, C, WIDE)
        if DECAY == "scalar":
            g = bounded(read_scalars(log_decay, start, length, head, heads, 0, C, WIDE))
            since = exponential(tl.sum(tl.where(i >= j, g[None, :], 0.0), 1))
            until = exponential(tl.sum(tl.where(i < j, g[None, :], 0.0), 1))
            dq *= since[:, None]
            dk *= until[:, None]
            moving = tl.sum(dq * q, 1)
            staying = tl.sum(tl.where(i > j, tl.sum(dk * k, 1)[None, :], 0.0), 1)
            staying += exponential(tl.sum(g, 0)) * tl.sum(stay, 0)
            crossing = tl.where(i > j, dA * product(q, tl.trans(k), PRECISION), 0.0)
        dq += product(dA, k, PRECISION)
        dk += product(tl.trans(dA), q, PRECISION)
        if ERASES:
            dL = read_pairs(grad_system, chunk, head, heads, i > j, C, WIDE)
            if DECAY == "scalar":
                across = dL * product(p, tl.trans(k), PRECISION)
                if UNDECAYED:
                    before = exponential(tl.sum(tl.where(i > j, g[None, :], 0.0), 1))
                    dp *= before[:, None]
                    staying += tl.sum(tl.where(i < j, tl.sum(dp * p, 1)[None, :], 0.0), 1)
                    across = product((i < j).to(WIDE), across, FINE)
                    staying += tl.sum(tl.where(i > j, across, 0.0), 1)
                else:
                    dp *= since[:, None]
                    moving += tl.sum(dp * p, 1)
                    crossing += across
            dp += product(dL, k, PRECISION)
            dk += product(tl.trans(dL), p, PRECISION)
        if DECAY == "scalar":
            dg = staying + tl.sum(tl.where(i <= j, moving[None, :], 0.0), 1)
            across = product((i <= j).to(WIDE), crossing, FINE)
            dg += tl.sum(tl.where(i > j, across, 0.0), 1)
            tl.store(grad_log_decay + scalars * BLOCKS + block, dg, mask=row < length)
    if erase is not None:
        write_rows(grad_erase, dp, start, length, head, heads, first, C, BK, K)
    elif ERASES:
        if strength is not None:
            db = tl.sum(dp * k, 1)
            tl.store(grad_strength + scalars * (BLOCKS + 1) + block, db, mask=row < length)
            dp *= read_scalars(strength, start, length, head, heads, 0, C, WIDE)[:, None]
        dk += dp
    write_rows(grad_query, dq, start, length, head, heads, first, C, BK, K)
    write_rows(grad_key, dk, start, length, head, heads, first, C, BK, K)
