"""How much of a stored pair is left: exactly, for a program's own keys, and on average over keys.

One step of the normal form takes the memory W to A W + k u^T with A = D - k p^T D. A pair written
at step s is read at step t as

    y = (q^T A_t .. A_{s+1} k_s) u_s + what all other pairs left

and the rest has mean zero where values are independent with mean zero. Decay shortens the product
evenly; error correction shortens it along the keys that came since: forgetting by interference.
"""

from typing import Literal

import numpy as np
import xarray as xr

from fwbio.analyses.forgetting import source_steps
from fwbio.analyses.labels import attributes
from fwbio.analyses.recall import projection, require
from fwbio.errors import FwbioError
from fwbio.normal_form import NormalForm, normal_form, normalised
from fwbio.program import EXECUTED, Operands, operands

Keys = Literal["isotropic", "sparse", "on_off"]


def expected_signal(record: xr.Dataset) -> xr.DataArray:
    """The signal that is left of each cued pair, given the keys: exact for every linear rule.

        s = <y_s, target> / |target|^2,   y_s = sum over writes j of step s (q^T A_t .. A_{j+1} k_j)
        u_j / n

    the projection on its target of what the pair's own writes add to the read-out. Over values that
    are independent with mean zero it is the mean of the measured signal.

    Args:
        record: a program or a record of a rule that is linear in its weights, with `target` and
            `lag`.

    Returns:
        (.., step), dimensionless, NaN where nothing is asked for.

    Raises:
        FwbioError: the record has no `lag` or `target`; its rule is not linear, or writes traces of
            several steps.
    """
    require(record, "target")
    source = source_steps(record)
    streams = [name for name in EXECUTED if name in record]
    given = operands(record[streams].assign_attrs(record.attrs))
    if given.rule.terms.plasticity not in {"product", "release"}:
        raise FwbioError(
            f"what one step of {given.rule.name!r} writes is no product of that step's key and"
            " value",
            where="expected_signal",
            mend="measure its forgetting by fwbio.analyses.forgetting.forgetting_curve",
        )
    form = normal_form(
        given.rule,
        given.streams,
        xp=np,
        time_axis=len(given.shape),
        writes_per_step=given.writes_per_step,
    )
    steps = (*given.leading, "step")
    at = _laid_out(source, steps, (*given.shape, given.steps))
    target = _laid_out(record.target, (*steps, "post"), (*given.shape, given.steps, given.post))
    left = _left(form, given, target, at)
    values = np.where(at >= 0, left, np.nan)
    words = "signal that is left of the pair, from the keys alone"
    return xr.DataArray(values, dims=steps, attrs=attributes(words))


def kept_by_decay(steps: np.ndarray | int, log_decay: float) -> np.ndarray:
    """The signal of a pair after m steps of decay, keys orthogonal or values independent.

        s = gamma^m,  gamma = exp(log_decay)

    Args:
        steps: m, any shape.
        log_decay: of one step, log gamma, 0 or less.

    Source: Sun 2023, arXiv:2307.08621 (RetNet); Dao & Gu 2024, arXiv:2405.21060 (Mamba2).
    """
    return np.exp(np.asarray(steps, dtype=float) * log_decay)


def kept_by_correction(lag: np.ndarray, spectrum: np.ndarray, strength: float = 1.0) -> np.ndarray:
    """The mean signal of a pair after m presentations that the delta rule corrected.

        s = b sum_i l_i (1 - b l_i)^m;   b (1 - b / K)^m for isotropic keys

    over keys that are independent, of unit length, with second moments C = E[k k^T] of eigenvalues
    l, sum 1: later keys are independent of each other and of the pair's, so that the mean of
    k^T (I - b k_1 k_1^T) .. (I - b k_m k_m^T) k is tr(C (I - b C)^m).

    Args:
        lag: m, any shape.
        spectrum: l (K,), as `key_spectrum` gives it.
        strength: b = beta |k|^2.
    """
    lag = np.asarray(lag, dtype=float)[..., None]
    return (strength * spectrum * (1 - strength * spectrum) ** lag).sum(-1)


def key_spectrum(keys: Keys, size: int, *, ones: int | None = None) -> np.ndarray:
    """Eigenvalues of the second moments E[k k^T] of random keys of unit length.

        isotropic   1/K, K-fold
        sparse      n/K once and (K-n)/(K(K-1)): n ones among K
        on_off      1/K (K/2-fold), (1 - 2/pi)/K and the rest, once: isotropic items of K/2
                    features as [max(x, 0), max(-x, 0)], where E max(x_i,0) max(x_j,0) = 1/(pi K)

    Args:
        keys: which.
        size: K, channels of a key.
        ones: n, for sparse keys.

    Raises:
        FwbioError: unknown keys, or sizes that they can't have.
    """
    if keys == "isotropic":
        return np.full(size, 1 / size)
    if keys == "sparse":
        if ones is None or not 0 < ones <= size or size < 2:
            raise FwbioError(
                f"{ones!r} ones among {size} channels make no sparse key",
                where="ones",
                mend="give a whole number from 1 to the size",
            )
        return np.array([ones / size, *[(size - ones) / (size * (size - 1))] * (size - 1)])
    if keys == "on_off":
        if size % 2 or size < 2:
            raise FwbioError(
                f"{size} channels are no pairs of ON and OFF", where="size", mend="give an even one"
            )
        half = size // 2
        low = (1 - 2 / np.pi) / size
        top = 1 / size + 2 * (half - 1) / (np.pi * size)
        return np.array([top, *[1 / size] * half, *[low] * (half - 1)])
    raise FwbioError(
        f"there are no {keys!r} keys", where="keys", mend="isotropic, sparse or on_off"
    )


def kept_by_turnover(times: np.ndarray, tau: float, *, cv: float = 0.0) -> np.ndarray:
    """The mean share of a weight that turnover leaves after a time.

        e^(-t / tau), and (1 + cv^2 t / tau)^(-1 / cv^2) over synapses of unequal rates

    Noise of the turnover that is even about its mean (`fwbio.models.turnover.Kesten`) leaves this
    mean as it is.

    Args:
        times: of turnover, s, any shape.
        tau: mean time constant, s.
        cv: coefficient of variation of the gamma-distributed rates over synapses.

    Raises:
        FwbioError: a number out of its range.
    """
    from fwbio.models.turnover import mean_decay

    if not tau > 0:
        raise FwbioError(f"tau = {tau!r} is out of range", where="tau", mend="give more than 0 s")
    times = np.asarray(times, dtype=float)
    return np.exp(-times / tau) if cv == 0 else mean_decay(times, 1 / tau, cv, "gamma")


def _left(form: NormalForm, given: Operands, target: np.ndarray, source: np.ndarray) -> np.ndarray:
    """The signal of each step's source, (*shape, step)."""
    query = _queries(form, given)
    if form.transposed:  # the state's rows are post: it is read from the other side
        own, _ = _carried(form, given, target, source)
        power = (target**2).sum(-1)
        return np.asarray((own * query).sum(-1) / np.where(power > 0, power, 1))
    own, total = _carried(form, given, query, source)
    if form.normaliser != "none":
        own[..., -1] = total
    return projection(normalised(own, form, np)[..., : given.post], target)


def _carried(
    form: NormalForm, given: Operands, read: np.ndarray, source: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What the writes of each step's source add to its read-out, and all that its last column sums.

    A read-out's vector is carried back through the steps, g <- A^T g, and meets each write there.

    Args:
        form: of the program.
        given: the program's operands.
        read: what the state is read by, (*shape, step, row).
        source: (*shape, step).

    Returns:
        (*shape, step, column) and (*shape, step).
    """
    writes, write, erase = form.writes_per_step, form.write, form.erase
    carried = np.array(np.broadcast_to(read, (*source.shape, form.key.shape[-1])))
    own = np.zeros((*source.shape, write.shape[-1]))
    total = np.zeros(source.shape)
    for t in reversed(range(form.key.shape[-2])):
        step = t // writes
        later = carried[..., step:, :]
        met = np.einsum("...sk,...k->...s", later, form.key[..., t, :])
        added = write[..., t, :][..., None, :]
        mine = source[..., step:] == step
        own[..., step:, :] += (met * mine)[..., None] * added
        total[..., step:] += met * added[..., -1]
        kept = 1.0 if form.log_decay is None else np.exp(form.log_decay[..., t, :])[..., None, :]
        erased = 0.0 if erase is None else met[..., None] * erase[..., t, :][..., None, :]
        both = kept * later - erased if form.undecayed else kept * (later - erased)
        carried[..., step:, :] = both
    if given.initial is not None and form.normaliser != "none":
        total += np.einsum("...sk,...k->...s", carried, given.initial[..., -1])
    return own, total


def _queries(form: NormalForm, given: Operands) -> np.ndarray:
    """What the state is read by: the query, or x of (H + diag(ridge)) x = query."""
    if form.ridge is None:
        return np.asarray(form.query)
    pre = given.pre
    gram = np.zeros((*given.shape, pre, pre))
    if given.initial is not None:
        gram = gram + given.initial[..., given.post :]
    solved = np.empty((*given.shape, given.steps, pre))
    for t in range(given.steps):
        if form.log_decay is not None:
            gram = np.exp(form.log_decay[..., t, :, None]) * gram
        gram = gram + form.key[..., t, :, None] * form.write[..., t, None, given.post :]
        matrix = gram + form.ridge[..., t, :, None] * np.eye(pre)
        solved[..., t, :] = np.linalg.solve(matrix, form.query[..., t, :, None])[..., 0]
    return solved


def _laid_out(x: xr.DataArray, dims: tuple[str, ...], shape: tuple[int, ...]) -> np.ndarray:
    """Values broadcast to (*leading, step, ..)."""
    missing = {d: 1 for d in dims if d not in x.dims}
    return np.broadcast_to(x.expand_dims(missing).transpose(*dims).values, shape)
