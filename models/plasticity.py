"""The plasticity models by the name of their rule: one synapse in continuous time, by Brian2.

`fwbio.RULES[name]` is what a model does step by step in a memory; here is the synapse itself, with
its published constants, as its authors simulated it. `fwbio protocol` holds each to what they
published.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from types import MappingProxyType
from typing import Any

from fwbio.errors import FwbioError, unknown_name
from fwbio.models.plasticity_calcium import SETS, GraupnerBrunel
from fwbio.models.plasticity_rates import BCM, Covariance, DendriticError, Oja
from fwbio.models.plasticity_shouval import Shouval
from fwbio.models.plasticity_timing import PairSTDP, TripletSTDP
from fwbio.models.plasticity_voltage import Clopath
from fwbio.models.short_term import PRESETS, ShortTerm
from fwbio.table import Table

PLASTICITY: Table[type] = Table(
    {
        "bcm": BCM,
        "covariance": Covariance,
        "oja": Oja,
        "dendritic_error": DendriticError,
        "stdp": PairSTDP,
        "triplet_stdp": TripletSTDP,
        "clopath": Clopath,
        "calcium": GraupnerBrunel,
        "shouval": Shouval,
        "tsodyks_markram": ShortTerm,
    },
    kind="plasticity model",
    name="fwbio.models.plasticity.PLASTICITY",
)
_PRESETS: Mapping[str, tuple[Callable[[str], Any], Iterable[str]]] = MappingProxyType(
    {
        "calcium": (GraupnerBrunel.named, SETS),
        "tsodyks_markram": (ShortTerm.preset, PRESETS),
    }
)


def plasticity(rule: str, preset: str | None = None, **parameters: Any) -> Any:
    """The plasticity model of a rule; its `synapse()` is a `PlasticSynapse` that Brian2 connects.

    Args:
        rule: a name of `PLASTICITY`.
        preset: of `calcium`, which must have one, "hippocampal_slice", "hippocampal_culture",
            "cortical_slice" or "dp"; of `tsodyks_markram`, likewise, a name of
            `fwbio.models.short_term.PRESETS`; others have none.
        **parameters: fields of the model that are to differ from the published ones, SI units.

    Raises:
        FwbioError: no model, preset or parameter has that name, a preset is missing, or a
            parameter is out of its range.
    """
    known = {field.name for field in fields(PLASTICITY.row(rule, where="plasticity"))}
    for name in parameters:
        if name not in known:
            raise unknown_name(name, known, kind="parameter", where=f"plasticity {rule}")
    if (preset is None) != (rule not in _PRESETS):
        names = ", ".join(_PRESETS[rule][1]) if rule in _PRESETS else ""
        raise FwbioError(
            f"{preset!r} is no preset of {rule!r}" if preset else f"{rule!r} needs a preset",
            where="plasticity",
            mend=f"choose from {names}" if names else "leave it out",
        )
    if preset is None:
        return PLASTICITY[rule](**parameters)
    return replace(_PRESETS[rule][0](preset), **parameters)
