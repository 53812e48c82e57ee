"""Capacity: what is measured of records and along sweeps, against the closed forms."""

import numpy as np
import pytest
import xarray as xr
from capacities import FAMILY, assert_means
from scipy import stats
from tolerances import assert_close

from fwbio import FwbioError, models, reference, tasks
from fwbio.analyses.capacity import capacity
from fwbio.analyses.capacity_laws import as_shown, deviations, places, theory
from fwbio.analyses.capacity_measures import (
    bit_error,
    noise_power,
    noise_share,
    residual,
    signal,
    wrong_signs,
)
from fwbio.analyses.capacity_theory import crosstalk_power


def test_noise_and_signs_where_they_are_known(rng):
    target = np.array([1.0, 1.0, -1.0, -1.0])
    across = np.array([1.0, -1.0, 1.0, -1.0])
    assert noise_share(0.5 * target + 0.3 * across, target) == pytest.approx(0.09 * 4 / 3)
    assert wrong_signs(np.array([2.0, -1.0, 0.0, -3.0]), target) == 0.375
    assert wrong_signs(target, np.array([1.0, 0.0, 0.0, 1.0])) == 0.5
    noise = 0.7 * rng.standard_normal((20000, 4)) / 2
    assert_means(noise_share(target / 2 + noise, target / 2), 0.49)


@pytest.fixture(scope="module")
def record():
    episode = tasks.TASKS["random_pairs"](seed=4, trials=5, pairs=6, pre=16, post=8, values="sign")
    return reference.execute(models.designed(episode, "hebb"))


@pytest.mark.parametrize("measure", [signal, noise_power, residual, bit_error])
def test_measures_are_the_same_lazily(record, measure):
    whole, lazy = measure(record), measure(record.chunk({"trial": 2}))
    assert_close([lazy.value, lazy.standard_error], [whole.value, whole.standard_error], "float64")
    assert whole.count == 30


def test_measures_of_exact_recall():
    episode = tasks.TASKS["random_pairs"](
        seed=4, trials=2, pairs=6, pre=16, keys="orthonormal", values="sign"
    )
    exact = reference.execute(models.designed(episode, "hebb", coding="plain"))
    assert signal(exact).value == pytest.approx(1)
    assert noise_power(exact).value == pytest.approx(0, abs=1e-12)
    assert residual(exact).value == pytest.approx(0, abs=1e-12)
    assert bit_error(exact).value == 0


@pytest.mark.parametrize(
    ("gone", "measure"), [("target", signal), ("scored", bit_error), ("scored", residual)]
)
def test_a_record_without_targets_is_told(record, gone, measure):
    with pytest.raises(FwbioError, match=gone):
        measure(record.drop_vars(gone))


SWEEPS = {
    "pairs": ((4, 24), ("hebb", "retnet", "delta", "mesa")),
    "noise": ((0.8,), ("hebb", "delta", "longhorn")),
    "similarity": ((0.4,), ("hebb",)),
    "active": ((0.3,), ("hebb",)),
}


def test_every_measured_point_is_near_its_closed_form(seed):
    """Over all sweeps, rules, codes and measures at once: Student's t, Bonferroni."""
    trials, off = 40, []
    for axis, (values, rules) in SWEEPS.items():
        measured = capacity(
            axis=axis,
            values=values,
            rules=rules,
            programmers=("direct", "designed"),
            trials=trials,
            seed=seed,
            sizes={"values": "sign"},
            progress=False,
        )
        off.append(deviations(measured).to_dataarray().values.ravel())
    z = np.concatenate(off)
    z = z[~np.isnan(z)]
    assert z.size > 70
    assert np.abs(z).max() < stats.t.isf(FAMILY / 2 / z.size, trials - 1)


def test_what_is_wrong_alike_in_all_trials_is_infinitely_far_off():
    measured = capacity(
        values=(4,), rules=("hebb",), programmers=("direct",), trials=2, progress=False
    )
    must = theory(measured).signal
    for off, z in ((0.1, np.inf), (-0.1, -np.inf), (0.0, 0.0)):
        told = measured.assign(signal=measured.signal * 0 + must + off)
        told = told.assign(signal_se=measured.signal_se * 0)
        assert deviations(told).signal.item() == z


def test_theory_knows_its_limits():
    measured = capacity(
        values=(4, 8),
        rules=("delta", "oja", "hebb"),
        programmers=("direct", "designed"),
        trials=2,
        progress=False,
    )
    must, rough = theory(measured), theory(measured, approximate=True)
    assert must.noise_power.sel(programmer="direct", rule="delta").notnull().all()
    assert must.recall_accuracy.sel(programmer="direct", rule="delta").isnull().all()
    assert rough.recall_accuracy.sel(programmer="direct", rule="delta").notnull().all()
    for missing in ({"rule": "oja"}, {"programmer": "designed", "rule": "delta"}):
        assert rough.noise_power.sel(missing).isnull().all()
    fine = theory(measured, at=[4, 6, 8]).noise_power.sel(programmer="direct", rule="hebb")
    assert_close(fine.values, crosstalk_power(np.array([4, 6, 8]), 64), "float64")


@pytest.mark.parametrize(
    ("axis", "values", "drawn"),
    [
        ("active", (0.05, 0.25), np.arange(1, 6) / 20),
        ("active", (0.01, 0.14), np.arange(1, 4) / 20),
        ("pairs", (2, 5), [2, 3, 4, 5]),
    ],
)
def test_lines_stand_only_where_there_are_episodes(axis, values, drawn):
    settings = {"rules": ("hebb",), "trials": 2, "sizes": {"pre": 20}, "progress": False}
    measured = capacity(axis=axis, values=values, **settings)
    assert_close(places(measured), drawn, "float64")
    shown = as_shown(measured)
    assert np.isin(shown[axis].values, drawn).all()
    assert_close(theory(shown).noise_power.values, theory(measured).noise_power.values, "float64")


def test_lines_over_many_pairs_are_of_whole_numbers():
    measured = capacity(values=(4, 40), rules=("hebb",), trials=2, progress=False)
    found = np.array(places(measured))
    assert {4, 5, 16, 40} <= set(found)
    assert (found == found.round()).all()
    assert len(found) < 40


def test_what_the_shell_has_no_words_for_is_repeated_in_python():
    swept = capacity(
        axis="noise",
        values=(0, 1),
        rules="hebb",
        substrates="kernel",
        programmers="direct",
        trials=3,
        pairs=4,
        options={"kernel": {"dtype": "float32"}},
        progress=False,
    )
    assert swept.attrs["config"]["options"] == {"kernel": {"dtype": "float32"}}
    lines = swept.attrs["command"].splitlines()
    scope: dict = {}
    exec(lines[0], scope)
    again = eval(lines[1], scope)
    xr.testing.assert_equal(swept, again)


def test_a_sweep_names_everything():
    swept = capacity(
        axis="noise",
        values=(0, 1),
        rules=("hebb", "mesa"),
        programmers=("direct", "designed"),
        substrates=("reference", "flow"),
        trials=4,
        trials_on={"flow": 2},
        pairs=4,
        sizes={"pre": 8, "post": 6},
        progress=False,
    )
    assert dict(swept.sizes) == {"programmer": 2, "substrate": 2, "rule": 2, "noise": 2}
    assert all({"units", "long_name"} <= swept[name].attrs.keys() for name in swept.variables)
    assert "bit_error" not in swept
    assert swept.trials.values.tolist() == [4, 2]
    refused = {(c["programmer"], c["substrate"], c["rule"]) for c in swept.attrs["ledger"]}
    not_run = swept.recall_accuracy.isnull().any("noise")
    assert refused == {
        (str(p), str(s), str(r))
        for p in swept.programmer.values
        for s in swept.substrate.values
        for r in swept.rule.values
        if not_run.sel(programmer=p, substrate=s, rule=r)
    }
    assert ("direct", "flow", "hebb") in refused
    same = swept.recall_cosine.sel(programmer="designed", rule="hebb", noise=0)
    assert np.isfinite(same).all()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"axis": "age"}, "axis"),
        ({"values": (8, 4)}, "increase"),
        ({"values": ()}, "no values are given"),
        ({"rules": ("hebbb",)}, "hebb"),
        ({"programmers": ("drawn",)}, "programmer"),
        ({"sizes": {"pairs": 3}}, "pairs"),
        ({"axis": "active", "values": (0.1,), "sizes": {"keys": "gaussian"}}, "keys"),
        ({"trials_on": {"flow": 0}}, "flow"),
        ({"values": (2.5,)}, "pairs"),
        ({"values": (-3,)}, "pairs"),
        ({"values": (np.nan,)}, "no places"),
        ({"code": {"tme_constant": 5}}, "did you mean 'time_constant'"),
        ({"code": {"strength": "strong"}}, "code strength: 'strong' is no number"),
        ({"code": {"coding": "of"}}, "coding"),
    ],
)
def test_a_sweep_that_makes_no_sense_is_refused(wrong, told):
    with pytest.raises(FwbioError, match=told):
        capacity(**{"values": (4,), "progress": False} | wrong)
