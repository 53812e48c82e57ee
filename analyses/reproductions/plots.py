"""Figures of reproductions: each function draws on the Axes it is given, and computes nothing."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

# the palette of Okabe & Ito 2008, made for every kind of colour vision
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#333333")
FAINT = "#888888"


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

    Args:
        x: of each series, (point,).
        y: of each series, (seed, point).
        ax: where to draw.
        xlabel: what x is.
        ylabel: what y is.
        dashed: the published level of a series, or of another name, as a dashed line.
        squares: published points of a series, y by x, as squares.
        points: whether to mark the points.
        above: whether the legend stands above the axes, where curves leave it no room.
    """
    colours = dict(zip(y, _colours(len(y)), strict=True))
    for name, values in y.items():
        ax.plot(
            x[name],
            values.mean(0),
            color=colours[name],
            label=name,
            marker="o" if points else None,
            markersize=4,
            linewidth=1.4,
        )
        ax.fill_between(
            x[name], values.min(0), values.max(0), color=colours[name], alpha=0.2, linewidth=0
        )
    for name, level_at in (squares or {}).items():
        ax.plot(
            list(level_at),
            list(level_at.values()),
            "s",
            color=colours[name],
            markerfacecolor="white",
        )
    for name, level in (dashed or {}).items():
        label = None if name in y else name
        colour = colours.get(name, FAINT)
        ax.axhline(level, color=colour, linestyle="--", linewidth=1, label=label)
    return _finished(ax, xlabel, ylabel, above=above)


def strip(
    groups: Mapping[str, np.ndarray],
    ax: Axes,
    *,
    xlabel: str,
    ylabel: str,
    published: Mapping[str, float] | None = None,
    published_label: str = "published",
) -> Axes:
    """A point a seed, a bar at their mean, and published figures as squares, by group.

    Args:
        groups: values of each group, (seed,).
        ax: where to draw.
        xlabel: what the groups are.
        ylabel: what is measured.
        published: of groups that have such a figure.
        published_label: what the squares are called.
    """
    names = list(groups)
    for i, (name, colour) in enumerate(zip(names, _colours(len(names)), strict=True)):
        values = groups[name]
        spread = np.linspace(-0.12, 0.12, len(values)) if len(values) > 1 else np.zeros(1)
        ax.plot(i + spread, values, "o", color=colour, markersize=5)
        ax.hlines(values.mean(), i - 0.25, i + 0.25, color=colour, linewidth=1.6)
    if published:
        ax.plot(
            [names.index(name) + 0.33 for name in published],
            list(published.values()),
            "s",
            color="black",
            markerfacecolor="white",
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
    ax.plot(first, second, "o", color=COLOURS[0], markersize=3, alpha=0.6, label=label)
    return _finished(ax, xlabel, ylabel)


def _colours(count: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(count)]


def _finished(ax: Axes, xlabel: str, ylabel: str, *, above: bool = False) -> Axes:
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    if ax.get_legend_handles_labels()[1]:
        ax.legend(
            loc="lower center" if above else "best",
            bbox_to_anchor=(0.5, 1) if above else None,
            ncols=3 if above else 1,
            fontsize=8,
            framealpha=0.8,
            edgecolor="none",
        )
    ax.spines[["top", "right"]].set_visible(False)
    return ax
