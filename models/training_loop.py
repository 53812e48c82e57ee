"""The training loop of the slow net: episodes in, the best weights out."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import xarray as xr
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from fwbio.kernels import scan
from fwbio.models.networks import fit as harness
from fwbio.models.networks.fit import Learner, Places, Plan, share_of_peak_rate
from fwbio.models.networks.seeds import seed_of
from fwbio.models.slow_net import SlowNet, TrainingConfig, inputs
from fwbio.rule import Rule
from fwbio.tasks import TASKS


def fit(
    config: TrainingConfig, unfinished: Path, *, progress: bool
) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    """Train from the beginning, or from the step that `unfinished` holds.

    Args:
        config: what to train on and how.
        unfinished: the file that keeps the state.
        progress: whether to show a progress bar.

    Returns:
        The weights of the lowest validation loss, and every epoch's losses.

    Raises:
        FwbioError: `unfinished` is damaged or another config's, or the loss became infinite.
        KeyboardInterrupt: it was stopped, by Ctrl-C or SIGTERM; it can be resumed.
    """
    learner = Training(config)
    state, rows = harness.fit(learner, learner.plan, unfinished, progress=progress)
    return state, [
        {name: x for name, x in row.items() if name not in {"epoch", "step"}} for row in rows
    ]


class Training(Learner):
    """The slow net with its loss and its episodes."""

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__(
            Plan(
                name=config.name,
                label=config.rule,
                steps=config.steps,
                epochs=config.epochs,
                patience=config.patience,
            )
        )
        self.config = config
        first = training_episode(config, 0)
        baselines = (torch.tensor(first[f"{x}_baseline"].values) for x in ("item", "content"))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.net = SlowNet(config, *baselines)
        self.log_sharpness = torch.nn.Parameter(torch.tensor(10.0).log())

    def training_batch(self, step: int) -> dict[str, Tensor]:
        """The training episodes of a step."""
        return self._batch(training_episode(self.config, step))

    def validation_batches(self) -> Places:
        """The validation episodes."""

        def batch(place: int) -> dict[str, Tensor]:
            return self._batch(training_episode(self.config, place, validation=True))

        return Places(batch, range(self.config.validation))

    def optimizer(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), lr=self.config.learning_rate)

    def rate(self, step: int) -> float:
        """Up in a tenth of all steps, and then down along a cosine."""
        total = self.config.steps * self.config.epochs
        return share_of_peak_rate(step, warm_up=0.1 * total, total=total, schedule="cosine")

    def weights(self) -> Mapping[str, Tensor]:
        """The slow net's."""
        return self.net.state_dict()

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        """The loss of a batch, its rates made noisy."""
        noise = torch.Generator().manual_seed(seed_of(self.config.seed, 2, self.global_step))
        return self.loss(batch, noise)[0]

    def validation_step(self, batch: dict[str, Tensor], index: int) -> None:
        """The loss and the recall accuracy of a batch, without noise."""
        loss, accuracy = self.loss(batch, None)
        self.log("validation_loss", loss, batch_size=self.config.batch)
        self.log("validation_accuracy", accuracy, batch_size=self.config.batch)

    def loss(
        self, batch: dict[str, Tensor], noise: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """The loss of a batch and its recall accuracy.

        Args:
            batch: as `training_batch` gives it.
            noise: where the noise of the rates comes from, or None for none.
        """
        shown = {name: batch[name] for name in ("stimulus", "content", "writes", "scored")}
        streams = self.net(**shown, noise=noise)
        value = streams["value"][..., -1, :]
        readout = read(self.net.rule, streams)
        scored, source = batch["scored"], batch["source"]
        guess = normalize(readout, dim=-1) @ value.transpose(1, 2) * self.log_sharpness.exp()
        guess = guess.masked_fill(~batch["stored"][:, None], -math.inf)[scored]
        target = value.take_along_dim(source.clamp_min(0)[..., None], 1)
        miss = (readout - target).square().sum(-1)[scored].mean() / 2
        source = source[scored]
        loss = cross_entropy(guess, source)
        accuracy = (guess.argmax(-1) == source).float().mean()
        return loss + self.config.regression * miss, accuracy

    def _batch(self, episode: xr.Dataset) -> dict[str, Tensor]:
        """What the loss takes of an episode."""
        batch = inputs(episode, torch.float32)
        for name in ("stored", "source"):
            batch[name] = torch.tensor(episode[name].values)
        return batch


def read(rule: Rule, streams: dict[str, Tensor]) -> Tensor:
    """The read-outs [B, T, V] of a rule on the streams that a slow net emits."""
    of_writes = {"key", "value"} | {x for x, s in rule.streams.items() if "substep" in s.dims}
    laid_out: dict[str, Any] = {
        name: (stream.flatten(1, 2) if name in of_writes else stream).unsqueeze(2)
        for name, stream in streams.items()
    }
    q, k, v = (laid_out.pop(name) for name in ("query", "key", "value"))
    return scan(rule, q, k, v, **laid_out)[0][:, :, 0]


def training_episode(config: TrainingConfig, place: int, *, validation: bool = False) -> xr.Dataset:
    """The batch of episodes at a place, of training images or of validation images."""
    task = TASKS[config.task]
    sizes: dict[str, Any] = {"pairs": config.pairs, "noise": config.noise, "gap": config.gap}
    if "split" in task.config.__dataclass_fields__:
        sizes["split"] = "validation" if validation else "train"
    return task(seed_of(config.seed, int(validation), place), trials=config.batch, **sizes)
