"""The inner loops of a dense plastic network, for each of Brian2's targets.

A column's prediction, its weights' update and their bound are one pass over its weights, which lie
side by side; Brian2's own loop over synapses passes twice, by indices. C++ serves the compiled
targets, NumPy the interpreted one.
"""

from collections.abc import Mapping

import brian2 as b2
import numpy as np
from brian2.core.variables import ArrayVariable

from fwbio.models.compiled import Compiled

_CPP = """
static inline double fwbio_within(double x, double bound)
{
    return x > bound ? bound : (x < -bound ? -bound : x);
}

// One time step of one column; returns its prediction.
static inline double fwbio_advance(
    int rows, int columns, int cell, double trace, double bound,
    double* __restrict weights, const double* __restrict rates,
    const double* __restrict drives, const double* __restrict keeps)
{
    const size_t size = rows, first = (size_t)(cell / columns) * size;
    double* __restrict w = weights + (size_t)cell * size;
    const double* __restrict rate = rates + first;
    const double* __restrict drive = drives + first;
    const double* __restrict keep = keeps + first;
    enum { LANES = 16 };  // independent sums, so that additions need not wait for each other
    double sums[LANES] = {0};
    size_t i = 0;  // an int that may wrap (Python's -fwrapv) would take twice the time
    for (; i + LANES <= size; i += LANES)
        for (size_t lane = 0; lane < LANES; lane++)
            sums[lane] += rate[i + lane] * w[i + lane];
    double prediction = 0;
    for (; i < size; i++)
        prediction += rate[i] * w[i];
    for (size_t lane = 0; lane < LANES; lane++)
        prediction += sums[lane];
    const double error = trace - prediction;
    if (std::isinf(bound))
        for (i = 0; i < size; i++)
            w[i] = keep[i] * w[i] + drive[i] * error;
    else
        for (i = 0; i < size; i++)
            w[i] = fwbio_within(keep[i] * w[i] + drive[i] * error, bound);
    return prediction;
}

// What the end of a phase does; returns the next phase.
static int fwbio_leave(
    int cells, int synapses, int phase, int next, double bound, double quantum,
    double* weights, const double* predictions,
    const int32_t* turns, const int32_t* rounds, const int32_t* reads, const int32_t* keeps,
    const double* factors, const double* shifts, const double* chances,
    double* readouts, double* snapshots)
{
    if (next == phase)
        return next;
    if (turns[phase] >= 0) {
        const double* factor = factors + (size_t)turns[phase] * synapses;
        const double* shift = shifts + (size_t)turns[phase] * synapses;
        for (int k = 0; k < synapses; k++)
            weights[k] = fwbio_within(factor[k] * weights[k] + shift[k], bound);
    }
    if (rounds[phase] >= 0) {
        const double* chance = chances + (size_t)rounds[phase] * synapses;
        for (int k = 0; k < synapses; k++)
            weights[k] = fwbio_within(
                quantum * std::floor((weights[k] + bound) / quantum + chance[k]) - bound, bound);
    }
    if (reads[phase] >= 0)
        for (int k = 0; k < cells; k++)
            readouts[(size_t)reads[phase] * cells + k] = predictions[k];
    if (keeps[phase] >= 0)
        for (int k = 0; k < synapses; k++)
            snapshots[(size_t)keeps[phase] * synapses + k] = weights[k];
    return next;
}
"""
_ADVANCE = (("int", "cell"), ("double", "trace"), ("double", "bound"))
_LEAVE = (("int", "phase"), ("int", "next"), ("double", "bound"), ("double", "quantum"))
ADVANCE_ARRAYS = ("weights", "rate", "drive", "keep")
LEAVE_ARRAYS = (
    *("weights", "prediction"),
    *("turns", "rounds", "reads", "keeps"),
    *("factor", "shift", "chance", "readouts", "snapshots"),
)


def functions(
    shape: tuple[int, int, int], arrays: Mapping[str, ArrayVariable]
) -> dict[str, b2.Function]:
    """`advance` and `leave`, as Brian2's code calls them.

    Args:
        shape: of the network: trials, rows, columns. A standalone program holds it in its code.
        arrays: the variables that they read and write, by the names of `LEAVE_ARRAYS` and
            `ADVANCE_ARRAYS`.
    """
    n, rows, columns = shape
    advance = Compiled(
        name="advance",
        returns="double",
        arguments=_ADVANCE,
        arrays=ADVANCE_ARRAYS,
        source=_CPP,
        guard="FWBIO_DENSE",
        plain=_advance,
    )
    leave = Compiled(
        name="leave",
        returns="int",
        arguments=_LEAVE,
        arrays=LEAVE_ARRAYS,
        source=_CPP,
        guard="FWBIO_DENSE",
        plain=_leave,
    )
    return {
        "advance": advance.of((rows, columns), arrays),
        "leave": leave.of((n * columns, n * columns * rows), arrays),
    }


def _advance(
    rows: int,
    columns: int,
    cell: np.ndarray,
    trace: np.ndarray,
    bound: float,
    weights: np.ndarray,
    rate: np.ndarray,
    drive: np.ndarray,
    keep: np.ndarray,
) -> np.ndarray:
    w = weights.reshape(-1, columns, rows)
    rate, drive, keep = (x.reshape(len(w), 1, -1) for x in (rate, drive, keep))
    prediction = (w * rate).sum(-1)
    error = np.reshape(trace, prediction.shape) - prediction
    w *= keep
    w += drive * error[..., None]
    if bound < np.inf:
        np.clip(w, -bound, bound, out=w)
    return prediction.ravel()


def _leave(
    cells: int,
    synapses: int,
    phase: np.ndarray,
    following: np.ndarray,
    bound: float,
    quantum: float,
    weights: np.ndarray,
    prediction: np.ndarray,
    turns: np.ndarray,
    rounds: np.ndarray,
    reads: np.ndarray,
    keeps: np.ndarray,
    factor: np.ndarray,
    shift: np.ndarray,
    chance: np.ndarray,
    readouts: np.ndarray,
    snapshots: np.ndarray,
) -> np.ndarray:
    now = int(np.ravel(phase)[0])
    if now == int(np.ravel(following)[0]):
        return following
    if (at := turns[now]) >= 0:
        weights *= factor.reshape(-1, synapses)[at]
        weights += shift.reshape(-1, synapses)[at]
        np.clip(weights, -bound, bound, out=weights)
    if (at := rounds[now]) >= 0:
        levels = (weights + bound) / quantum + chance.reshape(-1, synapses)[at]
        np.clip(quantum * np.floor(levels) - bound, -bound, bound, out=weights)
    if (at := reads[now]) >= 0:
        readouts.reshape(-1, cells)[at] = prediction
    if (at := keeps[now]) >= 0:
        snapshots.reshape(-1, synapses)[at] = weights
    return following
