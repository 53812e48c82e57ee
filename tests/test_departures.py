"""What each departure of the spiking synapses from the ideal does to them, by its statistics."""

from functools import cache

import numpy as np
import pytest
from programs import random_program
from tolerances import TOLERANCES, assert_close, assert_expected

from fwbio import FwbioError, models, program, reference, tasks
from fwbio.analyses.agreement import readout_agreement
from fwbio.models.cells import SpikingModel
from fwbio.models.conductances import whole
from fwbio.models.spiking_network import on_key_spike

NUMPY = {"engine": "numpy"}
QUICK = {"dt": 1e-3, "write": 0.2, "pause": 0.05, "settle": 0.05, "read": 0.2, "gap": 0.05}
NEUTRAL = {
    "ceiling": 1.0,
    "receptors": 0,
    "release": 1.0,
    "turnover_cv": 0.0,
    "noise_multiplicative": 0.0,
    "noise_additive": 0.0,
}
TRIALS = 150


def one_write(rng):
    """One Hebbian write of one key, in many trials: what differs among them is noise."""
    single = random_program(
        "hebb", rng, trials=1, steps=1, pre=4, post=3, nonnegative=True, passive=True
    )
    return single, single.isel(trial=np.zeros(TRIALS, int))


def silent(steps, *, weight=1.0, decay=0.5, pre=32, post=32):
    """Equal weights that only turn over, by exp(-decay) a step."""
    return program.make(
        "mamba2",
        np.zeros((1, steps, pre)),
        np.zeros((1, steps, post)),
        np.zeros((1, steps, pre)),
        beta=np.zeros((1, steps)),
        log_decay=np.full((1, steps), -decay),
        initial_weights=np.full((1, pre, post), weight),
    )


def noise_of(weights):
    """The variance over trials, estimated by each of them: (trial,)."""
    weights = weights.reshape(len(weights), -1)
    deviation = weights - weights.mean(0)
    return (deviation**2).mean(1) * len(weights) / (len(weights) - 1)


def assert_ratio(one, other, expected):
    """Assert that the mean of one over that of other is as expected, by its standard error."""
    ratio = one.mean() / other.mean()
    spread = [x.std(ddof=1) / x.mean() / np.sqrt(x.size) for x in (one, other)]
    distance = abs(ratio / expected - 1) / np.hypot(*spread)
    assert distance <= TOLERANCES["standard errors"].value, (ratio, expected)


def test_neutral_departures_change_no_bit_and_are_not_in_the_code(rng):
    given = random_program("gated_delta", rng, steps=2, nonnegative=True, passive=True)
    options = NUMPY | QUICK
    plain, neutral = (models.execute(given, "spiking", **options, **o) for o in ({}, NEUTRAL))
    np.testing.assert_array_equal(plain.readout, neutral.readout)
    np.testing.assert_array_equal(plain.weights, neutral.weights)
    assert NEUTRAL.items() <= plain.attrs["substrate_config"].items()
    assert "rand()" not in on_key_spike(SpikingModel())
    assert "release" in on_key_spike(SpikingModel(release=0.5))
    assert "quantum" in on_key_spike(SpikingModel(receptors=9))


@pytest.mark.parametrize(
    ("departure", "words"),
    [
        ({"ceiling": 0.5}, "saturate at 0.5 of the largest rate"),
        ({"receptors": 7}, "whole receptors, 7 in the largest"),
        ({"release": 0.25}, "release with probability 0.25"),
        ({"turnover_cv": 0.5}, "coefficient of variation of 0.5"),
        ({"noise_multiplicative": 0.1}, "fluctuate in gaps"),
        ({"noise_additive": 0.1}, "fluctuate in gaps"),
    ],
)
def test_a_departure_is_on_record(departure, words, rng):
    given = random_program("gated_delta", rng, trials=1, steps=1, nonnegative=True, passive=True)
    done = models.execute(given, "spiking", **NUMPY, **QUICK, **departure)
    assert any(words in told for told in done.attrs["approximate"])
    assert departure.items() <= done.attrs["substrate_config"].items()


def test_departures_repeat_with_the_run_s_seed(rng):
    given = random_program("gated_delta", rng, trials=1, steps=2, nonnegative=True, passive=True)
    departures = {
        "ceiling": 0.5,
        "receptors": 7,
        "release": 0.25,
        "turnover_cv": 0.5,
        "noise_multiplicative": 0.1,
        "noise_additive": 0.1,
    }
    options = NUMPY | QUICK | departures
    done, again, other = (models.execute(given, "spiking", seed=i, **options) for i in (4, 4, 5))
    np.testing.assert_array_equal(done.weights, again.weights)
    np.testing.assert_array_equal(done.readout, again.readout)
    assert not np.array_equal(done.weights, other.weights)


@pytest.mark.parametrize("release", [1.0, 0.25])
def test_failing_release_keeps_the_mean_weight(release, rng):
    single, many = one_write(rng)
    done = models.execute(many, "spiking", release=release, baseline=5.0, **NUMPY, **QUICK)
    expected = reference.execute(single).weights.values[0, 0]
    for pre, post in np.ndindex(expected.shape):
        assert_expected(done.weights.values[:, 0, pre, post], expected[pre, post])


def test_failing_release_adds_noise_as_independent_synapses_do(rng):
    """Of a pair's two synapses each releases by chance: the variance is (1 + p) / (2 p) fold.

    A spike moves w_on - w_off by h (b_on + b_off) / p, whose square is 2 h^2 (1 + p) / p on
    average, and 4 h^2 where both always release.
    """
    _, many = one_write(rng)
    options = NUMPY | QUICK | {"baseline": 9.0, "cells_per_value": 100_000}
    sure, failing = (
        noise_of(models.execute(many, "spiking", seed=i, release=p, **options).weights.values)
        for i, p in enumerate((1.0, 0.2))
    )
    assert_ratio(failing, sure, (1 + 0.2) / (2 * 0.2))


def test_failing_release_keeps_the_mean_readout(rng):
    """Enough cells that the noise stays within the linear range of the f-I curve."""
    single = silent(1, decay=0.0, weight=0.2, pre=8, post=4)
    single["query"][:] = rng.uniform(0.1, 0.5, single["query"].shape)
    many = single.isel(trial=np.zeros(30, int))
    done = models.execute(many, "spiking", release=0.5, cells_per_key=32, **NUMPY, **QUICK)
    expected = reference.execute(single).readout.values[0, 0]
    assert_close(done.readout.mean("trial")[0], expected, "mean readout")


def test_conductances_are_whole_receptors_and_keep_their_mean(rng):
    single, many = one_write(rng)
    receptors, baseline = 20, 3.0
    options = NUMPY | QUICK | {"receptors": receptors, "baseline": baseline}
    done = models.execute(many, "spiking", cells_per_key=1, **options)
    key, value = single.key.values[0, 0], single.value.values[0, 0]
    largest = np.abs(np.outer(key, value) * single.beta.values[0, 0]).max()
    counted = done.weights.values / (2 * baseline * largest / receptors)
    assert_close(counted, np.round(counted), "float64")
    assert np.ptp(np.round(counted)) > 1
    expected = reference.execute(single).weights.values[0, 0]
    for pre, post in np.ndindex(expected.shape):
        assert_expected(done.weights.values[:, 0, pre, post], expected[pre, post])


def test_rounding_to_whole_receptors_leaves_what_is_whole(rng):
    quantum = 0.3
    x = quantum * rng.integers(0, 50, 1000)
    assert_close(whole(x, quantum, rng), x, "float64")
    assert_expected(whole(np.full(4000, 0.4), quantum, rng), 0.4)


@pytest.mark.parametrize("cv", [0.5, 1.5])
def test_uneven_turnover_decays_by_its_laplace_transform(cv):
    """The factors are the synapses' own: three gaps decay by one closed form, not by its cube."""
    decay, steps = 0.5, 3
    done = models.execute(silent(steps, decay=decay), "spiking", turnover_cv=cv, **NUMPY)
    assert_expected(done.weights.values, (1 + cv**2 * decay * steps) ** (-1 / cv**2))


@pytest.mark.parametrize(
    ("multiplicative", "additive", "decay"), [(0.5, 0.0, 0.3), (0.0, 0.3, 0.3), (0.7, 0.2, 0.0)]
)
def test_noisy_turnover_has_the_diffusion_s_mean_and_variance(multiplicative, additive, decay):
    """Kesten's: moments after three gaps solve d E x^2 = (sigma^2 - 2 lambda) E x^2 + tau^2."""
    steps, weight = 3, 0.8
    done = models.execute(
        silent(steps, decay=decay, weight=weight),
        "spiking",
        cells_per_key=1,
        baseline=20.0,
        noise_multiplicative=multiplicative,
        noise_additive=additive,
        **NUMPY,
    )
    t = steps * SpikingModel().gap
    z = 2 * decay * steps - multiplicative**2 * t
    grown = t if z == 0 else -np.expm1(-z) / z * t
    mean = weight * np.exp(-decay * steps)
    square = (weight / 2) ** 2 * np.exp(-z) + additive**2 * grown
    variance = 2 * (square - (mean / 2) ** 2)  # of w_on - w_off
    weights = done.weights.values.ravel()
    assert_expected(weights, mean)
    assert_expected((weights - mean) ** 2, variance)


@pytest.mark.parametrize("ceiling", [0.3, 0.6])
def test_a_ceiling_saturates_the_key_cells(ceiling, rng):
    given = random_program("hebb", rng, trials=1, steps=1, pre=20, nonnegative=True, passive=True)
    cells = 50
    done = models.execute(given, "spiking", ceiling=ceiling, cells_per_key=cells, **NUMPY)
    key = given.key.values[0, 0]
    share = np.minimum(key / max(key.max(), given["query"].values.max()), ceiling)
    model = SpikingModel()
    expected = model.peak_rate * share * model.write * cells
    fired = np.bincount(done.pre_spike_cell.values // cells, minlength=20)
    assert_expected((fired - expected) / np.sqrt(expected), 0.0)


@pytest.fixture(scope="module")
def agreement():
    """Agreement with the ideal as a function of options."""
    episode = tasks.TASKS["random_pairs"](
        seed=2, trials=4, pairs=4, pre=16, post=8, keys="sparse", values="sign", active=0.25
    )
    given = models.designed(episode, "gated_delta", time_constant=3.0)
    ideal = reference.execute(given)

    @cache
    def of(**options):
        done = models.execute(given, "spiking", seed=3, **(QUICK | options))
        return readout_agreement(done, ideal)

    return of


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("ceiling", (0.4, 0.15)),
        ("receptors", (8, 1)),
        ("release", (0.2, 0.03)),
        ("turnover_cv", (1.0, 4.0)),
        ("noise_multiplicative", (1.0, 3.0)),
        ("noise_additive", (1.0, 3.0)),
        ("cells_per_key", (2, 1)),
        ("peak_rate", (25.0, 6.0)),
        ("baseline", (0.3, 0.1)),
        ("theta_d", (0.8, 0.86)),
        ("write", (0.1, 0.06)),
    ],
)
def test_agreement_falls_as_a_departure_grows(name, values, agreement):
    # calcium that is gone before the next presentation, so that each is as late to open
    silence = {"gap": 0.5} if name == "theta_d" else {}
    found = [agreement(**silence), *(agreement(**silence, **{name: value}) for value in values)]
    assert (np.diff(found) < 0).all(), found


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ceiling": 0}, "ceiling = 0 leaves nothing; give a ceiling above 0"),
        ({"ceiling": 1.5}, "ceiling = 1.5 is out of range; give a number from 0 to 1"),
        ({"receptors": -1}, "receptors = -1 is out of range; give a whole number from 0 up"),
        ({"receptors": 2.5}, "receptors = 2.5 is out of range; give a whole number"),
        ({"release": 0.0}, "release = 0.0 is out of range; give a number from 0.01 to 1"),
        ({"turnover_cv": -0.1}, "turnover_cv = -0.1 is out of range"),
        ({"noise_multiplicative": np.nan}, "noise_multiplicative = nan is out of range"),
        ({"noise_additive": -1}, "noise_additive = -1 is out of range"),
    ],
)
def test_departures_that_make_no_sense_are_told_in_one_line(options, words, rng):
    given = random_program("hebb", rng, trials=1, steps=1, nonnegative=True, passive=True)
    with pytest.raises(FwbioError, match=words) as caught:
        models.execute(given, "spiking", **options)
    assert "\n" not in str(caught.value)
