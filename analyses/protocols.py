"""Protocols run and drawn: NAME.nc and NAME.png, with what was published beside what was found."""

from collections.abc import Mapping
from pathlib import Path

import xarray as xr

from fwbio.analyses.outputs import png
from fwbio.errors import unknown_name
from fwbio.files import written_aside
from fwbio.record import save


def listed() -> Mapping[str, str]:
    """The protocols by name, each with the first line of its docstring."""
    from fwbio.models.protocols import PROTOCOLS

    return {name: (run.__doc__ or "").strip().splitlines()[0] for name, run in PROTOCOLS.items()}


def require(name: str) -> None:
    """Refuse a name that no protocol has.

    Raises:
        FwbioError: it is none.
    """
    from fwbio.models.protocols import PROTOCOLS

    if name not in PROTOCOLS:
        raise unknown_name(name, PROTOCOLS, kind="protocol", where="protocol")


def run(name: str, folder: Path, *, seed: int = 0, progress: bool = False) -> list[Path]:
    """Run a protocol and write its dataset and its figure.

    Args:
        name: of `fwbio.models.protocols.PROTOCOLS`.
        folder: gets NAME.nc and NAME.png; earlier ones stay until both are made.
        seed: of what is random in it.
        progress: whether to show a bar, on standard error.

    Returns:
        The paths written.

    Raises:
        FwbioError: there is no such protocol, or the folder can't be written.
    """
    require(name)
    from fwbio.models.protocols import PROTOCOLS

    found = PROTOCOLS[name](seed=seed, progress=progress)
    image = figure(found)
    data = save(found, folder / f"{name}.nc")
    picture = folder / f"{name}.png"
    with written_aside(picture) as aside:
        aside.write_bytes(image)
    return [data, picture]


def figure(found: xr.Dataset) -> bytes:
    """The figure of a protocol's dataset, as PNG."""
    from matplotlib.figure import Figure

    from fwbio.analyses.protocol_plots import protocol, size

    drawn = Figure(figsize=size(found), layout="constrained")
    protocol(found, drawn)
    return png(drawn, dpi=130)
