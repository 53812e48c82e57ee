"""The spiking substrate: fast weights as AMPA conductances between spiking cells, by Brian2.

Key cells fire Poisson spikes at rates proportional to a key (or a cue). Each value channel has a
pair of leaky integrate-and-fire cells, ON and OFF, that inhibit each other through interneurons,
so that each feels the difference of the pair's AMPA drives. A slow, NMDA-like pathway teaches:
Poisson teaching cells set the trace s, and the slow net's signal to write, a rate with the same
kinetics, admits the calcium that opens plasticity above theta_d. A presynaptic spike moves its
synapses by

    w <- w_0 + (w - w_0) exp(-turnover since its last spike)
    w <- clip(w + lr [calcium > theta_d] (s - ampa) / 2,  0, g_max)

where s - ampa, the teaching trace above the AMPA prediction, is the distance of the NMDA drive
from a plasticity threshold that moves with the prediction (for rules without error correction the
threshold stays at zero). W is (w_on - w_off); its read-out is decoded from spike counts through
the cells' known f-I curve.
"""

from dataclasses import dataclass

import brian2 as b2
import numpy as np
import xarray as xr

from fwbio.models.cells import SpikingModel
from fwbio.models.presentations import Phase, Plan, Timing, plan
from fwbio.models.simulation import conduct, dense, engine
from fwbio.models.substrate import Run
from fwbio.normal_form import NormalForm
from fwbio.record import labelled

SIGNS = np.array([1.0, -1.0])


_VALUE_CELLS = """
dv/dt = (v_rest - v + bias + gain * (ampa - inhibition)) / tau_membrane : volt (unless refractory)
dampa/dt = (g_ampa - ampa) / tau_membrane : 1
dg_ampa/dt = -g_ampa / tau_ampa : 1
ds/dt = -s / tau_nmda_decay : 1
dcalcium/dt = (taught - calcium) / tau_nmda_decay : 1
error = s - opposite_s - corrects * (ampa - inhibition) : 1
change = lr * int(calcium > theta_d) * error / 2 : 1 (constant over dt)
taught : 1
inhibition : 1
opposite_s : 1
lr : 1
"""
_ON_KEY_SPIKE = """
w = w_0 + (w - w_0) * exp(seen - turnover_pre)
seen = turnover_pre
g_ampa_post += jump * w
w = clip(w + change_post, 0, g_max)
"""


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
        seed: of the spike trains and the value cells' first potentials.
        progress: whether to show a bar.

    Raises:
        FwbioError: as `fwbio.models.presentations.plan` and `fwbio.models.simulation.conduct` say.
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
    course = plan(form, timing, erase_limit=model.erase_limit, where="spiking")
    scales = _scales(form, course, initial, model)
    with engine(model.engine, model.dt, seed):
        network = _Network(course, scales, initial, kept, model, corrects=form.erase is not None)
        conduct(
            network.parts,
            course.phases,
            dt=model.dt,
            enter=network.enter,
            leave=network.leave,
            progress=progress,
            title="spiking synapses",
        )
        traces = network.traces()
    approximate = [
        "rates by Poisson spikes of finitely many cells",
        "read-outs by spike counts of finite time",
        "driving forces held at rest",
        "calcium admitted by a write signal that is a rate, not by teaching spikes",
    ]
    if form.erase is not None:
        approximate.append("erase gate in mean field, as if spikes and weights were uncorrelated")
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
        exact=("write gate and turnover in the mean over spikes, by the flow map",),
        approximate=tuple(approximate),
        backend=f"brian2-{model.engine}",
        traces=traces,
    )


@dataclass(frozen=True, kw_only=True)
class _Scales:
    """Conversions from code units: rates in Hz per unit, conductance and read-out per unit."""

    key_rate: float
    teach_rate: float
    baseline: float
    gain: float


def _scales(form: NormalForm, course: Plan, initial: np.ndarray, model: SpikingModel) -> _Scales:
    independent = np.sqrt(np.einsum("ntk,ntv->nkv", form.key**2, form.write**2)).max(initial=0)
    weight = max(independent, np.abs(initial).max(initial=0)) or 1.0
    value = np.abs(form.write).max(initial=0) or 1.0
    return _Scales(
        key_rate=model.peak_rate / (max(form.key.max(initial=0), form.query.max(initial=0)) or 1.0),
        teach_rate=model.peak_rate / (np.abs(course.teach).max(initial=0) or 1.0),
        baseline=model.baseline * weight,
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
    ) -> None:
        self.course, self.scales, self.kept, self.model = course, scales, kept, model
        n, rows, columns = initial.shape
        self.shape = n, rows, columns
        self.drawn = np.zeros((n, course.query.shape[1], columns))
        self.snapshots = np.zeros((n, len(kept), rows, columns))
        self._keys = b2.NeuronGroup(
            n * rows * model.cells_per_key,
            "dturnover/dt = turning : 1\nturning : Hz\nrate : Hz",
            threshold="rand() < rate * dt",
            method="euler",
            name="key_cells",
        )
        self._teachers = b2.NeuronGroup(
            n * 2 * columns * model.cells_per_value,
            "rate : Hz",
            threshold="rand() < rate * dt",
            name="teaching_cells",
        )
        volts = {
            name: getattr(model, name) * b2.volt for name in ("v_rest", "v_reset", "v_threshold")
        }
        times = {
            name: getattr(model, name) * b2.second
            for name in ("tau_membrane", "tau_refractory", "tau_ampa", "tau_nmda_decay")
        }
        self._values = b2.NeuronGroup(
            n * 2 * columns,
            _VALUE_CELLS,
            threshold="v > v_threshold",
            reset="v = v_reset",
            refractory="tau_refractory",
            method="exponential_euler",
            namespace=volts
            | times
            | {
                "bias": model.drive(np.array(model.base_rate)) * b2.volt,
                "gain": scales.gain * b2.volt,
                "corrects": float(corrects),
                "theta_d": model.theta_d,
            },
            name="value_cells",
        )
        self._values.v = "v_reset + rand() * (v_threshold - v_reset)"
        self.parts = [self._keys, self._teachers, self._values, *self._connect(initial)]
        self._counts = b2.SpikeMonitor(self._values, record=False, name="counts")
        self.parts += [self._counts, *self._monitor()]

    def _connect(self, initial: np.ndarray) -> list[b2.Synapses]:
        n, rows, columns = self.shape
        model, scales = self.model, self.scales
        fast = b2.Synapses(
            self._keys,
            self._values,
            "w : 1\nseen : 1",
            on_pre=_ON_KEY_SPIKE,
            namespace={
                "w_0": scales.baseline,
                "g_max": 2 * scales.baseline,
                "jump": _jump(model.cells_per_key * scales.key_rate, model.tau_ampa, model.dt),
            },
            name="fast_synapses",
        )
        i, j = dense(n, rows * model.cells_per_key, 2 * columns)
        fast.connect(i=i, j=j)
        signed = initial[:, :, None, None, :] * SIGNS[:, None] / 2
        wide = (n, rows, model.cells_per_key, 2, columns)
        fast.w = np.clip(
            scales.baseline + np.broadcast_to(signed, wide), 0, 2 * scales.baseline
        ).ravel()
        self._weights = fast.variables["w"].get_value()
        self._seen = fast.variables["seen"].get_value()
        slow = b2.Synapses(
            self._teachers,
            self._values,
            on_pre="s_post += jump",
            namespace={
                "jump": _jump(
                    model.cells_per_value * scales.teach_rate, model.tau_nmda_decay, model.dt
                )
            },
            name="slow_synapses",
        )
        teachers = np.arange(len(self._teachers))
        slow.connect(i=teachers, j=teachers // model.cells_per_value)
        pairs = b2.Synapses(
            self._values,
            self._values,
            "inhibition_post = ampa_pre : 1 (summed)\nopposite_s_post = s_pre : 1 (summed)",
            name="interneurons",
        )
        cells = np.arange(len(self._values)).reshape(n, 2, columns)
        pairs.connect(i=cells.ravel(), j=cells[:, ::-1].ravel())
        return [fast, slow, pairs]

    def _monitor(self) -> list[object]:
        """Spikes and traces of the first trial; the last write is what the record shows."""
        _, rows, columns = self.shape
        writes = [phase for phase in self.course.phases if phase.kind == "write"]
        self._shown = writes[-1] if writes else None
        if self._shown is None:
            return []
        teach = self.course.teach[0, self._shown.write]
        channels = np.sort(np.argsort(-np.abs(teach), kind="stable")[:4])
        self._cells = channels + columns * (teach[channels] < 0)
        self._pre_spikes = b2.SpikeMonitor(
            self._keys[: rows * self.model.cells_per_key], name="pre_spikes"
        )
        self._post_spikes = b2.SpikeMonitor(self._values[: 2 * columns], name="post_spikes")
        self._state = b2.StateMonitor(
            self._values,
            ["s", "ampa", "calcium", "inhibition", "opposite_s"],
            record=self._cells,
            dt=2 * self.model.dt * b2.second,
            name="traces",
        )
        return [self._pre_spikes, self._post_spikes, self._state]

    def enter(self, phase: Phase) -> None:
        """Set what drives the network in a phase."""
        n, rows, columns = self.shape
        course, model, scales = self.course, self.model, self.scales
        writing = phase.kind == "write"
        rates = np.zeros((n, rows))
        if writing:
            rates = course.key[:, phase.write]
        elif phase.kind in {"settle", "read"}:
            rates = course.query[:, phase.step]
        cells = model.cells_per_key
        self._keys.rate = np.repeat(rates * scales.key_rate, cells) * b2.Hz
        turnover = course.turnover[:, phase.write] * (phase.kind == "gap")
        self._keys.turning = np.repeat(np.broadcast_to(turnover, (n, rows)), cells) * b2.Hz
        teach = course.teach[:, phase.write, None, :] * SIGNS[:, None] * writing
        self._teachers.rate = (
            np.repeat(np.maximum(teach, 0) * scales.teach_rate, model.cells_per_value) * b2.Hz
        )
        plastic = course.plasticity[:, phase.write] * writing
        self._values.taught = np.repeat((plastic > 0).astype(float), 2 * columns)
        self._values.lr = np.repeat(plastic / scales.key_rate, 2 * columns)
        self._before = np.array(self._counts.count[:])

    def leave(self, phase: Phase) -> None:
        """Read what the network did in a phase."""
        n, rows, columns = self.shape
        if phase.kind == "read":
            counts = (self._counts.count[:] - self._before).reshape(n, 2, columns)
            self.drawn[:, phase.step] = self._decode(counts / phase.duration)
        if (self.kept == phase.step).any():
            now = self._present().reshape(n, rows, self.model.cells_per_key, 2, columns).mean(2)
            self.snapshots[:, self.kept == phase.step] = (now[:, :, 0] - now[:, :, 1])[:, None]

    def _decode(self, rates: np.ndarray) -> np.ndarray:
        """Read-outs (n, column) from rates (n, sign, column), by the cells that fire."""
        model = self.model
        resting = model.drive(np.array(model.base_rate))
        each = SIGNS[:, None] * (model.drive(rates) - resting) / self.scales.gain
        firing = rates > 0
        return (each * firing).sum(1) / np.maximum(firing.sum(1), 1)

    def _present(self) -> np.ndarray:
        """The conductances now: turnover since each synapse's last spike is not in them yet."""
        turnover = np.repeat(self._keys.turnover[:], 2 * self.shape[2])
        baseline = self.scales.baseline
        return baseline + (self._weights - baseline) * np.exp(self._seen - turnover)

    def bounded(self) -> float:
        """The share, from 0 to 1, of conductances that stand at a bound."""
        at = (self._weights <= 0) | (self._weights >= 2 * self.scales.baseline)
        return float(at.mean())

    def traces(self) -> dict[str, xr.DataArray]:
        """Spikes and traces of the last write, first trial."""
        shown = self._shown
        if shown is None:
            return {}
        start, end = shown.start, shown.start + shown.duration

        def spikes(monitor: b2.SpikeMonitor, side: str) -> dict[str, xr.DataArray]:
            times, cells = np.asarray(monitor.t / b2.second), np.asarray(monitor.i)
            inside = (times >= start) & (times < end)
            shown = {f"{side}_time": times[inside], f"{side}_cell": cells[inside]}
            return {name: labelled(name, values, (side,)) for name, values in shown.items()}

        time = np.asarray(self._state.t / b2.second)
        inside = (time >= start) & (time < end)
        state = {
            name: np.asarray(getattr(self._state, name)).T[inside]
            for name in ("s", "opposite_s", "ampa", "inhibition", "calcium")
        }
        curves = {
            "g_nmda": state["s"] - state["opposite_s"],
            "g_ampa": state["ampa"] - state["inhibition"],
            "calcium": state["calcium"],
        }
        coords = {
            "time": ("time", time[inside], {"units": "s", "long_name": "time since the start"}),
            "cell": ("cell", self._cells, {"units": "1", "long_name": "value cell"}),
        }
        return (
            spikes(self._pre_spikes, "pre_spike")
            | spikes(self._post_spikes, "post_spike")
            | {
                name: labelled(name, values, ("time", "cell")).assign_coords(coords)
                for name, values in curves.items()
            }
        )
