"""The tables that commands print on a terminal."""

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import Field, fields
from inspect import getdoc
from pathlib import Path
from textwrap import dedent
from typing import Any, get_args

import click

from fwbio.analyses.compare import summary
from fwbio.tasks import TASKS

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
        cells = {metric: number(values[metric]) for metric in metrics}
        if values["recall_accuracy_se"] == 0:
            cells["recall_accuracy_se"] = "all alike"
        shown.add_row(*case, f"{values['trials']:g}", *cells.values())
    console.print(shown)
    print_ledger(tree.attrs["ledger"])
    click.echo(f"report: {written}")


def print_rows(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table of words.

    Args:
        title: above it.
        head: the names of its columns.
        rows: their cells, numbers as text.
    """
    from rich.table import Table
    from rich.text import Text

    shown = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for name in head:
        shown.add_column(name, overflow="fold")
    for row in rows:
        shown.add_row(*map(Text, row))
    terminal().print(shown)


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


def listed_tasks(names: Iterable[str]) -> list[dict[str, Any]]:
    """Tasks as plain data: name, kind, summary, and each size's default and range.

    Args:
        names: of `fwbio.tasks.TASKS`.

    Returns:
        A dict a task; its `sizes` have `name`, `type`, `default`, and `choices` of words or `least`
        and `most` of numbers, null where nothing bounds them. `notes` says what the sizes are.
    """
    return [
        {
            "name": name,
            "kind": TASKS[name].kind,
            "summary": TASKS[name].summary,
            "notes": _notes(TASKS[name].config),
            "sizes": [_size(size) for size in fields(TASKS[name].config)],
        }
        for name in names
    ]


def print_tasks(table: list[dict[str, Any]]) -> None:
    """The tasks by name.

    Args:
        table: as `listed_tasks` makes it.
    """
    from rich.table import Table
    from rich.text import Text

    shown = Table(title="Tasks", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in ("name", "shows"):
        shown.add_column(column, style="bold" if column == "name" else "", no_wrap=True)
    shown.add_column("what it is")
    for row in table:
        kind = "pairs" if row["kind"] == "pairs" else "sequences"
        shown.add_row(row["name"], kind, Text(row["summary"]))
    terminal().print(shown)


def print_task(row: Mapping[str, Any]) -> None:
    """A task: what it is, its sizes, their defaults and ranges.

    Args:
        row: one of `listed_tasks`.
    """
    from rich.table import Table
    from rich.text import Text

    kind = "pairs" if row["kind"] == "pairs" else "sequences"
    shown = Table(box=None, padding=(0, 2, 0, 0))
    shown.add_column("size", style="bold", no_wrap=True)
    shown.add_column("default", no_wrap=True)
    shown.add_column("range")
    for size in row["sizes"]:
        shown.add_row(size["name"], Text(_word(size["default"])), Text(_range(size)))
    terminal().print(Text(f"{row['name']}, {kind}: {row['summary']}\n"))
    terminal().print(shown)
    terminal().print(Text(f"\n{row['notes']}"))


def _notes(config: type[Any]) -> str:
    """What a config's docstring says of its sizes."""
    told = getdoc(config) or ""
    _, _, sizes = told.partition("Args:\n")
    return (dedent(sizes) or told).replace("`", "").strip()


def _size(field: Field) -> dict[str, Any]:
    choices = get_args(field.type)
    told = {"name": field.name, "type": "str" if choices else getattr(field.type, "__name__", "")}
    told |= {"default": field.default}
    if choices:
        return told | {"choices": list(choices)}
    if field.type in (int, float):
        most = field.metadata["most"]
        return told | {
            "least": field.metadata["least"],
            "most": None if most == math.inf else most,
        }
    return told


def _word(value: object) -> str:
    """A value as it is written after --size NAME=."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if value != "" else '""'


def _range(size: Mapping[str, Any]) -> str:
    if "choices" in size:
        return ", ".join(size["choices"])
    if "least" in size:
        what = "whole numbers" if size["type"] == "int" else "numbers"
        ends = "up" if size["most"] is None else f"to {size['most']:g}"
        return f"{what} from {size['least']:g} {ends}"
    return "true, false" if size["type"] == "bool" else "text"
