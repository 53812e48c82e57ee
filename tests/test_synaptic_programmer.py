"""The slow net in synapses: what its drives converge to, how noisy they are, and what it emits."""

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from tolerances import TOLERANCES, assert_close, assert_expected

from fwbio import RULES, FwbioError, reference
from fwbio.models.nmda_readout import Layer, NmdaReadout, drives
from fwbio.models.slow_net import SlowNet, TrainedProgrammer, TrainingConfig
from fwbio.models.synaptic_programmer import SynapticProgrammer
from fwbio.record import validate
from fwbio.tasks import TASKS

QUICK = {"engine": "numpy", "tau_nmda_decay": 0.01, "gap": 0.01, "settle": 0.2, "read": 0.02}
STREAMS = (  # between them, every stream and every function of a drive
    "linear_attention",
    "mlstm",
    "kda",
    "gated_delta_2",
    "longhorn",
    "rwkv7",
    "mesa",
    "delta_product",
)
SIZES = {"keys": 6, "values": 4, "hidden": 8, "pairs": 2}


def readout(**changes):
    return NmdaReadout(**(QUICK | changes))


def untrained(rule, **changes):
    config = TrainingConfig(rule=rule, **(SIZES | changes))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = SlowNet(config, torch.full((64,), 0.3), torch.full((64,), 0.3))
    net.requires_grad_(False).double().eval()
    return TrainedProgrammer(net=net, config=config, history=(), checkpoint="untrained")


def one_to_one(units, **changes):
    layer = {"weight": np.eye(units), "tonic": np.zeros(units), "peak": np.ones(units)}
    return Layer(**(layer | changes))


# The synapses


def test_the_open_share_is_that_of_the_mean_equation(rng):
    rate, chances = rng.uniform(1, 100, 50), []
    for dt in (1e-6, 2e-6):
        model = NmdaReadout(dt=dt)
        shares = model.open_share(rate * dt)
        assert_close(model.chance(shares), rate * dt, "float64")
        chances.append(shares)
    x = model.opening * rate * model.tau_nmda_decay
    limit = 2 * chances[0] - chances[1]  # of dt to 0, the first order taken off
    assert_close(limit, x / (1 + x), "convergence")


def closed_share(rate, rise, decay, alpha):
    """The mean share of closed receptors of Wang's gate under Poisson spikes.

    By 1 - s = integral of exp(-t / decay - alpha integral of x over the last t) dt / decay, and
    Campbell's theorem for the mean of exp(- alpha integral of x), x = sum of exp(-age / rise).
    """
    strength = alpha * rise

    def spared(t):
        within = quad(
            lambda age: -np.expm1(strength * np.expm1(-age / rise)),
            0,
            t,
            points=[min(10 * rise, t / 2)],
        )[0]
        left = -strength * np.expm1(-t / rise)
        before = rise * quad(lambda z: -np.expm1(-left * z) / z, 0, 1)[0]
        return np.exp(-t / decay - rate * (within + before)) / decay

    return quad(spared, 0, 30 * decay, points=[rise, 10 * rise], limit=200)[0]


@pytest.mark.parametrize("rate", [5.0, 100.0])
def test_receptors_that_open_at_once_are_wang_s_to_first_order_in_the_rise(rate):
    wang, rises = NmdaReadout(), np.array([2e-3, 4e-4, 2e-4, 1e-4])
    missing = []
    for rise in rises:
        alpha = wang.alpha_nmda * wang.tau_nmda_rise / rise
        model = NmdaReadout(dt=1e-8, tau_nmda_rise=rise, alpha_nmda=alpha)
        expected = 1 - closed_share(rate, rise, model.tau_nmda_decay, alpha)
        missing.append(1 - float(model.open_share(np.array(rate * model.dt))) / expected)
    assert 0 < missing[0] < wang.tau_nmda_rise / wang.tau_nmda_decay
    order = np.polyfit(np.log(rises[1:]), np.log(missing[1:]), 1)[0]
    assert abs(order - 1) <= TOLERANCES["order"].value


def test_rate_cells_shown_for_long_make_the_layer(rng):
    weight, tonic = rng.standard_normal((5, 7)), rng.standard_normal(7)
    activity = rng.uniform(0, 3, (2, 3, 5))
    layer = Layer(weight=weight, tonic=tonic, peak=activity.max((0, 1)))
    driven = drives(activity, layer, readout(cells="rate"))
    assert driven.shape == (2, 2, 3, 7)
    assert_close(driven, np.broadcast_to(activity @ weight + tonic, driven.shape), "convergence")


def test_what_is_left_of_a_presentation_decays_as_nmda_does():
    activity = np.array([[[1.0], [0.0]]])
    left = {}
    for gap in (0.0, 0.05):
        model = readout(
            cells="rate", gap=gap, settle=0.05, read=0.05, frame=0.01, tau_nmda_decay=0.03
        )
        left[gap] = drives(activity, one_to_one(1), model)[:, 0, 1, 0]
        steps = left[gap][1:] / left[gap][:-1]
        assert_close(steps, np.full(4, np.exp(-model.frame / 0.03)), "convergence")
    remains = left[0.05] / left[0.0]
    # shown for 100 ms, a cell at its peak has opened all but exp(-9) of what it will
    assert_close(remains, np.full(5, np.exp(-0.05 / 0.03)), "shown for nine time constants")


@pytest.fixture(scope="module")
def spiking():
    """Drives of independent synapses of weight 1, by the number of cells behind each."""
    activity = np.full((1, 4, 1000), 0.4)
    layer = one_to_one(1000)
    shown = {"settle": 0.1, "read": 0.001, "frame": 0.001}
    return {
        cells: drives(activity, layer, readout(cells_per_unit=cells, **shown), seed=cells)
        for cells in (1, 4, 16)
    }


def shot_noise(model, share):
    """The variance of one cell's NMDA current at an open share, from its moments.

    At every step s <- s E, and with the chance p of a spike s <- s E + a (1 - s E). The current
    is s through an exponential filter, and s an autoregressive process of order 1.
    """
    p, a = model.chance(share), model.opening
    keep = np.exp(-model.dt / model.tau_nmda_decay)
    kept = 1 - p + p * (1 - a) ** 2
    square = p * (2 * a * (1 - a) * share * keep + a**2) / (1 - keep**2 * kept)
    rise = np.exp(-model.dt / model.tau_nmda_rise)
    memory = keep * (1 - p * a)
    filtered = (1 - rise) / (1 + rise) * (1 + memory * rise) / (1 - memory * rise)
    return (square - share**2) * filtered


def test_spikes_give_the_mean_of_rates_and_the_noise_of_their_shots(spiking):
    model = readout()
    highest = float(model.open_share(np.array(model.peak_rate * model.dt)))
    variance = shot_noise(model, 0.4 * highest) / highest**2
    for cells, driven in spiking.items():
        assert_expected(driven, 0.4)
        assert_expected((driven - 0.4) ** 2, variance / cells)


def test_the_noise_falls_with_the_root_of_the_cells(spiking):
    cells = np.array(list(spiking))
    noise = [driven.std() for driven in spiking.values()]
    exponent = np.polyfit(np.log(cells), np.log(noise), 1)[0]
    assert abs(exponent + 0.5) <= TOLERANCES["order"].value


def test_negative_weights_reach_their_target_through_its_interneuron():
    """By Dale's law no conductance is negative: a cell excites output cells and interneurons."""
    from fwbio.models import nmda_readout

    weight = np.array([[2.0, -3.0, 0.0]])
    i, j, conductance = nmda_readout._conductances(weight, trials=2, cells=2)
    assert (conductance > 0).all()
    targets = {(0, 0, 0): 2.0, (0, 1, 1): 3.0, (1, 0, 0): 2.0, (1, 1, 1): 3.0}
    for cell in range(4):
        mine = i == cell
        reached = zip(*np.unravel_index(j[mine], (2, 2, 3)), strict=True)
        found = dict(zip([tuple(map(int, at)) for at in reached], conductance[mine], strict=True))
        own = {at: g / 2 for at, g in targets.items() if at[0] == cell // 2}
        assert found == own


def test_a_layer_without_synapses_has_its_tonic_drive():
    layer = Layer(weight=np.zeros((2, 3)), tonic=np.arange(3.0), peak=np.zeros(2))
    driven = drives(np.zeros((1, 2, 2)), layer, readout())
    assert_close(driven, np.broadcast_to(np.arange(3.0), (2, 1, 2, 3)), "float64")


# The programmer


@pytest.mark.parametrize("rule", STREAMS)
def test_rate_cells_emit_the_imposed_program(rule):
    trained = untrained(rule)
    episode = TASKS["digits"](seed=3, trials=2, pairs=2)
    synaptic = SynapticProgrammer(trained=trained, model=readout(cells="rate"))
    program, imposed = synaptic(episode, rule), trained(episode, rule)
    streams = ("key", "value", "query", *RULES[rule].streams)
    assert validate(program, need=streams) == []
    for name in (*streams, "target"):
        assert_close(program[name], imposed[name].values, "long presentations")
    assert np.isfinite(reference.execute(program).readout).all()


def test_the_program_says_what_was_simulated():
    trained = untrained("delta")
    episode = TASKS["digits"](seed=3, trials=1, pairs=1)
    program = SynapticProgrammer(trained=trained, model=readout(settle=0.01), seed=5)(
        episode, "delta"
    )
    assert program.attrs["programmer"] == "synaptic"
    config = program.attrs["config"]["programmer"]
    assert config["seed"] == 5
    assert config["checkpoint"] == "untrained"
    assert config["synapses"]["tau_nmda_decay"] == 0.01
    assert "the activities of the hidden layers" in config["imposed"]
    assert config["simulated"]


def test_equal_seeds_give_equal_programs():
    trained = untrained("delta")
    episode = TASKS["digits"](seed=3, trials=3, pairs=1)

    def keys(seed, **changes):
        model = readout(settle=0.02, **changes)
        return SynapticProgrammer(trained=trained, model=model, seed=seed)(episode, "delta").key

    assert keys(1).equals(keys(1))
    assert not keys(1).equals(keys(2))
    by_rates = keys(1, cells="rate"), keys(2, cells="rate", trials=2)
    assert_close(by_rates[1], by_rates[0].values, "float64")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"dt": 2e-3}, r"too coarse for a time constant of 0\.002 s; give dt below 0\.002"),
        ({"dt": 0.0}, "dt = 0.0 is out of range"),
        ({"tau_nmda_rise": 0.2}, "tau_nmda_rise = 0.2 s is not below tau_nmda_decay"),
        ({"peak_rate": 500.0}, "fire twice in a step; give at most 200 Hz"),
        ({"frame": 0.5}, "frame = 0.5 s outlasts the reading of 0.3 s"),
        ({"settle": 0.0105}, "a settle of 0.0105 s is not a whole number of steps of 0.001 s"),
        ({"gap": -0.1}, "gap = -0.1 is out of range; give a number from 0 up"),
        ({"alpha_nmda": -5.0}, "alpha_nmda = -5.0 is out of range; give a positive number"),
        ({"cells": "spike"}, "kind of cells called 'spike'; did you mean 'spikes'"),
        ({"cells_per_unit": 1.5}, "cells_per_unit = 1.5 is out of range; .*whole number"),
    ],
)
def test_mistakes_in_the_synapses_are_told(wrong, told):
    with pytest.raises(FwbioError, match=f"^synaptic programmer: .*{told}"):
        NmdaReadout(**wrong)


def test_mistakes_in_what_is_shown_are_told():
    layer, model = one_to_one(1), readout()
    with pytest.raises(FwbioError, match="an activity is -1, and rates can't be negative"):
        drives(np.full((1, 1, 1), -1.0), layer, model)
    with pytest.raises(FwbioError, match="exceeds the peak"):
        drives(np.full((1, 1, 1), 2.0), layer, model)
    with pytest.raises(FwbioError, match="'numba'"):
        drives(np.ones((1, 1, 1)), layer, readout(engine="numba"))
    with pytest.raises(FwbioError, match="-1 is not a seed"):
        SynapticProgrammer(trained=untrained("delta"), seed=-1)
    with pytest.raises(FwbioError, match="trained to program 'delta', not 'hebb'"):
        SynapticProgrammer(trained=untrained("delta"))(TASKS["digits"](trials=1), "hebb")
