"""Images of the figures of comparisons."""

import re

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from images import MPL
from matplotlib.figure import Figure
from synthetic import synaptic_record

from fwbio import FwbioError, reference
from fwbio.analyses import network_plots, plots
from fwbio.analyses.compare_network import WHOLE
from fwbio.analyses.palette import COLOURS
from fwbio.models.programmer import designed
from fwbio.tasks import TASKS

# recall of two rules on each substrate, of fewer trials where cells spike
FOUND = {
    ("hebb", "reference"): (16, 0.42, 0.40),
    ("hebb", "kernel"): (16, 0.42, 0.40),
    ("hebb", "flow"): (16, 0.41, 0.40),
    ("hebb", "spiking"): (4, 0.30, 0.36),
    ("delta", "reference"): (16, 0.81, 0.81),
    ("delta", "kernel"): (16, 0.81, 0.81),
    ("delta", "rate"): (16, 0.79, 0.81),
    ("delta", "spiking"): (4, 0.70, 0.75),
}


def long_table(rows, **fixed):
    """Rows of metrics as a summary has them, one metric a row."""
    return pd.DataFrame(
        {**fixed, **where, "metric": metric, "value": value, "trials": metrics["trials"]}
        for where, metrics in rows
        for metric, value in metrics.items()
    )


def records():
    """One small program in the reference and, with noise, on the stand-in of spiking synapses."""
    made = designed(TASKS["random_pairs"](seed=0, trials=4, pairs=6, pre=8, post=8), "delta")
    return {"reference": reference.execute(made), "spiking": synaptic_record(made)}


@pytest.mark.mpl_image_compare(**MPL)
def test_image_plots_recall():
    figure = Figure(figsize=(4.6, 3.4), layout="constrained")
    rows = [
        (
            {"rule": rule, "substrate": substrate},
            {
                "trials": trials,
                "recall_accuracy": found,
                "recall_accuracy_se": 0.2 / trials**0.5,
                "reference_accuracy": ideal,
                "chance_level": 0.1,
            },
        )
        for (rule, substrate), (trials, found, ideal) in FOUND.items()
    ]
    ax = plots.recall(long_table(rows, programmer="designed"), "designed", figure.subplots())
    figure.legend(*unique(ax), loc="outside lower center", ncols=2, fontsize=8)
    return figure


def unique(ax):
    """A panel's legend with each label once."""
    named = dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    return named.values(), named.keys()


@pytest.mark.mpl_image_compare(**MPL)
def test_image_plots_recall_by_lag():
    lag = np.arange(0, 10, 2.0)
    curves = {
        substrate: xr.Dataset(
            {"cosine": ("lag", 0.9 ** (lag + i)), "cosine_se": ("lag", np.full(5, 0.02 * (i + 1)))},
            coords={"lag": lag},
        )
        for i, substrate in enumerate(COLOURS)
    }
    figure = Figure(figsize=(4, 3), layout="constrained")
    plots.recall_by_lag(curves, figure.subplots()).legend(fontsize=8)
    return figure


@pytest.mark.mpl_image_compare(**MPL)
def test_image_plots_episode():
    shown = TASKS["digits"](seed=2, trials=1, pairs=8, noise=0.6)
    made = designed(shown, "hebb")
    figure = Figure(figsize=(4, 2.6), layout="constrained")
    run = {"reference": reference.execute(made), "spiking": synaptic_record(made)}
    plots.episode(run, shown, figure, cues=4)
    return figure


@pytest.mark.mpl_image_compare(**MPL)
def test_image_plots_weights():
    figure = Figure(figsize=(6, 2.2), layout="constrained")
    plots.weights({**records(), "rate": None}, figure.subplots(1, 3))
    return figure


def drawn(given):
    """The numbers of the only matrix that `weights` draws of a record."""
    (ax,) = axes = [Figure().subplots()]
    assert plots.weights({"rate": given}, axes) is axes
    return ax.images[0].get_array()


def test_weights_of_every_layout_are_those_after_the_last_step():
    made = records()["reference"]
    ideal = made.weights.values[0, -1]
    np.testing.assert_array_equal(drawn(made), ideal)
    np.testing.assert_array_equal(drawn(made.isel(trial=0)), ideal)
    every = xr.Dataset({"weights": (("pre", "step", "post"), np.stack([0 * ideal, ideal], 1))})
    np.testing.assert_array_equal(drawn(every), ideal)
    np.testing.assert_array_equal(drawn(every.isel(step=-1)), ideal)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda made: made.drop_vars("weights"), "rate: there are no weights to draw"),
        (lambda made: made.isel(trial=slice(0)), "no trial 0"),
        (lambda made: made.expand_dims(head=2), "choose one of head: record.isel(head=0)"),
        (lambda made: made.isel(pre=0), "name the axes pre"),
    ],
)
def test_weights_that_are_no_matrix_are_told(change, said):
    with pytest.raises(FwbioError, match=re.escape(said)):
        drawn(change(records()["reference"]))


def test_where_nothing_was_run_nothing_is_drawn():
    axes = Figure().subplots(1, 2)
    plots.weights({"flow": None, "rate": None}, axes)
    assert [ax.texts[0].get_text() for ax in axes] == ["not run", "not run"]


@pytest.mark.mpl_image_compare(**MPL)
def test_image_plots_agreement():
    figure = Figure(figsize=(3, 3), layout="constrained")
    made = records()
    plots.agreement(made["spiking"], made["reference"], figure.subplots())
    return figure


@pytest.mark.mpl_image_compare(**MPL)
def test_image_plots_traces():
    figure = Figure(figsize=(4.4, 4.8), layout="constrained")
    plots.traces(records()["spiking"], figure)
    return figure


@pytest.mark.mpl_image_compare(**MPL)
def test_image_plots_not_run():
    figure = Figure(figsize=(2, 1))
    plots.not_run(figure.subplots())
    return figure


def task(metric):
    """The figure of a task on three substrates."""
    values = {"reference": (16, 0.95, 0.95), "rate": (16, 0.93, 0.95), "spiking": (4, 0.84, 0.9)}
    rows = [
        (
            {"substrate": substrate},
            {
                "trials": trials,
                f"task_{metric}": found,
                f"task_{metric}_se": 0.1 / trials**0.5,
                f"network_{metric}": own,
            },
        )
        for substrate, (trials, found, own) in values.items()
    ]
    figure = Figure(figsize=(3.4, 3), layout="constrained")
    network_plots.task(long_table(rows, layer=WHOLE), metric, figure.subplots())
    return figure


@pytest.mark.mpl_image_compare(**MPL)
def test_image_network_plots_task():
    return task("accuracy")


@pytest.mark.mpl_image_compare(**MPL)
def test_image_network_plots_task__loss():
    return task("loss")


@pytest.mark.mpl_image_compare(**MPL)
def test_image_network_plots_readouts():
    ideal = np.linspace(-1, 1, 30)
    noise = 0.1 * np.sin(40 * ideal)
    figure = Figure(figsize=(3.4, 3), layout="constrained")
    network_plots.readouts(
        {"rate": (ideal, ideal + 0.1 * noise), "spiking": (ideal, ideal + noise)},
        figure.subplots(),
    )
    return figure
