"""Tasks of sequences: tokens or features step by step, with a target where the answer is scored.

An episode is a dataset with dims trial and step:

    tokens (trial, step): whole numbers below attrs["vocabulary"]; or
    features (trial, step, feature): attrs["features"] numbers a step
    target (trial, step): one of attrs["classes"] classes, or (trial, step, output): as many
        numbers; 0 where the step is not scored
    scored (trial, step): the step's answer counts
    attrs["loss"]: "cross_entropy", or "squared" (half the squared distance, of a class's one-hot
        vector where the target is a class)
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import xarray as xr

from fwbio.errors import FwbioError
from fwbio.task import sequence_episode, size

LETTERS, DIGITS = 26, 10


@dataclass(frozen=True, kw_only=True)
class AssociativeRetrieval:
    """Sizes of `associative_retrieval`: `pairs` letters with digits in each of `trials` trials."""

    trials: int = size(8)
    pairs: int = size(4, most=LETTERS)


@dataclass(frozen=True, kw_only=True)
class KeyValue:
    """Sizes of `key_value`.

    Args:
        trials: independent sequences; keys: S, how many keys there are, and how many values.
        repeated: setting 2, in which keys repeat and their last value counts.
    """

    trials: int = size(8)
    keys: int = size(40)
    repeated: bool = False


@dataclass(frozen=True, kw_only=True)
class MQAR:
    """Sizes of `mqar`.

    Args:
        trials: independent sequences; vocabulary: tokens, of which the lower half are keys.
        length: steps of a sequence, an even number; pairs: key-value pairs in each.
        power: a, where a query's slot g has the weight (g + 1)^(a - 1); 1 is uniform.
        fillers: "random", any token (the generator's default); "zeros", the token 0, which is
            neither key nor value (the papers' figures).
    """

    trials: int = size(8)
    vocabulary: int = size(256, least=4)
    length: int = size(64, least=4)
    pairs: int = size(4)
    power: float = size(0.01, least=0)
    fillers: Literal["random", "zeros"] = "random"


@dataclass(frozen=True, kw_only=True)
class Copying:
    """Sizes of `copying`.

    Args:
        trials: independent sequences; symbols: how many different symbols there are.
        length: symbols to copy; delay: steps from the last symbol to the go token.
    """

    trials: int = size(8)
    symbols: int = size(8, least=2)
    length: int = size(10)
    delay: int = size(20)


@dataclass(frozen=True, kw_only=True)
class Regression:
    """Sizes of `regression`.

    Args:
        trials: independent regressions; inputs: N, coordinates of x; examples: pairs (x, y) shown.
        noise: standard deviation of the noise on the examples' y (the query's target has none).
        covariates: "gaussian", x ~ N(0, I) (Garg 2022); "uniform", on (-1, 1) (von Oswald 2023).
    """

    trials: int = size(8)
    inputs: int = size(5)
    examples: int = size(10)
    noise: float = size(0.0, least=0)
    covariates: Literal["gaussian", "uniform"] = "gaussian"


def associative_retrieval(config: AssociativeRetrieval, rng: np.random.Generator) -> xr.Dataset:
    """Pairs of a letter and a digit, "??", then one of the letters: which digit was its?

    The letters of a sequence differ, its digits may repeat. Tokens 0 to 25 are letters, 26 to 35
    digits and 36 is "?"; the target, a digit from 0 to 9, is scored at the last step alone.
    Answering with the sequence's most frequent digit is right in 38.35 % of 4 pairs. After Ba et
    al. 2016, section 4.1.

    >>> from fwbio.tasks import TASKS
    >>> episode = TASKS["associative_retrieval"](seed=0, trials=1, pairs=2)
    >>> alphabet = "abcdefghijklmnopqrstuvwxyz0123456789?"
    >>> "".join(alphabet[token] for token in episode.tokens.values[0])
    'v2q3??v'
    >>> episode.target.values[0].tolist()
    [0, 0, 0, 0, 0, 0, 2]
    """
    trials, pairs = config.trials, config.pairs
    letters = _distinct(rng, trials, LETTERS, pairs)
    digits = rng.integers(DIGITS, size=(trials, pairs))
    asked = rng.integers(pairs, size=trials)
    trial = np.arange(trials)
    tokens = np.full((trials, 2 * pairs + 3), LETTERS + DIGITS)
    tokens[:, 0 : 2 * pairs : 2] = letters
    tokens[:, 1 : 2 * pairs : 2] = LETTERS + digits
    tokens[:, -1] = letters[trial, asked]
    target = np.zeros_like(tokens)
    target[:, -1] = digits[trial, asked]
    return sequence_episode(
        tokens=tokens,
        target=target,
        scored=np.arange(tokens.shape[1]) == tokens.shape[1] - 1,
        vocabulary=LETTERS + DIGITS + 1,
        classes=DIGITS,
    )


def key_value(config: KeyValue, rng: np.random.Generator) -> xr.Dataset:
    """Keys bound to values, then every key asked for once.

    Setting 1: each of the S keys once, in random order, with values that differ too. Setting 2
    (`repeated`): 2 S steps, each with a key and a value drawn afresh; a key's last value counts,
    and keys that never came are asked for without being scored. `tokens` are keys; `contents`
    (trial, step) are the values bound to them, -1 at queries. After Schlag, Irie & Schmidhuber
    2021, section 6.1, whose training asks for one key a sequence and whose evaluation for all.

    >>> from fwbio.tasks import TASKS
    >>> episode = TASKS["key_value"](seed=0, trials=1, keys=3)
    >>> for name in ("tokens", "contents", "target"):
    ...     episode[name].values[0].tolist()
    [2, 0, 1, 2, 0, 1]
    [2, 1, 0, -1, -1, -1]
    [0, 0, 0, 2, 1, 0]
    """
    trials, keys = config.trials, config.keys
    trial = np.arange(trials)[:, None]
    every = np.broadcast_to(np.arange(keys), (trials, keys))
    if config.repeated:
        shown, contents = rng.integers(keys, size=(2, trials, 2 * keys))
    else:
        shown, contents = rng.permuted(every, axis=1), rng.permuted(every, axis=1)
    steps = shown.shape[1]
    last = np.full((trials, keys), -1)
    np.maximum.at(last, (trial, shown), np.arange(steps))
    asked = rng.permuted(every, axis=1)
    source = last[trial, asked]
    scored = np.zeros((trials, steps + keys), dtype=bool)
    scored[:, steps:] = source >= 0
    target = np.zeros_like(scored, dtype=np.int64)
    target[:, steps:] = contents[trial, source]
    episode = sequence_episode(
        tokens=np.concatenate([shown, asked], axis=1),
        target=target,
        scored=scored,
        vocabulary=keys,
        classes=keys,
        loss="squared",
    )
    blank = np.full((trials, keys), -1)
    return episode.assign(contents=(("trial", "step"), np.concatenate([contents, blank], axis=1)))


def mqar(config: MQAR, rng: np.random.Generator) -> xr.Dataset:
    """Multi-query associative recall: key-value pairs, then every key once more among fillers.

    With V tokens, keys are drawn from 1 to V/2 - 1 and values from V/2 to V - 1, none of them
    twice. After the pairs, query slots lie at every other step; slot g = 0, 1, ... is taken with
    the weight (g + 1)^(a - 1), one key after the other without replacement, so the first keys tend
    to be asked for soonest. The target at a query is its key's value. After Arora et al. 2023
    (Zoology) and its public generator.

    >>> from fwbio.tasks import TASKS
    >>> sizes = {"vocabulary": 12, "length": 12, "pairs": 2, "fillers": "zeros"}
    >>> episode = TASKS["mqar"](seed=0, trials=1, **sizes)
    >>> for name in ("tokens", "target"):
    ...     episode[name].values[0].tolist()
    [4, 7, 5, 11, 4, 0, 5, 0, 0, 0, 0, 0]
    [0, 0, 0, 0, 7, 0, 11, 0, 0, 0, 0, 0]
    """
    trials, pairs, half = config.trials, config.pairs, config.vocabulary // 2
    _check_mqar(config)
    keys = 1 + _distinct(rng, trials, half - 1, pairs)
    values = half + _distinct(rng, trials, config.vocabulary - half, pairs)
    slots = np.arange(1, (config.length - 2 * pairs) // 2 + 1)
    # The least of exponential times divided by weights is a draw by weight, the next one of the
    # rest, and so on: successive draws without replacement.
    times = rng.standard_exponential((trials, slots.size)) / slots ** (config.power - 1.0)
    queries = 2 * pairs + 2 * np.argsort(times, axis=1)[:, :pairs]
    shape = (trials, config.length)
    random = config.fillers == "random"
    tokens = rng.integers(config.vocabulary, size=shape) if random else np.zeros(shape, np.int64)
    tokens[:, 0 : 2 * pairs : 2] = keys
    tokens[:, 1 : 2 * pairs : 2] = values
    np.put_along_axis(tokens, queries, keys, axis=1)
    target, scored = np.zeros(shape, np.int64), np.zeros(shape, bool)
    np.put_along_axis(target, queries, values, axis=1)
    np.put_along_axis(scored, queries, True, axis=1)
    return sequence_episode(
        tokens=tokens,
        target=target,
        scored=scored,
        vocabulary=config.vocabulary,
        classes=config.vocabulary,
    )


def copying(config: Copying, rng: np.random.Generator) -> xr.Dataset:
    """Symbols, a delay of blanks that a go token ends, then as many blanks at which to recall them.

    Of S symbols, token S is the blank and S + 1 the go token, the last step of the delay. Recall
    alone is scored (Arjovsky's loss also averages over the other steps, where the answer is a
    blank). After Hochreiter & Schmidhuber 1997, in the form of Arjovsky, Shah & Bengio 2016.

    >>> from fwbio.tasks import TASKS
    >>> episode = TASKS["copying"](seed=0, trials=1, length=3, delay=2)
    >>> for name in ("tokens", "target"):
    ...     episode[name].values[0].tolist()
    [6, 5, 4, 8, 9, 8, 8, 8]
    [0, 0, 0, 0, 0, 6, 5, 4]
    """
    trials, length, blank = config.trials, config.length, config.symbols
    symbols = rng.integers(config.symbols, size=(trials, length))
    go = length + config.delay - 1
    tokens = np.full((trials, go + 1 + length), blank)
    tokens[:, :length] = symbols
    tokens[:, go] = blank + 1
    target = np.zeros_like(tokens)
    target[:, go + 1 :] = symbols
    return sequence_episode(
        tokens=tokens,
        target=target,
        scored=np.arange(tokens.shape[1]) > go,
        vocabulary=config.symbols + 2,
        classes=config.symbols,
    )


def regression(config: Regression, rng: np.random.Generator) -> xr.Dataset:
    """Linear regression in context: examples (x, y), then a query (x, 0) whose y is the target.

    y = w^T x with w ~ N(0, I) of each trial, plus noise on the examples. Features 0 to N - 1 are x
    and feature N is y; the query is the last step, and the only one that is scored. `weights`
    (trial, input) are w. After Garg et al. 2022 and von Oswald et al. 2023.

    >>> from fwbio.tasks import TASKS
    >>> episode = TASKS["regression"](seed=0, trials=1, inputs=2, examples=3)
    >>> x, y = episode.features.values[0, :, :2], episode.features.values[0, :, 2]
    >>> bool(np.allclose(x[:3] @ episode.weights.values[0], y[:3])), float(y[3])
    (True, 0.0)
    """
    trials, steps = config.trials, config.examples + 1
    weights = rng.standard_normal((trials, config.inputs))
    shape = (trials, steps, config.inputs)
    x = rng.standard_normal(shape) if config.covariates == "gaussian" else rng.uniform(-1, 1, shape)
    y = np.einsum("tsi,ti->ts", x, weights)
    noisy = y + config.noise * rng.standard_normal(y.shape)
    query = np.arange(steps) == config.examples
    episode = sequence_episode(
        features=np.concatenate([x, np.where(query, 0, noisy)[..., None]], axis=-1),
        target=y[..., None],
        scored=query,
        classes=1,
        loss="squared",
    )
    return episode.assign(weights=(("trial", "input"), weights))


def _check_mqar(config: MQAR) -> None:
    """Refuse sizes that don't go together."""
    steps, keys = 4 * config.pairs, config.vocabulary // 2 - 1
    if config.length % 2:
        what, mend = f"pairs don't fill {config.length} steps", "give an even length"
    elif steps > config.length:
        what = f"{config.pairs} pairs and their queries don't fit into {config.length} steps"
        mend = f"give length = {steps} or more"
    elif config.pairs > keys:
        what = f"{config.pairs} keys can't differ among {keys}"
        mend = f"give vocabulary = {2 * config.pairs + 2} or more"
    else:
        return
    raise FwbioError(what, where="task mqar", mend=mend)


def _distinct(rng: np.random.Generator, trials: int, population: int, count: int) -> np.ndarray:
    """Draws without replacement from 0 to population - 1, (trial, count), every order as likely.

    Floyd's algorithm: the j-th draw is from 0 to its bound, and becomes the bound, which no
    earlier draw could be, where it has come before (Bentley & Floyd 1987). It spares a
    permutation of the whole population for each trial.
    """
    drawn = np.empty((trials, count), dtype=np.int64)
    for j in range(count):
        bound = population - count + j
        fresh = rng.integers(bound + 1, size=trials)
        known = (drawn[:, :j] == fresh[:, None]).any(axis=1)
        drawn[:, j] = np.where(known, bound, fresh)
    return rng.permuted(drawn, axis=1)
