"""The reference: every rule in float64 NumPy, one plain loop over the normal form."""

import numpy as np
import xarray as xr

from fwbio.normal_form import normal_form, normalised
from fwbio.program import operands
from fwbio.record import Keep, from_run, snapshot_steps


def execute(program: xr.Dataset, *, weights: Keep = "last") -> xr.Dataset:
    """Run a program step by step in float64: the ground truth of every other substrate.

        W~ = diag(exp(log_decay)) W;   W <- W~ + k u^T - k (p^T W~);   y = W^T q / n

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
    form = normal_form(
        given.rule,
        given.streams,
        xp=np,
        time_axis=len(given.shape),
        writes_per_step=given.writes_per_step,
    )
    state = np.zeros((*given.shape, form.key.shape[-1], form.write.shape[-1]))
    if given.initial is not None:
        initial = np.swapaxes(given.initial, -1, -2) if form.transposed else given.initial
        state[..., : initial.shape[-1]] = initial
    readout = np.empty((*given.shape, given.steps, given.post))
    snapshots = np.empty((*given.shape, len(kept), *state.shape[-2:]))
    for step in range(given.steps):
        for t in range(step * form.writes_per_step, (step + 1) * form.writes_per_step):
            if form.log_decay is not None:
                state = np.exp(form.log_decay[..., t, :, None]) * state
            write = form.write[..., t, :]
            if form.erase is not None:
                write = write - np.einsum("...k,...kv->...v", form.erase[..., t, :], state)
            state = state + form.key[..., t, :, None] * write[..., None, :]
        read = "...vk,...k->...v" if form.transposed else "...kv,...k->...v"
        y = np.einsum(read, state, form.query[..., step, :])
        readout[..., step, :] = normalised(y, np) if form.normaliser else y
        snapshots[..., kept == step, :, :] = state[..., None, :, :]
    if form.transposed:
        snapshots = np.swapaxes(snapshots, -1, -2)
    return from_run(
        program,
        substrate="reference",
        backend="numpy",
        readout=readout,
        weights=snapshots[..., : given.post],
        normaliser=snapshots[..., given.post] if form.normaliser else None,
        snapshots=kept,
        leading=given.leading,
        exact=["the rule, to float64 rounding"],
    )
