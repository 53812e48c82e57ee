"""The support ledger of the kernels: which backend runs what, and which one `auto` chooses.

It is light: asking it loads no torch.
"""

import math
from typing import NamedTuple

from fwbio.errors import FwbioError, unknown_name
from fwbio.rule import Rule
from fwbio.rules import resolve

BACKENDS = ("recurrent", "chunked", "triton_recurrent", "triton_chunked")
CHOICES = ("auto", "triton")
PRECISIONS = ("ieee", "tf32", "tf32x3", "bf16")


class Row(NamedTuple):
    """Where a backend is the one to take.

    Args:
        device: the type of torch's device.
        stretch: the most steps between kept states, or of the longest sequence.
        heads: the fewest heads of sequences, all in all.
        backend: what runs there.
        reason: why.
    """

    device: str
    stretch: float
    heads: int
    backend: str
    reason: str


# The first row that fits is taken; "triton" chooses among the rows of the GPU, whose bounds come
# from counting programs and launches and have yet to be measured.
TABLE = (
    Row("cpu", 8, 0, "recurrent", "setting up a chunk costs as much as some ten steps"),
    Row("cpu", math.inf, 0, "chunked", "batched products in place of loops"),
    Row("cuda", 64, 0, "triton_recurrent", "a chunk or less: there is nothing to run in parallel"),
    Row("cuda", 512, 512, "triton_recurrent", "the heads alone keep the GPU busy, in one launch"),
    Row("cuda", math.inf, 0, "triton_chunked", "chunks run in parallel, on tensor cores"),
)
OTHERWISE = "chunked"


def unsupported(rule: Rule | str, backend: str = "auto") -> str | None:
    """Why a backend does not run a rule, in words, or None where it does.

    Raises:
        FwbioError: there is no such rule or backend.
    """
    rule = resolve(rule)
    if backend not in {"auto", "recurrent"} and not rule.terms.linear:
        chosen(backend)
        return "its step is not linear in the weights, and chunks and kernels are of linear ones"
    chosen(backend)
    return None


def backend_of(
    rule: Rule, backend: str, *, device: str, stretch: float, heads: int, where: str = "backend"
) -> str:
    """The backend that really runs a rule when one is asked for.

    Args:
        rule: any rule of the table.
        backend: as in `chosen`; the other arguments are its too.
        device: the type of torch's device.
        stretch: steps between kept states, or of the longest sequence.
        heads: of all sequences together.
        where: the argument that asked, for error messages.

    Raises:
        FwbioError: there is no such backend, or it does not run the rule.
    """
    if reason := unsupported(rule, backend):
        raise FwbioError(
            f"{backend!r} does not run {rule.name!r}: {reason}",
            where=where,
            mend='give backend="recurrent", or "auto"',
        )
    if not rule.terms.linear:
        return "recurrent"
    return chosen(backend, device=device, stretch=stretch, heads=heads)


def chosen(backend: str, *, device: str = "cpu", stretch: float = math.inf, heads: int = 1) -> str:
    """The backend that really runs when one is asked for.

    Args:
        backend: one of `BACKENDS`, "triton" for either of its two, or "auto" for any.
        device: the type of torch's device.
        stretch: steps between kept states, or of the longest sequence.
        heads: of all sequences together.

    Raises:
        FwbioError: there is no such backend.
    """
    if backend in BACKENDS:
        return backend
    if backend not in CHOICES:
        raise unknown_name(backend, (*CHOICES, *BACKENDS), kind="backend", where="backend")
    where = "cuda" if backend == "triton" else device
    fitting = (
        row.backend
        for row in TABLE
        if row.device == where and stretch <= row.stretch and heads >= row.heads
    )
    return next(fitting, OTHERWISE)
