"""`fwbio rules`: the table of rules, or all there is to know of one."""

import json
from collections.abc import Mapping
from typing import Any

import click

from fwbio import RULES
from fwbio.analyses.substrates import SUBSTRATES, SYNAPTIC, unsupported
from fwbio.analyses.tables import print_rules, terminal
from fwbio.program import stream_dims
from fwbio.rule import DEFAULTS, Rule
from fwbio.traces import SHORTEST

MEANINGS = {
    "key": "what the memory is addressed by when it is written",
    "value": "what is written",
    "query": "what the memory is addressed by when it is read",
}
RATES = "On synapses keys are rates, from 0 up."


@click.command("rules")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs to read.")
def rules_command(name: str | None, as_json: bool) -> None:
    """List the rules, or tell all of the one called NAME.

    Each has its equation, what it stands for in a synapse, its source, and the substrates that run
    it; one alone also its streams with their ranges, and why what does not run it does not.

    \b
    Examples:
      fwbio rules
      fwbio rules delta
      fwbio rules --json
    """
    chosen = RULES.values() if name is None else [RULES.row(name, where="rules")]
    table = [listed(rule) for rule in chosen]
    if as_json:
        shown = table if name is None else table[0]
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
    elif name is None:
        print_rules(table)
    else:
        print_rule(table[0])


def listed(rule: Rule) -> dict[str, Any]:
    """A rule as plain data.

    Args:
        rule: of the table.

    Returns:
        `name`, `equation`, `biology`, `source`, `objective`; `streams`, each with `name`, `dims`,
        `needed`, `default` (what stands for one that is not given, null of one that is needed),
        `range` and `meaning`; `unsupported`, by substrate, and `backends`, those of the kernel, by
        name: why it does not run the rule, null where it does.
    """
    from fwbio import kernels

    return {
        "name": rule.name,
        "equation": rule.equation,
        "biology": rule.biology,
        "source": rule.source,
        "objective": rule.objective,
        "streams": _streams(rule),
        "unsupported": {name: unsupported(rule, name) for name in SUBSTRATES},
        "backends": {name: kernels.unsupported(rule, name) for name in kernels.BACKENDS},
    }


def print_rule(row: dict[str, Any]) -> None:
    """A rule: what it does, what it takes, and what runs it.

    Args:
        row: as `listed` makes it.
    """
    from rich.text import Text

    console = terminal()
    console.print(Text(row["name"], style="bold"))
    told = _grid()
    for name in ("equation", "objective", "biology", "source"):
        told.add_row(name, Text(row[name]))
    console.print(told)
    console.print(_stream_table(row["streams"]))
    console.print(_ledger("Runs on", row["unsupported"], SUBSTRATES))
    console.print(_ledger("Backends of the kernel", row["backends"], {}))
    if any(row["unsupported"][name] is None for name in SYNAPTIC):
        console.print(Text(f"\n{RATES}"))


def _streams(rule: Rule) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "dims": list(dims),
            "needed": name in MEANINGS or rule.needs(name),
            "default": None if name in MEANINGS else _default(rule, name),
            "range": "any" if name in MEANINGS else _range(rule, name),
            "meaning": MEANINGS.get(name) or rule.streams[name].meaning,
        }
        for name, dims in stream_dims(rule).items()
    ]


def _default(rule: Rule, name: str) -> str | None:
    """What stands for a stream that is not given, in words."""
    if rule.needs(name):
        return None
    if name == "log_decay" and rule.default_decay_offset is not None:
        return f"log(1 - 2^-({rule.default_decay_offset:g} + h)) for head h"
    return f"{DEFAULTS.get(name, 1.0):g}"


def _range(rule: Rule, name: str) -> str:
    shortest = SHORTEST.get(rule.terms.plasticity)
    if name == "interval" and shortest:
        return f"> {shortest:g}"
    return rule.streams[name].range


def _grid(title: str = "") -> Any:
    from rich.table import Table

    shown = Table(
        title=title or None,
        title_justify="left",
        title_style="",
        show_header=False,
        box=None,
        padding=(0, 2, 0, 0),
    )
    shown.add_column(style="bold", no_wrap=True)
    shown.add_column()
    return shown


def _stream_table(streams: list[dict[str, Any]]) -> Any:
    from rich.table import Table
    from rich.text import Text

    shown = Table(title="\nStreams", title_justify="left", title_style="", box=None)
    shown.padding = (0, 2, 0, 0)
    shown.add_column("name", style="bold", no_wrap=True)
    for column in ("dims", "range"):
        shown.add_column(column, no_wrap=True)
    for column in ("unless given", "what it does"):
        shown.add_column(column)
    for stream in streams:
        dims = f"(.., {', '.join(stream['dims'])})"
        default = "needed" if stream["needed"] else stream["default"]
        meaning, _, _ = stream["meaning"].partition(" (")  # what stands for it has a column here
        shown.add_row(stream["name"], dims, stream["range"], Text(default), Text(meaning))
    return shown


def _ledger(title: str, reasons: Mapping[str, str | None], known: Mapping[str, str]) -> Any:
    """What runs the rule, with what is known of it, and what does not, with the reason."""
    from rich.text import Text

    shown = _grid(f"\n{title}")
    shown.add_column()
    for name, why in reasons.items():
        shown.add_row(name, "yes" if why is None else "no", Text(why or known.get(name, "")))
    return shown
