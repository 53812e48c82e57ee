"""The one error a user's mistake raises."""

from collections.abc import Iterable
from difflib import get_close_matches


class FwbioError(ValueError):
    """A mistake in what was asked for, told in one line: what, where, and the mend.

    Args:
        what: what is wrong, with the offending value.
        where: the argument, variable or file in which it was found.
        mend: what to do instead.
    """

    def __init__(self, what: str, *, where: str, mend: str) -> None:
        super().__init__(f"{where}: {what}; {mend}")
        self.what, self.where, self.mend = what, where, mend

    def __str__(self) -> str:
        """The whole line, as it is (a KeyError would quote it)."""
        return str(self.args[0])

    def __reduce__(self) -> tuple:
        """Let the error cross process boundaries (keyword-only arguments need help)."""
        return _rebuild, (type(self), self.what, self.where, self.mend)


class UnknownNameError(FwbioError, KeyError):
    """A name that a table lacks: a KeyError too, so that tables are mappings like any other."""


def _rebuild(kind: type[FwbioError], what: str, where: str, mend: str) -> FwbioError:
    return kind(what, where=where, mend=mend)


def unknown_name(name: object, known: Iterable[str], *, kind: str, where: str) -> UnknownNameError:
    """The error for a name that is not in a table, suggesting the nearest one that is."""
    names = sorted(known)
    near = get_close_matches(str(name), names, n=1)
    mend = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(names)}"
    return UnknownNameError(f"there is no {kind} called {name!r}", where=where, mend=mend)
