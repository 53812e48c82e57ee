"""Plasticity between rate cells: fixed points, their stability, and closed forms on the way."""

import numpy as np
import pytest
from tolerances import TOLERANCES, assert_close, assert_expected, relative_error

from fwbio import FwbioError
from fwbio.models.plasticity_rates import BCM, Covariance, DendriticError, Oja, simulate
from fwbio.models.protocols_rates import bcm, covariance, dendritic_error, oja

STEP = {"duration": 0.1, "dt": 0.1}


def nearly_orthogonal(rng, count, overlap=0.1):
    """Patterns (pattern, input) of norm 1, linearly independent."""
    patterns = np.linalg.qr(rng.normal(size=(count, count)))[0]
    patterns = patterns + overlap * rng.normal(size=(count, count))
    return patterns / np.linalg.norm(patterns, axis=1, keepdims=True)


def bcm_jacobian(model, patterns, response):
    """The averaged flow of (w, theta) around a fixed point, for equally probable patterns."""
    count = len(patterns)
    theta = response.max()
    weights = model.eta / count * (patterns.T * (2 * response - theta)) @ patterns
    by_theta = -model.eta / count * patterns.T @ response
    of_theta = 2 / count * response @ patterns / model.tau_theta
    flow = np.full((count + 1, count + 1), -1 / model.tau_theta)
    flow[:-1, :-1], flow[:-1, -1], flow[-1, :-1] = weights, by_theta, of_theta
    return flow


@pytest.mark.parametrize("selected", [1, 2, 3, 5])
def test_only_selective_fixed_points_of_bcm_are_stable(selected, rng):
    """Intrator & Cooper 1992; the averaged flow and its linearisation."""
    count, model = 5, BCM()
    patterns = nearly_orthogonal(rng, count)
    response = np.zeros(count)
    response[:selected] = model.response(1 / count, selected)
    theta = np.mean(response**2)
    assert_close(patterns.T @ model.change(response, theta), np.zeros(count), "float64")
    growth = np.linalg.eigvals(bcm_jacobian(model, patterns, response)).real.max()
    assert (growth < 0) == (selected == 1) or abs(growth) < 1e-15


@pytest.mark.parametrize(("product", "settles"), [(0.9, True), (1.1, False)])
def test_bcm_settles_below_the_bound_on_its_threshold_s_time(product, settles, rng):
    """Other responses of 0 fall towards it, so only the selected one and theta can swing."""
    patterns = nearly_orthogonal(rng, 5, overlap=0)
    model = BCM(eta=0.01, tau_theta=product / 0.01)
    response = np.array([5.0, 0, 0, 0, 0])
    growth = np.linalg.eigvals(bcm_jacobian(model, patterns, response))
    assert model.stable(1.0) == settles
    assert (growth.real.max() < 0) == settles
    assert np.abs(growth.imag).max() > 0


def test_bcm_leaves_the_unselective_fixed_point_and_selects_one_pattern(rng, seed):
    count, cells, model = 4, 24, BCM()
    patterns = nearly_orthogonal(rng, count)
    shown = patterns[rng.integers(count, size=(30_000, cells))]
    unselective = np.linalg.solve(patterns, np.full(count, model.response(1 / count, count)))
    start = unselective + 0.1 * rng.normal(size=(cells, count))
    course = simulate(model, shown, start, every=3000, seed=seed, **STEP)
    response = course.weights @ patterns.T
    selectivity = 1 - response.mean(-1) / response.max(-1)
    assert selectivity[0].max() < 0.35
    ranked = np.sort(response[-1], axis=-1)
    expected = np.array([0, 0, 0, model.response(1 / count)])
    assert_close(ranked.mean(0), expected, "threshold's fluctuations")
    assert_close(selectivity[-1].mean(), 1 - 1 / count, "threshold's fluctuations")


def signals(rng, presentations, cells):
    """x = 1 + s + noise beside y = 2 + 0.6 s + noise, and an x that has nothing to do with y."""
    common, *noise = rng.normal(size=(4, presentations, cells))
    x = np.stack([1 + common + 0.5 * noise[0], 1 + noise[1]], axis=-1)
    return x, 2 + 0.6 * common + 0.4 * noise[2]


def test_the_covariance_rule_drifts_by_the_covariance(rng, seed):
    model = Covariance(eta=1e-9, tau_mean=2.0)
    x, teach = signals(rng, 4400, 200)
    course = simulate(
        model, x, np.zeros((200, 2)), every=400, seed=seed, inputs={"teach": teach}, **STEP
    )
    drift = (course.weights[-1] - course.weights[1]) / (course.times[-1] - course.times[1])
    expected = model.drift(np.array([0.6, 0.0]), STEP["duration"])
    assert_expected(drift[:, 0] / model.eta, expected[0] / model.eta)
    assert_expected(drift[:, 1] / model.eta, 0.0)


def test_the_covariance_rule_has_the_sign_of_both_deviations(seed):
    """Depression both where the input is active alone and where the cell is."""
    x, y = np.array([2.0, 2.0, 0.0, 0.0]), np.array([2.0, 0.0, 2.0, 0.0])
    settled = np.ones((400, 4))
    shown = np.concatenate([settled, x[None]])[..., None]
    course = simulate(
        Covariance(tau_mean=2.0),
        shown,
        np.zeros((4, 1)),
        every=400,
        seed=seed,
        inputs={"teach": np.concatenate([settled, y[None]])},
        **STEP,
    )
    change = course.weights[-1] - course.weights[1]
    assert list(np.sign(change[:, 0])) == [1, -1, -1, 1]


def test_oja_with_one_input_follows_the_closed_form(seed):
    model, start = Oja(eta=1.0), np.array([0.1, 0.7, 1.0, -0.4, 1.8])
    steps, errors = np.array([0.02, 0.01, 0.005]), []
    for dt in steps:
        shown = np.full((6, 5, 1), 1.2)
        course = simulate(model, shown, start[:, None], duration=0.5, dt=dt, seed=seed)
        expected = [model.expected(1.2**2, start[[i]], course.times)[:, 0] for i in range(5)]
        errors.append(relative_error(course.weights[..., 0], np.transpose(expected)))
    order = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert abs(order - 1) <= TOLERANCES["order"].value
    end = model.expected(1.2**2, np.array([-0.4]), np.array([40.0]))
    assert_close(end, np.array([[-1.0]]), "float64")


def test_oja_s_closed_form_solves_its_flow(rng):
    factor = rng.normal(size=(4, 4))
    second, start, h = factor @ factor.T, rng.normal(size=4), 1e-4
    times = np.linspace(0.5, 20, 9)
    model = Oja()
    after, now, before = (model.expected(second, start, times + d) for d in (h, 0, -h))
    driven = now @ second
    flow = model.eta * (driven - (driven * now).sum(1, keepdims=True) * now)
    assert_close((after - before) / (2 * h), flow, "difference quotient")


def test_oja_finds_the_first_principal_component(rng, seed):
    model, cells = Oja(), 32
    axes = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    values = np.array([3.0, 1.0, 0.6, 0.3, 0.1])
    mixing = axes * np.sqrt(values)
    shown = rng.normal(size=(6000, cells, 5)) @ mixing.T
    start = rng.normal(size=5) * 0.2
    course = simulate(
        model, shown, np.tile(start, (cells, 1)), every=500, seed=seed, duration=0.1, dt=0.1
    )
    expected = model.expected(mixing @ mixing.T, start, course.times)
    assert_close(course.weights.mean(1), expected, "brief presentations")
    ends = course.weights[-1]
    norms = np.linalg.norm(ends, axis=1)
    assert np.abs(norms - 1).mean() <= TOLERANCES["norm"].value
    assert np.abs(ends @ axes[:, 0] / norms).min() >= TOLERANCES["cosine"].value


def teaching(model, targets, nudge, presentations):
    """Conductances that hold one target a cell, (presentation, cell)."""
    given = model.conductances(targets, nudge)
    return {
        name: np.tile(values, (presentations, 1))
        for name, values in zip(("g_exc", "g_inh"), given, strict=True)
    }


def test_a_linear_dendrite_follows_the_closed_form(seed):
    model, nudge, power = DendriticError(phi="linear"), 900.0, 1.25
    steps, errors = np.array([8e-5, 4e-5, 2e-5]), []
    shown = np.tile([1.0, -0.5], (20, 1, 1))
    inputs = teaching(model, np.array([0.8]), nudge, 20)
    for dt in steps:
        course = simulate(
            model, shown, np.zeros((1, 2)), duration=8e-3, dt=dt, seed=seed, inputs=inputs
        )
        predicted = model.attenuation * course.weights[:, 0] @ shown[0, 0]
        errors.append(relative_error(predicted, model.expected(0.8, nudge, power, course.times)))
    order = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert abs(order - 1) <= TOLERANCES["order"].value


def test_a_step_of_a_linear_dendrite_is_the_delta_rule(rng, seed):
    """W <- W + x (V_T - W^T x) (1 - e^(-eta lambda g |x|^2 T)) / |x|^2, at a soma of no delay."""
    model, nudge, cells, duration = DendriticError(phi="linear"), 900.0, 12, 0.1
    x, weights = rng.normal(size=(cells, 3)), 0.5 * rng.normal(size=(cells, 3))
    targets = rng.uniform(0.5, 1.5, cells)
    inputs = teaching(model, targets, nudge, 1)
    course = simulate(model, x[None], weights, duration=duration, dt=5e-5, seed=seed, inputs=inputs)
    power = np.square(x).sum(1)
    rate = model.eta * model.nudging(nudge) * model.attenuation
    beta = -np.expm1(-rate * power * duration) / power
    error = targets / model.attenuation - (weights * x).sum(1)
    assert_close(course.weights[-1], weights + (beta * error)[:, None] * x, "soma's delay")


def test_the_delta_rule_is_the_limit_of_slow_learning():
    times = np.linspace(0, 2, 50)
    slow = DendriticError(phi="linear", eta=0.1)
    own, limit = (slow.expected(0.8, 900.0, 1.0, times * 200, fast=fast) for fast in (False, True))
    assert_close(own, limit, "slow learning")


def test_the_dendrite_learns_to_predict_the_soma_and_then_rests(seed):
    """Urbanczik & Senn 2014: without nudging nothing changes, with it U = V* = target does."""
    model, cells = DendriticError(eta=100.0), 8
    targets = np.linspace(0.5, 1.2, cells)
    inputs = teaching(model, targets, 2100.0, 30)
    for values in inputs.values():
        values[20:] = 0
    shown = np.tile([0.8, 0.6], (30, cells, 1))
    course = simulate(
        model,
        shown,
        np.zeros((cells, 2)),
        duration=0.0504,
        dt=7e-5,
        seed=seed,
        inputs=inputs,
        watch=("U", "V_star"),
    )
    learned, left = course.cell["V_star"][20], course.cell["V_star"][-1]
    assert_close(model.rate(learned), model.rate(targets), "dendrite learned")
    assert_close(model.rate(course.cell["U"][20]), model.rate(targets), "dendrite learned")
    assert_close(left, learned, "dendrite learned")
    assert_close(course.cell["U"][-1], left, "dendrite learned")
    error = np.abs(model.rate(course.cell["V_star"][:21]) - model.rate(targets))
    assert (np.diff(error[1:6], axis=0) < 0).all()


def test_an_unnudged_dendrite_of_any_weights_rests(rng, seed):
    model = DendriticError()
    weights = rng.normal(size=(6, 3))
    shown = np.tile(rng.normal(size=(6, 3)), (10, 1, 1))
    course = simulate(model, shown, weights, duration=5e-3, dt=5e-5, seed=seed)
    settled = course.weights[2]
    assert_close(course.weights[-1], settled, "soma at rest")
    assert np.abs(settled - weights).max() > 0


def test_the_teaching_conductances_hold_the_target():
    model = DendriticError()
    targets = np.array([model.v_inhibitory, 0.0, 0.7, model.v_excitatory])
    exc, inh = model.conductances(targets, 50.0)
    assert min(exc.min(), inh.min()) >= 0
    assert_close(exc + inh, np.full(4, 50.0), "float64")
    held = (exc * model.v_excitatory + inh * model.v_inhibitory) / 50.0
    assert_close(held, targets, "float64")


@pytest.mark.parametrize("model", [BCM(), Covariance(), Oja()])
def test_presentations_of_zero_rates_change_nothing(model, rng, seed):
    weights = rng.normal(size=(3, 2))
    course = simulate(model, np.zeros((4, 3, 2)), weights, seed=seed, **STEP)
    assert_close(course.weights[-1], weights, "float64")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: BCM(eta=0.0), r"BCM: eta = 0.0 is out of range; give a positive number"),
        (lambda: Covariance(tau_mean=-1.0), r"Covariance: tau_mean = -1.0 is out of range"),
        (lambda: DendriticError(phi="relu"), r"no phi called 'relu'; choose from linear, sigmoid"),
        (lambda: DendriticError(v_inhibitory=9.0), r"v_inhibitory = 9 is not below v_excitatory"),
        (lambda: DendriticError().conductances(9.0, 1.0), r"conductance would be negative; give"),
        (
            lambda: simulate(BCM(), np.ones((2, 1, 1)), np.ones((1, 1)), duration=10.0, dt=10.0),
            r"BCM: dt = 10 s does not resolve a rate of change of 0.05 /s; give .* at most 4 s",
        ),
        (
            lambda: simulate(Oja(), np.ones((2, 1, 1)), np.ones((1, 1)), duration=0.1, dt=0.07),
            r"a presentation of 0.1 s is not a whole number of steps of 0.07 s",
        ),
    ],
)
def test_mistakes_are_told_in_one_line(make, words):
    with pytest.raises(FwbioError, match=words):
        make()


def test_nothing_global_is_left_changed():
    import brian2

    target, step = brian2.prefs.codegen.target, brian2.defaultclock.dt
    simulate(Oja(), np.ones((2, 1, 1)), np.ones((1, 1)), **STEP)
    assert (brian2.prefs.codegen.target, brian2.defaultclock.dt) == (target, step)


@pytest.mark.parametrize("protocol", [covariance, oja, dendritic_error])
def test_protocols_lie_on_their_closed_forms(protocol, seed):
    record = protocol(seed=seed)
    assert record.attrs["seed"] == seed
    assert {"title", "claim", "source"} <= set(record.attrs)
    for name in ("change", "potential", "weight"):
        if name in record:
            assert_close(record[name], record[f"{name}_expected"], "protocol's steps")
    if "drift" in record:
        away = np.abs(record.drift - record.drift_expected) / record.drift_se
        assert away.max() <= TOLERANCES["several means"].value


def test_the_bcm_protocol_ends_selective(seed):
    record = bcm(seed=seed)
    assert_close(record.change, record.change_expected, "float64")
    for name in ("response", "selectivity"):
        end, expected = (record[of].isel(time=-1) for of in (name, f"{name}_expected"))
        assert_close(end, expected, "threshold's fluctuations")
