"""Interference between stored pairs: how much of each value is in what each key reads at the end.

`projections`, `coefficients` and `crosstalk` work on arrays, `interference` on records of any
substrate; `exact_interference` follows from a program alone, by what is left of each pair's key.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
import xarray as xr

from fwbio import reference
from fwbio.analyses.blockwise import blockwise
from fwbio.analyses.labels import label
from fwbio.analyses.recall import require, shown_value
from fwbio.errors import FwbioError
from fwbio.record import with_snapshots
from fwbio.rule import Rule
from fwbio.rules import resolve

By = Literal["projection", "regression"]
LINEAR_IN_VALUES = frozenset({"product", "release", "covariance", "pairs"})
_RUNS_OWN = ("snapshot", "time", "cell", "pre_spike", "post_spike")


def projections(readout: np.ndarray, value: np.ndarray) -> np.ndarray:
    """The share of each value in each read-out.

        M_ij = <y_i, v_j> / |v_j|^2

    Values that overlap are in each other's read-outs even of a perfect memory; `coefficients` are
    blind to that. 0 for a zero value.

    Args:
        readout: y (.., cue, post).
        value: v (.., pair, post).

    Returns:
        (.., cue, pair).
    """
    power = (value * value).sum(-1)[..., None, :]
    found: np.ndarray = readout @ np.swapaxes(value, -1, -2) / np.where(power > 0, power, 1)
    return found


def coefficients(readout: np.ndarray, value: np.ndarray) -> np.ndarray:
    """The mixture of values that each read-out is, by least squares.

        min |y_i - sum_j A_ij v_j|^2,   A = Y V^+

    with the least coefficients where values depend linearly on each other.

    Args:
        readout: y (.., cue, post).
        value: v (.., pair, post).

    Returns:
        A (.., cue, pair).
    """
    found: np.ndarray = readout @ np.linalg.pinv(value.astype(np.float64))
    return found


def crosstalk(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What of its own pair each cue reads, and the power of all others together.

        signal_i = M_ii,   crosstalk_i = sum_{j != i} M_ij^2

    Hebbian writes of P random unit keys of K channels leave a crosstalk of (P - 1) / K.

    Args:
        matrix: interference (.., cue, pair), square; NaN where there is no pair.

    Returns:
        Both (.., cue), NaN where there is no pair.
    """
    signal = np.diagonal(matrix, axis1=-2, axis2=-1)
    others = np.where(np.eye(matrix.shape[-1], dtype=bool), 0, matrix)
    return signal, np.where(np.isnan(signal), np.nan, np.nansum(others**2, -1))


def interference(record: xr.Dataset, *, by: By = "projection") -> xr.Dataset:
    """How much of each stored value is in what each stored key reads from the final weights.

        y_i = W^T phi(k_i) / n_i

    with the rule's own feature, normaliser and ridge. Pairs are the steps that are `stored` in any
    trial, all steps where the record doesn't say; keys and values of several writes a step are
    those of the last.

    Args:
        record: with `weights` and the attribute `rule`; keys are read where they are at rest for
            rules whose keys facilitate and depress.
        by: "projection", M_ij = <y_i, v_j> / |v_j|^2; "regression", the coefficients of the values
            in y_i.

    Returns:
        `interference` (.., cue, pair), `signal` (.., cue), its diagonal, and `crosstalk` (.., cue),
        the power of the rest of its row; dimensionless, NaN where a trial has no such pair, lazy
        where the record is. `cue` and `pair` are the steps.

    Raises:
        FwbioError: the record has no weights, keys or values, or nothing says which rule reads
            them; `by` is neither.
    """
    measures: dict[str, Callable] = {"projection": projections, "regression": coefficients}
    if by not in measures:
        raise FwbioError(
            f"there is no interference by {by!r}", where="by", mend="projection or regression"
        )
    if "weights" not in record:
        raise FwbioError("there are no weights", where="record", mend="give the record of a run")
    require(record, "key", "value")
    stored, steps = _stored(record)
    read = _read(record, _last_substep(record.key).isel(step=steps))
    value = shown_value(record).isel(step=steps).where(stored, 0)
    matrix: xr.DataArray = blockwise(
        measures[by],
        read.rename(step="cue"),
        value.rename(step="pair"),
        core=[["cue", "post"], ["pair", "post"]],
        out=["cue", "pair"],
    )
    return _described(matrix, stored, steps)


def exact_interference(program: xr.Dataset) -> xr.Dataset:
    """The coefficient of each stored value in what each stored key reads at the end, exactly.

        y_i = sum_j A_ij u_j + what the memory held before,   A_ij = kappa_j^T phi(k_i) / n_i

    where kappa_j is what is left of pair j's key after all later writes (`key_traces`), and u_j its
    value: beta_j v_j in rules with a write strength for each post channel.

    Args:
        program: or a record, of a rule that is linear in its values; it is run once in float64
            with a post channel for each pair.

    Returns:
        As `interference`.

    Raises:
        FwbioError: the rule is not linear in its values.
    """
    run = _impulses(program)
    stored, steps = _stored(program)
    read = _read(run, _last_substep(run.key).isel(step=steps))
    matrix = read.rename(step="cue", post="pair").transpose(..., "cue", "pair")
    return _described(matrix, stored, steps)


def key_traces(program: xr.Dataset) -> xr.DataArray:
    """What is left of each pair's key in the final weights.

        W = sum_j kappa_j u_j^T + ...,   kappa_j = beta_j prod_{t > j} (I - k_t p_t^T) D_t k_j

    Args:
        program: as for `exact_interference`.

    Returns:
        kappa (.., pair, pre), dimensionless.

    Raises:
        FwbioError: the rule is not linear in its values.
    """
    traces = _impulses(program).weights.isel(snapshot=-1, drop=True).rename(post="pair")
    _, steps = _stored(program)
    traces = traces.transpose(..., "pair", "pre").assign_coords(pair=steps)
    label(traces["pair"], "step at which the pair was stored")
    return label(traces, "what is left of the pair's key in the weights")


def _impulses(program: xr.Dataset) -> xr.Dataset:
    """The reference's run of the program, each pair's value a one at a post channel of its own."""
    rule = _rule(program)
    if rule.terms.transposed or rule.terms.plasticity not in LINEAR_IN_VALUES:
        raise FwbioError(
            f"{rule.name!r} is not linear in its values",
            where="program",
            mend="use interference(record), which measures it",
        )
    _, steps = _stored(program)
    ones = np.zeros((program.sizes["step"], steps.size))
    ones[steps, np.arange(steps.size)] = 1
    value = xr.DataArray(ones, dims=("step", "post"))
    if "substep" in program.value.dims:
        last = np.arange(program.sizes["substep"]) == program.sizes["substep"] - 1
        value = (value * xr.DataArray(last, dims="substep")).transpose("step", "substep", "post")
    bare = program.drop_dims(["post", *_RUNS_OWN], errors="ignore")
    made = bare.assign(value=value)
    if rule.terms.write == "channel":
        made["beta"] = xr.ones_like(value)
    if "initial_weights" in program:
        made["initial_weights"] = xr.DataArray(
            np.zeros((program.sizes["pre"], steps.size)), dims=("pre", "post")
        )
    return reference.execute(made)


def _rule(record: xr.Dataset) -> Rule:
    """The rule that a record names.

    Raises:
        FwbioError: it names none, or one that there isn't.
    """
    if "rule" not in record.attrs:
        raise FwbioError(
            "the attribute 'rule' is missing: what a key reads depends on the rule",
            where="record",
            mend="name it, record.assign_attrs(rule='hebb'); 'hebb' and 'delta' read y = W^T k",
        )
    return resolve(str(record.attrs["rule"]))


def _stored(record: xr.Dataset) -> tuple[xr.DataArray, np.ndarray]:
    """Which of the pairs each trial stores (.., step), and the steps of all pairs."""
    if "stored" not in record:
        steps = np.arange(record.sizes["step"])
        return xr.DataArray(np.ones(steps.size, dtype=bool), dims="step"), steps
    stored = record.stored.drop_vars("step", errors="ignore").compute()
    others = [dim for dim in stored.dims if dim != "step"]
    steps = np.flatnonzero(stored.any(others).values)
    return stored.isel(step=steps), steps


def _last_substep(key: xr.DataArray) -> xr.DataArray:
    return key.isel(substep=-1) if "substep" in key.dims else key


def _read(record: xr.Dataset, cues: xr.DataArray) -> xr.DataArray:
    """What cues (.., step, pre) read from a record's final weights, (.., step, post)."""
    rule = _rule(record)
    names = ["weights", *([rule.terms.companion] if rule.terms.companion else [])]
    require(record, *names)
    record = with_snapshots(record)
    final = [record[name].isel(snapshot=-1, drop=True) for name in names]
    core: list[list[str]] = [["step", "pre"], ["pre", "post"]]
    core += {"normaliser": [["pre"]], "gram": [["pre", "pre_other"], ["pre"]]}.get(
        str(rule.terms.companion), []
    )
    if rule.terms.companion == "gram":
        final.append(record.ridge.isel(step=-1, drop=True))

    def read(cue: np.ndarray, weights: np.ndarray, *beside: np.ndarray) -> np.ndarray:
        if rule.terms.feature == "elu_plus_one":
            cue = np.where(cue > 0, cue + 1, np.exp(np.minimum(cue, 0)))
        if rule.terms.readout == "ridge":
            gram, ridge = beside
            matrix = gram + ridge[..., None] * np.eye(ridge.shape[-1])
            cue = np.swapaxes(np.linalg.solve(matrix, np.swapaxes(cue, -1, -2)), -1, -2)
        y = cue @ weights
        if rule.terms.companion != "normaliser":
            return y
        n = (cue @ beside[0][..., None])[..., 0]
        n = np.maximum(abs(n), 1) if rule.terms.normaliser == "bounded" else np.where(n == 0, 1, n)
        return y / n[..., None]

    found: xr.DataArray = blockwise(
        read, cues.drop_vars("step", errors="ignore"), *final, core=core, out=["step", "post"]
    )
    return found


def _described(matrix: xr.DataArray, stored: xr.DataArray, steps: np.ndarray) -> xr.Dataset:
    """The matrix and what follows from it, with units and the steps of the pairs."""
    both = stored.rename(step="cue") & stored.rename(step="pair")
    matrix = matrix.where(both).transpose(..., "cue", "pair")
    signal, power = blockwise(
        crosstalk, matrix, core=[["cue", "pair"]], out=[["cue"], ["cue"]], dtype=[float, float]
    )
    found = xr.Dataset({"interference": matrix, "signal": signal, "crosstalk": power})
    found = found.assign_coords(cue=steps, pair=steps)
    label(found["interference"], "share of the pair's value in what the cue reads")
    label(found["signal"], "share of its own value in what the cue reads")
    label(found["crosstalk"], "power of the other values in what the cue reads")
    label(found["cue"], "step at which the cue's pair was stored")
    label(found["pair"], "step at which the pair was stored")
    return found
