"""What a rule leaves open: its gates as constants to fit, read off its row of the table."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import numpy as np

from fwbio.analyses.identification.data import Recording, interval
from fwbio.rule import Rule, Terms
from fwbio.traces import SHORTEST

Observed = Literal["weights", "readout"]
Streams = dict[str, np.ndarray]

MOST_DECAY = 12.0  # a decay to e^-12 within a step leaves nothing
SLOWEST, FASTEST = 1e-2, 0.5  # decays a step at which fits start
SHARES = (0.1, 0.6, 1.3)  # of what a key predicts that a step erases, likewise
STRETCHES = (0.2, 3.0)  # the same of rules that solve for their step
GROWTHS = (1.0, 60.0, 600.0)  # pairings that a step stands for, of rules of calcium
PASSING = (0.0, 0.3, 0.6)  # shares of products of key and value that stay below a threshold


class Refused(Exception):  # noqa: N818 - it is an answer, not a fault
    """Why a rule is no candidate for a recording."""


@dataclass(frozen=True, kw_only=True)
class Unknown:
    """One constant of a rule that a recording does not tell.

    Args:
        name: what reports call it.
        size: 1, or the number of its channels.
        channels: "" of a number; "pre" or "post".
        low, high: where it may lie.
        neutral: where the rule is one of fewer constants, or None.
        typical: the size that a change of it is measured by.
        starts: where fits of it start.
        smooth: whether predictions have derivatives by it.
        logarithmic: whether it is the logarithm of what is reported.
        units: of what is reported.
    """

    name: str
    size: int = 1
    channels: Literal["", "pre", "post"] = ""
    low: float = 0.0
    high: float = np.inf
    neutral: float | None = None
    typical: float = 1.0
    starts: tuple[float, ...] = (1.0,)
    smooth: bool = True
    logarithmic: bool = False
    units: str = "1"


@dataclass(frozen=True, kw_only=True)
class Model:
    """A rule with its unknowns, on one recording.

    Args:
        rule: the rule; of a memory whose weights are seen, without what only its read-out has.
        recording: what was presented and seen.
        observed: what of it is to be explained.
        unknowns: what to fit, in the order of the parameters.
        fixed: streams that are known, (1, trial, time, channel).
        gates: how each unknown stream comes from the values (setting, size) of its unknown.
        tied: whether channels share their constant.
        scale: the unit of the weights, where it isn't fitted.
        divided: what the observations were divided by.
    """

    rule: Rule
    recording: Recording
    observed: Observed
    unknowns: tuple[Unknown, ...]
    fixed: Streams
    gates: Mapping[str, Callable[[np.ndarray], Mapping[str, np.ndarray]]]
    tied: bool = False
    scale: float = 1.0
    divided: float = 1.0

    @property
    def slices(self) -> dict[str, slice]:
        """Where each unknown lies among the parameters."""
        found, at = {}, 0
        for unknown in self.unknowns:
            size = 1 if self.tied else unknown.size
            found[unknown.name] = slice(at, at + size)
            at += size
        return found

    @property
    def size(self) -> int:
        """How many parameters there are."""
        return sum(1 if self.tied else u.size for u in self.unknowns)

    @property
    def channelled(self) -> bool:
        """Whether channels have constants of their own."""
        return any(u.size > 1 for u in self.unknowns)

    @property
    def in_their_unit(self) -> bool:
        """Whether its write strength is in the unit of observations that were divided."""
        return self.scale == 1.0 and "scale" not in self.slices

    def each(self, name: str) -> np.ndarray:
        """A property of the unknowns for every parameter, (parameter,)."""
        counts = np.array([1 if self.tied else u.size for u in self.unknowns], dtype=int)
        return np.repeat(np.array([getattr(u, name) for u in self.unknowns], dtype=float), counts)

    def starts(self) -> np.ndarray:
        """Where fits start, (start, parameter)."""
        grid = np.array(list(product(*(u.starts for u in self.unknowns))), dtype=float)
        counts = np.array([1 if self.tied else u.size for u in self.unknowns], dtype=int)
        return np.repeat(grid, counts, axis=1)

    def untied(self, theta: np.ndarray) -> tuple["Model", np.ndarray]:
        """The model with a constant for each channel, at the same point (parameter,)."""
        return replace(self, tied=False), np.repeat(theta, [u.size for u in self.unknowns])

    def streams(self, theta: np.ndarray) -> Streams:
        """Streams at settings (setting, parameter): (setting, trial, time, channel)."""
        found = dict(self.fixed)
        for name, where in self.slices.items():
            if name in self.gates:
                found |= self.gates[name](theta[:, where])
        batch = len(theta)
        return {
            name: np.broadcast_to(stream, (batch, *stream.shape[1:]))
            for name, stream in found.items()
        }

    def scales(self, theta: np.ndarray) -> np.ndarray:
        """The unit of the weights at settings (setting, parameter), (setting, 1, 1, 1)."""
        where = self.slices.get("scale")
        if where is None:
            return np.full((len(theta), 1, 1, 1), self.scale)
        return theta[:, where, None, None]


def model(rule: Rule, recording: Recording, *, observed: Observed, scale: float | None) -> Model:
    """The model of a recording that a rule of the table is.

    Args:
        rule: any.
        recording: what was presented and seen.
        observed: which of its observations to explain.
        scale: the unit of the observations, or None where it is to be fitted.

    Raises:
        Refused: the rule can't have made this recording, and why.
    """
    _refuse(rule, recording)
    terms = rule.terms
    seen = replace(
        terms,
        write="scalar" if terms.write == "exponential" else terms.write,
        normaliser="none" if observed == "weights" else terms.normaliser,
        readout="weights" if observed == "weights" else terms.readout,
    )
    if terms.erase in {"erase_key", "direction"}:
        # what is erased has a strength of its own, along the key unless another was presented
        other = recording.presented.keys() & {"erase_key", "erase_direction"}
        seen = replace(seen, erase="direction" if other else "gate")
    build = _Build(terms, rule, recording)
    rule = replace(rule, terms=seen)
    for stream in rule.streams:
        getattr(build, stream)()
    if scale is None and _own_scale(seen):
        build.add(Unknown(name="scale", low=1e-9, high=1e9, typical=1.0))
    return Model(
        rule=rule,
        recording=recording,
        observed=observed,
        unknowns=tuple(build.unknowns),
        fixed=build.fixed,
        gates=build.gates,
        scale=1.0 if scale is None else scale,
    )


def _refuse(rule: Rule, recording: Recording) -> None:
    substeps = recording.keys.ndim == 4
    if rule.terms.substeps and not substeps:
        raise Refused("it writes several keys a step, and the recording has one (no dim substep)")
    if substeps and not rule.terms.substeps:
        raise Refused("it writes one key a step, and the recording has several (dim substep)")
    shortest = SHORTEST.get(rule.terms.plasticity)
    if shortest and (interval(recording) <= shortest).any():
        raise Refused(f"its values last {shortest:g} s, and steps of the recording are shorter")


def _own_scale(terms: Terms) -> bool:
    """Whether a unit of what is observed is more than another write strength.

    It is where the weights enter what is written, and where they are read by what grows with them.
    """
    return not terms.linear or terms.erase == "key" or terms.companion is not None


class _Build:
    """Collects the unknowns and streams of a rule, stream by stream of its declaration."""

    def __init__(self, terms: Terms, rule: Rule, recording: Recording) -> None:
        self.terms, self.recording = terms, recording
        self.constant_decay = rule.default_decay_offset is not None
        self.unknowns: list[Unknown] = []
        self.gates: dict[str, Callable[[np.ndarray], Mapping[str, np.ndarray]]] = {}
        steps = recording.steps
        self.writes = recording.keys.shape[2] if recording.keys.ndim == 4 else 1
        keys = recording.keys.reshape(recording.trials, -1, recording.pre)
        values = recording.values.reshape(recording.trials, -1, recording.post)
        self.time = keys.shape[1]
        queries = recording.queries
        if queries is None:
            queries = np.zeros((recording.trials, steps, recording.pre))
        self.fixed: Streams = {"key": keys[None], "value": values[None], "query": queries[None]}
        corrected = values if self.terms.transposed else keys
        if self.terms.feature == "elu_plus_one":
            corrected = corrected + 1
        power = (corrected**2).sum(-1)
        self.power = float(power[power > 0].mean())

    def add(self, unknown: Unknown) -> None:
        self.unknowns.append(unknown)

    def course(self, name: str, size: int, time: int) -> np.ndarray:
        """A known gate's course in time (1, trial, time, 1 or size), or ones (1, 1, time, 1)."""
        if name not in self.recording.courses:
            return np.ones((1, 1, time, 1))
        course = self.recording.courses[name]
        if course.ndim == 4:
            course = course.reshape(course.shape[0], -1, course.shape[-1])
        if course.shape[1] != time:
            course = np.repeat(course, time // course.shape[1], axis=1)
        return (course if size > 1 else course.mean(-1, keepdims=True))[None]

    def constants(self, unknown: Unknown, stream: str, course: np.ndarray) -> None:
        """An unknown that multiplies a course."""
        self.add(unknown)
        self.gates[unknown.name] = lambda x: {stream: x[:, None, None, :] * course}

    def log_decay(self) -> None:
        channel = self.terms.decay == "channel"
        size = self.recording.pre if channel else 1
        known = "log_decay" in self.recording.courses and not self.constant_decay
        steps = self.recording.steps
        course = self.course("log_decay", size, steps) if known else np.ones((1, 1, steps, 1))
        if known:
            unknown = Unknown(
                name="decay_factor", low=0.0, high=100.0, neutral=0.0, starts=(0.3, 1.0)
            )
        else:
            unknown = Unknown(
                name="decay",
                low=-MOST_DECAY,
                high=0.0,
                neutral=0.0,
                typical=0.01,
                starts=(-SLOWEST, -FASTEST),
                logarithmic=True,
            )
        unknown = replace(unknown, size=size, channels="pre" if channel else "")
        self.constants(unknown, "log_decay", course)

    def beta(self) -> None:
        channel = self.terms.write == "channel"
        size = self.recording.post if channel else 1
        course = self.course("beta", size, self.time)
        if "log_beta" in self.recording.courses:
            course = np.exp(self.course("log_beta", 1, self.time))
        unknown = Unknown(name="beta", size=size, channels="post" if channel else "", low=-np.inf)
        if self.terms.erase == "key" or not self.terms.linear:
            shares = SHARES if self.terms.solve == "explicit" else STRETCHES
            if self.terms.plasticity in {"calcium", "calcium_control"}:
                starts: tuple[float, ...] = GROWTHS
            else:
                starts = tuple(share / self.power for share in shares)
            unknown = replace(unknown, low=0.0, starts=starts, typical=min(starts))
        self.constants(unknown, "beta", course)

    def erase(self) -> None:
        """An erase gate: of each pre channel, or of rules that erase along keys, one for all."""
        gate = self.terms.erase == "gate"
        size = self.recording.pre if gate else 1
        known = gate and "erase" in self.recording.courses
        starts = (1.0,) if known else tuple(share / self.power for share in SHARES)
        unknown = Unknown(
            name="erase_factor" if known else "erase",
            size=size,
            channels="pre" if size > 1 else "",
            neutral=0.0,
            starts=starts,
            typical=starts[0],
        )
        self.constants(unknown, "erase", self._erasing())

    def erase_key(self) -> None:
        """The erase key as it was presented, or the key, times a constant."""
        presented = self.recording.presented.get("erase_key")
        keys = self.fixed["key"] if presented is None else presented[None]
        starts = tuple(share / self.power for share in SHARES)
        unknown = Unknown(name="erase", neutral=0.0, starts=starts, typical=min(starts))
        self.constants(unknown, "erase_key", keys * self._erasing())

    def _erasing(self) -> np.ndarray:
        """How erasing varies in time: as recorded; as writing where one strength governs both."""
        if self.terms.erase == "gate":
            return self.course("erase", self.recording.pre, self.time)
        if self.terms.erase == "erase_key":
            return self.course("beta", 1, self.time)
        return np.ones((1, 1, self.time, 1))

    def erase_direction(self) -> None:
        presented = self.recording.presented.get("erase_direction")
        self.fixed["erase_direction"] = self.fixed["key"] if presented is None else presented[None]

    def ridge(self) -> None:
        presented = self.recording.presented.get("ridge")
        if presented is not None:
            self.fixed["ridge"] = presented[None] * np.ones(self.recording.pre)
            return
        course = np.ones((1, 1, self.recording.steps, self.recording.pre))
        self.constants(Unknown(name="ridge", low=1e-6, high=1e6), "ridge", course)

    def interval(self) -> None:
        self.fixed["interval"] = interval(self.recording)[None]

    def theta_p(self) -> None:
        self._threshold("theta_p")

    def theta_d(self) -> None:
        self._threshold("theta_d")

    def _threshold(self, name: str) -> None:
        keys, values = self.fixed["key"], self.fixed["value"]
        products = np.abs(keys[..., :, None] * values[..., None, :])
        starts = tuple(float(x) for x in np.quantile(products, PASSING))
        unknown = Unknown(
            name=name, starts=starts, typical=max(starts[-1], 1e-9), smooth=False, neutral=0.0
        )
        self.constants(unknown, name, self.course(name, 1, self.recording.steps))
