"""Fits of one rule to a recording: Levenberg and Marquardt's steps within bounds.

The likelihood of the innovations e_t of variance sigma^2 s_t, with sigma at its best,

    log L = -N/2 (log(2 pi sigma^2) + 1) - 1/2 sum_t n_t log s_t
    sigma^2 = sum_t |e_t|^2 / s_t / N

is maximised over the rule's constants and over rho, the share q / r of process noise.
"""

from dataclasses import dataclass, replace

import numpy as np

from fwbio.analyses.identification.filtering import Filtered, Seen, Slopes, derived, filtered, seen
from fwbio.analyses.identification.unknowns import Model, Refused

STARTS = 4  # that are followed
DAMPINGS = (0.0, 0.1, 10.0)  # times the point's own
EASING = np.array([0.1, 0.3, 10.0])  # of the next damping, by the one that did best
REACHES, TEETH, SMALLEST = (0.5, 0.2, 0.05), 40, 0.02  # of combs, relative; least values
SINGULAR = 1e-9  # share of the information on parameters one by one
ROUNDING = 1e-8  # of derivatives by differences, in units of what was observed
RHO_LEAST, RHO_START = 1e-7, 1e-2
# What reads divide by grows with the steps, and rho is the smaller for it that the read-outs show.
RHO_STARTS = {"weights": (RHO_START,), "readout": (RHO_START, 1e3)}
RHO_MOST = {"weights": 1e5, "readout": 1e9}


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long to climb.

    Args:
        iterations: at most.
        enough: gain in log L below which a step is the last one.
        stride: factor by which rho is first varied.
        settled: factor that it is to be known by.
        frozen: whether rho stays as it is.
    """

    iterations: int
    enough: float
    stride: float
    settled: float
    frozen: bool = False


SCOUTING = Patience(iterations=3, enough=0.1, stride=10.0, settled=2.0)
ROUGH = Patience(iterations=40, enough=0.05, stride=5.0, settled=1.3)
FINE = Patience(iterations=40, enough=1e-7, stride=1.3, settled=1.03)
STILL = Patience(iterations=40, enough=1e-7, stride=1.0, settled=2.0, frozen=True)


@dataclass(frozen=True, kw_only=True)
class Fit:
    """The best point of a model, and what it leaves.

    Args:
        model: what was fitted.
        theta: its parameters, (parameter,).
        rho: process over measurement noise, q / r.
        variance: sigma^2, the measurement noise where there is some (rho < inf).
        log_likelihood: of all numbers seen.
        parts: of each trial and part, (trial, seen x channels).
        squares: |e|^2, likewise.
        counts: how many numbers, likewise.
        channels: into how many parts every observation is cut.
        process: the share of the innovations' variance that is the memory's own noise, from rho.
        covariance: of `theta`, (parameter, parameter); infinite where the data don't determine it.
        information: what they say of each parameter and of pairs of them, in units of what they say
            of one alone (parameter, parameter); 0 of those that change nothing.
    """

    model: Model
    theta: np.ndarray
    rho: float
    variance: float
    log_likelihood: float
    parts: np.ndarray
    squares: np.ndarray
    counts: np.ndarray
    channels: int
    process: float
    covariance: np.ndarray
    information: np.ndarray

    def rank(self, kept: np.ndarray) -> int:
        """How many combinations of the parameters `kept` (parameter,) the data determine."""
        values = np.linalg.eigvalsh(self.information[np.ix_(kept, kept)])
        return int((values > SINGULAR).sum())


def fit(model: Model, *, start: "Fit | None" = None) -> Fit:
    """The most likely constants of a model.

    Rules with a constant for each channel start from their fit with one for all of them.

    Args:
        model: a rule on a recording.
        start: a rough fit of it to refine; without one, the fit is rough: log L is right to a few
            hundredths.

    Raises:
        Refused: its predictions overflow wherever the fit starts.
    """
    data = seen(model)
    if start is not None:
        theta, rho = _combed(model, data, start.theta[None], np.array([start.rho]))
        theta, rho = _climb(model, data, theta, rho, FINE)
        return _simplest(model, data, theta, rho)
    if not model.channelled:
        points, rho = _scout(model, data)
    else:
        tied = replace(model, tied=True)
        points, rho = _scout(tied, data)
        theta, rho = _climb(tied, data, points, rho, ROUGH)
        points = model.untied(theta[0])[1][None]
    theta, rho = _climb(model, data, points, rho, ROUGH)
    return _summary(model, data, theta[0], float(rho[0]))


def _combed(
    model: Model, data: Seen, theta: np.ndarray, rho: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A point (1, parameter) moved along what has no derivatives, by ever finer combs of values."""
    rough = np.flatnonzero(model.each("smooth") == 0)
    for reach in REACHES if len(rough) else ():
        for i in rough:
            about = max(theta[0, i], SMALLEST * model.each("typical")[i])
            comb = np.repeat(theta, TEETH + 1, axis=0)
            comb[1:, i] += about * np.linspace(-reach, reach, TEETH)
            comb = np.clip(comb, model.each("low"), model.each("high"))
            values = objective(filtered(model, data, comb, np.repeat(rho, TEETH + 1)))
            theta = comb[[values.argmin()]]
        theta, rho = _climb(model, data, theta, rho, SCOUTING)
    return theta, rho


def _simplest(model: Model, data: Seen, theta: np.ndarray, rho: np.ndarray) -> Fit:
    """The fit, without process noise unless it is worth a parameter."""
    found = _summary(model, data, theta[0], float(rho[0]))
    if found.rho == 0 or found.rho > RHO_START:
        return found
    theta, rho = _climb(model, data, theta, np.zeros(1), STILL)
    if not np.isfinite(objective(filtered(model, data, theta, rho))).all():
        return found
    still = _summary(model, data, theta[0], 0.0)
    worth = 0.5 * np.log(data.counts.sum())
    return found if found.log_likelihood > still.log_likelihood + worth else still


def _scout(model: Model, data: Seen) -> tuple[np.ndarray, np.ndarray]:
    """The best of all starts after a few steps each."""
    starts = RHO_STARTS[model.observed]
    points = np.repeat(_amplified(model, data, model.starts()), len(starts), axis=0)
    rho = np.resize(starts, len(points))
    if len(points) > STARTS:
        first = np.argsort(objective(filtered(model, data, points, rho)))[:STARTS]
        points, rho = points[first], rho[first]
    if len(points) == 1:
        return points, rho
    points, rho = _climb(model, data, points, rho, SCOUTING)
    best = np.argmin(objective(filtered(model, data, points, rho)))
    return points[[best]], rho[[best]]


def _amplified(model: Model, data: Seen, points: np.ndarray) -> np.ndarray:
    """Starts whose predictions are as large as what was seen, where a unit can make them so."""
    where = model.slices.get("scale")
    if where is None:
        return points

    def left(scale: float) -> np.ndarray:
        tried = points.copy()
        tried[:, where] = scale
        return filtered(model, data, tried, np.zeros(len(tried))).squares.sum((1, 2))

    none, once, twice = left(1e-9), left(1.0), left(2.0)
    with np.errstate(all="ignore"):
        curvature = (twice - 2 * once + none) / 2
        best = (none - once + curvature) / (2 * curvature)
    points = points.copy()
    points[:, where] = np.where(np.isfinite(best) & (best > 0), best, 1.0)[:, None]
    return points


def objective(found: Filtered) -> np.ndarray:
    """Minus log L of each setting, but for a constant; infinite where predictions overflow."""
    total = found.counts.sum()
    with np.errstate(all="ignore"):
        weighted = (found.squares / found.spread).sum((1, 2))
        value = 0.5 * total * np.log(np.maximum(weighted, 1e-300))
        value = value + 0.5 * (found.counts * np.log(found.spread)).sum((1, 2))
    return np.where(np.isfinite(value), value, np.inf)


def _climb(
    model: Model, data: Seen, theta: np.ndarray, rho: np.ndarray, patience: Patience
) -> tuple[np.ndarray, np.ndarray]:
    """Descend from several points at once, each with a damping and a stride in rho of its own."""
    low, high, felt = model.each("low"), model.each("high"), _felt(model, data)
    most = RHO_MOST[model.observed]
    theta = np.clip(theta, low, high)
    points, count = theta.shape
    rows = np.arange(points)
    damping, stride = np.full(points, 1e-3), np.full(points, patience.stride)
    vertex = rho
    best = objective(filtered(model, data, theta, rho))
    for _ in range(patience.iterations):
        _, here = derived(model, data, theta, rho)
        tried = np.stack([_step(here, theta, damping * f, low, high, felt) for f in DAMPINGS], 1)
        rhos = rho[:, None] if patience.frozen else _rhos(rho, stride, vertex, most)
        every_theta = np.repeat(tried[:, :, None], rhos.shape[1], axis=2)
        every_rho = np.broadcast_to(rhos[:, None], every_theta.shape[:3])
        values = objective(
            filtered(model, data, every_theta.reshape(every_rho.size, count), every_rho.ravel())
        ).reshape(every_rho.shape)
        chosen = values.reshape(points, -1).argmin(1)
        of_theta, of_rho = np.unravel_index(chosen, values.shape[1:])
        value = values[rows, of_theta, of_rho]
        better = value < best
        gain = np.subtract(best, value, out=np.zeros(points), where=better)
        damping = np.where(better, np.clip(damping * EASING[of_theta], 1e-12, None), damping * 30)
        if not patience.frozen:
            vertex = _vertex(rhos[:, 1:4], values[rows, of_theta, 1:4], most)
        strayed = better & (np.abs(of_rho - 2) == 1)
        stride = np.where(strayed, stride, np.maximum(stride**0.3, 1.02))
        theta = np.where(better[:, None], tried[rows, of_theta], theta)
        rho = np.where(better, rhos[rows, of_rho], rho)
        best = np.minimum(best, value)
        if (gain < patience.enough).all() and (stride < patience.settled).all():
            break
    return theta, rho


def _rhos(rho: np.ndarray, stride: np.ndarray, vertex: np.ndarray, most: float) -> np.ndarray:
    """Shares of process noise to try: none, less, the same, more, the last parabola's vertex."""
    around = np.maximum(rho, RHO_LEAST)[:, None] * stride[:, None] ** [-1.0, 0.0, 1.0]
    around[:, 1] = rho
    tried = [np.zeros((len(rho), 1)), around.clip(0, most), vertex[:, None]]
    return np.concatenate(tried, 1)


def _vertex(rho: np.ndarray, values: np.ndarray, most: float) -> np.ndarray:
    """Where the parabola through three points of equal strides in log rho is least, within them."""
    (before, here, after), middle = values.T, rho[:, 1]
    with np.errstate(all="ignore"):
        curvature = before - 2 * here + after
        stride = np.log(rho[:, 2] / middle)
        found = middle * np.exp(np.clip(0.5 * (before - after) / curvature, -1.5, 1.5) * stride)
    sound = np.isfinite(found) & (curvature > 0) & (middle > 0)
    return np.where(sound, np.clip(found, 0, most), middle)


def _felt(model: Model, data: Seen) -> np.ndarray:
    """The curvature that rounding alone may give a parameter which changes nothing."""
    size = (data.values**2).sum()
    found: np.ndarray = size * (ROUNDING / model.each("typical")) ** 2
    return found


def _step(
    here: Slopes,
    theta: np.ndarray,
    damping: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    felt: np.ndarray,
) -> np.ndarray:
    """One damped step of Gauss and Newton from each point, stopped at bounds."""
    found = theta.copy()
    for i, (A, b) in enumerate(zip(here.curvature, here.slope, strict=True)):
        if not (np.isfinite(A).all() and np.isfinite(b).all()):
            continue
        outward = ((theta[i] <= low) & (b > 0)) | ((theta[i] >= high) & (b < 0))
        diagonal = np.diag(A)
        free = ~outward & (diagonal > felt)
        if not free.any():
            continue
        A, b, root = A[np.ix_(free, free)], b[free], np.sqrt(diagonal[free])
        unit = A / np.outer(root, root)
        unit[np.diag_indices_from(unit)] += damping[i] + 1e-12
        found[i, free] -= np.linalg.solve(unit, b / root) / root
    return np.clip(found, low, high)


def _summary(model: Model, data: Seen, theta: np.ndarray, rho: float) -> Fit:
    here, slopes = derived(model, data, theta[None], np.array([rho]))
    if not np.isfinite(objective(here)).all():
        raise Refused("its predictions overflow wherever the fit starts")
    squares, spread, counts = here.squares[0], here.spread[0], here.counts
    total = counts.sum()
    variance = float((squares / spread).sum() / total)
    parts = -0.5 * (counts * np.log(2 * np.pi * variance * spread) + squares / (variance * spread))
    felt = _felt(model, data)
    information = _information(slopes, felt)
    return Fit(
        model=model,
        theta=theta,
        rho=rho,
        variance=variance,
        log_likelihood=float(parts.sum()),
        parts=parts,
        squares=squares,
        counts=counts,
        channels=data.parts,
        process=_process(model, data, theta, here) if rho > 0 else 0.0,
        covariance=_covariance(slopes, variance, information, data.parts),
        information=information,
    )


def _process(model: Model, data: Seen, theta: np.ndarray, here: Filtered) -> float:
    """The share of the innovations' variance that rho makes, not what is unknown of the start."""
    still = filtered(model, data, theta[None], np.zeros(1))
    return float(1 - (still.counts * still.spread).sum() / (here.counts * here.spread).sum())


def lags(count: int) -> int:
    """Over how many steps innovations may hang together: Newey and West's 4 (n / 100)^(2/9)."""
    return min(int(4 * (count / 100) ** (2 / 9)), max(count - 2, 0))


def long_run(scores: np.ndarray, channels: int = 1) -> np.ndarray:
    """The covariance of a sum over trials and steps, errors hanging together over a few steps.

    Of observations that are cut by channel, errors hang together within a channel or over all of
    a step: the larger variance counts.

    Args:
        scores: (trial, step x channel, component), the channel varying fastest.
        channels: how many there are.

    Source: Newey & West 1987, 10.2307/1913610, whose weights keep it positive.
    """
    trials, parts, components = scores.shape
    cut = scores.reshape(trials, parts // channels, channels, components)
    apart = np.swapaxes(cut, 1, 2).reshape(trials * channels, -1, components)
    total = _lagged(apart)
    if channels == 1:
        return total
    own, together = np.diag(total), np.diag(_lagged(cut.sum(2)))
    grown = np.sqrt(np.maximum(together, own) / np.where(own > 0, own, 1.0))
    return total * np.outer(grown, grown)


def _lagged(scores: np.ndarray) -> np.ndarray:
    """The covariance of the sum of (series, step, component), series being independent."""
    total = np.einsum("tsi,tsj->ij", scores, scores)
    reach = lags(scores.shape[1])
    for lag in range(1, reach + 1):
        product = np.einsum("tsi,tsj->ij", scores[:, lag:], scores[:, :-lag])
        total = total + (1 - lag / (reach + 1)) * (product + product.T)
    return total


def _information(here: Slopes, felt: np.ndarray) -> np.ndarray:
    """The curvature in units of its diagonal, 0 where that is no more than rounding."""
    curvature = here.curvature[0]
    diagonal = np.diag(curvature)
    scale = np.where(diagonal > felt, 1 / np.sqrt(np.where(diagonal > felt, diagonal, 1)), 0.0)
    unit: np.ndarray = curvature * np.outer(scale, scale)
    return unit


def _covariance(
    here: Slopes, variance: float, information: np.ndarray, channels: int
) -> np.ndarray:
    """The larger of what the likelihood's curvature and the scores' spread say, by parameter."""
    found = np.full(information.shape, np.inf)
    alive = np.diag(information) > 0
    if not alive.any():
        return found
    scale = np.sqrt(np.diag(here.curvature[0])[alive] / variance)
    values, vectors = np.linalg.eigh(information[np.ix_(alive, alive)])
    kept = values > SINGULAR
    inverse = (vectors[:, kept] / values[kept]) @ vectors[:, kept].T
    scores = here.scores[0][..., alive] / scale / variance
    robust = inverse @ long_run(scores, channels) @ inverse
    spread = np.maximum(np.diag(robust), 0.0)  # rounding may leave it below 0
    most = np.sqrt(np.maximum(np.diag(inverse), spread))
    correlated = robust / np.sqrt(np.outer(spread, spread) + 1e-300)
    within = correlated * np.outer(most / scale, most / scale)
    lost = (np.abs(vectors[:, ~kept]) > 1e-3).any(1)
    within[lost] = within[:, lost] = np.inf
    found[np.ix_(alive, alive)] = within
    return found
