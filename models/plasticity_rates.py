"""Plasticity between rate cells: weights that follow a presynaptic and a postsynaptic rate.

Rates, weights and potentials are dimensionless, in units that the caller chooses; times are in
seconds. The presynaptic cells have a rate `x`; a model's postsynaptic cell is all in `cell` of its
`PlasticSynapse`, its synapses driving it with the sum of w x over presynaptic cells.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from math import isclose
from types import MappingProxyType

import brian2 as b2
import numpy as np
from scipy.linalg import expm
from tqdm import tqdm
from typing_extensions import override

from fwbio.data import constants
from fwbio.errors import FwbioError
from fwbio.models.parameters import check, within
from fwbio.models.simulation import engine
from fwbio.models.synapse import PlasticSynapse

_CONSTANTS = constants("plasticity")
_DRIVE = "y_post = x_pre * w : 1 (summed)"
# A step resolves a rate of change if it brings at most this share of it.
_RESOLVED = 0.2


class RatePlasticity(ABC):
    """A model's parameters, sound from the start, and how it looks in Brian2."""

    def __post_init__(self) -> None:
        check(self, type(self).__name__)

    def faults(self) -> list[tuple[str, str]]:
        """Combinations of parameters that make no cell, each with its mend: none."""
        return []

    @abstractmethod
    def synapse(self) -> PlasticSynapse:
        """The model in Brian2."""

    @abstractmethod
    def fastest(self, power: float) -> float:
        """The fastest of its rates of change, 1/s, at a squared input |x|^2 of `power`."""


@dataclass(frozen=True)
class Course:
    """What a simulation went through: times (time,) in s, weights (time, cell, input), and
    variables of the postsynaptic cells by name, (time, cell).
    """

    times: np.ndarray
    weights: np.ndarray
    cell: Mapping[str, np.ndarray]


def simulate(
    model: RatePlasticity,
    rates: np.ndarray,
    weights: np.ndarray,
    *,
    duration: float,
    dt: float,
    every: int = 1,
    seed: int = 0,
    inputs: Mapping[str, np.ndarray] = MappingProxyType({}),
    watch: tuple[str, ...] = (),
    progress: bool = False,
) -> Course:
    """Show rate cells one pattern after another.

    Args:
        model: of the synapses.
        rates: presynaptic rates (presentation, cell, input); every cell has inputs of its own.
        weights: at the start (cell, input).
        duration: of a presentation, s.
        dt: time step, s; what changes in a step follows what was there at its start.
        every: presentations between what is kept; the end is kept too.
        seed: of the engine.
        inputs: variables of the postsynaptic cells that change with the presentations, SI units
            (presentation, cell).
        watch: variables of the postsynaptic cells to keep.
        progress: whether to show a bar.

    Raises:
        FwbioError: dt is too coarse, or a presentation is not a whole number of steps.
    """
    shown, cells, width = rates.shape
    _check_step(model, float(np.square(rates).sum(-1).max()), duration, dt)
    made, clock, turns = model.synapse(), duration * b2.second, iter(range(shown))
    with engine("numpy", dt, seed), tqdm(total=shown, disable=not progress, leave=False) as bar:
        pre = b2.NeuronGroup(cells * width, "x : 1", name="rate_pre")
        own = {"method": "exponential_euler", "namespace": dict(made.namespace)}
        post = b2.NeuronGroup(cells, made.cell, name="rate_post", **own)
        post.state_updater.when = "end"
        driven = [(pre.variables["x"].get_value(), rates.reshape(shown, -1))]
        driven += [(post.variables[name].get_value(), given) for name, given in inputs.items()]

        def turn() -> None:
            k = next(turns)
            for variable, values in driven:
                variable[:] = values[k]
            bar.update()

        conductor = b2.NetworkOperation(turn, dt=clock, when="start", order=-1)
        target = np.repeat(np.arange(cells), width)
        synapses = made.connect(pre, post, np.arange(cells * width), target)
        synapses.w = weights.ravel()
        kept = {"record": True, "dt": every * clock, "when": "start", "order": -2}
        seen = b2.StateMonitor(synapses, "w", name="rate_weights", **kept)
        of = b2.StateMonitor(post, list(watch), name="rate_cells", **kept)
        b2.Network(pre, post, synapses, seen, of, conductor).run(shown * clock, namespace={})
        # monitors see the start of a step, and not the end of the run
        return Course(
            times=np.append(seen.t / b2.second, shown * duration),
            weights=np.vstack([seen.w.T, synapses.w[:]]).reshape(-1, cells, width),
            cell={name: np.vstack([getattr(of, name).T, getattr(post, name)]) for name in watch},
        )


def _check_step(model: RatePlasticity, power: float, duration: float, dt: float) -> None:
    where, fastest = type(model).__name__, model.fastest(power)
    if not dt > 0 or dt * fastest > _RESOLVED:
        raise FwbioError(
            f"dt = {dt:g} s does not resolve a rate of change of {fastest:.2g} /s",
            where=where,
            mend=f"give more than 0 s and at most {_RESOLVED / fastest:.2g} s",
        )
    steps = round(duration / dt)
    if steps < 1 or not isclose(steps * dt, duration, rel_tol=1e-6):
        raise FwbioError(
            f"a presentation of {duration:g} s is not a whole number of steps of {dt:g} s",
            where=where,
            mend="choose a duration that is a multiple of dt",
        )


@dataclass(frozen=True, kw_only=True)
class BCM(RatePlasticity):
    """The sliding threshold of Bienenstock, Cooper & Munro 1982, squared (Intrator & Cooper 1992).

        y = sum_i w_i x_i;    dw_i/dt = eta x_i y (y - theta);    tau_theta dtheta/dt = y^2 - theta

    Args:
        eta: rate of plasticity, 1/s.
        tau_theta: average of the threshold, s, longer than the presentations.

    Raises:
        FwbioError: a parameter is not positive.
    """

    eta: float = _CONSTANTS["bcm_eta"]
    tau_theta: float = _CONSTANTS["bcm_tau_theta"]

    def synapse(self) -> PlasticSynapse:
        """The model in Brian2, by Euler's method; the cell has `y` and `theta`."""
        return PlasticSynapse(
            rule="bcm",
            equations="dw/dt = eta * x_pre * y_post * (y_post - theta_post) : 1 (clock-driven)\n"
            + _DRIVE,
            cell="y : 1\ndtheta/dt = (y**2 - theta) / tau_theta : 1",
            namespace={"eta": self.eta / b2.second, "tau_theta": self.tau_theta * b2.second},
            method="euler",
        )

    @override
    def fastest(self, power: float) -> float:
        return max(1 / self.tau_theta, self.eta * power)

    @staticmethod
    def change(y: np.ndarray, theta: np.ndarray) -> np.ndarray:
        """phi(y) = y (y - theta): depression below the threshold, potentiation above it."""
        return y * (y - theta)

    @staticmethod
    def response(probability: float, selected: int = 1) -> float:
        """The response of a fixed point to each of `selected` patterns, 0 being that to the others.

        With linearly independent patterns shown with probability p each, the weights rest only
        where y (y - theta) = 0 for each, so a response is 0 or theta. With m at theta, theta =
        m p theta^2: they are 1 / (m p). Only m = 1 is stable: between selected patterns a
        difference d grows as dd/dt = eta p theta |x|^2 d (Intrator & Cooper 1992).

        Args:
            probability: p, of each pattern.
            selected: m, from 1 up.
        """
        return 1 / (selected * probability)

    def stable(self, power: float) -> bool:
        """Whether a cell settles that responds to one of orthogonal patterns.

        Its response and its threshold, both at 1 / p, leave it by the matrix
        [[eta |x|^2, -eta |x|^2], [2 / tau_theta, -1 / tau_theta]]: its determinant is positive,
        its trace negative if eta tau_theta |x|^2 < 1.

        Args:
            power: |x|^2 of the patterns.
        """
        return self.eta * self.tau_theta * power < 1


@dataclass(frozen=True, kw_only=True)
class Covariance(RatePlasticity):
    """Weights that follow the covariance of two rates (Sejnowski 1977).

        dw_i/dt = eta (x_i - <x_i>) (y - <y>);    tau_mean d<z>/dt = z - <z> for both rates

    Args:
        eta: rate of plasticity, 1/s.
        tau_mean: average of both rates, s, longer than the presentations.

    Raises:
        FwbioError: a parameter is not positive.
    """

    eta: float = _CONSTANTS["covariance_eta"]
    tau_mean: float = _CONSTANTS["covariance_tau_mean"]

    def synapse(self) -> PlasticSynapse:
        """The model in Brian2, by Euler's method.

        The cell has `y`, which is what the synapses bring and `teach`, and its average `mean_y`;
        a synapse has the average `mean_x`.
        """
        return PlasticSynapse(
            rule="covariance",
            equations="dw/dt = eta * (x_pre - mean_x) * (y_post - mean_y_post) : 1 (clock-driven)\n"
            "dmean_x/dt = (x_pre - mean_x) / tau_mean : 1 (clock-driven)\n"
            "drive_post = x_pre * w : 1 (summed)",
            cell="drive : 1\nteach : 1\ny = drive + teach : 1\n"
            "dmean_y/dt = (y - mean_y) / tau_mean : 1",
            namespace={"eta": self.eta / b2.second, "tau_mean": self.tau_mean * b2.second},
            method="euler",
        )

    @override
    def fastest(self, power: float) -> float:
        return max(1 / self.tau_mean, self.eta * power)

    def drift(self, covariance: np.ndarray, duration: float) -> np.ndarray:
        """E[dw/dt] for independent presentations, once the averages have settled.

        Averages that fluctuate add theirs to the covariance: it is eta C 2 / (1 + a), with a =
        1 - duration / tau_mean what a presentation of one Euler step leaves of an average.

        Args:
            covariance: of x_i and y, any shape.
            duration: of a presentation, s.
        """
        return self.eta * np.asarray(covariance) * 2 / (2 - duration / self.tau_mean)


@dataclass(frozen=True, kw_only=True)
class Oja(RatePlasticity):
    """Growth by coincidence that keeps the weights' norm (Oja 1982).

        y = sum_i w_i x_i;    dw_i/dt = eta y (x_i - y w_i)

    Args:
        eta: rate of plasticity, 1/s.

    Raises:
        FwbioError: eta is not positive.
    """

    eta: float = _CONSTANTS["oja_eta"]

    def synapse(self) -> PlasticSynapse:
        """The model in Brian2, by Euler's method; the cell has `y`."""
        return PlasticSynapse(
            rule="oja",
            equations="dw/dt = eta * y_post * (x_pre - y_post * w) : 1 (clock-driven)\n" + _DRIVE,
            cell="y : 1",
            namespace={"eta": self.eta / b2.second},
            method="euler",
        )

    @override
    def fastest(self, power: float) -> float:
        return 2 * self.eta * power

    def expected(self, second: np.ndarray, start: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Weights (time, input) when presentations are brief: the flow with E[x x^T] = C.

            w(t) = u / sqrt(1 + |u|^2 - |w_0|^2),  u = e^(eta C t) w_0

        which ends at an eigenvector of C's largest eigenvalue, of norm 1. One constant input is
        the case of C = x^2.

        Args:
            second: C (input, input), symmetric.
            start: w_0 (input,).
            times: s, (time,).
        """
        values, vectors = np.linalg.eigh(np.atleast_2d(second))
        growth = np.exp(self.eta * np.asarray(times)[:, None] * values)
        u = (growth * (vectors.T @ start)) @ vectors.T
        return u / np.sqrt(1 + (u**2).sum(1) - np.sum(np.square(start)))[:, None]


@dataclass(frozen=True, kw_only=True)
class DendriticError(RatePlasticity):
    """A dendrite that learns to predict its soma (Urbanczik & Senn 2014, its rates without spikes).

        V = sum_i w_i x_i;    V* = V g_D / (g_D + g_L);    dw_i/dt = eta (phi(U) - phi(V*)) x_i
        dU/dt = -g_L U + g_D (V - U) + g_E (E_E - U) + g_I (E_I - U)

    V* is where the dendrite alone would hold the soma U; teaching conductances g_E and g_I nudge
    U away from it. x is the sum of a synapse's postsynaptic potentials; their factor phi' / phi at
    V* is left out. phi(U) is U ("linear") or 1 / (1 + k e^(slope (half - U))) ("sigmoid"), in units
    of the largest rate. With linear phi and a fast soma it is the delta rule: see `expected`.

    Args:
        eta: rate of plasticity, 1/s.
        g_leak: g_L, 1/s (all conductances by the soma's capacitance).
        g_dendrite: g_D, 1/s.
        v_excitatory: reversal E_E of the excitatory teaching conductance, rest being 0.
        v_inhibitory: E_I.
        phi: "linear" or "sigmoid".
        half: of the sigmoid.
        offset: k of the sigmoid.
        slope: of the sigmoid.

    Raises:
        FwbioError: a parameter is not positive, the reversals are not in order, or there is no
            such phi.
    """

    eta: float = _CONSTANTS["dendritic_eta"]
    g_leak: float = within(_CONSTANTS["dendritic_g_leak"], high=1e6)
    g_dendrite: float = _CONSTANTS["dendritic_g_dendrite"]
    v_excitatory: float = _CONSTANTS["dendritic_e_excitatory"]
    v_inhibitory: float = _CONSTANTS["dendritic_e_inhibitory"]
    phi: str = "sigmoid"
    half: float = _CONSTANTS["dendritic_phi_half"]
    offset: float = _CONSTANTS["dendritic_phi_offset"]
    slope: float = _CONSTANTS["dendritic_phi_slope"]

    def faults(self) -> list[tuple[str, str]]:
        """Combinations of parameters that make no cell, each with its mend."""
        found = []
        if self.phi not in {"linear", "sigmoid"}:
            found.append((f"there is no phi called {self.phi!r}", "choose from linear, sigmoid"))
        if not self.v_inhibitory < self.v_excitatory:
            order = f"v_inhibitory = {self.v_inhibitory:g} is not below v_excitatory"
            found.append((order, f"give less than {self.v_excitatory:g}"))
        return found

    @property
    def attenuation(self) -> float:
        """g_D / (g_D + g_L): the share of the dendrite's potential that reaches the soma."""
        return self.g_dendrite / (self.g_dendrite + self.g_leak)

    def synapse(self) -> PlasticSynapse:
        """The model in Brian2, by Euler's method.

        The cell has `V`, `V_star` and `U`, the rates `phi_U` and `phi_V` of the last two, and the
        teaching conductances `g_exc` and `g_inh`, Hz.
        """
        rate = "{0}" if self.phi == "linear" else "1 / (1 + offset * exp(slope * (half - {0})))"
        cell = (
            "V : 1",
            "g_exc : Hz",
            "g_inh : Hz",
            "dU/dt = -g_leak * U + g_dendrite * (V - U) + g_exc * (v_excitatory - U)"
            " + g_inh * (v_inhibitory - U) : 1",
            "V_star = attenuation * V : 1",
            f"phi_U = {rate.format('U')} : 1",
            f"phi_V = {rate.format('V_star')} : 1",
        )
        plain = ("v_excitatory", "v_inhibitory", "half", "offset", "slope", "attenuation")
        rates = {name: getattr(self, name) * b2.Hz for name in ("eta", "g_leak", "g_dendrite")}
        return PlasticSynapse(
            rule="dendritic_error",
            equations="dw/dt = eta * (phi_U_post - phi_V_post) * x_pre : 1 (clock-driven)\n"
            "V_post = x_pre * w : 1 (summed)",
            cell="\n".join(cell),
            namespace=rates | {name: getattr(self, name) for name in plain},
            method="euler",
        )

    @override
    def fastest(self, power: float) -> float:
        steepest = 1.0 if self.phi == "linear" else self.slope / 4
        learning = self.eta * power * self.attenuation * steepest
        return max(learning, self.g_leak + self.g_dendrite)

    def rate(self, potential: np.ndarray) -> np.ndarray:
        """The rate phi of a potential."""
        potential = np.asarray(potential, dtype=float)
        if self.phi == "linear":
            return potential
        return 1 / (1 + self.offset * np.exp(self.slope * (self.half - potential)))

    def conductances(self, target: np.ndarray, nudge: float) -> tuple[np.ndarray, np.ndarray]:
        """Teaching conductances (g_exc, g_inh), 1/s, that pull the soma to a potential.

        Args:
            target: (g_E E_E + g_I E_I) / (g_E + g_I), between the reversals, any shape.
            nudge: g_E + g_I, 1/s.

        Raises:
            FwbioError: one conductance would be negative.
        """
        target = np.asarray(target, dtype=float)
        if not ((self.v_inhibitory <= target) & (target <= self.v_excitatory)).all() or nudge < 0:
            raise FwbioError(
                "a teaching conductance would be negative",
                where="target",
                mend=f"give potentials from {self.v_inhibitory:.3g} to {self.v_excitatory:.3g}"
                " and a nudge from 0 up",
            )
        share = (target - self.v_inhibitory) / (self.v_excitatory - self.v_inhibitory)
        return nudge * share, nudge * (1 - share)

    def nudging(self, nudge: float) -> float:
        """How far a conductance pulls the soma to its target: g_S / (g_L + g_D + g_S)."""
        return nudge / (self.g_leak + self.g_dendrite + nudge)

    def expected(
        self, target: float, nudge: float, power: float, times: np.ndarray, *, fast: bool = False
    ) -> np.ndarray:
        """V* over time (time,) for linear phi, a constant input and weights from 0.

        V* and U leave the target U_T by [[-k, k], [g_L + g_D, -(g_L + g_D + g_S)]], k = eta |x|^2
        g_D / (g_D + g_L). With `fast`, the delta rule of a soma that follows at once:

            V* = U_T (1 - e^(-k lambda t))

        Args:
            target: U_T.
            nudge: g_S, 1/s.
            power: |x|^2.
            times: s.
            fast: whether the soma is taken to follow at once.
        """
        times = np.asarray(times, dtype=float)
        k = self.eta * power * self.attenuation
        if fast:
            return target * -np.expm1(-k * self.nudging(nudge) * times)
        own = self.g_leak + self.g_dendrite
        flow = np.array([[-k, k], [own, -(own + nudge)]])
        away = expm(flow * times[:, None, None]) @ np.array([-target, -target])
        return target + away[:, 0]
