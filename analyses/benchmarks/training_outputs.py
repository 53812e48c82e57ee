"""The files, the figure and the printed table of the benchmark of training."""

import io
import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fwbio.files import written_aside

DATA, TABLE, FIGURE = "training.json", "training.csv", "training.png"
OURS, THEIRS, MEMORY = "#0072B2", "#999999", "#000000"


def write(found: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write training.json, training.csv and, if anything was measured, training.png.

    Args:
        found: as `fwbio.analyses.benchmarks.training.training` makes it.
        folder: where they go; earlier ones stay until all are ready.

    Returns:
        The paths written.

    Raises:
        FwbioError: the folder can't be written.
    """
    results = pd.DataFrame(found["results"])
    contents = {
        DATA: json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False).encode(),
        TABLE: results.to_csv(index=False).encode(),
    }
    measured = results[results.status == "measured"]
    if not measured.empty:
        buffer = io.BytesIO()
        throughput_figure(measured).savefig(
            buffer, format="png", dpi=160, facecolor="white", metadata={"Software": None}
        )
        contents[FIGURE] = buffer.getvalue()
    with ExitStack() as stack:
        for name, content in contents.items():
            stack.enter_context(written_aside(folder / name)).write_bytes(content)
    return [folder / name for name in contents]


def throughput(entries: pd.DataFrame, ax: Axes) -> Axes:
    """Time of a step as bars, the memories' part of it dark, tokens a second beside each.

    Args:
        entries: measured results of one row and number of threads.
        ax: where to draw.
    """
    shown = entries.sort_values("step_s", ascending=False)
    colours = [OURS if ours else THEIRS for ours in shown.ours]
    places = range(len(shown))
    ax.barh(places, 1e3 * shown.step_s, color=colours)
    ax.barh(places, 1e3 * shown.memory_s, color=MEMORY, alpha=0.35)
    for place, entry in zip(places, shown.itertuples(), strict=True):
        told = f" {entry.tokens_per_s:,.0f} tokens/s"
        ax.text(1e3 * entry.step_s, place, told, va="center", fontsize=8)
    ax.set_yticks(places, shown.implementation, fontsize=8)
    ax.set_xlim(0, 1.35e3 * shown.step_s.max())
    ax.set_xlabel("a step of training (ms); dark: the memories alone")
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def throughput_figure(measured: pd.DataFrame) -> Figure:
    """A panel for each row and number of threads.

    Args:
        measured: results with a speed.
    """
    groups = list(measured.groupby(["row", "threads"], sort=False))
    figure = Figure(figsize=(8, 1.6 * len(groups) + 0.4), layout="constrained")
    panels = figure.subplots(len(groups), squeeze=False)[:, 0]
    for ((row, threads), entries), ax in zip(groups, panels, strict=True):
        ax.set_title(f"{row}, {threads} thread{'s' if threads > 1 else ''}", fontsize=9)
        throughput(entries, ax)
    return figure


def table(found: Mapping[str, Any]) -> Any:
    """The results for a terminal."""
    from rich.table import Table

    shown = Table(
        title="Training: median of turns ± half their interquartile range; a ratio above 1 is"
        " faster than the best peer, its bound what it would be if these memories took no time, the"
        " last ratio that to a peer's memory in this package's model",
        title_justify="left",
    )
    shown.add_column("memories by", overflow="fold")
    for name in ("tokens/s", "step ms", "memory %", "ratio", "minima", "bound", "memory", "error"):
        shown.add_column(name, justify="right", no_wrap=True)
    where = None
    for entry in found["results"]:
        if where != (where := f"{entry['row']}, threads: {entry['threads']}"):
            shown.add_section()
            shown.add_row(where, style="italic")
        if entry["status"] != "measured":
            shown.add_row(f"{entry['implementation']}: {entry['reason']}")
            continue
        ratios = (entry[x] for x in ("ratio", "ratio_of_minima", "ratio_bound", "ratio_borrowing"))
        shown.add_row(
            entry["implementation"],
            f"{entry['tokens_per_s']:,.0f}",
            f"{1e3 * entry['step_s']:.4g} ± {5e2 * (entry['step_s_q3'] - entry['step_s_q1']):.1g}",
            f"{100 * entry['memory_share']:.0f}",
            *("–" if x is None else f"{x:.2f}" for x in ratios),
            f"{entry['error']:.0e}",
            style="bold" if entry["ours"] else None,
        )
    return shown
