"""Rules that are not linear in their weights on rate cells, stepped by Brian2.

    thresholded_delta  dw_ij/dt = eta g_ij k_i (v_j - x_j),  g_ij = 1 where c_ij > theta_p or
                       c_ij < -theta_d, else 0;  c_ij = k_i (v_j - x_j),  x_j = sum_l k_l w_lj
    dendritic_error    dw_ij/dt = eta k_i (r(v_j) - r(a x_j)),  r a sigmoid of either sign
    shouval            dw_ij/dt = eta (Omega(Ca_ij) - w_ij) / tau(Ca_ij), the calcium of key i at
                       the voltage that value j holds

eta is beta over the presentation's duration, of shouval times the step's interval. In the first, c
is calcium above the level at which nothing changes: the key, glutamate bound, times the teaching
input above the AMPA prediction, depolarisation. Its gate is set by the calcium with which a
presentation begins, and stays as it is (a switch such as CaMKII's); or it goes on following
calcium, and a synapse closes as its error is corrected.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import brian2 as b2
import numpy as np

from fwbio.data import constants
from fwbio.errors import FwbioError
from fwbio.models.presentations import Phase
from fwbio.models.simulation import conduct, dense, engine
from fwbio.models.substrate import Run

GATES = ("latched", "following")


@dataclass(frozen=True, kw_only=True)
class LocalModel:
    """Parameters of rate synapses of a rule that is not linear in them; times in seconds.

    Args:
        dt: time step; the error of the run is proportional to it.
        write: duration of a presentation.
        read: duration of a cue.
        gate: of the thresholded rule: "latched" by the calcium with which a presentation begins,
            as the rule has it, or "following" calcium.
        engine: Brian2's code generation, "cython" or "numpy".
    """

    dt: float = 0.25e-3
    write: float = 0.3
    read: float = 0.05
    gate: str = "latched"
    engine: str = "cython"

    def faults(self) -> list[tuple[str, str]]:
        """Combinations of parameters that make no model, each with its mend."""
        if self.gate not in GATES:
            return [(f"gate = {self.gate!r} is no gate", 'give "latched" or "following"')]
        return []


@dataclass(frozen=True, kw_only=True)
class _Equations:
    """How a synapse changes in a presentation.

    Args:
        cell: what the postsynaptic cell has beside its value, AMPA drive and plasticity rate.
        synapse: what the synapse has beside its weight.
        update: what a time step does to it.
        namespace: constants of these.
        exact: what of the run is exact, in words.
        approximate: what is not.
    """

    cell: str = ""
    synapse: str = ""
    update: str
    namespace: Mapping[str, Any]
    exact: tuple[str, ...] = ()
    approximate: tuple[str, ...] = ()


def thresholded(model: LocalModel) -> _Equations:
    """The delta rule's flow where calcium passes a threshold."""
    latched = model.gate == "latched"
    kept = "opened * onset_post + gate * (1 - onset_post)" if latched else "opened"
    return _Equations(
        cell="ltp : 1\nltd : 1",
        synapse="""
        gate : 1
        error = value_post - ampa_post : 1
        opened = int(rate_pre * error > ltp_post) + int(rate_pre * error < -ltd_post) : 1
        """,
        update=f"""
        gate = {kept}
        w = w + dt * eta_post * gate * rate_pre * error
        """,
        namespace={},
        exact=("the gate, set as each presentation begins",) if latched else (),
        approximate=() if latched else ("the gate follows calcium, where the rule's is latched",),
    )


def dendritic(model: LocalModel) -> _Equations:
    """The soma's rate less what its dendrite predicts of it."""
    fit = constants("plasticity")
    leak, coupling = fit["dendritic_g_leak"], fit["dendritic_g_dendrite"]
    rate = " - ".join(
        f"1 / (1 + offset * exp(slope * (half - clip({sign} {{0}}, 0, inf))))" for sign in "+-"
    )
    return _Equations(
        cell=f"""
        soma = {rate.format("value")} : 1
        dendrite = {rate.format("share * ampa")} : 1
        """,
        update="w = w + dt * eta_post * rate_pre * (soma_post - dendrite_post)",
        namespace={
            "offset": fit["dendritic_phi_offset"],
            "slope": fit["dendritic_phi_slope"],
            "half": fit["dendritic_phi_half"],
            "share": coupling / (coupling + leak),
        },
        approximate=(
            "the error is followed while it is corrected, where the rule takes it in one step",
        ),
    )


def calcium_control(model: LocalModel) -> _Equations:
    """A weight goes where its calcium points, at the rate that its calcium sets."""
    fit = constants("plasticity")
    used = ("omega", "rate", "magnesium", "rest", "v_calcium")
    names = [name.removeprefix("shouval_") for name in fit if name.startswith("shouval_")]
    return _Equations(
        cell="""
        volts = rest + swing * clip(value, 0, inf) : 1
        open_share = 1 / (1 + magnesium / magnesium_scale * exp(-magnesium_slope * volts)) : 1
        driving = open_share * clip(v_calcium - volts, 0, inf) : 1
        """,
        synapse="""
        calcium = amount * rate_pre * driving_post : 1
        high = 1 / (1 + exp(-omega_slope * (calcium - omega_high))) : 1
        low = 1 / (1 + exp(-omega_slope * (calcium - omega_low))) : 1
        omega = omega_rest + high - omega_rest * low : 1
        tau_w = rate_p1 / (rate_p2 + calcium**3) + rate_p4 : 1
        """,
        update="w = w + dt * eta_post * (omega - w) / tau_w",
        namespace={name: fit[f"shouval_{name}"] for name in names if name.startswith(used)}
        | {
            "swing": constants("volleys")["shouval_swing"],
            "amount": fit["shouval_calcium_decay"]
            * fit["shouval_g_nmda"]
            * fit["shouval_open_fraction"],
        },
        exact=("calcium, held by key and value for the step's interval",),
    )


EQUATIONS: Mapping[str, Callable[[LocalModel], _Equations]] = {
    "thresholded": thresholded,
    "dendritic": dendritic,
    "calcium_control": calcium_control,
}


def run(
    streams: Mapping[str, np.ndarray],
    initial: np.ndarray,
    kept: np.ndarray,
    model: LocalModel,
    seed: int,
    progress: bool,
    *,
    plasticity: Callable[[LocalModel], _Equations],
) -> Run:
    """Simulate a program of a rule that is not linear in its weights.

    Args:
        streams: key, value, query and the rule's own, (n, step, channel), n trials.
        initial: weights before the first step, (n, row, column).
        kept: steps after which weights are kept.
        model: parameters.
        seed: unused by this deterministic model but for the engine's state.
        progress: whether to show a bar.
        plasticity: makes the synapse's equations.

    Raises:
        FwbioError: negative rates, a write too strong for the time step, or a phase that is no
            whole number of steps.
    """
    equations = plasticity(model)
    n, rows, columns = initial.shape
    steps = streams["query"].shape[1]
    key, query = streams["key"], streams["query"]
    eta = streams.get("beta", np.ones((n, steps, 1)))[..., 0] / model.write
    fastest = eta * (key**2).sum(-1)
    if plasticity is calcium_control:
        key = np.maximum(key, 0)
        eta = eta * streams["interval"][..., 0]
        fastest = eta / constants("plasticity")["shouval_rate_p4"]
    _check(key, query, fastest.max(initial=0), model)
    drawn = np.zeros((n, steps, columns))
    snapshots = np.zeros((n, len(kept), rows, columns))
    with engine(model.engine, model.dt, seed):
        pre = b2.NeuronGroup(n * rows, "rate : 1", name="local_pre")
        post = b2.NeuronGroup(
            n * columns,
            f"value : 1\nampa : 1\neta : Hz\nonset : 1\n{equations.cell}",
            namespace=dict(equations.namespace),
            name="local_post",
        )
        synapses = b2.Synapses(
            pre,
            post,
            f"w : 1\nampa_post = rate_pre * w : 1 (summed)\n{equations.synapse}",
            namespace=dict(equations.namespace),
            name="local_synapses",
        )
        i, j = dense(n, rows, columns)
        synapses.connect(i=i, j=j)
        synapses.w = initial.ravel()
        synapses.run_regularly(equations.update, when="synapses", order=0)
        post.run_regularly("onset = 0", when="end")
        weights = synapses.variables["w"].get_value()

        def enter(phase: Phase) -> None:
            t, writing = phase.step, phase.kind == "write"
            pre.rate = (key if writing else query)[:, t].ravel()
            post.value = streams["value"][:, t].ravel()
            post.eta = np.repeat(eta[:, t], columns) * writing * b2.Hz
            post.onset = 1
            for name, threshold in (("ltp", "theta_p"), ("ltd", "theta_d")):
                if threshold in streams:
                    setattr(post, name, np.repeat(streams[threshold][:, t, 0], columns))

        def leave(phase: Phase) -> None:
            if phase.kind == "read":
                drawn[:, phase.step] = post.ampa[:].reshape(n, columns)
                snapshots[:, kept == phase.step] = weights.reshape(n, 1, rows, columns)

        conduct(
            [pre, post, synapses],
            list(_phases(steps, model)),
            dt=model.dt,
            enter=enter,
            leave=leave,
            progress=progress,
            title="rate synapses",
        )
    return Run(
        readout=drawn,
        weights=snapshots,
        onset=np.arange(steps) * (model.write + model.read),
        exact=equations.exact,
        approximate=(
            f"explicit Euler steps of {model.dt:g} s in the writes: first order in dt",
            "the teaching input is steady from its start: no NMDA trace rises",
            *equations.approximate,
        ),
        backend=f"brian2-{model.engine}",
    )


def _phases(steps: int, model: LocalModel) -> chain[Phase]:
    return chain.from_iterable(_presented(step, model) for step in range(steps))


def _presented(step: int, model: LocalModel) -> tuple[Phase, Phase]:
    """The presentation and the cue of a step."""
    start = step * (model.write + model.read)
    return (
        Phase(kind="write", step=step, write=step, start=start, duration=model.write),
        Phase(kind="read", step=step, write=step, start=start + model.write, duration=model.read),
    )


def _check(key: np.ndarray, query: np.ndarray, fastest: float, model: LocalModel) -> None:
    for name, rates in (("key", key), ("query", query)):
        if (rates < 0).any():
            raise FwbioError(
                f"the {name} reaches {rates.min():.3g}, and rates can't be negative",
                where="rate substrate",
                mend="code signed items with ON/OFF cells (coding='on_off')",
            )
    if fastest * model.dt >= 0.2:
        raise FwbioError(
            f"dt = {model.dt:g} s is too coarse for weights that change at up to {fastest:.3g} /s",
            where="rate substrate",
            mend=f"give dt below {0.2 / fastest:.2g} s",
        )
