"""Standalone programs of Brian2: compiled once, kept, and run again with other numbers.

A program is kept in a folder named by a hash of all that its machine code depends on: its layout,
the text that made it, Brian2, the compiler with its options and the processor. So what one process
built another may run. Each run has a folder of its own for what it is given and what it returns.
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import brian2 as b2
import numpy as np
from brian2.codegen.cpp_prefs import get_compiler_and_args
from brian2.devices.cpp_standalone.device import CPPStandaloneDevice
from brian2.devices.device import reset_device

from fwbio.errors import FwbioError
from fwbio.files import writes_told
from fwbio.models.simulation import clocked, tell_of_compiling

CACHE = "FWBIO_CACHE"
_MANIFEST = "fwbio.json"
# the last argument, taken away before Brian2 reads the others as its variables' values
_SEED = """
if (!args.empty() && args.back().rfind("seed=", 0) == 0) {
    brian::_random_generators[0].seed(std::stoul(args.back().substr(5)));
    args.pop_back();
}
"""
_WITHOUT_COMPILER = 'see that g++ and make are installed, or give engine="cython" or "numpy"'


@dataclass(frozen=True, kw_only=True)
class Made:
    """A network to compile.

    Args:
        network: its Brian2 objects.
        duration: of its run, s.
        variables: those to be given or returned, by "group.name".
    """

    network: b2.Network
    duration: float
    variables: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Project:
    """A compiled program.

    Args:
        folder: where it stands.
        files: file name and dtype of each of its arrays, by "group.name".
    """

    folder: Path
    files: Mapping[str, tuple[str, str]]


def cache_folder() -> Path:
    """Where compiled programs are kept: $FWBIO_CACHE, or .cache/fwbio in the user's home."""
    return Path(os.environ.get(CACHE) or Path.home() / ".cache" / "fwbio").absolute()


def project(
    layout: Mapping[str, Any],
    text: Sequence[ModuleType | str],
    dt: float,
    make: Callable[[], Made],
    *,
    told: str | None = None,
) -> Project:
    """The compiled program of a layout, built if it is not kept yet.

    Args:
        layout: what the program is made for; sizes and numbers that its code holds.
        text: the modules that `make` follows from.
        dt: time step, s.
        make: makes the network; called within Brian2's standalone device.
        told: the name under which to say, on standard error, that it is being built.

    Raises:
        FwbioError: it does not compile, or the cache can't be written.
    """
    folder = cache_folder() / "brian2" / _key(layout, text)
    if not (folder / _MANIFEST).exists():
        if told is not None:
            tell_of_compiling(told, folder.parent)
        _build(folder, dt, make)
    files = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
    return Project(folder=folder, files={name: tuple(file) for name, file in files.items()})


def run(
    built: Project,
    inputs: Mapping[str, np.ndarray],
    outputs: Sequence[str],
    seed: int | None = None,
) -> tuple[list[np.ndarray], float]:
    """Run a compiled program.

    Args:
        built: the program.
        inputs: its variables' initial values and its tables' values, by "group.name".
        outputs: the variables to return.
        seed: of its generator; None: the one that it was made with, if any.

    Returns:
        The outputs, flat, and the seconds that its time steps took.

    Raises:
        FwbioError: the program failed.
    """
    with tempfile.TemporaryDirectory(prefix="fwbio-") as own:
        folder = Path(own)
        given = []
        for number, (name, values) in enumerate(inputs.items()):
            file = folder / f"input_{number}"
            np.ascontiguousarray(values).tofile(file)
            given.append(f"{name}={file}")
        if seed is not None:
            given.append(f"seed={seed}")
        done = subprocess.run(  # noqa: S603
            [str(built.folder / "main"), "--results_dir", f"{folder}/", *given],
            cwd=built.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode or done.stderr.strip():
            told = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[0]
            raise FwbioError(
                f"the standalone program failed: {told}",
                where=str(built.folder),
                mend="delete that folder to have it built again",
            )
        files = (built.files[name] for name in outputs)
        found = [np.fromfile(folder / name, dtype=dtype) for name, dtype in files]
        seconds = float((folder / "last_run_info.txt").read_text(encoding="utf-8").split()[0])
    return found, seconds


def _build(folder: Path, dt: float, make: Callable[[], Made]) -> None:
    with writes_told(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    device = CPPStandaloneDevice()
    b2.set_device(device, build_on_run=False)
    try:
        with clocked(dt):
            device.insert_code("after_start", _SEED)
            made = make()
            made.network.run(made.duration * b2.second, namespace={})
            device.build(directory=str(aside), run=False, with_output=False)
        files = {
            name: (device.get_array_filename(variable), np.dtype(variable.dtype).str)
            for name, variable in made.variables.items()
        }
        (aside / _MANIFEST).write_text(json.dumps(files), encoding="utf-8")
        for left in (*aside.glob("**/*.o"), *aside.glob("**/*.lock")):
            left.unlink()
        _settle(aside, folder)
    except RuntimeError as error:
        raise FwbioError(
            f"the standalone program does not compile ({str(error).splitlines()[0]})",
            where="engine cpp_standalone",
            mend=_WITHOUT_COMPILER,
        ) from error
    finally:
        reset_device()
        shutil.rmtree(aside, ignore_errors=True)


def _settle(aside: Path, folder: Path) -> None:
    """Give a new program its place, unless another process was quicker."""
    try:
        aside.rename(folder)
    except OSError:
        if not (folder / _MANIFEST).exists():
            raise


def _key(layout: Mapping[str, Any], text: Sequence[ModuleType | str]) -> str:
    sources = [
        Path(str((sys.modules[module] if isinstance(module, str) else module).__file__)).read_text(
            encoding="utf-8"
        )
        for module in (*text, __name__)
    ]
    parts = json.dumps([dict(layout), sources, _machine()], sort_keys=True)
    return hashlib.sha256(parts.encode()).hexdigest()[:24]


@cache
def _machine() -> list[Any]:
    """What machine code depends on beside its source."""
    compiler, options = get_compiler_and_args()
    found = shutil.which((os.environ.get("CXX") or "g++").split()[0])
    if found is None:
        raise FwbioError(
            "there is no C++ compiler", where="engine cpp_standalone", mend=_WITHOUT_COMPILER
        )
    told = subprocess.run([found, "--version"], capture_output=True, text=True, check=False)  # noqa: S603
    listed = Path("/proc/cpuinfo")
    flags = [
        line
        for line in (listed.read_text(encoding="utf-8").splitlines() if listed.exists() else ())
        if line.startswith(("flags", "Features", "model name"))
    ]
    return [b2.__version__, compiler, options, told.stdout, platform.platform(), sorted(set(flags))]
