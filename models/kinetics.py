"""How the gate of a receptor opens and closes: closed forms in NumPy, and the same as Brian2 text.

Every kinetics answers the same questions: the `response` to one spike, its `peak_time`, `peak` and
`area`; the gate after any `train` of spikes; the periodic `steady` course under a regular train and
its `mean`. All times are s, all rates Hz; gates have no unit.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.integrate import quad
from typing_extensions import override

from fwbio.errors import FwbioError

STEPS_PER_TIME_CONSTANT = 5
# two time constants nearer than this are taken as one, at an error of its square
_SAME = 1e-6

State = tuple[np.ndarray, np.ndarray]


def require_number(value: float, name: str, where: str, *, zero: bool = False) -> None:
    """Refuse a number that is not finite and positive (or zero, where that may be).

    Raises:
        FwbioError: it is not.
    """
    plain = isinstance(value, (int, float, np.number)) and type(value).__name__ != "Quantity"
    if not plain:
        raise FwbioError(
            f"{name} = {value!r} is no plain number",
            where=where,
            mend="give it in SI units, without Brian2's: 0.02 for 20 * ms",
        )
    if not np.isfinite(value) or value < 0 or (value == 0 and not zero):
        wanted = "a finite number from 0 up" if zero else "a positive, finite number"
        raise FwbioError(f"{name} = {value!r} is out of range", where=where, mend=f"give {wanted}")


def require_resolved(dt: float, time_constants: Mapping[str, float], *, where: str) -> None:
    """Refuse a time step of more than a fifth of a time constant.

    At dt = tau / 5 an Euler step decays by 20 % instead of 18.1 %; exact steps lose nothing, but
    what they drive sees them no finer.

    Args:
        dt: time step, s.
        time_constants: s, by name.
        where: who asks, for the error message.

    Raises:
        FwbioError: dt is not positive, or exceeds a fifth of one of them, named in the message.
    """
    require_number(dt, "dt", where)
    for name, tau in time_constants.items():
        if dt * STEPS_PER_TIME_CONSTANT > tau * (1 + 1e-9):
            raise FwbioError(
                f"dt = {dt:g} s is more than a fifth of {name} = {tau:g} s",
                where=where,
                mend=f"give a dt of at most {tau / STEPS_PER_TIME_CONSTANT:g} s",
            )


def require_order(rise: float, decay: float, where: str) -> None:
    """Refuse time constants that are not positive, and a rise that outlasts the decay.

    Raises:
        FwbioError: they are.
    """
    require_number(rise, "rise", where)
    require_number(decay, "decay", where)
    if rise > decay:
        raise FwbioError(
            f"rise = {rise:g} s outlasts decay = {decay:g} s",
            where=where,
            mend="give a rise of at most the decay",
        )


class Kinetics(ABC):
    """How a gate opens and closes.

    Its state is the gate s and what drives it, x: transmitter bound, or the time it still lasts.
    """

    @property
    @abstractmethod
    def equations(self) -> str:
        """Brian2's text of the gate s_{n}; {n} stands for the receptor's name."""

    @property
    @abstractmethod
    def on_spike(self) -> str:
        """What a spike of weight {w} does to the variables; {at} stands for where they are."""

    @property
    @abstractmethod
    def method(self) -> str:
        """Brian2's integrator of the gate by itself."""

    @property
    @abstractmethod
    def values(self) -> dict[str, tuple[float, str]]:
        """The constants of the text, each with its unit."""

    @property
    @abstractmethod
    def time_constants(self) -> dict[str, float]:
        """What a time step has to resolve, s."""

    @property
    @abstractmethod
    def peak_time(self) -> float:
        """When the response to one spike is largest, s."""

    @property
    @abstractmethod
    def area(self) -> float:
        """The integral of the response to one spike, s."""

    @abstractmethod
    def after_spike(self, s: np.ndarray, x: np.ndarray) -> State:
        """The state just after a spike."""

    @abstractmethod
    def later(self, t: np.ndarray, s: np.ndarray, x: np.ndarray) -> State:
        """The state a time t >= 0 later, without a spike."""

    @abstractmethod
    def driven(self, period: float) -> np.ndarray:
        """What x is just after each spike of a regular train that has lasted for ever."""

    @property
    def linear(self) -> bool:
        """Whether responses add up."""
        return False

    @property
    def peak(self) -> float:
        """The largest value of the response to one spike."""
        return float(self.response(np.array(self.peak_time)))

    def response(self, t: np.ndarray) -> np.ndarray:
        """The gate a time t (s) after one spike that found it closed; 0 before."""
        return self.train(t, np.zeros(1))

    def train(self, t: np.ndarray, spikes: np.ndarray) -> np.ndarray:
        """The gate at times t (s), of any shape, under spikes at times `spikes` (s), ascending."""
        t, spikes = np.asarray(t, dtype=float), np.asarray(spikes, dtype=float)
        gate = np.zeros(t.shape)
        state: State = np.zeros(()), np.zeros(())
        for spike, end in zip(spikes, [*spikes[1:], np.inf], strict=True):
            state = self.after_spike(*state)
            now = (t >= spike) & (t < end)
            gate[now] = self.later(t[now] - spike, *state)[0]
            if end < np.inf:
                state = self.later(np.array(end - spike), *state)
        return gate

    def steady(self, phase: np.ndarray, rate: float) -> np.ndarray:
        """The gate under a regular train that has lasted for ever.

        Between spikes the gate is affine in what it was, s(T) = a + b s(0), so that its periodic
        course starts from the fixed point of spike and decay.

        Args:
            phase: since the last spike, s, below 1 / rate; of any shape.
            rate: of the spikes, Hz.

        Raises:
            FwbioError: the rate is not positive.
        """
        return self.later(np.asarray(phase, dtype=float), *self._start(rate))[0]

    def mean(self, rate: float) -> float:
        """The mean of `steady` over a period.

        Raises:
            FwbioError: the rate is not positive.
        """
        start = self._start(rate)
        period = 1 / rate
        turn = min(self.peak_time, period)
        parts = [
            quad(lambda t: float(self.later(np.array(t), *start)[0]), a, b, epsrel=1e-11)[0]
            for a, b in ((0, turn), (turn, period))
        ]
        return rate * sum(parts)

    def poisson_mean(self, rate: float) -> float:
        """The mean of the gate under a Poisson train of a rate (Hz).

        Raises:
            FwbioError: the rate is not positive, or these kinetics have no closed form of it.
        """
        raise FwbioError(
            "there is no closed form of the mean under a Poisson train",
            where=type(self).__name__,
            mend="simulate it, or take the mean under a regular train",
        )

    def _start(self, rate: float) -> State:
        require_number(rate, "rate", type(self).__name__)
        period = np.array(1 / rate)
        x = self.driven(1 / rate)
        jump = self.after_spike(np.zeros(()), np.zeros(()))[0]
        a = self.later(period, np.zeros(()), x)[0]
        b = self.later(period, np.ones(()), x)[0] - a
        return (jump + a) / (1 - b), x


class _Linear(Kinetics):
    """Responses add up, so that a mean depends on the rate alone."""

    @property
    @override
    def linear(self) -> bool:
        return True

    @override
    def mean(self, rate: float) -> float:
        """The mean gate under any stationary train, regular or Poisson: rate x area (Campbell)."""
        require_number(rate, "rate", type(self).__name__)
        return rate * self.area

    @override
    def poisson_mean(self, rate: float) -> float:
        """The mean gate under a Poisson train, which is that under any other of its rate."""
        return self.mean(rate)


@dataclass(frozen=True)
class Exponential(_Linear):
    """A gate that a spike opens at once: s(t) = exp(-t / tau), of area tau.

    Args:
        tau: decay, s.

    Raises:
        FwbioError: tau is not positive.
    """

    tau: float
    equations = "ds_{n}/dt = -s_{n} / tau_{n} : 1"
    on_spike = "s_{n}{at} += {w}"
    method = "exact"
    peak_time = 0.0

    def __post_init__(self) -> None:
        require_number(self.tau, "tau", "exponential")

    @property
    @override
    def values(self) -> dict[str, tuple[float, str]]:
        return {"tau": (self.tau, "s")}

    @property
    @override
    def time_constants(self) -> dict[str, float]:
        return {"tau": self.tau}

    @property
    @override
    def area(self) -> float:
        return self.tau

    @override
    def after_spike(self, s: np.ndarray, x: np.ndarray) -> State:
        return s + 1, x

    @override
    def later(self, t: np.ndarray, s: np.ndarray, x: np.ndarray) -> State:
        return s * np.exp(-t / self.tau), x

    @override
    def driven(self, period: float) -> np.ndarray:
        return np.zeros(())


@dataclass(frozen=True)
class DoubleExponential(_Linear):
    """A gate that rises and decays, its peak 1.

        s(t) = gain (exp(-t / decay) - exp(-t / rise)) / (decay / rise - 1)
        peak at  rise decay / (decay - rise) ln(decay / rise),   gain = exp(peak_time / rise)
        area  rise gain

    and, where the constants are equal, the alpha function t / tau exp(1 - t / tau) of area e tau.

    Args:
        rise: s.
        decay: s, at least `rise`.

    Raises:
        FwbioError: a constant is not positive, or the rise outlasts the decay.
    """

    rise: float
    decay: float
    method = "exact"
    on_spike = "x_{n}{at} += {w}"

    def __post_init__(self) -> None:
        require_order(self.rise, self.decay, "double exponential")

    @property
    @override
    def equations(self) -> str:
        """Equal constants have one name, so that the exact integrator finds the equal roots."""
        rise = "decay" if self._same else "rise"
        return (
            "ds_{n}/dt = (gain_{n} * x_{n} - s_{n}) / decay_{n} : 1\n"
            f"dx_{{n}}/dt = -x_{{n}} / {rise}_{{n}} : 1"
        )

    @property
    @override
    def values(self) -> dict[str, tuple[float, str]]:
        if self._same:
            return {"decay": ((self.rise + self.decay) / 2, "s"), "gain": (float(np.e), "1")}
        return {"rise": (self.rise, "s"), "decay": (self.decay, "s"), "gain": (self.gain, "1")}

    @property
    def _same(self) -> bool:
        return self.decay - self.rise < _SAME * self.decay

    @property
    @override
    def time_constants(self) -> dict[str, float]:
        return {"rise": self.rise, "decay": self.decay}

    @property
    def gain(self) -> float:
        """What makes the peak 1."""
        return float(np.exp(self.peak_time / self.rise))

    @property
    @override
    def peak_time(self) -> float:
        return self.rise / float(_mean_decay(np.log1p((self.decay - self.rise) / self.rise)))

    @property
    @override
    def area(self) -> float:
        return self.rise * self.gain

    @override
    def after_spike(self, s: np.ndarray, x: np.ndarray) -> State:
        return s, x + 1

    @override
    def later(self, t: np.ndarray, s: np.ndarray, x: np.ndarray) -> State:
        split = (self.decay - self.rise) / (self.rise * self.decay)
        fed = self.gain * x * t / self.decay * _mean_decay(split * t)
        return (s + fed) * np.exp(-t / self.decay), x * np.exp(-t / self.rise)

    @override
    def driven(self, period: float) -> np.ndarray:
        return np.array(-1 / np.expm1(-period / self.rise))


def _mean_decay(x: np.ndarray) -> np.ndarray:
    """(1 - exp(-x)) / x, the mean of exp(-z) from 0 to x: 1 at 0."""
    x = np.asarray(x, dtype=float)
    return np.where(x == 0, 1.0, -np.expm1(-x) / np.where(x == 0, 1.0, x))
