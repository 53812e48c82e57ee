"""What the record of a spiking run shows: spikes and traces of one presentation, first trial."""

import brian2 as b2
import numpy as np
import xarray as xr

from fwbio.models.presentations import Phase
from fwbio.record import labelled

_CHANNELS = 4  # as many as a figure can hold


class SpikeTraces:
    """Records spikes and synaptic traces in one phase, and costs next to nothing in others.

    Args:
        keys: the first trial's key cells.
        values: all value cells, the first trial's ON cells first, its OFF cells next.
        shown: the phase to record.
        teach: the teaching input of the first trial in it, (column,), which picks the cells.
        dt: time step, s.
    """

    def __init__(
        self, keys: b2.Subgroup, values: b2.NeuronGroup, shown: Phase, teach: np.ndarray, dt: float
    ) -> None:
        columns = len(teach)
        channels = np.sort(np.argsort(-np.abs(teach), kind="stable")[:_CHANNELS])
        self._cells = channels + columns * (teach[channels] < 0)
        self._opposite = (self._cells + columns) % (2 * columns)
        self._shown, self._dt = shown, dt
        self._spiking = {
            side: (group.variables["_spikespace"].get_value(), count)
            for side, group, count in (("pre", keys, len(keys)), ("post", values, 2 * columns))
        }
        self._state = {
            name: values.variables[name].get_value() for name in ("s", "ampa", "calcium")
        }
        self._on = False
        self._steps: list[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]] = []
        self._before: dict[str, np.ndarray] = {}
        self.recorder = b2.NetworkOperation(self._record, when="end", name="traces")

    def enter(self, phase: Phase) -> None:
        """Say which phase begins."""
        self._on = phase == self._shown
        if self._on:
            self._before = self._now()

    def _now(self) -> dict[str, np.ndarray]:
        state, on, off = self._state, self._cells, self._opposite
        return {
            "g_nmda": state["s"][on] - state["s"][off],
            "g_ampa": state["ampa"][on] - state["ampa"][off],
            "calcium": state["calcium"][on],
        }

    def _record(self) -> None:
        if not self._on:
            return
        fired = {
            side: space[: np.searchsorted(space[: space[-1]], count)].copy()
            for side, (space, count) in self._spiking.items()
        }
        self._steps.append((self._before, fired))
        self._before = self._now()

    def labelled(self) -> dict[str, xr.DataArray]:
        """The variables of the record: spike times and cells, and curves of a few value cells."""
        time = self._shown.start + self._dt * np.arange(len(self._steps))
        found = {}
        for side in ("pre", "post"):
            fired = [spikes[side] for _, spikes in self._steps]
            for name, values in (
                ("time", np.repeat(time, [len(cells) for cells in fired])),
                ("cell", np.concatenate(fired)),
            ):
                name = f"{side}_spike_{name}"
                found[name] = labelled(name, values, (f"{side}_spike",))
        coords = {
            "time": ("time", time, {"units": "s", "long_name": "time since the start"}),
            "cell": ("cell", self._cells, {"units": "1", "long_name": "value cell"}),
        }
        for name in ("g_nmda", "g_ampa", "calcium"):
            curve = np.stack([state[name] for state, _ in self._steps])
            found[name] = labelled(name, curve, ("time", "cell")).assign_coords(coords)
        return found
