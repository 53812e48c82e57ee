"""The flow map of synapses whose prediction lags behind them, in the simulation's own steps.

A presentation of the key k moves the projections m = W^T k, the conductance g of the dendrite's
AMPA receptors and the prediction a. In the mean over spikes, step by step, once calcium is above
theta_d,

    m <- m + r (s - a),   a <- g + (a - g) exp(-dt / tau_membrane),
    g <- g exp(-dt / tau_ampa) + m (1 - exp(-dt / tau_ampa)),   r = plasticity |k|^2 dt

with s the teaching trace. All of it is linear, and a Poisson spike does not depend on what came
before it, so that the means obey it exactly. The plasticity rate is the one that leaves 1 - k.p of
m; the teaching input follows.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from fwbio.errors import FwbioError
from fwbio.models.cells import SpikingModel
from fwbio.models.presentations import Phase, Plan
from fwbio.normal_form import NormalForm

# components of the state; the last two are teaching traces: what is left of one, and a steady one
_M, _A, _G, _REMAINS, _STEADY = range(5)


def compensated(course: Plan, form: NormalForm, model: SpikingModel) -> Plan:
    """A plan of presentations that carries out a rule's gates in spite of the dendrite's lag.

    Exact in the mean over spikes but for conductances at a bound, for erasures above
    `model.erase_limit`, and for what a gap leaves of the prediction of the cue before it.

    Args:
        course: as `fwbio.models.presentations.plan` makes it for a prediction without lag.
        form: the operands it was made for, n trials, T writes; no erase, or p in proportion to k.
        model: parameters.

    Returns:
        The plan with `plasticity` (n, T), 1/s, `teach` (n, T, column) and `clipped` replaced.

    Raises:
        FwbioError: calcium passes theta_d too late for a presentation to have a plastic step.
    """
    on = course.plasticity > 0
    overlap = None if form.erase is None else (form.erase * form.key).sum(-1)
    squared = np.where(on, (form.key**2).sum(-1), 1.0)
    rate, remains, steady = _gains(on, overlap, squared, _closed(course, on, model), model)
    teach = np.zeros_like(course.teach)
    trace = np.zeros((on.shape[0], teach.shape[-1]))
    for phase, fade in _fading(course, model):
        if phase is None:
            trace = trace * fade
            continue
        t, here = phase.write, on[:, phase.write]
        wanted = squared[here, t, None] * form.write[here, t]
        left = trace[here] * remains[here, t, None]
        teach[here, t] = (wanted - left) / (steady - remains)[here, t, None]
        trace = teach[:, t] + (trace - teach[:, t]) * fade
    return replace(
        course,
        plasticity=rate / (squared * model.dt),
        teach=teach,
        clipped=0 if overlap is None else int((overlap > model.erase_limit + 1e-9).sum()),
    )


def _fading(course: Plan, model: SpikingModel) -> Iterator[tuple[Phase | None, float]]:
    """Each phase, where it is a write, and what it leaves of an NMDA trace."""
    for phase in course.phases:
        written = phase if phase.kind == "write" else None
        yield written, float(np.exp(-phase.duration / model.tau_nmda_decay))


def _closed(course: Plan, on: np.ndarray, model: SpikingModel) -> np.ndarray:
    """Steps of each write before it is plastic: the first never is, its calcium not yet read."""
    closed = np.zeros(on.shape, int)
    calcium = np.zeros(len(on))
    steps = round(model.write / model.dt)
    for phase, fade in _fading(course, model):
        if phase is None:
            calcium = calcium * fade
            continue
        taught = on[:, phase.write]
        rise = np.log((1 - calcium) / (1 - model.theta_d)) * model.tau_nmda_decay / model.dt
        closed[:, phase.write] = np.maximum(np.floor(rise) + 1, 1)
        calcium = taught + (calcium - taught) * fade
    if (closed[on] >= steps).any():
        raise FwbioError(
            f"theta_d = {model.theta_d:g} leaves no plastic step in {model.write:g} s",
            where="spiking substrate",
            mend="lower theta_d or lengthen write",
        )
    return closed


def _gains(
    on: np.ndarray,
    overlap: np.ndarray | None,
    squared: np.ndarray,
    closed: np.ndarray,
    model: SpikingModel,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """r, and what m gains of a unit of the remaining trace and of a steady one, (n, T) each."""
    r, remains, steady = np.zeros(on.shape), np.zeros(on.shape), np.ones(on.shape)
    for count in np.unique(closed[on]):
        here = on & (closed == count)
        if overlap is None:
            # linear in r, which is free: such that a steady input is what it writes
            flow = _flow(np.ones(1), count, model, corrects=False)
            flow = np.repeat(flow, here.sum(), 0)
            r[here] = squared[here] / (flow[:, _M, _STEADY] - flow[:, _M, _REMAINS])
            flow = flow * r[here][:, None, None]
        else:
            # a write too weak to be told from none still has a rate
            shares = np.clip(overlap[here], 1e-9, model.erase_limit)
            shares, which = np.unique(shares, return_inverse=True)
            rates = _erasing(shares, count, model)
            flow = _flow(rates, count, model, corrects=True)[which]
            r[here] = rates[which]
        remains[here], steady[here] = flow[:, _M, _REMAINS], flow[:, _M, _STEADY]
    return r, remains, steady


def _erasing(shares: np.ndarray, closed: int, model: SpikingModel) -> np.ndarray:
    """The least r that erase these shares of m, (n,), by bisection."""

    def erased(r: np.ndarray) -> np.ndarray:
        return 1 - _flow(r, closed, model, corrects=True)[:, _M, _M]

    low = shares / (round(model.write / model.dt) - closed)
    high = low.copy()
    while (short := erased(high) < shares).any():
        low = np.where(short, high, low)
        high = np.where(short, 1.2 * high, high)
    for _ in range(40):
        middle = (low + high) / 2
        short = erased(middle) < shares
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    return high


def _flow(r: np.ndarray, closed: int, model: SpikingModel, *, corrects: bool) -> np.ndarray:
    """What a write makes of the state, (n, 5, 5), with r (n,) once it is plastic."""
    lag, closing, fading = (
        float(np.exp(-model.dt / tau))
        for tau in (model.tau_membrane, model.tau_ampa, model.tau_nmda_decay)
    )
    step = np.zeros((len(r), 5, 5))
    step[:, _M, _M] = step[:, _STEADY, _STEADY] = 1.0
    step[:, _A, _A], step[:, _A, _G] = lag, 1 - lag
    step[:, _G, _G], step[:, _G, _M] = closing, 1 - closing
    step[:, _REMAINS, _REMAINS] = fading
    silent = np.linalg.matrix_power(step[0], int(closed))
    step[:, _M, _A] = -r * corrects
    step[:, _M, _REMAINS] = step[:, _M, _STEADY] = r
    return np.linalg.matrix_power(step, round(model.write / model.dt) - int(closed)) @ silent
