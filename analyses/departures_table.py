"""The ladders of departures from the ideal: which parameter of which synapse, from neutral on.

Each departure runs where it stands alone: on the rate synapses or the flow, which are otherwise
exact, or on the spiking synapses where only they have it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from fwbio.errors import FwbioError

_STATMAN = "Statman 2014, 10.1371/journal.pcbi.1003846 (recalled)"
_COUNTS = "Shadlen & Newsome 1998, 10.1523/JNEUROSCI.18-10-03870.1998 (recalled)"
_WANG = "Wang 2002, 10.1016/S0896-6273(02)01092-9 (recalled)"


@dataclass(frozen=True, kw_only=True)
class Departure:
    """A way in which synapses are not ideal, and how far from it to go.

    Args:
        name: of it.
        label: what its levels are, in words, for an axis.
        units: of its levels, as an axis's label ends.
        levels: the neutral one first, then ever farther from it.
        options: of `fwbio.models.execute`, from a level.
        substrate: that runs it.
        meaning: what it stands for in a brain.
        source: of that, or of the levels.
    """

    name: str
    label: str
    units: str
    levels: tuple[float, ...]
    options: Callable[[float], dict[str, Any]]
    substrate: str
    meaning: str
    source: str


def _receptors(level: float) -> dict[str, Any]:
    if np.isfinite(level) and not level >= 1:
        raise FwbioError(
            f"{level:g} receptors carry nothing",
            where="levels of receptors",
            mend="give 1 or more, or inf for graded conductances",
        )
    return {"bound": 1.0, "receptors": round(level) if np.isfinite(level) else 0}


def _turnover(level: float) -> dict[str, Any]:
    return {"turnover": "always", "write": level} if level else {"turnover": "between"}


def _of(name: str) -> Callable[[float], dict[str, Any]]:
    return lambda level: {name: level}


def _count(name: str) -> Callable[[float], dict[str, Any]]:
    return lambda level: {name: round(level)}


_TABLE = (
    Departure(
        name="ceiling",
        label="ceiling of rates",
        units="share of the largest rate",
        levels=(1.0, 0.6, 0.4, 0.2, 0.1),
        options=_of("ceiling"),
        substrate="rate",
        meaning="cells saturate: strong keys and teaching inputs are cut",
        source=f"refractoriness bounds rates: {_WANG}",
    ),
    Departure(
        name="bound",
        label="bound of weights",
        units="share of all writes",
        levels=(np.inf, 1.0, 0.5, 0.25, 0.1),
        options=_of("bound"),
        substrate="rate",
        meaning="a conductance ends at 0 and at the full postsynaptic density",
        source="Fusi & Abbott 2007, 10.1038/nn1859 (recalled)",
    ),
    Departure(
        name="receptors",
        label="receptors in a full synapse",
        units="receptors",
        levels=(np.inf, 100.0, 30.0, 10.0, 3.0),
        options=_receptors,
        substrate="rate",
        meaning="conductances are whole receptors",
        source="some to 150 in a spine: Matsuzaki 2001, 10.1038/nn736 (recalled)",
    ),
    Departure(
        name="erase_limit",
        label="most that one write erases",
        units="share of the prediction",
        levels=(1 - 1e-6, 0.9, 0.6, 0.3, 0.1),
        options=_of("erase_limit"),
        substrate="rate",
        meaning="the plasticity threshold follows the prediction only in part",
        source="a passive flow never quite erases (fwbio.models.mapping)",
    ),
    Departure(
        name="turnover_cv",
        label="unevenness of turnover",
        units="share of its mean",
        levels=(0.0, 0.3, 1.0, 2.0, 4.0),
        options=_of("turnover_cv"),
        substrate="rate",
        meaning="synapses lose their receptors at rates of their own",
        source=_STATMAN,
    ),
    Departure(
        name="noise_multiplicative",
        label="multiplicative noise in gaps",
        units="shares per root s",
        levels=(0.0, 0.3, 1.0, 2.0, 4.0),
        options=_of("noise_multiplicative"),
        substrate="rate",
        meaning="synapses fluctuate without activity, in proportion to their size",
        source=_STATMAN,
    ),
    Departure(
        name="noise_additive",
        label="additive noise in gaps",
        units="weights per root s",
        levels=(0.0, 0.1, 0.3, 1.0, 3.0),
        options=_of("noise_additive"),
        substrate="rate",
        meaning="receptors come and go at random, whatever the size",
        source=_STATMAN,
    ),
    Departure(
        name="turnover",
        label="turnover while presented",
        units="s",
        levels=(0.0, 0.03, 0.1, 0.3, 1.0),
        options=_turnover,
        substrate="flow",
        meaning="receptors turn over during presentations too, of such a duration",
        source="trafficking does not pause (fwbio.models.time_scales)",
    ),
    Departure(
        name="release",
        label="release probability",
        units="share of spikes",
        levels=(1.0, 0.5, 0.2, 0.1, 0.03),
        options=_of("release"),
        substrate="spiking",
        meaning="most spikes release no vesicle",
        source="Dobrunz & Stevens 1997, 10.1016/S0896-6273(00)80338-4 (recalled)",
    ),
    Departure(
        name="cells_per_key",
        label="cells of a key channel",
        units="cells",
        levels=(32.0, 8.0, 4.0, 2.0, 1.0),
        options=_count("cells_per_key"),
        substrate="spiking",
        meaning="few cells carry a feature: their spikes are Poisson noise",
        source=_COUNTS,
    ),
    Departure(
        name="cells_per_value",
        label="teaching cells of a value",
        units="cells",
        levels=(256.0, 64.0, 16.0, 4.0, 1.0),
        options=_count("cells_per_value"),
        substrate="spiking",
        meaning="few cells teach",
        source=_COUNTS,
    ),
    Departure(
        name="peak_rate",
        label="rate at the largest key",
        units="Hz",
        levels=(200.0, 100.0, 50.0, 20.0, 5.0),
        options=_of("peak_rate"),
        substrate="spiking",
        meaning="cells fire sparsely",
        source="Buzsaki & Mizuseki 2014, 10.1038/nrn3687 (recalled)",
    ),
    Departure(
        name="write",
        label="presentation",
        units="s",
        levels=(0.6, 0.3, 0.15, 0.1, 0.06),
        options=_of("write"),
        substrate="spiking",
        meaning="pairs are shown briefly",
        source=_COUNTS,
    ),
    Departure(
        name="read",
        label="time to read a cue",
        units="s",
        levels=(0.6, 0.3, 0.1, 0.05, 0.02),
        options=_of("read"),
        substrate="spiking",
        meaning="recall is read out of few spikes",
        source=_COUNTS,
    ),
    Departure(
        name="theta_d",
        label="calcium threshold",
        units="share of steady calcium",
        levels=(0.0, 0.4, 0.7, 0.8, 0.87),
        options=_of("theta_d"),
        substrate="spiking",
        meaning="plasticity opens late in a presentation, once calcium is above threshold",
        source="Graupner & Brunel 2012, 10.1073/pnas.1109359109",
    ),
    Departure(
        name="gap",
        label="silence between presentations",
        units="s",
        levels=(0.4, 0.1, 0.05, 0.02, 0.01),
        options=_of("gap"),
        substrate="spiking",
        meaning="what a dendrite still predicts from the last pair counts against the next",
        source=f"membranes of 20 ms: {_WANG}",
    ),
)

DEPARTURES: Mapping[str, Departure] = MappingProxyType({d.name: d for d in _TABLE})
