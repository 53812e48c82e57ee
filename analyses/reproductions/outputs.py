"""The files and the printed tables of a reproduction."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from fwbio.analyses.outputs import json_text, png
from fwbio.analyses.reproductions.reproduce import Findings, plain
from fwbio.analyses.reproductions.reproduction import Outcome, Published, conditions, found, told
from fwbio.files import write_together

DATA, TABLE = "results.json", "results.csv"
TOO_SMALL = "quick form, of sizes too small for the claims"
VERDICTS: Mapping[bool | None, str] = {True: "holds", False: "does not hold", None: "can't be told"}


def write(findings: Findings, folder: Path) -> list[Path]:
    """Write results.json, results.csv and NAME.png; earlier ones stay until all are ready.

    Args:
        findings: as `fwbio.analyses.reproductions.reproduce.reproduce` makes them.
        folder: where they go.

    Returns:
        The paths written.

    Raises:
        FwbioError: the folder can't be written.
    """
    contents: dict[str, str | bytes] = {
        DATA: json_text(plain(findings)),
        TABLE: rows(findings.outcomes).to_csv(index=False).encode(),
        f"{findings.reproduction.name}.png": figure(findings),
    }
    return write_together(folder, contents)


def rows(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """One row a run and metric: the condition's fields, seed, metric, value, seconds, steps."""
    return pd.DataFrame(
        [
            {
                **outcome.condition,
                "seed": outcome.seed,
                "metric": metric,
                "value": value,
                "training_seconds": round(outcome.seconds, 3),
                "steps": outcome.steps,
            }
            for outcome in outcomes
            for metric, value in outcome.metrics.items()
        ]
    )


def comparison(
    outcomes: Sequence[Outcome], metrics: Mapping[str, str], published: Sequence[Published]
) -> pd.DataFrame:
    """Published beside measured: a row a condition and metric.

    Args:
        outcomes: what was measured.
        metrics: which numbers, with their headings.
        published: the published figures.

    Returns:
        Columns `metric`, `published` (nan where nothing was), `note`, and over seeds `mean`,
        `low`, `high` and `seeds`, after the conditions' fields.
    """
    made = []
    for condition in conditions(outcomes):
        for metric in metrics:
            values = found(outcomes, metric, **condition)
            if not values.size:
                continue
            beside = [entry for entry in published if entry.concerns(condition, metric)]
            made.append(
                {
                    **condition,
                    "metric": metric,
                    "published": beside[0].value if beside else math.nan,
                    "note": beside[0].note if beside else "",
                    "mean": values.mean(),
                    "low": values.min(),
                    "high": values.max(),
                    "seeds": values.size,
                }
            )
    return pd.DataFrame(made)


def figure(findings: Findings) -> bytes:
    """The figure of a reproduction, as PNG."""
    from matplotlib.figure import Figure

    reproduction = findings.reproduction
    count = len(reproduction.panels)
    drawn = Figure(figsize=(5.2 * count, 4.0), layout="constrained")
    axes = drawn.subplots(1, count, squeeze=False)[0]
    for panel, ax in zip(reproduction.panels, axes, strict=True):
        panel(findings.outcomes, ax)
    title = "\n".join([reproduction.title, *_caveat(findings)])
    drawn.suptitle(title, fontsize=11)
    return png(drawn, dpi=130)


def tables(findings: Findings) -> list[Any]:
    """The tables for a terminal: published beside measured, and the claims."""
    return [_compared(findings), _claimed(findings)]


def _compared(findings: Findings) -> Any:
    from rich.table import Table

    reproduction = findings.reproduction
    table = comparison(findings.outcomes, reproduction.metrics, reproduction.published)
    fields = [name for name in table.columns if name in _fields(findings.outcomes)]
    shown = Table(title=reproduction.title, caption=reproduction.source, title_justify="left")
    for name in (*fields, "metric"):
        shown.add_column(name, overflow="fold")
    for name in ("published", "measured", "over seeds"):
        shown.add_column(name, justify="right", no_wrap=True)
    shown.add_column("published at")
    for row in table.to_dict("records"):
        several = row["seeds"] > 1
        shown.add_row(
            *("" if pd.isna(row[name]) else str(row[name]) for name in fields),
            reproduction.metrics[row["metric"]],
            told(row["published"]),
            told(row["mean"]),
            f"{told(row['low'])} .. {told(row['high'])}" if several else "one seed",
            row["note"],
        )
    return shown


def _claimed(findings: Findings) -> Any:
    from rich.table import Table
    from rich.text import Text

    shown = Table(title=": ".join(["What it must show", *_caveat(findings)]), title_justify="left")
    for name in ("claim", "found", ""):
        shown.add_column(name, overflow="fold")
    styles = {True: "green", False: "bold red", None: "yellow"}
    for claim in findings.claims:
        verdict = Text(VERDICTS[claim.holds], style=styles[claim.holds])
        shown.add_row(Text(claim.text), Text(claim.found), verdict)
    return shown


def _caveat(findings: Findings) -> list[str]:
    """What has to be said of a quick form in which not every claim holds."""
    small = findings.quick and not all(claim.holds for claim in findings.claims)
    return [TOO_SMALL] if small else []


def _fields(outcomes: Sequence[Outcome]) -> set[str]:
    return {name for outcome in outcomes for name in outcome.condition}
