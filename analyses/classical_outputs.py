"""The files of `fwbio sweep classical`: tables, figures, and a page that says what came out."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from fwbio.analyses.classical_laws import (
    at_every_point,
    deviations,
    hopfield_theory,
    willshaw_sizes,
    willshaw_theory,
)
from fwbio.analyses.classical_theory import critical_load
from fwbio.analyses.outputs import png
from fwbio.files import write_together
from fwbio.record import save, versions

SIZES = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 16384, 65536)
FINE = 40
MEASURES = {
    "willshaw": ("active_synapses", "spurious", "missed", "information"),
    "hopfield": ("bit_error", "overlap", "settled"),
}
DEVIATIONS = ("memory", "substrate", "points", "within three standard errors", "farthest")
WIDTH = 110


def write(
    willshaw: xr.Dataset,
    few: xr.Dataset,
    hopfield: xr.Dataset,
    gaps: xr.Dataset,
    folder: Path,
    *,
    command: str,
) -> list[Path]:
    """Write willshaw and hopfield as .nc, .csv and .png, classical.json and README.md.

    Args:
        willshaw: as `fwbio.analyses.classical.willshaw` makes it.
        few: likewise, with two active units.
        hopfield: as `fwbio.analyses.classical.hopfield` makes it.
        gaps: as `fwbio.analyses.classical.willshaw_gaps` makes it.
        folder: where to; earlier files stay until all are made.
        command: what makes the same again.

    Returns:
        The paths written.

    Raises:
        FwbioError: the folder can't be written.
    """
    measured = {"willshaw": willshaw, "hopfield": hopfield}
    tables = _tables(willshaw, few, hopfield)
    sizes = willshaw_sizes([n for n in SIZES if n <= 128 * int(willshaw.units.max())])
    told = {
        "command": command,
        "versions": versions(),
        "closed_forms": {
            "critical_load": critical_load(),
            "willshaw_bits_per_synapse": sizes.to_dataframe().reset_index().to_dict("list"),
        },
        "exact": {name: _held(found) for name, found in tables.items()},
        "gaps": gaps.to_dataframe().reset_index().to_dict("list"),
    }
    contents: dict[str, str | bytes] = {
        f"{name}.csv": found.to_csv(index=False, float_format="%.5g")
        for name, found in tables.items()
    }
    contents |= {
        "willshaw.png": willshaw_figure(willshaw, few, sizes),
        "hopfield.png": hopfield_figure(hopfield),
        "classical.json": json.dumps(told, indent=1) + "\n",
        "README.md": page(willshaw, few, hopfield, gaps, tables, sizes, command),
    }
    saved = [save(found, folder / f"{name}.nc") for name, found in measured.items()]
    return [*saved, *write_together(folder, contents)]


def table(measured: xr.Dataset, kind: str) -> pd.DataFrame:
    """A row for each measured number, with its closed form and how far it is off.

    Args:
        measured: as `fwbio.analyses.classical` makes it.
        kind: "willshaw" or "hopfield".

    Returns:
        `theory` is NaN where there is none, `z` where there is no exact one or errors are too rare.
    """
    must = (willshaw_theory if kind == "willshaw" else hopfield_theory)(measured)
    off = deviations(measured)
    nothing = xr.full_like(measured[MEASURES[kind][0]], np.nan)
    parts = []
    for name in MEASURES[kind]:
        columns = {
            "value": measured[name],
            "se": measured[f"{name}_se"],
            "theory": must.get(name, nothing),
            "z": off.get(name, nothing),
            "pairs": measured.pairs,
            "trials": measured.trials,
        }
        if kind == "willshaw":
            columns["active"] = measured.active
        parts.append(xr.Dataset(columns).expand_dims(measure=[name]))
    frame = xr.concat(parts, "measure").to_dataframe().reset_index()
    frame = frame[frame.value.notna()]
    dims = [str(d) for d in measured[MEASURES[kind][0]].dims]
    order = [
        "measure",
        *dims,
        *({"active"} & {*frame.columns}),
        "pairs",
        "trials",
        "value",
        "se",
        "theory",
        "z",
    ]
    return frame[order].sort_values(["measure", *dims], kind="stable")


def deviation_rows(willshaw: xr.Dataset, few: xr.Dataset, hopfield: xr.Dataset) -> list[list[str]]:
    """How far measured points are from exact closed forms: the cells below `DEVIATIONS`.

    Args:
        willshaw: as `fwbio.analyses.classical.willshaw` makes it.
        few: likewise, with two active units.
        hopfield: as `fwbio.analyses.classical.hopfield` makes it.

    Returns:
        A row a memory and substrate; the last two columns count and measure z = (measured - closed
        form) / standard error.
    """
    return _deviation_rows(_tables(willshaw, few, hopfield))


def willshaw_figure(measured: xr.Dataset, few: xr.Dataset, sizes: xr.Dataset) -> bytes:
    """Spurious units and information by load and size, by substrate, and the capacity, as PNG.

    Args:
        measured: as `fwbio.analyses.classical.willshaw` makes it.
        few: likewise, with two active units.
        sizes: as `fwbio.analyses.classical_laws.willshaw_sizes` makes it.
    """
    from matplotlib.figure import Figure

    from fwbio.analyses.classical_plots import by_size, by_substrate, capacity_by_size

    low, high = float(measured.writes.min()), float(measured.writes.max())
    theory = willshaw_theory(measured, np.linspace(0.8 * low, 1.05 * high, FINE).tolist())
    figure = Figure(figsize=(8.6, 6.6), layout="constrained")
    axes = figure.subplots(2, 2)
    by_size(measured, axes[0, 0], measure="spurious", theory=theory)
    by_size(measured, axes[0, 1], measure="information", theory=theory)
    units = int(measured.units.values[0])
    by_substrate(measured, axes[1, 0], measure="spurious", theory=theory, units=units)
    axes[1, 0].set_title(f"N = {units}, by substrate", fontsize=9)
    capacity_by_size(sizes, axes[1, 1], measured=(measured, few))
    for ax, where in zip(
        axes.flat, ("lower right", "lower right", "lower right", "lower right"), strict=True
    ):
        ax.legend(fontsize=7, frameon=False, loc=where)
    return png(figure, dpi=110)


def hopfield_figure(measured: xr.Dataset) -> bytes:
    """Bit errors, overlaps by size and cue, and overlaps by substrate, as PNG.

    Args:
        measured: as `fwbio.analyses.classical.hopfield` makes it.
    """
    from matplotlib.figure import Figure

    from fwbio.analyses.classical_plots import by_size, by_substrate

    low, high = float(measured.patterns.min()), float(measured.patterns.max())
    loads = np.unique([*np.linspace(0.9 * low, 1.03 * high, FINE), critical_load()])
    theory = hopfield_theory(measured, loads.tolist())
    first, last = (float(measured.flipped.values[i]) for i in (0, -1))
    figure = Figure(figsize=(8.6, 6.6), layout="constrained")
    axes = figure.subplots(2, 2)
    by_size(measured, axes[0, 0], measure="bit_error", theory=theory, flipped=first)
    axes[0, 0].set_title("from the stored pattern", fontsize=9)
    by_size(measured, axes[0, 1], measure="overlap", theory=theory, flipped=first)
    axes[0, 1].set_title("settled from the stored pattern", fontsize=9)
    by_size(measured, axes[1, 0], measure="overlap", theory=theory, flipped=last)
    axes[1, 0].set_title(f"settled from a cue with {last:.0%} flipped", fontsize=9)
    units = int(measured.units.values[0])
    by_substrate(
        measured, axes[1, 1], measure="bit_error", theory=theory, units=units, flipped=last
    )
    axes[1, 1].set_title(f"N = {units}, {last:.0%} flipped, by substrate", fontsize=9)
    places = ("lower right", "lower left", "lower left", "lower right")
    for ax, where in zip(axes.flat, places, strict=True):
        ax.legend(fontsize=7, frameon=False, loc=where)
    return png(figure, dpi=110)


def page(
    willshaw: xr.Dataset,
    few: xr.Dataset,
    hopfield: xr.Dataset,
    gaps: xr.Dataset,
    tables: Mapping[str, pd.DataFrame],
    sizes: xr.Dataset,
    command: str,
) -> str:
    """What was measured, what must come out, and what did, in Markdown.

    Args:
        willshaw: as `fwbio.analyses.classical.willshaw` makes it.
        few: likewise, with two active units.
        hopfield: as `fwbio.analyses.classical.hopfield` makes it.
        gaps: as `fwbio.analyses.classical.willshaw_gaps` makes it.
        tables: of both, as `table` makes them.
        sizes: as `fwbio.analyses.classical_laws.willshaw_sizes` makes it.
        command: what makes the same again.
    """
    trials = willshaw.trials.to_series().to_dict()
    named = ", ".join(f"{n} on {name}" for name, n in trials.items())
    clipped = _short(gaps.spurious_clipped, 4)
    far = f"{float(hopfield.flipped[-1]):.0%}"
    parts = [
        "# The classical memories: Willshaw's and Hopfield's",
        f"    {command}",
        _filled(
            "Both are the rule `hebb`. Willshaw's net (1969) binds sparse binary pairs with weights"
            " that end at one and reads by a threshold at the number of active key units; rate and"
            " spiking synapses have that bound themselves, other substrates are clipped after the"
            " run, which is the same. Hopfield's (1982) binds patterns of signs to themselves,"
            " loses its diagonal, and lets one unit after another take the sign of its input until"
            " none turns; synapses see the patterns as ON and OFF cells. Memories of each point:"
            f" {named}. In the figures points are measured (bars: standard errors over memories),"
            " solid lines exact closed forms, dotted ones approximations; the tables hold every"
            " number."
        ),
        "## Measured against exact closed forms",
        _rows(DEVIATIONS, _deviation_rows(tables)),
        _filled(
            "Exact at every size are the share of synapses that are on, 1 - (1 - M^2/N^2)^P; the"
            " share of silent units that fire, from how the synapses of one unit go together"
            " (`classical_theory.spurious`); and the share of units that one step from a cue turns"
            " the wrong way, which is binomial (`classical_theory.bit_error`). Points at which"
            " fewer than a hundred errors are to be expected are not counted. Substrates share"
            " their patterns, so that their points are not independent. Spiking synapses have noise"
            " of their own, and are held to closed forms that know nothing of it."
        ),
        "## Willshaw: bits per synapse",
        "![Spurious units, information and capacity](willshaw.png)",
        _rows(
            (
                "N",
                "log2 N active",
                "measured",
                "nearly clean",
                "best number active",
                "measured with 2",
            ),
            _size_rows(willshaw, few, sizes),
        ),
        _filled(
            f"The limit is ln 2 = {_short(np.log(2), 3)}. The most is held by memories so full that"
            " many units fire that should not; nearly clean is one of them for a hundred that"
            " should. Measured (the best of the loads that were run; two active are best) is the"
            " mutual information of a stored value and its recall, exactly; the other columns take"
            " spurious units for independent, which at the points that were run is"
            f" {_farthest(willshaw):.1%} off at most.{_of_spikes(willshaw)}"
        ),
        "### A bound, and what is left of the last teaching input",
        _filled(
            "Synapses with a hard bound are Willshaw's net if they rest between presentations."
            f" After a short gap, what is left of the NMDA-like trace ({gaps.attrs['tau']:g} s) is"
            " made up for by a negative input, and a weight at its bound takes only that. Rate"
            f" synapses, {gaps.attrs['units']} units, {gaps.attrs['pairs']} pairs; of the same"
            f" nets, clipped, {clipped} of silent units fire:"
        ),
        _rows(("gap", "largest error of a weight", "missed", "spurious"), _gap_rows(gaps)),
        "## Hopfield: overlap with the stored pattern",
        "![Bit errors and overlaps](hopfield.png)",
        _filled(
            "The critical load of infinitely many units is"
            f" {_short(critical_load(), 4)} (Amit, Gutfreund & Sompolinsky 1985), with an overlap"
            f" of .967 there. Settled from the stored pattern; from one with {far} of it flipped:"
        ),
        _rows(
            ("load", "infinite net", *(f"N = {n}" for n in hopfield.units.values)),
            _overlap_rows(hopfield),
        ),
        _filled(
            "Small nets know no sharp transition: they lose patterns below the critical load, and"
            " keep some above it. From a distant cue retrieval ends at a lower load than the"
            " pattern itself is stable at, which the line says nothing of."
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _tables(willshaw: xr.Dataset, few: xr.Dataset, hopfield: xr.Dataset) -> dict[str, pd.DataFrame]:
    both = [table(willshaw, "willshaw"), table(few, "willshaw")]
    return {"willshaw": pd.concat(both), "hopfield": table(hopfield, "hopfield")}


def _farthest(measured: xr.Dataset) -> float:
    """How far approximate information is off what was measured, at most, over it."""
    here = at_every_point(measured, "information").information
    return float(abs(willshaw_theory(measured).information / here - 1).max())


def _of_spikes(measured: xr.Dataset) -> str:
    """What spiking synapses miss, where they were run."""
    if "spiking" not in measured.substrate:
        return ""
    missed = measured.missed.sel(substrate="spiking").dropna("units", how="all").isel(units=0)
    first, last = (f"{float(missed.isel(nominal_load=i)):.1%}" for i in (0, -1))
    return (
        f" On spiking synapses {first} of active units do not fire at the lowest load and {last} at"
        " the highest: a single noisy write ends below the bound, and further ones fill it."
    )


def _filled(text: str) -> str:
    return fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _rows(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _held(found: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Of each substrate: points with an exact closed form, those within three errors, farthest."""
    held = {}
    for name, part in found[found.z.notna()].groupby("substrate", sort=False):
        off = part.z.abs()
        held[str(name)] = {
            "points": len(off),
            "within": int((off <= 3).sum()),
            "farthest": float(off.max()),
        }
    return held


def _deviation_rows(tables: Mapping[str, pd.DataFrame]) -> list[list[str]]:
    return [
        [kind.capitalize(), name, str(x["points"]), str(x["within"]), f"{x['farthest']:.1f}"]
        for kind, found in tables.items()
        for name, x in _held(found).items()
    ]


def _size_rows(measured: xr.Dataset, few: xr.Dataset, sizes: xr.Dataset) -> list[list[str]]:
    rows = []
    for n in sizes.units.values:
        one = sizes.sel(units=n)
        found = [_most(runs, n) for runs in (measured, few)]
        told = [_short(one[name], 3) for name in ("logarithmic", "clean", "best")]
        rows.append([str(n), told[0], found[0], *told[1:], found[1]])
    return rows


def _most(measured: xr.Dataset, units: int) -> str:
    if units not in measured.units:
        return ""
    best = at_every_point(measured, "information").information.max("nominal_load")
    return _short(best.sel(units=units), 3)


def _gap_rows(gaps: xr.Dataset) -> list[list[str]]:
    names = ("weight_error", "missed", "spurious")
    each = [gaps.sel(gap=g) for g in gaps.gap.values]
    return [[f"{float(x.gap):g} s", *(_short(x[name], 4) for name in names)] for x in each]


def _overlap_rows(measured: xr.Dataset) -> list[list[str]]:
    here = at_every_point(measured, "overlap")
    must = hopfield_theory(measured).overlap
    shares = sorted({0, measured.sizes["flipped"] - 1})
    rows = []
    for load in measured.nominal_load.values:
        cells = []
        for n in measured.units.values:
            one = here.sel(nominal_load=load, units=n)
            found = [(one.overlap.isel(flipped=i), one.overlap_se.isel(flipped=i)) for i in shares]
            cells.append("; ".join(f"{_short(x, 3)} +- {_short(e, 3)}" for x, e in found))
        line = must.sel(nominal_load=load).isel(units=-1)
        rows.append([f"{load:g}", _short(line, 4), *cells])
    return rows


def _short(value: Any, digits: int) -> str:
    """A number as the pages print it, .123; nothing is a dash."""
    number = float(value)
    if not np.isfinite(number):
        return "-"
    text = f"{number:.{digits}f}"
    return text[1:] if text.startswith("0.") else text
