"""The table of published results that can be trained and measured anew."""

from collections.abc import Mapping
from types import MappingProxyType

from fwbio.analyses.reproduce_ba2016 import BA2016
from fwbio.analyses.reproduce_icl import ICL
from fwbio.analyses.reproduce_mqar import MQAR
from fwbio.analyses.reproduce_parity import PARITY
from fwbio.analyses.reproduce_schlag2021 import SCHLAG2021
from fwbio.analyses.reproduction import Reproduction

REPRODUCTIONS: Mapping[str, Reproduction] = MappingProxyType(
    {entry.name: entry for entry in (BA2016, SCHLAG2021, MQAR, PARITY, ICL)}
)
