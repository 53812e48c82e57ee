"""Tables by name: mappings as any other, which know what is nearest to a name that they lack."""

import pickle
from importlib import import_module

import pytest

from fwbio.errors import FwbioError
from fwbio.models.networks.features import FEATURES
from fwbio.models.networks.mixers import MIXERS
from fwbio.models.networks.models import MODELS
from fwbio.models.plasticity import PLASTICITY
from fwbio.models.protocols import PROTOCOLS
from fwbio.models.receptors import RECEPTORS
from fwbio.models.time_scales import PRESETS
from fwbio.rules import RULES
from fwbio.table import Table
from fwbio.tasks import PAIR_TASKS, SEQUENCE_TASKS, TASKS

TABLES = (
    RULES,
    TASKS,
    PAIR_TASKS,
    SEQUENCE_TASKS,
    PROTOCOLS,
    RECEPTORS,
    PLASTICITY,
    PRESETS,
    FEATURES,
    MIXERS,
    MODELS,
)
tables = pytest.mark.parametrize("table", TABLES, ids=lambda table: repr(table).split(":")[0][1:])


@pytest.mark.parametrize(
    ("table", "name", "told"),
    [
        (RULES, "detla", "fwbio.RULES: there is no rule called 'detla'; did you mean 'delta'?"),
        (
            TASKS,
            "digitz",
            "fwbio.tasks.TASKS: there is no task called 'digitz'; did you mean 'digits'?",
        ),
        (
            PAIR_TASKS,
            "mqar",
            "fwbio.tasks.PAIR_TASKS: there is no task of kind 'pairs' called 'mqar';"
            " choose from digits, random_pairs, rebinding",
        ),
    ],
)
def test_a_missing_name_is_told_with_the_nearest(table, name, told):
    with pytest.raises(FwbioError) as error:
        table[name]
    assert str(error.value) == told
    assert isinstance(error.value, KeyError)


@tables
def test_a_table_is_a_mapping(table):
    rows = dict(table)
    assert table == rows
    assert len(table) == len(rows)
    assert list(table) == list(table.keys()) == list(rows)
    assert all(name in table and table.get(name) is row for name, row in rows.items())
    assert "no such row" not in table
    assert None not in table
    assert table.get("no such row") is None
    assert table.get("no such row", 3) == 3


@tables
def test_a_table_knows_where_it_stands(table):
    """Its own name leads to it, and is the first word of its errors."""
    place = repr(table).split(":")[0][1:]
    module, _, name = place.rpartition(".")
    assert getattr(import_module(module), name) is table
    with pytest.raises(FwbioError, match=f"^{place}: there is no .* called 'no such row'; choose"):
        table["no such row"]


@tables
def test_a_table_can_t_be_changed(table):
    with pytest.raises(TypeError):
        table["mine"] = next(iter(table.values()))
    with pytest.raises(TypeError):
        del table[next(iter(table))]


def test_a_table_does_not_follow_the_rows_it_was_made_of():
    rows = {"one": 1}
    table = Table(rows, kind="number", name="NUMBERS")
    rows["two"] = 2
    assert "two" not in table
    assert repr(table) == "<NUMBERS: one>"


def test_the_error_crosses_processes():
    with pytest.raises(KeyError) as error:
        RULES["detla"]
    again = pickle.loads(pickle.dumps(error.value))
    assert type(again) is type(error.value)
    assert str(again) == str(error.value)
    assert (again.what, again.where, again.mend) == (
        error.value.what,
        error.value.where,
        error.value.mend,
    )
