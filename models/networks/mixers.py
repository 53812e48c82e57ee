"""The table of mixers: the layers that carry something from one token to the next."""

from typing import Any

from torch import nn

from fwbio.errors import FwbioError
from fwbio.models.networks.attention import Attention, AttentionConfig
from fwbio.models.networks.fast_weights_rnn import FastWeightsRNN, FastWeightsRNNConfig
from fwbio.models.networks.hopfield import Hopfield, HopfieldConfig
from fwbio.models.networks.memory import FastWeightMemory, FastWeightMemoryConfig
from fwbio.models.networks.plastic import Plastic, PlasticConfig
from fwbio.models.networks.recurrent import IRNN, LSTM, IRNNConfig, LSTMConfig
from fwbio.models.networks.srwm import SRWM, SRWMConfig
from fwbio.models.networks.ttt import TTTMLP, TTTLinear, TTTLinearConfig, TTTMLPConfig
from fwbio.table import Table

MIXERS: Table[tuple[type[Any], type[nn.Module]]] = Table(
    {
        "memory": (FastWeightMemoryConfig, FastWeightMemory),
        "attention": (AttentionConfig, Attention),
        "hopfield": (HopfieldConfig, Hopfield),
        "lstm": (LSTMConfig, LSTM),
        "irnn": (IRNNConfig, IRNN),
        "fast_weights_rnn": (FastWeightsRNNConfig, FastWeightsRNN),
        "srwm": (SRWMConfig, SRWM),
        "plastic": (PlasticConfig, Plastic),
        "ttt_linear": (TTTLinearConfig, TTTLinear),
        "ttt_mlp": (TTTMLPConfig, TTTMLP),
    },
    kind="mixer",
    name="fwbio.models.networks.mixers.MIXERS",
)


def mixer_name(config: object) -> str:
    """The name in `MIXERS` of what a config describes.

    Raises:
        FwbioError: it is no mixer's config.
    """
    for name, (kind, _) in MIXERS.items():
        if type(config) is kind:
            return name
    raise FwbioError(
        f"{type(config).__name__} is no mixer's config",
        where="mixer",
        mend=f"give one of {', '.join(kind.__name__ for kind, _ in MIXERS.values())}",
    )


def make_mixer(config: Any, width: int) -> nn.Module:
    """The mixer that a config describes, for sequences [B, T, width].

    Its `forward(x, run=None)` returns [B, T, out_features].

    Raises:
        FwbioError: it is no mixer's config, or one that does not fit the width.
    """
    return MIXERS[mixer_name(config)][1](config, width)
