"""`fwbio bench identification`: how often identification is right."""

from pathlib import Path

import click

from fwbio.analyses import options
from fwbio.analyses.outputs import check_writable
from fwbio.analyses.tables import terminal


@click.command("identification")
@click.option("--quick", is_flag=True, help="A few short recordings, to test the study itself.")
@click.option(
    "--seeds",
    default=10,
    show_default=True,
    type=click.IntRange(1),
    help="Recordings of each rule.",
)
@click.option(
    "--jobs",
    default=2,
    show_default=True,
    type=click.IntRange(1),
    help="Processes, one thread each.",
)
@options.out("results/identification")
def identification_command(quick: bool, seeds: int, jobs: int, out: Path) -> None:
    """Measure how often identification is right.

    Makes recordings of every rule with constants drawn at random, by seeds that its method was not
    developed on, and identifies each: by rule, by noise, by length, from read-outs alone and from
    spiking synapses. OUT gets study.csv, summary.json, confusion.png and README.md; the same
    command goes on where it was stopped.

    \b
    Examples:
      fwbio bench identification --quick
      fwbio bench identification --seeds 10 --jobs 2 --out results/identification
    """
    check_writable(out)
    from fwbio.analyses.identification.study_cases import cases
    from fwbio.analyses.identification.study_outputs import tables, write
    from fwbio.analyses.identification.study_run import run

    table = run(cases(quick=quick, seeds=seeds), out, jobs=jobs, progress=True)
    what = "--quick" if quick else f"--seeds {seeds}"
    written = write(table, out, command=f"fwbio bench identification {what}")
    for shown in tables(table):
        terminal().print(shown)
    click.echo("\n".join(map(str, written)))
