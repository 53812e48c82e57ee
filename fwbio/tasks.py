"""Tasks: what an experiment shows. A task is a frozen config and a pure, seeded function.

An episode is a dataset with dims trial, step, item_feature and content_feature. Its first steps
present pairs (`item` bound to `content`), then come empty steps (the gap), then steps that show a
`cue` and ask for the content bound to the item that the cue resembles:

    item, cue (trial, step, item_feature); content (trial, step, content_feature)
    writes (step): the step presents a pair          scored (trial, step): its answer counts
    stored (trial, step): the pair may be asked for  source (trial, step): the step asked for, or -1
    lag (trial, step): presentations since the pair asked for, -1 where none is
    item_baseline (item_feature), content_baseline (content_feature): the mean over training items
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from numbers import Integral, Real
from types import MappingProxyType
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr

from fwbio.errors import FwbioError, unknown_name

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

    trials: int = 8
    pairs: int = 8
    noise: float = 0.0
    gap: int = 0
    pre: int = 64
    post: int = 32
    keys: Keys = "gaussian"
    values: Values = "gaussian"
    active: float = 0.1
    similarity: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Rebinding:
    """Sizes of `rebinding`: those of `random_pairs`, with every item shown `repeats` times."""

    trials: int = 8
    pairs: int = 16
    repeats: int = 2
    noise: float = 0.0
    gap: int = 0
    pre: int = 64
    post: int = 32
    keys: Keys = "gaussian"
    values: Values = "gaussian"
    active: float = 0.1
    similarity: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Digits:
    """Sizes of `digits`.

    Args:
        trials: independent episodes; pairs: pairs of images in each.
        noise: standard deviation of the noise on each pixel of a cue (pixels run from 0 to 1).
        gap: empty steps between the last pair and the first cue.
        split: "train", "validation" or "test", the disjoint sets of images to draw from.
    """

    trials: int = 8
    pairs: int = 20
    noise: float = 0.3
    gap: int = 0
    split: Literal["train", "validation", "test"] = "test"


Config = RandomPairs | Rebinding | Digits


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task: a name, its sizes and the function that makes an episode of them."""

    name: str
    summary: str
    config: type[Config]
    make: Callable[[Any, np.random.Generator], xr.Dataset]

    def __call__(self, seed: int = 0, **sizes: Any) -> xr.Dataset:
        """The episode of a seed: equal seeds and sizes give equal episodes.

        Args:
            seed: any non-negative integer.
            **sizes: fields of the task's config.

        Raises:
            FwbioError: a size that the task lacks, or one out of its range; a seed that is none.
        """
        if not _is_number(seed, whole=True) or seed < 0:
            raise FwbioError(
                f"{seed!r} is not a seed",
                where=f"task {self.name}",
                mend="give a whole number from 0 up",
            )
        known = {field.name: field.type for field in fields(self.config)}
        for name in sizes:
            if name not in known:
                raise unknown_name(name, known, kind="size", where=f"task {self.name}")
        config = self.config(**sizes)
        _check(self.name, config)
        episode = self.make(config, np.random.default_rng(seed))
        episode.attrs |= {"task": self.name, "seed": seed, "config": asdict(config)}
        return episode


def random_pairs(config: RandomPairs, rng: np.random.Generator) -> xr.Dataset:
    """Random items bound to random contents.

    >>> episode = TASKS["random_pairs"](seed=1, trials=1, pairs=2, pre=4, post=2, keys="sparse")
    >>> episode.writes.values.tolist(), sorted(episode.source.values[0].tolist())
    ([True, True, False, False], [-1, -1, 0, 1])
    """
    items = _keys(config, config.pairs, rng)
    contents = _values(config, config.pairs, rng)
    shown = np.broadcast_to(np.arange(config.pairs), (config.trials, config.pairs))
    return _pair_episode(config, items, contents, shown, rng)


def rebinding(config: Rebinding, rng: np.random.Generator) -> xr.Dataset:
    """Items repeat with new contents; the last content counts.

    >>> episode = TASKS["rebinding"](seed=1, trials=1, pairs=4, repeats=2, pre=4, post=2)
    >>> int(episode.stored.sum()), int(episode.scored.sum())
    (2, 2)
    """
    distinct = config.pairs // config.repeats
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

    >>> episode = TASKS["digits"](seed=1, trials=2, pairs=3)
    >>> dict(episode.item.sizes)
    {'trial': 2, 'step': 6, 'item_feature': 64}
    """
    images = _digit_images()
    pool = images[config.split]
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


TASKS: Mapping[str, Task] = MappingProxyType(
    {
        task.name: task
        for task in (
            Task(
                name="digits",
                summary="handwritten digits bound to others, cued by noisy versions",
                config=Digits,
                make=digits,
            ),
            Task(
                name="random_pairs",
                summary="random items bound to random contents",
                config=RandomPairs,
                make=random_pairs,
            ),
            Task(
                name="rebinding",
                summary="items repeat with new contents; the last counts",
                config=Rebinding,
                make=rebinding,
            ),
        )
    }
)


def _check(task: str, config: Config) -> None:
    """Refuse sizes out of range, each in words."""
    limits: dict[str, tuple[float, float]] = {
        "trials": (1, np.inf),
        "pairs": (1, np.inf),
        "pre": (1, np.inf),
        "post": (1, np.inf),
        "repeats": (1, np.inf),
        "noise": (0, np.inf),
        "gap": (0, np.inf),
        "active": (0, 1),
        "similarity": (0, 1),
    }
    if isinstance(config, Digits) and config.split in get_args(Digits.__annotations__["split"]):
        limits["pairs"] = (1, len(_digit_images()[config.split]) // 2)
    for field in fields(config):
        value = getattr(config, field.name)
        if choices := get_args(field.type):
            if value not in choices:
                raise unknown_name(value, choices, kind=field.name, where=f"task {task}")
            continue
        low, high = limits[field.name]
        whole = field.type is int
        if not (_is_number(value, whole=whole) and low <= value <= high and value < np.inf):
            raise FwbioError(
                f"{field.name} = {value!r} is out of range",
                where=f"task {task}",
                mend=f"give a {'whole number' if whole else 'number'} from {low:g}"
                + (" up" if high == np.inf else f" to {high:g}"),
            )
    if isinstance(config, Rebinding) and config.pairs % config.repeats:
        raise FwbioError(
            f"{config.pairs} pairs can't be shown {config.repeats} times each",
            where=f"task {task}",
            mend="give pairs as a multiple of repeats",
        )
    if not isinstance(config, Digits) and config.keys == "orthonormal":
        items = config.pairs // (config.repeats if isinstance(config, Rebinding) else 1)
        if items > config.pre:
            raise FwbioError(
                f"{items} items can't be orthonormal in {config.pre} dimensions",
                where=f"task {task}",
                mend=f"give pre = {items} or more",
            )


def _is_number(value: object, *, whole: bool) -> bool:
    return isinstance(value, Integral if whole else Real) and not isinstance(value, bool)


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
