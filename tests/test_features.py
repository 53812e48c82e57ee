"""Feature maps: DPFP's equation and what it is for, ranges, norms, refusals."""

import itertools

import numpy as np
import pytest
import torch
from tolerances import assert_close

from fwbio import FwbioError
from fwbio.models.networks.features import (
    FEATURES,
    NORMALISED,
    feature_map,
    normalised,
    width,
)

every = pytest.mark.parametrize("name", FEATURES)


def drawn(rng, *shape):
    return torch.tensor(rng.standard_normal(shape))


@pytest.mark.parametrize("nu", [1, 2, 5])
def test_dpfp_is_its_equation(nu, rng):
    """Channel i of shift s is r_i r_(i + s), r = max([x; -x], 0): loops over both."""
    x = rng.standard_normal(4)
    r = np.maximum(np.concatenate([x, -x]), 0)
    expected = [r[i] * r[(i + s) % 8] for s in range(1, nu + 1) for i in range(8)]
    phi = feature_map("dpfp", torch.tensor(x), nu=nu)
    assert phi.shape == (width("dpfp", 4, nu),) == (2 * 4 * nu,)
    assert_close(phi, expected, "float64")


def test_dpfp_makes_keys_of_different_quadrants_orthogonal():
    """Two channels give four orthogonal keys, twice as many as they have dimensions."""
    quadrants = torch.tensor(list(itertools.product([1.0, -1.0], repeat=2))) * torch.tensor([2, 3])
    phi = feature_map("dpfp", quadrants)
    assert torch.equal(phi @ phi.T, 36 * torch.eye(4))


def test_dpfp_grows_with_the_square(rng):
    x = drawn(rng, 5, 6)
    assert_close(feature_map("dpfp", 3 * x, nu=3), 9 * feature_map("dpfp", x, nu=3), "float64")


@every
def test_features_are_as_many_and_as_signed_as_they_say(name, rng):
    phi = feature_map(name, drawn(rng, 50, 6))
    assert phi.shape == (50, width(name, 6))
    assert bool((phi >= 0).all()) == FEATURES[name].nonnegative


@every
def test_features_of_one_key_do_not_see_another(name, rng):
    x = drawn(rng, 3, 6)
    assert_close(feature_map(name, x)[1], feature_map(name, x[1]), "float64")


@every
def test_features_have_gradients(name, rng):
    x = drawn(rng, 2, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: feature_map(name, x), x)


def test_known_features(rng):
    x = rng.standard_normal((3, 5))
    given = torch.tensor(x)
    assert_close(feature_map("elu", given), np.where(x > 0, x + 1, np.exp(x)), "float64")
    assert_close(feature_map("relu", given), np.maximum(x, 0), "float64")
    exp = np.exp(x)
    assert_close(feature_map("softmax", given), exp / exp.sum(-1, keepdims=True), "float64")


@pytest.mark.parametrize(("how", "order"), [("l1", 1), ("l2", 2), ("max", np.inf)])
def test_normalised_vectors_have_norm_one(how, order, rng):
    x = drawn(rng, 7, 4)
    found = normalised(x, how)
    assert_close(np.linalg.norm(found, order, axis=-1), np.ones(7), "float64")
    assert_close(found[:, :1] * x, found * x[:, :1], "float64")


@pytest.mark.parametrize("how", NORMALISED)
def test_a_silent_key_stays_silent(how):
    x = torch.zeros(3, requires_grad=True)
    found = normalised(x, how)
    found.sum().backward()
    assert not found.any()
    assert torch.isfinite(x.grad).all()


def test_nothing_is_normalised_unless_asked(rng):
    x = drawn(rng, 3, 4)
    assert normalised(x, "none") is x


def test_short_floats_are_normalised_in_float32(rng):
    x = drawn(rng, 4, 64).bfloat16()
    found = normalised(x, "l2")
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, torch.nn.functional.normalize(x.float(), dim=-1).bfloat16())


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda x: feature_map("dpfq", x), "did you mean 'dpfp'"),
        (lambda x: feature_map("dpfp", x, nu=0), "0 shifts"),
        (lambda x: feature_map("elu", x, nu=2), "leave it at 1"),
        (lambda x: feature_map("dpfp", x, nu=8), "at most 7"),
        (lambda x: normalised(x, "l3"), "no norm called 'l3'"),
    ],
)
def test_refusals(call, told):
    with pytest.raises(FwbioError, match=told):
        call(torch.ones(4))
