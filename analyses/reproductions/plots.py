"""Figures of reproductions: each function draws on the Axes it is given, and computes nothing."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from fwbio.analyses.palette import BLUE, FAINT, Style, series_style

PUBLISHED = "s"  # the marker of what was
MARKS = 8  # on a line, where not all of its points are marked


def bands(
    x: Mapping[str, Sequence[float]],
    y: Mapping[str, np.ndarray],
    ax: Axes,
    *,
    xlabel: str,
    ylabel: str,
    dashed: Mapping[str, float] | None = None,
    squares: Mapping[str, Mapping[float, float]] | None = None,
    points: bool = False,
    above: bool = False,
) -> Axes:
    """A line of the mean over seeds and a band from the lowest seed to the highest, each series.

    What was published is hollow squares and dashed lines, in the colour of its series.

    Args:
        x: of each series, (point,).
        y: of each series, (seed, point).
        ax: where to draw.
        xlabel: what x is.
        ylabel: what y is.
        dashed: the published level of a series, or of another name, as a dashed line; a level
            of another name is dotted.
        squares: published points of a series, y by x, as squares.
        points: whether to mark all points, or a few to tell the lines apart.
        above: whether the legend stands above the axes, where curves leave it no room.
    """
    styles = series_style(y, without=PUBLISHED)
    for i, (name, values) in enumerate(y.items()):
        every = 1 if points else max(1, values.shape[1] // MARKS)
        ax.plot(
            x[name],
            values.mean(0),
            **styles[name].points | {"linestyle": "-"},
            markevery=(i * every // len(y), every),
            markersize=4,
            label=name,
            linewidth=1.4,
        )
        ax.fill_between(
            x[name],
            values.min(0),
            values.max(0),
            color=styles[name].colour,
            alpha=0.2,
            linewidth=0,
        )
    for name, level_at in (squares or {}).items():
        ax.plot(list(level_at), list(level_at.values()), **_SQUARE, color=styles[name].colour)
    for name, level in (dashed or {}).items():
        known = name in y
        colour = styles[name].colour if known else FAINT
        kind, label = ("--", None) if known else (":", name)
        ax.axhline(level, color=colour, linestyle=kind, linewidth=1, label=label)
    published = [Line2D([], [], **_SQUARE, color=FAINT)] if squares else []
    if y.keys() & (dashed or {}).keys():
        published.append(Line2D([], [], color=FAINT, linestyle="--", linewidth=1))
    return _finished(ax, xlabel, ylabel, above=above, published=published)


def strip(
    groups: Mapping[str, np.ndarray],
    ax: Axes,
    *,
    xlabel: str,
    ylabel: str,
    styles: Mapping[str, Style] | None = None,
    published: Mapping[str, float] | None = None,
    published_label: str = "published",
) -> Axes:
    """A point a seed, a bar at their mean, and published figures as squares, by group.

    Args:
        groups: values of each group, (seed,).
        ax: where to draw.
        xlabel: what the groups are.
        ylabel: what is measured.
        styles: of the groups; by their order unless given.
        published: of groups that have such a figure.
        published_label: what the squares are called.
    """
    names = list(groups)
    styles = styles or series_style(names, without=PUBLISHED)
    for i, (name, values) in enumerate(groups.items()):
        style = styles[name]
        spread = np.linspace(-0.12, 0.12, len(values)) if len(values) > 1 else np.zeros(1)
        ax.plot(i + spread, values, **style.points, markersize=5)
        ax.hlines(values.mean(), i - 0.25, i + 0.25, color=style.colour, linewidth=1.6)
    if published:
        ax.plot(
            [names.index(name) + 0.33 for name in published],
            list(published.values()),
            **_SQUARE,
            color="black",
            label=published_label,
        )
    ax.set_xticks(range(len(names)), names)
    return _finished(ax, xlabel, ylabel, above=True)


def against(
    first: np.ndarray, second: np.ndarray, ax: Axes, *, xlabel: str, ylabel: str, label: str
) -> Axes:
    """Points of two predictions of the same, and the line on which they are equal.

    Args:
        first: on the x axis, (trial,).
        second: on the y axis, (trial,).
        ax: where to draw.
        xlabel: what the first is.
        ylabel: what the second is.
        label: what the points are.
    """
    ends = [min(first.min(), second.min()), max(first.max(), second.max())]
    ax.plot(ends, ends, color=FAINT, linewidth=1, label="equal")
    ax.plot(first, second, "o", color=BLUE, markersize=3, alpha=0.6, label=label)
    return _finished(ax, xlabel, ylabel)


_SQUARE: Mapping[str, Any] = MappingProxyType(
    {"linestyle": "none", "marker": PUBLISHED, "markerfacecolor": "white"}
)


def _finished(
    ax: Axes, xlabel: str, ylabel: str, *, above: bool = False, published: Sequence[Line2D] = ()
) -> Axes:
    """Labels and a legend, in which `published` lines stand for what was."""
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    handles, labels = ax.get_legend_handles_labels()
    if handles:
        ax.legend(
            [*handles, *published],
            [*labels, *("published" for _ in published)],
            loc="lower center" if above else "best",
            bbox_to_anchor=(0.5, 1) if above else None,
            ncols=3 if above else 1,
            fontsize=8,
            framealpha=0.8,
            edgecolor="none",
        )
    ax.spines[["top", "right"]].set_visible(False)
    return ax
