"""The comparison: one task, several rules and programmers, every substrate, one tree of records."""

import shlex
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr
from tqdm import tqdm

from fwbio.analyses import agreement, recall, streams
from fwbio.analyses.arguments import called, named, require_names, require_whole
from fwbio.analyses.substrates import SUBSTRATES, attempt, execute
from fwbio.errors import FwbioError, unknown_name
from fwbio.record import versions
from fwbio.rules import RULES
from fwbio.tasks import PAIR_TASKS

if TYPE_CHECKING:
    from fwbio.models.nmda_readout import NmdaReadout
    from fwbio.models.slow_net import TrainedProgrammer

PROGRAMMERS: Mapping[str, str] = {
    "designed": "items coded by hand",
    "trained": "a slow net trained by gradient descent",
    "synaptic": "the same slow net, its last layer run as NMDA synapses",
}
NETS = ("trained", "synaptic")
COLUMNS = (
    "programmer",
    "substrate",
    "rule",
    "task",
    "pairs",
    "noise",
    "seed",
    "metric",
    "value",
)
METRICS: Mapping[str, str] = {
    "recall_accuracy": "share of cues whose nearest stored value is the right one",
    "recall_accuracy_se": "its standard error over trials",
    "reference_accuracy": "the reference's recall accuracy on the same trials",
    "recall_cosine": "mean cosine of the read-out with its target",
    "readout_agreement": "Pearson's r with the reference's read-outs of the same program",
    "weight_agreement": "cosine with the reference's final weights",
    "relative_error": "norm of the read-outs' difference from the reference's, over their norm",
    "weight_relative_error": "the same of the final weights",
    "program_agreement": "Pearson's r of keys, values or queries, whichever is least, with the"
    " program that the slow net's own numbers would impose",
    "imposed_agreement": "Pearson's r of the read-outs with the reference's of that program",
    "chance_level": "accuracy of guessing",
    "trials": "independent trials that were run",
}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What to compare; the arguments of `compare` that change its numbers.

    Raises:
        FwbioError: an unknown, missing or repeated name, or a number out of range.
    """

    task: str = "digits"
    rules: tuple[str, ...] = ("hebb", "delta", "gated_delta")
    programmers: tuple[str, ...] = tuple(PROGRAMMERS)
    substrates: tuple[str, ...] = tuple(SUBSTRATES)
    pairs: int = 20
    noise: float = 0.3
    gap: int = 0
    trials: int = 64
    synaptic_trials: int = 8
    seed: int = 0
    sizes: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    synapses: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.task not in PAIR_TASKS:
            raise unknown_name(self.task, PAIR_TASKS, kind="task", where="task")
        known: dict[str, Iterable[str]]
        known = {"rules": RULES, "programmers": PROGRAMMERS, "substrates": SUBSTRATES}
        for name, table in known.items():
            require_names(name, getattr(self, name), tuple(table))
        require_names("options", tuple(self.options), tuple(SUBSTRATES), empty=True)
        require_whole("synaptic_trials", self.synaptic_trials, 1)
        require_whole("seed", self.seed, 0)
        for name in self.sizes:
            if name in {"trials", "pairs", "noise", "gap"}:
                raise FwbioError(
                    f"{name!r} has an argument of its own", where="sizes", mend=f"give {name}=..."
                )

    def episode(self) -> xr.Dataset:
        """The episode that every programmer codes.

        Raises:
            FwbioError: a size that the task lacks, or one out of its range.
        """
        return PAIR_TASKS[self.task](
            seed=self.seed,
            trials=self.trials,
            pairs=self.pairs,
            noise=self.noise,
            gap=self.gap,
            **self.sizes,
        )

    def command(self) -> str:
        """What repeats it, every setting spelled out: in the shell, or where it can't, in Python.

        The command has no words for options, training and synapses.
        """
        if self.options or self.training or self.synapses:
            return called(f"{__name__}.compare", asdict(self))
        words = ["fwbio", "compare", "--task", self.task]
        for name in ("rules", "programmers", "substrates"):
            words += [f"--{name}", ",".join(getattr(self, name))]
        for name in ("pairs", "noise", "gap", "trials", "synaptic_trials", "seed"):
            words += [f"--{name.replace('_', '-')}", str(getattr(self, name))]
        for name, value in self.sizes.items():
            words += ["--size", f"{name}={value}"]
        return shlex.join([*words, "--out", "DIR"])


def compare(
    task: str = "digits",
    *,
    rules: str | Iterable[str] = ("hebb", "delta", "gated_delta"),
    programmers: str | Iterable[str] = tuple(PROGRAMMERS),
    substrates: str | Iterable[str] = tuple(SUBSTRATES),
    pairs: int = 20,
    noise: float = 0.3,
    gap: int = 0,
    trials: int = 64,
    synaptic_trials: int = 8,
    seed: int = 0,
    sizes: Mapping[str, Any] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    training: Mapping[str, Any] | None = None,
    synapses: Mapping[str, Any] | None = None,
    checkpoints: str | Path | None = None,
    progress: bool = True,
) -> xr.DataTree:
    """Run the same programs on every substrate and measure them against the reference.

    Args:
        task: a name of `fwbio.tasks.PAIR_TASKS`.
        rules: names of `fwbio.RULES`; here and below, a string is one name.
        programmers: of "designed", "trained" and "synaptic".
        substrates: of "reference", "kernel", "flow", "rate" and "spiking"; the reference is run
            anyway, since the others are measured against it.
        pairs: pairs to bind in each trial.
        noise: on the cues, in the task's unit.
        gap: empty steps between the last pair and the first cue.
        trials: independent trials.
        synaptic_trials: how many of them, the first ones, the flow, rate and spiking substrates
            run and the synaptic programmer codes.
        seed: of the episode, of training and of the synapses' noise.
        sizes: the task's other sizes by name.
        options: further arguments of each substrate's `execute`, by substrate.
        training: further fields of the trained programmer's `TrainingConfig`.
        synapses: fields of the synaptic programmer's `fwbio.models.nmda_readout.NmdaReadout`.
        checkpoints: folder for the trained programmers; not kept unless given.
        progress: whether to show a bar of the runs; on a terminal, each long run shows its own.

    Returns:
        A tree: `/<programmer>/<substrate>/<rule>` is a record, `/episode` what was shown,
        `/summary` one row a metric with the variables of `COLUMNS`. The root's attrs are
        `config`, the settings of `Comparison`; `command`, what repeats it, in the shell or in
        Python; `versions`; and `ledger`: the runs that were not done, each with its programmer,
        substrate, rule and reason.

    Raises:
        FwbioError: an unknown name or a number out of range, before anything is run; a program
            that a substrate refuses with the options given.
    """
    config = Comparison(
        task=task,
        rules=named("rules", rules),
        programmers=named("programmers", programmers),
        substrates=named("substrates", substrates),
        pairs=pairs,
        noise=noise,
        gap=gap,
        trials=trials,
        synaptic_trials=synaptic_trials,
        seed=seed,
        sizes=dict(sizes or {}),
        options={name: dict(given) for name, given in (options or {}).items()},
        training=dict(training or {}),
        synapses=dict(synapses or {}),
    )
    told = {"config": asdict(config), "command": config.command()}
    episode = config.episode()
    if set(NETS) & set(config.programmers) and not config.sizes.keys().isdisjoint({"pre", "post"}):
        raise FwbioError(
            "slow nets are trained at the task's own pre and post",
            where="sizes",
            mend="leave these out, or ask for programmers designed",
        )
    readout = _readout(config.synapses) if "synaptic" in config.programmers else None
    ordered = [s for s in SUBSTRATES if s == "reference" or s in config.substrates]
    bar = tqdm(
        total=len(config.programmers) * len(ordered) * len(config.rules),
        unit="run",
        disable=not progress,
    )
    within = progress and sys.stderr.isatty()
    records: dict[str, xr.Dataset] = {}
    ledger: list[dict[str, str]] = []
    rows: list[dict[str, Any]] = []
    with bar, _folder(checkpoints) as folder:
        nets = _Nets(config=config, folder=folder, synapses=readout, progress=within)
        for programmer in config.programmers:
            for rule in config.rules:
                bar.set_postfix_str(f"{programmer} program of {rule}")
                program, imposed = _program(programmer, rule, episode, nets)
                for substrate in ordered:
                    bar.set_postfix_str(f"{programmer} {rule} on {substrate}")
                    record, reason = attempt(
                        program,
                        substrate,
                        trials=config.synaptic_trials,
                        seed=config.seed,
                        progress=within,
                        options=config.options.get(substrate),
                    )
                    bar.update()
                    case = {"programmer": programmer, "substrate": substrate, "rule": rule}
                    if record is None:
                        ledger.append({**case, "reason": str(reason)})
                        continue
                    records[f"/{programmer}/{substrate}/{rule}"] = record
                    if substrate == "reference":
                        reference = record
                        wanted = record if imposed is program else execute(imposed, "reference")
                    rows += _rows(record, reference, wanted, case, config)
    root = xr.Dataset(attrs={**told, "versions": versions(), "ledger": ledger})
    table = tabled(pd.DataFrame(rows, columns=list(COLUMNS)))
    nodes = {"/": root, "/episode": episode, **records, "/summary": table}
    return xr.DataTree.from_dict({at: compressed(node) for at, node in nodes.items()})


def summary(tree: xr.DataTree) -> pd.DataFrame:
    """The table of metrics of a comparison, one row a metric, with the columns `COLUMNS`.

    Raises:
        FwbioError: the tree is not a comparison.
    """
    require_comparison(tree, where="comparison")
    frame = tree["summary"].to_dataset().to_dataframe()[list(COLUMNS)].reset_index(drop=True)
    return frame.astype(dict.fromkeys(frame.select_dtypes(exclude="number"), str))


def require_comparison(tree: xr.DataTree | xr.Dataset, *, where: str) -> xr.DataTree:
    """The tree itself, once it is known to be a comparison.

    Raises:
        FwbioError: it isn't.
    """
    if (
        isinstance(tree, xr.DataTree)
        and {"summary", "episode"} <= set(tree.children)
        and {"config", "command", "versions", "ledger"} <= tree.attrs.keys()
    ):
        return tree
    raise FwbioError(
        "not a comparison: it has no summary and no episode",
        where=where,
        mend="give what `fwbio compare` wrote",
    )


@contextmanager
def _folder(given: str | Path | None) -> Iterator[Path]:
    if given is not None:
        yield Path(given)
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@dataclass(frozen=True, kw_only=True)
class _Nets:
    """Where slow nets come from: the folder that keeps them, their synapses."""

    config: Comparison
    folder: Path
    synapses: "NmdaReadout | None"
    progress: bool

    def trained(self, rule: str) -> "TrainedProgrammer":
        """The slow net of a rule, trained first where it has to be."""
        from fwbio.models.train import TrainingConfig, train

        names = ("task", "pairs", "noise", "gap", "seed")
        shared = {name: getattr(self.config, name) for name in names}
        wanted = TrainingConfig(rule=rule, **shared, **self.config.training)
        return train(wanted, self.folder, progress=self.progress)


def _readout(fields: Mapping[str, Any]) -> "NmdaReadout":
    """The synapses of the synaptic programmer; loads Brian2."""
    from fwbio.models.nmda_readout import NmdaReadout

    for name in fields:
        if name not in NmdaReadout.__dataclass_fields__:
            known = NmdaReadout.__dataclass_fields__
            raise unknown_name(name, known, kind="parameter", where="synapses")
    return NmdaReadout(**fields)


def _program(
    programmer: str, rule: str, episode: xr.Dataset, nets: _Nets
) -> tuple[xr.Dataset, xr.Dataset]:
    """The episode as a program, and as the one that the programmer's own numbers would impose."""
    if programmer == "designed":
        from fwbio.models.programmer import designed

        program = designed(episode, rule)
        return program, program
    trained = nets.trained(rule)
    if programmer == "trained":
        program = trained(episode, rule)
        return program, program
    from fwbio.models.synaptic_programmer import SynapticProgrammer

    assert nets.synapses is not None
    synaptic = SynapticProgrammer(trained=trained, model=nets.synapses, seed=nets.config.seed)
    first = episode.isel(trial=slice(nets.config.synaptic_trials))
    return synaptic(first, rule, progress=nets.progress), trained(first, rule)


def _rows(
    record: xr.Dataset,
    reference: xr.Dataset,
    wanted: xr.Dataset,
    case: Mapping[str, str],
    config: Comparison,
) -> list[dict[str, Any]]:
    """A run's metrics, by the reference's record of its program and of the imposed one."""
    accuracy = recall.recall_accuracy(record)
    values = {
        "recall_accuracy": accuracy.value,
        "recall_accuracy_se": accuracy.standard_error,
        "reference_accuracy": recall.recall_accuracy(agreement.align(reference, record)[0]).value,
        "recall_cosine": recall.recall_cosine(record).value,
        "readout_agreement": agreement.readout_agreement(record, reference),
        "weight_agreement": agreement.weight_agreement(record, reference),
        "relative_error": agreement.relative_error(record, reference),
        "weight_relative_error": agreement.relative_error(record, reference, of="weights"),
        "program_agreement": streams.program_agreement(record, wanted),
        "imposed_agreement": streams.imposed_agreement(record, wanted),
        "chance_level": recall.chance_level(record),
        "trials": record.sizes.get("trial", 1),
    }
    shared = {name: getattr(config, name) for name in ("task", "pairs", "noise", "seed")}
    return [{**case, **shared, "metric": metric, "value": x} for metric, x in values.items()]


def tabled(frame: pd.DataFrame) -> xr.Dataset:
    """The frame as a dataset: numbers as they are, words as objects that every store takes."""
    words = frame.select_dtypes(exclude="number").columns
    columns = {
        name: ("row", frame[name].to_numpy(dtype=object if name in words else None))
        for name in frame.columns
    }
    table = xr.Dataset(columns, coords={"row": np.arange(len(frame))})
    table["value"].attrs = {"units": "1", "long_name": "value of the metric"}
    return table


def compressed(node: xr.Dataset) -> xr.Dataset:
    """The node, its arrays of numbers to be stored deflated: programs are full of zeros."""
    node = node.copy()
    for array in node.data_vars.values():
        if array.ndim and array.dtype.kind in "fiu":
            array.encoding = {"zlib": True, "complevel": 4, "shuffle": True}
    return node
