"""How time and memory grow with the number of steps and of trials, and by which exponent."""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fwbio.analyses.benchmarks.measure import (
    QUICK,
    Effort,
    operands,
    peak_bytes,
    prepared,
    threads_set,
    timed,
)
from fwbio.analyses.benchmarks.peers import ours
from fwbio.analyses.benchmarks.rows import LINEAR, Direction, Row
from fwbio.errors import FwbioError

Axis = Literal["T", "B"]

STEPS = tuple(2**n for n in range(8, 17))
QUICK_STEPS = (64, 128, 256, 512)
TRIALS = tuple(4**n for n in range(7))
LONGEST = 0.5  # seconds of a run, after which a sweep goes to no larger size
EFFORT = Effort(seconds=1.0, least=3, most=15)


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A rule measured over sizes of one axis, on the CPU.

    Args:
        rule: its name.
        axis: "T", steps (of B 1, H 4, K = V = 64), or "B", trials (of T 64, H 1, K = V = 32).
        direction: "forward" or "forward+backward".
        backends: those measured, unless others are asked for.
    """

    rule: str
    axis: Axis
    direction: Direction
    backends: tuple[str, ...] = ("chunked",)

    def sizes(self, *, quick: bool = False) -> tuple[int, ...]:
        """The sizes of the axis; if it is to be quick, four small ones."""
        if quick:
            return QUICK_STEPS if self.axis == "T" else TRIALS[:4]
        return STEPS if self.axis == "T" else TRIALS

    def row(self, size: int) -> Row:
        """The row of one size."""
        shape: dict[str, Any] = (
            {"B": 1, "T": size, "H": 4, "K": 64, "V": 64}
            if self.axis == "T"
            else {"B": size, "T": 64, "H": 1, "K": 32, "V": 32}
        )
        return Row(rule=self.rule, direction=self.direction, dtype="float32", **shape)


BOTH = ("recurrent", "chunked")
SWEEPS = (
    *(Sweep(rule=rule, axis="T", direction="forward") for rule in LINEAR),
    *(Sweep(rule=rule, axis="B", direction="forward") for rule in LINEAR),
    Sweep(rule="gated_delta", axis="T", direction="forward+backward", backends=BOTH),
    Sweep(rule="gated_delta", axis="B", direction="forward+backward", backends=BOTH),
)


def measure(
    sweep: Sweep, backend: str, size: int, *, threads: int, seed: int, quick: bool
) -> dict[str, Any]:
    """Time and memory of one backend at one size, as a row of a table.

    Memory is what the pass takes beyond its inputs and its results: read-outs and, of a backward,
    gradients.

    Raises:
        FwbioError: the backend does not run it.
    """
    row = dataclasses.replace(sweep.row(size), H=1, K=16, V=16) if quick else sweep.row(size)
    tensors, cotangent = operands(row, seed)
    call, _ = prepared(ours(row.rule, backend, row), row, tensors, cotangent)
    with threads_set(threads):
        results = sum(x.nbytes for x in call())
        memory = peak_bytes(call, row.device) - results
    effort = QUICK if quick else EFFORT
    timing = timed({"run": call}, threads=threads, effort=effort)["run"]
    return {
        **dataclasses.asdict(row),
        "axis": sweep.axis,
        "size": size,
        "backend": backend,
        "seconds": timing.median,
        "seconds_iqr": timing.iqr,
        "blocks": timing.blocks,
        "extra_bytes": memory,
    }


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> tuple[float, float]:
    """The exponent a of cost = c size^a and its standard error, by least squares of logarithms.

    >>> a, error = exponent([1, 2, 4, 8], [3, 12, 48, 192])
    >>> round(a, 9), round(error, 9)
    (2.0, 0.0)

    Raises:
        FwbioError: there are fewer than three sizes, or something is not positive.
    """
    from scipy.stats import linregress

    x, y = np.asarray(sizes, float), np.asarray(costs, float)
    if len(x) < 3 or not (x > 0).all() or not (y > 0).all():
        raise FwbioError(
            "an exponent with its error needs three positive sizes and costs",
            where="exponent",
            mend="measure more sizes",
        )
    if np.ptp(y) == 0:
        return 0.0, 0.0  # of which the correlation, and with it the error, is undefined
    fit = linregress(np.log(x), np.log(y))
    return float(fit.slope), float(fit.stderr)


def fits(points: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The exponents of time and memory of each sweep, fitted to the larger half of its sizes.

    At the smaller sizes the cost of calling anything at all shows, which grows with nothing.
    """
    series: dict[tuple[str, str, str, str], list[dict[str, Any]]] = {}
    for point in points:
        key = (point["rule"], point["backend"], point["axis"], point["direction"])
        series.setdefault(key, []).append(point)
    found = []
    for (rule, backend, axis, direction), members in series.items():
        ordered = sorted(members, key=lambda point: point["size"])
        upper = ordered[-max(3, -(-len(ordered) // 2)) :]
        for quantity in ("seconds", "extra_bytes"):
            if len(upper) < 3 or any(point[quantity] <= 0 for point in upper):
                continue
            sizes = [point["size"] for point in upper]
            slope, error = exponent(sizes, [point[quantity] for point in upper])
            found.append(
                {
                    "rule": rule,
                    "backend": backend,
                    "axis": axis,
                    "direction": direction,
                    "quantity": quantity,
                    "exponent": slope,
                    "standard_error": error,
                    "from": sizes[0],
                    "to": sizes[-1],
                    "points": len(sizes),
                }
            )
    return found
