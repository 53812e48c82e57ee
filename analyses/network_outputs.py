"""What `fwbio compare --checkpoint` shows and writes: a table, a figure and the records."""

import shutil
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import click
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from fwbio import record
from fwbio.analyses import network_plots
from fwbio.analyses.compare_network import OWN, WHOLE, network_summary
from fwbio.analyses.figures import Drawing
from fwbio.analyses.outputs import REPORT, TABLE, TREE, check_writable
from fwbio.analyses.palette import COLOURS
from fwbio.analyses.recall import Estimate
from fwbio.analyses.report import network as network_report
from fwbio.analyses.report.page import render
from fwbio.analyses.tables import print_ledger, terminal
from fwbio.analyses.words import number
from fwbio.files import written_aside

FIGURE = "network.png"
SHOWN = {
    "readout_agreement": "read-out r",
    "weight_agreement": "weight cosine",
    "carried_agreement": "r with network",
}


def write_network(tree: xr.DataTree, folder: str | Path, *, with_tree: bool = True) -> list[Path]:
    """Write a network's comparison: comparison.nc, summary.csv, network.png and report.html.

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
    names = [*([TREE] if with_tree else []), TABLE, FIGURE, REPORT]
    with tempfile.TemporaryDirectory() as staged, ExitStack() as stack:
        draft = Path(staged)
        network_summary(tree).to_csv(draft / TABLE, index=False)
        drawing = draw_network(tree)
        images = {drawing.name: drawing.png()}
        nights = {drawing.name: drawing.png(dark=True)}
        (draft / FIGURE).write_bytes(images[drawing.name])
        page = render(tree, images, nights, [drawing])
        (draft / REPORT).write_text(page, encoding="utf-8")
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
    metric = network_report.metric_of(tree)
    reads = {name: _reads(tree, name) for name in ran}
    figure = Figure(figsize=(12.5, 4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    network_plots.task(frame, metric, left, chance=network_report.chance_level(tree))
    changed = network_report.differences(tree)
    network_plots.differences(changed, metric, middle)
    network_plots.readouts(reads, right)
    figure.suptitle(f"{config['rule']} network, {config['task']}")
    dotted = "; the dotted line is giving the commonest answer" if metric == "accuracy" else ""
    return Drawing(
        name=Path(FIGURE).stem,
        title="A trained network on every substrate",
        caption=f"{network_report.what_was_run(tree)} Left: the task's {metric} with standard"
        " errors over sequences; dashes are the network's own on the same ones"
        f"{dotted}. Middle: what each substrate changes in it, sequence by sequence, with the"
        " standard errors of the differences. Right: read-outs of the last layer with fast"
        " weights, against the reference's of the program that it had in that run.",
        alternative=_told(frame, metric, changed),
        figure=figure,
    )


def print_network(tree: xr.DataTree, written: list[Path]) -> None:
    """The main metrics of a network's comparison, what was not run, and the files."""
    from rich.table import Table

    frame = network_summary(tree)
    metric = network_report.metric_of(tree)
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


def _told(frame: pd.DataFrame, metric: str, changed: Mapping[str, Estimate]) -> str:
    """What the figure shows, with its numbers."""
    whole = frame[(frame.layer == WHOLE) & (frame.metric == f"task_{metric}")]
    found = whole.set_index("substrate")["value"]
    parts = [
        f"{name} {number(found[name])}, a change of {number(change.value)}"
        for name, change in changed.items()
    ]
    return (
        f"{metric.capitalize()} by substrate and its change from the network's own:"
        f" {'; '.join(parts)}. Beside them, read-outs of the last layer against the reference's."
    )
