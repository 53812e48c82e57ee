"""The magnesium block of NMDA receptors, and the current-voltage curve that it bends."""

from dataclasses import dataclass

import numpy as np
from scipy.special import lambertw

from fwbio.data import constants
from fwbio.models.kinetics import require_number

_TABLE = constants("receptors")


@dataclass(frozen=True, kw_only=True)
class MagnesiumBlock:
    """The share of NMDA receptors that magnesium leaves open.

        B(v) = 1 / (1 + mg / half exp(-slope v))

    Args:
        mg: extracellular magnesium, mM (mol/m^3); 0 leaves all open.
        half: magnesium that blocks half of the receptors at 0 V, mM.
        slope: steepness, 1/V.

    Raises:
        FwbioError: mg is negative, or half or slope is not positive.

    Source: Jahr & Stevens 1990, J Neurosci 10:3178.
    """

    mg: float = _TABLE["mg"]
    half: float = _TABLE["mg_half"]
    slope: float = _TABLE["mg_slope"]

    def __post_init__(self) -> None:
        require_number(self.mg, "mg", "magnesium block", zero=True)
        require_number(self.half, "half", "magnesium block")
        require_number(self.slope, "slope", "magnesium block")

    def open_share(self, v: np.ndarray) -> np.ndarray:
        """B(v), of the shape of v (V)."""
        return 1 / (1 + self.mg / self.half * np.exp(-self.slope * np.asarray(v, dtype=float)))

    @property
    def half_block_voltage(self) -> float:
        """Where B = 1/2: ln(mg / half) / slope, V; -inf without magnesium."""
        return float(np.log(self.mg / self.half) / self.slope) if self.mg else -np.inf

    def iv(self, v: np.ndarray, *, conductance: float, reversal: float) -> np.ndarray:
        """The current of open gates as a voltage clamp records it, outward positive.

            I(v) = g B(v) (v - e)

        Args:
            v: potentials, V.
            conductance: g, S.
            reversal: e, V.

        Returns:
            A, of the shape of v.
        """
        v = np.asarray(v, dtype=float)
        return conductance * self.open_share(v) * (v - reversal)

    def trough_voltage(self, reversal: float) -> float:
        """The potential of the most inward current, below which the slope of I(v) is negative.

        dI/dv = 0 where 1 + slope (1 - B) (v - e) = 0, that is, with Lambert's W,

            v = e - (1 + W(half / mg exp(slope e - 1))) / slope

        Args:
            reversal: e, V.

        Returns:
            V; -inf without magnesium, where I(v) is a straight line.
        """
        if self.mg == 0:
            return -np.inf
        argument = self.half / self.mg * np.exp(self.slope * reversal - 1)
        return reversal - (1 + float(lambertw(argument).real)) / self.slope


def half_block_voltage(mg: float) -> float:
    """The potential (V) at which `mg` (mM) blocks half of the NMDA receptors: Jahr & Stevens 1990.

    Raises:
        FwbioError: mg is negative.
    """
    return MagnesiumBlock(mg=mg).half_block_voltage
