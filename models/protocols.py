"""Protocols: experiments on a synapse whose outcome was published, or has a closed form.

A protocol is a function `(seed, progress) -> xarray.Dataset`. Its dataset names its own figure:

- a variable of dims (x,) or (series, x) is a panel; x is a coordinate with units and long_name;
- NAME_expected is the closed form or the authors' own curve that NAME is drawn upon (of the same
  dims, or with a denser x of its own, its name ending in _expected too), called "closed form"
  unless its attribute `label` says what else it is;
- NAME_se is the standard error of NAME; NAME_published and NAME_published_se are measured points;
- attrs: `title`, `claim` (what was published and should be seen), `source`, `seed`.
"""

from collections.abc import Callable

import xarray as xr

from fwbio.models import (
    protocols_calcium,
    protocols_rates,
    protocols_receptors,
    protocols_timing,
    protocols_turnover,
)
from fwbio.table import Table

Protocol = Callable[..., xr.Dataset]

PROTOCOLS: Table[Protocol] = Table(
    {
        "receptor_kinetics": protocols_receptors.receptor_kinetics,
        "magnesium_block": protocols_receptors.magnesium_block,
        "stdp": protocols_timing.stdp,
        "triplet_stdp": protocols_timing.triplet_stdp,
        "clopath": protocols_timing.clopath,
        "graupner_brunel": protocols_calcium.graupner_brunel,
        "shouval": protocols_calcium.shouval,
        "bcm": protocols_rates.bcm,
        "covariance": protocols_rates.covariance,
        "oja": protocols_rates.oja,
        "dendritic_error": protocols_rates.dendritic_error,
        "tsodyks_markram": protocols_turnover.tsodyks_markram,
        "turnover": protocols_turnover.turnover,
    },
    kind="protocol",
    name="fwbio.models.protocols.PROTOCOLS",
)
