"""The two classical associative memories on the toolkit's rules and substrates.

Both are the rule `hebb`: Willshaw's with weights that end at one, Hopfield's with patterns that are
their own keys. Here are their patterns, their weights, and how they recall.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from fwbio import program
from fwbio.analyses.substrates import SYNAPTIC, execute
from fwbio.errors import FwbioError

# What bounds |w|, and how much of the bound it is: a spiking weight is the difference of two
# conductances, each of which stays within its baseline of it.
BOUNDS: Mapping[str, tuple[str, float]] = {"rate": ("bound", 1.0), "spiking": ("baseline", 0.5)}
_TIED = 1e-9


def binary_patterns(rng: np.random.Generator, count: int, units: int, active: int) -> np.ndarray:
    """Independent patterns of zeros with a fixed number of ones, (count, units).

    Args:
        rng: where they come from.
        count: how many.
        units: of each.
        active: of them that are 1.
    """
    places = np.argpartition(rng.random((count, units)), active - 1, axis=-1)[:, :active]
    patterns = np.zeros((count, units))
    np.put_along_axis(patterns, places, 1.0, axis=-1)
    return patterns


def sign_patterns(rng: np.random.Generator, count: int, units: int) -> np.ndarray:
    """Independent patterns of +1 and -1, (count, units)."""
    return rng.integers(0, 2, (count, units)) * 2.0 - 1.0


def flipped(rng: np.random.Generator, patterns: np.ndarray, count: int) -> np.ndarray:
    """Patterns (.., units) with that many units of the other sign, chosen anew for each."""
    places = np.argsort(rng.random(patterns.shape), axis=-1)[..., :count]
    cues = patterns.copy()
    np.put_along_axis(cues, places, -np.take_along_axis(patterns, places, -1), axis=-1)
    return cues


def hebbian_sum(
    keys: np.ndarray,
    values: np.ndarray,
    substrate: str = "reference",
    *,
    strength: float = 1.0,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> np.ndarray:
    """The weights that the rule `hebb` leaves on a substrate, W = beta sum_m k_m v_m^T.

    Synapses have no negative rates: signed keys are shown to them as ON and OFF cells, whose
    weights are then subtracted, which is the same sum, as k = max(k, 0) - max(-k, 0).

    Args:
        keys: (trial, pair, pre), one pair a step.
        values: (trial, pair, post).
        substrate: a name of `fwbio.analyses.substrates.SUBSTRATES`.
        strength: beta.
        seed: of the substrate's noise, where it has any.
        options: further arguments of the substrate's `execute`.

    Returns:
        W (trial, pre, post).

    Raises:
        FwbioError: as the substrate says.
    """
    paired = substrate in SYNAPTIC and bool((keys < 0).any())
    shown = np.concatenate([np.maximum(keys, 0), np.maximum(-keys, 0)], -1) if paired else keys
    made = program.make("hebb", shown, values, np.zeros_like(shown), beta=strength)
    record = execute(made, substrate, seed=seed, options=options)
    weights = _final(record)
    if paired:
        on, off = np.split(weights, 2, axis=-2)
        weights = on - off
    return weights


def clipped_sum(
    keys: np.ndarray,
    values: np.ndarray,
    substrate: str = "reference",
    *,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> np.ndarray:
    """Willshaw's weights, W <- min(W + k v^T, 1), on a substrate.

    Rate and spiking synapses have hard bounds of their own, which are set to one. The others sum
    without bounds, and the sum is clipped at the end. For writes that are not negative that is the
    same: with any a and x >= 0

        min(min(a, 1) + x, 1) = min(a + x, 1)

    since both are 1 where a > 1, and equal term by term where it is not; by induction over pairs,
    clipping after every write is clipping once after all.

    Args:
        keys: of zeros and ones, (trial, pair, pre).
        values: likewise, (trial, pair, post).
        substrate: a name of `fwbio.analyses.substrates.SUBSTRATES`.
        seed: of the substrate's noise, where it has any.
        options: further arguments of the substrate's `execute`, without its bound.

    Returns:
        W (trial, pre, post).

    Raises:
        FwbioError: something in keys or values is negative, or as the substrate says.
    """
    for name, x in (("keys", keys), ("values", values)):
        if (x < 0).any():
            raise FwbioError(
                f"has {x.min():.3g}, and clipping commutes with writes that are not negative",
                where=name,
                mend="give patterns of 0 and 1",
            )
    if substrate not in BOUNDS:
        weights = hebbian_sum(keys, values, substrate, seed=seed, options=options)
        return np.minimum(weights, 1.0)
    # bounds are in units of the largest weight that independent writes would add up to
    alone = np.sqrt(np.einsum("tpk,tpv->tkv", keys**2, values**2, optimize=True).max(initial=0))
    name, share = BOUNDS[substrate]
    within = {name: share / max(float(alone), 1.0)}
    return hebbian_sum(keys, values, substrate, seed=seed, options={**(options or {}), **within})


def fired(weights: np.ndarray, cues: np.ndarray) -> np.ndarray:
    """Which units fire by Willshaw's threshold, the number of active units of the cue.

        y = W^T q >= |q| - 1/2

    The half leaves room for weights that are not quite one.

    Args:
        weights: W (trial, pre, post).
        cues: q of zeros and ones, (trial, cue, pre).

    Returns:
        True or false, (trial, cue, post).
    """
    found: np.ndarray = cues @ weights >= cues.sum(-1, keepdims=True) - 0.5
    return found


def without_self(weights: np.ndarray) -> np.ndarray:
    """Weights (.., units, units) without the diagonal: no unit excites itself."""
    return weights * (1 - np.eye(weights.shape[-1]))


def settle(
    weights: np.ndarray, cues: np.ndarray, rng: np.random.Generator, *, sweeps: int = 100
) -> tuple[np.ndarray, np.ndarray]:
    """Let the units of a Hopfield net take the sign of their input, one after another.

        x_i <- sign(sum_j w_ji x_j),   and as it was where that is 0

    A sweep visits all units in a random order, which the whole batch shares; it ends where no unit
    turns. With symmetric weights that have no diagonal the energy -x^T W x / 2 falls at each turn,
    so that it does end (Hopfield 1982, 10.1073/pnas.79.8.2554).

    Args:
        weights: W (trial, units, units).
        cues: of +1 and -1, (trial, cue, units).
        rng: of the order.
        sweeps: at most.

    Returns:
        The states, shaped as the cues, and whether each had settled, (trial, cue).
    """
    states, moved = cues.astype(float), np.ones(cues.shape[:-1], dtype=bool)
    fields = states @ weights
    tied = _TIED * np.abs(fields).max(initial=0)
    for _ in range(sweeps):
        moved[:] = False
        for unit in rng.permutation(states.shape[-1]):
            turns = fields[..., unit] * states[..., unit] < -tied
            if not turns.any():
                continue
            trial, cue = np.nonzero(turns)
            states[trial, cue, unit] *= -1
            fields[trial, cue] += 2 * states[trial, cue, unit, None] * weights[trial, unit]
            moved |= turns
        if not moved.any():
            break
    return states, ~moved


def _final(record: xr.Dataset) -> np.ndarray:
    last = record.weights.isel(snapshot=-1).transpose("trial", "pre", "post")
    return np.asarray(last.values, dtype=float)
