"""Constants and measurements with their sources; reference results."""

import tomllib
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


@cache
def constants(table: str) -> MappingProxyType[str, float]:
    """The numbers of a table, in the SI units that it states: `constants("receptors")["tau_ampa"]`.

    Args:
        table: the name of a `.toml` file of this folder.
    """
    return MappingProxyType({name: entry["value"] for name, entry in entries(table).items()})


@cache
def entries(table: str) -> MappingProxyType[str, dict[str, Any]]:
    """Each constant of a table with its value, unit, meaning and source."""
    text = files("fwbio.data").joinpath(f"{table}.toml").read_text(encoding="utf-8")
    return MappingProxyType(tomllib.loads(text))


def measurements(name: str) -> "pd.DataFrame":
    """A table of published measurements; the lines above it state units, source and caveats.

    Args:
        name: of a `.csv` file of the folder `measurements`.
    """
    import pandas as pd

    with files("fwbio.data").joinpath("measurements", f"{name}.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file, comment="#")
