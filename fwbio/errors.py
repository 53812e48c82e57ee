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

    def __reduce__(self) -> tuple:
        """Let the error cross process boundaries (keyword-only arguments need help)."""
        return _rebuild, (self.what, self.where, self.mend)


def _rebuild(what: str, where: str, mend: str) -> FwbioError:
    return FwbioError(what, where=where, mend=mend)


def unknown_name(name: object, known: Iterable[str], *, kind: str, where: str) -> FwbioError:
    """The error for a name that is not in a table, suggesting the nearest one that is."""
    names = sorted(known)
    near = get_close_matches(str(name), names, n=1)
    mend = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(names)}"
    return FwbioError(f"there is no {kind} called {name!r}", where=where, mend=mend)
