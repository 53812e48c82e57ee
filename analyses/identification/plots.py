"""Figures of identification: each draws on the Axes it is given, and computes nothing heavy."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from textwrap import wrap

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from fwbio.analyses.identification.answer import Candidate, Identification, Parameter
from fwbio.analyses.identification.meanings import ARBITRARY, DERIVED
from fwbio.analyses.identification.tables import groups
from fwbio.analyses.identification.verdict import DECISIVE
from fwbio.analyses.palette import BLACK, BLUE, FAINT, VERMILLION, Style, rule_style, series_style
from fwbio.analyses.words import listed
from fwbio.errors import FwbioError

SHARED = "#DDDDDD"
NEUTRAL = (BLACK, FAINT, BLUE, VERMILLION)  # of a rule whose own hue another one has
BESIDE = ("o", "D", "s", "^")
WRONG = "#F7D9C4"
TICKS = (-3000, -1000, -300, -100, -30, -10, -5, -2, 0)
DECADES = 1.5  # between the smallest and the largest constant, above which the axis is logarithmic
NONE = "none"
UNITS = {"1": "dimensionless", ARBITRARY: "arbitrary units"}
WIDE = 30  # characters of a line of a row's label
MANY = 12  # channels, above which their constants are a median with bands
MIDDLE = (2.5, 25.0, 75.0, 97.5)  # per cent of the channels, where the bands end


def ranking(answer: Identification, ax: Axes, *, most: int = 12) -> Axes:
    """How much worse than the best each rule predicts, with the bound of chance.

    Rules that predict the same on these data share a row; those of the answer are filled.

    Args:
        answer: of `fwbio.analyses.identification.identify`.
        ax: where to draw.
        most: how many rows at most.
    """
    shown = groups(answer)[:most]
    said = [row for row in shown if any(c.rule in answer.rules for c in row)]
    scores = np.array([max(c.z for c in row) for row in shown])
    worst = min(np.min(scores[np.isfinite(scores)], initial=-2 * DECISIVE), -2 * DECISIVE)
    reach = 1.6 * worst
    ax.axvspan(-DECISIVE, 10 * DECISIVE, color=SHARED, linewidth=0, zorder=0)
    ax.axvline(-DECISIVE, color=FAINT, linestyle="--", linewidth=1)
    styles = rule_style(row[0].rule for row in shown)
    labels = [_row_label(row) for row in shown]
    lines = np.array([1 + label.count("\n") for label in labels])
    places = np.cumsum(lines) - (lines + 1) / 2
    for place, row, score in zip(places, shown, scores, strict=True):
        style = styles[row[0].rule]
        ours = row in said
        ax.plot(
            max(score, reach),
            place,
            **style.points,
            markersize=7,
            markerfacecolor=style.colour if ours else "white",
        )
    ax.set_yticks(places, labels)
    for label, row in zip(ax.get_yticklabels(), shown, strict=True):
        label.set_fontweight("bold" if row in said else "normal")
    ax.set_xscale("symlog", linthresh=DECISIVE, linscale=0.7)
    ax.set_xlim(1.3 * reach, max(DECISIVE, 1.5 * np.max(scores, initial=0.0)))
    ax.set_xticks([x for x in TICKS if x > 1.3 * reach], minor=False)
    ax.set_xticks([], minor=True)
    ax.xaxis.set_major_formatter(lambda x, _: f"{x:g}".replace("-", "\N{MINUS SIGN}"))
    ax.set_ylim(lines.sum() - 0.4, -0.6)
    ax.set_xlabel("Vuong's z against the best rule (dimensionless)")
    ax.set_title("grey: no worse than the best, but for chance", fontsize=9, loc="right")
    return _open(ax)


def ranking_lines(answer: Identification, *, most: int = 12) -> int:
    """How many lines of text the rows of `ranking` are labelled with.

    Args:
        answer: of `fwbio.analyses.identification.identify`.
        most: how many rows at most.
    """
    return sum(1 + _row_label(row).count("\n") for row in groups(answer)[:most])


def _row_label(row: Sequence[Candidate]) -> str:
    rest = [c.rule for c in row[1:]]
    return "\n".join([row[0].rule, *wrap(f"= {', '.join(rest)}", WIDE)] if rest else [row[0].rule])


def parameters(
    answer: Identification,
    ax: Axes,
    *,
    rules: Sequence[str] | None = None,
    truth: Mapping[str, np.ndarray | float] | None = None,
) -> list[Axes]:
    """The constants of rules with their 95 % intervals, and the true ones as dashes.

    A constant of several channels has a point for each, in their order; of more than a dozen, the
    median with bands of the middle half and of 95 % of them. What the data don't determine has no
    point: its row says so.

    Args:
        answer: of `fwbio.analyses.identification.identify`.
        ax: where to draw. Constants of several units share its place, a panel a unit.
        rules: whose constants, the answer's first unless given, or the best's where it has none.
        truth: true constants by name, where they are known; of many channels, their median.

    Returns:
        The panels, `ax` the first of them.

    Raises:
        FwbioError: constants are of several units, and `ax` has no place of a grid to be shared.
    """
    named = tuple(rules) if rules is not None else (groups(answer)[0][0].rule,)
    rows = [(rule, p) for rule in named for p in answer[rule].parameters if p.name not in DERIVED]
    units = list(dict.fromkeys(p.units for _, p in rows)) or ["1"]
    each = [[row for row in rows if row[1].units == unit] for unit in units]
    panels = _shared(ax, [len(mine) for mine in each])
    for panel, unit, mine in zip(panels, units, each, strict=True):
        _constants(panel, mine, truth or {}, several=len(named) > 1)
        panel.set_xlabel(f"constant ({UNITS.get(unit, unit)})")
    ax.set_title(f"{listed(named) or NONE}: 95 % intervals", fontsize=9)
    return panels


def _shared(ax: Axes, rows: Sequence[int]) -> list[Axes]:
    """The place of an Axes shared by panels below one another, itself the first."""
    if len(rows) == 1:
        return [ax]
    place = ax.get_subplotspec()
    if place is None:
        raise FwbioError(
            "constants of several units need a panel each",
            where="ax",
            mend="draw on one of figure.subplots(), whose place can be shared",
        )
    grid = place.subgridspec(len(rows), 1, height_ratios=[1 + count for count in rows])
    ax.set_subplotspec(grid[0])
    return [ax, *(ax.figure.add_subplot(grid[i]) for i in range(1, len(rows)))]


def _constants(
    ax: Axes,
    rows: Sequence[tuple[str, Parameter]],
    truth: Mapping[str, np.ndarray | float],
    *,
    several: bool,
) -> None:
    """Constants of one unit, a row each."""
    styles = rule_style(rule for rule, _ in rows)
    _axis(ax, [p for _, p in rows])
    for place, (rule, parameter) in enumerate(rows):
        at = place + _dodged(np.size(parameter.value))
        if not _known(parameter).any():
            _unknown(ax, place)
        elif np.size(parameter.value) > MANY:
            _bands(ax, place, parameter, styles[rule].colour, styles[rule].marker)
        else:
            _interval(ax, at, parameter, styles[rule].colour, styles[rule].marker)
        if parameter.name in truth:
            true = np.ravel(np.broadcast_to(truth[parameter.name], np.shape(parameter.value)))
            if true.size > MANY:
                true, at = np.atleast_1d(np.median(true)), np.full(1, place)
            half = 0.3 if true.size == 1 else 0.5 / true.size
            ax.vlines(true, at - half, at + half, color=BLACK, linewidth=2, zorder=3)
    labels = [f"{rule}: {_constant(p)}" if several else _constant(p) for rule, p in rows]
    ax.set_yticks(range(len(rows)), labels)
    ax.set_ylim(max(len(rows), 1) - 0.4, -0.6)
    _open(ax)


def _axis(ax: Axes, shown: Sequence[Parameter]) -> None:
    """Logarithmic where the constants that are determined are positive and span much."""
    ends = [np.ravel([p.value, p.low, p.high])[np.tile(_known(p), 3)] for p in shown]
    every = np.concatenate([*ends, np.zeros(0)])
    if not every.size:
        ax.set_xticks([])
    elif (every > 0).all() and np.ptp(np.log10(every)) > DECADES:
        ax.set_xscale("log")
    else:
        ax.locator_params(axis="x", nbins=5)


def _known(parameter: Parameter) -> np.ndarray:
    """Which channels' constants the data determine, (channel,)."""
    found: np.ndarray = np.all(
        [np.isfinite(np.ravel(getattr(parameter, end))) for end in ("value", "low", "high")], 0
    )
    return found


def _unknown(ax: Axes, place: float) -> None:
    ax.text(
        0.5,
        place,
        "not determined by these data",
        transform=ax.get_yaxis_transform(),
        ha="center",
        va="center",
        fontsize=8,
        color=FAINT,
    )


def _dodged(count: int) -> np.ndarray:
    return np.zeros(1) if count == 1 else np.linspace(-0.35, 0.35, count)


def _constant(parameter: Parameter) -> str:
    known = _known(parameter)
    lines = [parameter.name.replace("_", " ")]
    if known.size > MANY:
        lines.append(f"median of {known.sum()},\nbands: half, 95 %")
    if 0 < known.sum() < known.size:
        lines.append(f"{(~known).sum()} of {known.size} not determined")
    return "\n".join(lines)


def _bands(ax: Axes, place: float, parameter: Parameter, colour: str, marker: str) -> None:
    """The constants of many channels: where 95 % and half of them lie, and their median."""
    values = np.ravel(parameter.value)[_known(parameter)]
    lowest, low, high, highest = np.percentile(values, MIDDLE)
    ax.barh(place, highest - lowest, 0.28, left=lowest, color=colour, alpha=0.2, linewidth=0)
    ax.barh(place, high - low, 0.28, left=low, color=colour, alpha=0.5, linewidth=0)
    ax.plot(np.median(values), place, marker, color=colour, markersize=6)


def _interval(ax: Axes, at: np.ndarray, parameter: Parameter, colour: str, marker: str) -> None:
    known = _known(parameter)
    value, low, high = (np.ravel(getattr(parameter, end)) for end in ("value", "low", "high"))
    several = value.size > 1
    ax.errorbar(
        value[known],
        at[known],
        xerr=np.maximum([value - low, high - value], 0)[:, known],
        fmt=marker,
        color=colour,
        markersize=3.5 if several else 6,
        linewidth=1,
        capsize=0 if several else 3,
    )


def changes(
    replays: Mapping[str, xr.Dataset], ax: Axes, *, points: int = 1500, quantile: float = 0.999
) -> Axes:
    """Observed changes of the weights, or read-outs, against what rules predict of them.

    The legend has the share of their mean square that each predicts without being corrected.

    Args:
        replays: rule to what `fwbio.analyses.identification.replay.replay` makes of it.
        ax: where to draw.
        points: how many of each to draw at most, evenly picked.
        quantile: of sizes, at which the axes end.
    """
    styles = _told_apart(replays)
    every = [np.abs(part) for r in replays.values() for part in (r.observed, r.predicted)]
    ends = [max(float(np.quantile(part, quantile)) for part in every) or 1.0]
    ends = [-1.05 * ends[0], 1.05 * ends[0]]
    ax.plot(ends, ends, color=BLACK, linewidth=0.8, zorder=4)
    for place, (rule, found) in enumerate(replays.items()):
        step = -(-found.sizes["change"] // points)
        left = ((found.observed - found.predicted) ** 2).mean() / (found.observed**2).mean()
        ax.plot(
            found.predicted[::step],
            found.observed[::step],
            linestyle="",
            marker=styles[rule].marker,
            markersize=3,
            markeredgewidth=0.5,
            alpha=0.6,
            color=styles[rule].colour,
            markerfacecolor=styles[rule].colour if place == 0 else "none",
            label=f"{rule}: {100 * max(1 - float(left), 0):.0f} %",
            zorder=3 - place,
            rasterized=True,
        )
    what = next(iter(replays.values()))
    units = what.observed.attrs["units"]
    units = UNITS.get(units, units)
    name = what.observed.attrs["long_name"].removeprefix("observed ")
    ax.set(xlim=ends, ylim=ends, aspect="equal")
    ax.locator_params(nbins=5)
    ax.set_xlabel(f"predicted {name} ({units})")
    ax.set_ylabel(f"observed {name} ({units})")
    ax.legend(
        title="explained by a run alone",
        title_fontsize=8,
        alignment="left",
        frameon=False,
        fontsize=8,
        loc="upper left",
        handletextpad=0.3,
    )
    return _open(ax)


def _told_apart(rules: Iterable[str]) -> Mapping[str, Style]:
    """Styles of rules whose points lie on one another: neither hue nor marker twice."""
    made: dict[str, Style] = {}
    for rule, style in rule_style(rules).items():
        hues, marks = ({getattr(x, part) for x in made.values()} for part in ("colour", "marker"))
        free = [mark for mark in BESIDE if mark not in marks] or [style.marker]
        other = [hue for hue in NEUTRAL if hue not in hues] or [style.colour]
        made[rule] = replace(
            style,
            colour=other[0] if style.colour in hues else style.colour,
            marker=free[0] if style.marker in marks else style.marker,
        )
    return made


def confusion(counts: pd.DataFrame, ax: Axes, *, right: pd.DataFrame | None = None) -> Axes:
    """Recordings by the rule that made them and by the answer that was given.

    Args:
        counts: how many, a row a rule and a column an answer.
        ax: where to draw; a colour bar is not added, the numbers are written.
        right: which of them are right answers, of the same shape; the others are framed and of
            another colour. All look alike unless given.
    """
    numbers = counts.to_numpy(float)
    shares = numbers / np.maximum(numbers.sum(axis=1, keepdims=True), 1)
    good = np.ones(shares.shape, bool) if right is None else right.to_numpy(bool)
    ax.imshow(np.where(good, shares, 0), cmap="Blues", vmin=0, vmax=1.25, aspect="auto")
    for (i, j), count in np.ndenumerate(numbers):
        if not count:
            continue
        colour = "white" if good[i, j] and shares[i, j] > 0.6 else BLACK
        if not good[i, j]:
            ax.add_patch(
                Rectangle((j - 0.5, i - 0.5), 1, 1, facecolor=WRONG, edgecolor=VERMILLION, lw=1.5)
            )
        ax.text(j, i, f"{count:g}", ha="center", va="center", fontsize=8, color=colour)
    ax.set_xticks(range(counts.shape[1]), counts.columns, rotation=60, ha="right", fontsize=8)
    ax.set_yticks(range(counts.shape[0]), counts.index, fontsize=8)
    for label in ax.get_xticklabels():
        label.set_rotation_mode("anchor")
    ax.set_xticks(np.arange(counts.shape[1]) - 0.5, minor=True)
    ax.set_yticks(np.arange(counts.shape[0]) - 0.5, minor=True)
    ax.grid(which="minor", color=SHARED, linewidth=0.6)
    ax.tick_params(which="both", length=0)
    ax.set_xlabel("answer")
    ax.set_ylabel("true rule")
    return ax


def accuracy(
    series: Mapping[str, pd.DataFrame], ax: Axes, *, xlabel: str, target: float | None = None
) -> Axes:
    """The share of recordings whose rule was named against a condition, with 95 % intervals.

    Args:
        series: name to a table of `at`, the condition, `share`, and `low` and `high`, the ends of
            its interval.
        ax: where to draw.
        xlabel: the condition, with its unit in brackets.
        target: a share that is asked for, drawn as a line.
    """
    styles = series_style(series)
    places = [np.unique(table["at"]).astype(float) for table in series.values()]
    spacing = min((np.diff(at).min(initial=np.inf) for at in places), default=np.inf)
    dodge = 0.12 * spacing if np.isfinite(spacing) else 0.0
    for place, (name, table) in enumerate(series.items()):
        reach = np.maximum([table["share"] - table["low"], table["high"] - table["share"]], 0)
        ax.errorbar(
            table["at"] + dodge * (place - (len(series) - 1) / 2),
            table["share"],
            yerr=reach,
            **styles[name].joined,
            linewidth=1,
            markersize=5,
            capsize=2,
            label=name,
        )
    if target is not None:
        ax.axhline(target, color=FAINT, linestyle=(0, (1, 1)), linewidth=1)
    ax.set_ylim(-0.03, 1.03)
    ax.set_xlabel(xlabel)
    ax.set_ylabel("named right (share)")
    if len(series) > 1:
        ax.legend(frameon=False, fontsize=8, loc="lower left")
    return _open(ax)


def _open(ax: Axes) -> Axes:
    ax.spines[["top", "right"]].set_visible(False)
    return ax
