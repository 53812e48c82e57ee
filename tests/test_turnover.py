"""Turnover: time scales that are not mixed up, mean decays, and a process with a heavy tail."""

import brian2 as b2
import numpy as np
import pytest
from scipy import integrate, stats
from tolerances import TOLERANCES, assert_close, assert_expected

from fwbio import FwbioError
from fwbio.data import constants
from fwbio.models.protocols_turnover import turnover
from fwbio.models.simulation import engine
from fwbio.models.time_scales import (
    PRESETS,
    from_half_life,
    half_life,
    require_scale,
    time_scale,
)
from fwbio.models.turnover import SHAPES, Kesten, Turnover, heterogeneous_rates, mean_decay

DAY = 86400.0
EDGES = ("low", "high")
KESTEN = Kesten(tau=1.0, sigma_m=0.6, sigma_a=0.3)


def run(synapse, start, duration, dt, seed, **variables):
    """The weights of separate synapses (synapse,) after a duration."""
    with engine("numpy", dt, seed):
        cells = b2.NeuronGroup(len(start), "", name="turnover_cells")
        cells_too = b2.NeuronGroup(1, "", name="turnover_target")
        made = synapse.connect(cells, cells_too, np.arange(len(start)), np.zeros(len(start), int))
        made.w = start
        for name, value in variables.items():
            setattr(made, name, value)
        b2.Network(cells, cells_too, made).run(duration * b2.second, namespace={})
        return np.array(made.w[:])


@pytest.mark.parametrize(
    ("tau", "names"),
    [
        (constants("receptors")["tau_ampa"], {"receptor_kinetics"}),
        (constants("short_term")["mongillo_tau_f"], {"short_term_plasticity"}),
        (0.13, {"receptor_kinetics", "short_term_plasticity"}),
        (33.7596, {"calcium_plasticity"}),
        (688.355, {"calcium_plasticity", "trafficking"}),
        (3600.0, {"trafficking"}),
        (constants("turnover")["psd95_lifetime"], {"protein_turnover"}),
        (from_half_life(constants("turnover")["half_life_low"]), {"protein_turnover"}),
        (from_half_life(constants("turnover")["half_life_high"]), {"protein_turnover"}),
        (20.0, set()),
    ],
)  # fmt: skip
def test_published_time_constants_stand_for_their_process(tau, names):
    assert {scale.name for scale in time_scale(tau)} == names
    for name in names:
        assert require_scale(tau, name) is PRESETS[name]


def test_the_scales_ascend_from_milliseconds_to_days():
    lows, highs = zip(*((s.low, s.high) for s in PRESETS.values()), strict=True)
    assert all(np.diff(lows) > 0)
    assert all(np.diff(highs) > 0)
    assert all(low < high for low, high in zip(lows, highs, strict=True))


@pytest.mark.parametrize(
    ("tau", "preset", "line"),
    [
        (2.0, "protein_turnover", "tau_turnover: 2 s is no protein turnover, which takes 2 days to"
         " 20 days; it may stand for short-term plasticity"),
        (0.15, "trafficking", "tau_turnover: 150 ms is no receptor trafficking, which takes 2 min"
         " to 6 h; it may stand for receptor kinetics or short-term plasticity"),
        (1e9, "protein_turnover", "tau_turnover: 1.16e+04 days is no protein turnover, which takes"
         " 2 days to 20 days; no process of PRESETS takes that long"),
        (2.0, "protein", "tau_turnover: there is no time scale called 'protein'; did you mean"
         " 'protein_turnover'?"),
    ],
)  # fmt: skip
def test_a_process_on_the_wrong_time_scale_is_refused(tau, preset, line):
    with pytest.raises(FwbioError) as told:
        require_scale(tau, preset, where="tau_turnover")
    assert str(told.value) == line


def test_turnover_at_a_wrong_pace_cannot_be_made():
    with pytest.raises(FwbioError, match="2 s is no protein turnover"):
        Turnover(tau=2.0, preset="protein_turnover")
    with pytest.raises(FwbioError, match=r"tau = -1.0 is out of range"):
        Turnover(tau=-1.0, preset="protein_turnover")


def test_a_half_life_is_what_halves():
    assert_close(np.exp(-half_life(3.0) / 3.0), 0.5, "float64")
    assert_close(from_half_life(half_life(14.2 * DAY)), 14.2 * DAY, "float64")


def test_cohen_s_percentage_an_hour_is_within_the_half_lives():
    """Cohen 2013: half-lives of 2 to 5 days, about .7 % lost an hour."""
    table = constants("turnover")
    lost = {end: 1 - np.exp(-3600 / from_half_life(table[f"half_life_{end}"])) for end in EDGES}
    assert lost["high"] < 0.007 < lost["low"]


def test_decay_is_exact_in_the_engine_for_every_synapse_s_pace(rng, seed):
    model = Turnover(tau=0.5, preset="short_term_plasticity")
    start, pace = rng.normal(size=50), rng.gamma(2.0, 0.5, 50)
    left = run(model.synapse(), start, 0.4, 10e-3, seed, pace=pace)
    assert_close(left, start * np.exp(-pace * 0.4 / 0.5), "float64")
    assert_close(run(model.synapse(), start, 0.4, 10e-3, seed), start * np.exp(-0.8), "float64")


@pytest.mark.parametrize("shape", SHAPES)
def test_rates_have_the_mean_and_spread_asked_for(shape, rng):
    rates = heterogeneous_rates(rng, 0.3, 0.7, shape, 40_000)
    assert (rates > 0).all()
    assert_expected(rates, 0.3)
    assert_expected((rates - 0.3) ** 2, (0.3 * 0.7) ** 2)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_population_s_mean_decay_is_the_closed_form(shape, rng):
    rates = heterogeneous_rates(rng, 0.3, 1.2, shape, 20_000)
    for time in (0.5, 5.0, 40.0):
        assert_expected(np.exp(-rates * time), float(mean_decay(time, 0.3, 1.2, shape)))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_mean_decay_is_the_integral_over_rates(shape):
    law = (
        stats.gamma(1 / 0.5**2, scale=0.3 * 0.5**2)
        if shape == "gamma"
        else stats.lognorm(np.sqrt(np.log1p(0.25)), scale=0.3 / np.sqrt(1.25))
    )
    for time in (0.0, 1.0, 10.0):
        expected = integrate.quad(lambda r, t=time: law.pdf(r) * np.exp(-r * t), 0, 10)[0]
        assert_close(mean_decay(np.array(time), 0.3, 0.5, shape), expected, "decay quadrature")


def test_gamma_rates_decay_as_a_power_of_time_in_the_end():
    times = np.array([1e6, 1e7])
    slope = np.diff(np.log(mean_decay(times, 0.3, 0.8, "gamma"))) / np.diff(np.log(times))
    assert abs(slope.item() + 1 / 0.8**2) <= TOLERANCES["power law"].value


@pytest.mark.parametrize("shape", SHAPES)
def test_equal_rates_decay_exponentially_and_unequal_ones_slower(shape):
    times = np.linspace(0.1, 20, 30)
    assert_close(mean_decay(times, 0.3, 1e-5, shape), np.exp(-0.3 * times), "nearly equal rates")
    assert (mean_decay(times, 0.3, 0.5, shape) > np.exp(-0.3 * times)).all()


def test_mistaken_rates_are_told(rng):
    with pytest.raises(FwbioError, match=r"no shape of rates called 'gama'.*'gamma'"):
        heterogeneous_rates(rng, 1.0, 0.5, "gama", 3)
    with pytest.raises(FwbioError, match="cv = 0 is out of range; give a positive number"):
        mean_decay(np.ones(2), 1.0, 0, "gamma")


def test_kesten_moments_in_the_engine_are_ito_s(seed):
    """Stratonovich's reading of the same text would have the mean e^(+sigma^2 t / 2) higher."""
    start = np.full(20_000, 1.5)
    weights = run(KESTEN.synapse(), start, 1.0, 2.5e-3, seed)
    assert_expected(weights, float(KESTEN.mean(1.5, 1.0)))
    assert_expected((weights - weights.mean()) ** 2, float(KESTEN.variance(1.5, 1.0)))


def test_the_engine_s_stationary_weights_are_student_s(seed):
    weights = run(KESTEN.synapse(), np.zeros(4000), 8.0, 10e-3, seed)
    law = stats.t(KESTEN.tail, scale=KESTEN.scale)
    assert stats.kstest(weights, law.cdf).pvalue > TOLERANCES["chance"].value


def test_the_density_makes_the_current_vanish():
    """-w p / tau = (D p)' / 2 with D = sigma_m^2 w^2 + sigma_a^2."""
    law = stats.t(KESTEN.tail, scale=KESTEN.scale)
    w, h = np.linspace(-4, 4, 41), 1e-4

    def spread(x):
        return (KESTEN.sigma_m**2 * x**2 + KESTEN.sigma_a**2) * law.pdf(x)

    slope = (spread(w + h) - spread(w - h)) / (2 * h)
    assert_close(slope / 2, -w * law.pdf(w) / KESTEN.tau, "difference quotient")
    assert_close(law.var(), KESTEN.stationary_variance, "float64")


def test_the_variance_solves_its_equation():
    times, h = np.linspace(0.1, 3, 20), 1e-4

    def second(t):
        return KESTEN.variance(1.5, t) + KESTEN.mean(1.5, t) ** 2

    slope = (second(times + h) - second(times - h)) / (2 * h)
    loss = 2 / KESTEN.tau - KESTEN.sigma_m**2
    assert_close(slope, -loss * second(times) + KESTEN.sigma_a**2, "difference quotient")
    assert_close(KESTEN.variance(1.5, 60.0), KESTEN.stationary_variance, "float64")


def test_a_step_has_the_moments_of_the_equation(rng):
    weights = np.full(200_000, 1.5)
    for _ in range(3):
        weights = KESTEN.step(rng, weights, 0.3)
    assert_expected(weights, float(KESTEN.mean(1.5, 0.9)))
    assert_expected((weights - weights.mean()) ** 2, float(KESTEN.variance(1.5, 0.9)))


def test_the_tail_falls_by_the_exponent(rng):
    """Hill's estimator, of the 300 largest of 300,000, has a standard error of mu / sqrt(300)."""
    model = Kesten(tau=1.0, sigma_m=1.0, sigma_a=0.3)
    weights = np.zeros(300_000)
    for _ in range(60):
        weights = model.step(rng, weights, 0.4)
    largest = np.sort(np.abs(weights))[-301:]
    hill = 1 / np.mean(np.log(largest[1:] / largest[0]))
    assert model.tail == 3.0
    distance = abs(hill - model.tail) / (model.tail / np.sqrt(300))
    assert distance <= TOLERANCES["standard errors"].value


def test_the_tail_s_exponent_keeps_the_moment_of_a_step():
    """Kesten 1973: E[a^mu] = 1, a being log-normal."""
    mu, interval = KESTEN.tail, 0.7
    drift = -(1 / KESTEN.tau + KESTEN.sigma_m**2 / 2) * interval
    assert_close(np.exp(mu * drift + mu**2 * KESTEN.sigma_m**2 * interval / 2), 1.0, "float64")


def test_the_limits_of_the_process():
    additive = Kesten(tau=2.0, sigma_a=0.4)
    assert additive.tail == np.inf
    assert_close(additive.stationary_variance, 0.4**2 * 2.0 / 2, "float64")
    with pytest.raises(FwbioError, match="its law is Gaussian; use stationary_variance"):
        _ = additive.scale
    wild = Kesten(tau=2.0, sigma_m=1.0, sigma_a=0.4)
    assert (wild.tail, wild.stationary_variance) == (2.0, np.inf)
    assert_close(wild.variance(0.0, 3.0), 0.4**2 * 3.0, "float64")


def test_mistakes_are_told(rng):
    with pytest.raises(FwbioError, match=r"sigma_m = -1.0 is out of range"):
        Kesten(tau=1.0, sigma_m=-1.0)
    with pytest.raises(FwbioError, match=r"-1.0 s is no time; give 0 s or more"):
        KESTEN.step(rng, np.ones(2), -1.0)


def test_the_protocol_lies_on_its_closed_forms(seed):
    record = turnover(seed=seed)
    assert_close(record.left, record.left_expected, "float64")
    assert_close(record.population[0], record.population_expected[0], "float64")
    spread = record.isel(rates=[1, 2], day=[0, 10, -1], time=[1, 5, 15])
    for name in ("population", "variance"):
        away = np.abs(spread[name] - spread[f"{name}_expected"]) / spread[f"{name}_se"]
        assert away.max() <= TOLERANCES["several means"].value
    common = record.isel(magnitude=slice(0, 8))
    assert_close(common.larger, common.larger_expected, "shares")
