"""Identification: which rule of the table made these weights or read-outs?

`identify` answers, and `in_units` tells its constants as quantities of the synapse: in the unit of
its weights, and decays as time constants in seconds.
"""

from fwbio.analyses.identification.answer import Candidate, Identification, Parameter
from fwbio.analyses.identification.data import Recording, from_record, read
from fwbio.analyses.identification.identifying import identify
from fwbio.analyses.identification.meanings import in_units

__all__ = [
    "Candidate",
    "Identification",
    "Parameter",
    "Recording",
    "from_record",
    "identify",
    "in_units",
    "read",
]
