"""Networks trained on sequence tasks: their losses, batches, files, and several processes."""

import dataclasses
import inspect
import json
import math
import multiprocessing
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from dying import killed_or_waiting
from tolerances import assert_close

from fwbio import FwbioError
from fwbio.analyses import cli, train_command
from fwbio.analyses.train_command import training_of
from fwbio.models.networks import learner, training
from fwbio.models.networks.attention import AttentionConfig
from fwbio.models.networks.batches import STEPS_A_BLOCK, Stream, losses, right, sequences
from fwbio.models.networks.hopfield import HopfieldConfig
from fwbio.models.networks.key_value_model import KeyValueModelConfig
from fwbio.models.networks.mixers import MIXERS
from fwbio.models.networks.recurrent import IRNNConfig
from fwbio.models.networks.sequence_model import SequenceModelConfig
from fwbio.models.networks.training import (
    SequenceTraining,
    checkpoint_path,
    evaluate,
    load,
    train,
)
from fwbio.tasks import SEQUENCE_TASKS, TASKS

STEPS, EPOCHS = 4, 3


def network(**changes):
    sizes = {
        "vocabulary": 2,
        "classes": 2,
        "mixer": IRNNConfig(),
        "width": 8,
        "layers": 1,
        "norm": "none",
        "mlp": 0,
    }
    return SequenceModelConfig(**(sizes | changes))


def tiny(**changes):
    settings = {
        "task": "mqar",
        "sizes": {"vocabulary": 16, "length": 16, "pairs": 2},
        "model": network(),
        "batch": 6,
        "steps": STEPS,
        "epochs": EPOCHS,
        "validation": 10,
        "log_every": 3,
    }
    return SequenceTraining(**(settings | changes))


def trained(folder, config=None, **how):
    return train(config or tiny(), folder, progress=False, **how)


def assert_same(one, other):
    states = one.model.state_dict(), other.model.state_dict()
    assert states[0].keys() == states[1].keys()
    for name, weights in states[0].items():
        assert torch.equal(weights, states[1][name]), name
    assert one.history == other.history
    assert one.config == other.config


# What it learns from


def test_losses_are_those_of_their_equations(rng):
    outputs, target = rng.standard_normal((5, 3)), rng.integers(3, size=5)
    given = torch.from_numpy(outputs), torch.from_numpy(target)
    odds = np.exp(outputs)
    expected = -np.log(odds[np.arange(5), target] / odds.sum(-1))
    assert_close(losses(*given, "cross_entropy"), expected, "float64")
    expected = ((outputs - np.eye(3)[target]) ** 2).sum(-1) / 2
    assert_close(losses(*given, "squared"), expected, "float64")
    assert_close(losses(given[0], torch.eye(3)[given[1]], "squared"), expected, "float64")
    assert right(*given).tolist() == (outputs.argmax(-1) == target).tolist()
    assert right(given[0], torch.eye(3)[given[1]]) is None


@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("task", ["mqar", "key_value", "regression"])
def test_shares_of_a_batch_are_worth_the_whole(task, processes):
    """Mean over processes of sum / weight = sum / count, however the scored steps fall."""
    sizes = {"keys": 5, "repeated": True} if task == "key_value" else {}
    shown = sequences(TASKS[task](seed=3, trials=7, **sizes))
    shares = [shown.batch(rank, processes) for rank in range(processes)]
    whole = shown.batch()
    assert sum(len(share.where) for share in shares) == len(whole.where) == whole.weight
    chance = torch.Generator().manual_seed(0)
    outputs = torch.randn((*shown.scored.shape, 1), generator=chance)
    target = torch.zeros(shown.scored.shape)
    for rank, share in enumerate(shares):
        for part, all_of_it in zip(share.inputs, shown.inputs, strict=True):
            assert torch.equal(part, all_of_it[rank::processes])

    def loss(batch, outputs):
        return losses(batch.scored(outputs), torch.zeros(len(batch.where), 1), "squared").sum()

    mean = sum(
        loss(share, outputs[rank::processes]) / share.weight for rank, share in enumerate(shares)
    )
    expected = (outputs[..., 0] - target)[shown.scored].square().mean() / 2
    assert_close(mean / processes, expected, "float32")


def stream(**changes):
    how = {"batch": 4, "examples": None, "seed": 1} | changes
    return Stream(TASKS["parity"], {"length": 30}, **how)


def rows(batch):
    return {tuple(row.tolist()) for row in batch.inputs[0]}


def test_fresh_batches_are_functions_of_their_place_and_never_return():
    steps = range(2 * STEPS_A_BLOCK)
    in_order = stream()
    batches = [in_order.at(step) for step in steps]
    other = stream()
    for step in (STEPS_A_BLOCK, 3, 2 * STEPS_A_BLOCK - 1):
        assert torch.equal(other.at(step).inputs[0], batches[step].inputs[0])
    assert len(set.union(*map(rows, batches))) == 4 * len(steps)
    assert rows(stream(seed=2).at(0)) != rows(batches[0])


def test_examples_are_shown_once_a_pass_in_ever_new_orders():
    few = stream(examples=12)
    passes = [[few.at(3 * turn + step) for step in range(3)] for turn in range(4)]
    shown = [[row.tolist() for batch in turn for row in batch.inputs[0]] for turn in passes]
    assert all(sorted(turn) == sorted(shown[0]) for turn in shown)
    assert len({str(turn) for turn in shown}) == 4
    for batch in passes[1]:
        assert torch.equal(batch.inputs[0].cumsum(1) % 2, batch.target)


def test_examples_make_epochs():
    assert tiny(steps=None, examples=20).steps_an_epoch == 3
    assert tiny(examples=20).steps_an_epoch == STEPS


def models():
    yield from ((task, network()) for task in SEQUENCE_TASKS if task not in {"key_value", "bytes"})
    yield "key_value", KeyValueModelConfig(keys=6, values=6, d_key=4)


@pytest.mark.parametrize(("task", "model"), [*models()])
def test_trains_on_every_task(task, model, tmp_path):
    sizes = {"keys": 6} if task == "key_value" else {}
    config = tiny(task=task, sizes=sizes, model=model, steps=2, epochs=1)
    found = trained(tmp_path, config)
    episode = TASKS[task](seed=1, trials=3, **sizes)
    assert found.checkpoint.startswith(f"{task}-")
    result = evaluate(found.model, episode, batch=2)
    assert math.isfinite(result["loss"])
    assert math.isnan(result["accuracy"]) == (task == "regression")
    assert math.isnan(result["accuracy"]) != ("validation_accuracy" in found.history[-1])


# How it is evaluated


class Fixed(torch.nn.Module):
    """A model that answers the same whatever it is shown."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs = outputs

    def forward(self, inputs):
        return self.outputs[: len(inputs)]


def test_evaluates_as_by_hand():
    episode = TASKS["parity"](seed=2, trials=4, length=5)
    outputs = torch.zeros(4, 5, 2)
    outputs[..., 0] = 1.0
    model = Fixed(outputs).train()
    with pytest.raises(FwbioError, match="evaluate: batch = 0; give a whole number"):
        evaluate(model, episode, batch=0)
    result = evaluate(model, episode, batch=4)
    assert model.training
    even = episode.target.values == 0
    assert result["accuracy"] == even.mean()
    assert_close(result["step_accuracy"], even.mean(0), "float64")
    chosen = np.where(even, math.e, 1.0) / (math.e + 1)
    assert_close(result["loss"], -np.log(chosen).mean(), "float32")
    last = TASKS["associative_retrieval"](seed=2, trials=4)
    steps = last.sizes["step"]
    result = evaluate(Fixed(torch.zeros(4, steps, 10)), last)
    assert np.isnan(result["step_accuracy"][:-1]).all()
    assert_close(result["loss"], math.log(10), "float32")


def test_keeps_the_weights_of_the_least_validation_loss(tmp_path):
    found = trained(tmp_path, tiny(learning_rate=0.3, epochs=6))
    least = min(row["validation_loss"] for row in found.history if "validation_loss" in row)
    held_out = learner.SequenceLearner(found.config, None).held_out
    outputs = found.model(*held_out.inputs)
    whole = held_out.batch()
    assert_close(losses(whole.scored(outputs), whole.target, whole.loss).mean(), least, "float32")


def test_learns_what_can_be_learned(tmp_path):
    """A bit's own parity so far is a ReLU net's to find in sequences of one step."""
    config = tiny(task="parity", sizes={"length": 1}, epochs=2, steps=100, learning_rate=3e-2)
    assert trained(tmp_path, config).history[-1]["validation_accuracy"] == 1.0


# How it is kept and resumed

KILLED = """
import json, os, signal, sys
import torch
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)
from fwbio.models.networks import learner
from fwbio.models.networks.training import SequenceTraining, train

step = learner.SequenceLearner.training_step

def killing(self, batch, index):
    if self.global_step == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, index)

learner.SequenceLearner.training_step = killing
config = SequenceTraining.from_dict(json.loads(sys.argv[1]))
train(config, sys.argv[2], progress=False, save_every=1)
"""


def test_goes_on_exactly_after_a_kill_in_mid_epoch(tmp_path):
    folder = tmp_path / "killed"
    arguments = [json.dumps(tiny().to_dict()), str(folder)]
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], timeout=200)
    assert killed.returncode == -signal.SIGKILL
    assert 7 % STEPS and len(list(folder.glob("*.ckpt"))) == 2
    seen = []

    class Watched(learner.SequenceLearner):
        def training_step(self, batch, index):
            seen.append(self.global_step)
            return super().training_step(batch, index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learner, "SequenceLearner", Watched)
        resumed = trained(folder)
    assert seen == list(range(7, STEPS * EPOCHS))
    whole = trained(tmp_path / "whole")
    assert_same(resumed, whole)
    logs = [
        (tmp_path / name / whole.checkpoint).with_suffix(".csv") for name in ("killed", "whole")
    ]
    assert logs[0].read_bytes() == logs[1].read_bytes()
    assert {path.suffix for path in folder.iterdir()} == {".pt", ".csv"}


def test_two_processes_train_as_one(tmp_path):
    """By gloo, each with its share of every batch: an odd one, of the last validation an empty."""
    config = tiny(clip=0.1, batch=5, validation=6)
    one = trained(tmp_path / "one", config)
    two = trained(tmp_path / "two", config, devices=2, save_every=1)  # losses half summed, too
    assert [row.keys() for row in one.history] == [row.keys() for row in two.history]
    for row, other in zip(one.history, two.history, strict=True):
        assert_close(list(row.values()), list(other.values()), "shared batches")
    for name, weights in one.model.state_dict().items():
        assert_close(two.model.state_dict()[name], weights, "shared batches")
    assert {path.suffix for path in (tmp_path / "two").iterdir()} == {".pt", ".csv"}


def test_tells_more_devices_than_a_batch_has_sequences(tmp_path, monkeypatch):
    with pytest.raises(FwbioError, match="7 devices can't share a batch of 6"):
        trained(tmp_path, devices=7)
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(FwbioError, match="2 devices in a group of 3 processes"):
        trained(tmp_path, devices=2)


def test_tells_what_ended_a_group_of_processes():
    """A mistake before a kill, that before a stop, and that before what others raise for it."""
    mistake, crash = (
        FwbioError("a", where="b", mend="c"),
        "Traceback\n  ...\nRuntimeError: closed\n",
    )
    for codes, heard, told in (
        ([0, 0], [], None),
        ([1, -signal.SIGKILL], [crash, mistake], "b: a; c"),
        ([1, -signal.SIGKILL], [crash], "process 2 of 2 was ended by SIGKILL; if memory ran out"),
        ([-signal.SIGSEGV, None], [], "process 1 of 2 was ended by SIGSEGV"),
        ([1, None], [crash], r"one of 2 processes failed \(RuntimeError: closed\); mend that"),
        ([3, None], [], r"failed \(exit codes \[3, None\]\)"),
    ):
        failure = learner._failure(codes, heard, where="training")
        assert (failure is None) == (told is None)
        if failure is not None:
            with pytest.raises(FwbioError, match=told):
                raise failure
    for code in (learner.INTERRUPTED, -signal.SIGINT, -signal.SIGTERM):
        assert isinstance(learner._failure([code, 1], [crash], where="training"), KeyboardInterrupt)


def test_one_process_that_is_killed_ends_the_group(tmp_path, monkeypatch):
    monkeypatch.setattr(learner, "_take_part", killed_or_waiting)
    with pytest.raises(FwbioError, match="process 2 of 2 was ended by SIGKILL"):
        trained(tmp_path, devices=2)
    assert not multiprocessing.active_children()
    assert not [*tmp_path.iterdir()]


def test_is_not_trained_twice(tmp_path, monkeypatch):
    first = trained(tmp_path)
    monkeypatch.setattr(learner, "learn", None)
    assert_same(first, trained(tmp_path))
    assert_same(first, load(checkpoint_path(tiny(), tmp_path)))
    names = {tiny(**change).fitted().name for change in ({}, {"seed": 1}, {"clip": 1.0})}
    assert len(names) == 3


def test_another_text_at_the_same_path_is_another_network(tmp_path, monkeypatch):
    config, kept = tiny(task="bytes", sizes={"path": "text", "length": 4}), {}
    for name, content in (("one", b"ab"), ("two", b"ba"), ("three", b"ab")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "text").write_bytes(content * 100)
        monkeypatch.chdir(tmp_path / name)
        kept[name] = checkpoint_path(config, tmp_path)
    assert kept["one"] == kept["three"] != kept["two"]
    assert kept["one"].name.startswith(f"{config.fitted().name}-")


def test_sizes_may_be_numpy_s():
    config = tiny(sizes={"vocabulary": np.int64(16), "length": np.int64(12), "pairs": 2})
    same = tiny(sizes={"vocabulary": 16, "length": 12, "pairs": 2})
    assert (config, config.name) == (same, same.name)


def test_leaves_the_generators_alone(tmp_path):
    before = torch.get_rng_state()
    trained(tmp_path, tiny(epochs=1))
    assert torch.equal(before, torch.get_rng_state())
    assert "RANK" not in os.environ


def test_precision_is_part_of_the_config(tmp_path):
    full, half = (
        trained(tmp_path, tiny(precision=precision)) for precision in ("float32", "bfloat16")
    )
    for one, other in zip(full.history, half.history, strict=True):
        assert_close(other["training_loss"], one["training_loss"], "bfloat16")
    assert any(
        not torch.equal(x, half.model.state_dict()[name])
        for name, x in full.model.state_dict().items()
    )


@pytest.mark.parametrize("cut", [0, 1, 100, -1])
def test_refuses_a_truncated_network(cut, tmp_path):
    path = tmp_path / trained(tmp_path, tiny(epochs=1)).checkpoint
    path.write_bytes(path.read_bytes()[:cut])
    for read_it in (lambda: load(path), lambda: trained(tmp_path, tiny(epochs=1))):
        with pytest.raises(FwbioError, match="or one cut short; check the name") as caught:
            read_it()
        assert caught.value.where == str(path)


def test_refuses_foreign_files_and_parts_that_do_not_fit(tmp_path):
    path = tmp_path / trained(tmp_path, tiny(epochs=1)).checkpoint
    with pytest.raises(FwbioError, match="another config"):
        path.rename(checkpoint_path(tiny(), tmp_path))
        trained(tmp_path)
    content = torch.load(checkpoint_path(tiny(), tmp_path), weights_only=True)
    assert content["versions"]["torch"] == torch.__version__
    for damage in (
        {"format": "another"},
        {"state": {}},
        {"config": {}},
        {"config": content["config"] | {"hue": 1}},
        {"config": content["config"] | {"model": {"model": "sequence"}}},
    ):
        torch.save(content | damage, tmp_path / "misfit.pt")
        with pytest.raises(FwbioError) as caught:
            load(tmp_path / "misfit.pt")
        assert caught.value.where == str(tmp_path / "misfit.pt")


# What it is asked for


def test_the_model_takes_the_task_s_sizes():
    fitted = tiny().fitted().model
    assert (fitted.vocabulary, fitted.features, fitted.classes) == (16, 0, 16)
    fitted = tiny(task="regression", sizes={"inputs": 3}).fitted().model
    assert (fitted.vocabulary, fitted.features, fitted.classes) == (0, 4, 1)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"task": "mqr"}, "did you mean 'mqar'"),
        ({"task": "digits"}, "no sequence task called 'digits'"),
        ({"sizes": {"lenth": 3}}, "did you mean 'length'"),
        ({"sizes": {"trials": 3}}, "sizes has trials"),
        ({"validation_sizes": {"trials": 3}}, "validation_sizes has trials"),
        ({"validation_sizes": 3}, "validation_sizes = 3; give sizes of the task by their names"),
        ({"batch": 0}, "batch = 0"),
        ({"epochs": 2.5}, "whole number"),
        ({"learning_rate": math.nan}, "above 0"),
        ({"clip": 0.0}, "above 0"),
        ({"precision": "float16"}, "no precision called 'float16'"),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"steps": None}, "neither steps nor examples"),
        ({"examples": 5}, "5 examples make no batch of 6"),
        ({"seed": -1}, "seed = -1"),
        ({"model": IRNNConfig()}, "IRNNConfig is no model's config"),
    ],
)
def test_refuses_configs_out_of_range(changes, told):
    with pytest.raises(FwbioError, match=told):
        tiny(**changes)


def test_refuses_models_that_the_task_does_not_fit(tmp_path):
    with pytest.raises(FwbioError, match="task 'key_value' shows contents"):
        trained(tmp_path, tiny(task="key_value", sizes={}))
    model = KeyValueModelConfig(keys=5, values=5)
    with pytest.raises(FwbioError, match="task 'mqar' has no contents"):
        trained(tmp_path, tiny(model=model))
    with pytest.raises(FwbioError, match="give 6 and 6, as the task does"):
        trained(tmp_path, tiny(task="key_value", sizes={"keys": 6}, model=model))
    assert not [*tmp_path.iterdir()]


def test_validation_may_differ_in_what_the_model_can_take(tmp_path):
    tiny(validation_sizes={"length": 40, "vocabulary": 8}).fitted()
    for changes, told in (
        ({"validation_sizes": {"vocabulary": 18}}, "vocabulary = 18 in validation, 16 in training"),
        (
            {"task": "regression", "sizes": {"inputs": 3}, "validation_sizes": {"inputs": 2}},
            "features = 3 in validation, 4 in training",
        ),
    ):
        with pytest.raises(FwbioError, match=told):
            trained(tmp_path, tiny(**changes))
    assert not [*tmp_path.iterdir()]


def test_configs_are_plain_data_and_back():
    config = tiny(model=network(mixer=AttentionConfig(heads=2), head=(4,)), clip=0.5)
    assert SequenceTraining.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.task = "parity"


def test_data_that_is_no_config_is_told():
    data = tiny().to_dict()
    for damaged, told in (
        (data | {"bach": 3}, "no field called 'bach'; did you mean 'batch'"),
        ({"task": "mqar"}, "SequenceTraining: model is missing"),
        ({"model": data["model"]}, "SequenceTraining: task is missing"),
    ):
        with pytest.raises(FwbioError, match=told):
            SequenceTraining.from_dict(damaged)


# From the shell


def test_words_find_the_part_that_has_the_field():
    words = {
        "rule": "gla",
        "heads": 4,
        "width": 32,
        "batch": 8,
        "sizes": {"length": 16},
        "settings": {"mlp": 0, "clip": 2.0, "mixer.convolution": 3},
    }
    config = training_of("parity", words)
    assert (config.batch, config.clip, config.sizes) == (8, 2.0, {"length": 16})
    assert (config.model.width, config.model.mlp, config.model.vocabulary) == (32, 0, 2)
    mixer = config.model.mixer
    assert (mixer.rule, mixer.heads, mixer.convolution) == ("gla", 4, 3)
    assert training_of("parity", {}).model.mixer.rule == "delta"
    assert training_of("key_value", {"rule": "delta"}).model.rule == "delta"
    hopfield = training_of("parity", {"model": "hopfield", "steps": 7})
    assert (hopfield.steps, hopfield.model.mixer.steps) == (7, HopfieldConfig().steps)
    for settings, told in (
        ({"hue": 1}, "no field called 'hue'"),
        ({"mixer.width": 1}, "no field called 'width'"),
        ({"mixr.rule": 1}, "did you mean 'mixer'"),
        ({"vocabulary": 1}, "no field called 'vocabulary'"),
        ({"heads": 2, "mixer.heads": 4}, "heads is given twice"),
    ):
        with pytest.raises(FwbioError, match=told):
            training_of("parity", {"settings": settings})
    with pytest.raises(FwbioError, match="rule is given twice"):
        training_of("parity", {"rule": "delta", "settings": {"rule": "gla"}})
    with pytest.raises(FwbioError, match="train --rule: attention has no rule; leave it out"):
        training_of("parity", {"rule": "delta", "model": "attention"})


def test_help_tells_the_names_and_defaults_that_there_are():
    assert (*MIXERS, "key_value") == train_command.MODELS
    config = training_of("parity", {})
    owners = (config, config.model, config.model.mixer)
    for name, told in train_command.DEFAULTS.items():
        if name == "devices":
            assert inspect.signature(train).parameters[name].default == told
        else:
            assert next(getattr(x, name) for x in owners if name in vars(x)) == told
    shown = " ".join(CliRunner().invoke(cli.main, ["train", "--help"]).stdout.split())
    for word in (*TASKS, *train_command.MODELS, "--set feature=relu"):
        assert word in shown
    for told in train_command.DEFAULTS.values():
        assert f"[default: {told}]" in shown


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["parity", "--rule", "delta"], "rate and spiking synapses can't run it: its keys have"),
        (["parity", "--rule", "delta", "--set", "feature=relu"], ""),
        (["parity", "--model", "irnn"], ""),
    ],
)
def test_the_command_tells_keys_that_are_no_rates(words, told, tmp_path):
    few = ["--steps", "1", "--epochs", "1", "--batch", "4", "--width", "4", "--set", "validation=4"]
    words = ["train", *words, *few, "--size", "length=6", "--out", str(tmp_path)]
    result = CliRunner().invoke(cli.main, words)
    assert result.exit_code == 0, result.output
    lines = [line for line in result.stderr.splitlines() if "synapses" in line]
    assert len(lines) == bool(told)
    assert all(line.startswith(told) and "--set feature=relu" in line for line in lines)


def test_the_command_trains_once_and_tells_the_figures(tmp_path, monkeypatch):
    words = ["train", "parity", "--model", "irnn", "--steps", "2", "--epochs", "1", "--batch", "4"]
    words += ["--size", "length=6", "--set", "validation=8", "--out", str(tmp_path)]
    first = CliRunner().invoke(cli.main, words)
    path, figures, *_ = first.stdout.splitlines()
    history = load(path).history
    assert f"validation loss {history[-1]['validation_loss']:.4g}, " in figures
    assert figures.endswith("after epoch 1 of 1")
    monkeypatch.setattr(training, "save", None)
    assert CliRunner().invoke(cli.main, words).stdout == first.stdout


def test_the_folder_may_hold_other_figures(tmp_path):
    (tmp_path / "figures").mkdir()
    words = ["train", "parity", "--model", "irnn", "--steps", "1", "--epochs", "1", "--batch", "4"]
    words += ["--size", "length=6", "--set", "validation=8", "--out", str(tmp_path)]
    assert CliRunner().invoke(cli.main, words).exit_code == 0
    assert (tmp_path / "figures").is_dir()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["parity", "--pairs", "3"], "fwbio: --pairs: the task 'parity' shows sequences"),
        (["digits", "--rule", "delta", "--width", "3"], "fwbio: --width: the task 'digits' shows"),
        (["digits", "--rule", "delta", "--size", "a=1"], "fwbio: --size: the task 'digits' shows"),
        (["digits"], "fwbio: train: Missing option --rule"),
        ([], "fwbio: train: there is no TASK; give one of sequences, such as `fwbio train mqar`"),
        (["parity", "--model", "lstmm"], "fwbio: model: there is no model called 'lstmm'"),
        (["parityy"], "fwbio: task: there is no task called 'parityy'; did you mean 'parity'?"),
        (["parity", "--devices", "99"], "fwbio: devices: 99 devices can't share a batch of 32"),
        (["parity", "--devices", "0"], "fwbio: train: devices = 0; give a whole number from 1 up"),
        (["parity", "--size", "trials=3"], "fwbio: SequenceTraining: sizes has trials; give batch"),
        (["parity", "--size", "seed=3"], "fwbio: task parity: there is no size called 'seed'"),
        (["parity", "--size", "self=3"], "fwbio: task parity: there is no size called 'self'"),
    ],
)
def test_mistakes_are_one_line(words, told, tmp_path):
    result = CliRunner().invoke(cli.main, ["train", *words, "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert result.stderr.startswith(told) and result.stderr.count("\n") == 1
    assert not [*tmp_path.iterdir()]
