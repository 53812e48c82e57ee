"""Alignment: what each measure sees and what it does not, on matrices made so."""

import numpy as np
import pytest
import scipy.linalg
import scipy.spatial
import scipy.stats
from programs import random_program
from tolerances import TOLERANCES, assert_close, assert_expected

from fwbio import FwbioError, program, reference
from fwbio.analyses import alignment as measures
from fwbio.analyses.alignment import (
    alignment,
    cosine_similarity,
    dissimilarities,
    linear_cka,
    principal_angles,
    procrustes_distance,
    procrustes_similarity,
    rsa,
)


def unbiased_cka(x, y):
    return linear_cka(x, y, unbiased=True)


def euclidean_rsa(x, y):
    return rsa(x, y, metric="euclidean")


def overlap(x, y):
    return np.cos(principal_angles(x, y)).mean(-1)


SIMILARITIES = {
    "cosine": cosine_similarity,
    "angles": overlap,
    "procrustes": procrustes_similarity,
    "cka": linear_cka,
    "unbiased cka": unbiased_cka,
    "rsa": rsa,
    "euclidean rsa": euclidean_rsa,
}
ROWS, COLUMNS = 9, 4


def rotation(rng, size):
    return np.linalg.qr(rng.standard_normal((size, size)))[0]


CHANGES = {
    "itself": lambda x, rng: x,
    "scale": lambda x, rng: 3.5 * x,
    "rotation": lambda x, rng: x @ rotation(rng, COLUMNS),
    "reflection": lambda x, rng: x * [-1, 1, 1, 1],
    "permutation": lambda x, rng: x[..., [2, 0, 3, 1]],
    "invertible map": lambda x, rng: x @ np.diag([1, 4, 0.2, 1]) @ rotation(rng, COLUMNS),
    "offset of columns": lambda x, rng: x + 5 * rng.standard_normal(COLUMNS),
    "offset of rows": lambda x, rng: x + 5 * rng.standard_normal((ROWS, 1)),
    "scale of rows": lambda x, rng: x * rng.uniform(0.3, 3, (ROWS, 1)),
    "further columns": lambda x, rng: np.pad(x, [(0, 0), (0, 0), (0, 2)]),
    "order of rows": lambda x, rng: x[..., ::-1, :],
}
SAME = {"itself", "scale"}
TURNED = SAME | {"rotation", "reflection", "permutation", "further columns"}
BLIND = {
    "cosine": SAME,
    "angles": TURNED | {"invertible map"},
    "procrustes": TURNED,
    "cka": TURNED | {"offset of columns"},
    "unbiased cka": TURNED | {"offset of columns"},
    "rsa": SAME | {"permutation", "offset of rows", "scale of rows"},
    "euclidean rsa": TURNED | {"offset of columns"},
}


CASES = [
    (name, change)
    for name in SIMILARITIES
    for change in CHANGES
    if (name, change) != ("cosine", "further columns")  # entries that don't correspond
]


@pytest.mark.parametrize(("name", "change"), CASES)
def test_a_measure_is_one_for_what_it_is_blind_to_and_for_nothing_else(name, change, rng):
    x = rng.standard_normal((3, ROWS, COLUMNS))
    found = SIMILARITIES[name](x, CHANGES[change](x, rng))
    assert found.shape == (3,)
    if change in BLIND[name]:
        assert_close(found, np.ones(3), "turned matrices")
    else:
        assert (found < 1 - TOLERANCES["turned matrices"].value).all()


@pytest.mark.parametrize("name", SIMILARITIES)
@pytest.mark.parametrize("unit", [1e-15, 1e-9, 1e12])
def test_a_measure_is_blind_to_the_unit(name, unit, rng):
    """Weights are conductances as well: some nanosiemens, in siemens."""
    x, y = rng.standard_normal((2, 3, ROWS, COLUMNS))
    assert_close(SIMILARITIES[name](unit * x, y), SIMILARITIES[name](x, y), "turned matrices")
    assert_close(SIMILARITIES[name](x, unit * y), SIMILARITIES[name](x, y), "turned matrices")


@pytest.mark.parametrize("scale", [1e-13, 1.0, 1e6])
def test_equal_distances_share_a_rank(scale, rng):
    """Rows that repeat, and corners of a cube: distances that differ by rounding alone."""
    cube = np.stack(np.meshgrid(*[[0.1, 0.4]] * 3), -1).reshape(-1, 3)
    for x in (cube, rng.standard_normal((4, 3))[[0, 0, 1, 1, 2, 3, 3, 3]]):
        y = rng.standard_normal((8, 5))
        exact = [scipy.spatial.distance.pdist(m).round(9) for m in (x, y)]
        expected = scipy.stats.spearmanr(*exact).statistic
        assert_close(euclidean_rsa(scale * x, y), expected, "turned matrices")


@pytest.mark.parametrize("name", SIMILARITIES)
def test_rows_may_be_ordered_anew_in_both_and_sides_exchanged(name, rng):
    x, y = rng.standard_normal((2, 3, ROWS, COLUMNS))
    expected, order = SIMILARITIES[name](x, y), rng.permutation(ROWS)
    assert_close(SIMILARITIES[name](x[:, order], y[:, order]), expected, "turned matrices")
    assert_close(SIMILARITIES[name](y, x), expected, "turned matrices")


def test_cosine_of_known_matrices():
    x = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert_close(cosine_similarity(x, [[1.0, 1.0], [0.0, 0.0]] + 0 * x), 0.5, "float64")
    assert cosine_similarity(x, 0 * x) == 0


@pytest.mark.parametrize("angle", [1e-9, 1e-4, 0.3, np.pi / 4, 1.2, np.pi / 2])
def test_planes_at_an_angle(angle, rng):
    """Two planes that share a line; turned together and in bases of their own."""
    x = np.array([[1.0, 0], [0, 1], [0, 0], [0, 0]])
    y = np.array([[1.0, 0], [0, np.cos(angle)], [0, np.sin(angle)], [0, 0]])
    turn = rotation(rng, 4)
    found = principal_angles(turn @ x @ rng.uniform(1, 2, (2, 2)), turn @ y @ rotation(rng, 2))
    assert found[0] < TOLERANCES["turned matrices"].value
    assert abs(found[1] - angle) < TOLERANCES["turned matrices"].value * max(angle, 1e-5)


def test_angles_are_scipy_s(rng):
    x, y = rng.standard_normal((5, 8, 3)), rng.standard_normal((5, 8, 4))
    expected = [scipy.linalg.subspace_angles(*pair)[::-1] for pair in zip(x, y, strict=True)]
    assert_close(principal_angles(x, y), expected, "turned matrices")


def test_angles_beyond_the_rank_are_not_numbers(rng):
    x, y = rng.standard_normal((2, 8, 4))
    x[:, 2] = x[:, 0] + x[:, 1]
    found = principal_angles(x, y)
    assert np.isfinite(found).tolist() == [True, True, True, False]
    assert_close(found[:3], scipy.linalg.subspace_angles(x, y)[::-1], "turned matrices")
    assert np.isnan(principal_angles(0 * x, y)).all()
    assert np.isfinite(principal_angles(x, y, components=2)).sum() == 2


@pytest.mark.parametrize("components", ["matched", 1])
def test_leading_directions_outlast_noise(components, rng):
    """Noise fills all directions, in which any space lies; the leading one is tilted by it."""
    x = np.outer(rng.standard_normal(5), rng.standard_normal(6))
    noisy = x + 1e-3 * np.linalg.norm(x) * rng.standard_normal(x.shape)
    assert principal_angles(x, noisy)[0] < 1e-12
    assert 1e-6 < principal_angles(x, noisy, components=components)[0] < 0.05


def test_procrustes_of_known_matrices(rng):
    """Singular values (3, 1) against (2, 2) of orthonormal rows: a nuclear norm of 8."""
    x, y = np.diag([3.0, 1.0]), 2 * rotation(rng, 2)
    assert_close(procrustes_similarity(x, y), 8 / np.sqrt(10 * 8), "float64")
    assert_close(procrustes_distance(x, y), np.sqrt((10 + 8 - 16) / 8), "float64")


@pytest.mark.parametrize("scale", [0.25, 1.0, 3.0])
def test_procrustes_distance_sees_scale_and_no_rotation(scale, rng):
    x = rng.standard_normal((2, ROWS, COLUMNS))
    found = procrustes_distance(scale * x @ rotation(rng, COLUMNS), x)
    assert_close(1 + found, 1 + abs(scale - 1) * np.ones(2), "float64")


def test_procrustes_distance_is_the_least_of_many_rotations(rng):
    x, y = rng.standard_normal((2, ROWS, COLUMNS))
    best, _ = scipy.linalg.orthogonal_procrustes(x, y)
    norm = np.linalg.norm(y)
    assert_close(procrustes_distance(x, y), np.linalg.norm(x @ best - y) / norm, "float64")
    scaled = x * procrustes_similarity(x, y) * norm / np.linalg.norm(x)
    after = np.sqrt(1 - procrustes_similarity(x, y) ** 2)
    assert_close(procrustes_distance(scaled, y), after, "float64")
    assert np.isnan(procrustes_distance(x, 0 * y))


def centring(rows):
    return np.eye(rows) - 1 / rows


def test_cka_is_the_cosine_of_centred_similarities(rng):
    x, y = rng.standard_normal((ROWS, 4)), rng.standard_normal((ROWS, 6))
    k, g = (centring(ROWS) @ m @ m.T @ centring(ROWS) for m in (x, y))
    expected = (k * g).sum() / np.linalg.norm(k) / np.linalg.norm(g)
    assert_close(linear_cka(x, y), expected, "float64")


def test_unbiased_cka_is_that_of_song_s_estimate(rng):
    def song(k, g):
        n, one = len(k), np.ones(len(k))
        k, g = (m - np.diag(np.diag(m)) for m in (k, g))
        apart = one @ k @ one * (one @ g @ one) / ((n - 1) * (n - 2))
        return np.trace(k @ g) + apart - 2 / (n - 2) * one @ k @ g @ one

    x, y = rng.standard_normal((ROWS, 4)) + 1, rng.standard_normal((ROWS, 6))
    k, g = x @ x.T, y @ y.T
    expected = song(k, g) / np.sqrt(song(k, k) * song(g, g))
    assert_close(unbiased_cka(x, y), expected, "turned matrices")


def test_unbiased_cka_of_independent_matrices_is_nothing_and_the_biased_is_not(rng):
    x, y = rng.standard_normal((2, 600, 20, 40))
    assert_expected(unbiased_cka(x, y), 0)
    assert linear_cka(x, y).mean() > 0.5


def test_no_spread_has_no_alignment(rng):
    x = rng.standard_normal((ROWS, COLUMNS))
    flat = np.ones((ROWS, COLUMNS))
    assert np.isnan(linear_cka(x, flat))
    assert np.isnan(unbiased_cka(x[:3], x[:3]))
    assert np.isnan(rsa(x, flat))
    assert np.isnan(rsa(x[:2], x[:2]))


def test_dissimilarities_are_scipy_s(rng):
    x = rng.standard_normal((ROWS, COLUMNS))
    for metric in ("correlation", "euclidean"):
        expected = scipy.spatial.distance.pdist(x, metric)
        assert_close(dissimilarities(x, metric=metric), expected, "float64")
    with pytest.raises(FwbioError, match="there is no dissimilarity 'cosine'"):
        dissimilarities(x, metric="cosine")


def test_rsa_is_the_correlation_of_dissimilarities(rng):
    x, y = rng.standard_normal((2, ROWS, COLUMNS))
    a, b = dissimilarities(x), dissimilarities(y)
    assert_close(rsa(x, y), scipy.stats.spearmanr(a, b).statistic, "float64")
    assert_close(rsa(x, y, ranks=False), scipy.stats.pearsonr(a, b).statistic, "float64")


def test_silent_rows_are_left_out_of_rsa(rng):
    x, y = rng.standard_normal((2, ROWS, COLUMNS))
    silent = x * (np.arange(ROWS) != 3)[:, None]
    rest = np.arange(ROWS) != 3
    assert_close(rsa(silent, y), rsa(x[rest], y[rest]), "float64")


@pytest.fixture
def record(rng):
    made = random_program("delta", rng, trials=3, steps=7, pre=5, post=6)
    return reference.execute(made)


@pytest.mark.parametrize("of", ["weights", "readout"])
def test_a_run_is_aligned_with_itself(of, record):
    found = alignment(record, record, of=of)
    perfect = {"largest_angle": 0.0, "procrustes_distance": 0.0}
    for name, values in found.items():
        assert values.dims == ("trial",)
        assert_close(1 + values, np.full(3, 1 + perfect.get(name, 1.0)), "turned matrices")
        assert {"units", "long_name"} <= values.attrs.keys()
    assert found.largest_angle.attrs["units"] == "rad"


def test_read_outs_in_another_basis_are_aligned_but_for_their_entries(record, rng):
    turn = rotation(rng, 6)
    turned = record.assign(readout=record.readout.copy(data=record.readout.values @ turn))
    found = alignment(turned, record, of="readout")
    assert_close(found.procrustes, np.ones(3), "float64")
    assert_close(found.cka, np.ones(3), "float64")
    assert (found.cosine < 0.99).all()


def test_only_scored_read_outs_are_aligned_however_many_a_trial_has(record, rng):
    scored = np.arange(7) >= np.array([[1], [3], [1]])
    run = record.assign(scored=(("trial", "step"), scored))
    noisy = run.assign(readout=run.readout + rng.standard_normal(run.readout.shape))
    other = noisy.assign(readout=noisy.readout.where(noisy.scored, 9.0))
    found, expected = alignment(other, run, of="readout"), alignment(noisy, run, of="readout")
    assert found.equals(expected)
    one = (r.readout.values[1, 3:] for r in (noisy, run))
    assert_close(found.cka[1], linear_cka(*one), "float64")


def test_a_twin_may_have_cells_of_its_own(record, rng):
    streams = {name: record[name].values for name in ("key", "query", "beta")}
    twin = reference.execute(
        program.make("delta", value=np.pad(record.value.values, [(0, 0)] * 2 + [(0, 3)]), **streams)
    )
    with pytest.raises(FwbioError, match="'value' differs"):
        alignment(twin, record)
    for of in ("weights", "readout"):
        found = alignment(twin.isel(trial=slice(2)), record, of=of, same_program=False)
        assert found.sizes == {"trial": 2}
        assert_close(found.procrustes, np.ones(2), "float64")
        assert np.isnan(found.cosine).all()


def test_mistakes_about_alignment_are_told(record):
    with pytest.raises(FwbioError, match="there is no alignment of 'spikes'"):
        alignment(record, record, of="spikes")
    with pytest.raises(FwbioError, match="the rows of their scored read-outs are 7 and 6"):
        alignment(record, record.isel(step=slice(6)), of="readout", same_program=False)


def test_every_measure_is_described():
    for name in measures.MEASURES:
        assert f"`{name}`" in alignment.__doc__
