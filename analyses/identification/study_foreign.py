"""Memories that follow none of the rules of the table: an identification is to say so."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import xarray as xr

from fwbio.analyses.identification.study import (
    NOISE,
    POST,
    PRE,
    STEPS,
    drawn_by,
    noisy,
    presented,
)

Change = Callable[[np.ndarray, np.ndarray, np.ndarray, np.random.Generator], np.ndarray]

STRENGTH = 0.5


def _wander(
    W: np.ndarray, keys: np.ndarray, values: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Chance alone."""
    return rng.standard_normal(W.shape) / 4


def _other_cells(
    W: np.ndarray, keys: np.ndarray, values: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """K' v^T with k' of cells that were not recorded, as active as those that were."""
    return np.outer(rng.permutation(keys[-1]), values[-1])


def _delayed(
    W: np.ndarray, keys: np.ndarray, values: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """k_t v_{t-1}^T: what came before the key, not with it."""
    return np.outer(keys[-1], values[-2])


def _signs(
    W: np.ndarray, keys: np.ndarray, values: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """K (sgn v - sgn W^T k)^T: the perceptron's.

    Source: Rosenblatt 1958, 10.1037/h0042519.
    """
    return np.outer(keys[-1], np.sign(values[-1]) - np.sign(keys[-1] @ W))


def _winner(
    W: np.ndarray, keys: np.ndarray, values: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Only the most active postsynaptic cell learns."""
    return np.outer(keys[-1], np.where(values[-1] == values[-1].max(), values[-1], 0.0))


def _all_or_none(
    W: np.ndarray, keys: np.ndarray, values: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """sgn(k) v^T: a key cell counts, however active it is."""
    return np.outer(np.sign(keys[-1]), values[-1]) / 4


def _squares(
    W: np.ndarray, keys: np.ndarray, values: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """(k * k) v^T: key cells count by their power, whatever their sign."""
    return 3 * np.outer(keys[-1] ** 2, values[-1])


def _values_squared(
    W: np.ndarray, keys: np.ndarray, values: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Value cells count by their power: k (v * v)^T."""
    return np.outer(keys[-1], values[-1] ** 2)


def _instar(
    W: np.ndarray, keys: np.ndarray, values: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """(k - W) * |v|: active value cells move their weights towards the key.

    Source: Grossberg 1976, 10.1007/BF00344744, recalled.
    """
    return 0.5 * (keys[-1][:, None] - W) * np.abs(values[-1])


def _outstar(
    W: np.ndarray, keys: np.ndarray, values: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """(v - W) * |k|: active key cells move their weights towards the value."""
    return 0.5 * (values[-1] - W) * np.abs(keys[-1][:, None])


FOREIGN: Mapping[str, Change] = MappingProxyType(
    {
        "wander": _wander,
        "other_cells": _other_cells,
        "delayed": _delayed,
        "signs": _signs,
        "winner": _winner,
        "all_or_none": _all_or_none,
        "squares": _squares,
        "values_squared": _values_squared,
        "instar": _instar,
        "outstar": _outstar,
    }
)


def foreign(
    kind: str,
    seed: int,
    *,
    pre: int = PRE,
    post: int = POST,
    steps: int = STEPS,
    noise: float = NOISE,
) -> xr.Dataset:
    """A recording of a memory that follows none of the rules of the table.

    Args:
        kind: a name of `FOREIGN`.
        seed: of everything drawn.
        pre: presynaptic channels.
        post: postsynaptic channels.
        steps: presentations.
        noise: standard deviation of Gaussian noise on the weights, in units of their root mean
            square over the recording.

    Returns:
        `key`, `value` and the noisy `weights` of all steps, as of
        `fwbio.analyses.identification.study.case`.
    """
    rng = drawn_by(kind, seed)
    key, value, _ = presented(rng, pre=pre, post=post, steps=steps + 1)
    weights = np.zeros((steps, pre, post))
    W = np.zeros((pre, post))
    for t in range(steps):
        W = W + STRENGTH * FOREIGN[kind](W, key[: t + 2], value[: t + 2], rng)
        weights[t] = W
    return xr.Dataset(
        {
            "key": (("step", "pre"), key[1:]),
            "value": (("step", "post"), value[1:]),
            "weights": (("step", "pre", "post"), noisy(weights, noise, rng)),
        }
    )
