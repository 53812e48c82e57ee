"""A recurrent net whose synapses are plastic, each to a learned degree (Miconi 2018, 2019)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fwbio.models.networks.checks import Checks

INITIAL_STD = 0.01


@dataclass(frozen=True, kw_only=True)
class PlasticConfig:
    """A recurrent net of plastic synapses.

    Args:
        units: cells U; None: as many as the input has channels.
        modulated: whether a cell of the net says when its synapses learn; otherwise they always
            do, and forget as fast.
        rate: what the rate of learning eta starts at; of a net that is not modulated.
        clip: what a modulated trace can't exceed, either way.

    Raises:
        FwbioError: a number out of its range.
    """

    units: int | None = None
    modulated: bool = False
    rate: float = 0.01
    clip: float = 1.0

    def __post_init__(self) -> None:
        checks = Checks("PlasticConfig")
        if self.units is not None:
            checks.whole("units", self.units)
        checks.flags(modulated=self.modulated)
        checks.number("rate", self.rate, above=True)
        checks.that(self.rate < 1, f"rate = {self.rate!r}", "give a number below 1")
        checks.number("clip", self.clip, above=True)


class Plastic(nn.Module):
    """A recurrent net with a trace of its own past on every synapse, as a mixer.

        y_t = tanh(C x_t + c + (w + alpha * H)^T y_{t-1})
        H <- (1 - eta) H + eta y_{t-1} y_t^T                                    (plastic)
        H <- clip(H + y_{t-1} (m_t * y_t)^T),  m_t = f tanh(d.y_t + e) + g      (modulated)

    from y = 0 and H = 0; * is by element. w, alpha (one a synapse) and eta, or the modulating
    cell (d, e) and its fan-out (f, g: one a cell), are learned; eta by its logit, which keeps it
    between 0 and 1. All numbers are dimensionless.

    Args:
        config: its size and constants.
        width: channels of the input.

    Source: Miconi, Clune & Stanley 2018, arXiv:1804.02464; modulated: the simple neuromodulation
    of Miconi, Rawal, Clune & Stanley 2019, arXiv:2002.10585.
    """

    def __init__(self, config: PlasticConfig, width: int) -> None:
        super().__init__()
        self.config = config
        self.out_features = units = config.units or width
        self.project = nn.Linear(width, units)
        self.fixed = nn.Parameter(INITIAL_STD * torch.randn(units, units))
        self.plasticity = nn.Parameter(INITIAL_STD * torch.randn(units, units))
        if config.modulated:
            self.modulator = nn.Linear(units, 1)
            self.fan_out = nn.Linear(1, units)
        else:
            logit = math.log(config.rate / (1 - config.rate))
            self.rate_logit = nn.Parameter(torch.tensor(logit))

    def forward(self, x: Tensor, run: Callable[..., Any] | None = None) -> Tensor:
        """The activities of every step.

        Args:
            x: the sequence [B, T, width].
            run: as every mixer takes it; ignored: these traces are part of the recurrence.

        Returns:
            y [B, T, units].
        """
        drive = self.project(x)
        with torch.autocast(x.device.type, enabled=False):
            return self._activities(drive.to(self.fixed.dtype))

    def _activities(self, drive: Tensor) -> Tensor:
        learn = self._modulated if self.config.modulated else self._traced()
        H = None
        activities: list[Tensor] = []
        last = drive.shape[1] - 1
        for t, given in enumerate(drive.split(1, 1)):
            if not activities:
                activities.append(given.tanh())
                continue
            before = activities[-1]
            if H is None:
                given = given + before @ self.fixed
            else:
                given = torch.baddbmm(given, before, torch.addcmul(self.fixed, self.plasticity, H))
            y = given.tanh()
            activities.append(y)
            if t < last:
                H = learn(H, before.transpose(1, 2), y)
        return torch.cat(activities, 1) if activities else drive

    def _traced(self) -> Callable[[Tensor | None, Tensor, Tensor], Tensor]:
        """The update of the traces H [B, U, U] by `before` [B, U, 1] and `y` [B, 1, U]."""
        eta = self.rate_logit.sigmoid()
        kept = 1 - eta

        def learn(H: Tensor | None, before: Tensor, y: Tensor) -> Tensor:
            new = torch.bmm(before, eta * y)
            return new if H is None else torch.addcmul(new, kept, H)

        return learn

    def _modulated(self, H: Tensor | None, before: Tensor, y: Tensor) -> Tensor:
        change = self.fan_out(self.modulator(y).tanh()) * y
        new = torch.bmm(before, change) if H is None else torch.baddbmm(H, before, change)
        return new.clamp(-self.config.clip, self.config.clip)
