"""The benchmark of training: it refuses what is wrong, and counts what it claims to."""

import dataclasses
import json

import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from tolerances import assert_close

from fwbio import FwbioError
from fwbio.analyses.benchmarks import kernels as bench
from fwbio.analyses.benchmarks import training as bench_training
from fwbio.analyses.benchmarks import training_models as bench_training_models
from fwbio.analyses.benchmarks.training import Contender, Row, compare, measure, times
from fwbio.analyses.cli import main

SMALL = Row(rule="gated_delta", width=16, head=8, batch=1, length=64, layers=1)


def contender(change=lambda y: y, **settings):
    scanned = bench_training_models.ours(SMALL).run
    return Contender(
        name="rival",
        package="torch",
        source="here",
        run=lambda layer, memory, streams: change(scanned(layer, memory, streams)),
        **settings,
    )


def measured(*rivals, turns=1):
    return measure(SMALL, threads=[1], turns=turns, seed=3, rivals=rivals)


def test_the_same_model_is_right_and_timed_in_turns():
    mine, rival = measured(contender(), turns=2)
    assert (mine["status"], rival["status"]) == ("measured", "measured")
    assert mine["error"] <= bench_training.GATE.ours
    assert rival["loss"] == mine["loss"]
    assert (mine["best_peer"], rival["ratio"]) == ("rival", None)
    assert mine["ratio"] == pytest.approx(rival["step_s"] / mine["step_s"])


def steeper(y):
    """The read-outs to the bit, and twice their gradient."""
    return 2 * y - y.detach()


WRONG = (
    (lambda y: y.roll(1, 1), "wrong: error "),
    (steeper, "wrong: error "),
    (lambda y: y * float("nan"), "wrong: not finite"),
    (lambda y: 1 / 0, "fails: ZeroDivisionError: division by zero"),
)


def test_what_is_wrong_gets_no_speed():
    mine, *rivals = measured(*(contender(change) for change, _ in WRONG))
    for rival, (_, reason) in zip(rivals, WRONG, strict=True):
        assert rival["reason"].startswith(reason)
        assert rival["step_s"] is rival["tokens_per_s"] is None
    assert mine["status"] == "measured"
    assert mine["ratio"] is mine["best_peer"] is None  # there is no right peer


def test_the_wrong_gradient_is_one_that_the_loss_does_not_show():
    model, tokens, targets = bench_training_models.problem(SMALL, 3)
    losses = [
        bench_training._loss(model, tokens, targets, contender(change).run)
        for change in (lambda y: y, steeper)
    ]
    assert torch.equal(*losses)


def test_ratios_are_to_the_fastest_right_peer():
    row = Row(rule="delta", width=128, batch=2, length=50)
    entries = [
        {"implementation": name, "ours": name == "mine", "status": status, "ratio": None}
        | {"borrows": name == "borrower"}
        | times(steps, memories, row)
        for name, status, steps, memories in (
            ("mine", "measured", [2.0, 4.0, 3.0], [1.0, 1.0, 9.0]),
            ("slow", "measured", [7.0, 8.0, 9.0], [2.0, 2.0, 2.0]),
            ("fast", "measured", [6.0, 5.0, 6.0], [4.0, 4.0, 4.0]),
            ("wrong", "wrong", [0.1, 0.1, 0.1], [0.1, 0.1, 0.1]),
            ("borrower", "measured", [4.5, 4.5, 4.5], [2.0, 2.0, 2.0]),
        )
    ]
    compare(entries)
    mine, slow = entries[:2]
    assert (mine["step_s"], mine["step_s_q1"], mine["step_s_q3"]) == (3.0, 2.5, 3.5)
    assert mine["tokens_per_s"] == pytest.approx(100 / 3)
    assert mine["memory_share"] == pytest.approx(1 / 3)
    assert (mine["best_peer"], mine["ratio"], mine["ratio_of_minima"]) == ("fast", 2.0, 2.5)
    assert mine["ratio_bound"] == pytest.approx(3.0)  # 6 s beside the 2 s of all but memories
    assert mine["ratio_borrowing"] == pytest.approx(1.5)
    assert slow["ratio"] is None


def test_a_model_of_plain_convolutions_is_the_same_model():
    model, tokens, _ = bench_training_models.problem(SMALL, 3)
    plain = contender(lambda y: y, plain_convolution=True)
    prepared = bench_training_models.prepared(model, plain)
    assert prepared.memories()[0][1].convolution.forward.func is bench_training_models._convolved
    with torch.no_grad():
        assert_close(prepared(tokens).numpy(), model(tokens).numpy(), "float32")


@pytest.mark.parametrize("row", bench_training.ROWS, ids=lambda row: row.name)
def test_rows_fit_their_heads_and_have_peers(row):
    assert row.width % row.head == 0
    assert row.length % 64 == 0
    assert bench_training_models.peers(row)


@pytest.mark.parametrize("rule", ["delta", "gated_delta"])
def test_peers_train_the_same_model(rule):
    row = dataclasses.replace(SMALL, rule=rule)
    rivals = bench_training_models.peers(row)
    if any(one.missing() for one in rivals):
        pytest.skip(str(rivals[0].missing()))
    entries = measure(row, threads=[1], turns=1, seed=0, rivals=rivals)
    assert {entry["status"] for entry in entries} == {"measured"}


def test_a_quick_run_without_peers_writes_json_table_and_figure(tmp_path, monkeypatch):
    for module in (bench, bench_training_models):
        monkeypatch.setattr(module, "installed_version", lambda package: None)
    options = ["--quick", "--rows", "delta 128", "--threads", "1", "--turns", "1"]
    result = CliRunner().invoke(main, ["bench", "training", *options, "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    names = ("training.json", "training.csv", "training.png")
    assert {path.name for path in tmp_path.iterdir()} == set(names)
    found = json.loads((tmp_path / "training.json").read_text(encoding="utf-8"))
    mine, peer, borrower = found["results"]
    assert (peer["borrows"], borrower["borrows"]) == (False, True)
    assert (mine["ours"], mine["status"]) == (True, "measured")
    assert mine["tokens_per_s"] == pytest.approx(2 * 64 / mine["step_s"])
    assert (peer["status"], peer["step_s"]) == ("not installed", None)
    assert "pip install 'fwbio[bench]'" in peer["reason"]
    assert "fwbio" in result.stdout
    assert list(pd.read_csv(tmp_path / "training.csv").columns) == list(mine)
    assert (tmp_path / "training.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rows": ["delta 12"]}, "no row called 'delta 12'; did you mean 'delta 128'"),
        ({"turns": 0}, "turns of \\[0\\] can't be measured"),
        ({"threads": [1, 0]}, "threads of \\[1, 0\\] can't be measured"),
        ({"seed": -1}, "seed of \\[-1\\] can't be measured"),
    ],
)
def test_mistakes_are_told(settings, words):
    with pytest.raises(FwbioError, match=words):
        bench_training.training(**settings)
