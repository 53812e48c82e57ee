"""The trained programmer: what it emits, how it is trained, kept, resumed and refused."""

import dataclasses
import json
import logging
import os
import random
import signal
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from tolerances import TOLERANCES, assert_close

from fwbio import RULES, FwbioError, pair_tasks, reference
from fwbio.analyses.recall import recall_accuracy
from fwbio.analyses.substrates import execute
from fwbio.models import train as training
from fwbio.models.checkpoint import load
from fwbio.models.programmer import designed
from fwbio.models.slow_net import SILENT, SlowNet, TrainedProgrammer, TrainingConfig, inputs
from fwbio.models.train import checkpoint_path, train
from fwbio.normal_form import normal_form
from fwbio.program import operands
from fwbio.record import validate
from fwbio.rule import VOLLEYS
from fwbio.tasks import PAIR_TASKS, TASKS

TINY = {
    "pairs": 4,
    "keys": 16,
    "values": 8,
    "hidden": 16,
    "batch": 4,
    "steps": 3,
    "epochs": 4,
    "validation": 1,
}


def tiny(**changes):
    return TrainingConfig(**(TINY | changes))


def trained(tmp_path, **changes):
    return train(tiny(**changes), tmp_path, progress=False)


def loop():
    from fwbio.models import training_loop

    return training_loop


def first_batch(config):
    return next(iter(loop().Training(config).train_dataloader()))


def assert_same(one, other):
    states = one.net.state_dict(), other.net.state_dict()
    assert states[0].keys() == states[1].keys()
    for name, weights in states[0].items():
        assert torch.equal(weights, states[1][name]), name
    assert one.history == other.history


# What it emits


@pytest.mark.parametrize("rule", RULES)
def test_programs_every_rule_with_rates(rule, tmp_path):
    programmer = trained(tmp_path, rule=rule, epochs=1)
    episode = TASKS["digits"](seed=3, trials=2, pairs=5, gap=1)
    program = programmer(episode, rule)
    assert validate(program, need=("key", "value", "query", *RULES[rule].streams)) == []
    order = np.inf if RULES[rule].terms.plasticity in VOLLEYS else 2
    assert program.attrs["programmer"] == "trained"
    assert program.attrs["config"]["programmer"]["checkpoint"] == programmer.checkpoint
    assert program.attrs["config"]["programmer"]["training"]["seed"] == 0
    given = operands(program)
    writes = program.sizes.get("substep", 1)
    form = None
    if given.rule.terms.linear:
        form = normal_form(given.rule, given.streams, xp=np, time_axis=1, writes_per_step=writes)
    shown = np.repeat(episode.writes.values, writes)
    asked = episode.scored.values[0]
    featured = given.rule.terms.feature == "elu_plus_one"
    rates, query = (form.key, form.query) if featured else map(given.streams.get, ("key", "query"))
    norms = np.linalg.norm(rates[:, shown], order, axis=-1)
    assert (rates >= 0).all() and (query >= 0).all()
    rounding = TOLERANCES["float64"].value
    silent = SILENT if featured else rounding
    np.testing.assert_allclose(norms, 1, atol=silent)
    np.testing.assert_allclose(np.linalg.norm(query[:, asked], order, axis=-1), 1, atol=silent)
    values = np.linalg.norm(given.streams["value"][:, shown], order, axis=-1)
    np.testing.assert_allclose(values, 1, atol=rounding)
    for name in {"key", "value", "beta"} & set(given.streams):
        assert (given.streams[name][:, ~shown] == 0).all()
    assert (given.streams["query"][:, ~asked] == 0).all()
    if form is not None and form.erase is not None:
        overlap = (form.erase * form.key).sum(-1)
        assert (overlap >= 0).all() and (overlap < 1).all()
    assert np.isfinite(reference.execute(program).readout).all()


@pytest.mark.parametrize("rule", RULES)
def test_gradients_reach_every_parameter(rule):
    config = tiny(rule=rule, pairs=6, batch=8)
    torch.manual_seed(0)
    module = loop().Training(config)
    losses = []
    optimizer = torch.optim.Adam(module.parameters(), lr=3e-3)
    for batch in module.train_dataloader():
        loss, accuracy = module.loss(batch, torch.Generator().manual_seed(0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        assert 0 <= accuracy <= 1
        for name, parameter in module.named_parameters():
            assert torch.isfinite(parameter.grad).all(), name
            assert (parameter.grad != 0).any(), name
    assert np.isfinite(losses).all()


@pytest.mark.parametrize("rule", RULES)
def test_trains_through_the_memory_that_the_reference_runs(rule):
    config = tiny(rule=rule)
    torch.manual_seed(0)
    net = loop().Training(config).net.double().eval()
    episode = loop().training_episode(config, 0)
    with torch.no_grad():
        readout = loop().read(net.rule, net(**inputs(episode, torch.float64)))
    programmer = TrainedProgrammer(net=net, config=config, history=(), checkpoint="none")
    expected = reference.execute(programmer(episode, rule)).readout
    scored = episode.scored.values
    assert_close(readout.numpy()[scored], expected.values[scored], "float64")


def test_a_constant_decay_is_learned_as_one_number(tmp_path):
    programmer = trained(tmp_path, rule="retnet")
    program = programmer(TASKS["digits"](seed=1, trials=2, pairs=4), "retnet")
    assert np.unique(program.log_decay).size == 1
    assert float(program.log_decay[0, 0]) != np.log(1 - 2.0**-5)
    config = tiny(rule="retnet")
    untrained = SlowNet(config, torch.zeros(64), torch.zeros(64))
    start = torch.nn.functional.logsigmoid(untrained.gate_heads["log_decay"].bias)
    assert_close(start.detach(), [np.log(1 - 2.0**-5)], "float32")


@pytest.mark.parametrize("task", PAIR_TASKS)
def test_trains_on_every_task(task, tmp_path):
    programmer = trained(tmp_path, task=task, epochs=1)
    program = programmer(TASKS[task](seed=1, trials=1, pairs=4), "delta")
    assert validate(program, need=("key", "value", "query")) == []


# How well it recalls


def accuracy(program):
    """The share of scored steps whose nearest stored value, by cosine, is the target's."""
    record = reference.execute(program)
    writes = int(record.stored[0].sum())
    near, wanted = (
        np.einsum("btv,bsv->bts", record[x].values, record.value.values[:, :writes])
        for x in ("readout", "target")
    )
    return (near.argmax(-1) == wanted.argmax(-1))[record.scored.values].mean()


def test_recalls_held_out_digits(tmp_path, rng):
    programmer = train(TrainingConfig(rule="delta"), tmp_path, progress=False)
    losses = [epoch["validation_loss"] for epoch in programmer.history]
    assert min(losses) < losses[0] / 2
    program = programmer(TASKS["digits"](seed=11, trials=40, pairs=20, noise=0.3), "delta")
    assert accuracy(program) >= TOLERANCES["trained recall"].value
    for name in ("key", "query"):
        factor = 1 + 0.2 * rng.standard_normal(program[name].shape)
        program[name] = program[name] * np.maximum(factor, 0)
    assert accuracy(program) >= TOLERANCES["trained recall, noisy"].value
    program = programmer(TASKS["digits"](seed=12, trials=4, pairs=20, noise=0.3), "delta")
    for substrate, least in (("kernel", "trained recall"), ("spiking", "trained recall, spiking")):
        done = execute(program, substrate, seed=1)
        assert recall_accuracy(done).value >= TOLERANCES[least].value, substrate


# How it is trained


def test_equal_configs_give_equal_programmers(tmp_path):
    first, again = (trained(tmp_path / folder) for folder in "ab")
    assert_same(first, again)
    other = trained(tmp_path / "c", seed=1)
    assert not torch.equal(first.net.key_head.weight, other.net.key_head.weight)


def test_sees_neither_a_test_image_nor_trains_on_a_validation_image(tmp_path, monkeypatch):
    images = pair_tasks._digit_images()
    assert {split: len(pool) for split, pool in images.items()} == {
        "train": 1097,
        "validation": 200,
        "test": 500,
    }
    pools = [{image.tobytes() for image in pool} for pool in images.values()]
    assert len(set.union(*pools)) == sum(map(len, pools))
    seen = {name: pool for name, pool in images.items() if name != "test"}
    monkeypatch.setattr(pair_tasks, "_digit_images", lambda: seen)
    trained(tmp_path)
    seen = {"train": images["train"]}
    batch = first_batch(tiny())
    shown = batch["stimulus"][batch["writes"]].double().numpy()
    assert {image.tobytes() for image in shown} <= pools[0]


def test_stops_early_and_keeps_the_best_weights(tmp_path, monkeypatch):
    still = trained(tmp_path, learning_rate=1e-12, epochs=9, patience=2)
    assert len(still.history) == 3
    at_first = trained(tmp_path, learning_rate=1e-12, epochs=1)
    for name, weights in at_first.net.state_dict().items():
        assert torch.allclose(weights, still.net.state_dict()[name], atol=1e-9), name


def test_tells_when_it_diverges(tmp_path, monkeypatch):
    nothing = torch.tensor(torch.nan, requires_grad=True), torch.tensor(0.0)
    monkeypatch.setattr(loop().Training, "loss", lambda *_: nothing)
    with pytest.raises(FwbioError, match="lower the learning rate"):
        trained(tmp_path)
    assert not [*tmp_path.iterdir()]


def test_leaves_nothing_altered_and_writes_to_its_folder_alone(tmp_path, monkeypatch, capfd):
    elsewhere, scratch = tmp_path / "elsewhere", tmp_path / "scratch"
    elsewhere.mkdir()
    scratch.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))

    def state():
        return (
            torch.random.get_rng_state().tolist(),
            str(np.random.get_state()),  # noqa: NPY002
            random.getstate(),
            torch.get_num_threads(),
            torch.are_deterministic_algorithms_enabled(),
            torch.is_grad_enabled(),
            list(warnings.filters),
            signal.getsignal(signal.SIGINT),
            signal.getsignal(signal.SIGTERM),
            logging.getLogger("lightning.pytorch").level,
            dict(os.environ),
        )

    loop()
    before = state()
    with torch.no_grad():
        programmer = trained(tmp_path / "kept")
    assert state() == before
    assert capfd.readouterr() == ("", "")
    assert not [*elsewhere.iterdir(), *scratch.iterdir()]
    assert [path.name for path in (tmp_path / "kept").iterdir()] == [programmer.checkpoint]


def test_shows_a_progress_bar_on_standard_error(tmp_path, capfd):
    train(tiny(), tmp_path)
    out, err = capfd.readouterr()
    assert out == ""
    assert "training delta: 100%" in err and "12/12" in err


# How it is kept and resumed


def test_is_not_trained_twice(tmp_path, monkeypatch):
    first = trained(tmp_path)
    monkeypatch.setattr(loop(), "fit", None)
    assert_same(first, trained(tmp_path))
    assert_same(first, load(checkpoint_path(tiny(), tmp_path)))
    assert first.checkpoint.startswith("delta-")
    names = {tiny(**change).name for change in ({}, {"seed": 1}, {"noise": 0.2}, {"keys": 8})}
    assert len(names) == 4


KILLED = """
import json, os, signal, sys
import torch
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)
from fwbio.models import training_loop
from fwbio.models.train import TrainingConfig, train

step = training_loop.Training.training_step

def killing(self, batch, index):
    if self.global_step == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, index)

training_loop.Training.training_step = killing
train(TrainingConfig(**json.loads(sys.argv[1])), sys.argv[2], progress=False)
"""


def test_resumes_exactly_after_a_kill(tmp_path):
    arguments = [json.dumps(dataclasses.asdict(tiny())), str(tmp_path / "killed")]
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert {path.suffix for path in (tmp_path / "killed").iterdir()} == {".ckpt"}
    assert_same(trained(tmp_path / "killed"), trained(tmp_path / "whole"))


@pytest.mark.parametrize(
    ("at", "error"), [(2, MemoryError), (3, KeyboardInterrupt), (10, KeyboardInterrupt)]
)
def test_resumes_exactly_after_a_stop(at, error, tmp_path, monkeypatch):
    steps = []

    def stopping(self, batch, index):
        steps.append(self.global_step)
        if self.global_step == at:
            raise error
        return step(self, batch, index)

    step = loop().Training.training_step
    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(loop().Training, "training_step", stopping)
        with pytest.raises(error):
            trained(tmp_path / "stopped")
    assert signal.getsignal(signal.SIGINT) is handler
    assert not checkpoint_path(tiny(), tmp_path / "stopped").exists()
    (tmp_path / "stopped").rename(tmp_path / "moved")
    assert_same(trained(tmp_path / "moved"), trained(tmp_path / "whole"))
    assert steps == list(range(at + 1))


@pytest.mark.parametrize("early", [False, True])
def test_resumes_exactly_after_its_last_epoch(early, tmp_path, monkeypatch):
    changes = {"learning_rate": 1e-12, "epochs": 9, "patience": 2} if early else {}

    def failing(*_):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(training, "save", failing)
        with pytest.raises(OSError, match="no space"):
            trained(tmp_path / "stopped", **changes)
    with monkeypatch.context() as patch:
        patch.setattr(loop().Training, "training_step", lambda *_: pytest.fail("trained on"))
        resumed = trained(tmp_path / "stopped", **changes)
    assert_same(resumed, trained(tmp_path / "whole", **changes))


# What it refuses


def test_refuses_another_rule_and_other_sizes(tmp_path):
    programmer = trained(tmp_path, epochs=1)
    with pytest.raises(FwbioError, match="trained to program 'delta', not 'hebb'"):
        programmer(TASKS["digits"](trials=1, pairs=2), "hebb")
    with pytest.raises(FwbioError, match="items of 12 features"):
        programmer(TASKS["random_pairs"](trials=1, pre=12, post=64), "delta")
    with pytest.raises(FwbioError, match="contents of 12 features"):
        programmer(TASKS["random_pairs"](trials=1, pre=64, post=12), "delta")


def damaged(kind, whole):
    if kind == "truncated":
        return whole[: len(whole) // 2]
    if kind == "empty":
        return b""
    if kind == "text":
        return b"step,loss\n1,2\n"
    path = Path(tempfile.mkstemp()[1])
    torch.save({"weights": torch.zeros(3)}, path)
    foreign = path.read_bytes()
    path.unlink()
    return foreign


@pytest.mark.parametrize("kind", ["truncated", "empty", "text", "foreign"])
def test_refuses_damaged_files(kind, tmp_path):
    path = tmp_path / trained(tmp_path, epochs=1).checkpoint
    path.write_bytes(damaged(kind, path.read_bytes()))
    for read_it in (lambda: load(path), lambda: trained(tmp_path, epochs=1)):
        with pytest.raises(FwbioError) as caught:
            read_it()
        assert caught.value.where == str(path)
        assert "anew" in caught.value.mend
    unfinished = checkpoint_path(tiny(), tmp_path).with_suffix(".ckpt")
    unfinished.write_bytes(path.read_bytes())
    with pytest.raises(FwbioError, match="delete it and train anew"):
        trained(tmp_path)


def test_refuses_missing_files_parts_and_another_configs_file(tmp_path):
    with pytest.raises(FwbioError, match="no such file"):
        load(tmp_path / "none.pt")
    path = tmp_path / trained(tmp_path, epochs=1).checkpoint
    with pytest.raises(FwbioError, match="another config"):
        path.rename(checkpoint_path(tiny(), tmp_path))
        trained(tmp_path)
    content = torch.load(checkpoint_path(tiny(), tmp_path), weights_only=True)
    content["config"]["keys"] = 5
    torch.save(content, tmp_path / "misfit.pt")
    with pytest.raises(FwbioError, match="don't fit together"):
        load(tmp_path / "misfit.pt")


def test_refuses_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FwbioError, match="name a folder that you may write to"):
        trained(tmp_path / "file")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rule": "dleta"}, "did you mean 'delta'"),
        ({"task": "digit"}, "did you mean 'digits'"),
        ({"keys": 0}, "keys = 0 is out of range"),
        ({"keys": 2.5}, "a whole number"),
        ({"seed": -1}, "from 0 up"),
        ({"learning_rate": float("nan")}, "above 0"),
        ({"batch": True}, "batch = True"),
        ({"patience": "3"}, "patience = '3'"),
    ],
)
def test_refuses_configs_out_of_range(changes, told):
    with pytest.raises(FwbioError, match=told):
        tiny(**changes)


def test_a_config_takes_a_rule_for_its_name():
    assert tiny(rule=RULES["hebb"]) == tiny(rule="hebb")
    with pytest.raises(dataclasses.FrozenInstanceError):
        tiny().rule = "hebb"


def test_load_does_not_load_the_training_stack(tmp_path):
    trained(tmp_path, epochs=1)
    code = (
        "import sys; from fwbio.models.train import TrainingConfig, train; import json;"
        " train(TrainingConfig(**json.loads(sys.argv[1])), sys.argv[2]);"
        " assert not {'lightning', 'brian2', 'matplotlib'} & set(sys.modules)"
    )
    config = json.dumps(dataclasses.asdict(tiny(epochs=1)))
    subprocess.run([sys.executable, "-c", code, config, tmp_path], check=True, timeout=120)


def test_what_shows_no_pairs_is_refused(tmp_path):
    programmers = (designed, trained(tmp_path, epochs=1))
    for episode, told in (
        (TASKS["mqar"](seed=0, trials=2), "a dataset of 'mqar' shows no pairs"),
        (None, "NoneType shows no pairs"),
    ):
        for programmer in programmers:
            with pytest.raises(FwbioError, match=f"^episode: {told}; give an episode of a task"):
                programmer(episode, "delta")
