"""The fast weights of a trained network as programs and records, and the network run on substrates.

What a layer's slow net emits for an episode is a program as any other: leading dims `head` and
`trial` (and `layer`), run by `fwbio.reference`, `fwbio.kernels` and `fwbio.models` alike.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from fwbio import kernels, reference
from fwbio.errors import FwbioError, unknown_name
from fwbio.kernels.substrate import DTYPES
from fwbio.models import substrate as synapses
from fwbio.models.networks.batches import losses, right, sequences
from fwbio.models.networks.features import feature
from fwbio.models.networks.key_value_model import KeyValueModel
from fwbio.models.networks.models import config_to_dict
from fwbio.models.networks.seeds import seed_of
from fwbio.models.networks.sequence_model import SequenceModel
from fwbio.models.networks.training import Network, TrainedNetwork, model_of, require_fitting
from fwbio.program import make, stream_dims
from fwbio.record import Keep
from fwbio.rule import Rule

SUBSTRATES = ("reference", "kernel", *synapses.SUBSTRATES)
LAYER = "layer_"
_NAMES = {"q": "query", "k": "key", "v": "value"}
_SYNAPSES = 8  # what `seed_of` draws seeds for, apart from training's own purposes

_Streams = dict[str, Any]  # the keyword arguments of `scan`, tensors all
# from a layer's number, its rule and its streams to read-outs [B, T, H, V]
_Run = Callable[[int, Rule, _Streams], Tensor]


@dataclass(frozen=True, kw_only=True, eq=False)
class Execution:
    """What became of a network whose fast weights a substrate ran.

    Args:
        substrate: what ran them.
        answers: `output` (trial, step, channel), the network's, and of each scored step (nan
            elsewhere) `loss` and, of targets that are classes, `correct`, 0 or 1, (trial, step).
        records: each layer's number and the record of its program, dims (head, trial, ..).
    """

    substrate: str
    answers: xr.Dataset
    records: Mapping[int, xr.Dataset]

    @property
    def loss(self) -> float:
        """The task's loss: the mean over scored steps, nan where there is none."""
        return float(self.answers.loss.mean())

    @property
    def accuracy(self) -> float:
        """The share of scored steps whose largest output is the target's; nan of other targets."""
        return float(self.answers.correct.mean())


def layers(network: Network) -> dict[int, Rule]:
    """The numbers of the layers that have fast weights, each with its rule.

    Raises:
        FwbioError: there are none, or it is no network of `fwbio.models.networks`.
    """
    model = model_of(network)
    if isinstance(model, KeyValueModel):
        return {0: model.rule}
    if not isinstance(model, SequenceModel):
        raise FwbioError(
            f"{type(model).__name__} is no network that can be recorded",
            where="network",
            mend="give a SequenceModel or a KeyValueModel, or what `load` reads of their file",
        )
    if found := {number: memory.rule for number, memory in model.memories()}:
        return found
    mixer = config_to_dict(model.config.mixer)["mixer"]
    raise FwbioError(
        f"its layers are {mixer!r}, which program no fast weights that can be recorded",
        where="network",
        mend="give one whose layers are 'memory'",
    )


def program(
    network: Network, episode: xr.Dataset, layer: int | None = None, *, dtype: str | None = None
) -> xr.Dataset | xr.DataTree:
    """What a network's layers program when they are shown an episode.

    Args:
        network: a trained network, or a model of `fwbio.models.networks`.
        episode: of a sequence task that the network fits.
        layer: the number of one layer, or None for all of them.
        dtype: "float32" or "float64", that the network computes in; its own unless given.

    Returns:
        Of one layer, a program with dims (head, trial, step, ..), dimensionless, that every
        substrate takes. Of all layers one program with a leading dim `layer` where they have one
        rule and equal sizes, else a tree with a program at `/layer_<number>`.

    Raises:
        FwbioError: a network without fast weights, an episode that does not fit it, no such layer,
            or no such dtype.
    """
    found: dict[int, xr.Dataset] = {}
    asked = _asked(network, None if layer is None else (layer,))

    def run(number: int, rule: Rule, streams: _Streams) -> Tensor:
        if number in asked:
            found[number] = _program(network, episode, number, rule, streams)
        return kernels.scan(rule, **streams)[0]

    _outputs(network, episode, run, dtype)
    return found[layer] if layer is not None else stacked(found)


def record(
    network: Network,
    episode: xr.Dataset,
    *,
    weights: Keep = "last",
    dtype: str | None = None,
) -> xr.Dataset | xr.DataTree:
    """What a network's layers program for an episode, and the states and read-outs that it has.

    Args:
        network: a trained network, or a model of `fwbio.models.networks`.
        episode: of a sequence task that the network fits.
        weights: whose steps' weights to keep: "last", "all", or every n-th and the last.
        dtype: "float32" or "float64", that the network computes in; its own unless given.

    Returns:
        A record of dims (layer, head, trial, ..) where all layers have one rule and equal sizes,
        else a tree with a record at `/layer_<number>`. Its weights lie along `snapshot`, whose
        coordinate is the step after which they were kept.

    Raises:
        FwbioError: as `program` raises.
    """
    return stacked(execute(network, episode, "kernel", weights=weights, dtype=dtype).records)


def execute(
    network: Network,
    episode: xr.Dataset,
    substrate: str,
    *,
    layers: tuple[int, ...] | None = None,
    weights: Keep = "last",
    seed: int = 0,
    progress: bool = False,
    dtype: str | None = None,
    **options: Any,
) -> Execution:
    """Run a network on an episode with its fast weights on a substrate.

    Layer after layer, what the substrate reads takes the place of the layer's own read-outs, and
    goes on through the rest of the network, so that later layers program from it.

    Args:
        network: a trained network, or a model of `fwbio.models.networks`.
        episode: of a sequence task that the network fits.
        substrate: "reference", "kernel", "flow", "rate" or "spiking".
        layers: numbers of the layers that it runs; the others run as they are. All unless given.
        weights: whose steps' weights to keep: "last", "all", or every n-th and the last.
        seed: of the substrate's own noise, which differs from layer to layer.
        progress: whether synapses show a bar for each layer.
        dtype: "float32" or "float64", that the network computes in; its own unless given.
        **options: further arguments of the substrate's `execute`.

    Raises:
        FwbioError: as `program` raises; there is no such substrate, or it can't run the network,
            as `refusal` says, or what it programs for this episode.
    """
    asked = _asked(network, layers)
    if reason := refusal(network, substrate, layers=layers):
        raise FwbioError(reason, where=f"{substrate} substrate", mend=_mend(network))
    precision = _precision(network, dtype)
    found: dict[int, xr.Dataset] = {}

    def run(number: int, rule: Rule, streams: _Streams) -> Tensor:
        if number not in asked:
            return kernels.scan(rule, **streams)[0]
        given = _program(network, episode, number, rule, streams)
        how: dict[str, Any] = {"weights": weights} | options
        try:
            if substrate == "reference":
                done = reference.execute(given, **how)
            elif substrate == "kernel":
                done = kernels.execute(given, **({"dtype": precision} | how))
            else:
                own = seed_of(seed, _SYNAPSES, number) % 2**32
                done = synapses.execute(given, substrate, seed=own, progress=progress, **how)
        except FwbioError as error:
            raise FwbioError(
                error.what, where=f"layer {number}, {error.where}", mend=error.mend
            ) from error
        found[number] = done
        y = done.readout.transpose("trial", "step", "head", "post").values
        return torch.from_numpy(np.ascontiguousarray(y)).to(streams["q"].dtype)

    outputs = _outputs(network, episode, run, precision)
    return Execution(substrate=substrate, answers=_answers(outputs, episode), records=found)


def refusal(
    network: Network, substrate: str, *, layers: tuple[int, ...] | None = None
) -> str | None:
    """Why a substrate can't run a network, whatever it is shown, or None where it may.

    Args:
        network: a trained network, or a model of `fwbio.models.networks`.
        substrate: its name.
        layers: numbers of the layers to run there; all unless given.

    Raises:
        FwbioError: a network without fast weights, or no such substrate or layer.
    """
    if substrate not in SUBSTRATES:
        raise unknown_name(substrate, SUBSTRATES, kind="substrate", where="substrate")
    asked = _asked(network, layers)
    if substrate not in synapses.SUBSTRATES:
        return None
    for rule in asked.values():
        if reason := synapses.unsupported(rule, substrate):
            return f"it does not run {rule.name!r}: {reason}"
    name = _feature(network)
    if not feature(name).nonnegative and any(
        rule.terms.feature != "elu_plus_one" for rule in asked.values()
    ):
        return f"keys of the feature map {name!r} have both signs, and rates can't be negative"
    return None


def stacked(parts: Mapping[int, xr.Dataset]) -> xr.Dataset | xr.DataTree:
    """Programs or records of layers as one.

    Args:
        parts: each layer's number and its program or record.

    Returns:
        One with a leading dim `layer` where all have the same attributes, variables and sizes,
        else a tree with one at `/layer_<number>`.
    """
    first, *others = parts.values()
    alike = all(
        part.sizes == first.sizes
        and part.attrs == first.attrs
        and part.data_vars.keys() == first.data_vars.keys()
        for part in others
    )
    if not alike:
        return xr.DataTree.from_dict({f"/{LAYER}{n}": part for n, part in parts.items()})
    together = xr.concat(
        list(parts.values()),
        dim="layer",
        data_vars="all",
        coords="minimal",
        compat="override",
        join="exact",
        combine_attrs="override",
    )
    together["layer"].attrs = {"units": "1", "long_name": "layer of the network"}
    return together


def _asked(network: Network, numbers: tuple[int, ...] | None) -> dict[int, Rule]:
    known = layers(network)
    if numbers is None:
        return known
    for number in numbers:
        if number not in known:
            raise FwbioError(
                f"there is no layer {number!r} with fast weights",
                where="layer",
                mend=f"choose from {', '.join(map(str, known))}",
            )
    return {number: known[number] for number in numbers}


def _feature(network: Network) -> str:
    model = model_of(network)
    config: Any = model.config
    return str((config if isinstance(model, KeyValueModel) else config.mixer).feature)


def _mend(network: Network) -> str:
    mend = "use the reference or kernel substrate"
    if feature(_feature(network)).nonnegative:
        return f"{mend}, or train a network of a rule that synapses run (see `fwbio rules`)"
    return f"{mend}, or train with feature='relu', 'softmax', 'elu' or 'dpfp'"


def _precision(network: Network, dtype: str | None) -> str:
    """The dtype that a network is to compute in, by name."""
    own = next(model_of(network).parameters()).dtype
    name = str(own).removeprefix("torch.") if dtype is None else dtype
    if name in DTYPES:
        return name
    raise FwbioError(
        f"{name!r} is not offered", where="dtype", mend=f"choose from {', '.join(DTYPES)}"
    )


def _outputs(network: Network, episode: xr.Dataset, run: _Run, dtype: str | None) -> Tensor:
    """The network's outputs [B, T, O], in a dtype, its memories' read-outs those of `run`."""
    kind = getattr(torch, _precision(network, dtype))
    model = copy.deepcopy(model_of(network)).to("cpu", kind).eval()
    inputs = [x.to(kind) if x.is_floating_point() else x for x in sequences(episode).inputs]
    require_fitting(model, episode)

    def of_memory(number: int, memory: Any, streams: _Streams) -> Tensor:
        return run(number, memory.rule, streams)

    def of_model(only: KeyValueModel, streams: _Streams) -> Tensor:
        return run(0, only.rule, streams)

    with torch.no_grad():
        return model(*inputs, run=of_model if isinstance(model, KeyValueModel) else of_memory)


def _program(
    network: Network, episode: xr.Dataset, number: int, rule: Rule, streams: _Streams
) -> xr.Dataset:
    """The program of a layer, from the arguments of `scan` that it emitted."""
    dims = stream_dims(rule)
    writes = streams["k"].shape[1] // max(streams["q"].shape[1], 1)
    given: dict[str, Any] = {
        _NAMES.get(name, name): _labelled(x, dims[_NAMES.get(name, name)], writes)
        for name, x in streams.items()
    }
    if isinstance(model_of(network), KeyValueModel):
        # its read-outs are its answers; other layers' go on at every step
        given["scored"] = xr.DataArray(episode.scored.values, dims=("trial", "step"))
    made = make(rule, **given, programmer="network", **_origin(network))
    for name in ("head", "trial"):
        made = made.assign_coords({name: np.arange(made.sizes[name])})
    return made.assign_coords(layer=number)


def _labelled(x: Tensor, dims: tuple[str, ...], writes: int) -> xr.DataArray:
    """A stream [B, T, H, ..], or [B, T n, H, ..] of n writes a step, in the order of programs."""
    values = x.detach().cpu().double()
    split = ("substep",) if "substep" in dims else ()
    if split:
        values = values.unflatten(1, (-1, writes))
    channel = dims[-1:] if dims[-1] in {"pre", "post"} else ()
    array = xr.DataArray(values.numpy(), dims=("trial", "step", *split, "head", *channel))
    return array.transpose("head", "trial", *dims)


def _origin(network: Network) -> dict[str, Any]:
    if isinstance(network, TrainedNetwork):
        config = network.config.to_dict() | {"checkpoint": network.checkpoint}
        return {"seed": network.config.seed, "config": config}
    return {"config": {"model": config_to_dict(network.config)}}


def _answers(outputs: Tensor, episode: xr.Dataset) -> xr.Dataset:
    """A network's outputs [B, T, O] and what they are worth, as `Execution` has them."""
    shown = sequences(episode)
    batch = shown.batch()
    scored = batch.scored(outputs)
    hits = right(scored, batch.target)
    found = {"loss": losses(scored, batch.target, shown.loss)}
    found["correct"] = torch.full_like(found["loss"], torch.nan) if hits is None else hits
    values: dict[str, Any] = {}
    for name, x in found.items():
        spread = np.full(shown.scored.numel(), np.nan)
        spread[batch.where.numpy()] = x.double().numpy()
        values[name] = (("trial", "step"), spread.reshape(shown.scored.shape))
    values["output"] = (("trial", "step", "channel"), outputs.double().numpy())
    answers = xr.Dataset(values)
    meanings = {
        "loss": "loss of a scored step",
        "correct": "whether a scored step's largest output is the target's",
        "output": "output of the network",
    }
    for name, meaning in meanings.items():
        answers[name].attrs = {"units": "1", "long_name": meaning}
    return answers
