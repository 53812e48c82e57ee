"""What the study of identification runs: recordings of every rule, and of a few by condition."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from time import process_time
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import xarray as xr

from fwbio import program
from fwbio.analyses.identification.answer import Identification
from fwbio.analyses.identification.identifying import identify
from fwbio.analyses.identification.study import (
    NOISE,
    RULES_STUDIED,
    STEPS,
    case,
    drawn_by,
    is_right,
    noisy,
    run,
    study,
)
from fwbio.analyses.identification.study_foreign import FOREIGN, foreign
from fwbio.rules import RULES

Series = Literal["rules", "noise", "steps", "readout", "unit", "spiking", "foreign"]

FIRST, SEEDS, FEW_SEEDS = 4000, 10, 4  # seeds below FIRST were used to develop the method
QUICK_FIRST = 0
VARIED = ("hebb", "retnet", "gla", "delta", "gated_delta", "oja")  # one a family
READ = (*VARIED, "linear_attention", "mlstm", "mesa")  # and all that divide by something
NOISES = (0.0, 0.02, 0.1, 0.2)
LENGTHS = (25, 50, 100, 400)
UNIT = 3e-9
SPIKING = ("hebb", "retnet", "delta", "gated_delta", "longhorn", "efla")
SPIKING_BETA, SPIKING_DECAY = 0.4, 0.95
SPIKING_STEPS, SPIKING_PRE, SPIKING_POST = 60, 16, 8
# What makes the same of the recordings of a series, besides `study.EQUIVALENT`.
ALIKE: Mapping[str, Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "spiking": {"hebb": frozenset({"stdp"})},
        "unit": {"gated_delta": frozenset({"comba"})},
    }
)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One recording to identify.

    Args:
        series: what it is a part of.
        rule: what made it; of the series "foreign" one of `study_foreign.FOREIGN`.
        seed: of everything drawn.
        noise: standard deviation of the noise, in units of the observations' root mean square; of
            spiking records there is none but the spikes'.
        steps: presentations.
    """

    series: Series
    rule: str
    seed: int
    noise: float = NOISE
    steps: int = STEPS


def cases(*, quick: bool = False, seeds: int = SEEDS) -> list[Case]:
    """All recordings of the study.

    Args:
        quick: a few short ones, of seeds that the method was developed on.
        seeds: how many recordings of each rule.
    """
    if quick:
        few = (("hebb", QUICK_FIRST), ("delta", QUICK_FIRST))
        short = [Case(series="rules", rule=rule, seed=seed, steps=60) for rule, seed in few]
        noisy = [replace(one, series="noise", noise=0.1) for one in short]
        longer = [replace(one, series="steps", steps=25) for one in short]
        read = [replace(one, series="readout") for one in short]
        other = Case(series="foreign", rule="delayed", seed=QUICK_FIRST, steps=60)
        return [*short, *noisy, *longer, *read, other]
    few_seeds = range(FIRST, FIRST + min(seeds, FEW_SEEDS))
    found = [
        Case(series="rules", rule=rule, seed=seed)
        for rule in RULES_STUDIED
        for seed in range(FIRST, FIRST + seeds)
    ]
    for seed in few_seeds:
        varied = [Case(series="rules", rule=rule, seed=seed) for rule in VARIED]
        found += [replace(one, series="noise", noise=x) for one in varied for x in NOISES]
        found += [replace(one, series="steps", steps=x) for one in varied for x in LENGTHS]
        found += [Case(series="readout", rule=rule, seed=seed) for rule in READ]
        found += [Case(series="unit", rule=rule, seed=seed) for rule in READ]
        found += [
            Case(series="spiking", rule=rule, seed=seed, noise=0.0, steps=SPIKING_STEPS)
            for rule in SPIKING
        ]
        found += [Case(series="foreign", rule=kind, seed=seed) for kind in FOREIGN]
    return found


def carry_out(one: Case) -> dict[str, Any]:
    """Make a recording and identify it.

    Args:
        one: which.

    Returns:
        The case's fields with `answer`, `verdict`, `named` (whether the rule is in the answer),
        `right` (and nothing in it that isn't its equivalent), `error` and `covered` as of
        `fwbio.analyses.identification.study.study` (null where constants are not judged), and
        `seconds` of one core.
    """
    if one.series in _MADE:
        record = _MADE[one.series](one)
        start = process_time()
        answer = identify(record)
        row = {
            "answer": " ".join(answer.rules),
            "verdict": answer.verdict,
            "right": _is_right(one, answer),
            "error": None,
            "covered": None,
            "seconds": process_time() - start,
        }
    else:
        row = study([one.rule], [one.seed], noise=one.noise, steps=one.steps).iloc[0].to_dict()
    row |= {"named": one.rule in str(row["answer"]).split(), **asdict(one)}
    return {name: _plain(value) for name, value in row.items()}


def readouts(one: Case) -> xr.Dataset:
    """A recording of what queries read, with noise, of weights that nobody saw.

    Args:
        one: of any rule of the table.
    """
    made, _, _ = run(one.rule, one.seed, steps=one.steps)
    seen = noisy(made["readout"].values, one.noise, drawn_by(one.rule, one.seed, 1))
    record = made[["key", "value", "query", "interval"]].drop_attrs(deep=False)
    return record.assign(readout=(("step", "post"), seen, {"units": "1"}))


def in_siemens(one: Case) -> xr.Dataset:
    """A recording in siemens, so many of which are one of the rule's unit; read-outs of odd seeds.

    Args:
        one: of any rule of the table.
    """
    if one.seed % 2:
        record, name = readouts(one), "readout"
    else:
        record, name = case(one.rule, one.seed, noise=one.noise, steps=one.steps), "weights"
    record = record.drop_attrs(deep=False)
    return record.assign({name: (UNIT * record[name]).assign_attrs(units="S")})


def spikes(one: Case) -> xr.Dataset:
    """A recording of conductances between spiking cells that were programmed with a rule.

    Keys are sparse, none below 0, of length .5 to 1.5; values are Gaussian.

    Args:
        one: of a rule that spiking synapses run.
    """
    from fwbio import models

    rng = drawn_by(one.rule, one.seed, 2)
    shape = (one.steps, SPIKING_PRE)
    key = rng.uniform(0, 1, shape) * (rng.uniform(size=shape) < 0.4)
    key /= np.maximum(np.linalg.norm(key, axis=-1, keepdims=True), 1e-9)
    key *= rng.uniform(0.5, 1.5, (one.steps, 1))
    value = rng.standard_normal((one.steps, SPIKING_POST))
    gates = {"beta": SPIKING_BETA, "log_decay": np.log(SPIKING_DECAY)}
    own = {name: gates[name] for name in RULES[one.rule].streams if name in gates}
    made = program.make(one.rule, key, value, np.zeros(shape), **own)
    done = models.execute(made, "spiking", seed=one.seed, weights="all")
    return done[["key", "value", "weights"]].drop_attrs(deep=False)


def of_no_rule(one: Case) -> xr.Dataset:
    """A recording of a memory that follows none of the rules.

    Args:
        one: of a kind of `study_foreign.FOREIGN`.
    """
    return foreign(one.rule, one.seed, noise=one.noise, steps=one.steps)


_MADE: Mapping[str, Callable[[Case], xr.Dataset]] = MappingProxyType(
    {"readout": readouts, "unit": in_siemens, "spiking": spikes, "foreign": of_no_rule}
)


def _is_right(one: Case, answer: Identification) -> bool:
    if one.series == "foreign":
        return answer.verdict == "none"
    return is_right(one.rule, set(answer.rules) - alike(one.series, one.rule))


def alike(series: str, rule: str) -> frozenset[str]:
    """Rules that make the same as a rule of the recordings of a series alone."""
    return ALIKE.get(series, {}).get(rule, frozenset())


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value


def named(rules: Sequence[str]) -> str:
    """An answer in short: its rules, or the first of many with how many others."""
    if not rules:
        return "none"
    return " or ".join(rules) if len(rules) < 3 else f"{rules[0]} + {len(rules) - 1}"
