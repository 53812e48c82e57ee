"""What capacity is measured by: signal, noise, error and wrong signs of a record's read-outs."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

import numpy as np
import xarray as xr

from fwbio.analyses import recall
from fwbio.analyses.recall import Estimate, estimate
from fwbio.errors import FwbioError

NEARLY_ZERO = 1e-9


def noise_share(readout: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Power of a read-out's part across its target, for all channels, over that of the target.

        N = (|y|^2 / |t|^2 - s^2) V / (V - 1),   s = <y, t> / |t|^2

    The target's own direction holds 1/V of noise that is alike in all directions, and can't be
    told from the signal there; the factor makes up for it.

    Args:
        readout: y (.., V).
        target: t (.., V), V at least 2.
    """
    power = (target * target).sum(-1)
    power = np.where(power > 0, power, 1)
    across = (readout * readout).sum(-1) / power - recall.projection(readout, target) ** 2
    return np.maximum(across, 0) * target.shape[-1] / (target.shape[-1] - 1)


def residual_share(readout: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Squared error of a read-out, |y - t|^2 / |t|^2.

    Args:
        readout: y (.., V).
        target: t (.., V).
    """
    power = (target * target).sum(-1)
    return ((readout - target) ** 2).sum(-1) / np.where(power > 0, power, 1)


def wrong_signs(readout: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Share of channels whose sign is not the target's; a read-out of 0 counts as half.

    Args:
        readout: y (.., V).
        target: t (.., V); channels where it is 0 do not count.
    """
    scale = np.abs(readout).max(-1, keepdims=True)
    signs = np.where(np.abs(readout) > NEARLY_ZERO * scale, np.sign(readout), 0)
    shown = target != 0
    wrong = (1 - signs * np.sign(target)) / 2
    return np.where(shown, wrong, 0).sum(-1) / np.maximum(shown.sum(-1), 1)


def noise_of(record: xr.Dataset) -> xr.DataArray:
    """The noise power of every read-out, over that of its target (`noise_share`), (.., step).

    Raises:
        FwbioError: the record has no `target`, or one channel.
    """
    if record.sizes["post"] < 2:
        raise FwbioError(
            "one channel has nothing across the target", where="record", mend="give two or more"
        )
    return recall.measured(noise_share, record)


def signal(record: xr.Dataset) -> Estimate:
    """The mean projection of scored read-outs on their targets: 1 for exact recall.

    Args:
        record: with `target` and `scored`; dimensionless.

    Raises:
        FwbioError: the record lacks one of these, or no read-out is scored.
    """
    return _mean(recall.projection, record)


def noise_power(record: xr.Dataset) -> Estimate:
    """The mean noise power of scored read-outs, over that of their targets (`noise_share`).

    Args:
        record: with `target` and `scored`, two channels of a value or more; dimensionless.

    Raises:
        FwbioError: the record lacks one of these, has one channel, or no read-out is scored.
    """
    return estimate(noise_of(record), recall.require_scored(record))


def residual(record: xr.Dataset) -> Estimate:
    """The mean squared error of scored read-outs, over the power of their targets.

    Args:
        record: with `target` and `scored`; dimensionless.

    Raises:
        FwbioError: the record lacks one of these, or no read-out is scored.
    """
    return _mean(residual_share, record)


def bit_error(record: xr.Dataset) -> Estimate:
    """The share of channels of scored read-outs whose sign is not the target's.

    Args:
        record: with `target` and `scored`; dimensionless.

    Raises:
        FwbioError: the record lacks one of these, or no read-out is scored.
    """
    return _mean(wrong_signs, record)


MEASURES: Mapping[str, tuple[Callable[[xr.Dataset], xr.DataArray], str]] = MappingProxyType(
    {
        "recall_accuracy": (recall.recall_hits, "cues whose nearest stored value is right"),
        "recall_cosine": (
            partial(recall.measured, recall.cosine),
            "cosine of the read-out with its target",
        ),
        "signal": (
            partial(recall.measured, recall.projection),
            "projection of the read-out on its target",
        ),
        "noise_power": (noise_of, "power of the read-out across its target"),
        "residual": (partial(recall.measured, residual_share), "squared error of the read-out"),
        "bit_error": (partial(recall.measured, wrong_signs), "channels of the wrong sign"),
    }
)


def _mean(measure: Callable[[np.ndarray, np.ndarray], np.ndarray], record: xr.Dataset) -> Estimate:
    return estimate(recall.measured(measure, record), recall.require_scored(record))
