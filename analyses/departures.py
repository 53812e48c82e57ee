"""How recall and identification degrade with each departure of synapses from the ideal.

One program of each rule runs level by level up the ladders of `fwbio.analyses.departures_table`;
all else stays as it is.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import xarray as xr
from tqdm import tqdm

from fwbio.analyses.agreement import readout_agreement, weight_agreement
from fwbio.analyses.arguments import named
from fwbio.analyses.departures_table import DEPARTURES, Departure
from fwbio.analyses.labels import attributes
from fwbio.analyses.recall import (
    chance_level,
    estimate,
    recall_accuracy,
    recall_hits,
    require_scored,
)
from fwbio.errors import FwbioError, unknown_name
from fwbio.record import versions
from fwbio.rules import resolve

RULES = ("hebb", "delta", "mamba2", "gated_delta")
CANDIDATES = ("hebb", "mamba2", "gla", "delta", "gated_delta", "kda", "oja", "covariance")
_NUMBERS: Mapping[str, str] = {
    "recall_accuracy": "share of cues whose nearest stored value is the right one",
    "recall_accuracy_se": "standard error of recall accuracy over trials",
    "recall_change": "recall accuracy beyond the reference's on the same episodes",
    "recall_change_se": "standard error of that change over trials",
    "recall_change_p": "two-sided p-value of no change, paired over trials",
    "readout_agreement": "Pearson's r of read-outs with the reference's",
    "weight_agreement": "cosine of final weights with the reference's",
    "identified": "share of recordings whose rule was named",
    "identified_low": "lower end of that share's 95 % interval",
    "identified_high": "upper end of that share's 95 % interval",
}


@dataclass(frozen=True, kw_only=True)
class _Cell:
    """What one run gave; NaN and no words where it was refused."""

    numbers: Mapping[str, float] = field(default_factory=dict)
    verdicts: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    refused: str = ""


def departures(
    episode: xr.Dataset,
    *,
    names: str | Sequence[str] = tuple(DEPARTURES),
    levels: Mapping[str, Sequence[float]] | None = None,
    rules: str | Sequence[str] = RULES,
    cases: int = 4,
    case_trials: int = 2,
    candidates: str | Sequence[str] | None = CANDIDATES,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    coding: str | None = None,
    strength: float = 1.0,
    time_constant: float = 32.0,
    rehearsals: int = 2,
    threshold: float = 0.01,
    seed: int = 0,
    progress: bool = False,
) -> xr.Dataset:
    """Recall, agreement with the reference and identification, level by level of each departure.

    Args:
        episode: of a task of pairs, as `fwbio.tasks.PAIR_TASKS` makes it.
        names: departures of `DEPARTURES`.
        levels: by name, in place of the table's own, the neutral one first.
        rules: whose programs to run.
        cases: recordings of each run that `fwbio.analyses.identification.identify` is given, with
            the weights of every step; 0: none.
        case_trials: trials in each of them; the first ones of the episode.
        candidates: rules that it chooses from, None: the whole table.
        options: by substrate, further options of all its runs.
        coding: of items, as `fwbio.models.designed` has it, and so the next four.
        strength: of a write, beta |k|^2.
        time_constant: in which weights decay [steps].
        rehearsals: of a pair, for rules with substeps.
        threshold: of plasticity, for rules with thresholds.
        seed: of the synapses.
        progress: whether to show a bar on stderr.

    Returns:
        Over departure, level (its rung, 0 the neutral one) and rule: `recall_accuracy` with its
        standard error; `recall_change` from the reference's, with standard error and p-value as
        `recall_change` has them; `readout_agreement`, `weight_agreement`; `identified`, the share
        of recordings whose answer is the rule alone, or the rule with those that are one with it on
        such data, with its 95 % interval (Wilson's); `refused`, why there was no run. By case:
        `verdict` and `answer`. By level: `value`, NaN beyond the last. By rule:
        `reference_accuracy`. By departure: `label`, `level_units`, `substrate`, `meaning`,
        `source`. Attributes: `chance_level`, `versions` and the rest of what was asked for.

    Raises:
        FwbioError: an unknown departure, rule or candidate, too few trials, or synapses that refuse
            every program.
    """
    ladders = _ladders(named("names", names), levels or {})
    names_of_rules = [resolve(rule).name for rule in named("rules", rules)]
    if cases < 0 or case_trials < 1 or cases * case_trials > episode.sizes["trial"]:
        raise FwbioError(
            f"{cases} recordings of {case_trials} trials are not in {episode.sizes['trial']}",
            where="cases",
            mend="show more trials, or ask for fewer cases (0: none)",
        )
    chosen = None
    if candidates is not None:
        chosen = tuple(resolve(rule).name for rule in named("candidates", candidates))
    sweep = _Sweep(
        cases=cases,
        case_trials=case_trials,
        candidates=chosen,
        options=options or {},
        seed=seed,
    )
    from fwbio import models, reference

    code: dict[str, Any] = {
        "coding": coding,
        "strength": strength,
        "time_constant": time_constant,
        "rehearsals": rehearsals,
        "threshold": threshold,
    }
    programs = {rule: models.designed(episode, rule, **code) for rule in names_of_rules}
    ideals = {rule: reference.execute(made) for rule, made in programs.items()}
    asked = [
        (ladder, level, rule)
        for ladder in ladders
        for level in range(len(ladder.levels))
        for rule in names_of_rules
    ]
    cells: dict[tuple[str, int, str], _Cell] = {}
    known: dict[str, _Cell] = {}
    for ladder, level, rule in tqdm(asked, desc="departures", unit="run", disable=not progress):
        extra = dict(sweep.options.get(ladder.substrate, {})) | ladder.options(ladder.levels[level])
        same = repr((ladder.substrate, rule, sorted(extra.items())))
        if same not in known:
            known[same] = sweep.run(programs[rule], ideals[rule], ladder.substrate, extra)
        cells[ladder.name, level, rule] = known[same]
    if all(cell.refused for cell in cells.values()):
        raise FwbioError(
            next(iter(cells.values())).refused,
            where="departures",
            mend="choose other rules or departures",
        )
    found = _table(ladders, names_of_rules, cells, cases)
    accuracy = [recall_accuracy(ideals[rule]).value for rule in names_of_rules]
    found["reference_accuracy"] = ("rule", accuracy, attributes("recall accuracy of the reference"))
    found.attrs = {
        "task": episode.attrs.get("task", ""),
        "episode": dict(episode.attrs.get("config", {})),
        "episode_seed": episode.attrs.get("seed"),
        "seed": seed,
        "case_trials": case_trials,
        "candidates": None if sweep.candidates is None else list(sweep.candidates),
        "designed": code,
        "options": {name: dict(given) for name, given in (options or {}).items()},
        "chance_level": chance_level(next(iter(ideals.values()))),
        "versions": versions(),
    }
    return found


@dataclass(frozen=True, kw_only=True)
class _Sweep:
    """What is the same for every run."""

    cases: int
    case_trials: int
    candidates: tuple[str, ...] | None
    options: Mapping[str, Mapping[str, Any]]
    seed: int

    def run(
        self, program: xr.Dataset, ideal: xr.Dataset, substrate: str, options: dict[str, Any]
    ) -> _Cell:
        from fwbio import models

        try:
            record = models.execute(program, substrate, weights="all", seed=self.seed, **options)
        except FwbioError as error:
            return _Cell(refused=str(error))
        recall, change = recall_accuracy(record), recall_change(record, ideal)
        numbers = {
            "recall_accuracy": recall.value,
            "recall_accuracy_se": recall.standard_error,
            "recall_change": change.value,
            "recall_change_se": change.standard_error,
            "recall_change_p": change.p_value,
            "readout_agreement": readout_agreement(record, ideal),
            "weight_agreement": weight_agreement(record, ideal),
        }
        told = list(self._identified(record))
        verdicts, answers = (tuple(t[i] for t in told) for i in (0, 1))
        if told:
            from fwbio.analyses.identification.study_summary import wilson

            found = wilson(is_named(record.attrs["rule"], *t) for t in told)
            numbers |= {"identified": found.share}
            numbers |= {"identified_low": found.low, "identified_high": found.high}
        return _Cell(numbers=numbers, verdicts=verdicts, answers=answers)

    def _identified(self, record: xr.Dataset) -> Iterator[tuple[str, str]]:
        from fwbio.analyses.identification import identify

        for case in range(self.cases):
            first = case * self.case_trials
            part = record.isel(trial=slice(first, first + self.case_trials))
            try:
                found = identify(part, rules=self.candidates, observed="weights")
            except FwbioError:
                yield "none", ""
            else:
                yield found.verdict, ", ".join(found.rules)


@dataclass(frozen=True, kw_only=True)
class Change:
    """A difference of means over the same trials, and how likely chance makes one as large.

    Args:
        value: the difference.
        standard_error: over trials, of the trials' own differences; NaN of a single trial.
        p_value: two-sided, of Student's t with trials - 1 degrees; NaN of a single trial.
    """

    value: float
    standard_error: float
    p_value: float


def recall_change(record: xr.Dataset, ideal: xr.Dataset) -> Change:
    """How much more a record recalls than another does of the same episodes, trial by trial.

        d = sum_i (x_i - y_i) / sum_i n_i,   t = d / se(d)

    with x_i and y_i the hits of trial i and n_i its scored read-outs. Where no trial differs p is
    1; where all differ alike, 0.

    Args:
        record: with `target`, `scored` and `stored`.
        ideal: what it is compared with, of the same program.

    Raises:
        FwbioError: a record lacks one of these, or no read-out is scored.
    """
    more = recall_hits(record).astype(float) - recall_hits(ideal).astype(float)
    found = estimate(more, require_scored(record))
    d, error = found.value, found.standard_error
    if error == 0:
        p = float(d == 0)
    else:
        from scipy import stats

        p = 2 * float(stats.t.sf(abs(d / error), more.sizes["trial"] - 1))
    return Change(value=d, standard_error=error, p_value=p)


def is_named(rule: str, verdict: str, answer: str) -> bool:
    """Whether an identification named a rule: alone, or with what is one with it on such data.

    Args:
        rule: the name of the one that made the recording.
        verdict: as `fwbio.analyses.identification.Identification` has it.
        answer: its rules, separated by commas.
    """
    return verdict in {"identified", "equivalent"} and rule in answer.split(", ")


def _ladders(names: Sequence[str], levels: Mapping[str, Sequence[float]]) -> list[Departure]:
    for name in (*names, *levels):
        if name not in DEPARTURES:
            raise unknown_name(name, DEPARTURES, kind="departure", where="departures")
    found = []
    for name in dict.fromkeys(names):
        own = tuple(float(level) for level in levels.get(name, DEPARTURES[name].levels))
        if not own:
            raise FwbioError(
                f"{name} has no level", where="levels", mend="give the neutral one and others"
            )
        found.append(replace(DEPARTURES[name], levels=own))
    if not found:
        raise FwbioError(
            "there is no departure", where="names", mend=f"choose from {', '.join(DEPARTURES)}"
        )
    return found


def _table(
    ladders: Sequence[Departure],
    rules: Sequence[str],
    cells: Mapping[tuple[str, int, str], _Cell],
    cases: int,
) -> xr.Dataset:
    rungs = max(len(ladder.levels) for ladder in ladders)
    shape = (len(ladders), rungs, len(rules))
    dims = ("departure", "level", "rule")
    nothing = _Cell()
    grid = [
        cells.get((ladder.name, level, rule), nothing)
        for ladder in ladders
        for level in range(rungs)
        for rule in rules
    ]
    found = xr.Dataset(
        coords={
            "departure": [ladder.name for ladder in ladders],
            "level": np.arange(rungs),
            "rule": list(rules),
        }
    )
    found["departure"].attrs = attributes("departure from the ideal")
    found["level"].attrs = attributes("rung of the ladder, 0 the neutral one")
    found["rule"].attrs = attributes("rule")
    for name, words in _NUMBERS.items():
        numbers = np.array([cell.numbers.get(name, np.nan) for cell in grid]).reshape(shape)
        if np.isfinite(numbers).any() or not name.startswith("identified"):
            found[name] = (dims, numbers, attributes(words))
    refused = np.array([cell.refused for cell in grid]).reshape(shape)
    found["refused"] = (dims, refused, attributes("why there was no run"))
    if cases:
        for name, words in (
            ("verdict", "verdict of each identification"),
            ("answer", "rules that it answered"),
        ):
            told = [getattr(cell, f"{name}s") or ("",) * cases for cell in grid]
            told_by_case = np.array(told).reshape(*shape, cases)
            found[name] = ((*dims, "case"), told_by_case, attributes(words))
    values = [[*ladder.levels, *[np.nan] * (rungs - len(ladder.levels))] for ladder in ladders]
    found["value"] = (dims[:2], np.array(values), attributes("level, in level_units"))
    for name, words in (
        ("label", "what the levels are"),
        ("units", "unit of the levels"),
        ("substrate", "synapses that ran"),
        ("meaning", "what it stands for"),
        ("source", "where that is from"),
    ):
        column = ("departure", [getattr(ladder, name) for ladder in ladders], attributes(words))
        found[f"level_{name}" if name == "units" else name] = column
    return found
