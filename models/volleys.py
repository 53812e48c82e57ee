"""Spike-timing rules in a memory, by Brian2: each step a volley of key cells, then one of values.

Key i has `cells_per_key` cells, each of which fires at a step's volley with the chance k_i; value
j has ON and OFF cells that fire LEAD seconds later with the chances v_j+ and v_j-. Their synapses
follow the plasticity model itself, spike by spike (`fwbio.models.plasticity_timing`). Since the
spikes of different cells and steps are independent, the mean over cells of what the synapses
become is the rule, exactly; with finitely many cells it is a sample.

A cue is read as the drive of one more volley, which leaves no trace.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import brian2 as b2
import numpy as np

from fwbio.data import constants
from fwbio.errors import FwbioError
from fwbio.models.parameters import within
from fwbio.models.plasticity_timing import PairSTDP, TripletSTDP
from fwbio.models.presentations import Phase
from fwbio.models.simulation import conduct, dense, engine
from fwbio.models.substrate import Run
from fwbio.models.synapse import PlasticSynapse
from fwbio.traces import LEAD

BEYOND = 1e12  # a largest weight out of reach


@dataclass(frozen=True, kw_only=True)
class VolleyModel:
    """Parameters of the spiking substrate of spike-timing rules; times in seconds.

    Args:
        dt: time step; intervals are whole numbers of it.
        cells_per_key: cells of each key channel.
        cells_per_value: cells of each of a value channel's ON and OFF populations.
        read_cells: cells of each key channel in a cue's volley; infinite: its mean.
        engine: Brian2's code generation, "cython" or "numpy".
    """

    dt: float = 1e-3
    cells_per_key: int = 8
    cells_per_value: int = 8
    read_cells: float = within(np.inf, low=1.0)
    engine: str = "cython"

    def faults(self) -> list[tuple[str, str]]:
        """Combinations of parameters that make no model, each with its mend."""
        return lead_faults(self.dt)


def lead_faults(dt: float) -> list[tuple[str, str]]:
    """What is wrong with a time step, s, that does not divide the lead, and the mend."""
    if dt <= LEAD and np.isclose(LEAD / dt, round(LEAD / dt)):
        return []
    told = f"dt = {dt:g} s does not divide the lead of {LEAD:g} s"
    return [(told, f"give a whole fraction of {LEAD:g} s")]


def onsets(interval: np.ndarray, dt: float, *, where: str) -> tuple[np.ndarray, np.ndarray]:
    """When each step's volleys start, and when it ends, s, (step,) each.

    Args:
        interval: (n, step, 1), s; the last step lasts as long as its own.
        dt: time step, s.
        where: the substrate, for error messages.

    Raises:
        FwbioError: intervals that differ between trials, or are no whole numbers of time steps.
    """
    seconds = interval[..., 0]
    if (seconds != seconds[:1]).any():
        raise FwbioError(
            "trials have intervals of their own",
            where=where,
            mend="give every trial the same, or run them one by one",
        )
    sound = np.isclose(seconds / dt, np.round(seconds / dt))
    if not sound.all():
        raise FwbioError(
            f"an interval of {seconds[~sound].flat[0]:g} s",
            where=where,
            mend=f"give whole numbers of dt = {dt:g} s",
        )
    lasting = np.round(seconds[0] / dt) * dt
    starts = np.cumsum(lasting) - lasting[:1]
    return starts, np.append(starts[1:], starts[-1:] + np.maximum(lasting[-1:], 2 * LEAD))


def pairs() -> PlasticSynapse:
    """Pairs of spikes as the rule `stdp` has them: in units of A+, without bounds in reach."""
    song = constants("plasticity")
    return PairSTDP(a_plus=1.0, a_minus=song["pair_depression"], w_max=BEYOND).synapse()


def triplets() -> PlasticSynapse:
    """Triplets of spikes as the rule `triplet_stdp` has them."""
    return TripletSTDP().synapse()


SYNAPSES: Mapping[str, Callable[[], PlasticSynapse]] = {"pairs": pairs, "triplets": triplets}


def run(
    streams: Mapping[str, np.ndarray],
    initial: np.ndarray,
    kept: np.ndarray,
    model: VolleyModel,
    seed: int,
    progress: bool,
    *,
    plasticity: Callable[[], PlasticSynapse],
) -> Run:
    """Simulate a program of a spike-timing rule.

    Args:
        streams: key, value, query, beta and interval (s), (n, step, channel), n trials.
        initial: weights before the first step, (n, row, column).
        kept: steps after which weights are kept.
        model: parameters.
        seed: of the spikes.
        progress: whether to show a bar.
        plasticity: makes the synapse's model.

    Raises:
        FwbioError: keys or values that are no chances, or an interval that is no whole number of
            time steps.
    """
    _check(streams, model)
    n, rows, columns = initial.shape
    steps = streams["query"].shape[1]
    rng = np.random.default_rng(seed)
    starts, ends = onsets(streams["interval"], model.dt, where="spiking substrate")
    value = streams["value"][:, :, None, :] * np.array([1.0, -1.0])[:, None]
    chances = {
        "key": np.repeat(streams["key"], model.cells_per_key, axis=-1),
        "value": np.repeat(
            np.maximum(value, 0).reshape(n, steps, 2 * columns), model.cells_per_value, axis=-1
        ),
    }
    fired = {name: rng.random(chance.shape) < chance for name, chance in chances.items()}
    drawn = np.zeros((n, steps, columns))
    snapshots = np.zeros((n, len(kept), rows, columns))
    with engine(model.engine, model.dt, seed):
        sources = {
            name: _volleys(spikes, starts + LEAD * (name == "value"), name)
            for name, spikes in fired.items()
        }
        cells = {name: spikes.shape[-1] for name, spikes in fired.items()}
        i, j = dense(n, cells["key"], cells["value"])
        synapses = graded(plasticity()).connect(
            sources["key"], sources["value"], i, j, name="timing_synapses"
        )
        offset = _offset(streams, initial, steps)
        signed = initial[:, :, None, None, :, None] * np.array([1.0, -1.0])[:, None, None] / 2
        shape = (n, rows, model.cells_per_key, 2, columns, model.cells_per_value)
        synapses.w = (offset + np.broadcast_to(signed, shape)).ravel()
        weights = synapses.variables["w"].get_value()
        strength = synapses.variables["strength"].get_value()
        trial = np.repeat(np.arange(n), cells["key"] * cells["value"])

        def enter(phase: Phase) -> None:
            strength[:] = streams["beta"][trial, phase.step, 0]

        def leave(phase: Phase) -> None:
            now = (weights.reshape(shape) - offset).mean((2, 5))
            W = now[:, :, 0] - now[:, :, 1]
            query = streams["query"][:, phase.step]
            if np.isfinite(model.read_cells):
                share = np.clip(query, 0, 1)
                query = rng.binomial(int(model.read_cells), share) / int(model.read_cells)
            drawn[:, phase.step] = np.einsum("nk,nkv->nv", query, W)
            snapshots[:, kept == phase.step] = W[:, None]

        conduct(
            [*sources.values(), synapses],
            steps_between(starts, ends),
            dt=model.dt,
            enter=enter,
            leave=leave,
            progress=progress,
            title="volleys of spikes",
        )
    return Run(
        readout=drawn,
        weights=snapshots,
        onset=starts,
        exact=("the rule in the mean over spikes", "each synapse's plasticity, spike by spike"),
        approximate=(
            f"means over {model.cells_per_key} cells a key and {model.cells_per_value} a value",
            "cues leave no trace, and are read without spikes of the value cells",
        ),
        backend=f"brian2-{model.engine}",
    )


def steps_between(starts: np.ndarray, ends: np.ndarray) -> list[Phase]:
    """The steps as phases, from the times, s, that `onsets` gives."""
    return [
        Phase(kind="volley", step=t, write=t, start=start, duration=end - start)
        for t, (start, end) in enumerate(zip(starts, ends, strict=True))
    ]


def graded(synapse: PlasticSynapse) -> PlasticSynapse:
    """The synapse with what it changes multiplied by `strength`, a variable of each."""
    scaled = synapse.multiplied(dict.fromkeys(synapse.amplitudes, "strength"))
    return replace(scaled, equations=f"{scaled.equations}\nstrength : 1")


def _offset(streams: Mapping[str, np.ndarray], initial: np.ndarray, steps: int) -> float:
    """A baseline that no synapse loses all of."""
    return float(10 * steps**2 * (streams["beta"].max(initial=1)) + np.abs(initial).max(initial=0))


def _volleys(fired: np.ndarray, times: np.ndarray, name: str) -> b2.SpikeGeneratorGroup:
    n, _, cells = fired.shape
    trial, step, cell = np.nonzero(fired)
    return b2.SpikeGeneratorGroup(
        n * cells, trial * cells + cell, times[step] * b2.second, name=f"{name}_volleys"
    )


def _check(streams: Mapping[str, np.ndarray], model: VolleyModel) -> None:
    for name, low in (("key", 0.0), ("value", -1.0)):
        values = streams[name]
        if (values < low).any() or (values > 1).any():
            raise FwbioError(
                f"the {name} goes from {values.min(initial=0):.3g} to {values.max(initial=0):.3g},"
                " and is the chance that a cell fires",
                where="spiking substrate",
                mend=f"give {name}s from {low:g} to 1",
            )
