"""Capacity: recall against the number of pairs, the cues' noise, or the keys' likeness or share.

`signal`, `noise_power`, `residual` and `bit_error` measure one record; `capacity` sweeps one axis
by rule, substrate and programmer, and `crossing` says where a curve falls below a level.
"""

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import xarray as xr
from tqdm import tqdm

from fwbio.analyses import recall
from fwbio.analyses.capacity_config import AXES, Sweep
from fwbio.analyses.recall import Estimate, estimate
from fwbio.analyses.substrates import SYNAPTIC, execute, unsupported
from fwbio.errors import FwbioError
from fwbio.record import versions
from fwbio.rules import RULES

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
    if record.sizes["post"] < 2:
        raise FwbioError(
            "one channel has nothing across the target", where="record", mend="give two or more"
        )
    return _mean(noise_share, record)


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


MEASURES: Mapping[str, tuple[Callable[[xr.Dataset], Estimate], str]] = MappingProxyType(
    {
        "recall_accuracy": (recall.recall_accuracy, "cues whose nearest stored value is right"),
        "recall_cosine": (recall.recall_cosine, "cosine of the read-out with its target"),
        "signal": (signal, "projection of the read-out on its target"),
        "noise_power": (noise_power, "power of the read-out across its target"),
        "residual": (residual, "squared error of the read-out"),
        "bit_error": (bit_error, "channels of the wrong sign"),
    }
)


def capacity(
    task: str = "random_pairs",
    *,
    axis: str = "pairs",
    values: Sequence[float] = (4, 8, 16, 32, 64),
    rules: Iterable[str] = ("hebb", "delta"),
    substrates: Iterable[str] = ("reference",),
    programmers: Iterable[str] = ("designed",),
    pairs: int = 16,
    noise: float = 0.0,
    trials: int = 64,
    trials_on: Mapping[str, int] | None = None,
    seed: int = 0,
    sizes: Mapping[str, Any] | None = None,
    code: Mapping[str, Any] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    training: Mapping[str, Any] | None = None,
    checkpoints: str | Path | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Measure recall along one axis, by programmer, substrate and rule.

    Args:
        task: a name of `fwbio.tasks.PAIR_TASKS`.
        axis: "pairs"; "noise", of the cues; "similarity" or "active" of the keys, which makes them
            correlated or sparse.
        values: where along the axis, increasing.
        rules: names of `fwbio.RULES`.
        substrates: of "reference", "kernel", "flow", "rate" and "spiking".
        programmers: "direct", items as keys as they are; "designed", items coded for cells that
            fire; "trained", a slow net of each rule, trained once and used at all points.
        pairs: pairs to bind in each trial, unless swept.
        noise: on the cues, in the task's unit, unless swept.
        trials: independent trials.
        trials_on: fewer of them, the first ones, by substrate.
        seed: of the episodes, of training and of the synapses' noise.
        sizes: the task's other sizes by name; values="sign" has bits to be wrong.
        code: further arguments of `fwbio.models.designed`, of both hand-made codes.
        options: further arguments of each substrate's `execute`, by substrate.
        training: fields of the trained programmer's `TrainingConfig`.
        checkpoints: folder for the trained programmers; not kept unless given.
        progress: whether to show a bar, on standard error.

    Returns:
        `MEASURES` by (programmer, substrate, rule, axis), each with its standard error over trials
        in `<name>_se`, all dimensionless and NaN where nothing was run; `chance_level` by axis;
        `trials` by substrate. `bit_error` is there where values are signs. The attrs are `config`,
        `command`, `versions` and `ledger`: what was not run, and why.

    Raises:
        FwbioError: an unknown name or a number out of range; a program that a substrate refuses
            with the options given.
    """
    sweep = Sweep(
        task=task,
        axis=axis,
        values=tuple(values),
        rules=tuple(rules),
        substrates=tuple(substrates),
        programmers=tuple(programmers),
        pairs=pairs,
        noise=noise,
        trials=trials,
        trials_on=dict(trials_on or {}),
        seed=seed,
        sizes=dict(sizes or {}),
        code=dict(code or {}),
    )
    episodes = {value: sweep.episode(value) for value in sweep.values}
    measures = {n: m for n, (m, _) in MEASURES.items() if n != "bit_error" or sweep.signs}
    shape = (
        len(sweep.programmers),
        len(sweep.substrates),
        len(sweep.rules),
        len(sweep.values),
    )
    found = {n + end: np.full(shape, np.nan) for n in measures for end in ("", "_se")}
    chance = np.full(shape[-1], np.nan)
    ledger: list[dict[str, Any]] = []
    bar = tqdm(total=int(np.prod(shape)), unit="run", disable=not progress)
    with bar, ExitStack() as stack:
        folder = checkpoints or stack.enter_context(tempfile.TemporaryDirectory())
        for p, programmer in enumerate(sweep.programmers):
            for r, rule in enumerate(sweep.rules):
                bar.set_postfix_str(f"{programmer} {rule}")
                coder = _coder(sweep, programmer, rule, dict(training or {}), Path(folder))
                for v, (value, episode) in enumerate(episodes.items()):
                    program = coder(episode)
                    chance[v] = recall.chance_level(program)
                    for s, substrate in enumerate(sweep.substrates):
                        bar.set_postfix_str(f"{programmer} {rule} on {substrate}, {axis} {value:g}")
                        record, reason = _attempt(program, rule, substrate, sweep, options or {})
                        bar.update()
                        if record is None:
                            case = {"programmer": programmer, "substrate": substrate, "rule": rule}
                            ledger.append({**case, axis: value, "reason": reason})
                            continue
                        for name, measure in measures.items():
                            point = measure(record)
                            found[name][p, s, r, v] = point.value
                            found[f"{name}_se"][p, s, r, v] = point.standard_error
    return _dataset(sweep, found, chance, ledger)


def crossing(
    axis: np.ndarray, curve: np.ndarray, error: np.ndarray, level: float
) -> tuple[float, float]:
    """Where a curve first falls below a level, by straight lines between its points.

        x = x0 + (x1 - x0) f,   f = (y0 - level) / (y0 - y1)
        se^2 = (x1 - x0)^2 ((1 - f)^2 se0^2 + f^2 se1^2) / (y0 - y1)^2

    Args:
        axis: x (n,), increasing.
        curve: y (n,).
        error: standard errors of y (n,), taken as independent. Along noise, likeness and sparseness
            points may share their episodes and err together: the true one is then up to 1.4 times
            as large.
        level: in the curve's unit.

    Returns:
        The place and its standard error; NaN for both where the curve stays above the level, or
        starts below it.
    """
    below = np.flatnonzero(curve < level)
    if not below.size or below[0] == 0 or not curve[below[0] - 1] >= level:
        return float("nan"), float("nan")
    one, other = below[0] - 1, below[0]
    fall, width = curve[one] - curve[other], axis[other] - axis[one]
    share = (curve[one] - level) / fall
    spread = np.hypot((1 - share) * error[one], share * error[other])
    return float(axis[one] + width * share), float(width * spread / fall)


def crossings(measured: xr.Dataset, level: float = 0.5, of: str = "recall_accuracy") -> xr.Dataset:
    """The capacity of every run: where along the axis a measure falls below a level.

    Args:
        measured: as `capacity` makes it.
        level: of the measure.
        of: a name of `MEASURES` that falls along the axis.

    Returns:
        `capacity` and `capacity_se` by (programmer, substrate, rule), in the axis's unit.

    Raises:
        FwbioError: there is no such measure in it.
    """
    if of not in measured:
        raise FwbioError(
            f"there is no {of!r}", where="measured", mend=f"choose from {', '.join(MEASURES)}"
        )
    axis = str(measured.attrs["config"]["axis"])
    at, spread = xr.apply_ufunc(
        crossing,
        measured[axis],
        measured[of],
        measured[f"{of}_se"],
        kwargs={"level": level},
        input_core_dims=[[axis]] * 3,
        output_core_dims=[[], []],
        vectorize=True,
    )
    units = measured[axis].attrs["units"]
    name = f"{axis} at which {of} falls below {level:g}"
    return xr.Dataset(
        {
            "capacity": at.assign_attrs(units=units, long_name=name),
            "capacity_se": spread.assign_attrs(units=units, long_name=f"standard error of {name}"),
        }
    )


def _mean(measure: Callable[[np.ndarray, np.ndarray], np.ndarray], record: xr.Dataset) -> Estimate:
    return estimate(recall.measured(measure, record), recall.require_scored(record))


def _coder(
    sweep: Sweep, programmer: str, rule: str, training: Mapping[str, Any], folder: Path
) -> Callable[[xr.Dataset], xr.Dataset]:
    """What turns the episodes of a sweep into programs of a rule."""
    if programmer == "trained":
        from fwbio.models.train import TrainingConfig, train

        base = {"pairs": sweep.pairs, "noise": sweep.noise, "seed": sweep.seed}
        net = train(
            TrainingConfig(rule=rule, task=sweep.task, **{**base, **training}),
            folder,
            progress=False,
        )
        return lambda episode: net(episode, rule)
    from fwbio.models.programmer import designed

    code = sweep.coding(programmer) | dict(sweep.code)
    return lambda episode: designed(episode, rule, **code)


def _attempt(
    program: xr.Dataset,
    rule: str,
    substrate: str,
    sweep: Sweep,
    options: Mapping[str, Mapping[str, Any]],
) -> tuple[xr.Dataset | None, str | None]:
    """The record of a run, or the reason why there is none."""
    if reason := unsupported(RULES[rule], substrate):
        return None, reason
    first = program.isel(trial=slice(sweep.trials_on.get(substrate)))
    own = options.get(substrate)
    try:
        return execute(first, substrate, seed=sweep.seed, options=own), None
    except FwbioError as error:
        if own or substrate not in SYNAPTIC:
            raise
        return None, f"{error.what}; {error.mend}"


def _dataset(
    sweep: Sweep,
    found: Mapping[str, np.ndarray],
    chance: np.ndarray,
    ledger: list[dict[str, Any]],
) -> xr.Dataset:
    dims = ("programmer", "substrate", "rule", sweep.axis)
    units, long_name = AXES[sweep.axis]
    names: dict[str, tuple] = {}
    for name, values in found.items():
        plain = name.removesuffix("_se")
        what = MEASURES[plain][1]
        what = what if name == plain else f"standard error over trials: {what}"
        names[name] = (dims, values, {"units": "1", "long_name": what})
    names["chance_level"] = (
        sweep.axis,
        chance,
        {"units": "1", "long_name": "accuracy of guessing"},
    )
    trials = [sweep.trials_on.get(s, sweep.trials) for s in sweep.substrates]
    names["trials"] = ("substrate", trials, {"units": "1", "long_name": "independent trials"})
    words = {
        d: (d, list(getattr(sweep, f"{d}s")), {"units": "1", "long_name": d}) for d in dims[:3]
    }
    axis = (sweep.axis, np.array(sweep.values), {"units": units, "long_name": long_name})
    return xr.Dataset(
        names,
        coords=words | {sweep.axis: axis},
        attrs={
            "config": asdict(sweep),
            "command": sweep.command(),
            "versions": versions(),
            "ledger": ledger,
        },
    )
