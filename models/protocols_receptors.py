"""Protocols of receptors: their kinetics and the magnesium block, simulated beside closed forms."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import brian2 as b2
import numpy as np
import xarray as xr

from fwbio.data import constants
from fwbio.models.magnesium import MagnesiumBlock
from fwbio.models.receptors import (
    RECEPTORS,
    Receptor,
    compose,
    double_exponential,
    exponential,
)
from fwbio.models.simulation import engine

_DT = 1e-4
_STEP = 2e-4  # of the longer runs whose integrals are taken by rk4
_CONDUCTANCE = 1e-9
_MG = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0)
_TABLE = constants("receptors")

_FAST: Mapping[str, Receptor] = {
    "AMPA, exponential": exponential("gate"),
    "AMPA, two-state": replace(RECEPTORS["ampa_two_state"], name="gate", site="cell"),
    "GABA-A, exponential": exponential("gate", tau=_TABLE["tau_gaba"]),
}
_SLOW: Mapping[str, Receptor] = {
    "NMDA, double exponential": double_exponential("gate"),
    "NMDA, saturating": replace(RECEPTORS["nmda"], name="gate", site="cell"),
    "NMDA, two-state": replace(RECEPTORS["nmda_two_state"], name="gate", site="cell"),
}

_OPEN = "NMDA, saturating"  # has no closed mean under Poisson trains
_MEANS: Mapping[str, Receptor] = {
    "AMPA, exponential": _FAST["AMPA, exponential"],
    "AMPA, two-state": _FAST["AMPA, two-state"],
    "NMDA, saturating": _SLOW["NMDA, saturating"],
    "NMDA, two-state": _SLOW["NMDA, two-state"],
}
_REGULAR = np.array([10.0, 20.0, 40.0, 50.0, 100.0, 200.0, 250.0, 500.0])
_POISSON = np.array([10.0, 30.0, 100.0, 200.0, 500.0])
_CELLS = 30
_WINDOW = 0.5


def receptor_kinetics(*, seed: int = 0, progress: bool = False) -> xr.Dataset:
    """What one spike, a train and a rate do to the gate of each receptor.

    Every cell has one synapse, so that a gate of the cell is one of the synapse.

    Args:
        seed: of the Poisson trains.
        progress: of no effect; the runs take seconds.

    Returns:
        gates after a spike and in a train, (receptor, time), and their means under
        regular and under Poisson trains, (receptor, rate), each beside its closed form.
    """
    one = np.zeros(1)
    fast = _by_time("fast", _FAST, {"spike": one, "train": 5e-3 * np.arange(5)}, 45e-3, 20e-3)
    slow = _by_time("slow", _SLOW, {"spike": one, "train": 20e-3 * np.arange(10)}, 0.6, 0.4)
    means = _by_rate(seed)
    order = ("fast_spike", "slow_spike", "regular", "fast_train", "slow_train", "poisson")
    made = fast | slow | means
    data = {name: made[name] for name in (*order, *sorted(made.keys() - set(order)))}
    return xr.Dataset(
        data,
        attrs={
            "title": "Receptor kinetics: one spike, a train, and the mean at a rate",
            "claim": "each gate follows its closed form: exactly where its steps are exact, by"
            " Runge-Kutta's fourth order where it saturates by Wang's equations; saturating"
            " gates stay below 1 where the sum of their responses would not",
            "source": "Wang 2002, 10.1016/S0896-6273(02)01092-9; Destexhe, Mainen & Sejnowski 1994,"
            " 10.1007/BF00961734",
            "seed": seed,
        },
    )


def _by_time(
    kind: str,
    chosen: Mapping[str, Receptor],
    trains: Mapping[str, np.ndarray],
    end: float,
    spike_end: float,
) -> dict[str, xr.DataArray]:
    """Gates after one spike (shown to `spike_end`) and in a train (to `end`)."""
    gates = _gates(list(chosen.values()), list(trains.values()), end)
    made: dict[str, xr.DataArray] = {}
    for i, (what, spikes) in enumerate(trains.items()):
        # a single response does the most at its start
        last, bend = (spike_end, 2) if what == "spike" else (end, 1)
        steps = np.unique(np.round(last * np.linspace(0, 1, 39) ** bend / _DT).astype(int))
        shown = last * np.linspace(0, 1, 1000) ** bend
        expected = [each.kinetics.train(shown, spikes) for each in chosen.values()]
        told = "one spike" if spikes.size == 1 else f"{spikes.size} spikes at {1 / spikes[1]:g} Hz"
        made |= _panel(
            f"{kind}_{what}",
            f"gate after {told}",
            list(chosen),
            ("time", {"units": "ms", "long_name": "time"}),
            (steps * _DT * 1e3, gates[:, i, steps]),
            (shown * 1e3, expected),
        )
    return made


def _panel(
    name: str,
    told: str,
    series: list[str],
    axis: tuple[str, dict[str, str]],
    simulated: tuple[np.ndarray, np.ndarray],
    expected: tuple[np.ndarray, list[np.ndarray]],
) -> dict[str, xr.DataArray]:
    """A variable of dims (receptor, x) and its closed form, on axes of their own."""
    rows, x = f"receptor_{name}", f"{axis[0]}_{name}"
    return {
        name: xr.DataArray(
            simulated[1],
            {rows: series, x: (x, simulated[0], axis[1])},
            (rows, x),
            attrs={"units": "1", "long_name": told},
        ),
        f"{name}_expected": xr.DataArray(
            expected[1],
            {rows: series, f"{x}_expected": (f"{x}_expected", expected[0], axis[1])},
            (rows, f"{x}_expected"),
        ),
    }


def _cells(
    chosen: Receptor,
    trains: Sequence[np.ndarray],
    name: str,
    *,
    also: str = "",
    method: str | None = None,
) -> list[b2.BrianObject]:
    """A cell a train of spikes, each with one synapse: the cells, and what drives them."""
    made = compose([chosen])
    index = np.repeat(np.arange(len(trains)), [len(train) for train in trains])
    source = b2.SpikeGeneratorGroup(
        len(trains), index, np.concatenate(trains) * b2.second, name=f"{name}_source"
    )
    cells = b2.NeuronGroup(
        len(trains),
        f"{made.equations}\n{also}",
        method=method or made.method,
        namespace=dict(made.namespace),
        name=f"{name}_cells",
    )
    synapses = b2.Synapses(
        source, cells, on_pre=made.on_pre, namespace=dict(made.namespace), name=f"{name}_synapses"
    )
    synapses.connect(j="i")
    return [cells, source, synapses]


def _gates(chosen: Sequence[Receptor], trains: Sequence[np.ndarray], end: float) -> np.ndarray:
    """Gates from the moment at which a spike at 0 acts: (receptor, train, step)."""
    with engine("numpy", _DT, 0):
        parts, monitors = [], []
        for i, each in enumerate(chosen):
            cells, *drive = _cells(each, trains, f"receptor_{i}")
            parts += [cells, *drive]
            monitors.append(
                b2.StateMonitor(cells, "s_gate", record=True, when="end", name=f"gates_{i}")
            )
        b2.Network(parts, monitors).run((end + _DT) * b2.second, namespace={})
        return np.array([monitor.s_gate for monitor in monitors])


def _means(
    chosen: Receptor, trains: Sequence[np.ndarray], start: float, window: float
) -> np.ndarray:
    """The mean gate of each train over a window, by its integral, which is a variable too."""
    with engine("numpy", _STEP, 0):
        also = "darea/dt = s_gate : second"
        cells, *drive = _cells(chosen, trains, "receptor", also=also, method="rk4")
        network = b2.Network(cells, drive)
        network.run(start * b2.second, namespace={})
        before = np.array(cells.area / b2.second)
        network.run(window * b2.second, namespace={})
        return (np.array(cells.area / b2.second) - before) / window


def _by_rate(seed: int) -> dict[str, xr.DataArray]:
    """Means over half a second, a whole number of every period, once the start is forgotten."""
    rng = np.random.default_rng(seed)
    regular, poisson, error = [], [], []
    for each in _MEANS.values():
        start = float(np.ceil(80 * max(each.kinetics.time_constants.values())) / 10)
        steps = round((start + _WINDOW) / _STEP)
        periods = [np.arange(0, steps, round(1 / (rate * _STEP))) for rate in _REGULAR]
        share = np.repeat(_POISSON, _CELLS)[:, None] * _STEP
        if not each.kinetics.linear:
            share = -np.expm1(-share)  # a second spike in a step would not open more
        drawn = [np.flatnonzero(row) for row in rng.random((share.size, steps)) < share]
        trains = [train * _STEP for train in (*periods, *drawn)]
        means = _means(each, trains, start, _WINDOW)
        regular.append(means[: _REGULAR.size])
        cells = means[_REGULAR.size :].reshape(_POISSON.size, _CELLS)
        poisson.append(cells.mean(1))
        error.append(cells.std(1, ddof=1) / np.sqrt(_CELLS))
    shown = np.geomspace(10, 500, 60)
    axis = {"units": "Hz", "scale": "log"}
    closed = {name: each for name, each in _MEANS.items() if name != _OPEN}
    rows = [i for i, name in enumerate(_MEANS) if name != _OPEN]
    made = _panel(
        "regular",
        "mean gate",
        list(_MEANS),
        ("rate", axis | {"long_name": "rate of a regular train"}),
        (_REGULAR, np.array(regular)),
        (shown, [np.array([e.kinetics.mean(r) for r in shown]) for e in _MEANS.values()]),
    ) | _panel(
        "poisson",
        "mean gate",
        list(closed),
        ("rate", axis | {"long_name": "rate of a Poisson train"}),
        (_POISSON, np.array(poisson)[rows]),
        (shown, [np.array([e.kinetics.poisson_mean(r) for r in shown]) for e in closed.values()]),
    )
    return made | {"poisson_se": made["poisson"].copy(data=np.array(error)[rows])}


def magnesium_block(*, seed: int = 0, progress: bool = False) -> xr.Dataset:
    """What magnesium does to the current of NMDA receptors in a voltage clamp.

    A cell clamped to each potential has one receptor for each concentration of magnesium, and one
    spike opens them all; currents are read when they are largest, the gates being 1.

    Args:
        seed: kept in the record; nothing here is random.
        progress: of no effect; the run takes a second.

    Returns:
        the share of receptors that are open and the current, (magnesium, potential), and where
        half are blocked and the current is most inward, (mark, concentration), each beside its
        closed form.
    """
    blocks = {f"{mg:g} mM": MagnesiumBlock(mg=mg) for mg in _MG}
    volts = np.arange(-120, 80, 0.5) * 1e-3 + 0.25e-3  # none at the reversal, where none flows
    currents = _clamp(list(blocks.values()), volts)
    shares = currents / (_CONDUCTANCE * (volts - _TABLE["e_exc"]))
    shown = np.linspace(volts[0], volts[-1], 400)
    few = slice(9, None, 11)
    concentrations = np.array([mg for mg in _MG if mg])
    dense = np.geomspace(concentrations.min(), concentrations.max(), 60)
    laws = [MagnesiumBlock(mg=mg) for mg in dense]
    marks = [
        [np.interp(0.5, share, volts) for share in shares[1:]],
        [_trough(volts, current) for current in currents[1:]],
    ]
    marked = [
        [law.half_block_voltage for law in laws],
        [law.trough_voltage(_TABLE["e_exc"]) for law in laws],
    ]
    curves = {
        "open_share": (shares, [b.open_share(shown) for b in blocks.values()], "1"),
        "current": (
            currents * 1e12,
            [
                b.iv(shown, conductance=_CONDUCTANCE, reversal=_TABLE["e_exc"]) * 1e12
                for b in blocks.values()
            ],
            "pA",
        ),
    }
    names = {"open_share": "share of receptors not blocked", "current": "current of 1 nS"}
    data: dict[str, tuple] = {}
    for name, (simulated, expected, units) in curves.items():
        attrs = {"units": units, "long_name": names[name]}
        data[name] = (("magnesium", "potential"), simulated[:, few], attrs)
        data[f"{name}_expected"] = (("magnesium", "potential_expected"), expected)
    data["mark"] = (
        ("kind", "concentration"),
        np.array(marks) * 1e3,
        {"units": "mV", "long_name": "potential"},
    )
    data["mark_expected"] = (("kind", "concentration_expected"), np.array(marked) * 1e3)
    about = {"units": "mV", "long_name": "clamped potential"}
    return xr.Dataset(
        data,
        {
            "magnesium": list(blocks),
            "potential": ("potential", volts[few] * 1e3, about),
            "potential_expected": ("potential_expected", shown * 1e3, about),
            "kind": ["half blocked", "most inward current"],
            "concentration": (
                "concentration",
                concentrations,
                {"units": "mM", "long_name": "magnesium", "scale": "log"},
            ),
            "concentration_expected": dense,
        },
        {
            "title": "Magnesium block of NMDA receptors",
            "claim": "1 mM magnesium blocks half of the receptors at -20.5 mV and gives the current"
            " a region of negative slope below -27 mV; without it the current is ohmic",
            "source": "Jahr & Stevens 1990, J Neurosci 10:3178",
            "seed": seed,
        },
    )


def _clamp(blocks: Sequence[MagnesiumBlock], volts: np.ndarray) -> np.ndarray:
    """The largest current after a spike, outward positive, A: (block, potential)."""
    receptors = [
        double_exponential(f"m{i}").conducting(_CONDUCTANCE, magnesium=block)
        for i, block in enumerate(blocks)
    ]
    made = compose(receptors)
    with engine("numpy", _DT, 0):
        source = b2.SpikeGeneratorGroup(1, [0], [0] * b2.second, name="clamp_source")
        cells = b2.NeuronGroup(
            len(volts),
            made.equations + "\nv : volt (constant)",
            method=made.method,
            namespace=dict(made.namespace),
            name="clamp_cells",
        )
        cells.v = volts * b2.volt
        synapses = b2.Synapses(
            source, cells, on_pre=made.on_pre, namespace=dict(made.namespace), name="clamp_synapses"
        )
        synapses.connect()
        names = [each.current for each in receptors]
        monitor = b2.StateMonitor(cells, names, record=True, name="clamp_monitor")
        end = 2 * receptors[0].kinetics.peak_time
        b2.Network(source, cells, synapses, monitor).run(end * b2.second, namespace={})
        inward = np.array([np.array(getattr(monitor, name)) for name in names])
    at = np.abs(inward).argmax(-1)[..., None]
    return -np.take_along_axis(inward, at, -1)[..., 0]


def _trough(volts: np.ndarray, current: np.ndarray) -> float:
    """Where a parabola through the lowest three points is lowest."""
    near = slice(current.argmin() - 1, current.argmin() + 2)
    a, b, _ = np.polyfit(volts[near] - volts[near][1], current[near] * 1e9, 2)
    return float(volts[near][1] - b / (2 * a))
