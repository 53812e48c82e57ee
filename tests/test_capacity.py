"""Capacity: closed forms against simulations of their own, and measured points against them."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner
from images import MPL
from scipy import stats
from tolerances import TOLERANCES, assert_close

from fwbio import FwbioError, models, reference, tasks
from fwbio.analyses import capacity_plots
from fwbio.analyses.capacity import (
    MEASURES,
    bit_error,
    capacity,
    crossing,
    crossings,
    noise_power,
    noise_share,
    residual,
    signal,
    wrong_signs,
)
from fwbio.analyses.capacity_expectations import expected, recall, sign_error
from fwbio.analyses.capacity_laws import deviations, theory
from fwbio.analyses.capacity_overlaps import (
    correlated,
    correlated_on_off,
    isotropic,
    on_off,
    sparse,
)
from fwbio.analyses.capacity_theory import (
    crosstalk_power,
    decayed,
    decayed_power,
    delta_rule,
    least_squares,
    least_squares_residual,
    sign_bit_error,
    sign_bit_error_of_binary,
    sign_bit_error_of_few,
    sum_rule,
)
from fwbio.analyses.sweep_command import sweep_command

FAMILY = 1e-4  # how often a whole family of comparisons may fail by chance


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def halves(x):
    return unit(np.concatenate([np.maximum(x, 0), np.maximum(-x, 0)], -1))


def draw(rng, keys, trials, pre, noise=0.0, share=0.3):
    """A cue, its own key and two others (trial, pre), drawn without the package's tasks."""
    items = unit(rng.standard_normal((3, trials, pre)))
    if keys.startswith("correlated"):
        common = unit(rng.standard_normal((trials, pre)))
        items = unit(np.sqrt(share) * common + np.sqrt(1 - share) * items)
    if keys == "sparse":
        ones = np.arange(pre) < max(1, round(share * pre))
        items = unit(rng.permuted(np.broadcast_to(1.0 * ones, items.shape), axis=-1))
    cue = items[0] + noise * rng.standard_normal((trials, pre)) / np.sqrt(pre)
    code = halves if keys.endswith("on_off") else unit
    return code(cue), *code(items)


def assert_means(samples, must):
    """Means of samples, (sample, ..), within what chance leaves a family of them."""
    samples = np.asarray(samples, float)
    must = np.broadcast_to(must, samples.shape[1:]).ravel()
    samples = samples.reshape(len(samples), -1)
    error = samples.std(0, ddof=1) / np.sqrt(len(samples))
    bound = stats.norm.isf(FAMILY / 2 / must.size)
    gap = np.abs(samples.mean(0) - must)
    assert (gap <= bound * error + 1e-9).all(), (gap / error, samples.mean(0), must)


OVERLAPS = {
    "isotropic": isotropic(24, noise=0.8),
    "on_off": on_off(24, noise=0.8),
    "correlated": correlated(24, 0.3, noise=0.8),
    "correlated_on_off": correlated_on_off(64, 0.3),
    "sparse": sparse(24, 0.3),
}


@pytest.mark.parametrize("keys", OVERLAPS)
def test_overlaps_have_the_moments_of_simulated_ones(rng, keys):
    must = OVERLAPS[keys]
    noise = 0.0 if keys in {"correlated_on_off", "sparse"} else 0.8
    trials = 4000 if keys == "correlated_on_off" else 20000
    cue, own, one, other = draw(rng, keys, trials, must.pre, noise)
    c, d, e = ((key * cue).sum(-1) for key in (own, one, other))
    found = np.stack([c, c**2, d, d**2], -1)
    assert_means(found, [must.own_mean, must.own_square, must.other_mean, must.other_square])
    if keys == "correlated":
        assert_means(d * e, must.shared + must.other_mean**2)


def test_overlaps_of_one_direction_and_of_none():
    same, free = correlated(16, 1.0), correlated(16, 0.0)
    assert_close([same.other_mean, same.other_square], [1.0, 1.0], "float64")
    assert_close([free.other_square, free.shared], [1 / 16, 0.0], "float64")
    assert sparse(16, 1.0).other_square == 1.0
    assert on_off(10**6).other_mean == pytest.approx(1 / np.pi, rel=1e-5)


def simulated(rng, rule, pairs, pre, *, noise=0.0, strength=1.0, decay=1.0, wait=0, ridge=1.0):
    """Coefficients (trial, pair asked for, pair) by running the rule on one-hot values."""
    trials = 1000 if rule == "mesa" else 3000
    key = unit(rng.standard_normal((trials, pairs, pre)))
    cue = unit(key + noise * rng.standard_normal(key.shape) / np.sqrt(pre))
    weights, gram = np.zeros((trials, pre, pairs)), np.zeros((trials, pre, pre))
    for t in range(pairs):
        k, v = key[:, t], np.eye(pairs)[t]
        weights *= decay
        gram = decay * gram + strength * k[:, :, None] * k[:, None]
        error = v - (np.einsum("nkv,nk->nv", weights, k) if rule == "delta" else 0)
        weights += strength * k[:, :, None] * np.broadcast_to(error, (trials, pairs))[:, None]
    weights, gram = decay**wait * weights, decay**wait * gram
    if rule == "mesa":
        weights = np.linalg.solve(gram + ridge * np.eye(pre), weights)
    return cue @ weights


LAWS = {"sum": sum_rule, "delta": delta_rule, "mesa": least_squares}


@pytest.mark.parametrize("rule", ["sum", "delta"])
@pytest.mark.parametrize(("strength", "decay", "noise"), [(1.0, 1.0, 0.0), (0.7, 0.9, 0.6)])
def test_coefficients_have_the_moments_of_simulated_ones(rng, rule, strength, decay, noise):
    settings = {"strength": strength, "decay": decay, "wait": 2}
    found = simulated(rng, rule, 5, 6, noise=noise, **settings)
    must = LAWS[rule](isotropic(6, noise=noise), 5, **settings)
    own = np.diagonal(found, axis1=1, axis2=2)
    assert_means(own, must.own_mean)
    assert_means(own**2, must.own_square)
    assert_means(found**2 * (1 - np.eye(5)), must.other_square)


@pytest.mark.parametrize("pairs", [8, 32])
def test_the_mesa_layer_tends_to_its_large_limit(rng, pairs):
    settings = {"decay": 0.98, "wait": 1, "ridge": 0.5}
    found = simulated(rng, "mesa", pairs, 24, noise=0.4, **settings)
    must = least_squares(isotropic(24, noise=0.4), pairs, **settings)
    own = np.diagonal(found, axis1=1, axis2=2)
    noise = (found**2).sum(-1) - own**2
    largest = TOLERANCES["large sizes"].value
    assert np.abs(own.mean() / must.own_mean.mean() - 1) < largest
    assert np.abs(noise.mean() / must.noise.mean() - 1) < largest


@pytest.mark.parametrize("pairs", [24, 40])
def test_least_squares_leave_what_dimensions_leave(rng, pairs):
    key, value = rng.standard_normal((pairs, 10)), rng.standard_normal((pairs, 4000))
    left = value - key @ np.linalg.lstsq(key, value, rcond=None)[0]
    assert_means((left**2).mean(0), least_squares_residual(pairs, 10))
    g = least_squares(isotropic(100), 10 * pairs, ridge=1e-6)
    residue = (1 - 2 * g.own_mean + g.own_square + g.noise).mean()
    must = float(least_squares_residual(10 * pairs, 100))
    assert residue == pytest.approx(must, abs=TOLERANCES["large sizes"].value)
    assert least_squares_residual(5, 10) == 0


def test_a_large_ridge_only_sums():
    g, plain = least_squares(isotropic(50), 7, ridge=1e6), sum_rule(isotropic(50), 7)
    assert 1e6 * g.own_mean == pytest.approx(plain.own_mean, rel=1e-4)
    assert 1e12 * g.noise == pytest.approx(plain.noise, rel=1e-4)


def test_delta_recalls_the_last_pair_exactly_and_small_steps_only_sum():
    g = delta_rule(isotropic(12), 6)
    assert g.own_mean[-1] == 1
    assert g.noise[-1] == pytest.approx(0, abs=1e-15)
    assert_close(g.own_mean, (1 - 1 / 12) ** np.arange(6)[::-1], "float64")
    small, plain = (
        law(isotropic(12), 6, strength=1e-7, decay=0.9) for law in (delta_rule, sum_rule)
    )
    for name in ("own_mean", "own_square", "other_square"):
        assert getattr(small, name) == pytest.approx(getattr(plain, name), rel=1e-5)


def test_what_decays_sums_geometrically():
    gamma, age = 0.9, np.arange(3, 3 + 7)
    assert_close(decayed_power(gamma, 7, 3), (decayed(gamma, age) ** 2).sum(), "float64")
    assert decayed_power(1.0, 7, 3) == 7
    g = sum_rule(isotropic(20), 7, decay=gamma, wait=3)
    assert_close(g.own_mean, decayed(gamma, age)[::-1], "float64")
    assert_close(sum_rule(isotropic(20), 7).noise, np.full(7, crosstalk_power(7, 20)), "float64")


def test_wrong_signs_of_many_pairs_are_gaussian():
    few = sign_bit_error_of_few(400, 200)
    assert few == pytest.approx(sign_bit_error(1.0, crosstalk_power(400, 200)), rel=1e-2)
    assert sign_bit_error_of_few(2, 5) == 0
    assert sign_bit_error_of_few(10**5, 10) == pytest.approx(0.5, abs=1e-2)
    assert sign_error(sum_rule(isotropic(200), 400)) == pytest.approx(few, rel=1e-2)


@pytest.mark.parametrize("pairs", [3, 6])
def test_wrong_signs_of_few_pairs_are_those_of_simulated_ones(rng, pairs):
    crosstalk = unit(rng.standard_normal((pairs - 1, 40000, 4)))[..., 0].sum(0)
    assert_means(crosstalk < -1, sign_bit_error_of_few(pairs, 4))


def test_wrong_signs_of_binary_keys_are_those_of_all_of_them():
    keys = [np.array(k) for k in itertools.product([0, 1], repeat=5) if sum(k) == 2]
    own = keys[0]
    shared = [s * (key @ own) for key in keys for s in (1, -1)]
    sums = np.array([a + b + c for a, b, c in itertools.product(shared, repeat=3)])
    must = (sums < -2).mean() + (sums == -2).mean() / 2
    assert sign_bit_error_of_binary(4, 5, 2) == pytest.approx(must, rel=1e-9)


@pytest.mark.parametrize(
    ("keys", "pairs"), [("isotropic", 20), ("on_off", 8), ("correlated", 8), ("sparse", 12)]
)
def test_recall_of_sums_is_that_of_simulated_ones(rng, keys, pairs):
    pre, post, trials = 24, 12, 6000
    share = 0.5
    overlaps = {
        "isotropic": isotropic(pre),
        "on_off": on_off(pre),
        "correlated": correlated(pre, share),
        "sparse": sparse(pre, share),
    }[keys]
    value = unit(rng.standard_normal((trials, pairs, post)))
    if keys == "correlated":
        common = unit(rng.standard_normal((trials, 1, pre)))
        key = unit(rng.standard_normal((trials, pairs, pre)))
        key = unit(np.sqrt(share) * common + np.sqrt(1 - share) * key)
    else:
        key = draw(rng, keys, trials * pairs, pre, share=share)[1].reshape(trials, pairs, -1)
    readout = np.einsum("nik,nk,niv->nv", key, key[:, 0], value)
    score = (value @ readout[..., None])[..., 0]
    accuracy, cosine = recall(sum_rule(overlaps, pairs), post)
    slack = TOLERANCES["independent rivals"].value
    hit, length = score[:, 0] > score[:, 1:].max(-1), np.linalg.norm(readout, axis=-1)
    assert abs(hit.mean() - accuracy) < slack + 4 * hit.std() / np.sqrt(trials)
    assert abs((score[:, 0] / length).mean() - cosine) < slack


def test_recall_without_crosstalk_is_certain_and_between_equals_a_guess():
    alone = sum_rule(isotropic(16), 1)
    assert recall(alone, 8) == pytest.approx((1, 1))
    two = sum_rule(isotropic(100), 2)
    assert recall(two, 8)[0] == pytest.approx(1)
    assert recall(sum_rule(correlated(16, 1.0), 2), 8)[0] == pytest.approx(0.5)
    assert set(expected(two, 8)) == set(MEASURES)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: isotropic(1),
        lambda: on_off(9, noise=-1),
        lambda: sparse(9, 1.5),
        lambda: correlated(9, 2.0),
        lambda: delta_rule(on_off(9), 3),
        lambda: least_squares(isotropic(9), 3, ridge=0),
    ],
)
def test_what_has_no_closed_form_is_told(wrong):
    with pytest.raises(FwbioError):
        wrong()


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
    ],
)
def test_a_sweep_that_makes_no_sense_is_refused(wrong, told):
    with pytest.raises(FwbioError, match=told):
        capacity(**{"values": (4,), "progress": False} | wrong)


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


def test_capacities_of_all_runs():
    swept = small()
    found = crossings(swept, 0.5)
    assert found.capacity.dims == ("programmer", "substrate", "rule")
    assert found.capacity.attrs["units"] == "pairs"
    assert 8 < float(found.capacity.sel(substrate="reference", rule="hebb").item()) < 32
    with pytest.raises(FwbioError, match="speed"):
        crossings(swept, of="speed")


def small():
    """A sweep of fixed numbers."""
    dims = ("programmer", "substrate", "rule", "pairs")
    curves = np.array([[[1, 0.9, 0.3], [1, 1, 0.8]], [[0.98, 0.85, 0.25], [1, 0.97, 0.7]]])[None]
    noise = 1.02 - curves
    data = {"recall_accuracy": (curves, 0.02), "noise_power": (noise, 0.005)}
    return xr.Dataset(
        {
            **{name: (dims, values) for name, (values, _) in data.items()},
            **{f"{name}_se": (dims, np.full(curves.shape, se)) for name, (_, se) in data.items()},
            "chance_level": ("pairs", [0.25, 0.125, 0.03]),
            "trials": ("substrate", [64, 8]),
        },
        coords={
            "programmer": ["direct"],
            "substrate": ["reference", "spiking"],
            "rule": ["hebb", "delta"],
            "pairs": ("pairs", [4, 8, 32], {"units": "pairs"}),
        },
        attrs={"config": {"axis": "pairs"}},
    )


def lines(swept, *, rough=False):
    smooth = swept[["recall_accuracy", "noise_power"]].isel(substrate=0, drop=True)
    known = smooth if rough else smooth.where(smooth.rule == "hebb")
    return known.assign_attrs(approximate=rough)


@pytest.mark.mpl_image_compare(**MPL)
def test_image_capacity_plots_by_rule():
    return drawn(capacity_plots.by_rule, "recall_accuracy")


@pytest.mark.mpl_image_compare(**MPL)
def test_image_capacity_plots_by_rule__noise():
    return drawn(capacity_plots.by_rule, "noise_power")


def drawn(figure_function, measure):
    figure, ax = plt.subplots(figsize=(4, 3.2), layout="constrained")
    swept = small()
    shown = {"theory": lines(swept), "rough": lines(swept, rough=True)}
    figure_function(swept, ax, programmer="direct", measure=measure, **shown).legend()
    return figure


@pytest.mark.mpl_image_compare(**MPL)
def test_image_capacity_plots_by_substrate():
    figure, ax = plt.subplots(figsize=(4, 3.2), layout="constrained")
    swept = small()
    capacity_plots.by_substrate(
        swept, ax, programmer="direct", rule="hebb", theory=lines(swept)
    ).legend()
    return figure


@pytest.mark.parametrize("wrong", [{"programmer": "drawn"}, {"measure": "speed"}])
def test_a_figure_of_what_was_not_run_is_refused(wrong):
    _, ax = plt.subplots()
    with pytest.raises(FwbioError):
        capacity_plots.by_rule(small(), ax, **{"programmer": "direct"} | wrong)
    plt.close()


def test_the_command_writes_table_figure_and_dataset(tmp_path):
    words = "capacity --values 3,6 --rules hebb --trials 3 --size pre=8 --size values=sign --out"
    done = CliRunner().invoke(sweep_command, [*words.split(), str(tmp_path)])
    assert done.exit_code == 0, done.output
    names = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert names == {"capacity_pairs.nc", "capacity_pairs.csv", "capacity_pairs.png"}
    first, *rows = (tmp_path / "capacity_pairs.csv").read_text().splitlines()
    assert first == "measure,programmer,substrate,rule,pairs,value,se,theory,z"
    assert len(rows) == 2 * len(MEASURES)


def test_the_command_refuses_words_for_numbers(tmp_path):
    words = ["capacity", "--values", "few", "--out", str(tmp_path)]
    assert CliRunner().invoke(sweep_command, words).exit_code == 2


def test_a_sweeps_command_repeats_it(tmp_path):
    swept = capacity(
        axis="active",
        values=(0.25, 0.5),
        rules=("hebb",),
        trials=3,
        pairs=4,
        sizes={"pre": 8},
        code={"time_constant": 8},
        progress=False,
    )
    fwbio, sweep, *words = swept.attrs["command"].split()
    assert (fwbio, sweep) == ("fwbio", "sweep")
    words[words.index("DIR")] = str(tmp_path)
    done = CliRunner().invoke(sweep_command, words)
    assert done.exit_code == 0, done.output
    again = xr.open_dataset(tmp_path / "capacity_active.nc", engine="h5netcdf")
    assert_close(again.signal.values, swept.signal.values, "float64")
