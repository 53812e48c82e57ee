"""The plasticity models by the name of their rule: one synapse in continuous time, by Brian2.

`fwbio.RULES[name]` is what a model does step by step in a memory; here is the synapse itself, with
its published constants, as its authors simulated it. `fwbio protocol` holds each to what they
published.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from fwbio.errors import unknown_name
from fwbio.models.plasticity_calcium import GraupnerBrunel
from fwbio.models.plasticity_rates import BCM, Covariance, DendriticError, Oja
from fwbio.models.plasticity_shouval import Shouval
from fwbio.models.plasticity_timing import PairSTDP, TripletSTDP
from fwbio.models.plasticity_voltage import Clopath
from fwbio.models.short_term import ShortTerm

PLASTICITY: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "bcm": BCM,
        "covariance": Covariance,
        "oja": Oja,
        "dendritic_error": DendriticError,
        "stdp": PairSTDP,
        "triplet_stdp": TripletSTDP,
        "clopath": Clopath,
        "calcium": GraupnerBrunel.named,
        "shouval": Shouval,
        "tsodyks_markram": ShortTerm.preset,
    }
)


def plasticity(rule: str, *arguments: Any, **parameters: Any) -> Any:
    """The plasticity model of a rule; its `synapse()` is a `PlasticSynapse` that Brian2 connects.

    Args:
        rule: a name of `PLASTICITY`.
        *arguments: of `calcium` the set, "hippocampal_slice", "hippocampal_culture",
            "cortical_slice" or "dp"; of `tsodyks_markram` the preset.
        **parameters: of the model, SI units; published constants unless given.

    Raises:
        FwbioError: no model has that name, or a parameter is out of its range.
    """
    if rule not in PLASTICITY:
        raise unknown_name(rule, PLASTICITY, kind="plasticity model", where="plasticity")
    return PLASTICITY[rule](*arguments, **parameters)
