"""What a rule predicts of the next observation, from all that were made before it.

A memory is W_t = step(W_{t-1}) with noise of variance q in each of its weights, seen with noise of
variance r, so that what is left of the last prediction's error corrects the next one:

    p- = a_t^2 p + q;   e_t = seen_t - W_t|t-1;   g = p- / (p- + r);   W_t = W_t|t-1 + g e_t;
    p = (1 - g) p-

one variance p for all weights and a_t^2 the mean square that the step leaves of an error in one of
them: the Kalman filter where steps multiply all weights alike (sums and scalar decays), and a
predictor of fixed gain elsewhere. Read-outs y = W^T x correct W along x: the query, over what the
rule divides by, or solved for.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import prod

import numpy as np

from fwbio.analyses.identification.unknowns import Model
from fwbio.local import stepper
from fwbio.normal_form import NormalForm, advance, normal_form, normalised
from fwbio.reference import asked

FEW_PARTS = 30  # trials and steps of fewer observations are judged channel by channel
DIFFERENCE = 1e-6  # step of a derivative, in units of its parameter
ROUGH_DIFFERENCE = 0.05  # of one by which predictions jump


@dataclass(frozen=True, kw_only=True)
class Filtered:
    """Innovations of a batch of settings, summed over the parts of each trial and observation.

    Args:
        squares: |e|^2 (setting, trial, part).
        spread: their predicted variance in units of r, (setting, trial, part).
        counts: how many numbers were seen, (trial, part).
    """

    squares: np.ndarray
    spread: np.ndarray
    counts: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Slopes:
    """How the innovations of a batch of settings depend on its parameters, J = de/d parameter.

    Args:
        curvature: sum of J^T J / spread, (setting, parameter, parameter).
        slope: sum of J^T e / spread, (setting, parameter).
        scores: the same of each trial and part, (setting, trial, part, parameter).
    """

    curvature: np.ndarray
    slope: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Observations in the orientation of the state, by the step after which they were made.

    Args:
        at: step -> place among the observations.
        values: (seen, trial, ..), 0 where nothing was seen.
        mask: 1 where something was seen and 0 elsewhere, or None where all was.
        adopted: place -> 1 where a memory whose start is not known is seen for the first time,
            (trial, row, column).
        parts: into how many parts an observation is cut: postsynaptic channels, or 1.
        across: the axis of an observation (.., row, column) or (.., post) that is cut.
        counts: how many numbers, (trial, seen x parts).
        shares: how much of each observation is predicted, of all there is, (trial, seen).
    """

    at: dict[int, int]
    values: np.ndarray
    mask: np.ndarray | None
    adopted: dict[int, np.ndarray]
    parts: int
    across: int
    counts: np.ndarray
    shares: np.ndarray

    def summed(self, x: np.ndarray) -> np.ndarray:
        """Numbers (.., trial, *observation) summed over all of each part, (.., trial, part)."""
        inner = self.values.ndim - 2
        if self.parts == 1:
            return x.sum(tuple(range(-inner, 0)))[..., None]
        return x if inner == 1 else x.sum(-1 if self.across == -2 else -2)


def seen(model: Model) -> Seen:
    """The observations that a model is to explain."""
    given = model.recording
    values = given.observations(model.observed)
    weights = model.observed == "weights"
    steps = given.snapshots if weights else np.arange(given.steps)
    transposed = weights and model.rule.terms.transposed
    if transposed:
        values = np.swapaxes(values, -1, -2)
    values = np.moveaxis(values, 0, 1)
    there = np.isfinite(values)
    some = there.reshape(len(values), -1).any(-1)
    values, there, steps = values[some], there[some], steps[some]
    predicted, adopted = there, {}
    if weights and given.initial is None:
        before = np.zeros_like(there)
        before[1:] = np.logical_or.accumulate(there, axis=0)[:-1]
        predicted = there & before
        new = there & ~before
        adopted = {int(i): new[i].astype(float) for i in np.flatnonzero(new.any((1, 2, 3)))}
    few = len(values) * given.trials < FEW_PARTS
    found = Seen(
        at={int(step): place for place, step in enumerate(steps)},
        values=np.where(there, values, 0.0),
        mask=None if there.all() else there.astype(float),
        adopted=adopted,
        parts=given.post if few else 1,
        across=-2 if transposed else -1,
        counts=np.zeros(0),
        shares=predicted.reshape(*there.shape[:2], -1).mean(-1).T,
    )
    counts = np.moveaxis(found.summed(predicted), 0, 1)
    return replace(found, counts=counts.reshape(given.trials, -1))


def filtered(model: Model, data: Seen, theta: np.ndarray, rho: np.ndarray) -> Filtered:
    """Run the predictor at a batch of settings.

    Args:
        model: the rule and its recording.
        data: its observations.
        theta: (setting, parameter).
        rho: q / r of each setting, (setting,).
    """
    with np.errstate(all="ignore"):
        return _run(model, data, theta, rho, None)


def derived(
    model: Model, data: Seen, theta: np.ndarray, rho: np.ndarray
) -> tuple[Filtered, Slopes]:
    """The same, with derivatives by all parameters, by differences.

    Args:
        model: the rule and its recording.
        data: its observations.
        theta: (setting, parameter).
        rho: q / r of each setting, (setting,).
    """
    points, count = theta.shape
    steps = _differences(model, theta)
    around = np.repeat(theta[:, None], count + 1, axis=1)
    around[:, 1:] += steps[:, :, None] * np.eye(count)
    with np.errstate(all="ignore"):
        sums = _Sums(model, data, steps)
        found = _run(
            model,
            data,
            around.reshape(points * (count + 1), count),
            np.repeat(rho, count + 1),
            sums,
        )
    return found, Slopes(curvature=sums.curvature, slope=sums.slope, scores=sums.scores)


def _differences(model: Model, theta: np.ndarray) -> np.ndarray:
    """Steps of one-sided derivatives that stay within bounds, (setting, parameter)."""
    typical = np.maximum(np.abs(theta), model.each("typical"))
    smooth = model.each("smooth") > 0
    step = np.where(smooth, DIFFERENCE, ROUGH_DIFFERENCE) * typical
    return np.where(theta + step > model.each("high"), -step, step)


@dataclass(frozen=True, kw_only=True)
class Innovation:
    """A step, and what was not predicted of the observation after it.

    Args:
        before: the state before the step, (setting, trial, row, column).
        place: which observation was made after it, or None.
        error: observed minus predicted, (setting, trial, ..), 0 where nothing was; empty if none.
        spread: its predicted variance in units of r, (setting, trial).
    """

    before: np.ndarray
    place: int | None = None
    error: np.ndarray = field(default_factory=lambda: np.zeros(0))
    spread: np.ndarray = field(default_factory=lambda: np.zeros(0))


def innovations(
    model: Model, data: Seen, theta: np.ndarray, rho: np.ndarray
) -> Iterator[Innovation]:
    """The steps of a recording, one by one, as a rule predicts them from those before.

    Args:
        model: the rule and its recording.
        data: its observations.
        theta: (setting, parameter).
        rho: q / r of each setting, (setting,).
    """
    writer = _Writer(model, model.streams(theta), len(theta))
    scale = model.scales(theta)
    unit = scale if model.observed == "weights" else scale[..., 0]
    state = writer.start(scale)
    variances = _Variances(model, writer, data, rho)
    for t in range(model.recording.steps):
        before = state
        state = writer.step(t, state)
        variances.step(t)
        if t not in data.at:
            yield Innovation(before=before)
            continue
        place = data.at[t]
        told, along = writer.observed(state, t)
        error = data.values[place] - unit * told
        if data.mask is not None:
            error = error * data.mask[place]
        if place in data.adopted:
            # what is seen for the first time is where the memory starts: nothing predicts it
            state = state + data.adopted[place] * error / scale
            error = error * (1 - data.adopted[place])
        spread, state = variances.update(place, state, error, along, scale)
        yield Innovation(before=before, place=place, error=error, spread=spread)


def _run(
    model: Model, data: Seen, theta: np.ndarray, rho: np.ndarray, sums: "_Sums | None"
) -> Filtered:
    trials = model.recording.trials
    group = 1 if sums is None else sums.count + 1
    points = len(theta) // group
    squares = np.empty((points, trials, len(data.at), data.parts))
    spread = np.empty_like(squares)
    for found in innovations(model, data, theta, rho):
        if found.place is None:
            continue
        s, error = found.spread[::group], found.error
        here = error.reshape(points, group, *error.shape[1:])
        squares[:, :, found.place] = data.summed(here[:, 0] ** 2)
        spread[:, :, found.place] = s[..., None]
        if sums is not None:
            root = np.sqrt(s).reshape(points, 1, trials, *[1] * (error.ndim - 2))
            sums.add(found.place, here / root)
    flat = points, trials, -1
    return Filtered(squares=squares.reshape(flat), spread=spread.reshape(flat), counts=data.counts)


class _Sums:
    """Normal equations, summed step by step."""

    def __init__(self, model: Model, data: Seen, steps: np.ndarray) -> None:
        points, self.count = steps.shape
        self.data, self.steps = data, steps
        self.curvature = np.zeros((points, self.count, self.count))
        self.slope = np.zeros((points, self.count))
        shape = (points, model.recording.trials, len(data.at), data.parts, self.count)
        self._scores = np.zeros(shape)

    @property
    def scores(self) -> np.ndarray:
        """Of each trial and part, (setting, trial, part, parameter)."""
        points, trials, seen, parts, count = self._scores.shape
        return self._scores.reshape(points, trials, seen * parts, count)

    def add(self, place: int, errors: np.ndarray) -> None:
        """Add errors (setting, 1 + parameter, trial, ..) over the root of their spread."""
        step = self.steps.reshape(*self.steps.shape, *[1] * (errors.ndim - 2))
        J = (errors[:, 1:] - errors[:, :1]) / step
        score = np.moveaxis(self.data.summed(J * errors[:, :1]), 1, -1)
        flat = J.reshape(*J.shape[:2], prod(J.shape[2:]))
        self.curvature += flat @ np.swapaxes(flat, -1, -2)
        self.slope += score.sum((1, 2))
        self._scores[:, :, place] = score


class _Writer:
    """Steps of a memory, its start, and what is seen of it."""

    def __init__(self, model: Model, streams: dict[str, np.ndarray], batch: int) -> None:
        self.model, self.batch = model, batch
        self.terms = model.rule.terms
        self.form: NormalForm | None = None
        self.streams = streams
        self.writes = 1
        if self.terms.linear:
            writes = streams["key"].shape[2] // model.recording.steps
            self.form = normal_form(model.rule, streams, xp=np, time_axis=2, writes_per_step=writes)
            self.writes = self.form.writes_per_step
            self._step = advance(self.form, xp=np)
        else:
            self._step = stepper(model.rule, streams, xp=np, axis=2)

    def start(self, scale: np.ndarray) -> np.ndarray:
        """The weights before the first step, in the rule's own unit."""
        given = self.model.recording
        initial = given.initial
        if initial is None:
            initial = np.zeros((given.trials, given.pre, given.post))
        if self.terms.transposed:
            initial = np.swapaxes(initial, -1, -2)
        state = np.broadcast_to(initial, (self.batch, *initial.shape)) / scale
        if self.terms.companion is None:
            return state
        beside = 1 if self.terms.companion == "normaliser" else given.pre
        return np.concatenate([state, np.zeros((*state.shape[:-1], beside))], -1)

    def step(self, t: int, state: np.ndarray) -> np.ndarray:
        """The state after a step's writes."""
        for write in range(t * self.writes, (t + 1) * self.writes):
            state = self._step(write, state)
        return state

    def observed(self, state: np.ndarray, t: int) -> tuple[np.ndarray, np.ndarray | None]:
        """The weights; or what the step's query reads y = W^T x, and x (setting, trial, pre)."""
        if self.model.observed == "weights":
            return state, None
        x = self.streams["query"][:, :, t] if self.form is None else asked(self.form, t, state)
        through = np.swapaxes(state, -1, -2) if self.terms.transposed else state
        drawn = np.einsum("...kv,...k->...v", through, x)
        if self.form is not None and self.terms.normaliser != "none":
            n = drawn[..., -1:]
            x = x * normalised(np.concatenate([np.ones_like(n), n], -1), self.form, np)
            drawn = normalised(drawn, self.form, np)
        return drawn[..., : self.model.recording.post], x

    def kept(self) -> np.ndarray | None:
        """The mean square of an error that a step leaves, (setting, trial, step); None where 1."""
        form = self.form
        if form is None:
            return None
        shape = (self.batch, self.model.recording.trials, form.key.shape[2])
        d = np.ones(1) if form.log_decay is None else np.exp(form.log_decay)
        channels = form.key.shape[-1]
        total = np.broadcast_to(d**2, (*d.shape[:-1], channels) if d.ndim > 1 else (channels,))
        total = total.sum(-1)
        if form.erase is not None:
            p, k = form.erase, form.key
            reach = p if form.undecayed else p * d
            total = total - 2 * (k * reach * d).sum(-1) + (k**2).sum(-1) * (reach**2).sum(-1)
        elif form.log_decay is None:
            return None
        left = np.broadcast_to(total / channels, shape)
        return left.reshape(*shape[:2], -1, self.writes).prod(-1)


class _Variances:
    """The variance of the prediction, in units of r, and the gain that follows from it."""

    def __init__(self, model: Model, writer: _Writer, data: Seen, rho: np.ndarray) -> None:
        self.model, self.data, self.rho = model, data, rho[:, None]
        given = model.recording
        start = 1.0 if given.initial is None else 0.0
        self.p = np.full((len(rho), given.trials), start)
        self.exact = not rho.any() and given.initial is not None
        self.kept = None if self.exact else writer.kept()
        self.first = min(data.adopted, default=-1)

    def step(self, t: int) -> None:
        """Let a step pass."""
        if self.exact:
            return
        kept = 1.0 if self.kept is None else self.kept[:, :, t]
        self.p = kept * self.p + self.rho

    def update(
        self,
        place: int,
        state: np.ndarray,
        error: np.ndarray,
        along: np.ndarray | None,
        scale: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The innovations' spread (setting, trial) and the corrected state."""
        if place == self.first:
            self.p = np.ones_like(self.p)
            return np.ones_like(self.p), state
        if self.exact:
            return np.ones_like(self.p), state
        share = self.data.shares[:, place]
        if along is None:
            gain = self.p / (self.p + 1)
            spread = self.p + 1
            self.p = self.p * (1 - share * gain)
            change = gain[..., None, None] * error
        else:
            power = (along**2).sum(-1)
            spread = self.p * power + 1
            gain = (self.p / spread)[..., None] * along
            if self.model.rule.terms.transposed:
                change = error[..., :, None] * gain[..., None, :]
            else:
                change = gain[..., :, None] * error[..., None, :]
            self.p = self.p * (1 - share * self.p * power / spread / along.shape[-1])
            beside = state.shape[-1] - change.shape[-1]
            if beside:
                # what the memory sums beside its weights is not in doubt
                change = np.concatenate([change, np.zeros((*change.shape[:-1], beside))], -1)
        return spread, state + change / scale
