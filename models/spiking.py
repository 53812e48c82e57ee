"""The spiking substrate: fast weights as AMPA conductances between spiking cells, by Brian2.

Key cells fire Poisson spikes at rates proportional to a key (or a cue). Each value channel has a
pair of leaky integrate-and-fire cells, ON and OFF, that inhibit each other, so that each feels the
difference of the pair's AMPA drives. A slow, NMDA-like pathway teaches: the spikes of Poisson
teaching cells, drawn as the one Poisson train that their sum is, set the trace s, and the slow
net's signal to write, a rate with the same kinetics, admits the calcium that opens plasticity above
theta_d. A presynaptic spike moves its synapses by

    w <- clip(w + lr [calcium > theta_d] (s - ampa) / 2,  0, g_max)

where s - ampa, the teaching trace above the AMPA prediction, is the distance of the NMDA drive
from a plasticity threshold that moves with the prediction (for rules without error correction the
threshold stays at zero). In the gaps, where no key cell fires, receptors turn over:

    w <- w_0 + (w - w_0) exp(-turnover * gap)

W is (w_on - w_off); its read-out is decoded from mean interspike intervals through the cells'
known f-I curve.
What a synapse departs by - saturating cells, whole receptors, failing release, unequal and noisy
turnover - are options of `fwbio.models.cells.SpikingModel`, all of them off by default.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import xarray as xr

from fwbio.models import spiking_network
from fwbio.models.cells import SpikingModel
from fwbio.models.conductances import fluctuated, spread, whole
from fwbio.models.dendrite import compensated
from fwbio.models.presentations import Plan, Timing, plan
from fwbio.models.schedule import NONE, slots
from fwbio.models.simulation import steps_of, warn_of_recording, weight_scale
from fwbio.models.spike_traces import shown_cells, traces
from fwbio.models.spiking_network import Outcome, Tables
from fwbio.models.substrate import Run
from fwbio.normal_form import NormalForm

SIGNS = np.array([1.0, -1.0])
# what the plan without lag may erase, whose rates are then replaced
_PASSIVE = 1 - 1e-6


def run(
    form: NormalForm,
    initial: np.ndarray,
    kept: np.ndarray,
    model: SpikingModel,
    seed: int,
    progress: bool,
) -> Run:
    """Simulate a program's operands.

    Args:
        form: (n, time, channel), n trials; no erase, or p = beta k.
        initial: weights before the first step, (n, row, column).
        kept: steps after which weights are kept.
        model: parameters.
        seed: of the value cells' first potentials and of what gaps do at random, drawn before the
            run by NumPy and the same for every engine, and of the spike trains and the releases,
            drawn by the engine; so that a seed repeats a run, in the same engine.
        progress: whether to show a bar.

    Raises:
        FwbioError: as `fwbio.models.presentations.plan`, `fwbio.models.dendrite.compensated` and
            `fwbio.models.engines.stepped` say, or a phase that is no whole number of steps.

    Warns:
        RecordingWarning: weights, kept, simulated and drawn for, take more than `record_bound`
            bytes.
    """
    timing = Timing(
        gap=model.gap,
        write=model.write,
        pause=model.pause,
        settle=model.settle,
        read=model.read,
        tau_nmda=model.tau_nmda_decay,
        theta_d=model.theta_d,
    )
    course = plan(form, timing, erase_limit=min(model.erase_limit, _PASSIVE), where="spiking")
    course = compensated(course, form, model)
    scales = _scales(form, course, initial, model)
    readout = np.zeros((len(initial), form.query.shape[1], initial.shape[-1]))
    snapshots = np.zeros((len(initial), len(kept), *initial.shape[1:]))
    run_s = compile_s = bounded = 0.0
    shown: dict[str, xr.DataArray] = {}
    if course.phases:
        tables = _tables(
            course, scales, initial, kept, model, seed, corrects=form.erase is not None
        )
        with _orderless(model):
            done = spiking_network.run(tables, model, seed=seed, progress=progress)
        asked = [phase.step for phase in course.phases if phase.kind == "read"]
        readout[:, asked] = _decoded(done, course, tables, scales, model)
        snapshots[:] = done.snapshots.swapaxes(0, 1)
        shown = _traces(done, course, tables, model)
        at = (done.conductances <= 0) | (done.conductances >= 2 * scales.baseline)
        run_s, compile_s, bounded = done.run_s, done.compile_s, float(at.mean())
    approximate = [
        "rates by Poisson spikes of finitely many cells",
        "read-outs from the spikes of a finite time",
        "driving forces held at rest",
        "calcium admitted by a write signal that is a rate, not by teaching spikes",
    ]
    if form.erase is not None:
        left = np.exp(-model.gap / model.tau_membrane)
        approximate.append(
            f"a prediction counts as gone after a gap, which leaves {left:.2g} of it"
        )
    approximate += model.departures()
    if course.clipped:
        approximate.append(
            f"{course.clipped} writes erase {model.erase_limit:g} of the prediction, not all of it"
        )
    if bounded:
        approximate.append(f"a share of {bounded:.2g} of the conductances ended at a bound")
    return Run(
        readout=readout,
        weights=snapshots,
        onset=course.onset(form.query.shape[1]),
        exact=(
            "write gate, erase gate and turnover in the mean over spikes, by the flow map of the"
            " stepped synapse, its prediction's lag included",
        ),
        approximate=tuple(approximate),
        backend=f"brian2-{model.engine}",
        traces=shown,
        run_s=run_s,
        compile_s=compile_s,
    )


@contextmanager
def _orderless(model: SpikingModel) -> Iterator[None]:
    """Spare the reader Brian2's warning of random numbers in a synapse, whose order is free."""
    logger = logging.getLogger("brian2.codegen.generators.base")
    level = logger.level
    if model.receptors or model.release < 1:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@dataclass(frozen=True, kw_only=True)
class _Scales:
    """Conversions from code units: rates in Hz per unit, conductance and read-out per unit."""

    key_rate: float
    teach_rate: float
    baseline: float
    gain: float


def _scales(form: NormalForm, course: Plan, initial: np.ndarray, model: SpikingModel) -> _Scales:
    # a write's value, as a cue of its own direction recalls it
    lengths = np.linalg.norm(form.key, axis=-1), np.linalg.norm(form.query, axis=-1)
    recalled = (np.abs(form.write).max(-1, initial=0) * lengths[0]).max(initial=0)
    value = recalled * lengths[1].max(initial=0) or np.abs(initial).max(initial=0) or 1.0
    return _Scales(
        key_rate=model.peak_rate / (max(form.key.max(initial=0), form.query.max(initial=0)) or 1.0),
        teach_rate=model.peak_rate / (np.abs(course.teach).max(initial=0) or 1.0),
        baseline=model.baseline * weight_scale(form, initial),
        gain=model.gain / value,
    )


def _jump(rate: float, tau: float, dt: float) -> float:
    """What a spike adds to a trace so that, stepped by dt, its mean is 1 at that rate."""
    return -np.expm1(-dt / tau) / (rate * dt)


def _tables(
    course: Plan,
    scales: _Scales,
    initial: np.ndarray,
    kept: np.ndarray,
    model: SpikingModel,
    seed: int,
    *,
    corrects: bool,
) -> Tables:
    """What the network goes through, warned of before it is drawn if it is large."""
    n, rows, columns = initial.shape
    kinds = np.array([phase.kind for phase in course.phases])
    step, write = (np.array([getattr(p, x) for p in course.phases]) for x in ("step", "write"))
    starts = np.cumsum([0, *(steps_of(phase, model.dt) for phase in course.phases)])
    ends = np.append(step[1:] != step[:-1], True)
    read = kinds == "read"
    noisy = model.noise_multiplicative > 0 or model.noise_additive > 0
    turning = noisy | np.asarray(course.turnover.any(axis=(0, 2)))[write]
    turns = slots((kinds == "gap") & turning)
    drawn = (1 + turns.max()) * (2 * (noisy or model.turnover_cv > 0) + (model.receptors > 0))
    # a snapshot is one number a synapse, a run one of each of its cells' synapses
    copies = len(kept) + 2 * model.cells_per_key * (1 + int(drawn))
    warn_of_recording(8.0 * initial.size * copies, model.record_bound, "spiking substrate")

    def during(kind: str | tuple[str, ...], values: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Values (n, T, ..) of phases, and none in the others and past the end: (P + 1, n, ..)."""
        chosen = np.isin(kinds, kind).reshape(-1, *[1] * (values.ndim - 1))
        silence = np.zeros((1, *values.shape[:1], *values.shape[2:]))
        return np.append(np.where(chosen, np.moveaxis(values[:, which], 1, 0), 0.0), silence, 0)

    rates = during("write", course.key, write) + during(("settle", "read"), course.query, step)
    teach = np.maximum(course.teach[:, :, None] * SIGNS[:, None], 0)
    plastic = during("write", course.plasticity, write)
    shown, window, room = np.zeros(0, int), np.full(2, -1), (0, 0)
    if (writes := np.flatnonzero(kinds == "write")).size:
        shown = shown_cells(course.teach[0, write[writes[-1]]])
        window = starts[writes[-1] : writes[-1] + 2]
        room = _room(int(np.diff(window)[0]), rows * model.cells_per_key, 2 * columns, model)
    start, *streams = map(np.random.default_rng, np.random.SeedSequence([seed, 1]).spawn(5))
    gaps = np.moveaxis(course.turnover[:, write[turns > NONE]], 1, 0)
    wide = (n, rows, model.cells_per_key, 2, columns)
    signed = initial[:, :, None, None, :] * SIGNS[:, None] / 2
    conductances = np.clip(scales.baseline + np.broadcast_to(signed, wide), 0, 2 * scales.baseline)
    if model.receptors:
        conductances = whole(conductances, 2 * scales.baseline / model.receptors, start)
    return Tables(
        starts=np.append(starts, -1),
        turns=turns,
        reads=slots(read | np.append(read[1:], False)),
        keeps=slots(ends & np.isin(step, kept)),
        window=window,
        shown=shown,
        chances=_below_ceiling(rates * scales.key_rate, model) * model.dt,
        teaching=_below_ceiling(during("write", teach, write) * scales.teach_rate, model)
        * (model.cells_per_value * model.release * model.dt),
        open=(plastic > 0).astype(float),
        rates=plastic / scales.key_rate,
        remains=np.exp(-np.broadcast_to(gaps, (len(gaps), n, rows)) * model.gap),
        **_random(gaps, wide, model, streams),
        numbers=_numbers(scales, model, corrects=corrects),
        conductances=conductances,
        potentials=start.uniform(model.v_reset, model.v_threshold, (n, 2, columns)),
        room=room,
    )


def _below_ceiling(rates: np.ndarray, model: SpikingModel) -> np.ndarray:
    return rates if model.ceiling == 1 else np.minimum(rates, model.ceiling * model.peak_rate)


def _room(steps: int, keys: int, values: int, model: SpikingModel) -> tuple[int, int]:
    """How many spikes to be ready for: twelve standard deviations above the most to be expected."""
    expected = steps * keys * model.peak_rate * model.dt
    most = int(expected + 12 * np.sqrt(expected) + 20)
    return min(most, steps * keys), values * (steps // model.refractory_steps + 1)


def _random(
    gaps: np.ndarray,
    wide: tuple[int, ...],
    model: SpikingModel,
    streams: Sequence[np.random.Generator],
) -> dict[str, np.ndarray]:
    """What gaps do at random to each synapse: x <- F x + S for x above the baseline, and rounding.

    Args:
        gaps: turnover, 1/s, (turn, n, 1 or row).
        wide: the synapses' shape, (n, row, cell, 2, column).
        model: parameters.
        streams: of the turnover rates, the factors, the shifts and the roundings.
    """
    uneven, noise, additive, rounding = streams
    shape = (len(gaps), int(np.prod(wide)))
    none = np.zeros((0, 0))
    drawn = {"factors": none, "shifts": none, "roundings": none}
    m, a = model.noise_multiplicative, model.noise_additive
    if m or a or model.turnover_cv:
        rate = np.broadcast_to(gaps[..., None, None, None], (len(gaps), *wide)).reshape(shape)
        if model.turnover_cv:
            rate = rate * spread(model.turnover_cv, shape[1:], uneven)
        drawn["factors"] = fluctuated(
            np.ones(shape), rate, model.gap, multiplicative=m, additive=0.0, rng=noise
        )
        drawn["shifts"] = fluctuated(
            np.zeros(shape), rate, model.gap, multiplicative=m, additive=a, rng=additive
        )
    if model.receptors:
        drawn["roundings"] = rounding.random(shape)
    return drawn


def _numbers(scales: _Scales, model: SpikingModel, *, corrects: bool) -> dict[str, float]:
    teach_rate = model.cells_per_value * scales.teach_rate * model.release
    key_rate = model.cells_per_key * scales.key_rate
    return {
        "value_cells.bias": float(model.drive(np.array(model.base_rate))),
        "value_cells.gain": scales.gain,
        "value_cells.corrects": float(corrects),
        "value_cells.theta_d": model.theta_d,
        "value_cells.taught_jump": _jump(teach_rate, model.tau_nmda_decay, model.dt),
        "fast_synapses.jump": _jump(key_rate, model.tau_ampa, model.dt),
        "fast_synapses.g_max": 2 * scales.baseline,
        "fast_synapses.quantum": 2 * scales.baseline / max(model.receptors, 1),
    }


def _decoded(
    done: Outcome, course: Plan, tables: Tables, scales: _Scales, model: SpikingModel
) -> np.ndarray:
    """Read-outs (n, read, column) from mean interspike intervals.

    The cell that fires more counts more: one near its threshold fires by its noise, and so tells
    less of its drive.
    """
    reads = np.flatnonzero([phase.kind == "read" for phase in course.phases])
    before, after = tables.reads[reads - 1], tables.reads[reads]
    begun = np.array([course.phases[k].start - model.settle for k in reads])
    last = np.maximum(done.lasts[before], begun[:, None, None, None])
    lasted = np.maximum(done.lasts[after] - last, model.dt)
    rates = (done.counts[after] - done.counts[before]) / lasted
    resting = model.drive(np.array(model.base_rate))
    each = SIGNS[:, None] * (model.drive(rates) - resting) / scales.gain
    total = rates.sum(-2)
    return ((each * rates).sum(-2) / np.where(total > 0, total, 1)).swapaxes(0, 1)


def _traces(
    done: Outcome, course: Plan, tables: Tables, model: SpikingModel
) -> dict[str, xr.DataArray]:
    """Spikes and traces of the last write, first trial."""
    writes = [phase for phase in course.phases if phase.kind == "write"]
    if not writes:
        return {}
    return traces(
        done.curves,
        {"pre": done.pre, "post": done.post},
        tables.shown[: len(tables.shown) // 2],
        first=int(tables.window[0]),
        start=writes[-1].start,
        dt=model.dt,
    )
