"""`fwbio reproduce`: published results, trained and measured anew."""

from pathlib import Path

import click

from fwbio.analyses import options
from fwbio.analyses.outputs import check_writable
from fwbio.analyses.tables import terminal
from fwbio.errors import unknown_name

NAMES = ("ba2016", "schlag2021", "mqar", "parity", "icl")


@click.command("reproduce")
@click.argument("name", metavar=f"[{'|'.join(NAMES)}]")
@click.option("--quick", is_flag=True, help="Tiny sizes, in at most two minutes.")
@click.option(
    "--seeds",
    type=click.IntRange(1),
    show_default="3, or 1 in quick form",
    help="How many seeds, from 0 up.",
)
@click.option(
    "--jobs",
    default=2,
    show_default=True,
    type=click.IntRange(1),
    help="Processes, one thread each.",
)
@options.out("results/reproduce")
def reproduce_command(name: str, quick: bool, seeds: int | None, jobs: int, out: Path) -> None:
    """Train and measure what a publication's table needs.

    Prints published and measured figures side by side, and whether what must show does. OUT/NAME
    gets results.csv, results.json and NAME.png, and keeps the trained networks: the same command
    goes on where it was stopped.

    \b
    Examples:
      fwbio reproduce parity --quick
      fwbio reproduce ba2016 --seeds 3 --jobs 2 --out results/reproduce
    """
    if name not in NAMES:
        raise unknown_name(name, NAMES, kind="reproduction", where="reproduce")
    folder = check_writable(out / name)
    from fwbio.analyses.reproductions.outputs import tables, write
    from fwbio.analyses.reproductions.reproduce import reproduce
    from fwbio.analyses.reproductions.table import REPRODUCTIONS

    findings = reproduce(
        REPRODUCTIONS[name], folder, quick=quick, seeds=seeds, jobs=jobs, progress=True
    )
    written = write(findings, folder)
    for table in tables(findings):
        terminal().print(table)
    click.echo("\n".join(map(str, written)))
