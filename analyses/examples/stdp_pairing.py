"""A pairing experiment: pairs of spikes at many lags on an STDP synapse, beside its closed form.

`python analyses/examples/stdp_pairing.py --pairings 60 --rate 1 --out stdp.png`
"""

from pathlib import Path

import brian2 as b2
import click
import numpy as np
from matplotlib.figure import Figure

from fwbio.analyses.palette import rule_style
from fwbio.models.plasticity_timing import PairSTDP

FIRST = 0.2  # s, of the first presynaptic spike, after every lag


@click.command()
@click.option("--pairings", default=60, show_default=True)
@click.option("--rate", default=1.0, show_default=True, help="Of the pairings, Hz.")
@click.option("--points", default=21, show_default=True, help="Lags from -100 to 100 ms.")
@click.option("--out", type=click.Path(path_type=Path), help="A figure.")
def main(pairings: int, rate: float, points: int, out: Path | None) -> None:
    """Pair a presynaptic with a postsynaptic spike, again and again, at each lag."""
    b2.prefs.codegen.target = "numpy"
    b2.defaultclock.dt = 1 * b2.ms
    model = PairSTDP(a_plus=0.005, a_minus=0.00525)
    lags = 1e-3 * np.rint(np.linspace(-100, 100, points))
    each = np.arange(points)
    onsets = FIRST + np.arange(pairings) / rate
    pre, post = (
        b2.SpikeGeneratorGroup(
            points,
            np.tile(each, pairings),
            np.rint((onsets[:, None] + lag).ravel() * 1e3) * b2.ms,
        )
        for lag in (0 * lags, lags)
    )
    synapses = model.synapse().connect(pre, post, each, each)
    synapses.w = 0.5
    b2.Network(pre, post, synapses).run((onsets[-1] + FIRST) * b2.second, namespace={})
    change = np.asarray(synapses.w[:]) - 0.5
    expected = pairings * model.window(lags)
    click.echo(f"largest change {change.max():+.3f}, expected {expected.max():+.3f}")
    click.echo(f"smallest change {change.min():+.3f}, expected {expected.min():+.3f}")
    if out is not None:
        figure = Figure(figsize=(5, 3.4), layout="constrained")
        ax, style = figure.subplots(), rule_style(["stdp"])["stdp"]
        fine = np.linspace(-0.1, 0.1, 401)
        ax.plot(1e3 * fine, pairings * model.window(fine), label="closed form", **style.line)
        ax.plot(1e3 * lags, change, label=f"{pairings} pairings", **style.points)
        ax.axhline(0, color="#888888", linewidth=0.8)
        ax.set(xlabel="lag, post after pre (ms)", ylabel="change of the weight (dimensionless)")
        ax.legend(frameon=False)
        figure.savefig(out, dpi=150)


if __name__ == "__main__":
    main()
