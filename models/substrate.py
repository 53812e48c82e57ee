"""Programs on synapses: labelled arrays in, a record out, by one of the synaptic models."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from fwbio.errors import FwbioError, unknown_name
from fwbio.models.parameters import check
from fwbio.models.time_scales import require_scale, time_scale
from fwbio.normal_form import NormalForm, normal_form, normalised
from fwbio.program import Operands, operands
from fwbio.record import Keep, from_run, labelled, snapshot_steps
from fwbio.rule import Rule, Terms
from fwbio.rules import resolve

SUBSTRATES = ("flow", "rate", "spiking")
DIVIDED = "the normaliser is a column of synapses, but the division is done on its read-out"
TRACED = "the rule's traces are imposed with the drives: no synapse keeps them here"


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a synaptic model hands back; n trials.

    Args:
        readout: (n, step, column).
        weights: (n, snapshot, row, column).
        onset: when each step started, s, (step,).
        exact: what is exact, in words.
        approximate: what is not, in words.
        backend: the engine that ran.
        traces: further variables of the record.
        run_s: seconds that stepping took, where it was measured.
        compile_s: seconds before it, for the network's making and the compiler where it ran.
    """

    readout: np.ndarray
    weights: np.ndarray
    onset: np.ndarray
    exact: tuple[str, ...]
    approximate: tuple[str, ...]
    backend: str
    traces: Mapping[str, xr.DataArray] = field(default_factory=dict)
    run_s: float | None = None
    compile_s: float | None = None


def unsupported(rule: Rule | str, substrate: str) -> str | None:
    """Why a substrate does not run a rule, in words, or None where it does.

    Raises:
        FwbioError: there is no such rule or substrate.
    """
    rule = resolve(rule)
    if substrate not in SUBSTRATES:
        raise unknown_name(substrate, SUBSTRATES, kind="substrate", where="substrate")
    if (rule.terms.plasticity, substrate) in _OWN:
        return None
    reasons = _REASONS + (_SPIKING_REASONS if substrate == "spiking" else ())
    return next((reason for holds, reason in reasons if holds(rule.terms)), None)


_Reason = tuple[Callable[[Terms], bool], str]
_REASONS: tuple[_Reason, ...] = (
    (
        lambda terms: not terms.linear,
        "its step is not linear in the weights: no plan of presentations makes it, and it has no"
        " synapses of its own here",
    ),
    (
        lambda terms: terms.plasticity == "covariance",
        "it writes along keys less their means, and rates can't be negative",
    ),
    (
        lambda terms: terms.transposed,
        "its error is a prediction of the presynaptic rate from the postsynaptic one, which no"
        " signal carries back to the synapse",
    ),
    (
        lambda terms: terms.reads == "undecayed",
        "its prediction is read from weights as they were before they decayed, and synapses"
        " turn over before the next presentation",
    ),
    (
        lambda terms: terms.write == "exponential",
        "its write strengths grow exponentially, beyond what a conductance can follow",
    ),
    (
        lambda terms: terms.readout == "ridge",
        "its read-out solves a system of equations in how the keys fire together, which takes"
        " synapses among the key cells that the model lacks",
    ),
)
_SPIKING_REASONS: tuple[_Reason, ...] = (
    (
        lambda terms: terms.normaliser != "none",
        "its feature map keeps every key cell firing, and spikes can't be divided exactly",
    ),
    (
        lambda terms: terms.erase in {"gate", "erase_key"},
        "the spikes that drive a synapse also carry its prediction, so the erase key is beta k",
    ),
)


def execute(
    program: xr.Dataset,
    substrate: str = "rate",
    *,
    weights: Keep = "last",
    seed: int = 0,
    progress: bool = False,
    process: str | None = None,
    **options: Any,
) -> xr.Dataset:
    """Run a program on simulated synapses.

        dw_ij/dt = -lambda_i w_ij + eta k_i (s_j - sum_l p_l w_lj)

    with turnover lambda between presentations and plasticity eta during them; rules of spike
    timing, of calcium and others that are not linear in w by equations of their own.

    Args:
        program: as `fwbio.program.make` makes it, its keys non-negative (they are rates).
        substrate: "flow", "rate" or "spiking".
        weights: whose steps' weights to keep: "last", "all", or every n-th and the last.
        seed: seed of what is random in the model.
        progress: whether to show a bar.
        process: what the decay between presentations stands for, a preset of
            `fwbio.models.time_scales.PRESETS`; it is refused where its time constants, the gap
            over -log_decay, take longer or shorter.
        **options: fields of `FlowModel`, `RateModel` or `SpikingModel`; of rules with synapses of
            their own, of `LocalModel` and `CalciumModel` (rate) or `VolleyModel` (spiking).

    Returns:
        The record: the program with `readout` (.., step, post), `weights` (.., snapshot, pre,
        post), both in the code's units, `onset (step)` in seconds, and of the spiking model
        spikes and traces of one presentation. Its attributes say what is exact and what is not.
        Its query is record["query"], as `record.query` is a method of xarray's.

    Raises:
        FwbioError: the program is not sound, the substrate does not run its rule, negative rates,
            erasing that no passive flow can do, a process on the wrong time scale, or an option
            that the model lacks.
    """
    given = operands(program)
    if reason := unsupported(given.rule, substrate):
        others = [name for name in SUBSTRATES if unsupported(given.rule, name) is None]
        raise FwbioError(
            f"the {substrate} substrate does not run {given.rule.name!r}: {reason}",
            where="substrate",
            mend=f"use the substrate {' or '.join([*others, 'reference', 'kernel'])}",
        )
    own = _OWN.get((given.rule.terms.plasticity, substrate))
    config, run = own() if own else _model(substrate)
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**32:
        raise FwbioError(
            f"{seed!r} is not a seed", where="seed", mend="give a whole number from 0 to 2^32 - 1"
        )
    known = {f.name for f in fields(config)}
    for name in options:
        if name not in known:
            raise unknown_name(name, known, kind="option", where=f"{substrate} substrate")
    model = config(**options)
    check(model, f"{substrate} substrate")
    kept = snapshot_steps(weights, given.steps)
    n = int(np.prod(given.shape))
    streams = {name: x.reshape(n, *x.shape[-2:]) for name, x in given.streams.items()}
    if own:
        standing = _process(None, 0.0, process)
        done = run(streams, _initial(given, n, given.post), kept, model, seed, progress)
        readout, beside = done.readout, []
    else:
        form = normal_form(
            given.rule, streams, xp=np, time_axis=1, writes_per_step=given.writes_per_step
        )
        standing = _process(form, model.gap, process)
        done = run(form, _initial(given, n, form.write.shape[-1]), kept, model, seed, progress)
        readout = normalised(done.readout, form, np)
        beside = [DIVIDED] * (form.normaliser != "none") + [TRACED] * given.rule.terms.traces
    snapshots = done.weights.reshape(*given.shape, *done.weights.shape[1:])
    return from_run(
        program,
        substrate=substrate,
        backend=done.backend,
        readout=readout.reshape(*given.shape, given.steps, given.post),
        **given.parts(snapshots),
        snapshots=kept,
        leading=given.leading,
        config=asdict(model) | {"seed": seed} | standing | _seconds(done),
        exact=done.exact,
        approximate=(*done.approximate, *beside),
        traces={"onset": labelled("onset", done.onset, ("step",)), **done.traces},
    )


def _model(substrate: str) -> tuple[type, Callable[..., Run]]:
    """The model's parameters and its simulation; what each needs is loaded here, not before."""
    if substrate == "flow":
        from fwbio.models import flow

        return flow.FlowModel, flow.run
    if substrate == "rate":
        from fwbio.models import rate

        return rate.RateModel, rate.run
    from fwbio.models import spiking

    return spiking.SpikingModel, spiking.run


def _local(plasticity: str) -> tuple[type, Callable[..., Run]]:
    from fwbio.models import rate_local

    equations = rate_local.EQUATIONS[plasticity]
    return rate_local.LocalModel, partial(rate_local.run, plasticity=equations)


def _calcium() -> tuple[type, Callable[..., Run]]:
    from fwbio.models import rate_volleys

    return rate_volleys.CalciumModel, rate_volleys.run


def _volleys(plasticity: str) -> tuple[type, Callable[..., Run]]:
    from fwbio.models import volleys

    return volleys.VolleyModel, partial(volleys.run, plasticity=volleys.SYNAPSES[plasticity])


# What runs a kind of plasticity by equations of its own, in place of a planned normal form.
_OWN: Mapping[tuple[str, str], Callable[[], tuple[type, Callable[..., Run]]]] = {
    ("thresholded", "rate"): partial(_local, "thresholded"),
    ("dendritic", "rate"): partial(_local, "dendritic"),
    ("calcium", "rate"): _calcium,
    ("calcium_control", "rate"): partial(_local, "calcium_control"),
    ("pairs", "spiking"): partial(_volleys, "pairs"),
    ("triplets", "spiking"): partial(_volleys, "triplets"),
}


def _seconds(done: Run) -> dict[str, float]:
    measured = {"run_s": done.run_s, "compile_s": done.compile_s}
    return {name: seconds for name, seconds in measured.items() if seconds is not None}


def _process(form: NormalForm | None, gap: float, process: str | None) -> dict[str, Any]:
    """The time constants of the decay in a program, s, and what they may stand for.

    Raises:
        FwbioError: they are not on the time scale of the process named, or there are none.
    """
    if form is None or form.log_decay is None or not (form.log_decay < 0).any():
        if process is not None:
            raise FwbioError("nothing decays in this program", where="process", mend="leave it out")
        return {}
    taus = gap / -form.log_decay[form.log_decay < 0]
    shortest, longest = float(taus.min()), float(taus.max())
    if process is not None:
        for tau in (shortest, longest):
            require_scale(tau, process, where="process")
    fitting = [scale.process for scale in time_scale(shortest) if scale in time_scale(longest)]
    return {"tau_turnover": [shortest, longest], "process": process or " or ".join(fitting)}


def _initial(given: Operands, n: int, columns: int) -> np.ndarray:
    state = np.zeros((n, given.pre, columns))
    if given.initial is not None:
        state[:] = given.initial.reshape(n, given.pre, columns)
    return state
