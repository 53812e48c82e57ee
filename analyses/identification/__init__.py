"""Identification: which rule of the table made these weights or read-outs?"""

from fwbio.analyses.identification.answer import Candidate, Identification, Parameter
from fwbio.analyses.identification.data import Recording, from_record, read
from fwbio.analyses.identification.identifying import identify

__all__ = [
    "Candidate",
    "Identification",
    "Parameter",
    "Recording",
    "from_record",
    "identify",
    "read",
]
