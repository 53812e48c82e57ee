"""Spike-timing rules in a memory of spiking cells: the rule in the mean, a sample otherwise."""

import numpy as np
import pytest
from programs import random_program
from tolerances import assert_close, assert_expected

from fwbio import FwbioError, models, program, reference
from fwbio.record import validate

RULES_OF_SPIKES = ["stdp", "triplet_stdp"]
rules = pytest.mark.parametrize("rule", RULES_OF_SPIKES)


def volleys(rule, rng, **sizes):
    return random_program(rule, rng, nonnegative=True, passive=True, **sizes)


@rules
def test_cells_that_always_fire_make_the_rule_exactly(rule, rng):
    """Codes of 0 and 1 leave nothing to chance: the synapses are the reference's."""
    codes = {name: rng.integers(0, 2, (2, 7, size)) for name, size in
             (("key", 4), ("value", 3), ("query", 4))}  # fmt: skip
    codes["value"] = codes["value"] * rng.choice([-1, 1], codes["value"].shape)
    interval = 1e-3 * rng.integers(15, 120, 7)
    made = program.make(rule, **codes, beta=rng.uniform(0.2, 1, (2, 7)), interval=interval)
    run = models.execute(made, "spiking", engine="numpy", cells_per_key=2, weights="all")
    expected = reference.execute(made, weights="all")
    assert validate(run) == []
    assert_close(run.weights, expected.weights, "event driven")
    assert_close(run.readout, expected.readout, "event driven")


@rules
def test_in_the_mean_over_spikes_it_is_the_rule(rule, rng):
    single = volleys(rule, rng, trials=1, steps=5, pre=3, post=2)
    many = single.isel(trial=np.zeros(300, int))
    run = models.execute(many, "spiking", engine="numpy", cells_per_key=2, cells_per_value=2)
    expected = reference.execute(single).weights.values[0, 0]
    for pre, post in np.ndindex(expected.shape):
        assert_expected(run.weights.values[:, 0, pre, post], expected[pre, post])


@rules
def test_its_noise_falls_with_the_root_of_the_cells(rule, rng):
    many = volleys(rule, rng, trials=1, steps=5, pre=6, post=4).isel(trial=np.zeros(40, int))
    expected = reference.execute(many).weights.values
    cells = np.array([2, 4, 8, 16])
    noise = []
    for count in cells:
        options = {"cells_per_key": int(count), "cells_per_value": int(count)}
        run = models.execute(many, "spiking", engine="numpy", **options)
        noise.append(np.sqrt(np.mean((run.weights.values - expected) ** 2)))
    slope = np.polyfit(np.log(cells), np.log(noise), 1)[0]
    assert slope == pytest.approx(-0.5, abs=0.08)


def test_a_cue_may_be_read_by_few_cells(rng):
    made = volleys("stdp", rng, trials=3)
    options = {"engine": "numpy", "seed": 4}
    mean, few = (
        models.execute(made, "spiking", read_cells=cells, **options) for cells in (np.inf, 4)
    )
    np.testing.assert_array_equal(mean.weights, few.weights)
    assert (mean.readout.values != few.readout.values).any()


@rules
def test_a_program_may_have_no_steps(rule, rng):
    made = volleys(rule, rng, steps=0, initial_weights=True)
    run = models.execute(made, "spiking", engine="numpy")
    assert run.readout.shape == (2, 0, 3)
    assert run.onset.shape == (0,)
    assert validate(run) == []


def test_seeds_repeat(rng):
    made = volleys("stdp", rng)
    first, again, other = (
        models.execute(made, "spiking", engine="numpy", seed=s).weights.values for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        ({"key": 1.4}, {}, "the key goes from .* chance that a cell fires; give keys from 0 to 1"),
        ({"value": -1.4}, {}, "the value goes from .* give values from -1 to 1"),
        ({"interval": 0.0105}, {}, "an interval of 0.0105 s; give whole numbers of dt = 0.001 s"),
        ({"interval": 0.01}, {}, "a step of 0.01 s ends before its value does"),
        ({}, {"dt": 3e-3}, "dt = 0.003 s does not divide the lead"),
        ({}, {"cells_per_key": 0}, "cells_per_key = 0 is out of range"),
        ({}, {"read_cells": 0.5}, "read_cells = 0.5 is out of range"),
        ({}, {"peak_rate": 100}, "no option called 'peak_rate'"),
    ],
)
def test_what_makes_no_volley_is_told(change, options, words, rng):
    made = volleys("stdp", rng)
    made = made.assign({name: 0 * made[name] + value for name, value in change.items()})
    with pytest.raises(FwbioError, match=words):
        models.execute(made, "spiking", engine="numpy", **options)
