"""Tasks of state: what a sequence comes to step by step - parity, sums modulo m, permutations.

Episodes are laid out as those of `fwbio.sequence_tasks`; every step is scored.
"""

from dataclasses import dataclass
from functools import cache
from itertools import permutations as arrangements
from typing import Literal

import numpy as np
import xarray as xr

from fwbio.task import sequence_episode, size


@dataclass(frozen=True, kw_only=True)
class Parity:
    """Sizes of `parity`: `length` bits in each of `trials` sequences."""

    trials: int = size(8)
    length: int = size(40)


@dataclass(frozen=True, kw_only=True)
class ModularSum:
    """Sizes of `modular_sum`: `length` numbers below `modulus` in each of `trials` sequences."""

    trials: int = size(8)
    length: int = size(40)
    modulus: int = size(5, least=2)


@dataclass(frozen=True, kw_only=True)
class Permutations:
    """Sizes of `permutations`.

    Args:
        trials: independent sequences; length: permutations composed in each.
        elements: n, how many things are permuted: the group S_n, of n! permutations.
        moves: "swaps", the identity and the n (n - 1) / 2 transpositions; "all" n! permutations.
    """

    trials: int = size(8)
    length: int = size(40)
    elements: int = size(3, least=2, most=6)
    moves: Literal["swaps", "all"] = "swaps"


def parity(config: Parity, rng: np.random.Generator) -> xr.Dataset:
    """Fair bits; the target at every step is the parity of those so far.

    >>> from fwbio.tasks import TASKS
    >>> episode = TASKS["parity"](seed=0, trials=1, length=6)
    >>> for name in ("tokens", "target"):
    ...     episode[name].values[0].tolist()
    [1, 1, 1, 0, 0, 0]
    [1, 0, 1, 1, 1, 1]
    """
    return _running_sum(config.trials, config.length, 2, rng)


def modular_sum(config: ModularSum, rng: np.random.Generator) -> xr.Dataset:
    """Uniform numbers; the target at every step is the sum of those so far, modulo m.

    >>> from fwbio.tasks import TASKS
    >>> episode = TASKS["modular_sum"](seed=0, trials=1, length=6)
    >>> for name in ("tokens", "target"):
    ...     episode[name].values[0].tolist()
    [4, 3, 2, 1, 1, 0]
    [4, 2, 4, 0, 1, 1]
    """
    return _running_sum(config.trials, config.length, config.modulus, rng)


def permutations(config: Permutations, rng: np.random.Generator) -> xr.Dataset:
    """Permutations one after the other; the target is what they have come to so far.

    The word problem of S_n: target_t = g_t g_(t-1) ... g_1, each step's permutation g_t applied
    to what the earlier ones made. Permutations are numbered in lexicographic order of (g(0), ...,
    g(n - 1)), so 0 is the identity; among swaps, tokens are 0, the identity, and 1, 2, ..., the
    transpositions (0 1), (0 2), ..., (n - 2 n - 1). After Merrill et al. 2024, Grazzi et al. 2024.

    The transpositions (1 2), (0 2) and (0 2), say, come to (0, 2, 1), (2, 0, 1) and (0, 2, 1):

    >>> from fwbio.tasks import TASKS
    >>> episode = TASKS["permutations"](seed=0, trials=1, length=6)
    >>> for name in ("tokens", "target"):
    ...     episode[name].values[0].tolist()
    [3, 2, 2, 1, 1, 0]
    [1, 4, 1, 3, 1, 1]
    """
    table, swaps = symmetric_group(config.elements)
    moves = swaps if config.moves == "swaps" else np.arange(len(table))
    tokens = rng.integers(moves.size, size=(config.trials, config.length))
    target = moves[tokens]
    for step in range(1, config.length):
        target[:, step] = table[target[:, step], target[:, step - 1]]
    return sequence_episode(
        tokens=tokens,
        target=target,
        scored=np.ones(config.length, dtype=bool),
        vocabulary=moves.size,
        classes=len(table),
    )


def _running_sum(trials: int, length: int, modulus: int, rng: np.random.Generator) -> xr.Dataset:
    """Uniform tokens below the modulus, with their sum so far, modulo it, as the target."""
    tokens = rng.integers(modulus, size=(trials, length))
    return sequence_episode(
        tokens=tokens,
        target=np.cumsum(tokens, axis=1) % modulus,
        scored=np.ones(length, dtype=bool),
        vocabulary=modulus,
        classes=modulus,
    )


@cache
def symmetric_group(elements: int) -> tuple[np.ndarray, np.ndarray]:
    """The multiplication table of S_n, and which of its permutations swap at most two elements.

    Permutations are numbered in lexicographic order of (g(0), ..., g(n - 1)).

    Returns:
        table: [g, h] is the number of g h, h first and then g, (n!, n!).
        swaps: the identity and the transpositions (i j), in order of i and j, (1 + n (n - 1) / 2,).
    """
    group = np.array(list(arrangements(range(elements))))
    place = elements ** np.arange(elements)[::-1]
    codes = group @ place  # rises with the number, as lexicographic order does
    table = np.searchsorted(codes, group[:, group] @ place)
    pairs = np.argwhere(np.triu(np.ones((elements, elements)), 1))
    swapped = np.tile(np.arange(elements), (len(pairs), 1))
    np.put_along_axis(swapped, pairs, pairs[:, ::-1], axis=1)
    swaps = np.concatenate([[0], np.searchsorted(codes, swapped @ place)])
    table.flags.writeable = swaps.flags.writeable = False
    return table, swaps
