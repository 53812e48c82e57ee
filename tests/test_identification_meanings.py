"""What constants mean: units of the weights, time constants in seconds, and where they are told."""

import json

import numpy as np
import pytest
from tolerances import assert_close

from fwbio import program, reference
from fwbio.analyses.identification import from_record, identify, in_units
from fwbio.analyses.identification.outputs import write
from fwbio.analyses.identification.tables import plain, rows, tables

STEPS, PRE, POST = 30, 5, 4
DECAY, INTERVAL, UNIT = 0.9, 0.25, 7.0


def recording(rule, rng, *, units="pA", interval=None, **gates):
    """Weights of a rule in a unit of their own, with the seconds between steps where given."""
    key = rng.standard_normal((STEPS, PRE)) / np.sqrt(PRE)
    value, query = rng.standard_normal((STEPS, POST)), np.zeros((STEPS, PRE))
    made = reference.execute(program.make(rule, key, value, query, **gates), weights="all")
    clean = made["weights"]
    noise = 0.01 * float(np.sqrt((clean**2).mean())) * rng.standard_normal(clean.shape)
    seen = UNIT * (clean + noise)
    found = made[["key", "value"]].assign(weights=seen.assign_attrs(units=units))
    if interval is not None:
        found = found.assign(interval=("step", np.broadcast_to(interval, STEPS), {"units": "s"}))
    return found


def units_of(answer, rule):
    return {p.name: p.units for p in answer[rule].parameters}


@pytest.mark.parametrize(
    ("units", "scale", "wanted"),
    [
        ("pA", "auto", ("pA", "1", "pA")),
        ("", "auto", ("a.u.", "1", "a.u.")),
        ("1", "fitted", ("a.u.", "1", "a.u.")),
        ("1", "auto", ("1", "1", None)),
        ("pA", "known", ("1", "1", None)),
    ],
)
def test_constants_in_the_unit_of_the_weights_name_it(units, scale, wanted, rng):
    made = recording("delta", rng, units=units, beta=0.5)
    told = in_units(identify(made, rules=["hebb", "delta"], scale=scale), made)
    hebb, delta = units_of(told, "hebb"), units_of(told, "delta")
    assert (hebb["beta"], delta["beta"], delta.get("scale")) == wanted
    again = in_units(told, from_record(made))
    assert (units_of(again, "hebb"), units_of(again, "delta")) == (hebb, delta)


def decaying(rng, **given):
    return recording("retnet", rng, log_decay=np.log(DECAY), **given)


def test_a_decay_is_a_time_constant_where_steps_are_equally_long(rng):
    made = decaying(rng, interval=INTERVAL)
    answer = identify(made, rules=["retnet", "hebb"])
    told = in_units(answer, made)
    tau = {p.name: p for p in told["retnet"].parameters}["time_constant"]
    assert tau.units == "s"
    assert_close(tau.value, -INTERVAL / np.log(DECAY), "identified")
    assert tau.low < tau.value < tau.high
    assert "time_constant" not in units_of(told, "hebb")
    for found in (told, in_units(told, made)):
        assert [p.name for p in found["retnet"].parameters].count("time_constant") == 1
    # of each channel, its own
    each = in_units(identify(made, rules=["gla"]), made)["gla"]
    constants = {p.name: p.value for p in each.parameters}
    np.testing.assert_allclose(
        constants["time_constant"], -INTERVAL / np.log(constants["decay"]), rtol=1e-9
    )


@pytest.mark.parametrize("interval", [None, np.linspace(0.1, 0.4, STEPS)])
def test_steps_of_unknown_or_uneven_length_have_no_time_constant(interval, rng):
    made = decaying(rng, interval=interval)
    told = in_units(identify(made, rules=["retnet"]), made)
    assert list(units_of(told, "retnet")) == ["decay", "half_life", "beta"]


def test_tables_and_files_tell_constants_in_units(rng, tmp_path):
    made = decaying(rng, units="", interval=INTERVAL)
    seen = from_record(made)
    answer = identify(seen, rules=["retnet", "delta"])
    assert "time_constant" not in units_of(answer, "retnet")
    table = rows(answer, seen).set_index(["rule", "parameter"])["units"]
    assert table["retnet", "beta"] == "a.u." and table["retnet", "time_constant"] == "s"
    named = {p["name"]: p["units"] for p in plain(answer, seen)["candidates"][0]["parameters"]}
    assert named["beta"] == "a.u." and named["time_constant"] == "s"
    shown = tables(answer, seen)[0]
    assert any("time constant" in str(cell) for cell in shown.columns[-1].cells)
    assert "seconds after which 1/e is left" in str(shown.caption)
    write(answer, made, tmp_path, command="identify()")
    kept = json.loads((tmp_path / "identification.json").read_text())["candidates"][0]
    assert {p["name"] for p in kept["parameters"]} >= {"time_constant"}
