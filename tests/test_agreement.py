"""Agreement: what scaled, shifted, shortened and foreign runs give."""

import numpy as np
import pytest
from programs import random_program
from tolerances import assert_close

from fwbio import FwbioError, reference
from fwbio.analyses import readout_agreement, relative_error, weight_agreement
from fwbio.analyses.agreement import align, scored_readouts
from fwbio.models.programmer import designed
from fwbio.tasks import TASKS


@pytest.fixture(scope="module")
def episode():
    return TASKS["random_pairs"](seed=1, trials=4, pairs=6, noise=0.2)


@pytest.fixture(scope="module")
def record(episode):
    return reference.execute(designed(episode, "delta"))


def test_a_run_agrees_with_itself(record):
    assert_close(readout_agreement(record, record), 1, "float64")
    assert_close(weight_agreement(record, record), 1, "float64")
    assert relative_error(record, record) == relative_error(record, record, of="weights") == 0


@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_scale_is_error_but_not_disagreement(record, scale):
    scaled = record.assign(readout=scale * record.readout, weights=scale * record.weights)
    assert_close(readout_agreement(scaled, record), 1, "float64")
    assert_close(weight_agreement(scaled, record), 1, "float64")
    assert_close(relative_error(scaled, record), abs(scale - 1), "float64")
    assert_close(relative_error(scaled, record, of="weights"), abs(scale - 1), "float64")


def test_offset_is_error_but_not_disagreement(record):
    shifted = record.assign(readout=record.readout + 5)
    assert_close(readout_agreement(shifted, record), 1, "float64")
    assert relative_error(shifted, record) > 1


def test_a_negated_run_is_opposite(record):
    opposite = record.assign(readout=-record.readout, weights=-record.weights)
    assert_close(readout_agreement(opposite, record), -1, "float64")
    assert_close(weight_agreement(opposite, record), -1, "float64")
    assert_close(relative_error(opposite, record), 2, "float64")


def test_only_scored_readouts_count(record):
    other = record.assign(readout=record.readout.where(record.scored, 7.0))
    assert relative_error(other, record) == 0
    assert scored_readouts(other, record)[0].size == 4 * 6 * 32


def test_readout_agreement_is_pearson(record, rng):
    noisy = record.assign(readout=record.readout + rng.standard_normal(record.readout.shape))
    expected = np.corrcoef(*scored_readouts(noisy, record))[0, 1]
    assert_close(readout_agreement(noisy, record), expected, "float64")


def test_a_run_of_the_first_trials_is_aligned(episode, record):
    first = reference.execute(designed(episode, "delta").isel(trial=slice(2)))
    assert [r.sizes["trial"] for r in align(first, record)] == [2, 2]
    assert relative_error(first, record) == relative_error(record, first) == 0


def test_constant_readouts_have_no_correlation(record):
    constant = record.assign(readout=record.readout * 0 + 2)
    assert np.isnan(readout_agreement(constant, record))
    assert np.isnan(relative_error(record, record.assign(readout=record.readout * 0)))


@pytest.mark.parametrize("name", ["key", "value", "query", "beta"])
def test_runs_of_different_programs_are_told(record, name):
    with pytest.raises(FwbioError, match=f"the two records to compare: '{name}' differs; compare"):
        readout_agreement(record.assign({name: record[name] * 2}), record)


def test_runs_of_different_rules_and_shapes_are_told(episode, record):
    with pytest.raises(FwbioError, match="the rules 'hebb' and 'delta' differ"):
        weight_agreement(reference.execute(designed(episode, "hebb")), record)
    with pytest.raises(FwbioError, match="has the dim trial"):
        weight_agreement(record.isel(trial=0), record)
    with pytest.raises(FwbioError, match="only one of them has 'beta'"):
        weight_agreement(record.drop_vars("beta"), record)
    with pytest.raises(FwbioError, match="there is no error of 'spikes'"):
        relative_error(record, record, of="spikes")


@pytest.mark.parametrize("name", ["key", "beta", "initial_weights", "initial_normaliser"])
def test_runs_that_differ_in_anything_executed_are_refused(name, rng):
    program = random_program("linear_attention", rng, initial_weights=True)
    other = program.assign({name: program[name] + 0.5})
    with pytest.raises(FwbioError, match=f"'{name}' differs"):
        align(reference.execute(other), reference.execute(program))
