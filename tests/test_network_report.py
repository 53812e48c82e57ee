"""The report of a trained network: its numbers from constructed answers, and its page."""

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from browser import launched, opened
from images import MPL
from matplotlib.figure import Figure
from pages import Page
from tolerances import assert_close

from fwbio.analyses import network_plots
from fwbio.analyses.compare_network import COLUMNS, compare_network
from fwbio.analyses.network_outputs import write_network
from fwbio.analyses.recall import Estimate
from fwbio.analyses.report.network import chance_level, differences, metric_of, what_was_run
from fwbio.models.networks.memory import FastWeightMemoryConfig
from fwbio.models.networks.models import build
from fwbio.models.networks.sequence_model import SequenceModelConfig
from fwbio.models.networks.training import SequenceTraining, save


def answered(correct):
    """A comparison that holds answers only: `correct` (trial, step) by name."""
    trials, steps = next(iter(correct.values())).shape
    everywhere = np.ones((trials, steps), dtype=bool)
    episode = xr.Dataset(
        {
            "tokens": (("trial", "step"), np.zeros((trials, steps), dtype=int)),
            "target": (("trial", "step"), np.arange(trials * steps).reshape(trials, steps) % 3),
            "scored": (("trial", "step"), everywhere),
        },
        attrs={"task": "parity", "loss": "cross_entropy"},
    )
    row = dict.fromkeys(COLUMNS, "x") | {"metric": "task_accuracy", "value": 0.0, "seed": 0}
    nodes = {
        f"/{name}/answers": xr.Dataset({"correct": (("trial", "step"), x.astype(float))})
        for name, x in correct.items()
    }
    frame = pd.DataFrame([row])
    table = xr.Dataset({name: ("row", frame[name].to_numpy(object)) for name in COLUMNS})
    root = xr.Dataset(attrs={"kind": "network"})
    return xr.DataTree.from_dict({"/": root, "/episode": episode, "/summary": table, **nodes})


def test_differences_are_of_the_same_sequences(rng):
    own = rng.random((6, 5)) < 0.7
    flow = rng.random((4, 5)) < 0.5
    found = differences(answered({"network": own, "kernel": own, "flow": flow}))
    assert list(found) == ["kernel", "flow"]
    assert found["kernel"] == Estimate(value=0.0, standard_error=0.0, count=30)
    by_trial = flow.mean(-1) - own[:4].mean(-1)
    assert_close(found["flow"].value, by_trial.mean(), "float64")
    error = by_trial.std(ddof=1) / 2
    assert_close(found["flow"].standard_error, error, "float64")


def test_chance_is_the_commonest_answer():
    tree = answered({"network": np.ones((2, 5))})
    assert chance_level(tree) == 0.4  # of 0 1 2 0 1 2 0 1 2 0


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    training = SequenceTraining(
        task="mqar",
        sizes={"vocabulary": 8, "length": 8, "pairs": 2},
        model=SequenceModelConfig(
            classes=8,
            vocabulary=8,
            width=6,
            layers=2,
            mixer=FastWeightMemoryConfig(rule="delta", feature="relu", convolution=2),
        ),
        batch=4,
        steps=2,
        epochs=1,
        validation=2,
    )
    path = tmp_path_factory.mktemp("network") / "untrained.pt"
    torch.manual_seed(0)
    save(path, training, build(training.model).state_dict(), [])
    names = ["reference", "kernel", "flow"]
    return compare_network(path, substrates=names, trials=4, synaptic_trials=2, progress=False)


@pytest.fixture(scope="module")
def report(tree, tmp_path_factory):
    return write_network(tree, tmp_path_factory.mktemp("out"), with_tree=False)[-1]


def test_the_page_says_what_was_run(report, tree):
    text = " ".join("".join(Page(report.read_text(encoding="utf-8")).text).split())
    assert metric_of(tree) == "accuracy"
    assert what_was_run(tree) in text
    assert "4 sequences with" in text and "flow ran the first 2" in text
    assert tree.attrs["command"] in text
    assert f"commonest answer everywhere: {chance_level(tree):.3f}" in text
    assert "W <- W + k (beta (v - W^T k))^T" in text and "arXiv:2102.11174" in text
    assert f"fwbio {tree.attrs['versions']['fwbio']}" in text
    assert "mixer.rule" in text


@pytest.mark.parametrize("width", [360, 1100])
def test_the_page_opens_without_fault(report, width):
    viewport = {"width": width, "height": 740}
    with (
        launched() as browser,
        opened(browser, report, viewport=viewport, color_scheme="dark") as (page, faults),
    ):
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("document.images[0].naturalWidth") > 500
        assert faults == []


@pytest.mark.mpl_image_compare(**MPL)
def test_image_network_plots_differences():
    figure = Figure(figsize=(3.4, 3), layout="constrained")
    found = {
        "reference": Estimate(value=0.0, standard_error=0.0, count=64),
        "flow": Estimate(value=-0.01, standard_error=0.01, count=16),
        "spiking": Estimate(value=-0.06, standard_error=0.03, count=16),
    }
    network_plots.differences(found, "accuracy", figure.subplots())
    return figure


@pytest.mark.mpl_image_compare(**MPL)
def test_image_network_plots_task__chance():
    figure = Figure(figsize=(3.4, 3), layout="constrained")
    frame = pd.DataFrame(
        [
            ("kernel", "all", metric, value)
            for metric, value in {
                "task_accuracy": 0.8,
                "task_accuracy_se": 0.02,
                "network_accuracy": 0.82,
                "trials": 16,
            }.items()
        ],
        columns=["substrate", "layer", "metric", "value"],
    )
    network_plots.task(frame, "accuracy", figure.subplots(), chance=0.125)
    return figure
