"""The synaptic programmer: a trained slow net whose last layer is slow NMDA synapses (Brian2).

The hidden layers stay the trained net's: their activity sets the rates of hidden cells. From there
on keys, teaching values and gates come from cells. The drives of output cells are those of
`fwbio.models.nmda_readout`; an output cell's rate is the net's own function of its drive at that
time (a key cell's is rectified and divided by the norm of all key cells' rates, as by a pool of
interneurons; a gate's follows a sigmoid), and a stream of the program is the mean of the rates
over the second part of the presentation.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import accumulate

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from fwbio.errors import FwbioError
from fwbio.models.nmda_readout import Layer, NmdaReadout, drives
from fwbio.models.slow_net import SlowNet, TrainedProgrammer, lay_out
from fwbio.rule import Rule

SIMULATED = (
    "hidden cells, at rates that their units' activities set",
    "the last layer's weights as NMDA conductances, negative ones by way of interneurons",
    "remains of the last presentation's NMDA drive",
)
IMPOSED = (
    "the activities of the hidden layers",
    "each hidden unit's largest activity in the episode, at which its cells fire at the peak rate",
    "biases of the last layer, as tonic drives",
    "rates of output cells: static functions of their drives at each frame",
    "rates of interneurons: equal to their NMDA drives",
    "when keys, values and queries are silent",
)
APPROXIMATE = (
    "receptors open at once at a spike; the rise follows",
    "driving forces held at rest, without the magnesium block",
    "rates of finitely many cells, where they spike",
)


@dataclass(frozen=True, kw_only=True, eq=False)
class SynapticProgrammer:
    """A trained programmer whose last layer runs in synapses.

    Args:
        trained: the programmer whose slow net it is.
        model: parameters of the synapses.
        seed: of the spikes.

    Raises:
        FwbioError: a seed that is none.
    """

    trained: TrainedProgrammer
    model: NmdaReadout = field(default_factory=NmdaReadout)
    seed: int = 0

    def __post_init__(self) -> None:
        whole = isinstance(self.seed, int) and not isinstance(self.seed, bool)
        if not whole or not 0 <= self.seed < 2**32:
            raise FwbioError(
                f"{self.seed!r} is not a seed",
                where="synaptic programmer",
                mend="give a whole number from 0 to 2^32 - 1",
            )

    def __call__(
        self, episode: xr.Dataset, rule: Rule | str, *, progress: bool = False
    ) -> xr.Dataset:
        """The program that the slow net's synapses give an episode.

        Args:
            episode: as a task of `fwbio.tasks.PAIR_TASKS` makes it, items and contents as wide as
                those the net was trained on.
            rule: the rule it was trained for, or its name.
            progress: whether to show a bar.

        Raises:
            FwbioError: another rule, items or contents of another size, or as
                `fwbio.models.nmda_readout.drives` says.
        """
        net, shown = self.trained.net, self.trained.shown(episode, rule)
        with torch.no_grad():
            hidden = dict(zip(("seen", "taught"), net.hidden(**shown), strict=True))
        layer, outputs = _last_layer(net, hidden)
        activity = torch.cat(list(hidden.values()), -1).numpy()
        driven = drives(activity, layer, self.model, seed=self.seed, progress=progress)
        by_head = {name: torch.from_numpy(driven[..., part]) for name, part in outputs.items()}
        with torch.no_grad():
            emitted = net.streams(by_head, shown["writes"], shown["scored"])
        return lay_out(
            episode,
            net.rule,
            _means(emitted, net.rule),
            programmer="synaptic",
            config={
                "checkpoint": self.trained.checkpoint,
                "training": asdict(self.trained.config),
                "synapses": asdict(self.model),
                "seed": self.seed,
                "simulated": list(SIMULATED),
                "imposed": list(IMPOSED),
                "approximate": list(APPROXIMATE),
            },
        )


def _last_layer(net: SlowNet, hidden: Mapping[str, Tensor]) -> tuple[Layer, dict[str, slice]]:
    """All heads as one layer on all hidden units, and which of its outputs are whose.

    Args:
        net: the slow net.
        hidden: activities of its two hidden layers, by name, (.., unit) each. A unit's cells fire
            at the peak rate where it is most active, as if homeostasis scaled their synapses.
    """
    heads = net.heads()
    units = _places({name: activity.shape[-1] for name, activity in hidden.items()})
    units["both"] = slice(None)
    outputs = _places({name: len(head.get_parameter("bias")) for name, (head, _) in heads.items()})
    peak = torch.cat([activity.flatten(end_dim=-2).amax(0) for activity in hidden.values()])
    tonic = torch.cat([head.get_parameter("bias") for head, _ in heads.values()]).numpy()
    weight = np.zeros((len(peak), len(tonic)))
    for name, (head, read) in heads.items():
        if isinstance(head, nn.Linear):
            weight[units[read], outputs[name]] = head.weight.numpy().T
    return Layer(weight=weight, tonic=tonic, peak=peak.numpy()), outputs


def _places(sizes: Mapping[str, int]) -> dict[str, slice]:
    """Where each of several parts lies once they are laid end to end."""
    ends = accumulate(sizes.values())
    return {name: slice(end - sizes[name], end) for name, end in zip(sizes, ends, strict=True)}


def _means(streams: dict[str, Tensor], rule: Rule) -> dict[str, Tensor]:
    """Means over frames, the first axis; of keys, of the rates that their feature map gives."""
    found = {}
    for name, stream in streams.items():
        if rule.terms.feature == "elu_plus_one" and name in {"key", "query"}:
            found[name] = stream.exp().mean(0).log()
        else:
            found[name] = stream.mean(0)
    return found
