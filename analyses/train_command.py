"""`fwbio train`: a slow net on pairs, or a network on sequences."""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click

from fwbio import FwbioError
from fwbio.analyses import options
from fwbio.analyses.outputs import check_writable
from fwbio.analyses.training_results import network_result, programmer_result
from fwbio.errors import unknown_name
from fwbio.tasks import PAIR_TASKS, SEQUENCE_TASKS, TASKS

OF_PAIRS = ("pairs", "noise", "gap")
PROGRAMMERS = Path("results/programmers")
NETWORKS = Path("results/networks")
PAIRS_UNLESS_GIVEN = "digits"
STEPS = 250
MODEL_OF_TASK = {"key_value": "key_value"}
# as their modules have them, which take seconds to load; a test holds these to those
MODELS = (
    "memory",
    "attention",
    "hopfield",
    "lstm",
    "irnn",
    "fast_weights_rnn",
    "srwm",
    "plastic",
    "ttt_linear",
    "ttt_mlp",
    "key_value",
)
DEFAULTS: Mapping[str, Any] = MappingProxyType(
    {
        "width": 64,
        "layers": 2,
        "heads": 2,
        "steps": STEPS,
        "epochs": 10,
        "batch": 32,
        "learning_rate": 1e-3,
        "precision": "float32",
        "devices": 1,
    }
)


def _of_sequences(name: str, what: str, kind: type | None = None) -> Callable:
    """An option of sequences that shows its default; unset, it leaves that to the config."""
    return click.option(
        f"--{name.replace('_', '-')}",
        type=kind,
        help=f"Of sequences: {what}.  [default: {DEFAULTS[name]}]",
    )


@click.command(
    "train",
    epilog=f"TASK shows pairs: {', '.join(PAIR_TASKS)}; or sequences: {', '.join(SEQUENCE_TASKS)}."
    " `fwbio tasks` tells what each of them is.",
)
@click.argument("task", required=False)
@click.option(
    "--rule", help="The rule to program, which pairs need; or to learn with, delta of sequences."
)
@click.option(
    "--model",
    help=f"Of sequences: {', '.join(MODELS)}.  [default: memory; of key_value, key_value]",
)
@_of_sequences("width", "channels of the model", int)
@_of_sequences("layers", "layers of the model", int)
@_of_sequences("heads", "heads of a layer", int)
@_of_sequences("steps", "gradient steps an epoch", int)
@_of_sequences("epochs", "epochs at most", int)
@_of_sequences("batch", "sequences a step", int)
@_of_sequences("learning_rate", "peak step size", float)
@_of_sequences("precision", "float32 or bfloat16")
@_of_sequences("devices", "processes that share every batch", int)
@options.assigned("--size", "sizes", "Of sequences: a size of the task; may be repeated.")
@options.assigned(
    "--set",
    "settings",
    "Of sequences: another field of the training, the model or its mixer, as training.NAME,"
    " model.NAME or mixer.NAME where they share the name; may be repeated. For rate and spiking"
    " synapses, whose keys are rates, give --set feature=relu.",
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
def train_command(task: str | None, out: Path | None, **given: Any) -> None:
    """Train a slow net or a network.

    Of a TASK that shows pairs, a slow net that programs one rule; of one that shows sequences, a
    network that predicts what is asked for. What OUT holds already is not trained again; the same
    command goes on where it was stopped.

    \b
    Examples:
      fwbio train digits --rule delta --out results/programmers
      fwbio train mqar --rule delta --steps 300 --epochs 10
      fwbio train parity --rule delta --set negative_eigenvalues=true --size length=40
      fwbio train mqar --rule delta --set feature=relu
      fwbio train mqar --model attention --set positions=learned --set max_length=64
    """
    if task is None and given["rule"] is None:
        raise FwbioError(
            "there is no TASK",
            where="train",
            mend="give one of sequences, such as `fwbio train mqar`, or one of pairs and its"
            " --rule, such as `fwbio train digits --rule delta`; `fwbio tasks` lists them",
        )
    task = task or PAIRS_UNLESS_GIVEN
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
    click.echo("\n".join(programmer_result(programmer)))


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
    click.echo(str(out / network.checkpoint))
    click.echo("\n".join(network_result(network)))
    if told := signed_keys(network):
        click.echo(told, err=True)


def signed_keys(network: Any) -> str | None:
    """That rates can't be a network's keys, which have both signs; None where they can.

    Args:
        network: a `TrainedNetwork` or a model, with fast weights or without.
    """
    from fwbio.models.networks.recording import refusal

    try:
        reasons = {substrate: refusal(network, substrate) for substrate in ("rate", "spiking")}
    except FwbioError:  # without fast weights
        return None
    refusing = [substrate for substrate, why in reasons.items() if why and "both signs" in why]
    if not refusing:
        return None
    return (
        f"{' and '.join(refusing)} synapses can't run it: its keys have both signs;"
        " --set feature=relu makes them rates"
    )


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
    from fwbio.models.networks.models import MODELS as KINDS
    from fwbio.models.networks.models import config_from_dict
    from fwbio.models.networks.training import SequenceTraining, shown_sizes

    given = dict(given)
    sizes = given.pop("sizes", {})
    mixer = given.pop("model", MODEL_OF_TASK.get(task, "memory"))
    known = {**MIXERS, "key_value": KINDS["key_value"]}
    if mixer not in known:
        raise unknown_name(mixer, known, kind="model", where="model")
    model = "key_value" if mixer == "key_value" else "sequence"
    owners: dict[str, type[Any]] = {"training": SequenceTraining, "model": KINDS[model][0]}
    if model == "sequence":
        owners["mixer"] = MIXERS[mixer][0]
    shown = shown_sizes(task, sizes)
    if "rule" in given and not any(_has(kind, "rule") for kind in owners.values()):
        raise FwbioError(
            f"{mixer} has no rule", where="train --rule", mend="leave it out, or --model"
        )
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
    told |= {name: x for name, x in shown.items() if _has(KINDS[model][0], name)}
    if "examples" not in parts["training"]:
        parts["training"].setdefault("steps", STEPS)
    return SequenceTraining(
        task=task, sizes=sizes, model=config_from_dict(told), **parts["training"]
    )


def _has(kind: type[Any], name: str) -> bool:
    return name in {f.name for f in fields(kind)}


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
