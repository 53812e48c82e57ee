"""Differentiable plasticity: its equations in a plain loop, closed forms, and bounds."""

import numpy as np
import pytest
import torch
from tolerances import assert_close

from fwbio.errors import FwbioError
from fwbio.models.networks.plastic import Plastic, PlasticConfig

BATCH, WIDTH, UNITS = 3, 4, 5
BOTH = pytest.mark.parametrize("modulated", [False, True])


def net(seed, **config):
    """A net in float64 whose traces and learning matter: all its parameters are of order 1."""
    torch.manual_seed(seed)
    model = Plastic(PlasticConfig(units=UNITS, **config), WIDTH).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.5)
    return model


def inputs(rng, steps):
    return torch.from_numpy(rng.normal(size=(BATCH, steps, WIDTH)))


def by_hand(model, x):
    """The equations, one sequence, one step, one synapse at a time; also the last traces."""
    p = {name: w.detach().numpy() for name, w in model.named_parameters()}
    y, H = np.zeros((len(x), UNITS)), np.zeros((len(x), UNITS, UNITS))
    out = np.empty((*x.shape[:2], UNITS))
    for b in range(len(x)):
        for t in range(x.shape[1]):
            before = y[b].copy()
            for j in range(UNITS):
                total = p["project.weight"][j] @ x[b, t].numpy() + p["project.bias"][j]
                for i in range(UNITS):
                    weight = p["fixed"][i, j] + p["plasticity"][i, j] * H[b, i, j]
                    total += before[i] * weight
                y[b, j] = np.tanh(total)
            out[b, t] = y[b]
            for i in range(UNITS):
                for j in range(UNITS):
                    H[b, i, j] = learned(model.config, p, H[b, i, j], before[i], y[b], j)
    return out, H


def learned(config, p, trace, before, y, j):
    if not config.modulated:
        eta = 1 / (1 + np.exp(-p["rate_logit"]))
        return (1 - eta) * trace + eta * before * y[j]
    cell = np.tanh(p["modulator.weight"][0] @ y + p["modulator.bias"][0])
    m = p["fan_out.weight"][j, 0] * cell + p["fan_out.bias"][j]
    return min(max(trace + m * before * y[j], -config.clip), config.clip)


@pytest.mark.parametrize("steps", [1, 2, 3, 12])
@pytest.mark.parametrize("clip", [0.3, 5.0])
@BOTH
def test_every_step_is_the_published_one(rng, seed, steps, clip, modulated):
    model = net(seed, modulated=modulated, clip=clip)
    x = inputs(rng, steps)
    assert_close(model(x), by_hand(model, x)[0], "float64")


def test_a_trace_is_an_exponential_average_of_products(rng, seed):
    """H = eta sum over s of (1 - eta)^(t - s) y_{s-1} y_s^T: the last step reads it."""
    model, steps = net(seed, rate=0.2), 9
    x = inputs(rng, steps)
    y = model(x)
    eta = model.rate_logit.sigmoid()
    ages = torch.arange(steps - 3, -1, -1)
    H = torch.einsum("s,bsi,bsj->bij", eta * (1 - eta) ** ages, y[:, :-2], y[:, 1:-1])
    weights = model.fixed + model.plasticity * H
    recurrent = torch.einsum("bi,bij->bj", y[:, -2], weights)
    assert_close(y[:, -1], torch.tanh(model.project(x[:, -1]) + recurrent), "float64")


@BOTH
def test_without_plasticity_it_is_an_elman_net(rng, seed, modulated):
    model, x = net(seed, modulated=modulated), inputs(rng, 9)
    elman = torch.nn.RNN(WIDTH, UNITS, batch_first=True).double()
    with torch.no_grad():
        model.plasticity.zero_()
        elman.weight_ih_l0.copy_(model.project.weight)
        elman.bias_ih_l0.copy_(model.project.bias)
        elman.weight_hh_l0.copy_(model.fixed.T)
        elman.bias_hh_l0.zero_()
    assert_close(model(x), elman(x)[0], "float64")


def test_a_modulator_that_is_silent_teaches_nothing(rng, seed):
    model, x = net(seed, modulated=True), inputs(rng, 9)
    with torch.no_grad():
        model.modulator.weight.zero_()
        model.modulator.bias.zero_()
        model.fan_out.bias.zero_()
    silent = model(x)
    with torch.no_grad():
        model.plasticity.zero_()
    assert_close(silent, model(x), "float64")


def test_modulated_traces_stay_within_the_clip(rng, seed):
    """A synapse that would grow for ever ends at the clip, and the net at a fixed point of it."""
    model = net(seed, modulated=True, clip=0.7)
    with torch.no_grad():
        model.fixed.zero_()
        model.plasticity.fill_(0.1)
        model.project.weight.zero_()
        model.project.bias.fill_(1.0)
        model.fan_out.bias.fill_(3.0)
        model.fan_out.weight.zero_()
    y = model(inputs(rng, 80))
    expected = y.new_tensor(1.0)
    for _ in range(80):
        expected = torch.tanh(1 + UNITS * 0.1 * 0.7 * expected)
    assert_close(y[:, -1], expected.expand(BATCH, UNITS), "float64")


@BOTH
def test_a_step_depends_on_no_later_one(rng, seed, modulated):
    model, x = net(seed, modulated=modulated), inputs(rng, 8)
    changed = x.clone()
    changed[:, 5:] += 1
    assert torch.equal(model(x)[:, :5], model(changed)[:, :5])
    assert not torch.equal(model(x)[:, 5:], model(changed)[:, 5:])


@BOTH
def test_one_sequence_s_activities_do_not_depend_on_the_others(rng, seed, modulated):
    model, x = net(seed, modulated=modulated), inputs(rng, 6)
    assert_close(model(x)[1:2], model(x[1:2]), "float64")


@BOTH
def test_gradients_are_those_of_the_equations_and_reach_every_parameter(rng, seed, modulated):
    model = net(seed, modulated=modulated, clip=3.0)
    x = inputs(rng, 5).requires_grad_()
    names, values = zip(*model.named_parameters(), strict=True)

    def activities(x, *parameters):
        return torch.func.functional_call(model, dict(zip(names, parameters, strict=True)), (x,))

    assert torch.autograd.gradcheck(activities, (x, *values))
    model(x).square().sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in model.parameters())


@BOTH
def test_under_autocast_only_the_input_is_rounded(rng, seed, modulated):
    model, x = net(seed, modulated=modulated).float(), inputs(rng, 9).float()
    with torch.autocast("cpu", torch.bfloat16):
        drive, y = model.project(x), model(x)
    model.project = torch.nn.Identity()
    assert y.dtype == torch.float32
    assert torch.equal(y, model(drive.float()))


@BOTH
def test_no_steps_give_no_activities(modulated):
    model = net(0, modulated=modulated)
    assert model(torch.zeros(BATCH, 0, WIDTH).double()).shape == (BATCH, 0, UNITS)


def test_the_rate_of_learning_starts_where_it_is_asked_to():
    model = Plastic(PlasticConfig(units=2, rate=0.03), WIDTH)
    assert_close(model.rate_logit.sigmoid(), torch.tensor(0.03), "float32")


@pytest.mark.parametrize(
    "wrong",
    [{"units": 0}, {"rate": 0.0}, {"rate": 1.0}, {"clip": 0}, {"modulated": "yes"}],
    ids=str,
)
def test_numbers_out_of_range_are_refused(wrong):
    (name,) = wrong
    with pytest.raises(FwbioError, match=f"PlasticConfig: {name} = .*; give "):
        PlasticConfig(**{"units": 4, **wrong})
