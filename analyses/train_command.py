"""`fwbio train`: a slow net on pairs, or a network on sequences."""

import os
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from fwbio import FwbioError
from fwbio.analyses import options
from fwbio.analyses.outputs import check_writable
from fwbio.errors import unknown_name
from fwbio.tasks import PAIR_TASKS, SEQUENCE_TASKS, TASKS

OF_PAIRS = ("pairs", "noise", "gap")
PROGRAMMERS = Path("results/programmers")
NETWORKS = Path("results/networks")
STEPS = 250
MODEL_OF_TASK = {"key_value": "key_value"}


@click.command("train")
@click.argument("task", default="digits")
@click.option("--rule", help="The rule to program or to learn with; delta, of sequences.")
@click.option("--model", help="Of sequences: a mixer, or key_value; memory unless given.")
@click.option("--width", type=int, help="Of sequences: channels of the model.")
@click.option("--layers", type=int, help="Of sequences: layers of the model.")
@click.option("--heads", type=int, help="Of sequences: heads of a layer.")
@click.option("--steps", type=int, help=f"Of sequences: gradient steps an epoch, {STEPS}.")
@click.option("--epochs", type=int, help="Of sequences: epochs at most.")
@click.option("--batch", type=int, help="Of sequences: sequences a step.")
@click.option("--learning-rate", type=float, help="Of sequences: peak step size.")
@click.option("--precision", help="Of sequences: float32 or bfloat16.")
@click.option("--devices", type=int, help="Of sequences: processes that share every batch.")
@options.assigned("--size", "sizes", "Of sequences: a size of the task; may be repeated.")
@options.assigned(
    "--set",
    "settings",
    "Of sequences: another field of the training, the model or its mixer, as training.NAME,"
    " model.NAME or mixer.NAME where they share the name; may be repeated.",
)
@click.option("--pairs", type=int, help="Of pairs: how many to bind.")
@click.option("--noise", type=float, help="Of pairs: noise on the cues.")
@click.option("--gap", type=int, help="Of pairs: empty steps before the first cue.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of everything.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help=f"Folder to write to, {PROGRAMMERS} or {NETWORKS} unless given.",
)
def train_command(task: str, out: Path | None, **given: Any) -> None:
    """Train a slow net or a network.

    Of a TASK that shows pairs, a slow net that programs one rule; of one that shows sequences, a
    network that predicts what is asked for. What OUT holds already is not trained again; training
    that was stopped goes on.

    \b
    Examples:
      fwbio train digits --rule delta --out results/programmers
      fwbio train mqar --rule delta --steps 300 --epochs 10
      fwbio train parity --rule delta --set negative_eigenvalues=true --size length=40
      fwbio train mqar --model attention --set positions=learned --set max_length=64
    """
    if task not in TASKS:
        raise unknown_name(task, TASKS, kind="task", where="task")
    given = {name: x for name, x in given.items() if x is not None and x != {}}
    if task in PAIR_TASKS:
        _train_programmer(task, out or PROGRAMMERS, given)
    else:
        _train_network(task, out or NETWORKS, given)


def _train_programmer(task: str, out: Path, given: dict[str, Any]) -> None:
    for name in given:
        if name not in {"rule", "seed", *OF_PAIRS}:
            raise _not_for(name, task, "pairs", SEQUENCE_TASKS)
    if "rule" not in given:
        raise click.MissingParameter(param_hint="--rule", param_type="option")
    check_writable(out)
    from fwbio.models.train import TrainingConfig, train

    programmer = train(TrainingConfig(task=task, **given), out, progress=sys.stderr.isatty())
    click.echo(str(out / programmer.checkpoint))


def _train_network(task: str, out: Path, given: dict[str, Any]) -> None:
    for name in OF_PAIRS:
        if name in given:
            raise _not_for(name, task, "sequences", PAIR_TASKS)
    check_writable(out)
    from fwbio.models.networks.training import train

    devices = given.pop("devices", 1)
    config = training_of(task, given)
    network = train(config, out, progress=sys.stderr.isatty(), devices=devices)
    if os.environ.get("RANK", "0") != "0":
        return
    epochs = [row for row in network.history if "validation_loss" in row]
    best = min(epochs, key=lambda row: row["validation_loss"])
    figures = ", ".join(
        f"{name.replace('_', ' ')} {best[name]:.4g}"
        for name in ("validation_loss", "validation_accuracy")
        if name in best
    )
    click.echo(str(out / network.checkpoint))
    click.echo(f"{figures} after epoch {best['epoch']:g} of {len(epochs)}")


def training_of(task: str, given: Mapping[str, Any]) -> Any:
    """The training that words on the command line ask for.

    Args:
        task: a sequence task.
        given: `model`, `sizes`, and `settings`: fields of the training, the model or its mixer;
            every other name is such a field too.

    Raises:
        FwbioError: an unknown mixer or field, or one that several have; a value out of range.
    """
    from fwbio.models.networks.mixers import MIXERS
    from fwbio.models.networks.models import MODELS, config_from_dict
    from fwbio.models.networks.training import SequenceTraining, shown_sizes

    given = dict(given)
    sizes = given.pop("sizes", {})
    mixer = given.pop("model", MODEL_OF_TASK.get(task, "memory"))
    known = {**MIXERS, "key_value": MODELS["key_value"]}
    if mixer not in known:
        raise unknown_name(mixer, known, kind="model", where="model")
    model = "key_value" if mixer == "key_value" else "sequence"
    owners: dict[str, type[Any]] = {"training": SequenceTraining, "model": MODELS[model][0]}
    if model == "sequence":
        owners["mixer"] = MIXERS[mixer][0]
    shown = shown_sizes(task, sizes)
    owned = {
        owner: {f.name for f in fields(kind)} - {"task", "model", "mixer", "sizes", *shown}
        for owner, kind in owners.items()
    }
    parts: dict[str, dict[str, Any]] = {owner: {} for owner in owners}
    settings = given.pop("settings", {})
    named = {
        f"training.{name}" if name in owned["training"] else name: value
        for name, value in given.items()
    }
    for name, value in (*settings.items(), *named.items()):
        owner, field = _place(name, owned, mixer)
        if field in parts[owner]:
            raise FwbioError(f"{field} is given twice", where="train", mend="give it once")
        parts[owner][field] = value
    told = {"model": model} | parts["model"]
    if model == "sequence":
        told["mixer"] = {"mixer": mixer} | parts["mixer"]
    has = {f.name for f in fields(MODELS[model][0])}
    told |= {name: x for name, x in shown.items() if name in has}
    if "examples" not in parts["training"]:
        parts["training"].setdefault("steps", STEPS)
    return SequenceTraining(
        task=task, sizes=sizes, model=config_from_dict(told), **parts["training"]
    )


def _place(name: str, owned: Mapping[str, set[str]], mixer: str) -> tuple[str, str]:
    """Which part a field belongs to, and its name there."""
    owner, dot, field = name.rpartition(".")
    if dot:
        if owner not in owned:
            raise unknown_name(owner, owned, kind="part", where="--set")
        if field not in owned[owner]:
            raise unknown_name(field, owned[owner], kind="field", where=f"--set {owner}")
        return owner, field
    having = [owner for owner, names in owned.items() if name in names]
    if not having:
        known = set().union(*owned.values())
        raise unknown_name(name, known, kind="field", where=f"train, model {mixer!r}")
    if len(having) > 1:
        raise FwbioError(
            f"{name} is a field of {' and '.join(having)}",
            where="--set",
            mend=f"write {' or '.join(f'{owner}.{name}' for owner in having)}",
        )
    return having[0], name


def _not_for(name: str, task: str, kind: str, others: Mapping[str, Any]) -> FwbioError:
    option = {"sizes": "size", "settings": "set"}.get(name, name).replace("_", "-")
    return FwbioError(
        f"the task {task!r} shows {kind}, which it is not for",
        where=f"--{option}",
        mend=f"leave it out, or choose from {', '.join(others)}",
    )
