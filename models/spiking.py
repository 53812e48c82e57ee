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
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import brian2 as b2
import numpy as np
import xarray as xr

from fwbio.models.cells import RESET, SpikingModel
from fwbio.models.conductances import fluctuated, spread, whole
from fwbio.models.dendrite import compensated
from fwbio.models.presentations import Phase, Plan, Timing, plan
from fwbio.models.simulation import conduct, dense, engine, warn_of_recording, weight_scale
from fwbio.models.spike_traces import SpikeTraces
from fwbio.models.substrate import Run
from fwbio.normal_form import NormalForm

SIGNS = np.array([1.0, -1.0])
# what the plan without lag may erase, whose rates are then replaced
_PASSIVE = 1 - 1e-6

_VALUE_CELLS = """
dv/dt = (v_steady - v) / tau_membrane : volt (unless refractory)
dampa/dt = (g_ampa - ampa) / tau_membrane : 1
dg_ampa/dt = -g_ampa / tau_ampa : 1
ds/dt = -s / tau_nmda_decay : 1
dcalcium/dt = (taught - calcium) / tau_nmda_decay : 1
v_steady = v_rest + bias + gain * (ampa - opposite_ampa) : volt (constant over dt)
error = s - opposite_s - corrects * (ampa - opposite_ampa) : 1
change = lr * int(calcium > theta_d) * error / 2 : 1 (constant over dt)
opposite_ampa : 1 (linked)
opposite_s : 1 (linked)
taught : 1
taught_spikes : 1
lr : 1
fired : 1
"""


def on_key_spike(model: SpikingModel) -> str:
    """What a spike of a key cell does to a synapse, in Brian2's notation.

    Args:
        model: parameters; only departures that are not neutral are in the code.
    """
    release, times = "", ""
    if model.release < 1:
        release, times = "sent = int(rand() < release) / release\n", "sent * "
    rounding = ""
    if model.receptors:
        rounding = "w = quantum * floor(w / quantum + rand())\n"
    return (
        f"{release}"
        f"g_ampa_post += {times}jump * w\n"
        f"w = clip(w + {times}change_post, 0, g_max)\n"
        f"{rounding}"
    )


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
        seed: of the spike trains, the value cells' first potentials and the departures.
        progress: whether to show a bar.

    Raises:
        FwbioError: as `fwbio.models.presentations.plan`, `fwbio.models.dendrite.compensated` and
            `fwbio.models.simulation.conduct` say.

    Warns:
        RecordingWarning: weights, kept and simulated, take more than `record_bound` bytes.
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
    # a snapshot is one number a synapse, a run one of each of its cells' synapses
    copies = len(kept) + 2 * model.cells_per_key
    warn_of_recording(8.0 * initial.size * copies, model.record_bound, "spiking substrate")
    with engine(model.engine, model.dt, seed), _orderless(model):
        began = time.perf_counter()
        network = _Network(
            course,
            scales,
            initial,
            kept,
            model,
            corrects=form.erase is not None,
            seed=seed,
        )
        conduct(
            network.parts,
            course.phases,
            dt=model.dt,
            enter=network.enter,
            leave=network.leave,
            progress=progress,
            title="spiking synapses",
        )
        ended = time.perf_counter()
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
    if bounded := network.bounded():
        approximate.append(f"a share of {bounded:.2g} of the conductances ended at a bound")
    return Run(
        readout=network.drawn,
        weights=network.snapshots,
        onset=course.onset(form.query.shape[1]),
        exact=(
            "write gate, erase gate and turnover in the mean over spikes, by the flow map of the"
            " stepped synapse, its prediction's lag included",
        ),
        approximate=tuple(approximate),
        backend=f"brian2-{model.engine}",
        traces=network.traces(),
        run_s=ended - network.started,
        compile_s=network.started - began,
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


class _Network:
    """The Brian2 objects of one run, and what is set and read at each phase."""

    def __init__(
        self,
        course: Plan,
        scales: _Scales,
        initial: np.ndarray,
        kept: np.ndarray,
        model: SpikingModel,
        *,
        corrects: bool,
        seed: int,
    ) -> None:
        self.course, self.scales, self.kept, self.model = course, scales, kept, model
        n, rows, columns = initial.shape
        self.shape = n, rows, columns
        self.drawn = np.zeros((n, course.query.shape[1], columns))
        self.snapshots = np.zeros((n, len(kept), rows, columns))
        self.started = time.perf_counter()  # and again when the first phase begins
        self._rng = np.random.default_rng([seed, 1])
        self._keys = b2.NeuronGroup(
            n * rows * model.cells_per_key,
            "chance : 1 # of a spike in a step",
            threshold="chance > 0 and rand() < chance",
            name="key_cells",
        )
        self._values = self._value_cells(corrects=corrects)
        self._last_spike = self._values.variables["lastspike"].get_value()
        self._fast = self._synapses(initial)
        self._weights = self._fast.variables["w"].get_value()
        self._fired = self._values.variables["fired"].get_value()
        self.parts: list[object] = [self._keys, self._values, self._fast]
        self._turnover_factor: np.ndarray | float = 1.0
        if model.turnover_cv:
            shape = (n, rows, model.cells_per_key * 2 * columns)
            self._turnover_factor = spread(model.turnover_cv, shape, self._rng)
        self._traces = None
        writes = [phase for phase in course.phases if phase.kind == "write"]
        if writes:
            self._traces = SpikeTraces(
                self._keys[: rows * model.cells_per_key],
                self._values,
                writes[-1],
                course.teach[0, writes[-1].write],
                model.dt,
            )
            self.parts.append(self._traces.recorder)

    def _value_cells(self, *, corrects: bool) -> b2.NeuronGroup:
        n, _, columns = self.shape
        model, scales = self.model, self.scales
        volts = ("v_rest", "v_reset", "v_threshold")
        times = ("tau_membrane", "tau_ampa", "tau_nmda_decay")
        cells = b2.NeuronGroup(
            n * 2 * columns,
            _VALUE_CELLS,
            threshold="v > v_threshold",
            reset=f"{RESET}\nfired += 1",
            refractory=model.refractory_steps * b2.defaultclock.dt,
            method="exponential_euler",
            namespace={name: getattr(model, name) * b2.volt for name in volts}
            | {name: getattr(model, name) * b2.second for name in times}
            | {
                "bias": model.drive(np.array(model.base_rate)) * b2.volt,
                "gain": scales.gain * b2.volt,
                "corrects": float(corrects),
                "theta_d": model.theta_d,
                "taught_jump": _jump(
                    model.cells_per_value * scales.teach_rate * model.release,
                    model.tau_nmda_decay,
                    model.dt,
                ),
            },
            name="value_cells",
        )
        opposite = np.arange(len(cells)).reshape(n, 2, columns)[:, ::-1].ravel()
        cells.opposite_ampa = b2.linked_var(cells, "ampa", index=opposite)
        cells.opposite_s = b2.linked_var(cells, "s", index=opposite)
        cells.v = "v_reset + rand() * (v_threshold - v_reset)"
        cells.run_regularly(
            "s += taught_jump * poisson(taught_spikes)", when="synapses", name="teaching"
        )
        return cells

    def _synapses(self, initial: np.ndarray) -> b2.Synapses:
        n, rows, columns = self.shape
        model, scales = self.model, self.scales
        largest = 2 * scales.baseline
        fast = b2.Synapses(
            self._keys,
            self._values,
            "w : 1",
            on_pre=on_key_spike(model),
            namespace={
                "g_max": largest,
                "quantum": largest / max(model.receptors, 1),
                "release": model.release,
                "jump": _jump(model.cells_per_key * scales.key_rate, model.tau_ampa, model.dt),
            },
            name="fast_synapses",
        )
        i, j = dense(n, rows * model.cells_per_key, 2 * columns)
        fast.connect(i=i, j=j)
        signed = initial[:, :, None, None, :] * SIGNS[:, None] / 2
        wide = (n, rows, model.cells_per_key, 2, columns)
        fast.w = self._possible(scales.baseline + np.broadcast_to(signed, wide)).ravel()
        return fast

    def enter(self, phase: Phase) -> None:
        """Set what drives the network in a phase."""
        if phase is self.course.phases[0]:
            self.started = time.perf_counter()
        n, rows, columns = self.shape
        course, model, scales = self.course, self.model, self.scales
        writing = phase.kind == "write"
        rates = np.zeros((n, rows))
        if writing:
            rates = course.key[:, phase.write]
        elif phase.kind in {"settle", "read"}:
            rates = course.query[:, phase.step]
        chance = self._below_ceiling(rates * scales.key_rate) * model.dt
        self._keys.chance = np.repeat(chance, model.cells_per_key)
        teach = course.teach[:, phase.write, None, :] * SIGNS[:, None] * writing
        taught = self._below_ceiling(np.maximum(teach, 0) * scales.teach_rate)
        self._values.taught_spikes = np.ravel(
            taught * (model.cells_per_value * model.release * model.dt)
        )
        plastic = course.plasticity[:, phase.write] * writing
        self._values.taught = np.repeat((plastic > 0).astype(float), 2 * columns)
        self._values.lr = np.repeat(plastic / scales.key_rate, 2 * columns)
        self._fired[:] = 0
        self._last_before = np.maximum(self._last_spike, phase.start - model.settle)
        if self._traces is not None:
            self._traces.enter(phase)

    def leave(self, phase: Phase) -> None:
        """Read what the network did in a phase; turn the receptors over at the end of a gap."""
        n, rows, columns = self.shape
        model = self.model
        if phase.kind == "gap":
            self._turn_over(self.course.turnover[:, phase.write], phase.duration)
        if phase.kind == "read":
            lasted = np.maximum(self._last_spike - self._last_before, model.dt)
            self.drawn[:, phase.step] = self._decode((self._fired / lasted).reshape(n, 2, columns))
        if (self.kept == phase.step).any():
            now = self._weights.reshape(n, rows, model.cells_per_key, 2, columns).mean(2)
            self.snapshots[:, self.kept == phase.step] = (now[:, :, 0] - now[:, :, 1])[:, None]

    def _below_ceiling(self, rates: np.ndarray) -> np.ndarray:
        if self.model.ceiling == 1:
            return rates
        return np.minimum(rates, self.model.ceiling * self.model.peak_rate)

    def _turn_over(self, turnover: np.ndarray, duration: float) -> None:
        """What a gap does to the conductances; turnover (n, 1 or row), 1/s."""
        model, baseline = self.model, self.scales.baseline
        noisy = model.noise_multiplicative > 0 or model.noise_additive > 0
        if not noisy and not turnover.any():
            return
        n, rows, columns = self.shape
        conductances = self._weights.reshape(n, rows, model.cells_per_key * 2 * columns)
        above = fluctuated(
            conductances - baseline,
            turnover[:, :, None] * self._turnover_factor,
            duration,
            multiplicative=model.noise_multiplicative,
            additive=model.noise_additive,
            rng=self._rng,
        )
        self._weights[:] = self._possible(baseline + above).ravel()

    def _possible(self, conductances: np.ndarray) -> np.ndarray:
        """The nearest conductances that there are: from 0 to 2 w_0, of whole receptors."""
        largest = 2 * self.scales.baseline
        conductances = np.clip(conductances, 0, largest)
        if self.model.receptors:
            return whole(conductances, largest / self.model.receptors, self._rng)
        return conductances

    def _decode(self, rates: np.ndarray) -> np.ndarray:
        """Read-outs (n, column) from rates (n, sign, column); the cell that fires more counts more.

        A cell near its threshold fires by its noise, and so tells less of its drive.
        """
        model = self.model
        resting = model.drive(np.array(model.base_rate))
        each = SIGNS[:, None] * (model.drive(rates) - resting) / self.scales.gain
        total = rates.sum(1)
        return (each * rates).sum(1) / np.where(total > 0, total, 1)

    def bounded(self) -> float:
        """The share, from 0 to 1, of conductances that stand at a bound."""
        at = (self._weights <= 0) | (self._weights >= 2 * self.scales.baseline)
        return float(at.mean())

    def traces(self) -> dict[str, xr.DataArray]:
        """Spikes and traces of the last write, first trial."""
        return {} if self._traces is None else self._traces.labelled()
