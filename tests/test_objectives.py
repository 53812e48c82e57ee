"""Every update is a step on the local objective that its rule declares."""

import math

import numpy as np
import pytest
import torch
from programs import random_tensors
from tolerances import assert_close

from fwbio import RULES, traces
from fwbio.data import constants
from fwbio.kernels import scan


def phi(x):
    return torch.where(x > 0, x + 1, torch.exp(x))


def sum_objective(W, k, v, s, key=None):
    """Its decay, where it has one, is part of it: a pull of every row towards zero."""
    pull = (1 - s["log_decay"].exp()) * (W**2).sum(1) / 2 if "log_decay" in s else torch.zeros(1)
    return pull.sum() - s["beta"] * v @ W.T @ (k if key is None else key)


def delta_objective(W, k, v, s):
    """Decay is no part of it: the gradient is taken at the decayed weights."""
    return s["beta"] / 2 * ((v - W.T @ k) ** 2).sum()


def _rate(u):
    """The dendritic rule's rate of either sign, r(u) = f(u+) - f(u-)."""

    def f(x):
        slope, half = DENDRITE["dendritic_phi_slope"], DENDRITE["dendritic_phi_half"]
        return 1 / (1 + DENDRITE["dendritic_phi_offset"] * torch.exp(slope * (half - x)))

    return f(u.clamp_min(0)) - f((-u).clamp_min(0))


def _integrated(u):
    """R of R' = r: the softplus that the sigmoid f is the slope of, less f(0) |u|."""
    slope, half = DENDRITE["dendritic_phi_slope"], DENDRITE["dendritic_phi_half"]
    shift = slope * half + math.log(DENDRITE["dendritic_phi_offset"])
    at_rest = 1 / (1 + math.exp(shift))
    return torch.nn.functional.softplus(slope * u.abs() - shift) / slope - at_rest * u.abs()


def _clopath_write(v):
    """What a first step writes: the held voltage above theta+ times its own filter's rise."""
    volts = traces.SWING * v.abs()
    nodes, weights = (torch.tensor(x) for x in np.polynomial.legendre.leggauss(40))
    s = (nodes + 1) / 2 * traces.HOLD
    rise = torch.exp(-(s + traces.LEAD) / 15e-3) * -torch.expm1(-s / 7e-3)
    above = (volts - (70.6e-3 - 45.3e-3)).clamp_min(0)
    return 80.0 / 15e-3 * v.sign() * above * volts * (rise @ weights / 2 * traces.HOLD)


GRADIENT_STEPS = {
    "hebb": sum_objective,
    "linear_attention": lambda W, k, v, s: sum_objective(W, k, v, s, phi(k)),
    "retnet": sum_objective,
    "mamba2": sum_objective,
    "gla": sum_objective,
    "delta": delta_objective,
    "gated_delta": delta_objective,
    "kda": delta_objective,
    "comba": lambda W, k, v, s: k @ W @ (s["beta"] * (W.T @ s["erase_key"] / 2 - v)),
    "oja": lambda W, k, v, s: s["beta"] / 2 * ((k - W @ v) ** 2).sum(),
    "mlstm": lambda W, k, v, s: sum_objective(
        W, k, v, s | {"beta": s["log_beta"].exp()}, k / len(k) ** 0.5
    ),
    "delta_product": delta_objective,
    "bcm": lambda W, k, v, s: sum_objective(W, k, v * abs(v), s),
    "covariance": sum_objective,
    "stdp": lambda W, k, v, s: sum_objective(W, k, v * math.exp(-traces.LEAD / 20e-3), s),
    "triplet_stdp": lambda W, k, v, s: sum_objective(
        W, k, 5e-10 * v * math.exp(-traces.LEAD / 16.8e-3), s
    ),
    "clopath": lambda W, k, v, s: sum_objective(W, k, _clopath_write(v), s),
    "tsodyks_markram": sum_objective,
    "dendritic_error": lambda W, k, v, s: (
        s["beta"] * (_integrated(SHARE * W.T @ k).sum() / SHARE - _rate(v) @ W.T @ k)
    ),
}
DENDRITE = constants("plasticity")
SHARE = DENDRITE["dendritic_g_dendrite"] / (
    DENDRITE["dendritic_g_dendrite"] + DENDRITE["dendritic_g_leak"]
)
OTHER_OBJECTIVES = {
    "gated_delta_2": "gates of single channels make it no gradient of one function",
    "longhorn": "a proximal step: test_longhorn_minimises_its_objective",
    "rwkv7": "of no one function: test_rwkv7_with_one_gate_is_gated_delta",
    "mesa": "minimised by what it reads with: test_mesa_is_ridge_regression",
    "thresholded_delta": "a flow: test_thresholds_of_zero_make_it_the_delta_rule_s_flow",
    "calcium": "followed exactly: test_the_calcium_rule_settles_where_its_rates_balance",
    "shouval": "followed exactly: test_a_weight_goes_where_its_calcium_points",
    "efla": "a flow: test_efla_is_the_flow_of_the_delta_rule",
}


def test_every_objective_is_checked():
    assert GRADIENT_STEPS.keys() | OTHER_OBJECTIVES.keys() == RULES.keys()
    assert not GRADIENT_STEPS.keys() & OTHER_OBJECTIVES.keys()


def one_step(rule, rng):
    """The weights before and after one step, its key and value, and its gates."""
    operands = random_tensors(rule, rng, batch=1, heads=1, steps=1, substeps=1)
    if rule == "comba":
        operands["erase_key"] = operands["k"]
    post = operands["v"].shape[-1]
    after = weights_of(rule, scan(rule, **operands)[1][0, 0], post)
    W = weights_of(rule, operands.pop("initial_state")[0, 0], post)
    row = {name: x[0, 0, 0] for name, x in operands.items()}
    return W, after, row.pop("k"), row.pop("v"), row


def weights_of(rule, state, post):
    """The true weights in a state."""
    scale = state[:, -1:].exp() if RULES[rule].terms.write == "exponential" else 1.0
    return scale * state[:, :post]


@pytest.mark.parametrize("rule", GRADIENT_STEPS)
def test_an_update_is_one_gradient_step_of_its_objective(rule, rng):
    """W' = W - d objective / dW, by automatic differentiation of the formula as declared."""
    W, after, k, v, streams = one_step(rule, rng)
    if RULES[rule].terms.erase != "none" and "log_decay" in streams:
        W = streams["log_decay"].exp().unsqueeze(-1) * W
    start = W.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(GRADIENT_STEPS[rule](start, k, v, streams), start)
    assert_close(W - gradient, after, "float64")


def test_longhorn_minimises_its_objective(rng):
    W, after, k, v, streams = one_step("longhorn", rng)
    minimum = after.clone().requires_grad_()
    objective = ((minimum - W) ** 2).sum() / 2 + delta_objective(minimum, k, v, streams)
    (gradient,) = torch.autograd.grad(objective, minimum)
    assert_close(gradient + after, after, "float64")
