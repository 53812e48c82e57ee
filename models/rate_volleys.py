"""The calcium rule in a memory of graded volleys, by Brian2: Graupner and Brunel's own synapse.

Each step the key cells fire at once and the value cells LEAD seconds later; a volley of strength
k_i, or v_j, lets in that share of a spike's calcium. Between volleys calcium decays and moves the
efficacy, w = rho here, without noise and without the potential that holds it: their mean.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import brian2 as b2
import numpy as np

from fwbio.errors import FwbioError
from fwbio.models.plasticity_calcium import GraupnerBrunel
from fwbio.models.presentations import Phase
from fwbio.models.simulation import conduct, dense, engine
from fwbio.models.substrate import Run
from fwbio.models.volleys import graded, lead_faults, onsets, steps_between
from fwbio.traces import LEAD

_SILENT = -1.0  # s: the time of a volley that never comes


@dataclass(frozen=True, kw_only=True)
class CalciumModel:
    """Parameters of the rate substrate of the calcium rule; times in seconds.

    Args:
        dt: time step; the delay of the presynaptic calcium is rounded to a whole number of it, its
            amount corrected for that, and the efficacy takes Euler steps.
        parameters: "cortical_slice", as the rule has it, or another of the published sets.
        engine: Brian2's code generation, "cython" or "numpy".
    """

    dt: float = 0.1e-3
    parameters: str = "cortical_slice"
    engine: str = "cython"

    def faults(self) -> list[tuple[str, str]]:
        """Combinations of parameters that make no model, each with its mend."""
        return lead_faults(self.dt)


def run(
    streams: Mapping[str, np.ndarray],
    initial: np.ndarray,
    kept: np.ndarray,
    model: CalciumModel,
    seed: int,
    progress: bool,
) -> Run:
    """Simulate a program of the calcium rule.

    Args:
        streams: key, value, query, interval (s) and perhaps beta, (n, step, channel), n trials.
        initial: weights before the first step, (n, row, column).
        kept: steps after which weights are kept.
        model: parameters.
        seed: unused by this deterministic model but for the engine's state.
        progress: whether to show a bar.

    Raises:
        FwbioError: negative queries, no such set of parameters, a time step too coarse for the
            rates of the efficacy, or an interval that is no whole
            number of time steps, or not the same in all trials.
    """
    if (streams["query"] < 0).any():
        raise FwbioError(
            f"the query reaches {streams['query'].min():.3g}, and rates can't be negative",
            where="rate substrate",
            mend="code signed items with ON/OFF cells (coding='on_off')",
        )
    n, rows, columns = initial.shape
    steps = streams["query"].shape[1]
    starts, ends = onsets(streams["interval"], model.dt, where="rate substrate")
    beta = streams.get("beta", np.ones((n, steps, 1)))
    drawn = np.zeros((n, steps, columns))
    snapshots = np.zeros((n, len(kept), rows, columns))
    published = replace(GraupnerBrunel.named(model.parameters), sigma=0.0, potential=0.0)
    # a volley whose delay is rounded lets in what is the published calcium when that arrives
    early = published.delay - round(published.delay / model.dt) * model.dt
    scale = {"key": float(np.exp(early / published.tau_ca)), "value": 1.0}
    fastest = beta.max(initial=0) * (published.gamma_p + published.gamma_d) / published.tau
    if fastest * model.dt > 0.1:
        raise FwbioError(
            f"dt = {model.dt:g} s is too coarse for weights that change at up to {fastest:.3g} /s",
            where="rate substrate",
            mend=f"give dt below {0.1 / fastest:.2g} s",
        )
    with engine(model.engine, model.dt, seed):
        cells = {
            name: b2.NeuronGroup(
                n * size,
                "amount : 1\ndue : second",
                threshold="abs(t - due) < dt / 2",
                reset="",
                name=f"{name}_volleys",
            )
            for name, size in (("key", rows), ("value", columns))
        }
        for group in cells.values():
            group.due = _SILENT * b2.second
        i, j = dense(n, rows, columns)
        shares = {"c_pre": "amount_pre", "c_post": "amount_post"}
        synapses = graded(published.synapse().multiplied(shares)).connect(
            cells["key"], cells["value"], i, j, name="calcium_synapses"
        )
        synapses.rho = initial.ravel()
        weights = synapses.variables["rho"].get_value()
        strength = synapses.variables["strength"].get_value()
        trial = np.repeat(np.arange(n), rows * columns)

        def enter(phase: Phase) -> None:
            strength[:] = beta[trial, phase.step, 0]
            for name, late in (("key", 0.0), ("value", LEAD)):
                amount = scale[name] * np.maximum(streams[name][:, phase.step], 0)
                cells[name].amount = amount.ravel()
                cells[name].due = (phase.start + late) * b2.second

        def leave(phase: Phase) -> None:
            now = weights.reshape(n, rows, columns)
            drawn[:, phase.step] = np.einsum("nk,nkv->nv", streams["query"][:, phase.step], now)
            snapshots[:, kept == phase.step] = now[:, None]

        conduct(
            [*cells.values(), synapses],
            steps_between(starts, ends),
            dt=model.dt,
            enter=enter,
            leave=leave,
            progress=progress,
            title="calcium synapses",
        )
    other = model.parameters != "cortical_slice"
    return Run(
        readout=drawn,
        weights=snapshots,
        onset=starts,
        exact=("calcium, and the time it spends above each threshold",),
        approximate=(
            f"Euler steps of {model.dt:g} s, and a delay rounded to them, its calcium set right",
            "no noise and no potential: the mean of the published efficacy",
            "cues leave no calcium, and are read without spikes",
            *((f"the set {model.parameters}, where the rule's is cortical_slice",) * other),
        ),
        backend=f"brian2-{model.engine}",
    )
