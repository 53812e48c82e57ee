"""The rate substrate: first order in its step, and blind to how trials are batched."""

import numpy as np
import pytest
import xarray as xr
from programs import random_program
from tolerances import TOLERANCES, assert_close, relative_error

from fwbio import FwbioError, models, record, reference
from fwbio.models.substrate import SUBSTRATES


def passive_program(rule, rng, **sizes):
    return random_program(rule, rng, nonnegative=True, passive=True, **sizes)


@pytest.mark.parametrize("rule", ["hebb", "gated_delta", "gla"])
def test_the_error_falls_in_proportion_to_the_step(rule, rng):
    program = passive_program(rule, rng, steps=3)
    expected = reference.execute(program)
    steps = np.array([1e-3, 0.5e-3, 0.25e-3])
    for name in ("weights", "readout"):
        errors = [
            relative_error(models.execute(program, "rate", dt=dt)[name], expected[name])
            for dt in steps
        ]
        order = np.polyfit(np.log(steps), np.log(errors), 1)[0]
        assert abs(order - 1) <= TOLERANCES["order"].value, (name, errors)


def test_every_kept_step_is_the_reference_s(rng):
    program = passive_program("kda", rng, steps=4, initial_weights=True)
    expected = reference.execute(program, weights="all")
    done = models.execute(program, "rate", weights="all")
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
        ({"seed": -1}, "-1 is not a seed"),
        ({"seed": 1.5}, "1.5 is not a seed"),
    ],
)
def test_bad_options_are_told_in_one_line(options, words, rng):
    with pytest.raises(FwbioError, match=words) as caught:
        models.execute(passive_program("delta", rng, steps=1), "rate", **options)
    assert "\n" not in str(caught.value)


def test_an_unknown_substrate_is_told(rng):
    with pytest.raises(FwbioError, match="no substrate called 'spikes'; did you mean 'spiking'"):
        models.execute(passive_program("delta", rng), "spikes")
