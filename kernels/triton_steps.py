"""What a program of `triton_recurrent` does: steps forward, and back and forth for the gradients.

The equations, and why the gradients are summed as they are, stand in `triton_recurrent`.
"""

import triton
import triton.language as tl

from fwbio.kernels.triton_common import exponential, first_kept, load_number, load_row, span


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
def forward(
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
def backward(
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
