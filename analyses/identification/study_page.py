"""What the study of identification found, in words: the README beside its numbers."""

from collections.abc import Mapping, Sequence
from textwrap import fill
from types import MappingProxyType

import pandas as pd

from fwbio.analyses.identification.nesting import related
from fwbio.analyses.identification.study import EQUIVALENT, NOISE, POST, PRE, is_right
from fwbio.analyses.identification.study_cases import ALIKE, FIRST, alike
from fwbio.analyses.identification.study_summary import (
    Claim,
    by_condition,
    by_rule,
    claims,
    mistakes,
    wilson,
)
from fwbio.analyses.words import listed, plural
from fwbio.rules import RULES

MOST = 20  # mistakes that the page lists
WIDTH = 110
DASH = "\N{EN DASH}"
TOO_FEW = "a quick form, of too few recordings, and of seeds that are not new"
SERIES: Mapping[str, str] = MappingProxyType(
    {
        "rules": "the rule and its constants",
        "noise": "noise on the weights, or none",
        "steps": "the length of the recording",
        "readout": f"only read-outs are seen, {100 * NOISE:g} % noise on them",
        "unit": "weights, or of odd seeds read-outs, in a unit that is not the rule's",
        "spiking": "weights are conductances between spiking cells",
        "foreign": "memories that follow no rule of the table",
    }
)
FOREIGN = "foreign"
WHY: Mapping[str, str] = MappingProxyType(
    {
        "spiking": "of spiking records: their steps last equally long, so that a window of spike"
        " timing is a constant factor",
        "unit": "where the unit is not told: error correction of an unknown unit erases with a"
        " strength of its own",
    }
)


def page(table: pd.DataFrame, command: str) -> str:
    """What was run and what came out, as Markdown.

    Args:
        table: as `run` makes it.
        command: what makes the same again.
    """
    return "\n".join(
        [
            "# How often identification is right",
            "",
            _filled(
                f"Made by `{command}`: `study.csv` has a row a recording, `summary.json` what they"
                " come to, `confusion.png` the answers by true rule, and by noise and length."
            ),
            "",
            *([] if is_new(table) else [f"**This is {TOO_FEW}: it shows nothing.**", ""]),
            *_claims(claims(table)),
            *_series(table),
            *_drawn(table),
            *_judged(),
            *_rules(by_rule(table)),
            *_conditions(table),
            *_confusions(table),
            *_foreign(table),
            *_mistakes(mistakes(table)),
        ]
    )


def is_new(table: pd.DataFrame) -> bool:
    """Whether all recordings are of seeds that the method was not developed on."""
    return bool(table.seed.min() >= FIRST)


def _filled(words: str) -> str:
    return fill(words, WIDTH)


def _item(words: str) -> str:
    return fill(f"- {words}", WIDTH, subsequent_indent="  ")


def _claims(found: list[Claim]) -> list[str]:
    rows = [f"| {c.text} | {c.found} | {holds(c)} |" for c in found]
    return ["| what must show | found (95 % interval) | holds |", "| --- | --- | --- |", *rows, ""]


def holds(claim: Claim) -> str:
    """Whether a claim holds, in a word or two, or that nothing was measured of it."""
    if claim.found == str(wilson([])):
        return "not measured"
    return "yes" if claim.holds else "no"


def _series(table: pd.DataFrame) -> list[str]:
    """How many answers are right in each series."""
    rows = []
    for name in [*SERIES, *(set(table.series) - set(SERIES))]:
        here = table[table.series == name]
        kinds = plural(here.rule.nunique(), "kind" if name == FOREIGN else "rule")
        found = str(wilson(here.right)) if len(here) else "not run"
        what = SERIES.get(name, DASH)
        rows.append(f"| {name} | {what} | {kinds if len(here) else DASH} | {found} |")
    interval = (
        "Intervals are Wilson's (1927, 10.1080/01621459.1927.10502953), at z = 1.96, of recordings"
        " that were drawn independently."
    )
    head = ["| series | what is varied | of | right (95 % interval) |", "| --- | --- | --- | --- |"]
    return ["## By series", "", *head, *rows, "", _filled(interval), ""]


def _drawn(table: pd.DataFrame) -> list[str]:
    """How the recordings were made."""
    main = table[table.series == "rules"]
    lengths = listed([str(x) for x in sorted(set(main.steps))])
    first, last = main.seed.min(), main.seed.max()
    seeds = f"Seed {first}" if first == last else f"Seeds {first} to {last}"
    new = "not used in developing the method" if is_new(table) else "also used in developing it"
    told = [
        f"Each recording is of one rule and one seed: {PRE} x {POST} weights, {lengths} steps and"
        f" {100 * NOISE:g} % Gaussian noise on the weights, of their root mean square. Keys, values"
        " and the noisy weights of all steps are given, constants are not, and every rule of the"
        f" table is a candidate. {seeds}: {new}.",
        "Keys are Gaussian of length .5 to 1.5, values and queries Gaussian of unit variance; of"
        " rules of spike timing and calcium all are shares of cells, uniform from 0 to 1. Steps are"
        " 40 to 200 ms apart. Constants are drawn anew for each recording, as"
        " `fwbio.analyses.identification.study.case` says: half-lives of decays from 5 to 100"
        " steps, of each channel its own where the rule has them; write strengths, log-uniform,"
        " over a factor of 6 to 20; erase gates that erase .2 to 1.2 of what is read; thresholds"
        " at the .1 to .5 quantile of what they are compared with.",
    ]
    return ["## How the recordings were drawn", "", *[x for t in told for x in (_filled(t), "")]]


def _judged() -> list[str]:
    """What is taken as right."""
    return [
        "## What counts as right",
        "",
        _filled(
            "An answer is right if it names the rule that made the recording, and besides it none"
            " but rules that are one with it on such data:"
        ),
        "",
        *[_item(f"{listed(sorted(names))}: {why}.") for names, why in EQUIVALENT.items()],
        *[
            _item(f"{rule} and {listed(sorted(names))}, {WHY[series]}.")
            for series, rules in ALIKE.items()
            for rule, names in rules.items()
        ],
        "",
        _filled(
            "An answer that names the rule among others that other data could tell from it is not"
            " right, nor is one that names none. Of a memory that follows no rule of the table, the"
            " answer is right if it is none."
        ),
        "",
    ]


def _rules(found: pd.DataFrame) -> list[str]:
    rows = [
        f"| {rule} | {row.right:.0f} of {row.recordings:.0f} | {_percent(row.error)}"
        f" | {_percent(row.worst)} | {100 * row.covered:.0f} % | {row.seconds:.1f} |"
        for rule, row in found.iterrows()
    ]
    return [
        "## By rule",
        "",
        _filled(
            "How often the answer is right; the largest relative error of a constant, median over"
            " recordings and the worst of all; constants within their 95 % intervals; and seconds"
            " of one core a recording, for all candidates."
        ),
        "",
        "| rule | right | error, median | error, worst | within intervals | seconds |",
        "| --- | --- | --- | --- | --- | --- |",
        *rows,
        "",
    ]


def _percent(share: float) -> str:
    """A relative error as per cent, of two digits where it is small.

    >>> _percent(0.00014), _percent(1.0), _percent(0.123)
    ('0.014 %', '100 %', '12 %')
    """
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.2g} %"


def _conditions(table: pd.DataFrame) -> list[str]:
    if not (names := varied(table)):
        return []
    told = []
    for name, factor, unit in (("noise", 100, " % noise"), ("steps", 1, " steps")):
        for _, p in by_condition(table, name, name).iterrows():
            ends = f"{100 * p.low:.0f} to {100 * p.high:.0f} %"
            told.append(f"| {factor * p['at']:g}{unit} | {p.hits:.0f} of {p.total:.0f} | {ends} |")
    return [
        "## By noise and by length",
        "",
        f"Of {listed(names)}:",
        "",
        "| condition | right | 95 % interval |",
        "| --- | --- | --- |",
        *told,
        "",
    ]


def _confusions(table: pd.DataFrame) -> list[str]:
    """Every answer that is not the rule alone, with how it is related to it."""
    here = table[table.series != FOREIGN]
    counted: dict[tuple[str, tuple[str, ...], str], dict[str, int]] = {}
    for row in here[here.answer != here.rule].itertuples():
        names = tuple(sorted(row.answer.split(), key=list(RULES).index))
        series = counted.setdefault((row.rule, names, _how(row.series, row.rule, names)), {})
        series[row.series] = series.get(row.series, 0) + 1
    if not counted:
        return ["## Confusions", "", "Every answer is the rule alone, in all series.", ""]
    rows = [
        f"| {rule} | {listed(names) or 'none'} | {sum(series.values())}"
        f" ({', '.join(f'{name} {count}' for name, count in series.items())}) | {how} |"
        for (rule, names, how), series in sorted(counted.items(), key=lambda one: one[0][2])
    ]
    return [
        "## Confusions",
        "",
        _filled(
            "Every answer that is not the rule alone. A rule is nested in another if it makes the"
            " same weights as that one does at some of its constants."
        ),
        "",
        "| made by | answered | recordings (by series) | |",
        "| --- | --- | --- | --- |",
        *rows,
        "",
    ]


def _how(series: str, rule: str, names: Sequence[str]) -> str:
    """Whether an answer is right, and how what it names is related to the rule."""
    if not names:
        return "**not right**: nothing is named"
    if is_right(rule, set(names) - alike(series, rule)):
        return "right: one rule on such data"
    relations = dict.fromkeys(related(rule, name) for name in names if name != rule)
    told = "not told from others" if rule in names else "another rule"
    return f"**not right**: {told}; {'; '.join(relations)}"


def _foreign(table: pd.DataFrame) -> list[str]:
    """What was answered of memories that follow no rule of the table."""
    here = table[table.series == FOREIGN]
    if here.empty:
        return []
    rows = []
    for kind, mine in here.groupby("rule", sort=False):
        named = {listed(answer.split()) for answer in mine.answer[~mine.right.astype(bool)]}
        hits = int(mine.right.sum())
        rows.append(f"| {kind} | {hits} of {len(mine)} | {'; '.join(sorted(named)) or DASH} |")
    return [
        "## Memories of no rule",
        "",
        "| what they follow | said to be none of the table | else named |",
        "| --- | --- | --- |",
        *rows,
        "",
    ]


def _mistakes(wrong: pd.DataFrame) -> list[str]:
    if wrong.empty:
        return []
    rows = [
        _item(
            f"{row.rule} (seed {row.seed}): {row.verdict}, {listed(row.answer.split()) or 'none'};"
            f" series {row.series}, {row.steps} steps, {100 * row.noise:g} % noise"
        )
        for row in wrong.head(MOST).itertuples()
    ]
    more = [f"- and {len(wrong) - MOST} more, in `study.csv`"] if len(wrong) > MOST else []
    return ["Recordings whose answer is not right:", "", *rows, *more, ""]


def varied(table: pd.DataFrame) -> list[str]:
    """The rules that were run under several conditions."""
    here = set(table[table.series.isin(["noise", "steps"])].rule)
    return [rule for rule in RULES if rule in here]
