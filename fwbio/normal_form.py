"""How the terms of the normal form come from a rule's streams: written once, for any array library.

    W~ = diag(exp(log_decay)) W;   W <- W~ + k u^T - k (p^T W~);   y = W^T q / n

Arrays are NumPy's or torch's (`xp` is the module), so that the reference and the differentiable
kernels share one account of every rule.
"""

from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import Any

from fwbio.rule import Rule, Terms

Array = Any


@dataclass(frozen=True, kw_only=True)
class NormalForm:
    """The coefficients of every micro-step: the operands of the general step.

    With n writes a step the time axis of everything but the query is n times as long, and the
    state is read after every n-th write.

    Args:
        key: what is written along and erased along, (.., time, row).
        value: what is written, before its strength, (.., time, column); with a normaliser its last
            column is one.
        strength: factor on the value, and on the erase key where it is tied, (.., time, 1), or
            None.
        reading: p, how the prediction is read, where it has a key of its own, (.., time, row), or
            None.
        tied: whether p is strength * key.
        log_decay: (.., time, 1 or row), or None.
        query: (.., step, pre).
        transposed: rows are post and columns pre: the state is read by `state @ query`.
        normaliser: the last column of the read-out divides the others.
        writes_per_step: n.
    """

    key: Array
    value: Array
    strength: Array | None
    reading: Array | None
    tied: bool
    log_decay: Array | None
    query: Array
    transposed: bool
    normaliser: bool
    writes_per_step: int

    @cached_property
    def write(self) -> Array:
        """u, what is added, (.., time, column)."""
        return self.value if self.strength is None else self.strength * self.value

    @cached_property
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
) -> NormalForm:
    """The coefficients of the general step that make it this rule.

    Args:
        rule: any rule of the table.
        streams: `key` and `value` (.., time, channel), `query` (.., step, pre) and the rule's own
            streams, all with the same number of axes: a scalar a step has a last axis of size 1.
        xp: numpy or torch.
        time_axis: the (non-negative) axis of time in all of them.
        writes_per_step: the length of the time axis of key, value and beta in steps.
    """
    terms = rule.terms
    key, query = (_feature(terms, streams[name], xp) for name in ("key", "query"))
    value, strength = streams["value"], streams.get("beta")
    if terms.transposed:
        key, value = value, key
    if terms.solve != "explicit":
        strength = _step_size(terms, strength, key, xp)
    if terms.write == "channel" and strength is not None:
        value, strength = strength * value, None
    if terms.normaliser:
        value = xp.concatenate([value, xp.ones_like(value[..., :1])], -1)
    reading = {
        "none": lambda: None,
        "key": lambda: None,
        "gate": lambda: streams["erase"] * key,
        "erase_key": lambda: strength * streams["erase_key"],
    }[terms.erase]()
    log_decay = streams.get("log_decay")
    if log_decay is not None and writes_per_step > 1:
        log_decay = _on_first_write(log_decay, writes_per_step, time_axis, xp)
    return NormalForm(
        key=key,
        value=value,
        strength=strength,
        reading=reading,
        tied=terms.erase == "key",
        log_decay=log_decay,
        query=query,
        transposed=terms.transposed,
        normaliser=terms.normaliser,
        writes_per_step=writes_per_step,
    )


def normalised(readout: Array, xp: ModuleType) -> Array:
    """The read-out divided by its last column, or undivided while no key has been summed."""
    n = readout[..., -1:]
    return readout[..., :-1] / xp.where(n == 0, xp.ones_like(n), n)


def _feature(terms: Terms, x: Array, xp: ModuleType) -> Array:
    if terms.feature == "identity":
        return x
    # elu(x) + 1: the untaken branch of `where` is kept finite, for the sake of its gradient.
    return xp.where(x > 0, x + 1, xp.exp(xp.where(x > 0, xp.zeros_like(x), x)))


def _step_size(terms: Terms, beta: Array, key: Array, xp: ModuleType) -> Array:
    x = (beta * key * key).sum(-1)[..., None]
    if terms.solve == "implicit":
        return beta / (1 + x)
    small = abs(x) < 1e-8
    safe = xp.where(small, xp.ones_like(x), x)
    return beta * xp.where(small, 1 - x / 2, -xp.expm1(-safe) / safe)


def _on_first_write(log_decay: Array, writes: int, axis: int, xp: ModuleType) -> Array:
    rest = [xp.zeros_like(log_decay)] * (writes - 1)
    stacked = xp.stack([log_decay, *rest], axis + 1)
    shape = list(log_decay.shape)
    shape[axis] *= writes
    return stacked.reshape(shape)
