"""The row of the flow substrate: the synapse solved from event to event, beside stepping it."""

from dataclasses import asdict

import numpy as np

from fwbio import reference
from fwbio.analyses.benchmarks import synapses_peers as peers
from fwbio.analyses.benchmarks.synapses import Contender, Row, Sample
from fwbio.analyses.benchmarks.synapses_rate import program, relative_error, scheduled
from fwbio.models import execute, rate
from fwbio.models.engines import STANDALONE

STEP = 0.1e-3
SOLVED, STEPPED = 256, 16  # trials at once
SCRIPTS = ("summed variable, run_regularly, by row", "C++ function of a column")


def flow_row(name: str, size: int, seed: int, *, quick: bool) -> Row:
    """Twenty presentations of size x size synapses, solved or stepped by a tenth of a millisecond.

    Many trials of it are solved at once, fewer stepped at once, which costs the same for each, and
    one by scripts: times are a trial's. A step's time of what is solved is its whole time over as
    many steps. What is right is the solution of the synapse's equations, which the presentations
    are planned for.
    """
    single = program(size, steps=2 if quick else 20, seed=seed)
    model = rate.RateModel(dt=2.5e-3 if quick else STEP)
    plan = scheduled(single, model)

    def ours(substrate: str, engine: str) -> Contender:
        options = {} if substrate == "flow" else asdict(model) | {"engine": engine}
        trials = 2 if quick else SOLVED if substrate == "flow" else STEPPED
        given = single.isel(trial=np.zeros(trials, int))

        def run() -> Sample:
            done = execute(given, substrate, **options)
            config = done.attrs["substrate_config"]
            return Sample(
                weights=done.weights.values[0, -1],
                seconds=config["run_s"] / trials,
                compile_s=config["compile_s"],
            )

        title = f"fwbio, {substrate}, {engine}"
        return Contender(name=title, engine=engine, ours=substrate == "flow", run=run)

    def script(variant: str) -> Contender:
        def run() -> Sample:
            weights, seconds, compile_s = peers.run(variant, plan)
            return Sample(weights=weights, seconds=seconds, compile_s=compile_s)

        return Contender(name=variant, engine=STANDALONE, ours=False, run=run)

    engines = ("numpy",) if quick else (STANDALONE, "cython")
    return Row(
        name=name,
        pre=size,
        post=size,
        steps=int(plan.steps.sum()),
        expected=reference.execute(single).weights.values[0, -1],
        error=relative_error,
        gate=1e-2 if quick else 1e-3,
        target=1e-3,
        contenders=[
            ours("flow", "kernels"),
            *(ours("rate", engine) for engine in engines),
            *([] if quick else map(script, SCRIPTS)),
        ],
    )
