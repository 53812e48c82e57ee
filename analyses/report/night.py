"""A figure in the colours of a dark page, for as long as it is drawn that way."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.collections import Collection
from matplotlib.colors import to_rgba, to_rgba_array
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text

PAPER, INK = "#15171a", "#e6e8eb"
GREY = 0.08  # channels that differ by less are a shade of grey
CONTRAST = 4.5  # with the ground, to which darker colours are lightened

Colour = tuple[float, float, float, float]
Change = tuple[Callable[..., Any], Any, Any]


def by_night(colour: Any) -> Colour:
    """A colour on a dark page: greys change places, dark colours become lighter.

    >>> [round(x, 2) for x in by_night("white")], [round(x, 2) for x in by_night("black")]
    ([0.08, 0.09, 0.1, 1.0], [0.9, 0.91, 0.92, 1.0])
    """
    *channels, alpha = to_rgba(colour)
    if max(channels) - min(channels) < GREY:
        share = sum(channels) / 3
        ends = zip(to_rgba(INK)[:3], to_rgba(PAPER)[:3], strict=True)
        red, green, blue = (ink + share * (paper - ink) for ink, paper in ends)
    else:
        whitened = ([x + white * (1 - x) for x in channels] for white in np.linspace(0, 1, 21))
        red, green, blue = next(mix for mix in whitened if _contrast(mix) >= CONTRAST)
    return (red, green, blue, alpha)


def _contrast(channels: Sequence[float]) -> float:
    """The contrast of a colour with the dark ground, by WCAG 2.2."""
    brighter, darker = (_luminance(c) + 0.05 for c in (channels, to_rgba(PAPER)[:3]))
    return brighter / darker


def _luminance(channels: Sequence[float]) -> float:
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in channels]
    return sum(weight * x for weight, x in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@contextmanager
def night(figure: Figure) -> Iterator[Figure]:
    """The figure in a dark page's colours; what is drawn of data by a colour map stays as it is.

    Args:
        figure: drawn once already, so that its ticks stand.
    """
    changes = [change for artist in figure.findobj() for change in _changes(artist)]
    try:
        for change, _, to in changes:
            change(to)
        yield figure
    finally:
        for change, before, _ in changes:
            change(before)


def _changes(artist: Artist) -> Iterator[Change]:
    """What to set on an artist: how, the value before and the value by night."""
    if isinstance(artist, Text):
        yield _change(artist.set_color, artist.get_color())
    elif isinstance(artist, Line2D):
        yield _change(artist.set_color, artist.get_color())
        yield _change(artist.set_markerfacecolor, artist.get_markerfacecolor())
        yield _change(artist.set_markeredgecolor, artist.get_markeredgecolor())
    elif isinstance(artist, Patch):
        yield _change(artist.set_facecolor, artist.get_facecolor())
        yield _change(artist.set_edgecolor, artist.get_edgecolor())
    elif isinstance(artist, Collection) and artist.get_array() is None:
        for put, before in (
            (artist.set_facecolor, artist.get_facecolor()),
            (artist.set_edgecolor, artist.get_edgecolor()),
        ):
            yield put, before, [by_night(colour) for colour in to_rgba_array(before)]


def _change(put: Callable[..., Any], before: Any) -> Change:
    return put, before, by_night(before)
