"""Images of the benchmarks' figures."""

import itertools

import pandas as pd
import pytest
from images import MPL
from matplotlib.figure import Figure

from fwbio.analyses.benchmarks import plots, training_plots

# seconds a step, bytes a step: one rule of each family, none twice the same
COSTS = {"hebb": (1e-6, 2e3), "gla": (3e-6, 9e3), "delta": (5e-6, 4e3), "kda": (8e-6, 3e4)}
POINTS = pd.DataFrame(
    {
        "rule": rule,
        "backend": backend,
        **dict.fromkeys("BTHKV", 16),
        "axis": axis,
        "direction": "forward",
        "size": size,
        "seconds": slower * seconds * size,
        "extra_bytes": slower * extra * size**1.2,
    }
    for (rule, (seconds, extra)), (backend, slower), axis, size in itertools.product(
        COSTS.items(), {"chunked": 1, "recurrent": 1.6}.items(), "TB", [16, 256, 4096]
    )
)
SPEEDS = pd.DataFrame(
    {
        "row": "delta 64",
        "threads": threads,
        "implementation": name,
        "ours": name.startswith("fwbio"),
        "step_s": seconds / threads,
        "memory_s": 0.4 * seconds / threads,
        "tokens_per_s": 4096 * threads / seconds,
    }
    for threads in (1, 2)
    for name, seconds in {"fwbio chunked": 0.09, "a peer": 0.14}.items()
)


@pytest.mark.mpl_image_compare(**MPL)
def test_image_benchmarks_plots_scaling():
    figure = Figure(figsize=(4, 3), layout="constrained")
    plots.scaling(
        POINTS[(POINTS["axis"] == "T") & POINTS.rule.isin(["gla", "delta"])],
        "extra_bytes",
        figure.subplots(),
    ).legend(fontsize=7)
    return figure


@pytest.mark.mpl_image_compare(**MPL)
def test_image_benchmarks_plots_scaling_panels():
    chosen = POINTS[(POINTS.rule == "kda") & (POINTS.backend == "chunked")]
    figure = Figure(figsize=(9, 2.7), layout="constrained")
    plots.scaling_panels(chosen, figure)
    return figure


def test_the_figure_of_scaling_grows_with_its_rows():
    both = pd.concat([POINTS, POINTS.assign(direction="backward")])
    assert plots.scaling_size(both)[1] > plots.scaling_size(POINTS)[1]
    assert len(plots.scaling_panels(both, Figure(layout="constrained"))) == 6


@pytest.mark.mpl_image_compare(**MPL)
def test_image_benchmarks_training_plots_throughput():
    figure = Figure(figsize=(6, 2), layout="constrained")
    training_plots.throughput(SPEEDS[SPEEDS.threads == 1], figure.subplots()).legend()
    return figure


@pytest.mark.mpl_image_compare(**MPL)
def test_image_benchmarks_training_plots_throughput_panels():
    figure = Figure(figsize=training_plots.throughput_size(SPEEDS), layout="constrained")
    training_plots.throughput_panels(SPEEDS, figure)
    return figure
