"""The house as its files stand: five floors, lowest first, and wings, as one package."""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FLOORS = {
    "data": "fwbio.data",
    "fwbio": "fwbio",
    "kernels": "fwbio.kernels",
    "models": "fwbio.models",
    "analyses": "fwbio.analyses",
}
WINGS = {
    "models/networks": "fwbio.models.networks",
    "analyses/benchmarks": "fwbio.analyses.benchmarks",
    "analyses/identification": "fwbio.analyses.identification",
    "analyses/report": "fwbio.analyses.report",
    "analyses/reproductions": "fwbio.analyses.reproductions",
}


NOT_INSTALLED = {"__pycache__", "notebooks", "examples", "results"}


def files(folder):
    """What a folder of the house installs: not what is read and run beside it, nor its results."""
    return sorted(
        path
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and not NOT_INSTALLED & set(path.parts)
    )


def installed_name(path):
    """Where a file of the tree lies once it is installed."""
    folder, *rest = path.relative_to(ROOT).parts
    return "/".join([*FLOORS[folder].split("."), *rest])


def module_name(path):
    return installed_name(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")


MODULES = {
    module_name(path): path
    for folder in FLOORS
    for path in files(folder)
    if path.suffix == ".py" and path.stem != "__main__"
}


def python(*arguments, **options):
    """Run Python elsewhere; what it prints, or a failure that shows what it complained of."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
