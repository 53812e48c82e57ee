"""Capacity in closed form: against simulations of its own, and where it is known otherwise."""

import itertools

import numpy as np
import pytest
from capacities import assert_means
from tolerances import TOLERANCES, assert_close

from fwbio import FwbioError
from fwbio.analyses.capacity_expectations import expected, recall, sign_error
from fwbio.analyses.capacity_measures import MEASURES
from fwbio.analyses.capacity_overlaps import (
    correlated,
    correlated_on_off,
    isotropic,
    on_off,
    sparse,
)
from fwbio.analyses.capacity_theory import (
    crosstalk_power,
    decayed_power,
    delta_rule,
    least_squares,
    least_squares_residual,
    sign_bit_error,
    sign_bit_error_of_binary,
    sign_bit_error_of_few,
    sum_rule,
)
from fwbio.analyses.forgetting_theory import kept_by_decay


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def halves(x):
    return unit(np.concatenate([np.maximum(x, 0), np.maximum(-x, 0)], -1))


def draw(rng, keys, trials, pre, noise=0.0, share=0.3):
    """A cue, its own key and two others (trial, pre), drawn without the package's tasks."""
    items = unit(rng.standard_normal((3, trials, pre)))
    if keys.startswith("correlated"):
        common = unit(rng.standard_normal((trials, pre)))
        items = unit(np.sqrt(share) * common + np.sqrt(1 - share) * items)
    if keys == "sparse":
        ones = np.arange(pre) < max(1, round(share * pre))
        items = unit(rng.permuted(np.broadcast_to(1.0 * ones, items.shape), axis=-1))
    cue = items[0] + noise * rng.standard_normal((trials, pre)) / np.sqrt(pre)
    code = halves if keys.endswith("on_off") else unit
    return code(cue), *code(items)


OVERLAPS = {
    "isotropic": isotropic(24, noise=0.8),
    "on_off": on_off(24, noise=0.8),
    "correlated": correlated(24, 0.3, noise=0.8),
    "correlated_on_off": correlated_on_off(64, 0.3),
    "sparse": sparse(24, 0.3),
}


@pytest.mark.parametrize("keys", OVERLAPS)
def test_overlaps_have_the_moments_of_simulated_ones(rng, keys):
    must = OVERLAPS[keys]
    noise = 0.0 if keys in {"correlated_on_off", "sparse"} else 0.8
    trials = 4000 if keys == "correlated_on_off" else 20000
    cue, own, one, other = draw(rng, keys, trials, must.pre, noise)
    c, d, e = ((key * cue).sum(-1) for key in (own, one, other))
    found = np.stack([c, c**2, d, d**2], -1)
    assert_means(found, [must.own_mean, must.own_square, must.other_mean, must.other_square])
    if keys == "correlated":
        assert_means(d * e, must.shared + must.other_mean**2)


def test_overlaps_of_one_direction_and_of_none():
    same, free = correlated(16, 1.0), correlated(16, 0.0)
    assert_close([same.other_mean, same.other_square], [1.0, 1.0], "float64")
    assert_close([free.other_square, free.shared], [1 / 16, 0.0], "float64")
    assert sparse(16, 1.0).other_square == 1.0
    assert on_off(10**6).other_mean == pytest.approx(1 / np.pi, rel=1e-5)


def simulated(rng, rule, pairs, pre, *, noise=0.0, strength=1.0, decay=1.0, wait=0, ridge=1.0):
    """Coefficients (trial, pair asked for, pair) by running the rule on one-hot values."""
    trials = 1000 if rule == "mesa" else 3000
    key = unit(rng.standard_normal((trials, pairs, pre)))
    cue = unit(key + noise * rng.standard_normal(key.shape) / np.sqrt(pre))
    weights, gram = np.zeros((trials, pre, pairs)), np.zeros((trials, pre, pre))
    for t in range(pairs):
        k, v = key[:, t], np.eye(pairs)[t]
        weights *= decay
        gram = decay * gram + strength * k[:, :, None] * k[:, None]
        error = v - (np.einsum("nkv,nk->nv", weights, k) if rule == "delta" else 0)
        weights += strength * k[:, :, None] * np.broadcast_to(error, (trials, pairs))[:, None]
    weights, gram = decay**wait * weights, decay**wait * gram
    if rule == "mesa":
        weights = np.linalg.solve(gram + ridge * np.eye(pre), weights)
    return cue @ weights


LAWS = {"sum": sum_rule, "delta": delta_rule, "mesa": least_squares}


@pytest.mark.parametrize("rule", ["sum", "delta"])
@pytest.mark.parametrize(("strength", "decay", "noise"), [(1.0, 1.0, 0.0), (0.7, 0.9, 0.6)])
def test_coefficients_have_the_moments_of_simulated_ones(rng, rule, strength, decay, noise):
    settings = {"strength": strength, "decay": decay, "wait": 2}
    found = simulated(rng, rule, 5, 6, noise=noise, **settings)
    must = LAWS[rule](isotropic(6, noise=noise), 5, **settings)
    own = np.diagonal(found, axis1=1, axis2=2)
    assert_means(own, must.own_mean)
    assert_means(own**2, must.own_square)
    assert_means(found**2 * (1 - np.eye(5)), must.other_square)


@pytest.mark.parametrize("pairs", [8, 32])
def test_the_mesa_layer_tends_to_its_large_limit(rng, pairs):
    settings = {"decay": 0.98, "wait": 1, "ridge": 0.5}
    found = simulated(rng, "mesa", pairs, 24, noise=0.4, **settings)
    must = least_squares(isotropic(24, noise=0.4), pairs, **settings)
    own = np.diagonal(found, axis1=1, axis2=2)
    noise = (found**2).sum(-1) - own**2
    largest = TOLERANCES["large sizes"].value
    assert np.abs(own.mean() / must.own_mean.mean() - 1) < largest
    assert np.abs(noise.mean() / must.noise.mean() - 1) < largest


@pytest.mark.parametrize("pairs", [24, 40])
def test_least_squares_leave_what_dimensions_leave(rng, pairs):
    key, value = rng.standard_normal((pairs, 10)), rng.standard_normal((pairs, 4000))
    left = value - key @ np.linalg.lstsq(key, value, rcond=None)[0]
    assert_means((left**2).mean(0), least_squares_residual(pairs, 10))
    g = least_squares(isotropic(100), 10 * pairs, ridge=1e-6)
    residue = (1 - 2 * g.own_mean + g.own_square + g.noise).mean()
    must = float(least_squares_residual(10 * pairs, 100))
    assert residue == pytest.approx(must, abs=TOLERANCES["large sizes"].value)
    assert least_squares_residual(5, 10) == 0


def test_a_large_ridge_only_sums():
    g, plain = least_squares(isotropic(50), 7, ridge=1e6), sum_rule(isotropic(50), 7)
    assert 1e6 * g.own_mean == pytest.approx(plain.own_mean, rel=1e-4)
    assert 1e12 * g.noise == pytest.approx(plain.noise, rel=1e-4)


def test_delta_recalls_the_last_pair_exactly_and_small_steps_only_sum():
    g = delta_rule(isotropic(12), 6)
    assert g.own_mean[-1] == 1
    assert g.noise[-1] == pytest.approx(0, abs=1e-15)
    assert_close(g.own_mean, (1 - 1 / 12) ** np.arange(6)[::-1], "float64")
    small, plain = (
        law(isotropic(12), 6, strength=1e-7, decay=0.9) for law in (delta_rule, sum_rule)
    )
    for name in ("own_mean", "own_square", "other_square"):
        assert getattr(small, name) == pytest.approx(getattr(plain, name), rel=1e-5)


def test_what_decays_sums_geometrically():
    gamma, age = 0.9, np.arange(3, 3 + 7)
    left = kept_by_decay(age, np.log(gamma))
    assert_close(decayed_power(gamma, 7, 3), (left**2).sum(), "float64")
    assert decayed_power(1.0, 7, 3) == 7
    g = sum_rule(isotropic(20), 7, decay=gamma, wait=3)
    assert_close(g.own_mean, left[::-1], "float64")
    assert_close(sum_rule(isotropic(20), 7).noise, np.full(7, crosstalk_power(7, 20)), "float64")


def test_wrong_signs_of_many_pairs_are_gaussian():
    few = sign_bit_error_of_few(400, 200)
    assert few == pytest.approx(sign_bit_error(1.0, crosstalk_power(400, 200)), rel=1e-2)
    assert sign_bit_error_of_few(2, 5) == 0
    assert sign_bit_error_of_few(10**5, 10) == pytest.approx(0.5, abs=1e-2)
    assert sign_error(sum_rule(isotropic(200), 400)) == pytest.approx(few, rel=1e-2)


@pytest.mark.parametrize("pairs", [3, 6])
def test_wrong_signs_of_few_pairs_are_those_of_simulated_ones(rng, pairs):
    crosstalk = unit(rng.standard_normal((pairs - 1, 40000, 4)))[..., 0].sum(0)
    assert_means(crosstalk < -1, sign_bit_error_of_few(pairs, 4))


def test_odd_and_even_rivals_of_a_common_mean_make_unequal_steps(rng):
    """Of keys that share a mean, an even number of rivals may cancel: the curve has real kinks."""
    pre, trials = 64, 1500
    found, must = [], []
    for pairs in (4, 5, 6, 7):
        key = halves(rng.standard_normal((trials, pairs, pre)))
        g = np.einsum("npk,nk->np", key, key[:, 0])
        sign = rng.choice([-1.0, 1.0], (trials, pairs, 40))
        sign[:, 0] = 1
        found.append((np.einsum("np,npv->nv", g, sign) < 0).mean(-1))
        must.append(sign_error(sum_rule(on_off(pre), pairs)))
        off = abs(found[-1].mean() - must[-1])
        slack = TOLERANCES["independent rivals"].value * must[-1]
        assert off < slack + 5 * found[-1].std() / np.sqrt(trials)
    for curve in (must, np.mean(found, axis=1)):
        one, two, three = np.diff(curve)
        assert two > 1.5 * max(one, three)


def test_wrong_signs_of_binary_keys_are_those_of_all_of_them():
    keys = [np.array(k) for k in itertools.product([0, 1], repeat=5) if sum(k) == 2]
    own = keys[0]
    shared = [s * (key @ own) for key in keys for s in (1, -1)]
    sums = np.array([a + b + c for a, b, c in itertools.product(shared, repeat=3)])
    must = (sums < -2).mean() + (sums == -2).mean() / 2
    assert sign_bit_error_of_binary(4, 5, 2) == pytest.approx(must, rel=1e-9)


@pytest.mark.parametrize(
    ("keys", "pairs"), [("isotropic", 20), ("on_off", 8), ("correlated", 8), ("sparse", 12)]
)
def test_recall_of_sums_is_that_of_simulated_ones(rng, keys, pairs):
    pre, post, trials = 24, 12, 6000
    share = 0.5
    overlaps = {
        "isotropic": isotropic(pre),
        "on_off": on_off(pre),
        "correlated": correlated(pre, share),
        "sparse": sparse(pre, share),
    }[keys]
    value = unit(rng.standard_normal((trials, pairs, post)))
    if keys == "correlated":
        common = unit(rng.standard_normal((trials, 1, pre)))
        key = unit(rng.standard_normal((trials, pairs, pre)))
        key = unit(np.sqrt(share) * common + np.sqrt(1 - share) * key)
    else:
        key = draw(rng, keys, trials * pairs, pre, share=share)[1].reshape(trials, pairs, -1)
    readout = np.einsum("nik,nk,niv->nv", key, key[:, 0], value)
    score = (value @ readout[..., None])[..., 0]
    accuracy, cosine = recall(sum_rule(overlaps, pairs), post)
    slack = TOLERANCES["independent rivals"].value
    hit, length = score[:, 0] > score[:, 1:].max(-1), np.linalg.norm(readout, axis=-1)
    assert abs(hit.mean() - accuracy) < slack + 4 * hit.std() / np.sqrt(trials)
    assert abs((score[:, 0] / length).mean() - cosine) < slack


def test_recall_without_crosstalk_is_certain_and_between_equals_a_guess():
    alone = sum_rule(isotropic(16), 1)
    assert recall(alone, 8) == pytest.approx((1, 1))
    two = sum_rule(isotropic(100), 2)
    assert recall(two, 8)[0] == pytest.approx(1)
    assert recall(sum_rule(correlated(16, 1.0), 2), 8)[0] == pytest.approx(0.5)
    assert set(expected(two, 8)) == set(MEASURES)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: isotropic(1),
        lambda: on_off(9, noise=-1),
        lambda: sparse(9, 1.5),
        lambda: correlated(9, 2.0),
        lambda: delta_rule(on_off(9), 3),
        lambda: least_squares(isotropic(9), 3, ridge=0),
    ],
)
def test_what_has_no_closed_form_is_told(wrong):
    with pytest.raises(FwbioError):
        wrong()
