"""A plastic synapse as Brian2 text, for protocols and memories alike."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import brian2 as b2
import numpy as np

_EMPTY: Mapping[str, Any] = MappingProxyType({})


def _nothing() -> Mapping[str, Any]:
    return _EMPTY


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
        amplitudes: names of the constants to which its changes are in proportion.
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
    amplitudes: tuple[str, ...] = ()
    initial: Mapping[str, float] = field(default_factory=_nothing)
    method: str | None = None

    def connect(
        self,
        source: b2.Group,
        target: b2.Group,
        i: np.ndarray,
        j: np.ndarray,
        *,
        name: str = "plastic_synapses*",
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

    def transmitting(self, code: str, namespace: Mapping[str, Any] = _EMPTY) -> "PlasticSynapse":
        """The same synapse whose presynaptic spikes also act on the postsynaptic cell.

        Args:
            code: what a spike does, before it changes the weight: "g_ampa_post += w * siemens".
            namespace: further constants of it.
        """
        on_pre = {**self.on_pre, "pre": f"{code}\n{self.on_pre.get('pre', '')}"}
        return replace(self, on_pre=on_pre, namespace={**self.namespace, **namespace})

    def multiplied(self, factors: Mapping[str, str]) -> "PlasticSynapse":
        """The same synapse with constants multiplied by expressions of Brian2.

        Args:
            factors: of each constant, by name.
        """

        def text(code: str) -> str:
            for name, factor in factors.items():
                code = re.sub(rf"\b{name}\b", f"({factor} * {name})", code)
            return code

        return replace(
            self,
            equations=text(self.equations),
            on_pre={pathway: text(code) for pathway, code in self.on_pre.items()},
            on_post={pathway: text(code) for pathway, code in self.on_post.items()},
        )
