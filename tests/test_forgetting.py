"""Forgetting: curves, the laws fitted to them, and what theory says is left."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from images import MPL
from programs import random_program
from tolerances import TOLERANCES, assert_close, assert_expected

from fwbio import RULES, FwbioError, models, program, reference, tasks
from fwbio.analyses import forgetting_plots, recall_by_lag
from fwbio.analyses.forgetting import elapsed, forgetting_curve, source_steps
from fwbio.analyses.forgetting_fits import compare_laws, fit, pooled
from fwbio.analyses.forgetting_laws import LAWS
from fwbio.analyses.forgetting_theory import (
    expected_signal,
    kept_by_correction,
    kept_by_decay,
    kept_by_turnover,
    key_spectrum,
)
from fwbio.analyses.recall import projection

WRITING = [n for n, r in RULES.items() if r.terms.plasticity in {"product", "release"}]
OTHERS = [n for n in RULES if n not in WRITING]
X = np.arange(12.0)


def episode(**sizes):
    return tasks.TASKS["random_pairs"](**{"seed": 5, "trials": 12, "pairs": 6, "pre": 8} | sizes)


def curve_of(y, error=0.0, *, trials=None, axis="lag", step=1.0):
    """A curve of given points, and of trials (trial, point) where they are given."""
    found = {"signal": (axis, y), "signal_se": (axis, np.broadcast_to(error, y.shape))}
    if trials is not None:
        without = (trials.sum(0) - trials) / (len(trials) - 1)
        found["signal_without"] = (("left_out", axis), without)
    return xr.Dataset(found, coords={axis: step * X}, attrs={"step_length": step})


def one_hot(rule, *, pairs=8, **streams):
    """One-hot keys, each asked for once: every lag, and no interference."""
    key = np.concatenate([np.eye(pairs), np.zeros((pairs, pairs))])
    order = np.arange(pairs)[::-1]
    query = np.concatenate([np.zeros((pairs, pairs)), np.eye(pairs)[order]])
    value = np.concatenate([np.eye(pairs), np.zeros((pairs, pairs))])
    asks = np.arange(2 * pairs) >= pairs
    target = np.concatenate([np.zeros((pairs, pairs)), np.eye(pairs)[order]])
    lag = np.concatenate([np.full(pairs, -1), pairs - 1 - order])
    made = {"target": target, "scored": asks, "stored": ~asks, "lag": lag} | streams
    return program.make(rule, key, value, query, **made)


@pytest.mark.parametrize("task", ["random_pairs", "rebinding"])
def test_sources_are_the_steps_that_the_task_asked_for(task):
    shown = tasks.TASKS[task](seed=3, trials=5, pairs=6, gap=2)
    made = models.designed(shown, "delta_product")
    assert np.array_equal(source_steps(made), shown.source)
    passed = elapsed(made, "steps")
    asked = shown.scored.values
    assert np.array_equal(passed.values[asked], (shown.step.values - shown.source.values)[asked])
    assert np.isnan(passed.values[~asked]).all()


def test_a_curve_by_lag_is_that_of_recall_by_lag():
    record = reference.execute(models.designed(episode(noise=0.5), "delta"))
    curve, known = forgetting_curve(record), recall_by_lag(record)
    assert np.array_equal(curve.lag, known.lag)
    assert np.array_equal(curve["count"], known["count"])
    for name in ("accuracy", "cosine", "signal"):
        assert_close(curve[name], known[name], "float64")
        assert_close(curve[f"{name}_se"], known[f"{name}_se"], "float64")
        one = forgetting_curve(record.isel(trial=slice(1, None)))
        assert_close(curve[f"{name}_without"][0], one[name], "float64")
    assert all({"units", "long_name"} <= curve[name].attrs.keys() for name in curve.variables)


def test_a_lazy_record_has_the_same_curve(tmp_path):
    record = reference.execute(models.designed(episode(noise=0.5), "delta"))
    lazy = forgetting_curve(record.chunk(trial=5), "steps")
    xr.testing.assert_allclose(lazy, forgetting_curve(record, "steps"))


def test_time_is_between_onsets_and_its_bins_hold_every_readout():
    made = one_hot("mamba2", log_decay=-0.1)
    record = models.execute(made, "flow")
    curve = forgetting_curve(record, "time")
    steps = elapsed(record, "steps").fillna(0).values.astype(int)
    asked = np.flatnonzero(steps > 0)
    onset = record.onset.values
    assert_close(curve.time, np.sort(onset[asked] - onset[asked - steps[asked]]), "float64")
    pooled = forgetting_curve(record, "time", bins=3)
    assert pooled["count"].sum() == len(asked)
    assert_close((pooled.signal * pooled["count"]).sum(), curve.signal.sum(), "float64")
    given = forgetting_curve(record, "time", edges=[0.0, 2.0, 9.0])
    assert given.time.values[0] < 2.0 < given.time.values[1]
    ideal = forgetting_curve(reference.execute(made), "time", step_s=0.4)
    assert_close(ideal.time, 0.4 * np.unique(steps[asked]), "float64")


@pytest.mark.parametrize("rule", WRITING)
def test_expected_signal_is_what_a_pair_alone_leaves(rule, rng):
    """Without the values of all other pairs (of `oja` the keys) only the pair's own is read."""
    steps, trials = 6, 2
    given = random_program(rule, rng, trials=trials, steps=steps)
    lag = rng.integers(0, np.arange(steps) + 1, (trials, steps))
    source = np.arange(steps) - lag
    shown = given.value.isel(substep=-1) if "substep" in given.value.dims else given.value
    target = np.take_along_axis(shown.values, source[..., None], 1)
    dims = ("trial", "step")
    given = given.assign(lag=(dims, lag), target=((*dims, "post"), target))
    expected = expected_signal(given).values
    silenced = "key" if RULES[rule].terms.transposed else "value"
    for step in range(steps):
        own = xr.DataArray(np.arange(steps) == source[:, step, None], dims=dims)
        stream = given[silenced]
        alone = given.assign({silenced: stream.where(own, 0.0).transpose(*stream.dims)})
        read = reference.execute(alone).readout.values[:, step]
        assert_close(expected[:, step], projection(read, target[:, step]), "float64")


@pytest.mark.parametrize("rule", OTHERS)
def test_rules_whose_steps_write_no_product_have_no_expected_signal(rule, rng):
    given = random_program(rule, rng, trials=1, steps=3)
    given = given.assign(lag=("step", [0, 1, 2]), target=given.value)
    with pytest.raises(FwbioError, match="no product of that step's key and value"):
        expected_signal(given)


def test_the_measured_signal_is_the_expected_one_on_average_over_values(rng):
    """One set of keys, many sets of values: means within standard errors, lag by lag."""
    made = models.designed(episode(trials=1, noise=0.3), "gated_delta").isel(trial=0)
    value = rng.standard_normal((400, *made.value.shape))
    source = np.maximum(source_steps(made).values, 0)
    many = made.assign(
        value=(("trial", *made.value.dims), value * (made.key != 0).any("pre").values[:, None]),
        target=(("trial", *made.target.dims), value[:, source]),
    )
    record = reference.execute(many)
    measured = projection(record.readout.values, record.target.values)[:, made.scored.values]
    expected = expected_signal(made).values[made.scored.values]
    error = measured.std(0, ddof=1) / np.sqrt(len(measured))
    assert (np.abs(measured.mean(0) - expected) < TOLERANCES["several means"].value * error).all()


KEYS = {
    "isotropic": ({"keys": "gaussian", "pre": 8}, "plain", {}),
    "on_off": ({"keys": "gaussian", "pre": 4}, "on_off", {}),
    "sparse": ({"keys": "sparse", "pre": 8, "active": 0.25}, "rates", {"ones": 2}),
}


@pytest.mark.parametrize("keys", KEYS)
@pytest.mark.parametrize("strength", [1.0, 0.6])
def test_the_delta_rule_forgets_by_the_spectrum_of_its_keys(keys, strength, seed):
    sizes, coding, more = KEYS[keys]
    shown = episode(trials=1500, seed=seed, **sizes)
    made = models.designed(shown, "delta", coding=coding, strength=strength)
    curve = forgetting_curve(reference.execute(made), beside={"expected": expected_signal(made)})
    size = made.sizes["pre"]
    spectrum = key_spectrum(keys, size, **more)
    assert_close(spectrum.sum(), 1.0, "float64")
    assert len(spectrum) == size
    closed = kept_by_correction(curve.lag.values, spectrum, strength)
    for name in ("signal", "expected"):
        off = np.abs(curve[name] - closed) - 1e-9
        assert (off < TOLERANCES["several means"].value * curve[f"{name}_se"]).all(), name
    if keys == "isotropic":
        assert_close(closed, strength * (1 - strength / size) ** curve.lag.values, "float64")


@pytest.mark.parametrize("substrate", ["flow", "rate"])
def test_synapses_forget_as_the_theory_of_their_program_says(substrate, seed):
    shown = episode(trials=60, seed=seed, pre=16, post=12, keys="sparse", active=0.25)
    made = models.designed(shown, "gated_delta", time_constant=12.0)
    options = {"engine": "numpy", "dt": 1e-3} if substrate == "rate" else {}
    record = models.execute(made, substrate, **options)
    curve = forgetting_curve(record, beside={"expected": expected_signal(record)})
    apart = np.hypot(curve.signal_se, curve.expected_se) * TOLERANCES["several means"].value
    assert (np.abs(curve.signal - curve.expected) < apart + 1e-3).all()


@pytest.mark.parametrize("rule", ["retnet", "mamba2"])
def test_decay_alone_is_gamma_to_the_steps_and_its_half_life_is_known(rule):
    log_decay = -0.12
    record = reference.execute(one_hot(rule, log_decay=log_decay))
    curve = forgetting_curve(record, "steps")
    assert_close(curve.signal, kept_by_decay(curve.steps.values, log_decay), "float64")
    law = fit(curve)
    assert_close(law.half_life.value, np.log(2) / -log_decay, "fitted law")
    assert_close(law.shape.value, 1 / -log_decay, "fitted law")
    assert_close(law.predict(law.half_life.value), law.amplitude.value / 2, "float64")


def test_turnover_that_never_stops_is_exponential_in_seconds():
    """Whatever lasts how long: between two read-outs e^(-t / tau) is lost, to rounding."""
    log_decay, gap = -0.05, 0.1
    made = one_hot("mamba2", log_decay=log_decay)
    record = models.execute(made, "flow", turnover="always", gap=gap, write=0.2, read=0.07)
    curve = forgetting_curve(record, "time")
    tau = gap / -log_decay
    relative = curve.signal.values / curve.signal.values[0]
    assert_close(relative, kept_by_turnover(curve.time.values - curve.time.values[0], tau), "ode")
    law = fit(curve)
    assert_close(law.half_life.value, tau * np.log(2), "fitted law")
    assert law.half_life.units == "s"


def test_uneven_turnover_keeps_a_gamma_mean_share(seed):
    cv, log_decay, pairs = 1.0, -0.2, 8
    one = one_hot("mamba2", pairs=pairs, log_decay=log_decay)
    many = xr.concat([one] * 150, "trial", data_vars="all")
    many["log_decay"] = one.log_decay
    record = models.execute(
        many, "rate", seed=seed, engine="numpy", dt=2e-3, gap=0.1, write=0.1, turnover_cv=cv
    )
    curve = forgetting_curve(record, "steps")
    tau = 0.1 / -log_decay
    closed = kept_by_turnover(0.1 * curve.steps.values, tau, cv=cv)
    assert (np.abs(curve.signal - closed) < 4 * curve.signal_se + 2e-3).all()
    assert (closed > kept_by_turnover(0.1 * curve.steps.values, tau)).all()


SHAPES = {"exponential": 5.0, "power": 0.5}


def law_of(kind, x, shape, floor=0.0):
    by = {"exponential": np.exp(-x / shape), "power": (1 + x) ** -shape}
    return 0.9 * by[kind] + floor


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("floor", [0.0, 0.2])
def test_a_law_without_noise_is_found_whatever_the_unit_of_its_axis(kind, floor):
    y = law_of(kind, X, SHAPES[kind], floor)
    steps = fit(curve_of(y), kind, asymptote=bool(floor))
    seconds = fit(curve_of(y, axis="time", step=0.3), kind, asymptote=bool(floor))
    for law, unit in ((steps, 1.0), (seconds, 0.3)):
        assert_close(law.predict(unit * X), y, "fitted law")
        assert_close(law.amplitude.value, 0.9, "fitted law")
        factor = unit if kind == "exponential" else 1.0
        assert_close(law.shape.value, factor * SHAPES[kind], "fitted law")
        half = {"exponential": 5 * np.log(2), "power": 3.0}[kind]
        assert_close(law.half_life.value, unit * half, "fitted law")
        if floor:
            assert_close(law.floor.value, floor, "fitted law")


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("floor", [0.0, 0.2])
def test_profile_intervals_hold_the_truth_nineteen_times_in_twenty(kind, floor, rng):
    runs, error, truth = 100, 0.03, SHAPES[kind]
    half = {"exponential": 5 * np.log(2), "power": 3.0}[kind]
    held = np.zeros(3)
    for _ in range(runs):
        y = law_of(kind, X, truth, floor) + error * rng.standard_normal(X.size)
        law = fit(curve_of(y, error), kind, asymptote=bool(floor))
        for i, (interval, true) in enumerate(
            ((law.shape, truth), (law.amplitude, 0.9), (law.half_life, half))
        ):
            held[i] += interval.low <= true <= interval.high
    spread = np.sqrt(runs * 0.95 * 0.05)
    assert (np.abs(held - 0.95 * runs) < 4 * spread).all(), held / runs


@pytest.mark.parametrize("kind", SHAPES)
def test_jackknife_intervals_hold_where_points_of_a_trial_err_together(kind, rng):
    """Amplitudes that differ by trial: profiles, which take points for independent, are too short.

    A jackknife of 16 trials may hold the truth a little less often than 95 % says.
    """
    runs, trials, truth = 100, 16, SHAPES[kind]
    held = {"jackknife": np.zeros(2), "profile": np.zeros(2)}
    for _ in range(runs):
        amplitude = 1 + 0.3 * rng.standard_normal((trials, 1))
        each = amplitude * law_of(kind, X, truth) + 0.05 * rng.standard_normal((trials, X.size))
        error = each.std(0, ddof=1) / np.sqrt(trials)
        for intervals, count in held.items():
            law = fit(curve_of(each.mean(0), error, trials=each), kind, intervals=intervals)
            count += [
                law.shape.low <= truth <= law.shape.high,
                law.amplitude.low <= 0.9 <= law.amplitude.high,
            ]
    slack = 4 * np.sqrt(runs * 0.95 * 0.05)
    assert (np.abs(held["jackknife"] - 0.95 * runs) < slack + 0.03 * runs).all(), held
    if kind == "exponential":
        assert held["profile"][1] < 0.95 * runs - slack, held


@pytest.mark.parametrize(
    ("kind", "asymptote", "runs"),
    [("exponential", False, 60), ("power", False, 60), ("exponential", True, 20)],
)
def test_intervals_hold_where_hardly_anything_is_forgotten(kind, asymptote, runs, rng):
    """Shapes held at 0 spread by nothing, and a constant takes the place of slow forgetting.

    By fits so held one curve in seven would say that nothing is ever forgotten, for certain; with
    a constant, the jackknife alone would miss the truth in every second one.
    """
    truth = {"exponential": 400.0, "power": 0.02}[kind]
    half = {"exponential": 400 * np.log(2), "power": 2**50 - 1}[kind]
    trials, held = 12, np.zeros(3)
    for _ in range(runs):
        amplitude = 1 + 0.2 * rng.standard_normal((trials, 1))
        each = amplitude * law_of(kind, X, truth) + 0.1 * rng.standard_normal((trials, X.size))
        error = each.std(0, ddof=1) / np.sqrt(trials)
        law = fit(curve_of(each.mean(0), error, trials=each), kind, asymptote=asymptote)
        for i, (interval, true) in enumerate(
            ((law.shape, truth), (law.amplitude, 0.9), (law.half_life, half))
        ):
            assert interval.low <= interval.value <= interval.high
            held[i] += interval.low <= true <= interval.high
        assert law.half_life.low < np.inf
        assert law.shape.low < law.shape.high
    slack = 4 * np.sqrt(runs * 0.95 * 0.05) + 0.02 * runs
    assert (held > 0.95 * runs - slack).all(), held


def test_a_curve_that_grows_is_not_told_for_certain_to_last(rng):
    """The law can't grow: its rate is 0, but what trials leave open is open still."""
    each = 0.5 + 0.02 * X + 0.1 * rng.standard_normal((8, X.size))
    error = each.std(0, ddof=1) / np.sqrt(len(each))
    law = fit(curve_of(each.mean(0), error, trials=each))
    assert law.intervals == "jackknife"
    assert np.isinf(law.half_life.value)
    assert np.isinf(law.half_life.high)
    assert 0 < law.half_life.low < np.inf


def test_intervals_hold_where_standard_errors_are_noisy(rng):
    """Trials of skewed spread, as where few pairs collide: some points seem surer than they are.

    With the points' own errors as weights, intervals hold the truth in 79 runs of a hundred.
    """
    runs, trials, held = 100, 6, 0
    for _ in range(runs):
        spread = 1 + 0.3 * (1 - rng.exponential(size=(trials, X.size)))
        each = spread * law_of("exponential", X, 5.0)
        error = each.std(0, ddof=1) / np.sqrt(trials)
        shape = fit(curve_of(each.mean(0), error, trials=each)).shape
        held += shape.low <= 5.0 <= shape.high
    assert held > 0.95 * runs - 4 * np.sqrt(runs * 0.95 * 0.05) - 0.02 * runs, held


def test_one_point_that_seems_sure_does_not_decide(rng):
    """Of unpooled errors, a law would go through the point whose trials happen to be alike."""
    trials = 16
    each = law_of("exponential", X, 5.0) + 0.1 * rng.standard_normal((trials, X.size))
    each[:, 6] = each[:, 6].mean() + 1e-4 * (each[:, 6] - each[:, 6].mean())
    error = each.std(0, ddof=1) / np.sqrt(trials)
    weights = pooled(error)
    assert_close(
        weights[4:9] ** 2, [(error[i - 2 : i + 3] ** 2).mean() for i in range(4, 9)], "float64"
    )
    assert weights.max() < 3 * weights.min()
    alone = fit(curve_of(each.mean(0), error, trials=each))
    even = fit(curve_of(each.mean(0)))
    assert abs(alone.predict(X)[6] - even.predict(X)[6]) < 0.1


def test_a_curve_of_zeros_is_no_law():
    for law in (fit, compare_laws):
        with pytest.raises(FwbioError, match="nothing to forget"):
            law(curve_of(np.zeros(X.size)))


def test_jackknife_stands_where_there_are_trials():
    record = reference.execute(models.designed(episode(noise=0.5), "delta"))
    curve = forgetting_curve(record)
    assert fit(curve).intervals == "jackknife"
    assert fit(forgetting_curve(record.isel(trial=slice(3)))).intervals == "profile"
    wider, *others = (
        fit(curve, asymptote=True, intervals=name).shape for name in (None, "profile", "jackknife")
    )
    assert wider.low == min(other.low for other in others)
    assert wider.high == max(other.high for other in others)


@pytest.mark.parametrize("truth", SHAPES)
@pytest.mark.parametrize("known", [True, False])
def test_the_criterion_prefers_the_law_that_made_the_points(truth, known, rng):
    y = law_of(truth, X, SHAPES[truth]) + 0.005 * rng.standard_normal(X.size)
    table = compare_laws(curve_of(y, 0.005 if known else 0.0), asymptotes=[False])
    assert table.kind[0] == truth
    assert table.delta[1] > 10
    assert_close(table.weight.sum(), 1.0, "float64")


def test_nothing_forgotten_has_no_half_life():
    curve = forgetting_curve(reference.execute(one_hot("hebb")), "steps")
    for kind in LAWS:
        law = fit(curve, kind)
        assert np.isinf(law.half_life.value), kind
        assert_close(law.predict(X), np.ones(X.size), "fitted law")
    noisy = curve_of(1 + np.tile([0.1, -0.1], 6), 0.1)
    assert fit(noisy).half_life.high == np.inf
    assert fit(noisy).half_life.low > 11


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"kind": "linear"}, "no law called 'linear'"),
        ({"quantity": "sgnal"}, "did you mean 'signal'"),
        ({"intervals": "bootstrap"}, "no interval called 'bootstrap'"),
        ({"intervals": "jackknife"}, "no four trials to leave out"),
    ],
)
def test_what_can_t_be_fitted_is_told(given, words):
    with pytest.raises(FwbioError, match=words):
        fit(curve_of(np.exp(-X)), **given)
    with pytest.raises(FwbioError, match="1 points don't tell 2 parameters"):
        fit(curve_of(np.exp(-X)).isel(lag=[0]))
    with pytest.raises(FwbioError, match="can't tell laws apart"):
        compare_laws(curve_of(np.exp(-X)).isel(lag=[0, 1, 2]))


@pytest.mark.parametrize(
    ("against", "given", "words"),
    [
        ("lags", {}, "did you mean 'lag'"),
        ("time", {}, "record: it holds no times; give step_s"),
        ("time", {"step_s": -1}, "-1 s is no time"),
        ("lag", {"bins": 0}, "can't pool 0 bins"),
        ("lag", {"edges": [2, 1]}, "edges: they don't ascend"),
        ("lag", {"edges": [90, 99]}, "no read-out lies between 90 and 99"),
    ],
)
def test_axes_and_bins_that_make_no_sense_are_told(against, given, words):
    record = reference.execute(one_hot("hebb"))
    with pytest.raises(FwbioError, match=words):
        forgetting_curve(record, against, **given)


def test_records_and_keys_without_what_it_takes_are_told():
    record = reference.execute(one_hot("hebb"))
    with pytest.raises(FwbioError, match="there is no 'lag'"):
        forgetting_curve(record.drop_vars("lag"))
    with pytest.raises(FwbioError, match="no read-out is scored"):
        forgetting_curve(record.assign(scored=record.scored & False))
    with pytest.raises(FwbioError, match="there is no 'target'"):
        expected_signal(record.drop_vars("target"))
    for keys, size, words in (
        ("sparse", 8, "None ones among 8 channels"),
        ("on_off", 7, "7 channels are no pairs"),
        ("hexagonal", 8, "no 'hexagonal' keys"),
    ):
        with pytest.raises(FwbioError, match=words):
            key_spectrum(keys, size)
    with pytest.raises(FwbioError, match="tau = 0 is out of range"):
        kept_by_turnover(X, 0)


def drawn_curves(axis, step):
    noise = np.random.default_rng(0).standard_normal((2, X.size))
    decays = {"retnet": np.exp(-X / 4), "delta": (1 + X) ** -0.5}
    return {
        name: curve_of(y + 0.04 * noise[i], 0.04, axis=axis, step=step)
        for i, (name, y) in enumerate(decays.items())
    }


@pytest.mark.mpl_image_compare(**MPL)
def test_image_forgetting_plots_curves():
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.6, 2.6), layout="constrained")
    shown = drawn_curves("lag", 1.0)
    theory = {"retnet": xr.DataArray(np.exp(-X / 4), dims="lag", coords={"lag": X})}
    forgetting_plots.curves(shown, left, theory=theory).legend(fontsize=7)
    shown = drawn_curves("time", 0.4)
    kinds = {"retnet": "exponential", "delta": "power"}
    fits = {name: fit(shown[name], kind) for name, kind in kinds.items()}
    forgetting_plots.curves(shown, right, fits=fits, log=True).legend(fontsize=7)
    return figure


@pytest.mark.mpl_image_compare(**MPL)
def test_image_forgetting_plots_half_lives():
    figure, ax = plt.subplots(figsize=(4.5, 2), layout="constrained")
    fits = {name: fit(curve) for name, curve in drawn_curves("time", 0.4).items()}
    fits["hebb"] = fit(curve_of(1 + np.tile([0.1, -0.1], 6), 0.1, axis="time", step=0.4))
    forgetting_plots.half_lives(fits, ax)
    return figure


def test_figures_of_different_axes_are_refused():
    _, ax = plt.subplots()
    mixed = {"hebb": curve_of(np.exp(-X)), "delta": curve_of(np.exp(-X), axis="time")}
    with pytest.raises(FwbioError, match="2 axes, not one"):
        forgetting_plots.curves(mixed, ax)
    with pytest.raises(FwbioError, match="different units share no axis"):
        forgetting_plots.half_lives({n: fit(curve) for n, curve in mixed.items()}, ax)
    plt.close()


def test_assert_expected_of_theory_over_trials(seed):
    """Trial by trial too: what is measured beyond the expected signal has mean 0."""
    record = reference.execute(models.designed(episode(trials=400, seed=seed), "delta"))
    beyond = projection(record.readout.values, record.target.values) - expected_signal(record)
    assert_expected(beyond.where(record.scored).mean("step"), 0.0)
