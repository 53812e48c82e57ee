"""Whether what a rule leaves of a recording follows from what it saw, so that it lacks something.

A rule's innovations are noise, of observing or of the memory, or they hold what the rule lacks.
That shows where they can be predicted, e = sum_i c_i f_i(k, v, W) + b with b of each synapse: c
and b are fitted to every other observation and judged on those between.
"""

import numpy as np

from fwbio.analyses.identification.data import Recording
from fwbio.analyses.identification.filtering import innovations, seen
from fwbio.analyses.identification.fitting import Fit

FEWEST = 6  # observations below which nothing can be said
SMALL = 1e-6  # ridge, in units of each feature's own power


def missed(fit: Fit) -> float:
    """The share of what a fit leaves that keys, values and weights of the same steps predict.

    1 - sum |e - prediction|^2 / sum |e|^2 over observations that the prediction was not fitted to:
    at most about 0 where the rule lacks nothing.

    Args:
        fit: of weights that were seen.

    Returns:
        The share; NaN of read-outs, of keys in substeps, and of too few observations.
    """
    model = fit.model
    data = seen(model)
    if model.observed != "weights" or model.recording.keys.ndim == 4 or len(data.at) < FEWEST:
        return float("nan")
    halves = _Half(), _Half()
    gathered: np.ndarray | float = 0.0
    with np.errstate(all="ignore"):
        steps = innovations(model, data, fit.theta[None], np.array([fit.rho]))
        scale = float(np.ravel(model.scales(fit.theta[None]))[0])
        for t, found in enumerate(steps):
            before = _upright(found.before[0], fit)[..., : model.recording.post]
            gathered = gathered + _features(model.recording, t, scale * before)
            if found.place is None:
                continue
            there = np.ones(found.error.shape[1:]) if data.mask is None else data.mask[found.place]
            there = there * (1 - data.adopted.get(found.place, 0.0))
            halves[found.place % 2].add(
                gathered, _upright(found.error[0], fit), _upright(there, fit)
            )
            gathered = 0.0
    first, second = halves
    total = first.power + second.power
    left = first.left_by(second) + second.left_by(first)
    return float(1 - left / total) if total > 0 and np.isfinite(left) else float("nan")


def _upright(x: np.ndarray, fit: Fit) -> np.ndarray:
    return np.swapaxes(x, -1, -2) if fit.model.rule.terms.transposed else x


class _Half:
    """Every other observation, as the sums that a regression takes."""

    def __init__(self) -> None:
        self.power = 0.0
        self.products: np.ndarray | float = 0.0  # of features (feature, feature)
        self.scores: np.ndarray | float = 0.0  # of features with errors (feature,)
        self.features: np.ndarray | float = 0.0  # sums of each synapse (feature, trial, pre, post)
        self.errors: np.ndarray | float = 0.0  # likewise (trial, pre, post)
        self.counts: np.ndarray | float = 0.0

    def add(self, features: np.ndarray | float, error: np.ndarray, there: np.ndarray) -> None:
        """Add features (feature, trial, pre, post) and errors where they are `there`."""
        features, error = features * there, error * there
        flat = features.reshape(len(features), -1)
        self.power += float((error**2).sum())
        self.products = self.products + flat @ flat.T
        self.scores = self.scores + flat @ error.ravel()
        self.features = self.features + features
        self.errors = self.errors + error
        self.counts = self.counts + there

    def left_by(self, other: "_Half") -> float:
        """The squared errors that a prediction fitted to the other half leaves of this one."""
        if not np.ndim(other.products) or not np.ndim(self.products):
            return self.power
        size = np.sqrt(np.diag(other.products))
        size[size == 0] = 1.0  # a feature that is nowhere
        unit = other.products / np.outer(size, size) + SMALL * np.eye(len(size))
        c = np.linalg.solve(unit, other.scores / size) / size
        left = self.power - 2 * c @ self.scores + c @ self.products @ c
        of_other = other.errors - np.tensordot(c, other.features, 1)
        b = of_other / np.maximum(other.counts, 1)
        of_this = self.errors - np.tensordot(c, self.features, 1)
        with_each = left - 2 * (b * of_this).sum() + (b**2 * self.counts).sum()
        return float(min(left, with_each))


def _features(given: Recording, t: int, W: np.ndarray) -> np.ndarray:
    """Terms that a change may be made of, (feature, trial, pre, post)."""
    before = max(t - 1, 0)
    k, v = given.keys[:, t, :, None], given.values[:, t, None, :]
    k0, v0 = given.keys[:, before, :, None], given.values[:, before, None, :]
    one = np.ones_like(W)
    read, back = (W * k).sum(-2, keepdims=True), (W * v).sum(-1, keepdims=True)
    return np.stack(
        [
            *(k * v, k * one, v * one, one),
            *(k**2 * v, k * v**2, np.sign(k) * v, k * np.sign(v)),
            *(k0 * v, k * v0, k0 * v0),
            *(k * read, k**2 * read, back * v),
            *(W, W * k, W * v, W * k * v, W**2, W * k**2, W * v**2),
        ]
    )
