"""What a sweep of capacity runs: the settings that change its numbers."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from inspect import signature
from types import MappingProxyType
from typing import Any

import numpy as np
import xarray as xr

from fwbio.analyses.arguments import called, require_names, require_whole
from fwbio.analyses.substrates import SUBSTRATES
from fwbio.errors import FwbioError, unknown_name
from fwbio.rules import RULES
from fwbio.tasks import PAIR_TASKS

AXES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "pairs": ("pairs", "pairs stored"),
        "noise": ("1", "noise on the cue"),
        "similarity": ("1", "similarity of the keys"),
        "active": ("1", "active share of a key's features"),
    }
)
PROGRAMMERS: Mapping[str, str] = MappingProxyType(
    {
        "direct": "items as keys as they are, which may be negative",
        "designed": "items coded by hand for cells that fire",
        "trained": "a slow net trained by gradient descent",
    }
)
KEYS: Mapping[str, str] = MappingProxyType({"similarity": "correlated", "active": "sparse"})


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What to sweep; the arguments of `capacity` that change its numbers.

    Raises:
        FwbioError: an unknown, missing or repeated name, or a number out of range.
    """

    task: str
    axis: str
    values: tuple[float, ...]
    rules: tuple[str, ...]
    substrates: tuple[str, ...]
    programmers: tuple[str, ...]
    pairs: int
    noise: float
    trials: int
    trials_on: Mapping[str, int] = field(default_factory=dict)
    seed: int = 0
    sizes: Mapping[str, Any] = field(default_factory=dict)
    code: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for argument, name, known in (
            ("task", self.task, PAIR_TASKS),
            ("axis", self.axis, AXES),
        ):
            if name not in known:
                raise unknown_name(name, known, kind=argument, where=argument)
        require_names("rules", self.rules, tuple(RULES))
        require_names("substrates", self.substrates, tuple(SUBSTRATES))
        require_names("programmers", self.programmers, tuple(PROGRAMMERS))
        for argument in ("trials_on", "options"):
            require_names(argument, tuple(getattr(self, argument)), tuple(SUBSTRATES), empty=True)
        if not self.values:
            raise FwbioError(
                "no values are given", where="values", mend="give numbers along the axis, 4,8,16"
            )
        if not np.isfinite(self.values).all():
            raise FwbioError(
                f"{', '.join(f'{v:g}' for v in self.values)} are no places along an axis",
                where="values",
                mend="give finite numbers",
            )
        if any(b <= a for a, b in zip(self.values, self.values[1:], strict=False)):
            raise FwbioError(
                f"{', '.join(f'{v:g}' for v in self.values)} does not increase",
                where="values",
                mend="give numbers along the axis, the least first",
            )
        require_whole("trials", self.trials, 1)
        require_whole("seed", self.seed, 0)
        for substrate, trials in self.trials_on.items():
            require_whole(f"trials_on {substrate}", trials, 1)
        _check_code(self.code)
        own = {"trials", "pairs", "noise", self.axis}
        for name in own & set(self.sizes):
            raise FwbioError(
                f"{name!r} has an argument of its own", where="sizes", mend=f"give {name} as that"
            )
        if self.sizes.get("keys", KEYS.get(self.axis)) != KEYS.get(
            self.axis, self.sizes.get("keys")
        ):
            raise FwbioError(
                f"the axis {self.axis!r} has keys of its own",
                where="sizes",
                mend=f"leave keys out, they are {KEYS[self.axis]}",
            )

    @property
    def keys(self) -> str:
        """Which keys the episodes have."""
        return str(self.sizes.get("keys", KEYS.get(self.axis, "gaussian")))

    @property
    def signs(self) -> bool:
        """Whether the values are signs, so that a bit can be wrong."""
        return self.sizes.get("values") == "sign"

    @property
    def same_episodes(self) -> bool:
        """Whether all places of the axis show the same episodes, but for what varies."""
        return self.axis != "pairs"

    def sizes_at(self, value: float) -> dict[str, Any]:
        """The sizes of the episode at a place of the axis."""
        sizes = {"pairs": self.pairs, "noise": self.noise, **self.sizes}
        if self.axis in KEYS:
            sizes["keys"] = KEYS[self.axis]
        sizes[self.axis] = int(value) if self.axis == "pairs" and value == int(value) else value
        return sizes

    def episode(self, value: float) -> xr.Dataset:
        """The episode at a place of the axis.

        Each number of pairs has a seed of its own, so that points are independent; along the other
        axes the seed is the same.

        Raises:
            FwbioError: a size that the task lacks, or one out of its range.
        """
        sizes = self.sizes_at(value)
        seed = self.seed
        if not self.same_episodes:
            seed = int(np.random.SeedSequence((self.seed, max(int(value), 0))).generate_state(1)[0])
        return PAIR_TASKS[self.task](seed=seed, trials=self.trials, **sizes)

    def coding(self, programmer: str) -> dict[str, str]:
        """The coding of items that `fwbio.models.designed` is to use for a programmer."""
        if programmer == "designed":
            return {}
        return {"coding": "rates" if self.keys == "sparse" else "plain"}

    def command(self) -> str:
        """What repeats it, every setting spelled out: in the shell, or where it can't, in Python.

        The command has no words for options and training.
        """
        if self.options or self.training:
            return called("fwbio.analyses.capacity.capacity", asdict(self))
        words = ["fwbio", "sweep", "capacity", "--task", self.task, "--axis", self.axis]
        words += ["--values", ",".join(f"{v:g}" for v in self.values)]
        for name in ("rules", "substrates", "programmers"):
            words += [f"--{name}", ",".join(getattr(self, name))]
        for name in ("pairs", "noise", "trials", "seed"):
            words += [f"--{name}", str(getattr(self, name))]
        for option in ("trials_on", "sizes", "code"):
            for name, value in getattr(self, option).items():
                text = value if isinstance(value, str) else json.dumps(value)
                words += [f"--{_OPTIONS[option]}", f"{name}={text}"]
        return shlex.join([*words, "--out", "DIR"])


def _check_code(code: Mapping[str, Any]) -> None:
    """Check the further arguments of `fwbio.models.designed`: names, and numbers but for words."""
    from fwbio.models.programmer import designed

    options = signature(designed).parameters.items()
    known = {name: option.default for name, option in options if option.default != option.empty}
    for name, value in code.items():
        if name not in known:
            raise unknown_name(name, known, kind="argument", where="code")
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if isinstance(known[name], int | float) and not number:
            raise FwbioError(f"{value!r} is no number", where=f"code {name}", mend="give a number")


_OPTIONS = {"trials_on": "trials-on", "sizes": "size", "code": "code"}
