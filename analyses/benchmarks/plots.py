"""The figure of a benchmark: each function draws on the Axes or figure it is given.

Each rule looks as it does in every figure; full lines are chunks, dashed ones the plain loop.
"""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from fwbio.analyses.palette import FAINT, rule_style

LINES: Mapping[str, str] = MappingProxyType({"chunked": "-", "recurrent": "--"})
LABELS: Mapping[str, tuple[str, float]] = MappingProxyType(
    {
        "seconds": ("time (ms)", 1e3),
        "extra_bytes": ("memory beyond inputs\nand results (MiB)", 2.0**-20),
    }
)
AXES: Mapping[str, str] = MappingProxyType({"T": "length (steps)", "B": "batch (trials)"})
PANELS = (("T", "seconds"), ("B", "seconds"), ("T", "extra_bytes"))


def scaling(points: pd.DataFrame, quantity: str, ax: Axes) -> Axes:
    """A cost against size on logarithmic axes, a line a rule and backend, and a linear cost's.

    Args:
        points: rows of `fwbio.analyses.benchmarks.scaling.measure`, of one axis and direction.
        quantity: "seconds" or "extra_bytes".
        ax: where to draw.
    """
    name, unit = LABELS[quantity]
    shown = points[points[quantity] > 0]
    styles = rule_style(shown.rule)
    for (rule, backend), line in shown.groupby(["rule", "backend"], sort=False):
        ax.plot(
            line["size"],
            unit * line[quantity],
            **styles[rule].points | {"linestyle": LINES.get(backend, ":")},
            markersize=4,
            linewidth=1.2,
            label=f"{rule} {backend}",
        )
    if not shown.empty:
        ends = np.array([shown["size"].min(), shown["size"].max()], float)
        top = unit * shown[quantity].max()
        ax.plot(ends, top * ends / ends[-1], color=FAINT, linewidth=0.8, label="linear")
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xlabel(AXES[points["axis"].iloc[0]])
    ax.set_ylabel(name)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(color="#dddddd", linewidth=0.5)
    ax.set_axisbelow(True)
    return ax


def scaling_panels(points: pd.DataFrame, figure: Figure | SubFigure) -> list[Axes]:
    """Time against steps, time against trials and memory against steps, one row a direction.

    Args:
        points: rows of `fwbio.analyses.benchmarks.scaling.measure`.
        figure: a figure or sub-figure to fill, of `scaling_size` inches.
    """
    directions = list(dict.fromkeys(points.direction))
    grid = figure.subplots(len(directions), len(PANELS), squeeze=False)
    for direction, row in zip(directions, grid, strict=True):
        for (axis, quantity), ax in zip(PANELS, row, strict=True):
            chosen = points[(points.direction == direction) & (points["axis"] == axis)]
            if chosen.empty:
                ax.set_axis_off()
                continue
            fixed = " ".join(f"{n} {chosen[n].iloc[0]}" for n in "BTHKV" if n != axis)
            scaling(chosen, quantity, ax).set_title(f"{direction}, {fixed}", fontsize=9)
    labelled = {
        label: handle
        for ax in figure.axes
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    linear = labelled.pop("linear", None)
    labelled |= {} if linear is None else {"linear": linear}
    figure.legend(
        labelled.values(),
        labelled.keys(),
        loc="outside lower center",
        ncols=5,
        frameon=False,
        fontsize=9,
    )
    return list(grid.ravel())


def scaling_size(points: pd.DataFrame) -> tuple[float, float]:
    """The inches (width, height) that `scaling_panels` needs."""
    return 11, 3.1 * points.direction.nunique() + 1.1
