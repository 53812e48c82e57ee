"""Which rule made the weights in a file? Without a file, a recording is made up and identified.

`python analyses/examples/identify_recording.py recording.csv --out answer.json`
"""

import json
import tempfile
from pathlib import Path

import click
import numpy as np

from fwbio import program, reference
from fwbio.analyses.identification import identify, read
from fwbio.analyses.identification.csv_table import write_csv
from fwbio.analyses.identification.tables import plain


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--rules", default="hebb,mamba2,delta,gated_delta", show_default=True)
@click.option("--steps", default=100, show_default=True, help="Of the recording made up.")
@click.option("--seed", default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="A JSON file.")
def main(file: Path | None, rules: str, steps: int, seed: int, out: Path | None) -> None:
    """Fit rules to a recording and say which of them made it."""
    with tempfile.TemporaryDirectory() as folder:
        answer = identify(
            read(file or made_up(Path(folder) / "recording.csv", steps, seed)),
            rules=rules.split(","),
        )
    click.echo(answer.sentence)
    for rule in answer.rules:
        for constant in answer[rule].parameters:
            if constant.value.ndim == 0:
                click.echo(
                    f"  {rule} {constant.name} {constant.value:.4g}"
                    f" (95 %: {constant.low:.4g} to {constant.high:.4g})"
                )
    if out is not None:
        out.write_text(json.dumps(plain(answer), indent=1), encoding="utf-8")


def made_up(path: Path, steps: int, seed: int) -> Path:
    """A CSV file of a gated delta rule's weights, seen with noise."""
    rng = np.random.default_rng(seed)
    key, value = rng.random((steps, 6)), rng.standard_normal((steps, 4))
    run = reference.execute(
        program.make("gated_delta", key, value, key, beta=0.3, log_decay=np.log(0.95)),
        weights="all",
    )
    seen = run[["key", "value", "weights"]]
    seen["weights"] += 0.02 * rng.standard_normal(seen.weights.shape)
    return write_csv(seen, path)


if __name__ == "__main__":
    main()
