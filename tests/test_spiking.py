"""The spiking substrate: its cells, its gates, its noise, and its agreement with the ideal."""

import numpy as np
import pytest
from programs import random_program
from tolerances import TOLERANCES, assert_close, assert_expected

from fwbio import FwbioError, models, record, reference, tasks
from fwbio.models import standalone
from fwbio.models.cells import RESET, SpikingModel
from fwbio.models.dendrite import compensated
from fwbio.models.presentations import Timing, plan
from fwbio.models.simulation import RecordingWarning, engine
from fwbio.normal_form import normal_form
from fwbio.program import operands

FAST = {"dt": 0.5e-3, "cells_per_key": 2}
# mild enough that eight cells a key still agree with the ideal
DEPARTING = {
    "ceiling": 0.99,
    "receptors": 500,
    "release": 0.95,
    "turnover_cv": 0.1,
    "noise_multiplicative": 0.02,
    "noise_additive": 0.02,
}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """Programs are compiled once for the tests of this file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(standalone.CACHE, str(tmp_path_factory.mktemp("cache")))
        yield


def agreement(one, other):
    readouts = (record.readout.values[record.scored.values].ravel() for record in (one, other))
    return np.corrcoef(*readouts)[0, 1]


@pytest.fixture(scope="module")
def digits():
    return tasks.TASKS["digits"](seed=11, trials=1, pairs=20, noise=0.3)


@pytest.mark.parametrize("rule", ["hebb", "retnet", "mamba2", "delta", "gated_delta"])
def test_readouts_agree_with_the_reference_on_digits(rule, digits):
    program = models.designed(digits, rule)
    done = models.execute(program, "spiking", seed=1)
    assert agreement(done, reference.execute(program)) >= TOLERANCES["spiking, 8 cells"].value


def sparse_pairs(rule, **settings):
    """Eight pairs of 32 sparse keys and 16 values, in eight trials."""
    episode = tasks.TASKS["random_pairs"](
        seed=5, trials=8, pairs=8, pre=32, post=16, keys="sparse", values="sign", active=0.2
    )
    return models.designed(episode, rule, **settings)


@pytest.mark.parametrize("rule", ["hebb", "delta", "gated_delta"])
def test_eight_cells_a_key_agree_with_the_reference_on_sparse_pairs(rule):
    program = sparse_pairs(rule)
    done, ideal = models.execute(program, "spiking", seed=6), reference.execute(program)
    for trial in range(program.sizes["trial"]):
        one = done.isel(trial=[trial]), ideal.isel(trial=[trial])
        assert agreement(*one) >= TOLERANCES["spiking, 8 cells"].value


def small_pairs(seed):
    """Four pairs of 16 sparse keys and 8 values that decay, in two trials."""
    episode = tasks.TASKS["random_pairs"](
        seed=seed, trials=2, pairs=4, pre=16, post=8, keys="sparse", values="sign", active=0.25
    )
    return models.designed(episode, "gated_delta", time_constant=3.0)


@pytest.mark.parametrize("name", ["cython", "numpy", "cpp_standalone"])
def test_every_engine_agrees_with_the_reference_and_repeats_with_its_seed(name, monkeypatch):
    """A standalone program, built once, runs every seed and every program of one layout."""
    program, bound = small_pairs(5), TOLERANCES["spiking, 8 cells"].value
    first, again, other = (
        models.execute(program, "spiking", engine=name, seed=s, **DEPARTING) for s in (3, 3, 4)
    )
    for done in (first, other):
        assert agreement(done, reference.execute(program)) >= bound
    for variable in ("readout", "weights", "g_ampa", "pre_spike_time", "post_spike_cell"):
        np.testing.assert_array_equal(first[variable], again[variable])
    assert (first.weights.values != other.weights.values).any()
    assert first.attrs["backend"] == f"brian2-{name}"

    def never(*_):
        raise AssertionError("compiled again")

    monkeypatch.setattr(standalone, "_build", never)
    changed = small_pairs(6)
    done = models.execute(changed, "spiking", engine=name, seed=3, gain=0.019, **DEPARTING)
    assert agreement(done, reference.execute(changed)) >= bound


def test_gaps_draw_the_same_in_every_engine(rng):
    """Without key spikes only the gaps move conductances, by numbers drawn before the run."""
    program = random_program("gated_delta", rng, steps=3, nonnegative=True, initial_weights=True)
    for name in ("key", "query"):
        program[name][:] = 0.0
    options = DEPARTING | {"seed": 2, "weights": "all", "dt": 1e-3}
    plain, done = (
        models.execute(program, "spiking", engine=name, **options) for name in ("numpy", "cython")
    )
    assert_close(done.weights, plain.weights, "float64")
    assert (np.diff(done.weights, axis=1) != 0).all()


def exponent(x, y):
    """The slope of log y on log x."""
    return np.polyfit(np.log(x), np.log(y), 1)[0]


def deviation(done, ideal, name):
    """The rms difference of two runs' scored read-outs or weights."""
    difference = (done[name] - ideal[name]).values
    difference = difference[done.scored.values] if name == "readout" else difference
    return np.sqrt(np.mean(difference**2))


@pytest.mark.parametrize(
    ("rule", "strength", "varied", "noisy"),
    [
        ("hebb", 1.0, ("cells_per_key",), ("weights",)),
        ("delta", 1.0, ("cells_per_key",), ("weights", "readout")),
        ("hebb", 1.0, ("write", "read"), ("weights",)),
        ("delta", 0.5, ("write", "read"), ("weights", "readout")),
    ],
)
def test_noise_falls_as_the_root_of_cells_and_of_time(rule, strength, varied, noisy):
    """With teaching cells enough that their noise is no floor; reading has one of its own."""
    program = sparse_pairs(rule, strength=strength)
    ideal = reference.execute(program)
    first = 2 if "cells_per_key" in varied else 0.3
    fold = [1, 4, 16] if "cells_per_key" in varied else [1, 2, 4]
    runs = [
        models.execute(
            program,
            "spiking",
            seed=7,
            cells_per_value=1024,
            **dict.fromkeys(varied, first * times),
        )
        for times in fold
    ]
    for name in noisy:
        noise = [deviation(done, ideal, name) for done in runs]
        assert abs(exponent(fold, noise) + 0.5) <= TOLERANCES["noise exponent"].value, noise
    assert (np.diff([agreement(done, ideal) for done in runs]) > 0).all()


def test_equal_seeds_repeat_and_others_differ(rng):
    program = random_program("delta", rng, steps=3, nonnegative=True, passive=True)
    first, again, other = (models.execute(program, "spiking", seed=s, **FAST) for s in (3, 3, 4))
    np.testing.assert_array_equal(first.readout, again.readout)
    np.testing.assert_array_equal(first.weights, again.weights)
    assert (first.weights.values != other.weights.values).any()


def test_the_f_i_curve_inverts():
    model = SpikingModel()
    drive = np.linspace(0.0205, 0.15, 40)
    assert_close(model.drive(model.rate(drive)), drive, "float64")
    assert model.rate(np.array(0.019)) == 0


@pytest.mark.parametrize("dt", [0.5e-3, 0.2e-3])
def test_a_cell_fires_as_its_f_i_curve_says(dt, rng):
    """Steady drives, simulated without the substrate: no interval is rounded to whole steps."""
    import brian2 as b2

    model = SpikingModel(dt=dt)
    drives = rng.uniform(0.0205, 0.1, 200)
    with engine("numpy", dt, 0):
        cells = b2.NeuronGroup(
            200,
            "dv/dt = (v_steady - v) / tau : volt (unless refractory)\nv_steady : volt (constant)",
            threshold="v > v_threshold",
            reset=RESET,
            refractory=model.refractory_steps * b2.defaultclock.dt,
            method="exponential_euler",
            namespace={
                "v_threshold": model.v_threshold * b2.volt,
                "v_reset": model.v_reset * b2.volt,
                "tau": model.tau_membrane * b2.second,
            },
        )
        cells.v_steady = (model.v_rest + drives) * b2.volt
        cells.v = model.v_reset * b2.volt
        counts = b2.SpikeMonitor(cells, record=False)
        network = b2.Network(cells, counts)
        network.run(0.2 * b2.second, namespace={})
        first, before = np.array(cells.lastspike), np.array(counts.count)
        network.run(0.5 * b2.second, namespace={})
        intervals = np.array(counts.count) - before
        mean = (np.array(cells.lastspike) - first) / intervals
    # each end of the intervals' sum is told to a step
    assert (np.abs(mean - 1 / model.rate(drives)) <= dt / intervals * (1 + 1e-6)).all()


def test_key_cells_fire_in_proportion_to_the_key(rng):
    program = random_program("hebb", rng, trials=1, steps=1, pre=20, nonnegative=True, passive=True)
    model = SpikingModel(cells_per_key=50)
    done = models.execute(program, "spiking", cells_per_key=50)
    key = program.key.values[0, 0]
    largest = max(key.max(), program["query"].values.max())
    expected = model.peak_rate * key / largest * model.write * model.cells_per_key
    fired = np.bincount(done.pre_spike_cell.values // model.cells_per_key, minlength=20)
    assert_expected((fired - expected) / np.sqrt(expected), 0.0)


def test_hebbian_weights_have_the_rule_s_mean(rng):
    """Averaged over trials and cells, the spiking weights are the reference's."""
    single = random_program("hebb", rng, trials=1, steps=1, nonnegative=True, passive=True)
    program = single.isel(trial=np.zeros(40, int))
    done = models.execute(program, "spiking", seed=2)
    expected = reference.execute(single).weights.values[0, 0]
    for pre, post in np.ndindex(expected.shape):
        assert_expected(done.weights.values[:, 0, pre, post], expected[pre, post])


def test_error_correcting_weights_have_the_rule_s_mean(rng):
    """A Poisson spike does not depend on the past, so the lagging prediction is no bias."""
    single = random_program("delta", rng, trials=1, steps=2, nonnegative=True, passive=True)
    single["query"][:] = 0.0
    program = single.isel(trial=np.zeros(150, int))
    done = models.execute(program, "spiking", seed=2, engine="numpy", dt=1e-3, baseline=6.0)
    expected = reference.execute(single).weights.values[0, 0]
    for pre, post in np.ndindex(expected.shape):
        assert_expected(done.weights.values[:, 0, pre, post], expected[pre, post])


def mean_weights(course, model, weights, *, corrects):
    """The weights (pre, post) of one trial after all phases, spikes replaced by their rates."""
    dt = model.dt
    lag, closing, fading = np.exp(
        -dt / np.array([model.tau_membrane, model.tau_ampa, model.tau_nmda_decay])
    )
    ampa, conductance, trace = np.zeros((3, weights.shape[1]))
    calcium = 0.0
    for phase in course.phases:
        t, writing = phase.write, phase.kind == "write"
        key = course.key[0, t] * writing
        if phase.kind == "gap":
            weights = weights * np.exp(-course.turnover[0, t] * phase.duration)[:, None]
        for step in range(round(phase.duration / dt)):
            # what a spike changes was told at the end of the step before
            plastic = course.plasticity[0, t] * dt * (calcium > model.theta_d) * (step > 0)
            change = plastic * np.outer(key, trace - corrects * ampa)
            ampa = conductance + (ampa - conductance) * lag
            conductance = conductance * closing + (1 - closing) * key @ weights
            trace = trace * fading + (1 - fading) * course.teach[0, t] * writing
            calcium = calcium * fading + (1 - fading) * writing
            weights = weights + change
    return weights


@pytest.mark.parametrize("rule", ["hebb", "retnet", "delta", "gated_delta"])
@pytest.mark.parametrize("options", [{}, {"theta_d": 0.8, "write": 0.25}, {"tau_membrane": 5e-3}])
def test_the_mean_flow_of_the_lagging_synapse_is_the_rule_s(rule, options, rng):
    given = random_program(rule, rng, trials=1, steps=4, nonnegative=True, passive=True)
    given["query"][:] = 0.0
    if "beta" in given:
        given["beta"][:, 1] = 1.0  # all of a prediction is erased
    # half a second, in which a prediction is gone
    model = SpikingModel(erase_limit=1.0, gap=0.5, **options)
    known = operands(given)
    form = normal_form(known.rule, known.streams, xp=np, time_axis=1)
    timing = {name: getattr(model, name) for name in ("gap", "write", "pause", "settle", "read")}
    ideal = plan(
        form,
        Timing(**timing, tau_nmda=model.tau_nmda_decay, theta_d=model.theta_d),
        erase_limit=0.9,
        where="test",
    )
    course = compensated(ideal, form, model)
    assert course.clipped == 0
    done = mean_weights(course, model, np.zeros((4, 3)), corrects=form.erase is not None)
    assert_close(done, reference.execute(given).weights.values[0, 0], "mean flow")


def test_weights_turn_over_between_spikes_and_rest_without(rng):
    """A step that only waits multiplies every weight by the decay, spikes or not."""
    program = random_program("mamba2", rng, trials=1, steps=2, nonnegative=True, passive=True)
    program["beta"][:, 1] = 0.0
    program["query"][:, 1] = 0.0
    done = models.execute(program, "spiking", weights="all", **FAST)
    decay = np.exp(program.log_decay.values[0, 1])
    assert_close(done.weights.values[0, 1], decay * done.weights.values[0, 0], "float64")


def test_no_conductance_is_negative(rng):
    program = random_program("hebb", rng, trials=1, steps=4, nonnegative=True, passive=True)
    done = models.execute(program, "spiking", baseline=0.05, **FAST)
    bounded = [words for words in done.attrs["approximate"] if "at a bound" in words]
    assert bounded
    key, value = program.key.values, program.value.values
    largest = np.sqrt(np.einsum("ntk,ntv->nkv", key**2, value**2).max())
    assert np.abs(done.weights.values).max() <= 2 * 0.05 * largest * (1 + 1e-9)


def test_below_threshold_calcium_nothing_is_learned(rng):
    program = random_program("hebb", rng, trials=1, steps=1, nonnegative=True, passive=True)
    # calcium reaches 1 - exp(-.3 / .1) = .95 at the end of a presentation
    with pytest.raises(FwbioError, match=r"theta_d = 0.96 .* never reached"):
        models.execute(program, "spiking", theta_d=0.96)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"peak_rate": 3000.0}, "a cell would often fire twice in a step; give at most 400 Hz"),
        ({"base_rate": 480.0}, "leaves a value cell no room to rise; give at most 250 Hz"),
        ({"dt": 5e-3}, "outlasts the refractory period"),
        (
            {"tau_ampa": 0.5e-3},
            "dt = 0.0005 s is too coarse for tau_ampa = 0.0005 s; give dt of at",
        ),
        ({"tau_membrane": 0.8e-3}, "too coarse for tau_membrane = 0.0008 s"),
        ({"baseline": -1.0}, "baseline = -1.0 is out of range; give a positive number"),
        ({"theta_d": 1.0}, "theta_d = 1.0 is out of range; give a number from 0 to 1"),
        ({"theta_d": 0.95021}, "theta_d = 0.95021 leaves no plastic step in 0.3 s; lower theta_d"),
        ({"v_threshold": -0.09}, "v_threshold = -0.09 V is not above rest and reset"),
        ({"cells_per_key": 1.5}, "cells_per_key = 1.5 .* positive whole number"),
    ],
)
def test_parameters_that_make_no_cell_are_refused(options, words, rng):
    program = random_program("hebb", rng, trials=1, steps=1, nonnegative=True, passive=True)
    with pytest.raises(FwbioError, match=words):
        models.execute(program, "spiking", **options)


def test_the_record_shows_one_presentation(rng):
    program = random_program("delta", rng, steps=3, nonnegative=True, passive=True)
    done = models.execute(program, "spiking", **FAST)
    assert record.validate(done) == []
    assert done.time.attrs["units"] == "s"
    start = float(done.onset[-1]) + SpikingModel().gap
    end = start + SpikingModel().write
    for times in (done.time, done.pre_spike_time, done.post_spike_time):
        assert (times >= start).all()
        assert (times < end).all()
    assert done.g_nmda.dims == done.g_ampa.dims == ("time", "cell")
    # the write starts below the plasticity threshold of calcium and ends above it
    assert (done.calcium[0] < SpikingModel().theta_d).all()
    assert (done.calcium[-1] > SpikingModel().theta_d).all()


@pytest.mark.parametrize("name", ["cython", "numpy"])
def test_what_is_shown_is_of_the_very_steps_told(name, rng):
    """Calcium rises from the first step on, and a spike reaches the dendrite in two.

    A spike opens AMPA receptors at the end of its step; the dendrite follows them in the next one,
    at whose end, the start of the second after the spike, its prediction is first to be seen.
    """
    program = random_program(
        "hebb", rng, trials=2, steps=1, nonnegative=True, passive=True, initial_weights=True
    )
    done = models.execute(program, "spiking", engine=name, **FAST)
    model = SpikingModel(**FAST)
    steps = np.arange(round(model.write / model.dt))
    assert_close(done.time, model.gap + model.dt * steps, "float64")
    calcium = 1 - np.exp(-model.dt * steps / model.tau_nmda_decay)
    assert_close(done.calcium, np.broadcast_to(calcium[:, None], done.calcium.shape), "float64")
    first = round((float(done.pre_spike_time.min()) - model.gap) / model.dt)
    seen = (done.g_ampa.values != 0).any(1)
    assert not seen[: first + 2].any()
    assert seen[first + 2 :].all()
    assert (np.diff(done.pre_spike_time) >= 0).all()
    assert done.pre_spike_cell.max() < program.sizes["pre"] * model.cells_per_key
    assert done.post_spike_cell.max() < 2 * program.sizes["post"]
    for cell in np.unique(done.post_spike_cell):
        times = done.post_spike_time.values[done.post_spike_cell.values == cell]
        assert (np.diff(times) > model.tau_refractory * (1 - 1e-9)).all()


def test_a_run_of_many_synapses_warns_before_it_starts(rng):
    program = random_program("hebb", rng, trials=1, steps=1, nonnegative=True, passive=True)
    with pytest.warns(RecordingWarning, match="spiking substrate: recording will take"):
        models.execute(program, "spiking", record_bound=10.0, **FAST)
