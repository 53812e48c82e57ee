"""Who trains in the benchmark of training: one model, and what runs its memories."""

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fwbio.analyses.benchmarks.measure import SEGMENT
from fwbio.analyses.benchmarks.peers import INSTALL, PEERS, Implementation, installed_version

if TYPE_CHECKING:
    from torch import Tensor

    from fwbio.models.networks.memory import FastWeightMemory
    from fwbio.models.networks.sequence_model import SequenceModel

VOCABULARY = 256
Runner = Callable[[int, "FastWeightMemory", dict[str, "Tensor"]], "Tensor"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A model and its batch.

    Args:
        rule: of the memories.
        width: channels of the stream.
        head: channels of a memory's keys and of its values; heads are as many as fill the width.
        layers: memories, each with an MLP twice as wide as the stream.
        batch: sequences.
        length: steps of each; some peers need a multiple of 64.
        convolution: width of the short convolution before a memory.
    """

    rule: str
    width: int
    head: int = 64
    layers: int = 2
    batch: int = 8
    length: int = 512
    convolution: int = 4

    @property
    def name(self) -> str:
        """Rule and width."""
        return f"{self.rule} {self.width}"

    @property
    def tokens(self) -> int:
        """Of a step of training."""
        return self.batch * self.length


@dataclass(frozen=True, kw_only=True)
class Contender:
    """What runs the memories of a model.

    Args:
        name: under which its figures stand.
        package: what must be installed to have it; None for this package.
        source: where its code is.
        run: from a layer's number, its memory and the streams to the read-outs [B, T, H, V],
            scaled by K^-0.5 as peers scale them.
        plain_convolution: whether its model convolves as the peers' layers do on a CPU, by torch's
            Conv1d over channels first.
        borrows: whether it is a peer's memory in a model that is otherwise this package's.
    """

    name: str
    package: str | None
    source: str
    run: Runner
    plain_convolution: bool = False
    borrows: bool = False

    def missing(self) -> str | None:
        """Why it is not there, or None where it is."""
        if self.package is None or installed_version(self.package):
            return None
        return f"{self.package} is not installed: {INSTALL}"


def ours(row: Row) -> Contender:
    """This package's scan, by the backend that it chooses."""
    from fwbio.kernels import scan
    from fwbio.kernels.support import chosen

    heads = row.batch * row.width // row.head

    def run(layer: int, memory: "FastWeightMemory", streams: dict[str, Any]) -> "Tensor":
        return scan(memory.rule, **streams, scale=memory.feature_width**-0.5)[0]

    return Contender(
        name=f"fwbio {chosen('auto', device='cpu', stretch=row.length, heads=heads)}",
        package=None,
        source="fwbio.kernels.scan",
        run=run,
    )


def peers(row: Row) -> list[Contender]:
    """What else runs a row's rule on a CPU: in a model of its own kind, and in this package's."""
    found = [peer for peer in PEERS if (peer.rule, peer.device) == (row.rule, "cpu")]
    return [
        Contender(
            name=f"{peer.name}, our convolution" if borrows else peer.name,
            package=peer.package,
            source=peer.source,
            run=_adapted(peer),
            plain_convolution=not borrows,
            borrows=borrows,
        )
        for peer in found
        for borrows in (False, True)
    ]


def prepared(model: "SequenceModel", one: Contender) -> "SequenceModel":
    """The contender's own copy of the model."""
    model = copy.deepcopy(model)
    if one.plain_convolution:
        for _, memory in model.memories():
            if memory.convolution is not None:
                convolved = functools.partial(_convolved, memory.convolution)
                vars(memory.convolution)["forward"] = convolved
    return model


def _convolved(convolution: Any, x: "Tensor") -> "Tensor":
    """The causal convolution over channels first: padded on both sides, and cut."""
    from torch.nn.functional import conv1d

    weight = convolution.depthwise.weight
    moved = conv1d(x.transpose(1, 2), weight, padding=convolution.past, groups=weight.shape[0])
    return moved[..., : x.shape[1]].transpose(1, 2)


def _adapted(peer: Implementation) -> Runner:
    def run(layer: int, memory: "FastWeightMemory", streams: dict[str, Any]) -> Any:
        if not peer.heads_first:
            return peer.run(**streams)
        moved = {name: x.transpose(1, 2) for name, x in streams.items()}
        return peer.run(**moved).transpose(1, 2)

    return run


def step_by_step(layer: int, memory: "FastWeightMemory", streams: dict[str, Any]) -> "Tensor":
    """The reference: segments step by step, whose insides are run again for the backward."""
    import torch
    from torch.utils.checkpoint import checkpoint

    from fwbio.kernels import scan

    scale = memory.feature_width**-0.5

    def segment(state: "Tensor | None", *parts: "Tensor") -> "tuple[Tensor, Tensor]":
        named: dict[str, Any] = dict(zip(streams, parts, strict=True))
        y, end, *_ = scan(
            memory.rule, **named, initial_state=state, scale=scale, backend="recurrent"
        )
        return y, end

    state, readouts = None, []
    for parts in zip(*(x.split(SEGMENT, 1) for x in streams.values()), strict=True):
        y, state = checkpoint(segment, state, *parts, use_reentrant=False)
        readouts.append(y)
    return torch.cat(readouts, 1)


def problem(row: Row, seed: int) -> "tuple[SequenceModel, Tensor, Tensor]":
    """The model with its first weights, tokens [B, T] and what should follow them [B, T]."""
    import torch

    from fwbio.models.networks.memory import FastWeightMemoryConfig
    from fwbio.models.networks.sequence_model import SequenceModel, SequenceModelConfig

    mixer = FastWeightMemoryConfig(
        rule=row.rule, heads=row.width // row.head, convolution=row.convolution
    )
    config = SequenceModelConfig(
        vocabulary=VOCABULARY, classes=VOCABULARY, width=row.width, layers=row.layers, mixer=mixer
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = SequenceModel(config)
        shown = torch.randint(VOCABULARY, (row.batch, row.length + 1))
    return model, shown[:, :-1], shown[:, 1:]
