"""The file of a trained programmer: plain data and tensors, nothing that runs."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from fwbio.models.networks.checkpoints import fitting_together, read_format, write_plain
from fwbio.models.slow_net import FORMAT, SlowNet, TrainedProgrammer, TrainingConfig
from fwbio.record import versions


def save(
    path: Path, config: TrainingConfig, state: Mapping[str, Tensor], history: list[dict[str, float]]
) -> None:
    """Write a trained slow net as plain data and tensors, for `load` to read."""
    content = {
        "format": FORMAT,
        "config": asdict(config),
        "versions": versions(),
        "history": history,
        "state": dict(state),
    }
    write_plain(content, path)


def load(path: str | Path) -> TrainedProgrammer:
    """Read what `fwbio.models.train.train` wrote. Nothing in the file is executed.

    Raises:
        FwbioError: there is no such file, it is cut short, or it holds something else.
    """
    path = Path(path)
    content = read_format(path, FORMAT, holds="trained programmer")
    with fitting_together(path):
        config, state = TrainingConfig(**content["config"]), content["state"]
        with torch.random.fork_rng(devices=[]):
            net = SlowNet(config, state["item_baseline"], state["content_baseline"])
        net.load_state_dict(state)
        history = tuple(content["history"])
    net.requires_grad_(False).double().eval()
    return TrainedProgrammer(net=net, config=config, history=history, checkpoint=path.name)
