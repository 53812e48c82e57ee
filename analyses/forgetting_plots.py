"""Figures of forgetting: curves with the laws fitted to them and their theory, and half-lives."""

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from fwbio.analyses.forgetting import AXES
from fwbio.analyses.forgetting_fits import Fit
from fwbio.analyses.palette import (
    COLOURS,
    FAINT,
    MARKERS,
    RULE_STYLES,
    Style,
    rule_style,
    series_style,
)
from fwbio.errors import FwbioError

LABELS: Mapping[str, str] = {
    "lag": "lag (presentations)",
    "steps": "steps since storing (steps)",
    "time": "time since storing (s)",
}
_SHARES: Mapping[str, str] = {
    "signal": "signal (share of target)",
    "accuracy": "recall accuracy (share of cues)",
    "cosine": "cosine with target (dimensionless)",
}


def curves(
    measured: Mapping[str, xr.Dataset],
    ax: Axes,
    *,
    quantity: str = "signal",
    fits: Mapping[str, Fit] | None = None,
    theory: Mapping[str, xr.DataArray] | None = None,
    log: bool = False,
) -> Axes:
    """Recall against what has passed since storing: points measured, lines of theory and of fits.

    Args:
        measured: by rule, substrate or any name, as
            `fwbio.analyses.forgetting.forgetting_curve` makes them, all against the same axis.
        ax: where to draw.
        quantity: "signal", "accuracy", "cosine" or another variable of the curves.
        fits: laws by the same names, drawn dotted.
        theory: closed forms by the same names, over the dim of the axis, drawn solid.
        log: whether the axis of what has passed is logarithmic; points at 0 are then left out.

    Raises:
        FwbioError: there is no curve, or they have different axes.
    """
    against = _shared_axis(measured)
    styles = _styles(measured)
    ends = []
    for name, curve in measured.items():
        style = styles[name]
        x = curve[against].values
        shown = x > 0 if log else np.ones(x.shape, dtype=bool)
        ends += [x[shown].min(initial=np.inf), x.max()]
        ax.errorbar(
            x[shown],
            curve[quantity].values[shown],
            yerr=curve[f"{quantity}_se"].values[shown],
            markersize=5,
            capsize=2,
            label=name,
            **style.points,
        )
    for name, line in (theory or {}).items():
        ax.plot(
            line[against], line, color=styles[name].colour, linewidth=1.4, label=f"{name}, theory"
        )
    for name, fit in (fits or {}).items():
        low, high = (min(ends), max(ends)) if log else (0.0, max(ends))
        x = np.geomspace(low, high, 200) if log else np.linspace(low, high, 200)
        label = f"{name}, {fit.kind} fit"
        ax.plot(
            x, fit.predict(x), color=styles[name].colour, linestyle=":", linewidth=1.4, label=label
        )
    if log:
        _logarithmic(ax)
    else:
        ax.axhline(0, color=FAINT, linewidth=0.8)
        ax.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=against != "time"))
    ax.set_xlabel(LABELS[against])
    ax.set_ylabel(_SHARES.get(quantity, f"{quantity} (dimensionless)"))
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def half_lives(fits: Mapping[str, Fit], ax: Axes) -> Axes:
    """Half-lives with their 95 % intervals, a row each, on a logarithmic axis.

    An interval without an upper end is drawn as an arrow; what has no half-life is left empty.

    Args:
        fits: laws by rule, substrate or any name, all against the same axis.
        ax: where to draw.

    Raises:
        FwbioError: there is no fit, or they have different axes.
    """
    if len({fit.against for fit in fits.values()}) != 1:
        raise FwbioError(
            "half-lives in different units share no axis",
            where="fits",
            mend="give one fit or more, all against lag, steps or time",
        )
    styles = _styles(fits)
    finite = [
        end
        for fit in fits.values()
        for end in (fit.half_life.low, fit.half_life.value, fit.half_life.high)
        if 0 < end < np.inf
    ]
    edge = 2 * max(finite, default=1.0)
    for row, (name, fit) in enumerate(fits.items()):
        half, style = fit.half_life, styles[name]
        if 0 < half.value < np.inf:
            ax.plot(half.value, row, markersize=6, **style.points)
        low, high = max(half.low, min(finite, default=1.0) / 2), min(half.high, edge)
        if low < edge:
            ax.plot([low, high], [row, row], color=style.colour, linewidth=1.4)
        if half.high > edge:
            ax.plot(edge, row, marker=">", markersize=5, color=style.colour)
    _logarithmic(ax)
    ax.set_yticks(range(len(fits)), list(fits))
    ax.set_ylim(len(fits) - 0.5, -0.5)
    against = next(iter(fits.values())).against
    ax.set_xlabel(f"half-life ({LABELS[against].rpartition('(')[2]}")
    ax.grid(axis="x", color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _logarithmic(ax: Axes) -> None:
    """A logarithmic x axis with plain numbers, few enough that they stand apart."""
    ax.set_xscale("log")
    low, high = ax.get_xlim()
    subs = (1.0, 2.0, 5.0) if high < 200 * low else (1.0,)
    ax.xaxis.set_major_locator(LogLocator(subs=subs))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    ax.xaxis.set_minor_locator(NullLocator())


def _shared_axis(measured: Mapping[str, xr.Dataset]) -> str:
    found = {str(d) for curve in measured.values() for d in curve.dims if d in AXES}
    if len(found) != 1:
        raise FwbioError(
            f"the curves have {len(found)} axes, not one",
            where="measured",
            mend="give one curve or more, all against lag, steps or time",
        )
    return found.pop()


def _styles(names: Mapping[str, object]) -> Mapping[str, Style]:
    if all(name in COLOURS for name in names):
        return {n: Style(colour=COLOURS[n], marker=MARKERS[n], linestyle="-") for n in names}
    known = all(name in RULE_STYLES for name in names)
    return rule_style(names) if known else series_style(names)
