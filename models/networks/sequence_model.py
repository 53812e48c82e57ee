"""A stack of mixers with MLPs between: the model that every sequence task is given to."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from fwbio.errors import FwbioError
from fwbio.models.networks.checks import Checks
from fwbio.models.networks.memory import FastWeightMemory
from fwbio.models.networks.mixers import make_mixer, mixer_name

NORMS = ("rms", "layer", "none")
POSITIONS = ("none", "learned")
ACTIVATIONS = ("swiglu", "gelu")
EPSILON = 1e-5

Run = Callable[[int, FastWeightMemory, dict[str, Tensor]], Tensor]


@dataclass(frozen=True, kw_only=True)
class SequenceModelConfig:
    """A model of sequences.

    Args:
        vocabulary: number of tokens; 0: it is given features.
        features: of each step's input; 0: it is given tokens.
        classes: outputs of each step.
        width: channels of the stream that the layers read and write.
        layers: mixers, each with its MLP.
        mixer: the config of the mixer, one of those in `fwbio.models.networks.mixers.MIXERS`.
        residual: whether each layer adds to the stream; False: plain composition of the mixers,
            without norms and MLPs, each as wide as it likes.
        norm: before each mixer and MLP and before the head: "rms", "layer" or "none".
        mlp: hidden units of an MLP, as a multiple of the width; 0: no MLPs.
        activation: of the MLPs: "swiglu" (a gate of their own) or "gelu".
        embed: whether features are mapped to the width; False: they enter as they are.
        positions: "learned": a vector of each position is added to the input; or "none".
        max_length: number of learned positions.
        head: hidden ReLU layers between the stream and the output, by their units.
        tie_embeddings: whether the output's weights are the tokens' embeddings.
        embedding_std: standard deviation that embeddings and positions start with; None: 1, or
            1 / sqrt(width) if they are tied.

    Raises:
        FwbioError: a number out of its range, an unknown word, or fields that do not go together.
    """

    vocabulary: int = 0
    features: int = 0
    classes: int
    width: int = 64
    layers: int = 2
    mixer: Any
    residual: bool = True
    norm: str = "rms"
    mlp: float = 2.0
    activation: str = "swiglu"
    embed: bool = True
    positions: str = "none"
    max_length: int = 0
    head: tuple[int, ...] = ()
    tie_embeddings: bool = False
    embedding_std: float | None = None

    def __post_init__(self) -> None:
        checks = Checks("SequenceModelConfig")
        checks.sequence("head", self.head)
        object.__setattr__(self, "head", tuple(self.head))
        mixer_name(self.mixer)
        for name in ("vocabulary", "features", "max_length"):
            checks.whole(name, getattr(self, name), low=0)
        for name in ("classes", "width", "layers"):
            checks.whole(name, getattr(self, name))
        for units in self.head:
            checks.whole("head", units)
        checks.choice("norm", self.norm, NORMS)
        checks.choice("activation", self.activation, ACTIVATIONS)
        checks.choice("positions", self.positions, POSITIONS)
        checks.number("mlp", self.mlp)
        object.__setattr__(self, "mlp", float(self.mlp))
        if self.embedding_std is not None:
            checks.number("embedding_std", self.embedding_std)
        checks.flags(residual=self.residual, embed=self.embed, tie_embeddings=self.tie_embeddings)
        for sound, what, mend in self._agreements():
            checks.that(sound, what, mend)

    def _agreements(self) -> tuple[tuple[bool, str, str], ...]:
        """What has to hold between fields: whether it does, what is wrong if not, and the mend."""
        return (
            (
                (self.vocabulary > 0) != (self.features > 0),
                f"vocabulary = {self.vocabulary} and features = {self.features}",
                "give one of them: the inputs are tokens or features",
            ),
            (
                self.residual or (self.norm == "none" and self.mlp == 0),
                "plain composition has no norms and no MLPs",
                "with residual=False give norm='none' and mlp=0",
            ),
            (
                self.mlp == 0 or self.hidden >= 1,
                f"mlp = {self.mlp} leaves a width of {self.width} no hidden unit",
                "give a larger one, or 0 for none",
            ),
            (
                self.embed or self.features == self.width,
                f"features = {self.features} can't enter a width of {self.width} as they are",
                "give width = features, or embed=True",
            ),
            (
                (self.positions == "learned") == (self.max_length > 0),
                f"positions = {self.positions!r} with max_length = {self.max_length}",
                "give positions='learned' and how many, or neither",
            ),
            (
                not self.tie_embeddings or (self.vocabulary == self.classes and not self.head),
                "an output tied to the embeddings has their vocabulary and no hidden layers",
                "give classes = vocabulary and head=(), or tie_embeddings=False",
            ),
        )

    @property
    def hidden(self) -> int:
        """Hidden units of an MLP."""
        return round(self.mlp * self.width)


class SequenceModel(nn.Module):
    """A stack of layers that read from and add to a stream of vectors, one a token.

        x <- x + mixer(norm(x));  x <- x + mlp(norm(x))   for each layer;   output = head(norm(x))

    and with residual=False, x <- mixer(x) for each layer; output = head(x).

    Args:
        config: what it is made of.

    Raises:
        FwbioError: a mixer that does not fit the width.

    Source: the pre-norm stack of Radford et al. (2019), GPT-2, with RMS norms (Zhang & Sennrich
    2019) and SwiGLU MLPs (Shazeer 2020) unless others are asked for.
    """

    def __init__(self, config: SequenceModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = _embedding(config)
        self.positions = (
            nn.Embedding(config.max_length, config.width) if config.positions == "learned" else None
        )
        layers, width = [], config.width
        for _ in range(config.layers):
            layer = Layer(config, width)
            layers.append(layer)
            width = layer.out_features
        self.layers = nn.ModuleList(layers)
        self.norm = _norm(config.norm, width)
        self.head = _head(width, config.head, config.classes)
        self._start_embeddings(width)

    def forward(self, inputs: Tensor, run: Run | None = None) -> Tensor:
        """The outputs of every step, [B, T, classes].

        Args:
            inputs: tokens [B, T], whole numbers below the vocabulary, or features [B, T, features].
            run: maps a layer's number, its memory and the memory's streams to read-outs
                [B, T, H, V]; None: `fwbio.kernels.scan`. Mixers without such streams ignore it.

        Raises:
            FwbioError: inputs of another shape or kind, or longer than the learned positions.
        """
        self._require_fitting(inputs)
        x = self.embedding(inputs)
        if self.positions is not None:
            x = x + self.positions(torch.arange(inputs.shape[1], device=inputs.device))
        for number, layer in enumerate(self.layers):
            x = layer(x, None if run is None else partial(run, number))
        return self.head(self.norm(x))

    def memories(self) -> list[tuple[int, FastWeightMemory]]:
        """The fast-weight memories, each with its layer's number."""
        mixers = [layer.mixer for layer in self.layers if isinstance(layer, Layer)]
        return [(i, mixer) for i, mixer in enumerate(mixers) if isinstance(mixer, FastWeightMemory)]

    def _start_embeddings(self, width: int) -> None:
        config = self.config
        std = config.embedding_std
        if std is None:
            std = width**-0.5 if config.tie_embeddings else 1.0
        for table in (self.embedding, self.positions):
            if isinstance(table, nn.Embedding):
                nn.init.normal_(table.weight, std=std)
        if config.tie_embeddings:
            if width != config.width:
                raise FwbioError(
                    f"the last mixer gives {width} channels and an embedding has {config.width}",
                    where="SequenceModelConfig",
                    mend="give it as many units as the width, or tie_embeddings=False",
                )
            self.head[-1].weight = self.embedding.weight

    def _require_fitting(self, inputs: Tensor) -> None:
        config = self.config
        tokens = config.vocabulary > 0
        shape = "[B, T]" if tokens else f"[B, T, {config.features}]"
        if tokens:
            fits = inputs.ndim == 2 and inputs.dtype in (torch.int64, torch.int32)
        else:
            fits = inputs.is_floating_point() and inputs.ndim == 3
            fits = fits and inputs.shape[-1] == config.features
        if not fits:
            raise FwbioError(
                f"inputs of shape {list(inputs.shape)} and dtype {inputs.dtype}",
                where="SequenceModel",
                mend=f"give {'tokens' if tokens else 'features'} {shape}",
            )
        if tokens and inputs.is_cpu and inputs.numel():  # elsewhere looking would make it wait
            low, high = inputs.aminmax()
            if low < 0 or high >= config.vocabulary:
                raise FwbioError(
                    f"tokens from {low} to {high}, of a vocabulary of {config.vocabulary}",
                    where="SequenceModel",
                    mend="give sequences of the task that it was made for",
                )
        if self.positions is not None and inputs.shape[1] > config.max_length:
            raise FwbioError(
                f"{inputs.shape[1]} steps, where {config.max_length} positions were learned",
                where="SequenceModel",
                mend="give shorter sequences, or a model with a larger max_length",
            )


class Layer(nn.Module):
    """A mixer and its MLP, or in plain composition the mixer alone.

    Args:
        config: the model's.
        width: channels of what it is given.

    Raises:
        FwbioError: a mixer that does not fit the width.
    """

    def __init__(self, config: SequenceModelConfig, width: int) -> None:
        super().__init__()
        self.residual = config.residual
        self.mixer = make_mixer(config.mixer, width)
        assert isinstance(self.mixer.out_features, int)
        self.out_features = self.mixer.out_features
        if config.residual and self.out_features != width:
            raise FwbioError(
                f"a mixer of {self.out_features} outputs can't add to a stream of {width} channels",
                where="SequenceModelConfig",
                mend="give the mixer as many units as the width, or residual=False",
            )
        self.mixer_norm = _norm(config.norm, width)
        self.mlp = (
            nn.Sequential(_norm(config.norm, width), MLP(width, config.hidden, config.activation))
            if config.mlp
            else None
        )

    def forward(self, x: Tensor, run: Callable[..., Tensor] | None = None) -> Tensor:
        """The stream after this layer [B, T, out_features], from the one before [B, T, width]."""
        mixed = self.mixer(self.mixer_norm(x), run)
        if not self.residual:
            return mixed
        x = x + mixed
        return x if self.mlp is None else x + self.mlp(x)


class MLP(nn.Module):
    """Two layers for each token: B (silu(A x) * C x), or B gelu(A x).

    Args:
        width: channels in and out.
        hidden: units between.
        activation: "swiglu", the first form, or "gelu", the second.
    """

    def __init__(self, width: int, hidden: int, activation: str) -> None:
        super().__init__()
        gated = activation == "swiglu"
        self.up = nn.Linear(width, hidden, bias=False)
        self.gate = nn.Linear(width, hidden, bias=False) if gated else None
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] for [..., width]."""
        if self.gate is None:
            return self.down(nn.functional.gelu(self.up(x)))
        return self.down(silu(self.up(x)) * self.gate(x))


def _norm(name: str, width: int) -> nn.Module:
    if name == "rms":
        return nn.RMSNorm(width, eps=EPSILON)
    return nn.LayerNorm(width, eps=EPSILON) if name == "layer" else nn.Identity()


def _embedding(config: SequenceModelConfig) -> nn.Module:
    if config.vocabulary:
        return nn.Embedding(config.vocabulary, config.width)
    return nn.Linear(config.features, config.width) if config.embed else nn.Identity()


def _head(width: int, hidden: tuple[int, ...], classes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for units in hidden:
        layers += [nn.Linear(width, units), nn.ReLU()]
        width = units
    return nn.Sequential(*layers, nn.Linear(width, classes))
