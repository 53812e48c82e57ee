"""Rules that are not linear in their weights: one step each, for any array library.

Each changes a synapse by what stands at it - its key, its value, its own weight, and what its
cell's other synapses predict - and is read like every other rule, y = W^T q.

Arrays are NumPy's or torch's (`xp` is the module), so that the reference and the recurrent kernel
share one account of each; constants come from fwbio.data, with their sources.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any

from fwbio.data import constants
from fwbio.rule import Rule
from fwbio.traces import LEAD, Clock, signed

_PLASTICITY = constants("plasticity")

Array = Any
Step = Callable[[int, Array], Array]


def stepper(rule: Rule, streams: dict[str, Array], *, xp: ModuleType, axis: int) -> Step:
    """The function (t, W) -> W that makes step t of a rule on weights (.., row, column).

    Args:
        rule: one whose terms are not linear.
        streams: `key`, `value` (.., time, channel) and the rule's own; a scalar a step has a last
            axis of size 1. `since`, where traces start anew within them, is the interval before
            each step, infinite there; `interval` stays how long a step lasts.
        xp: numpy or torch.
        axis: the (non-negative) axis of time.
    """
    prepare = _STEPS[rule.terms.plasticity]
    index = [slice(None)] * axis

    def at(stream: Array, t: int) -> Array:
        return stream[(*index, t)]

    return prepare(streams, at, xp, axis)


At = Callable[[Array, int], Array]


def _predicted(key: Array, W: Array, xp: ModuleType) -> Array:
    return xp.einsum("...k,...kv->...v", key, W)


def _thresholded(streams: dict[str, Array], at: At, xp: ModuleType, axis: int) -> Step:
    """The delta rule's flow, of those synapses whose calcium passes a threshold at its start.

    c_ij = k_i e_j, e = v - W^T k;  open where c > theta_p or c < -theta_d
    dW_ij/dt = open_ij k_i (v_j - x_j(t)), dx_j/dt = sum_i open_ij k_i^2 (v_j - x_j)
    """

    def step(t: int, W: Array) -> Array:
        key, value, beta = (at(streams[name], t) for name in ("key", "value", "beta"))
        error = value - _predicted(key, W, xp)
        calcium = key[..., :, None] * error[..., None, :]
        ltp, ltd = (at(streams[name], t)[..., None] for name in ("theta_p", "theta_d"))
        # thresholds and calcium have gradients too: zero, wherever the gate does not switch
        opened = ((calcium > ltp) | (calcium < -ltd)) + 0 * calcium + 0 * xp.clip(ltp + ltd, 0, 1)
        squared = _predicted(key**2, opened, xp)
        x = beta * squared
        small = abs(x) < 1e-8
        safe = xp.where(small, xp.ones_like(x), x)
        gain = beta * xp.where(small, 1 - x / 2, -xp.expm1(-safe) / safe)
        return W + opened * key[..., :, None] * (gain * error)[..., None, :]

    return step


def _dendritic(streams: dict[str, Array], at: At, xp: ModuleType, axis: int) -> Step:
    """Learn the soma's rate less what its dendrite predicts of it, r(v) - r(a W^T k)."""
    fit = _PLASTICITY
    attenuation = fit["dendritic_g_dendrite"] / (
        fit["dendritic_g_dendrite"] + fit["dendritic_g_leak"]
    )

    def rate(u: Array) -> Array:
        drive = fit["dendritic_phi_slope"] * (fit["dendritic_phi_half"] - u)
        return 1 / (1 + fit["dendritic_phi_offset"] * xp.exp(drive))

    def step(t: int, W: Array) -> Array:
        key, value, beta = (at(streams[name], t) for name in ("key", "value", "beta"))
        predicted = attenuation * _predicted(key, W, xp)
        error = signed(rate, value, xp) - signed(rate, predicted, xp)
        return W + key[..., :, None] * (beta * error)[..., None, :]

    return step


def _calcium(streams: dict[str, Array], at: At, xp: ModuleType, axis: int) -> Step:
    """Graupner and Brunel's efficacy without noise and potential, solved between two volleys.

    Calcium jumps by C_pre k a delay after the key and by C_post v at the value, and decays. While
    it is above theta_p the efficacy moves to gamma_p / (gamma_p + gamma_d), while it is between
    the thresholds it decays; negative keys and values are silent.
    """
    table = _PLASTICITY
    fit = {name: table[f"cortical_slice_{name}"] for name in _FITTED}
    tau, tau_ca, delay = fit["tau"], fit["tau_ca"], fit["delay"]
    clock = Clock(streams.get("since", streams["interval"]), xp, axis)
    key, value = (xp.clip(streams[name], 0, None) for name in ("key", "value"))
    kept = clock.left(tau_ca)
    before = clock.past(fit["c_pre"] * key, kept) + fit["c_pre"] * key
    remains = clock.past(fit["c_post"] * value, kept, clock.left(tau_ca, LEAD - delay))
    apart = LEAD - delay
    faded = clock.faded(apart, tau_ca)

    def lasting(calcium: Array, theta: float, longest: Array) -> Array:
        above = tau_ca * xp.log(xp.clip(calcium / theta, 1, None))
        return xp.minimum(above, longest)

    def drift(W: Array, calcium: Array, longest: Array, beta: Array) -> Array:
        ltp = beta * lasting(calcium, table["theta_p"], longest)
        ltd = beta * lasting(calcium, table["theta_d"], longest) - ltp
        total = fit["gamma_p"] + fit["gamma_d"]
        settled = fit["gamma_p"] / total
        W = settled + (W - settled) * xp.exp(-total * ltp / tau)
        return W * xp.exp(-fit["gamma_d"] * ltd / tau)

    def step(t: int, W: Array) -> Array:
        beta, interval = (at(streams[name], t)[..., None] for name in ("beta", "interval"))
        first = at(before, t)[..., :, None] + at(remains, t)[..., None, :]
        second = first * at(faded, t)[..., None]
        second = second + fit["c_post"] * at(value, t)[..., None, :]
        W = drift(W, first, apart * xp.ones_like(interval), beta)
        return drift(W, second, interval - apart, beta)

    return step


_SWING = constants("volleys")["shouval_swing"]
_FITTED = ("tau", "tau_ca", "delay", "c_pre", "c_post", "gamma_p", "gamma_d")


def _calcium_control(streams: dict[str, Array], at: At, xp: ModuleType, axis: int) -> Step:
    """Shouval's W <- Omega(Ca) + (W - Omega(Ca)) exp(-beta interval / tau(Ca)).

    Calcium stands where open receptors, k of them, and a voltage that v lifts above rest hold it;
    negative keys and values are silence and rest.
    """
    fit = {
        name.removeprefix("shouval_"): x for name, x in _PLASTICITY.items() if "shouval_" in name
    }

    def sigmoid(x: Array) -> Array:
        return 1 / (1 + xp.exp(-fit["omega_slope"] * x))

    def step(t: int, W: Array) -> Array:
        key, value = (xp.clip(at(streams[name], t), 0, None) for name in ("key", "value"))
        beta, interval = (at(streams[name], t)[..., None] for name in ("beta", "interval"))
        volts = fit["rest"] + _SWING * value
        block = fit["magnesium"] / fit["magnesium_scale"] * xp.exp(-fit["magnesium_slope"] * volts)
        drive = xp.clip(fit["v_calcium"] - volts, 0, None) / (1 + block)
        amount = fit["calcium_decay"] * fit["g_nmda"] * fit["open_fraction"]
        calcium = amount * key[..., :, None] * drive[..., None, :]
        omega = (
            fit["omega_rest"]
            + sigmoid(calcium - fit["omega_high"])
            - fit["omega_rest"] * sigmoid(calcium - fit["omega_low"])
        )
        tau = fit["rate_p1"] / (fit["rate_p2"] + calcium**3) + fit["rate_p4"]
        return omega + (W - omega) * xp.exp(-beta * interval / tau)

    return step


_STEPS: dict[str, Callable[[dict[str, Array], At, ModuleType, int], Step]] = {
    "thresholded": _thresholded,
    "dendritic": _dendritic,
    "calcium": _calcium,
    "calcium_control": _calcium_control,
}
