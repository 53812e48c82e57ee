"""Training a programmer, or finding the one that was trained already."""

from pathlib import Path

from fwbio.errors import FwbioError
from fwbio.files import written_aside
from fwbio.models.checkpoint import load, save
from fwbio.models.networks.checkpoints import discard
from fwbio.models.slow_net import TrainedProgrammer, TrainingConfig

__all__ = ["TrainedProgrammer", "TrainingConfig", "checkpoint_path", "load", "train"]


def checkpoint_path(config: TrainingConfig, folder: str | Path) -> Path:
    """Where a programmer of this config is kept: FOLDER/RULE-HASH.pt."""
    return Path(folder) / f"{config.name}.pt"


def train(
    config: TrainingConfig, folder: str | Path, *, progress: bool = True
) -> TrainedProgrammer:
    """The trained programmer of a config, trained unless `folder` holds it already.

        minimise  -log softmax_j(s cos(y_t, v_j))[source_t] + r/2 |y_t - v_source_t|^2

    over the scored steps t, with read-outs y of `fwbio.kernels.scan`, stored values v, a learned
    sharpness s and the config's `regression` r. A read-out thus has to be nearest to the value
    asked for, which codes that fall together can't be.

    Training stops when the validation loss no longer falls; the weights of its minimum are kept.
    The state is written to RULE-HASH.ckpt after every epoch and every minute, beside the one before
    it: training that was stopped or killed goes on from there when it is asked for again, and ends
    bit for bit where it would have ended on the same machine. It runs on one core: its tensors are
    too small to share out.

    Args:
        config: what to train on and how.
        folder: where the checkpoint is looked for and kept; nothing is written elsewhere.
        progress: whether to show a progress bar, on standard error.

    Raises:
        FwbioError: a folder that can't be written, a checkpoint that is damaged or another
            config's, or a loss that became infinite.
    """
    path = checkpoint_path(config, folder)
    if path.exists():
        found = load(path)
        if found.config != config:
            raise FwbioError(
                "it holds a programmer of another config",
                where=str(path),
                mend="delete it and train anew",
            )
        return found
    from fwbio.models.training_loop import fit

    unfinished = path.with_suffix(".ckpt")
    with written_aside(path) as aside:
        state, history = fit(config, unfinished, progress=progress)
        save(aside, config, state, history)
    discard(unfinished)
    return load(path)
