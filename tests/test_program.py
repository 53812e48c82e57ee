"""Programs: what they label, complete and spread, and what they refuse in words."""

import numpy as np
import pytest
import torch
import xarray as xr
from programs import random_program, random_streams
from tolerances import assert_close

from fwbio import RULES, FwbioError, program, reference
from fwbio.record import validate

STEPS, PRE, POST = 4, 3, 2


def parts(rng, *leading, substeps=None):
    """A key, a value and a query."""
    n = () if substeps is None else (substeps,)
    shapes = ((*n, PRE), (*n, POST), (PRE,))
    return [rng.standard_normal((*leading, STEPS, *shape)) for shape in shapes]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("leading", [(), (2,), (2, 3)])
def test_a_program_names_its_axes_and_units(rule, leading, rng):
    made = program.make(rule, **random_streams(rule, rng, leading=leading))
    assert validate(made, need=program.PROGRAM) == []
    assert made.attrs["rule"] == rule
    names = ("trial", "head")[: len(leading)]
    assert all(variable.dims[: len(leading)] == names for variable in made.data_vars.values())
    assert all({"units", "long_name"} <= v.attrs.keys() for v in made.variables.values())


def test_a_number_stands_for_every_step(rng):
    key, value, query = parts(rng)
    number = program.make("gated_delta", key, value, query, beta=0.5, log_decay=-0.1)
    full = program.make(
        "gated_delta", key, value, query, beta=np.full(STEPS, 0.5), log_decay=np.full(STEPS, -0.1)
    )
    assert number.identical(full)
    channel = program.make("gla", key, value, query, log_decay=-0.1)
    assert channel.log_decay.shape == (STEPS, PRE)


def test_lists_tensors_and_whole_numbers_are_arrays_of_float64(rng):
    key, value, query = parts(rng)
    given = program.make("hebb", key.tolist(), torch.tensor(value), np.round(query).astype(int))
    assert {x.dtype for x in given.data_vars.values()} == {np.dtype("float64")}
    assert np.array_equal(given.key, key)
    assert np.array_equal(given.value, value)


def test_a_program_does_not_share_memory_with_what_it_was_made_of(rng):
    key, value, query = parts(rng)
    made = program.make("hebb", key, value, query)
    before = made.copy(deep=True)
    key[:] = 0.0
    assert made.identical(before)


def test_a_data_array_names_its_own_dims(rng):
    key, value, query = parts(rng, 2, 5)
    named = xr.DataArray(np.moveaxis(key, 1, 0), dims=("layer", "batch", "step", "pre"))
    value = xr.DataArray(value[:, 0], dims=("batch", "step", "post"))
    query = xr.DataArray(query[0, 0].T, dims=("pre", "step"))
    made = program.make("hebb", named, value, query)
    assert made.key.dims == ("layer", "batch", "step", "pre")
    assert made["query"].dims == ("step", "pre")
    run = reference.execute(made)
    assert run.readout.dims == ("layer", "batch", "step", "post")
    one = program.make("hebb", key[1, 3], value.values[1], query.values.T)
    assert_close(run.readout.sel(layer=3, batch=1), reference.execute(one).readout, "float64")


def test_a_data_array_is_spread_over_the_dims_that_it_lacks(rng):
    key, value, query = parts(rng, 2, 3)
    by_head = xr.DataArray([-0.1, -0.2, -0.3], dims="head")
    made = program.make("mamba2", key, value, query, log_decay=by_head)
    assert made.log_decay.dims == ("head", "step")
    assert np.array_equal(made.log_decay, np.repeat(by_head.values[:, None], STEPS, 1))


def test_retnet_decays_by_head_unless_told(rng):
    by_head = program.make("retnet", *parts(rng, 2, 3)).log_decay
    assert by_head.dims == ("head", "step")
    expected = np.log(1 - 2.0 ** -(5 + np.arange(3)))[:, None]
    assert_close(by_head, np.broadcast_to(expected, (3, STEPS)), "float64")
    assert_close(
        program.make("retnet", *parts(rng)).log_decay, [np.log(31 / 32)] * STEPS, "float64"
    )
    assert (program.make("retnet", *parts(rng, 2), log_decay=-0.3).log_decay == -0.3).all()


def test_labels_of_an_experiment_are_kept(rng):
    scored, lag = np.array([False, False, True, True]), np.array([-1, -1, 1, 0])
    made = program.make(
        "hebb",
        *parts(rng),
        target=np.ones((STEPS, POST)),
        scored=scored,
        stored=[1, 1, 0, 0],
        lag=lag,
        programmer="by hand",
        seed=7,
        config={"strength": 1.0},
    )
    assert made.scored.dtype == made.stored.dtype == bool
    assert np.array_equal(made.lag, lag)
    assert made.attrs == {
        "rule": "hebb",
        "programmer": "by hand",
        "seed": 7,
        "config": {"strength": 1.0},
    }


def nan_at(rng, *place):
    key = parts(rng, 2)[0]
    key[place] = np.nan
    return key


WRONG = {
    "a key of four wide and a query of three": (
        "hebb",
        lambda rng: {"query": np.zeros((STEPS, PRE + 1))},
        r"^query: shape \(4, 4\) has pre = 4, but key has pre = 3; give both the same pre",
    ),
    "a value of fewer steps": (
        "hebb",
        lambda rng: {"value": np.zeros((STEPS - 1, POST))},
        r"^value: shape \(3, 2\) has step = 3, but key has step = 4",
    ),
    "trials that differ": (
        "hebb",
        lambda rng: {"key": np.zeros((2, STEPS, PRE)), "value": np.zeros((3, STEPS, POST))},
        r"^value: .* trial = 3, but key has trial = 2",
    ),
    "beta of fewer steps": (
        "delta",
        lambda rng: {"beta": np.ones(STEPS - 1)},
        r"^beta: shape \(3,\) has step = 3, but key has step = 4",
    ),
    "one axis": ("hebb", lambda rng: {"key": np.zeros(3)}, r"^key: shape \(3,\) has 1 axes"),
    "five axes": (
        "hebb",
        lambda rng: {"key": np.zeros((1, 1, 1, STEPS, PRE))},
        r"^key: shape .* has 5 axes, where \(.., step, pre\) has 2 to 4; reshape it, or name",
    ),
    "a number for a key": ("hebb", lambda rng: {"key": 1.0}, r"^key: shape \(\) has 0 axes"),
    "substeps that the rule lacks": (
        "delta",
        lambda rng: {"beta": xr.DataArray(np.ones((STEPS, 2)), dims=("step", "substep"))},
        r"^beta: its dims \('step', 'substep'\) have substep too many; give it as \(.., step\)",
    ),
    "a gate by channel that the rule lacks": (
        "delta",
        lambda rng: {"beta": xr.DataArray(np.ones((STEPS, POST)), dims=("step", "post"))},
        r"^beta: .* have post too many",
    ),
    "no dim of steps": (
        "hebb",
        lambda rng: {"key": xr.DataArray(np.zeros((STEPS, PRE)), dims=("time", "pre"))},
        r"^key: its dims \('time', 'pre'\) lack step; name its dims \(.., step, pre\)",
    ),
    "NaN": (
        "hebb",
        lambda rng: {"key": nan_at(rng, 1, 2, 0)},
        r"'key' is NaN or infinite in 1 places, first at trial 1, step 2, pre 0 \(nan\)",
    ),
    "infinity": (
        "hebb",
        lambda rng: {"query": np.full((STEPS, PRE), -np.inf)},
        r"^program of hebb: 'query' is NaN or infinite in 12 places, first at .* \(-inf\)",
    ),
    "an amplifying decay": (
        "mamba2",
        lambda rng: {"log_decay": [-0.1, 0.0, 0.1, 0.2]},
        r"'log_decay' is above 0 \(a decay above one\), first at step 2 \(0.1\)",
    ),
    "a missing strength": (
        "delta",
        lambda rng: {"beta": None},
        r"^beta: the rule 'delta' needs 'beta'; give it as \(.., step\) or as one number",
    ),
    "a missing decay": (
        "gla",
        lambda rng: {"log_decay": None},
        r"^log_decay: .* \(.., step, pre\)",
    ),
    "a missing erase gate": ("gated_delta_2", lambda rng: {"erase": None}, r"^erase: .* needs"),
    "a missing erase key": ("comba", lambda rng: {"erase_key": None}, r"^erase_key: .* needs"),
    "a decay that the rule lacks": (
        "hebb",
        lambda rng: {"log_decay": -0.1},
        r"^log_decay: the rule 'hebb' has no stream 'log_decay'; leave it out; it takes beta$",
    ),
    "words": ("delta", lambda rng: {"beta": "0.5"}, r"^beta: .* not a type of real numbers"),
    "words in a list": ("delta", lambda rng: {"beta": ["1"] * STEPS}, r"^beta: .* real numbers"),
    "None in a list": ("delta", lambda rng: {"beta": [None] * STEPS}, r"^beta: object is not"),
    "complex numbers": ("delta", lambda rng: {"beta": np.full(STEPS, 1j)}, r"^beta: complex128"),
    "rows of unequal length": (
        "hebb",
        lambda rng: {"key": [[1.0], [1.0, 2.0]]},
        r"^key: list is not an array of numbers .*; give a rectangular array of real numbers",
    ),
    "a tensor that gradients flow through": (
        "hebb",
        lambda rng: {"key": torch.zeros(STEPS, PRE, requires_grad=True)},
        r"^key: Tensor is not an array of numbers \(Can't call numpy\(\) on Tensor",
    ),
    "initial weights, transposed": (
        "hebb",
        lambda rng: {"initial_weights": np.zeros((POST, PRE))},
        r"^initial_weights: shape \(2, 3\) has pre = 2, but key has pre = 3",
    ),
    "weights without their summed keys": (
        "linear_attention",
        lambda rng: {"initial_weights": np.zeros((PRE, POST))},
        r"^initial_weights: .* give initial_weights and initial_normaliser, or neither",
    ),
    "summed keys of a rule that sums none": (
        "hebb",
        lambda rng: {"initial_normaliser": np.zeros(PRE)},
        r"^initial_normaliser: the rule 'hebb' has no normaliser",
    ),
    "a dim that a run makes": (
        "hebb",
        lambda rng: {"key": xr.DataArray(np.ones((2, STEPS, PRE)), dims=("time", "step", "pre"))},
        r"^key: the dims time are a run's own; rename them",
    ),
    "a gate with trials of its own": (
        "delta",
        lambda rng: {"beta": np.ones((2, STEPS))},
        r"^beta: shape \(2, 4\) has leading axes that key, value and query lack",
    ),
    "marks that are no marks": (
        "hebb",
        lambda rng: {"scored": np.full(STEPS, 0.5)},
        r"^scored: it holds more than true and false",
    ),
    "no channels": (
        "hebb",
        lambda rng: {"value": np.ones((STEPS, 0))},
        r"^program: there is no post; give at least one post",
    ),
    "numbers that are masked": (
        "hebb",
        lambda rng: {"value": np.ma.masked_less(rng.normal(size=(STEPS, POST)) - 9, 0)},
        r"^value: some of its numbers are masked; fill them",
    ),
    "a dim that is a number": (
        "hebb",
        lambda rng: {"key": xr.DataArray(np.ones((2, STEPS, PRE)), dims=(0, "step", "pre"))},
        r"^key: its dim 0 is not a name",
    ),
    "a configuration without names": (
        "hebb",
        lambda rng: {"config": [1, 2]},
        r"^config: list is no mapping; give settings by name",
    ),
    "an unknown rule": (
        "hebbian",
        lambda rng: {},
        r"^rule: there is no rule called 'hebbian'; did you mean 'hebb'\?$",
    ),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_mistake_is_told(mistake, rng):
    rule, wrong, told = WRONG[mistake]
    streams = random_streams(
        rule if rule in RULES else "hebb", rng, steps=STEPS, pre=PRE, post=POST
    )
    with pytest.raises(FwbioError, match=told) as error:
        program.make(rule, **streams | wrong(rng))
    assert "\n" not in str(error.value)


def test_a_misspelt_keyword_is_refused(rng):
    with pytest.raises(TypeError, match="betas"):
        program.make("delta", *parts(rng), betas=1.0)


UNSOUND = {
    "no dataset": (lambda made: {}, "program: a dataset of fwbio.program.make is needed, not dict"),
    "no rule": (lambda made: made.drop_attrs(), "the attribute 'rule' is missing"),
    "an unknown rule": (lambda made: made.assign_attrs(rule="dela"), "did you mean 'delta'"),
    "no query": (lambda made: made.drop_vars("query"), "the variable 'query' is missing"),
    "a stream lost": (lambda made: made.drop_vars("beta"), "'gated_delta' needs 'beta'"),
    "a stream too many": (
        lambda made: made.assign(erase=made.key),
        "'gated_delta' has no stream 'erase'",
    ),
    "another rule's decay": (
        lambda made: made.assign(log_decay=-abs(made.key)),
        "log_decay: its dims .* have pre too many",
    ),
    "another rule's substeps": (
        lambda made: made.assign(key=made.key.expand_dims({"substep": 2}, axis=-2)),
        "key: its dims .* have substep too many",
    ),
    "axes in another order": (
        lambda made: made.assign(key=made.key.transpose("pre", ...)),
        r"'key' has dims \('pre', 'trial', 'step'\), which should end in \('step', 'pre'\)",
    ),
    "NaN": (lambda made: made.assign(value=made.value * np.nan), "'value' is NaN or infinite"),
    "words": (
        lambda made: made.assign(beta=made.beta.astype(str)),
        "'beta' holds <U.*, not real numbers",
    ),
    "complex numbers": (
        lambda made: made.assign(beta=made.beta * 1j),
        "'beta' holds complex128, not real numbers",
    ),
}


@pytest.mark.parametrize("mistake", UNSOUND)
def test_an_unsound_program_is_not_run(mistake, rng):
    break_it, told = UNSOUND[mistake]
    made = random_program("gated_delta", rng)
    with pytest.raises(FwbioError, match=told):
        reference.execute(break_it(made))


def test_a_program_without_substeps_has_one(rng):
    """A rule with substeps runs a program laid out by hand that has no such axis."""
    made = random_program("gated_delta", rng)
    once = reference.execute(made.assign_attrs(rule="delta_product"))
    assert_close(once.readout, reference.execute(made).readout, "float64")
