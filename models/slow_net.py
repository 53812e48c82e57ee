"""The trained programmer: a slow net that emits the streams of a rule from an episode's raw items.

`fwbio.models.train` trains it. Its keys are rates, so that synapses can carry what it programs.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
import xarray as xr
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, normalize, relu, softplus

from fwbio.errors import FwbioError, unknown_name
from fwbio.models.programmer import assemble, require_pairs
from fwbio.rule import DEFAULTS, VOLLEYS, Rule
from fwbio.rules import RULES, resolve
from fwbio.tasks import PAIR_TASKS

FORMAT = "fwbio trained programmer 1"
INITIAL_TIME_CONSTANT = 32.0
INITIAL_STRENGTH = 0.7
SILENT = 1e-3
SMALLEST_RIDGE = 0.25


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """What a trained programmer is trained on and how: equal configs give equal programmers.

    Args:
        rule: the rule it programs, by name.
        task: a task of `fwbio.tasks.PAIR_TASKS`; of one with splits, the training split trains and
            the validation split chooses.
        pairs: pairs of an episode; noise: of its cues, as the task defines it; gap: empty steps
            between them.
        keys: key channels K; values: value channels V.
        hidden: units of each of the two hidden layers.
        substeps: writes of a step, for rules with substeps.
        key_noise: standard deviation of the noise on each rate while training, relative to it.
        regression: weight of the read-out's squared error in the loss; 0 leaves the scale of the
            read-outs free, and a delta rule then writes so weakly that it hardly corrects.
        batch: episodes a gradient step; steps: gradient steps an epoch; epochs: at most so many.
        validation: batches of validation episodes after each epoch, the same every time.
        patience: epochs without a lower validation loss before training stops.
        learning_rate: peak step size of Adam, after a warm-up of one tenth of all steps and before
            a cosine descent to zero.
        seed: of the initial weights, the episodes and the noise.

    Raises:
        FwbioError: an unknown rule or task, or a number out of its range.
    """

    rule: str = "delta"
    task: str = "digits"
    pairs: int = 20
    noise: float = 0.3
    gap: int = 0
    keys: int = 128
    values: int = 64
    hidden: int = 256
    substeps: int = 2
    key_noise: float = 0.2
    regression: float = 0.3
    batch: int = 16
    steps: int = 25
    epochs: int = 16
    validation: int = 4
    patience: int = 4
    learning_rate: float = 3e-3
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "rule", resolve(self.rule).name)
        if self.task not in PAIR_TASKS:
            raise unknown_name(self.task, PAIR_TASKS, kind="task", where="TrainingConfig.task")
        for field in fields(self):
            if field.type is str:
                continue
            value = getattr(self, field.name)
            may_be_zero = field.name in {"noise", "gap", "key_noise", "regression", "seed"}
            kind = int if field.type is int else (int, float)
            sound = isinstance(value, kind) and not isinstance(value, bool)
            if not sound or not (0 if may_be_zero else 1e-12) <= value < math.inf:
                number = "a whole number" if field.type is int else "a number"
                raise FwbioError(
                    f"{field.name} = {value!r} is out of range",
                    where="TrainingConfig",
                    mend=f"give {number} {'from 0 up' if may_be_zero else 'above 0'}",
                )

    @property
    def name(self) -> str:
        """The rule and a short hash of every field: the stem of the checkpoint's file name."""
        text = json.dumps([FORMAT, asdict(self)], sort_keys=True)
        return f"{self.rule}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def inputs(episode: xr.Dataset, dtype: torch.dtype) -> dict[str, Tensor]:
    """What the slow net is shown: stimulus (the item, or the cue), content and the two masks.

    Args:
        episode: as a task of `fwbio.tasks.PAIR_TASKS` makes it.
        dtype: of stimulus and content (trial, step, feature); `writes` and `scored` (trial, step)
            are true or false.
    """
    scored = torch.tensor(episode.scored.values)
    return {
        "stimulus": torch.tensor(episode.item.values + episode.cue.values, dtype=dtype),
        "content": torch.tensor(episode.content.values, dtype=dtype),
        "writes": torch.tensor(episode.writes.values).expand_as(scored),
        "scored": scored,
    }


class SlowNet(nn.Module):
    """The net that emits every stream a rule declares.

        h = relu(A (x - x0));  g = relu(B (c - c0));  rate(a) = relu(a) / |relu(a)|
        key = query = rate(C h);  value = D g / |D g|;  gates from [h, g]

    with item or cue x and content c. Keys and queries come from the same weights; of n writes a
    step, the last is the pair's and the query's. Of a rule with a feature map phi, phi(key) is the
    rate, and the key its inverse. Rules of volleys have the largest rate and value at 1, the share
    of cells that fire, in place of the norm; intervals and thresholds are left at their defaults.

    Gates: log_decay = log sigmoid, beta and erase = sigmoid, erase_key and erase_direction = rate;
    beta of an implicit or exact step, which any strength leaves stable, is softplus. So no write
    erases more than all of a prediction, as no passive synapse can. log_beta is any number, ridge
    softplus and at least .25. A rule whose decay is a constant unless given learns one constant.

    Args:
        config: its sizes and the rule that it programs.
        item_baseline: x0, the mean training item (item_feature,).
        content_baseline: c0, the mean training content (content_feature,).
    """

    item_baseline: Tensor
    content_baseline: Tensor

    def __init__(
        self, config: TrainingConfig, item_baseline: Tensor, content_baseline: Tensor
    ) -> None:
        super().__init__()
        self.rule = RULES[config.rule]
        self.key_noise = config.key_noise
        writes = config.substeps if self.rule.terms.substeps else 1
        self.sizes = {"substep": writes, "pre": config.keys, "post": config.values}
        self.register_buffer("item_baseline", item_baseline.float())
        self.register_buffer("content_baseline", content_baseline.float())
        self.item_layer = nn.Linear(len(item_baseline), config.hidden)
        self.content_layer = nn.Linear(len(content_baseline), config.hidden)
        self.key_head = nn.Linear(config.hidden, writes * config.keys)
        self.value_head = nn.Linear(config.hidden, writes * config.values)
        self.gate_heads = nn.ModuleDict(
            {
                name: self._gate_head(name, 2 * config.hidden)
                for name in self.rule.streams
                if name not in DEFAULTS
            }
        )

    def forward(
        self,
        stimulus: Tensor,
        content: Tensor,
        writes: Tensor,
        scored: Tensor,
        *,
        noise: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """The streams of episodes, by name.

        Args:
            stimulus: the item or the cue of each step [B, T, items].
            content: the content bound to the item [B, T, contents].
            writes: whether the step presents a pair [B, T].
            scored: whether the step presents a cue [B, T].
            noise: where the noise of the rates comes from, for training.

        Returns:
            key [B, T, n, K], value [B, T, n, V], query [B, T, K], and each gate
            [B, T, ...its dims]; key, value and beta are 0 where nothing is written, the query
            where nothing is asked.
        """
        seen, taught = self.hidden(stimulus, content, writes, scored)
        return self.streams(self.drives(seen, taught), writes, scored, noise=noise)

    def hidden(
        self, stimulus: Tensor, content: Tensor, writes: Tensor, scored: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The activity h, of items and cues, and g, of contents, each [B, T, hidden], from 0 up."""
        contrast = (stimulus - self.item_baseline) * (writes | scored)[..., None]
        taught = (content - self.content_baseline) * writes[..., None]
        return relu(self.item_layer(contrast)), relu(self.content_layer(taught))

    def heads(self) -> dict[str, tuple[nn.Module, str]]:
        """The last layer: of each stream, its head and the hidden units it reads.

        These are "seen", "taught" or "both".
        """
        gates = {name: (head, "both") for name, head in self.gate_heads.items()}
        return {"key": (self.key_head, "seen"), "value": (self.value_head, "taught"), **gates}

    def drives(self, seen: Tensor, taught: Tensor) -> dict[str, Tensor]:
        """What the last layer makes of h and g, by stream, [B, T, units]; keys are queries too."""
        hidden = {"seen": seen, "taught": taught, "both": torch.cat([seen, taught], -1)}
        return {name: head(hidden[units]) for name, (head, units) in self.heads().items()}

    def streams(
        self,
        drives: Mapping[str, Tensor],
        writes: Tensor,
        scored: Tensor,
        *,
        noise: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """The streams that drives [.., B, T, units] give, as `forward` returns them."""
        shape = (self.sizes["substep"], -1)
        order = math.inf if self.rule.terms.plasticity in VOLLEYS else 2.0
        rates = _rates(drives["key"].unflatten(-1, shape), order)
        if noise is not None:
            factor = 1 + self.key_noise * torch.randn(rates.shape, generator=noise)
            rates = rates * factor.clamp_min(0)
        if self.rule.terms.feature == "elu_plus_one":
            rates = rates.clamp_min(SILENT).log()
        value = normalize(drives["value"].unflatten(-1, shape), order, dim=-1)
        streams = {
            "key": rates * writes[..., None, None],
            "value": value * writes[..., None, None],
            "query": rates[..., -1, :] * scored[..., None],
        }
        for name in self.gate_heads:
            dims = self.rule.streams[name].dims[1:]
            gate = self._squash(name)(drives[name])
            gate = gate.unflatten(-1, [self.sizes[d] for d in dims]) if dims else gate[..., 0]
            if name in {"beta", "erase_direction"}:
                gate = gate * writes.reshape(*writes.shape, *[1] * len(dims))
            streams[name] = gate
        return streams

    def _gate_head(self, name: str, features: int) -> nn.Module:
        width = math.prod(self.sizes[d] for d in self.rule.streams[name].dims[1:])
        if name == "log_decay" and self.rule.default_decay_offset is not None:
            return _Constant(math.log(math.expm1(self.rule.default_decay_offset * math.log(2))))
        head = nn.Linear(features, width)
        decay = math.exp(-1 / INITIAL_TIME_CONSTANT)
        starts = {
            "log_decay": math.log(decay / (1 - decay)),
            "beta": math.log(INITIAL_STRENGTH / (1 - INITIAL_STRENGTH)),
            "erase": math.log(INITIAL_STRENGTH / (1 - INITIAL_STRENGTH)),
            "log_beta": math.log(INITIAL_STRENGTH),
            "ridge": 0.0,
        }
        if name in starts:
            nn.init.zeros_(head.weight)
            nn.init.constant_(head.bias, starts[name])
        return head

    def _squash(self, name: str) -> Callable[[Tensor], Tensor]:
        if name == "beta" and self.rule.terms.solve != "explicit":
            return softplus
        return _SQUASH.get(name, torch.sigmoid)


class _Constant(nn.Module):
    """One learned number, whatever is shown."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.tensor([start]))

    def forward(self, features: Tensor) -> Tensor:
        return self.bias.expand(*features.shape[:-1], 1)


def _ridge(drive: Tensor) -> Tensor:
    return softplus(drive) + SMALLEST_RIDGE


def _rates(drive: Tensor, order: float = 2.0) -> Tensor:
    return normalize(relu(drive), order, dim=-1)


_SQUASH: Mapping[str, Callable[[Tensor], Tensor]] = {
    "log_decay": logsigmoid,
    "log_beta": nn.Identity(),
    "erase_key": _rates,
    "erase_direction": _rates,
    "ridge": _ridge,
}


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainedProgrammer:
    """A programmer whose slow net was trained for one rule.

    Args:
        net: the slow net, in float64.
        config: what it was trained on and how.
        history: of each epoch, its losses and its validation accuracy.
        checkpoint: the name of the file that holds it.
    """

    net: SlowNet
    config: TrainingConfig
    history: tuple[Mapping[str, float], ...]
    checkpoint: str

    def __call__(self, episode: xr.Dataset, rule: Rule | str) -> xr.Dataset:
        """The program that the slow net gives an episode.

        Args:
            episode: as a task of `fwbio.tasks.PAIR_TASKS` makes it, items and contents as wide as
                those it was trained on.
            rule: the rule it was trained for, or its name.

        Raises:
            FwbioError: another rule, or items or contents of another size.
        """
        shown = self.shown(episode, rule)
        with torch.no_grad():
            emitted = self.net(**shown)
        return lay_out(
            episode,
            self.net.rule,
            emitted,
            programmer="trained",
            config={"checkpoint": self.checkpoint, "training": asdict(self.config)},
        )

    def shown(self, episode: xr.Dataset, rule: Rule | str) -> dict[str, Tensor]:
        """What the slow net is shown of an episode, in float64; the arguments of its `forward`.

        Raises:
            FwbioError: another rule, no episode of pairs, or items or contents of another size.
        """
        rule = resolve(rule)
        if rule != self.net.rule:
            raise FwbioError(
                f"it was trained to program {self.config.rule!r}, not {rule.name!r}",
                where=f"trained programmer {self.checkpoint}",
                mend=f"train one for {rule.name!r}",
            )
        require_pairs(episode)
        for kind in ("item", "content"):
            trained = len(getattr(self.net, f"{kind}_baseline"))
            shown = episode.sizes[f"{kind}_feature"]
            if shown != trained:
                raise FwbioError(
                    f"{kind}s of {shown} features, where it was trained on {trained}",
                    where=f"trained programmer {self.checkpoint}",
                    mend=f"give episodes of the task {self.config.task!r}, or train one on these",
                )
        return inputs(episode, torch.float64)


def lay_out(
    episode: xr.Dataset,
    rule: Rule,
    emitted: Mapping[str, Tensor],
    *,
    programmer: str,
    config: Mapping[str, Any],
) -> xr.Dataset:
    """The streams that a slow net emitted, as a program.

    Args:
        episode: what the net was shown.
        rule: the rule it programs.
        emitted: as `SlowNet.forward` returns them.
        programmer: the name of what emitted them.
        config: its configuration.
    """
    streams = {name: stream.numpy() for name, stream in emitted.items()}
    if not rule.terms.substeps:
        streams |= {name: streams[name][..., 0, :] for name in ("key", "value")}
    return assemble(
        episode,
        rule,
        key=streams.pop("key"),
        value=streams.pop("value"),
        query=streams.pop("query"),
        gates=streams,
        programmer=programmer,
        config=config,
    )
