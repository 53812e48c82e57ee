"""The files and the printed tables of the study of identification."""

import json
import os
import platform
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd

from fwbio.analyses.identification.study import EQUIVALENT, NOISE, POST, PRE
from fwbio.analyses.identification.study_cases import FIRST, OF_EQUAL_STEPS, VARIED
from fwbio.analyses.identification.study_run import LEDGER, fingerprint
from fwbio.analyses.identification.study_summary import (
    ASKED,
    Claim,
    by_condition,
    by_rule,
    claims,
    confusion,
    mistakes,
    summary,
    wilson,
)
from fwbio.analyses.outputs import png
from fwbio.analyses.words import listed
from fwbio.files import write_together
from fwbio.record import versions

TABLE, DATA, FIGURE, WORDS = "study.csv", "summary.json", "confusion.png", "README.md"
MOST = 20  # mistakes that the page lists
WIDTH = 110
TOO_FEW = "a quick form, of too few recordings, and of seeds that are not new"


def write(table: pd.DataFrame, folder: Path, *, command: str) -> list[Path]:
    """Write study.csv, summary.json, confusion.png and README.md; the ledger of cases goes.

    Args:
        table: as `fwbio.analyses.identification.study_run.run` makes it.
        folder: where they go; earlier ones stay until all are ready.
        command: what makes the same again.

    Returns:
        The paths written.

    Raises:
        FwbioError: the folder can't be written.
    """
    told = {
        "command": command,
        "versions": versions(),
        "machine": {"machine": platform.machine(), "cores": os.cpu_count()},
        "code": fingerprint(),
        **summary(table),
    }
    contents = {
        TABLE: table.to_csv(index=False).encode(),
        DATA: json.dumps(_finite(told), indent=1, ensure_ascii=False, allow_nan=False).encode(),
        FIGURE: figure(table),
        WORDS: page(table, command).encode(),
    }
    written = write_together(folder, contents)
    (folder / LEDGER).unlink(missing_ok=True)
    return written


def _finite(found: Any) -> Any:
    """The same as JSON has it: null for every number that is none."""
    if isinstance(found, dict):
        return {name: _finite(x) for name, x in found.items()}
    if isinstance(found, (list, tuple)):
        return [_finite(x) for x in found]
    found = found.item() if isinstance(found, np.generic) else found
    return None if isinstance(found, float) and not np.isfinite(found) else found


def figure(table: pd.DataFrame) -> bytes:
    """Confusions, and how often rules are named right by noise and by length, as PNG.

    Args:
        table: as `run` makes it.
    """
    from matplotlib.figure import Figure

    from fwbio.analyses.identification import plots

    counts = confusion(table)
    size = 0.26 * counts.shape[1], 0.2 * counts.shape[0]
    drawn = Figure(figsize=(7.5 + size[0], max(4.5, 2.2 + size[1])), layout="constrained")
    grid = drawn.add_gridspec(2, 2, width_ratios=(3.4 + size[0], 4))
    plots.confusion(counts, drawn.add_subplot(grid[:, 0]))
    above, below = (drawn.add_subplot(grid[i, 1]) for i in range(2))
    noise = by_condition(table, "noise", "noise").assign(at=lambda found: 100 * found["at"])
    plots.accuracy({"weights": noise}, above, xlabel="noise on the weights (%)", target=ASKED)
    plots.accuracy(
        {"weights": by_condition(table, "steps", "steps")},
        below,
        xlabel="length (steps)",
        target=ASKED,
    )
    return png(drawn, dpi=110)


def page(table: pd.DataFrame, command: str) -> str:
    """What was run and what came out, as Markdown.

    Args:
        table: as `run` makes it.
        command: what makes the same again.
    """
    main = table[table.series == "rules"]
    seeds = f"{main.seed.min()} to {main.seed.max()}"
    new = "were not used in developing the method" if _unseen(table) else TOO_FEW
    lengths = listed([str(x) for x in sorted(set(main.steps))])
    return "\n".join(
        [
            "# How often identification is right",
            "",
            _filled(
                f"Made by `{command}`: `study.csv` has a row a recording, `summary.json` what they"
                " come to, `confusion.png` the answers by true rule, and by noise and length."
            ),
            "",
            _filled(
                "Each recording is of one rule with constants drawn at random"
                f" (`fwbio.analyses.identification.study.case`), {PRE} x {POST} weights, {lengths}"
                f" steps and {100 * NOISE:g} % noise on the weights. Keys, values and the noisy"
                " weights are given, and every rule of the table is a candidate. Seeds"
                f" {seeds}: {new}."
            ),
            "",
            *_claims(claims(table)),
            *_rules(by_rule(table)),
            *_conditions(table),
            *_mistakes(mistakes(table)),
            *_equivalents(),
        ]
    )


def _unseen(table: pd.DataFrame) -> bool:
    return bool(table.seed.min() >= FIRST)


def _filled(words: str) -> str:
    return fill(words, WIDTH)


def _item(words: str) -> str:
    return fill(f"- {words}", WIDTH, subsequent_indent="  ")


def _claims(found: list[Claim]) -> list[str]:
    rows = [f"| {c.text} | {c.found} | {'yes' if c.holds else 'no'} |" for c in found]
    return ["| what must show | found (95 % interval) | holds |", "| --- | --- | --- |", *rows, ""]


def _rules(found: pd.DataFrame) -> list[str]:
    rows = [
        f"| {rule} | {row.right:.0f} of {row.recordings:.0f} | {100 * row.error:.2g} %"
        f" | {100 * row.worst:.2g} % | {100 * row.covered:.0f} % | {row.seconds:.1f} |"
        for rule, row in found.iterrows()
    ]
    return [
        _filled(
            "Of each rule: how often the answer is right; the largest relative error of a constant,"
            " median over recordings and the worst of all; constants within their 95 % intervals;"
            " and seconds of one core a recording, for all candidates."
        ),
        "",
        "| rule | right | error, median | error, worst | within intervals | seconds |",
        "| --- | --- | --- | --- | --- | --- |",
        *rows,
        "",
    ]


def _conditions(table: pd.DataFrame) -> list[str]:
    told = []
    for name, factor, unit in (("noise", 100, " %"), ("steps", 1, "")):
        points = by_condition(table, name, name)
        each = [
            f"{factor * p['at']:g}{unit} {p.hits:.0f} of {p.total:.0f}"
            for _, p in points.iterrows()
        ]
        told.append(_item(f"by {name}: {', '.join(each)}"))
    for name, what in (
        ("readout", f"from read-outs alone, {100 * NOISE:g} % noise on them"),
        ("spiking", "from conductances between spiking cells, hebb and delta"),
    ):
        here = table[table.series == name]
        if len(here):
            told.append(_item(f"{what}: {wilson(here.right)}"))
    return [f"Right answers of {listed(VARIED)}, under other conditions:", "", *told, ""]


def _mistakes(wrong: pd.DataFrame) -> list[str]:
    main = wrong[wrong.series == "rules"]
    if main.empty:
        return ["Every answer of the main series is right.", ""]
    rows = [
        _item(
            f"{row.rule} (seed {row.seed}): {row.verdict}, {listed(row.answer.split() or ['none'])}"
        )
        for row in main.head(MOST).itertuples()
    ]
    more = [f"- and {len(main) - MOST} more, in `study.csv`"] if len(main) > MOST else []
    return ["Answers of the main series that are not right:", "", *rows, *more, ""]


def _equivalents() -> list[str]:
    told = [_item(f"{listed(sorted(names))}: {why}.") for names, why in EQUIVALENT.items()]
    told += [
        _item(
            f"{rule} and {listed(sorted(names))}, of spiking records: their steps last equally"
            " long, so that a window of spike timing is a constant factor."
        )
        for rule, names in OF_EQUAL_STEPS.items()
    ]
    return ["An answer is right too where it names rules that are one on such data:", "", *told, ""]


def tables(table: pd.DataFrame) -> list[Any]:
    """The tables for a terminal: the claims, and each rule.

    Args:
        table: as `run` makes it.
    """
    from rich.table import Table
    from rich.text import Text

    title = "What it must show" if _unseen(table) else f"What it must show: {TOO_FEW}"
    asked = Table(title=title, title_justify="left")
    for name in ("claim", "found (95 % interval)", ""):
        asked.add_column(name, overflow="fold")
    for claim in claims(table):
        style = "green" if claim.holds else "bold red"
        verdict = Text("holds" if claim.holds else "does not hold", style=style)
        asked.add_row(Text(claim.text), Text(claim.found), verdict)
    each = Table(title="By rule", title_justify="left")
    each.add_column("rule", no_wrap=True)
    for name in ("right", "error, median %", "worst %", "seconds"):
        each.add_column(name, justify="right")
    for rule, row in by_rule(table).iterrows():
        each.add_row(
            str(rule),
            f"{row.right:.0f} of {row.recordings:.0f}",
            f"{100 * row.error:.2g}",
            f"{100 * row.worst:.2g}",
            f"{row.seconds:.1f}",
        )
    return [each, asked]
