"""Receptors: every kinetics as simulated beside its closed form, and the magnesium block."""

from itertools import pairwise

import brian2 as b2
import numpy as np
import pytest
from house import python
from scipy.integrate import quad
from tolerances import TOLERANCES, assert_close, assert_expected

from fwbio.errors import FwbioError
from fwbio.models.protocols_receptors import magnesium_block, receptor_kinetics
from fwbio.models.receptors import (
    RECEPTORS,
    DoubleExponential,
    Exponential,
    Kinetics,
    MagnesiumBlock,
    Saturating,
    TwoState,
    compose,
    double_exponential,
    exponential,
    half_block_voltage,
    receptor,
    require_resolved,
    saturating,
    two_state,
)
from fwbio.models.simulation import engine

DT = 1e-4
KINETICS = {
    "exponential": Exponential(2e-3),
    "double exponential": DoubleExponential(2e-3, 20e-3),
    "alpha function": DoubleExponential(5e-3, 5e-3),
    "saturating": Saturating(2e-3, 20e-3, 500.0),
    "saturating, equal constants": Saturating(5e-3, 5e-3, 500.0),
    "two-state": TwoState(1100.0, 190.0, 1.0, 1e-3),
}
SATURATING = [name for name, each in KINETICS.items() if not each.linear]
MAKERS = {
    "exponential": exponential("r", tau=2e-3),
    "double exponential": double_exponential("r", rise=2e-3, decay=20e-3),
    "alpha function": double_exponential("r", rise=5e-3, decay=5e-3),
    "saturating": saturating("r", decay=20e-3),
    "two-state": two_state("r"),
}

every_kinetics = pytest.mark.parametrize("name", KINETICS)


def simulated(chosen, trains, *, duration, dt=DT, method=None):
    """Gates of one cell a train of spike times (s): times (step,), gates (train, step)."""
    made = compose([chosen])
    cell = np.repeat(np.arange(len(trains)), [len(each) for each in trains])
    times = np.concatenate([np.asarray(each, float) for each in trains])
    index = np.arange(len(trains))
    in_cell = chosen.site == "cell"
    with engine("numpy", dt, 0):
        source = b2.SpikeGeneratorGroup(len(trains), cell, times * b2.second, name="source")
        cells = b2.NeuronGroup(
            len(trains),
            made.equations,
            method=(method or made.method) if in_cell else None,
            namespace=dict(made.namespace),
            name="cells",
        )
        synapses = b2.Synapses(
            source,
            cells,
            made.synapse,
            on_pre=made.on_pre,
            method=None if in_cell else method or chosen.method,
            namespace=dict(made.namespace),
            name="synapses",
        )
        synapses.connect(i=index, j=index)
        monitor = b2.StateMonitor(cells if in_cell else synapses, "s_r", record=True, name="gates")
        b2.Network(source, cells, synapses, monitor).run(duration * b2.second, namespace={})
        return np.asarray(monitor.t / b2.second), np.array(monitor.s_r)


def acting(spikes, dt=DT):
    """When spikes of the grid act: from the next step on, which rounding must not delay."""
    return np.asarray(spikes) + dt - 1e-9 * dt


@every_kinetics
def test_the_peak_is_where_the_closed_form_says(name):
    kinetics = KINETICS[name]
    t = kinetics.peak_time * np.array([0.99, 1, 1.01]) + np.array([0, 0, 1e-9])
    before, peak, after = kinetics.response(t)
    assert peak >= before
    assert peak > after
    assert_close(kinetics.peak, peak, "float64")
    if kinetics.linear:
        assert_close(kinetics.peak, 1.0, "float64")


@every_kinetics
def test_the_area_is_the_integral_of_the_response(name):
    kinetics = KINETICS[name]
    spans = [0, kinetics.peak_time, 10 * kinetics.peak_time + 0.01, 0.6]
    integral = sum(
        quad(lambda t: float(kinetics.response(np.array(t))), a, b, epsrel=1e-12, limit=200)[0]
        for a, b in pairwise(spans)
    )
    assert_close(integral, kinetics.area, "ode")


@every_kinetics
def test_closed_forms_solve_their_own_equations(name):
    """Five-point differences of the closed form against ds/dt, away from what spikes break."""
    kinetics = KINETICS[name]
    t, h = np.linspace(2e-3, 30e-3, 40) + 3.3e-5, 2e-5
    spikes = np.array([0.0, 4e-3])
    away = (np.abs(t - 4e-3) > 3 * h) & (np.abs(t - 5e-3) > 3 * h)
    t = t[away]
    weights = {-2: 1, -1: -8, 1: 8, 2: -1}
    slope = sum(w * kinetics.train(t + k * h, spikes) for k, w in weights.items()) / (12 * h)
    s = kinetics.train(t, spikes)
    match kinetics:
        case Exponential(tau):
            expected = -s / tau
        case DoubleExponential(rise, decay):
            x = sum(np.exp(-(t - spike) / rise) * (t >= spike) for spike in spikes)
            expected = (kinetics.gain * x - s) / decay
        case Saturating(rise, decay, alpha):
            x = sum(np.exp(-(t - spike) / rise) * (t >= spike) for spike in spikes)
            expected = alpha * x * (1 - s) - s / decay
        case TwoState(binding, unbinding, transmitter, duration):
            on = ((t > 0) & (t < duration)) | ((t > 4e-3) & (t < 4e-3 + duration))
            expected = binding * transmitter * on * (1 - s) - unbinding * s
    assert_close(slope, expected, "receptor differences")


@pytest.mark.parametrize("form", [DoubleExponential, lambda r, d: Saturating(r, d, 500.0)])
def test_equal_constants_are_the_limit_of_unequal_ones(form):
    """The distance of the two falls as that of the constants does."""
    t = np.linspace(0, 50e-3, 60)
    limit = form(5e-3, 5e-3).response(t)
    for apart in (1e-3, 1e-5, 1e-7):
        near = form(5e-3, 5e-3 * (1 + apart)).response(t)
        assert np.abs(near - limit).max() <= apart
    if form is DoubleExponential:
        assert_close(limit, t / 5e-3 * np.exp(1 - t / 5e-3), "float64")


@pytest.mark.parametrize("name", MAKERS)
def test_simulated_gates_follow_the_closed_form(name):
    """One spike, a burst whose responses overlap, a train: exact but for rk4's fourth order."""
    trains = [[2e-3], [2e-3, 2.4e-3, 9e-3], 1e-3 + 5e-3 * np.arange(8)]
    t, gates = simulated(MAKERS[name], trains, duration=60e-3)
    expected = [MAKERS[name].kinetics.train(t, acting(train)) for train in trains]
    exact = name != "saturating"
    assert_close(gates, expected, "receptor steps" if exact else "receptor rk4")


@pytest.mark.parametrize("name", ["exponential", "double exponential", "two-state"])
def test_simulated_gates_decay_with_their_slowest_constant(name):
    t, gates = simulated(MAKERS[name], [[0.0]], duration=0.2)
    late = slice(-200, None)
    slope = np.polyfit(t[late], np.log(gates[0, late]), 1)[0]
    slowest = {"exponential": 2e-3, "double exponential": 20e-3, "two-state": 1 / 190.0}[name]
    assert_close(-1 / slope, slowest, "receptor decay")


@pytest.mark.parametrize(("method", "order"), [("exponential_euler", 1), ("rk2", 2), ("rk4", 4)])
def test_the_saturating_gate_converges_at_the_order_of_its_integrator(method, order):
    steps = [1.25e-4, 0.625e-4, 0.3125e-4]
    spikes = [0.0, 4e-3, 6e-3]
    errors = []
    for dt in steps:
        t, gates = simulated(MAKERS["saturating"], [spikes], duration=10e-3, dt=dt, method=method)
        since = MAKERS["saturating"].kinetics.train(t, acting(spikes, dt))
        errors.append(np.abs(gates[0] - since).max())
    measured = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert abs(measured - order) <= TOLERANCES["receptor order"].value


@pytest.mark.parametrize("name", ["saturating", "two-state"])
def test_a_regular_train_ends_in_its_steady_course(name):
    periods = np.array([2e-3, 5e-3, 20e-3, 50e-3])
    trains = [np.arange(0, 0.2 - period / 2, period) for period in periods]
    t, gates = simulated(MAKERS[name], trains, duration=0.2)
    bound = "receptor steps" if name == "two-state" else "receptor rk4"
    for period, gate in zip(periods, gates, strict=True):
        last = t > 0.2 - period - DT / 2
        phase = (t[last] - DT) % period
        phase[period - phase < DT / 2] = 0
        assert_close(gate[last], MAKERS[name].kinetics.steady(phase, 1 / period), bound)
        assert gate.max() < 1


@every_kinetics
def test_the_steady_course_repeats_and_its_mean_is_the_mean(name):
    kinetics, rate = KINETICS[name], 80.0
    end = kinetics.steady(np.array(1 / rate), rate)
    jump = 1.0 if isinstance(kinetics, Exponential) else 0.0
    assert_close(kinetics.steady(np.array(0.0), rate), end + jump, "float64")
    assert_close(kinetics.mean(rate), Kinetics.mean(kinetics, rate), "ode")


@pytest.mark.parametrize("name", SATURATING)
def test_a_saturating_gate_stays_below_one_and_its_mean_below_the_sum_of_responses(name, rng):
    kinetics = KINETICS[name]
    spikes = np.sort(rng.uniform(0, 0.1, 200))
    gate = kinetics.train(np.linspace(0, 0.15, 2000), spikes)
    assert (gate >= 0).all()
    assert (gate < 1).all()
    rates = np.array([50.0, 100.0, 500.0, 900.0])
    means = np.array([kinetics.mean(rate) for rate in rates])
    assert (means < rates * kinetics.area).all()
    assert (np.diff(means) > 0).all()


def test_fast_trains_hold_the_saturating_gate_at_its_mean_field():
    """x stands at rate rise, and s where opening and closing balance (Wang 2002)."""
    kinetics, rate = KINETICS["saturating"], 2e4
    opening = kinetics.alpha * rate * kinetics.rise * kinetics.decay
    assert_close(kinetics.mean(rate), opening / (1 + opening), "receptor mean field")


def test_spikes_within_a_pulse_of_transmitter_prolong_it():
    kinetics = KINETICS["two-state"]
    gate = kinetics.train(np.array([5e-3]), np.arange(0, 5e-3, 0.4e-3))
    reached = -kinetics.open_share * np.expm1(-kinetics.approach * 5e-3)
    assert_close(gate, [reached], "float64")
    assert_close(kinetics.mean(2e3), kinetics.open_share, "ode")


def test_the_two_state_receptor_has_its_closed_mean_under_poisson_spikes(seed):
    rate, cells = 400.0, 200
    chosen = MAKERS["two-state"]
    some = -np.expm1(-rate * DT)  # a second spike in a step would change nothing
    spikes = np.random.default_rng(seed).random((cells, 3000)) < some
    trains = [np.flatnonzero(each) * DT for each in spikes]
    t, gates = simulated(chosen, trains, duration=0.3)
    assert_expected(gates[:, t > 0.05].mean(1), chosen.kinetics.poisson_mean(rate))


def test_poisson_spikes_open_less_than_the_sum_of_their_responses():
    kinetics = KINETICS["two-state"]
    for rate in (5.0, 400.0, 5e3):
        assert 0 < kinetics.poisson_mean(rate) < min(kinetics.open_share, rate * kinetics.area)
    assert_close(kinetics.poisson_mean(1e-3), 1e-3 * kinetics.area, "receptor rare spikes")
    assert_close(kinetics.poisson_mean(5e4), kinetics.open_share, "float64")


@pytest.mark.parametrize("name", ["saturating", "two-state"])
def test_each_synapse_saturates_by_itself_and_the_cell_sums_by_weight(name):
    maker = saturating if name == "saturating" else two_state
    chosen = maker("r", site="synapse", weight="w")
    weights, spikes = np.array([0.5, 2.0, 1.0]), [[1e-3, 2e-3], [1e-3], [4e-3, 12e-3]]
    with engine("numpy", DT, 0):
        source = b2.SpikeGeneratorGroup(
            3, np.repeat([0, 1, 2], [2, 1, 2]), np.concatenate(spikes) * b2.second, name="source"
        )
        cell = b2.NeuronGroup(1, chosen.equations, name="cell")
        synapses = b2.Synapses(
            source,
            cell,
            chosen.synapse + "\nw : 1",
            on_pre=chosen.on_pre,
            namespace=chosen.namespace,
            method=chosen.method,
            name="synapses",
        )
        synapses.connect()
        synapses.w = weights
        monitor = b2.StateMonitor(cell, chosen.opened, record=0, when="end", name="sum")
        b2.Network(source, cell, synapses, monitor).run(25e-3 * b2.second, namespace={})
        t, total = np.asarray(monitor.t / b2.second), np.asarray(monitor.total_r)[0]
    gates = [chosen.kinetics.train(t, acting(train)) for train in spikes]
    assert_close(total, weights @ gates, "receptor rk4")


def clamped(receptors, voltages):
    """Currents of receptors in cells clamped to voltages (V), one spike each: (cell, step)."""
    made = compose(receptors)
    with engine("numpy", DT, 0):
        source = b2.SpikeGeneratorGroup(1, [0], [0] * b2.second, name="source")
        cells = b2.NeuronGroup(
            len(voltages),
            made.equations + "\nv : volt (constant)",
            method=made.method,
            namespace=dict(made.namespace),
            name="cells",
        )
        cells.v = voltages * b2.volt
        synapses = b2.Synapses(
            source, cells, on_pre=made.on_pre, namespace=dict(made.namespace), name="synapses"
        )
        synapses.connect()
        names = [each.current for each in receptors]
        monitor = b2.StateMonitor(cells, ["I_syn", *names], record=True, name="currents")
        b2.Network(source, cells, synapses, monitor).run(10e-3 * b2.second, namespace={})
        t = np.asarray(monitor.t / b2.second)
        return t, {name: np.array(getattr(monitor, name)) for name in ["I_syn", *names]}


def test_receptors_compose_into_one_current():
    block = MagnesiumBlock(mg=1.0)
    ampa = exponential("ampa").conducting(1e-9)
    nmda = double_exponential("nmda", weight="2").conducting(0.5e-9, magnesium=block)
    gaba = two_state("gaba").conducting(2e-9, reversal=-0.07)
    v = np.linspace(-0.09, 0.04, 7)
    t, currents = clamped([ampa, nmda, gaba], v)
    t = t - acting(0.0)
    gates = [each.kinetics.response(t) for each in (ampa, nmda, gaba)]
    expected = {
        "I_ampa": 1e-9 * gates[0] * (0 - v[:, None]),
        "I_nmda": 1e-9 * gates[1] * block.open_share(v)[:, None] * (0 - v[:, None]),
        "I_gaba": 2e-9 * gates[2] * (-0.07 - v[:, None]),
    }
    for name, current in expected.items():
        assert_close(currents[name], current, "receptor rk4")
    assert_close(currents["I_syn"], sum(expected.values()), "receptor rk4")


def test_the_magnesium_block_is_half_at_its_half_block_voltage():
    """-20.5 mV at 1 mM, by the constants of Jahr & Stevens 1990; 0 V at 3.57 mM."""
    for mg in (0.01, 1.0, 10.0):
        block = MagnesiumBlock(mg=mg)
        assert_close(block.open_share(block.half_block_voltage), 0.5, "float64")
    assert round(half_block_voltage(1.0) * 1e3, 1) == -20.5
    assert MagnesiumBlock(mg=3.57).half_block_voltage == 0


@pytest.mark.parametrize("reversal", [-0.02, 0.0, 0.01])
@pytest.mark.parametrize("mg", [0.05, 1.0, 5.0])
def test_the_current_falls_with_the_potential_below_the_trough_and_rises_above(mg, reversal):
    block = MagnesiumBlock(mg=mg)
    trough = block.trough_voltage(reversal)

    def slope(v, h=1e-5):
        ends = block.iv(np.array([v - h, v + h]), conductance=1.0, reversal=reversal)
        return (ends[1] - ends[0]) / (2 * h)

    assert trough < reversal
    assert abs(slope(trough)) < TOLERANCES["receptor trough"].value
    below = [slope(v) for v in trough - np.array([0.002, 0.02, 0.05])]
    above = [slope(v) for v in trough + np.array([0.002, 0.02, 0.05])]
    assert max(below) < 0 < min(above)


def test_no_magnesium_leaves_an_ohmic_line():
    block = MagnesiumBlock(mg=0.0)
    v = np.linspace(-0.1, 0.05, 31)
    assert_close(block.iv(v, conductance=2e-9, reversal=0.01), 2e-9 * (v - 0.01), "float64")
    assert block.half_block_voltage == block.trough_voltage(0.0) == -np.inf


def test_the_table_s_receptors_have_the_published_constants():
    nmda = receptor("nmda").conducting(0.165e-9)
    assert nmda.kinetics == Saturating(2e-3, 100e-3, 500.0)
    assert nmda.magnesium == MagnesiumBlock(mg=1.0, half=3.57, slope=62.0)
    assert receptor("ampa").kinetics == Exponential(2e-3)
    assert receptor("gaba").kinetics == Exponential(5e-3)
    for name, each in RECEPTORS.items():
        assert each.name == name
        each.require_resolved(1e-4)


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda: exponential("a", tau=0.0), "tau = 0.0 is out of range"),
        (lambda: exponential("a", tau=-1e-3), "tau = -0.001 is out of range"),
        (lambda: double_exponential("a", rise=np.nan), "rise = nan is out of range"),
        (lambda: double_exponential("a", rise=0.2), "rise = 0.2 s outlasts decay = 0.1 s"),
        (lambda: saturating("a", rise=0.2), "rise = 0.2 s outlasts decay = 0.1 s"),
        (lambda: saturating("a", alpha=-1.0), "alpha = -1.0 is out of range"),
        (lambda: two_state("a", duration=0.0), "duration = 0.0 is out of range"),
        (lambda: exponential("a").conducting(-1e-9), "conductance = -1e-09 is out of range"),
        (lambda: exponential("a", reversal=np.inf), "reversal = inf is no potential"),
        (lambda: exponential("2a"), "the name can't end a variable"),
        (lambda: exponential("a_post"), "the name can't end a variable"),
        (lambda: exponential("a", site="axon"), "no site called 'axon'"),
        (lambda: saturating("a", weight="w"), 'give site="synapse"'),
        (lambda: MagnesiumBlock(mg=-1.0), "mg = -1.0 is out of range"),
        (lambda: receptor("nmdar"), "did you mean 'nmda'?"),
        (lambda: compose([]), "there is no receptor"),
        (lambda: compose([exponential("a"), saturating("a")]), "the same variables"),
        (lambda: compose([exponential("syn").conducting(1e-9)]), "the same variables"),
        (lambda: KINETICS["saturating"].mean(0.0), "rate = 0.0 is out of range"),
        (lambda: KINETICS["saturating"].poisson_mean(9.0), "no closed form of the mean"),
        (lambda: KINETICS["exponential"].steady(np.zeros(1), -1.0), "rate = -1.0 is out of range"),
        (lambda: exponential("a").require_resolved(5e-4), "dt = 0.0005 s is more than a fifth"),
        (lambda: require_resolved(0.0, {}, where="here"), "dt = 0.0 is out of range"),
    ],
)
def test_mistakes_are_told_in_one_line(mistake, message):
    with pytest.raises(FwbioError) as told:
        mistake()
    assert message in str(told.value)
    assert "\n" not in str(told.value)


def test_a_fifth_of_a_time_constant_is_resolved():
    require_resolved(0.4e-3, {"tau": 2e-3}, where="here")
    with pytest.raises(FwbioError, match=r"here: dt = 0.00041 s .* tau = 0.002 s; give a dt of at"):
        require_resolved(0.41e-3, {"other": 1.0, "tau": 2e-3}, where="here")


def test_closed_forms_load_no_simulator():
    loaded = python("-c", "import sys, fwbio.models.receptors; print(*sys.modules)").split()
    assert "fwbio.models.receptors" in loaded
    assert "brian2" not in loaded


def expected_at(record, name):
    """The closed form of a panel where it was simulated."""
    x = record[name].dims[-1]
    dense = record[f"{name}_expected"]
    return np.array([np.interp(record[x], dense[f"{x}_expected"], row) for row in dense.values])


def test_the_protocol_of_magnesium_draws_what_its_closed_forms_say():
    record = magnesium_block()
    for name in ("open_share", "current", "mark"):
        assert_close(record[name].values, expected_at(record, name), "receptor protocol")
    ohmic = record["current"].sel(magnesium="0 mM")
    assert_close(ohmic.values, ohmic.potential.values, "receptor protocol")
    assert round(float(record["mark"].sel(kind="half blocked", concentration=1.0)), 1) == -20.5
    assert round(float(record["mark"].sel(kind="most inward current", concentration=1.0))) == -27


def test_the_protocol_of_kinetics_draws_what_its_closed_forms_say(seed):
    record = receptor_kinetics(seed=seed)
    assert record.attrs["seed"] == seed
    for name in ("regular", "fast_spike", "slow_spike"):
        assert_close(record[name].values, expected_at(record, name), "receptor protocol")
    distance = np.abs(record["poisson"].values - expected_at(record, "poisson"))
    assert (distance <= TOLERANCES["receptor standard errors"].value * record["poisson_se"]).all()
    assert record["slow_train"].sel(receptor_slow_train="NMDA, saturating").max() < 1
