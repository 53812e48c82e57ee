"""Feature maps of keys and queries, and how what they give is normalised."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn.functional import elu, relu

from fwbio.errors import FwbioError, unknown_name
from fwbio.table import Table

SMALLEST_NORM = 1e-12


@dataclass(frozen=True, kw_only=True)
class Feature:
    """A map phi of each key and query by itself.

    Args:
        apply: (x [.., channel], nu) -> [.., feature].
        nonnegative: whether all features are from 0 up, so that they can be rates.
        widened: how many features a channel gives, times nu where `shifted`.
        shifted: whether it has a number of shifts nu.
        equation: what it computes.
        source: where it is published.
    """

    apply: Callable[[Tensor, int], Tensor]
    nonnegative: bool
    widened: int = 1
    shifted: bool = False
    equation: str
    source: str


def _dpfp(x: Tensor, nu: int) -> Tensor:
    r = relu(torch.cat([x, -x], -1))
    return torch.cat([r * r.roll(-shift, -1) for shift in range(1, nu + 1)], -1)


FEATURES: Table[Feature] = Table(
    {
        "identity": Feature(
            apply=lambda x, nu: x,
            nonnegative=False,
            equation="phi(x) = x",
            source="Schlag 2021, arXiv:2102.11174 eq. 10-11",
        ),
        "elu": Feature(
            apply=lambda x, nu: elu(x) + 1,
            nonnegative=True,
            equation="phi(x) = elu(x) + 1",
            source="Katharopoulos 2020, arXiv:2006.16236",
        ),
        "relu": Feature(
            apply=lambda x, nu: relu(x),
            nonnegative=True,
            equation="phi(x) = max(x, 0)",
            source="Kasai 2021, arXiv:2103.13076 (recalled)",
        ),
        "dpfp": Feature(
            apply=_dpfp,
            nonnegative=True,
            widened=2,
            shifted=True,
            equation="phi_(i nu)(x) = r_i r_(i + nu), r = max([x; -x], 0), i + nu modulo 2 d",
            source="Schlag 2021, arXiv:2102.11174 section 5.3",
        ),
        "softmax": Feature(
            apply=lambda x, nu: torch.softmax(x, -1),
            nonnegative=True,
            equation="phi(x) = exp(x) / sum(exp(x))",
            source="Irie 2022, arXiv:2202.05780 (recalled)",
        ),
    },
    kind="feature map",
    name="fwbio.models.networks.features.FEATURES",
)

_NORMS: Mapping[str, float] = MappingProxyType({"l1": 1.0, "l2": 2.0, "max": torch.inf})
NORMALISED = ("none", *_NORMS)


def feature(name: str, nu: int = 1, *, where: str = "feature") -> Feature:
    """The feature map of that name, its number of shifts checked.

    Args:
        name: a name of `FEATURES`.
        nu: shifts, 1 for a map that has none.
        where: the argument that asked, for error messages.

    Raises:
        FwbioError: there is no such map, or it can't have so many shifts.
    """
    found = FEATURES.row(name, where=where)
    if type(nu) is not int or nu < 1 or (nu > 1 and not found.shifted):
        raise FwbioError(
            f"the feature map {name!r} can't have {nu!r} shifts",
            where="nu",
            mend="give a whole number from 1 up" if found.shifted else "leave it at 1",
        )
    return found


def feature_map(name: str, x: Tensor, *, nu: int = 1) -> Tensor:
    """The features phi(x) of keys or queries.

    Args:
        name: a name of `FEATURES`, where the equations and sources are.
        x: [.., channel], dimensionless.
        nu: shifts of "dpfp", below twice the channels; their features stand one shift after
            another.

    Returns:
        [.., `width(name, channels, nu)`].

    Raises:
        FwbioError: there is no such map, or it can't have so many shifts.
    """
    width(name, x.shape[-1], nu)
    return FEATURES[name].apply(x, nu)


def width(name: str, channels: int, nu: int = 1) -> int:
    """How many features a map gives of so many channels: d, or 2 d nu of "dpfp".

    Raises:
        FwbioError: there is no such map, or it can't have so many shifts.
    """
    found = feature(name, nu)
    if found.shifted and nu >= 2 * channels:
        raise FwbioError(
            f"{nu} shifts of {2 * channels} rectified channels come round to themselves",
            where="nu",
            mend=f"give at most {2 * channels - 1}, or more channels",
        )
    return channels * found.widened * nu


def normalised(x: Tensor, how: str) -> Tensor:
    """Vectors divided by a norm of theirs: x / |x|, and 0 where x is 0.

    Args:
        x: [.., feature].
        how: "none"; "l1", the sum of magnitudes, as Schlag 2021 normalises phi for the delta rule;
            "l2", Euclid's; "max", the largest magnitude.

    Raises:
        FwbioError: there is no such norm.
    """
    if how not in NORMALISED:
        raise unknown_name(how, NORMALISED, kind="norm", where="normalise")
    if how == "none":
        return x
    wide = x if x.dtype == torch.float64 else x.float()
    return torch.nn.functional.normalize(wide, _NORMS[how], -1, SMALLEST_NORM).to(x.dtype)
