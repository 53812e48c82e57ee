"""What a training came to, in words: the figure, what it rests on, and what chance would give."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from fwbio.analyses.words import plural

if TYPE_CHECKING:
    from fwbio.models.networks.training import TrainedNetwork
    from fwbio.models.slow_net import TrainedProgrammer


@dataclass(frozen=True, kw_only=True)
class Constant:
    """What the best answer gives that is the same at every step.

    Args:
        answers: scored steps that it is measured on.
        loss: of the best constant output.
        accuracy: of the commonest class; NaN where targets are no classes.
    """

    answers: int
    loss: float
    accuracy: float


def best_constant(target: np.ndarray, loss: str) -> Constant:
    """What can be had without looking: the loss and the accuracy of the best constant output.

        cross_entropy: -sum_c p_c log p_c;   squared: 1/2 (1 - sum_c p_c^2) of classes,
        1/2 sum_o var(target_o) of outputs;   accuracy: max_c p_c

    Args:
        target: classes (answer,), or outputs (answer, output).
        loss: "cross_entropy" or "squared".
    """
    if target.ndim == 2:
        variance = float(np.var(target.astype(float), axis=0).sum())
        return Constant(answers=len(target), loss=variance / 2, accuracy=math.nan)
    share = np.unique(target, return_counts=True)[1] / len(target)
    best = -(share * np.log(share)).sum() if loss == "cross_entropy" else (1 - (share**2).sum()) / 2
    return Constant(answers=len(target), loss=float(best), accuracy=float(share.max()))


def network_result(network: "TrainedNetwork") -> list[str]:
    """What a network came to, line by line.

    Args:
        network: as `fwbio.models.networks.training.train` hands it back.
    """
    from fwbio.models.networks.batches import sequences
    from fwbio.models.networks.training import validation_episode

    episode = validation_episode(network.config)
    shown = sequences(episode)
    constant = best_constant(shown.target[shown.scored].numpy(), shown.loss)
    epochs = [row for row in network.history if "validation_loss" in row]
    best = min(epochs, key=lambda row: row["validation_loss"])
    when = f"after epoch {best['epoch']:g} of {len(epochs)}"
    return [
        f"{_figures(best, text=_is_text(episode))} {when}",
        f"on the {plural(len(shown), 'sequence')} of the validation, which chose that epoch, with"
        f" {plural(constant.answers, 'answer')}",
        _chance(constant, text=_is_text(episode)),
    ]


def programmer_result(programmer: "TrainedProgrammer") -> list[str]:
    """What a slow net on pairs came to, line by line.

    Args:
        programmer: as `fwbio.models.train.train` hands it back.
    """
    from fwbio.models.training_loop import training_episode

    config, epochs = programmer.config, programmer.history
    shown = [training_episode(config, n, validation=True) for n in range(config.validation)]
    best = min(range(len(epochs)), key=lambda epoch: epochs[epoch]["validation_loss"])
    cues = sum(int(_every(x).sum()) for x in shown)
    chance = sum(float((_every(x) / _choices(x)).sum()) for x in shown) / cues
    episodes = config.validation * config.batch
    return [
        f"validation recall {epochs[best]['validation_accuracy']:.4g},"
        f" loss {epochs[best]['validation_loss']:.4g} after epoch {best + 1} of {len(epochs)}",
        f"on the {plural(episodes, 'episode')} of the validation, which chose that epoch, with"
        f" {plural(cues, 'cue')}",
        f"chance: recall {chance:.4g}, of one stored value as likely as another",
    ]


def _every(episode: xr.Dataset) -> np.ndarray:
    """Whether a step is scored, of each trial (trial, step)."""
    return np.broadcast_to(episode.scored.values, (episode.sizes["trial"], episode.sizes["step"]))


def _choices(episode: xr.Dataset) -> np.ndarray:
    """Stored values among which a read-out has to be nearest to the right one (trial, 1)."""
    return np.atleast_2d(episode.stored.values).sum(-1, keepdims=True)


def _is_text(episode: xr.Dataset) -> bool:
    return "corpus_bytes" in episode.attrs


def _figures(row: Mapping[str, float], *, text: bool) -> str:
    told = [f"{row['validation_loss'] / math.log(2):.4g} bits per byte"] if text else []
    told.append(f"loss {row['validation_loss']:.4g}")
    if "validation_accuracy" in row:
        told.append(f"accuracy {row['validation_accuracy']:.4g}")
    return f"validation {', '.join(told)}"


def _chance(constant: Constant, *, text: bool) -> str:
    told = [f"{constant.loss / math.log(2):.4g} bits per byte"] if text else []
    told.append(f"loss {constant.loss:.4g}")
    if not math.isnan(constant.accuracy):
        told.append(f"accuracy {constant.accuracy:.4g}")
    return f"chance: {', '.join(told)}, of the best answer that is the same everywhere"
