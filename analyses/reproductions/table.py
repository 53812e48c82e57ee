"""The table of published results that can be trained and measured anew."""

from collections.abc import Mapping
from types import MappingProxyType

from fwbio.analyses.reproductions.ba2016 import BA2016
from fwbio.analyses.reproductions.icl import ICL
from fwbio.analyses.reproductions.mqar import MQAR
from fwbio.analyses.reproductions.parity import PARITY
from fwbio.analyses.reproductions.reproduction import Reproduction
from fwbio.analyses.reproductions.schlag2021 import SCHLAG2021

REPRODUCTIONS: Mapping[str, Reproduction] = MappingProxyType(
    {entry.name: entry for entry in (BA2016, SCHLAG2021, MQAR, PARITY, ICL)}
)
