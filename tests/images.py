"""How figures are compared with the images kept of them, and what a figure must be.

Every public function of analyses/ that draws - it returns Axes, one or several - has an image test:

    from images import MPL

    @pytest.mark.mpl_image_compare(**MPL)
    def test_image_capacity_plots_by_pairs():  # of `by_pairs` in analyses/capacity_plots.py
        figure, ax = plt.subplots()
        capacity_plots.by_pairs(SMALL_FIXED_NUMBERS, ax)
        return figure

- It is named `test_image_`, the module's path below analyses/ with `_` for `/`, `_`, the function:
  `test_image_benchmarks_plots_scaling`. Further images of one function end in `__` and a word.
- It may stand in any test file. What it draws is small and fixed: numbers written down, or of
  `np.random.default_rng(0)`; not of the `rng` fixture, and of no long run.
- `pytest -n 0 tests/test_X.py --mpl-generate-path=tests/images` makes the image. It is small, at
  best below 30 kB; look at it before it is kept.
- Images are compared by the version of matplotlib that drew them, which constraints.txt pins.
- What the test returns is then held to `faults`, by conftest.py: a unit on every axis of numbers,
  and no two series of one panel told apart by a colour that some eyes don't see.
"""

import functools
import itertools
import re

import matplotlib as mpl
import pytest
from matplotlib.collections import Collection, PathCollection
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from vision import distance

# Other versions lay text out anew, which counts for far more than a series that is missing.
DRAWN_BY = "3.11"
# Root mean square over pixels of 0 to 255. The same version draws the same but for the rounding of
# another processor; a series that is missing counts for 1.3 and more in the images kept today.
TOLERANCE = 1.0
MPL = {
    "baseline_dir": "images",
    "style": "default",
    "tolerance": TOLERANCE,
    "savefig_kwargs": {"dpi": 80},
    "deterministic": True,  # no date and no version in the file
}
# In CIELAB, some seven times what can just be told apart: marks are small.
APART = 15.0

# What a label ends with in brackets: a quantity's unit; what is counted, in the plural (or which
# cell); or that it is a share, or has no dimension.
_SI = r"[fpnumkMG\N{MICRO SIGN}]?(s|h|min|m|V|A|S|F|Hz|M|mol|L|B|iB)"
UNIT = re.compile(
    rf"%|dimensionless|share( of [\w \-]+)?|cell|[a-z][a-z \-]*s|(1/|{_SI}[/ ·])*{_SI}|[KMG]iB"
)


def held_to_house_rules(test):
    """The test of an image, which fails for a figure with faults."""

    @functools.wraps(test)
    def held(*arguments, **named):
        figure = test(*arguments, **named)
        found = faults(figure)
        assert not found, "\n".join(found)
        if not mpl.__version__.startswith(f"{DRAWN_BY}."):
            pytest.skip(f"the images are of matplotlib {DRAWN_BY}, this is another")
        return figure

    return held


def faults(figure):
    """What is wrong with a figure, in words: axes without units, series that look alike."""
    figure.draw_without_rendering()
    shown = [ax for ax in figure.axes if ax.axison and ax.get_visible()]
    return [*unlabelled(figure, shown), *alike(shown)]


def unlabelled(figure, axes):
    """Axes of numbers whose label has no unit."""
    for ax in axes:
        for side, axis in (("x", ax.xaxis), ("y", ax.yaxis)):
            ticks = [text.get_text() for text in axis.get_ticklabels() if text.get_visible()]
            if not axis.get_visible() or not any(map(is_number, ticks)):
                continue
            panel = ax.get_figure(root=False)
            whole = getattr(panel, f"get_sup{side}label")()
            label = axis.get_label_text() or whole
            if not has_unit(label):
                yield f"{side} axis: '{label}' ends with no (unit)"


def has_unit(label):
    """Whether a label ends with a unit in brackets, as `UNIT` has them."""
    ending = re.search(r"\(([^()]*)\)$", label.replace("\n", " "))
    return ending is not None and UNIT.fullmatch(ending[1]) is not None


def is_number(text):
    """Whether a tick's label is a number: digits, and letters only in commands of mathtext."""
    plain = re.sub(r"\\[a-z]+", "", text)
    return re.search(r"\d", plain) is not None and re.search(r"[A-Za-z]", plain) is None


def alike(axes):
    """Pairs of named series of one panel that only some eyes tell apart, or none."""
    for ax in axes:
        looks = {}
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            looks.setdefault(label, look(handle))
        for (one, (shape, colour)), (other, (like, near)) in itertools.combinations(
            looks.items(), 2
        ):
            if shape == like and (apart := distance(colour, near)) < APART:
                yield f"'{one}' and '{other}' look alike to some: {apart:.0f} apart, at least 15"


def look(handle):
    """(shape, colour): how a series looks but for its colour, and its colour on white."""
    if isinstance(handle, ErrorbarContainer):
        line, _, bars = handle.lines
        handle = bars[0] if line is None else line
    if isinstance(handle, BarContainer):
        handle = handle.patches[0]
    alpha = 1.0 if handle.get_alpha() is None else handle.get_alpha()
    if isinstance(handle, Line2D):
        marked = str(handle.get_marker()) not in {"None", "", " "}
        lined = handle.get_linestyle() not in {"None", "", " "}
        hollow = marked and sum(to_rgb_or_white(handle.get_markerfacecolor())) == 3
        dashes = (handle.get_linestyle(), str(handle._dash_pattern)) if lined else None
        wide = lined and handle.get_linewidth() >= 3
        shape = ("line", str(handle.get_marker()) if marked else None, dashes, hollow, wide)
        return shape, on_white(handle.get_color(), alpha)
    if isinstance(handle, Patch):
        return ("patch", handle.get_hatch()), on_white(handle.get_facecolor(), alpha)
    assert isinstance(handle, Collection), f"no rule for {type(handle).__name__}"
    faces, edges = handle.get_facecolor(), handle.get_edgecolor()
    colour = faces[0] if len(faces) else edges[0]
    marked = isinstance(handle, PathCollection)
    mark = handle.get_paths()[0].vertices.round(3).tobytes() if marked else None
    return (type(handle).__name__, mark, str(handle.get_linestyle())), on_white(colour, 1.0)


def to_rgb_or_white(colour):
    """A colour's parts; of none, those of the paper."""
    return (1.0, 1.0, 1.0) if str(colour).lower() == "none" else to_rgb(colour)


def on_white(colour, alpha):
    """An opaque colour that looks as this one does on white paper."""
    *rgb, own = to_rgba(colour)
    return tuple(1 + own * alpha * (c - 1) for c in rgb)
