"""Images of the reproductions' figures, of numbers like those that were found."""

import numpy as np
import pytest
from images import MPL
from matplotlib.figure import Figure

from fwbio.analyses.reproductions import ba2016, icl, mqar, parity, plots, schlag2021
from fwbio.analyses.reproductions.reproduction import Outcome
from fwbio.analyses.reproductions.table import REPRODUCTIONS

SEEDS = range(3)


def outcome(condition, seed, *, metrics=None, curves=None, training=None):
    return Outcome(
        condition=condition,
        seed=seed,
        metrics=metrics or {},
        curves=curves or {},
        seconds=1.0,
        steps=1,
        training=training or {},
        checkpoint="",
    )


def panel(draw, *arguments, width=4, height=3, **named):
    """The figure of one panel."""
    figure = Figure(figsize=(width, height), layout="constrained")
    ax = figure.subplots()
    assert draw(*arguments, ax, **named) is ax
    return figure


@pytest.mark.mpl_image_compare(**MPL)
def test_image_reproductions_plots_bands():
    x = np.linspace(0, 10, 30)
    y = {name: np.exp(-np.outer([1, 1.2, 0.9], x) / scale) for name, scale in (("a", 3), ("b", 9))}
    return panel(
        plots.bands,
        dict.fromkeys(y, x),
        y,
        xlabel="time (s)",
        ylabel="error (%)",
        dashed={"a": 0.05, "chance": 0.9},
        squares={"b": {2.0: 0.7, 8.0: 0.5}},
    )


@pytest.mark.mpl_image_compare(**MPL)
def test_image_reproductions_plots_strip():
    groups = {"delta": np.array([0.97, 0.99, 1.0]), "gla": np.array([0.2, 0.3]), "retnet": [0.1]}
    return panel(
        plots.strip,
        {name: np.asarray(values) for name, values in groups.items()},
        xlabel="rule",
        ylabel="accuracy (share of queries)",
        published={"delta": 1.0, "gla": 0.22},
    )


@pytest.mark.mpl_image_compare(**MPL)
def test_image_reproductions_plots_against():
    first = np.linspace(-1, 1, 40)
    return panel(
        plots.against,
        first,
        first + 0.1 * np.sin(20 * first),
        xlabel="predicted (mV)",
        ylabel="found (mV)",
        label="a query each",
    )


@pytest.mark.mpl_image_compare(**MPL)
def test_image_reproductions_ba2016_learning_curves():
    seen = np.linspace(1e3, 1e5, 6)
    outcomes = [
        outcome(
            {"model": model, "units": units},
            seed,
            curves={
                "sequences": seen,
                "validation_error": 62 * np.exp(-seen / (1e4 * cost * (1 + 0.2 * seed))),
            },
        )
        for cost, (model, units) in enumerate(ba2016.MODELS, start=1)
        for seed in range(2)
    ]
    return panel(ba2016.learning_curves, outcomes, width=4.6, height=2.6)


@pytest.mark.mpl_image_compare(**MPL)
def test_image_reproductions_icl_predictions():
    classical = np.linspace(-2, 2, 60)
    curves = {"classical": classical, "predicted": classical + 0.1 * np.sin(30 * classical)}
    outcomes = [outcome({"layer": icl.SUM}, seed, curves=curves) for seed in SEEDS]
    return panel(icl.predictions, icl.SUM, "one step of gradient descent", outcomes)


@pytest.mark.mpl_image_compare(**MPL)
def test_image_reproductions_mqar_by_rule():
    outcomes = [
        outcome(
            {"rule": rule, "convolution": convolution, "length": 128},
            seed,
            metrics={"accuracy": mqar.PUBLISHED[rule] * (1 - 0.02 * seed)},
        )
        for rule, convolution in mqar.AS_PUBLISHED.items()
        for seed in SEEDS
    ]
    return panel(mqar.by_rule, outcomes)


@pytest.mark.mpl_image_compare(**MPL)
def test_image_reproductions_parity_by_position():
    position = np.arange(1, 33)
    outcomes = [
        outcome(
            {"model": model},
            seed,
            curves={"accuracy_by_position": 0.5 + 0.5 / (1 + (position / reach) ** 2)},
            training={"sizes": {"length": 8}},
        )
        for model, far in zip(parity.MODELS, (1e4, 20, 10), strict=True)
        for seed, reach in enumerate((far, 1.3 * far, 0.8 * far))
    ]
    return panel(parity.by_position, outcomes, width=4.6, height=2.6)


def by_keys(setting, keys):
    """Losses near the published ones."""
    return [
        outcome(
            {"setting": setting, "model": model, "keys": count},
            seed,
            metrics={"loss": count / 1000 * (i + 0.1) * (1 + 0.2 * seed)},
        )
        for i, (number, model) in enumerate(schlag2021.MODELS)
        if number == setting
        for count in keys
        for seed in SEEDS
    ]


@pytest.mark.mpl_image_compare(**MPL)
def test_image_reproductions_schlag2021_unique_keys():
    return panel(schlag2021.unique_keys, by_keys(1, schlag2021.FULL.unique))


@pytest.mark.mpl_image_compare(**MPL)
def test_image_reproductions_schlag2021_repeated_keys():
    return panel(schlag2021.repeated_keys, by_keys(2, schlag2021.FULL.repeated))


def test_every_panel_of_a_reproduction_is_public():
    panels = [panel for found in REPRODUCTIONS.values() for panel in found.panels]
    names = {getattr(panel, "func", panel).__name__ for panel in panels}
    assert all(f"_{name}" in " ".join(globals()) for name in names)
