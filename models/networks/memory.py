"""A multi-head fast-weight memory as a layer: a slow net that emits the streams of any rule."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad, rms_norm, silu

from fwbio.errors import FwbioError
from fwbio.kernels import scan
from fwbio.kernels.recurrence import state_dtype
from fwbio.models.networks import features, gates
from fwbio.models.networks.checks import Checks, divided
from fwbio.models.networks.features import NORMALISED, feature, feature_map, normalised
from fwbio.rule import VOLLEYS, Rule
from fwbio.rules import RULES, resolve

STRENGTHS = ("sigmoid", "softplus", "step", "one")
NORM_EPSILON = 1e-5
SMALLEST_NORMALISER = 1e-6
INITIAL_CORRECTION = 0.02


@dataclass(frozen=True, kw_only=True)
class FastWeightMemoryConfig:
    """What a fast-weight memory is made of.

    Args:
        rule: the rule of its weights, by name.
        heads: memories beside one another.
        key_width: channels of a head's keys and queries before the feature map; the layer's width
            over its heads unless given.
        value_width: channels of a head's values, likewise.
        feature: the map of keys and queries, of `fwbio.models.networks.features.FEATURES`.
        nu: shifts of "dpfp".
        normalise: what keys and queries are divided by after it: "none", "l1", "l2" or "max". As
            published unless given: "l2" of rules that correct errors or read by least squares and
            "none" of others. Queries of plain sums, with neither a map nor a norm, are divided by
            the root of their channels.
        attention_normalised: divide read-outs by the summed keys' product with the query,
            y = W^T phi(q) / z^T phi(q), for a rule without error correction and a normaliser of
            its own, and features from 0 up. z is one more column of the values, of ones.
        beta: how the write strength comes from the input: "sigmoid", "softplus", "step" (the step
            dt of the decay), or "one". As published unless given: "step" of mamba2; "softplus" of
            implicit and exact steps, which any strength leaves stable; "sigmoid" of other rules
            that need one, and mesa; "one" of others.
        negative_eigenvalues: beta in (0, 2) in place of (0, 1), so that a write of unit keys may
            turn a prediction's sign (Grazzi 2024, arXiv:2411.12537).
        substeps: writes of a step, for rules with substeps.
        convolution: width of a causal depthwise convolution of queries, keys and values over time,
            with SiLU; 0 for none.
        output_norm: divide each head's read-out by its root mean square, times learned factors.
        output_gate: multiply it by silu(G x).

    Raises:
        FwbioError: a name or number out of its range, or options that exclude one another.
    """

    rule: str = "delta"
    heads: int = 2
    key_width: int | None = None
    value_width: int | None = None
    feature: str = "identity"
    nu: int = 1
    normalise: str | None = None
    attention_normalised: bool = False
    beta: str | None = None
    negative_eigenvalues: bool = False
    substeps: int = 2
    convolution: int = 0
    output_norm: bool = True
    output_gate: bool = False

    def __post_init__(self) -> None:
        rule = resolve(self.rule)
        object.__setattr__(self, "rule", rule.name)
        if self.normalise is None:
            object.__setattr__(self, "normalise", _published_norm(rule))
        if self.beta is None:
            object.__setattr__(self, "beta", _published_strength(rule))
        checks = Checks(_WHERE)
        for name in ("heads", "key_width", "value_width", "substeps"):
            if getattr(self, name) is not None:
                checks.whole(name, getattr(self, name))
        checks.whole("convolution", self.convolution, low=0)
        for name in ("attention_normalised", "negative_eigenvalues", "output_norm", "output_gate"):
            checks.flags(**{name: getattr(self, name)})
        feature(self.feature, self.nu, where=f"{_WHERE}.feature")
        checks.choice("normalise", self.normalise, NORMALISED)
        checks.choice("beta", self.beta, STRENGTHS)
        for refusal in _REFUSALS:
            if told := refusal(self, rule):
                name, mend = told
                what = f"{name} = {getattr(self, name)!r} does not suit the rule {rule.name!r}"
                raise checks.error(what, mend)


_WHERE = "FastWeightMemoryConfig"
Refusal = Callable[[FastWeightMemoryConfig, Rule], tuple[str, str] | None]


def _published_norm(rule: Rule) -> str:
    corrects = rule.terms.erase in {"key", "gate", "erase_key"} or not rule.terms.linear
    return "l2" if corrects or rule.terms.readout == "ridge" else "none"


def _published_strength(rule: Rule) -> str:
    if rule.name == "mamba2":
        return "step"
    if rule.terms.solve != "explicit":
        return "softplus"
    return "sigmoid" if rule.needs("beta") or rule.terms.readout == "ridge" else "one"


def _signed_rates(config: FastWeightMemoryConfig, rule: Rule) -> tuple[str, str] | None:
    if rule.terms.plasticity in VOLLEYS and not feature(config.feature, config.nu).nonnegative:
        return "feature", "its keys are shares of cells that fire: give feature='relu'"
    return None


def _mapped_twice(config: FastWeightMemoryConfig, rule: Rule) -> tuple[str, str] | None:
    if rule.terms.feature == "elu_plus_one" and config.feature != "identity":
        return "feature", "it has a feature map of its own: leave it at 'identity'"
    return None


def _divided_twice(config: FastWeightMemoryConfig, rule: Rule) -> tuple[str, str] | None:
    if not config.attention_normalised:
        return None
    terms = rule.terms
    if terms.normaliser != "none":
        return "attention_normalised", "it has a normaliser of its own: leave this out"
    sums = terms.erase == "none" and terms.write == "scalar" and terms.plasticity == "product"
    if not sums or terms.readout != "weights":
        return "attention_normalised", "it is for rules that sum writes, such as 'hebb'"
    if not feature(config.feature, config.nu).nonnegative:
        return "attention_normalised", "a signed sum may vanish: give feature='elu' or 'dpfp'"
    return None


def _stepless(config: FastWeightMemoryConfig, rule: Rule) -> tuple[str, str] | None:
    if config.beta == "step" and not _steps(rule):
        return "beta", "its decay is no multiple of a step: give 'sigmoid' or 'one'"
    if rule.terms.write == "exponential" and config.beta != "one":
        return "beta", "its strength is exp(log_beta): leave beta out"
    return None


def _steps(rule: Rule) -> bool:
    plain = rule.terms.write == "scalar" and not rule.terms.substeps
    return plain and rule.terms.decay == "scalar" and gates.steps(rule)


def _unreachable(config: FastWeightMemoryConfig, rule: Rule) -> tuple[str, str] | None:
    if not config.negative_eigenvalues:
        return None
    terms = rule.terms
    if terms.erase != "key" or terms.solve != "explicit" or terms.transposed:
        return "negative_eigenvalues", "give a rule that erases by beta itself, such as 'delta'"
    if config.beta != "sigmoid" or config.normalise != "l2":
        return "negative_eigenvalues", "give beta='sigmoid' and normalise='l2': unit keys"
    return None


_REFUSALS: tuple[Refusal, ...] = (
    _signed_rates,
    _mapped_twice,
    _divided_twice,
    _stepless,
    _unreachable,
)


class FastWeightMemory(nn.Module):
    """A layer that programs fast weights and reads them, by any rule of `fwbio.RULES`.

        q, k = norm(phi(silu(conv(Q x)))), norm(phi(silu(conv(K x))));  v = silu(conv(V x))
        W <- rule(W, k, v, gates(x));   y = O (rms(W^T q / n) * silu(G x))

    Each gate is a function of x as the rule's publication has it; where it is silent, as noted:

    - log_decay: mamba2, gated_delta, comba, delta_product -softplus(A x + b) exp(a), a for each
      head; kda, and after it gated_delta_2, the same for each channel through a bottleneck; gla
      log sigmoid(B A x + b) / 16; mlstm and mesa log sigmoid(A x + b); rwkv7
      -exp(-1/2) sigmoid(B tanh(A x) + b); retnet log(1 - 2^-(5 + h)), not learned.
    - beta: as `FastWeightMemoryConfig` says; of each value channel in gated_delta_2. log_beta of
      mlstm A x + b.
    - erase of gated_delta_2: sigmoid(A x + b) of each key channel.
    - erase_key: of comba sigmoid(b) k for each head, and its queries are q - d k; of rwkv7 the
      direction k * xi, of norm 1; then erase_direction is a * that, a = sigmoid(A x + b) of each
      channel, and the key k * (1 + (a - 1) c).
    - ridge of mesa: .25 + softplus(b), at first 1, for each channel.
    - interval, theta_p and theta_d are left at their defaults.

    The value of a rule that predicts keys from values (oja) has norm 1, that of a rule of volleys
    a largest channel of 1, since it stands for the cells that fire. No write of unit keys then
    makes the memory diverge.

    Args:
        config: what it is made of.
        width: channels of its input and output.

    Raises:
        FwbioError: the width does not divide into the heads, where their widths are not given.

    Sources: those of `fwbio.RULES`, and the authors' public code for how gates start; the doubled
    beta Grazzi 2024, arXiv:2411.12537.
    """

    def __init__(self, config: FastWeightMemoryConfig, width: int) -> None:
        super().__init__()
        self.config, self.width, self.out_features = config, width, width
        self.rule = RULES[config.rule]
        self.key_width = divided(width, config.heads, config.key_width, where=_WHERE)
        self.value_width = divided(width, config.heads, config.value_width, where=_WHERE)
        self.writes = config.substeps if self.rule.terms.substeps else 1
        heads = config.heads
        self.sizes = (
            heads * self.key_width,
            self.writes * heads * self.key_width,
            self.writes * heads * self.value_width,
        )
        self.projection = nn.Linear(width, sum(self.sizes), bias=False)
        self.convolution = (
            _CausalConvolution(sum(self.sizes), config.convolution) if config.convolution else None
        )
        self.gates = nn.ModuleDict(self._gates())
        self.erasing = _erasing(self.rule, width, heads, self.feature_width)
        if config.output_norm:
            self.norm = nn.Parameter(torch.ones(self.value_width))
        if config.output_gate:
            self.output_gate = nn.Linear(width, heads * self.value_width, bias=False)
        self.output = nn.Linear(heads * self.value_width, width, bias=False)

    @property
    def feature_width(self) -> int:
        """Channels of a head's keys and queries as the memory sees them."""
        return features.width(self.config.feature, self.key_width, self.config.nu)

    def _gates(self) -> dict[str, nn.Module]:
        """The modules of the streams that the input alone decides."""
        config, terms = self.config, self.rule.terms
        heads, keys, values = config.heads, self.feature_width, self.value_width
        found: dict[str, nn.Module] = {}
        if terms.decay != "none":
            found["log_decay"] = gates.decay(self.rule, self.width, heads, keys, values)
        if terms.write == "exponential":
            found["log_beta"] = gates.log_strength(self.width, heads)
        elif config.beta != "step" and (config.beta != "one" or self.rule.needs("beta")):
            channels = (values,) if terms.write == "channel" else ()
            found["beta"] = gates.strength(
                str(config.beta),
                self.width,
                (self.writes * heads, *channels),
                doubled=config.negative_eigenvalues,
            )
        if terms.erase == "gate":
            found["erase"] = gates.strength("sigmoid", self.width, (heads, keys))
        if terms.readout == "ridge":
            found["ridge"] = gates.ridge(heads, keys)
        return found

    def streams(self, x: Tensor) -> dict[str, Tensor]:
        """The keyword arguments of `fwbio.kernels.scan` that an input gives.

        Args:
            x: [B, T, width].

        Returns:
            q [B, T, H, K], k [B, T n, H, K] and v [B, T n, H, V], K features and n writes a step,
            V one more where `attention_normalised`, and the rule's gates.

        Raises:
            FwbioError: x has another width.
        """
        if x.ndim != 3 or x.shape[-1] != self.width:
            raise FwbioError(
                f"shape {tuple(x.shape)} does not fit",
                where="FastWeightMemory",
                mend=f"give [batch, time, {self.width}]",
            )
        projected = self.projection(x)
        if self.convolution is not None:
            projected = silu(self.convolution(projected))
        q, k, v = (
            part.unflatten(-1, (-1, self.config.heads, size)).flatten(1, 2)
            for part, size in zip(
                projected.split(self.sizes, -1),
                (self.key_width, self.key_width, self.value_width),
                strict=True,
            )
        )
        q, k = self._features(q), self._features(k)
        if self.config.feature == "identity" and self.config.normalise == "none" and _plain(self):
            q = q * self.key_width**-0.5
        if self.rule.terms.transposed:
            v = normalised(v, "l2")
        if self.rule.terms.plasticity in VOLLEYS:
            v = normalised(v, "max")
        if self.config.attention_normalised:
            v = torch.cat([v, torch.ones_like(v[..., :1])], -1)
        found = {"q": q, "k": k, "v": v}
        for name, gate in self.gates.items():
            emitted = gate(x)
            if name == "beta" and self.writes > 1:
                emitted = emitted.unflatten(2, (self.writes, -1)).flatten(1, 2)
            found[name] = emitted
        if self.config.beta == "step":
            decay = self.gates["log_decay"]
            assert isinstance(decay, gates.StepGate)
            found["beta"] = decay.steps(x)
        return found if self.erasing is None else self.erasing(x, found)

    def _features(self, x: Tensor) -> Tensor:
        mapped = feature_map(self.config.feature, x, nu=self.config.nu)
        return normalised(mapped, str(self.config.normalise))

    def forward(self, x: Tensor, run: "Runner | None" = None) -> Tensor:
        """What the memory makes of a sequence, causally.

        Args:
            x: [B, T, width].
            run: maps this memory and its streams to the read-outs [B, T, H, V] (V one more where
                `attention_normalised`); `fwbio.kernels.scan` unless given.

        Returns:
            [B, T, width].

        Raises:
            FwbioError: x has another width.
        """
        streams: dict[str, Any] = self.streams(x)
        y = scan(self.rule, **streams)[0] if run is None else run(self, streams)
        if self.config.attention_normalised:
            y = y[..., :-1] / y[..., -1:].clamp_min(SMALLEST_NORMALISER)
        if self.config.output_norm:
            y = rms_norm(y, (self.value_width,), self.norm.to(y.dtype), NORM_EPSILON)
        if self.config.output_gate:
            y = y * silu(self.output_gate(x)).unflatten(-1, y.shape[-2:])
        return self.output(y.flatten(-2))


Runner = Callable[[FastWeightMemory, dict[str, Tensor]], Tensor]


def _plain(memory: FastWeightMemory) -> bool:
    return memory.rule.terms.feature == "identity" and memory.rule.terms.erase != "direction"


class _CausalConvolution(nn.Module):
    """y_t = sum_i w_i * x_{t - i} for each channel, over its last few steps."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.past = kernel - 1
        self.depthwise = nn.Conv1d(channels, channels, kernel, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        # an image one pixel wide, channels last: no copies, and on CPUs three times as fast
        image = pad(x, (0, 0, self.past, 0))[:, :, None].permute(0, 3, 1, 2)
        weight = self.depthwise.weight[..., None]
        return conv2d(image, weight, groups=weight.shape[0]).squeeze(3).transpose(1, 2)


class _ScaledErasure(nn.Module):
    """Comba's: p = sigmoid(b) k, and q - d p in place of q."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.drive = nn.Parameter(torch.ones(heads, 1))
        self.correction = nn.Parameter(torch.full((heads, 1), INITIAL_CORRECTION))

    def forward(self, x: Tensor, streams: dict[str, Tensor]) -> dict[str, Tensor]:
        q, k = streams["q"], streams["k"]
        read = torch.sigmoid(self.drive) * k
        q = q - self.correction * read
        return streams | {"q": q.to(k.dtype), "erase_key": read.to(k.dtype)}


class _DirectedErasure(nn.Module):
    """RWKV-7's: a direction of norm 1 that is read whole and taken off by a share a a channel."""

    def __init__(self, width: int, heads: int, keys: int) -> None:
        super().__init__()
        self.rate = gates.Gate(width, (heads, keys), torch.sigmoid)
        self.direction = nn.Parameter(torch.ones(heads, keys))
        self.replacement = nn.Parameter(torch.ones(heads, keys))

    def forward(self, x: Tensor, streams: dict[str, Tensor]) -> dict[str, Tensor]:
        k = streams["k"]
        wide = k.to(state_dtype(k.dtype))
        rate = self.rate(x)
        direction = normalised(wide * self.direction, "l2")
        key = wide * (1 + (rate - 1) * self.replacement)
        return streams | {
            "k": key.to(k.dtype),
            "erase_key": direction.to(k.dtype),
            "erase_direction": (rate * direction).to(k.dtype),
        }


def _erasing(rule: Rule, width: int, heads: int, keys: int) -> nn.Module | None:
    """What makes erase keys of keys, for rules whose erase keys are not the keys."""
    if rule.terms.erase == "erase_key":
        return _ScaledErasure(heads)
    if rule.terms.erase == "direction":
        return _DirectedErasure(width, heads, keys)
    return None
