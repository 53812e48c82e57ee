"""`fwbio sweep`: the group of commands that measure along one axis."""

import click


@click.group("sweep")
def sweep_command() -> None:
    """Measure along one axis.

    \b
    Example:
      fwbio sweep capacity --axis pairs --values 4,8,16 --out results/capacity
    """
