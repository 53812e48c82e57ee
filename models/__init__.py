"""What a memory is made of: synaptic models (Brian2) and networks (torch).

Naming it loads neither: each wing loads when it is used.
"""

from fwbio.models.programmer import designed
from fwbio.models.substrate import SUBSTRATES, execute, unsupported

__all__ = ["SUBSTRATES", "designed", "execute", "unsupported"]
