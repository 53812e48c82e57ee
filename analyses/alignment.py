"""How alike two runs are but for what should not matter: the basis, the scale, the order of cells.

Every measure compares matrices X (rows, n) and Y (rows, m) whose rows correspond: read-outs, a row
each; or weights, a row for each pre cell. What a measure does not see:

| measure | scale | orthogonal maps of columns | offset of each column | widths that differ |
| --- | --- | --- | --- | --- |
| `cosine_similarity` | x | | | |
| `principal_angles` | x | x, any invertible map | | x |
| `procrustes_similarity` | x | x | | x |
| `procrustes_distance` | | x | | x |
| `linear_cka`, biased or not | x | x | x | x |
| `rsa`, euclidean | x | x | x | x |
| `rsa`, correlation | x, of each row | permutations only | offset of each row | x |

All are blind to one permutation of rows in both, and those blind to orthogonal maps to permutations
and reflections of columns in one. Each works on arrays (.., rows, n); `alignment` takes records.
"""

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import xarray as xr
from scipy.stats import rankdata

from fwbio.analyses.agreement import align, first_trials, need, scored_steps
from fwbio.analyses.blockwise import blockwise
from fwbio.analyses.geometry import numerical_rank
from fwbio.analyses.labels import label
from fwbio.analyses.recall import cosine
from fwbio.errors import FwbioError
from fwbio.record import with_snapshots

Of = Literal["readout", "weights"]
Components = int | Literal["all", "matched"]
Dissimilarity = Literal["correlation", "euclidean"]


def cosine_similarity(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The cosine of two matrices, entry by entry; 0 where one of them is zero.

        sum_ij X_ij Y_ij / (|X| |Y|)

    Args:
        x: X (.., rows, n).
        y: Y (.., rows, n).
    """
    return cosine(*(m.reshape(*m.shape[:-2], -1) for m in (x, y)))


def principal_angles(x: np.ndarray, y: np.ndarray, *, components: Components = "all") -> np.ndarray:
    """The principal angles between the spaces that the columns of two matrices span.

        cos theta_k = k-th singular value of Q_X^T Q_Y

    with orthonormal bases Q of the leading left singular vectors, sines taken from what Q_Y has
    outside Q_X, so that small angles are as exact as large ones.

    Args:
        x: X (.., rows, n).
        y: Y (.., rows, m).
        components: which left singular vectors span each space: "all" that its numerical rank has;
            "matched", as many leading ones as the lesser of the two ranks, so that noise in one,
            which fills every direction, is not taken for shared space; or that many leading ones.
            (Matrices of full row rank span everything: all angles are 0.)

    Returns:
        (.., angle) in radians from 0 to pi / 2, smallest first; NaN beyond the lesser rank, as many
        as the smallest of rows, n and m.

    Source: Bjorck & Golub 1973, 10.1090/S0025-5718-1973-0348991-3; for the sines Knyazev &
    Argentati 2002, 10.1137/S1064827500377332.
    """
    bases = [np.linalg.svd(m.astype(np.float64), full_matrices=False) for m in (x, y)]
    most = min(x.shape[-2], x.shape[-1], y.shape[-1])
    ranks = [
        numerical_rank(s, precision=float(np.finfo(np.result_type(m.dtype, np.float32)).eps))
        for m, (_, s, _) in zip((x, y), bases, strict=True)
    ]
    if components != "all":
        limit = np.minimum(*ranks) if components == "matched" else components
        ranks = [np.minimum(rank, limit) for rank in ranks]
    qx, qy = (
        np.where((np.arange(u.shape[-1]) < rank[..., None])[..., None, :], u, 0)
        for (u, _, _), rank in zip(bases, ranks, strict=True)
    )
    shared = np.swapaxes(qx, -1, -2) @ qy
    cosines = np.linalg.svd(shared, compute_uv=False)[..., :most]
    outside = (qy - qx @ shared, qx - qy @ np.swapaxes(shared, -1, -2))
    sines = [np.asarray(np.linalg.svd(m, compute_uv=False))[..., :most] for m in outside]
    rank = np.minimum(*ranks)[..., None]
    order = np.clip(rank - 1 - np.arange(most), 0, None)  # the directions left out come last
    smaller = np.where((ranks[1] <= ranks[0])[..., None], sines[0], sines[1])
    angles = np.arctan2(np.take_along_axis(smaller, order, -1), cosines)
    return np.where(np.arange(most) < rank, angles, np.nan)


def procrustes_similarity(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The cosine of two matrices after the best orthogonal map of columns; 0 where one is zero.

        max over orthogonal Q of <X Q, Y> / (|X| |Y|) = |X^T Y|_* / (|X| |Y|)

    The distance after the best scale too is |X s Q - Y| / |Y| = sqrt(1 - similarity^2).

    Args:
        x: X (.., rows, n).
        y: Y (.., rows, m); the narrower of the two is widened by zeros.

    Source: Schonemann 1966, 10.1007/BF02289451.
    """
    norms = _norm(x) * _norm(y)
    return np.clip(_nuclear(x, y) / np.where(norms > 0, norms, 1), 0, 1)


def procrustes_distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The relative distance of two matrices after the best orthogonal map of columns.

        min over orthogonal Q of |X Q - Y| / |Y| = sqrt(|X|^2 + |Y|^2 - 2 |X^T Y|_*) / |Y|

    0 for an orthogonal map of Y, |s - 1| for one that is s times as large; NaN where Y is zero.

    Args:
        x: X (.., rows, n).
        y: Y (.., rows, m); the narrower of the two is widened by zeros.

    Source: Schonemann 1966, 10.1007/BF02289451.
    """
    width = max(x.shape[-1], y.shape[-1])
    x, y = (_widened(m.astype(np.float64), width) for m in (x, y))
    u, _, v = np.linalg.svd(np.swapaxes(x, -1, -2) @ y)
    norm = _norm(y)
    return np.where(norm > 0, _norm(x @ (u @ v) - y) / np.where(norm > 0, norm, 1), np.nan)


def linear_cka(x: np.ndarray, y: np.ndarray, *, unbiased: bool = False) -> np.ndarray:
    """Linear centred kernel alignment.

        HSIC(X, Y) / sqrt(HSIC(X, X) HSIC(Y, Y)),   HSIC = |X_c^T Y_c|^2

    with centred columns; or with the unbiased estimate of HSIC, which is about 0 for independent
    matrices however wide they are, and may be negative. NaN where either has no spread, or rows are
    fewer than 4 for the unbiased one.

    Args:
        x: X (.., rows, n).
        y: Y (.., rows, m).
        unbiased: whether to take the unbiased estimate.

    Source: Kornblith 2019, arXiv:1905.00414; unbiased Song 2012, JMLR 13:1393; Nguyen 2021,
    arXiv:2010.15327.
    """
    x, y = (m - m.mean(-2, keepdims=True) for m in (x.astype(np.float64), y.astype(np.float64)))
    hsic = _unbiased_hsic if unbiased else _hsic
    if unbiased and x.shape[-2] < 4:
        return np.full(np.broadcast_shapes(x.shape[:-2], y.shape[:-2]), np.nan)
    own = [hsic(m, m) for m in (x, y)]
    some = (own[0] > 0) & (own[1] > 0)
    root = np.prod([np.sqrt(np.where(some, power, 1)) for power in own], axis=0)
    return np.where(some, hsic(x, y) / root, np.nan)


def dissimilarities(x: np.ndarray, *, metric: Dissimilarity = "correlation") -> np.ndarray:
    """How unlike each two rows are.

        correlation: 1 - Pearson's r;   euclidean: |x_i - x_j|

    Args:
        x: X (.., rows, n).
        metric: either of them.

    Returns:
        (.., pair of rows), those with i < j in order; NaN by correlation with a row of equal
        numbers.

    Raises:
        FwbioError: there is no such metric.

    Source: Kriegeskorte, Mur & Bandettini 2008, 10.3389/neuro.06.004.2008.
    """
    if metric not in ("correlation", "euclidean"):
        raise FwbioError(
            f"there is no dissimilarity {metric!r}", where="metric", mend="correlation or euclidean"
        )
    x = x.astype(np.float64)
    i, j = np.triu_indices(x.shape[-2], 1)
    if metric == "euclidean":
        x = x - x.mean(-2, keepdims=True)  # distances near each other lose fewer digits
        gram = x @ np.swapaxes(x, -1, -2)
        power = np.diagonal(gram, axis1=-2, axis2=-1)
        square = power[..., i] + power[..., j] - 2 * gram[..., i, j]
        return np.sqrt(np.clip(square, 0, None))
    x = x - x.mean(-1, keepdims=True)
    norm = np.linalg.norm(x, axis=-1, keepdims=True)
    x = np.where(norm > 0, x / np.where(norm > 0, norm, 1), np.nan)
    return 1 - (x @ np.swapaxes(x, -1, -2))[..., i, j]


def rsa(
    x: np.ndarray,
    y: np.ndarray,
    *,
    metric: Dissimilarity = "correlation",
    ranks: bool = True,
) -> np.ndarray:
    """Representational similarity: the correlation of two matrices' dissimilarities of rows.

    Args:
        x: X (.., rows, n).
        y: Y (.., rows, m).
        metric: of `dissimilarities`.
        ranks: Spearman's correlation, which any growing function of the dissimilarities leaves as
            it is; Pearson's where false.

    Returns:
        (..), over the pairs of rows that have a dissimilarity in both; NaN where those of either
        are all alike.

    Raises:
        FwbioError: there is no such metric.

    Source: Kriegeskorte, Mur & Bandettini 2008, 10.3389/neuro.06.004.2008.
    """
    a, b = np.broadcast_arrays(*(dissimilarities(m, metric=metric) for m in (x, y)))
    some = ~(np.isnan(a) | np.isnan(b))
    count = np.maximum(some.sum(-1, keepdims=True), 1)
    if ranks:
        a, b = (_ranks(m, some, relative=metric == "euclidean") for m in (a, b))
    a, b = (np.where(some, m, 0) for m in (a, b))
    a, b = (np.where(some, m - m.sum(-1, keepdims=True) / count, 0) for m in (a, b))
    spread = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return np.where(spread > 0, (a * b).sum(-1) / np.where(spread > 0, spread, 1), np.nan)


def _ranks(values: np.ndarray, some: np.ndarray, *, relative: bool) -> np.ndarray:
    """Ranks along the last axis of `some`; values that differ by rounding are ties.

    Those of distances, which have a unit, by rounding of the largest; 1 - r is rounded as 1 is.
    """
    if relative:
        largest = np.where(some, values, 0).max(-1, keepdims=True, initial=0)
        values = values / np.where(largest > 0, largest, 1)
    kept = np.where(some, np.round(values, 12), np.nan)
    policy = "propagate" if some.all() else "omit"
    return np.asarray(rankdata(kept, axis=-1, nan_policy=policy))


MEASURES: Mapping[str, str] = {
    "cosine": "cosine, entry by entry",
    "overlap": "mean squared cosine of the principal angles",
    "largest_angle": "largest principal angle",
    "procrustes": "cosine after the best orthogonal map",
    "procrustes_distance": "relative distance after the best orthogonal map",
    "cka": "linear CKA",
    "cka_unbiased": "linear CKA, unbiased",
    "rsa": "correlation of the rows' dissimilarities",
}


def alignment(
    record: xr.Dataset,
    other: xr.Dataset,
    *,
    of: Of = "weights",
    components: Components = "matched",
    same_program: bool = True,
) -> xr.Dataset:
    """Every measure of how alike two runs' weights or read-outs are, trial by trial.

    Args:
        record: a run; its first trials count where the other has fewer.
        other: another: on another substrate, or a synaptic twin of a network.
        of: "weights", the final ones, a row for each pre cell; "readout", a row for each scored
            step.
        components: directions between which the angles are taken, as in `principal_angles`.
        same_program: whether the two must have run one program. Twins need not: their steps must
            correspond, and where their cells don't, entry by entry measures are NaN.

    Returns:
        `cosine`, `overlap`, `procrustes`, `procrustes_distance`, `cka`, `cka_unbiased`, `rsa` (of
        correlation distances, by ranks), dimensionless, and `largest_angle` in radians, over the
        leading dims; lazy where a record is. Means: `fwbio.analyses.labels.over_trials`.

    Raises:
        FwbioError: the two ran different programs, though they should not; they differ in steps, or
            for weights in pre cells; one has none of them, or NaN; `of` is neither.
    """
    if of not in ("weights", "readout"):
        raise FwbioError(f"there is no alignment of {of!r}", where="of", mend="weights or readout")
    record, other = align(record, other) if same_program else first_trials(record, other)
    need(record, other, name=of)
    x, y, counted = _rows(record, other, of)
    values: xr.DataArray = blockwise(
        _measured,
        x,
        y.rename(column="column_other"),
        counted,
        core=[["row", "column"], ["row", "column_other"], ["row"]],
        out=["measure"],
        sizes={"measure": len(MEASURES)},
        options={"components": components},
    )
    found = xr.Dataset(
        {name: values.isel(measure=i, drop=True) for i, name in enumerate(MEASURES)},
        attrs={"of": of, "substrates": [str(r.attrs.get("substrate")) for r in (record, other)]},
    )
    for name, words in MEASURES.items():
        label(found[name], f"{words}, of {_WORDS[of]}", "rad" if name == "largest_angle" else "1")
    return found


_WORDS = {"weights": "final weights", "readout": "scored read-outs"}


def _rows(
    record: xr.Dataset, other: xr.Dataset, of: Of
) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """The matrices (.., row, column) of two runs, and which rows count."""
    if of == "weights":
        x, y = (
            with_snapshots(r).weights.isel(snapshot=-1, drop=True).rename(pre="row", post="column")
            for r in (record, other)
        )
        counted = xr.DataArray(np.ones(x.sizes["row"], dtype=bool), dims="row")
    else:
        x, y = (
            r.readout.drop_vars("step", errors="ignore").rename(step="row", post="column")
            for r in (record, other)
        )
        counted = scored_steps(record).drop_vars("step", errors="ignore").rename(step="row")
    if x.sizes["row"] != y.sizes["row"]:
        raise FwbioError(
            f"the rows of their {_WORDS[of]} are {x.sizes['row']} and {y.sizes['row']}",
            where="the two records to compare",
            mend="compare runs whose steps, and for weights pre cells, correspond",
        )
    return x, y, counted


def _measured(
    x: np.ndarray, y: np.ndarray, counted: np.ndarray, *, components: Components
) -> np.ndarray:
    """All measures (.., measure), of the rows that count; items of equally many at once."""
    leading = np.broadcast_shapes(x.shape[:-2], y.shape[:-2], counted.shape[:-1])
    x, y = (np.broadcast_to(m, (*leading, *m.shape[-2:])) for m in (x, y))
    counted = np.broadcast_to(counted, (*leading, counted.shape[-1]))
    rows = counted.sum(-1)
    found = np.full((*leading, len(MEASURES)), np.nan)
    for count in np.unique(rows[rows > 0]):
        items = rows == count
        # counted rows in their order, item after item: as many of each
        mine, theirs = (m[items][counted[items]].reshape(-1, count, m.shape[-1]) for m in (x, y))
        _require_finite(mine, theirs)
        found[items] = _all_measures(mine, theirs, components)
    return found


def _require_finite(*matrices: np.ndarray) -> None:
    if not all(np.isfinite(x).all() for x in matrices):
        raise FwbioError(
            "final weights or scored read-outs are NaN or infinite",
            where="the two records to compare",
            mend="leave these trials or steps out, or fill them in",
        )


def _all_measures(x: np.ndarray, y: np.ndarray, components: Components) -> np.ndarray:
    angles = principal_angles(x, y, components=components)
    some = np.isfinite(angles)
    count = some.sum(-1)
    overlap = np.where(some, np.cos(angles) ** 2, 0).sum(-1) / np.maximum(count, 1)
    none = np.where(count > 0, 0.0, np.nan)
    same = x.shape[-1] == y.shape[-1]
    return np.stack(
        [
            cosine_similarity(x, y) if same else np.full(len(x), np.nan),
            overlap + none,
            np.where(some, angles, 0).max(-1, initial=0) + none,
            procrustes_similarity(x, y),
            procrustes_distance(x, y),
            linear_cka(x, y),
            linear_cka(x, y, unbiased=True),
            rsa(x, y),
        ],
        -1,
    )


def _norm(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.linalg.norm(x, axis=(-2, -1)))


def _nuclear(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The sum of the singular values of X^T Y."""
    product = np.swapaxes(x.astype(np.float64), -1, -2) @ y.astype(np.float64)
    return np.asarray(np.linalg.svd(product, compute_uv=False).sum(-1))


def _widened(x: np.ndarray, width: int) -> np.ndarray:
    return np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, width - x.shape[-1])])


_Hsic = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _hsic(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """|X^T Y|^2 of centred columns."""
    return np.asarray(((np.swapaxes(x, -1, -2) @ y) ** 2).sum((-2, -1)))


def _unbiased_hsic(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Song's estimate times n (n - 3), from K = X X^T and L = Y Y^T without their diagonals.

        tr(K L) + 1^T K 1 1^T L 1 / ((n - 1) (n - 2)) - 2 / (n - 2) 1^T K L 1

    by products of columns, without matrices of rows by rows.
    """
    n = x.shape[-2]
    own_x, own_y = ((m * m).sum(-1) for m in (x, y))
    sum_x, sum_y = ((m @ m.sum(-2)[..., None])[..., 0] - own for m, own in ((x, own_x), (y, own_y)))
    trace = _hsic(x, y) - (own_x * own_y).sum(-1)
    both = sum_x.sum(-1) * sum_y.sum(-1) / ((n - 1) * (n - 2))
    return np.asarray(trace + both - 2 / (n - 2) * (sum_x * sum_y).sum(-1))
