"""The figure of a protocol: one panel a variable, drawn from the names of the dataset alone."""

import math
import textwrap

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from fwbio.analyses.palette import FAINT, series_style
from fwbio.errors import FwbioError

LONGEST = 42  # characters of a label's line, which a panel has room for
PUBLISHED = "s"  # the marker of what was measured elsewhere
_ASIDE = ("_expected", "_se", "_published")


def panels(record: xr.Dataset) -> list[str]:
    """The variables of a protocol's dataset that have a panel of their own."""
    return [str(name) for name in record.data_vars if not str(name).endswith(_ASIDE)]


def protocol(record: xr.Dataset, figure: Figure | SubFigure) -> list[Axes]:
    """A protocol's outcome beside what was published, or what has a closed form.

    Simulated values are coloured, one colour and marker or line a series; closed forms are grey
    lines under them, published points hollow squares with their standard errors.

    Args:
        record: as the protocols of `fwbio.models.protocols.PROTOCOLS` make it.
        figure: a figure or sub-figure to fill.

    Raises:
        FwbioError: the dataset has no variable to draw.
    """
    names = panels(record)
    if not names:
        raise FwbioError(
            "there is nothing to draw", where="record", mend="give what a protocol made"
        )
    axes = figure.subplots(*_grid(len(names)), squeeze=False).ravel()
    for name, ax in zip(names, axes, strict=False):
        _panel(record, name, ax)
    for ax in axes[len(names) :]:
        ax.set_axis_off()
    figure.suptitle(str(record.attrs.get("title", "")), fontsize=11)
    return list(axes[: len(names)])


def _panel(record: xr.Dataset, name: str, ax: Axes) -> None:
    measured = record[name]
    x = measured.dims[-1]
    series = measured.dims[0] if measured.ndim == 2 else None
    count = measured.sizes[series] if series else 1
    few = measured.sizes[x] <= 40
    for i, style in series_style(range(count), without=PUBLISHED).items():
        if f"{name}_expected" in record:
            closed = _one(record[f"{name}_expected"], series, i)
            ax.plot(closed[closed.dims[-1]], closed, color=FAINT, linewidth=3, alpha=0.6)
        error = _one(record[f"{name}_se"], series, i) if f"{name}_se" in record else None
        ax.errorbar(
            record[x],
            _one(measured, series, i),
            yerr=error,
            **(style.points if few else style.line)
            | ({"linestyle": "-"} if few and f"{name}_expected" not in record else {}),
            markersize=4,
            linewidth=1.2,
            capsize=2,
            label=str(record[series].values[i]) if series else None,
        )
        if f"{name}_published" in record:
            published = _one(record[f"{name}_published"], series, i)
            error = record.get(f"{name}_published_se")
            ax.errorbar(
                published[published.dims[-1]],
                published,
                yerr=None if error is None else _one(error, series, i),
                fmt=PUBLISHED,
                color="black" if count == 1 else style.colour,
                markerfacecolor="white",
                markersize=6,
                capsize=3,
                label="published" if i == 0 else None,
            )
    if f"{name}_expected" in record:
        label = record[f"{name}_expected"].attrs.get("label", "closed form")
        ax.plot([], [], color=FAINT, linewidth=3, alpha=0.6, label=label)
    ax.set_xlabel(_named(record[x]))
    ax.set_ylabel(_named(measured))
    if ax.get_legend_handles_labels()[1]:
        ax.legend(fontsize=7, framealpha=0.8, edgecolor="none")
    if measured.min() < 0 < measured.max():
        ax.axhline(0, color="#cccccc", linewidth=0.8, zorder=0)
    if record[x].attrs.get("scale") == "log":
        ax.set_xscale("log")
    if measured.attrs.get("scale") == "log":
        ax.set_yscale("log")
    ax.spines[["top", "right"]].set_visible(False)


def _one(array: xr.DataArray, series: object, i: int) -> xr.DataArray:
    return array.isel({series: i}) if series in array.dims else array


def _named(array: xr.DataArray) -> str:
    units = array.attrs.get("units") or "1"
    name = array.attrs.get("long_name", str(array.name).replace("_", " "))
    label = f"{name} ({'dimensionless' if units == '1' else units})"
    return "\n".join(textwrap.wrap(label, LONGEST, break_long_words=False))


def size(record: xr.Dataset) -> tuple[float, float]:
    """The inches (width, height) that a protocol's figure needs."""
    rows, columns = _grid(len(panels(record)))
    return 4.4 * columns, 3.4 * rows + 0.4


def _grid(count: int) -> tuple[int, int]:
    """Rows and columns of so many panels: three across, unless that leaves one alone."""
    columns = 2 if count == 4 else min(count, 3)
    return math.ceil(count / columns), columns
