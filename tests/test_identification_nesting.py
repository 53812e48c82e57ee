"""Special cases among rules: the richer rule, run with the constants that make it the other."""

import numpy as np
import pytest
from tolerances import TOLERANCES

from fwbio import RULES, program, reference
from fwbio.analyses.identification.nesting import is_special, related
from fwbio.analyses.identification.study import RULES_STUDIED

STEPS, PRE, POST = 12, 5, 4
PAIRS = [(a, b) for a in RULES_STUDIED for b in RULES_STUDIED if is_special(a, b)]


def constants(rule, rng):
    """Random gates of a rule, each (step,) or (step, channel), constant over steps."""
    drawn = {
        "log_decay": lambda dims: -rng.uniform(0.05, 0.5, PRE if "pre" in dims else ()),
        "beta": lambda dims: rng.uniform(0.2, 0.8, POST if "post" in dims else ()),
        "log_beta": lambda _: np.log(rng.uniform(0.2, 0.8)),
        "erase_key": lambda _: rng.uniform(0.3, 0.9),
    }
    return {
        name: drawn[name](stream.dims)
        for name, stream in RULES[rule].streams.items()
        if name in drawn
    }


def streams(rule, key, gates):
    """A rule's streams of constant gates; `erase_key` is a share of the key."""
    found = {}
    for name, stream in RULES[rule].streams.items():
        if name in {"erase_key", "erase_direction"}:
            found[name] = np.asarray(gates.get(name, 1.0)) * key
        elif name == "ridge":
            found[name] = np.ones_like(key)
        elif name in gates:
            sizes = {"pre": PRE, "post": POST}
            shape = (STEPS, *(sizes[dim] for dim in stream.dims[1:]))
            found[name] = np.broadcast_to(gates[name], shape)
    return found


def made_richer(simple, rich, gates):
    """The gates of a richer rule at which it is the simple one."""
    few, many = RULES[simple].terms, RULES[rich].terms
    alpha = np.exp(gates.get("log_decay", 0.0))
    beta = gates["beta"] if "beta" in gates else np.exp(gates["log_beta"])
    scale = np.sqrt(PRE)
    beta = beta * {"identity": 1.0, "scaled": 1 / scale}[few.feature]
    share = {"none": 0.0, "key": 1.0}.get(few.erase, gates.get("erase_key"))
    if few.erase == "direction":
        share = share / alpha / beta
    found = {"log_decay": gates.get("log_decay", 0.0), "theta_p": 0.0, "theta_d": 0.0}
    found["beta"] = beta * {"identity": 1.0, "scaled": scale}[many.feature]
    found["log_beta"] = np.log(found["beta"])
    found["erase"] = share * beta
    found["erase_key"] = share if many.erase == "erase_key" else alpha * share * beta
    return found


def weights(rule, key, value, gates):
    query = np.zeros_like(key)
    made = program.make(rule, key, value, query, **streams(rule, key, gates))
    return reference.execute(made, weights="all").weights.values


@pytest.mark.parametrize(("simple", "rich"), PAIRS)
def test_a_special_case_is_the_richer_rule_at_some_constants(simple, rich, rng):
    key = rng.standard_normal((STEPS, PRE)) / np.sqrt(PRE)
    value = rng.standard_normal((STEPS, POST))
    gates = constants(simple, rng)
    ideal = weights(simple, key, value, gates)
    found = weights(rich, key, value, made_richer(simple, rich, gates))
    bound = TOLERANCES["float64"].value
    np.testing.assert_allclose(found, ideal, atol=bound * np.abs(ideal).max())


def test_special_cases_are_an_order():
    assert {
        ("delta", "gated_delta"),
        ("gated_delta", "kda"),
        ("hebb", "gla"),
        ("hebb", "comba"),
    } <= set(PAIRS)
    assert not any((b, a) in PAIRS for a, b in PAIRS)
    assert all(a != b for a, b in PAIRS)
    named = [pair for pair in PAIRS if "efla" not in pair]
    assert all((a, d) in PAIRS for a, b in named for c, d in named if b == c)


def test_what_is_not_nested_is_said_to_be():
    for rule, other in (
        ("delta", "longhorn"),
        ("oja", "delta"),
        ("kda", "rwkv7"),
        ("hebb", "delta"),
    ):
        assert related(rule, other) == related(other, rule) == "not nested"
    words = "nested: efla is a special case of thresholded_delta, its thresholds 0"
    assert related("thresholded_delta", "efla") == words
