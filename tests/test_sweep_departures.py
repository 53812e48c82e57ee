"""Departures from the ideal: the ladders, the sweep up them, its figure and its command."""

from dataclasses import fields

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from click.testing import CliRunner
from images import MPL
from scipy import stats
from tolerances import TOLERANCES, assert_close

from fwbio import FwbioError, models, record, reference, tasks
from fwbio.analyses import departures_plots, recall_accuracy
from fwbio.analyses.departures import departures, is_named, recall_change
from fwbio.analyses.departures_command import departures_command, rows
from fwbio.analyses.departures_table import DEPARTURES
from fwbio.models.cells import SpikingModel
from fwbio.models.flow import FlowModel
from fwbio.models.parameters import check
from fwbio.models.rate import RateModel

MODELS = {"flow": FlowModel, "rate": RateModel, "spiking": SpikingModel}
QUICK = {
    "rate": {"engine": "numpy", "dt": 2e-3, "write": 0.1, "gap": 0.1},
    "spiking": {"engine": "numpy", "dt": 1e-3, "pause": 0.05, "settle": 0.05},
}
DECAYS = {"strength": 0.9, "time_constant": 8.0}


@pytest.fixture(scope="module")
def episode():
    return tasks.TASKS["random_pairs"](
        seed=4, trials=8, pairs=6, pre=12, post=6, keys="sparse", active=0.25
    )


@pytest.mark.parametrize("name", DEPARTURES)
def test_every_rung_is_one_that_its_synapses_can_take(name):
    ladder = DEPARTURES[name]
    model = MODELS[ladder.substrate]
    for level in ladder.levels:
        options = ladder.options(level)
        assert options.keys() <= {f.name for f in fields(model)}
        check(model(**options), name)
    away = np.diff(ladder.levels)
    assert (away > 0).all() or (away < 0).all()


def test_every_departure_of_the_spiking_synapses_has_a_ladder():
    """What has a neutral value by design (`within`) and is no engine's or memory's setting."""
    graded = {f.name for f in fields(SpikingModel) if "low" in f.metadata} - {"record_bound"}
    taken = {option for d in DEPARTURES.values() for option in d.options(d.levels[-1])}
    assert graded <= taken
    assert {f.name for f in fields(RateModel) if "low" in f.metadata} - {"record_bound"} <= taken


RATE = [name for name, ladder in DEPARTURES.items() if ladder.substrate in {"rate", "flow"}]


def test_exact_synapses_start_at_the_reference_and_leave_it(episode):
    found = departures(
        episode,
        names=RATE,
        levels={name: [DEPARTURES[name].levels[i] for i in (0, -1)] for name in RATE},
        rules=["gated_delta"],
        cases=0,
        options=QUICK,
        **DECAYS,
    )
    made = models.designed(episode, "gated_delta", **DECAYS)
    ideal = recall_accuracy(reference.execute(made)).value
    assert found.reference_accuracy.item() == ideal
    assert_close(found.attrs["chance_level"], 1 / 6, "float64")
    for name in ("readout_agreement", "weight_agreement"):
        neutral, far = found[name].squeeze("rule").transpose("level", ...).values
        assert (neutral > 1 - 1e-4).all(), found.departure.values[neutral <= 1 - 1e-4]
        assert (far < neutral - 1e-4).all(), found.departure.values[far >= neutral - 1e-4]
    assert "identified" not in found
    assert (found.refused == "").all()
    assert all({"units", "long_name"} <= found[name].attrs.keys() for name in found.variables)


def test_spiking_synapses_lose_what_fewer_spikes_tell(episode):
    names = ["release", "read"]
    found = departures(
        episode,
        names=names,
        levels={"release": [1, 0.05], "read": [0.3, 0.02]},
        rules=["hebb"],
        cases=0,
        options={"spiking": QUICK["spiking"] | {"write": 0.15, "cells_per_key": 4}},
    )
    assert (found.readout_agreement.diff("level") < 0).all()


def test_what_was_identified_is_told_case_by_case(episode):
    rules = ["hebb", "delta"]
    found = departures(
        episode,
        names=["turnover", "erase_limit"],
        levels={"turnover": [0.0], "erase_limit": [1 - 1e-6, 0.05]},
        rules=rules,
        cases=2,
        candidates=("hebb", "delta", "mamba2"),
        options=QUICK,
        strength=0.9,
    )
    neutral = found.sel(departure="erase_limit", level=0)
    assert (neutral.identified == 1).all()
    assert (neutral.answer == neutral.rule).all()
    for rule in rules:
        here = found.sel(rule=rule, departure="erase_limit")
        right = [
            [is_named(rule, str(v), str(a)) for v, a in zip(vs, answers, strict=True)]
            for vs, answers in zip(here.verdict.values, here.answer.values, strict=True)
        ]
        assert np.array_equal(here.identified, np.mean(right, axis=1))
    # without erasing to speak of, a delta rule is the sum rule
    assert "delta" not in found.answer.sel(departure="erase_limit", level=1, rule="delta").values
    # beyond a ladder's end there is nothing
    beyond = found.sel(departure="turnover", level=1)
    assert np.isnan(beyond.value) and np.isnan(beyond.identified).all()


@pytest.mark.parametrize(
    ("verdict", "answer", "right"),
    [
        ("identified", "delta", True),
        ("identified", "gated_delta", False),
        ("equivalent", "delta, efla", True),
        ("can't tell", "delta, hebb", False),
        ("none", "", False),
    ],
)
def test_an_answer_is_right_where_it_names_the_rule_and_no_other(verdict, answer, right):
    assert is_named("delta", verdict, answer) is right


def recalled(hits):
    """A record of a pair of values over steps whose recall is right where told, (trial, step)."""
    hits = np.asarray(hits, bool)
    trials, steps = hits.shape
    dims = ("trial", "step", "post")
    value = np.broadcast_to(np.eye(steps), (trials, steps, steps))
    readout = np.where(hits[..., None], value, np.roll(value, 1, axis=1))
    flags = ("trial", "step"), np.ones((trials, steps), bool)
    return xr.Dataset(
        {
            "readout": (dims, readout),
            "target": (dims, value),
            "value": (dims, value),
            "scored": flags,
            "stored": flags,
        }
    )


def test_a_change_of_recall_is_paired_and_two_sided(rng):
    ideal = rng.random((7, 4)) < 0.8
    record = ideal & (rng.random((7, 4)) < 0.7)
    record[0], ideal[0] = [False, True, True, True], True
    one, other = recalled(record), recalled(ideal)
    exact = stats.ttest_rel(record.mean(1), ideal.mean(1))
    worse, better = recall_change(one, other), recall_change(other, one)
    assert_close(worse.value, record.mean() - ideal.mean(), "float64")
    assert_close(worse.p_value, exact.pvalue, "float64")
    assert_close(worse.value / worse.standard_error, exact.statistic, "float64")
    assert better.value == -worse.value
    assert better.p_value == worse.p_value


def test_a_change_of_all_trials_alike_or_of_a_single_one(rng):
    ideal = rng.random((5, 4)) < 0.5
    same = recall_change(recalled(ideal), recalled(ideal))
    assert (same.value, same.standard_error, same.p_value) == (0, 0, 1)
    sure, never = recalled(np.ones((5, 4))), recalled(np.zeros((5, 4)))
    assert recall_change(never, sure).p_value == 0
    single = recall_change(recalled(ideal[:1]), recalled(~ideal[:1]))
    assert np.isnan([single.standard_error, single.p_value]).all()


def test_misspelt_settings_of_the_code_are_refused(episode):
    with pytest.raises(TypeError, match="strenght"):
        departures(episode, strenght=0.5)


def test_what_the_synapses_refuse_is_on_record(episode):
    asked = {"names": "turnover", "levels": {"turnover": [0.0, 0.1]}, "cases": 0}
    found = departures(episode, rules="kda", **asked)
    assert found.refused.values.ravel()[0] == ""
    assert "no closed form" in found.refused.values.ravel()[1]
    assert np.isnan(found.recall_accuracy.values.ravel()[1])
    with pytest.raises(FwbioError, match="does not run 'oja'"):
        departures(episode, rules=["oja"], **asked)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"names": ["relase"]}, "did you mean 'release'"),
        ({"levels": {"relase": [1]}}, "did you mean 'release'"),
        ({"names": []}, "there is no departure"),
        ({"levels": {"release": []}}, "release has no level"),
        ({"rules": ["detla"]}, "did you mean 'delta'"),
        ({"candidates": ["hebb", "detla"]}, "did you mean 'delta'"),
        ({"cases": 5}, "5 recordings of 2 trials are not in 8"),
        ({"names": ["receptors"], "levels": {"receptors": [0.5]}}, "0.5 receptors carry nothing"),
    ],
)
def test_sweeps_that_make_no_sense_are_told(episode, given, words):
    with pytest.raises(FwbioError, match=words):
        departures(episode, **given)


def test_the_command_writes_data_table_and_figure(tmp_path):
    words = "--departures turnover --rules hebb,mamba2 --trials 4 --pairs 5 --pre 10 --cases 1"
    done = CliRunner().invoke(
        departures_command, [*words.split(), "--out", str(tmp_path)], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    found = record.load(tmp_path / "departures.nc")
    table = pd.read_csv(tmp_path / "departures.csv")
    ladder = DEPARTURES["turnover"]
    assert len(table) == len(rows(found)) == len(ladder.levels) * 2
    assert np.array_equal(table.value[table.rule == "hebb"], ladder.levels)
    assert_close(found.value.values.ravel(), ladder.levels, "float64")
    # nothing turns over in the sum rule: it never leaves the reference
    hebb = found.readout_agreement.sel(rule="hebb")
    assert (1 - hebb < TOLERANCES["rate"].value).all()
    assert (found.weight_agreement.sel(rule="mamba2").diff("level") < 0).all()
    assert (tmp_path / "departures.png").stat().st_size > 0


def synthetic():
    """A sweep of written numbers: two departures, the second a rung shorter."""
    accuracy = np.array([[0.9, 0.8, 0.5, 0.2], [0.9, 0.7, 0.3, np.nan]])
    dims = ("departure", "level", "rule")
    both = np.stack([accuracy - 0.2, accuracy], -1)
    return xr.Dataset(
        {
            "recall_accuracy": (dims, both),
            "recall_accuracy_se": (dims, np.full(both.shape, 0.05)),
            "recall_change": (dims, both - [0.7, 0.92]),
            "recall_change_se": (dims, np.full(both.shape, 0.03)),
            "identified": (dims, np.where(both > 0.4, 1.0, 0.25)),
            "identified_low": (dims, np.where(both > 0.4, 0.51, 0.05)),
            "identified_high": (dims, np.where(both > 0.4, 1.0, 0.7)),
            "value": (("departure", "level"), [[1, 0.5, 0.1, 0.03], [np.inf, 10, 3, np.nan]]),
            "reference_accuracy": ("rule", [0.7, 0.92]),
            "label": ("departure", ["release probability", "receptors in a full synapse"]),
            "level_units": ("departure", ["share of spikes", "receptors"]),
            "substrate": ("departure", ["spiking", "rate"]),
        },
        coords={"departure": ["release", "receptors"], "rule": ["hebb", "delta"]},
        attrs={"chance_level": 0.1},
    )


@pytest.mark.mpl_image_compare(**MPL)
def test_image_departures_plots_panel():
    figure, ax = plt.subplots(figsize=(3.6, 2.6), layout="constrained")
    departures_plots.panel(synthetic(), "release", ax).legend(fontsize=7)
    return figure


@pytest.mark.mpl_image_compare(**MPL)
def test_image_departures_plots_panel__change():
    figure, ax = plt.subplots(figsize=(3.6, 2.6), layout="constrained")
    departures_plots.panel(synthetic(), "receptors", ax, quantity="recall_change")
    return figure


@pytest.mark.mpl_image_compare(**MPL)
def test_image_departures_plots_small_multiples():
    figure = plt.figure(figsize=(5.6, 3.4), layout="constrained")
    departures_plots.small_multiples(synthetic(), figure)
    return figure


def test_panels_of_what_was_not_found_are_refused():
    figure, ax = plt.subplots()
    with pytest.raises(FwbioError, match="did you mean 'release'"):
        departures_plots.panel(synthetic(), "relase", ax)
    with pytest.raises(FwbioError, match="no quantity called 'weight_agreement'"):
        departures_plots.panel(synthetic(), "release", ax, quantity="weight_agreement")
    with pytest.raises(FwbioError, match="none of weight_agreement"):
        departures_plots.small_multiples(synthetic(), figure, quantities=["weight_agreement"])
    plt.close(figure)
