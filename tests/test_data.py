"""Every shipped constant has a unit, a meaning and a source."""

import re
from importlib.resources import files

import pytest

from fwbio.data import constants, entries

TABLES = [path.name.removesuffix(".toml") for path in files("fwbio.data").iterdir()
          if path.name.endswith(".toml")]  # fmt: skip


@pytest.mark.parametrize("table", TABLES)
def test_constants_are_sourced(table):
    for name, entry in entries(table).items():
        assert set(entry) == {"value", "unit", "meaning", "source"}, name
        assert isinstance(entry["value"], float), name
        assert re.search(r"\b(19|20)\d\d\b", entry["source"]), name


def test_receptors_are_those_of_wang_2002():
    receptors = constants("receptors")
    assert receptors["tau_ampa"] == 2e-3
    assert receptors["tau_nmda_decay"] == 100e-3
