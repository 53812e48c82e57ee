"""Closed forms for noise and memory, on random patterns."""

import numpy as np
import pytest
from scipy.special import erfc
from tolerances import assert_close, assert_expected

from fwbio import program, reference


def unit(rng, *shape):
    x = rng.standard_normal(shape)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def recalled(rule, key, value, **streams):
    """What every stored pair's key reads after the last write, (trial, pair, post)."""
    made = program.make(rule, key, value, np.zeros_like(key), **streams)
    return key @ reference.execute(made).weights.values[:, -1]


@pytest.mark.parametrize(("pairs", "pre"), [(2, 16), (16, 64), (64, 32)])
def test_noise_power_of_the_sum_rule(rng, pairs, pre):
    """Unit isotropic keys and unit values: |W^T k_i - v_i|^2 has mean (P - 1) / K."""
    key, value = unit(rng, 300, pairs, pre), unit(rng, 300, pairs, 8)
    noise = ((recalled("hebb", key, value) - value) ** 2).sum(-1)
    assert_expected(noise.mean(-1), (pairs - 1) / pre)


def test_bit_errors_of_the_sum_rule(rng):
    """A +-1 pattern read by its sign is wrong with probability Q(sqrt(K / (P - 1)))."""
    pairs, pre = 64, 64
    key = unit(rng, 200, pairs, pre)
    value = rng.choice([-1.0, 1.0], (200, pairs, 16))
    wrong = np.sign(recalled("hebb", key, value)) != value
    gaussian_tail = erfc(np.sqrt(pre / (pairs - 1) / 2)) / 2
    assert_expected(wrong.mean((1, 2)), gaussian_tail)


@pytest.mark.parametrize("gamma", [None, 0.9])
def test_a_decaying_trace_fades_as_a_power_of_the_lag(rng, gamma):
    """Orthonormal keys: what was stored m steps ago is read as gamma^m v."""
    key = np.linalg.qr(rng.standard_normal((3, 16, 16)))[0]
    value = rng.standard_normal((3, 16, 5))
    streams = {} if gamma is None else {"log_decay": np.log(gamma)}
    lag = np.arange(15, -1, -1)
    trace = (gamma or 1 - 2**-5) ** lag
    assert_close(recalled("retnet", key, value, **streams), trace[:, None] * value, "float64")


@pytest.mark.parametrize("rule", ["hebb", "delta"])
def test_orthonormal_keys_are_recalled_exactly(rng, rule):
    key = np.linalg.qr(rng.standard_normal((3, 16, 16)))[0]
    value = rng.standard_normal((3, 16, 5))
    assert_close(recalled(rule, key, value, beta=1.0), value, "float64")


def test_correcting_errors_beats_summing_when_keys_overlap(rng):
    """With a common cosine c, the sum rule's noise has mean (P - 1) c^2; delta's is far below."""
    pairs, pre, cosine = 16, 32, 0.5
    gram = np.full((pairs, pairs), cosine) + (1 - cosine) * np.eye(pairs)
    frame = np.linalg.qr(rng.standard_normal((300, pre, pairs)))[0].swapaxes(1, 2)
    key = np.linalg.cholesky(gram) @ frame
    value = unit(rng, 300, pairs, 8)

    def noise(rule):
        return ((recalled(rule, key, value, beta=1.0) - value) ** 2).sum(-1).mean(-1)

    assert_expected(noise("hebb"), (pairs - 1) * cosine**2)
    assert noise("delta").mean() < noise("hebb").mean() / 4


def test_repeating_the_delta_rule_solves_least_squares(rng):
    """For P <= K, sweeps over the pairs leave no error (Kaczmarz' iteration converges)."""
    key, value = unit(rng, 2, 6, 16), rng.standard_normal((2, 6, 3))
    sweeps = np.tile(key, (1, 200, 1)), np.tile(value, (1, 200, 1))
    made = program.make("delta", *sweeps, np.zeros_like(sweeps[0]), beta=1.0)
    weights = reference.execute(made).weights.values[:, -1]
    assert_close(weights, np.linalg.pinv(key) @ value, "float64")
