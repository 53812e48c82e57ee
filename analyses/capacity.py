"""Capacity: recall against the number of pairs, the cues' noise, or the keys' likeness or share.

`capacity` sweeps one axis by rule, substrate and programmer. What is measured of each record stands
in `fwbio.analyses.capacity_measures`; where a curve falls below a level, says
`fwbio.analyses.capacity_curves`.
"""

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from tqdm import tqdm

from fwbio.analyses import recall
from fwbio.analyses.arguments import named
from fwbio.analyses.capacity_config import AXES, Sweep
from fwbio.analyses.capacity_curves import curve_of
from fwbio.analyses.capacity_measures import MEASURES
from fwbio.analyses.labels import attributes
from fwbio.analyses.substrates import attempt
from fwbio.record import versions

_COUNT = "count"


def capacity(
    task: str = "random_pairs",
    *,
    axis: str = "pairs",
    values: Sequence[float] = (4, 8, 16, 32, 64),
    rules: str | Iterable[str] = ("hebb", "delta"),
    substrates: str | Iterable[str] = ("reference",),
    programmers: str | Iterable[str] = ("designed",),
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
        rules: names of `fwbio.RULES`; here and below, a string is one name.
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
        in `<name>_se` and its covariance with that of the next point in `<name>_cov`, all
        dimensionless and NaN where nothing was run; `chance_level` by axis; `trials` by substrate.
        `bit_error` is there where values are signs. The attrs are `config`, `command`, `versions`
        and `ledger`: what was not run, and why.

    Raises:
        FwbioError: an unknown name or a number out of range; a program that a substrate refuses
            with the options given.
    """
    sweep = Sweep(
        task=task,
        axis=axis,
        values=tuple(values),
        rules=named("rules", rules),
        substrates=named("substrates", substrates),
        programmers=named("programmers", programmers),
        pairs=pairs,
        noise=noise,
        trials=trials,
        trials_on=dict(trials_on or {}),
        seed=seed,
        sizes=dict(sizes or {}),
        code=dict(code or {}),
        options=dict(options or {}),
        training=dict(training or {}),
    )
    episodes = {value: sweep.episode(value) for value in sweep.values}
    measures = {n: m for n, (m, _) in MEASURES.items() if n != "bit_error" or sweep.signs}
    shape = (
        len(sweep.programmers),
        len(sweep.substrates),
        len(sweep.rules),
        len(sweep.values),
    )
    sums = {name: np.full((*shape, sweep.trials), np.nan) for name in (*measures, _COUNT)}
    chance = np.full(shape[-1], np.nan)
    ledger: list[dict[str, Any]] = []
    bar = tqdm(total=int(np.prod(shape)), unit="run", disable=not progress)
    with bar, ExitStack() as stack:
        folder = checkpoints or stack.enter_context(tempfile.TemporaryDirectory())
        for p, programmer in enumerate(sweep.programmers):
            for r, rule in enumerate(sweep.rules):
                bar.set_postfix_str(f"{programmer} {rule}")
                coder = _coder(sweep, programmer, rule, Path(folder))
                for v, (value, episode) in enumerate(episodes.items()):
                    program = coder(episode)
                    chance[v] = recall.chance_level(program)
                    for s, substrate in enumerate(sweep.substrates):
                        bar.set_postfix_str(f"{programmer} {rule} on {substrate}, {axis} {value:g}")
                        trials = sweep.trials_on.get(substrate, sweep.trials)
                        record, reason = attempt(
                            program.isel(trial=slice(trials)),
                            substrate,
                            trials=trials,
                            seed=sweep.seed,
                            options=sweep.options.get(substrate),
                        )
                        bar.update()
                        if record is None:
                            case = {"programmer": programmer, "substrate": substrate, "rule": rule}
                            ledger.append({**case, axis: value, "reason": reason})
                            continue
                        for name, by_trial in _sums(record, measures).items():
                            sums[name][p, s, r, v, : by_trial.size] = by_trial
    count = sums.pop(_COUNT)
    found = {
        name: curve_of(total, count, together=sweep.same_episodes) for name, total in sums.items()
    }
    return _dataset(sweep, found, chance, ledger)


def _sums(
    record: xr.Dataset, measures: Mapping[str, Callable[[xr.Dataset], xr.DataArray]]
) -> dict[str, np.ndarray]:
    """Sums of measures over what is scored, and how much of that there is, (trial,) each."""
    scored = recall.require_scored(record)
    each = xr.Dataset({name: measure(record) for name, measure in measures.items()})
    sums = each.where(scored, 0).sum("step", skipna=False).assign({_COUNT: scored.sum("step")})
    return {str(name): x.broadcast_like(record.trial).values for name, x in sums.items()}


def _coder(
    sweep: Sweep, programmer: str, rule: str, folder: Path
) -> Callable[[xr.Dataset], xr.Dataset]:
    """What turns the episodes of a sweep into programs of a rule."""
    if programmer == "trained":
        from fwbio.models.train import TrainingConfig, train

        base = {"pairs": sweep.pairs, "noise": sweep.noise, "seed": sweep.seed}
        net = train(
            TrainingConfig(rule=rule, task=sweep.task, **{**base, **sweep.training}),
            folder,
            progress=False,
        )
        return lambda episode: net(episode, rule)
    from fwbio.models.programmer import designed

    code = sweep.coding(programmer) | dict(sweep.code)
    return lambda episode: designed(episode, rule, **code)


def _dataset(
    sweep: Sweep,
    found: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]],
    chance: np.ndarray,
    ledger: list[dict[str, Any]],
) -> xr.Dataset:
    dims = ("programmer", "substrate", "rule", sweep.axis)
    units, long_name = AXES[sweep.axis]
    names: dict[str, tuple] = {}
    for name, (mean, error, covariance) in found.items():
        what = MEASURES[name][1]
        names[name] = (dims, mean, attributes(what))
        names[f"{name}_se"] = (dims, error, attributes(f"standard error over trials: {what}"))
        together = f"covariance with the next point: {what}"
        names[f"{name}_cov"] = (dims, covariance, attributes(together))
    names["chance_level"] = (sweep.axis, chance, attributes("accuracy of guessing"))
    trials = [min(sweep.trials_on.get(s, sweep.trials), sweep.trials) for s in sweep.substrates]
    names["trials"] = ("substrate", trials, attributes("independent trials"))
    words = {d: (d, list(getattr(sweep, f"{d}s")), attributes(d)) for d in dims[:3]}
    axis = (sweep.axis, np.array(sweep.values), attributes(long_name, units))
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
