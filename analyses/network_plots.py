"""Figures of a network's comparison, drawn on the Axes that are given."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from fwbio.analyses.compare_network import WHOLE
from fwbio.analyses.palette import COLOURS, FAINT, MARKERS
from fwbio.analyses.recall import Estimate
from fwbio.analyses.words import plural

POINTS = 2000  # of a scatter, beyond which they hide one another
YLABELS: Mapping[str, str] = MappingProxyType(
    {
        "accuracy": "accuracy (share of scored steps)",
        "loss": "loss of a scored step (dimensionless)",
    }
)

DIFFERENCES: Mapping[str, str] = MappingProxyType(
    {
        "accuracy": "change of accuracy\n(share of scored steps)",
        "loss": "change of loss of a scored step\n(dimensionless)",
    }
)
LEAST = 0.01  # smaller changes are not drawn larger than life


def task(summary: pd.DataFrame, metric: str, ax: Axes, *, chance: float = float("nan")) -> Axes:
    """Accuracy or loss by substrate, with standard errors, and the network's own beside it.

    Args:
        summary: as `fwbio.analyses.network_summary` makes it.
        metric: "accuracy" or "loss".
        ax: where to draw.
        chance: what the commonest answer is worth, drawn as a line where it is finite.
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
    if np.isfinite(chance):
        label = f"commonest answer ({chance:.2g})"
        ax.axhline(chance, color=FAINT, linestyle=":", linewidth=1.2, label=label)
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


def differences(found: Mapping[str, Estimate], metric: str, ax: Axes) -> Axes:
    """What each substrate changes in a network's answers on the same sequences, with errors.

    Args:
        found: as `fwbio.analyses.report.network.differences` makes them.
        metric: "accuracy" or "loss".
        ax: where to draw.
    """
    for place, (name, apart) in enumerate(found.items()):
        ax.errorbar(
            place,
            apart.value,
            yerr=apart.standard_error,
            fmt=MARKERS[name],
            color=COLOURS[name],
            capsize=3,
        )
    ax.axhline(0, color=FAINT, linestyle="--", linewidth=1.2)
    ax.set_xticks(range(len(found)), list(found), fontsize=8)
    ax.set_xlim(-0.6, max(len(found), 1) - 0.4)
    ends = [abs(d.value) + np.nan_to_num(d.standard_error) for d in found.values()]
    reach = max(1.2 * max(ends, default=0.0), LEAST)
    ax.set_ylim(-reach, reach)
    ax.set_ylabel(DIFFERENCES[metric])
    ax.spines[["top", "right"]].set_visible(False)
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
