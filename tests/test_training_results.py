"""What `fwbio train` says of a training: its figure, what it rests on, and what chance gives."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from tolerances import assert_close

from fwbio.analyses import cli
from fwbio.analyses.training_results import best_constant, network_result, programmer_result
from fwbio.models.networks.batches import losses, sequences
from fwbio.models.networks.training import load, validation_episode
from fwbio.models.train import TrainingConfig, train

FEW = ["--steps", "2", "--epochs", "2", "--batch", "4", "--width", "4", "--set", "validation=6"]


def trained(folder, *words):
    """What the command says, line by line, and the network that it made."""
    result = CliRunner().invoke(cli.main, ["train", *words, *FEW, "--out", str(folder)])
    assert result.exit_code == 0, result.output
    path, *told = result.stdout.splitlines()
    return told, load(path)


def number(pattern, line):
    return float(re.search(rf"{pattern} ([0-9.e+-]+[0-9])", line).group(1))


@pytest.mark.parametrize("loss", ["cross_entropy", "squared"])
def test_no_constant_output_does_better(loss, rng):
    classes = 5
    target = rng.choice(classes, 200, p=rng.dirichlet(np.ones(classes)))
    constant = best_constant(target, loss)
    share = np.bincount(target, minlength=classes) / len(target)
    spread = torch.tensor(share).clamp_min(1e-30)
    best = spread.log() if loss == "cross_entropy" else spread

    def of(output):
        return float(losses(output.expand(200, -1), torch.tensor(target), loss).mean())

    assert_close(constant.loss, of(best), "float64")
    assert all(of(best + torch.tensor(rng.normal(size=classes))) >= of(best) for _ in range(20))
    assert constant.accuracy == max(np.mean(target == c) for c in range(classes))
    assert constant.answers == 200


def test_the_best_constant_of_outputs_is_their_mean(rng):
    target = rng.normal(size=(50, 3))
    constant = best_constant(target, "squared")
    mean = torch.tensor(target.mean(0)).expand(50, -1)
    expected = float(losses(mean, torch.tensor(target), "squared").mean())
    assert_close(constant.loss, expected, "float64")
    assert math.isnan(constant.accuracy)


def test_bytes_that_are_all_as_likely_have_eight_bits():
    constant = best_constant(np.repeat(np.arange(256), 3), "cross_entropy")
    assert_close(constant.loss / math.log(2), 8.0, "float64")
    assert constant.accuracy == 1 / 256


def test_a_network_is_told_with_what_it_rests_on(tmp_path):
    told, network = trained(tmp_path, "mqar", "--model", "irnn", "--size", "pairs=4")
    figures, rests, chance = told
    best = min(network.history, key=lambda row: row.get("validation_loss", math.inf))
    assert number("accuracy", figures) == float(f"{best['validation_accuracy']:.4g}")
    assert figures.endswith(f"after epoch {best['epoch']:g} of 2")
    episode = validation_episode(network.config)
    assert rests.startswith("on the 6 sequences of the validation")
    assert rests.endswith(f"with {int(episode.scored.sum())} answers")
    constant = best_constant(
        sequences(episode).target[sequences(episode).scored].numpy(), "cross_entropy"
    )
    assert number("accuracy", chance) == float(f"{constant.accuracy:.4g}")
    assert "bits" not in "".join(told)


def test_what_has_no_classes_has_no_accuracy(tmp_path):
    told, _ = trained(tmp_path, "regression", "--model", "irnn")
    assert "accuracy" not in "".join(told)
    assert number("loss", told[2]) > 0


def test_a_text_is_told_in_bits_per_byte(tmp_path, rng):
    text = tmp_path / "text"
    text.write_bytes(bytes(rng.choice(list(b"ab"), 4000).tolist()))
    told, network = trained(
        tmp_path / "out", "bytes", "--model", "irnn", "--size", f"path={text}", "--size", "length=9"
    )
    loss = min(row["validation_loss"] for row in network.history if "validation_loss" in row)
    assert told[0].startswith(f"validation {loss / math.log(2):.4g} bits per byte, loss {loss:.4g}")
    assert 0.8 < number("chance:", told[2]) <= 1  # two letters, as likely as each other


def test_a_programmer_is_told_with_what_it_rests_on(tmp_path):
    small = {"keys": 4, "values": 4, "hidden": 4, "steps": 1, "epochs": 2, "validation": 2}
    config = TrainingConfig(pairs=5, batch=3, **small)
    programmer = train(config, tmp_path, progress=False)
    figures, rests, chance = programmer_result(programmer)
    best = min(range(2), key=lambda epoch: programmer.history[epoch]["validation_loss"])
    accuracy = programmer.history[best]["validation_accuracy"]
    assert figures.startswith(f"validation recall {accuracy:.4g}, ")
    assert figures.endswith(f"after epoch {best + 1} of 2")
    assert rests.startswith("on the 6 episodes of the validation")
    assert rests.endswith("with 30 cues")
    assert chance.startswith("chance: recall 0.2,")
    other = replace(programmer, config=replace(config, pairs=10))
    assert programmer_result(other)[2].startswith("chance: recall 0.1,")


def test_one_of_a_thing_is_told_as_one(tmp_path):
    _, network = trained(tmp_path, "parity", "--model", "irnn", "--size", "length=1")
    single = replace(network, config=replace(network.config, validation=1))
    assert network_result(single)[1].startswith("on the 1 sequence of the validation, ")
    assert network_result(single)[1].endswith("with 1 answer")
