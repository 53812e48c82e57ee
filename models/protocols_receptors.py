"""Protocols of receptors: their kinetics and the magnesium block, simulated beside closed forms."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import brian2 as b2
import numpy as np
import xarray as xr

from fwbio.data import constants
from fwbio.models.kinetics import Kinetics
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


_REGULAR = ("AMPA, exponential", "AMPA, two-state", "NMDA, saturating", "NMDA, two-state")
_POISSON = ("AMPA, exponential", "AMPA, two-state", "NMDA, two-state")


def receptor_kinetics(*, seed: int = 0, progress: bool = False) -> xr.Dataset:
    """What one spike, a train and a rate do to the gate of each receptor.

    Every cell has one synapse, so that a gate of the cell is one of the synapse.

    Args:
        seed: of the Poisson trains.
        progress: whether to show Brian2's report.

    Returns:
        gates after a spike and in a train of ten spikes, (receptor, time), and their means under
        regular and under Poisson trains, (receptor, rate), each beside its closed form.
    """
    one, five, ten = np.zeros(1), 5e-3 * np.arange(5), 20e-3 * np.arange(10)
    data = (
        _by_time("fast_spike", "after one spike", _FAST, one, 20e-3)
        | _by_time("slow_spike", "after one spike", _SLOW, one, 400e-3)
        | _regular()
        | _by_time("fast_train", "five spikes at 200 Hz", _FAST, five, 45e-3)
        | _by_time("slow_train", "ten spikes at 50 Hz", _SLOW, ten, 600e-3)
        | _poisson(seed)
    )
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
    kind: str, told: str, chosen: Mapping[str, Receptor], spikes: np.ndarray, end: float
) -> dict[str, xr.DataArray]:
    series, x = f"receptor_{kind}", f"time_{kind}"
    bend = 2 if spikes.size == 1 else 1  # a single response does the most at its start
    steps = np.unique(np.round(end * np.linspace(0, 1, 39) ** bend / _DT).astype(int))
    shown = end * np.linspace(0, 1, 1000) ** bend
    about = {"units": "ms", "long_name": "time"}
    gates = [_gates(each, spikes, end)[steps] for each in chosen.values()]
    expected = [each.kinetics.train(shown, spikes) for each in chosen.values()]
    return {
        kind: xr.DataArray(
            gates,
            {series: list(chosen), x: (x, steps * _DT * 1e3, about)},
            (series, x),
            attrs={"units": "1", "long_name": f"gate, {told}"},
        ),
        f"{kind}_expected": xr.DataArray(
            expected,
            {series: list(chosen), f"{x}_expected": (f"{x}_expected", shown * 1e3, about)},
            (series, f"{x}_expected"),
        ),
    }


def _cells(
    chosen: Receptor, trains: Sequence[np.ndarray], *, also: str = "", method: str | None = None
) -> tuple[b2.NeuronGroup, b2.Network]:
    """A cell a train of spikes, each with one synapse."""
    made = compose([chosen])
    index = np.repeat(np.arange(len(trains)), [len(train) for train in trains])
    source = b2.SpikeGeneratorGroup(
        len(trains), index, np.concatenate(trains) * b2.second, name="receptor_source"
    )
    cells = b2.NeuronGroup(
        len(trains),
        f"{made.equations}\n{also}",
        method=method or made.method,
        namespace=dict(made.namespace),
        name="receptor_cells",
    )
    synapses = b2.Synapses(
        source, cells, on_pre=made.on_pre, namespace=dict(made.namespace), name="receptor_synapses"
    )
    synapses.connect(j="i")
    return cells, b2.Network(source, cells, synapses)


def _gates(chosen: Receptor, train: np.ndarray, end: float) -> np.ndarray:
    """The gate step by step, from the moment at which a spike at 0 acts."""
    with engine("numpy", _DT, 0):
        cells, network = _cells(chosen, [train])
        monitor = b2.StateMonitor(cells, "s_gate", record=0, when="end", name="receptor_gate")
        network.add(monitor)
        network.run((end + _DT) * b2.second, namespace={})
        return np.array(monitor.s_gate)[0]


def _means(
    chosen: Receptor, trains: Sequence[np.ndarray], start: float, window: float
) -> np.ndarray:
    """The mean gate of each train over a window, by its integral, which is a variable too."""
    with engine("numpy", _STEP, 0):
        cells, network = _cells(chosen, trains, also="darea/dt = s_gate : second", method="rk4")
        network.run(start * b2.second, namespace={})
        before = np.array(cells.area / b2.second)
        network.run(window * b2.second, namespace={})
        return (np.array(cells.area / b2.second) - before) / window


def _settled(kinetics: Kinetics) -> float:
    """When what came before is forgotten: eight time constants, as whole tenths of a second."""
    return float(np.ceil(80 * max(kinetics.time_constants.values())) / 10)


def _regular() -> dict[str, xr.DataArray]:
    """Means over a tenth of a second, which is a whole number of every period."""
    chosen = {name: (_FAST | _SLOW)[name] for name in _REGULAR}
    periods = np.array([100e-3, 50e-3, 25e-3, 20e-3, 10e-3, 5e-3, 4e-3, 2e-3])
    shown = np.geomspace(1 / periods.max(), 1 / periods.min(), 60)
    means = []
    for each in chosen.values():
        start = _settled(each.kinetics)
        counts = np.round((start + 0.1) / periods).astype(int)
        trains = [np.arange(count) * period for period, count in zip(periods, counts, strict=True)]
        means.append(_means(each, trains, start, 0.1))
    expected = [[each.kinetics.mean(rate) for rate in shown] for each in chosen.values()]
    return _by_rate("regular", list(chosen), 1 / periods, np.array(means), shown, expected)


def _poisson(seed: int) -> dict[str, xr.DataArray]:
    """Means over time and cells, with the standard error of the cells."""
    chosen = {name: (_FAST | _SLOW)[name] for name in _POISSON}
    rates, cells = np.array([10.0, 30.0, 100.0, 200.0, 500.0]), 30
    shown = np.geomspace(rates.min(), rates.max(), 60)
    rng = np.random.default_rng(seed)
    means = []
    for each in chosen.values():
        start = _settled(each.kinetics)
        share = np.repeat(rates, cells)[:, None] * _STEP
        if not each.kinetics.linear:
            share = -np.expm1(-share)  # a second spike in a step would not open more
        spikes = rng.random((rates.size * cells, round((start + 0.5) / _STEP))) < share
        trains = [np.flatnonzero(row) * _STEP for row in spikes]
        means.append(_means(each, trains, start, 0.5).reshape(-1, cells))
    drawn = np.array(means)
    expected = [[each.kinetics.poisson_mean(rate) for rate in shown] for each in chosen.values()]
    made = _by_rate("poisson", list(chosen), rates, drawn.mean(-1), shown, expected)
    error = drawn.std(-1, ddof=1) / np.sqrt(cells)
    return made | {"poisson_se": made["poisson"].copy(data=error)}


def _by_rate(
    kind: str,
    names: list[str],
    rates: np.ndarray,
    means: np.ndarray,
    shown: np.ndarray,
    expected: list[list[float]],
) -> dict[str, xr.DataArray]:
    series, x = f"receptor_{kind}", f"rate_{kind}"
    told = {"regular": "rate of a regular train", "poisson": "rate of a Poisson train"}[kind]
    about = {"units": "Hz", "long_name": told, "scale": "log"}
    return {
        kind: xr.DataArray(
            means,
            {series: names, x: (x, rates, about)},
            (series, x),
            attrs={"units": "1", "long_name": "mean gate"},
        ),
        f"{kind}_expected": xr.DataArray(
            expected,
            {series: names, f"{x}_expected": (f"{x}_expected", shown, about)},
            (series, f"{x}_expected"),
        ),
    }


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
    data = {}
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
