"""The tables that commands print on a terminal."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from fwbio.analyses.compare import summary

PIPED_WIDTH = 100  # characters of a table that no terminal bounds


def print_rules(table: list[dict[str, Any]]) -> None:
    """The rules, and what does not run which."""
    from rich.table import Table
    from rich.text import Text

    console = terminal()
    shown = Table(title="Rules", show_lines=True, title_justify="left")
    shown.add_column("rule", style="bold", no_wrap=True)
    shown.add_column("equation, biology, source")
    shown.add_column("runs on")
    for row in table:
        text = Text("\n").join(
            [Text(row["equation"]), Text(row["biology"]), Text(row["source"], style="dim")]
        )
        runs = [s for s, why in row["unsupported"].items() if why is None]
        shown.add_row(row["name"], text, "\n".join(runs))
    console.print(shown)
    print_ledger(
        [
            {"rule": row["name"], "substrate": s, "reason": why}
            for row in table
            for s, why in row["unsupported"].items()
            if why
        ]
    )


def print_ledger(ledger: list[dict[str, str]]) -> None:
    """What does not run or was not run, and why."""
    from rich.table import Table
    from rich.text import Text

    if not ledger:
        return
    shown = Table(title="Not run", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in ledger[0]:
        shown.add_column(column, no_wrap=column != "reason")
    for entry in ledger:
        shown.add_row(*(Text(words) for words in entry.values()))
    terminal().print(shown)


def print_summary(tree: Any, written: Path) -> None:
    """The main metrics of a comparison, what was not run, and where the report is."""
    from rich.table import Table

    from fwbio.analyses.words import number

    console = terminal()
    metrics = {
        "recall_accuracy": "recall",
        "recall_accuracy_se": "± se",
        "readout_agreement": "read-out r",
        "weight_agreement": "weight cosine",
        "relative_error": "rel. error",
    }
    shown = Table()
    for column in ("programmer", "rule", "substrate"):
        shown.add_column(column, no_wrap=True)
    for column in ("trials", *metrics.values()):
        shown.add_column(column, justify="right")
    for case, rows in summary(tree).groupby(["programmer", "rule", "substrate"], sort=False):
        values = rows.set_index("metric")["value"]
        shown.add_row(*case, f"{values['trials']:g}", *(number(values[m]) for m in metrics))
    console.print(shown)
    print_ledger(tree.attrs["ledger"])
    click.echo(f"report: {written}")


def terminal() -> Any:
    """What tables are printed on."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)


def print_protocols(titles: Mapping[str, str]) -> None:
    """The protocols by name."""
    from rich.table import Table

    shown = Table(title="Protocols", title_justify="left", box=None, padding=(0, 2, 0, 0))
    shown.add_column("name", style="bold", no_wrap=True)
    shown.add_column("what it shows")
    for name, title in titles.items():
        shown.add_row(name, title)
    terminal().print(shown)
