"""The table of models, and their configs as plain data."""

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from torch import nn

from fwbio.errors import FwbioError, unknown_name
from fwbio.models.networks.key_value_model import KeyValueModel, KeyValueModelConfig
from fwbio.models.networks.mixers import MIXERS
from fwbio.models.networks.sequence_model import SequenceModel, SequenceModelConfig
from fwbio.table import Table

MODELS: Table[tuple[type[Any], type[nn.Module]]] = Table(
    {
        "sequence": (SequenceModelConfig, SequenceModel),
        "key_value": (KeyValueModelConfig, KeyValueModel),
    },
    kind="model",
    name="fwbio.models.networks.models.MODELS",
)
_TABLES = {"model": MODELS, "mixer": MIXERS}


def build(config: Any) -> nn.Module:
    """The model that a config describes, freshly initialised.

    Raises:
        FwbioError: it is no model's config, or its parts do not fit together.
    """
    for kind, model in MODELS.values():
        if type(config) is kind:
            return model(config)
    raise FwbioError(
        f"{type(config).__name__} is no model's config",
        where="build",
        mend=f"give one of {', '.join(kind.__name__ for kind, _ in MODELS.values())}",
    )


def config_to_dict(config: Any) -> dict[str, Any]:
    """A model's or a mixer's config as plain data: numbers, words, lists and dicts.

    A model's has its name under "model", a mixer's under "mixer"; the mixer of a model is a dict
    of its own.

    Raises:
        FwbioError: it is neither a model's config nor a mixer's.

    >>> from fwbio.models.networks.recurrent import LSTMConfig
    >>> config_to_dict(LSTMConfig(units=20))
    {'mixer': 'lstm', 'units': 20, 'forget_bias': 1.0}
    """
    for key, table in _TABLES.items():
        for name, (kind, _) in table.items():
            if type(config) is kind:
                return {key: name} | {f.name: _plain(getattr(config, f.name)) for f in fields(kind)}
    raise FwbioError(
        f"{type(config).__name__} is no config of a network",
        where="config_to_dict",
        mend="give a model's config, or a mixer's",
    )


def config_from_dict(data: Mapping[str, Any]) -> Any:
    """The config that `config_to_dict` made plain data of.

    A field that has a default may be missing, so that what was written before there was such a
    field stays readable.

    Args:
        data: with a name under "model", or of a mixer, under "mixer".

    Raises:
        FwbioError: an unknown name or field, a missing field, or a value that the config refuses.

    >>> config_from_dict({"mixer": "lstm", "units": 20})
    LSTMConfig(units=20, forget_bias=1.0)
    """
    key = next((key for key in _TABLES if isinstance(data.get(key), str)), None)
    if key is None:
        raise FwbioError(
            f"it names no model or mixer ({', '.join(map(str, data)) or 'it is empty'})",
            where="network config",
            mend=f"give a name under 'model', one of {', '.join(MODELS)}",
        )
    table, name = _TABLES[key], data[key]
    if name not in table:
        raise unknown_name(name, table, kind=key, where="network config")
    kind = table[name][0]
    known = {field.name: field for field in fields(kind)}
    given = {name: value for name, value in data.items() if name != key}
    for unknown in given.keys() - known.keys():
        raise unknown_name(unknown, known, kind="field", where=f"network config {name!r}")
    for field in known.values():
        if field.name not in given and field.default is field.default_factory is MISSING:
            raise FwbioError(
                f"{field.name} is missing",
                where=f"network config {name!r}",
                mend="give it, for it has no default",
            )
    if isinstance(given.get("mixer"), Mapping):
        given["mixer"] = config_from_dict(given["mixer"])
    return kind(**given)


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return config_to_dict(value)
    return list(value) if isinstance(value, tuple) else value
