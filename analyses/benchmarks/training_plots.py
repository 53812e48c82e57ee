"""The figure of the benchmark of training: drawn on the Axes or figure that is given."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from fwbio.analyses.palette import BLUE

OURS, THEIRS, MEMORY = BLUE, "#999999", "#000000"


def throughput(entries: pd.DataFrame, ax: Axes) -> Axes:
    """Time of a step as bars, the memories' part of it dark, tokens a second beside each.

    Args:
        entries: measured results of one row and number of threads.
        ax: where to draw.
    """
    shown = entries.sort_values("step_s", ascending=False)
    colours = [OURS if ours else THEIRS for ours in shown.ours]
    places = range(len(shown))
    ax.barh(places, 1e3 * shown.step_s, color=colours)
    ax.barh(places, 1e3 * shown.memory_s, color=MEMORY, alpha=0.35, label="the memories alone")
    for place, entry in zip(places, shown.itertuples(), strict=True):
        told = f" {entry.tokens_per_s:,.0f} tokens/s"
        ax.text(1e3 * entry.step_s, place, told, va="center", fontsize=8)
    ax.set_yticks(places, shown.implementation, fontsize=8)
    ax.set_xlim(0, 1.35e3 * shown.step_s.max())
    ax.set_xlabel("a step of training (ms)")
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def throughput_panels(measured: pd.DataFrame, figure: Figure | SubFigure) -> list[Axes]:
    """A panel for each row and number of threads.

    Args:
        measured: results with a speed.
        figure: a figure or sub-figure to fill, of `throughput_size` inches.
    """
    groups = list(measured.groupby(["row", "threads"], sort=False))
    panels = figure.subplots(len(groups), squeeze=False)[:, 0]
    for ((row, threads), entries), ax in zip(groups, panels, strict=True):
        ax.set_title(f"{row}, {threads} thread{'s' if threads > 1 else ''}", fontsize=9)
        throughput(entries, ax)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", frameon=False, fontsize=8)
    return list(panels)


def throughput_size(measured: pd.DataFrame) -> tuple[float, float]:
    """The inches (width, height) that `throughput_panels` needs."""
    return 8, 1.6 * measured.groupby(["row", "threads"]).ngroups + 0.6
