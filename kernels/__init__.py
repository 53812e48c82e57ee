"""The rules as fast tensor operations: torch on any device."""

from fwbio.kernels.execute import execute
from fwbio.kernels.scan import BACKENDS, scan, unsupported

__all__ = ["BACKENDS", "execute", "scan", "unsupported"]
