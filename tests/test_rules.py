"""The table of rules: frozen declarations, complete and consistent."""

import pickle
import re
from dataclasses import FrozenInstanceError, fields
from typing import get_args

import numpy as np
import pytest
from programs import random_program

from fwbio import RULES, FwbioError, Rule
from fwbio.errors import unknown_name
from fwbio.program import GATES
from fwbio.record import PROGRAM, SCHEMA, labelled, require
from fwbio.rule import Plasticity
from fwbio.rules import resolve

rules = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)


def test_the_table_is_read_only():
    with pytest.raises(TypeError):
        RULES["mine"] = RULES["delta"]
    with pytest.raises(FrozenInstanceError):
        RULES["delta"].name = "mine"


@rules
def test_a_rule_says_all_there_is_to_say(rule):
    assert RULES[rule.name] is rule
    for field in ("equation", "objective", "biology", "source"):
        assert getattr(rule, field).strip()
    assert "y = " in rule.equation
    assert re.search(r"10\.\d{4,}/\S+|arXiv:\d{4}\.\d{5}", rule.source)


@rules
def test_an_equation_shows_the_terms_that_the_rule_has(rule):
    terms, equation = rule.terms, rule.equation
    assert ("alpha" in equation or "gamma" in equation) == (terms.decay != "none")
    assert ("diag(alpha" in equation) == (terms.decay == "channel")
    assert ("phi" in equation) == (terms.feature == "elu_plus_one")
    assert ("sqrt(K)" in equation) == (terms.feature == "scaled")
    assert ("z" in equation) == (terms.normaliser != "none")
    assert ("max(|z" in equation) == (terms.normaliser == "bounded")
    assert ("erase" in equation) == (terms.erase == "gate")
    assert ("p^T" in equation) == (terms.erase in {"erase_key", "direction"})
    assert ("- r (" in equation) == (terms.erase == "direction")
    assert ("W~" in equation) == (
        terms.erase != "none" and terms.decay != "none" and terms.reads == "decayed"
    )
    assert ("exp(log_beta)" in equation) == (terms.write == "exponential")
    assert ("ridge" in equation) == (terms.readout == "ridge")
    assert "beta" in equation


@rules
def test_streams_fit_the_schema_and_the_call(rule):
    for name, stream in rule.streams.items():
        assert name == stream.name
        assert name in GATES
        assert set(stream.dims) <= set(SCHEMA[name].dims)
        assert stream.dims[0] == "step"
        assert stream.meaning
        assert stream.required or not rule.needs(name)


@rules
def test_programs_hold_streams_to_their_ranges(rule, rng):
    made = random_program(rule.name, rng)
    small = rng.uniform(1e-6, 1e-3)
    refused = {"any": [], "<= 0": [small], ">= 0": [-small], "> 0": [0.0, -small]}
    taken = {"any": [-small, small], "<= 0": [0.0], ">= 0": [0.0], "> 0": [small]}
    for name, stream in rule.streams.items():
        given = (
            made[name] if name in made else labelled(name, np.ones(made.sizes["step"]), ("step",))
        )
        for number in [np.nan, np.inf, *refused[stream.range]]:
            with pytest.raises(FwbioError, match=f"here: '{name}' is"):
                require(made.assign({name: given * 0 + number}), where="here", need=PROGRAM)
        for number in taken[stream.range]:
            require(made.assign({name: given * 0 + number}), where="here", need=PROGRAM)


def test_every_declared_gate_is_some_rule_s_stream():
    assert set(GATES) == {name for rule in RULES.values() for name in rule.streams}


def test_every_choice_of_terms_is_taken_by_a_rule_or_the_plainest():
    """A term that no rule has would be run by no test."""
    taken = {field.name: set() for field in fields(RULES["delta"].terms)}
    for rule in RULES.values():
        for name, values in taken.items():
            values.add(getattr(rule.terms, name))
    assert taken == {
        "decay": {"none", "scalar", "channel"},
        "write": {"scalar", "channel", "exponential"},
        "erase": {"none", "key", "gate", "erase_key", "direction"},
        "reads": {"decayed", "undecayed"},
        "solve": {"explicit", "implicit", "flow"},
        "feature": {"identity", "scaled", "elu_plus_one"},
        "normaliser": {"none", "sum", "bounded"},
        "readout": {"weights", "ridge"},
        "transposed": {True, False},
        "substeps": {True, False},
        "plasticity": set(get_args(Plasticity)),
    }


def test_a_rule_resolves_to_itself_and_its_name_to_it():
    assert resolve("delta") is resolve(RULES["delta"]) is RULES["delta"]
    mine = Rule(
        name="mine",
        **{f.name: getattr(RULES["delta"], f.name) for f in fields(Rule) if f.name != "name"},
    )
    assert resolve(mine) is mine


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("dela", r"^rule: there is no rule called 'dela'; did you mean 'delta'\?$"),
        ("zzz", r"^rule: there is no rule called 'zzz'; choose from bcm, calcium, clopath, "),
        (None, r"^rule: a rule is a name or a fwbio.Rule, not NoneType; `fwbio rules` lists"),
    ],
)
def test_what_is_no_rule_is_told(asked, told):
    with pytest.raises(FwbioError, match=told):
        resolve(asked)


def test_errors_cross_processes_whole():
    error = unknown_name("dela", RULES, kind="rule", where="rule")
    copy = pickle.loads(pickle.dumps(error))
    assert isinstance(copy, FwbioError)
    assert isinstance(copy, ValueError)
    assert (str(copy), copy.what, copy.where, copy.mend) == (
        str(error),
        error.what,
        error.where,
        error.mend,
    )
