"""The study of identification: what it runs, how it goes on, and what it says of its findings."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from fwbio.analyses.identification import from_record, study_cases, study_outputs, study_run
from fwbio.analyses.identification.study import RULES_STUDIED, is_right
from fwbio.analyses.identification.study_cases import FIRST, Case, carry_out, cases, named
from fwbio.analyses.identification.study_command import identification_command
from fwbio.analyses.identification.study_foreign import FOREIGN
from fwbio.analyses.identification.study_summary import by_rule, claims, confusion, wilson

SERIES = {"rules", "noise", "steps", "readout", "unit", "spiking", "foreign"}


def test_the_study_is_of_every_rule_and_of_seeds_that_are_new():
    found = cases()
    assert len(set(found)) == len(found)
    assert {one.series for one in found} == SERIES
    main = [one for one in found if one.series == "rules"]
    assert {one.rule for one in main} == set(RULES_STUDIED)
    assert len(main) >= 10 * len(RULES_STUDIED) >= 120
    assert min(one.seed for one in found) >= FIRST
    assert max(one.seed for one in cases(quick=True)) < 100


def test_the_interval_of_a_share_is_that_of_shares_whose_test_keeps_it():
    """Its ends are the p at which the share is 1.96 of their own standard errors away."""
    for hits, total in ((2, 2), (0, 3), (5, 12)):
        found = wilson([True] * hits + [False] * (total - hits))
        for end in (found.low, found.high):
            off = (hits / total - end) ** 2 - 1.959964**2 * end * (1 - end) / total
            assert abs(off) < 1e-6
    none = wilson([False] * 3)
    assert none.low == 0
    assert 0.5 < none.high < 1
    assert np.isnan(wilson([]).share)


@pytest.mark.parametrize("series", ["rules", "readout"])
def test_a_case_is_identified_and_judged(series):
    row = carry_out(Case(series=series, rule="hebb", seed=0, steps=25))
    json.dumps(row, allow_nan=False)
    assert row["right"] == (row["named"] and is_right("hebb", row["answer"].split()))
    assert (row["error"] is None) == (series == "readout")


@pytest.mark.parametrize("kind", FOREIGN)
def test_memories_of_no_rule_are_none_of_the_table(kind, seed):
    row = carry_out(Case(series="foreign", rule=kind, seed=seed, steps=60))
    assert row["right"] == (row["verdict"] == "none")
    assert row["right"], row["answer"]


def test_readouts_are_what_queries_read_of_the_weights_and_no_more():
    one = Case(series="readout", rule="delta", seed=0, steps=30, noise=0.0)
    record = study_cases.readouts(one)
    assert "weights" not in record
    assert not record.attrs and record.readout.attrs == {"units": "1"}
    clean = study_cases.case("delta", 0, steps=30, noise=0.0)
    t = 17
    np.testing.assert_allclose(
        record.readout[t], clean.weights.values[t].T @ clean["query"].values[t], rtol=1e-12
    )


def test_weights_in_siemens_are_the_rules_in_another_unit():
    one = Case(series="unit", rule="delta", seed=0, steps=30)
    record = study_cases.in_siemens(one)
    assert record.weights.attrs["units"] == "S" and not record.attrs
    clean = study_cases.case("delta", 0, steps=30)
    np.testing.assert_allclose(record.weights, 3e-9 * clean.weights, rtol=1e-12)
    read = study_cases.in_siemens(replace(one, seed=1))
    assert read.readout.attrs["units"] == "S" and "weights" not in read


def test_spiking_records_hold_weights_of_every_step_and_nothing_that_gives_them_away():
    record = study_cases.spikes(Case(series="spiking", rule="delta", seed=0, steps=4))
    assert set(record.data_vars) == {"key", "value", "weights"}
    assert not record.attrs
    assert from_record(record).weights.shape[1] == 4


@pytest.fixture
def counted(monkeypatch):
    """Stand-ins of cases that are carried out, as a list."""
    done = []

    def stand_in(one):
        done.append(one)
        return finding(one)

    monkeypatch.setattr(study_run, "carry_out", stand_in)
    return done


def finding(one, *, answer=None, error=0.01):
    foreign = one.series == "foreign"
    answer = ("" if foreign else one.rule) if answer is None else answer
    return {
        "answer": answer,
        "verdict": "identified" if answer else "none",
        "right": foreign or is_right(one.rule, answer.split()),
        "named": one.rule in answer.split(),
        "error": error if one.series == "rules" else None,
        "covered": 1.0 if one.series == "rules" else None,
        "seconds": 1.0,
        "series": one.series,
        "rule": one.rule,
        "seed": one.seed,
        "noise": one.noise,
        "steps": one.steps,
    }


def test_a_run_goes_on_where_it_was_stopped(counted, tmp_path):
    few = cases(quick=True)
    first = study_run.run(few[:3], tmp_path)
    with (tmp_path / study_run.LEDGER).open("a") as file:
        file.write('{"code": "torn')
    table = study_run.run(few, tmp_path)
    assert counted == few
    assert list(table.seed) == [one.seed for one in few]
    pd.testing.assert_frame_equal(table[:3], first, check_dtype=False)


def test_what_other_code_found_is_found_anew(counted, tmp_path, monkeypatch):
    few = cases(quick=True)[:2]
    study_run.run(few, tmp_path)
    monkeypatch.setattr(study_run, "fingerprint", lambda: "other")
    study_run.run(few, tmp_path)
    assert counted == [*few, *few]


def whole_table(**changed):
    """A study in which all is right but what is changed, by (rule, seed) of the main series."""
    rows = [finding(one) for one in cases()]
    for row in rows:
        if row["series"] == "rules" and (row["rule"], row["seed"]) in changed.get("answers", {}):
            answer = changed["answers"][row["rule"], row["seed"]]
            row |= {"answer": answer, "right": is_right(row["rule"], answer.split())}
            row["named"] = row["rule"] in answer.split()
        if row["series"] == changed.get("fails"):
            row |= {"right": False}
    return pd.DataFrame(rows).astype({"error": float})


def test_claims_hold_where_all_is_right_and_fail_where_it_is_not():
    assert [claim.holds for claim in claims(whole_table())] == [True] * 5
    assert [c.holds for c in claims(whole_table(fails="rules"))] == [False, True, True, True, True]
    assert not claims(whole_table(fails="spiking"))[3].holds
    assert not claims(whole_table(fails="foreign"))[4].holds
    one_wrong = claims(whole_table(answers={("delta", FIRST): "longhorn"}))
    assert [claim.holds for claim in one_wrong] == [True, True, False, True, True]
    far = whole_table()
    assert not claims(far.assign(error=0.1))[1].holds


def test_confusions_are_counted_by_rule_and_answer():
    equal = "retnet mamba2 mlstm mesa"
    table = whole_table(answers={("delta", FIRST): "longhorn", ("retnet", FIRST + 1): equal})
    counts = confusion(table)
    assert list(counts.index) == list(RULES_STUDIED)
    assert counts.loc["delta", "longhorn"] == 1
    assert counts.loc["retnet", named(equal.split())] == 1
    assert counts.to_numpy().sum() == (table.series == "rules").sum()
    assert by_rule(table).loc["delta", "right"] == by_rule(table).loc["delta", "recordings"] - 1


def test_the_page_tells_mistakes_and_numbers(tmp_path):
    table = whole_table(answers={("delta", FIRST): "longhorn", ("oja", FIRST + 3): ""})
    written = study_outputs.write(table, tmp_path, command="fwbio bench identification")
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in written}
    page = (tmp_path / "README.md").read_text()
    assert f"delta (seed {FIRST}" in page and "identified, longhorn" in page
    assert f"oja (seed {FIRST + 3}" in page
    assert "| hebb | 10 of 10 | 1 % |" in page
    data = json.loads((tmp_path / "summary.json").read_text())
    total = (table.series == "rules").sum()
    assert (data["right"]["hits"], data["right"]["total"]) == (total - 2, total)
    assert len(pd.read_csv(tmp_path / "study.csv")) == len(table)


def test_the_command_runs_and_writes(counted, tmp_path):
    words = ["--quick", "--jobs", "1", "--out", str(tmp_path)]
    result = CliRunner().invoke(identification_command, words)
    assert result.exit_code == 0, result.output
    assert counted == cases(quick=True)
    assert "a quick form" in result.stdout
    assert {path.name for path in tmp_path.iterdir()} == {
        "study.csv",
        "summary.json",
        "confusion.png",
        "README.md",
    }
