"""The float64 reference against every rule's own equation, and what a run hands back."""

import numpy as np
import pytest
from programs import random_program, random_streams
from textbook import TEXTBOOK
from tolerances import assert_close

from fwbio import RULES, FwbioError, program, reference, traces
from fwbio.record import RECORD, validate


def test_every_rule_has_its_textbook_equation():
    assert TEXTBOOK.keys() == RULES.keys()


@pytest.mark.parametrize("rule", RULES)
def test_reference_follows_the_textbook(rule, rng):
    streams = random_streams(rule, rng, leading=(2, 3), steps=7, pre=5, post=3, substeps=3)
    start = rng.standard_normal((2, 3, 5, 3))
    state = {"initial_weights": start}
    empty = {"normaliser": np.zeros((2, 3, 5)), "gram": np.zeros((2, 3, 5, 5))}
    if companion := RULES[rule].terms.companion:
        state[f"initial_{companion}"] = empty[companion]
    run = reference.execute(program.make(rule, **streams, **state), weights="all")
    for trial, head in np.ndindex(2, 3):
        here = {name: x[trial, head] for name, x in streams.items()}
        steps = list(TEXTBOOK[rule](start[trial, head], **here))
        assert len(steps) == 7
        record = run.isel(trial=trial, head=head)
        assert_close(record.readout, [y for y, _ in steps], "float64")
        assert_close(record.weights, [W for _, W in steps], "float64")


@pytest.mark.parametrize("rule", [name for name, r in RULES.items() if not r.terms.traces])
def test_a_run_goes_on_from_its_record(rule, rng):
    streams = random_streams(rule, rng, leading=(2,), steps=6)
    whole = reference.execute(program.make(rule, **streams))
    halves = [{name: x[:, part] for name, x in streams.items()} for part in (np.s_[:3], np.s_[3:])]
    first = reference.execute(program.make(rule, **halves[0]))
    state = {"initial_weights": first.weights.isel(snapshot=-1)}
    if companion := RULES[rule].terms.companion:
        state[f"initial_{companion}"] = first[companion].isel(snapshot=-1)
    second = reference.execute(program.make(rule, **halves[1], **state))
    assert_close(second.readout, whole.readout[:, 3:], "float64")
    assert_close(second.weights, whole.weights, "float64")


def test_an_overflowing_run_is_told(rng):
    streams = random_streams("delta", rng, steps=40)
    huge = streams | {"key": 1e9 * streams["key"]}
    with np.errstate(all="ignore"), pytest.raises(FwbioError, match="no longer finite"):
        reference.execute(program.make("delta", **huge))


@pytest.mark.parametrize("rule", RULES)
def test_readout_reads_the_weights_that_the_record_keeps(rule, rng):
    run = reference.execute(random_program(rule, rng), weights="all")
    query = run["query"].values
    if RULES[rule].terms.plasticity == "release":
        streams = (run[name].values for name in ("key", "query"))
        interval = run.interval.values[..., None]
        query = traces.released(*streams, interval, xp=np, axis=1)[1]
    if RULES[rule].terms.feature == "elu_plus_one":
        query = np.where(query > 0, query + 1, np.exp(query))
    if "ridge" in run:
        matrix = run.gram.values + run.ridge.values[..., None] * np.eye(query.shape[-1])
        query = np.linalg.solve(matrix, query[..., None])[..., 0]
    read = np.einsum("btkv,btk->btv", run.weights, query)
    if "normaliser" in run:
        n = np.einsum("btk,btk->bt", run.normaliser, query)[..., None]
        bounded = RULES[rule].terms.normaliser == "bounded"
        read = read / (np.maximum(np.abs(n), 1) if bounded else n)
    assert_close(run.readout, read, "float64")


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("steps", [0, 1, 5])
@pytest.mark.parametrize(("pre", "post"), [(1, 1), (3, 7)])
def test_awkward_sizes_make_sound_records(rule, rng, steps, pre, post):
    made = random_program(rule, rng, steps=steps, pre=pre, post=post, trials=1)
    run = reference.execute(made, weights="all")
    assert validate(run) == []
    assert run.readout.shape == (1, steps, post)
    assert run.weights.shape == (1, steps, pre, post)


def test_kept_steps(rng):
    made = random_program("delta", rng, steps=7)
    every = reference.execute(made, weights="all")
    for keep, steps in (("last", [6]), ("all", range(7)), (1, range(7)), (3, [2, 5, 6]), (9, [6])):
        run = reference.execute(made, weights=keep)
        assert run.snapshot.values.tolist() == list(steps)
        assert np.array_equal(run.weights, every.weights.sel(snapshot=list(steps)))


@pytest.mark.parametrize("keep", ["first", 0, -1, 1.5, True, None])
def test_a_wrong_keep_is_told(rng, keep):
    with pytest.raises(FwbioError, match=r'^weights: .* "last", "all" or a positive number'):
        reference.execute(random_program("hebb", rng), weights=keep)


@pytest.mark.parametrize("rule", RULES)
def test_a_record_names_every_axis_unit_and_maker(rule, rng):
    made = random_program(rule, rng)
    before = made.copy(deep=True)
    run = reference.execute(made)
    assert made.identical(before)
    assert set(RECORD) < set(run)
    assert all({"units", "long_name"} <= v.attrs.keys() for v in run.variables.values())
    assert (run.attrs["substrate"], run.attrs["backend"]) == ("reference", "numpy")
    assert run.attrs["rule"] == rule
    assert run.attrs["references"] == RULES[rule].source
    assert {"fwbio", "numpy", "xarray"} <= run.attrs["versions"].keys()


@pytest.mark.parametrize("rule", RULES)
def test_a_record_runs_again_as_the_program_that_it_holds(rule, rng):
    made = random_program(rule, rng)
    again = reference.execute(reference.execute(made), weights="all")
    assert again.identical(reference.execute(made, weights="all"))


def test_leading_dims_of_streams_are_combined(rng):
    streams = random_streams("delta", rng, leading=(2, 3))
    whole = program.make("delta", **streams)
    parts = whole.assign(key=whole.key.isel(head=0), value=whole.value.isel(trial=0))
    run = reference.execute(parts)
    same = {**streams, "key": streams["key"][:, :1], "value": streams["value"][:1]}
    same = {name: np.broadcast_to(x, (2, 3, *x.shape[2:])) for name, x in same.items()}
    expected = reference.execute(program.make("delta", **same))
    for name in ("readout", "weights"):
        assert_close(run[name].transpose(*expected[name].dims), expected[name], "float64")
