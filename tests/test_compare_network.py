"""A trained network compared on substrates, from its file to the table that is printed."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from click.testing import CliRunner
from tolerances import assert_close

from fwbio import FwbioError, record, reference
from fwbio.analyses import cli
from fwbio.analyses.compare_network import COLUMNS, METRICS, compare_network, network_summary
from fwbio.analyses.network_outputs import draw_network
from fwbio.models.networks.attention import AttentionConfig
from fwbio.models.networks.memory import FastWeightMemoryConfig
from fwbio.models.networks.models import build
from fwbio.models.networks.sequence_model import SequenceModelConfig
from fwbio.models.networks.training import SequenceTraining, evaluate, load, save, train
from fwbio.models.slow_net import TrainingConfig
from fwbio.models.train import train as train_programmer
from fwbio.tasks import TASKS

EXACT = ("reference", "kernel", "flow")
SIZES = {"vocabulary": 8, "length": 8, "pairs": 2}
RUNS = ["--trials", "4", "--synaptic-trials", "2"]


def config(mixer=None, *, task="mqar", sizes=None, **model):
    mixer = mixer or FastWeightMemoryConfig(rule="delta", feature="relu", convolution=2)
    model = {"classes": 8, "vocabulary": 8, "width": 6, "layers": 2} | model
    return SequenceTraining(
        task=task,
        sizes=SIZES if sizes is None else sizes,
        model=SequenceModelConfig(mixer=mixer, **model),
        batch=4,
        steps=2,
        epochs=1,
        validation=2,
    )


def untrained(path, training, seed):
    """The file of a network with the weights that it starts with."""
    torch.manual_seed(seed)
    save(path, training, build(training.model).state_dict(), [])
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    return folder / train(config(), folder, progress=False).checkpoint


def run(*words):
    return CliRunner().invoke(cli.main, [str(word) for word in words])


@pytest.fixture(scope="module")
def printed(checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("comparison")
    words = ["--checkpoint", checkpoint, "--substrates", ",".join(EXACT), *RUNS, "--seed", 3]
    result = run("compare", *words, "--out", folder)
    assert result.exit_code == 0, result.output
    return folder, result.stdout


def by_metric(frame, substrate, layer="all"):
    rows = frame[(frame.substrate == substrate) & (frame.layer.astype(str) == layer)]
    return rows.set_index("metric")["value"]


def test_the_command_writes_records_a_table_and_a_figure(printed):
    folder, shown = printed
    assert {path.name for path in folder.iterdir()} == {
        "comparison.nc",
        "summary.csv",
        "network.png",
        "report.html",
    }
    frame = pd.read_csv(folder / "summary.csv")
    assert tuple(frame.columns) == COLUMNS
    assert set(frame.metric) <= METRICS.keys()
    heads = "accuracy", "network's", "own", "lost", "read-out", "weight", "cosine"
    for word in (*EXACT, *heads, "network.png"):
        assert word in shown


def test_the_figure_names_the_networks_own_line(printed):
    figure = draw_network(record.load(printed[0] / "comparison.nc")).figure
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert len(labels) == 2 and "the network itself" in labels


def test_the_tree_holds_what_was_shown_and_run(printed, checkpoint):
    folder, _ = printed
    tree = record.load(folder / "comparison.nc")
    expected = TASKS["mqar"](seed=3, trials=4, **SIZES)
    assert tree["episode"].to_dataset().drop_attrs().identical(expected.drop_attrs())
    for substrate, trials in {"reference": 4, "kernel": 4, "flow": 2}.items():
        assert set(tree[substrate].children) == {"answers", "layer_0", "layer_1"}
        for layer in (0, 1):
            found = tree[f"{substrate}/layer_{layer}"].to_dataset()
            assert record.validate(found) == []
            assert (found.attrs["substrate"], found.attrs["rule"]) == (substrate, "delta")
            assert found.attrs["config"]["checkpoint"] == checkpoint.name
            assert found.sizes["trial"] == trials
            assert_close(found.readout.values, reference.execute(found).readout.values, "float32")
    assert tree.attrs["not_run"] == []
    assert str(checkpoint) in tree.attrs["command"]


def test_substrates_that_lose_nothing_say_so(printed, checkpoint):
    folder, _ = printed
    frame = network_summary(record.load(folder / "comparison.nc"))
    episode = TASKS["mqar"](seed=3, trials=4, **SIZES)
    model = load(checkpoint).model
    for substrate, trials in {"reference": 4, "kernel": 4, "flow": 2}.items():
        own = evaluate(model, episode.isel(trial=slice(trials)))
        found = by_metric(frame, substrate)
        assert found["trials"] == trials
        assert found["task_loss"] == pytest.approx(own["loss"], rel=1e-5)
        assert found["network_loss"] == pytest.approx(own["loss"], rel=1e-5)
        assert found["task_accuracy"] == pytest.approx(own["accuracy"])
        assert found["accuracy_lost"] == 0
        assert found["loss_added"] == pytest.approx(0, abs=1e-5)
        for layer in ("0", "1"):
            here = by_metric(frame, substrate, layer)
            for metric in ("readout_agreement", "weight_agreement", "carried_agreement"):
                assert here[metric] == pytest.approx(1, abs=1e-6)


def test_what_is_lost_is_counted_on_the_same_trials(checkpoint):
    """Half-erased predictions in every layer: what the network's own answers lose by them."""
    tree = compare_network(
        checkpoint,
        substrates="flow",
        trials=4,
        synaptic_trials=3,
        options={"flow": {"erase_limit": 0.05}},
        progress=False,
    )
    assert tree.attrs["config"]["options"] == {"flow": {"erase_limit": 0.05}}
    head, call = tree.attrs["command"].split("\n")
    exec(head, scope := {})
    again = eval(f"{call[:-1]}, progress=False)", scope)
    assert network_summary(again).equals(network_summary(tree))
    found = by_metric(network_summary(tree), "flow")
    own, there = (tree[f"{at}/answers"].to_dataset() for at in ("network", "flow"))
    first = own.isel(trial=slice(3))
    assert found["accuracy_lost"] == pytest.approx(
        float(first.correct.mean() - there.correct.mean())
    )
    assert found["loss_added"] == pytest.approx(float(there.loss.mean() - first.loss.mean()))
    assert found["loss_added"] != 0
    here = by_metric(network_summary(tree), "flow", "1")
    assert here["readout_agreement"] < 1 - 1e-9
    assert here["relative_error"] > 0


def test_figures_and_tables_are_made_again_of_the_records(printed, tmp_path):
    folder, shown = printed
    result = run("report", folder / "comparison.nc", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    for name in ("summary.csv", "network.png", "report.html"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    assert result.stdout.splitlines()[:-3] == shown.splitlines()[:-4]


def test_networks_that_synapses_can_not_run_are_told_not_skipped(tmp_path, seed):
    signed = FastWeightMemoryConfig(rule="delta", feature="identity")
    path = untrained(tmp_path / "signed.pt", config(signed), seed)
    result = run("compare", "--checkpoint", path, *RUNS, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    tree = record.load(tmp_path / "out" / "comparison.nc")
    refused = {entry["substrate"]: entry["reason"] for entry in tree.attrs["not_run"]}
    assert refused.keys() == {"flow", "rate", "spiking"}
    assert all("rates can't be negative" in reason for reason in refused.values())
    assert "Not run" in result.stdout
    assert "rates can't be negative" in " ".join(result.stdout.split())
    assert set(network_summary(tree).substrate) == {"reference", "kernel"}


def test_networks_of_rules_without_synapses_are_told(tmp_path, seed):
    path = untrained(tmp_path / "oja.pt", config(FastWeightMemoryConfig(rule="oja")), seed)
    tree = compare_network(path, trials=2, progress=False)
    refused = {entry["substrate"]: entry["reason"] for entry in tree.attrs["not_run"]}
    assert refused.keys() == {"flow", "rate", "spiking"}
    assert all("it does not run 'oja'" in reason for reason in refused.values())


def test_squared_tasks_have_a_loss_in_place_of_accuracy(tmp_path, seed):
    sizes = {"inputs": 3, "examples": 4}
    mixer = FastWeightMemoryConfig(rule="hebb", feature="elu")
    shown = {"vocabulary": 0, "features": 4, "classes": 1}
    path = untrained(
        tmp_path / "icl.pt", config(mixer, task="regression", sizes=sizes, **shown), seed
    )
    result = run(
        "compare", "--checkpoint", path, *RUNS, "--substrates", "kernel,flow", "--out", tmp_path
    )
    assert result.exit_code == 0, result.output
    assert "the network's own loss" in result.stdout
    frame = pd.read_csv(tmp_path / "summary.csv")
    assert not any("accuracy" in metric for metric in frame.metric)
    assert np.isfinite(by_metric(frame, "flow")["loss_added"])


def test_sequences_are_of_the_test_split(tmp_path, seed):
    text = tmp_path / "text.txt"
    text.write_bytes(bytes(range(256)) * 40)
    sizes = {"path": str(text), "length": 6}
    shown = {"vocabulary": 256, "classes": 256}
    path = untrained(tmp_path / "bytes.pt", config(task="bytes", sizes=sizes, **shown), seed)
    tree = compare_network(path, substrates=["kernel"], trials=2, progress=False)
    assert tree.attrs["config"]["sizes"]["split"] == "test"
    assert tree["episode"].attrs["config"]["split"] == "test"


def test_a_text_that_is_gone_is_told(tmp_path, seed):
    sizes = {"path": str(tmp_path / "gone"), "length": 8}
    training = config(task="bytes", sizes=sizes, classes=256, vocabulary=256, layers=1)
    path = untrained(tmp_path / "network.pt", training, seed)
    result = run("compare", "--checkpoint", path, "--out", tmp_path / "out")
    assert result.exit_code == 2 and not (tmp_path / "out").exists()
    assert result.stderr == (
        f"fwbio: task bytes: there is no file or folder '{tmp_path / 'gone'}'; give path = a file"
        " or a folder\n"
    )


def test_trained_programmers_are_compared_as_programmers(tmp_path):
    """A file of any name, without training anew, and with the programmer's own task and rule."""
    made = TrainingConfig(
        rule="gated_delta",
        task="random_pairs",
        pairs=3,
        noise=0.1,
        keys=8,
        values=4,
        hidden=8,
        batch=2,
        steps=1,
        epochs=1,
        validation=1,
        seed=5,
    )
    kept = tmp_path / train_programmer(made, tmp_path, progress=False).checkpoint
    named = kept.rename(tmp_path / "mine.pt")
    words = ["--checkpoint", named, "--substrates", "reference,kernel", "--trials", 2]
    result = run("compare", *words, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    tree = record.load(tmp_path / "out" / "comparison.nc")
    compared = tree.attrs["config"]
    assert (compared["task"], compared["rules"]) == ("random_pairs", ["gated_delta"])
    assert (compared["programmers"], compared["seed"]) == (["trained"], 5)
    assert tree["trained/kernel/gated_delta"].sizes["pre"] == 8
    assert (tmp_path / "out" / "report.html").exists()
    assert str(named) in tree.attrs["command"]
    result = run("compare", *words, "--seed", 4, "--out", tmp_path / "out")
    assert "not the seed 5" in result.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--task", "mqar"], "compare --task: the file .* says that already"),
        (["--rules", "delta"], "compare --rules: the file .* says that already"),
        (["--trials", "0"], "trials: 0 is out of range"),
        (["--substrates", "rat"], "substrates: there is no substrate called 'rat'"),
        (["--size", "lenght=3"], "length"),
        (["--size", "trials=3"], "'trials' has an argument of its own"),
    ],
)
def test_mistakes_are_one_line(words, told, checkpoint, tmp_path):
    result = run("compare", "--checkpoint", checkpoint, *words, "--out", tmp_path)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("fwbio: ")
    assert re.search(told, line)


def test_files_without_fast_weights_are_refused(tmp_path, seed):
    missing, other = tmp_path / "none.pt", tmp_path / "other.pt"
    torch.save({"format": "mine"}, other)
    softmax = untrained(tmp_path / "softmax.pt", config(AttentionConfig()), seed)
    for path, told in {
        missing: "there is no such file",
        other: "it holds no trained network of this version",
        softmax: "'attention', which program no fast weights",
    }.items():
        result = run("compare", "--checkpoint", path, "--out", tmp_path)
        assert result.exit_code == 2
        assert told in result.stderr


def test_a_comparison_of_programs_is_no_networks():
    with pytest.raises(FwbioError, match="not a comparison of a network"):
        network_summary(xr.DataTree())
