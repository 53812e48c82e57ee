"""`fwbio identify`: what it prints and writes, and one line for every mistake."""

import csv
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from click.testing import CliRunner

from fwbio import RULES, FwbioError, program, record, reference
from fwbio.analyses import cli
from fwbio.analyses.identification import (
    Candidate,
    Identification,
    Parameter,
    from_record,
    identify,
)
from fwbio.analyses.identification.command import identify_command
from fwbio.analyses.identification.csv_table import write_csv
from fwbio.analyses.identification.meanings import taken
from fwbio.analyses.identification.outputs import write
from fwbio.analyses.identification.replay import replay
from fwbio.analyses.identification.tables import described, groups, plain, rows
from fwbio.data import constants
from fwbio.rule import TIMED

STEPS, PRE, POST = 40, 6, 5
FEW = ["--rules", "hebb,retnet,mamba2,delta,gated_delta,delta_product"]
TRUE = {
    "hebb": {"beta": 0.7},
    "retnet": {"log_decay": np.log(0.9)},
    "delta": {"beta": 0.5},
    "oja": {"beta": 0.1},
}
GROUP = cli.OneLineGroup("fwbio", commands={"identify": identify_command})


def run(*words):
    return CliRunner().invoke(GROUP, ["identify", *map(str, words)])


def told(result):
    """The one line of a mistake."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("fwbio: ")
    return line


def recording(rule, rng, *, noise=0.02, orthonormal=False):
    """Keys of uneven length, values, and noisy weights of a rule."""
    key = rng.standard_normal((STEPS, PRE)) / np.sqrt(PRE)
    if orthonormal:
        key = np.zeros((STEPS, PRE))
        key[np.arange(PRE), np.arange(PRE)] = 1
    value, query = rng.standard_normal((STEPS, POST)), rng.standard_normal((STEPS, PRE))
    made = reference.execute(
        program.make(rule, key, value, query, **TRUE.get(rule, {})), weights="all"
    )
    weights = made["weights"]
    spread = noise * float(np.sqrt((weights**2).mean()))
    seen = weights + spread * rng.standard_normal(weights.shape)
    return made[["key", "value", "query"]].assign(weights=seen.assign_attrs(weights.attrs))


@pytest.fixture
def delta(rng, tmp_path):
    path = tmp_path / "delta.nc"
    record.save(recording("delta", rng), path)
    return path


@pytest.fixture
def tree(rng, tmp_path):
    path = tmp_path / "comparison.nc"
    nodes = {f"/designed/reference/{rule}": recording(rule, rng) for rule in ("hebb", "delta")}
    nodes["/summary"] = xr.Dataset({"value": ("row", [1.0])})
    record.save(xr.DataTree.from_dict(nodes), path)
    return path


def test_the_answer_comes_first_and_the_table_after_it(delta):
    result = run(delta, *FEW)
    assert result.exit_code == 0, result.output
    sentence, *table = result.stdout.splitlines()
    assert sentence.startswith("It is delta, ")
    rules = ["delta", "gated_delta", "retnet", "= mamba2", "hebb"]
    places = [next(i for i, line in enumerate(table) if f" {rule} " in line) for rule in rules]
    assert places[0] == min(places)  # the richer one fits as well, and is no rival
    assert places[3] == places[2] + 1  # one row of both, which predict the same
    assert "several keys a step" in table[-1]
    assert "100%" in result.stderr


def test_json_has_every_number_of_the_answer(delta):
    result = run(delta, *FEW, "--json")
    found = json.loads(result.stdout)
    assert (found["verdict"], found["rules"], found["observed"]) == (
        "identified",
        ["delta"],
        "weights",
    )
    candidates = {c["rule"]: c for c in found["candidates"]}
    (beta,) = candidates["delta"]["parameters"]
    assert beta["low"] < beta["value"] < beta["high"]
    assert abs(beta["value"] / TRUE["delta"]["beta"] - 1) < 0.05
    assert candidates["delta_product"]["bic"] is None
    assert candidates["retnet"]["equivalent"] == ["mamba2"]


@pytest.mark.parametrize("suffix", [".nc", ".zarr", ".csv"])
def test_every_format_gives_the_same_answer(suffix, rng, tmp_path):
    made = recording("retnet", rng)
    path = tmp_path / f"mine{suffix}"
    write_csv(made, path) if suffix == ".csv" else record.save(made, path)
    found = json.loads(
        run(path, "--rules", "hebb,retnet,delta", "--scale", "known", "--json").stdout
    )
    ideal = plain(identify(made, rules=["hebb", "retnet", "delta"]))
    assert found["rules"] == ideal["rules"] == ["retnet"]
    one, other = (
        [
            p["value"]
            for p in next(c for c in x["candidates"] if c["rule"] == "retnet")["parameters"]
        ]
        for x in (found, ideal)
    )
    np.testing.assert_allclose(one, other, rtol=1e-4)


def test_files_hold_the_answer_and_what_makes_it_again(delta, tmp_path):
    result = run(delta, *FEW, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    names = ["identification.json", "identification.csv", "identification.png"]
    written = [tmp_path / "out" / name for name in names]
    assert result.stdout.splitlines()[-3:] == list(map(str, written))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)
    data = json.loads(written[0].read_text())
    command = data["command"].split()
    assert command[:3] == ["fwbio", "identify", str(delta)]
    again = json.loads(run(*command[2:], "--json").stdout)
    assert {name: data[name] for name in again} == again
    with written[1].open() as file:
        table = list(csv.DictReader(file))
    assert table[0]["rule"] == "delta"
    assert table[0]["answer"] == "True"
    assert {row["rule"] for row in table} == set(FEW[1].split(","))
    assert written[2].read_bytes().startswith(b"\x89PNG")


def test_data_that_can_not_tell_are_an_answer_too(rng, tmp_path):
    path = tmp_path / "orthonormal.nc"
    record.save(recording("hebb", rng, orthonormal=True), path)
    result = run(path, "--rules", "hebb,delta")
    assert result.exit_code == 0, result.output
    sentence = result.stdout.splitlines()[0]
    assert "can't tell" in sentence
    assert "hebb" in sentence
    assert "delta" in sentence
    assert "overlap" in sentence  # what keys would have to do to tell


def test_a_record_of_a_tree_is_chosen(tree):
    found = json.loads(run(tree, "--at", "designed/reference/hebb", *FEW, "--json").stdout)
    assert found["rules"] == ["hebb"]
    line = told(run(tree))
    assert "/designed/reference/hebb, /designed/reference/delta" in line
    assert "/summary" not in line
    assert "did you mean '/designed/reference/delta'" in told(run(tree, "--at", "/designed/delta"))


def test_mistakes_are_one_line(delta, tmp_path):
    assert "there is no such file" in told(run(tmp_path / "none.nc"))
    assert "there is no such file" in told(run(tmp_path / "none.csv"))
    assert "did you mean 'delta'" in told(run(delta, "--rules", "detla"))
    assert "leave out --at" in told(run(delta, "--at", "/designed"))
    assert "there is no readout" in told(run(delta, "--from", "readout"))
    assert "--from" in told(run(delta, "--from", "spikes"))
    (tmp_path / "file").write_text("")
    assert "can't be written" in told(run(delta, "--out", tmp_path / "file" / "out"))
    (tmp_path / "bad.csv").write_text("step,key_0\n0,1\n")
    assert "no column 'value_0'" in told(run(tmp_path / "bad.csv"))
    record.save(xr.Dataset({"a": ("x", [1.0])}), tmp_path / "other.nc")
    assert "there is no 'key'" in told(run(tmp_path / "other.nc"))


def test_what_was_read_can_be_checked_before_anything_is_fitted(rng, tmp_path):
    path = tmp_path / "mine.csv"
    write_csv(recording("delta", rng).isel(snapshot=slice(None, None, 2)), path)
    table = pd.read_csv(path).assign(mouse="m1", interval=0.25)
    table.loc[0, "weight_0_0"] = np.nan
    table.to_csv(path, index=False)
    result = run(path, "--check", "--json")
    found = json.loads(result.stdout)
    assert (found["trials"], found["steps"], found["pre"], found["post"]) == (1, STEPS, PRE, POST)
    assert found["weights"]["snapshots"] == STEPS // 2
    assert found["weights"]["missing"] == pytest.approx(1 / (STEPS // 2 * PRE * POST))
    assert (found["start"], found["interval"]) == ("zero", [0.25, 0.25])
    (line,) = result.stderr.splitlines()
    assert line == "Left aside, for no recording has such columns: 'mouse'"
    early = pd.concat([table.assign(trial=0), table.assign(trial=1).head(9)])
    early.drop(columns="mouse").to_csv(tmp_path / "early.csv", index=False)
    (line,) = run(tmp_path / "early.csv", "--check").stderr.splitlines()
    assert line == "1 trial of 2 ended early: filled up with steps that present and see nothing"
    shown = run(path, "--check").stdout
    assert f"after {STEPS // 2} of {STEPS} steps" in shown
    assert "0.25 s" in shown
    assert "leave out --out" in told(run(path, "--check", "--out", tmp_path / "out"))


def test_some_trials_are_enough(rng, tmp_path):
    path, out = tmp_path / "three.nc", tmp_path / "out"
    made = [recording("delta", rng) for _ in range(3)]
    record.save(xr.concat(made, "trial", combine_attrs="drop_conflicts"), path)
    few = ["--rules", "delta", "--trials", "2"]
    assert json.loads(run(path, "--trials", "2", "--check", "--json").stdout)["trials"] == 2
    two = xr.concat(made[:2], "trial", combine_attrs="drop_conflicts")
    ideal = plain(identify(two, rules=["delta"]))["candidates"]
    found = json.loads(run(path, *few, "--out", out, "--json").stdout)
    assert found["candidates"][0]["log_likelihood"] == pytest.approx(ideal[0]["log_likelihood"])
    assert "--trials 2" in json.loads((out / "identification.json").read_text())["command"]


def test_constants_that_are_taken_and_not_fitted_are_told(rng, tmp_path):
    path = tmp_path / "mine.nc"
    made = recording("bcm", rng).drop_vars("interval", errors="ignore")
    record.save(made, path)
    result = run(path, "--rules", "bcm,hebb")
    assert "taken, not fitted, of bcm: bcm_tau_theta 20 s, interval 0.1 s" in result.stdout
    found = json.loads(run(path, "--rules", "bcm", "--json").stdout)["taken"]["bcm"]
    assert found["bcm_tau_theta"]["value"] == constants("plasticity")["bcm_tau_theta"]
    record.save(made.assign(interval=("step", np.full(STEPS, 0.3))), path)
    found = json.loads(run(path, "--rules", "bcm", "--json").stdout)["taken"]["bcm"]
    assert list(found) == ["bcm_tau_theta"]


@pytest.mark.parametrize(
    "rule", sorted(rule for rule in RULES if RULES[rule].terms.plasticity in TIMED)
)
def test_every_rule_with_time_constants_tells_them(rule, rng):
    answer = Identification(
        observed="weights",
        candidates=(Candidate(rule=rule),),
        rules=(rule,),
        verdict="identified",
        sentence="",
    )
    found = taken(answer, from_record(recording("hebb", rng)))[rule]
    assert found["interval"]["value"] == 0.1
    units = [entry["unit"] for name, entry in found.items() if name not in {"interval", "lead"}]
    assert {"s", "V", "1/s"} & set(units)


def test_the_table_explains_its_names(delta):
    words = " ".join(run(delta, "--rules", "gated_delta,oja").stdout.split())
    for name in ("decay", "half life", "beta", "weights before the first step", "explainable"):
        assert f"{name}: " in words
    assert "oja: of several" not in words
    assert "subspace rule" in " ".join(run(delta, "--rules", "oja").stdout.split())


@pytest.mark.parametrize("ending", [".xlsx", ".mat", ".npz"])
def test_other_endings_are_told_the_ones_there_are(ending, tmp_path):
    (tmp_path / f"mine{ending}").write_text("")
    line = told(run(tmp_path / f"mine{ending}"))
    assert f"{ending} is not read as a recording; save it as .nc, .zarr or .csv" in line
    assert "name a .nc, .zarr or .csv in it" in told(run(tmp_path))


def test_an_empty_list_of_rules_is_a_mistake(delta):
    assert "no rule is named" in told(run(delta, "--rules", ""))


@pytest.mark.parametrize("rule", ["retnet", "delta"])
@pytest.mark.parametrize("scale", ["known", "fitted"])
def test_a_replay_of_clean_weights_is_their_course(rule, scale, rng):
    made = recording(rule, rng, noise=0.0).isel(snapshot=slice(None, None, 2))
    made["weights"] = made["weights"] * (7.0 if scale == "fitted" else 1.0)
    answer = identify(made, rules=[rule], scale=scale)
    found = replay(made, answer[rule])
    assert found.sizes["change"] == STEPS // 2 * PRE * POST
    error = np.sqrt(((found.observed - found.predicted) ** 2).mean() / (found.observed**2).mean())
    assert error < 1e-3


@pytest.mark.parametrize("rule", ["delta", "oja", "bcm"])
def test_a_replay_goes_on_from_observed_weights(rule, rng):
    made = recording(rule, rng, noise=0.0)
    later = made.isel(snapshot=slice(5, None)).assign_attrs(initial="observed")
    found = replay(later, identify(later, rules=[rule])[rule])
    assert found.sizes["change"] == (STEPS - 6) * PRE * POST
    size = float(np.abs(found.observed).max())
    np.testing.assert_allclose(found.observed, found.predicted, atol=1e-3 * size)


@pytest.mark.parametrize("rule", ["retnet", "delta"])
def test_a_replay_reads_what_queries_read(rule, rng):
    made = recording(rule, rng, noise=0.0)
    read = np.einsum("tkv,tk->tv", made.weights.values, made["query"].values)
    seen = made.drop_vars("weights").assign(readout=(("step", "post"), read, {"units": "1"}))
    answer = identify(seen, rules=[rule])
    assert answer.observed == "readout"
    found = replay(seen, answer[rule], observed="readout")
    np.testing.assert_allclose(found.predicted, found.observed, atol=1e-3 * np.abs(read).max())


def test_a_replay_runs_as_many_trials_as_it_is_told(rng):
    trials = [recording("delta", rng) for _ in range(3)]
    made = xr.concat(trials, "trial", combine_attrs="drop_conflicts")
    candidate = identify(made, rules=["delta"])["delta"]
    every, one = replay(made, candidate), replay(made, candidate, trials=1)
    assert every.sizes["change"] == 3 * one.sizes["change"]
    np.testing.assert_array_equal(every.predicted[: one.sizes["change"]], one.predicted)


def test_a_rule_of_ones_own_is_replayed_where_it_is_given(rng, tmp_path):
    made = recording("delta", rng)
    own = replace(RULES["delta"], name="mine")
    answer = identify(made, rules=[own, "hebb"])
    same = replay(made, identify(made, rules=["delta"])["delta"])
    np.testing.assert_allclose(replay(made, answer["mine"], rule=own).predicted, same.predicted)
    with pytest.raises(FwbioError, match="no rule called 'mine'"):
        replay(made, answer["mine"])
    assert len(write(answer, made, tmp_path, command="mine()", rules=[own])) == 3


def test_a_refused_rule_is_not_replayed(rng):
    refused = Candidate(rule="delta_product", refused="no substeps")
    with pytest.raises(ValueError, match="no substeps"):
        replay(recording("delta", rng), refused)


def lost(size):
    """A constant that nothing determines."""
    value = np.full(size, 0.5)
    ends = np.full(size, np.inf)
    return Parameter(name="erase", value=value, low=-ends, high=ends, determined=False)


def test_what_is_not_determined_is_said_to_be():
    assert described(lost(())) == "erase not determined"
    assert described(lost(3)) == "erase 0.5 .. 0.5 over 3 channels, not all determined"
    ends = {"low": np.array(30.0), "high": np.array(np.inf), "units": "steps"}
    forever = Parameter(name="half_life", value=np.array(np.inf), **ends)
    assert described(forever) == "half life above 30 steps"


def test_rows_and_groups_keep_every_rule_and_channel():
    answer = Identification(
        observed="weights",
        candidates=(
            Candidate(rule="gla", parameters=(lost(3),)),
            Candidate(rule="retnet", equivalent=("mamba2",)),
            Candidate(rule="mamba2", equivalent=("retnet",)),
            Candidate(rule="oja", refused="because"),
        ),
        rules=("retnet", "mamba2"),
        verdict="equivalent",
        sentence="",
    )
    assert [[c.rule for c in group] for group in groups(answer)] == [["retnet", "mamba2"], ["gla"]]
    table = rows(answer)
    assert list(table["rule"]) == ["gla"] * 3 + ["retnet", "mamba2", "oja"]
    assert list(table["rank"].fillna(0)) == [2, 2, 2, 1, 1, 0]
    assert list(table["channel"][:3]) == ["0", "1", "2"]
