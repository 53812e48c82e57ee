"""The map between a rule's step and a synapse: alpha, beta and erase against tau, eta and duration.

A synapse that turns over at the rate 1/tau, and that for a duration T is driven by a key k and a
teaching input v, plastic at the rate eta,

    dW/dt = -W / tau + eta k (g v s(t) - W^T k)^T,   ds/dt = (1 - s) / tau_nmda

makes exactly one step of the gated delta family,

    W <- alpha (W - erase k k^T W) + write k v^T,

    alpha = exp(-(gap + T) / tau)       (turnover always; exp(-gap / tau) where only between writes)
    erase = (1 - exp(-eta |k|^2 L)) / |k|^2
    write = g eta integral over the last L of exp(-a (T - t)) s(t),   a = eta |k|^2 (+ 1 / tau)

where L is the part of T in which calcium, rising as 1 - exp(-t / tau_nmda), is above theta. So
turnover during the writing makes the write gate smaller than the erase gate, and one without it is
`gated_delta`, gap by gap. A rule without error correction has erase = 0 and a = 1 / tau or 0.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.linalg import expm

from fwbio.errors import FwbioError

Array = Any


@dataclass(frozen=True, kw_only=True)
class Presentation:
    """What one step of a rule lasts and shows, as a synapse lives it.

    Args:
        squared_key: |k|^2, the summed squares of the presynaptic rates.
        duration: of the presentation, s.
        gap: silence before it, s.
        corrects: whether the plasticity threshold moves with the prediction (the delta rules).
        turnover: "between" presentations only, or "always".
        tau_nmda: rise of the teaching trace and of calcium, s; 0: both are steady at once.
        theta: calcium, from 0 to 1, above which the synapse is plastic.

    Raises:
        FwbioError: a number out of its range, NaN or infinite, or a threshold that calcium never
            reaches.
    """

    squared_key: Array = 1.0
    duration: Array = 0.3
    gap: Array = 0.1
    corrects: bool = True
    turnover: Literal["between", "always"] = "between"
    tau_nmda: float = 0.0
    theta: float = 0.0

    def __post_init__(self) -> None:
        for name in ("squared_key", "duration", "gap"):
            _positive(name, getattr(self, name))
        _non_negative("tau_nmda", self.tau_nmda)
        _numbers("theta", self.theta)
        if self.turnover not in {"between", "always"}:
            raise FwbioError(
                f"turnover = {self.turnover!r} is out of range",
                where="Presentation",
                mend='give "between" or "always"',
            )
        highest = -np.expm1(-np.min(self.duration) / self.tau_nmda) if self.tau_nmda else 1.0
        if not 0 <= self.theta < highest:
            raise FwbioError(
                f"theta = {self.theta:g} is never reached: calcium rises to {highest:.3g}",
                where="Presentation",
                mend="give it from 0 up and below that, or lengthen duration",
            )

    @property
    def opening(self) -> Array:
        """Seconds from the start of the presentation until calcium passes theta."""
        return opening(self.theta, self.tau_nmda)


@dataclass(frozen=True, kw_only=True)
class Step:
    """W <- alpha (W - erase k k^T W) + write k v^T.

    Args:
        alpha: decay, above 0 and up to 1.
        write: write strength beta_W.
        erase: erase strength beta_E, 0 where nothing is corrected; erase |k|^2 is below 1.
    """

    alpha: Array
    write: Array
    erase: Array = 0.0


@dataclass(frozen=True, kw_only=True)
class Flow:
    """The synapse's own parameters.

    Args:
        tau: turnover, s; infinite: none.
        eta: plasticity rate, 1/s, for a key of unit rate.
        gain: g, the teaching input for a unit value.
    """

    tau: Array
    eta: Array
    gain: Array = 1.0


def to_step(flow: Flow, presentation: Presentation) -> Step:
    """What a synapse does in one presentation, exactly.

    Args:
        flow: tau (s), eta (1/s), gain; arrays of one shape, or numbers.
        presentation: what is shown, and for how long.

    Returns:
        alpha, write and erase, dimensionless, of that shape.

    Raises:
        FwbioError: a time constant or a rate out of its range, NaN, or infinite but for tau.
    """
    tau = _numbers("tau", flow.tau, where="Flow", endless=True)
    _refuse(tau <= 0, "tau", tau, "give a time constant above 0, or infinity", "Flow")
    eta = _non_negative("eta", flow.eta, where="Flow")
    gain = _numbers("gain", flow.gain, where="Flow")
    lost = presentation.gap + _turning(presentation)
    squared, window = presentation.squared_key, presentation.duration - presentation.opening
    reach = eta * squared * window
    erase = -np.expm1(-reach) / squared if presentation.corrects else 0.0 * reach
    write = gain * eta * _admitted(tau, eta, presentation)
    return Step(alpha=np.exp(-lost / tau), write=write, erase=erase)


def to_flow(step: Step, presentation: Presentation) -> Flow:
    """The synapse that makes a step of the rule in one presentation: the inverse of `to_step`.

    A step with error correction sets eta by its erase strength and the teaching gain by its write
    strength; one without has eta = 1 / duration of the plastic window and the gain.

    Args:
        step: alpha, write and erase; arrays of one shape, or numbers.
        presentation: what is shown, and for how long.

    Returns:
        tau (s), eta (1/s) and gain, of that shape.

    Raises:
        FwbioError: NaN or infinity; alpha out of (0, 1]; an erase strength that no passive synapse
            reaches, since erase |k|^2 must be below 1; a step with error correction that writes and
            does not erase, or one without that erases.
    """
    alpha, write, erase = (
        _numbers(name, getattr(step, name), where="Step") for name in ("alpha", "write", "erase")
    )
    mend = "a synapse decays: give it above 0, up to 1"
    _refuse((alpha <= 0) | (alpha > 1), "alpha", alpha, mend, "Step")
    squared, window = presentation.squared_key, presentation.duration - presentation.opening
    share = erase * squared
    if not ((share >= 0) & (share < 1)).all():
        raise FwbioError(
            f"erase |k|^2 reaches {np.max(share):.4g}",
            where="Step",
            mend="a passive synapse erases less than all: give it from 0 up and below 1",
        )
    if presentation.corrects and ((share == 0) & (write != 0)).any():
        raise FwbioError(
            "a step writes and does not erase",
            where="Step",
            mend="a synapse that corrects its error erases: give corrects=False, or erase above 0",
        )
    if not presentation.corrects and (share != 0).any():
        raise FwbioError(
            "a step erases, and the presentation corrects no error",
            where="Step",
            mend="give erase = 0, or corrects=True",
        )
    with np.errstate(divide="ignore"):
        tau = (presentation.gap + _turning(presentation)) / np.abs(np.log(alpha))
    # a write strength of its own needs plasticity even where nothing is erased
    reach = -np.log1p(-share) if presentation.corrects else np.ones_like(share)
    eta = reach / (squared * window) if presentation.corrects else reach / window
    admitted = eta * _admitted(tau, eta, presentation)
    gain = write / np.where(admitted > 0, admitted, 1.0)
    return Flow(tau=tau, eta=eta, gain=gain)


def threshold_of(theta_calcium: Array, calcium_per_product: Array) -> Array:
    """The threshold of a rule on key times error that stands for one of calcium.

        theta = theta_calcium / C,   calcium above its resting level = C k (v - W^T k)

    Args:
        theta_calcium: calcium above its resting level.
        calcium_per_product: C, calcium for a unit of key times error, above 0.

    Raises:
        FwbioError: C is not above 0, the threshold is below 0, or either is not finite.
    """
    per_product = _positive("calcium_per_product", calcium_per_product, where="map")
    return _non_negative("theta_calcium", theta_calcium, where="map") / per_product


def channel_error(rates: Array, eta: float, key: Array, duration: float) -> float:
    """What `kda`'s order of decay, then write, misses of turnover by channel during the writing.

        | expm(-(diag(rates) + eta k k^T) T) - (I - erase k k^T) diag(exp(-rates T)) |_2

    Equal rates commute with the write and give 0; for others no step of rank one is exact.

    Args:
        rates: turnover of each pre channel, 1/s, (pre,).
        eta: plasticity rate, 1/s.
        key: (pre,).
        duration: T, s.

    Raises:
        FwbioError: a number that is not finite, a rate or a time below 0, or a silent key.
    """
    rates = _non_negative("rates", rates, where="channel_error")
    key = _numbers("key", key, where="channel_error")
    _non_negative("eta", eta, where="channel_error")
    _non_negative("duration", duration, where="channel_error")
    if not key.any():
        raise FwbioError("the key is silent", where="channel_error", mend="let a channel fire")
    squared = float(key @ key)
    erase = -np.expm1(-eta * squared * duration) / squared
    exact = expm(-(np.diag(rates) + eta * np.outer(key, key)) * duration)
    stepped = (np.eye(len(key)) - erase * np.outer(key, key)) @ np.diag(np.exp(-rates * duration))
    return float(np.linalg.norm(exact - stepped, 2))


def opening(theta: Array, tau: float, before: Array = 0.0) -> Array:
    """Seconds until calcium, rising from `before` to 1 with tau, passes theta."""
    return tau * np.log(np.maximum((1 - before) / (1 - theta), 1.0))


def reached(share: Array) -> Array:
    """How far a flow must go to erase that share of a prediction: 1 - exp(-x) = share."""
    return -np.log1p(-share)


def driven(rate: Array, window: Array, start: Array, tau: float) -> tuple[Array, Array]:
    """What a steady and a fading drive leave of a flow that runs for a window.

        integral of exp(-rate (T - t)) dt  and of  exp(-rate (T - t)) exp(-t / tau) dt,
        t from start to T = start + window

    Args:
        rate: 1/s, from 0 up.
        window: s.
        start: seconds before it.
        tau: of the fading, s; 0: it is gone.
    """
    small = rate * window < 1e-9
    safe = np.where(small, 1.0, rate)
    steady = np.where(small, window, -np.expm1(-safe * window) / safe)
    if tau == 0:
        return steady, 0.0 * steady
    # (exp(-window/tau) - exp(-rate window)) / (rate - 1/tau), regular where the two rates meet
    gap = np.abs(rate - 1 / tau) * window
    close = gap < 1e-9
    ratio = np.where(close, 1.0, -np.expm1(-gap) / np.where(close, 1.0, gap))
    fading = window * np.exp(-np.minimum(rate, 1 / tau) * window - start / tau) * ratio
    return steady, fading


def _turning(presentation: Presentation) -> Array:
    """Seconds of the presentation in which receptors turn over."""
    return presentation.duration if presentation.turnover == "always" else 0.0


def _admitted(tau: Array, eta: Array, presentation: Presentation) -> Array:
    """The integral of what a unit teaching input leaves at the end of the presentation, s."""
    rate = eta * presentation.squared_key if presentation.corrects else 0.0 * eta
    if presentation.turnover == "always":
        rate = rate + 1 / tau
    window = presentation.duration - presentation.opening
    steady, rising = driven(rate, window, presentation.opening, presentation.tau_nmda)
    return steady - rising


def _numbers(
    name: str, given: Array, *, where: str = "Presentation", endless: bool = False
) -> np.ndarray:
    """What was given as floats, once it is known to be numbers, finite ones unless `endless`."""
    try:
        values = np.asarray(given, float)
    except (TypeError, ValueError) as error:
        raise FwbioError(
            f"{name} = {given!r} is no number",
            where=where,
            mend="give a number or an array of them",
        ) from error
    _refuse(np.isnan(values), name, values, "give a number", where)
    if not endless:
        _refuse(np.isinf(values), name, values, "give a finite number", where)
    return values


def _positive(name: str, given: Array, *, where: str = "Presentation") -> np.ndarray:
    values = _numbers(name, given, where=where)
    _refuse(values <= 0, name, values, "give it above 0", where)
    return values


def _non_negative(name: str, given: Array, *, where: str = "Presentation") -> np.ndarray:
    values = _numbers(name, given, where=where)
    _refuse(values < 0, name, values, "give it from 0 up", where)
    return values


def _refuse(bad: np.ndarray, name: str, values: np.ndarray, mend: str, where: str) -> None:
    """Refuse values, the first of those that are bad told."""
    if bad.any():
        first = values[bad].flat[0] if values.ndim else values
        raise FwbioError(f"{name} = {first:g} is out of range", where=where, mend=mend)
