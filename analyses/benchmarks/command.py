"""`fwbio bench`: speed, memory and error beside peers."""

from pathlib import Path
from typing import Any

import click

from fwbio.analyses import options
from fwbio.analyses.benchmarks.analyses import ANALYSES
from fwbio.analyses.benchmarks.rows import DEVICES, LINEAR
from fwbio.analyses.benchmarks.synapses import ROWS as SYNAPTIC_ROWS
from fwbio.analyses.benchmarks.training import NAMES as TRAINED_ROWS
from fwbio.analyses.outputs import check_writable
from fwbio.analyses.tables import terminal
from fwbio.kernels import BACKENDS


@click.group("bench", invoke_without_command=True)
@click.pass_context
def bench_command(context: click.Context) -> None:
    """Measure speed, memory and error.

    \b
    Example:
      fwbio bench kernels --out results/kernels
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@bench_command.command("kernels")
@options.several("--rules", LINEAR, (), "Rules; all of these unless named")
@click.option(
    "--rows",
    default="all",
    show_default=True,
    type=click.Choice([*DEVICES, "all"]),
    help="Which rows: for a CPU, for a GPU, or both.",
)
@options.several("--backend", BACKENDS, (), "Backends; as scan chooses unless named")
@click.option("--threads", default=2, show_default=True, help="Threads of torch.")
@click.option("--seed", default=0, show_default=True, help="Seed of the tensors.")
@click.option("--quick", is_flag=True, help="Tiny sizes, to test the benchmark itself.")
@options.out("results/kernels")
def kernels_command(
    out: Path, rules: tuple[str, ...], rows: str, backend: tuple[str, ...], **settings: Any
) -> None:
    """Measure the kernels and what else there is.

    Each row is a rule in one shape. What deviates from float64 by more than its dtype allows
    is given no speed. Peers come with `pip install 'fwbio[bench]'`. OUT gets kernels.json,
    kernels.csv and scaling.png.

    \b
    Examples:
      fwbio bench kernels --rows cpu --out results/kernels
      fwbio bench kernels --rules delta,kda --quick --out results/quick
    """
    check_writable(out)
    from fwbio.analyses.benchmarks import kernels, outputs

    found = kernels.kernels(
        rules=rules,
        devices=[device for device in DEVICES if rows in (device, "all")],
        backends=backend,
        progress=True,
        **settings,
    )
    written = outputs.write(found, out)
    for table in outputs.tables(found):
        terminal().print(table)
    click.echo("\n".join(map(str, written)))


@bench_command.command("synapses")
@options.several("--rows", SYNAPTIC_ROWS, SYNAPTIC_ROWS, "Networks")
@click.option("--turns", default=15, show_default=True, help="How often each of them runs.")
@click.option("--seed", default=0, show_default=True, help="Seed of the programs.")
@click.option("--quick", is_flag=True, help="Tiny sizes, to test the benchmark itself.")
@options.out("results/synapses")
def synapses_command(out: Path, **settings: Any) -> None:
    """Measure the synaptic models beside Brian2 scripts by hand.

    Each row is a network. What deviates from a plain loop, or, of spiking cells, does not agree
    with the reference, is given no speed. The first run compiles for some minutes. OUT gets
    synapses.json and synapses.csv.

    \b
    Example:
      fwbio bench synapses --out results/synapses
    """
    check_writable(out)
    from fwbio.analyses.benchmarks import synapses

    found = synapses.synapses(progress=True, **settings)
    written = synapses.write(found, out)
    terminal().print(synapses.table(found))
    click.echo("\n".join(map(str, written)))


@bench_command.command("training")
@options.several("--rows", TRAINED_ROWS, TRAINED_ROWS, "Models, by rule and width")
@click.option(
    "--threads",
    multiple=True,
    default=(1, 2),
    show_default=True,
    help="Threads of torch; may be repeated.",
)
@click.option("--turns", default=15, show_default=True, help="Steps of each of them.")
@click.option("--seed", default=0, show_default=True, help="Seed of weights and tokens.")
@click.option("--quick", is_flag=True, help="Tiny sizes, to test the benchmark itself.")
@options.out("results/training")
def training_command(out: Path, **settings: Any) -> None:
    """Measure training beside the same model with a peer's memory, on the CPU.

    Each row is a model. What deviates in its loss or a gradient from float64 step by step is given
    no speed. Peers come with `pip install 'fwbio[bench]'`. OUT gets training.json, training.csv
    and training.png.

    \b
    Example:
      fwbio bench training --out results/training
    """
    check_writable(out)
    from fwbio.analyses.benchmarks import training, training_outputs

    found = training.training(progress=True, **settings)
    written = training_outputs.write(found, out)
    terminal().print(training_outputs.table(found))
    click.echo("\n".join(map(str, written)))


@bench_command.command("analyses")
@options.several("--names", tuple(ANALYSES), tuple(ANALYSES), "Analyses")
@click.option("--seed", default=0, show_default=True, help="Seed of the pairs and the noise.")
@click.option("--quick", is_flag=True, help="Tiny sizes, to test the benchmark itself.")
@options.out("results/analyses")
def analyses_command(out: Path, **settings: Any) -> None:
    """Measure the analyses of a large record.

    1,000 trials of 200 steps with 64 x 64 weights of every step are made block by block and kept
    in OUT meanwhile (5 GB); each analysis runs in a process of its own. OUT gets analyses.json and
    analyses.csv.

    \b
    Example:
      fwbio bench analyses --out results/analyses
    """
    check_writable(out)
    from fwbio.analyses.benchmarks import analyses

    found = analyses.analyses(folder=out, progress=True, **settings)
    written = analyses.write(found, out)
    terminal().print(analyses.table(found))
    click.echo("\n".join(map(str, written)))
