"""Plasticity with traces: what a step writes where it depends on the steps before it.

A step is one pairing: every presynaptic cell fires in a volley of strength k, and LEAD seconds
later the teaching input drives every postsynaptic cell by v; the next step's volley follows
`interval` seconds after this one's. All that these rules write is then a sum of outer products of
traces of the keys and traces of the values, so that they are linear in the weights and every
substrate of the normal form runs them.

Where a rule is not linear in v, signed values are pairs of ON and OFF cells: f(v+) - f(v-).

Arrays are NumPy's or torch's (`xp` is the module), a scalar a step has a last axis of size 1, and
constants come from fwbio.data, with their sources. An infinite interval starts anew. A step's
value is over before the next step's volley: intervals are longer than `SHORTEST`.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType, ModuleType
from typing import Any

from fwbio.data import constants

Array = Any
Writes = list[tuple[Array, Array]]

_VOLLEYS = constants("volleys")
LEAD, HOLD, SWING = (_VOLLEYS[name] for name in ("lead", "hold", "swing"))
# seconds that a step takes at least, by plasticity: until its value is over
SHORTEST: Mapping[str, float] = MappingProxyType(
    {"pairs": LEAD, "triplets": LEAD, "voltage": LEAD + HOLD, "calcium": LEAD}
)

# read once and here, for torch compiles no reading of files
_PLASTICITY = constants("plasticity")
_SHORT_TERM = constants("short_term")


def written(
    plasticity: str, key: Array, value: Array, interval: Array, *, xp: ModuleType, axis: int
) -> Writes:
    """The outer products (row, column) that each step writes, in the order of their writing.

    Args:
        plasticity: a term of `fwbio.rule.Terms` that keeps traces and writes.
        key: (.., time, row), rates.
        value: (.., time, column).
        interval: seconds since the step before, (.., time, 1).
        xp: numpy or torch.
        axis: the (non-negative) axis of time.
    """
    return WRITES[plasticity](key, value, Clock(interval, xp, axis))


class Clock:
    """Traces along time: what is left of the steps before at each step.

    Args:
        interval: seconds since the step before, (.., time, 1); infinite where time starts anew, as
            it does at the first step.
        xp: numpy or torch.
        axis: the (non-negative) axis of time.
    """

    def __init__(self, interval: Array, xp: ModuleType, axis: int) -> None:
        first = interval[(*[slice(None)] * axis, slice(1))]
        later = interval[(*[slice(None)] * axis, slice(1, None))]
        self.interval = xp.concatenate([xp.inf + xp.zeros_like(first), later], axis)
        self.xp, self.axis = xp, axis

    def left(self, tau: float, earlier: float = 0.0) -> Array:
        """exp(-(interval - earlier) / tau), (.., time, 1)."""
        return self.xp.exp(-(self.interval - earlier) / tau)

    def faded(self, after: float, tau: float) -> Array:
        """exp(-after / tau), (.., time, 1)."""
        return math.exp(-after / tau) * self.xp.ones_like(self.interval)

    def past(self, x: Array, keep: Array, earlier: Array | None = None) -> Array:
        """r_t = earlier_t s_{t-1}, with s_t = keep_t s_{t-1} + x_t: the trace before the step."""
        earlier = keep if earlier is None else earlier
        total, kept, steps = x, keep, 1
        # sums over ever longer stretches: as many rounds as T has binary digits
        while steps < x.shape[self.axis]:
            total = total + kept * self._delayed(total, steps)
            kept = kept * self._delayed(kept, steps)
            steps *= 2
        return earlier * self._delayed(total, 1)

    def mean(self, x: Array, tau: float) -> Array:
        """m_{t-1} of m_t = a m_{t-1} + (1 - a) x_t, a = exp(-interval / tau)."""
        keep = self.left(tau)
        alive = self.xp.isfinite(self.interval) * 1.0
        return self.past((1 - keep) * x, keep, alive * self.xp.ones_like(keep))

    def _delayed(self, x: Array, steps: int) -> Array:
        """X some steps ago, 0 before the first."""
        index = [slice(None)] * self.axis
        count = min(steps, x.shape[self.axis])
        none = self.xp.zeros_like(x[(*index, slice(count))])
        return self.xp.concatenate(
            [none, x[(*index, slice(x.shape[self.axis] - count))]], self.axis
        )


def _halves(value: Array, xp: ModuleType) -> Iterator[tuple[float, Array]]:
    """The ON and the OFF cells' values, each with the sign that it is read with."""
    yield 1.0, xp.clip(value, 0, None)
    yield -1.0, xp.clip(-value, 0, None)


def signed(f: Callable[[Array], Array], value: Array, xp: ModuleType) -> Array:
    """f(v+) - f(v-): what ON and OFF cells make of a signed value between them."""
    return sum(sign * f(half) for sign, half in _halves(value, xp))


def _bcm(key: Array, value: Array, clock: Clock) -> Writes:
    """Key times y (y - theta), theta the mean of y^2; the teaching input sets y = v."""
    tau = _PLASTICITY["bcm_tau_theta"]
    return [(key, signed(lambda y: y * (y - clock.mean(y**2, tau)), value, clock.xp))]


def _covariance(key: Array, value: Array, clock: Clock) -> Writes:
    """Key less its mean, times value less its mean."""
    tau = _PLASTICITY["covariance_tau_mean"]
    return [(key - clock.mean(key, tau), value - clock.mean(value, tau))]


def _pairs(key: Array, value: Array, clock: Clock) -> Writes:
    """Depression of what fires after a value, then growth of what fired before one; in A+."""
    plus, minus = _PLASTICITY["pair_tau_plus"], _PLASTICITY["pair_tau_minus"]
    value_trace = clock.past(value, clock.left(minus), clock.left(minus, LEAD))
    key_trace = clock.past(key, clock.left(plus)) + key
    lead = clock.faded(LEAD, plus)
    return [(key, -_PLASTICITY["pair_depression"] * value_trace), (key_trace, lead * value)]


def _triplets(key: Array, value: Array, clock: Clock) -> Writes:
    """Pairs whose growth waits for an earlier value, and whose depression for an earlier key."""
    fit = _PLASTICITY
    plus, minus, x, y = (fit[f"triplet_tau_{name}"] for name in ("plus", "minus", "x", "y"))
    value_trace = clock.past(value, clock.left(minus), clock.left(minus, LEAD))
    key_trace = clock.past(key, clock.left(plus)) + key
    slow_key = clock.past(key, clock.left(x))
    lead = clock.faded(LEAD, plus)

    def grown(half: Array) -> Array:
        slow_value = clock.past(half, clock.left(y))
        return half * (fit["triplet_a2_plus"] + fit["triplet_a3_plus"] * slow_value)

    depressed = key * (fit["triplet_a2_minus"] + fit["triplet_a3_minus"] * slow_key)
    return [(depressed, -value_trace), (key_trace, lead * signed(grown, value, clock.xp))]


def _voltage(key: Array, value: Array, clock: Clock) -> Writes:
    """Clopath's rule, solved for a value that holds the voltage at SWING v above rest for HOLD."""
    fit, xp = _PLASTICITY, clock.xp
    minus, plus, x = (fit[f"clopath_tau_{name}"] for name in ("minus", "plus", "x"))
    above = fit["clopath_theta_plus"] - fit["clopath_theta_minus"]
    key_trace = (clock.past(key, clock.left(x)) + key) / x
    both = 1 / (1 / x + 1 / plus)
    held = clock.faded(HOLD, x), clock.faded(HOLD, both)
    alone, together = x * (1 - held[0]), both * (1 - held[1])
    lead = clock.faded(LEAD, x)

    def filtered(half: Array, tau: float, earlier: float) -> Array:
        rise = 1 - clock.faded(HOLD, tau)
        return clock.past(rise * SWING * half, clock.left(tau), clock.left(tau, earlier))

    def depressed(half: Array) -> Array:
        return fit["clopath_a_ltd"] * filtered(half, minus, HOLD + LEAD)

    def grown(half: Array) -> Array:
        volts = SWING * half
        remains = filtered(half, plus, HOLD)
        integral = volts * (alone - together) + remains * together
        return fit["clopath_a_ltp"] * xp.clip(volts - above, 0, None) * integral

    return [
        (key, -signed(depressed, value, xp)),
        (key_trace, lead * signed(grown, value, xp)),
    ]


WRITES: Mapping[str, Callable[[Array, Array, Clock], Writes]] = {
    "bcm": _bcm,
    "covariance": _covariance,
    "pairs": _pairs,
    "triplets": _triplets,
    "voltage": _voltage,
}


def released(
    key: Array, query: Array, interval: Array, *, xp: ModuleType, axis: int
) -> tuple[Array, Array]:
    """Keys and queries as they get through synapses that facilitate and depress, 1 at rest.

        u = f + U (1 - f);  sent = k u x / U;  f <- f + |k| U (1 - f);  x <- x (1 - |k| u)

    f decays to 0 with tau_f and x recovers to 1 with tau_d between steps; a step's query follows
    its key at once. |k| up to 1 is the chance that the cell fires.

    Args:
        key: (.., time, row).
        query: (.., time, row).
        interval: seconds since the step before, (.., time, 1).
        xp: numpy or torch.
        axis: the (non-negative) axis of time.

    Source: Markram, Wang & Tsodyks 1998, 10.1073/pnas.95.9.5323; the constants of Mongillo 2008.
    """
    use, tau_f, tau_d = (_SHORT_TERM[f"mongillo_{name}"] for name in ("use", "tau_f", "tau_d"))
    index = [slice(None)] * axis
    f: Array = 0.0
    x: Array = 1.0
    sent: tuple[list[Array], list[Array]] = ([], [])
    for t in range(key.shape[axis]):
        gone = interval[(*index, t)]
        f = f * xp.exp(-gone / tau_f)
        x = 1 + (x - 1) * xp.exp(-gone / tau_d)
        for volleys, into in zip((key, query), sent, strict=True):
            fired = volleys[(*index, t)]
            u = f + use * (1 - f)
            into.append(fired * u * x / use)
            share = xp.clip(abs(fired), 0, 1)
            f = f + share * use * (1 - f)
            x = x * (1 - share * u)
    if not sent[0]:
        return key, query
    return xp.stack(sent[0], axis), xp.stack(sent[1], axis)
