"""The support ledger of the kernels: which backend runs which rule, and why another does not.

It is light: asking it loads no torch.
"""

from fwbio.errors import unknown_name
from fwbio.rule import Rule
from fwbio.rules import resolve

BACKENDS = ("recurrent", "chunked")


def unsupported(rule: Rule | str, backend: str = "auto") -> str | None:
    """Why a backend does not run a rule, in words, or None where it does.

    Raises:
        FwbioError: there is no such rule or backend.
    """
    resolve(rule)
    chosen(backend)
    return None


def chosen(backend: str) -> str:
    """The backend that really runs when one is asked for.

    Raises:
        FwbioError: there is no such backend.
    """
    if backend == "auto":
        return "recurrent"
    if backend not in BACKENDS:
        raise unknown_name(backend, (*BACKENDS, "auto"), kind="backend", where="backend")
    return backend
