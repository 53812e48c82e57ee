"""What is left of a synapse over days: proteins that turn over, at one rate or at many.

`python analyses/examples/turnover_over_days.py --tau 5 --cv 0.8 --out turnover.png`
"""

from pathlib import Path

import brian2 as b2
import click
import numpy as np
from matplotlib.figure import Figure

from fwbio.analyses.palette import series_style
from fwbio.models.turnover import Turnover, heterogeneous_rates, mean_decay

DAY = 86400.0


@click.command()
@click.option("--tau", default=5.0, show_default=True, help="Mean time constant, days.")
@click.option("--cv", default=0.8, show_default=True, help="Spread of rates over their mean.")
@click.option("--synapses", default=2000, show_default=True)
@click.option("--days", default=20, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="A figure.")
def main(tau: float, cv: float, synapses: int, days: int, seed: int, out: Path | None) -> None:
    """Let weights of 1 turn over in Brian2, and hold their mean against the closed forms."""
    b2.prefs.codegen.target = "numpy"
    b2.defaultclock.dt = 0.1 * DAY * b2.second
    rates = heterogeneous_rates(np.random.default_rng(seed), 1 / (tau * DAY), cv, "gamma", synapses)
    source, target = (b2.NeuronGroup(1, "", name=name) for name in ("source", "target"))
    network, mean = b2.Network(source, target), {}
    times = np.arange(0, days + 1) * DAY
    for name, paces in (("one rate", np.ones(synapses)), ("many rates", rates * tau * DAY)):
        weights = Turnover(tau=tau * DAY, preset="protein_turnover").synapse()
        made = weights.connect(source, target, np.zeros(synapses, int), np.zeros(synapses, int))
        made.w, made.pace = 1.0, paces
        watch = b2.StateMonitor(made, "w", record=True, dt=DAY * b2.second)
        network.add(made, watch)
        mean[name] = watch
    network.run((times[-1] + 0.1 * DAY) * b2.second, namespace={})
    mean = {name: watch.w[:, : times.size].mean(0) for name, watch in mean.items()}
    theory = {
        "one rate": np.exp(-times / (tau * DAY)),
        "many rates": mean_decay(times, 1 / (tau * DAY), cv, "gamma"),
    }
    for name, left in mean.items():
        click.echo(f"{name}: {left[-1]:.3f} left, expected {theory[name][-1]:.3f}")
    if out is not None:
        figure = Figure(figsize=(5, 3.4), layout="constrained")
        ax = figure.subplots()
        for name, style in series_style(mean).items():
            ax.plot(times / DAY, theory[name], **style.line)
            ax.plot(times / DAY, mean[name], **style.points, label=name)
        ax.set(xlabel="time (days)", ylabel="mean weight (share of the first)", yscale="log")
        ax.legend(frameon=False)
        figure.savefig(out, dpi=150)


if __name__ == "__main__":
    main()
