"""Colours, markers and lines; what a figure is held to."""

import itertools
import shutil

import matplotlib as mpl
import numpy as np
import pytest
from house import ROOT
from images import APART, DRAWN_BY, MPL, faults, has_unit, is_number
from matplotlib.figure import Figure
from matplotlib.testing.compare import compare_images
from vision import MACHADO, distance, lab

from fwbio import RULES
from fwbio.analyses.palette import (
    COLOURS,
    FAINT,
    MARKERS,
    RULE_STYLES,
    rule_style,
    series_style,
)
from fwbio.analyses.substrates import SUBSTRATES

IMAGES = ROOT / "tests" / "images"


def test_every_rule_and_substrate_has_a_look():
    assert set(RULE_STYLES) == set(RULES)
    assert set(COLOURS) == set(MARKERS) == set(SUBSTRATES)


def test_any_two_rules_differ_to_every_eye_in_more_than_one_way():
    for (one, first), (other, second) in itertools.combinations(RULE_STYLES.items(), 2):
        seen_apart = distance(first.colour, second.colour) >= APART
        marker, line = first.marker != second.marker, first.linestyle != second.linestyle
        assert seen_apart or (marker and line), f"{one}, {other}"


def test_the_plainest_rules_of_the_families_share_no_marker():
    solid = [style for style in RULE_STYLES.values() if style.linestyle == "-"]
    assert len({style.marker for style in solid}) == len({style.colour for style in solid}) == 7


def test_substrates_differ_to_every_eye():
    assert min(itertools.starmap(distance, itertools.combinations(COLOURS.values(), 2))) >= APART
    assert len(set(MARKERS.values())) == len(MARKERS)


def test_a_rule_looks_the_same_in_any_company(rng):
    names = list(RULES)
    some = list(rng.choice(names, 5, replace=False))
    assert list(rule_style(some)) == some
    assert all(rule_style(some)[name] == rule_style(names)[name] for name in some)


def test_rules_of_ones_own_are_grey_and_differ():
    styles = rule_style(["mine", "delta", "yours", "mine"])
    assert list(styles) == ["mine", "delta", "yours"]
    assert styles["mine"].colour == styles["yours"].colour == FAINT
    assert styles["mine"].marker != styles["yours"].marker


def test_many_series_all_differ():
    styles = series_style(map(str, range(20)))
    assert len({(s.colour, s.marker) for s in styles.values()}) == 20


# Published values of the primaries in CIELAB under D65: Lindbloom's calculator, recalled.
@pytest.mark.parametrize(
    ("colour", "expected"),
    [("white", (100, 0, 0)), ("red", (53.24, 80.09, 67.20)), ("blue", (32.30, 79.19, -107.86))],
)
def test_lab_is_that_of_the_primaries(colour, expected):
    assert lab(colour) == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("vision", MACHADO)
def test_greys_stay_grey_to_every_eye(vision):
    assert lab("#777777", vision) == pytest.approx(lab("#777777"), abs=0.01)


def test_red_and_green_are_near_without_one_kind_of_cone():
    red, green = "#b05000", "#707000"
    seen = {v: np.linalg.norm(lab(red, v) - lab(green, v)) for v in ("normal", *MACHADO)}
    assert seen["deuteranopia"] < seen["normal"] / 3
    assert seen["tritanopia"] > seen["normal"] / 2


@pytest.mark.parametrize(
    "label",
    [
        "time (s)",
        "gain (%)",
        "lag (presentations)",
        "cosine (dimensionless)",
        "hits (share of cues)",
    ],
)
def test_labels_with_units(label):
    assert has_unit(label)


@pytest.mark.parametrize("label", ["", "time", "loss (squares: published)", "keys (setting 1)"])
def test_labels_without(label):
    assert not has_unit(label)


def test_numbers_are_told_from_words():
    assert all(map(is_number, ["1", "\N{MINUS SIGN}0.5", "$\\mathdefault{10^{-2}}$"]))
    assert not any(map(is_number, ["", "delta", "gated_delta_2", "3 trials"]))


def drawn(*styles, xlabel="time (s)", ylabel="rate (Hz)"):
    """A figure of series of these styles."""
    ax = Figure().subplots()
    for i, style in enumerate(styles):
        ax.plot([0, 1], [i, i + 1], label=str(i), **style)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    return ax.figure


def test_figures_without_faults_pass():
    one, two = series_style("ab").values()
    assert faults(drawn(one.joined, two.joined)) == []
    assert faults(drawn({"color": "#707000"}, {"color": "#b05000", "marker": "o"})) == []


def test_bands_and_dots_are_told_apart_as_lines_are():
    ax = Figure().subplots()
    ax.set(xlabel="time (s)", ylabel="rate (Hz)")
    for i, (colour, marker) in enumerate([("#707000", "o"), ("#b05000", "o"), ("#b05000", "s")]):
        ax.fill_between([0, 1], i, [i + 1, i + 2], color=colour, label=f"band {i}")
        ax.scatter([0, 1], [i, i], color=colour, marker=marker, label=f"dots {i}")
    found = " ".join(faults(ax.figure))
    assert "'band 0' and 'band 1'" in found and "'band 1' and 'band 2'" in found
    assert "'dots 0' and 'dots 1'" in found and "'dots 2'" not in found


def test_faults_are_found():
    assert len(faults(drawn({}, xlabel="time", ylabel=""))) == 2
    assert len(faults(drawn({"color": "#707000"}, {"color": "#b05000"}))) == 1
    assert len(faults(drawn({"color": "black"}, {"color": "black"}))) == 1


def test_images_are_compared_wherever_tests_run(request):
    assert request.config.getoption("--mpl")
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert f"matplotlib=={DRAWN_BY}." in pins


@pytest.mark.skipif(not mpl.__version__.startswith(DRAWN_BY), reason="of another version")
@pytest.mark.parametrize("changed", [True, False])
def test_an_image_without_one_of_its_series_is_told(changed, tmp_path):
    figure = rules()
    figure.axes[0].lines[7].set_visible(not changed)
    figure.draw_without_rendering()
    figure.savefig(tmp_path / "found.png", dpi=MPL["savefig_kwargs"]["dpi"])
    kept = shutil.copy(IMAGES / "test_image_palette_rules.png", tmp_path)
    told = compare_images(kept, tmp_path / "found.png", tol=MPL["tolerance"])
    assert (told is not None) == changed


@pytest.mark.mpl_image_compare(**MPL)
def test_image_palette_rules():
    return rules()


def rules():
    """All rules, each as it is drawn."""
    figure = Figure(figsize=(5, 5))
    ax = figure.subplots()
    for i, (rule, style) in enumerate(rule_style(RULES).items()):
        ax.plot([0, 1, 2, 3, 4], np.full(5, -i), **style.joined)
        ax.text(4.2, -i, rule, va="center", fontsize=7)
    ax.set_xlim(-0.5, 6)
    ax.set_axis_off()
    return figure
