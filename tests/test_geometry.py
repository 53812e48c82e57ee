"""Spectra and interference: matrices and programs whose geometry is known."""

import numpy as np
import pytest
import xarray as xr
from programs import random_program
from tolerances import assert_close, assert_expected

from fwbio import RULES, FwbioError, program, record, reference
from fwbio.analyses.alignment import alignment
from fwbio.analyses.geometry import (
    condition,
    effective_rank,
    numerical_rank,
    participation_ratio,
    singular_values,
    spectra,
    stable_rank,
)
from fwbio.analyses.interference import (
    LINEAR_IN_VALUES,
    coefficients,
    crosstalk,
    exact_interference,
    interference,
    key_traces,
    projections,
)
from fwbio.analyses.labels import over_trials
from fwbio.analyses.overview import overview
from fwbio.analyses.recall import shown_value

MEASURES = [effective_rank, participation_ratio, stable_rank]
LINEAR = [
    name
    for name, rule in RULES.items()
    if not rule.terms.transposed and rule.terms.plasticity in LINEAR_IN_VALUES
]


def orthogonal(rng, size):
    return np.linalg.qr(rng.standard_normal((size, size)))[0]


def with_values(rng, values, pre=6, post=5):
    """Two matrices with these singular values."""
    full = np.zeros((pre, post))
    full[: len(values), : len(values)] = np.diag(values)
    return np.stack([orthogonal(rng, pre) @ full @ orthogonal(rng, post) for _ in range(2)])


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.mark.parametrize("count", [1, 3, 5])
@pytest.mark.parametrize("measure", [*MEASURES, numerical_rank])
def test_equal_singular_values_count_their_directions(measure, count, rng):
    values = singular_values(with_values(rng, [2.0] * count))
    assert_close(measure(values), [count, count], "float64")


def test_measures_of_two_unequal_directions():
    """s = (2, 1): p = (2/3, 1/3); (4 + 1)^2 / (16 + 1); (4 + 1) / 4; 2 / 1."""
    s = np.array([2.0, 1.0])
    assert_close(effective_rank(s), 3 / 2 ** (2 / 3), "float64")
    assert_close(participation_ratio(s), 25 / 17, "float64")
    assert_close(stable_rank(s), 5 / 4, "float64")
    assert_close(condition(s), 2, "float64")


@pytest.mark.parametrize("measure", [*MEASURES, condition, numerical_rank])
@pytest.mark.parametrize("scale", [1e-200, 1e150])
def test_measures_are_blind_to_scale_and_rotation(measure, scale, rng):
    w = rng.standard_normal((3, 7, 4))
    turned = orthogonal(rng, 7) @ w @ orthogonal(rng, 4) * scale
    expected = measure(singular_values(w))
    assert_close(measure(singular_values(turned)), expected, "turned matrices")


def test_a_zero_matrix_fills_nothing():
    values = singular_values(np.zeros((2, 4, 3)))
    for measure in [*MEASURES, numerical_rank]:
        assert not measure(values).any()
    assert np.isinf(condition(values)).all()


def test_a_matrix_singular_to_rounding_is_singular(rng):
    w = with_values(rng, [1.0, 0.5, 0.25, 0.125, 0.0])
    assert np.isinf(condition(singular_values(w))).all()
    assert (numerical_rank(singular_values(w)) == 4).all()
    w = with_values(rng, [1.0, 0.5, 0.25, 0.125, 0.0625])
    assert_close(condition(singular_values(w)), [16, 16], "float64")
    assert (numerical_rank(singular_values(w.astype(np.float32)), precision=6e-8) == 5).all()


def test_spectra_of_orthonormal_pairs_grow_step_by_step(rng):
    """Orthonormal keys and values: W is a sum of modes of strength 1, one more each step."""
    key, value = orthogonal(rng, 6)[:4], orthogonal(rng, 5)[:4]
    run = reference.execute(program.make("hebb", key[None], value[None], key[None]), weights="all")
    found = spectra(run)
    for name in ("effective_rank", "participation_ratio", "stable_rank", "rank"):
        assert_close(found[name].values, [[1, 2, 3, 4]], "float64")
    assert_close(found.frobenius_norm.values, [np.sqrt([1, 2, 3, 4])], "float64")
    assert_close(found.spectral_norm.values, np.ones((1, 4)), "float64")
    assert found.singular_value.dims == ("trial", "snapshot", "mode")
    assert found.snapshot.values.tolist() == [0, 1, 2, 3]
    assert np.isinf(found.condition).all()
    for variable in found.variables.values():
        assert {"units", "long_name"} <= variable.attrs.keys()


@pytest.mark.parametrize(("asked", "kept"), [(1, [5]), (2, [0, 5]), (3, [0, 2, 5]), (9, range(6))])
def test_some_snapshots_are_evenly_spaced_and_end_with_the_last(asked, kept, rng):
    run = reference.execute(random_program("delta", rng), weights="all")
    assert spectra(run, snapshots=asked).snapshot.values.tolist() == list(kept)


def test_means_over_trials(rng):
    x = xr.Dataset({"a": (("trial", "k"), rng.standard_normal((5, 3))), "b": ("k", [1.0, 2, 3])})
    x["a"][0, 1] = np.nan
    x["a"][2, 2] = np.inf
    means = over_trials(x)
    assert_close(means.a[0], x.a[:, 0].mean(), "float64")
    assert_close(means.a_se[0], x.a[:, 0].std(ddof=1) / np.sqrt(5), "float64")
    assert_close(means.a_se[1], x.a[1:, 1].std(ddof=1) / np.sqrt(4), "float64")
    assert np.isinf(means.a[2])
    assert np.isnan(means.a_se[2])
    assert means.b.equals(x.b)


def test_mistakes_about_spectra_are_told(rng):
    run = reference.execute(random_program("hebb", rng))
    with pytest.raises(FwbioError, match="there are no weights"):
        spectra(run.drop_vars("weights"))
    with pytest.raises(FwbioError, match="0 snapshots show nothing"):
        spectra(run, snapshots=0)


def stored_pairs(rule, key, value, **streams):
    return program.make(rule, key, value, key, **streams)


@pytest.fixture
def pairs(rng):
    key = unit(rng.standard_normal((2, 4, 6)))
    return key, rng.standard_normal((2, 4, 5))


def test_hebbian_interference_is_the_keys_overlap(pairs):
    key, value = pairs
    overlap = key @ key.swapaxes(-1, -2)
    made = stored_pairs("hebb", key, value)
    assert_close(exact_interference(made).interference, overlap, "float64")
    assert_close(key_traces(made), key, "float64")


def test_orthonormal_keys_do_not_interfere_and_decay_by_age(rng):
    key, value = orthogonal(rng, 6)[:4], orthogonal(rng, 6)[:4]
    made = stored_pairs("retnet", key, value, log_decay=np.log(0.8))
    faded = np.diag(0.8 ** np.arange(3, -1, -1.0))
    assert_close(exact_interference(made).interference, faded, "float64")
    found = interference(reference.execute(made))
    assert_close(found.interference, faded, "float64")
    assert_close(found.signal, np.diag(faded), "float64")
    assert_close(found.crosstalk + 1, np.ones(4), "float64")


def test_the_delta_rule_clears_the_last_key_of_all_others(pairs):
    """beta |k|^2 = 1: the last pair reads its own value alone, and is in the others by overlap."""
    key, value = pairs
    found = exact_interference(stored_pairs("delta", key, value, beta=1.0)).interference.values
    assert_close(found[:, -1], np.broadcast_to([0, 0, 0, 1.0], (2, 4)), "float64")
    assert_close(found[:, :, -1], (key @ key[:, -1, :, None])[..., 0], "float64")


def test_least_squares_interference_is_the_ridge_s_hat_matrix(pairs):
    """y_i = sum_j v_j k_j^T (sum_l k_l k_l^T + lambda)^-1 k_i."""
    key, value = pairs
    made = stored_pairs("mesa", key, value, ridge=0.3, log_decay=0.0)
    gram = key.swapaxes(-1, -2) @ key + 0.3 * np.eye(6)
    hat = key @ np.linalg.solve(gram, key.swapaxes(-1, -2))
    assert_close(exact_interference(made).interference, hat, "float64")


def test_a_normalised_memory_shares_its_read_out_among_the_pairs(pairs):
    found = exact_interference(stored_pairs("linear_attention", *pairs)).interference
    assert (found > 0).all()
    assert_close(found.sum("pair"), np.ones((2, 4)), "float64")


@pytest.mark.parametrize("rule", LINEAR)
def test_what_is_measured_is_the_exact_mixture_of_the_values(rule, rng):
    """Projections are A G, G the values' overlap; regression finds A, of independent values."""
    made = random_program(rule, rng, steps=4, pre=6, post=7)
    if "substep" in made.value.dims:  # pairs are those of the last substep: the others write none
        last = xr.DataArray([0.0, 1.0], dims="substep")
        made["value"] = (made.value * last).transpose(*made.value.dims)
    run = reference.execute(made)
    if RULES[rule].terms.write == "channel":
        run["value"] = run.value * run.beta
    values, a = shown_value(run).values, exact_interference(made).interference.values
    power = (values**2).sum(-1)
    overlap = values @ values.swapaxes(-1, -2) / power[:, None, :]
    assert_close(interference(run).interference, a @ overlap, "independent values")
    measured = interference(run, by="regression").interference
    assert_close(measured, a, "independent values")


@pytest.mark.parametrize("rule", [name for name in RULES if name != "tsodyks_markram"])
def test_the_final_weights_are_read_as_the_rule_reads_them(rule, rng):
    """A last step whose query is its own key finds what the weights are read for."""
    made = random_program(rule, rng, steps=4, pre=5, post=6)
    key = made.key.isel(substep=-1) if "substep" in made.key.dims else made.key
    run = reference.execute(made.assign(query=made["query"].copy(data=key.values)))
    expected = projections(run.readout.values[:, -1:], shown_value(run).values)[:, 0]
    assert_close(interference(run).interference.isel(cue=-1), expected, "float64")


def test_random_keys_interfere_by_their_number_over_channels(rng):
    """Hebbian writes of P random unit keys of K channels: a crosstalk of (P - 1) / K."""
    key = unit(rng.standard_normal((400, 9, 32)))
    found = exact_interference(stored_pairs("hebb", key, rng.standard_normal((400, 9, 2))))
    assert_expected(found.crosstalk.mean("cue"), 8 / 32)
    assert_close(found.signal, np.ones((400, 9)), "float64")


def test_only_stored_pairs_are_listed_and_those_of_other_trials_are_not_numbers(rng):
    key, value = rng.standard_normal((2, 4, 6)), rng.standard_normal((2, 4, 5))
    stored = np.array([[True, False, True, False], [True, False, False, True]])
    made = stored_pairs("hebb", key, value, stored=stored)
    for found in (exact_interference(made), interference(reference.execute(made))):
        assert found.cue.values.tolist() == found.pair.values.tolist() == [0, 2, 3]
        here = found.interference.notnull().values
        expected = stored[:, [0, 2, 3]]
        assert np.array_equal(here, expected[:, :, None] & expected[:, None, :])
        assert np.array_equal(found.crosstalk.notnull(), expected)
        for variable in found.variables.values():
            assert {"units", "long_name"} <= variable.attrs.keys()


def test_cores_of_known_mixtures(rng):
    value, mixture = rng.standard_normal((3, 4, 9)), rng.standard_normal((3, 2, 4))
    assert_close(coefficients(mixture @ value, value), mixture, "independent values")
    zero = value * [[1.0], [0.0], [1.0], [1.0]]
    assert not projections(mixture @ zero, zero)[..., 1].any()
    signal, power = crosstalk(np.array([[1.0, 2.0, 2.0], [0.5, 3.0, 0.0], [0.0, 0.0, -1.0]]))
    assert_close(signal, [1, 3, -1], "float64")
    assert_close(power, [8, 0.25, 0], "float64")


@pytest.mark.parametrize("rule", ["oja", "bcm", "calcium"])
def test_rules_that_are_not_linear_in_their_values_are_told(rule, rng):
    with pytest.raises(FwbioError, match=f"'{rule}' is not linear in its values"):
        exact_interference(random_program(rule, rng))


def test_mistakes_about_interference_are_told(rng):
    run = reference.execute(random_program("hebb", rng))
    with pytest.raises(FwbioError, match="there is no interference by 'eye'"):
        interference(run, by="eye")
    with pytest.raises(FwbioError, match="there are no weights"):
        interference(run.drop_vars("weights"))


def own_recording(rng):
    """Keys, values and weights of a sum at every step, as a user has them: without attributes."""
    made = reference.execute(random_program("hebb", rng), weights="all")
    weights = made.weights.drop_vars("snapshot").rename(snapshot="step")
    bare = xr.Dataset({"key": made.key, "value": made.value, "weights": weights})
    return bare.drop_attrs(), made


@pytest.mark.parametrize("lazy", [False, True])
def test_weights_over_steps_are_analysed_as_those_over_snapshots(lazy, tmp_path, rng):
    mine, made = own_recording(rng)
    if lazy:
        mine = record.load(record.save(mine, tmp_path / "mine.zarr"))
    assert spectra(mine).drop_attrs().equals(spectra(made).drop_attrs())
    found = overview(mine, mine)
    assert_close(found.weight_agreement, 1.0, "float64")
    assert "readout_agreement" not in found
    assert_close(alignment(mine, mine).cosine.mean(), 1.0, "float64")
    assert_close(alignment(mine, mine, same_program=False).cosine.mean(), 1.0, "float64")
    named = interference(mine.assign_attrs(rule="hebb"))
    steps = interference(made.drop_vars("stored", errors="ignore"))
    assert_close(named.interference, steps.interference, "float64")


def test_what_a_recording_lacks_is_told(rng):
    mine, _ = own_recording(rng)
    with pytest.raises(FwbioError, match="attribute 'rule' is missing"):
        interference(mine)
    with pytest.raises(FwbioError, match="there is no 'key'"):
        interference(mine.drop_vars("key").assign_attrs(rule="hebb"))
    with pytest.raises(FwbioError, match="has no 'readout'"):
        alignment(mine, mine, of="readout")
    with pytest.raises(FwbioError, match="has no 'weights'"):
        alignment(mine, mine.drop_vars("weights"))
    with pytest.raises(FwbioError, match="nothing to look at"):
        overview(mine.drop_vars("weights"), mine)


@pytest.mark.parametrize("lazy", [False, True])
def test_the_snapshot_whose_weights_are_not_finite_is_told(lazy, rng):
    mine, _ = own_recording(rng)
    mine.weights[{"step": 3, "pre": 0}] = np.nan
    mine.weights[{"step": 5, "pre": 1}] = np.inf
    mine = mine.chunk(step=2) if lazy else mine
    with pytest.raises(FwbioError, match=r"at snapshot [35]"):
        spectra(mine).compute()
    spoilt = mine.isel(step=slice(4))
    with pytest.raises(FwbioError, match="NaN or infinite"):
        alignment(spoilt, spoilt).compute()
