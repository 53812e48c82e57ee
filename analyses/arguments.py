"""Arguments that many analyses take: names of a table, whole numbers, and a call spelled out."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import numpy as np

from fwbio.errors import FwbioError, unknown_name

Name = TypeVar("Name")


def named(argument: str, given: str | Iterable[Name]) -> tuple[str | Name, ...]:
    """Names as they were given: several, or a string that is one.

    Args:
        argument: what to call it in errors.
        given: the names.

    Raises:
        FwbioError: neither.
    """
    if isinstance(given, str):
        return (given,)
    if not isinstance(given, Iterable):
        raise FwbioError(f"{given!r} is no name", where=argument, mend="give one name, or several")
    return tuple(given)


def require_names(
    argument: str, names: tuple[object, ...], known: tuple[str, ...], *, empty: bool = False
) -> None:
    """Refuse names that there are not, that are repeated, or, unless `empty`, that are none."""
    kind = argument.removesuffix("s")
    for name in names:
        if not isinstance(name, str):
            what = f"a {kind} is given by its name, not as {type(name).__name__}"
            raise FwbioError(what, where=argument, mend=f"choose from {', '.join(sorted(known))}")
        if name not in known:
            raise unknown_name(name, known, kind=kind, where=argument)
    if len(set(names)) < len(names):
        raise FwbioError(
            f"{', '.join(map(str, names))} repeats a name", where=argument, mend="name each once"
        )
    if not names and not empty:
        raise FwbioError(
            "none is named", where=argument, mend=f"choose from {', '.join(sorted(known))}"
        )


def require_whole(argument: str, value: object, low: int) -> None:
    """Refuse what is no whole number from `low` up."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise FwbioError(
            f"{value!r} is out of range", where=argument, mend=f"give a whole number from {low}"
        )


def called(function: str, arguments: Mapping[str, Any]) -> str:
    """The Python that calls a function, its keyword arguments spelled out.

    >>> print(called("math.hypot", {"a": 3, "b": np.float64(4)}))
    from math import hypot
    hypot(a=3, b=4.0)
    """
    module, _, name = function.rpartition(".")
    given = ", ".join(f"{key}={_plain(value)!r}" for key, value in arguments.items())
    return f"from {module} import {name}\n{name}({given})"


def _plain(value: Any) -> Any:
    """The value, with Python's own numbers in place of NumPy's."""
    if isinstance(value, Mapping):
        return {name: _plain(x) for name, x in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_plain, value))
    return value.tolist() if isinstance(value, (np.generic, np.ndarray)) else value
