"""Tasks of pairs: items bound to contents, then cues that ask for them.

An episode is a dataset with dims trial, step, item_feature and content_feature. Its first steps
present pairs (`item` bound to `content`), then come empty steps (the gap), then steps that show a
`cue` and ask for the content bound to the item that the cue resembles:

    item, cue (trial, step, item_feature); content (trial, step, content_feature)
    writes (step): the step presents a pair          scored (trial, step): its answer counts
    stored (trial, step): the pair may be asked for  source (trial, step): the step asked for, or -1
    lag (trial, step): presentations since the pair asked for, -1 where none is
    item_baseline (item_feature), content_baseline (content_feature): the mean over training items
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import xarray as xr

from fwbio.errors import FwbioError
from fwbio.task import out_of_range, size

Keys = Literal["gaussian", "sparse", "orthonormal", "correlated"]
Values = Literal["gaussian", "sign"]


@dataclass(frozen=True, kw_only=True)
class RandomPairs:
    """Sizes of `random_pairs`.

    Args:
        trials: independent episodes; pairs: pairs in each.
        noise: norm of the noise on a cue, in units of its item's norm.
        gap: empty steps between the last pair and the first cue.
        pre: features of an item; post: features of a content.
        keys: "gaussian", isotropic unit vectors; "sparse", binary with a share `active` of ones;
            "orthonormal"; "correlated", unit vectors with mean cosine `similarity`.
        values: "gaussian", isotropic unit vectors; "sign", entries of +1 and -1.
    """

    trials: int = size(8)
    pairs: int = size(8)
    noise: float = size(0.0, least=0)
    gap: int = size(0, least=0)
    pre: int = size(64)
    post: int = size(32)
    keys: Keys = "gaussian"
    values: Values = "gaussian"
    active: float = size(0.1, least=0, most=1)
    similarity: float = size(0.5, least=0, most=1)


@dataclass(frozen=True, kw_only=True)
class Rebinding:
    """Sizes of `rebinding`: those of `random_pairs`, with every item shown `repeats` times."""

    trials: int = size(8)
    pairs: int = size(16)
    repeats: int = size(2)
    noise: float = size(0.0, least=0)
    gap: int = size(0, least=0)
    pre: int = size(64)
    post: int = size(32)
    keys: Keys = "gaussian"
    values: Values = "gaussian"
    active: float = size(0.1, least=0, most=1)
    similarity: float = size(0.5, least=0, most=1)


@dataclass(frozen=True, kw_only=True)
class Digits:
    """Sizes of `digits`.

    Args:
        trials: independent episodes; pairs: pairs of images in each.
        noise: standard deviation of the noise on each pixel of a cue (pixels run from 0 to 1).
        gap: empty steps between the last pair and the first cue.
        split: "train", "validation" or "test", the disjoint sets of images to draw from.
    """

    trials: int = size(8)
    pairs: int = size(20)
    noise: float = size(0.3, least=0)
    gap: int = size(0, least=0)
    split: Literal["train", "validation", "test"] = "test"


def random_pairs(config: RandomPairs, rng: np.random.Generator) -> xr.Dataset:
    """Random items bound to random contents.

    >>> from fwbio.tasks import TASKS
    >>> episode = TASKS["random_pairs"](seed=1, trials=1, pairs=2, pre=4, post=2, keys="sparse")
    >>> episode.writes.values.tolist(), sorted(episode.source.values[0].tolist())
    ([True, True, False, False], [-1, -1, 0, 1])
    """
    _check_orthonormal("random_pairs", config, config.pairs)
    items = _keys(config, config.pairs, rng)
    contents = _values(config, config.pairs, rng)
    shown = np.broadcast_to(np.arange(config.pairs), (config.trials, config.pairs))
    return _pair_episode(config, items, contents, shown, rng)


def rebinding(config: Rebinding, rng: np.random.Generator) -> xr.Dataset:
    """Items repeat with new contents; the last content counts.

    >>> from fwbio.tasks import TASKS
    >>> episode = TASKS["rebinding"](seed=1, trials=1, pairs=4, repeats=2, pre=4, post=2)
    >>> int(episode.stored.sum()), int(episode.scored.sum())
    (2, 2)
    """
    distinct, left = divmod(config.pairs, config.repeats)
    if left:
        raise FwbioError(
            f"{config.pairs} pairs can't be shown {config.repeats} times each",
            where="task rebinding",
            mend="give pairs as a multiple of repeats",
        )
    _check_orthonormal("rebinding", config, distinct)
    items = _keys(config, distinct, rng)
    contents = _values(config, config.pairs, rng)
    shown = rng.permuted(
        np.tile(np.repeat(np.arange(distinct), config.repeats), (config.trials, 1)), axis=1
    )
    return _pair_episode(config, items, contents, shown, rng)


def digits(config: Digits, rng: np.random.Generator) -> xr.Dataset:
    """Handwritten digits bound to other handwritten digits, cued by noisy versions.

    The 1,797 images of 8 x 8 pixels that scikit-learn ships (Alpaydin & Kaynak 1998, UCI,
    10.24432/C50P49), split once and for all into 1,097 to train on, 200 to choose by and 500 to
    test on.

    >>> from fwbio.tasks import TASKS
    >>> episode = TASKS["digits"](seed=1, trials=2, pairs=3)
    >>> dict(episode.item.sizes)
    {'trial': 2, 'step': 6, 'item_feature': 64}
    """
    images = _digit_images()
    pool = images[config.split]
    most = len(pool) // 2
    if config.pairs > most:
        raise out_of_range("digits", "pairs", config.pairs, least=1, most=most, whole=True)
    drawn = np.stack(
        [rng.choice(len(pool), 2 * config.pairs, replace=False) for _ in range(config.trials)]
    )
    items, contents = pool[drawn[:, : config.pairs]], pool[drawn[:, config.pairs :]]
    cues = items + config.noise * rng.standard_normal(items.shape)
    shown = np.broadcast_to(np.arange(config.pairs), (config.trials, config.pairs))
    mean = images["train"].mean(0)
    return _episode(
        items, contents, cues, shown, config.gap, rng, coding="on_off", baselines=(mean, mean)
    )


def _check_orthonormal(task: str, config: RandomPairs | Rebinding, items: int) -> None:
    if config.keys == "orthonormal" and items > config.pre:
        raise FwbioError(
            f"{items} items can't be orthonormal in {config.pre} dimensions",
            where=f"task {task}",
            mend=f"give pre = {items} or more",
        )


def _keys(config: RandomPairs | Rebinding, count: int, rng: np.random.Generator) -> np.ndarray:
    """Items (trial, count, pre) of norm 1, or binary where sparse."""
    shape = (config.trials, count, config.pre)
    if config.keys == "sparse":
        ones = max(1, round(config.active * config.pre))
        pattern = (np.arange(config.pre) < ones).astype(float)
        return rng.permuted(np.broadcast_to(pattern, shape), axis=-1)
    if config.keys == "orthonormal":
        square = rng.standard_normal((config.trials, config.pre, config.pre))
        return np.linalg.qr(square)[0][:, :count]
    free = _unit(rng.standard_normal(shape))
    if config.keys == "correlated":
        common = _unit(rng.standard_normal((config.trials, 1, config.pre)))
        free = np.sqrt(config.similarity) * common + np.sqrt(1 - config.similarity) * free
        return _unit(free)
    return free


def _values(config: RandomPairs | Rebinding, count: int, rng: np.random.Generator) -> np.ndarray:
    free = rng.standard_normal((config.trials, count, config.post))
    return np.sign(free) if config.values == "sign" else _unit(free)


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def _pair_episode(
    config: RandomPairs | Rebinding,
    items: np.ndarray,
    contents: np.ndarray,
    shown: np.ndarray,
    rng: np.random.Generator,
) -> xr.Dataset:
    """An episode of random patterns; `shown` (trial, pair) says which item each pair shows."""
    noise = rng.standard_normal(items.shape) / np.sqrt(config.pre)
    cues = items + config.noise * np.linalg.norm(items, axis=-1, keepdims=True) * noise
    rates = config.keys == "sparse"
    cues = np.maximum(cues, 0) if rates else cues
    return _episode(
        items,
        contents,
        cues,
        shown,
        config.gap,
        rng,
        coding="rates" if rates else "on_off",
        baselines=(np.zeros(config.pre), np.zeros(config.post)),
    )


def _episode(
    items: np.ndarray,
    contents: np.ndarray,
    cues: np.ndarray,
    shown: np.ndarray,
    gap: int,
    rng: np.random.Generator,
    *,
    coding: str,
    baselines: tuple[np.ndarray, np.ndarray],
) -> xr.Dataset:
    """Lay out pairs, gap and cues in steps; the cues come in a random order."""
    trials, distinct = items.shape[:2]
    pairs = contents.shape[1]
    steps = pairs + gap + distinct
    trial = np.arange(trials)[:, None]
    asked = rng.permuted(np.tile(np.arange(distinct), (trials, 1)), axis=1)
    last = pairs - 1 - np.argmax(shown[:, None, ::-1] == asked[:, :, None], axis=-1)

    def over_steps(fill: float, *parts: tuple[slice, np.ndarray]) -> np.ndarray:
        trailing = parts[0][1].shape[2:]
        out = np.full((trials, steps, *trailing), fill, dtype=parts[0][1].dtype)
        for where, values in parts:
            out[:, where] = values
        return out

    present, recall = slice(0, pairs), slice(pairs + gap, steps)
    stored = np.zeros((trials, steps), dtype=bool)
    stored[trial, last] = True
    step_dims = ("trial", "step")
    return xr.Dataset(
        {
            "item": ((*step_dims, "item_feature"), over_steps(0, (present, items[trial, shown]))),
            "content": ((*step_dims, "content_feature"), over_steps(0, (present, contents))),
            "cue": ((*step_dims, "item_feature"), over_steps(0, (recall, cues[trial, asked]))),
            "writes": ("step", np.arange(steps) < pairs),
            "scored": (step_dims, np.tile(np.arange(steps) >= pairs + gap, (trials, 1))),
            "stored": (step_dims, stored),
            "source": (step_dims, over_steps(-1, (recall, last))),
            "lag": (step_dims, over_steps(-1, (recall, pairs - 1 - last))),
            "item_baseline": ("item_feature", baselines[0]),
            "content_baseline": ("content_feature", baselines[1]),
        },
        coords={"step": np.arange(steps)},
        attrs={"coding": coding},
    )


@cache
def _digit_images() -> dict[str, np.ndarray]:
    """The images of each split, (image, pixel), pixels from 0 to 1."""
    from sklearn.datasets import load_digits

    images = load_digits().data / 16.0
    order = np.random.default_rng(0).permutation(len(images))
    parts = {"train": order[:1097], "validation": order[1097:1297], "test": order[1297:]}
    return {split: images[part] for split, part in parts.items()}
