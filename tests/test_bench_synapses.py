"""The synaptic benchmark: it refuses what is wrong, and its scripts by hand do the same."""

import dataclasses
import json

import numpy as np
import pytest
from click.testing import CliRunner
from tolerances import TOLERANCES, assert_close

from fwbio import FwbioError, reference
from fwbio.analyses.benchmarks import synapses as bench_synapses
from fwbio.analyses.benchmarks import synapses_peers as bench_synapses_peers
from fwbio.analyses.benchmarks.synapses import Contender, Row, Sample, measure
from fwbio.analyses.benchmarks.synapses_rate import program, rate_row, relative_error, scheduled
from fwbio.analyses.cli import main
from fwbio.models import standalone
from fwbio.models.rate import RateModel

RIGHT = np.array([1.0, -2.0])


def contender(name, *, seconds=1.0, weights=RIGHT, ours=False, engine="cython"):
    times = iter([9.0, *np.broadcast_to(seconds, 3)])  # the first run is not timed

    def run():
        return Sample(weights=weights, seconds=next(times), compile_s=0.5, events=20.0)

    return Contender(name=name, engine=engine, ours=ours, run=run)


def measured(*contenders):
    row = Row(
        name="row",
        pre=1,
        post=2,
        steps=10,
        expected=RIGHT,
        error=relative_error,
        gate=1e-12,
        target=1.1,
        contenders=contenders,
    )
    return {entry["implementation"]: entry for entry in measure(row, 3)}


def test_times_are_per_step_with_quartiles_and_without_the_first_run():
    found = measured(contender("one", seconds=[1.0, 2.0, 4.0]))["one"]
    assert found["step_s"] == pytest.approx(0.2)
    assert (found["step_s_q1"], found["step_s_q3"]) == pytest.approx((0.15, 0.3))
    assert found["step_s_min"] == pytest.approx(0.1)
    assert found["events_per_s"] == pytest.approx(10.0)
    assert found["compile_s"] == 0.5


def test_the_fastest_right_script_is_the_measure():
    found = measured(
        contender("ours", seconds=2.0, ours=True),
        contender("slow", seconds=4.0),
        contender("fast", seconds=1.0, engine="cpp_standalone"),
        contender("wrong", seconds=0.1, weights=RIGHT * (1 + 1e-9)),
    )
    ours, wrong = found["ours"], found["wrong"]
    assert (ours["best_peer"], ours["ratio"], ours["ratio_of_minima"]) == ("fast", 2.0, 2.0)
    assert (ours["engine_peer"], ours["engine_ratio"], ours["target"]) == ("slow", 0.5, 1.1)
    assert (wrong["status"], wrong["step_s"]) == ("wrong", None)
    assert wrong["reason"] == "wrong: error 1e-09"
    assert found["slow"]["ratio"] is None


@pytest.mark.parametrize("weights", [RIGHT[:1], RIGHT * np.nan])
def test_what_is_misshapen_or_not_finite_gets_no_speed(weights):
    found = measured(contender("bad", weights=weights), contender("ours", ours=True))
    assert (found["bad"]["status"], found["bad"]["error"]) == ("wrong", None)
    assert found["ours"]["ratio"] is None  # there is no right peer


def test_what_fails_is_told_and_the_others_go_on():
    def failing():
        raise RuntimeError("no compiler\nhere")

    broken = dataclasses.replace(contender("broken"), run=failing)
    found = measured(broken, contender("other"))
    assert found["broken"]["reason"] == "fails: RuntimeError: no compiler here"
    assert found["other"]["status"] == "measured"


def test_the_plain_loop_is_the_reference_but_for_its_steps():
    row = rate_row("rate 8", 8, 3, quick=True)
    ideal = reference.execute(program(8, steps=1, seed=3)).weights.values[0, -1]
    # first order in dt, ten times that of the default
    assert relative_error(row.expected, ideal) <= 10 * TOLERANCES["rate"].value
    assert row.gate == TOLERANCES["float64"].value


@pytest.mark.parametrize("name", ["one run_regularly for both, by row", "C++ function of a column"])
def test_scripts_by_hand_do_the_same(name, tmp_path, monkeypatch):
    monkeypatch.setenv(standalone.CACHE, str(tmp_path))
    plan = scheduled(program(8, steps=1, seed=0), RateModel(dt=2.5e-3))
    weights, seconds, compile_s = bench_synapses_peers.run(name, plan)
    assert_close(weights, bench_synapses_peers.euler(plan), "float64")
    assert 0 < seconds < compile_s


def test_the_command_writes_what_it_measured(tmp_path):
    options = ["bench", "synapses", "--quick", "--turns", "2", "--out", str(tmp_path)]
    done = CliRunner().invoke(main, [*options, "--rows", "rate 100,spiking 64"])
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "synapses.json").read_text(encoding="utf-8"))
    assert found["settings"]["rows"] == ["rate 100", "spiking 64"]
    status = {(e["row"], e["implementation"]): e["status"] for e in found["results"]}
    assert set(status.values()) == {"measured"}
    assert ("rate 100", "fwbio, numpy") in status
    assert ("spiking 64", "by hand, numpy") in status
    assert "fwbio, numpy" in (tmp_path / "synapses.csv").read_text(encoding="utf-8")
    assert "fwbio, numpy" in done.output


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rows": ["rate 1"]}, "no row called 'rate 1'; did you mean 'rate 100'"),
        ({"turns": 0}, "0 turns of seed 0 can't be run"),
        ({"seed": -1}, "seed -1 can't be run"),
    ],
)
def test_unknown_rows_and_no_turns_are_told(settings, words):
    with pytest.raises(FwbioError, match=words):
        bench_synapses.synapses(**settings)
