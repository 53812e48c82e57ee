"""`fwbio sweep departures`: recall and identification as synapses depart from the ideal."""

from pathlib import Path
from typing import Any

import click
import xarray as xr

from fwbio.analyses import options
from fwbio.analyses.departures import CANDIDATES, RULES
from fwbio.analyses.departures_table import DEPARTURES
from fwbio.analyses.outputs import check_writable, png
from fwbio.files import write_together

TREE, TABLE, FIGURE = "departures.nc", "departures.csv", "departures.png"


@click.command("departures")
@options.several("--departures", tuple(DEPARTURES), tuple(DEPARTURES), "Departures")
@options.several("--rules", RULES, RULES, "Rules; any that the synapses run")
@click.option("--trials", default=16, show_default=True, help="Episodes of each run.")
@click.option("--pairs", default=10, show_default=True, help="Pairs in each of them.")
@click.option("--pre", default=20, show_default=True, help="Channels of a key, a fifth active.")
@click.option("--post", default=8, show_default=True, help="Channels of a value.")
@click.option(
    "--cases", default=3, show_default=True, help="Recordings of each run to identify; 0: none."
)
@click.option(
    "--whole-table",
    is_flag=True,
    help=f"Identify among all rules, not only {', '.join(CANDIDATES)}.",
)
@click.option("--seed", default=0, show_default=True, help="Seed of the task and of the synapses.")
@options.out("results/departures")
def departures_command(
    out: Path,
    departures: tuple[str, ...],
    rules: tuple[str, ...],
    cases: int,
    whole_table: bool,
    seed: int,
    **sizes: int,
) -> None:
    """Take synapses away from the ideal, one departure at a time.

    Every rule's program of sparse random keys runs level by level: recall, agreement with the
    reference, and whether the rule is still recognised in the weights. OUT gets departures.nc,
    departures.csv and departures.png.

    \b
    Examples:
      fwbio sweep departures --out results/departures
      fwbio sweep departures --departures release,receptors --rules hebb,delta --cases 0
    """
    check_writable(out)
    from fwbio.analyses.departures import departures as sweep
    from fwbio.tasks import TASKS

    episode = TASKS["random_pairs"](seed=seed, keys="sparse", active=0.2, **sizes)
    found = sweep(
        episode,
        names=departures,
        rules=rules,
        cases=cases,
        candidates=None if whole_table else CANDIDATES,
        strength=0.9,
        time_constant=16.0,
        seed=seed,
        progress=True,
    )
    click.echo("\n".join(map(str, write(found, out))))


def write(found: xr.Dataset, folder: str | Path) -> list[Path]:
    """Write a sweep's dataset, its table (a row a departure, level and rule) and its figure.

    Earlier ones stay until all are made.

    Args:
        found: as `fwbio.analyses.departures.departures` makes it.
        folder: gets departures.nc, departures.csv and departures.png.

    Returns:
        Their paths.

    Raises:
        FwbioError: the folder can't be written.
    """
    from fwbio import record

    folder = Path(folder)
    contents = {
        TABLE: rows(found).to_csv(index=False, float_format="%.4g"),
        FIGURE: figure(found),
    }
    return [record.save(found, folder / TREE), *write_together(folder, contents)]


def rows(found: xr.Dataset) -> Any:
    """A sweep as a pandas table, a row a departure, level and rule.

    Args:
        found: as `fwbio.analyses.departures.departures` makes it.
    """
    cases = [name for name in ("verdict", "answer") if name in found]
    told = [name for name in found.data_vars if name not in cases]
    table = found[told].drop_vars(["label", "meaning", "source"]).to_dataframe().reset_index()
    for name in cases:
        joined = found[name].to_series().groupby(["departure", "level", "rule"]).agg("; ".join)
        table = table.merge(joined.reset_index(), on=["departure", "level", "rule"])
    order = ["departure", "substrate", "level", "value", "level_units", "rule"]
    table = table[[*order, *(name for name in table.columns if name not in order)]]
    place = table.departure.map({str(n): i for i, n in enumerate(found.departure.values)})
    table = table.assign(place=place).dropna(subset="value")
    return table.sort_values(["place", "level"], kind="stable").drop(columns="place")


def figure(found: xr.Dataset) -> bytes:
    """The figure of a sweep as PNG: recall, and below it identification, of each departure.

    Args:
        found: as `fwbio.analyses.departures.departures` makes it.
    """
    from matplotlib.figure import Figure

    from fwbio.analyses.departures_plots import small_multiples

    count = found.sizes["departure"]
    columns = min(4, count)
    rows_ = -(-count // columns)
    drawn = Figure(figsize=(3.0 * columns + 0.6, 2.9 * rows_ + 0.4), layout="constrained")
    axes = small_multiples(found, drawn, columns=columns)
    handles, labels = axes[0].get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    return png(drawn, dpi=110)
