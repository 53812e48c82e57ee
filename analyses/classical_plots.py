"""Figures of the classical memories: points with standard errors, closed forms as lines."""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from fwbio.analyses.classical_laws import at_every_point
from fwbio.analyses.palette import BLACK, COLOURS, FAINT, MARKERS, Style, series_style
from fwbio.analyses.words import listed
from fwbio.errors import FwbioError, unknown_name

LABELS: Mapping[str, str] = {
    "active_synapses": "synapses that are on (share)",
    "spurious": "silent units that fire (share)",
    "missed": "active units that do not fire (share)",
    "information": "information per synapse (bits)",
    "bit_error": "wrong after a step (share)",
    "overlap": "overlap (dimensionless)",
}
LOADS: Mapping[str, str] = {
    "writes": "writes per synapse (dimensionless)",
    "patterns": "load P/N (dimensionless)",
}
APPROXIMATE = ("information",)
LOGARITHMIC = ("spurious", "bit_error")


def by_size(
    measured: xr.Dataset,
    ax: Axes,
    *,
    measure: str,
    theory: xr.Dataset,
    substrate: str = "kernel",
    flipped: float | None = None,
) -> Axes:
    """A measure against the load, a series for each size of the net.

    Exact closed forms are solid lines, approximate ones dotted: of `spurious` also that of
    independent synapses. `overlap` has one line, of infinitely many units, which ends at the
    critical load; `information` has the limit ln 2.

    Args:
        measured: as `fwbio.analyses.classical.willshaw` or `.hopfield` makes it.
        ax: where to draw.
        measure: a measure of it.
        theory: as `fwbio.analyses.classical_laws` makes it, at loads as fine as lines need.
        substrate: whose points to show.
        flipped: of Hopfield's nets, share of a cue that is flipped; the first unless given.

    Raises:
        FwbioError: there is no such measure, substrate or cue.
    """
    here, lines = _chosen(measured, theory, measure, substrate, flipped)
    sizes = [int(n) for n in here.units.values if _shown(here.sel(units=n), measure)]
    axis = _axis(here)
    for n, style in series_style(sizes).items():
        point = here.sel(units=n)
        if measure != "overlap":
            line = lines.sel(units=n)
            dashes = ":" if measure in APPROXIMATE else "-"
            ax.plot(line[axis], line[measure], color=style.colour, linestyle=dashes, linewidth=1.3)
        if measure == "spurious":
            ax.plot(
                line[axis],
                line.spurious_independent,
                color=style.colour,
                linestyle=":",
                linewidth=1,
            )
        _points(point, measure, style, f"N = {n}", ax)
    _name_lines(lines, measure, ax)
    return _finished(here, measure, ax)


def by_substrate(
    measured: xr.Dataset,
    ax: Axes,
    *,
    measure: str,
    theory: xr.Dataset,
    units: int,
    flipped: float | None = None,
) -> Axes:
    """A measure against the load, a series for each substrate that ran a size.

    Args:
        measured: as `fwbio.analyses.classical.willshaw` or `.hopfield` makes it.
        ax: where to draw.
        measure: a measure of it.
        theory: as `fwbio.analyses.classical_laws` makes it, at loads as fine as lines need.
        units: which size.
        flipped: of Hopfield's nets, share of a cue that is flipped; the first unless given.

    Raises:
        FwbioError: there is no such measure, size or cue.
    """
    if units not in measured.units:
        known = ", ".join(f"{n:g}" for n in measured.units.values)
        raise FwbioError(f"{units} units were not run", where="units", mend=f"choose from {known}")
    names = [str(name) for name in measured.substrate.values]
    chosen = [_chosen(measured, theory, measure, name, flipped) for name in names]
    axis = _axis(measured)
    line = chosen[0][1].sel(units=units)
    dashes = ":" if measure in APPROXIMATE else "-"
    label = "closed form" if dashes == "-" else "approximation"
    label = "infinite net" if measure == "overlap" else label
    at = line["nominal_load" if measure == "overlap" else axis]
    ax.plot(at, line[measure], color=FAINT, linestyle=dashes, linewidth=1.3, label=label)
    shown = [
        (name, here.sel(units=units))
        for name, (here, _) in zip(names, chosen, strict=True)
        if _shown(here.sel(units=units), measure)
    ]
    width = np.ptp(measured[axis].sel(units=units).values) * 0.008
    for i, (name, here) in enumerate(shown):
        style = Style(colour=COLOURS[name], marker=MARKERS[name], linestyle="-")
        label = f"{name} ({int(here.trials)} trials)"
        _points(here, measure, style, label, ax, shift=width * (i - (len(shown) - 1) / 2))
    return _finished(measured.sel(units=units), measure, ax)


def capacity_by_size(sizes: xr.Dataset, ax: Axes, *, measured: Sequence[xr.Dataset] = ()) -> Axes:
    """The most information per synapse of Willshaw's memory against its size, and the limit ln 2.

    Args:
        sizes: as `fwbio.analyses.classical_laws.willshaw_sizes` makes it.
        ax: where to draw.
        measured: as `fwbio.analyses.classical.willshaw` makes them; the best load of each size is
            drawn.
    """
    names = [str(name) for name in sizes if sizes[name].dims == ("units",)]
    for name, style in series_style(names).items():
        ax.plot(
            sizes.units,
            sizes[name],
            linewidth=1.3,
            label=sizes[name].attrs["long_name"],
            **style.line,
        )
    for runs, marker in zip(measured, "osD", strict=False):
        here = at_every_point(runs, "information")
        best = here.isel(nominal_load=here.information.fillna(0).argmax("nominal_load"))
        ax.errorbar(
            best.units,
            best.information,
            yerr=best.information_se,
            color=BLACK,
            marker=marker,
            linestyle="none",
            markersize=5,
            capsize=2,
            label=f"measured, {_active(runs)} active",
        )
    ax.axhline(np.log(2), color=FAINT, linestyle="--", linewidth=1, label="limit ln 2")
    ax.set_xscale("log", base=2)
    ax.set_ylim(0, 0.75)
    ax.set_xlabel("size N (units)")
    ax.set_ylabel(LABELS["information"])
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _active(runs: xr.Dataset) -> str:
    """The numbers of active units, in words."""
    active = np.atleast_1d(runs.active.values)
    if (active == np.round(np.log2(runs.units.values))).all():
        return "log2 N"
    return listed([f"{number:g}" for number in np.unique(active)])


def _points(
    here: xr.Dataset, measure: str, style: Style, label: str, ax: Axes, *, shift: float = 0.0
) -> None:
    value = here[measure].values
    drawn = np.isfinite(value) & (value > 0 if measure in LOGARITHMIC else True)
    ax.errorbar(
        here[_axis(here)].values[drawn] + shift,
        value[drawn],
        yerr=np.nan_to_num(here[f"{measure}_se"].values[drawn]),
        markersize=4.5,
        capsize=2,
        label=label,
        **style.points,
    )


def _name_lines(lines: xr.Dataset, measure: str, ax: Axes) -> None:
    """Say once what lines are, and draw those that all sizes share."""
    if measure == "overlap":
        one = lines.sel(units=lines.units.values[-1])
        ax.plot(
            one.nominal_load,
            one.overlap,
            color=BLACK,
            linewidth=1.3,
            label="infinite net",
            zorder=1,
        )
        ax.axvline(
            lines.attrs["critical_load"],
            color=FAINT,
            linestyle="--",
            linewidth=1,
            label=f"critical load {lines.attrs['critical_load']:.3f}",
        )
        return
    solid = measure not in APPROXIMATE
    if solid:
        ax.plot([], [], color=FAINT, linestyle="-", linewidth=1.3, label="closed form")
    if measure == "spurious":
        ax.plot([], [], color=FAINT, linestyle=":", linewidth=1.3, label="independent synapses")
    if not solid:
        ax.plot([], [], color=FAINT, linestyle=":", linewidth=1.3, label="approximation")
        ax.axhline(np.log(2), color=FAINT, linestyle="--", linewidth=1, label="limit ln 2")


def _finished(here: xr.Dataset, measure: str, ax: Axes) -> Axes:
    if measure in LOGARITHMIC:
        ax.set_yscale("log")
        points = here[measure].values
        points = points[np.isfinite(points) & (points > 0)]
        ax.set_ylim(bottom=points.min(initial=1.0) / 3)
    if measure == "overlap":
        ax.set_ylim(0, 1.03)
    ax.set_xlabel(LOADS[_axis(here)])
    ax.set_ylabel(LABELS[measure])
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _shown(here: xr.Dataset, measure: str) -> bool:
    return bool(here[measure].notnull().any())


def _axis(dataset: xr.Dataset) -> str:
    return next(name for name in LOADS if name in dataset)


def _chosen(
    measured: xr.Dataset, theory: xr.Dataset, measure: str, substrate: str, flipped: float | None
) -> tuple[xr.Dataset, xr.Dataset]:
    """The points and the closed forms of a substrate and a cue."""
    if measure not in LABELS or measure not in measured:
        known = [name for name in LABELS if name in measured]
        raise unknown_name(measure, known, kind="measure", where="measure")
    names = [str(name) for name in measured.substrate.values]
    if substrate not in names:
        raise unknown_name(substrate, names, kind="substrate", where="substrate")
    here = measured.sel(substrate=substrate)
    if "flipped" not in measured.dims:
        return here, theory
    shares = [float(x) for x in measured.flipped.values]
    share = shares[0] if flipped is None else flipped
    if share not in shares:
        raise FwbioError(
            f"cues with {share:g} flipped were not run",
            where="flipped",
            mend=f"choose from {', '.join(f'{x:g}' for x in shares)}",
        )
    return here.sel(flipped=share), theory.sel(flipped=share)
