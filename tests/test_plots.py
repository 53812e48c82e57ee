"""Figures: what each Axes holds, not how it looks."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from synthetic import synaptic_record
from tolerances import assert_close

from fwbio import FwbioError, reference
from fwbio.analyses import compare, plots, recall_by_lag, summary
from fwbio.analyses.palette import COLOURS
from fwbio.models.programmer import designed
from fwbio.tasks import TASKS


@pytest.fixture(scope="module")
def episode():
    return TASKS["digits"](seed=2, trials=3, pairs=5)


@pytest.fixture(scope="module")
def records(episode):
    made = designed(episode, "delta")
    return {"reference": reference.execute(made), "spiking": synaptic_record(made)}


@pytest.fixture
def ax():
    return Figure().subplots()


def colours(ax):
    return {line.get_label(): to_hex(line.get_color()) for line in ax.lines}


def test_recall_has_a_point_a_rule_and_substrate(ax):
    tree = compare(
        rules=("hebb", "delta"),
        programmers=["designed"],
        substrates=["kernel"],
        pairs=4,
        trials=3,
        progress=False,
    )
    assert plots.recall(summary(tree), "designed", ax) is ax
    assert [label.get_text() for label in ax.get_xticklabels()] == ["hebb", "delta"]
    assert ax.get_ylabel() == "recall accuracy (share of cues)"
    labels = ax.get_legend_handles_labels()[1]
    assert {"reference (3 trials)", "kernel (3 trials)", "chance (0.25)"} <= set(labels)
    frame = summary(tree)
    drawn = np.sort(np.concatenate([bar.lines[0].get_ydata() for bar in ax.containers]))
    assert_close(drawn, np.sort(frame[frame.metric == "recall_accuracy"]["value"]), "float64")


def test_recall_by_lag_draws_the_curve(records, ax):
    curves = {name: recall_by_lag(record) for name, record in records.items()}
    plots.recall_by_lag(curves, ax)
    for bar, curve in zip(ax.containers, curves.values(), strict=True):
        assert_close(bar.lines[0].get_ydata(), curve.cosine, "float64")
    assert ax.get_xlabel() == "lag (presentations)"


def test_each_substrate_has_one_colour(records, ax):
    plots.recall_by_lag({s: recall_by_lag(r) for s, r in records.items()}, ax)
    drawn = {bar.get_label(): to_hex(bar.lines[0].get_color()) for bar in ax.containers}
    assert drawn == {s: COLOURS[s].lower() for s in records}


def test_an_episode_shows_readouts_in_the_space_of_contents(records, episode):
    axes = plots.episode(records, episode, Figure(), trial=1, cues=3)
    grid = np.reshape(axes, (4, 3))
    assert [row[0].get_ylabel() for row in grid] == ["cue", "target", "reference", "spiking"]
    step = np.flatnonzero(episode.scored[1])[0]
    shown = grid[2, 0].images[0].get_array()
    expected = records["reference"].readout.values[1, step] + episode.content_baseline.values
    assert_close(shown, expected.reshape(8, 8), "float64")
    target = grid[1, 0].images[0].get_array()
    assert_close(target.ravel(), episode.content[1, episode.source[1, step]], "float64")


def test_an_episode_shows_the_nearest_content_of_another_code(records, episode, rng):
    turn = np.linalg.qr(rng.standard_normal((64, 64)))[0]
    turned = {
        name: record.assign(
            {
                x: record[x].copy(data=record[x].values @ turn)
                for x in ("value", "target", "readout")
            }
        )
        for name, record in records.items()
    }
    axes = np.reshape(plots.episode(turned, episode, Figure(), cues=2), (4, 2))
    assert axes[2, 0].get_ylabel() == "reference\n(nearest stored)"
    contents = episode.content.values[0][:5].reshape(5, 8, 8)
    assert any(np.array_equal(axes[2, 0].images[0].get_array(), c) for c in contents)


def test_wrong_recalls_are_crossed(records, episode):
    record = records["reference"]
    right = record.assign(readout=record.target)
    wrong = record.assign(readout=-record.target)
    axes = np.reshape(plots.episode({"a": right, "b": wrong}, episode, Figure(), cues=3), (4, 3))
    assert [len(ax.texts) for ax in axes[2]] == [0, 0, 0]
    assert [len(ax.texts) for ax in axes[3]] == [1, 1, 1]


def test_patterns_that_are_no_squares_are_shown_too():
    episode = TASKS["random_pairs"](seed=1, trials=1, pairs=3, pre=10, post=7)
    record = reference.execute(designed(episode, "hebb"))
    axes = np.reshape(plots.episode({"reference": record}, episode, Figure()), (3, 3))
    assert [row[0].images[0].get_array().shape for row in axes] == [(2, 5), (1, 7), (1, 7)]


def test_weights_share_a_scale_around_zero(records):
    figure = Figure()
    axes = plots.weights(records, figure.subplots(1, 2), trial=2)
    limits = {ax.images[0].get_clim() for ax in axes}
    ((low, high),) = limits
    assert low == -high < 0
    final = records["spiking"].weights.values[2, -1]
    assert_close(axes[1].images[0].get_array(), final, "float64")
    assert [ax.get_xlabel() for ax in axes] == ["post (cell)"] * 2


def test_agreement_draws_the_scored_readouts(records, ax):
    plots.agreement(records["spiking"], records["reference"], ax)
    _, dots = ax.lines
    assert len(dots.get_xdata()) == 3 * 5 * 64
    assert (ax.get_xlabel(), ax.get_ylabel()) == (
        "reference read-out\n(dimensionless)",
        "spiking read-out\n(dimensionless)",
    )
    assert ax.texts[0].get_text().startswith("r = 0.99")
    fewer = plots.agreement(records["spiking"], records["reference"], Figure().subplots(), points=9)
    assert len(fewer.lines[1].get_xdata()) <= 9


def test_traces_draw_what_is_there(records):
    axes = plots.traces(records["spiking"], Figure())
    assert [ax.get_ylabel() for ax in axes] == [
        "presynaptic\n(cell)",
        "postsynaptic\n(cell)",
        "NMDA\n(dimensionless)",
        "AMPA\n(dimensionless)",
    ]
    assert axes[-1].get_xlabel() == "time (s)"
    assert len(axes[2].lines) == 2
    spikes = records["spiking"].pre_spike_time
    assert np.array_equal(axes[0].lines[0].get_xdata(), spikes)
    only = plots.traces(records["spiking"][["g_ampa"]], Figure())
    assert len(only) == 1
    assert not plots.has_traces(records["reference"])
    with pytest.raises(FwbioError, match="no spikes and no conductances"):
        plots.traces(records["reference"], Figure())
