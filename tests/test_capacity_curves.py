"""Where curves of capacity fall below a level, and how well that is known."""

import numpy as np
import pytest
from capacities import small
from tolerances import assert_close

from fwbio import FwbioError, models, reference, tasks
from fwbio.analyses.capacity import capacity
from fwbio.analyses.capacity_config import Sweep
from fwbio.analyses.capacity_curves import crossing, crossings, curve_of
from fwbio.analyses.capacity_measures import signal
from fwbio.analyses.recall import ratio


def test_a_curve_crosses_where_lines_do():
    x, error = np.array([1.0, 2.0, 4.0]), np.array([0.0, 0.1, 0.1])
    at, spread = crossing(x, np.array([1.0, 0.8, 0.4]), error, 0.5)
    assert at == pytest.approx(3.5)
    assert spread == pytest.approx(2 / 0.4 * np.hypot(0.25 * 0.1, 0.75 * 0.1))
    for never in ([1.0, 0.9, 0.8], [0.4, 0.3, 0.2]):
        assert np.isnan(crossing(x, np.array(never), error, 0.5)).all()


def test_the_spread_of_a_crossing_is_that_of_noisy_curves(rng):
    x, y, error = np.array([1.0, 2.0, 3.0]), np.array([1.0, 0.7, 0.3]), np.full(3, 0.005)
    found = [crossing(x, y + error * rng.standard_normal(3), error, 0.5) for _ in range(2000)]
    at, spread = np.array(found).T
    assert at.std() / spread.mean() == pytest.approx(1, abs=5 / np.sqrt(2 * 2000))


def test_a_curve_that_errs_as_a_whole_crosses_that_much_farther():
    """Both points up by e: the crossing moves by e over the slope, whatever lies between them."""
    x, y, e = np.array([1.0, 3.0]), np.array([0.8, 0.4]), 0.03
    slope = 0.4 / 2
    for level in (0.45, 0.5, 0.7):
        at, spread = crossing(x, y, np.full(2, e), level, np.array([e**2, np.nan]))
        higher, _ = crossing(x, y + e, np.full(2, e), level)
        assert spread == pytest.approx(e / slope)
        assert higher - at == pytest.approx(e / slope)
    _, opposite = crossing(x, y, np.full(2, e), 0.6, np.array([-(e**2), np.nan]))
    assert opposite == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("shared", [0.0, 0.9, -0.9])
def test_the_spread_of_a_crossing_counts_the_trials_that_points_share(rng, shared):
    x, y, trials, repeats = np.arange(3.0), np.array([1.0, 0.7, 0.3]), 40, 2000
    common, own = rng.standard_normal((2, repeats, 3, trials))
    common[:, 1] = common[:, 2]
    noise = np.sqrt(abs(shared)) * common + np.sqrt(1 - abs(shared)) * own
    noise[:, 1] *= np.sign(shared) or 1
    hits = 8 * (y[:, None] + 0.1 * noise)
    mean, error, covariance = curve_of(hits, np.full(hits.shape, 8.0))
    found = [crossing(x, *c[:2], 0.5, c[2]) for c in zip(mean, error, covariance, strict=True)]
    at, spread = np.array(found).T
    exact = 0.1 / np.sqrt(trials) / 0.4 * np.sqrt((1 + shared) / 2)  # half way between the points
    for spread_found in (at.std(), np.sqrt((spread**2).mean())):
        assert spread_found / exact == pytest.approx(1, abs=5 / np.sqrt(2 * repeats))


def test_a_curve_s_errors_are_those_of_means_over_trials(rng):
    x = rng.standard_normal((2, 3, 12))
    mean, error, covariance = curve_of(x, np.ones_like(x))
    assert_close(mean, x.mean(-1), "float64")
    for i in range(2):
        exact = np.cov(x[i]) / 12
        assert_close(error[i] ** 2, np.diag(exact), "float64")
        assert_close(covariance[i, :2], np.diag(exact, 1), "float64")
    assert np.isnan(covariance[:, -1]).all()
    total, count = rng.random((20, 1)) * 3, rng.integers(1, 5, (20, 1)).astype(float)
    assert_close(curve_of(total.T, count.T)[:2], ratio(total, count), "float64")


def test_trials_that_were_not_run_do_not_count(rng):
    x = rng.standard_normal((3, 5))
    padded = np.pad(x, ((0, 0), (0, 2)), constant_values=np.nan)
    short, whole = curve_of(padded, padded * 0 + 1), curve_of(x, np.ones_like(x))
    for one, other in zip(short, whole, strict=True):
        np.testing.assert_array_equal(one, other)
    mean, *errors = curve_of(x[:, :1], np.ones((3, 1)))
    assert_close(mean, x[:, 0], "float64")
    assert np.isnan(errors).all()
    assert np.isnan(curve_of(np.full((3, 2), np.nan), np.full((3, 2), np.nan))).all()
    assert (curve_of(x, np.ones_like(x), together=False)[2][:-1] == 0).all()


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_trial_that_ran_away_is_not_left_out(rng, wrong):
    x = rng.standard_normal((3, 5))
    x[1, 2] = wrong
    mean, error, covariance = curve_of(x, np.ones_like(x))
    assert np.isfinite(mean).tolist() == [True, False, True]
    assert np.isfinite(error).tolist() == [True, False, True]
    assert np.isnan(covariance).all()


def test_points_of_a_sweep_share_their_trials_but_for_numbers_of_pairs():
    settings = {"rules": ("hebb",), "trials": 6, "sizes": {"pre": 8, "post": 4}, "progress": False}
    swept = capacity(axis="noise", values=(0.5, 1.0), pairs=6, **settings)
    each = []
    for noise in (0.5, 1.0):
        episode = tasks.TASKS["random_pairs"](
            seed=0, trials=6, pairs=6, noise=noise, **settings["sizes"]
        )
        record = reference.execute(models.designed(episode, "hebb"))
        each.append([signal(record.isel(trial=[i])).value for i in range(6)])
    here = swept.squeeze(drop=True)
    assert_close(here.signal_cov.values[0], np.cov(each)[0, 1] / 6, "float64")
    assert_close(here.signal_se.values**2, np.diag(np.cov(each)) / 6, "float64")
    pairs = capacity(values=(4, 5), **settings).squeeze(drop=True)
    assert pairs.signal_cov.values[0] == 0
    episodes = [
        Sweep(
            task="random_pairs",
            axis="pairs",
            values=(4, 5),
            substrates=("reference",),
            programmers=("designed",),
            pairs=1,
            noise=0.0,
            rules=("hebb",),
            trials=2,
        ).episode(value)
        for value in (4, 5)
    ]
    one, other = (episode.item.values[:, :4] for episode in episodes)  # of what is written
    assert not np.isin(one, other).any()


def test_capacities_of_all_runs():
    swept = small()
    found = crossings(swept, 0.5)
    assert found.capacity.dims == ("programmer", "substrate", "rule")
    assert found.capacity.attrs["units"] == "pairs"
    assert 8 < float(found.capacity.sel(substrate="reference", rule="hebb").item()) < 32
    with pytest.raises(FwbioError, match="speed"):
        crossings(swept, of="speed")
