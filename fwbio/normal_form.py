"""How the terms of the normal form come from a rule's streams: written once, for any array library.

    W~ = diag(exp(log_decay)) W;   W <- W~ + k u^T - k (p^T W~);   y = W^T q / n

A rule that erases along a direction of its own does it in a micro-write of its own, and one with
traces of spikes in both orders writes one micro-write of each. One that writes
with exponential strength keeps its state divided by exp(m), m a running maximum of the exponents.

Arrays are NumPy's or torch's (`xp` is the module), so that the reference and the differentiable
kernels share one account of every rule.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

from fwbio import traces
from fwbio.errors import FwbioError
from fwbio.rule import Normaliser, Rule, Terms

Array = Any


@dataclass(frozen=True, kw_only=True)
class NormalForm:
    """The coefficients of every micro-step: the operands of the general step.

    With n writes a step the time axis of everything but the query is n times as long, and the
    state is read after every n-th write.

    Args:
        key: what is written along and erased along, (.., time, row).
        value: what is written, before its strength, (.., time, column): the rule's own value, then
            1 with a normaliser, or the key with a ridge.
        strength: factor on the value, and on the erase key where it is tied, (.., time, 1), or
            None.
        reading: p, how the prediction is read, where it has a key of its own, (.., time, row), or
            None.
        tied: whether p is strength * key.
        undecayed: whether the prediction is read from the state before it decays.
        log_decay: (.., time, 1 or row), or None.
        query: (.., step, pre).
        transposed: rows are post and columns pre: the state is read by `state @ query`.
        normaliser: how the last column of the read-out divides the others, as in `Terms`.
        stabiliser: m after each step, (.., step, 1): the true state is exp(m) times this one; None
            where they are the same.
        ridge: (.., step, pre): queries are to be solved for in (H + diag(ridge)) x = q, H the last
            columns of the state; None where they are read by as they are.
        writes_per_step: n.
    """

    key: Array
    value: Array
    strength: Array | None
    reading: Array | None
    tied: bool
    undecayed: bool
    log_decay: Array | None
    query: Array
    transposed: bool
    normaliser: Normaliser
    stabiliser: Array
    ridge: Array
    writes_per_step: int

    @property
    def write(self) -> Array:
        """u, what is added, (.., time, column)."""
        return self.value if self.strength is None else self.strength * self.value

    @property
    def erase(self) -> Array | None:
        """p, how the prediction is read, (.., time, row), or None."""
        if not self.tied:
            return self.reading
        return self.key if self.strength is None else self.strength * self.key


def normal_form(
    rule: Rule,
    streams: dict[str, Array],
    *,
    xp: ModuleType,
    time_axis: int,
    writes_per_step: int = 1,
    stabiliser: tuple[Array, Array] | None = None,
) -> NormalForm:
    """The coefficients of the general step that make it this rule.

    Args:
        rule: any rule of the table.
        streams: `key` and `value` (.., time, channel), `query` (.., step, pre) and the rule's own
            streams, all with the same number of axes: a scalar a step has a last axis of size 1.
            `interval` is one of them where a rule has it, or `since` in its place: infinite where
            the rule's traces start anew.
        xp: numpy or torch.
        time_axis: the (non-negative) axis of time in all of them.
        writes_per_step: the length of the time axis of key, value and beta in steps.
        stabiliser: m before and after each step, as `stabilisers` gives it; of a memory that
            starts unscaled unless given.
    """
    terms = rule.terms
    since = streams.get("since", streams.get("interval"))
    if not terms.linear:
        raise FwbioError(
            f"{rule.name!r} is not linear in its weights",
            where="normal_form",
            mend="make its steps by fwbio.local.stepper",
        )
    key, query = _features(terms, streams, since, xp, time_axis)
    value, strength = streams["value"], streams.get("beta")
    log_decay, after = streams.get("log_decay"), None
    if terms.transposed:
        key, value = value, key
    if terms.solve != "explicit":
        strength = _step_size(terms, strength, key, xp)
    if terms.write == "exponential":
        log_beta = streams["log_beta"]
        before, after = stabiliser or stabilisers(log_decay, log_beta, xp=xp, time_axis=time_axis)
        strength = xp.exp(log_beta - after)
        log_decay = log_decay + before - after
    if terms.write == "channel" and strength is not None:
        value, strength = strength * value, None
    if terms.plasticity in traces.WRITES:
        key, value, strength, writes_per_step = _traced(
            terms, key, value, strength, since, xp, time_axis
        )
    value = _with_companion(terms, key, value, xp)
    reading = {
        "none": lambda: None,
        "key": lambda: None,
        "gate": lambda: streams["erase"] * key,
        "erase_key": lambda: xp.broadcast_to(strength * streams["erase_key"], key.shape),
        "direction": lambda: xp.broadcast_to(streams["erase_key"], key.shape),
    }[terms.erase]()
    if log_decay is not None:
        log_decay = _on_first_write(log_decay, writes_per_step, time_axis, xp)
    if terms.erase == "direction":
        interleave = partial(_interleaved, axis=time_axis, xp=xp)
        writes_per_step *= 2
        log_decay = None if log_decay is None else interleave(log_decay, xp.zeros_like(log_decay))
        strength = None if strength is None else interleave(xp.zeros_like(strength), strength)
        value = interleave(xp.zeros_like(value), value)
        key = interleave(xp.broadcast_to(streams["erase_direction"], key.shape), key)
        reading = interleave(reading, xp.zeros_like(reading))
    return NormalForm(
        key=key,
        value=value,
        strength=strength,
        reading=reading,
        tied=terms.erase == "key",
        undecayed=terms.reads == "undecayed",
        log_decay=log_decay,
        query=query,
        transposed=terms.transposed,
        normaliser=terms.normaliser,
        stabiliser=after,
        ridge=streams.get("ridge"),
        writes_per_step=writes_per_step,
    )


def advance(form: NormalForm, *, xp: ModuleType) -> Callable[[int, Array], Array]:
    """The function (t, W) -> W that makes micro-write t of the general step.

        W~ = diag(exp(log_decay)) W;   W <- W~ + k u^T - k (p^T W~)

    Args:
        form: the coefficients; `form.writes_per_step` micro-writes make a step.
        xp: numpy or torch.

    Returns:
        The function, of weights (.., row, column).
    """
    decay = None if form.log_decay is None else xp.exp(form.log_decay)
    key, added, erase = form.key, form.write, form.erase

    def step(t: int, W: Array) -> Array:
        decayed = W if decay is None else decay[..., t, :, None] * W
        write = added[..., t, :]
        if erase is not None:
            read = W if form.undecayed else decayed
            write = write - xp.einsum("...k,...kv->...v", erase[..., t, :], read)
        return decayed + key[..., t, :, None] * write[..., None, :]

    return step


def stabilisers(
    log_decay: Array,
    log_beta: Array,
    *,
    xp: ModuleType,
    time_axis: int,
    start: Array | float = 0.0,
) -> tuple[Array, Array]:
    """The logarithm m of the scale of a state that is written with exponential strength.

        m_t = max(log_decay_t + m_{t-1}, log_beta_t, 0)
            = F_t + max(m_0, max_{s <= t} (max(log_beta_s, 0) - F_s)),   F = cumsum(log_decay)

    No weight divided by exp(m) overflows; those of a memory that stays small are not rescaled at
    all. What is read does not depend on m.

    Args:
        log_decay: (.., time, 1), in float64, since F may be large.
        log_beta: likewise.
        xp: numpy or torch.
        time_axis: the (non-negative) axis of time.
        start: m_0, 0 for an empty memory, (.., 1, 1).

    Returns:
        m before and after each step, (.., time, 1) each.

    Source: Beck 2024, arXiv:2405.04517, there without the 0.
    """
    total = xp.cumsum(log_decay, time_axis)
    peak = _RUNNING_MAXIMUM[xp.__name__](xp.clip(log_beta, 0, None) - total, xp, time_axis)
    start = start + xp.zeros_like(log_decay[(*[slice(None)] * time_axis, slice(1))])
    after = total + xp.maximum(start, peak)
    before = xp.concatenate([start, after], time_axis)
    return before[(*[slice(None)] * time_axis, slice(-1))], after


_RUNNING_MAXIMUM = {
    "numpy": lambda x, xp, axis: xp.maximum.accumulate(x, axis),
    "torch": lambda x, xp, axis: xp.cummax(x, axis).values,
}


def normalised(readout: Array, form: NormalForm, xp: ModuleType) -> Array:
    """The read-outs W^T q of every step, divided by the last of them as the rule's normaliser says.

    Args:
        readout: (.., step, column).
        form: of the run; without a stabiliser, of a state that is not scaled.
        xp: numpy or torch.
    """
    if form.normaliser == "none":
        return readout
    y, n = readout[..., :-1], readout[..., -1:]
    if form.normaliser == "sum":
        return y / xp.where(n == 0, xp.ones_like(n), n)
    if form.stabiliser is None:
        return y / xp.clip(abs(n), 1, None)
    # exp(-m) is 1 in units of the stabilised state; where it vanishes, 0 / 0 is still to be 0
    one = xp.clip(xp.exp(-form.stabiliser), xp.finfo(readout.dtype).tiny, None)
    return y / xp.maximum(abs(n), one)


def _features(
    terms: Terms, streams: dict[str, Array], since: Array, xp: ModuleType, axis: int
) -> tuple[Array, Array]:
    """Keys and queries as the memory sees them."""
    key, query = streams["key"], streams["query"]
    if terms.plasticity == "release":
        return traces.released(key, query, since, xp=xp, axis=axis)
    if terms.feature == "scaled":
        return key / key.shape[-1] ** 0.5, query
    if terms.feature == "elu_plus_one":
        return _elu_plus_one(key, xp), _elu_plus_one(query, xp)
    return key, query


def _with_companion(terms: Terms, key: Array, value: Array, xp: ModuleType) -> Array:
    """The value, and the columns of what the memory sums beside its weights."""
    if terms.companion is None:
        return value
    beside = key if terms.companion == "gram" else xp.ones_like(value[..., :1])
    return xp.concatenate([value, beside], -1)


def _traced(
    terms: Terms,
    key: Array,
    value: Array,
    strength: Array | None,
    interval: Array,
    xp: ModuleType,
    axis: int,
) -> tuple[Array, Array, Array | None, int]:
    """Key, value and strength of the micro-writes of a rule with traces, and how many a step."""
    pair = partial(_interleaved, axis=axis, xp=xp)
    written = traces.written(terms.plasticity, key, value, interval, xp=xp, axis=axis)
    key, value = (pair(*x) for x in zip(*written, strict=True))
    count = len(written)
    return key, value, None if strength is None else pair(*[strength] * count), count


def _elu_plus_one(x: Array, xp: ModuleType) -> Array:
    # The untaken branch of `where` is kept finite, for the sake of its gradient.
    return xp.where(x > 0, x + 1, xp.exp(xp.where(x > 0, xp.zeros_like(x), x)))


def _step_size(terms: Terms, beta: Array, key: Array, xp: ModuleType) -> Array:
    x = (beta * key * key).sum(-1)[..., None]
    if terms.solve == "implicit":
        return beta / (1 + x)
    small = abs(x) < 1e-8
    safe = xp.where(small, xp.ones_like(x), x)
    return beta * xp.where(small, 1 - x / 2, -xp.expm1(-safe) / safe)


def _on_first_write(log_decay: Array, writes: int, axis: int, xp: ModuleType) -> Array:
    return _interleaved(log_decay, *[xp.zeros_like(log_decay)] * (writes - 1), axis=axis, xp=xp)


def _interleaved(*parts: Array, axis: int, xp: ModuleType) -> Array:
    """The first of each, then the second of each and so on, along an axis."""
    if len(parts) == 1:
        return parts[0]
    shape = list(parts[0].shape)
    shape[axis] *= len(parts)
    return xp.stack(parts, axis + 1).reshape(shape)
