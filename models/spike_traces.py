"""What the record of a spiking run shows: spikes and traces of one presentation, first trial."""

import numpy as np
import xarray as xr

from fwbio.record import labelled

_CHANNELS = 4  # as many as a figure can hold
_CURVES = ("g_nmda", "g_ampa", "calcium")


def shown_cells(teach: np.ndarray) -> np.ndarray:
    """The value cells whose traces are shown, then their opposites: those taught most, in order.

    Args:
        teach: the teaching input of the first trial, (column,); its ON cells
            come first, its OFF cells next.
    """
    columns = len(teach)
    channels = np.sort(np.argsort(-np.abs(teach), kind="stable")[:_CHANNELS])
    cells = channels + columns * (teach[channels] < 0)
    return np.append(cells, (cells + columns) % (2 * columns))


def traces(
    curves: np.ndarray,
    spikes: dict[str, np.ndarray],
    cells: np.ndarray,
    *,
    first: int,
    start: float,
    dt: float,
) -> dict[str, xr.DataArray]:
    """The variables of the record: spike times and cells, and curves of a few value cells.

    Args:
        curves: teaching trace, prediction and calcium at the start of each step, (step, 3, cell).
        spikes: step and cell of each spike (spike, 2), of "pre" and "post".
        cells: which the curves are of, (cell,).
        first: the presentation's first time step.
        start: its start, s.
        dt: time step, s.
    """
    found = {}
    for side, fired in spikes.items():
        for name, values in (("time", start + dt * (fired[:, 0] - first)), ("cell", fired[:, 1])):
            name = f"{side}_spike_{name}"
            found[name] = labelled(name, values, (f"{side}_spike",))
    time = start + dt * np.arange(len(curves))
    coords = {
        "time": ("time", time, {"units": "s", "long_name": "time since the start"}),
        "cell": ("cell", cells, {"units": "1", "long_name": "value cell"}),
    }
    for k, name in enumerate(_CURVES):
        found[name] = labelled(name, curves[:, k], ("time", "cell")).assign_coords(coords)
    return found
