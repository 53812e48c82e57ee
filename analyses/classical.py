"""Willshaw's and Hopfield's memories measured: loads, sizes and substrates beside closed forms.

`willshaw` and `hopfield` store random patterns by the rule `hebb` and recall them; what must come
out is in `fwbio.analyses.classical_laws`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import xarray as xr
from tqdm import tqdm

from fwbio.analyses import classical_memories as memories
from fwbio.analyses import classical_theory as closed
from fwbio.analyses.capacity_measures import wrong_signs
from fwbio.analyses.classical_config import (
    HopfieldSweep,
    Sweep,
    WillshawSweep,
    attributes,
    trials_of,
)
from fwbio.analyses.recall import ratio
from fwbio.analyses.substrates import SYNAPTIC
from fwbio.data import constants
from fwbio.record import versions

_TAU_NMDA = constants("receptors")["tau_nmda_decay"]
_AT_ONCE = 2e6  # numbers of one stream of the trials that run together


def willshaw(sweep: WillshawSweep | None = None, *, progress: bool = True) -> xr.Dataset:
    """Store and recall sparse binary pairs with weights that end at one.

    Args:
        sweep: what to measure.
        progress: whether to show a bar, on standard error.

    Returns:
        By (substrate, units, nominal_load), each with its standard error over trials in `<name>_se`
        and NaN where nothing was run: `active_synapses`, `spurious` and `missed`, shares, and
        `information` in bits per synapse (`classical_theory.pattern_information`), NaN where units
        were missed. `weight_error` is the largest distance of a weight from the clipped sum of the
        reference. By (units, nominal_load): `pairs`, and `writes`, the load that they really are.
        `active` by units; `trials` by substrate.

    Raises:
        FwbioError: as the substrates say.
    """
    sweep = sweep or WillshawSweep()
    found = _empty(sweep, ("active_synapses", "spurious", "missed", "information"), ())
    error = np.full(_shape(sweep), np.nan)
    for at, substrate, units, pairs, blocks in _points(sweep, "Willshaw", progress):
        active = sweep.active[at[1]]
        parts = []
        for block in blocks:
            keys, values = (
                np.stack([memories.binary_patterns(r, pairs, units, active) for r in rngs])
                for rngs in zip(*(_twins(sweep, units, pairs, t) for t in block), strict=True)
            )
            options = sweep.options.get(substrate)
            weights = memories.clipped_sum(
                keys, values, substrate, seed=sweep.seed, options=options
            )
            parts.append(_recalled(weights, keys, values, active))
            if substrate in SYNAPTIC:
                apart = np.abs(weights - memories.clipped_sum(keys, values)).max()
                error[at] = np.fmax(error[at], apart)
        _put(found, at, {name: np.concatenate([p[name] for p in parts]) for name in parts[0]})
    measured = _dataset(sweep, found, ())
    measured["weight_error"] = (
        ("substrate", "units", "nominal_load"),
        error,
        {"units": "1", "long_name": "largest distance of a weight from the clipped sum"},
    )
    measured["active"] = (
        "units",
        list(sweep.active),
        {"units": "units", "long_name": "active units"},
    )
    writes = measured.pairs * (measured.active / measured.units) ** 2
    measured["writes"] = writes.assign_attrs(units="1", long_name="load (writes per synapse)")
    measured["nominal_load"].attrs = {
        "units": "1",
        "long_name": "load asked for (writes per synapse)",
    }
    return measured


def hopfield(sweep: HopfieldSweep | None = None, *, progress: bool = True) -> xr.Dataset:
    """Store patterns of signs as their own keys, and let cues settle.

    Units take their sign one after another in random order (`classical_memories.settle`).

    Args:
        sweep: what to measure.
        progress: whether to show a bar, on standard error.

    Returns:
        By (substrate, units, flipped, nominal_load), each with its standard error over trials in
        `<name>_se` and NaN where nothing was run: `bit_error` after one step of all units at once,
        `overlap` x.s / N with the stored pattern once settled, and `settled`, the share that did.
        By (units, nominal_load): `pairs`, and `patterns`, P / N as it really is. `trials` by
        substrate.

    Raises:
        FwbioError: as the substrates say.
    """
    sweep = sweep or HopfieldSweep()
    found = _empty(sweep, ("bit_error", "overlap", "settled"), (len(sweep.flipped),))
    for at, substrate, units, pairs, blocks in _points(sweep, "Hopfield", progress):
        parts: list[list[dict[str, np.ndarray]]] = [[] for _ in sweep.flipped]
        for block in blocks:
            twins = [_twins(sweep, units, pairs, t) for t in block]
            patterns = np.stack([memories.sign_patterns(r, pairs, units) for r, _ in twins])
            weights = memories.without_self(
                memories.hebbian_sum(
                    patterns,
                    patterns,
                    substrate,
                    strength=1 / units,
                    seed=sweep.seed,
                    options=sweep.options.get(substrate),
                )
            )
            for i, share in enumerate(sweep.flipped):
                rng = np.random.default_rng([sweep.seed, units, pairs, block[0], i])
                cues = np.stack(
                    [
                        memories.flipped(r, x, round(share * units))
                        for (_, r), x in zip(twins, patterns, strict=True)
                    ]
                )
                parts[i].append(_settled(weights, patterns, cues, sweep, rng))
        for i, part in enumerate(parts):
            place = (*at[:2], i, at[2])
            _put(found, place, {name: np.concatenate([p[name] for p in part]) for name in part[0]})
    measured = _dataset(sweep, found, ("flipped",))
    patterns_ = measured.pairs / measured.units
    measured["patterns"] = patterns_.assign_attrs(units="1", long_name="load (patterns per unit)")
    measured["nominal_load"].attrs = {
        "units": "1",
        "long_name": "load asked for (patterns per unit)",
    }
    return measured.assign_coords(
        flipped=("flipped", list(sweep.flipped), {"units": "1", "long_name": "flipped in a cue"})
    )


def willshaw_gaps(
    sweep: WillshawSweep, gaps: Sequence[float], *, progress: bool = True
) -> xr.Dataset:
    """Willshaw's memory on bounded rate synapses, by the silence between presentations.

    What is left of the last teaching input when the next key comes is made up for by a smaller, or
    negative, input of its own. Free weights end where they should; one at its bound takes only the
    negative part. `classical_memories.clipped_sum` is therefore exact for long gaps.

    Args:
        sweep: whose smallest net to run, at the load nearest to ln 2 writes a synapse.
        gaps: seconds.
        progress: whether to show a bar, on standard error.

    Returns:
        `weight_error`, `missed` and `spurious` by gap; `spurious_clipped`, the same nets clipped.
    """
    load = min(sweep.loads, key=lambda x: abs(x - np.log(2)))
    one = replace(sweep, units=sweep.units[:1], active=sweep.active[:1], loads=(load,))
    trials = trials_of(sweep, "rate")
    rate = dict(sweep.options.get("rate", {}))
    runs = [
        willshaw(
            replace(one, substrates=("rate",), options={"rate": rate | {"gap": gap}}),
            progress=progress,
        ).squeeze(["substrate", "units", "nominal_load"], drop=True)
        for gap in gaps
    ]
    clipped = willshaw(
        replace(one, substrates=("reference",), trials=trials), progress=False
    ).squeeze(drop=True)
    names = ["weight_error", "missed", "spurious"]
    found = xr.concat([run[names] for run in runs], "gap").assign_coords(
        gap=("gap", list(gaps), {"units": "s", "long_name": "silence between presentations"})
    )
    found["spurious_clipped"] = clipped.spurious
    return found.assign_attrs(
        units=int(one.units[0]), pairs=one.pairs(one.units[0], load), tau=_TAU_NMDA
    )


def _recalled(
    weights: np.ndarray, keys: np.ndarray, values: np.ndarray, active: int
) -> dict[str, np.ndarray]:
    """Measures of each trial, (trial,)."""
    units = values.shape[-1]
    fires, shown = memories.fired(weights, keys), values > 0
    extra = (fires & ~shown).sum(-1)
    missed = (~fires & shown).sum(-1)
    told = closed.pattern_information(units, active, extra).mean(-1)
    told = np.where(missed.any(-1), np.nan, told)
    return {
        "active_synapses": (weights > 0.5).mean((-1, -2)),
        "spurious": extra.mean(-1) / (units - active),
        "missed": missed.mean(-1) / active,
        "information": told * keys.shape[-2] / weights[0].size,
    }


def _settled(
    weights: np.ndarray,
    patterns: np.ndarray,
    cues: np.ndarray,
    sweep: HopfieldSweep,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Measures of each trial, (trial,)."""
    some = slice(sweep.cues)
    states, still = memories.settle(weights, cues[:, some], rng, sweeps=sweep.sweeps)
    return {
        "bit_error": wrong_signs(cues @ weights, patterns).mean(-1),
        "overlap": (states * patterns[:, some]).mean((-1, -2)),
        "settled": still.mean(-1),
    }


def _twins(
    sweep: Sweep, units: int, pairs: int, trial: int
) -> tuple[np.random.Generator, np.random.Generator]:
    """A trial's own random numbers, the same on every substrate."""
    one, other = np.random.SeedSequence([sweep.seed, units, pairs, trial]).spawn(2)
    return np.random.default_rng(one), np.random.default_rng(other)


_Point = tuple[tuple[int, int, int], str, int, int, Iterator[range]]


def _points(sweep: Sweep, title: str, progress: bool) -> Iterator[_Point]:
    """Where each point belongs, its substrate, units and pairs, and its trials in blocks."""
    points = [
        ((s, u, i), name, n, sweep.pairs(n, load))
        for s, name in enumerate(sweep.substrates)
        for u, n in enumerate(sweep.units)
        for i, load in enumerate(sweep.loads)
        if n <= sweep.most_units.get(name, n)
    ]
    total = sum(trials_of(sweep, name) for _, name, _, _ in points)
    with tqdm(total=total, unit="memory", desc=title, disable=not progress) as bar:
        for at, name, units, pairs in points:
            bar.set_postfix_str(f"{units} units, {pairs} pairs on {name}")
            size = max(1, int(_AT_ONCE // (pairs * units)))
            blocks = _blocks(trials_of(sweep, name), size, bar.update)
            yield at, name, units, pairs, blocks


def _blocks(trials: int, size: int, done: Callable[[float], Any]) -> Iterator[range]:
    for first in range(0, trials, size):
        block = range(first, min(first + size, trials))
        yield block
        done(len(block))


def _shape(sweep: Sweep) -> tuple[int, int, int]:
    return len(sweep.substrates), len(sweep.units), len(sweep.loads)


def _empty(sweep: Sweep, names: Sequence[str], inner: tuple[int, ...]) -> dict[str, np.ndarray]:
    shape = (*_shape(sweep)[:2], *inner, len(sweep.loads))
    return {name + end: np.full(shape, np.nan) for name in names for end in ("", "_se")}


def _put(
    found: Mapping[str, np.ndarray], at: tuple[int, ...], measures: Mapping[str, np.ndarray]
) -> None:
    for name, by_trial in measures.items():
        mean, spread = ratio(by_trial[:, None], np.ones((len(by_trial), 1)))
        found[name][at], found[f"{name}_se"][at] = mean[0], spread[0]


def _dataset(sweep: Sweep, found: Mapping[str, np.ndarray], inner: tuple[str, ...]) -> xr.Dataset:
    dims = ("substrate", "units", *inner, "nominal_load")
    measures = {}
    for name, values in found.items():
        plain = name.removesuffix("_se")
        attrs = attributes(plain)
        if name != plain:
            attrs["long_name"] = f"standard error over trials: {attrs['long_name']}"
        measures[name] = (dims, values, attrs)
    pairs = [[sweep.pairs(n, load) for load in sweep.loads] for n in sweep.units]
    trials = [trials_of(sweep, name) for name in sweep.substrates]
    dimensionless = {"units": "1"}
    return xr.Dataset(
        {
            **measures,
            "pairs": (
                ("units", "nominal_load"),
                pairs,
                {"units": "pairs", "long_name": "stored pairs"},
            ),
            "trials": ("substrate", trials, {"units": "1", "long_name": "independent memories"}),
        },
        coords={
            "substrate": (
                "substrate",
                list(sweep.substrates),
                {**dimensionless, "long_name": "substrate"},
            ),
            "units": (
                "units",
                list(sweep.units),
                {"units": "units", "long_name": "units of a pattern"},
            ),
            "nominal_load": ("nominal_load", list(sweep.loads)),
        },
        attrs={"config": asdict(sweep), "versions": versions()},
    )
