"""Images of identification's figures, of an answer and a study that are written down."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from images import MPL
from matplotlib.figure import Figure

from fwbio import FwbioError
from fwbio.analyses.identification import Candidate, Identification, Parameter, plots


def constant(name, value, reach, **named):
    value = np.asarray(value, float)
    return Parameter(name=name, value=value, low=value - reach, high=value + reach, **named)


def answer():
    """Decays that can't be told apart, richer rules beside them, and rules far behind."""
    decays = (constant("decay", 0.95, 0.01), constant("beta", 0.4, 0.03))
    channels = (constant("decay", 0.95 + 0.01 * np.sin(np.arange(8)), 0.02), decays[1])
    lost = Parameter(name="erase", value=np.array(0.7), low=-np.inf, high=np.inf, determined=False)
    named = {"parameters": decays, "free": 2, "explained": 0.9, "z": 0.0}
    candidates = (
        Candidate(rule="retnet", equivalent=("mamba2",), **named),
        Candidate(rule="mamba2", equivalent=("retnet",), **named),
        Candidate(rule="gla", parameters=channels, free=9, explained=0.9, z=-1.2),
        Candidate(rule="comba", parameters=(*decays, lost), free=3, explained=0.9, z=-0.9),
        Candidate(rule="delta", explained=0.5, z=-12.0),
        Candidate(rule="hebb", explained=0.4, z=-30.0),
        Candidate(rule="delta_product", refused="it writes several keys a step"),
    )
    return Identification(
        observed="weights",
        candidates=candidates,
        rules=("retnet", "mamba2"),
        verdict="equivalent",
        sentence="It is retnet or mamba2.",
    )


def panel(draw, *arguments, width=4.4, height=2.8, **named):
    figure = Figure(figsize=(width, height), layout="constrained")
    ax = figure.subplots()
    drawn = draw(*arguments, ax, **named)
    assert drawn is ax or drawn == figure.axes
    return figure


@pytest.mark.mpl_image_compare(**MPL)
def test_image_identification_plots_ranking():
    return panel(plots.ranking, answer())


@pytest.mark.mpl_image_compare(**MPL)
def test_image_identification_plots_parameters():
    rules = ("gla", "comba")
    return panel(plots.parameters, answer(), rules=rules, truth={"decay": 0.95, "beta": 0.42})


@pytest.mark.mpl_image_compare(**MPL)
def test_image_identification_plots_parameters_of_many_channels():
    erased = 0.3 + 0.2 * np.linspace(-1, 1, 128) ** 3
    some = constant("erase", erased[:8], np.where(np.arange(8) < 5, 0.05, np.inf))
    made = Candidate(
        rule="kda",
        parameters=(
            constant("decay", 0.9 + 0.09 * np.sin(np.arange(128)), 0.02),
            constant("beta", 1.4, 0.1, units="pA"),
            replace(some, determined=False),
        ),
    )
    whole = replace(answer(), candidates=(made,), rules=("kda",))
    return panel(plots.parameters, whole, truth={"decay": np.full(128, 0.91)})


@pytest.mark.mpl_image_compare(**MPL)
def test_image_identification_plots_parameters__units():
    decay = replace(answer()["gla"].parameters[0], value=np.array(0.95), low=0.94, high=0.96)
    scale = constant("scale", 7.3, 0.2, units="pA")
    made = Candidate(rule="gated_delta", parameters=(decay, constant("beta", 0.8, 0.03), scale))
    whole = replace(answer(), candidates=(made,), rules=("gated_delta",))
    return panel(plots.parameters, whole, truth={"scale": 7.4})


def test_constants_share_an_axis_only_with_those_of_their_unit():
    units = ("1", "a.u.", "1", "s")
    each = [constant(f"c{i}", 0.5 + i, 0.1, units=unit) for i, unit in enumerate(units)]
    made = Candidate(rule="delta", parameters=tuple(each))
    whole = replace(answer(), candidates=(made,), rules=("delta",))
    axes = panel(plots.parameters, whole).axes
    labels = {ax.get_xlabel(): [t.get_text() for t in ax.get_yticklabels()] for ax in axes}
    assert labels == {
        "constant (dimensionless)": ["c0", "c2"],
        "constant (arbitrary units)": ["c1"],
        "constant (s)": ["c3"],
    }
    loose = Figure().add_axes((0.1, 0.1, 0.8, 0.8))
    with pytest.raises(FwbioError, match="a panel each"):
        plots.parameters(whole, loose)
    assert plots.parameters(answer(), loose, rules=["gla"]) == [loose]


@pytest.mark.mpl_image_compare(**MPL)
def test_image_identification_plots_changes():
    rng = np.random.default_rng(0)
    observed = rng.standard_normal(120)
    noise = {"delta": 0.2, "hebb": 0.8}
    replays = {
        rule: xr.Dataset(
            {
                name: ("change", values, {"units": "nS", "long_name": f"{name} change of a weight"})
                for name, values in (
                    ("observed", observed),
                    ("predicted", observed + spread * rng.standard_normal(120)),
                )
            }
        )
        for rule, spread in noise.items()
    }
    return panel(plots.changes, replays, width=3.4, height=3.2)


@pytest.mark.mpl_image_compare(**MPL)
def test_image_identification_plots_confusion():
    counts = pd.DataFrame(
        [[10, 0, 0, 0], [1, 8, 0, 1], [0, 0, 10, 0]],
        index=["hebb", "retnet", "delta"],
        columns=["hebb", "retnet = mamba2", "delta", "none"],
    )
    right = pd.DataFrame(np.eye(3, 4, dtype=bool), counts.index, counts.columns)
    return panel(plots.confusion, counts, width=3.4, right=right)


@pytest.mark.mpl_image_compare(**MPL)
def test_image_identification_plots_accuracy():
    at = np.array([0.0, 5.0, 10.0, 20.0])
    series = {
        name: pd.DataFrame({"at": at, "share": share, "low": share - 0.1, "high": share + 0.02})
        for name, share in (("weights", 0.98 - at / 100), ("read-outs", 0.9 - at / 40))
    }
    return panel(plots.accuracy, series, xlabel="noise on the weights (%)", target=0.95)


def test_what_is_not_determined_has_no_point():
    figure = panel(plots.parameters, answer(), rules=("comba",))
    (ax,) = figure.axes
    points = [line for line in ax.lines if line.get_marker() not in {"", "None", "|"}]
    assert sorted({float(y) for line in points for y in line.get_ydata()}) == [0.0, 1.0]
    assert "not determined" in ax.texts[0].get_text()


def test_labels_of_the_ranking_do_not_touch():
    several = (
        ("delta", "longhorn", "efla"),
        ("gated_delta", "rwkv7"),
        ("hebb", "linear_attention", "mesa", "delta_product", "thresholded_delta", "comba", "kda"),
        ("oja",),
        ("gla", "mamba2"),
    )
    made = [
        Candidate(
            rule=rule,
            equivalent=tuple(other for other in row if other != rule),
            explained=0.9,
            z=-2.0 * place,
        )
        for place, row in enumerate(several)
        for rule in row
    ]
    whole = replace(answer(), candidates=tuple(made), rules=several[0])
    lines = plots.ranking_lines(whole)
    figure = panel(plots.ranking, whole, height=0.8 + 0.2 * lines)
    figure.draw_without_rendering()
    (ax,) = figure.axes
    labels = ax.get_yticklabels()
    assert lines == sum(1 + label.get_text().count("\n") for label in labels) > len(labels)
    boxes = [label.get_window_extent() for label in labels]
    assert all(above.y0 >= below.y1 for above, below in pairwise(boxes))


@pytest.mark.parametrize("others", [("efla",), ("longhorn", "efla"), ("oja", "covariance", "bcm")])
def test_rules_of_one_hue_are_told_apart_where_they_lie_on_one_another(others):
    rules = ("delta", *others)
    numbers = {"observed": np.arange(4.0), "predicted": np.arange(4.0)}
    made = {
        name: ("change", x, {"units": "a.u.", "long_name": f"{name} change of a weight"})
        for name, x in numbers.items()
    }
    (ax,) = panel(plots.changes, {rule: xr.Dataset(made) for rule in rules}).axes
    handles, _ = ax.get_legend_handles_labels()
    assert len({line.get_color() for line in handles}) == len(rules)
    assert len({line.get_marker() for line in handles}) == len(rules)
    assert ax.get_xlabel() == "predicted change of a weight (arbitrary units)"
    assert ax.get_ylabel() == "observed change of a weight (arbitrary units)"
