"""Options that several commands have."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click


def names(context: click.Context, parameter: click.Parameter, given: Sequence[str]) -> tuple:
    """Names given several times, separated by commas, or both."""
    return tuple(name.strip() for words in given for name in words.split(",") if name.strip())


def values(
    context: click.Context, parameter: click.Parameter, given: Sequence[str]
) -> dict[str, Any]:
    """NAME=VALUE words as a mapping; a value that reads as JSON is what it reads as."""
    sizes = {}
    for word in given:
        name, equals, text = word.partition("=")
        if not equals:
            raise click.BadParameter(f"{word!r} is not NAME=VALUE")
        try:
            sizes[name] = json.loads(text)
        except json.JSONDecodeError:
            sizes[name] = text
    return sizes


def several(option: str, known: Sequence[str], default: Sequence[str], what: str) -> Callable:
    """An option of names, separated by commas."""
    return click.option(
        option,
        multiple=True,
        default=[",".join(default)],
        callback=names,
        show_default=bool(default),
        metavar="NAMES",
        help=f"{what}, separated by commas: {', '.join(known)}.",
    )


def assigned(option: str, target: str, what: str) -> Callable:
    """An option NAME=VALUE that may be repeated."""
    return click.option(
        option, target, multiple=True, metavar="NAME=VALUE", callback=values, help=what
    )


def out(default: str) -> Callable:
    """The option of the folder to write to."""
    return click.option(
        "--out",
        default=default,
        show_default=True,
        type=click.Path(path_type=Path),
        help="Folder to write to.",
    )
