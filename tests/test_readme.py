"""What the README shows is run."""

import re

import pytest
import torch
from house import ROOT

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
def test_commands_are_understood(command, tmp_path, monkeypatch):
    """Parsed and checked as they stand; what they compute is tested elsewhere."""
    from fwbio.analyses import cli

    asked = {}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "compare", lambda **settings: asked.update(settings))
    monkeypatch.setattr(cli, "write", lambda *_, **__: None)
    monkeypatch.setattr(cli, "print_summary", lambda *_: None)
    with pytest.raises(SystemExit) as done:
        cli.main(command.split()[1:])
    assert done.value.code == 0
    if asked:
        settings = {name: x for name, x in asked.items() if name not in {"checkpoints", "progress"}}
        cli.Comparison(**settings).episode()


def test_the_tree_names_every_module():
    shown = set(re.findall(r"\b[a-z_]+\.py\b", README))
    here = {
        path.name
        for folder in ("fwbio", "kernels", "models", "analyses")
        for path in (ROOT / folder).rglob("[a-z]*.py")
    }
    assert here <= shown, sorted(here - shown)
