"""What a network's config refuses, each in one line."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fwbio.errors import FwbioError, unknown_name


@dataclass(frozen=True)
class Checks:
    """Checks of one config's fields.

    Args:
        where: the config's name, for the errors.
    """

    where: str

    def whole(self, name: str, value: Any, *, low: int = 1) -> None:
        """Refuse what is no whole number from `low` up."""
        if type(value) is not int or value < low:
            raise self.error(f"{name} = {value!r}", f"give a whole number from {low} up")

    def number(self, name: str, value: Any, *, low: float = 0.0, above: bool = False) -> None:
        """Refuse what is no finite number from `low` up, or above it."""
        sound = isinstance(value, int | float) and not isinstance(value, bool)
        if not sound or not (low < value < math.inf or (value == low and not above)):
            raise self.error(
                f"{name} = {value!r}", f"give a number {'above' if above else 'from'} {low:g}"
            )

    def sequence(self, name: str, value: object) -> None:
        """Refuse what is neither a tuple nor a list."""
        if not isinstance(value, tuple | list):
            raise self.error(f"{name} = {value!r}", "give a list, of one item or of none too")

    def choice(self, name: str, value: object, known: Iterable[str]) -> None:
        """Refuse what is none of the known words."""
        known = tuple(known)
        if value not in known:
            raise unknown_name(value, known, kind=name, where=f"{self.where}.{name}")

    def flags(self, **values: object) -> None:
        """Refuse what is neither True nor False."""
        for name, value in values.items():
            if not isinstance(value, bool):
                raise self.error(f"{name} = {value!r}", "give True or False")

    def that(self, sound: bool, what: str, mend: str) -> None:
        """Refuse a combination of fields that is not sound."""
        if not sound:
            raise self.error(what, mend)

    def error(self, what: str, mend: str) -> FwbioError:
        """The error for a field of this config."""
        return FwbioError(what, where=self.where, mend=mend)


def divided(width: int, heads: int, given: int | None, *, where: str) -> int:
    """The channels of a head: those given, or an equal share of the width.

    Raises:
        FwbioError: no width is given, and the heads do not divide the layer's.
    """
    if given is not None:
        return given
    if width % heads:
        raise FwbioError(
            f"{heads} heads do not divide a width of {width}",
            where=where,
            mend="choose a width that they divide, or give the width of a head",
        )
    return width // heads
