"""The explorer's data: the records' own numbers, whatever the code, within a budget."""

import io
from base64 import b64decode

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from PIL import Image

from fwbio.analyses import compare
from fwbio.analyses.figures import Drawing, Records
from fwbio.analyses.recall import nearest_stored, recall_hits
from fwbio.analyses.report import explorer as report_explorer
from fwbio.analyses.report.explorer import COSINE_STEP, explorer
from fwbio.analyses.report.night import by_night, night
from fwbio.analyses.report.page import embedded


def numbers(array):
    whole = np.frombuffer(b64decode(array["data"]), array["kind"]).reshape(array["shape"])
    return whole * array.get("step", 1)


def compared(task="digits", **sizes):
    names = {"programmers": ["designed"], "substrates": ["reference"], "rules": ("hebb", "delta")}
    return compare(task, pairs=4, trials=3, progress=False, **names, **sizes)


def turned(tree, rng):
    """The same comparison with values in a code that is no image."""
    size = tree["designed/reference/delta"].sizes["post"]
    turn = np.linalg.qr(rng.standard_normal((size, size)))[0]
    for rule in ("hebb", "delta"):
        record = tree[f"designed/reference/{rule}"].to_dataset()
        changed = {x: record[x] @ xr.DataArray(turn, dims=("post", "to")) for x in WRITTEN}
        new = record.assign({x: v.rename(to="post") for x, v in changed.items()})
        tree[f"designed/reference/{rule}"] = xr.DataTree(new)
    return tree


WRITTEN = ("value", "target", "readout")


@pytest.mark.parametrize("coded", [False, True])
def test_recalls_are_the_records_own(coded, seed, rng):
    tree = compared(seed=seed % 1000)
    tree = turned(tree, rng) if coded else tree
    found = explorer(Records(tree))
    shown = tree["episode"]
    assert (found["trials"], found["cues"], found["pairs"]) == (3, 4, 4)
    for run in found["runs"]:
        record = tree[f"designed/reference/{run['rule']}"].to_dataset()
        scored = record.scored.values
        exact = record.readout.values[scored].reshape(3, 4, -1)
        exact = exact if coded else exact + shown.content_baseline.values
        assert run["of_contents"] is not coded
        step = run["recalled"]["step"]
        assert np.abs(numbers(run["recalled"]) - exact).max() <= step / 2 * (1 + 1e-9)
        assert step == pytest.approx(np.abs(exact).max() / 127)
        assert np.array_equal(numbers(run["hit"]), recall_hits(record).values[scored].reshape(3, 4))
        best = numbers(run["nearest"])
        assert np.array_equal(best[..., 0], nearest_stored(record).values[scored].reshape(3, 4))
        cosines = numbers(run["nearest_cosine"])
        assert (np.diff(cosines) <= 0).all() and best.shape == (3, 4, 4)
        is_target = best == numbers(found["source"])[..., None]
        own = numbers(run["cosine"])
        assert np.abs(cosines[is_target].reshape(3, 4) - own).max() * COSINE_STEP < 1.1e-4
        assert run["code"]["width"] * run["code"]["height"] == exact.shape[-1]


def test_patterns_of_any_size_are_pictures():
    found = explorer(Records(compared("random_pairs", sizes={"pre": 10, "post": 7})))
    assert [found["item"][side] for side in ("height", "width")] == [2, 5]
    assert [found["content"][side] for side in ("height", "width")] == [1, 7]
    assert found["content"]["low"] == -found["content"]["high"]


def test_repeated_items_ask_for_their_last_content():
    tree = compared("rebinding", sizes={"repeats": 2})
    found = explorer(Records(tree))
    assert (found["cues"], found["pairs"]) == (2, 4)
    stored = tree["episode"].stored.values
    assert all(
        stored[trial, step]
        for run in found["runs"]
        for trial, steps in enumerate(numbers(run["nearest"]).reshape(3, -1))
        for step in steps
    )


def test_the_budget_bounds_the_trials(monkeypatch):
    table = Records(compared())
    whole = len(embedded(explorer(table)))
    monkeypatch.setattr(report_explorer, "BUDGET", 1)
    one = explorer(table)
    assert (one["trials"], one["trials_run"]) == (1, 3)
    assert numbers(one["cue"]).shape[:2] == (1, 4)
    assert len(embedded(one)) < 0.6 * whole


def test_nothing_in_the_data_ends_its_place():
    assert "<" not in embedded({"name": "</script><script>"})


def test_night_is_over_when_the_figure_is_drawn():
    figure = Figure()
    ax = figure.subplots()
    (line,) = ax.plot([0, 1], [0, 1], color="#0072B2")
    label = ax.set_xlabel("time (s)")
    figure.draw_without_rendering()
    with night(figure):
        assert line.get_color() == by_night("#0072B2") != "#0072B2"
        assert min(label.get_color()[:3]) > 0.8 > 0.2 > max(ax.get_facecolor()[:3])
    assert (line.get_color(), label.get_color()) == ("#0072B2", "black")
    assert ax.get_facecolor() == (1, 1, 1, 1)


def test_thin_marks_keep_their_colour():
    figure = Figure(figsize=(4, 3))
    ax = figure.subplots()
    ax.imshow(np.random.default_rng(0).random((40, 40)), cmap="RdBu")
    ax.plot([3], [3], "s", color="#00ff00", markersize=3)
    drawing = Drawing(name="x", title="x", caption="x", alternative="x", figure=figure)
    image = Image.open(io.BytesIO(drawing.png())).convert("RGB")
    assert image.getpixel((0, 0)) == (255, 255, 255)
    green = np.asarray(image).astype(int) - (0, 255, 0)
    assert np.abs(green).max(-1).min() <= 16
