"""The command line: `fwbio`, or `python -m fwbio.analyses.cli`.

Every mistake is one line on standard error, `fwbio: where: what; mend`, and exit code 2.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from fwbio import RULES, FwbioError, __version__
from fwbio.analyses.benchmarks.command import bench_command
from fwbio.analyses.capacity_command import capacity_command
from fwbio.analyses.checkpoint_command import checkpoint_option, compare_checkpoint, print_again
from fwbio.analyses.classical_command import classical_command
from fwbio.analyses.compare import PROGRAMMERS, Comparison, compare, require_comparison
from fwbio.analyses.departures_command import departures_command
from fwbio.analyses.identification.command import identify_command
from fwbio.analyses.identification.study_command import identification_command
from fwbio.analyses.options import out as out_option
from fwbio.analyses.options import several, values
from fwbio.analyses.outputs import check_folder, check_writable, in_folder, write
from fwbio.analyses.reproductions.command import reproduce_command
from fwbio.analyses.rules_command import rules_command
from fwbio.analyses.substrates import SUBSTRATES
from fwbio.analyses.sweep_command import sweep_command
from fwbio.analyses.tables import (
    listed_tasks,
    print_protocols,
    print_summary,
    print_task,
    print_tasks,
)
from fwbio.analyses.train_command import train_command
from fwbio.errors import unknown_name
from fwbio.tasks import PAIR_TASKS, TASKS

MISTAKE, INTERRUPTED = 2, 130
STAYS = "an earlier result, if any, is as it was"
GOES_ON = "the same command, given again, goes on from its last checkpoint"
KEEPING = ("train", "reproduce")  # commands that keep checkpoints


class Interrupted(click.ClickException):
    """The user pressed Ctrl-C."""

    exit_code = INTERRUPTED


class OneLineGroup(click.Group):
    """Commands whose mistakes are told in one line, without usage text or traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, naming Ctrl-C before click prints a line of its own."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            kept = GOES_ON if ctx.invoked_subcommand in KEEPING else STAYS
            raise Interrupted(f"interrupted: {kept}") from None

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command line and exit."""
        try:
            done = super().main(args, prog_name or "fwbio", complete_var, False, **extra)
        except FwbioError as error:
            done = _told(str(error), MISTAKE)
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message())
            done = 0
        except click.UsageError as error:
            done = _told(_usage(error), MISTAKE)
        except click.ClickException as error:
            done = _told(error.format_message(), error.exit_code)
        except OSError as error:
            where = error.filename or "a file"
            done = _told(f"{where}: {error.strerror or error}; mend that and try again", MISTAKE)
        sys.exit(done if isinstance(done, int) else 0)


def _told(message: str, code: int) -> int:
    click.echo(f"fwbio: {' '.join(message.split())}", err=True)
    return code


def _usage(error: click.UsageError) -> str:
    """A mistake in how the command was written, as where, what and mend."""
    command = error.ctx.command_path if error.ctx else "fwbio"
    where = command.removeprefix("fwbio").strip() or "command line"
    what = error.format_message()
    if isinstance(error, click.BadParameter) and not isinstance(error, click.MissingParameter):
        what = error.message
        hint = error.param.get_error_hint(error.ctx) if error.param and error.ctx else ""
        where = f"{where} {hint}".replace("'", "").strip()
    return f"{where}: {what.rstrip('.')}; see `{command} --help`"


@click.group(
    "fwbio",
    cls=OneLineGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="fwbio")
@click.pass_context
def main(context: click.Context) -> None:
    """Fast weight programmers, on synapses and on tensors, side by side.

    \b
    Example:
      fwbio compare --out results
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@main.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs to read.")
def tasks(name: str | None, as_json: bool) -> None:
    """List the tasks, or the sizes of the one called NAME.

    A task shows pairs, for slow nets that program a rule, or sequences, for networks. Sizes are
    given as --size NAME=VALUE, those that are options of a command as those.

    \b
    Examples:
      fwbio tasks
      fwbio tasks mqar
    """
    if name is not None and name not in TASKS:
        raise unknown_name(name, TASKS, kind="task", where="tasks")
    table = listed_tasks([name] if name else TASKS)
    if as_json:
        click.echo(json.dumps(table[0] if name else table, indent=2, ensure_ascii=False))
    elif name:
        print_task(table[0])
    else:
        print_tasks(table)


@main.command("compare")
@click.option(
    "--task", default="digits", show_default=True, help=f"One of {', '.join(PAIR_TASKS)}."
)
@several("--rules", tuple(RULES), Comparison.rules, "Rules")
@several("--programmers", tuple(PROGRAMMERS), Comparison.programmers, "Programmers")
@several("--substrates", tuple(SUBSTRATES), Comparison.substrates, "Substrates")
@click.option("--pairs", default=Comparison.pairs, show_default=True, help="Pairs to bind.")
@click.option("--noise", default=Comparison.noise, show_default=True, help="Noise on the cues.")
@click.option(
    "--gap", default=Comparison.gap, show_default=True, help="Empty steps before the first cue."
)
@click.option("--trials", default=Comparison.trials, show_default=True, help="Trials.")
@click.option(
    "--synaptic-trials",
    default=Comparison.synaptic_trials,
    show_default=True,
    help="How many of them, the first ones, the synaptic substrates and programmer run.",
)
@click.option("--seed", default=Comparison.seed, show_default=True, help="Seed of everything.")
@click.option(
    "--size",
    "sizes",
    multiple=True,
    metavar="NAME=VALUE",
    callback=values,
    help="Another size of the task; may be repeated.",
)
@checkpoint_option
@out_option("results")
@click.pass_context
def compare_command(
    context: click.Context, out: Path, checkpoint: Path | None, **settings: Any
) -> None:
    """Run the same programs on every substrate.

    OUT gets comparison.nc, summary.csv, figures/ and report.html, and keeps the trained
    programmers in programmers/ for the next time. Of a network on sequences, it gets
    comparison.nc, summary.csv, network.png and report.html.

    \b
    Examples:
      fwbio compare --out results
      fwbio compare --rules delta,oja --programmers designed --pairs 10 --out results
      fwbio compare --checkpoint results/networks/FILE.pt --out results/network
    """
    if checkpoint is not None:
        compare_checkpoint(context, checkpoint, out, settings)
        return
    check_folder(out)
    tree = compare(**settings, checkpoints=out / "programmers", progress=True)
    print_summary(tree, write(tree, out, progress=True))


@main.command()
@click.argument("comparison", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    show_default="the comparison's",
    help="Folder to write to.",
)
def report(comparison: Path, out: Path | None) -> None:
    """Make table, figures and report again.

    COMPARISON is the comparison.nc that `fwbio compare` wrote, or its folder.

    \b
    Examples:
      fwbio report results
      fwbio report results/comparison.nc --out results/again
    """
    from fwbio import record

    comparison = in_folder(comparison)
    out = comparison.parent if out is None else out
    check_writable(out)
    found = record.load(comparison)
    if print_again(found, out):
        return
    check_folder(out)
    tree = require_comparison(found, where=str(comparison))
    print_summary(tree, write(tree, out, with_tree=False, progress=True))


main.add_command(rules_command)
main.add_command(train_command)
main.add_command(reproduce_command)
main.add_command(bench_command)
main.add_command(identify_command)
bench_command.add_command(identification_command)
sweep_command.add_command(capacity_command)
sweep_command.add_command(departures_command)
sweep_command.add_command(classical_command)
main.add_command(sweep_command)


@main.command("protocol")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--seed",
    default=0,
    show_default=True,
    type=click.IntRange(0, 2**32 - 1),
    help="Seed of what is random in it.",
)
@out_option("results/protocols")
def protocol_command(names: tuple[str, ...], seed: int, out: Path) -> None:
    """Run an experiment on a synapse and draw it beside what was published.

    OUT gets NAME.nc and NAME.png. Without a name the protocols are listed.

    \b
    Examples:
      fwbio protocol
      fwbio protocol stdp --out results/protocols
    """
    from fwbio.analyses import protocols

    if not names:
        print_protocols(protocols.listed())
        return
    check_writable(out)
    for name in names:
        protocols.require(name)
    for name in names:
        click.echo("\n".join(map(str, protocols.run(name, out, seed=seed, progress=True))))


if __name__ == "__main__":
    main()
