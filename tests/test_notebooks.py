"""The notebooks run from top to bottom, and what they carry is what they show."""

import re

import nbformat
import notebooks
import numpy as np
import pytest
from house import ROOT, python
from tolerances import TOLERANCES

LARGEST = 400_000  # bytes of a notebook with its figures
NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d+\.?\d*(?:e[-+]?\d+)?|nan|inf)\b")


@pytest.fixture(scope="module", params=notebooks.notebooks(), ids=lambda path: path.stem)
def stored(request):
    """A notebook as it is kept."""
    return request.param, nbformat.read(request.param, as_version=4)


@pytest.fixture(scope="module")
def fresh(stored, tmp_path_factory):
    """The same notebook, run by this Python in a process and a folder of its own."""
    path, _ = stored
    folder = tmp_path_factory.mktemp("notebook")
    python(notebooks.__file__, path, "--into", folder, cwd=folder)
    return nbformat.read(folder / path.name, as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook):
    return [output for cell in code(notebook) for output in cell.outputs]


def numbers(text):
    return np.array([float(found) for found in NUMBER.findall(text)])


def words(text):
    """What is said, each number as #, however its columns are laid out."""
    return re.sub(r"[-\s]+", " ", NUMBER.sub("#", text)).split()


def test_there_are_the_notebooks_that_the_list_names():
    found = [path.stem for path in notebooks.notebooks()]
    assert found
    listed = (notebooks.FOLDER / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"\]\((\w+)\.ipynb\)", listed) == found


@pytest.mark.timeout(420)
def test_a_notebook_runs(fresh):
    assert fresh.cells
    assert not [output for output in outputs(fresh) if output.output_type == "error"]


@pytest.mark.timeout(420)
def test_a_run_warns_of_nothing(fresh):
    assert [o.text for o in outputs(fresh) if o.get("name") == "stderr"] == []


@pytest.mark.timeout(420)
def test_every_cell_that_draws_shows_an_image(fresh):
    drawing = [cell for cell in code(fresh) if re.search(r"plt\.(subplots|figure)\(", cell.source)]
    assert drawing
    for cell in drawing:
        assert notebooks.images(cell), cell.source


@pytest.mark.timeout(420)
def test_the_outputs_that_are_kept_are_those_of_a_run(stored, fresh):
    """In words and numbers, but for cells tagged `varies`, which may be a machine's own."""
    bound = TOLERANCES["notebook numbers"].value
    for kept, made in zip(code(stored[1]), code(fresh), strict=True):
        assert kept.source == made.source
        assert len(notebooks.images(kept)) == len(notebooks.images(made))
        told, again = notebooks.text(kept), notebooks.text(made)
        assert bool(told) == bool(again), kept.source
        if "varies" not in kept.metadata.get("tags", []):
            assert words(told) == words(again), kept.source
            assert numbers(again) == pytest.approx(numbers(told), rel=bound, abs=bound), kept.source


def test_a_notebook_is_kept_small_and_tidy(stored):
    path, notebook = stored
    assert path.stat().st_size < LARGEST
    assert notebook == notebooks.tidy(nbformat.read(path, as_version=4))
    assert str(ROOT) not in path.read_text(encoding="utf-8")


def test_a_notebook_opens_and_ends_in_words(stored):
    _, notebook = stored
    first, last = notebook.cells[0], notebook.cells[-1]
    assert first.cell_type == last.cell_type == "markdown"
    assert first.source.startswith("# ")
    assert last.source.startswith("## Where to go next")


def test_a_notebook_imports_the_package_and_what_it_depends_on_alone(stored):
    known = {"fwbio", "matplotlib", "numpy", "pandas", "torch", "xarray", "pathlib"}
    sources = "\n".join(cell.source for cell in code(stored[1]))
    assert set(re.findall(r"^\s*(?:import|from) (\w+)", sources, re.MULTILINE)) <= known
