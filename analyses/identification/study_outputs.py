"""The files and the printed tables of the study of identification."""

import os
import platform
from pathlib import Path
from typing import Any

import pandas as pd

from fwbio.analyses.identification.study_page import TOO_FEW, holds, is_new, page, varied
from fwbio.analyses.identification.study_run import LEDGER, fingerprint
from fwbio.analyses.identification.study_summary import (
    ASKED,
    by_condition,
    by_rule,
    claims,
    confusion,
    summary,
)
from fwbio.analyses.outputs import json_text, png
from fwbio.analyses.words import plural
from fwbio.files import write_together
from fwbio.record import versions

TABLE, DATA, FIGURE, WORDS = "study.csv", "summary.json", "confusion.png", "README.md"
LEAST, BELOW = (4.2, 2.2), 2.8  # inches of a figure: around the confusions, and below them


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
        DATA: json_text(told).encode(),
        FIGURE: figure(table),
        WORDS: page(table, command).encode(),
    }
    written = write_together(folder, contents)
    (folder / LEDGER).unlink(missing_ok=True)
    return written


def figure(table: pd.DataFrame) -> bytes:
    """Confusions, and how often rules are named right by noise and by length, as PNG.

    Args:
        table: as `run` makes it.
    """
    from matplotlib.figure import Figure

    from fwbio.analyses.identification import plots

    counts = confusion(table)
    firsts = {rule: row.to_numpy().argmax() for rule, row in counts.iterrows()}
    counts = counts.loc[sorted(counts.index, key=firsts.__getitem__)]  # of one answer together
    right = _right_answers(table).reindex_like(counts)
    wide, high = (LEAST[0] + 0.27 * counts.shape[1], LEAST[1] + 0.24 * counts.shape[0])
    drawn = Figure(figsize=(wide, high + BELOW), layout="constrained")
    grid = drawn.add_gridspec(2, 1, height_ratios=(high, BELOW))
    above, below = drawn.add_subfigure(grid[0]), drawn.add_subfigure(grid[1])
    ax = plots.confusion(counts, above.subplots(), right=right)
    ax.set_title("recordings by answer; framed: not right", fontsize=10)
    left, other = below.subplots(1, 2)
    noise = by_condition(table, "noise", "noise").assign(at=lambda found: 100 * found["at"])
    plots.accuracy({"weights": noise}, left, xlabel="noise on the weights (%)", target=ASKED)
    lengths = by_condition(table, "steps", "steps")
    plots.accuracy({"weights": lengths}, other, xlabel="length (steps)", target=ASKED)
    for panel in (left, other):
        panel.set_title(f"{plural(len(varied(table)), 'rule')}; dotted: asked for", fontsize=9)
    return png(drawn, dpi=110)


def _right_answers(table: pd.DataFrame) -> pd.DataFrame:
    """Which cells of the confusions are of right answers."""
    counts = confusion(table)
    good = confusion(table[table.right.astype(bool)])
    return good.reindex(index=counts.index, columns=counts.columns, fill_value=0) > 0


def tables(table: pd.DataFrame) -> list[Any]:
    """The tables for a terminal: the claims, and each rule.

    Args:
        table: as `run` makes it.
    """
    from rich.table import Table
    from rich.text import Text

    title = "What it must show" if is_new(table) else f"What it must show: {TOO_FEW}"
    asked = Table(title=title, title_justify="left")
    for name in ("claim", "found (95 % interval)", ""):
        asked.add_column(name, overflow="fold")
    for claim in claims(table):
        told = {"yes": ("holds", "green"), "no": ("does not hold", "bold red")}
        verdict = Text(*told.get(holds(claim), (holds(claim), "dim")))
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
