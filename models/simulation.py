"""What both synaptic models need of Brian2: one run, conducted phase by phase, leaving no trace."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from math import gcd, isclose

import brian2 as b2
import numpy as np
from tqdm import tqdm

from fwbio.errors import FwbioError, unknown_name
from fwbio.models.presentations import Phase

ENGINES = ("cython", "numpy")


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
    target, state, step = b2.prefs.codegen.target, np.random.get_state(), b2.defaultclock.dt  # noqa: NPY002
    b2.prefs.codegen.target = name
    b2.defaultclock.dt = dt * b2.second
    b2.seed(seed)
    try:
        yield
    finally:
        b2.prefs.codegen.target = target
        b2.defaultclock.dt = step
        np.random.set_state(state)  # noqa: NPY002


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
    lengths = [_steps(phase, dt) for phase in phases]
    unit = reduce(gcd, lengths)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]) // unit
    turns = {int(start): i for i, start in enumerate(starts)}
    ticks = iter(range(sum(lengths) // unit))

    with tqdm(total=len(phases), desc=title, disable=not progress, leave=False) as bar:

        def turn() -> None:
            at = turns.get(next(ticks))
            if at is None:
                return
            if at > 0:
                leave(phases[at - 1])
                bar.update()
            enter(phases[at])

        conductor = b2.NetworkOperation(turn, dt=unit * dt * b2.second, when="start", order=-1)
        b2.Network(*parts, conductor).run(sum(lengths) * dt * b2.second, namespace={})
        leave(phases[-1])


def _steps(phase: Phase, dt: float) -> int:
    steps = round(phase.duration / dt)
    if steps < 1 or not isclose(steps * dt, phase.duration, rel_tol=1e-6):
        raise FwbioError(
            f"a phase of {phase.duration:g} s is not a whole number of steps of {dt:g} s",
            where=phase.kind,
            mend="choose durations that are multiples of dt",
        )
    return steps
