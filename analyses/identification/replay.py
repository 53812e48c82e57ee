"""A rule run anew with the constants that were fitted, beside what was observed."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from fwbio.analyses.identification.answer import Candidate
from fwbio.analyses.identification.data import Recording, from_record
from fwbio.analyses.identification.unknowns import Model, Observed, model
from fwbio.errors import FwbioError
from fwbio.local import stepper
from fwbio.normal_form import advance, normal_form, normalised
from fwbio.rule import Rule
from fwbio.rules import resolve


def replay(
    record: xr.Dataset | Recording,
    candidate: Candidate,
    *,
    observed: Observed = "weights",
    trials: int | None = None,
    rule: Rule | None = None,
) -> xr.Dataset:
    """Changes of the weights, or read-outs, beside those of the rule run alone from its start.

    The rule sees keys, values and its fitted constants, and none of the observations after the
    first: its course is not corrected by them, as it is while the constants are fitted.

    Args:
        record: as in `identify`.
        candidate: a rule of the answer to it, with its constants.
        observed: "weights", whose changes from one snapshot to the next are given; or "readout".
        trials: how many to run, the first ones; all unless given. The weights of all their steps
            are held at once.
        rule: the candidate's, where it is not of the table.

    Returns:
        `observed` and `predicted` (change), every number that was seen, in the observations' unit.

    Raises:
        FwbioError: the record is no recording, or the candidate was refused, or its rule is not of
            the table and not given.
    """
    if candidate.refused is not None:
        raise FwbioError(
            f"{candidate.rule} was refused: {candidate.refused}",
            where="replay",
            mend="give a rule that was fitted",
        )
    recording = record if isinstance(record, Recording) else from_record(record)
    recording = first_trials(recording, trials)
    rule = resolve(candidate.rule) if rule is None else rule
    found = _model(rule, recording, candidate, observed)
    weights, readout = _run(found, _theta(found, candidate))
    if observed == "weights":
        courses = np.asarray(recording.weights), weights[:, recording.snapshots]
        if recording.initial is not None:
            start = recording.initial[:, None]
            courses = tuple(np.concatenate([start, x], 1) for x in courses)
        seen, told = (np.diff(x, axis=1) for x in courses)
        units, what = recording.weight_units, "change of a weight"
    else:
        seen, told = np.asarray(recording.readout), readout
        units, what = recording.readout_units, "read-out"
    there = np.isfinite(seen)
    dataset = xr.Dataset(
        {
            name: ("change", values[there], {"units": units or "1", "long_name": f"{name} {what}"})
            for name, values in {"observed": seen, "predicted": told}.items()
        }
    )
    dataset.attrs = {"rule": candidate.rule, "observed": observed}
    return dataset


def first_trials(recording: Recording, trials: int | None) -> Recording:
    """The recording of its first trials; of all of them where `trials` is None."""
    names = ("keys", "values", "queries", "weights", "readout", "initial")
    some: dict[str, Any] = {
        name: None if getattr(recording, name) is None else getattr(recording, name)[:trials]
        for name in names
    }
    for name in ("courses", "presented"):
        some[name] = {stream: x[:trials] for stream, x in getattr(recording, name).items()}
    return replace(recording, **some)


def _model(rule: Rule, recording: Recording, candidate: Candidate, observed: Observed) -> Model:
    fitted = any(p.name == "scale" for p in candidate.parameters)
    return model(rule, recording, observed=observed, scale=None if fitted else 1.0)


def _theta(found: Model, candidate: Candidate) -> np.ndarray:
    """A candidate's constants as the parameters of its model, (1, parameter)."""
    said = {p.name: np.ravel(p.value) for p in candidate.parameters}
    parts = [np.zeros(0)]
    for unknown in found.unknowns:
        value = said[unknown.name]
        if unknown.logarithmic:
            value = np.log(np.maximum(value, np.exp(unknown.low)))
        parts.append(value)
    return np.concatenate(parts)[None]


def _run(found: Model, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights after every step and what the queries read, (trial, step, ..), from the start on."""
    given, terms = found.recording, found.rule.terms
    shape = (given.trials, given.pre, given.post)
    streams = {
        name: np.broadcast_to(stream[0], (given.trials, *stream.shape[2:]))
        for name, stream in found.streams(theta).items()
    }
    scale = float(np.ravel(found.scales(theta))[0])
    state = np.zeros(shape) if given.initial is None else given.initial / scale
    adopted = _adopted(found, scale)
    if not terms.linear:
        write = stepper(found.rule, streams, xp=np, axis=1)
        course = _course(write, state, given.steps, 1, adopted)
        return scale * course, scale * _read(course, streams["query"])
    writes = streams["key"].shape[1] // given.steps
    form = normal_form(found.rule, streams, xp=np, time_axis=1, writes_per_step=writes)
    if form.transposed:
        state = np.swapaxes(state, -1, -2)
    beside = form.value.shape[-1] - state.shape[-1]
    state = np.concatenate([state, np.zeros((*state.shape[:-1], beside))], -1)
    course = _course(advance(form, xp=np), state, given.steps, writes, adopted)
    query = form.query
    if form.ridge is not None:
        gram = course[..., -given.pre :] + form.ridge[..., None] * np.eye(given.pre)
        query = np.linalg.solve(gram, query[..., None])[..., 0]
    if form.transposed:
        course = np.swapaxes(course, -1, -2)
    read = normalised(_read(course, query), form, np)
    return scale * course[..., : given.post], scale * read[..., : given.post]


def _adopted(found: Model, scale: float) -> tuple[int, np.ndarray] | None:
    """The step and the weights from which a memory goes on whose start was not observed."""
    given = found.recording
    if given.initial is not None or found.observed != "weights":
        return None
    first = np.nan_to_num(np.asarray(given.weights)[:, 0]) / scale
    if found.rule.terms.transposed:
        first = np.swapaxes(first, -1, -2)
    return int(given.snapshots[0]), first


def _course(
    write: Callable[[int, np.ndarray], np.ndarray],
    state: np.ndarray,
    steps: int,
    writes: int,
    adopted: tuple[int, np.ndarray] | None,
) -> np.ndarray:
    """The states after every step, (trial, step, row, column)."""
    course = np.empty((state.shape[0], steps, *state.shape[1:]))
    for step in range(steps):
        for t in range(step * writes, (step + 1) * writes):
            state = write(t, state)
        if adopted is not None and step == adopted[0]:
            state = np.concatenate([adopted[1], state[..., adopted[1].shape[-1] :]], -1)
        course[:, step] = state
    return course


def _read(course: np.ndarray, query: np.ndarray) -> np.ndarray:
    read: np.ndarray = np.einsum("...kv,...k->...v", course, query)
    return read
