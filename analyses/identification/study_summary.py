"""What a study of identification comes to: shares with intervals, and claims that can fail."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from fwbio.analyses.identification.study import NOISE, STEPS
from fwbio.analyses.identification.study_cases import SPIKING, VARIED, named
from fwbio.analyses.words import listed
from fwbio.rules import RULES

ASKED, WITHIN, RULES_ASKED = 0.95, 0.05, 12


class Share(NamedTuple):
    """How many of how many, and the 95 % interval of the share."""

    hits: int
    total: int
    share: float
    low: float
    high: float

    def __str__(self) -> str:
        """The share and its interval in words."""
        if not self.total:
            return "none"
        ends = f"{100 * self.low:.1f} .. {100 * self.high:.1f}"
        return f"{self.hits} of {self.total}: {100 * self.share:.1f} % ({ends})"


class Claim(NamedTuple):
    """What the study must show, whether it does, and what it found."""

    text: str
    holds: bool
    found: str


def wilson(hits: Iterable[bool]) -> Share:
    """A share with its 95 % interval, z = 1.96, which few trials don't make certain.

        (p + z^2/2n +- z sqrt(p (1 - p) / n + z^2/4n^2)) / (1 + z^2/n)

    Args:
        hits: true or false, independently.

    Source: Wilson 1927, 10.1080/01621459.1927.10502953.

    >>> wilson([True] * 10).low.__round__(3)
    0.722
    """
    found = np.asarray(list(hits), dtype=bool)
    n, count = found.size, int(found.sum())
    if not n:
        return Share(0, 0, np.nan, np.nan, np.nan)
    from scipy import stats

    ends = stats.binomtest(count, n).proportion_ci(0.95, method="wilson")
    return Share(count, n, count / n, float(ends.low), float(ends.high))


def by_rule(table: pd.DataFrame) -> pd.DataFrame:
    """A row a rule of the main series: how often right, errors of constants, seconds.

    Args:
        table: as `fwbio.analyses.identification.study_run.run` makes it.

    Returns:
        `right`, `recordings`, `error` (median over recordings of the largest relative error of a
        constant), `worst` (the largest), `covered` (mean share of constants in their 95 %
        intervals) and `seconds` (median, of one core), by `rule`.
    """
    groups = table[table.series == "rules"].groupby("rule", sort=False)
    return pd.DataFrame(
        {
            "right": groups.right.sum(),
            "recordings": groups.size(),
            "error": groups.error.median(),
            "worst": groups.error.max(),
            "covered": groups.covered.mean(),
            "seconds": groups.seconds.median(),
        }
    )


def confusion(table: pd.DataFrame) -> pd.DataFrame:
    """How many recordings of each rule were given each answer, in the main series.

    Args:
        table: as `run` makes it.

    Returns:
        Counts, a row a rule and a column an answer in short (`study_cases.named`).
    """
    main = table[table.series == "rules"]
    answers = [named(sorted(words.split(), key=_place)) for words in main.answer]
    counts = pd.crosstab(main.rule.to_numpy(), np.array(answers))
    rows = sorted(counts.index, key=_place)
    firsts = {name: _place(name.split(" ")[0]) for name in counts.columns}
    return counts.loc[rows, sorted(counts.columns, key=lambda name: (firsts[name], name))]


def _place(rule: str) -> int:
    return list(RULES).index(rule) if rule in RULES else len(RULES)


def by_condition(table: pd.DataFrame, condition: str, series: str) -> pd.DataFrame:
    """How often the rules that were varied are named right at each value of a condition.

    Args:
        table: as `run` makes it.
        condition: "noise" or "steps".
        series: the one in which it varies; the main one gives the point that all share.

    Returns:
        `at`, `share`, `low`, `high`, `hits` and `total`.
    """
    shared = (table.series == "rules") & table.rule.isin(VARIED)
    here = table[shared | (table.series == series)]
    rows = [
        {"at": at, **wilson(rows.right)._asdict()}
        for at, rows in here.groupby(condition, sort=True)
    ]
    return pd.DataFrame(rows)


def mistakes(table: pd.DataFrame) -> pd.DataFrame:
    """Recordings whose answer was not right, with what was answered."""
    wrong = table[~table.right.astype(bool)]
    return wrong[["series", "rule", "seed", "noise", "steps", "verdict", "answer"]]


def claims(table: pd.DataFrame) -> list[Claim]:
    """What must show, and whether it does.

    Args:
        table: as `run` makes it.
    """
    main = table[table.series == "rules"]
    right = wilson(main.right)
    near = wilson(main.error <= WITHIN)
    told = wilson(main.named)
    spiking = wilson(table[table.series == "spiking"].right)
    foreign = wilson(table[table.series == "foreign"].right)
    kinds = main.rule.nunique()
    at = f"{STEPS} steps, {100 * NOISE:g} % noise"
    return [
        Claim(
            f"At least {100 * ASKED:g} % right over at least {RULES_ASKED} rules ({at})",
            right.share >= ASKED and kinds >= RULES_ASKED,
            f"{right}, {kinds} rules",
        ),
        Claim(
            f"All constants of a recording within {100 * WITHIN:g} % in {100 * ASKED:g} % of them",
            near.share >= ASKED,
            f"{near}; median of the largest error {100 * main.error.median():.2g} %",
        ),
        Claim(
            "No answer leaves out the rule that made the recording",
            _all(told),
            f"it is in {told}",
        ),
        Claim(f"Spiking records of {listed(SPIKING)} are named right", _all(spiking), f"{spiking}"),
        Claim(
            "Memories that follow no rule of the table are said to be none of it",
            _all(foreign),
            f"{foreign}",
        ),
    ]


def _all(share: Share) -> bool:
    return share.total > 0 and share.hits == share.total


def summary(table: pd.DataFrame) -> dict[str, Any]:
    """Everything above as plain data.

    Args:
        table: as `run` makes it.
    """
    main = table[table.series == "rules"]
    return {
        "right": wilson(main.right)._asdict(),
        "rules": by_rule(table).reset_index().to_dict("records"),
        "errors": {
            "median": float(main.error.median()),
            "within_5_percent": wilson(main.error <= WITHIN)._asdict(),
            "covered": float(main.covered.mean()),
        },
        "seconds": {"median": float(main.seconds.median()), "most": float(main.seconds.max())},
        "noise": by_condition(table, "noise", "noise").to_dict("records"),
        "steps": by_condition(table, "steps", "steps").to_dict("records"),
        "readout": wilson(table[table.series == "readout"].right)._asdict(),
        "unit": wilson(table[table.series == "unit"].right)._asdict(),
        "spiking": wilson(table[table.series == "spiking"].right)._asdict(),
        "foreign": wilson(table[table.series == "foreign"].right)._asdict(),
        "mistakes": mistakes(table).to_dict("records"),
        "claims": [claim._asdict() for claim in claims(table)],
    }
