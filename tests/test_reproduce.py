"""Reproductions: what is published, how it is set beside what is measured, and what is claimed."""

import io
import itertools
import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from matplotlib.figure import Figure
from rich.console import Console
from tolerances import TOLERANCES, assert_close

from fwbio import FwbioError
from fwbio.analyses import cli
from fwbio.analyses.reproductions import ba2016, command, icl, mqar, parity, plots, schlag2021
from fwbio.analyses.reproductions import table as reproductions
from fwbio.analyses.reproductions.outputs import TOO_SMALL, comparison, rows, tables, write
from fwbio.analyses.reproductions.reproduce import CHECKPOINTS, plain, reproduce
from fwbio.analyses.reproductions.reproduction import (
    Claim,
    Measured,
    Outcome,
    Published,
    at_least,
    at_most,
    found,
    near,
    ordered,
    ratio_at_least,
    series,
    told,
)
from fwbio.analyses.reproductions.table import REPRODUCTIONS
from fwbio.models.networks.models import build
from fwbio.models.networks.training import TrainedNetwork
from fwbio.tasks import TASKS

STEP_SIZE = 0.15


def tiny(reproduction, *, steps=2, epochs=2, test=20):
    """The same with hardly any training."""

    def runs(quick, seeds):
        return [
            replace(
                run,
                training=replace(
                    run.training, batch=8, steps=steps, epochs=epochs, validation=8, examples=None
                ),
                test=run.test | {"trials": test},
            )
            for run in reproduction.runs(True, seeds)
        ]

    return replace(reproduction, runs=runs)


def outcome(value=0.0, seed=0, **condition):
    return Outcome(
        condition=condition,
        seed=seed,
        metrics={"error": value},
        curves={"curve": [value, 2 * value]},
        seconds=1.5,
        steps=10,
        training={},
        checkpoint="x.pt",
    )


@pytest.fixture
def ax():
    return Figure().subplots()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A tiny reproduction of parity, and the folder of its files."""
    folder = tmp_path_factory.mktemp("parity")
    findings = reproduce(tiny(REPRODUCTIONS["parity"]), folder, quick=True, seeds=2)
    return findings, folder, write(findings, folder)


def test_every_name_of_the_command_is_reproduced():
    assert tuple(REPRODUCTIONS) == command.NAMES
    assert all(name == entry.name for name, entry in REPRODUCTIONS.items())


@pytest.mark.parametrize("name", REPRODUCTIONS)
@pytest.mark.parametrize("quick", [False, True])
def test_every_run_has_a_network_of_its_own_that_fits_its_task(name, quick):
    entry = REPRODUCTIONS[name]
    runs = entry.runs(quick, range(2))
    assert len({run.training.fitted().name for run in runs}) == len(runs)
    counted = Counter(tuple(run.condition.items()) for run in runs)
    assert set(counted.values()) == {2}, "each condition is run once a seed"
    for published in entry.published:
        beside = [run for run in runs if published.concerns(run.condition, published.metric)]
        assert quick or beside or published.condition["keys"] == 60


@pytest.mark.parametrize("name", REPRODUCTIONS)
def test_the_quick_form_shows_the_same_models(name):
    entry = REPRODUCTIONS[name]
    told_apart = {"model", "units", "rule", "layer", "setting"}
    models = [
        {tuple((k, v) for k, v in run.condition.items() if k in told_apart) for run in runs}
        for runs in (entry.runs(False, [0]), entry.runs(True, [0]))
    ]
    assert models[0] == models[1]


def test_guessing_the_most_frequent_digit_is_as_bad_as_published():
    draws = itertools.product(range(10), repeat=ba2016.PAIRS)
    right = np.mean([max(Counter(digits).values()) / len(digits) for digits in draws])
    assert round(100 * (1 - right), 2) == ba2016.GUESS


def test_published_losses_lie_at_the_rank_floor():
    widths = {"elu": 64, "dpfp": 128}
    for (setting, model, keys), loss in schlag2021.PUBLISHED.items():
        if setting == 1:
            feature = schlag2021.MODELS[setting, model][1]
            floor = schlag2021.floor(keys, feature)
            assert floor == pytest.approx(max(0, 0.5 - widths[feature] / keys / 2))
            assert abs(loss - floor) <= schlag2021.NEAR


def test_what_is_published_is_in_the_order_that_is_claimed():
    published = {rule: np.full(3, x) for rule, x in mqar.PUBLISHED.items()}
    assert ordered("", {rule: published[rule] for rule in mqar.RULES}).holds
    for keys in schlag2021.FULL.repeated:
        of = schlag2021.PUBLISHED
        ratio = of[2, "sum, DPFP-1", keys] / of[2, "delta, DPFP-1", keys]
        assert ratio > schlag2021.TIMES_LOWER


@pytest.mark.parametrize(
    ("claim", "holds"),
    [
        (at_most("", np.array([1.0, 2.0]), 1.5), True),
        (at_most("", np.array([1.0, 2.1]), 1.5), False),
        (at_least("", np.array([1.0, 2.0]), 1.5), True),
        (at_least("", np.array([0.9, 2.0]), 1.5), False),
        (near("", np.array([0.4, 0.5]), 0.5, 0.05001), True),
        (near("", np.array([0.6, 0.6]), 0.5, 0.05), False),
        (near("", np.array([]), 0.5, 0.05), None),
        (ratio_at_least("", np.array([2.0]), np.array([0.2]), 10), True),
        (ratio_at_least("", np.array([2.0]), np.array([0.21]), 10), False),
        (ratio_at_least("", np.array([2.0]), np.array([]), 10), None),
        (ordered("", {"a": np.full(3, 2.0), "b": np.full(3, 1.0)}), True),
        (ordered("", {"a": np.full(3, 1.0), "b": np.full(3, 1.0)}), False),
        (ordered("", {"a": np.full(2, 2.0), "b": np.full(3, 1.0)}), None),
    ],
)
def test_claims_are_told_either_way(claim, holds):
    assert claim.holds is holds


def test_an_order_says_whether_every_seed_bears_it_out():
    apart, mixed = np.array([3.0, 4, 5]), np.array([1.0, 2, 3.5])
    claim = ordered("", {"a": apart, "b": mixed, "c": np.zeros(3)})
    assert claim.holds
    assert claim.found.endswith("a not over b in every seed; b over c in every seed")


@pytest.mark.parametrize("name", REPRODUCTIONS)
def test_claims_of_what_was_not_run_can_not_be_told(name):
    claims = REPRODUCTIONS[name].claims([])
    assert claims
    assert {claim.holds for claim in claims} == {None}


def test_ba_is_held_to_its_figures():
    def with_errors(fast, slow):
        made = []
        for (model, units), mixer in ba2016.MODELS.items():
            del mixer
            error = slow if model in {"lstm", "irnn"} else fast[units]
            made.append(outcome(error, model=model, units=units))
        return [claim.holds for claim in ba2016.claims(made)]

    assert with_errors({20: 1.8, 50: 0.1}, 58.65) == [True] * 4
    assert with_errors({20: 1.81, 50: 0.11}, 58.64) == [False] * 4


def test_metrics_and_curves_come_in_the_order_of_seeds():
    outcomes = [outcome(2.0, seed=1, model="a"), outcome(1.0, model="a"), outcome(9.0, model="b")]
    assert found(outcomes, "error", model="a").tolist() == [1.0, 2.0]
    assert series(outcomes, "curve", model="a").tolist() == [[1.0, 2.0], [2.0, 4.0]]
    assert found(outcomes, "other").size == 0


def test_published_stands_beside_the_mean_and_its_spread():
    outcomes = [outcome(x, seed=i, model="a") for i, x in enumerate((1.0, 2.0, 6.0))]
    outcomes.append(outcome(5.0, model="b"))
    published = [Published(condition={"model": "a"}, metric="error", value=1.81, note="elsewhere")]
    table = comparison(outcomes, {"error": "error %"}, published).set_index("model")
    assert table.loc["a", ["mean", "low", "high", "seeds"]].tolist() == [3.0, 1.0, 6.0, 3]
    assert table.loc["a", ["published", "note"]].tolist() == [1.81, "elsewhere"]
    assert np.isnan(table.loc["b", "published"])


def test_rows_are_one_a_run_and_metric():
    table = rows([outcome(3.0, seed=2, model="a", units=20)])
    assert table.to_dict("records") == [
        {
            "model": "a",
            "units": 20,
            "seed": 2,
            "metric": "error",
            "value": 3.0,
            "training_seconds": 1.5,
            "steps": 10,
        }
    ]


def test_a_reproduction_writes_what_it_found(small):
    findings, folder, written = small
    assert [path.name for path in written] == ["results.json", "results.csv", "parity.png"]
    content = json.loads(written[0].read_text(encoding="utf-8"))
    assert content["command"] == "fwbio reproduce parity --quick --seeds 2"
    assert content["versions"]["torch"]
    assert [claim["holds"] for claim in content["claims"]] == [x.holds for x in findings.claims]
    assert [run["seed"] for run in content["runs"]] == [0, 1] * 3
    assert content["runs"][0]["training"]["model"]["mixer"]["negative_eigenvalues"] is True
    table = pd.read_csv(written[1])
    wide = table.pivot(index=["model", "seed"], columns="metric", values="value")
    assert_close(wide.scaled_accuracy.to_numpy(), 2 * wide.accuracy.to_numpy() - 1, "float64")
    assert set(table.steps) == {4}
    assert (table.training_seconds > 0).all()
    assert written[2].read_bytes().startswith(b"\x89PNG")
    assert len(list((folder / CHECKPOINTS).glob("*.pt"))) == len(findings.outcomes)


def test_accuracy_is_of_positions_that_training_left_out(small):
    trained, tested = parity.QUICK.length, parity.QUICK.test_length
    for made in small[0].outcomes:
        curve = np.array(made.curves["accuracy_by_position"])
        assert curve.shape == (tested,)
        assert made.metrics["accuracy"] == pytest.approx(curve[trained - 1 :].mean())


def printed(findings):
    console = Console(file=io.StringIO(), width=200)
    for table in tables(findings):
        console.print(table)
    return " ".join(console.file.getvalue().split())


def test_a_failed_claim_of_a_quick_form_is_printed_with_its_reason(small):
    text = printed(replace(small[0], claims=(Claim("it works", False, "0.1"),)))
    assert "does not hold" in text
    assert TOO_SMALL in text
    assert TOO_SMALL not in printed(replace(small[0], claims=(Claim("it works", True, "0.9"),)))


def test_what_is_finished_is_not_trained_again_after_an_interruption(tmp_path, small):
    reproduction = tiny(REPRODUCTIONS["parity"])
    measured = []

    def interrupted(network, run):
        measured.append(run)
        if len(measured) == 2:
            raise KeyboardInterrupt
        return reproduction.measure(network, run)

    with pytest.raises(KeyboardInterrupt):
        reproduce(replace(reproduction, measure=interrupted), tmp_path, quick=True, seeds=2)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / CHECKPOINTS).iterdir()}
    assert sum(path.suffix == ".pt" for path in kept) == 2
    again = reproduce(reproduction, tmp_path, quick=True, seeds=2)
    assert all(path.stat().st_mtime_ns == before for path, before in kept.items())
    assert [x.metrics for x in again.outcomes] == [x.metrics for x in small[0].outcomes]


def test_processes_find_what_one_finds(tmp_path, small):
    reproduction = tiny(REPRODUCTIONS["parity"])
    one = replace(reproduction, runs=lambda quick, seeds: reproduction.runs(quick, seeds)[-2:])
    again = reproduce(one, tmp_path, quick=True, seeds=2, jobs=2)
    for mine, theirs in zip(again.outcomes, small[0].outcomes[-2:], strict=True):
        assert (mine.condition, mine.seed) == (theirs.condition, theirs.seed)
        assert mine.metrics == theirs.metrics


def test_a_run_that_fails_is_told_when_the_others_are_done(tmp_path):
    reproduction = tiny(REPRODUCTIONS["parity"], epochs=1)
    done = []

    def fails(network, run):
        done.append(run)
        if len(done) == 1:
            raise FwbioError("too bad", where="here", mend="do better")
        return Measured({}, {})

    with pytest.raises(FwbioError, match="too bad"):
        reproduce(replace(reproduction, measure=fails), tmp_path, quick=True)
    assert len(done) == len(reproduction.runs(True, [0]))


def test_the_command_reproduces(monkeypatch, tmp_path):
    table = {"icl": tiny(REPRODUCTIONS["icl"], epochs=1)}
    monkeypatch.setattr(reproductions, "REPRODUCTIONS", table)
    words = ["reproduce", "icl", "--quick", "--jobs", "1", "--out", str(tmp_path)]
    result = CliRunner().invoke(cli.main, words)
    assert result.exit_code == 0, result.output
    assert TOO_SMALL in " ".join(result.output.split())
    assert (tmp_path / "icl" / "icl.png").exists()


def test_an_unknown_name_is_one_line(tmp_path):
    result = CliRunner().invoke(cli.main, ["reproduce", "bah2016", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "did you mean 'ba2016'?" in result.output
    assert not list(tmp_path.iterdir())


def by_hand(name):
    """A layer whose weights make it learn as its rule does: keys x, values y, answers read so."""
    inputs = icl.INPUTS
    config = icl.model(name)
    network = build(config)
    memory = network.layers[0].mixer
    identity = torch.eye(inputs + 1)
    of_x, of_y = identity.clone(), torch.zeros(inputs + 1, inputs + 1)
    of_x[inputs, inputs], of_y[0, inputs] = 0, 1
    read = torch.zeros(config.width, inputs + 1)
    read[inputs, 0] = 1  # where y stands, which is 0 at a query
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        wide = torch.zeros(3, inputs + 1, config.width)
        wide[:, :, : inputs + 1] = torch.stack([of_x, of_x, of_y])
        memory.projection.weight.copy_(wide.flatten(0, 1))
        memory.output.weight.copy_(read)
        network.head[-1].weight[0, inputs] = (inputs + 1) ** 0.5  # by which queries are divided
        if name == icl.DELTA:
            network.embedding.weight[: inputs + 1] = identity
            network.positions.weight[-1, -1] = 1  # marks the query, which is not to write
            gate = dict(memory.gates["beta"].named_parameters())
            rate = next(p for p in gate.values() if p.shape == (1,))
            drive = next(p for p in gate.values() if p.shape == (1, config.width))
            rate.fill_(float(np.log(STEP_SIZE / (1 - STEP_SIZE))))
            drive[0, -1] = -1e3
    return TrainedNetwork(model=network, config=None, history=(), checkpoint="")


@pytest.mark.parametrize("name", [icl.SUM, icl.DELTA])
def test_a_layer_built_by_hand_learns_as_its_rule_does(name, monkeypatch):
    monkeypatch.setattr(icl, "best", lambda *_: STEP_SIZE)
    run = next(run for run in icl.runs(True, [0]) if run.condition["layer"] == name)
    metrics, curves = icl.measure(by_hand(name), replace(run, test={"trials": 200}))
    assert metrics["correlation"] > 1 - TOLERANCES["float32"].value
    assert metrics["cosine"] > 1 - TOLERANCES["float32"].value
    if name == icl.DELTA:
        assert_close(np.array(curves["predicted"]), np.array(curves["classical"]), "float32")


def test_the_kernels_delta_rule_is_least_mean_squares(rng):
    x, y = rng.standard_normal((3, 9, 4)), rng.standard_normal((3, 9))
    weights = icl.least_mean_squares(x, y, 0.1)
    assert_close(icl.by_scan(x, y, 0.1), weights, "float64")
    assert_close(
        icl.least_mean_squares(x[:, :1], y[:, :1], 0.1),
        0.1 * y[:, :1] * x[:, 0],
        "float64",
    )


@pytest.mark.parametrize("learn", icl.LEARNERS.values())
def test_the_best_step_size_has_no_better_neighbour(learn):
    episode = TASKS["regression"](3, trials=200, inputs=4, examples=12)
    x, y, query, target = icl._split(episode)
    chosen = icl.best(learn, x, y, query, target)

    def error(step_size):
        return np.square((learn(x, y, step_size) * query).sum(1) - target).mean()

    assert all(error(chosen) <= error(chosen + shift) for shift in (-0.01, 0.01))


def test_bands_are_the_mean_and_the_range_over_seeds(ax):
    y = {"a": np.array([[1.0, 2.0], [3.0, 6.0]])}
    x = {"a": [10.0, 20.0]}
    drawn = plots.bands(
        x, y, ax, xlabel="x", ylabel="y", dashed={"a": 5.0}, squares={"a": {15.0: 0.5}}
    )
    assert drawn is ax
    line, square, level = ax.lines
    assert line.get_ydata().tolist() == [2.0, 4.0]
    assert square.get_xydata().tolist() == [[15.0, 0.5]]
    assert level.get_ydata() == [5.0, 5.0]
    assert level.get_color() == line.get_color()
    ends = ax.collections[0].get_paths()[0].vertices
    assert {(10.0, 1.0), (10.0, 3.0), (20.0, 2.0), (20.0, 6.0)} <= set(map(tuple, ends))


def test_a_legend_above_covers_no_curve(ax):
    x, y = {"a": [0.0, 1.0]}, {"a": np.ones((1, 2))}
    plots.bands(x, y, ax, xlabel="x", ylabel="y", dashed={"b": 2.0}, above=True)
    ax.figure.canvas.draw()
    assert ax.get_legend().get_window_extent().y0 >= ax.get_window_extent().y1


def test_strips_hold_every_seed_and_the_published_figure(ax):
    groups = {"delta": np.array([0.9, 1.0]), "gla": np.array([0.2])}
    plots.strip(groups, ax, xlabel="x", ylabel="y", published={"gla": 0.22})
    points = [line.get_ydata() for line in ax.lines]
    assert [list(values) for values in points] == [[0.9, 1.0], [0.2], [0.22]]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["delta", "gla"]


def test_predictions_are_drawn_against_each_other(ax):
    first, second = np.array([0.0, 1.0]), np.array([0.1, 0.9])
    plots.against(first, second, ax, xlabel="x", ylabel="y", label="points")
    assert ax.lines[1].get_xydata().tolist() == [[0.0, 0.1], [1.0, 0.9]]


def test_schlags_figure_has_the_floors(ax):
    outcomes = [
        replace(outcome(setting=1, model=model, keys=keys), metrics={"loss": 0.1})
        for model in ("sum, linear", "sum, DPFP-1")
        for keys in (40, 200)
    ]
    schlag2021.unique_keys(outcomes, ax)
    lines = {line.get_label(): line for line in ax.lines}
    assert lines["floor, linear"].get_ydata()[199] == pytest.approx(0.34)
    assert lines["floor, DPFP-1"].get_ydata()[127] == 0
    assert lines["sum, DPFP-1"].get_xdata().tolist() == [40, 200]


def test_numbers_in_words_keep_their_digits():
    assert told(1.81) == "1.81"
    assert told(float("nan")) == "–"


def test_what_is_plain_can_be_written_as_json(small):
    assert json.loads(json.dumps(plain(small[0])))["name"] == "parity"
