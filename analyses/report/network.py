"""The report of a trained network on every substrate, and the numbers that stand in it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from fwbio.analyses.compare_network import METRICS, OWN, WHOLE, network_summary
from fwbio.analyses.recall import Estimate
from fwbio.analyses.substrates import SUBSTRATES, SYNAPTIC
from fwbio.analyses.words import listed, number, plural
from fwbio.rules import RULES
from fwbio.tasks import TASKS

CONTENTS = (
    ("summary", "Summary"),
    ("layers", "Layers"),
    ("not-run", "What was not run"),
    ("figures", "Figures"),
    ("network", "The network"),
    ("rules", "Rule"),
    ("references", "References"),
    ("versions", "Versions"),
)


def differences(tree: xr.DataTree) -> dict[str, Estimate]:
    """What each substrate changes in a network's answers, on the same sequences.

        d = mean over scored steps of (x - x'), x' the network's own

    Args:
        tree: as `fwbio.analyses.compare_network` makes it. x is `correct`, 0 or 1, where targets
            are classes, and else `loss`.

    Returns:
        Substrate to d, dimensionless, with its standard error over trials.
    """
    name = metric_of(tree)
    own = _answers(tree, OWN, name)
    found = {}
    for substrate in SUBSTRATES:
        if substrate not in tree.children:
            continue
        here = _answers(tree, substrate, name)
        apart = here - own.isel(trial=slice(here.sizes["trial"]))
        found[substrate] = _estimate(apart.values)
    return found


def metric_of(tree: xr.DataTree) -> str:
    """What the task is judged by: "accuracy" where targets are classes, and else "loss"."""
    frame = network_summary(tree)
    return "accuracy" if (frame.metric == "task_accuracy").any() else "loss"


def chance_level(tree: xr.DataTree) -> float:
    """The accuracy of giving the commonest answer everywhere; NaN where targets are no classes."""
    from fwbio.models.networks.batches import sequences

    if metric_of(tree) != "accuracy":
        return float("nan")
    shown = sequences(tree["episode"].to_dataset())
    answers = shown.target[shown.scored].numpy()
    counts = np.unique(answers, return_counts=True)[1]
    return float(counts.max() / answers.size)


def what_was_run(tree: xr.DataTree) -> str:
    """What was run, in a sentence for captions."""
    config = tree.attrs["config"]
    sizes = ", ".join(f"{name} {value}" for name, value in config["sizes"].items())
    scored = int(tree["episode"].scored.sum())
    few = [s for s in SYNAPTIC if s in tree.children]
    first = f", of which {listed(few)} ran the first {config['synaptic_trials']}" if few else ""
    return (
        f"Task {config['task']}{f' ({sizes})' if sizes else ''}, seed {config['seed']}:"
        f" {plural(config['trials'], 'sequence')} with {plural(scored, 'scored step')}{first}."
    )


def words(tree: xr.DataTree) -> dict[str, Any]:
    """What network.html.j2 names, of a network's comparison.

    Args:
        tree: as `fwbio.analyses.compare_network` makes it.

    Raises:
        FwbioError: the tree is not a network's comparison.
    """
    frame = network_summary(tree)
    config, metric = tree.attrs["config"], metric_of(tree)
    here = frame[frame.layer == WHOLE].groupby("substrate", sort=False)
    values = {name: rows.set_index("metric")["value"] for name, rows in here}
    return {
        "contents": CONTENTS,
        "task": TASKS[config["task"]].summary,
        "run": what_was_run(tree),
        "metric": metric,
        "own": _shown(_estimate(_answers(tree, OWN, metric).values)),
        "chance": number(chance_level(tree)),
        "rows": [_row(name, values[name], metric, d) for name, d in differences(tree).items()],
        "layers": _layers(frame),
        "meanings": {name: METRICS[name] for name in METRICS if (frame.metric == name).any()},
        "not_run": tree.attrs["not_run"],
        "network": _settings(config["network"]),
        "rules": [RULES[config["rule"]]],
    }


_ANSWERS = {"accuracy": "correct", "loss": "loss"}
OF_LAYERS = (
    "readout_agreement",
    "weight_agreement",
    "relative_error",
    "weight_relative_error",
    "carried_agreement",
)


def _answers(tree: xr.DataTree, node: str, metric: str) -> xr.DataArray:
    """What each scored step's answer is worth, (trial, step), nan at the others."""
    return tree[f"{node}/answers"].to_dataset()[_ANSWERS[metric]]


def _row(name: str, values: pd.Series, metric: str, apart: Estimate) -> dict[str, str]:
    error = values[f"task_{metric}_se"]
    return {
        "substrate": name,
        "trials": f"{values['trials']:g}",
        "value": number(values[f"task_{metric}"]),
        "error": "" if np.isnan(error) else f"± {number(error)}",
        "own": number(values[f"network_{metric}"]),
        "difference": _shown(apart),
        "output": number(values["output_agreement"]),
    }


def _layers(frame: pd.DataFrame) -> list[dict[str, str]]:
    """One row a substrate and layer, every metric of layers as text."""
    mine = frame[frame.layer != WHOLE].groupby(["substrate", "layer"], sort=False)
    return [
        {"substrate": substrate, "layer": layer}
        | {row.metric: number(row.value) for row in rows.itertuples() if row.metric in OF_LAYERS}
        for (substrate, layer), rows in mine
    ]


def _settings(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as dotted names and text."""
    found: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found |= _settings(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = str(value)
    return found


def _estimate(values: np.ndarray) -> Estimate:
    """The mean of values (trial, step) that are finite where they count."""
    counted = np.isfinite(values)
    n = counted.sum(-1)
    total = np.where(counted, values, 0).sum(-1)
    mean = total.sum() / n.sum()
    error = float("nan")
    if n.size > 1:
        error = float(np.std(total - mean * n, ddof=1) / np.sqrt(n.size) / n.mean())
    return Estimate(value=float(mean), standard_error=error, count=int(n.sum()))


def _shown(estimate: Estimate) -> str:
    error = estimate.standard_error
    return number(estimate.value) + ("" if np.isnan(error) else f" ± {number(error)}")
