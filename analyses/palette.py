"""The colours, markers and lines of every figure: one look for each substrate and for each rule.

All hues are those of Okabe & Ito 2008, made for every kind of colour vision, and none stands alone:
a marker goes with it, and for a line a dash pattern.
"""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

BLACK, BLUE, VERMILLION, GREEN = "#333333", "#0072B2", "#D55E00", "#009E73"
PURPLE, ORANGE, SKY = "#CC79A7", "#E69F00", "#56B4E9"
FAINT = "#888888"

COLOURS: Mapping[str, str] = MappingProxyType(
    {"reference": BLACK, "kernel": BLUE, "flow": PURPLE, "rate": GREEN, "spiking": VERMILLION}
)
MARKERS: Mapping[str, str] = MappingProxyType(
    {"reference": "o", "kernel": "s", "flow": "v", "rate": "^", "spiking": "D"}
)
SPIKE, AMPA, NMDA = BLACK, ORANGE, SKY

_Name = TypeVar("_Name", str, int)
Dashes = str | tuple[float, tuple[float, ...]]


@dataclass(frozen=True, kw_only=True)
class Style:
    """How a series is drawn: a hue, a marker and a line, each of which tells it apart.

    Attributes:
        colour: as `#rrggbb`.
        marker: matplotlib's name of it.
        linestyle: matplotlib's name of it, or (offset, (on, off, ...)) in points.
    """

    colour: str
    marker: str
    linestyle: Dashes

    @property
    def line(self) -> dict[str, Any]:
        """Keywords of `Axes.plot` for a closed form: a line without markers."""
        return {"color": self.colour, "linestyle": self.linestyle, "marker": ""}

    @property
    def points(self) -> dict[str, Any]:
        """Keywords of `Axes.plot` and `Axes.errorbar` for what was measured: markers alone."""
        return {"color": self.colour, "linestyle": "none", "marker": self.marker}

    @property
    def joined(self) -> dict[str, Any]:
        """Keywords of `Axes.plot` and `Axes.errorbar` for measured points joined by a line."""
        return {"color": self.colour, "linestyle": self.linestyle, "marker": self.marker}


_MARKS = ("o", "s", "D", "^", "v", "P", "X", "<", ">", "p", "*", "h", "d")
_DASHES: tuple[Dashes, ...] = (
    "-",
    (0, (5, 2)),
    (0, (1.5, 1.5)),
    (0, (6, 2, 1.5, 2)),
    (0, (9, 3)),
    (0, (5, 2, 1.5, 2, 1.5, 2)),
)
# One hue a family, its plainest rule first and solid.
_FAMILIES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        BLACK: ("hebb", "linear_attention", "tsodyks_markram"),
        BLUE: ("retnet", "mamba2", "gla", "mlstm", "mesa"),
        VERMILLION: ("delta", "longhorn", "efla", "thresholded_delta", "dendritic_error"),
        ORANGE: ("gated_delta", "kda", "gated_delta_2", "comba", "rwkv7", "delta_product"),
        GREEN: ("oja", "covariance", "bcm"),
        PURPLE: ("stdp", "triplet_stdp", "clopath"),
        SKY: ("calcium", "shouval"),
    }
)


def _table() -> dict[str, Style]:
    """Each family's marks begin one further on, so that the plainest rules share none."""
    return {
        rule: Style(colour=colour, marker=_MARKS[(first + i) % len(_MARKS)], linestyle=_DASHES[i])
        for first, (colour, family) in enumerate(_FAMILIES.items())
        for i, rule in enumerate(family)
    }


RULE_STYLES: Mapping[str, Style] = MappingProxyType(_table())


def rule_style(rules: Iterable[str]) -> Mapping[str, Style]:
    """The style of each rule, the same whatever others are drawn beside it.

    Rules of one family share a hue - sums, decays, delta rules, delta rules with decay, rates,
    spike timing, calcium - and differ by marker and line. A rule that is not of the table is grey,
    with the marker and line of its place among such rules.

    Args:
        rules: their names, in the order of the result.
    """
    names = list(dict.fromkeys(rules))
    others = [name for name in names if name not in RULE_STYLES]
    grey = dict(zip(others, _each(itertools.repeat(FAINT)), strict=False))
    return MappingProxyType({name: RULE_STYLES.get(name) or grey[name] for name in names})


def series_style(names: Iterable[_Name], *, without: str = "") -> Mapping[_Name, Style]:
    """Styles of series that are neither rules nor substrates, by their order.

    Args:
        names: of the series, in the order of the result.
        without: a marker that stands for something else in the figure.
    """
    hues = itertools.cycle((BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK))
    return MappingProxyType(dict(zip(dict.fromkeys(names), _each(hues, without), strict=False)))


def _each(colours: Iterable[str], without: str = "") -> Iterable[Style]:
    marks = [mark for mark in _MARKS if mark != without]
    return (
        Style(colour=colour, marker=marker, linestyle=dashes)
        for colour, marker, dashes in zip(
            colours, itertools.cycle(marks), itertools.cycle(_DASHES), strict=False
        )
    )
