"""The laws of forgetting on arrays: least squares, and how far each parameter may be off.

    exponential   a e^(-rate x) [+ c]            power   a (1 + x)^-b [+ c]

x counts steps of the axis. Both are linear in a and c, so that a law has one shape parameter, its
rate or b, 0 where nothing is forgotten; for each shape the best a and c are a linear problem.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq, least_squares, minimize_scalar
from scipy.stats import chi2, t

LEVEL = 0.95
_GRID = np.geomspace(1e-3, 30, 60)  # shapes tried first, in units of one over the axis's length


@dataclass(frozen=True, kw_only=True)
class Law:
    """A law of one shape parameter: its form at amplitude 1, and when half of it is left.

    Args:
        shape: what falls from 1 to 0 at x >= 0: (x / x_0, shape) -> (..).
        half: the x / x_0 at which it is 1/2.
        parameter: the name of the shape parameter as it is told.
        told: the shape parameter, as it is told, from the shape; falls or grows with it.
        power_of_unit: the exponent of the axis's unit in it.
    """

    shape: Callable[[np.ndarray, float], np.ndarray]
    half: Callable[[float], float]
    parameter: str
    told: Callable[[float], float]
    power_of_unit: int


def inverse(x: float) -> float:
    """1 / x, infinite for x = 0."""
    return 1 / x if x > 0 else np.inf


LAWS: Mapping[str, Law] = {
    "exponential": Law(
        shape=lambda x, rate: np.exp(-rate * x),
        half=lambda rate: float(np.log(2)) * inverse(rate),
        parameter="tau",
        told=inverse,
        power_of_unit=1,
    ),
    "power": Law(
        shape=lambda x, b: (1 + x) ** -b,
        half=lambda b: float(np.expm1(min(np.log(2) * inverse(b), 700.0))) if b > 0 else np.inf,
        parameter="b",
        told=float,
        power_of_unit=0,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Points (n,) and a law to fit to them, x in steps of the axis; theta is shape, a and c.

    Args:
        error: standard errors, or ones where `known` is false.
    """

    law: Law
    kind: str
    x: np.ndarray
    y: np.ndarray
    error: np.ndarray
    known: bool
    asymptote: bool

    def value(self, x: np.ndarray, shape: float, a: float, c: float = 0.0) -> np.ndarray:
        """The law at x."""
        return a * self.law.shape(x, shape) + c

    def linear(self, shape: float, y: np.ndarray) -> tuple[np.ndarray, float]:
        """The best a and c of a shape, and chi^2."""
        columns = [self.law.shape(self.x, shape)]
        columns += [np.ones_like(self.x)] if self.asymptote else []
        design = np.stack(columns, -1) / self.error[:, None]
        solution = np.linalg.lstsq(design, y / self.error, rcond=None)[0]
        return solution, float(((y / self.error - design @ solution) ** 2).sum())

    def best(
        self, y: np.ndarray | None = None, start: float | None = None, *, free: bool = False
    ) -> np.ndarray:
        """The theta of least chi^2: from a grid of shapes, then by least squares.

        Args:
            y: (n,), the points unless given.
            start: a shape to start from, the best of the grid unless given.
            free: whether the shape may be below 0, as of a curve that grows.
        """
        y = self.y if y is None else y
        if start is None:
            grid = np.append(0.0, _GRID / np.ptp(self.x))[int(self.asymptote) :]
            start = float(grid[np.argmin([self.linear(shape, y)[1] for shape in grid])])
        first = np.array([start, *self.linear(start, y)[0]])
        floor = -_GRID[-1] / np.ptp(self.x) if free else 0.0
        low = [floor, *[-np.inf] * (len(first) - 1)]
        scaled = np.array([1 / np.ptp(self.x), *[max(np.abs(y).max(), 1e-300)] * (len(first) - 1)])

        def residuals(theta: np.ndarray) -> np.ndarray:
            return (y - self.value(self.x, *theta)) / self.error

        found = least_squares(residuals, first, bounds=(low, np.inf), x_scale=scaled).x
        even = np.array([0.0, *self.linear(0.0, y)[0]])
        if not self.asymptote:  # a shape that gains nothing but rounding is 0
            gained = (residuals(even) ** 2).sum() - (residuals(found) ** 2).sum()
            found = even if gained <= 1e-12 * ((y / self.error) ** 2).sum() else found
        return np.asarray(found)

    def chi_squared(self, theta: np.ndarray) -> float:
        """Of the residuals, in standard errors."""
        return float((((self.y - self.value(self.x, *theta)) / self.error) ** 2).sum())

    def allowed(self, least: float) -> float:
        """How far chi^2 may rise within the confidence interval of one parameter."""
        free = len(self.x) - (3 if self.asymptote else 2)
        if self.known:
            return float(chi2.ppf(LEVEL, 1))
        return least / max(free, 1) * float(t.ppf((1 + LEVEL) / 2, max(free, 1))) ** 2


def profile(problem: Problem, best: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ends of each parameter's interval, (parameter,) each."""
    least = problem.chi_squared(best)
    allowed = problem.allowed(least)
    ends = [_profile_of(problem, best, i, least + allowed) for i in range(len(best))]
    low, high = np.array(ends).T
    return low, high


def _profile_of(
    problem: Problem, best: np.ndarray, which: int, bound: float
) -> tuple[float, float]:
    """Where the least chi^2 over the other parameters passes a bound."""

    def above(value: float) -> float:
        return _least_at(problem, best, which, value) - bound

    def end(direction: int) -> float:
        floor = 0.0 if which == 0 else -np.inf
        step = max(abs(best[which]) * 0.02, 1e-4 / (np.ptp(problem.x) if which == 0 else 1.0))
        inner = float(best[which])
        for _ in range(60):
            outer = max(inner + direction * step, floor)
            if above(outer) > 0:
                return float(brentq(above, min(inner, outer), max(inner, outer), rtol=1e-6))
            if outer == floor:
                return floor
            inner, step = outer, 1.6 * step
        return direction * np.inf

    if above(float(best[which])) >= 0:  # an exact fit of unknown errors
        return float(best[which]), float(best[which])
    return end(-1), end(1)


def _least_at(problem: Problem, best: np.ndarray, which: int, value: float) -> float:
    """The least chi^2 with one parameter held."""
    if which == 0:
        return problem.linear(value, problem.y)[1]
    if which == 1:

        def of(shape: float) -> float:
            rest = problem.y - value * problem.law.shape(problem.x, shape)
            c = np.average(rest, weights=problem.error**-2) if problem.asymptote else 0.0
            return float((((rest - c) / problem.error) ** 2).sum())

    else:

        def of(shape: float) -> float:
            form = problem.law.shape(problem.x, shape) / problem.error
            rest = (problem.y - value) / problem.error
            return float(((rest - form * (form @ rest) / (form @ form)) ** 2).sum())

    return _least(of, float(best[0]), 1 / float(np.ptp(problem.x)))


def _least(of: Callable[[float], float], near: float, scale: float) -> float:
    """The minimum of a function of a shape >= 0."""
    grid = np.unique([0.0, near, *(scale * _GRID[::3]), *(near * np.geomspace(0.5, 2, 9))])
    values = [of(shape) for shape in grid]
    i = int(np.argmin(values))
    low, high = grid[max(i - 1, 0)], grid[min(i + 1, len(grid) - 1)]
    found = minimize_scalar(of, bounds=(low, high), method="bounded", options={"xatol": 1e-9})
    return float(min(found.fun, values[i]))


def jackknife(
    problem: Problem, best: np.ndarray, without: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Ends of each parameter's interval, from curves without each trial, (left_out, point).

    Shapes below 0 are allowed but in the end: held at 0, the fits to a curve that hardly falls
    would all be alike, and their spread would say that nothing is ever forgotten. The interval
    reaches as far from the fit so found as from the best, which it therefore holds.
    """
    n = len(without)
    centre = problem.best(start=float(best[0]), free=True)
    each = np.array([problem.best(y, start=float(centre[0]), free=True) for y in without])
    spread = np.sqrt((n - 1) / n * ((each - each.mean(0)) ** 2).sum(0))
    reach = spread * t.ppf((1 + LEVEL) / 2, n - 1)
    low, high = np.minimum(best, centre) - reach, np.maximum(best, centre) + reach
    low[0] = max(low[0], 0.0)
    return low, high
