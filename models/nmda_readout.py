"""A linear layer as slow NMDA synapses, simulated by Brian2: hidden cells in, drives out.

Each hidden unit is a population of cells, each of which opens the NMDA receptors of its synapses
by the share s. Output cells j and their interneurons sum open receptors:

    ds_i/dt = -s_i / tau_decay;   s_i <- s_i + a (1 - s_i) at a spike,  a = 1 - exp(-alpha tau_rise)
    dn_j/dt = (sum_i g_ij s_i - n_j) / tau_rise;   dc_j/dt = (n'_j - c_j) / tau_gaba
    drive_j = tonic_j + n_j - c_j,   n' the same of the interneurons

so a hidden cell excites all its targets (Dale's law): a positive weight is an NMDA conductance on
the output cell, a negative one an NMDA conductance on that cell's interneuron, which fires at a
rate equal to its drive and inhibits through GABA receptors. Receptors saturate in the presynaptic
variable s, as in Wang 2002, but at once at a spike, and the rise follows where it is linear: s is
below that of Wang's gate by up to tau_rise / (2 tau_decay), a hundredth. In exchange the mean over
Poisson spikes obeys the same equations, with the rate in place of spikes,

    ds/dt = -s / tau_decay + a rate (1 - s),   s(infinity) = x / (1 + x),   x = a rate tau_decay

and a cell's rate is chosen to make s(infinity) proportional to its unit's activity.
"""

from dataclasses import dataclass

import brian2 as b2
import numpy as np

from fwbio.data import constants
from fwbio.errors import FwbioError, unknown_name
from fwbio.models.parameters import check, within
from fwbio.models.presentations import Phase
from fwbio.models.simulation import conduct, engine

CELLS = ("spikes", "rate")

_RECEPTORS = constants("receptors")
_WHERE = "synaptic programmer"


@dataclass(frozen=True, kw_only=True)
class NmdaReadout:
    """Parameters of a layer of slow synapses, SI units.

    Args:
        dt: time step, s.
        gap: silence before each presentation, s, in which NMDA receptors close.
        settle: first part of a presentation, not read, s.
        read: its second part, read, s.
        frame: time between two readings of the drives, s.
        cells: "spikes", Poisson spikes of `cells_per_unit` cells for each hidden unit; "rate", one
            cell each that follows their mean.
        cells_per_unit: spiking cells for each hidden unit.
        peak_rate: rate of a cell at the largest activity of its layer, Hz.
        tau_nmda_rise, tau_nmda_decay: of NMDA-receptor currents, s (Wang 2002).
        alpha_nmda: opening rate of NMDA receptors, 1/s (Wang 2002); receptors don't saturate where
            it is small.
        tau_gaba: decay of GABA-receptor currents, s (Wang 2002).
        trials: how many are simulated at once; it bounds the memory.
        engine: Brian2's code generation, "cython" or "numpy".

    Raises:
        FwbioError: a parameter out of its range, or a combination of them that makes no layer.
    """

    dt: float = 1e-3
    gap: float = within(0.1)
    settle: float = within(0.3)
    read: float = 0.3
    frame: float = 0.01
    cells: str = "spikes"
    cells_per_unit: int = 8
    peak_rate: float = 100.0
    tau_nmda_rise: float = _RECEPTORS["tau_nmda_rise"]
    tau_nmda_decay: float = _RECEPTORS["tau_nmda_decay"]
    alpha_nmda: float = _RECEPTORS["alpha_nmda"]
    tau_gaba: float = _RECEPTORS["tau_gaba"]
    trials: int = 8
    engine: str = "cython"

    def __post_init__(self) -> None:
        if self.cells not in CELLS:
            raise unknown_name(self.cells, CELLS, kind="kind of cells", where=_WHERE)
        check(self, _WHERE)

    def faults(self) -> list[tuple[str, str]]:
        """Combinations of parameters that make no layer, each with its mend."""
        found = []
        shortest = min(self.tau_nmda_rise, self.tau_gaba)
        if self.dt >= shortest:
            found.append(
                (
                    f"dt = {self.dt:g} s is too coarse for a time constant of {shortest:g} s",
                    f"give dt below {shortest:g} s",
                )
            )
        if self.tau_nmda_rise >= self.tau_nmda_decay:
            found.append(
                (
                    f"tau_nmda_rise = {self.tau_nmda_rise:g} s is not below tau_nmda_decay",
                    f"give it below {self.tau_nmda_decay:g} s",
                )
            )
        if self.peak_rate * self.dt > 0.2:
            found.append(
                (
                    f"at peak_rate = {self.peak_rate:g} Hz a cell would often fire twice in a step",
                    f"give at most {0.2 / self.dt:g} Hz, or a smaller dt",
                )
            )
        if self.frame > self.read:
            found.append(
                (
                    f"frame = {self.frame:g} s outlasts the reading of {self.read:g} s",
                    f"give at most {self.read:g} s",
                )
            )
        durations = {"gap": self.gap, "settle": self.settle, "frame": self.read / self.frames}
        for name, duration in durations.items():
            if not np.isclose(round(duration / self.dt) * self.dt, duration, rtol=1e-6, atol=0):
                found.append(
                    (
                        f"a {name} of {duration:g} s is not a whole number of steps of"
                        f" {self.dt:g} s",
                        "choose durations that are multiples of dt",
                    )
                )
        return found

    @property
    def opening(self) -> float:
        """The share a of closed receptors that a spike opens."""
        return float(-np.expm1(-self.alpha_nmda * self.tau_nmda_rise))

    @property
    def frames(self) -> int:
        """Readings of the drives in a presentation."""
        return max(1, round(self.read / self.frame))

    def open_share(self, chance: np.ndarray) -> np.ndarray:
        """The mean open share after a long time of spiking with that chance in each step.

        s = a p / (1 - (1 - a p) E),  E = exp(-dt / tau_decay)
        """
        closing = -np.expm1(-self.dt / self.tau_nmda_decay)
        opened = self.opening * np.asarray(chance, dtype=float)
        return opened / (closing + opened * (1 - closing))

    def chance(self, share: np.ndarray) -> np.ndarray:
        """The inverse of `open_share`: the chance of a spike in each step."""
        share = np.asarray(share, dtype=float)
        closing = -np.expm1(-self.dt / self.tau_nmda_decay)
        return share * closing / (self.opening * (1 - share * (1 - closing)))


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """A linear layer's weights, and the scale of what it reads.

    Args:
        weight: (unit, output), signed.
        tonic: drive of each output cell without input (output,).
        peak: activity of each unit at which its cells fire at `peak_rate` (unit,).
    """

    weight: np.ndarray
    tonic: np.ndarray
    peak: np.ndarray


def drives(
    activity: np.ndarray,
    layer: Layer,
    model: NmdaReadout,
    *,
    seed: int = 0,
    progress: bool = False,
) -> np.ndarray:
    """The drives of output cells at every frame of every presentation.

    Each trial shows its activities one after another, so that what is left of the last
    presentation's NMDA drive goes into the next.

    Args:
        activity: of the hidden units (n, step, unit), from 0 up to the layer's peak; n trials.
        layer: weights, tonic drives and scale.
        model: parameters.
        seed: of the spikes.
        progress: whether to show a bar.

    Returns:
        (frame, n, step, output), in the layer's own units.

    Raises:
        FwbioError: an activity below 0 or above the peak, or an engine that Brian2 lacks.
    """
    activity = np.asarray(activity, dtype=float)
    if (activity < 0).any():
        raise FwbioError(
            f"an activity is {activity.min():.3g}, and rates can't be negative",
            where=_WHERE,
            mend="give activities from 0 up",
        )
    if (activity > layer.peak * (1 + 1e-9)).any():
        raise FwbioError(
            "an activity exceeds the peak at which its cells fire at peak_rate",
            where=_WHERE,
            mend="give a higher peak",
        )
    n, steps, _ = activity.shape
    found = np.zeros((model.frames, n, steps, len(layer.tonic)))
    if not layer.weight.any():
        return found + layer.tonic
    starts = range(0, n, model.trials)
    seeds = np.random.SeedSequence(seed).generate_state(len(starts))
    for start, own in zip(starts, seeds, strict=True):
        part = slice(start, start + model.trials)
        with engine(model.engine, model.dt, int(own)):
            network = _Network(activity[part], layer, model)
            conduct(
                network.parts,
                _phases(steps, model),
                dt=model.dt,
                enter=network.enter,
                leave=network.leave,
                progress=progress,
                title="slow synapses",
            )
        found[:, part] = network.found
    return found + layer.tonic


def _phases(steps: int, model: NmdaReadout) -> tuple[Phase, ...]:
    """Silence, settling and one phase a frame, step by step; `write` counts the frames."""
    frame = model.read / model.frames
    parts = [("gap", model.gap), ("settle", model.settle), *[("frame", frame)] * model.frames]
    phases: list[Phase] = []
    now = 0.0
    for step in range(steps):
        for at, (kind, duration) in enumerate(parts):
            if duration > 0:
                phases.append(
                    Phase(kind=kind, step=step, write=at - 2, start=now, duration=duration)
                )
                now += duration
    return tuple(phases)


class _Network:
    """The Brian2 objects of some trials, and what is set and read at each phase."""

    def __init__(self, activity: np.ndarray, layer: Layer, model: NmdaReadout) -> None:
        self.model = model
        n, steps, units = activity.shape
        outputs = len(layer.tonic)
        self.shape = n, outputs
        self.found = np.zeros((model.frames, n, steps, outputs))
        peak = np.where(layer.peak > 0, layer.peak, 1.0)
        highest = model.open_share(np.array(model.peak_rate * model.dt))
        self._chance = model.chance(highest * np.minimum(activity / peak, 1.0))
        spiking = model.cells == "spikes"
        self._cells = model.cells_per_unit if spiking else 1
        times = {
            name: getattr(model, name) * b2.second
            for name in ("tau_nmda_rise", "tau_nmda_decay", "tau_gaba")
        }
        self._hidden = b2.NeuronGroup(
            n * units * self._cells,
            "ds/dt = -s / tau_nmda_decay : 1\nreleased : 1\nchance : 1",
            threshold="rand() < chance" if spiking else None,
            reset="s += opening * (1 - s)" if spiking else None,
            method="exact",
            namespace=times | {"opening": model.opening},
            name="hidden_cells",
        )
        self._targets = b2.NeuronGroup(
            n * 2 * outputs,
            # Receptors are held over a step, in which the current rises towards them.
            """
            dbound/dt = -bound / tau_nmda_decay : 1
            dnmda/dt = (bound - nmda) / tau_nmda_rise : 1
            dgaba/dt = (inhibition - gaba) / tau_gaba : 1
            inhibition : 1
            influx : 1
            """,
            method="exponential_euler",
            namespace=times,
            name="output_cells_and_interneurons",
        )
        synapses = b2.Synapses(
            self._hidden,
            self._targets,
            "w : 1" if spiking else "w : 1\ninflux_post = w * released_pre : 1 (summed)",
            on_pre="bound_post += w * opening * (1 - s_pre)" if spiking else None,
            namespace={"opening": model.opening},
            name="slow_synapses",
        )
        i, j, w = _conductances(layer.weight * (peak / highest)[:, None], n, self._cells)
        synapses.connect(i=i, j=j)
        synapses.w = w
        if not spiking:
            self._release_by_rate(synapses)
        cells = np.arange(n * 2 * outputs).reshape(n, 2, outputs)
        inhibition = b2.Synapses(
            self._targets,
            self._targets,
            "inhibition_post = nmda_pre : 1 (summed)",
            name="inhibitory_synapses",
        )
        inhibition.connect(i=cells[:, 1].ravel(), j=cells[:, 0].ravel())
        self.parts = [self._hidden, self._targets, synapses, inhibition]

    def _release_by_rate(self, synapses: b2.Synapses) -> None:
        """Let cells release, in each step, what their spikes would on average."""
        self._hidden.run_regularly(
            "released = opening * chance * (1 - s)\ns += released", when="synapses", order=-1
        )
        synapses.summed_updaters["influx_post"].when = "synapses"
        self._targets.run_regularly("bound += influx", when="synapses", order=1)

    def enter(self, phase: Phase) -> None:
        """Set the rates of the hidden cells in a phase."""
        if phase.kind == "gap":
            self._hidden.chance = 0
        elif phase.kind == "settle" or phase.write == 0:
            shown = self._chance[:, phase.step].ravel()
            self._hidden.chance = np.repeat(shown, self._cells)

    def leave(self, phase: Phase) -> None:
        """Read the drives at the end of a frame."""
        if phase.kind == "frame":
            n, outputs = self.shape
            drive = (self._targets.nmda[:] - self._targets.gaba[:]).reshape(n, 2, outputs)
            self.found[phase.write, :, phase.step] = drive[:, 0]


def _conductances(
    weight: np.ndarray, trials: int, cells: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Synapses (i, j, conductance) of all trials, each unit's shared among its cells.

    Cells are laid out (trial, unit, cell), targets (trial, output cell or interneuron, output).
    """
    units, outputs = weight.shape
    unit, output = np.nonzero(weight)
    w = weight[unit, output]
    trial = np.arange(trials)[:, None, None]
    i = (trial * units + unit[:, None]) * cells + np.arange(cells)
    j = (trial * 2 + (w < 0)[:, None]) * outputs + output[:, None]
    i, j, g = np.broadcast_arrays(i, j, np.abs(w)[:, None] / cells)
    # by presynaptic cell, as its spikes run through them
    order = np.argsort(i, axis=None, kind="stable")
    return i.ravel()[order], j.ravel()[order], g.ravel()[order]
