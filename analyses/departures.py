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
from fwbio.analyses.departures_table import DEPARTURES, Departure
from fwbio.analyses.recall import chance_level, recall_accuracy
from fwbio.errors import FwbioError, unknown_name
from fwbio.record import versions
from fwbio.rules import resolve

RULES = ("hebb", "delta", "mamba2", "gated_delta")
CANDIDATES = ("hebb", "mamba2", "gla", "delta", "gated_delta", "kda", "oja", "covariance")
_NUMBERS: Mapping[str, str] = {
    "recall_accuracy": "share of cues whose nearest stored value is the right one",
    "recall_accuracy_se": "standard error of recall accuracy over trials",
    "readout_agreement": "Pearson's r of read-outs with the reference's",
    "weight_agreement": "cosine of final weights with the reference's",
    "identified": "share of recordings whose rule was named",
    "identified_se": "standard error of that share",
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
    names: Sequence[str] = tuple(DEPARTURES),
    levels: Mapping[str, Sequence[float]] | None = None,
    rules: Sequence[str] = RULES,
    cases: int = 4,
    case_trials: int = 2,
    candidates: Sequence[str] | None = CANDIDATES,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
    progress: bool = False,
    **designed: Any,
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
        seed: of the synapses.
        progress: whether to show a bar on stderr.
        **designed: of `fwbio.models.designed`, such as strength and time_constant.

    Returns:
        Over departure, level (its rung, 0 the neutral one) and rule: `recall_accuracy`,
        `readout_agreement`, `weight_agreement` and `identified`, the share of recordings whose
        answer is the rule alone, or the rule with those that are one with it on such data; `_se`
        of both shares (of the second by `share_error`); `refused`, why there was no run. By case:
        `verdict` and `answer`. By level: `value`, NaN beyond the last. By rule:
        `reference_accuracy`. By departure: `label`, `level_units`, `substrate`, `meaning`,
        `source`. Attributes: `chance_level`, `versions` and the rest of what was asked for.

    Raises:
        FwbioError: an unknown departure, rule or candidate, too few trials, or synapses that refuse
            every program.
    """
    ladders = _ladders(names, levels or {})
    names_of_rules = [resolve(rule).name for rule in rules]
    if cases < 0 or case_trials < 1 or cases * case_trials > episode.sizes["trial"]:
        raise FwbioError(
            f"{cases} recordings of {case_trials} trials are not in {episode.sizes['trial']}",
            where="cases",
            mend="show more trials, or ask for fewer cases (0: none)",
        )
    sweep = _Sweep(
        cases=cases,
        case_trials=case_trials,
        candidates=None if candidates is None else tuple(resolve(c).name for c in candidates),
        options=options or {},
        seed=seed,
    )
    from fwbio import models, reference

    programs = {rule: models.designed(episode, rule, **designed) for rule in names_of_rules}
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
    found["reference_accuracy"] = ("rule", accuracy, _words("recall accuracy of the reference"))
    found.attrs = {
        "task": episode.attrs.get("task", ""),
        "episode": dict(episode.attrs.get("config", {})),
        "episode_seed": episode.attrs.get("seed"),
        "seed": seed,
        "case_trials": case_trials,
        "candidates": None if sweep.candidates is None else list(sweep.candidates),
        "designed": dict(designed),
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
        recall = recall_accuracy(record)
        numbers = {
            "recall_accuracy": recall.value,
            "recall_accuracy_se": recall.standard_error,
            "readout_agreement": readout_agreement(record, ideal),
            "weight_agreement": weight_agreement(record, ideal),
        }
        told = list(self._identified(record))
        verdicts, answers = (tuple(t[i] for t in told) for i in (0, 1))
        if told:
            right = sum(is_named(record.attrs["rule"], *t) for t in told)
            numbers["identified"] = right / len(told)
            numbers["identified_se"] = share_error(right, len(told))
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


def share_error(hits: int, total: int) -> float:
    """The standard error of a share of few, also where it is 0 or 1.

        sqrt(p (1 - p) / (n + 4)),   p = (hits + 2) / (n + 4)

    Args:
        hits: how many.
        total: n, of how many.

    Source: Agresti & Coull 1998, 10.1080/00031305.1998.10480550 (recalled).

    >>> round(share_error(2, 2), 2)
    0.19
    """
    p = (hits + 2) / (total + 4)
    return float(np.sqrt(p * (1 - p) / (total + 4)))


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
    found["departure"].attrs = _words("departure from the ideal")
    found["level"].attrs = _words("rung of the ladder, 0 the neutral one")
    found["rule"].attrs = _words("rule")
    for name, words in _NUMBERS.items():
        numbers = np.array([cell.numbers.get(name, np.nan) for cell in grid]).reshape(shape)
        if np.isfinite(numbers).any() or not name.startswith("identified"):
            found[name] = (dims, numbers, _words(words))
    refused = np.array([cell.refused for cell in grid]).reshape(shape)
    found["refused"] = (dims, refused, _words("why there was no run"))
    if cases:
        for name, words in (
            ("verdict", "verdict of each identification"),
            ("answer", "rules that it answered"),
        ):
            told = [getattr(cell, f"{name}s") or ("",) * cases for cell in grid]
            found[name] = ((*dims, "case"), np.array(told).reshape(*shape, cases), _words(words))
    values = [[*ladder.levels, *[np.nan] * (rungs - len(ladder.levels))] for ladder in ladders]
    found["value"] = (dims[:2], np.array(values), _words("level, in level_units"))
    for name, words in (
        ("label", "what the levels are"),
        ("units", "unit of the levels"),
        ("substrate", "synapses that ran"),
        ("meaning", "what it stands for"),
        ("source", "where that is from"),
    ):
        column = [getattr(ladder, name) for ladder in ladders]
        found[f"level_{name}" if name == "units" else name] = ("departure", column, _words(words))
    return found


def _words(long_name: str) -> dict[str, str]:
    return {"units": "1", "long_name": long_name}
