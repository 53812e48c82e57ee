"""The rules as fast tensor operations: torch on any device.

Naming it loads no torch: `scan` and `execute` do when they are used.
"""

from typing import TYPE_CHECKING

from fwbio.kernels.support import BACKENDS, unsupported

if TYPE_CHECKING:
    from fwbio.kernels.entry import scan
    from fwbio.kernels.substrate import execute

__all__ = ["BACKENDS", "execute", "scan", "unsupported"]


def __getattr__(name: str) -> object:
    """Load what needs torch when it is first named."""
    if name == "scan":
        from fwbio.kernels.entry import scan

        return scan
    if name == "execute":
        from fwbio.kernels.substrate import execute

        return execute
    raise AttributeError(f"module 'fwbio.kernels' has no attribute {name!r}")
