"""`fwbio sweep classical`: Willshaw's and Hopfield's memories beside their closed forms."""

from pathlib import Path

import click

from fwbio.analyses import options
from fwbio.analyses.outputs import check_writable
from fwbio.analyses.tables import print_rows


@click.command("classical")
@click.option("--quick", is_flag=True, help="Small nets and few of them, to try the command.")
@click.option(
    "--trials", default=64, show_default=True, type=click.IntRange(2), help="Memories of a point."
)
@click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of everything."
)
@options.out("results/classical")
def classical_command(quick: bool, trials: int, seed: int, out: Path) -> None:
    """Measure the two classical associative memories, Willshaw's and Hopfield's.

    Both are the rule hebb on the toolkit's substrates: with weights that end at one, and with
    patterns that are their own keys. OUT gets willshaw and hopfield as .nc, .csv and .png,
    classical.json and README.md. It takes some three minutes; --quick some seconds.

    \b
    Examples:
      fwbio sweep classical --quick --out results/classical
      fwbio sweep classical --trials 64 --out results/classical
    """
    check_writable(out)
    from fwbio.analyses.classical import hopfield, willshaw, willshaw_gaps
    from fwbio.analyses.classical_config import quick_sweeps, sweeps
    from fwbio.analyses.classical_outputs import DEVIATIONS, deviation_rows, write

    first, few, second = quick_sweeps(seed) if quick else sweeps(trials, seed)
    gaps = (0.1, 1.0) if quick else (0.1, 0.2, 0.3, 0.5, 1.0)
    measured = willshaw(first), willshaw(few), hopfield(second), willshaw_gaps(first, gaps)
    settings = "--quick" if quick else f"--trials {trials}"
    command = f"fwbio sweep classical {settings} --seed {seed}"
    written = write(*measured, out, command=command)
    print_rows("Measured against exact closed forms", DEVIATIONS, deviation_rows(*measured[:3]))
    click.echo("\n".join(map(str, written)))
