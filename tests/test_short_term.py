"""Short-term plasticity: its simulation, its closed forms, and where they meet."""

import brian2 as b2
import numpy as np
import pytest
from tolerances import TOLERANCES, assert_close, assert_expected

from fwbio import FwbioError
from fwbio.models.protocols_turnover import tsodyks_markram
from fwbio.models.short_term import PRESETS, ShortTerm
from fwbio.models.simulation import engine
from fwbio.models.synapse import PlasticSynapse

RATES = np.array([2.0, 5.0, 10.0, 25.0, 50.0])
DT = 1e-3


def simulate(model, times, seed, synapse=None):
    """The releases (train, spike) of Brian2 synapses, each driven by spikes of its own."""
    trains, spikes = times.shape
    with engine("numpy", DT, seed):
        source = b2.SpikeGeneratorGroup(
            trains,
            np.repeat(np.arange(trains), spikes),
            times.ravel() * b2.second,
            name="short_term_spikes",
        )
        target = b2.NeuronGroup(trains, "total : 1", name="short_term_target")
        synapse = synapse or model.synapse()
        synapse = PlasticSynapse(
            rule=synapse.rule,
            equations=synapse.equations,
            on_pre={"pre": synapse.on_pre["pre"] + "\ntotal_post += w * release"},
            namespace=synapse.namespace,
            initial={**synapse.initial, "w": 1.0},
        )
        made = synapse.connect(source, target, np.arange(trains), np.arange(trains))
        monitor = b2.StateMonitor(target, "total", record=True, when="end", name="short_term_seen")
        net = b2.Network(source, target, made, monitor)
        net.run((times.max() + 2 * DT) * b2.second, namespace={})
        total = np.asarray(monitor.total)
    steps = np.rint(times / DT).astype(int)
    return np.diff(np.take_along_axis(total, steps, axis=1), prepend=0.0, axis=1)


def regular(rates, spikes):
    return np.rint(np.arange(1, spikes + 1) / rates[:, None] / DT) * DT


@pytest.mark.parametrize("preset", PRESETS)
def test_the_simulation_follows_the_recursion_to_the_steady_state(preset, seed):
    model = ShortTerm.preset(preset)
    times = regular(RATES[2:], 150)
    released = simulate(model, times, seed)
    assert_close(released, model.train(times)["release"], "float64")
    assert_close(released[:, -1], model.steady(RATES[2:])["release"], "steady train")


@pytest.mark.parametrize("preset", PRESETS)
def test_a_second_spike_releases_what_the_ratio_says(preset):
    model = ShortTerm.preset(preset)
    intervals = np.array([5e-3, 0.02, 0.1, 0.5, 3.0])
    release = model.train(np.stack([np.zeros(5), intervals], axis=1))["release"]
    assert_close(release[:, 1] / release[:, 0], model.paired_pulse(intervals), "float64")
    assert release[0, 0] == model.use


def test_depressing_synapses_depress_and_facilitating_ones_facilitate():
    depressing, facilitating = map(ShortTerm.preset, ("depressing", "facilitating"))
    train = np.arange(10) / 20.0
    assert (np.diff(depressing.train(train)["release"]) < 0).all()
    assert (np.diff(facilitating.train(train[:4])["release"]) > 0).all()
    assert depressing.paired_pulse(0.05) < 1 < facilitating.paired_pulse(0.05)


def test_steady_depression_lets_through_one_over_rate():
    """Tsodyks & Markram 1997: above a limiting frequency, release per second is 1 / tau_d."""
    model = ShortTerm.preset("depressing")
    rates = np.array([2e3, 2e4])
    per_second = rates * model.steady(rates)["release"]
    assert_close(per_second, np.full(2, 1 / model.tau_d), "limiting frequency")


def test_recovering_to_the_use_after_release_is_the_same_synapse(rng):
    """Mongillo 2008's notation: u recovers to U, and moves after the release."""
    model = ShortTerm.preset("mongillo")
    times = np.cumsum(rng.exponential(0.05, 40))
    u, x, releases = model.use, 1.0, []
    for n, time in enumerate(times):
        gap = time - times[n - 1] if n else np.inf
        u = model.use + (u - model.use) * np.exp(-gap / model.tau_f)
        x = 1 + (x - 1) * np.exp(-gap / model.tau_d)
        releases.append(u * x)
        u, x = u + model.use * (1 - u), x - u * x
    assert_close(releases, model.train(times)["release"], "float64")


@pytest.mark.parametrize("preset", PRESETS)
def test_poisson_spikes_release_what_the_moments_say(preset, rng):
    model = ShortTerm.preset(preset)
    for rate in (5.0, 40.0):
        times = np.cumsum(rng.exponential(1 / rate, (4000, 400)), axis=1)
        last = {name: values[:, -1] for name, values in model.train(times).items()}
        for name, expected in model.poisson(rate).items():
            if np.ptp(last[name]) > 0:
                assert_expected(last[name], expected)
            else:
                assert_close(last[name].mean(), expected, "float64")


def test_poisson_spikes_in_the_engine_release_what_the_moments_say(rng, seed):
    model = ShortTerm.preset("mongillo")
    gaps = np.maximum(np.rint(rng.exponential(1 / 20.0, (400, 100)) / DT), 1) * DT
    times = np.cumsum(gaps, axis=1)
    assert_close(simulate(model, times, seed), model.train(times)["release"], "float64")


def test_the_moments_have_converged():
    for preset in PRESETS:
        model = ShortTerm.preset(preset)
        few, many = (model.poisson(50.0, moments) for moments in (60, 90))
        assert_close(few["release"], many["release"], "moments")


def test_the_mean_field_is_exact_in_u_and_for_depression_alone():
    for preset in PRESETS:
        model = ShortTerm.preset(preset)
        for rate in RATES:
            exact, mean = model.poisson(rate), model.mean_field(rate)
            assert_close(mean["u"], exact["u"], "float64")
            if not model.tau_f:
                assert_close(mean["release"], exact["release"], "float64")


@pytest.mark.parametrize("preset", PRESETS)
def test_the_mean_field_is_near_where_both_play(preset):
    model = ShortTerm.preset(preset)
    exact = [model.poisson(rate)["release"] for rate in RATES]
    errors = np.abs(model.mean_field(RATES)["release"] / exact - 1)
    assert errors.max() <= TOLERANCES["mean field"].value


def test_without_recovery_times_nothing_is_remembered(seed):
    times = regular(RATES, 8)
    plain = ShortTerm(use=0.3, tau_f=0.0, tau_d=0.0)
    assert_close(simulate(plain, times, seed), np.full(times.shape, 0.3), "float64")
    for limit, brief in (
        (ShortTerm(use=0.3, tau_f=0.0, tau_d=0.8), ShortTerm(use=0.3, tau_f=1e-5, tau_d=0.8)),
        (ShortTerm(use=0.3, tau_f=0.8, tau_d=0.0), ShortTerm(use=0.3, tau_f=0.8, tau_d=1e-5)),
    ):
        assert_close(simulate(limit, times, seed), limit.train(times)["release"], "float64")
        assert_close(brief.train(times)["release"], limit.train(times)["release"], "float64")
        assert_close(brief.poisson(10.0)["release"], limit.poisson(10.0)["release"], "brief memory")


def test_without_depression_the_released_share_is_u():
    model = ShortTerm(use=0.1, tau_f=0.5, tau_d=0.0)
    assert_close(model.mean_field(RATES)["release"], model.mean_field(RATES)["u"], "float64")
    assert_close(model.steady(RATES)["release"], model.steady(RATES)["u"], "float64")


def test_a_plastic_synapse_keeps_its_rule_when_its_release_changes(seed):
    """Each spike adds to the weight, and the release multiplies what the weight was before."""
    model = ShortTerm.preset("depressing")
    growing = PlasticSynapse(
        rule="hebb", equations="w : 1\ngrowth : 1", on_pre={"pre": "w += 0.5\ngrowth += 1"}
    )
    times = regular(RATES[:2], 6)
    released = simulate(model, times, seed, model.transmit(growing))
    weights = 1.0 + 0.5 * np.arange(1, 7)
    assert_close(released, weights * model.train(times)["release"], "float64")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"use": 1.5}, "use = 1.5 releases more than there is; give at most 1"),
        ({"use": 0.0}, "use = 0.0 is out of range; give a positive number"),
        ({"use": 0.5, "tau_f": -1.0}, "tau_f = -1.0 is out of range"),
        ({"use": 0.5, "tau_d": np.nan}, "tau_d = nan is out of range"),
    ],
)
def test_mistakes_are_told_in_one_line(options, words):
    with pytest.raises(FwbioError, match=words):
        ShortTerm(**options)


def test_unknown_presets_and_unsorted_spikes_are_refused():
    with pytest.raises(FwbioError, match=r"no short-term synapse called 'depresing'.*'depressing'"):
        ShortTerm.preset("depresing")
    with pytest.raises(FwbioError, match="spikes go back in time; sort them"):
        ShortTerm.preset("mongillo").train([0.2, 0.1])


def test_the_protocol_lies_on_its_closed_forms(seed):
    record = tsodyks_markram(seed=seed)
    rates = record.rate.values
    assert_close(record.train, record.train_expected, "float64")
    assert_close(record.pair, record.pair_expected, "float64")
    for k, preset in enumerate(PRESETS):
        model = ShortTerm.preset(preset)
        assert_close(record.steady[k], model.steady(rates)["release"], "steady train")
        exact = np.array([model.poisson(rate)["release"] for rate in rates])
        away = np.abs(record.poisson[k] - exact) / record.poisson_se[k]
        assert away.max() <= TOLERANCES["several means"].value
