"""Every public function that draws: what it takes, what it hands back, and that it has an image."""

import ast
import re

import pytest
from house import MODULES, ROOT

IMAGES = ROOT / "tests" / "images"
BYTES = 40 * 1024
DRAWN_ON = re.compile(r"\b(Axes|Figure|SubFigure)\b")


def drawing(path):
    """A module's public functions that hand back Axes, and those of `*plots.py` that do figures."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    handed_back = DRAWN_ON if path.stem.endswith("plots") else re.compile(r"\bAxes\b")
    return {
        node.name: node
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and not node.name.startswith("_")
        and handed_back.search(ast.unparse(node.returns or ast.Constant(None)))
    }


FIGURES = {
    f"{module.removeprefix('fwbio.analyses.')}.{name}": node
    for module, path in MODULES.items()
    if module.startswith("fwbio.analyses.")
    for name, node in drawing(path).items()
}


def image_tests():
    """The tests that hand a figure over to be compared."""
    for path in sorted((ROOT / "tests").glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and any(
                "mpl_image_compare(**MPL)" in ast.unparse(mark) for mark in node.decorator_list
            ):
                yield node


TESTS = {node.name: node for node in image_tests()}


@pytest.mark.parametrize("function", FIGURES)
def test_a_figure_function_has_an_image_test_that_calls_it(function):
    test = TESTS.get(f"test_image_{function.replace('.', '_')}")
    assert test is not None
    name = function.rpartition(".")[2]
    named = {getattr(node, "attr", getattr(node, "id", None)) for node in ast.walk(test)}
    assert name in named


@pytest.mark.parametrize("function", FIGURES)
def test_a_figure_function_draws_where_it_is_told_to(function):
    node = FIGURES[function]
    given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    assert any(DRAWN_ON.search(ast.unparse(one.annotation)) for one in given if one.annotation)
    assert "Axes" in ast.unparse(node.returns)
    assert ast.get_docstring(node)


@pytest.mark.parametrize("module", dict.fromkeys(name.rpartition(".")[0] for name in FIGURES))
def test_figures_are_saved_elsewhere_and_pyplot_stays_out(module):
    text = MODULES[f"fwbio.analyses.{module}"].read_text(encoding="utf-8")
    assert "pyplot" not in text
    if module.endswith("plots"):
        assert "savefig" not in text
        assert not re.search(r"\bopen\(|write_(bytes|text)\(|to_csv\(", text)


def test_every_image_is_of_a_test_and_small():
    images = {path.stem: path.stat().st_size for path in IMAGES.glob("*.png")}
    assert set(images) == set(TESTS)
    assert {name: size for name, size in images.items() if size > BYTES} == {}
