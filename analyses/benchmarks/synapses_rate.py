"""The rate rows of the synaptic models' benchmark: the network, run by what, and what is right."""

import math
from dataclasses import asdict

import numpy as np
import xarray as xr

from fwbio.analyses.benchmarks import synapses_peers as peers
from fwbio.analyses.benchmarks.synapses import Contender, Row, Sample
from fwbio.models import execute, rate
from fwbio.models.engines import STANDALONE
from fwbio.models.schedule import Schedule
from fwbio.normal_form import normal_form
from fwbio.program import make, operands


def rate_row(name: str, size: int, seed: int, *, quick: bool) -> Row:
    """A dense plastic rate network, the delta rule with decay, of size x size synapses."""
    given = program(size, steps=1 if quick or size > 200 else 3, seed=seed)
    model = rate.RateModel(dt=2.5e-3 if quick else rate.RateModel.dt)
    plan = scheduled(given, model)

    def ours(engine: str) -> Contender:
        def run() -> Sample:
            done = execute(given, "rate", **asdict(model) | {"engine": engine})
            config = done.attrs["substrate_config"]
            return Sample(
                weights=done.weights.values[0, -1],
                seconds=config["run_s"],
                compile_s=config["compile_s"],
            )

        return Contender(name=f"fwbio, {engine}", engine=engine, ours=True, run=run)

    def peer(variant: str) -> Contender:
        def run() -> Sample:
            weights, seconds, compile_s = peers.run(variant, plan)
            return Sample(weights=weights, seconds=seconds, compile_s=compile_s)

        return Contender(name=variant, engine=STANDALONE, ours=False, run=run)

    engines = ("numpy",) if quick else (STANDALONE, "cython")
    variants = () if quick else tuple(peers.VARIANTS)
    return Row(
        name=name,
        pre=size,
        post=size,
        steps=int(plan.steps.sum()),
        expected=peers.euler(plan),
        error=relative_error,
        gate=1e-12,
        target=1.1,
        contenders=[*map(ours, engines), *map(peer, variants)],
    )


def scheduled(given: xr.Dataset, model: rate.RateModel) -> Schedule:
    """The schedule of a program of one trial, without snapshots."""
    known = operands(given)
    form = normal_form(known.rule, known.streams, xp=np, time_axis=1, writes_per_step=1)
    initial = np.zeros((1, known.pre, known.post))
    return rate.schedule(rate.planned(form, model), form, initial, np.array([], int), model, 0)


def program(size: int, *, steps: int, seed: int) -> xr.Dataset:
    """A random program of the gated delta rule that a passive flow can carry out."""
    rng = np.random.default_rng(seed)
    key, query = np.abs(rng.standard_normal((2, 1, steps, size)))
    return make(
        "gated_delta",
        key=key / np.linalg.norm(key, axis=-1, keepdims=True),
        query=query / np.linalg.norm(query, axis=-1, keepdims=True),
        value=rng.standard_normal((1, steps, size)),
        beta=rng.uniform(0.1, 0.9, (1, steps)),
        log_decay=-rng.exponential(0.2, (1, steps)),
    )


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    """The largest deviation, in units of the largest expected magnitude; infinite if misshapen."""
    if actual.shape != expected.shape or not np.isfinite(actual).all():
        return math.inf
    return float(np.abs(actual - expected).max() / (np.abs(expected).max() or 1.0))
