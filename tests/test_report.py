"""The report and the files beside it: whole, self-contained, and never half-written."""

import base64
import hashlib
import io
import re

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from pages import Page
from PIL import Image
from synthetic import refuse_oja, synaptic_record

from fwbio import FwbioError, analyses, models, record
from fwbio.analyses import outputs, tables
from fwbio.analyses.compare import COLUMNS
from fwbio.analyses.recall import recall_hits
from fwbio.analyses.report import comparison
from fwbio.analyses.words import number as number_shown


@pytest.fixture(scope="module")
def tree():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "execute", synaptic_record)
        patch.setattr(models, "unsupported", refuse_oja)
        return analyses.compare(
            rules=("delta", "oja"),
            programmers=("designed",),
            pairs=3,
            trials=3,
            synaptic_trials=2,
            progress=False,
        )


@pytest.fixture(scope="module")
def folder(tree, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out") / "deep" / "results"
    assert outputs.write(tree, folder) == folder / "report.html"
    return folder


@pytest.fixture(scope="module")
def page(folder):
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_a_comparison_without_a_newer_metric_is_still_reported(tree, tmp_path):
    older = tree.copy()
    table = tree["summary"].to_dataset()
    older["summary"] = xr.DataTree(table.isel(row=table.metric.values != "program_agreement"))
    page = Page(outputs.write(older, tmp_path, with_tree=False).read_text(encoding="utf-8"))
    headings = " ".join(page.text)
    assert "weight agreement" in headings and "program agreement" not in headings


def test_the_files_are_all_there_and_nothing_else(folder):
    assert {path.name for path in folder.iterdir()} == {
        "comparison.nc",
        "summary.csv",
        "figures",
        "report.html",
    }
    assert {path.stem for path in (folder / "figures").iterdir()} == {
        "recall",
        "lag",
        "episode_designed",
        "weights_designed",
        "agreement_designed",
        "traces_designed",
    }


def test_the_table_is_the_summary(folder, tree):
    frame = pd.read_csv(folder / "summary.csv")
    assert tuple(frame.columns) == COLUMNS
    pd.testing.assert_frame_equal(frame, analyses.summary(tree))


def test_the_page_fetches_nothing(page):
    ids = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    names = ("src", "srcset", "href", "action")
    addresses = [attrs[name] for _, attrs in page.tags for name in names if name in attrs]
    assert addresses
    for address in addresses:
        assert address.startswith("data:image/webp;base64,") or address[1:] in ids, address
    style = "".join(page.text)
    assert "url(" not in style
    assert "@import" not in style
    assert not page.having("link")


def test_the_page_may_run_its_own_script_and_nothing_else(page):
    (policy,) = (m["content"] for m in page.having("meta") if "http-equiv" in m)
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'" and rules["img-src"] == "data:"
    assert "unsafe" not in policy
    data = [attrs.get("type") for attrs in page.having("script")].index("application/json")
    scripts = [own for i, own in enumerate(page.verbatim["script"]) if i != data]
    assert len(scripts) == 2
    for found, rule in ((page.verbatim["style"], "style-src"), (scripts, "script-src")):
        digests = [base64.b64encode(hashlib.sha256(own.encode()).digest()) for own in found]
        assert rules[rule] == " ".join(f"'sha256-{digest.decode()}'" for digest in digests)
    assert not any(name.startswith("on") or name == "style" for _, a in page.tags for name in a)


def pixels(image):
    return np.asarray(Image.open(io.BytesIO(image)).convert("RGB"))


def test_the_page_shows_every_figure_with_words(page, folder):
    images, nights = page.having("img"), page.having("source")
    assert len(images) == len(page.having("figure")) == len(page.having("figcaption")) == 6
    assert all(len(image["alt"]) > 20 for image in images)
    for image, night, figure in zip(images, nights, page.having("figure"), strict=True):
        day, dark = (
            pixels(base64.b64decode(address.partition(",")[2]))
            for address in (image["src"], night["srcset"])
        )
        file = (folder / "figures" / f"{figure['id']}.png").read_bytes()
        assert np.array_equal(day, pixels(file))
        assert day.shape == dark.shape
        assert (day[0, 0] == 255).all() and (dark[0, 0] < 40).all()
        assert "dark" in night["media"]


def test_words_for_figures_have_their_numbers(page, tree):
    words = {
        f["id"]: i["alt"] for f, i in zip(page.having("figure"), page.having("img"), strict=True)
    }
    table = analyses.summary(tree).set_index(["metric", "substrate", "rule"])["value"]
    accuracy = table["recall_accuracy"]
    for number in (accuracy.min(), accuracy.max()):
        assert f"{number:.2f}" in words["recall"]
    assert f"{number_shown(table['readout_agreement'].min())}" in words["agreement_designed"]
    hits = recall_hits(tree["designed/reference/delta"].to_dataset().isel(trial=0))
    scored = tree["episode"].scored.values[0]
    assert f"delta reference {int(hits.values[scored].sum())}" in words["episode_designed"]
    text = re.sub(r"\s+", " ", "".join(page.text))
    assert "The first 3 cues" in text
    assert "Trials: reference and kernel 3, flow, rate and spiking the first 2." in text
    assert "a dash across a point is what the reference recalls" in text


def test_the_page_is_for_readers(page):
    assert page.having("html")[0]["lang"] == "en"
    metas = {meta.get("name"): meta.get("content") for meta in page.having("meta")}
    assert metas["viewport"].startswith("width=device-width")
    assert metas["color-scheme"] == "light dark"
    headers = page.having("th")
    assert headers
    assert all(header["scope"] in {"col", "row"} for header in headers)
    assert len(page.having("h1")) == len(page.having("main")) == 1
    ids = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    labels = {attrs["aria-labelledby"] for _, attrs in page.tags if "aria-labelledby" in attrs}
    assert labels <= ids


def test_the_page_says_what_was_run_what_was_not_and_what_is_exact(page, tree):
    text = re.sub(r"\s+", " ", "".join(page.text))
    assert tree.attrs["command"] in text
    assert "its error runs backwards" in text
    assert "Approximate: delta with noise." in text
    assert "Exact: the rule, to float64 rounding." in text
    assert "W <- W + k (beta (v - W^T k))^T" in text
    assert "arXiv:2102.11174" in text
    assert f"fwbio {tree.attrs['versions']['fwbio']}" in text
    assert "not run" in text


def test_equal_trees_give_equal_files(folder, tree, tmp_path):
    outputs.write(record.load(folder / "comparison.nc"), tmp_path, with_tree=False)
    again = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(again) == 8
    for path in again:
        assert path.read_bytes() == (folder / path.relative_to(tmp_path)).read_bytes(), path.name


@pytest.fixture
def no_figures(monkeypatch):
    """Figures take most of the time, and most tests are not about them."""
    monkeypatch.setattr("fwbio.analyses.figures.draw", lambda _: iter(()))


@pytest.mark.usefixtures("no_figures")
def test_a_failure_midway_leaves_the_earlier_result(folder, tree, monkeypatch):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def fail(*_):
        raise RuntimeError("the disk is full")

    monkeypatch.setattr("fwbio.analyses.report.page.render", fail)
    with pytest.raises(RuntimeError):
        outputs.write(tree, folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.usefixtures("no_figures")
def test_a_failure_while_moving_leaves_the_earlier_result(folder, tree, monkeypatch):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    moved = []

    def fail_at_last(source, target):
        moved.append(source)
        if len(moved) == 4:
            raise OSError("the disk is full")
        source.rename(target)

    monkeypatch.setattr(outputs.shutil, "move", fail_at_last)
    with pytest.raises(OSError, match="the disk is full"):
        outputs.write(tree, folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("substrates", [("reference",), ("reference", "kernel")])
def test_what_every_trial_recalls_has_no_error_of_nought(substrates, tmp_path, capsys):
    only = analyses.compare(
        rules=("delta",),
        programmers=("designed",),
        substrates=substrates,
        pairs=1,  # whatever is read is nearest to the one stored value
        trials=3,
        progress=False,
    )
    text = outputs.write(only, tmp_path, with_tree=False).read_text(encoding="utf-8")
    said = re.sub(r"\s+", " ", "".join(Page(text).text))
    assert "1.00 in every trial" in said and "± 0" not in said
    assert ("Below it" in said) == (len(substrates) > 1)
    tables.print_summary(only, tmp_path / "report.html")
    rows = [line for line in capsys.readouterr().out.splitlines() if "designed" in line]
    assert len(rows) == len(substrates) and all("all alike" in row for row in rows)


def test_small_errors_are_not_rounded_away():
    told = {0.034: "± 0.03", 0.0031: "± 0.003", 0.0: "in every trial", float("nan"): ""}
    assert {error: comparison._spread(error) for error in told} == told


def test_folders_that_are_not_ours_are_left_alone(tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "mine.png").write_bytes(b"mine")
    with pytest.raises(FwbioError, match="has a folder 'figures' that is not a report's"):
        outputs.check_folder(tmp_path)
    with pytest.raises(FwbioError, match="can't be written"):
        outputs.check_folder(tmp_path / "figures" / "mine.png" / "deeper")
    outputs.check_folder(tmp_path / "new" / "folder")
    assert not (tmp_path / "new").exists()


def test_a_tree_that_is_no_comparison_is_told(tmp_path):
    with pytest.raises(FwbioError, match="not a comparison"):
        outputs.write(xr.DataTree(), tmp_path / "out")
    assert not (tmp_path / "out").exists()
