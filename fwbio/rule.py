"""What a rule is: a frozen declaration of how fast weights change. It executes nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from fwbio.data import constants
from fwbio.errors import FwbioError

Decay = Literal["none", "scalar", "channel"]
Write = Literal["scalar", "channel", "exponential"]
Erase = Literal["none", "key", "gate", "erase_key", "direction"]
Reads = Literal["decayed", "undecayed"]
Solve = Literal["explicit", "implicit", "flow"]
Feature = Literal["identity", "scaled", "elu_plus_one"]
Normaliser = Literal["none", "sum", "bounded"]
Readout = Literal["weights", "ridge"]
Range = Literal["any", "<= 0", ">= 0", "> 0"]
Plasticity = Literal[
    "product",
    "bcm",
    "covariance",
    "pairs",
    "triplets",
    "voltage",
    "release",
    "thresholded",
    "dendritic",
    "calcium",
    "calcium_control",
]
TRACES = frozenset({"bcm", "covariance", "pairs", "triplets", "voltage", "release", "calcium"})
LOCAL = frozenset({"thresholded", "dendritic", "calcium", "calcium_control"})
VOLLEYS = frozenset({"pairs", "triplets", "voltage", "release", "calcium", "calcium_control"})
TIMED = TRACES | {"calcium_control"}
DEFAULTS: Mapping[str, float] = MappingProxyType(
    {"interval": constants("volleys")["interval"], "theta_p": 0.0, "theta_d": 0.0}
)


@dataclass(frozen=True, kw_only=True)
class Stream:
    """One input that a rule consumes beside key, value and query, one row a step.

    Args:
        name: the keyword under which programs and kernels take it.
        dims: its labelled dims after the leading ones.
        required: whether a program without it is incomplete.
        meaning: what it does, in words.
        range: which finite numbers it may hold.
    """

    name: str
    dims: tuple[str, ...]
    required: bool
    meaning: str
    range: Range = "any"


@dataclass(frozen=True, kw_only=True)
class Terms:
    """Which terms of the normal form a rule has, and from which streams they come.

    The normal form, with W of shape (pre, post), is

        W~ = diag(exp(log_decay)) W;   W <- W~ + k u^T - k (p^T W~);   y = W^T q / n

    with write u = beta v. A rule may erase along a direction of its own, r (p^T W~) in place of
    k (p^T W~). The terms are all a substrate needs to know of a rule.

    The plasticity of a synapse may make more of a step than k u^T: a sum of outer products of
    traces of keys and values (`fwbio.traces`), which is still linear in W, or a step of its own
    that is not (`fwbio.local`).

    Args:
        decay: "none"; "scalar", one factor a step; "channel", one factor a step and pre channel.
        write: what scales the value: "scalar", beta (step,); "channel", beta (step, post);
            "exponential", exp(log_beta) with log_beta (step,), of a rule with a bounded normaliser.
        erase: where the erase key p comes from: "none", no error correction; "key", p = beta k;
            "gate", p = erase * k with erase (step, pre); "erase_key", p = beta erase_key;
            "direction", p = erase_key, erased along r = erase_direction (step, pre).
        reads: whether the prediction is read from the "decayed" or the "undecayed" weights.
        solve: how beta becomes the step size of the error correction: "explicit", beta itself;
            "implicit", beta / (1 + beta |k|^2); "flow", (1 - exp(-beta |k|^2)) / |k|^2.
        feature: the map applied to keys and queries: "identity"; "scaled", keys alone divided by
            the root of their number of channels; "elu_plus_one".
        normaliser: what the read-out is divided by, where z <- decay z + beta k: "none"; "sum",
            z^T q, and nothing while that is 0, so that an empty memory reads 0; "bounded",
            max(|z^T q|, 1).
        readout: "weights", by the query; "ridge", by (H + diag(ridge))^-1 q, where
            H <- decay H + beta k k^T and ridge is (step, pre).
        transposed: whether the rule corrects its prediction of the key from the value, which is
            the normal form with key and value exchanged and the state read from its other side.
        substeps: whether one step makes several writes (dim substep) before its one read.
        plasticity: what a step writes: "product", k u^T; by traces "bcm", "covariance", "pairs"
            and "triplets" of spikes, "voltage"; "release", k u^T of keys and queries that
            facilitate and depress; not linear in W "thresholded", "dendritic", "calcium" and
            "calcium_control".
    """

    decay: Decay = "none"
    write: Write = "scalar"
    erase: Erase = "none"
    reads: Reads = "decayed"
    solve: Solve = "explicit"
    feature: Feature = "identity"
    normaliser: Normaliser = "none"
    readout: Readout = "weights"
    transposed: bool = False
    substeps: bool = False
    plasticity: Plasticity = "product"

    def __post_init__(self) -> None:
        wanted = {"decay": "scalar", "normaliser": "bounded"}
        for name, value in wanted.items():
            if self.write == "exponential" and getattr(self, name) != value:
                raise FwbioError(
                    "exponential writes are kept in bounds by rescaling a state that one gate"
                    " decays and one normaliser divides",
                    where="Terms",
                    mend=f"give {name}={value!r}",
                )

    @property
    def linear(self) -> bool:
        """Whether a step is linear in the weights: an instance of the normal form."""
        return self.plasticity not in LOCAL

    @property
    def traces(self) -> bool:
        """Whether a step depends on earlier ones by more than the weights that they left."""
        return self.plasticity in TRACES

    @property
    def companion(self) -> Literal["normaliser", "gram"] | None:
        """What a memory of this rule sums beside its weights: keys, or their second moments."""
        if self.readout == "ridge":
            return "gram"
        return None if self.normaliser == "none" else "normaliser"

    def extra_columns(self, pre: int) -> int:
        """Columns that a kernel's state has beside one for each post channel.

        Args:
            pre: number of pre channels.
        """
        summed = {None: 0, "normaliser": 1, "gram": pre}[self.companion]
        return summed + (1 if self.write == "exponential" else 0)

    def streams(self) -> tuple[Stream, ...]:
        """The streams that these terms consume beside key, value and query."""
        found = []
        if self.decay != "none":
            channel = ("pre",) if self.decay == "channel" else ()
            found.append(
                Stream(
                    name="log_decay",
                    dims=("step", *channel),
                    required=True,
                    meaning="log of the factor by which the weights decay before the write",
                    range="<= 0",
                )
            )
        if self.write == "exponential":
            found.append(
                Stream(
                    name="log_beta",
                    dims=("step",),
                    required=True,
                    meaning="log of the write strength, of either sign",
                )
            )
        else:
            substep = ("substep",) if self.substeps else ()
            found.append(
                Stream(
                    name="beta",
                    dims=("step", *substep, *(("post",) if self.write == "channel" else ())),
                    required=self.erase not in {"none", "direction"}
                    or self.plasticity in {"thresholded", "dendritic"},
                    meaning="write strength (1 where a rule does not require it)",
                )
            )
        if self.erase == "gate":
            found.append(
                Stream(
                    name="erase",
                    dims=("step", "pre"),
                    required=True,
                    meaning="erase gate: the share of each channel's prediction that is erased",
                )
            )
        if self.erase in {"erase_key", "direction"}:
            found.append(
                Stream(
                    name="erase_key",
                    dims=("step", "pre"),
                    required=True,
                    meaning="the key by which the prediction to erase is read",
                )
            )
        if self.erase == "direction":
            found.append(
                Stream(
                    name="erase_direction",
                    dims=("step", "pre"),
                    required=True,
                    meaning="the direction along which the prediction is erased",
                )
            )
        if self.readout == "ridge":
            found.append(
                Stream(
                    name="ridge",
                    dims=("step", "pre"),
                    required=True,
                    meaning="penalty on each channel's weights in the least squares read",
                    range="> 0",
                )
            )
        if self.plasticity in TIMED:
            found.append(
                Stream(
                    name="interval",
                    dims=("step",),
                    required=False,
                    meaning="seconds since the step before, and of a step (0.1 unless given)",
                    range="> 0",
                )
            )
        if self.plasticity == "thresholded":
            found += [
                Stream(
                    name=f"theta_{letter}",
                    dims=("step",),
                    required=False,
                    meaning=f"calcium, key times error, {side} (0 unless given)",
                    range=">= 0",
                )
                for letter, side in (
                    ("p", "above which synapses grow"),
                    ("d", "below minus which they shrink"),
                )
            ]
        return tuple(found)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A fast-weight update rule, declared.

    Args:
        name: the name under which `fwbio.RULES` lists it.
        equation: the update and the read-out, W of shape (pre, post).
        terms: the terms of the normal form that it has.
        objective: the local objective of which one update is a gradient (or proximal) step.
        biology: what each term stands for in a synapse.
        source: where the rule is published.
        default_decay_offset: set for rules whose decay, where a program gives none, is a constant
            of head h: log(1 - 2^-(h + offset)).
    """

    name: str
    equation: str
    terms: Terms
    objective: str
    biology: str
    source: str
    default_decay_offset: float | None = None

    @property
    def streams(self) -> dict[str, Stream]:
        """The streams it consumes beside key, value and query, by name."""
        return {stream.name: stream for stream in self.terms.streams()}

    def needs(self, stream: str) -> bool:
        """Whether a program of this rule is incomplete without the stream."""
        if stream == "log_decay" and self.default_decay_offset is not None:
            return False
        return stream in self.streams and self.streams[stream].required
