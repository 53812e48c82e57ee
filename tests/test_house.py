"""What keeps the house in order: its floors, what each may import, and what importing it loads."""

import ast
import doctest
import re
import subprocess
import sys
from importlib import import_module

import pytest
from house import FLOORS, MODULES, PROJECT, ROOT, python
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from fwbio.tasks import TASKS

ORDER = list(FLOORS)
HEAVY = {"torch", "brian2", "triton", "matplotlib", "lightning", "sklearn"}


def floor(module):
    """The floor of an import of the package, or None for other people's."""
    if module != "fwbio" and not module.startswith("fwbio."):
        return None
    part = module.split(".")[1] if "." in module else ""
    return part if part in FLOORS else "fwbio"


def imports(path):
    """Every module that a file names in an import, those inside functions included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports by a relative name"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module):
    path = MODULES[module]
    own = path.relative_to(ROOT).parts[0]
    for name in imports(path):
        below = floor(name)
        assert below is None or ORDER.index(below) <= ORDER.index(own), f"{own} imports {name}"


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings_are_true(module):
    assert doctest.testmod(import_module(module), raise_on_error=False).failed == 0


@pytest.mark.parametrize("task", TASKS)
def test_tasks_show_examples(task):
    assert any(found.examples for found in doctest.DocTestFinder().find(TASKS[task].make))


@pytest.mark.parametrize("module", MODULES)
def test_a_module_can_be_read_in_one_sitting(module):
    lines = len(MODULES[module].read_text(encoding="utf-8").splitlines())
    assert lines <= (1000 if module.startswith("fwbio.kernels.") else 450)


def test_importing_the_package_loads_nothing_heavy():
    loaded = python("-c", "import sys, fwbio; print(*{m.split('.')[0] for m in sys.modules})")
    assert "fwbio" in loaded.split()
    assert not (HEAVY | {"numpy", "scipy", "xarray", "pandas"}) & set(loaded.split())


def test_importing_the_package_is_quick():
    code = "import time; t = time.perf_counter(); import fwbio; print(time.perf_counter() - t)"
    assert min(float(python("-c", code)) for _ in range(5)) < 0.5


@pytest.mark.parametrize(
    ("module", "without"),
    [
        ("fwbio.program", HEAVY),
        ("fwbio.reference", HEAVY),
        ("fwbio.record", HEAVY),
        ("fwbio.tasks", HEAVY),
        ("fwbio.data", HEAVY),
        ("fwbio.kernels", HEAVY - {"torch"}),
        ("fwbio.models", HEAVY),
        ("fwbio.models.rate", HEAVY - {"brian2"}),
        ("fwbio.models.spiking", HEAVY - {"brian2"}),
        ("fwbio.analyses.cli", HEAVY),
    ],
)
def test_a_part_loads_without_what_it_does_not_use(module, without):
    block = f"import sys; sys.modules.update(dict.fromkeys({sorted(without)}))"
    python("-c", f"{block}; import {module}")


def test_every_part_is_reached_by_its_name():
    names = "analyses data kernels models program record reference tasks"
    python("-c", f"import fwbio; [getattr(fwbio, name) for name in {names.split()}]")
    with pytest.raises(AttributeError, match="'fwbio' has no attribute 'model'"):
        _ = import_module("fwbio").model


@pytest.mark.parametrize("folder", [name for name in FLOORS if name != "fwbio"])
@pytest.mark.parametrize("statement", ["import {0}", "import {0} as x", "from {0} import x"])
def test_a_folder_s_bare_name_is_no_import(folder, statement):
    """A top-level package of that name would be somebody else's."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "ruff",
            "check",
            "--no-cache",
            "--stdin-filename",
            "models/x.py",
            "-",
        ],
        input=statement.format(folder) + "\n",
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 1
    assert "TID251" in done.stdout
    assert f"the folder {folder}/ is the package fwbio.{folder}" in done.stdout


def test_coverage_measures_every_floor():
    assert set(PROJECT["tool"]["coverage"]["run"]["source"]) == set(FLOORS)


def pins():
    """The pinned versions by name; the lines must all be pins."""
    found = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        pin = Requirement(line)
        (specifier,) = pin.specifier
        assert specifier.operator == "==", line
        assert not re.search(r"[*+]", specifier.version), line
        found.setdefault(canonicalize_name(pin.name), []).append((specifier.version, pin.marker))
    return found


def test_constraints_pin_every_dependency():
    project = PROJECT["project"]
    extras = [text for extra in project["optional-dependencies"].values() for text in extra]
    pinned = pins()
    for text in [*project["dependencies"], *extras, *PROJECT["build-system"]["requires"]]:
        needed = Requirement(text)
        here = [v for v, m in pinned[canonicalize_name(needed.name)] if m is None or m.evaluate()]
        assert len(here) == 1, f"{needed.name} has {len(here)} pins for this Python"
        if needed.marker is None or needed.marker.evaluate():
            assert needed.specifier.contains(here[0]), f"{here[0]} is not {text}"
