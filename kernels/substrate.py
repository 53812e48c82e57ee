"""Programs on the kernels: labelled arrays in, a record out."""

import math
from typing import Any

import numpy as np
import torch
import xarray as xr

from fwbio.errors import FwbioError
from fwbio.kernels.entry import scan
from fwbio.kernels.support import backend_of
from fwbio.program import operands
from fwbio.record import Keep, from_run, snapshot_steps
from fwbio.rule import Rule

DTYPES = ("float32", "float64")


def execute(
    program: xr.Dataset,
    *,
    backend: str = "auto",
    dtype: str = "float32",
    weights: Keep = "last",
    device: str = "cpu",
) -> xr.Dataset:
    """Run a program as tensors, every leading dim batched.

        W~ = diag(exp(log_decay)) W;   W <- W~ + k u^T - k (p^T W~);   y = W^T q / n

    Args:
        program: as `fwbio.program.make` makes it; any rule of the table.
        backend: as in `scan`; the record says which one really ran.
        dtype: "float32" or "float64".
        weights: whose steps' weights to keep: "last", "all", or every n-th and the last.
        device: where torch is to run it.

    Returns:
        The record: the program with `readout` (.., step, post) and `weights`
        (.., snapshot, pre, post), both dimensionless. Its query is record["query"], as
        `record.query` is a method of xarray's.

    Raises:
        FwbioError: the program is not sound, or an option is none of these.
    """
    if dtype not in DTYPES:
        raise FwbioError(
            f"{dtype!r} is not offered", where="dtype", mend=f"choose from {', '.join(DTYPES)}"
        )
    try:
        kind = torch.device(device).type
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError, TypeError) as error:
        raise _unusable(device, str(error).splitlines()[0]) from error
    if kind == "meta":
        raise _unusable(device, "it holds no numbers")
    given = operands(program)
    kept = snapshot_steps(weights, given.steps)
    every = None if weights == "last" else 1 if weights == "all" else int(weights)
    ran = backend_of(
        given.rule,
        backend,
        device=kind,
        stretch=min(given.steps, every or given.steps),
        heads=math.prod(given.shape),
    )
    place = {"dtype": getattr(torch, dtype), "device": device}

    def tensor(x: np.ndarray) -> torch.Tensor:
        batched = x.reshape(math.prod(given.shape), *x.shape[len(given.shape) :])
        return torch.tensor(batched, **place).unsqueeze(-2)

    streams: dict[str, Any] = {name: tensor(x) for name, x in given.streams.items()}
    initial = None
    if given.initial is not None:
        initial = tensor(_scaled(given.initial, given.rule)).transpose(1, 2)
    with torch.no_grad():
        y, state, *states = scan(
            given.rule,
            streams.pop("query"),
            streams.pop("key"),
            streams.pop("value"),
            **streams,
            initial_state=initial,
            return_states=every,
            backend=ran,
        )
    trajectory = torch.cat([*states, state[:, None]], 1)
    if every is not None and given.steps % every == 0:
        trajectory = states[0]
    snapshots = _unscaled(trajectory[:, : len(kept), 0].cpu().numpy(), given.rule)
    return from_run(
        program,
        substrate="kernel",
        backend=ran,
        readout=y[:, :, 0].cpu().numpy().reshape(*given.shape, given.steps, given.post),
        **given.parts(snapshots.reshape(*given.shape, len(kept), *snapshots.shape[-2:])),
        snapshots=kept,
        leading=given.leading,
        config={"dtype": dtype, "device": device},
        exact=[f"the rule, to {dtype} rounding"],
    )


def _unusable(device: object, why: str) -> FwbioError:
    return FwbioError(
        f"{device!r} can't be used ({why})",
        where="device",
        mend='give "cpu", or "cuda" where torch finds a GPU',
    )


def _scaled(state: np.ndarray, rule: Rule) -> np.ndarray:
    """A state as `scan` takes it: of a rule that writes exponentially, W / exp(m) and m."""
    if rule.terms.write != "exponential":
        return state
    peak = np.maximum(np.abs(state).max((-2, -1), keepdims=True), 1)
    scale = np.log(peak).astype(np.float32).astype(np.float64)  # the same in every dtype
    return np.concatenate([state * np.exp(-scale), scale + np.zeros_like(state[..., :1])], -1)


def _unscaled(states: np.ndarray, rule: Rule) -> np.ndarray:
    """The true weights of states that `scan` gave."""
    if rule.terms.write != "exponential":
        return states
    states = states.astype(np.float64)
    return states[..., :-1] * np.exp(states[..., -1:])
