"""What a dense plastic network goes through, as tables that every engine can read."""

from dataclasses import dataclass
from functools import reduce
from math import gcd

import numpy as np

NONE = -1  # of a phase that has no slot of a kind


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The phases of a network of n trials, P phases; a slot is where a phase's results go.

    In each time step of a phase, in this order,

        a_j = sum_i rate_i w_ij
        w_ij <- clip(keep_i w_ij + dt drive_i (s_j - a_j), -bound, bound)
        s_j <- teach_j + (s_j - teach_j) exp(-dt / tau)

    and at its end, where it has a slot of the kind,

        w <- clip(factor w + shift, -bound, bound)                          turns
        w <- quantum floor((w + bound) / quantum + chance) - bound          rounds
        read-outs are a of the last step                                    reads
        weights are kept                                                    keeps

    Args:
        dt: time step, s.
        tau: decay of the trace s, s.
        steps: time steps of each phase, (P,).
        rate: presynaptic rates that read the weights, (P, n, row).
        drive: presynaptic rates times plasticity, 1/s, (P, n, row).
        keep: share of a weight that a time step leaves, (P, n, row).
        teach: what the trace relaxes to, (P, n, column).
        turns, rounds, reads, keeps: slots of each phase or `NONE`, (P,).
        factor, shift: (slot, n, column, row).
        chance: uniform random numbers from 0 to 1, (slot, n, column, row).
        bound: largest |w|.
        quantum: what one receptor adds to w; unused without a slot of `rounds`.
    """

    dt: float
    tau: float
    steps: np.ndarray
    rate: np.ndarray
    drive: np.ndarray
    keep: np.ndarray
    teach: np.ndarray
    turns: np.ndarray
    rounds: np.ndarray
    reads: np.ndarray
    keeps: np.ndarray
    factor: np.ndarray
    shift: np.ndarray
    chance: np.ndarray
    bound: float = np.inf
    quantum: float = 1.0

    @property
    def shape(self) -> tuple[int, int, int]:
        """Trials, rows and columns."""
        return (*self.rate.shape[1:], self.teach.shape[-1])

    @property
    def unit(self) -> int:
        """The most time steps of which every phase is a whole number."""
        return int(reduce(gcd, self.steps.tolist()))

    def phases(self) -> np.ndarray:
        """The phase of each unit of time; a last one, past the end, is number P."""
        return np.append(
            np.repeat(np.arange(len(self.steps)), self.steps // self.unit), len(self.steps)
        )


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a network hands back.

    Args:
        readout: (slot, n, column).
        weights: (slot, n, column, row).
        run_s: seconds that stepping took.
        compile_s: seconds before it: the network's making, and the compiler where it ran.
    """

    readout: np.ndarray
    weights: np.ndarray
    run_s: float
    compile_s: float


def slots(chosen: np.ndarray) -> np.ndarray:
    """Slots 0, 1, .. for the phases that are chosen (P,), `NONE` for the others."""
    return np.where(chosen, np.cumsum(chosen) - 1, NONE)
