"""Figures of capacity."""

import matplotlib.pyplot as plt
import pytest
from capacities import small
from images import MPL

from fwbio import FwbioError
from fwbio.analyses import capacity_plots


def lines(swept, *, rough=False):
    smooth = swept[["recall_accuracy", "noise_power"]].isel(substrate=0, drop=True)
    known = smooth if rough else smooth.where(smooth.rule == "hebb")
    return known.assign_attrs(approximate=rough)


@pytest.mark.mpl_image_compare(**MPL)
def test_image_capacity_plots_by_rule():
    return drawn(capacity_plots.by_rule, "recall_accuracy")


@pytest.mark.mpl_image_compare(**MPL)
def test_image_capacity_plots_by_rule__noise():
    return drawn(capacity_plots.by_rule, "noise_power")


def drawn(figure_function, measure):
    figure, ax = plt.subplots(figsize=(4, 3.2), layout="constrained")
    swept = small()
    shown = {"theory": lines(swept), "rough": lines(swept, rough=True)}
    figure_function(swept, ax, programmer="direct", measure=measure, **shown).legend()
    return figure


@pytest.mark.mpl_image_compare(**MPL)
def test_image_capacity_plots_by_substrate():
    figure, ax = plt.subplots(figsize=(4, 3.2), layout="constrained")
    swept = small()
    capacity_plots.by_substrate(
        swept, ax, programmer="direct", rule="hebb", theory=lines(swept)
    ).legend()
    return figure


@pytest.mark.parametrize("wrong", [{"programmer": "drawn"}, {"measure": "speed"}])
def test_a_figure_of_what_was_not_run_is_refused(wrong):
    _, ax = plt.subplots()
    with pytest.raises(FwbioError):
        capacity_plots.by_rule(small(), ax, **{"programmer": "direct"} | wrong)
    plt.close()
