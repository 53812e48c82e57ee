"""One memory on four substrates: what each recalls, and how far it strays from the arithmetic.

`python analyses/examples/four_substrates.py --rule delta --pairs 12 --out substrates.csv`
"""

from pathlib import Path

import click
import pandas as pd

from fwbio import models, reference, tasks
from fwbio.analyses import readout_agreement, recall_accuracy, weight_agreement


@click.command()
@click.option("--rule", default="delta", show_default=True)
@click.option("--pairs", default=12, show_default=True)
@click.option("--trials", default=2, show_default=True)
@click.option("--engine", default="numpy", show_default=True, help="cython compiles first.")
@click.option("--seed", default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="A CSV file.")
def main(rule: str, pairs: int, trials: int, engine: str, seed: int, out: Path | None) -> None:
    """Bind sparse items to random contents, on arithmetic, exact, rate and spiking synapses."""
    episode = tasks.TASKS["random_pairs"](
        seed=seed, trials=trials, pairs=pairs, noise=0.3, pre=48, post=24, keys="sparse"
    )
    program = models.designed(episode, rule)
    runs = {
        "reference": reference.execute(program),
        "flow": models.execute(program, "flow"),
        "rate": models.execute(program, "rate", engine=engine),
        "spiking": models.execute(program, "spiking", engine=engine, seed=seed),
    }
    table = pd.DataFrame(
        {
            name: {
                "recalled": recall_accuracy(run).value,
                "readout_agreement": readout_agreement(run, runs["reference"]),
                "weight_agreement": weight_agreement(run, runs["reference"]),
            }
            for name, run in runs.items()
        }
    ).T.rename_axis("substrate")
    click.echo(table.round(3).to_string())
    if out is not None:
        table.to_csv(out)


if __name__ == "__main__":
    main()
