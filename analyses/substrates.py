"""The substrates by name: what runs a program, and why one does not."""

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any

import xarray as xr

from fwbio.errors import FwbioError, unknown_name
from fwbio.rule import Rule
from fwbio.rules import resolve

SUBSTRATES: Mapping[str, str] = {
    "reference": "float64 NumPy, step by step: the ground truth",
    "kernel": "batched tensors in torch, float32",
    "flow": "the synapses' equations solved exactly from event to event",
    "rate": "AMPA and NMDA synapses between rate cells, integrated in time",
    "spiking": "AMPA and NMDA synapses between spiking cells",
}
SYNAPTIC = ("flow", "rate", "spiking")


def unsupported(rule: Rule | str, substrate: str) -> str | None:
    """Why a substrate does not run a rule, in words, or None where it does.

    Raises:
        FwbioError: there is no such rule or substrate.
    """
    rule = resolve(rule)
    if substrate not in SUBSTRATES:
        raise unknown_name(substrate, SUBSTRATES, kind="substrate", where="substrate")
    if substrate in SYNAPTIC:
        from fwbio import models

        return models.unsupported(rule, substrate)
    if substrate == "kernel":
        from fwbio import kernels

        return kernels.unsupported(rule)
    return None


def execute(
    program: xr.Dataset,
    substrate: str,
    *,
    seed: int = 0,
    progress: bool = False,
    options: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """The record of a program's run on a substrate, with the last step's weights.

    Args:
        program: as `fwbio.program.make` makes it.
        substrate: its name.
        seed: of the substrate's own noise, where it has any.
        progress: whether a long run shows a bar.
        options: further arguments of the substrate's `execute`.

    Raises:
        FwbioError: there is no such substrate, or it refuses the program or an option.
    """
    if substrate not in SUBSTRATES:
        raise unknown_name(substrate, SUBSTRATES, kind="substrate", where="substrate")
    extra = dict(options or {})
    if substrate in SYNAPTIC:
        from fwbio import models

        return models.execute(program, substrate, seed=seed, progress=progress, **extra)
    if substrate == "kernel":
        from fwbio import kernels

        return _with_options(kernels.execute, program, substrate, extra)
    from fwbio import reference

    return _with_options(reference.execute, program, substrate, extra)


def attempt(
    program: xr.Dataset,
    substrate: str,
    *,
    trials: int,
    seed: int = 0,
    progress: bool = False,
    options: Mapping[str, Any] | None = None,
) -> tuple[xr.Dataset | None, str | None]:
    """The record of a program's run on a substrate, or the reason in words why there is none.

    Args:
        program: as `fwbio.program.make` makes it.
        substrate: its name.
        trials: how many, the first ones, synapses run.
        seed: of the substrate's own noise, where it has any.
        progress: whether a long run shows a bar.
        options: further arguments of the substrate's `execute`.

    Raises:
        FwbioError: there is no such substrate; with options, also what it refuses.
    """
    if reason := unsupported(program.attrs["rule"], substrate):
        return None, reason
    if substrate not in SYNAPTIC:
        return execute(program, substrate, options=options), None
    first = program.isel(trial=slice(trials))
    try:
        return execute(first, substrate, seed=seed, progress=progress, options=options), None
    except FwbioError as error:
        # Synapses refuse some programs of a rule that they do run (a negative rate, say): that is
        # a finding. With options it may as well be a mistake in those.
        if options:
            raise
        return None, f"{error.what}; {error.mend}"


def _with_options(
    run: Callable[..., xr.Dataset], program: xr.Dataset, substrate: str, options: Mapping[str, Any]
) -> xr.Dataset:
    """A run with options that its function has."""
    known = [p.name for p in signature(run).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for name in options:
        if name not in known:
            raise unknown_name(name, known, kind="option", where=f"{substrate} substrate")
    return run(program, **options)
