"""The wheel: five folders as one package, nothing left out and nothing beside it."""

import os
import shutil
import sys
import zipfile
from configparser import ConfigParser

import pytest
from house import FLOORS, MODULES, PROJECT, ROOT, WINGS, files, installed_name, python

SETUPTOOLS = PROJECT["tool"]["setuptools"]
PIP = ("-m", "pip", "--disable-pip-version-check", "--quiet")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, so that an old build folder has no part in it."""
    copy = tmp_path_factory.mktemp("source")
    for folder in FLOORS:
        shutil.copytree(
            ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__", "notebooks")
        )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    python(*PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", copy / "dist", copy)
    (built,) = (copy / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The wheel alone in a folder; how to run Python with it, outside the checkout."""
    target = tmp_path_factory.mktemp("installed")
    python(*PIP, "install", "--no-deps", "--no-index", "--target", target, wheel)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    env = os.environ | {"PYTHONPATH": str(target), "OMP_NUM_THREADS": "1"}
    return target, {"cwd": elsewhere, "env": env}


def test_the_packages_are_the_folders():
    assert SETUPTOOLS["packages"] == list(dict.fromkeys(SETUPTOOLS["packages"]))
    folders = FLOORS | WINGS
    assert SETUPTOOLS["package-dir"] == {package: folder for folder, package in folders.items()}
    assert {path.parent.name for path in ROOT.glob("*/__init__.py")} == set(FLOORS)


def test_every_folder_with_code_is_a_listed_package():
    """A folder missing from the list is silently left out of the wheel."""
    with_code = {
        installed_name(path.parent).replace("/", ".")
        for folder in FLOORS
        for path in files(folder)
        if path.suffix == ".py"
    }
    assert with_code == set(SETUPTOOLS["packages"])
    with_init = {name for name, path in MODULES.items() if path.name == "__init__.py"}
    assert with_init == with_code


def test_no_folder_stands_where_a_package_is_mapped():
    for folder in FLOORS:
        assert not (ROOT / "fwbio" / folder).exists()


def test_tests_are_no_package():
    assert not (ROOT / "tests" / "__init__.py").exists()
    options = PROJECT["tool"]["pytest"]["ini_options"]
    assert "--import-mode=importlib" in options["addopts"].split()


def test_the_wheel_holds_every_file_of_the_house(wheel):
    packed = set(zipfile.ZipFile(wheel).namelist())
    assert {installed_name(path) for folder in FLOORS for path in files(folder)} <= packed


def test_the_wheel_installs_one_name(wheel):
    packed = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in packed} == {"fwbio"}
    assert not any("test" in name or "__pycache__" in name for name in packed)


def test_the_wheel_offers_the_command(wheel):
    with zipfile.ZipFile(wheel) as packed:
        (name,) = (n for n in packed.namelist() if n.endswith("entry_points.txt"))
        entry_points = ConfigParser()
        entry_points.read_string(packed.read(name).decode())
    assert dict(entry_points["console_scripts"]) == {"fwbio": "fwbio.analyses.cli:main"}


def test_every_module_is_imported_from_the_wheel_alone(installed):
    target, options = installed
    code = f"""
from importlib import import_module
from pathlib import Path
for name in {sorted(MODULES)}:
    origin = import_module(name).__file__
    assert Path(origin).is_relative_to({str(target)!r}), origin
"""
    python("-c", code, **options)


def test_the_command_runs_from_the_wheel(installed):
    _, options = installed
    choice = ("--pairs", "5", "--substrates", "reference", "--programmers", "designed")
    python("-m", "fwbio.analyses.cli", "compare", *choice, "--out", "out", **options)
    out = options["cwd"] / "out"
    assert {path.name for path in out.iterdir()} == {
        "comparison.nc",
        "summary.csv",
        "report.html",
        "figures",
    }
    header, *rows = (out / "summary.csv").read_text(encoding="utf-8").splitlines()
    assert header == "programmer,substrate,rule,task,pairs,noise,seed,metric,value"
    assert rows
    assert list((out / "figures").glob("*.png"))


@pytest.mark.skipif(sys.platform == "win32", reason="scripts are laid out otherwise there")
def test_the_installed_script_is_the_command(installed):
    target, options = installed
    assert "fwbio" in python(target / "bin" / "fwbio", "--version", **options)
