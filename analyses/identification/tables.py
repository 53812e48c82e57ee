"""An identification as plain data, as a table of numbers, and as tables for a terminal."""

import math
from collections import defaultdict
from typing import Any

import numpy as np
import pandas as pd

from fwbio.analyses.identification.answer import Candidate, Identification, Parameter
from fwbio.analyses.identification.data import Recording
from fwbio.analyses.identification.meanings import DERIVED, in_units, notes, share, taken
from fwbio.analyses.words import listed

_NUMBERS = ("explained", "explainable", "z", "bic", "log_likelihood", "free", "residual", "process")
_COLUMNS = "z: Vuong's, against the best, below -1.96 beyond chance; dBIC: how far above the least"


def groups(answer: Identification) -> list[list[Candidate]]:
    """The candidates that were fitted, those that predict the same together.

    Those of the answer are first, which richer rules may fit as well; the others best first.
    """
    made: list[list[Candidate]] = []
    for candidate in answer.candidates:
        if candidate.refused is not None:
            continue
        same = [group for group in made if candidate.rule in group[0].equivalent]
        if same:
            same[0].append(candidate)
        else:
            made.append([candidate])
    return sorted(made, key=lambda group: not any(c.rule in answer.rules for c in group))


def constants(candidate: Candidate) -> int:
    """How many numbers were fitted."""
    return sum(np.size(p.value) for p in candidate.parameters if p.name not in DERIVED)


def plain(answer: Identification, recording: Recording | None = None) -> dict[str, Any]:
    """The answer as JSON has it; numbers that are not finite are null.

    Args:
        answer: of `fwbio.analyses.identification.identify`.
        recording: what it is about, where constants are to be `in_units` and those `taken` told.

    Returns:
        `sentence`, `verdict`, `rules`, `observed`, `start`, `trials` and `lacking`, and the
        `candidates`, best first and refused ones last, each with its numbers, its `equivalent`
        rules and its `parameters`; and the constants that are `taken`, not fitted.
    """
    beside = {}
    if recording is not None:
        beside, answer = {"taken": taken(answer, recording)}, in_units(answer, recording)
    return beside | {
        "sentence": answer.sentence,
        "verdict": answer.verdict,
        "rules": list(answer.rules),
        "observed": answer.observed,
        "start": answer.start,
        "trials": answer.trials,
        "lacking": _finite(answer.lacking),
        "candidates": [
            {
                "rule": c.rule,
                "refused": c.refused,
                **{name: _finite(float(getattr(c, name))) for name in _NUMBERS},
                "equivalent": list(c.equivalent),
                "parameters": [
                    {
                        "name": p.name,
                        **{end: _each(getattr(p, end)) for end in ("value", "low", "high")},
                        "units": p.units,
                        "determined": p.determined,
                    }
                    for p in c.parameters
                ],
            }
            for c in answer.candidates
        ],
    }


def _each(numbers: np.ndarray) -> float | list[float | None] | None:
    if np.ndim(numbers) == 0:
        return _finite(float(numbers))
    return [_finite(float(x)) for x in numbers]


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def rows(answer: Identification, recording: Recording | None = None) -> pd.DataFrame:
    """A row a rule and constant, of channels one each; a rule without constants has one row.

    Args:
        answer: of `fwbio.analyses.identification.identify`.
        recording: what it is about, where constants are to be `in_units`.

    Returns:
        `rank`, shared by rules that predict the same; `rule`, `answer`, whether it is in the
        answer, `refused`, the numbers of `Candidate`; `parameter`, `channel`, `value`, `low`,
        `high` and `units`.
    """
    if recording is not None:
        answer = in_units(answer, recording)
    ranks = {c.rule: 1 + place for place, group in enumerate(groups(answer)) for c in group}
    made = []
    for c in answer.candidates:
        whole = {
            "rank": ranks.get(c.rule),
            "rule": c.rule,
            "answer": c.rule in answer.rules,
            "refused": c.refused or "",
            **{name: getattr(c, name) for name in _NUMBERS},
            "equivalent": " ".join(c.equivalent),
        }
        made += [{**whole, **part} for p in c.parameters for part in _channels(p)] or [whole]
    return pd.DataFrame(made).astype({"rank": "Int64"})


def _channels(parameter: Parameter) -> list[dict[str, Any]]:
    several = np.ndim(parameter.value) > 0
    ends = zip(*(np.ravel(getattr(parameter, e)) for e in ("value", "low", "high")), strict=True)
    return [
        {
            "parameter": parameter.name,
            "channel": str(i) if several else "",
            "value": value,
            "low": low,
            "high": high,
            "units": parameter.units,
        }
        for i, (value, low, high) in enumerate(ends)
    ]


def tables(answer: Identification, recording: Recording | None = None) -> list[Any]:
    """The tables for a terminal: the ranking, and what was no candidate and why.

    Args:
        answer: of `fwbio.analyses.identification.identify`.
        recording: what it is about, where constants are to be `in_units` and explained below.
    """
    if recording is not None:
        answer = in_units(answer, recording)
    refused = [c for c in answer.candidates if c.refused is not None]
    shown = [group[0] for group in groups(answer)]
    below = [] if recording is None else notes(answer, recording, shown)
    return [_ranking(answer, below), *([_refused(refused)] if refused else [])]


def _ranking(answer: Identification, below: list[str]) -> Any:
    from rich.table import Table
    from rich.text import Text

    what = "changes of the weights" if answer.observed == "weights" else "read-outs"
    shown = Table(
        title=f"Rules by what they predict of the {what}, those of the answer first",
        caption="\n".join([_COLUMNS, *below]),
        title_justify="left",
        caption_justify="left",
    )
    for name in ("", "explained", "z", "dBIC"):
        shown.add_column(name, justify="right", no_wrap=True)
    shown.add_column("rule", no_wrap=True)
    shown.add_column("constants (95 % interval)", overflow="fold")
    made = groups(answer)
    least = min((c.bic for group in made for c in group), default=math.nan)
    for rank, group in enumerate(made, start=1):
        best = group[0]
        names = Text("\n").join(
            Text(c.rule if c is best else f"= {c.rule}", style=_bold(c, answer)) for c in group
        )
        shown.add_row(
            str(rank),
            share(best.explained),
            f"{best.z + 0.0:.1f}".replace("-0.0", "0.0"),
            f"{best.bic - least:,.0f}",
            names,
            Text("; ".join(described(p) for p in best.parameters)),
            style=None if any(c.rule in answer.rules for c in group) else "dim",
        )
    return shown


def _bold(candidate: Candidate, answer: Identification) -> str:
    return "bold green" if candidate.rule in answer.rules else ""


def described(parameter: Parameter) -> str:
    """A constant and its interval in words.

    Args:
        parameter: of a candidate; of several channels, the range of their constants is told.

    >>> described(Parameter(name="beta", value=np.array(0.5), low=np.array(0.48),
    ...                     high=np.array(0.52)))
    'beta 0.5 (0.48 .. 0.52)'
    """
    name = parameter.name.replace("_", " ")
    unit = "" if parameter.units == "1" else f" {parameter.units}"
    if np.ndim(parameter.value):
        low, high = np.min(parameter.value), np.max(parameter.value)
        count = np.size(parameter.value)
        open_ = "" if parameter.determined else ", not all determined"
        return f"{name} {_told(low)} .. {_told(high)}{unit} over {count} channels{open_}"
    if not parameter.determined:
        return f"{name} not determined"
    if np.isinf(parameter.value):
        return f"{name} above {_told(parameter.low)}{unit}"
    ends = f"{_told(parameter.low)} .. {_told(parameter.high)}"
    return f"{name} {_told(parameter.value)}{unit} ({ends})"


def _told(number: np.ndarray) -> str:
    return f"{float(number):.4g}"


def _refused(candidates: list[Candidate]) -> Any:
    """One line a reason, with the rules it concerns."""
    from rich.table import Table
    from rich.text import Text

    reasons: dict[str, list[str]] = defaultdict(list)
    for candidate in candidates:
        reasons[str(candidate.refused)].append(candidate.rule)
    shown = Table(title="No candidates", title_justify="left", box=None, padding=(0, 2, 0, 0))
    shown.add_column("rules", overflow="fold")
    shown.add_column("reason")
    for reason, names in reasons.items():
        shown.add_row(Text(listed(names)), Text(reason))
    return shown
