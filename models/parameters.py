"""Parameters of synaptic models: what range each has, and the one line that tells a bad one."""

from dataclasses import field, fields
from typing import Any

import numpy as np

from fwbio.errors import FwbioError


def within(default: float, *, low: float = 0.0, high: float = np.inf) -> Any:
    """A field of a model's dataclass that may also take the ends of its range.

    A plain field of a number takes what is above 0 and finite.

    Args:
        default: its default.
        low: the least value.
        high: the largest value, which may be infinite.
    """
    return field(default=default, metadata={"low": low, "high": high})


def check(model: Any, where: str) -> None:
    """Refuse parameters that no cell could have.

    Args:
        model: a dataclass of numbers and words; voltages start with "v_"; `faults()` lists what is
            wrong with combinations of them, each with its mend.
        where: the model's name, for error messages.

    Raises:
        FwbioError: naming the first parameter out of its range, or the first fault.
    """
    for parameter in fields(model):
        name, value = parameter.name, getattr(model, parameter.name)
        if parameter.type is str:
            continue
        _require_plain(value, name, where)
        if name.startswith("v_"):
            continue
        kinds = (int, np.integer) if parameter.type is int else (int, float, np.number)
        low, high = parameter.metadata.get("low"), parameter.metadata.get("high", np.inf)
        number = isinstance(value, kinds) and not isinstance(value, bool)
        if not number or not (0 < value < np.inf if low is None else low <= value <= high):
            raise FwbioError(
                f"{name} = {value!r} is out of range",
                where=where,
                mend=_range(parameter.type is int, low, high),
            )
    for fault, mend in model.faults():
        raise FwbioError(fault, where=where, mend=mend)


def _require_plain(value: object, name: str, where: str) -> None:
    """Refuse what is no plain number: a quantity of Brian2, or a word."""
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if type(value).__name__ == "Quantity" or not number:
        raise FwbioError(
            f"{name} = {value!r} is no plain number",
            where=where,
            mend="give it in SI units, without Brian2's: 0.02 for 20 * ms",
        )


def _range(whole: bool, low: float | None, high: float) -> str:
    number = "whole number" if whole else "number"
    if low is None:
        return f"give a positive {number}"
    return f"give a {number} from {low:g}" + (" up" if high == np.inf else f" to {high:g}")
