"""A trained network on every substrate: what is lost when its fast weights become synapses."""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr
from tqdm import tqdm

from fwbio import reference
from fwbio.analyses import agreement
from fwbio.analyses.arguments import called, named, require_names, require_whole
from fwbio.analyses.compare import compressed, tabled
from fwbio.analyses.substrates import SUBSTRATES, SYNAPTIC
from fwbio.errors import FwbioError
from fwbio.record import versions
from fwbio.tasks import TASKS

if TYPE_CHECKING:
    from fwbio.models.networks.recording import Execution
    from fwbio.models.networks.training import TrainedNetwork

KIND = "network"
WHOLE = "all"
OWN = "network"
COLUMNS = ("substrate", "layer", "rule", "task", "seed", "metric", "value")
METRICS: Mapping[str, str] = {
    "task_accuracy": "share of scored steps whose largest output is the target's",
    "task_accuracy_se": "its standard error over trials",
    "task_loss": "mean loss of the scored steps",
    "task_loss_se": "its standard error over trials",
    "network_accuracy": "the network's own accuracy on the same trials",
    "network_loss": "the network's own loss on the same trials",
    "accuracy_lost": "how much of the network's own accuracy is lost",
    "loss_added": "how much is added to the network's own loss",
    "output_agreement": "Pearson's r of the scored outputs with the network's own",
    "readout_agreement": "Pearson's r of a layer's read-outs with the reference's of the program"
    " that the layer had in this run",
    "weight_agreement": "cosine with the reference's final weights of that program",
    "relative_error": "norm of the read-outs' difference from that reference's, over their norm",
    "weight_relative_error": "the same of the final weights",
    "carried_agreement": "Pearson's r of a layer's read-outs with those that it has in the network"
    " itself, what layers before it lost included",
    "trials": "sequences that were run",
}


@dataclass(frozen=True, kw_only=True)
class NetworkComparison:
    """What to compare; the arguments of `compare_network` that change its numbers.

    Args:
        checkpoint: path of the network's file.
        task, rule: the network's.
        substrates: names of `fwbio.analyses.substrates.SUBSTRATES`.
        trials, synaptic_trials: sequences, and how many of them, the first ones, synapses run.
        seed: of the sequences and of the synapses' noise.
        sizes: the task's sizes, all but `trials`.
        options: further arguments of each substrate's `execute`, by substrate.

    Raises:
        FwbioError: an unknown, missing or repeated name, or a number out of range.
    """

    checkpoint: str
    task: str
    rule: str
    substrates: tuple[str, ...]
    trials: int
    synaptic_trials: int
    seed: int
    sizes: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_names("substrates", self.substrates, tuple(SUBSTRATES))
        require_names("options", tuple(self.options), tuple(SUBSTRATES), empty=True)
        for name in ("trials", "synaptic_trials"):
            require_whole(name, getattr(self, name), 1)
        require_whole("seed", self.seed, 0)

    def command(self) -> str:
        """What repeats it, every setting spelled out: in Python where there are options."""
        if self.options:
            given = asdict(self)
            arguments = {name: given[name] for name in given if name not in {"task", "rule"}}
            return called(f"{__name__}.compare_network", arguments)
        words = ["fwbio", "compare", "--checkpoint", self.checkpoint]
        words += ["--substrates", ",".join(self.substrates)]
        for name in ("trials", "synaptic_trials", "seed"):
            words += [f"--{name.replace('_', '-')}", str(getattr(self, name))]
        for name, value in self.sizes.items():
            words += ["--size", f"{name}={value}"]
        return shlex.join([*words, "--out", "DIR"])


def compare_network(
    checkpoint: str | Path,
    *,
    substrates: str | Iterable[str] = tuple(SUBSTRATES),
    trials: int = 64,
    synaptic_trials: int = 8,
    seed: int = 0,
    sizes: Mapping[str, Any] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    progress: bool = True,
) -> xr.DataTree:
    """Run a trained network on fresh sequences of its task, its fast weights on every substrate.

    Args:
        checkpoint: the file of a network that `fwbio.models.networks.training.train` wrote.
        substrates: of "reference", "kernel", "flow", "rate" and "spiking"; a string is one.
        trials: sequences; they are of the test split where the task has splits, and else new ones.
        synaptic_trials: how many of them, the first ones, flow, rate and spiking synapses run.
        seed: of the sequences and of the synapses' noise.
        sizes: the task's sizes in which they differ from those that the network was validated on.
        options: further arguments of each substrate's `execute`, by substrate.
        progress: whether to show a bar of the substrates, and of synapses one for each layer.

    Returns:
        A tree: `/<substrate>/layer_<number>` is a layer's record, dims (head, trial, ..),
        `/<substrate>/answers` the network's outputs there and what they are worth,
        `/network/answers` its own, `/episode` what was shown, `/summary` one row a metric with the
        variables of `COLUMNS`; `layer` is "all" where the metric is the network's. The root's
        attrs are `kind`, `config`, `command`, `versions` and `not_run`: each substrate that could
        not run the network, and why.

    Raises:
        FwbioError: a file that holds no network, one without fast weights, an unknown name or a
            number out of range; with `options`, also what a substrate refuses.
    """
    from fwbio.models.networks.recording import LAYER, execute, layers
    from fwbio.models.networks.training import load

    network = load(checkpoint)
    rule = next(iter(layers(network).values())).name
    config = NetworkComparison(
        checkpoint=str(checkpoint),
        task=network.config.task,
        rule=rule,
        substrates=named("substrates", substrates),
        trials=trials,
        synaptic_trials=synaptic_trials,
        seed=seed,
        sizes=_sizes(network, sizes or {}),
        options={name: dict(given) for name, given in (options or {}).items()},
    )
    told = {
        "config": asdict(config) | {"network": network.config.to_dict()},
        "command": config.command(),
    }
    episode = TASKS[config.task](seed, trials=trials, **config.sizes)
    own = execute(network, episode, "kernel")
    nodes = {f"/{OWN}/answers": own.answers}
    rows: list[dict[str, Any]] = []
    refused: list[dict[str, str]] = []
    ordered = [name for name in SUBSTRATES if name in config.substrates]
    bar = tqdm(ordered, unit="substrate", disable=not progress)
    for substrate in bar:
        bar.set_postfix_str(substrate)
        shown = episode
        if synaptic := substrate in SYNAPTIC:
            shown = episode.isel(trial=slice(synaptic_trials))
        further = dict(config.options.get(substrate, {}))
        try:
            done = execute(
                network, shown, substrate, seed=seed, progress=progress and synaptic, **further
            )
        except FwbioError as error:
            # with options it may as well be a mistake in those
            if further:
                raise
            at = f"{error.where.split(',')[0]}: " if error.where.startswith("layer") else ""
            refused.append({"substrate": substrate, "reason": f"{at}{error.what}; {error.mend}"})
            continue
        rows += [
            {"substrate": substrate, "rule": rule, "task": config.task, "seed": seed, **row}
            for row in _measured(done, own)
        ]
        nodes[f"/{substrate}/answers"] = done.answers
        for number, record in done.records.items():
            nodes[f"/{substrate}/{LAYER}{number}"] = record
    root = xr.Dataset(attrs={"kind": KIND, **told, "versions": versions(), "not_run": refused})
    table = tabled(pd.DataFrame(rows, columns=list(COLUMNS)))
    nodes = {"/": root, "/episode": episode, **nodes, "/summary": table}
    return xr.DataTree.from_dict({at: compressed(node) for at, node in nodes.items()})


def is_network(tree: xr.DataTree | xr.Dataset) -> bool:
    """Whether a tree is one of `compare_network`'s."""
    return isinstance(tree, xr.DataTree) and tree.attrs.get("kind") == KIND


def network_summary(tree: xr.DataTree) -> pd.DataFrame:
    """The table of metrics of a network's comparison, one row a metric, with `COLUMNS`.

    Raises:
        FwbioError: the tree is not one of `compare_network`'s.
    """
    if not is_network(tree):
        raise FwbioError(
            "not a comparison of a network",
            where="comparison",
            mend="give what `fwbio compare --checkpoint` wrote",
        )
    frame = tree["summary"].to_dataset().to_dataframe()[list(COLUMNS)].reset_index(drop=True)
    return frame.astype(dict.fromkeys(frame.select_dtypes(exclude="number"), str))


def _sizes(network: "TrainedNetwork", given: Mapping[str, Any]) -> dict[str, Any]:
    """The sizes of fresh sequences: those of validation, of the test split, but for those given."""
    if "trials" in given:
        raise FwbioError(
            "'trials' has an argument of its own", where="sizes", mend="give trials=..."
        )
    sizes = network.config.split_sizes[1]
    if "split" in {size.name for size in fields(TASKS[network.config.task].config)}:
        sizes |= {"split": "test"}
    return sizes | dict(given)


def _measured(done: "Execution", own: "Execution") -> list[dict[str, Any]]:
    """Layer, metric and value of a run, by the network's own and by the reference's of its layers.

    Args:
        done: the run, of the first trials of `own` or of all.
        own: the network itself.
    """
    trials = done.answers.sizes["trial"]
    same = own.answers.isel(trial=slice(trials))
    loss, correct = _by_trial(done.answers.loss), _by_trial(done.answers.correct)
    values: dict[str, float] = {
        "task_accuracy": done.accuracy,
        "task_accuracy_se": _standard_error(correct),
        "task_loss": done.loss,
        "task_loss_se": _standard_error(loss),
        "network_accuracy": float(same.correct.mean()),
        "network_loss": float(same.loss.mean()),
        "accuracy_lost": float(same.correct.mean()) - done.accuracy,
        "loss_added": done.loss - float(same.loss.mean()),
        "output_agreement": _correlation(
            *(x.output.values[done.answers.loss.notnull().values] for x in (done.answers, same))
        ),
        "trials": trials,
    }
    if not np.isfinite(done.accuracy):  # of targets that are no classes
        values = {name: x for name, x in values.items() if "accuracy" not in name}
    rows = [{"layer": WHOLE, "metric": name, "value": x} for name, x in values.items()]
    for number, record in done.records.items():
        ideal = reference.execute(record)
        itself = own.records[number].readout.isel(trial=slice(trials))
        layer = {
            "readout_agreement": agreement.readout_agreement(record, ideal),
            "weight_agreement": agreement.weight_agreement(record, ideal),
            "relative_error": agreement.relative_error(record, ideal),
            "weight_relative_error": agreement.relative_error(record, ideal, of="weights"),
            "carried_agreement": _correlation(
                record.readout.values, itself.transpose(*record.readout.dims).values
            ),
        }
        rows += [{"layer": str(number), "metric": name, "value": x} for name, x in layer.items()]
    return rows


def _by_trial(values: xr.DataArray) -> np.ndarray:
    """The mean over scored steps of each trial that has some."""
    means: np.ndarray = values.mean("step").values
    return means[np.isfinite(means)]


def _standard_error(values: np.ndarray) -> float:
    if len(values) < 2:
        return float("nan")
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's r of all numbers of two arrays; nan where one of them is constant."""
    a, b = (z.ravel().astype(np.float64) - z.mean(dtype=np.float64) for z in (x, y))
    norm = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / norm) if norm > 0 else float("nan")
