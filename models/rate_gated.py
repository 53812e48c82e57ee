"""The thresholded delta rule on rate cells, stepped by Brian2: plastic where calcium allows it.

    dw_ij/dt = eta g_ij k_i (v_j - sum_l k_l w_lj)
    g_ij = 1 where c_ij > theta_p or c_ij < -theta_d, else 0;   c_ij = k_i (v_j - sum_l k_l w_lj)

c is calcium above the level at which nothing changes: the key, glutamate bound, times the teaching
input above the AMPA prediction, depolarisation. The gate is set by the calcium with which a
presentation begins, and stays as it is (a switch such as CaMKII's); "following" it goes on
following calcium, and a synapse closes as its error is corrected. eta = beta / duration.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import brian2 as b2
import numpy as np

from fwbio.errors import FwbioError
from fwbio.models.presentations import Phase
from fwbio.models.simulation import conduct, dense, engine
from fwbio.models.substrate import Run

GATES = ("latched", "following")


@dataclass(frozen=True, kw_only=True)
class GatedModel:
    """Parameters of the thresholded rate model; times in seconds.

    Args:
        dt: time step; the error of the run is proportional to it.
        write: duration of a presentation.
        read: duration of a cue.
        gate: "latched" by the calcium with which a presentation begins, as the rule has it, or
            "following" calcium.
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


def run(
    streams: Mapping[str, np.ndarray],
    initial: np.ndarray,
    kept: np.ndarray,
    model: GatedModel,
    seed: int,
    progress: bool,
) -> Run:
    """Simulate a program of `thresholded_delta`.

    Args:
        streams: key, value, query, beta, theta_p and theta_d, (n, step, channel), n trials.
        initial: weights before the first step, (n, row, column).
        kept: steps after which weights are kept.
        model: parameters.
        seed: unused by this deterministic model but for the engine's state.
        progress: whether to show a bar.

    Raises:
        FwbioError: negative rates, a write too strong for the time step, or a phase that is no
            whole number of steps.
    """
    _check(streams, model)
    n, rows, columns = initial.shape
    steps = streams["query"].shape[1]
    drawn = np.zeros((n, steps, columns))
    snapshots = np.zeros((n, len(kept), rows, columns))
    with engine(model.engine, model.dt, seed):
        pre = b2.NeuronGroup(n * rows, "rate : 1", name="gated_pre")
        post = b2.NeuronGroup(
            n * columns,
            "value : 1\nampa : 1\neta : Hz\nltp : 1\nltd : 1\nonset : 1\nplastic : 1",
            name="gated_post",
        )
        synapses = b2.Synapses(
            pre,
            post,
            """
            w : 1
            gate : 1
            ampa_post = rate_pre * w : 1 (summed)
            error = value_post - ampa_post : 1
            opened = int(rate_pre * error > ltp_post) + int(rate_pre * error < -ltd_post) : 1
            """,
            name="gated_synapses",
        )
        i, j = dense(n, rows, columns)
        synapses.connect(i=i, j=j)
        synapses.w = initial.ravel()
        synapses.run_regularly(
            """
            gate = opened * onset_post + gate * (1 - onset_post)
            w = w + dt * eta_post * gate * rate_pre * error
            """,
            when="synapses",
            order=0,
        )
        if model.gate == "latched":
            post.run_regularly("onset = 0", when="end")
        weights = synapses.variables["w"].get_value()

        def enter(phase: Phase) -> None:
            t, writing = phase.step, phase.kind == "write"
            pre.rate = streams["key" if writing else "query"][:, t].ravel()
            post.value = streams["value"][:, t].ravel()
            post.eta = np.repeat(streams["beta"][:, t, 0], columns) * writing / model.write * b2.Hz
            post.ltp = np.repeat(streams["theta_p"][:, t, 0], columns)
            post.ltd = np.repeat(streams["theta_d"][:, t, 0], columns)
            post.onset = 1

        def leave(phase: Phase) -> None:
            if phase.kind == "read":
                drawn[:, phase.step] = post.ampa[:].reshape(n, columns)
                snapshots[:, kept == phase.step] = weights.reshape(n, 1, rows, columns)

        parts = [pre, post, synapses]
        conduct(
            parts,
            _phases(steps, model),
            dt=model.dt,
            enter=enter,
            leave=leave,
            progress=progress,
            title="gated synapses",
        )
    latched = model.gate == "latched"
    return Run(
        readout=drawn,
        weights=snapshots,
        onset=np.arange(steps) * (model.write + model.read),
        exact=("the gate, set as each presentation begins",) if latched else (),
        approximate=(
            f"explicit Euler steps of {model.dt:g} s in the writes: first order in dt",
            "the teaching input is steady from its start: no NMDA trace rises",
            *(() if latched else ("the gate follows calcium, where the rule's is latched",)),
        ),
        backend=f"brian2-{model.engine}",
    )


def _phases(steps: int, model: GatedModel) -> list[Phase]:
    phases = []
    for step in range(steps):
        start = step * (model.write + model.read)
        for kind, at, duration in (("write", start, model.write), ("read", start + model.write,
                                                                   model.read)):  # fmt: skip
            phases.append(Phase(kind=kind, step=step, write=step, start=at, duration=duration))
    return phases


def _check(streams: Mapping[str, np.ndarray], model: GatedModel) -> None:
    for name in ("key", "query"):
        if (streams[name] < 0).any():
            raise FwbioError(
                f"the {name} reaches {streams[name].min():.3g}, and rates can't be negative",
                where="rate substrate",
                mend="code signed items with ON/OFF cells (coding='on_off')",
            )
    reach = streams["beta"][..., 0] * (streams["key"] ** 2).sum(-1)
    if reach.max(initial=0) * model.dt >= 0.5 * model.write:
        raise FwbioError(
            f"dt = {model.dt:g} s is too coarse for writes of beta |k|^2 = {reach.max():.3g}",
            where="rate substrate",
            mend=f"give dt below {0.5 * model.write / reach.max():.2g} s",
        )
