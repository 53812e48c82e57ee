"""Fast weight programmers, on synapses and on tensors, side by side.

`import fwbio` is light: the table of rules is here, every other part loads when it is named.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from fwbio._version import VERSION
from fwbio.errors import FwbioError
from fwbio.rule import Rule, Stream, Terms
from fwbio.rules import RULES

if TYPE_CHECKING:
    from fwbio import program, record, reference, tasks

__version__ = VERSION

__all__ = [
    "RULES",
    "FwbioError",
    "Rule",
    "Stream",
    "Terms",
    "__version__",
    "program",
    "record",
    "reference",
    "tasks",
]


def __getattr__(name: str) -> object:
    """Load a part of the toolkit when it is first named: most need NumPy, some torch."""
    if name in {"analyses", "data", "kernels", "models", "program", "record", "reference", "tasks"}:
        return import_module(f"fwbio.{name}")
    raise AttributeError(f"module 'fwbio' has no attribute {name!r}")
