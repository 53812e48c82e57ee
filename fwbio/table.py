"""Tables of rows by name, which say what is nearest to a name that they lack."""

from collections.abc import Iterator, Mapping
from typing import TypeVar, final

from fwbio.errors import unknown_name

Row = TypeVar("Row")


@final
class Table(Mapping[str, Row]):
    """A mapping that can't be changed, and whose missing names are told with the nearest one.

    `in`, `.get` and `except KeyError` work as with a dict.

    Args:
        rows: the rows by name, in their order.
        kind: what a row is, in a word or two.
        name: the table's own name, as its users know it.
    """

    def __init__(self, rows: Mapping[str, Row], *, kind: str, name: str) -> None:
        self._rows, self._kind, self._name = dict(rows), kind, name

    def __getitem__(self, name: str) -> Row:
        """The row of that name.

        Raises:
            UnknownNameError: there is none; it is a FwbioError and a KeyError.
        """
        return self.row(name, where=self._name)

    def row(self, name: str, *, where: str) -> Row:
        """The row of that name, asked for by the argument or variable `where`.

        Raises:
            UnknownNameError: there is none.
        """
        if name not in self._rows:
            raise unknown_name(name, self._rows, kind=self._kind, where=where)
        return self._rows[name]

    def __contains__(self, name: object) -> bool:
        """Whether there is such a row."""
        return name in self._rows

    def __iter__(self) -> Iterator[str]:
        """The names, in the table's order."""
        return iter(self._rows)

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self._rows)

    def __repr__(self) -> str:
        """The table's name and its rows' names."""
        return f"<{self._name}: {', '.join(self._rows)}>"
