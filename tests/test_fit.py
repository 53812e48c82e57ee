"""The training harness: what it keeps, resumes, refuses, clips, logs and stops."""

import csv
import math
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from tolerances import assert_close

from fwbio import FwbioError
from fwbio.models.networks import checkpoints
from fwbio.models.networks import fit as harness
from fwbio.models.networks.checkpoints import before, read_plain, write_rows
from fwbio.models.networks.fit import Learner, Places, Plan, fit, has_stopped, share_of_peak_rate

STEPS, EPOCHS = 4, 3


class Line(Learner):
    """Gradient descent on |w - place|^2 / 2, so that every step's batch leaves its trace."""

    def __init__(self, plan, *, failing=None, validation=None, pull=1.0):
        super().__init__(plan)
        self.w = torch.nn.Parameter(torch.zeros(3))
        self.layer = torch.nn.Linear(3, 3)
        torch.nn.init.eye_(self.layer.weight)
        self.failing, self.validation, self.pull = failing, validation, pull
        self.seen = []

    def training_batch(self, step):
        return torch.tensor([math.sin(step), math.cos(step), 0.5]) * self.pull

    def validation_batches(self):
        return Places(lambda place: torch.full((3,), float(place)), range(2))

    def optimizer(self):
        return torch.optim.SGD([self.w], lr=0.1, momentum=0.5)

    def rate(self, step):
        return 1 / (1 + step)

    def weights(self):
        return {"w": self.w}

    def training_step(self, batch, index):
        if self.global_step == self.failing:
            raise MemoryError
        self.seen.append(self.global_step)
        return (self.w - batch).square().sum() / 2

    def validation_step(self, batch, index):
        loss = (self.w - batch).square().sum()
        if self.validation is not None:
            loss = torch.tensor(self.validation[self.current_epoch])
        self.log("validation_loss", loss, batch_size=1)


def plan(**changes):
    sizes = {"name": "line-0", "label": "line", "steps": STEPS, "epochs": EPOCHS, "save_every": 1}
    return Plan(**(sizes | changes))


def run(folder, of=None, **how):
    of = of or plan()
    learner = Line(of, **how)
    weights, rows = fit(learner, of, folder / "line.ckpt", progress=False)
    return weights["w"], rows, learner


def stopped(folder, at, of=None):
    with pytest.raises(MemoryError):
        run(folder, of, failing=at)


def assert_same(one, other):
    assert torch.equal(one[0], other[0])
    assert one[1] == other[1]


def test_descends_as_by_hand(tmp_path):
    w, _, learner = run(tmp_path, plan(epochs=1))
    expected, speed = torch.zeros(3), torch.zeros(3)
    for step in range(STEPS):
        speed = 0.5 * speed + (expected - learner.training_batch(step))
        expected = expected - 0.1 / (1 + step) * speed
    assert_close(w, expected, "float32")


@pytest.mark.parametrize("every", [1, 3, None])
@pytest.mark.parametrize("at", [1, 3, 4, 5, 11])
def test_goes_on_where_it_was_stopped(at, every, tmp_path):
    of = plan(save_every=every, log_every=3)
    whole = run(tmp_path / "whole", of)
    stopped(tmp_path / "stopped", at, of)
    resumed = run(tmp_path / "stopped", of)
    assert_same(whole, resumed)
    kept = [0, *range(STEPS, at + 1, STEPS)]
    if every is not None:
        kept += range(every, at + 1, every)
    assert resumed[2].seen == list(range(max(kept), STEPS * EPOCHS))


def test_goes_on_after_two_stops(tmp_path):
    for at in (3, 6):
        stopped(tmp_path / "stopped", at)
    assert_same(run(tmp_path / "whole"), run(tmp_path / "stopped"))


def test_saves_by_the_clock(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(harness, "keep", lambda content, _: saved.append(content["global_step"]))
    run(tmp_path, plan(save_every=None, save_seconds=0.0))
    assert saved == list(range(1, STEPS * EPOCHS + 1))
    saved.clear()
    run(tmp_path, plan(save_every=None, save_seconds=3600.0))
    assert saved == list(range(STEPS, STEPS * EPOCHS + 1, STEPS))


@pytest.mark.parametrize("share", [0.0, 0.5, -1])
def test_a_truncated_checkpoint_is_told_and_the_one_before_it_used(share, tmp_path, caplog):
    stopped(tmp_path, 6)
    unfinished = tmp_path / "line.ckpt"
    whole = unfinished.read_bytes()
    unfinished.write_bytes(whole[:-1] if share < 0 else whole[: int(share * len(whole))])
    resumed = run(tmp_path)
    (told,) = [record.getMessage() for record in caplog.records if record.name == "fwbio"]
    assert told.startswith(f"{unfinished}: not a file that `train` wrote")
    assert "\n" not in told and before(unfinished).name in told
    assert resumed[2].seen[0] == 5
    assert_same(resumed, run(tmp_path / "whole"))


def test_a_kill_between_renames_leaves_the_one_before(tmp_path):
    stopped(tmp_path, 6)
    unfinished = tmp_path / "line.ckpt"
    unfinished.replace(before(unfinished))
    assert_same(run(tmp_path), run(tmp_path / "whole"))


def test_refuses_when_none_is_whole_or_one_is_foreign(tmp_path):
    stopped(tmp_path, 6)
    unfinished = tmp_path / "line.ckpt"
    with pytest.raises(FwbioError, match="no unfinished training of this config"):
        run(tmp_path, plan(name="line-1"))
    for path in (unfinished, before(unfinished)):
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(FwbioError, match="delete it and train anew") as caught:
        run(tmp_path)
    assert caught.value.where == str(unfinished)


class Bomb:
    """A pickle that makes a folder when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("form", [pickle.dumps, None])
def test_runs_nothing_that_a_file_holds(form, tmp_path):
    path, trace = tmp_path / "line.ckpt", tmp_path / "trace"
    content = {"fwbio": {"name": "line-0", "rows": [], "bomb": Bomb(trace)}}
    if form is None:
        torch.save(content, path)
    else:
        path.write_bytes(form(content))
    with pytest.raises(FwbioError, match="not a file that `train` wrote"):
        run(tmp_path)
    assert not trace.exists()
    torch.load(path, weights_only=False) if form is None else pickle.loads(path.read_bytes())
    assert trace.exists()


def test_the_log_holds_the_rows(tmp_path):
    of = plan(log_every=3, log=tmp_path / "line.csv")
    stopped(tmp_path, 7, of)
    _, rows, learner = run(tmp_path, of)
    with (tmp_path / "line.csv").open() as file:
        read = [{name: float(x) for name, x in row.items() if x} for row in csv.DictReader(file)]
    assert read == rows
    assert [row["step"] for row in rows] == [3, 4, 6, 8, 9, 12]
    assert [row["epoch"] for row in rows] == [1, 1, 2, 2, 3, 3]
    assert [row["step"] for row in rows if "validation_loss" in row] == [4, 8, 12]
    assert not list(tmp_path.glob(".*"))
    first = torch.stack([learner.training_batch(step) for step in range(3)]).square().sum(-1) / 2
    assert rows[0]["training_loss"] < first.mean()


def test_a_row_is_the_mean_since_the_row_before(tmp_path):
    _, every, _ = run(tmp_path / "every", plan(log_every=1))
    _, third, _ = run(tmp_path / "third", plan(log_every=3))
    steps = [row["training_loss"] for row in every]
    for start, row in zip([0, *(row["step"] for row in third)], third, strict=False):
        assert_close(
            row["training_loss"], sum(steps[start : row["step"]]) / (row["step"] - start), "float32"
        )


def test_rows_of_several_kinds_make_one_table(tmp_path):
    write_rows([{"a": 1, "b": 0.1}, {"a": 2, "c": 1e-30}], tmp_path / "rows.csv")
    assert (tmp_path / "rows.csv").read_text() == "a,b,c\n1,0.1,\n2,,1e-30\n"


@pytest.mark.parametrize(
    ("losses", "patience", "epochs"),
    [
        ([3.0, 2.0, 2.0, 2.5, 1.0], 2, 4),
        ([3.0, 2.0, 2.5, 1.0, 1.0], 2, 5),
        ([3.0, 4.0, 5.0, 6.0, 7.0], None, 5),
        ([3.0, 2.0, math.nan, 1.0, 1.0], None, 3),
    ],
)
def test_stops_when_the_validation_loss_no_longer_falls(losses, patience, epochs, tmp_path):
    of = plan(epochs=5, patience=patience)
    weights, rows, _ = run(tmp_path, of, validation=losses)
    assert len(rows) == epochs
    best = min(range(epochs), key=lambda i: losses[i] if losses[i] == losses[i] else math.inf)
    at_best, _, _ = run(tmp_path / "short", plan(epochs=best + 1), validation=losses)
    assert torch.equal(weights, at_best)
    resumed = run(tmp_path, of, validation=losses)
    assert str(resumed[1]) == str(rows) and resumed[2].seen == []


def test_patience_counts_epochs_since_the_minimum():
    rows = [{"validation_loss": x} for x in (2.0, 1.0, 1.5, 1.5)]
    assert has_stopped(rows, 2) and not has_stopped(rows, 3)
    assert not has_stopped([], 1) and not has_stopped([{"training_loss": math.nan}], 1)


def test_tells_an_infinite_loss_and_leaves_nothing(tmp_path):
    with pytest.raises(FwbioError, match="lower the learning rate"):
        run(tmp_path, validation=[math.inf] * 3)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_clipped_step_is_as_long_as_told(precision, tmp_path):
    of = plan(steps=1, epochs=1, clip=0.25, precision=precision)
    w, _, _ = run(tmp_path, of, pull=100.0)
    assert_close(w.norm(), 0.1 * 0.25, "float32")
    loose, _, learner = run(tmp_path / "loose", plan(steps=1, epochs=1, clip=1e3))
    assert_close(loose, 0.1 * learner.training_batch(0), "float32")


def test_bfloat16_is_autocast(tmp_path):
    seen = []

    class Watched(Line):
        def training_step(self, batch, index):
            seen.append((self.layer(batch[None]).dtype, self.w.dtype))
            return super().training_step(batch, index)

    for precision in ("float32", "bfloat16"):
        of = plan(steps=1, epochs=1, precision=precision)
        fit(Watched(of), of, tmp_path / precision / "line.ckpt", progress=False)
    assert seen == [(torch.float32, torch.float32), (torch.bfloat16, torch.float32)]


def test_tells_a_device_without_bfloat16(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "an old one")
    with pytest.raises(FwbioError, match="an old one has no bfloat16; train in 'float32'"):
        harness._check_precision("bfloat16", "cuda")


def test_the_step_size_rises_and_descends():
    def share(step, schedule):
        return share_of_peak_rate(step, warm_up=4, total=100, schedule=schedule)

    assert [share(step, "constant") for step in range(5)] == [0.25, 0.5, 0.75, 1, 1]
    assert_close(share(50, "cosine"), 0.5, "float64")
    assert share(100, "cosine") < 1e-12
    cosine = [share(step, "cosine") for step in range(4, 101)]
    assert cosine == sorted(cosine, reverse=True)


def test_a_failing_disk_leaves_what_was_there(tmp_path, monkeypatch):
    stopped(tmp_path, 6)
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.torch, "save", full)
        with pytest.raises(OSError, match="No space left"):
            run(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == kept
    assert_same(run(tmp_path), run(tmp_path / "whole"))


@pytest.mark.parametrize("at", [1, 3, 6])
def test_checkpoints_keep_one_sum_of_an_epochs_losses(at, tmp_path):
    of = plan(steps=8, epochs=1)
    _, rows, _ = run(tmp_path / "every", plan(steps=8, epochs=1, log_every=1))
    stopped(tmp_path, at, of)
    kept = read_plain(tmp_path / "line.ckpt")["fwbio"]
    assert (kept["summed"].shape, kept["counted"]) == ((), at)
    expected = sum(row["training_loss"] for row in rows[:at])
    assert_close(kept["summed"], expected, "float64")


def test_a_file_of_another_kind_is_not_to_be_deleted(tmp_path):
    path = tmp_path / "train.py"
    path.write_text("import fwbio\n")
    with pytest.raises(FwbioError, match="not a file that `train` wrote") as caught:
        read_plain(path)
    assert "check the name" in caught.value.mend and "delete" not in str(caught.value)


def test_checkpoints_are_plain_data(tmp_path):
    stopped(tmp_path, 6)
    kept = read_plain(tmp_path / "line.ckpt")
    assert kept["fwbio"]["name"] == "line-0" and kept["global_step"] == 6
    shutil.copy(tmp_path / "line.ckpt", Path(tmp_path) / "copy.ckpt")
    with pytest.raises(FwbioError, match="no such file"):
        read_plain(tmp_path / "none.ckpt")
