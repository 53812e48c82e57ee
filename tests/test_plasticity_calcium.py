"""Calcium-based plasticity against closed forms and what its authors published."""

from dataclasses import replace

import brian2 as b2
import numpy as np
import pytest
from tolerances import TOLERANCES, assert_close, assert_expected

from fwbio.analyses.protocol_plots import panels
from fwbio.data import measurements
from fwbio.errors import FwbioError
from fwbio.models import protocols_calcium
from fwbio.models.plasticity_calcium import SETS, Fractions, GraupnerBrunel
from fwbio.models.plasticity_shouval import Shouval
from fwbio.models.protocols_calcium import (
    Motif,
    simulated_change,
    simulated_efficacy,
    simulated_weights,
)
from fwbio.models.simulation import engine

DP = GraupnerBrunel.named("dp")
CORTEX = GraupnerBrunel.named("cortical_slice")
SLICE = GraupnerBrunel.named("hippocampal_slice")
SETS_DRAWN = ["dp", "hippocampal_culture", "hippocampal_slice", "cortical_slice"]


def pairs(model, frequency, repeats, lag):
    return model.published_change(frequency, repeats, [0.0], [lag])


def run(source_times, target_times, model, duration, dt, *, count=1, record=()):
    """`count` synapses of a model between two cells that fire at given times, s."""
    with engine("numpy", dt, seed=0):
        groups = [
            b2.SpikeGeneratorGroup(1, np.zeros(len(times), int), np.array(times) * b2.second)
            for times in (source_times, target_times)
        ]
        nobody = np.zeros(count, int)
        synapses = model.synapse().connect(*groups, nobody, nobody)
        monitor = b2.StateMonitor(synapses, record, record=[0])
        b2.Network(*groups, synapses, monitor).run(duration * b2.second, namespace={})
        return {name: getattr(monitor, name)[0] for name in record}


# Graupner & Brunel 2012


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("frequency", [1.0, 20.0, 47.0])
@pytest.mark.parametrize("lag", [-0.009, 0.0, 0.011])
def test_shares_of_time_are_those_of_the_summed_trace(name, frequency, lag):
    model, period = GraupnerBrunel.named(name), 1 / frequency
    steps = 100_000
    t = (np.arange(steps) + 0.5) * period / steps
    past = np.arange(60 if frequency > 1 else 3) * period
    trace = sum(
        amplitude * np.exp(-((t - at) % period + past[:, None]) / model.tau_ca).sum(axis=0)
        for at, amplitude in ((model.delay, model.c_pre), (lag, model.c_post))
    )
    found = model.pair_fractions(frequency, lag)
    counted = [(trace > theta).mean() for theta in (model.theta_d, model.theta_p)]
    assert np.abs(np.subtract(found, counted)).max() <= TOLERANCES["counted time"].value


def test_coinciding_calcium_adds_up():
    """One jump of c_pre + c_post; Graupner & Brunel 2012, SI eq. 21."""
    above = DP.pair_fractions(1.0, DP.delay)
    expected = DP.tau_ca * np.log(3.0 / np.array([DP.theta_d, DP.theta_p]))
    assert_close(above, expected, "float64")


def test_the_demonstration_balances_a_single_transient():
    """Its gamma_p / gamma_d = ln 2 / ln (2 / 1.3), to its printed digits: SI eq. 17."""
    balance = np.log(DP.c_post / DP.theta_d) / np.log(DP.c_post / DP.theta_p)
    assert_close(DP.gamma_p, DP.gamma_d * balance, "printed digits")


@pytest.mark.parametrize(("frequency", "lag"), [(10.0, 0.02), (25.0, -0.003), (50.0, 0.01)])
def test_simulated_calcium_is_above_as_long_as_the_closed_form_says(frequency, lag):
    """Also where the delay, 13.7 ms, outlasts the lag, and where transients overlap."""
    repeats, dt, start = 25, 1e-4, 0.01
    turns = start + np.arange(repeats + 1) / frequency
    period = round(1 / frequency / dt)
    found = run(
        turns, turns + lag, DP, repeats / frequency + start, dt, record=["above_d", "above_p"]
    )
    simulated = [found[name][-period:].mean() for name in ("above_d", "above_p")]
    assert_close(simulated, DP.pair_fractions(frequency, lag), "periodic calcium")


def test_simulated_calcium_is_the_sum_of_its_transients():
    dt = 1e-4
    calcium = run([0.01, 0.02], [0.015], DP, 0.08, dt, record=["calcium"])["calcium"]
    t = np.arange(calcium.size) * dt - dt  # what a spike brings is there one step later
    jumps = ((0.0237, 1.0), (0.0337, 1.0), (0.015, 2.0))
    expected = sum(a * np.exp(-(t - at) / 0.02) * (t > at - dt / 2) for at, a in jumps)
    assert_close(calcium, expected, "periodic calcium")


def test_simulated_efficacies_have_the_mean_and_variance_of_the_linear_model(seed):
    """The bistable term off: exact between jumps of calcium."""
    model = replace(CORTEX, potential=0.0)
    dt, motif = 2e-4, Motif(25, 30, 0.01)
    model = replace(model, delay=round(model.delay / dt) * dt)
    rho = simulated_efficacy(model, [motif], synapses=2000, dt=dt, seed=seed)[0]
    turns, post = motif.trains(0.01)
    for at_first, found in zip((0.0, 1.0), rho, strict=True):
        expected = model.moments(turns, post, motif.duration + 0.01, at_first)
        assert_expected(found, expected.mean)
        assert_expected((found - expected.mean) ** 2, expected.variance)


def test_moments_reach_the_paper_s_as_the_period_shrinks():
    """Averaging the drive over a period is first order in what one period changes."""
    errors = []
    for slower in (1, 10, 100):
        model = replace(DP, tau=DP.tau * slower)
        turns = np.arange(60 * slower) * 1.0
        exact = model.moments(turns, turns + 0.02, turns[-1] + 1, 0.0)
        average = model.averaged(model.pair_fractions(1.0, 0.02), turns[-1] + 1, 0.0)
        errors.append(np.abs(np.subtract(exact, average)))
    assert_close(np.log10(np.array(errors[0]) / errors[1]), np.ones(2), "order")
    assert_close(np.log10(np.array(errors[1]) / errors[2]), np.ones(2), "order")
    assert np.all(errors[0] <= TOLERANCES["averaged drive"].value)


def test_the_full_model_switches_as_its_linear_part_predicts(seed):
    """The paper leaves the cubic out, which is slow beside the drive of a protocol."""
    dt, count = 2e-4, 1000
    model = replace(CORTEX, delay=round(CORTEX.delay / dt) * dt)
    motifs = [Motif(50, 75, lag) for lag in (0.01, -0.01)] + [Motif(25, 40, -0.01)]
    rho = simulated_efficacy(model, motifs, synapses=count, dt=dt, seed=seed)
    for motif, (up, down) in zip(motifs, rho, strict=True):
        turns, post = motif.trains(0.02)
        ends = [model.moments(turns, post, motif.duration + 0.1, start) for start in (0.0, 1.0)]
        U, D = model.switching(*ends)
        assert_expected(up > model.rho_star, U)
        assert_expected(down <= model.rho_star, D)


def test_simulated_change_has_the_paper_s_form(seed):
    motif = Motif(25, 20, -0.01)
    rho = simulated_efficacy(DP, [motif], synapses=50, dt=1e-3, seed=seed)[0]
    change, _ = simulated_change(DP, [motif], synapses=50, dt=1e-3, seed=seed)
    weights = 1 + (DP.b - 1) * (rho > DP.rho_star)
    before = DP.beta + DP.b * (1 - DP.beta)
    assert_close(change, [weights.mean(axis=1) @ [DP.beta, 1 - DP.beta] / before], "float64")


def test_change_of_strength_at_its_ends():
    assert DP.change(0.0, 0.0) == 1.0
    before = DP.beta + DP.b * (1 - DP.beta)
    assert_close(DP.change(1.0, 0.0), DP.b / before, "float64")
    assert_close(DP.change(0.0, 1.0), 1 / before, "float64")


def test_calcium_below_both_thresholds_changes_nothing(seed):
    weak = replace(DP, c_pre=0.45, c_post=0.45)
    assert weak.pair_fractions(1.0, 0.0) == Fractions(0.0, 0.0)
    assert pairs(weak, 1.0, 60, 0.0) == 1.0
    rho = simulated_efficacy(weak, [Motif(5, 5, 0.0)], synapses=2, dt=1e-3, seed=seed)
    assert rho.tolist() == [[[0.0, 0.0], [1.0, 1.0]]]


def test_between_the_thresholds_is_depression_alone():
    above = DP.averaged(Fractions(0.1, 0.0), 60.0, 1.0)
    assert above.mean < 1.0
    assert DP.averaged(Fractions(0.1, 0.0), 60.0, 0.0).mean == 0.0


@pytest.mark.parametrize("name", ["dp", "hippocampal_culture", "cortical_slice"])
def test_post_before_pre_depresses_and_pre_before_post_potentiates(name):
    """Fig. 2, DP; fits of cultures and cortex."""
    model = GraupnerBrunel.named(name)
    frequency, repeats = (20, 75) if name == "cortical_slice" else (1, 60)
    lags = np.linspace(-0.024, 0.024, 97)
    change = np.array([pairs(model, frequency, repeats, lag) for lag in lags])
    assert change.min() < 0.8
    assert change.max() > 1.2
    assert lags[change.argmin()] < 0 < lags[change.argmax()]


def test_slices_need_two_postsynaptic_spikes_to_be_potentiated():
    """Fig. 3: single pairs depress; with two, potentiation between windows of depression."""
    lags = np.linspace(-0.08, 0.08, 161)
    single = np.array([pairs(SLICE, 5, 200, lag) for lag in lags])
    double = np.array([SLICE.published_change(5, 100, [0.0], [lag, lag + 0.0115]) for lag in lags])
    assert single.max() <= 1.0
    assert single.min() < 0.8
    top = double.argmax()
    assert double[top] > 1.3
    assert double[:top].min() < 0.9
    assert double[top:].min() < 0.9


def test_cortex_is_potentiated_at_all_lags_above_29_hz():
    """Fig. 4: low rates depress where post is before pre, rates above 29 Hz potentiate."""
    lowest = {
        f: min(pairs(CORTEX, f, 75, lag) for lag in np.linspace(-0.5, 0.5, 401) / f)
        for f in (28.5, 29.5)
    }
    assert lowest[28.5] < 1 < lowest[29.5]
    assert pairs(CORTEX, 0.1, 75, -0.01) < 0.8
    assert pairs(CORTEX, 10, 75, -0.01) < 0.8
    assert pairs(CORTEX, 50, 75, -0.01) > 1.3
    assert pairs(CORTEX, 20, 75, 0.01) > 1.1


def test_cortex_fits_what_was_measured():
    """Sjostrom, Turrigiano & Nelson 2001, to which the set was fitted."""
    table = measurements("sjostrom2001")
    change = [
        pairs(CORTEX, f, 75, lag) - 1 for f, lag in zip(table.frequency, table.lag, strict=True)
    ]
    distance = (np.array(change) - table.change) / table.standard_error
    assert (distance**2).mean() <= TOLERANCES["measured, mean square"].value


def test_thresholds_in_the_wrong_order_are_refused():
    with pytest.raises(FwbioError, match=r"theta_d = 1\.4 is not below theta_p = 1\.3; give"):
        replace(DP, theta_d=1.4)
    with pytest.raises(FwbioError, match=r"rho_star = 2\.0 is out of range; .* from 0 to 1"):
        replace(DP, rho_star=2.0)
    with pytest.raises(FwbioError, match="tau_ca = -1 is out of range; give a positive number"):
        replace(DP, tau_ca=-1)
    with pytest.raises(FwbioError, match="called 'cortex_slice'; did you mean 'cortical_slice'"):
        GraupnerBrunel.named("cortex_slice")
    with pytest.raises(FwbioError, match="period = 0 s; give more than 0 s"):
        DP.fractions(0.0, [0.0], [0.0])


# Shouval, Bear & Cooper 2002

REST = Shouval()


def test_targets_at_low_intermediate_and_high_calcium():
    """No change, depression, potentiation."""
    low, middle, high = REST.omega(np.array([0.0, 0.45, 1.0]))
    bound = TOLERANCES["sigmoid"].value
    assert abs(low - 0.25) <= bound
    assert abs(middle) <= bound
    assert abs(high - 1) <= bound


def test_without_calcium_a_weight_takes_three_hours():
    """P1 to P4 are set so, the paper says."""
    assert 2.5 * 3600 < REST.time_constant(0.0) < 3.5 * 3600
    assert np.all(np.diff(REST.time_constant(np.linspace(0, 2, 50))) < 0)


def test_a_constant_calcium_draws_the_weight_exponentially():
    calcium = np.array([0.1, 0.35, 0.45, 0.55, 0.8])
    still = replace(REST, g_nmda=0.0, calcium_decay=1e12)
    with engine("numpy", 2e-3, seed=0):
        cells = b2.SpikeGeneratorGroup(1, [], [] * b2.second)
        nobody = np.zeros(calcium.size, int)
        synapses = still.synapse().connect(cells, cells, nobody, nobody)
        synapses.ca = calcium
        b2.Network(cells, synapses).run(2 * b2.second, namespace={})
        assert_close(np.array(synapses.w), still.relaxed(calcium, 2.0, 0.25), "clamped calcium")


@pytest.fixture(scope="module")
def paired():
    """Five pairs at 1 Hz, and the same under voltage clamp."""
    lags = (-0.1, -0.01, 0.01, 0.08)
    clamps = (-0.07, -0.055, -0.03)
    shown = [(REST, Motif(1, 5, lag)) for lag in lags]
    shown += [(replace(REST, v_rest=v, epsp=0.0), Motif(1, 5, None)) for v in clamps]
    return shown, simulated_weights(shown, dt=5e-4)


def test_simulated_weights_are_those_of_periodic_calcium(paired):
    shown, weights = paired
    expected = [model.repeated(m.frequency, m.repeats, m.lag) for model, m in shown]
    assert_close(weights, expected, "periodic calcium, first spikes")


def test_timing_has_a_second_window_of_depression(paired):
    """Depression at negative lags and at large positive ones: figs. 4 and 5."""
    far, before, after, late = paired[1][:4]
    assert before < 0.97
    assert late < 0.97
    assert after > 1.1
    assert abs(far - 1) < abs(before - 1) / 10


def test_clamped_voltage_decides_the_sign(paired):
    """Pairing at a hyperpolarised, an intermediate and a depolarised potential: fig. 3 A."""
    low, middle, high = paired[1][4:]
    assert abs(low - 1) < 0.01
    assert middle < 0.97
    assert high > 1.1


def test_rate_of_presynaptic_spikes_decides_the_sign():
    """Depression at 1 Hz and potentiation at 20 Hz by 900 spikes: fig. 3 B."""
    tetanus = replace(REST, epsp=0.01)
    assert tetanus.repeated(1.0, 900) < 0.8
    assert tetanus.repeated(20.0, 900) > 1.5


def test_steady_calcium_starts_where_it_ends():
    for lag in (None, -0.01, 0.02):
        calcium = REST.steady_calcium(20.0, lag)
        assert_close(calcium[-1], calcium[0], "float64")


def test_receptors_never_open_twice():
    every = replace(REST, open_fraction=1.0, magnesium=0.0, epsp=0.0)
    steady = every.g_nmda * (every.v_calcium - every.v_rest) * every.calcium_decay
    assert np.all(every.steady_calcium(2000.0) <= steady)
    assert_close(every.steady_calcium(2000.0).mean(), steady, "receptors open")


def test_impossible_spines_are_refused():
    with pytest.raises(FwbioError, match="omega_low is not below omega_high; exchange them"):
        replace(REST, omega_low=0.6)
    with pytest.raises(FwbioError, match="the models differ; let nothing but v_rest and epsp"):
        simulated_weights(
            [(REST, Motif(1, 1, None)), (replace(REST, bpap=0.05), Motif(1, 1, None))], dt=1e-3
        )
    with pytest.raises(FwbioError, match=r"dt = 0\.01 s is too large; give 0\.0015 s"):
        simulated_weights([(REST, Motif(1, 1, None))], dt=1e-2)


# protocols


def drawn_upon(found, name):
    """A protocol's values, and the closed form it draws under them at the same x."""
    closed = found[f"{name}_expected"]
    x, denser = found[found[name].dims[-1]], closed[closed.dims[-1]]
    assert denser.min() <= x.min()
    assert x.max() <= denser.max()
    rows = closed.values.reshape(-1, closed.shape[-1])
    under = np.array([np.interp(x, denser, row) for row in rows])
    return found[name].values.reshape(under.shape), under


def test_timing_and_rate_are_drawn_where_they_were_simulated(monkeypatch):
    """Simulated by the closed form itself, with the delay in whole steps, as Brian2 has it."""

    def exact(model, motifs, *, dt, **_):
        stepped = replace(model, delay=round(model.delay / dt) * dt)
        change = [stepped.published_change(m.frequency, m.repeats, [0.0], m.post) for m in motifs]
        return np.array(change), np.ones(len(motifs))

    monkeypatch.setattr(protocols_calcium, "simulated_change", exact)
    found = protocols_calcium.graupner_brunel(seed=3)
    assert panels(found) == [*SETS_DRAWN, "rate"]
    for name in panels(found):
        simulated, under = drawn_upon(found, name)
        assert np.abs(simulated - under).max() <= TOLERANCES["drawn"].value
        assert found[name].attrs["units"] == "1"
        assert {"units", "long_name"} <= set(found[found[name].dims[-1]].attrs)
    assert found["rate_published"].shape == (2, 5)
    assert found.attrs["seed"] == 3


def test_voltage_rate_and_timing_are_drawn_where_they_were_simulated(monkeypatch):
    def exact(shown, dt):
        return np.array([model.repeated(m.frequency, m.repeats, m.lag) for model, m in shown])

    monkeypatch.setattr(protocols_calcium, "simulated_weights", exact)
    found = protocols_calcium.shouval()
    assert panels(found) == ["omega", "learning_rate", "voltage", "rate", "timing"]
    for name in ("voltage", "rate", "timing"):
        simulated, under = drawn_upon(found, name)
        shown = np.isfinite(simulated)
        assert shown.mean() > 0.6
        # between points of the closed form its steepest part is not straight
        assert np.median(np.abs(simulated - under)[shown]) <= TOLERANCES["drawn"].value
