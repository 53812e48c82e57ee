"""A rule run anew with the constants that were fitted, beside what was observed."""

import numpy as np
import xarray as xr

from fwbio.analyses.identification.answer import Candidate
from fwbio.analyses.identification.data import Recording, from_record
from fwbio.analyses.identification.meanings import ARBITRARY
from fwbio.analyses.identification.unknowns import Model, Observed, model
from fwbio.errors import FwbioError
from fwbio.local import stepper
from fwbio.normal_form import advance, normal_form, normalised
from fwbio.reference import read
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
        `observed` and `predicted` (change), every number that was seen, in the observations' unit,
        "a.u." where they name none.

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
    recording = recording if trials is None else recording.first(trials)
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
            name: (
                "change",
                values[there],
                {"units": units or ARBITRARY, "long_name": f"{name} {what}"},
            )
            for name, values in {"observed": seen, "predicted": told}.items()
        }
    )
    dataset.attrs = {"rule": candidate.rule, "observed": observed}
    return dataset


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
    if terms.linear:
        writes = streams["key"].shape[1] // given.steps
        form = normal_form(found.rule, streams, xp=np, time_axis=1, writes_per_step=writes)
        write = advance(form, xp=np)
    else:
        form, writes = None, 1
        write = stepper(found.rule, streams, xp=np, axis=1)
    if terms.transposed:
        state = np.swapaxes(state, -1, -2)
    beside = 0 if form is None else form.value.shape[-1] - state.shape[-1]
    state = np.concatenate([state, np.zeros((*state.shape[:-1], beside))], -1)
    weights = np.empty((given.trials, given.steps, given.pre, given.post))
    readout = np.empty((given.trials, given.steps, given.post))
    for step in range(given.steps):
        for t in range(step * writes, (step + 1) * writes):
            state = write(t, state)
        if step in adopted:
            new, first = adopted[step]
            own = state[..., : first.shape[-1]]
            own[new] = first[new]
        if form is None:
            drawn = np.einsum("...kv,...k->...v", state, streams["query"][:, step])
        else:
            drawn = read(form, step, state)
            drawn = normalised(drawn, form, np)
        through = np.swapaxes(state, -1, -2) if terms.transposed else state
        weights[:, step] = scale * through[..., : given.post]
        readout[:, step] = scale * drawn[..., : given.post]
    return weights, readout


def _adopted(found: Model, scale: float) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Step -> which weights a memory whose start was not observed goes on from, and these."""
    given = found.recording
    if given.initial is not None or found.observed != "weights":
        return {}
    observed = np.asarray(given.weights) / scale
    if found.rule.terms.transposed:
        observed = np.swapaxes(observed, -1, -2)
    there = np.isfinite(observed)
    new = there & (np.cumsum(there, axis=1) == 1)
    return {
        int(step): (new[:, i], observed[:, i])
        for i, step in enumerate(given.snapshots)
        if new[:, i].any()
    }
