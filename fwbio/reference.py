"""The reference: every rule in float64 NumPy, one plain loop over the normal form."""

import numpy as np
import xarray as xr

from fwbio.local import stepper
from fwbio.normal_form import NormalForm, advance, normal_form, normalised
from fwbio.program import Operands, operands
from fwbio.record import Keep, from_run, snapshot_steps


def execute(program: xr.Dataset, *, weights: Keep = "last") -> xr.Dataset:
    """Run a program step by step in float64: the ground truth of every other substrate.

        W~ = diag(exp(log_decay)) W;   W <- W~ + k u^T - k (p^T W~);   y = W^T q / n

    or the rule's own step where it is not linear in W. A query of a rule with a ridge is solved
    for directly, step by step.

    Args:
        program: as `fwbio.program.make` makes it; any rule of the table.
        weights: whose steps' weights to keep: "last", "all", or every n-th and the last.

    Returns:
        The record: the program with `readout` (.., step, post) and `weights`
        (.., snapshot, pre, post), both dimensionless.

    Raises:
        FwbioError: the program is not sound, or `weights` is none of these.
    """
    given = operands(program)
    kept = snapshot_steps(weights, given.steps)
    if not given.rule.terms.linear:
        drawn, snapshots = _local(given, kept)
        return _record(program, given, drawn, snapshots, kept)
    form = normal_form(
        given.rule,
        given.streams,
        xp=np,
        time_axis=len(given.shape),
        writes_per_step=given.writes_per_step,
    )
    state = np.zeros((*given.shape, form.key.shape[-1], form.value.shape[-1]))
    if given.initial is not None:
        state[:] = np.swapaxes(given.initial, -1, -2) if form.transposed else given.initial
    drawn = np.empty((*given.shape, given.steps, state.shape[-2 if form.transposed else -1]))
    snapshots = np.empty((*given.shape, len(kept), *state.shape[-2:]))
    write = advance(form, xp=np)
    for step in range(given.steps):
        for t in range(step * form.writes_per_step, (step + 1) * form.writes_per_step):
            state = write(t, state)
        drawn[..., step, :] = read(form, step, state)
        snapshots[..., kept == step, :, :] = state[..., None, :, :]
    if form.transposed:
        snapshots = np.swapaxes(snapshots, -1, -2)
    if form.stabiliser is not None:
        snapshots = snapshots * np.exp(form.stabiliser[..., kept, :, None])
    readout = normalised(drawn, form, np)[..., : given.post]
    return _record(program, given, readout, snapshots, kept)


def read(form: NormalForm, step: int, state: np.ndarray) -> np.ndarray:
    """What the query of a step reads from the state, not yet normalised.

        y = W^T q;   with a ridge  y = W^T x,  (H + diag(ridge)) x = q

    Args:
        form: of the run, whose time is the last axis of its streams but one.
        step: which.
        state: after that step, (.., row, column).

    Returns:
        (.., column), of a transposed state (.., row).
    """
    through = np.swapaxes(state, -1, -2) if form.transposed else state
    found: np.ndarray = np.einsum("...kv,...k->...v", through, asked(form, step, state))
    return found


def asked(form: NormalForm, step: int, state: np.ndarray) -> np.ndarray:
    """By what the weights are read at a step: the query, or x of (H + diag(ridge)) x = q.

    Args:
        form: of the run, whose time is the last axis of its streams but one.
        step: which.
        state: after that step, (.., row, column).

    Returns:
        (.., pre).
    """
    query: np.ndarray = form.query[..., step, :]
    if form.ridge is None:
        return query
    gram = state[..., -query.shape[-1] :]
    matrix = gram + form.ridge[..., step, :, None] * np.eye(query.shape[-1])
    return np.linalg.solve(matrix, query[..., None])[..., 0]


def _record(
    program: xr.Dataset,
    given: Operands,
    readout: np.ndarray,
    snapshots: np.ndarray,
    kept: np.ndarray,
) -> xr.Dataset:
    return from_run(
        program,
        substrate="reference",
        backend="numpy",
        readout=readout,
        **given.parts(snapshots),
        snapshots=kept,
        leading=given.leading,
        exact=["the rule, to float64 rounding"],
    )


def _local(given: Operands, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Read-outs and kept weights of a rule that is not linear in them."""
    streams = {"beta": np.ones((*given.shape, given.steps, 1))} | given.streams
    step = stepper(given.rule, streams, xp=np, axis=len(given.shape))
    weights = np.zeros((*given.shape, given.pre, given.post))
    if given.initial is not None:
        weights[:] = given.initial
    drawn = np.empty((*given.shape, given.steps, given.post))
    snapshots = np.empty((*given.shape, len(kept), given.pre, given.post))
    for t in range(given.steps):
        weights = step(t, weights)
        query = given.streams["query"][..., t, :]
        drawn[..., t, :] = np.einsum("...kv,...k->...v", weights, query)
        snapshots[..., kept == t, :, :] = weights[..., None, :, :]
    return drawn, snapshots
