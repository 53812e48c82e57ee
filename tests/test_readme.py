"""What the README shows is run."""

import re

import click
import pytest
import torch
from house import ROOT

from fwbio.analyses import cli
from fwbio.analyses.compare import Comparison
from fwbio.tasks import TASKS

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = re.findall(r"^    (fwbio .*?)(?:  +#.*)?$", README, re.MULTILINE)


def test_python_blocks_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    q = k = torch.rand(2, 6, 1, 4)
    names = {"q": q, "k": k, "v": torch.rand(2, 6, 1, 3)}
    names |= {"beta": torch.rand(2, 6, 1), "log_decay": -torch.rand(2, 6, 1)}
    names |= {"g": -torch.rand(2, 6, 1, 4)}
    for block in BLOCKS:
        exec(block, names)
    assert (tmp_path / "spikes.nc").exists()
    assert names["y"].shape == (2, 6, 1, 3)
    assert "Poisson" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_understood(command):
    """Parsed and checked as they stand; what they compute is tested elsewhere."""
    name, settings = parsed(command.split()[1:])
    if name == "compare" and settings.pop("checkpoint") is None:
        settings = {name: x for name, x in settings.items() if name != "out"}
        Comparison(**settings).episode()
    if name == "train":
        training = {name: settings.pop(name) for name in ("task", "out")}
        assert training["task"] in TASKS


def parsed(words):
    """The command that words of the shell name, and the settings that it is given."""
    command, context = cli.main, cli.main.make_context("fwbio", list(words))
    while isinstance(command, click.Group):
        name, command, rest = command.resolve_command(
            context, context._protected_args + context.args
        )
        context = command.make_context(name, rest, parent=context)
    return command.name, context.params


def test_the_tree_names_every_module():
    shown = set(re.findall(r"\b[a-z0-9_]+\.py\b", README))
    here = {
        path.name
        for folder in ("fwbio", "kernels", "models", "analyses")
        for path in (ROOT / folder).rglob("[a-z]*.py")
    }
    assert here <= shown, sorted(here - shown)
