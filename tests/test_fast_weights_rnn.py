"""Ba 2016's fast weights: the equations step by step, their reductions, and the known mistakes."""

import numpy as np
import pytest
import torch
from tolerances import assert_close

from fwbio.errors import FwbioError
from fwbio.kernels import scan
from fwbio.models.networks.fast_weights_rnn import FastWeightsRNN, FastWeightsRNNConfig

BATCH, WIDTH = 3, 5
WEAK = 2e-3  # what a net without norms bears: its states grow as their cubes


def net(seed, **config):
    """A net in float64 whose parameters are all random."""
    torch.manual_seed(seed)
    model = FastWeightsRNN(FastWeightsRNNConfig(**config), WIDTH).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


def inputs(rng, steps):
    return torch.from_numpy(rng.normal(size=(BATCH, steps, WIDTH)))


def normalised(z, gain, bias):
    z = z - z.mean()
    return gain * z / np.sqrt((z**2).mean() + 1e-5) + bias


def relu(z):
    return np.maximum(z, 0)


def by_hand(model, x, fault=None):
    """The equations, one sequence and one step at a time, or with a known fault of public ports."""
    config, p = model.config, {n: w.detach().numpy() for n, w in model.named_parameters()}
    h = np.zeros((len(x), config.units))
    A = np.zeros((len(x), config.units, config.units))
    outer = lambda h: np.einsum("bi,bj->bij", h, h)  # noqa: E731
    out = []
    for t in range(x.shape[1]):
        given = h @ p["recurrent"].T + x[:, t].numpy() @ p["project.weight"].T + p["project.bias"]
        h = relu(given)
        late = A
        if fault == "includes the preliminary":
            A = config.decay * A + config.rate * outer(h)
        for _ in range(config.inner):
            read = np.einsum("bij,bj->bi", A, h)
            if fault == "diagonal only":
                read = np.einsum("bii,bi->bi", A, h)
            z = given + read
            if config.layer_norm and fault == "normalised over the batch":
                z = np.stack([normalised(c, 1, 0) for c in z.T], 1)
                z = z * p["norm.weight"] + p["norm.bias"]
            elif config.layer_norm:
                z = np.stack([normalised(r, p["norm.weight"], p["norm.bias"]) for r in z])
            h = relu(z)
        if fault == "a step late":
            A = config.decay * late + config.rate * outer(out[-1] if out else 0 * h)
        elif fault != "includes the preliminary":
            A = config.decay * A + config.rate * outer(h)
        out.append(h)
    return np.stack(out, 1)


SHORT_AND_LONG = pytest.mark.parametrize("steps", [1, 2, 12, 13, 17])


@SHORT_AND_LONG
@pytest.mark.parametrize("layer_norm", [True, False])
@pytest.mark.parametrize("inner", [1, 3])
def test_every_step_is_the_published_one(rng, seed, steps, layer_norm, inner):
    rate = 0.5 if layer_norm else WEAK
    model = net(seed, units=6, inner=inner, layer_norm=layer_norm, rate=rate)
    x = inputs(rng, steps)
    assert_close(model(x), by_hand(model, x), "float64")


@pytest.mark.parametrize("steps", [5, 17])
@pytest.mark.parametrize(
    "fault",
    ["normalised over the batch", "a step late", "includes the preliminary", "diagonal only"],
)
def test_it_has_none_of_the_known_faults(rng, seed, steps, fault):
    model, x = net(seed, units=6), inputs(rng, steps)
    faulty = by_hand(model, x, fault)
    assert np.abs(model(x).detach().numpy() - faulty).max() > 0.01 * np.abs(faulty).max()


@SHORT_AND_LONG
@pytest.mark.parametrize("decay", [1.0, 0.9])
def test_without_norm_it_reads_linear_attention_with_keys_and_values_h(rng, seed, steps, decay):
    """h(t+1) = relu(given + eta y(t)), y the read-out of hebb (decay 1) or mamba2 over h."""
    model = net(seed, units=6, decay=decay, rate=WEAK, layer_norm=False)
    x = inputs(rng, steps)
    h = model(x)
    before = torch.cat([torch.zeros_like(h[:, :1]), h[:, :-1]], 1)
    given = model.project(x) + before @ model.recurrent.T
    keys = before.unsqueeze(2)
    query = torch.relu(given).unsqueeze(2)
    rule, gate = ("hebb", {}) if decay == 1 else ("mamba2", {"log_decay": float(np.log(decay))})
    y, _ = scan(rule, query, keys, keys, **gate)
    assert_close(h, torch.relu(given + model.config.rate * y.squeeze(2)), "float64")


def test_a_state_alone_comes_back_in_proportion_to_its_likeness_and_age(rng, seed):
    """With one state h(1) stored and nothing after, A(t) h_0 = eta lambda^(t-1) h(1) (h(1).h_0)."""
    model = net(seed, units=8, layer_norm=False, decay=0.7)
    with torch.no_grad():
        model.recurrent.zero_()
        model.project.bias.zero_()
    x = torch.zeros(1, 5, WIDTH, dtype=torch.float64)
    x[:, 0], x[:, 4] = inputs(rng, 1)[0, 0], inputs(rng, 1)[0, 0]
    h = model(x)
    given = model.project(x[:, 4])
    likeness = (h[:, 0] * torch.relu(given)).sum()
    assert_close(h[:, 4], torch.relu(given + 0.5 * 0.7**3 * likeness * h[:, 0]), "float64")


def test_a_rate_of_zero_is_a_plain_recurrent_net(rng, seed):
    model = net(seed, units=6, rate=0.0, layer_norm=False)
    x = inputs(rng, 9)
    plain = torch.nn.RNN(WIDTH, 6, nonlinearity="relu", batch_first=True).double()
    with torch.no_grad():
        plain.weight_ih_l0.copy_(model.project.weight)
        plain.bias_ih_l0.copy_(model.project.bias)
        plain.weight_hh_l0.copy_(model.recurrent)
        plain.bias_hh_l0.zero_()
    assert_close(model(x), plain(x)[0], "float64")


def test_one_sequence_s_states_do_not_depend_on_the_others(rng, seed):
    model, x = net(seed, units=6), inputs(rng, 9)
    assert_close(model(x)[1:2], model(x[1:2]), "float64")


@SHORT_AND_LONG
def test_a_step_depends_on_no_later_one(rng, seed, steps):
    model, x = net(seed, units=6), inputs(rng, steps)
    changed = x.clone()
    changed[:, steps // 2 :] += 1
    assert torch.equal(model(x)[:, : steps // 2], model(changed)[:, : steps // 2])


@pytest.mark.parametrize("steps", [4, 7])
@pytest.mark.parametrize(("layer_norm", "inner"), [(True, 1), (True, 2), (False, 2)])
def test_gradients_are_those_of_the_equations(rng, seed, steps, layer_norm, inner):
    model = net(seed, units=3, layer_norm=layer_norm, inner=inner, rate=0.3 if layer_norm else WEAK)
    x = inputs(rng, steps).requires_grad_()
    names, values = zip(*model.named_parameters(), strict=True)

    def states(x, *parameters):
        return torch.func.functional_call(
            model, dict(zip(names, parameters, strict=True)), (x,), tie_weights=False
        )

    assert torch.autograd.gradcheck(states, (x, *values))


def test_no_steps_give_no_states():
    assert net(0, units=6)(torch.zeros(BATCH, 0, WIDTH).double()).shape == (BATCH, 0, 6)


@SHORT_AND_LONG
def test_under_autocast_only_the_input_is_rounded(rng, seed, steps):
    model, x = net(seed, units=6).float(), inputs(rng, steps).float()
    with torch.autocast("cpu", torch.bfloat16):
        drive = model.project(x)
        h = model(x)
    assert drive.dtype == torch.bfloat16
    assert h.dtype == torch.float32
    model.project = torch.nn.Identity()
    assert torch.equal(h, model(drive.float()))


def test_every_parameter_learns(rng, seed):
    model = net(seed, units=6)
    model(inputs(rng, 5)).square().sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in model.parameters())


def test_the_slow_weights_start_as_a_twentieth_of_the_identity():
    model = FastWeightsRNN(FastWeightsRNNConfig(units=4), WIDTH)
    assert torch.equal(model.recurrent, 0.05 * torch.eye(4))
    assert model.out_features == 4


@pytest.mark.parametrize(
    "wrong",
    [{"units": 0}, {"inner": 0}, {"decay": 1.1}, {"decay": -0.1}, {"rate": -1.0}],
    ids=str,
)
def test_numbers_out_of_range_are_refused(wrong):
    (name,) = wrong
    with pytest.raises(FwbioError, match=f"FastWeightsRNNConfig: {name} = .*; give a "):
        FastWeightsRNNConfig(**{"units": 4, **wrong})
