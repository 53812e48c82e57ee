"""Figures of departures from the ideal: recall and identification, level by level."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from fwbio.analyses.palette import FAINT, rule_style
from fwbio.errors import FwbioError, unknown_name

QUANTITIES = {
    "recall_accuracy": "recall (share of cues)",
    "recall_change": "change of recall (share of cues)",
    "identified": "identified (share of recordings)",
    "readout_agreement": "agreement of read-outs, r (dimensionless)",
    "weight_agreement": "agreement of weights, cosine (dimensionless)",
}


def panel(
    found: xr.Dataset, departure: str, ax: Axes, *, quantity: str = "recall_accuracy"
) -> Axes:
    """One quantity against the levels of one departure, a line a rule.

    Levels stand evenly, in the order of their ladder; the neutral one is shaded. Bars are standard
    errors over trials, of shares of recordings 95 % intervals. Of recall, each rule's short line at
    the left edge is the reference's and the dashed one is chance. A legend names the rules and
    these.

    Args:
        found: as `fwbio.analyses.departures.departures` makes it.
        departure: which.
        ax: where to draw.
        quantity: a key of `QUANTITIES` that was found.

    Raises:
        FwbioError: it has no such departure or quantity.
    """
    if departure not in found.departure:
        known = [str(name) for name in found.departure.values]
        raise unknown_name(departure, known, kind="departure", where="departure")
    if quantity not in QUANTITIES or quantity not in found:
        known = [name for name in QUANTITIES if name in found]
        raise unknown_name(quantity, known, kind="quantity", where="quantity")
    one = found.sel(departure=departure)
    levels = one.value.values[np.isfinite(one.value.values) | np.isposinf(one.value.values)]
    rungs = np.arange(len(levels))
    styles = rule_style(map(str, one.rule.values))
    ax.axvspan(-0.35, 0.35, color="#eeeeee", linewidth=0, zorder=0, label="neutral level")
    dodge = 0.08
    for i, (rule, style) in enumerate(styles.items()):
        here = one.sel(rule=rule).isel(level=rungs)
        ax.errorbar(
            rungs + dodge * (i - (len(styles) - 1) / 2),
            here[quantity],
            yerr=_bars(here, quantity),
            markersize=4,
            linewidth=1.2,
            elinewidth=0.8,
            label=rule,
            **style.joined,
        )
        if quantity == "recall_accuracy":
            ax.hlines(float(here.reference_accuracy), -0.5, -0.35, color=style.colour, linewidth=2)
    if quantity == "recall_accuracy":
        ax.axhline(
            found.attrs["chance_level"], color=FAINT, linestyle="--", linewidth=0.8, label="chance"
        )
        ax.plot([], [], color="#333333", linewidth=2, label="reference (left edge)")
    if quantity == "recall_change":
        ax.axhline(0, color=FAINT, linewidth=0.8)
    ax.set_xticks(rungs, [_level(level) for level in levels])
    ax.set_xlim(-0.5, len(levels) - 0.5)
    if quantity in {"recall_accuracy", "identified"}:
        ax.set_ylim(-0.04, 1.04)
    ax.set_xlabel(f"{one.label.item()} ({one.level_units.item()})")
    ax.set_ylabel(QUANTITIES[quantity])
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def small_multiples(
    found: xr.Dataset,
    figure: Figure | SubFigure,
    *,
    quantities: Sequence[str] = ("recall_accuracy", "identified"),
    columns: int = 4,
) -> list[Axes]:
    """A panel for each departure, one quantity below the other; levels go away from neutral.

    Args:
        found: as `fwbio.analyses.departures.departures` makes it.
        figure: a figure or sub-figure to fill.
        quantities: those of them that were found are drawn, the first one twice as high.
        columns: panels in a row.

    Raises:
        FwbioError: none of the quantities was found.
    """
    shown = [name for name in quantities if name in found]
    if not shown:
        raise FwbioError(
            f"there is none of {', '.join(quantities)}",
            where="found",
            mend="make it by fwbio.analyses.departures.departures",
        )
    names = [str(name) for name in found.departure.values]
    columns = min(columns, len(names))
    rows = -(-len(names) // columns)
    heights = [2.0, *[1.0] * (len(shown) - 1)]
    grid = figure.add_gridspec(rows, columns)
    drawn = []
    for i, name in enumerate(names):
        row, column = divmod(i, columns)
        inner = grid[row, column].subgridspec(len(shown), 1, height_ratios=heights, hspace=0.08)
        for j, quantity in enumerate(shown):
            ax = panel(found, name, figure.add_subplot(inner[j]), quantity=quantity)
            if j < len(shown) - 1:
                ax.set_xlabel("")
                ax.tick_params(labelbottom=False)
            ax.set_ylabel("" if column else ax.get_ylabel().replace(" (", "\n("))
            if column:
                ax.tick_params(labelleft=False)
            if j == 0:
                substrate = found.substrate.sel(departure=name).item()
                ax.set_title(f"{name.replace('_', ' ')} ({substrate})", fontsize=9)
            ax.tick_params(labelsize=7)
            ax.xaxis.label.set_fontsize(8)
            ax.yaxis.label.set_fontsize(8)
            drawn.append(ax)
    return drawn


def _bars(here: xr.Dataset, quantity: str) -> np.ndarray | None:
    """The lengths of error bars, (rung,), or below and above each point, (2, rung); or none."""
    if f"{quantity}_low" in here:
        ends = here[quantity] - here[f"{quantity}_low"], here[f"{quantity}_high"] - here[quantity]
        return np.stack([np.maximum(end, 0) for end in ends])
    return here[f"{quantity}_se"].values if f"{quantity}_se" in here else None


def _level(level: float) -> str:
    return "∞" if np.isinf(level) else f"{level:.3g}"
