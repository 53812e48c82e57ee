"""Recall: what the numbers are where they are known."""

import numpy as np
import pytest
import xarray as xr
from tolerances import assert_close, assert_expected

from fwbio import FwbioError, program, reference
from fwbio.analyses import chance_level, recall_accuracy, recall_by_lag, recall_cosine
from fwbio.analyses.recall import (
    cosine,
    estimate,
    guesses,
    hits,
    nearest_stored,
    projection,
    recall_hits,
)
from fwbio.models.programmer import designed
from fwbio.tasks import TASKS

VALUES = np.eye(4)[None] + 0.1
STORED = np.ones((1, 4), dtype=bool)


@pytest.fixture(scope="module")
def record():
    episode = TASKS["random_pairs"](seed=3, trials=6, pairs=5, keys="orthonormal", post=9)
    return reference.execute(designed(episode, "hebb", coding="plain"))


def test_readouts_that_are_their_targets_are_hits():
    assert hits(VALUES, VALUES, VALUES, STORED).all()


def test_readouts_that_are_other_values_are_misses():
    assert not hits(np.roll(VALUES, 1, axis=1), VALUES, VALUES, STORED).any()


@pytest.mark.parametrize("scale", [1e-9, 0.3, 1e9])
def test_hits_are_blind_to_scale(rng, scale):
    value = rng.standard_normal((2, 50, 4))
    stored = np.ones((2, 50), dtype=bool)
    readout = value + 0.5 * rng.standard_normal(value.shape)
    expected = hits(readout, value, value, stored)
    assert 0 < expected.sum() < expected.size
    assert np.array_equal(hits(scale * readout, value, value, stored), expected)


def test_a_zero_readout_and_a_tie_are_misses():
    tie = VALUES + np.roll(VALUES, 1, axis=1)
    assert not hits(np.zeros_like(VALUES), VALUES, VALUES, STORED).any()
    assert not hits(tie, VALUES, VALUES, STORED).any()
    assert not hits(np.zeros((1, 1, 4)), VALUES[:, :1], VALUES[:, :1], STORED[:, :1]).any()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("size", range(2, 40))
def test_a_tie_is_a_miss_whatever_the_numbers_are_rounded_to(dtype, size, rng):
    """A read-out of ones is as near to every one-hot value; what favours one of them is a hit."""
    value = np.eye(size, dtype=dtype)
    scale = rng.uniform(0.1, 10, (size, 1)).astype(dtype)
    everywhere = np.ones(size, dtype=bool)
    assert not hits(scale * np.ones_like(value), value, value, everywhere).any()
    more = 1 if dtype == np.float16 else 1e-3
    assert hits(np.ones_like(value) + dtype(more) * value, value, value, everywhere).all()


@pytest.mark.parametrize(("of_readout", "of_values"), [("f4", "f8"), ("f8", "f4"), ("f4", "f4")])
def test_ties_are_those_of_the_coarsest_numbers(of_readout, of_values, rng):
    """The read-out lies between two values, but for what rounding of either moved it."""
    value = rng.standard_normal((500, 2, 6))
    between = (value / np.linalg.norm(value, axis=-1, keepdims=True)).sum(-2, keepdims=True)
    readout = np.broadcast_to(between, value.shape).astype(of_readout)
    value = value.astype(of_values)
    stored = np.ones((500, 2), dtype=bool)
    assert not hits(readout, value, value, stored).any()
    assert hits(readout + 1e-3 * value, value, value, stored).all()


def test_equal_stored_values_are_one_candidate():
    twice = VALUES[:, [0, 0, 1, 2]]
    assert hits(twice, twice, twice, STORED).all()


def test_values_that_are_not_stored_are_no_candidates():
    readout = np.roll(VALUES, 1, axis=1)
    only = np.array([[True, False, False, False]])
    right = hits(readout, VALUES, VALUES, only)
    assert right[0].tolist() == [True, False, False, False]


def test_cosine_and_projection():
    a, b = np.array([[3.0, 0.0], [0.0, 0.0]]), np.array([[1.0, 1.0], [1.0, 2.0]])
    assert_close(cosine(a, b), [np.sqrt(0.5), 0], "float64")
    assert_close(projection(a, b), [1.5, 0], "float64")
    assert projection(b, a)[1] == 0


def test_orthonormal_keys_recall_everything(record):
    accuracy = recall_accuracy(record)
    assert (accuracy.value, accuracy.standard_error, accuracy.count) == (1, 0, 30)
    assert_close(recall_cosine(record).value, 1, "float64")
    assert_close(chance_level(record), 1 / 5, "float64")
    source = nearest_stored(record).where(record.scored, -1)
    assert np.array_equal(
        np.sort(source.values[record.scored.values].reshape(6, 5)), [range(5)] * 6
    )


def test_guessing_is_at_chance(rng):
    episode = TASKS["random_pairs"](seed=4, trials=200, pairs=10)
    record = reference.execute(designed(episode, "hebb"))
    record["readout"] = record.readout.copy(data=rng.standard_normal(record.readout.shape))
    assert_expected(recall_hits(record).where(record.scored).mean("step"), chance_level(record))


def test_guessing_is_likelier_where_stored_values_repeat(rng):
    """Signs of three features: eight values at most, of which twenty pairs hold many twice."""
    episode = TASKS["random_pairs"](seed=4, trials=300, pairs=20, values="sign", post=3)
    record = reference.execute(designed(episode, "hebb"))
    stored = record.stored.values
    guess = np.array([rng.choice(np.flatnonzero(s), stored.shape[-1]) for s in stored])
    answers = np.take_along_axis(record.value.values, guess[..., None], axis=1)
    record["readout"] = record.readout.copy(data=answers)
    chance = chance_level(record)
    assert chance > 2 / 20
    assert_expected(recall_hits(record).where(record.scored).mean("step"), chance)
    assert_close(chance_level(record.chunk(trial=70)), chance, "float64")


def test_the_share_of_stored_values_that_are_the_target():
    value = VALUES[:, [0, 0, 1, 2]]
    assert guesses(VALUES, value, STORED).tolist() == [[0.5, 0.25, 0.25, 0]]
    only = np.array([[True, False, False, True]])
    assert guesses(VALUES, value, only).tolist() == [[0.5, 0, 0.5, 0]]
    assert guesses(VALUES, value, ~STORED).tolist() == [[0, 0, 0, 0]]


def test_recall_by_a_memory_that_diverged_is_not_a_number(record):
    """One trial of six: what its read-outs are worth is not known, nor is the mean over all."""
    diverged = record.assign(readout=record.readout.where(record.trial != 3))
    for run in (diverged, diverged.chunk(trial=2)):
        found = recall_cosine(run)
        assert np.isnan(found.value)
        assert np.isnan(found.standard_error)
        assert found.count == 30
    others = diverged.isel(trial=[0, 1, 2, 4, 5])
    assert recall_cosine(others).value == recall_cosine(record.isel(trial=slice(5))).value
    counted = record.scored & (record.trial != 3)
    assert np.isfinite(estimate(diverged.readout.sum("post", skipna=False), counted).value)


def test_standard_error_is_that_of_trial_means(record, rng):
    noisy = record.assign(readout=record.readout + 0.5 * rng.standard_normal(record.readout.shape))
    per_trial = recall_hits(noisy).where(noisy.scored).mean("step").values
    accuracy = recall_accuracy(noisy)
    assert_close(accuracy.value, per_trial.mean(), "float64")
    assert_close(accuracy.standard_error, per_trial.std(ddof=1) / np.sqrt(6), "float64")
    assert np.isnan(recall_accuracy(noisy.isel(trial=[0])).standard_error)
    assert np.isnan(recall_accuracy(noisy.isel(trial=0)).standard_error)


def test_the_last_substep_is_the_value():
    episode = TASKS["random_pairs"](seed=3, trials=2, pairs=3, keys="orthonormal")
    record = reference.execute(designed(episode, "delta_product", coding="plain"))
    assert record.sizes["substep"] == 2
    first = xr.DataArray([True, False], dims="substep")
    assert recall_accuracy(record).value == 1
    assert recall_accuracy(record.assign(value=record.value.where(~first, -9))).value == 1


def test_retnet_forgets_by_gamma_to_the_lag():
    """Orthonormal keys, each asked for m steps later: the signal left is gamma^m, nothing else."""
    steps, pre = 12, 16
    rng = np.random.default_rng(0)
    key = np.linalg.qr(rng.standard_normal((pre, pre)))[0][:steps]
    lag = np.array([min(t, t % 5) for t in range(steps)])
    asked = np.arange(steps) - lag
    value = rng.standard_normal((steps, 7))
    gamma = 0.8
    made = program.make(
        "retnet",
        key,
        value,
        key[asked],
        log_decay=np.log(gamma),
        target=value[asked],
        scored=True,
        stored=True,
        lag=lag,
    )
    curve = recall_by_lag(reference.execute(made))
    assert curve.lag.values.tolist() == [0, 1, 2, 3, 4]
    assert_close(curve.signal.values, gamma**curve.lag.values, "float64")
    assert_close(curve.cosine.values, np.ones(5), "float64")
    assert curve["count"].values.tolist() == [3, 3, 2, 2, 2]


def test_lags_are_pooled(record):
    single, pooled = recall_by_lag(record), recall_by_lag(record, width=2)
    assert single.lag.values.tolist() == [0, 1, 2, 3, 4]
    assert pooled.lag.values.tolist() == [0.5, 2.5, 4.5]
    assert pooled["count"].sum() == single["count"].sum() == 30


@pytest.mark.parametrize("missing", ["target", "scored", "stored"])
def test_a_record_without_cues_is_told(record, missing):
    with pytest.raises(FwbioError, match=f"^record: there is no '{missing}'; give {missing}"):
        recall_accuracy(record.drop_vars(missing))
    with pytest.raises(FwbioError, match=f"^record: there is no '{missing}'; give {missing}"):
        chance_level(record.drop_vars(missing))


def test_nothing_scored_and_nothing_pooled_are_told(record):
    with pytest.raises(FwbioError, match="no read-out is scored"):
        recall_accuracy(record.assign(scored=record.scored & False))
    with pytest.raises(FwbioError, match="can't pool 0 lags"):
        recall_by_lag(record, width=0)
