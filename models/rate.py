"""The rate substrate: fast weights as AMPA conductances of rate cells, stepped by Brian2.

    dw_ij/dt = -lambda_i w_ij + eta k_i (s_j - sum_l p_l w_lj)
    ds_j/dt = (teach_j - s_j) / tau_nmda_decay

with turnover lambda between presentations and plasticity eta during them. w is the conductance
above its baseline, s the slow NMDA-like teaching trace, the sum the AMPA prediction that moves the
plasticity threshold. Presentations are piecewise constant, as `fwbio.models.presentations` plans
them. Every trial is a network of its own within one simulation.
"""

from dataclasses import dataclass

import numpy as np

from fwbio.data import constants
from fwbio.models import departures, engines
from fwbio.models.parameters import within
from fwbio.models.presentations import Plan, Timing, plan
from fwbio.models.schedule import NONE, Schedule, slots
from fwbio.models.simulation import steps_of, warn_of_recording, weight_scale
from fwbio.models.substrate import Run
from fwbio.normal_form import NormalForm

_RECEPTORS = constants("receptors")


@dataclass(frozen=True, kw_only=True)
class RateModel:
    """Parameters of the rate substrate; times in seconds.

    Weights are given in units of the largest that the writes alone would add up to if they were
    independent, `fwbio.models.simulation.weight_scale`. Departures from the ideal are neutral by
    default.

    Args:
        dt: time step; the error of the run is proportional to it.
        gap: silence before each presentation, in which the weights turn over.
        write: duration of a presentation.
        read: duration of a cue.
        tau_nmda_decay: decay of the teaching trace (Wang 2002).
        erase_limit: largest share of a prediction that one presentation may erase, below 1.
        engine: Brian2's code generation: "cython"; "numpy"; or "cpp_standalone", a program that is
            compiled once for all of a program's shape and lengths, kept in $FWBIO_CACHE (or
            .cache/fwbio in the user's home) and run again.
        record_bound: bytes of recorded weights and of random numbers above which a run warns.
        ceiling: share of the largest rate asked for at which cells saturate; 1: none does.
        bound: largest |w|: the baseline of the conductances, which then stay within 0 and twice
            the baseline. Infinite: none.
        receptors: receptors that carry a conductance's range of 2 bound; at the end of each
            presentation conductances are rounded to whole receptors, up or down by chance so that
            the mean is kept. 0: conductances are graded.
        turnover_cv: coefficient of variation of the turnover rate over synapses, which is
            gamma-distributed: the mean weight decays over a gap by (1 + cv^2 x)^(-1 / cv^2), where
            exp(-x) is what equal synapses keep. 0: all are equal.
        noise_multiplicative: of the turnover in gaps, in proportion to the weight, 1/sqrt(s).
        noise_additive: of the turnover in gaps, whatever the weight, in weights per sqrt(s).
    """

    dt: float = 0.25e-3
    gap: float = 0.1
    write: float = 0.3
    read: float = 0.05
    tau_nmda_decay: float = _RECEPTORS["tau_nmda_decay"]
    erase_limit: float = within(1 - 1e-6, high=1 - 1e-12)
    engine: str = "cython"
    record_bound: float = within(1e9)
    ceiling: float = within(1.0, high=1.0)
    bound: float = within(np.inf)
    receptors: int = within(0)
    turnover_cv: float = within(0.0, high=10.0)
    noise_multiplicative: float = within(0.0, high=1e3)
    noise_additive: float = within(0.0, high=1e3)

    def faults(self) -> list[tuple[str, str]]:
        """Combinations of parameters that make no model, each with its mend."""
        found = []
        # Euler's steps of an error that decays by x = -ln(1 - erase_limit) in a write
        x = -np.log1p(-self.erase_limit)
        if x * self.dt >= 0.5 * self.write:
            coarse = f"dt = {self.dt:g} s is too coarse for presentations of {self.write:g} s"
            found.append((coarse, f"give dt below {0.5 * self.write / x:.2g} s"))
        if self.dt > 0.5 * self.tau_nmda_decay:
            coarse = f"dt = {self.dt:g} s is too coarse"
            coarse += f" for tau_nmda_decay = {self.tau_nmda_decay:g} s"
            found.append((coarse, f"give dt of at most {0.5 * self.tau_nmda_decay:g} s"))
        found += [
            (f"{name} = 0 leaves nothing", f"give a {name} above 0")
            for name in ("ceiling", "bound")
            if getattr(self, name) == 0
        ]
        if self.receptors and self.bound == np.inf:
            found.append(
                (
                    f"receptors = {self.receptors} share a range, and bound = inf gives none",
                    "give a finite bound",
                )
            )
        return found


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
        seed: of the turnover's and the receptors' randomness, drawn before the run by NumPy and
            the same for every engine.
        progress: whether to show a bar.

    Raises:
        FwbioError: as `fwbio.models.presentations.plan`, `fwbio.models.engines.run` and
            `fwbio.models.departures.drawn` say, or a phase that is no whole number of steps.

    Warns:
        RecordingWarning: what is recorded or drawn takes more than `record_bound` bytes.
    """
    course = planned(form, model)
    n, rows, columns = initial.shape
    steps = form.query.shape[1]
    drawn = np.zeros((n, steps, columns))
    snapshots = np.zeros((n, len(kept), rows, columns))
    run_s = compile_s = 0.0
    if course.phases:
        scheduled = schedule(course, form, initial, kept, model, seed)
        done = engines.run(
            scheduled,
            initial,
            engine=model.engine,
            seed=seed,
            progress=progress,
            title="rate synapses",
        )
        asked = [phase.step for phase in course.phases if phase.kind == "read"]
        drawn[:, asked] = done.readout.swapaxes(0, 1)
        snapshots[:] = np.moveaxis(done.weights, 0, 1).swapaxes(-1, -2)
        run_s, compile_s = done.run_s, done.compile_s
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
        approximate=(*approximate, *departures.told(model)),
        backend=f"brian2-{model.engine}",
        run_s=run_s,
        compile_s=compile_s,
    )


def planned(form: NormalForm, model: RateModel) -> Plan:
    """The presentations that carry out a program.

    Args:
        form: (n, time, channel), n trials.
        model: parameters.

    Raises:
        FwbioError: as `fwbio.models.presentations.plan` says.
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
    return plan(form, timing, erase_limit=model.erase_limit, where="rate")


def schedule(
    course: Plan,
    form: NormalForm,
    initial: np.ndarray,
    kept: np.ndarray,
    model: RateModel,
    seed: int,
) -> Schedule:
    """The tables by which a network of synapses goes through its presentations.

    Args:
        course: the presentations.
        form: what they carry out.
        initial: weights before the first step, (n, row, column).
        kept: steps after which weights are kept.
        model: parameters.
        seed: of what is drawn.

    Raises:
        FwbioError: a phase is no whole number of steps, or initial weights beyond the bound.

    Warns:
        RecordingWarning: what is recorded or drawn takes more than `record_bound` bytes.
    """
    n, rows, columns = initial.shape
    kinds = np.array([phase.kind for phase in course.phases])
    step, write = (np.array([getattr(p, x) for p in course.phases]) for x in ("step", "write"))
    ends = np.append(step[1:] != step[:-1], True)
    keeps = slots(ends & np.isin(step, kept))
    turns, rounds = (slots(each & (kinds == kind)) for each, kind in departures.events(model))
    held = (1 + keeps.max()) + 2 * (1 + turns.max()) + (1 + rounds.max())
    warn_of_recording(8.0 * n * rows * columns * held, model.record_bound, "rate substrate")

    def during(kind: str, values: np.ndarray, otherwise: float = 0.0) -> np.ndarray:
        chosen = (kinds == kind).reshape(-1, *[1] * (values.ndim - 1))
        return np.where(chosen, values, otherwise)

    def of_writes(x: np.ndarray) -> np.ndarray:
        return np.moveaxis(x[:, write], 1, 0)

    key, query, predict, teach = departures.saturated(course, model.ceiling)
    turnover = np.broadcast_to(course.turnover, form.key.shape)
    cues = np.moveaxis(query[:, step], 1, 0)
    scale = weight_scale(form, initial)
    random = departures.drawn(
        model,
        turnover[:, write[turns > NONE]],
        (int(rounds.max()) + 1, n, columns, rows),
        columns=columns,
        scale=scale,
        seed=seed,
    )
    departures.require_within(initial, model.bound * scale)
    return Schedule(
        dt=model.dt,
        tau=model.tau_nmda_decay,
        steps=np.array([steps_of(phase, model.dt) for phase in course.phases]),
        rate=during("write", of_writes(predict)) + during("read", cues),
        drive=during("write", of_writes(course.plasticity[..., None] * key)),
        keep=during("gap", np.exp(-model.dt * of_writes(turnover)), 1.0),
        teach=during("write", of_writes(teach)),
        turns=turns,
        rounds=rounds,
        reads=slots(kinds == "read"),
        keeps=keeps,
        **random,
        bound=model.bound * scale,
        quantum=2 * model.bound * scale / model.receptors if model.receptors else 1.0,
    )
