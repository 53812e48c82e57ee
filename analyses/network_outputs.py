"""What `fwbio compare --checkpoint` shows and writes: a table, a figure and the records."""

import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

import click
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fwbio import record
from fwbio.analyses.compare_network import OWN, WHOLE, network_summary
from fwbio.analyses.figures import Drawing
from fwbio.analyses.outputs import TABLE, TREE, check_writable
from fwbio.analyses.plots import COLOURS, FAINT, MARKERS
from fwbio.analyses.tables import print_ledger, terminal
from fwbio.analyses.words import number, plural
from fwbio.files import written_aside

FIGURE = "network.png"
POINTS = 2000  # of a scatter, beyond which they hide one another
SHOWN = {
    "readout_agreement": "read-out r",
    "weight_agreement": "weight cosine",
    "carried_agreement": "r with network",
}


def write_network(tree: xr.DataTree, folder: str | Path, *, with_tree: bool = True) -> list[Path]:
    """Write a network's comparison: comparison.nc, summary.csv and network.png.

    Args:
        tree: as `fwbio.analyses.compare_network` makes it.
        folder: where to; what is there already stays until all is drawn.
        with_tree: whether to write comparison.nc.

    Returns:
        The paths written.

    Raises:
        FwbioError: the tree is not such a comparison, or the folder can't be written.
    """
    folder = check_writable(folder)
    names = [*([TREE] if with_tree else []), TABLE, FIGURE]
    with tempfile.TemporaryDirectory() as staged, ExitStack() as stack:
        draft = Path(staged)
        network_summary(tree).to_csv(draft / TABLE, index=False)
        (draft / FIGURE).write_bytes(draw_network(tree).png())
        if with_tree:
            record.save(tree, draft / TREE)
        asides = {name: stack.enter_context(written_aside(folder / name)) for name in names}
        for name, aside in asides.items():
            shutil.move(draft / name, aside)
    return [folder / name for name in names]


def draw_network(tree: xr.DataTree) -> Drawing:
    """The figure of a network's comparison: what the task measures, and what the layers read.

    Raises:
        FwbioError: the tree is not a network's comparison.
    """
    frame = network_summary(tree)
    config = tree.attrs["config"]
    ran = [name for name in COLOURS if name in set(frame.substrate)]
    metric = "accuracy" if (frame.metric == "task_accuracy").any() else "loss"
    reads = {name: _reads(tree, name) for name in ran}
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    task(frame, metric, left)
    readouts(reads, right)
    figure.suptitle(f"{config['rule']} network, {config['task']}")
    return Drawing(
        name=Path(FIGURE).stem,
        title="A trained network on every substrate",
        caption=f"Left: the task's {metric} with standard errors over trials; dashes are the"
        " network's own on the same trials. Right: read-outs of the last layer with fast weights,"
        " against the reference's of the program that it had in that run.",
        alternative=f"{metric} by substrate, and read-outs against the reference's",
        figure=figure,
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
    ax.set_ylabel(f"{metric} (scored steps)")
    ax.spines[["top", "right"]].set_visible(False)
    if ran:  # above the axes, where it hides nothing
        ax.legend(frameon=False, fontsize=8, loc="lower right", bbox_to_anchor=(1, 1))
    return ax


def readouts(reads: dict[str, tuple[np.ndarray, np.ndarray]], ax: Axes) -> Axes:
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
            MARKERS[name],
            markersize=3,
            alpha=0.4,
            color=COLOURS[name],
            label=name,
            linestyle="none",
        )
    ax.axline((0, 0), slope=1, color=FAINT, linewidth=0.8, zorder=0)
    ax.set_xlabel("read-out in the reference, the same program")
    ax.set_ylabel("read-out on the substrate")
    ax.spines[["top", "right"]].set_visible(False)
    if reads:
        ax.legend(frameon=False, fontsize=8)
    return ax


def print_network(tree: xr.DataTree, written: list[Path]) -> None:
    """The main metrics of a network's comparison, what was not run, and the files."""
    from rich.table import Table

    frame = network_summary(tree)
    metric = "accuracy" if (frame.metric == "task_accuracy").any() else "loss"
    change = "accuracy_lost" if metric == "accuracy" else "loss_added"
    whole = {
        f"task_{metric}": metric,
        f"task_{metric}_se": "± se",
        f"network_{metric}": f"network's own {metric}",
        change: change.replace("_", " "),
    }
    shown = Table(box=None, padding=(0, 2, 0, 0))
    shown.add_column("substrate", no_wrap=True)
    for column in ("trials", *whole.values(), "layer", *SHOWN.values()):
        shown.add_column(column, justify="right")
    for substrate, rows in frame.groupby("substrate", sort=False):
        values = rows.set_index(["layer", "metric"])["value"]
        all_of_it = [number(values[WHOLE, name]) for name in whole]
        lead = [str(substrate), f"{values[WHOLE, 'trials']:g}", *all_of_it]
        for layer in [name for name in dict.fromkeys(rows.layer) if name != WHOLE]:
            shown.add_row(*lead, layer, *(number(values[layer, name]) for name in SHOWN))
            lead = [""] * len(lead)
    terminal().print(shown)
    print_ledger(tree.attrs["not_run"])
    own = tree[f"{OWN}/answers"].to_dataset()
    value = float((own.correct if metric == "accuracy" else own.loss).mean())
    click.echo(f"the network's own {metric}: {number(value)} ({own.sizes['trial']} trials)")
    click.echo("\n".join(map(str, written)))


def _reads(tree: xr.DataTree, substrate: str) -> tuple[np.ndarray, np.ndarray]:
    """Read-outs of the last layer on a substrate, after the reference's of the same program."""
    from fwbio import reference

    layers = [name for name in tree[substrate].children if name != "answers"]
    last = max(layers, key=lambda name: int(name.rpartition("_")[2]))
    found = tree[f"{substrate}/{last}"].to_dataset()
    ideal = reference.execute(found)
    return ideal.readout.values.ravel(), found.readout.values.ravel()
