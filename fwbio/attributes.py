"""Attributes as stores hold them: what a store has no type for (None, bool, dicts) is JSON."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from fwbio.errors import FwbioError

_JSON = "json:"


def encoded_attrs(record: Any) -> Any:
    """A copy of a dataset or a tree of them, whose attributes any store can hold.

    Raises:
        FwbioError: it is neither.
    """
    if not isinstance(record, (xr.Dataset, xr.DataTree)):
        raise FwbioError(
            f"{type(record).__name__} is no record",
            where="record",
            mend="give an xarray.Dataset, or an xarray.DataTree of them",
        )
    return _mapped(record, _encode)


def decoded_attrs(record: Any) -> Any:
    """A copy of a dataset or a tree of them, with the attributes that were encoded."""
    return _mapped(record, _decode)


def _mapped(record: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(record, xr.DataTree):
        nodes = {node.path: node.to_dataset(inherit=False) for node in record.subtree}
        return xr.DataTree.from_dict({at: _mapped(node, change) for at, node in nodes.items()})
    changed = record.copy()
    for holder in (changed, *changed.variables.values()):
        holder.attrs = {name: change(value) for name, value in holder.attrs.items()}
    return changed


def _encode(value: Any) -> Any:
    plain = type(value) in {int, float} or (isinstance(value, str) and value[:5] != _JSON)
    return value if plain else _JSON + json.dumps(value, default=_plain)


def _plain(value: Any) -> Any:
    """What JSON can hold of a NumPy number or array, or of anything else that has a name."""
    return value.tolist() if isinstance(value, (np.generic, np.ndarray)) else str(value)


def _decode(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(_JSON):
        return json.loads(value.removeprefix(_JSON))
    return value.item() if isinstance(value, np.generic) else value
