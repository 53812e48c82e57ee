"""A plastic synapse as Brian2 text, for protocols and memories alike."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import brian2 as b2
import numpy as np


def _nothing() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class PlasticSynapse:
    """A plasticity model of one synapse, its weight `w` dimensionless.

    Args:
        rule: the name in `fwbio.RULES` of the rule that it follows, None where it learns nothing.
        equations: the synapse's variables in Brian2's notation; `w : 1` is one of them.
        on_pre: what a presynaptic spike does, by pathway.
        on_post: what a postsynaptic spike does, by pathway.
        delays: of pathways, s; 0 where none is given.
        cell: equations that the postsynaptic cell must have beside its own.
        cell_on_spike: what a spike of the postsynaptic cell does to them.
        namespace: the constants of all these, as Brian2 quantities.
        initial: what variables of the synapse start from, where not from 0.
        method: Brian2's integrator of the equations, by name; None where they are event-driven.
    """

    rule: str | None
    equations: str
    on_pre: Mapping[str, str] = field(default_factory=_nothing)
    on_post: Mapping[str, str] = field(default_factory=_nothing)
    delays: Mapping[str, float] = field(default_factory=_nothing)
    cell: str = ""
    cell_on_spike: str = ""
    namespace: Mapping[str, Any] = field(default_factory=_nothing)
    initial: Mapping[str, float] = field(default_factory=_nothing)
    method: str | None = None

    def connect(
        self,
        source: b2.Group,
        target: b2.Group,
        i: np.ndarray,
        j: np.ndarray,
        *,
        name: str = "plastic_synapses",
    ) -> b2.Synapses:
        """Synapses of this model from cells i of `source` to cells j of `target`.

        Args:
            source: what fires the presynaptic spikes.
            target: what fires the postsynaptic ones; it has the equations of `cell`.
            i: presynaptic indices (synapse,).
            j: postsynaptic indices (synapse,).
            name: of the Brian2 object.
        """
        delays = {pathway: delay * b2.second for pathway, delay in self.delays.items()}
        synapses = b2.Synapses(
            source,
            target,
            self.equations,
            on_pre=dict(self.on_pre) or None,
            on_post=dict(self.on_post) or None,
            delay=delays or None,
            namespace=dict(self.namespace),
            method=self.method,
            name=name,
        )
        synapses.connect(i=np.asarray(i), j=np.asarray(j))
        for variable, value in self.initial.items():
            setattr(synapses, variable, value)
        return synapses
