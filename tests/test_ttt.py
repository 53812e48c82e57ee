"""Test-time training: inner steps against autograd's, the delta rule, and causality."""

import numpy as np
import pytest
import torch
from tolerances import assert_close
from torch.nn.functional import gelu, layer_norm

from fwbio.errors import FwbioError
from fwbio.kernels import scan
from fwbio.models.networks.ttt import TTTMLP, TTTLinear, TTTLinearConfig, TTTMLPConfig

BATCH, HEADS, WIDTH = 2, 2, 8
KINDS = {"linear": (TTTLinear, TTTLinearConfig), "mlp": (TTTMLP, TTTMLPConfig)}
EITHER = pytest.mark.parametrize("kind", KINDS)


def layer(kind, seed, **config):
    """A layer in float64 whose inner steps are large and whose parameters are all random."""
    torch.manual_seed(seed)
    module, settings = KINDS[kind]
    model = module(settings(heads=HEADS, rate=2.0, **config), WIDTH).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


def inputs(rng, steps):
    return torch.from_numpy(rng.normal(size=(BATCH, steps, WIDTH)))


def model_of(layer, head):
    """f(x; W, ...) of one head, by torch's own functions."""
    config = layer.config

    def f(x, weights):
        z = x @ weights[0]
        if len(weights) == 2:
            z = gelu(z) @ weights[1]
        if config.layer_norm:
            z = layer_norm(z, z.shape[-1:], layer.gain[head, 0], layer.bias[head, 0], 1e-6)
        return x + z if config.residual else z

    return f


def by_autograd(layer, x):
    """The layer one token at a time, its inner gradients by autograd."""
    starts = [p.detach() for name, p in layer.named_parameters() if name.startswith("initial")]
    streams = [stream.detach() for stream in layer.streams(x)]
    answers = torch.empty_like(streams[0])
    for b, head in np.ndindex(len(x), HEADS):
        f = model_of(layer, head)
        weights = [start[head].clone() for start in starts]
        anchor = weights
        for t, (q, k, v, rate) in enumerate(zip(*(s[b, head] for s in streams), strict=True)):
            if t % layer.config.mini_batch == 0:
                anchor = [W.clone().requires_grad_() for W in weights]
            loss = (f(k, anchor) - v).square().sum() / 2
            slopes = torch.autograd.grad(loss, anchor)
            weights = [W - rate * slope for W, slope in zip(weights, slopes, strict=True)]
            answers[b, head, t] = f(q, weights)
    return layer.output(answers.transpose(1, 2).flatten(2))


@EITHER
@pytest.mark.parametrize("layer_norm", [True, False])
@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize(("mini_batch", "steps"), [(1, 5), (4, 11), (16, 7)])
def test_steps_are_down_the_gradient_of_the_inner_loss(
    rng, seed, kind, layer_norm, residual, mini_batch, steps
):
    model = layer(kind, seed, layer_norm=layer_norm, residual=residual, mini_batch=mini_batch)
    x = inputs(rng, steps)
    assert_close(model(x), by_autograd(model, x), "float64")


def test_alone_and_without_norm_it_is_the_delta_rule(rng, seed):
    model = layer("linear", seed, layer_norm=False, residual=False, mini_batch=1)
    x = inputs(rng, 13)
    q, k, v, beta = (stream.transpose(1, 2) for stream in model.streams(x))
    start = model.initial.expand(BATCH, -1, -1, -1)
    y, _ = scan("delta", q, k, v, beta=beta.squeeze(-1), initial_state=start)
    assert_close(model(x), model.output(y.flatten(2)), "float64")


def test_of_one_mini_batch_without_norm_it_is_linear_attention_to_errors(rng, seed):
    """All errors are those of the start: hebb with values beta (v - W_0^T k), from W_0."""
    model = layer("linear", seed, layer_norm=False, residual=False, mini_batch=16)
    x = inputs(rng, 16)
    q, k, v, beta = model.streams(x)
    errors = beta * (v - k @ model.initial)
    start = model.initial.expand(BATCH, -1, -1, -1)
    y, _ = scan("hebb", *(s.transpose(1, 2) for s in (q, k, errors)), initial_state=start)
    assert_close(model(x), model.output(y.flatten(2)), "float64")


@EITHER
def test_a_rate_of_nothing_leaves_the_start(rng, seed, kind):
    model, x = layer(kind, seed, mini_batch=4), inputs(rng, 9)
    with torch.no_grad():
        model.rate.weight.zero_()
        model.rate.bias.fill_(-1e4)
    q = model.streams(x)[0]
    starts = [p for name, p in model.named_parameters() if name.startswith("initial")]
    read = torch.stack([model_of(model, h)(q[:, h], [s[h] for s in starts]) for h in range(HEADS)])
    assert_close(model(x), model.output(read.permute(1, 2, 0, 3).flatten(2)), "float64")


@EITHER
def test_showing_a_pair_again_and_again_teaches_it(seed, kind):
    """Gradient descent on one pair: the inner loss falls at every step, to nearly nothing."""
    model = layer(kind, seed, mini_batch=1)
    identity = torch.eye(WIDTH)
    with torch.no_grad():
        for projection, scale in ((model.query, 1), (model.key, 1), (model.value, 2)):
            projection.weight.copy_(scale * identity)
        model.output.weight.copy_(identity)
        model.gain.fill_(1.0)
        model.bias.zero_()
        model.rate.weight.zero_()
        model.rate.bias.fill_(-2.0)
    pair = torch.tensor([1.0, 1.0, -1.0, -1.0] * HEADS, dtype=torch.float64)
    loss = (model(pair.expand(1, 400, WIDTH)) - 2 * pair).square().sum(-1)[0]
    assert (loss.diff() <= 1e-12).all()
    assert loss[-1] < 1e-2 * loss[0]


@EITHER
def test_a_step_depends_on_no_later_one(rng, seed, kind):
    model, x = layer(kind, seed, mini_batch=4), inputs(rng, 11)
    for start in (5, 8):
        changed = x.clone()
        changed[:, start:] += 1
        assert_close(model(changed)[:, :start], model(x)[:, :start], "float64")
        assert (model(changed)[:, start:] - model(x)[:, start:]).abs().min() > 0


@EITHER
@pytest.mark.parametrize("layer_norm", [True, False])
def test_gradients_are_those_of_the_equations_and_reach_every_parameter(
    rng, seed, kind, layer_norm
):
    model = layer(kind, seed, mini_batch=3, layer_norm=layer_norm)
    x = inputs(rng, 5)[:1].requires_grad_()
    names, values = zip(*model.named_parameters(), strict=True)

    def read(x, *parameters):
        return torch.func.functional_call(model, dict(zip(names, parameters, strict=True)), (x,))

    assert torch.autograd.gradcheck(read, (x, *values))
    model(x).square().sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in model.parameters())


@EITHER
def test_under_autocast_only_streams_and_answers_are_rounded(rng, seed, kind):
    model, x = layer(kind, seed, mini_batch=4).float(), inputs(rng, 9).float()
    with torch.no_grad():
        model.output.weight.copy_(torch.eye(WIDTH))
    with torch.autocast("cpu", torch.bfloat16):
        streams, rounded = model.streams(x), model(x)
    model.streams = lambda _: tuple(stream.float() for stream in streams)
    assert rounded.dtype == torch.bfloat16
    assert torch.equal(rounded, model(x).bfloat16())


@EITHER
def test_no_steps_give_no_answers(kind):
    empty = torch.zeros(BATCH, 0, WIDTH).double()
    assert layer(kind, 0)(empty).shape == (BATCH, 0, WIDTH)


@EITHER
def test_inner_rates_lie_between_zero_and_the_greatest(rng, seed, kind):
    rates = layer(kind, seed).streams(100 * inputs(rng, 50))[3]
    assert rates.min() >= 0
    assert rates.max() <= 2.0 / (WIDTH // HEADS)
    assert rates.std() > 0.1


@pytest.mark.parametrize(
    ("kind", "wrong", "what"),
    [
        ("linear", {"mini_batch": 0}, "TTTLinearConfig: mini_batch = 0"),
        ("linear", {"rate": 0.0}, "TTTLinearConfig: rate = 0.0"),
        ("mlp", {"expansion": 0}, "TTTMLPConfig: expansion = 0"),
        ("mlp", {"layer_norm": None}, "TTTMLPConfig: layer_norm = None"),
        ("mlp", {"heads": 3}, "TTTMLPConfig.heads: 3 heads do not divide a width of 8"),
    ],
)
def test_what_does_not_fit_is_refused(kind, wrong, what):
    module, config = KINDS[kind]
    with pytest.raises(FwbioError, match=what):
        module(config(**wrong), WIDTH)
