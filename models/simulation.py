"""What synaptic models need of Brian2: one run, conducted phase by phase, leaving no trace."""

import itertools
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import isclose
from pathlib import Path
from typing import Any

import brian2 as b2
import numpy as np
from brian2.codegen.runtime.cython_rt import extension_manager
from brian2.devices.device import reset_device
from tqdm import tqdm

from fwbio.errors import FwbioError, unknown_name
from fwbio.models.presentations import Phase
from fwbio.normal_form import NormalForm

ENGINES = ("cython", "numpy")


class RecordingWarning(UserWarning):
    """A run is about to hold more recorded numbers than it was told it may."""


def warn_of_recording(size: float, bound: float, where: str) -> None:
    """Warn, before a run, of recorded numbers that take more memory than they may.

    Args:
        size: bytes that they will take.
        bound: bytes that they may take.
        where: what records them.

    Warns:
        RecordingWarning: size > bound.
    """
    if size > bound:
        told = (
            f"{where}: recording will take {size:.3g} bytes, above record_bound = {bound:.3g};"
            ' keep fewer snapshots (weights="last" or every n-th step), or raise record_bound'
        )
        warnings.warn(told, RecordingWarning, stacklevel=4)


def weight_scale(form: NormalForm, initial: np.ndarray) -> float:
    """The largest weight that the writes alone would add up to if they were independent.

        max_ij sqrt(sum_t (k_ti u_tj)^2)  or, if it is larger, the largest |initial| weight

    Args:
        form: (n, time, channel).
        initial: weights before the first step, (n, row, column).

    Returns:
        1 where nothing is ever written.
    """
    independent = np.sqrt(np.einsum("ntk,ntv->nkv", form.key**2, form.write**2)).max(initial=0)
    return float(max(independent, np.abs(initial).max(initial=0)) or 1.0)


def dense(trials: int, pre: int, post: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices (i, j) that connect all pre to all post cells of each trial, trial by trial."""
    trial, i, j = np.indices((trials, pre, post)).reshape(3, -1)
    return trial * pre + i, trial * post + j


@contextmanager
def engine(name: str, dt: float, seed: int) -> Iterator[None]:
    """Brian2's target, clock and seed for one run; NumPy's own generator is left as it was.

    Raises:
        FwbioError: there is no such engine.
    """
    if name not in ENGINES:
        raise unknown_name(name, ENGINES, kind="engine", where="engine")
    target, state = b2.prefs.codegen.target, np.random.get_state()  # noqa: NPY002
    b2.set_device("runtime")
    b2.prefs.codegen.target = name
    b2.seed(seed)
    try:
        with clocked(dt):
            yield
    finally:
        reset_device()
        b2.prefs.codegen.target = target
        np.random.set_state(state)  # noqa: NPY002


@contextmanager
def clocked(dt: float) -> Iterator[None]:
    """The time step of the current device's clock, s, for one run."""
    step = b2.defaultclock.dt
    b2.defaultclock.dt = dt * b2.second
    try:
        yield
    finally:
        b2.defaultclock.dt = step


def tell_of_compiling(title: str, folder: Path | str) -> None:
    """Say, on standard error, why nothing moves for a while, and that it will not be so again.

    Args:
        title: what is compiled.
        folder: where it is kept.
    """
    told = f"{title}: compiling, which may take a minute; it is kept for next time in {folder}"
    tqdm.write(told, file=sys.stderr)


@contextmanager
def compiling_told(title: str, *, progress: bool) -> Iterator[None]:
    """Say once if Brian2 compiles by Cython in here, before it does.

    Args:
        title: what is compiled.
        progress: whether to say it.
    """
    manager = extension_manager.cython_extension_manager
    load = getattr(manager, "_load_module", None)  # Brian2 has no public word of it
    if not progress or load is None:
        yield
        return
    told = False

    def watched(module_path: str, *args: Any, **named: Any) -> Any:
        nonlocal told
        if not told and not Path(module_path).is_file():
            tell_of_compiling(title, extension_manager.get_cython_cache_dir())
            told = True
        return load(module_path, *args, **named)

    manager._load_module = watched
    try:
        yield
    finally:
        manager._load_module = load


def conduct(
    parts: Sequence[object],
    phases: Sequence[Phase],
    *,
    dt: float,
    enter: Callable[[Phase], None],
    leave: Callable[[Phase], None],
    progress: bool,
    title: str,
) -> None:
    """Run Brian2 objects through the phases in one go.

    Args:
        parts: the groups, synapses and monitors of the network.
        phases: in order of time, without holes.
        dt: the simulation's time step, s; every phase lasts a whole number of them.
        enter: sets what drives the network, at the start of each phase.
        leave: reads what the network did, at the end of each phase.
        progress: whether to show a bar.
        title: the bar's name.

    Raises:
        FwbioError: a phase does not last a whole number of time steps.
    """
    if not phases:
        return
    lengths = np.array([steps_of(phase, dt) for phase in phases])
    turns = dict(zip((np.cumsum(lengths) - lengths).tolist(), range(len(phases)), strict=True))
    steps = itertools.count()

    with tqdm(total=len(phases), desc=title, disable=not progress, leave=False) as bar:

        def turn() -> None:
            at = turns.get(next(steps))
            if at is None:
                return
            if at > 0:
                leave(phases[at - 1])
                bar.update()
            enter(phases[at])

        # on the network's own clock, since Brian2 is slower with two of them
        conductor = b2.NetworkOperation(turn, when="start", order=-1)
        with compiling_told(title, progress=progress):
            b2.Network(*parts, conductor).run(int(lengths.sum()) * dt * b2.second, namespace={})
        leave(phases[-1])


def steps_of(phase: Phase, dt: float) -> int:
    """How many time steps a phase lasts.

    Raises:
        FwbioError: it is not a whole number.
    """
    steps = round(phase.duration / dt)
    if steps < 1 or not isclose(steps * dt, phase.duration, rel_tol=1e-6):
        raise FwbioError(
            f"a phase of {phase.duration:g} s is not a whole number of steps of {dt:g} s",
            where=phase.kind,
            mend="choose durations that are multiples of dt",
        )
    return steps
