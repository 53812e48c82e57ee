"""`fwbio sweep capacity`: recall along one axis, as a table and a figure."""

from collections.abc import Sequence
from math import isnan
from pathlib import Path
from typing import Any

import click
import xarray as xr

from fwbio.analyses import options
from fwbio.analyses.capacity_config import AXES, PROGRAMMERS
from fwbio.analyses.outputs import check_writable, png
from fwbio.analyses.substrates import SUBSTRATES
from fwbio.analyses.tables import print_rows
from fwbio.analyses.words import number, over_trials
from fwbio.files import write_together
from fwbio.rules import RULES
from fwbio.tasks import PAIR_TASKS


def numbers(context: click.Context, parameter: click.Parameter, given: str) -> tuple[float, ...]:
    """Numbers separated by commas."""
    try:
        return tuple(float(word) for word in given.split(",") if word.strip())
    except ValueError as error:
        raise click.BadParameter(f"{given!r} is not numbers, separated by commas") from error


@click.command("capacity")
@click.option(
    "--task", default="random_pairs", show_default=True, help=f"One of {', '.join(PAIR_TASKS)}."
)
@click.option(
    "--axis", default="pairs", show_default=True, type=click.Choice(list(AXES)), help="What varies."
)
@click.option(
    "--values",
    default="4,8,16,32,64",
    show_default=True,
    callback=numbers,
    metavar="NUMBERS",
    help="Where along the axis, separated by commas.",
)
@options.several("--rules", tuple(RULES), ("hebb", "delta"), "Rules")
@options.several("--substrates", tuple(SUBSTRATES), ("reference",), "Substrates")
@options.several("--programmers", tuple(PROGRAMMERS), ("designed",), "Programmers")
@click.option("--pairs", default=16, show_default=True, help="Pairs to bind, unless they vary.")
@click.option(
    "--noise", default=0.0, show_default=True, help="Noise on the cues, unless it varies."
)
@click.option("--trials", default=64, show_default=True, help="Trials.")
@options.assigned(
    "--trials-on", "trials_on", "Fewer trials of a substrate, its NAME=VALUE; may be repeated."
)
@click.option("--seed", default=0, show_default=True, help="Seed of everything.")
@options.assigned("--size", "sizes", "Another size of the task; may be repeated.")
@options.assigned(
    "--code", "code", "Another argument of the hand-made codes, time_constant=64; may be repeated."
)
@options.out("results/capacity")
def capacity_command(out: Path, **settings: Any) -> None:
    """Recall by the number of pairs, noise, similarity or sparseness of keys.

    OUT gets capacity_AXIS.nc, .csv and .png, with closed forms as lines where there are any, and
    keeps the trained programmers in programmers/ for the next time.

    \b
    Examples:
      fwbio sweep capacity --axis pairs --values 4,16,64 --rules hebb,delta --out results/capacity
      fwbio sweep capacity --axis noise --values 0,.5,1 --size values=sign --out results/capacity
    """
    from fwbio.analyses.capacity import capacity

    check_writable(out)
    measured = capacity(**settings, checkpoints=out / "programmers", progress=True)
    written = write(measured, out)
    head, rows = recalled(measured)
    print_rows("Recall accuracy \N{PLUS-MINUS SIGN} standard error over trials", head, rows)
    click.echo("\n".join(map(str, written)))


def recalled(measured: xr.Dataset) -> tuple[list[str], list[list[str]]]:
    """The recall of a sweep in words: the names of its columns, and a row a run and place.

    The last column is how many standard errors the noise power is off its closed form, a dash
    where there is none or one trial has no error.

    Args:
        measured: as `fwbio.analyses.capacity.capacity` makes it.
    """
    from fwbio.analyses.capacity_laws import deviations

    axis = str(measured.attrs["config"]["axis"])
    off = deviations(measured)["noise_power"].reindex(substrate=measured.substrate)
    told = measured[["recall_accuracy", "recall_accuracy_se", "noise_power", "trials"]].assign(
        z=off
    )
    frame = told.to_dataframe().reset_index()
    names = ["programmer", "substrate", "rule"]
    frame = frame[frame.recall_accuracy.notna()]
    cells = []
    for _, row in frame.iterrows():
        error = over_trials(row["recall_accuracy_se"], int(row["trials"]))
        recall = f"{number(row['recall_accuracy'])} {error}".strip()
        z = "\N{EN DASH}" if isnan(row["z"]) else f"{row['z']:.1f}"
        cells.append([*row[names], f"{row[axis]:g}", recall, number(row["noise_power"]), z])
    return [*names, axis, "recall", "noise power", "z of its closed form"], cells


def write(measured: xr.Dataset, folder: Path) -> Sequence[Path]:
    """Write a sweep as capacity_AXIS.nc, .csv and .png; earlier ones stay until all are made.

    Args:
        measured: as `fwbio.analyses.capacity.capacity` makes it.
        folder: where to.

    Returns:
        The paths written.

    Raises:
        FwbioError: the folder can't be written.
    """
    from fwbio.record import save

    stem = f"capacity_{measured.attrs['config']['axis']}"
    contents: dict[str, str | bytes] = {
        f"{stem}.csv": table(measured),
        f"{stem}.png": figure(measured),
    }
    return [save(measured, folder / f"{stem}.nc"), *write_together(folder, contents)]


def table(measured: xr.Dataset) -> str:
    """A sweep as CSV: a row for each measured number, with its closed form and how far it is off.

    Args:
        measured: as `fwbio.analyses.capacity.capacity` makes it.
    """
    from fwbio.analyses.capacity_laws import deviations, theory
    from fwbio.analyses.capacity_measures import MEASURES

    must, off = theory(measured), deviations(measured)
    parts = []
    for name in (name for name in MEASURES if name in measured):
        columns = xr.Dataset(
            {
                "value": measured[name],
                "se": measured[f"{name}_se"],
                "theory": must[name],
                "z": off[name].reindex(substrate=measured.substrate),
            }
        )
        parts.append(columns.expand_dims(measure=[name]))
    frame = xr.concat(parts, "measure").to_dataframe().reset_index()
    frame = frame[frame.value.notna()]
    order = ["measure", "programmer", "substrate", "rule", str(measured.attrs["config"]["axis"])]
    return str(
        frame[[*order, "value", "se", "theory", "z"]].to_csv(index=False, float_format="%.5g")
    )


def figure(measured: xr.Dataset) -> bytes:
    """The figure of a sweep as PNG: a row for each programmer, a panel for each view.

    Args:
        measured: as `fwbio.analyses.capacity.capacity` makes it.
    """
    from matplotlib.figure import Figure

    from fwbio.analyses.capacity_laws import as_shown, places, theory
    from fwbio.analyses.capacity_plots import by_rule, by_substrate

    axis = str(measured.attrs["config"]["axis"])
    measured = as_shown(measured)
    rough = theory(measured, at=places(measured), approximate=True)
    lines = rough.where(theory(measured).notnull().any(axis)).assign_attrs(approximate=False)
    programmers = [str(name) for name in measured.programmer.values]
    views = [n for n in ("recall_accuracy", "noise_power", "bit_error") if n in measured]
    several = measured.sizes["substrate"] > 1
    columns = len(views) + several
    drawn = Figure(figsize=(3.7 * columns, 3.1 * len(programmers)), layout="constrained")
    panels = drawn.subplots(len(programmers), columns, squeeze=False)
    first = str(measured.substrate.values[0])
    for row, programmer in zip(panels, programmers, strict=True):
        for ax, view in zip(row, views, strict=False):
            by_rule(
                measured,
                ax,
                programmer=programmer,
                measure=view,
                substrate=first,
                theory=lines,
                rough=rough,
            )
            ax.set_title(f"{programmer}, {first}", fontsize=9)
        if several:
            rule = str(measured.rule.values[0])
            by_substrate(measured, row[-1], programmer=programmer, rule=rule, theory=lines)
            row[-1].set_title(f"{programmer}, {rule}", fontsize=9)
            row[-1].legend(fontsize=6, frameon=False)
        row[0].legend(fontsize=6, frameon=False)
    return png(drawn, dpi=110)
