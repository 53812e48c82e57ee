"""Which backends a test runs on: torch's everywhere, Triton's where there is a GPU.

Triton's interpreter is slow: without a GPU the tests of the kernels themselves
(test_triton_recurrent.py, test_triton_chunked.py) and one of every rule run on it.
"""

import pytest

from fwbio import kernels

TRITON = tuple(name for name in kernels.BACKENDS if name.startswith("triton"))
TORCH = tuple(name for name in kernels.BACKENDS if name not in TRITON)

backends = pytest.mark.parametrize(
    "backend", [*TORCH, *(pytest.param(name, marks=pytest.mark.gpu) for name in TRITON)]
)
