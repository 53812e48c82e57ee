"""The rate substrate: fast weights as AMPA conductances of rate cells, stepped by Brian2.

    dw_ij/dt = -lambda_i w_ij + eta k_i (s_j - sum_l p_l w_lj)
    ds_j/dt = (teach_j - s_j) / tau_nmda_decay

with turnover lambda between presentations and plasticity eta during them. w is the conductance
above its baseline, s the slow NMDA-like teaching trace, the sum the AMPA prediction that moves the
plasticity threshold. Presentations are piecewise constant, as `fwbio.models.presentations` plans
them. Every trial is a network of its own within one simulation.
"""

from dataclasses import dataclass

import brian2 as b2
import numpy as np

from fwbio.data import constants
from fwbio.models.parameters import within
from fwbio.models.presentations import Phase, Timing, plan
from fwbio.models.simulation import conduct, dense, engine
from fwbio.models.substrate import Run
from fwbio.normal_form import NormalForm

_RECEPTORS = constants("receptors")


@dataclass(frozen=True, kw_only=True)
class RateModel:
    """Parameters of the rate substrate; times in seconds.

    Args:
        dt: time step; the error of the run is proportional to it.
        gap: silence before each presentation, in which the weights turn over.
        write: duration of a presentation.
        read: duration of a cue.
        tau_nmda_decay: decay of the teaching trace (Wang 2002).
        erase_limit: largest share of a prediction that one presentation may erase, below 1.
        engine: Brian2's code generation, "cython" or "numpy".
    """

    dt: float = 0.25e-3
    gap: float = 0.1
    write: float = 0.3
    read: float = 0.05
    tau_nmda_decay: float = _RECEPTORS["tau_nmda_decay"]
    erase_limit: float = within(1 - 1e-6, high=1 - 1e-12)
    engine: str = "cython"

    def faults(self) -> list[tuple[str, str]]:
        """Combinations of parameters that make no model, each with its mend."""
        # Euler's steps of an error that decays by x = -ln(1 - erase_limit) in a write
        x = -np.log1p(-self.erase_limit)
        if x * self.dt >= 0.5 * self.write:
            coarse = f"dt = {self.dt:g} s is too coarse for presentations of {self.write:g} s"
            return [(coarse, f"give dt below {0.5 * self.write / x:.2g} s")]
        return []


def run(
    form: NormalForm,
    initial: np.ndarray,
    kept: np.ndarray,
    model: RateModel,
    seed: int,
    progress: bool,
) -> Run:
    """Simulate a program's operands.

    Args:
        form: (n, time, channel), n trials.
        initial: weights before the first step, (n, row, column).
        kept: steps after which weights are kept.
        model: parameters.
        seed: unused by this deterministic model but for the engine's state.
        progress: whether to show a bar.

    Raises:
        FwbioError: as `fwbio.models.presentations.plan` and `fwbio.models.simulation.conduct` say.
    """
    timing = Timing(
        gap=model.gap,
        write=model.write,
        pause=0.0,
        settle=0.0,
        read=model.read,
        tau_nmda=model.tau_nmda_decay,
        theta_d=0.0,
    )
    course = plan(form, timing, erase_limit=model.erase_limit, where="rate")
    n, rows, columns = initial.shape
    steps = form.query.shape[1]
    drawn = np.zeros((n, steps, columns))
    snapshots = np.zeros((n, len(kept), rows, columns))
    with engine(model.engine, model.dt, seed):
        pre = b2.NeuronGroup(n * rows, "drive : Hz\nrate : 1\nkeep : 1", name="rate_pre")
        post = b2.NeuronGroup(
            n * columns,
            "ds/dt = (teach - s) / tau_nmda_decay : 1\nteach : 1\nampa : 1",
            method="exact",
            namespace={"tau_nmda_decay": model.tau_nmda_decay * b2.second},
            name="rate_post",
        )
        # Explicit Euler in the write, exact in the turnover: the trace advances after its use.
        post.state_updater.when = "end"
        synapses = b2.Synapses(
            pre, post, "w : 1\nampa_post = rate_pre * w : 1 (summed)", name="rate_synapses"
        )
        i, j = dense(n, rows, columns)
        synapses.connect(i=i, j=j)
        synapses.w = initial.ravel()
        synapses.run_regularly(
            "w = keep_pre * w + dt * drive_pre * (s_post - ampa_post)", when="synapses"
        )
        weights = synapses.variables["w"].get_value()

        def enter(phase: Phase) -> None:
            t, writing = phase.write, phase.kind == "write"
            turnover = course.turnover[:, t] if phase.kind == "gap" else np.zeros((n, 1))
            rates = {"write": course.predict[:, t], "read": course.query[:, phase.step]}
            pre.rate = np.ravel(rates.get(phase.kind, np.zeros((n, rows))))
            drive = course.plasticity[:, t, None] * course.key[:, t] * writing
            pre.drive = drive.ravel() * b2.Hz
            pre.keep = np.exp(-model.dt * np.broadcast_to(turnover, (n, rows))).ravel()
            post.teach = (course.teach[:, t] * writing).ravel()

        def leave(phase: Phase) -> None:
            if phase.kind == "read":
                drawn[:, phase.step] = post.ampa[:].reshape(n, columns)
            snapshots[:, kept == phase.step] = weights.reshape(n, 1, rows, columns)

        conduct(
            [pre, post, synapses],
            course.phases,
            dt=model.dt,
            enter=enter,
            leave=leave,
            progress=progress,
            title="rate synapses",
        )
    approximate = [f"explicit Euler steps of {model.dt:g} s in the writes: first order in dt"]
    if course.clipped:
        approximate.append(
            f"{course.clipped} writes erase {model.erase_limit:g} of the prediction, not all of it:"
            " a passive flow never quite does"
        )
    return Run(
        readout=drawn,
        weights=snapshots,
        onset=course.onset(steps),
        exact=(
            "turnover between presentations",
            "write and erase gates by the flow map, the NMDA trace's rise and remains included",
        ),
        approximate=tuple(approximate),
        backend=f"brian2-{model.engine}",
        traces={},
    )
