"""What a task is: a frozen config of sizes, and a pure, seeded function that makes an episode."""

import math
from collections.abc import Callable
from dataclasses import Field, asdict, dataclass, field, fields
from numbers import Integral, Real
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr

from fwbio.errors import FwbioError, unknown_name

Kind = Literal["pairs", "sequence"]
Loss = Literal["cross_entropy", "squared"]
LARGEST = 2**31 - 1


def size(default: float, *, least: float = 1, most: float = math.inf) -> Any:
    """A field of a task's config: its default, and the range that `Task` holds it to."""
    return field(default=default, metadata={"least": least, "most": most})


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task: a name, its sizes and the function that makes an episode of them.

    Args:
        name: as it is asked for; summary: what it shows, in a line.
        kind: "pairs", items bound to contents and then cued; "sequence", tokens or features with
            a target at every step that is scored.
        config: the frozen dataclass of its sizes, numbers declared by `size`.
        make: the episode of a config and a generator, which raises `FwbioError` where sizes that
            are sound one by one don't go together.
    """

    name: str
    summary: str
    kind: Kind
    config: type[Any]
    make: Callable[[Any, np.random.Generator], xr.Dataset]

    def __call__(self, /, seed: int = 0, **sizes: Any) -> xr.Dataset:
        """The episode of a seed: equal seeds and sizes give equal episodes.

        Args:
            seed: any non-negative integer.
            **sizes: fields of the task's config.

        Raises:
            FwbioError: a size that the task lacks, or one out of its range; sizes that memory can't
                hold; a seed that is none.
        """
        if not _is_number(seed, whole=True) or seed < 0:
            raise FwbioError(
                f"{seed!r} is not a seed",
                where=f"task {self.name}",
                mend="give a whole number from 0 up",
            )
        config = self.configure(**sizes)
        try:
            episode = self.make(config, np.random.default_rng(seed))
        except MemoryError as error:
            raise FwbioError(
                "an episode of these sizes does not fit into memory",
                where=f"task {self.name}",
                mend="give smaller ones, or fewer trials",
            ) from error
        episode.attrs |= {"task": self.name, "seed": seed, "config": asdict(config)}
        return episode

    def configure(self, /, **sizes: Any) -> Any:
        """The task's config with these sizes, each checked by itself.

        Raises:
            FwbioError: a size that the task lacks, or one out of its range.
        """
        known = {field.name: field for field in fields(self.config)}
        for name, value in sizes.items():
            if name not in known:
                raise unknown_name(name, known, kind="size", where=f"task {self.name}")
            _check(self.name, known[name], value)
        return self.config(**sizes)


def out_of_range(
    task: str, name: str, value: object, *, least: float, most: float, whole: bool
) -> FwbioError:
    """The error for a size that is no number from `least` to `most`."""
    return FwbioError(
        f"{name} = {value!r} is out of range",
        where=f"task {task}",
        mend=f"give a {'whole number' if whole else 'number'} from {least:g}"
        + (" up" if most == math.inf else f" to {most:.10g}"),
    )


def sequence_episode(
    *,
    tokens: np.ndarray | None = None,
    features: np.ndarray | None = None,
    target: np.ndarray,
    scored: np.ndarray,
    classes: int,
    vocabulary: int = 0,
    loss: Loss = "cross_entropy",
) -> xr.Dataset:
    """An episode of sequences, of tokens or of features.

    Args:
        tokens: whole numbers below `vocabulary`, (trial, step); or
        features: (trial, step, feature).
        target: a class (trial, step), or outputs (trial, step, output); made 0 where not scored.
        scored: whether a step's answer counts, (trial, step) or (step,).
        classes: classes of the target, or its outputs.
        vocabulary: how many tokens there are.
        loss: what a model is to lower.
    """
    steps = ("trial", "step")
    scored = np.broadcast_to(scored, target.shape[:2]).copy()
    numeric = target.ndim == 3
    shown = scored[..., None] if numeric else scored
    inputs: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}
    if tokens is not None:
        inputs["tokens"] = steps, tokens.astype(np.int64, copy=False)
    if features is not None:
        inputs["features"] = (*steps, "feature"), features
    return xr.Dataset(
        {
            **inputs,
            "target": (
                (*steps, "output") if numeric else steps,
                np.where(shown, target, 0).astype(np.float64 if numeric else np.int64, copy=False),
            ),
            "scored": (steps, scored),
        },
        attrs={
            "vocabulary": vocabulary,
            "features": 0 if features is None else features.shape[-1],
            "classes": classes,
            "loss": loss,
        },
    )


def _check(task: str, field: Field, value: Any) -> None:
    """Refuse a value that its field can't have, in words."""
    if choices := get_args(field.type):
        if value not in choices:
            raise unknown_name(value, choices, kind=field.name, where=f"task {task}")
    elif field.type in {bool, str}:
        if not isinstance(value, bool | np.bool_ if field.type is bool else str):
            raise FwbioError(
                f"{field.name} = {value!r} is of another type",
                where=f"task {task}",
                mend=f"give {'True or False' if field.type is bool else 'text'}",
            )
    else:
        whole = field.type is int
        least, most = field.metadata["least"], field.metadata["most"]
        if whole and _is_number(value, whole=True) and value > LARGEST:
            most = min(most, LARGEST)
        if not (_is_number(value, whole=whole) and least <= value <= most and value < math.inf):
            raise out_of_range(task, field.name, value, least=least, most=most, whole=whole)


def _is_number(value: object, *, whole: bool) -> bool:
    return isinstance(value, Integral if whole else Real) and not isinstance(value, bool)
