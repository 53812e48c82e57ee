"""The comparison: its tree, its table, its ledger, and what it refuses."""

import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest
import xarray as xr
from synthetic import refuse_oja, synaptic_record
from tolerances import assert_close

from fwbio import RULES, FwbioError, analyses, models, record
from fwbio.analyses import agreement, recall
from fwbio.analyses.compare import COLUMNS, METRICS, Comparison, require_comparison

TINY = {"keys": 16, "values": 8, "hidden": 16, "batch": 4, "steps": 2, "epochs": 1}
SMALL = {"pairs": 4, "trials": 5, "synaptic_trials": 2, "seed": 7, "progress": False}


@pytest.fixture
def synthetic_synapses(monkeypatch):
    monkeypatch.setattr(models, "execute", synaptic_record)
    monkeypatch.setattr(models, "unsupported", refuse_oja)


@pytest.fixture
def tree(synthetic_synapses):
    return analyses.compare(rules=("delta", "oja"), programmers=("designed",), **SMALL)


def test_a_node_for_every_run_and_a_reason_for_every_other(tree):
    runs = {node.path for node in tree.leaves} - {"/episode", "/summary"}
    wanted = {f"/designed/{s}/{r}" for s in ("reference", "kernel") for r in ("delta", "oja")}
    assert runs == wanted | {f"/designed/{s}/delta" for s in ("flow", "rate", "spiking")}
    assert tree.attrs["ledger"] == [
        {
            "programmer": "designed",
            "substrate": substrate,
            "rule": "oja",
            "reason": "its error runs backwards",
        }
        for substrate in ("flow", "rate", "spiking")
    ]
    for path in runs:
        assert record.validate(tree[path].to_dataset()) == []
        assert path.split("/")[2] == tree[path].attrs["substrate"]


def test_every_substrate_runs_the_same_programs(tree):
    reference = tree["designed/reference/delta"].to_dataset()
    for substrate, trials in (("kernel", 5), ("rate", 2), ("spiking", 2)):
        run = tree[f"designed/{substrate}/delta"].to_dataset()
        assert run.sizes["trial"] == trials
        agreement.align(run, reference)
    cue = tree["episode"].cue.values
    assert cue.shape == (5, 8, 64)
    assert tree["episode"].attrs["task"] == "digits"


def test_the_table_is_tidy_and_right(tree):
    frame = analyses.summary(tree)
    assert tuple(frame.columns) == COLUMNS
    assert set(frame.metric) == set(METRICS)
    assert len(frame) == 7 * len(METRICS)
    assert set(frame.task), set(frame.pairs) == ({"digits"}, {4})
    row = frame.set_index(["substrate", "rule", "metric"])["value"]
    spiking = tree["designed/spiking/delta"].to_dataset()
    reference = tree["designed/reference/delta"].to_dataset()
    expected = {
        "recall_accuracy": recall.recall_accuracy(spiking).value,
        "reference_accuracy": recall.recall_accuracy(reference.isel(trial=slice(2))).value,
        "recall_cosine": recall.recall_cosine(spiking).value,
        "readout_agreement": agreement.readout_agreement(spiking, reference),
        "weight_agreement": agreement.weight_agreement(spiking, reference),
        "relative_error": agreement.relative_error(spiking, reference),
        "weight_relative_error": agreement.relative_error(spiking, reference, of="weights"),
        "program_agreement": 1,
        "imposed_agreement": agreement.readout_agreement(spiking, reference),
        "chance_level": 1 / 4,
        "trials": 2,
    }
    for metric, value in expected.items():
        assert_close(row["spiking", "delta", metric], value, "float64")
    assert row["reference", "delta", "readout_agreement"] == 1
    assert row["kernel", "oja", "relative_error"] < 1e-5


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_a_tree_survives_the_store(tree, tmp_path, suffix):
    found = record.load(record.save(tree, tmp_path / f"tree{suffix}"))
    assert isinstance(found, xr.DataTree)
    assert found.attrs["ledger"] == tree.attrs["ledger"]
    assert found.attrs["config"]["rules"] == ["delta", "oja"]
    assert analyses.summary(found).equals(analyses.summary(tree))
    for node in tree.leaves:
        xr.testing.assert_equal(found[node.path].to_dataset().load(), node.to_dataset())


def test_equal_seeds_give_equal_tables(tree):
    again = analyses.compare(rules=("delta", "oja"), programmers=("designed",), **SMALL)
    assert analyses.summary(again).equals(analyses.summary(tree))
    other = analyses.compare(
        rules=("delta", "oja"), programmers=("designed",), **(SMALL | {"seed": 8})
    )
    assert not analyses.summary(other)["value"].equals(analyses.summary(tree)["value"])


def test_the_reference_is_run_where_it_is_not_asked_for():
    tree = analyses.compare(
        rules=["hebb"], programmers=["designed"], substrates=["kernel"], **SMALL
    )
    assert set(tree["designed"].children) == {"reference", "kernel"}


@pytest.mark.parametrize("task", ["random_pairs", "rebinding"])
def test_other_tasks_with_sizes_of_their_own(task):
    tree = analyses.compare(
        task,
        rules=("gla", "delta_product"),
        programmers=["designed"],
        substrates=["reference"],
        sizes={"pre": 12, "values": "sign"},
        gap=2,
        **SMALL,
    )
    assert tree["episode"].item.sizes["item_feature"] == 12
    assert np.isfinite(analyses.summary(tree)["value"]).all()
    assert "--gap 2" in tree.attrs["command"]
    assert "--size pre=12 --size values=sign --out DIR" in tree.attrs["command"]


def test_a_trained_programmer_is_trained_once_a_rule(monkeypatch, tmp_path):
    from fwbio.models import train
    from fwbio.models.programmer import designed

    asked = []

    def fake(config, folder, *, progress):
        asked.append((config.rule, config.pairs, config.seed, config.epochs, folder))
        return designed

    monkeypatch.setattr(train, "train", fake)
    tree = analyses.compare(
        rules=("hebb", "delta"),
        programmers=("trained",),
        substrates=("reference",),
        training={"epochs": 3},
        checkpoints=tmp_path,
        **SMALL,
    )
    assert asked == [("hebb", 4, 7, 3, tmp_path), ("delta", 4, 7, 3, tmp_path)]
    assert set(tree["trained/reference"].children) == {"hebb", "delta"}
    assert tree.attrs["config"]["training"] == {"epochs": 3}


def test_the_synaptic_programmer_is_held_against_what_its_net_would_impose(tmp_path):
    asked = {
        "rules": ["gated_delta"],
        "programmers": ["synaptic", "trained"],
        "substrates": ["reference", "kernel"],
        "training": TINY,
        "checkpoints": tmp_path,
    }
    brief = {"engine": "numpy", "tau_nmda_decay": 0.02, "read": 0.02}
    agreements = {}
    for cells, settle in (("rate", 0.3), ("rate", 0.01), ("spikes", 0.3)):
        synapses = brief | {"cells": cells, "settle": settle}
        tree = analyses.compare(**asked, **SMALL, synapses=synapses)
        program = tree["synaptic/reference/gated_delta"].to_dataset()
        assert program.sizes["trial"] == 2
        assert program.attrs["config"]["programmer"]["synapses"]["cells"] == cells
        frame = analyses.summary(tree).set_index(["programmer", "substrate", "metric"])["value"]
        assert_close(frame["trained", "reference", "program_agreement"], 1, "float64")
        assert_close(frame["trained", "kernel", "imposed_agreement"], 1, "float32")
        emitted, imposed = (tree[f"{p}/reference/gated_delta"] for p in ("synaptic", "trained"))
        for name in ("key", "value", "query"):
            one, other = emitted[name].values, imposed[name].values[:2]
            shown = (one != 0).any(-1)
            r = np.corrcoef(one[shown].ravel(), other[shown].ravel())[0, 1]
            assert r >= frame["synaptic", "reference", "program_agreement"] - 1e-12
        agreements[cells, settle] = [
            frame["synaptic", "reference", f"{what}_agreement"] for what in ("program", "imposed")
        ]
    assert_close(agreements["rate", 0.3], [1, 1], "float32")
    for worse in (("rate", 0.01), ("spikes", 0.3)):
        assert max(agreements[worse]) < min(agreements["rate", 0.3])


def test_a_program_that_synapses_refuse_is_listed(monkeypatch):
    def refuse(program, substrate, **_):
        raise FwbioError("a key of -1 would be a negative rate", where="rate", mend="code on_off")

    monkeypatch.setattr(models, "execute", refuse)
    asked = {"rules": ["hebb"], "programmers": ["designed"], "substrates": ["rate"]}
    tree = analyses.compare(**asked, **SMALL)
    assert tree.attrs["ledger"][0]["reason"] == "a key of -1 would be a negative rate; code on_off"
    assert set(tree["designed"].children) == {"reference"}
    with pytest.raises(FwbioError, match="negative rate"):
        analyses.compare(**asked, **SMALL, options={"rate": {"dt": 1e-3}})


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"task": "digit"}, "^task: .*did you mean 'digits'"),
        ({"rules": ["delt"]}, "^rules: .*'delt'; did you mean 'delta'"),
        ({"rules": []}, "^rules: none is named"),
        ({"rules": ["hebb", "hebb"]}, "repeats a name"),
        ({"rules": "delt"}, "^rules: .*'delt'; did you mean 'delta'"),
        ({"rules": [RULES["delta"]]}, "^rules: a rule is given by its name, not as Rule; choose"),
        ({"rules": 3}, "^rules: 3 is no name; give one name, or several"),
        ({"programmers": "train"}, "^programmers: .*did you mean 'trained'"),
        ({"substrates": "rat"}, "^substrates: .*did you mean 'rate'"),
        ({"substrates": ["rat"]}, "^substrates: .*did you mean 'rate'"),
        ({"programmers": ["train"]}, "^programmers: .*did you mean 'trained'"),
        ({"synaptic_trials": 0}, "^synaptic_trials: 0 is out of range; give a whole number from 1"),
        ({"seed": -1}, "^seed: -1 is out of range"),
        ({"seed": True}, "^seed: True is out of range"),
        ({"trials": 0}, "trials = 0 is out of range"),
        ({"pairs": 2.5}, "pairs = 2.5 is out of range"),
        ({"noise": float("nan")}, "noise = nan is out of range"),
        ({"sizes": {"pairs": 3}}, "'pairs' has an argument of its own; give pairs="),
        ({"sizes": {"splat": 3}}, "no size called 'splat'; did you mean 'split'"),
        ({"task": "random_pairs", "sizes": {"pre": 9}}, "trained at the task's own pre and post"),
        ({"synapses": {"tau": 1.0}}, "^synapses: there is no parameter called 'tau'"),
        ({"synapses": {"dt": 1.0}}, "^synaptic programmer: dt = 1 s is too coarse"),
        ({"options": {"rat": {}}}, "^options: .*did you mean 'rate'"),
    ],
)
def test_mistakes_are_told_before_anything_runs(monkeypatch, wrong, told):
    monkeypatch.setattr("fwbio.models.programmer.designed", None)
    with pytest.raises(FwbioError, match=told):
        analyses.compare(**({"progress": False} | wrong))


def test_a_tree_that_is_no_comparison_is_told():
    with pytest.raises(FwbioError, match=r"^here: not a comparison.*what `fwbio compare` wrote"):
        require_comparison(xr.DataTree(), where="here")


def test_the_command_spells_every_setting_out():
    told = Comparison(rules=("delta",), sizes={"split": "train"}).command()
    assert told == (
        "fwbio compare --task digits --rules delta --programmers designed,trained,synaptic "
        "--substrates reference,kernel,flow,rate,spiking --pairs 20 --noise 0.3 --gap 0 "
        "--trials 64 --synaptic-trials 8 --seed 0 --size split=train --out DIR"
    )


def test_a_string_is_one_name():
    asked = {"rules": "delta", "programmers": "designed", "substrates": "reference"}
    tree = analyses.compare(**asked, **SMALL)
    assert set(tree["designed/reference"].children) == {"delta"}
    assert tree.attrs["config"]["rules"] == ("delta",)


def test_what_no_shell_command_repeats_is_told_as_the_call_that_does():
    """All that changes a comparison's numbers is in its config, and what it says repeats it."""
    asked = {"rules": "delta", "programmers": "designed", "substrates": "kernel", "task": "digits"}
    given = {"kernel": {"dtype": "float64"}}
    made = analyses.compare(**asked, **SMALL, options=given)
    assert made.attrs["config"]["options"] == given
    head, call = made.attrs["command"].split("\n")
    scope = {}
    exec(head, scope)
    again = eval(f"{call[:-1]}, progress=False)", scope)
    assert analyses.summary(again).equals(analyses.summary(made))
    assert again.attrs["command"] == made.attrs["command"]
    plain = analyses.compare(**asked, **SMALL)
    assert plain.attrs["command"].startswith("fwbio compare --task digits ")
    assert not analyses.summary(plain)["value"].equals(analyses.summary(made)["value"])


def test_training_and_synapses_are_in_the_call_too():
    told = Comparison(training={"epochs": np.int64(3)}, synapses={"settle": np.float32(0.5)})
    scope = {}
    exec(told.command().replace("\ncompare(", "\nfound = dict("), scope)
    assert scope["found"] == asdict(told)
    assert "int64" not in told.command()


def test_the_reference_alone_loads_no_heavy_library():
    code = (
        "import sys, fwbio.analyses as a;"
        "a.compare(rules=['delta'], programmers=['designed'], substrates=['reference'],"
        " pairs=3, trials=1);"
        "print(sorted({'torch', 'brian2', 'lightning', 'matplotlib'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
