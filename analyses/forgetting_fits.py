"""Laws of forgetting fitted to curves: exponential and power, their intervals and half-lives.

    exponential   a e^(-x / tau) [+ c]           power   a (1 + x / x_0)^-b [+ c]

x is what has passed, x_0 one step of the axis. Both are linear in a and c, so that a law has one
shape parameter, its rate 1 / tau or b, 0 where nothing is forgotten.

Source: Wixted & Ebbesen 1991, 10.1111/j.1467-9280.1991.tb00175.x; Rubin & Wenzel 1996,
10.1037/0033-295X.103.4.734, who compare these among a hundred others (both recalled).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd
import xarray as xr

from fwbio.analyses.forgetting import AXES
from fwbio.analyses.forgetting_laws import LAWS, Problem, inverse, jackknife, profile
from fwbio.errors import FwbioError, unknown_name

Intervals = Literal["profile", "jackknife", "wider"]
POOLED = 2  # points on either side whose standard errors are pooled
_LEAST_ERROR = 1e-6  # of the largest value: standard errors below are those of no spread at all


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A number and its 95 % confidence interval.

    Args:
        value: the estimate.
        low: lower end; high: upper end, which may be infinite.
        units: of all three.
    """

    value: float
    low: float
    high: float
    units: str = "1"


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A law of forgetting as fitted to a curve.

    Args:
        kind: "exponential" or "power".
        quantity: of the curve; against: its axis, "lag", "steps" or "time".
        amplitude: a, what there is at 0 above the floor.
        shape: tau in the axis's unit, or b.
        floor: c, None where the law has none.
        half_life: when half of the amplitude is left, in the axis's unit.
        unit: x_0, the length of a step on the axis.
        intervals: how their ends were found, "profile", "jackknife" or "wider", of the two.
        chi_squared: of the residuals, in standard errors; points: how many.
        aicc: Akaike's criterion corrected for few points; infinite where they are too few.
    """

    kind: str
    quantity: str
    against: str
    amplitude: Interval
    shape: Interval
    floor: Interval | None
    half_life: Interval
    unit: float
    intervals: str
    chi_squared: float
    points: int
    aicc: float

    @property
    def parameters(self) -> int:
        """How many numbers were fitted."""
        return 2 if self.floor is None else 3

    def predict(self, x: np.ndarray) -> np.ndarray:
        """The law at x, in the unit of the axis, any shape."""
        x = np.asarray(x, dtype=float) / self.unit
        value = self.shape.value
        shape = self.unit * inverse(value) if self.kind == "exponential" else value
        c = 0.0 if self.floor is None else self.floor.value
        return self.amplitude.value * LAWS[self.kind].shape(x, shape) + c


def fit(
    curve: xr.Dataset,
    kind: str = "exponential",
    *,
    quantity: str = "signal",
    asymptote: bool = False,
    intervals: Intervals | None = None,
) -> Fit:
    """The law of forgetting that fits a curve best, by least squares in its standard errors.

        chi^2 = sum over points ((y - law(x)) / se)^2, least

    Errors from the spread of trials are themselves noisy, and a point whose trials happen to be
    alike would count for too much: each is pooled with those of its neighbours, two on either side.
    Errors of 0 (all trials alike) count as the smallest that is not; where all are, or none is
    known, points count alike and the residuals tell the error.

    Args:
        curve: as `fwbio.analyses.forgetting.forgetting_curve` makes it.
        kind: "exponential" or "power".
        quantity: a variable of the curve.
        asymptote: whether a constant is left in the end.
        intervals: of 95 %: "jackknife", by leaving each trial out in turn, with Student's t, which
            holds where points of one trial err together; "profile", the values for which the
            least chi^2 rises by no more than 3.84 (by F where errors are unknown), for points that
            err independently; "wider", from the lower of their ends to the higher. Unless given:
            profile where the curve has fewer than four trials, and else jackknife, or wider with an
            asymptote: a constant and slow forgetting are hardly told apart, and their estimates are
            then so far from normal that the jackknife alone may miss them every second time.

    Raises:
        FwbioError: no such law, quantity or interval; fewer points than parameters, no trials to
            leave out, or a curve of nothing but zeros.

    Source: Venzon & Moolgavkar 1988, 10.2307/2347496, of profiles; Miller 1974,
        10.1093/biomet/61.1.1, of the jackknife; Hurvich & Tsai 1989, 10.1093/biomet/76.2.297, of
        the criterion (all recalled).
    """
    problem, against, unit = _problem(curve, kind, quantity, asymptote)
    without = curve.get(f"{quantity}_without")
    enough = without is not None and without.sizes["left_out"] >= 4
    if intervals is None:
        intervals = "profile" if not enough else "wider" if asymptote else "jackknife"
    if intervals not in get_args(Intervals):
        raise unknown_name(intervals, get_args(Intervals), kind="interval", where="intervals")
    if intervals != "profile" and not enough:
        raise FwbioError(
            "there are no four trials to leave out in turn",
            where="intervals",
            mend='give "profile", or a curve of more trials',
        )
    best = problem.best()
    ends = [] if intervals == "jackknife" else [profile(problem, best)]
    if intervals != "profile":
        assert without is not None
        ends += [jackknife(problem, best, without.transpose("left_out", against).values)]
    low, high = np.min([low for low, _ in ends], 0), np.max([high for _, high in ends], 0)
    return _told(problem, best, low, high, quantity, against, unit, intervals)


def compare_laws(
    curve: xr.Dataset,
    *,
    quantity: str = "signal",
    kinds: Sequence[str] = tuple(LAWS),
    asymptotes: Sequence[bool] = (False, True),
) -> pd.DataFrame:
    """Laws of forgetting in the order of Akaike's corrected criterion, the best first.

        AICc = chi^2 + 2 k + 2 k (k + 1) / (n - k - 1),   weight ~ exp(-AICc / 2)

    With errors unknown, n ln(chi^2 / n) stands for chi^2, and the error is one more of the k.
    Points count as independent: where those of one trial err together, weights are too sure.

    Args:
        curve: as `fit` takes it.
        quantity: a variable of the curve.
        kinds: of laws.
        asymptotes: without a constant, with one, or both.

    Returns:
        A row a law: `kind`, `asymptote`, `aicc`, `delta` to the best, `weight` (their sum is 1),
        `chi_squared`, `points`, and `half_life`, `half_life_low` and `half_life_high` in the axis's
        unit.

    Raises:
        FwbioError: as `fit` does; or too few points for any of them.
    """
    fits = [
        (kind, asymptote, fit(curve, kind, quantity=quantity, asymptote=asymptote))
        for kind in kinds
        for asymptote in asymptotes
        if curve.sizes[_axis(curve)] > 2 + asymptote
    ]
    table = pd.DataFrame(
        [
            {
                "kind": kind,
                "asymptote": asymptote,
                "aicc": f.aicc,
                "chi_squared": f.chi_squared,
                "points": f.points,
                "half_life": f.half_life.value,
                "half_life_low": f.half_life.low,
                "half_life_high": f.half_life.high,
            }
            for kind, asymptote, f in fits
        ]
    )
    if table.empty or not np.isfinite(table.aicc).any():
        raise FwbioError(
            f"{curve.sizes[_axis(curve)]} points can't tell laws apart",
            where="curve",
            mend="give five points or more",
        )
    delta = table.aicc - table.aicc.min()
    weight = np.exp(-delta / 2)
    table = table.assign(delta=delta, weight=weight / weight.sum())
    return table.sort_values("aicc", ignore_index=True)


def _axis(curve: xr.Dataset) -> str:
    found = [str(d) for d in curve.dims if d in AXES]
    if not found:
        raise FwbioError(
            "it has none of the axes of forgetting",
            where="curve",
            mend="make it by fwbio.analyses.forgetting.forgetting_curve",
        )
    return found[0]


def _problem(
    curve: xr.Dataset, kind: str, quantity: str, asymptote: bool
) -> tuple[Problem, str, float]:
    if kind not in LAWS:
        raise unknown_name(kind, LAWS, kind="law", where="kind")
    against = _axis(curve)
    if quantity not in curve:
        raise unknown_name(quantity, map(str, curve.data_vars), kind="quantity", where="quantity")
    x, y = curve[against].values.astype(float), curve[quantity].values.astype(float)
    if len(np.unique(x)) < 2 + asymptote:
        raise FwbioError(
            f"{len(np.unique(x))} points don't tell {2 + asymptote} parameters",
            where="curve",
            mend="give more lags, or smaller bins",
        )
    if not y.any():
        raise FwbioError(
            f"{quantity} is 0 everywhere: there is nothing to forget",
            where="curve",
            mend="fit a quantity that was recalled at some time",
        )
    unit = float(curve.attrs.get("step_length", 1.0))
    error, known = _errors(curve.get(f"{quantity}_se"), y)
    if known and f"{quantity}_without" in curve:
        error = pooled(error)
    law = LAWS[kind]
    problem = Problem(
        law=law, kind=kind, x=x / unit, y=y, error=error, known=known, asymptote=asymptote
    )
    return problem, against, unit


def _errors(given: xr.DataArray | None, y: np.ndarray) -> tuple[np.ndarray, bool]:
    """Standard errors that can be divided by, and whether they are known."""
    if given is None:
        return np.ones_like(y), False
    error = given.values
    sound = np.isfinite(error) & (error > _LEAST_ERROR * np.abs(y).max(initial=0.0))
    if not sound.any():
        return np.ones_like(y), False
    return np.where(sound, error, error[sound].min()), True


def pooled(error: np.ndarray) -> np.ndarray:
    """Standard errors estimated point by point, each pooled with its neighbours' along the axis.

        se_i^2 = mean over j of s_j^2,   |i - j| <= 2

    Args:
        error: s (point,), in the order of the axis.

    Returns:
        (point,), of as many neighbours as there are at the ends.
    """
    square, n = error**2, len(error)
    near = [slice(max(i - POOLED, 0), i + POOLED + 1) for i in range(n)]
    return np.sqrt([square[here].mean() for here in near])


def _told(
    problem: Problem,
    best: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    quantity: str,
    against: str,
    unit: float,
    intervals: str,
) -> Fit:
    units, law = AXES[against][0], problem.law

    def of_shape(law_of: Callable[[float], float], scale: float, units: str) -> Interval:
        ends = sorted(scale * law_of(float(x)) for x in (low[0], high[0]))
        value = scale * law_of(float(best[0]))
        return Interval(value=value, low=ends[0], high=ends[1], units=units)

    a, *c = (
        Interval(value=float(best[i]), low=float(low[i]), high=float(high[i]))
        for i in range(1, len(best))
    )
    chi = problem.chi_squared(best)
    return Fit(
        kind=problem.kind,
        quantity=quantity,
        against=against,
        amplitude=a,
        shape=of_shape(law.told, unit**law.power_of_unit, units if law.power_of_unit else "1"),
        floor=c[0] if c else None,
        half_life=of_shape(law.half, unit, units),
        unit=unit,
        intervals=intervals,
        chi_squared=chi,
        points=len(problem.x),
        aicc=_aicc(chi, len(problem.x), len(best), problem.known),
    )


def _aicc(chi: float, n: int, parameters: int, known: bool) -> float:
    k = parameters if known else parameters + 1
    if n - k - 1 <= 0:
        return np.inf
    misfit = chi if known else n * np.log(max(chi / n, 1e-300))
    return float(misfit + 2 * k + 2 * k * (k + 1) / (n - k - 1))
