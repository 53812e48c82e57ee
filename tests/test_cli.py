"""The command line: what it writes, and one line for every mistake."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from programs import random_streams
from tolerances import assert_close

from fwbio import (
    RULES,
    FwbioError,
    __version__,
    analyses,
    kernels,
    program,
    record,
    reference,
)
from fwbio.analyses import cli, tables
from fwbio.analyses.substrates import execute, unsupported
from fwbio.tasks import TASKS

SMALL = ["--programmers", "designed", "--pairs", "3", "--trials", "2", "--rules", "delta"]
QUICK = [*SMALL, "--substrates", "reference,kernel"]


def run(*words):
    return CliRunner().invoke(cli.main, [str(word) for word in words])


def told(result, code=2):
    """The one line of a mistake; a bar may stand before it where work had begun."""
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    *bars, line = lines
    assert line.startswith("fwbio: ")
    assert all("run/s" in bar or "figure/s" in bar for bar in bars), bars
    return line


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    result = run("compare", *QUICK, "--out", folder)
    assert result.exit_code == 0, result.output
    assert "100%" in result.stderr  # the bar
    assert f"report: {folder / 'report.html'}" in result.stdout
    return folder


@pytest.fixture
def no_figures(monkeypatch):
    """Figures take most of the time, and most tests are not about them."""
    monkeypatch.setattr("fwbio.analyses.figures.draw", lambda _: iter(()))


def test_compare_writes_everything(results):
    names = {"comparison.nc", "summary.csv", "figures", "report.html"}
    assert {path.name for path in results.iterdir()} == names
    config = record.load(results / "comparison.nc").attrs["config"]
    assert (config["pairs"], config["trials"], config["rules"]) == (3, 2, ["delta"])
    assert {path.suffix for path in (results / "figures").iterdir()} == {".png"}


@pytest.mark.usefixtures("no_figures")
def test_the_command_in_the_record_repeats_it(results, tmp_path):
    command = record.load(results / "comparison.nc").attrs["command"]
    assert run(*command.replace("DIR", str(tmp_path)).split()[1:]).exit_code == 0
    assert (tmp_path / "summary.csv").read_bytes() == (results / "summary.csv").read_bytes()


def test_report_makes_them_again(results, tmp_path):
    result = run("report", results / "comparison.nc", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    for name in ("summary.csv", "report.html"):
        assert (tmp_path / name).read_bytes() == (results / name).read_bytes()
    assert not (tmp_path / "comparison.nc").exists()


@pytest.mark.usefixtures("no_figures")
def test_report_takes_a_folder_and_writes_there_unless_told(results, tmp_path, monkeypatch):
    again = tmp_path / "again"
    again.mkdir()
    (again / "comparison.nc").write_bytes((results / "comparison.nc").read_bytes())
    monkeypatch.chdir(tmp_path)
    for words in (["again"], ["again/comparison.nc"]):
        result = run("report", *words)
        assert result.exit_code == 0, result.output
        assert f"report: {Path('again') / 'report.html'}" in result.stdout
        assert (again / "summary.csv").read_bytes() == (results / "summary.csv").read_bytes()
        (again / "summary.csv").unlink()
    assert run("report", "again", "--out", "other").exit_code == 0
    assert (tmp_path / "other" / "report.html").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"again", "other"}
    (tmp_path / "empty").mkdir()
    line = told(run("report", "empty"))
    assert line.startswith("fwbio: empty: the folder holds no comparison.nc; name one that")
    assert list((tmp_path / "empty").iterdir()) == []


def test_names_are_given_by_comma_or_by_repetition(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(cli, "compare", lambda **settings: asked.append(settings))
    monkeypatch.setattr(cli, "write", lambda *_, **__: tmp_path)
    monkeypatch.setattr(cli, "print_summary", lambda *_: None)
    for words in (["--rules", "hebb, delta"], ["--rules", "hebb", "--rules", "delta"]):
        sizes = ["--size", "pre=12", "--size", "keys=sparse", "--size", "active=0.2"]
        assert run("compare", *words, *sizes, "--out", tmp_path).exit_code == 0
    for settings in asked:
        assert settings["rules"] == ("hebb", "delta")
        assert settings["sizes"] == {"pre": 12, "keys": "sparse", "active": 0.2}
        assert settings["checkpoints"] == tmp_path / "programmers"
    defaults = {"task": "digits", "pairs": 20, "noise": 0.3, "trials": 64, "synaptic_trials": 8}
    assert defaults.items() <= asked[0].items()
    assert asked[0]["substrates"] == ("reference", "kernel", "flow", "rate", "spiking")


def test_rules_are_listed_for_people():
    result = run("rules")
    assert result.exit_code == 0
    for rule in RULES:
        assert rule in result.stdout
    assert "10.1162/neco.1992.4.1.131" in result.stdout
    assert "\x1b" not in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= tables.PIPED_WIDTH


def test_rules_are_listed_for_programs():
    table = json.loads(run("rules", "--json").stdout)
    assert [row["name"] for row in table] == list(RULES)
    assert all(row["equation"] == RULES[row["name"]].equation for row in table)
    assert all(row["unsupported"]["reference"] is None for row in table)
    oja = next(row["unsupported"] for row in table if row["name"] == "oja")
    assert oja["kernel"] is None
    assert len(oja["rate"]) > 10


@pytest.mark.parametrize("name", RULES)
def test_a_rule_is_told_whole(name, rng):
    rule = RULES[name]
    told = json.loads(run("rules", name, "--json").stdout)
    assert told["equation"] == rule.equation
    for substrate, why in told["unsupported"].items():
        assert why == unsupported(rule, substrate)
    for backend, why in told["backends"].items():
        assert why == kernels.unsupported(rule, backend)
    shown = run("rules", name).stdout
    assert max(map(len, shown.splitlines())) <= tables.PIPED_WIDTH
    words = " ".join(shown.split())
    for text in (rule.equation, rule.objective, rule.biology, rule.source):
        assert " ".join(text.split()) in words
    for stream in told["streams"]:
        assert f"\n{stream['name']} " in shown
        assert f"(.., {', '.join(stream['dims'])})" in shown
    for why in (*told["unsupported"].values(), *told["backends"].values()):
        assert why is None or " ".join(why.split()) in words
    assert ("keys are rates" in shown) == (
        None in [told["unsupported"][substrate] for substrate in ("flow", "rate", "spiking")]
    )


@pytest.mark.parametrize("name", RULES)
def test_a_program_needs_the_streams_that_a_rule_tells(name, rng):
    told = json.loads(run("rules", name, "--json").stdout)["streams"]
    streams = random_streams(name, rng, steps=3, pre=2, post=2)
    needed = {stream["name"]: streams[stream["name"]] for stream in told if stream["needed"]}
    whole = program.make(name, **needed)
    for stream in told:
        if stream["needed"]:
            with pytest.raises((FwbioError, TypeError), match=stream["name"]):
                program.make(name, **{n: x for n, x in needed.items() if n != stream["name"]})
        elif stream["name"] != "log_decay":
            given = program.make(name, **needed, **{stream["name"]: float(stream["default"])})
            assert_close(
                reference.execute(given).readout, reference.execute(whole).readout, "float64"
            )


def test_a_rule_is_told_in_the_width_of_the_terminal(monkeypatch):
    monkeypatch.setattr(tables, "PIPED_WIDTH", 72)
    shown = run("rules", "thresholded_delta").stdout
    assert 60 < max(map(len, shown.splitlines())) <= 72
    assert "theta_p" in shown


def test_tasks_are_listed_for_people():
    shown = run("tasks").stdout
    for task in TASKS.values():
        assert task.name in shown
    assert max(map(len, shown.splitlines())) <= tables.PIPED_WIDTH


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_told_by_its_sizes(name):
    told = json.loads(run("tasks", name, "--json").stdout)
    assert told["kind"] == TASKS[name].kind
    assert TASKS[name].configure(**{s["name"]: s["default"] for s in told["sizes"]})
    shown = run("tasks", name).stdout
    assert max(map(len, shown.splitlines())) <= tables.PIPED_WIDTH
    for size in told["sizes"]:
        assert f"\n{size['name']} " in shown
        for choice in size.get("choices", ()):
            TASKS[name].configure(**{size["name"]: choice})
        if "least" in size:
            TASKS[name].configure(**{size["name"]: size["least"]})
            with pytest.raises(FwbioError, match="out of range"):
                TASKS[name].configure(**{size["name"]: size["least"] - 1})


def test_sizes_of_tasks_are_told_in_words():
    shown = run("tasks", "associative_retrieval").stdout
    assert "whole numbers from 1 to 26" in shown
    listed = json.loads(run("tasks", "--json").stdout)
    assert [row["name"] for row in listed] == list(TASKS)


@pytest.mark.parametrize(
    "words", [(), ("rules",), ("tasks",), ("compare",), ("report",), ("train",)]
)
def test_help_has_an_example(words):
    result = run(*words, "--help")
    assert result.exit_code == 0
    assert "Example" in result.stdout
    assert "  fwbio " in result.stdout


def test_a_group_without_a_command_tells_its_own():
    for words in (["sweep"], ["bench"]):
        result = run(*words)
        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout.startswith(f"Usage: fwbio {words[0]}")
        assert "\nCommands:\n" in result.stdout


@pytest.mark.parametrize("substrate", ["reference", "kernel", "flow"])
def test_an_option_that_a_substrate_lacks_is_told(substrate, rng):
    made = program.make("hebb", **random_streams("hebb", rng, steps=2, pre=2, post=2))
    told = f"^{substrate} substrate: there is no option called 'wieghts'"
    with pytest.raises(FwbioError, match=told):
        execute(made, substrate, options={"wieghts": "all"})
    if substrate != "flow":
        kept = execute(made, substrate, options={"weights": "all"})
        assert kept.sizes["snapshot"] == 2


def test_version_and_no_command():
    assert __version__ in run("--version").stdout
    assert "Usage: fwbio" in run().stdout
    assert run().exit_code == 0


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["compar"], "command line: No such command 'compar'"),
        (["tasks", "mqa"], "tasks: there is no task called 'mqa'; did you mean 'mqar'?"),
        (["rules", "detla"], "rules: there is no rule called 'detla'; did you mean 'delta'?"),
        (["compare", "--rulez", "x"], "compare: No such option '--rulez'"),
        (["compare", "extra", "--out", "o"], "compare: Got unexpected extra argument (extra)"),
        (["compare", "--pairs", "x", "--out", "o"], "compare --pairs: 'x' is not a valid integer"),
        (["compare", "--size", "pre", "--out", "o"], "compare --size: 'pre' is not NAME=VALUE"),
        (["compare", "--rules", "delt"], "rules: there is no rule called 'delt'; did you mean"),
        (["compare", "--task", "digit"], "task: there is no task called 'digit'"),
        (["compare", "--substrates", "rat"], "substrates: there is no substrate called 'rat'"),
        (["compare", "--programmers", "me"], "programmers: there is no programmer called 'me'"),
        (["compare", "--rules", ""], "rules: none is named; choose from"),
        (["compare", "--pairs", "0"], "task digits: pairs = 0 is out of range"),
        (["compare", "--pairs", "9999"], "task digits: pairs = 9999 is out of range"),
        (["compare", "--noise", "nan"], "task digits: noise = nan is out of range"),
        (["compare", "--trials", "-1"], "task digits: trials = -1 is out of range"),
        (["compare", "--synaptic-trials", "0"], "synaptic_trials: 0 is out of range"),
        (["compare", "--seed", "-1"], "seed: -1 is out of range"),
        (["compare", "--size", "split=tran"], "task digits: there is no split called 'tran'"),
        (["train", "--rule", "delt"], "rule: there is no rule called 'delt'"),
        (["train", "--rule", "delta", "--pairs", "0"], "TrainingConfig: pairs = 0"),
        (["report", "nowhere.nc"], "nowhere.nc: there is no such file; check the name"),
    ],
)
def test_mistakes_are_one_line(words, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    complete = "--out" in words or words[0] in ("compar", "tasks", "rules") or "--rulez" in words
    out = [] if complete else ["--out", "o"]
    assert told(run(*words, *out)).startswith(f"fwbio: {line}")
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_folder_is_told_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(cli, "compare", None)
    (tmp_path / "file").touch()
    for command in (["compare"], ["train", "--rule", "delta"], ["report", "x.nc"]):
        line = told(run(*command, "--out", tmp_path / "file" / "out"))
        assert "can't be written (Not a directory); name a folder that you may write to" in line


def test_damaged_and_foreign_files_are_told(results, tmp_path):
    whole = (results / "comparison.nc").read_bytes()
    (tmp_path / "cut.nc").write_bytes(whole[: len(whole) // 2])
    line = told(run("report", tmp_path / "cut.nc", "--out", tmp_path / "out"))
    assert "not a whole record" in line
    one = record.load(results / "comparison.nc")["designed/kernel/delta"].to_dataset()
    record.save(one, tmp_path / "one.nc")
    line = told(run("report", tmp_path / "one.nc", "--out", tmp_path / "out"))
    assert line.endswith("give what `fwbio compare` wrote")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("no_figures")
def test_a_failing_disk_is_one_line_and_leaves_the_earlier_result(results, monkeypatch):
    before = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}

    def full(*_):
        raise OSError(28, "No space left on device", "comparison.nc")

    monkeypatch.setattr(record, "save", full)
    line = told(run("compare", *QUICK, "--out", results))
    assert line == "fwbio: comparison.nc: No space left on device; mend that and try again"
    assert {path: path.read_bytes() for path in results.rglob("*") if path.is_file()} == before


def test_interruption_is_one_line(monkeypatch, tmp_path):
    def interrupt(**_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "compare", interrupt)
    assert told(run("compare", "--out", tmp_path / "o"), 130).startswith("fwbio: interrupted: ")
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("words", [("train", "digits", "--rule", "delta"), ("reproduce", "icl")])
def test_interrupted_training_says_that_it_goes_on(words, monkeypatch, tmp_path):
    from fwbio.analyses.reproductions import reproduce
    from fwbio.models import train

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "train", interrupt)
    monkeypatch.setattr(reproduce, "reproduce", interrupt)
    line = told(run(*words, "--out", tmp_path / "o"), 130)
    assert "the same command, given again, goes on from its last checkpoint" in line


def test_train_names_its_checkpoint(monkeypatch, tmp_path):
    from fwbio.models import train

    class Trained:
        checkpoint = "delta-0123456789.pt"
        history = ({"validation_loss": 0.5, "validation_accuracy": 0.75},)

    asked = []

    def fake(config, folder, *, progress):
        asked.append((config.rule, config.pairs, config.seed, folder, progress))
        Trained.config = config
        return Trained

    monkeypatch.setattr(train, "train", fake)
    result = run("train", "--rule", "delta", "--pairs", 4, "--seed", 5, "--out", tmp_path)
    path, figures, *_ = result.stdout.splitlines()
    assert path == str(tmp_path / Trained.checkpoint)
    assert figures == "validation recall 0.75, loss 0.5 after epoch 1 of 1"
    assert asked == [("delta", 4, 5, tmp_path, False)]


def test_a_process_fails_with_one_line_and_code_two(tmp_path):
    command = [sys.executable, "-m", "fwbio.analyses.cli", "compare", "--rules", "delt"]
    done = subprocess.run([*command, "--out", tmp_path / "o"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "fwbio: rules: there is no rule called 'delt'; did you mean 'delta'?\n"


def test_a_process_ends_on_ctrl_c_with_one_line(tmp_path):
    code = (
        "import time; from fwbio.analyses import cli\n"
        "cli.compare = lambda **_: (print('running', flush=True), time.sleep(100))\n"
        f"cli.main(['compare', '--out', {str(tmp_path / 'o')!r}])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "running\n"
        process.send_signal(signal.SIGINT)
        error = process.communicate(timeout=100)[1]
    assert process.returncode == 130
    assert error == "fwbio: interrupted: an earlier result, if any, is as it was\n"
    assert not (tmp_path / "o").exists()


def test_rules_are_listed_without_heavy_libraries():
    code = (
        "import sys; from fwbio.analyses.cli import main\n"
        "try: main(['rules', '--json'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'lightning', 'brian2', 'matplotlib', 'sklearn'}\n"
        "print(sorted(heavy & sys.modules.keys()), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


@pytest.mark.usefixtures("no_figures")
def test_the_table_in_the_terminal_is_the_summary(results, tmp_path):
    result = run("report", results / "comparison.nc", "--out", tmp_path)
    frame = analyses.summary(record.load(results / "comparison.nc"))
    accuracy = frame[frame.metric == "recall_accuracy"]["value"]
    for value in accuracy:
        assert f"{value:.3f}" in result.stdout
