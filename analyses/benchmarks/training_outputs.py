"""The files, the figure and the printed table of the benchmark of training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from fwbio.analyses.outputs import json_text, png
from fwbio.files import write_together

DATA, TABLE, FIGURE = "training.json", "training.csv", "training.png"


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
    contents: dict[str, str | bytes] = {
        DATA: json_text(found),
        TABLE: results.to_csv(index=False).encode(),
    }
    measured = results[results.status == "measured"]
    if not measured.empty:
        contents[FIGURE] = figure(measured)
    return write_together(folder, contents)


def figure(measured: pd.DataFrame) -> bytes:
    """The figure of what was measured, as PNG."""
    from matplotlib.figure import Figure

    from fwbio.analyses.benchmarks.training_plots import throughput_panels, throughput_size

    drawn = Figure(figsize=throughput_size(measured), layout="constrained")
    throughput_panels(measured, drawn)
    return png(drawn, dpi=160)


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
