"""The rate substrate: first order in its step, and blind to how trials are batched."""

import numpy as np
import pytest
import xarray as xr
from programs import random_program
from tolerances import TOLERANCES, assert_close, assert_expected, relative_error

from fwbio import FwbioError, models, record, reference
from fwbio.models.substrate import SUBSTRATES


def passive_program(rule, rng, **sizes):
    return random_program(rule, rng, nonnegative=True, passive=True, **sizes)


@pytest.mark.parametrize("rule", ["hebb", "gated_delta", "gla"])
def test_the_error_falls_in_proportion_to_the_step(rule, rng):
    program = passive_program(rule, rng, steps=3)
    expected = reference.execute(program)
    steps = np.array([1e-3, 0.5e-3, 0.25e-3])
    runs = [models.execute(program, "rate", engine="numpy", dt=dt) for dt in steps]
    for name in ("weights", "readout"):
        errors = [relative_error(run[name], expected[name]) for run in runs]
        order = np.polyfit(np.log(steps), np.log(errors), 1)[0]
        assert abs(order - 1) <= TOLERANCES["order"].value, (name, errors)


def test_every_kept_step_is_the_reference_s(rng):
    program = passive_program("kda", rng, steps=4, initial_weights=True)
    expected = reference.execute(program, weights="all")
    done = models.execute(program, "rate", engine="numpy", weights="all")
    assert_close(done.weights, expected.weights, "rate")
    assert_close(done.readout, expected.readout, "rate")


def test_trials_do_not_touch_each_other(rng):
    program = passive_program("gated_delta", rng, trials=3, steps=4)
    together = models.execute(program, "rate", engine="numpy")
    alone = models.execute(program.isel(trial=[1]), "rate", engine="numpy")
    assert_close(together.weights[[1]], alone.weights, "float64")


def test_engines_agree(rng):
    program = passive_program("gated_delta", rng, steps=3)
    compiled, plain = (models.execute(program, "rate", engine=e) for e in ("cython", "numpy"))
    assert_close(compiled.weights, plain.weights, "float64")
    assert (compiled.attrs["backend"], plain.attrs["backend"]) == ("brian2-cython", "brian2-numpy")


def test_the_record_says_what_is_exact_and_what_is_not(rng, tmp_path):
    done = models.execute(passive_program("delta", rng), "rate", engine="numpy")
    assert record.validate(done) == []
    assert done.onset.attrs["units"] == "s"
    assert "turnover between presentations" in done.attrs["exact"]
    assert any("first order in dt" in words for words in done.attrs["approximate"])
    assert done.attrs["substrate_config"]["dt"] == 0.25e-3
    xr.testing.assert_identical(record.load(record.save(done, tmp_path / "rate.nc")), done)


def test_nothing_global_is_left_changed(rng):
    import brian2

    target, step = brian2.prefs.codegen.target, brian2.defaultclock.dt
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    models.execute(passive_program("hebb", rng, steps=1), "rate", engine="numpy", dt=1e-3)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    assert (brian2.prefs.codegen.target, brian2.defaultclock.dt) == (target, step)


def test_a_program_without_steps_leaves_the_weights(rng):
    program = passive_program("delta", rng, steps=0, initial_weights=True)
    for substrate in SUBSTRATES:
        done = models.execute(program, substrate)
        assert done.readout.size == 0
        assert done.weights.sizes["snapshot"] == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dtt": 1e-3}, "no option called 'dtt'; did you mean 'dt'"),
        ({"dt": 0.7e-3}, "not a whole number of steps of 0.0007 s"),
        ({"dt": -1e-3}, "dt = -0.001 .* give a positive"),
        ({"gap": 0.0}, "gap = 0.0 .* positive"),
        ({"erase_limit": 1.0}, "erase_limit = 1.0 .* give a number from 0 to 1"),
        ({"engine": "fortran"}, "no engine called 'fortran'"),
        ({"weights": "some"}, "'some' does not say which"),
        ({"dt": 0.05}, "dt = 0.05 s is too coarse for presentations of 0.3 s"),
        (
            {"dt": 0.06, "write": 6.0, "gap": 0.6, "read": 0.6},
            "dt = 0.06 s is too coarse for tau_nmda_decay = 0.1 s; give dt of at most 0.05 s",
        ),
        ({"bound": 0.0}, "bound = 0 leaves nothing; give a bound above 0"),
        ({"bound": -1.0}, "bound = -1.0 .* give a number from 0 up"),
        ({"ceiling": 1.5}, "ceiling = 1.5 .* give a number from 0 to 1"),
        ({"receptors": 20}, "receptors = 20 share a range, and bound = inf gives none"),
        ({"receptors": 2.5, "bound": 1.0}, "receptors = 2.5 .* give a whole number from 0"),
        ({"turnover_cv": -0.1}, "turnover_cv = -0.1 .* give a number from 0 to 10"),
        ({"noise_additive": np.nan}, "noise_additive = nan is out of range"),
        ({"seed": -1}, "-1 is not a seed"),
        ({"seed": 1.5}, "1.5 is not a seed"),
    ],
)
def test_bad_options_are_told_in_one_line(options, words, rng):
    with pytest.raises(FwbioError, match=words) as caught:
        models.execute(passive_program("delta", rng, steps=1), "rate", **options)
    assert "\n" not in str(caught.value)


GAP = 0.1  # s
QUICK = {"engine": "numpy", "dt": 2.5e-3, "gap": GAP}


def waiting_program(rng, decay, size=120, steps=1):
    """Weights of 1 that only turn over, by exp(-decay) a step."""
    program = random_program("mamba2", rng, trials=1, steps=steps, pre=size, post=size)
    for name in ("key", "query", "value"):
        program[name][:] = 0.0
    program["log_decay"][:] = -decay
    ones = np.ones((1, size, size))
    return program.assign(initial_weights=(("trial", "pre", "post"), ones))


def written(program):
    """The largest weight of a Hebbian program, were its writes independent."""
    key = program.key.values[0]
    value = program.value.values[0] * program.beta.values[0, :, None]
    return np.sqrt(np.einsum("tk,tv->kv", key**2, value**2).max())


@pytest.mark.parametrize("cv", [0.3, 1.0, 2.0])
def test_uneven_turnover_decays_in_the_mean_by_its_closed_form(cv, rng, seed):
    decay = 0.7
    program = waiting_program(rng, decay, steps=2)
    done = models.execute(program, "rate", turnover_cv=cv, seed=seed, weights="all", **QUICK)
    for steps, weights in enumerate(done.weights.values[0], 1):
        # a synapse keeps its rate, so that n gaps are one of n times the length
        assert_expected(weights, (1 + cv**2 * steps * decay) ** (-1 / cv**2))


def test_noisy_turnover_has_kesten_s_mean_and_variance(rng, seed):
    decay, m, a = 0.7, 1.5, 0.8
    noise = {"noise_multiplicative": m, "noise_additive": a, "seed": seed}
    done = models.execute(waiting_program(rng, decay), "rate", **noise, **QUICK)
    mean = np.exp(-decay)
    # d E w^2 / dt = (m^2 - 2 lambda) E w^2 + a^2
    c = m**2 * GAP - 2 * decay
    second = np.exp(c) + a**2 * GAP * np.expm1(c) / c
    assert_expected(done.weights, mean)
    assert_expected((done.weights.values - mean) ** 2, second - mean**2)


def test_whole_receptors_keep_the_mean_and_no_more_than_they_are(rng, seed):
    single = passive_program("hebb", rng, trials=1, steps=1, pre=8, post=6)
    program = single.isel(trial=np.zeros(400, int))
    bound, receptors = 1.25, 7
    graded = models.execute(single, "rate", **QUICK).weights.values[0, 0]
    done = models.execute(program, "rate", bound=bound, receptors=receptors, seed=seed, **QUICK)
    largest = bound * written(single)
    numbers = (done.weights.values[:, 0] + largest) * receptors / (2 * largest)
    assert_close(numbers, np.round(numbers), "float64")
    assert numbers.min() >= -1e-9
    assert numbers.max() <= receptors + 1e-9
    assert len(np.unique(np.round(numbers))) > 2
    assert_expected((done.weights.values[:, 0] - graded).mean(0), 0.0)
    assert_expected(done.weights.values[:, 0] - graded, 0.0)


@pytest.mark.parametrize("departure", [{}, {"noise_additive": 5.0}, {"receptors": 5}])
def test_no_weight_is_beyond_the_bound(departure, rng):
    program = passive_program("hebb", rng, trials=1, steps=6)
    bound = 0.4
    done = models.execute(program, "rate", weights="all", bound=bound, **departure, **QUICK)
    largest = bound * written(program)
    assert_close(np.abs(done.weights.values).max(), largest, "float64")
    free = models.execute(program, "rate", weights="all", **QUICK)
    assert np.abs(free.weights.values).max() > 1.5 * largest


def test_cells_saturate_at_the_ceiling(rng):
    """A first Hebbian weight is a product of the rates that there are."""
    program = passive_program("hebb", rng, trials=1, steps=1, pre=8, post=6)
    share = 0.6
    ideal = models.execute(program, "rate", **QUICK).weights.values[0, 0]
    done = models.execute(program, "rate", ceiling=share, **QUICK)
    key, value, query = (program[x].values[0, 0] for x in ("key", "value", "query"))
    top = share * max(key.max(), query.max())
    most = share * np.abs(value).max()
    fired, taught = np.minimum(key, top), np.clip(value, -most, most)
    expected = ideal * (fired / key)[:, None] * (taught / value)
    assert_close(done.weights.values[0, 0], expected, "float64")
    assert_close(done.readout.values[0, 0], np.minimum(query, top) @ expected, "float64")


def test_without_departures_nothing_is_random_or_changed(rng):
    program = passive_program("gated_delta", rng, steps=3)
    neutral = {
        "ceiling": 1.0,
        "bound": np.inf,
        "receptors": 0,
        "turnover_cv": 0.0,
        "noise_multiplicative": 0.0,
        "noise_additive": 0.0,
    }
    plain = models.execute(program, "rate", **QUICK)
    told = models.execute(program, "rate", seed=9, **neutral, **QUICK)
    np.testing.assert_array_equal(told.weights, plain.weights)
    np.testing.assert_array_equal(told.readout, plain.readout)
    assert told.attrs["approximate"] == plain.attrs["approximate"]


@pytest.mark.parametrize(
    "departure",
    [
        {"turnover_cv": 0.5},
        {"noise_multiplicative": 0.5},
        {"noise_additive": 0.5},
        {"bound": 2.0, "receptors": 9},
    ],
)
def test_what_is_random_follows_the_seed(departure, rng, tmp_path):
    program = passive_program("gated_delta", rng, steps=2)
    first, again, other = (
        models.execute(program, "rate", seed=seed, **departure, **QUICK) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.weights, again.weights)
    assert (first.weights.values != other.weights.values).any()
    config = record.load(record.save(first, tmp_path / "rate.nc")).attrs["substrate_config"]
    assert config.items() >= departure.items()
    plain = models.execute(program, "rate", **QUICK)
    assert len(first.attrs["approximate"]) > len(plain.attrs["approximate"])


def test_initial_weights_that_no_conductance_carries_are_told(rng):
    program = passive_program("hebb", rng, steps=1, initial_weights=True)
    with pytest.raises(FwbioError, match=r"a conductance below 0.* raise bound"):
        models.execute(program, "rate", bound=0.1, **QUICK)


def test_an_unknown_substrate_is_told(rng):
    with pytest.raises(FwbioError, match="no substrate called 'spikes'; did you mean 'spiking'"):
        models.execute(passive_program("delta", rng), "spikes")
