"""Handwritten digits in a spiking memory that corrects its errors, as a figure.

`python analyses/examples/spiking_digits.py --pairs 10 --out digits.png`
"""

from pathlib import Path

import click
from matplotlib.figure import Figure

from fwbio import models, reference, tasks
from fwbio.analyses import plots, readout_agreement, recall_accuracy


@click.command()
@click.option("--rule", default="delta", show_default=True)
@click.option("--pairs", default=8, show_default=True)
@click.option("--noise", default=0.2, show_default=True, help="On the cues' pixels, from 0 to 1.")
@click.option("--release", default=1.0, show_default=True, help="Chance that a spike transmits.")
@click.option("--engine", default="numpy", show_default=True, help="cython compiles first.")
@click.option("--seed", default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="A figure.")
def main(
    rule: str, pairs: int, noise: float, release: float, engine: str, seed: int, out: Path | None
) -> None:
    """Bind digits to digits by spikes, and ask for them with noisy cues."""
    episode = tasks.TASKS["digits"](seed=seed, trials=1, pairs=pairs, noise=noise)
    program = models.designed(episode, rule)
    ideal = reference.execute(program)
    spiking = models.execute(program, "spiking", engine=engine, seed=seed, release=release)
    for name, run in (("reference", ideal), ("spiking", spiking)):
        click.echo(f"{name:>9} recalls {recall_accuracy(run).value:.0%} of {pairs} pairs")
    click.echo(f"their read-outs correlate {readout_agreement(spiking, ideal):.3f}")
    if out is not None:
        figure = Figure(figsize=(7, 3), layout="constrained")
        plots.episode({"reference": ideal, "spiking": spiking}, episode, figure)
        figure.savefig(out, dpi=150)


if __name__ == "__main__":
    main()
