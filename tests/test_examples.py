"""The example scripts run as they say, and find what they should."""

import ast
import json
import re
import subprocess
import sys

import pandas as pd
import pytest
from house import ROOT
from matplotlib.image import imread

FOLDER = ROOT / "analyses" / "examples"
SCRIPTS = sorted(FOLDER.glob("*.py"))


def run(name, *arguments, cwd):
    """What a script prints, run by this Python in a folder of its own, without a complaint."""
    done = subprocess.run(
        [sys.executable, FOLDER / f"{name}.py", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return done.stdout


def numbers(text):
    return [float(found) for found in re.findall(r"(?<![\w.])[-+]?\d+\.\d+(?:e[-+]\d+)?", text)]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_is_short_and_tells_its_own_command(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 80
    assert f"`python analyses/examples/{path.name}" in ast.get_docstring(ast.parse(text))


def test_the_list_names_every_script():
    listed = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"\]\((\w+\.py)\)", listed)) == [path.name for path in SCRIPTS]


def test_four_substrates_hold_one_memory(tmp_path):
    run("four_substrates", "--pairs", 4, "--trials", 1, "--out", "found.csv", cwd=tmp_path)
    found = pd.read_csv(tmp_path / "found.csv", index_col="substrate")
    assert list(found.index) == ["reference", "flow", "rate", "spiking"]
    assert (found.readout_agreement > 0.95).all()
    assert (found.readout_agreement[["reference", "flow", "rate"]] > 0.9999).all()


def test_digits_are_recalled_by_spikes(tmp_path):
    printed = run("spiking_digits", "--pairs", 3, "--out", "digits.png", cwd=tmp_path)
    assert "reference recalls" in printed
    assert numbers(printed)[-1] > 0.95
    assert imread(tmp_path / "digits.png").ndim == 3


def test_turnover_leaves_what_the_closed_forms_say(tmp_path):
    printed = run("turnover_over_days", "--days", 5, "--out", "left.png", cwd=tmp_path)
    (one, one_expected), (many, many_expected) = map(numbers, printed.splitlines())
    assert one == one_expected
    assert many == pytest.approx(many_expected, abs=0.03)  # five errors of 2,000 synapses
    assert many_expected > one_expected
    assert imread(tmp_path / "left.png").ndim == 3


def test_pairings_change_a_synapse_as_the_window_says(tmp_path):
    printed = run("stdp_pairing", "--pairings", 5, "--points", 5, "--out", "stdp.png", cwd=tmp_path)
    for line in printed.splitlines():
        change, expected = numbers(line)
        assert change == expected != 0
    assert imread(tmp_path / "stdp.png").ndim == 3


def test_a_recording_is_identified(tmp_path):
    printed = run(
        "identify_recording", "--steps", 60, "--rules", "hebb,gated_delta", "--out", "a.json",
        cwd=tmp_path,
    )  # fmt: skip
    answer = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert answer["rules"] == ["gated_delta"]
    assert printed.startswith(answer["sentence"])


def test_a_rule_of_one_s_own_runs_learns_and_is_recognised(tmp_path):
    printed = run("own_rule", "--steps", 24, "--updates", 40, cwd=tmp_path).splitlines()
    (error,) = numbers(printed[1])
    first, last = (numbers(line)[0] for line in printed[-2:])
    assert error < 1e-12
    assert printed[2].startswith("It is fading_efla")
    assert last < first / 10
