"""The support ledger of the kernels: which backend runs what, and which one `auto` chooses.

It is light: asking it loads no torch.
"""

import math
from typing import NamedTuple

from fwbio.errors import unknown_name
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
    resolve(rule)
    chosen(backend)
    return None


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
