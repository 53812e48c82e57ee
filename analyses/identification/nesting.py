"""Which rules are special cases of which, as far as weights alone tell."""

from collections.abc import Mapping
from types import MappingProxyType

from fwbio.rule import Terms
from fwbio.rules import RULES

# Terms whose constants can make them others: those of a rule and of a poorer one.
_Poorer = Mapping[str, tuple[str, ...]]
_DECAYS: _Poorer = MappingProxyType(
    {"none": (), "scalar": ("none",), "channel": ("none", "scalar")}
)
_WRITES: _Poorer = MappingProxyType({"scalar": (), "channel": ("scalar",)})
_ERASES: _Poorer = MappingProxyType(
    {
        "none": (),
        "key": (),  # beta both writes and erases: neither can be left out
        "erase_key": ("none", "key"),
        "direction": ("none", "key", "erase_key"),
        "gate": ("none", "key", "erase_key", "direction"),
    }
)
# beyond the terms: a rule, the richer one, and what makes this that one
_OTHERWISE: Mapping[tuple[str, str], str] = MappingProxyType(
    {("efla", "thresholded_delta"): "its thresholds 0"}
)


def is_special(simple: str, rich: str) -> bool:
    """Whether a rule's weights are those of a richer one at some of its constants.

    Of constant gates: a factor of decay may be 1, or the same for all channels, and so may a write
    strength; what is erased may be nothing, or along the key by beta. A rule is none of itself.

    Args:
        simple: a name of `fwbio.RULES`.
        rich: another.
    """
    if (simple, rich) in _OTHERWISE:
        return True
    few, many = RULES[simple].terms, RULES[rich].terms
    terms = (
        (few.decay, many.decay, _DECAYS),
        (_write(few), _write(many), _WRITES),
        (few.erase, many.erase, _ERASES),
    )
    within = all(a == b or a in poorer[b] for a, b, poorer in terms)
    return within and any(a in poorer[b] for a, b, poorer in terms) and _of_one_kind(few, many)


def related(rule: str, other: str) -> str:
    """How two rules are related, in words: by nesting, or not at all.

    Args:
        rule: a name of `fwbio.RULES`.
        other: another.

    >>> related("gated_delta", "delta"), related("oja", "bcm")
    ('nested: delta is a special case of gated_delta', 'not nested')
    """
    for simple, rich in ((other, rule), (rule, other)):
        if is_special(simple, rich):
            when = _OTHERWISE.get((simple, rich))
            return f"nested: {simple} is a special case of {rich}" + (f", {when}" if when else "")
    return "not nested"


def _write(terms: Terms) -> str:
    """What scales the value; constant gates are the same as exponentials of constants."""
    return "scalar" if terms.write == "exponential" else terms.write


def _of_one_kind(few: Terms, many: Terms) -> bool:
    """Whether all else about the steps of two rules is the same, where it makes a difference."""
    if few.plasticity != many.plasticity or few.substeps != many.substeps:
        return False
    corrects = few.erase != "none"
    if corrects and (few.solve, few.transposed) != (many.solve, many.transposed):
        return False
    # one factor of all channels makes what is read before and after it the same
    if corrects and few.decay == "channel" and few.reads != many.reads:
        return False
    scales = ("identity", "scaled")  # a constant factor on keys, which beta makes up
    return few.feature == many.feature or {few.feature, many.feature} <= set(scales)
