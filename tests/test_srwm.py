"""The self-referential weight matrix: its equations in plain loops, and what follows from them."""

import numpy as np
import pytest
import torch
from tolerances import assert_close

from fwbio.errors import FwbioError
from fwbio.models.networks.srwm import SRWM, SRWMConfig

BATCH, HEADS, WIDTH = 3, 2, 8
E = WIDTH // HEADS


def layer(seed, **config):
    torch.manual_seed(seed)
    model = SRWM(SRWMConfig(heads=HEADS, **config), WIDTH).double()
    with torch.no_grad():
        model.initial.mul_(3)  # keys and queries that differ, so that writes are large
    return model


def inputs(rng, steps):
    return torch.from_numpy(rng.normal(size=(BATCH, steps, WIDTH)))


def softmax(z):
    return np.exp(z - z.max()) / np.exp(z - z.max()).sum()


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def by_hand(model, x):
    """The four sub-matrices apart, one sequence, one head and one step at a time."""
    start = model.initial.detach().numpy()
    out = np.empty(x.shape)
    for b in range(len(x)):
        for head in range(HEADS):
            Wy, Wq, Wk, Wb = np.split(start[head].copy(), [E, 2 * E, 3 * E], axis=1)
            for t in range(x.shape[1]):
                shown = x[b, t, head * E : (head + 1) * E].numpy()
                shown = softmax(shown) if model.config.softmax_input else shown
                q, k = softmax(Wq.T @ shown), softmax(Wk.T @ shown)
                beta = sigmoid(Wb.T @ shown)
                out[b, t, head * E : (head + 1) * E] = Wy.T @ shown
                Wy, Wq, Wk, Wb = (
                    W + np.outer(k, rate * (W.T @ q - W.T @ k))
                    for W, rate in zip((Wy, Wq, Wk, Wb), beta, strict=True)
                )
    return out @ model.output.weight.detach().numpy().T


@pytest.mark.parametrize("steps", [1, 2, 9])
@pytest.mark.parametrize("softmax_input", [True, False])
def test_every_step_is_the_published_one(rng, seed, steps, softmax_input):
    model = layer(seed, softmax_input=softmax_input)
    x = inputs(rng, steps)
    assert_close(model(x), by_hand(model, x), "float64")


def test_with_rates_of_zero_it_is_a_static_matrix(rng, seed):
    model, x = layer(seed, softmax_input=True), inputs(rng, 9)
    moving = model(x)
    with torch.no_grad():
        model.initial[..., -4:] = -1e4  # whose sigmoid is zero, for inputs that sum to one
    shown = x.unflatten(-1, (HEADS, E)).softmax(-1)
    read = torch.einsum("bthi,hij->bthj", shown, model.initial[..., :E])
    assert_close(model(x), model.output(read.flatten(2)), "float64")
    assert (moving - model(x)).abs().max() > 1e-3


def test_a_rate_of_one_and_a_sharp_key_copy_what_the_query_reads(seed):
    """After the write W^T phi(k) is what W^T phi(q) was, so the key's read-out is the query's."""
    model = layer(seed, softmax_input=True)
    with torch.no_grad():
        model.initial[..., E:] = 0
        model.initial[:, 0, 2 * E + 1] = 1e4  # shown 0, the key is 1
        model.initial[:, 0, E + 2] = 1e4  # and the query 2
        model.initial[..., 3 * E :] = 1e4
    x = torch.full((1, 2, HEADS, E), -1e4, dtype=torch.float64)
    x[0, 0, :, 0] = x[0, 1, :, 1] = 0
    y = model(x.flatten(2))
    assert_close(y[0, 1], model.output(model.initial[:, 2, :E].flatten()), "float64")


def test_a_read_out_comes_before_its_own_write(rng, seed):
    """The first step reads the start, whatever it then writes."""
    model, x = layer(seed), inputs(rng, 4)
    assert_close(model(x)[:, :1], model(x[:, :1]), "float64")


def test_a_step_depends_on_no_later_one(rng, seed):
    model, x = layer(seed), inputs(rng, 8)
    changed = x.clone()
    changed[:, 5:] += torch.from_numpy(rng.normal(size=(BATCH, 3, WIDTH)))
    assert torch.equal(model(x)[:, :5], model(changed)[:, :5])
    assert not torch.equal(model(x)[:, 5:], model(changed)[:, 5:])


def test_one_sequence_s_read_outs_do_not_depend_on_the_others(rng, seed):
    model, x = layer(seed), inputs(rng, 6)
    assert_close(model(x)[1:2], model(x[1:2]), "float64")


def test_gradients_are_those_of_the_equations_and_reach_every_column(rng, seed):
    model = layer(seed)
    x = inputs(rng, 4).requires_grad_()

    def read(x, initial, weight):
        parameters = {"initial": initial, "output.weight": weight}
        return torch.func.functional_call(model, parameters, (x,))

    assert torch.autograd.gradcheck(read, (x, model.initial, model.output.weight))
    model(x).square().sum().backward()
    assert (model.initial.grad.abs().amax((0, 1)) > 0).all()


def test_under_autocast_the_matrix_is_not_rounded(rng, seed):
    """All that is rounded is the last map."""
    model, x = layer(seed).float(), inputs(rng, 9).float()
    with torch.no_grad():
        model.output.weight.copy_(torch.eye(WIDTH))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(x)
    assert torch.equal(rounded, model(x).bfloat16())


def test_no_steps_give_no_read_outs():
    assert layer(0)(torch.zeros(BATCH, 0, WIDTH).double()).shape == (BATCH, 0, WIDTH)


def test_rates_of_inputs_that_sum_to_one_start_at_sigmoid_minus_one():
    """Of a large head, whose columns average out."""
    model = SRWM(SRWMConfig(heads=1), 400)
    rates = torch.full((400,), 1 / 400) @ model.initial[0, :, -4:]
    assert_close(rates, torch.full((4,), -1.0), "averaged start")


@pytest.mark.parametrize(
    ("config", "width", "what"),
    [
        ({"heads": 0}, 8, "heads = 0; give a whole number"),
        ({"softmax_input": 1}, 8, "softmax_input = 1; give True or False"),
        ({"heads": 3}, 8, "3 heads do not divide a width of 8"),
    ],
)
def test_what_does_not_fit_is_refused(config, width, what):
    with pytest.raises(FwbioError, match=what):
        SRWM(SRWMConfig(**config), width)
