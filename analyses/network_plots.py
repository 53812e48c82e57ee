"""Figures of a network's comparison, drawn on the Axes that are given."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from fwbio.analyses.compare_network import WHOLE
from fwbio.analyses.palette import COLOURS, FAINT, MARKERS
from fwbio.analyses.words import plural

POINTS = 2000  # of a scatter, beyond which they hide one another
YLABELS: Mapping[str, str] = MappingProxyType(
    {
        "accuracy": "accuracy (share of scored steps)",
        "loss": "loss of a scored step (dimensionless)",
    }
)


def task(summary: pd.DataFrame, metric: str, ax: Axes) -> Axes:
    """Accuracy or loss by substrate, with standard errors, and the network's own beside it.

    Args:
        summary: as `fwbio.analyses.network_summary` makes it.
        metric: "accuracy" or "loss".
        ax: where to draw.
    """
    table = summary[summary.layer == WHOLE].pivot_table(
        index="substrate", columns="metric", values="value"
    )
    ran = [name for name in COLOURS if name in table.index]
    errors = table.get(f"task_{metric}_se", pd.Series(np.nan, table.index))
    itself = "the network itself"
    for place, name in enumerate(ran):
        ax.errorbar(
            place,
            table[f"task_{metric}"][name],
            yerr=errors[name],
            fmt=MARKERS[name],
            color=COLOURS[name],
            capsize=3,
        )
        own = table[f"network_{metric}"][name]
        ax.hlines(
            own,
            place - 0.3,
            place + 0.3,
            color=FAINT,
            linestyle="--",
            linewidth=1.2,
            label="" if place else itself,
        )
    ax.set_xticks(
        range(len(ran)), [f"{s}\n{plural(int(table.trials[s]), 'trial')}" for s in ran], fontsize=8
    )
    ax.set_xlim(-0.6, max(len(ran), 1) - 0.4)
    if metric == "accuracy":
        ax.set_ylim(-0.03, 1.03)
    ax.set_ylabel(YLABELS[metric])
    ax.spines[["top", "right"]].set_visible(False)
    if ran:  # above the axes, where it hides nothing
        ax.legend(frameon=False, fontsize=8, loc="lower right", bbox_to_anchor=(1, 1))
    return ax


def readouts(reads: Mapping[str, tuple[np.ndarray, np.ndarray]], ax: Axes) -> Axes:
    """Read-outs on substrates against the reference's of the same programs.

    Args:
        reads: substrate to the reference's read-outs and the substrate's, (n,) each.
        ax: where to draw.
    """
    for name, (ideal, found) in reads.items():
        every = max(1, len(ideal) // POINTS)
        ax.plot(
            ideal[::every],
            found[::every],
            marker=MARKERS[name],
            markersize=3,
            alpha=0.4,
            color=COLOURS[name],
            label=name,
            linestyle="none",
        )
    ax.axline((0, 0), slope=1, color=FAINT, linewidth=0.8, zorder=0)
    ax.set_xlabel("read-out in the reference,\nthe same program (dimensionless)")
    ax.set_ylabel("read-out on the substrate\n(dimensionless)")
    ax.spines[["top", "right"]].set_visible(False)
    if reads:
        ax.legend(frameon=False, fontsize=8)
    return ax
