"""The spiking row: the package's spiking model beside a Brian2 script of the same network.

The script has the same cells, synapses, inputs and time steps, written as a user of Brian2 would
who knows it well: inputs in tables that are read where they change, the receptors' turnover by code
at the ends of gaps, no recording. Both run in Cython and standalone.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import brian2 as b2
import numpy as np
import xarray as xr

from fwbio import reference
from fwbio.analyses.benchmarks.synapses import Contender, Row, Sample
from fwbio.models import execute, standalone
from fwbio.models.cells import RESET, SpikingModel
from fwbio.models.dendrite import compensated
from fwbio.models.engines import STANDALONE, Stopwatch
from fwbio.models.presentations import Plan, Timing, plan
from fwbio.models.simulation import dense, engine, steps_of, weight_scale
from fwbio.normal_form import NormalForm, normal_form
from fwbio.program import make, operands

SIGNS = np.array([[1.0], [-1.0]])
# Pearson's r of 8 noisy synapses a weight with the ideal weights; uncorrelated weights have 0
LEAST_R = 0.8

_VALUES = """
dv/dt = (v_steady - v) / tau_membrane : volt (unless refractory)
dampa/dt = (g_ampa - ampa) / tau_membrane : 1
dg_ampa/dt = -g_ampa / tau_ampa : 1
ds/dt = -s / tau_nmda_decay : 1
dcalcium/dt = (taught - calcium) / tau_nmda_decay : 1
v_steady = v_rest + bias + gain * (ampa - opposite_ampa) : volt (constant over dt)
error = s - opposite_s - ampa + opposite_ampa : 1
change = lr * int(calcium > theta_d) * error / 2 : 1 (constant over dt)
opposite_ampa : 1 (linked)
opposite_s : 1 (linked)
taught : 1
expected : 1
lr : 1
"""
_ON_KEY_SPIKE = """
g_ampa_post += jump * w
w = clip(w + change_post, 0, 2 * w_0)
"""


def spiking_row(name: str, size: int, seed: int, *, quick: bool) -> Row:
    """The delta rule with decay by spiking cells: `size` key channels, half as many values."""
    given = _program(*(8, 4, 1) if quick else (size, size // 2, 3), seed)
    model = SpikingModel(engine="numpy" if quick else "cython", cells_per_key=2 if quick else 8)
    network = _planned(given, model)
    engines = [model.engine] if quick else [model.engine, STANDALONE]
    contenders = [_ours(given, replace(model, engine=by), network, seed) for by in engines]
    contenders += [_by_hand(network, by, seed) for by in engines]
    return Row(
        name=name,
        pre=given.sizes["pre"],
        post=given.sizes["post"],
        steps=network.steps,
        expected=reference.execute(given).weights.values[0, -1],
        error=lambda actual, ideal: 1 - float(np.corrcoef(actual.ravel(), ideal.ravel())[0, 1]),
        gate=1 - LEAST_R if not quick else 1.0,
        target=1.2,
        contenders=contenders,
    )


def _program(pre: int, post: int, steps: int, seed: int) -> xr.Dataset:
    rng = np.random.default_rng(seed)
    key, query = np.abs(rng.standard_normal((2, 1, steps, pre)))
    return make(
        "gated_delta",
        key=key / np.linalg.norm(key, axis=-1, keepdims=True),
        query=query / np.linalg.norm(query, axis=-1, keepdims=True),
        value=rng.standard_normal((1, steps, post)),
        beta=np.full((1, steps), 0.6),
        log_decay=np.full((1, steps), -0.1),
    )


@dataclass(frozen=True, kw_only=True)
class _Script:
    """What the script needs: tables with a row a unit of time, and numbers.

    Args:
        model: parameters.
        tables: by name, (unit, cell).
        unit: s.
        steps: time steps in all.
        events: synaptic events to be expected of the key cells' rates.
        cells: key cells and value cells.
        numbers: constants of the script.
    """

    model: SpikingModel
    tables: Mapping[str, np.ndarray]
    unit: float
    steps: int
    events: float
    cells: tuple[int, int]
    numbers: Mapping[str, Any]


def _planned(given: xr.Dataset, model: SpikingModel) -> _Script:
    known = operands(given)
    form = normal_form(known.rule, known.streams, xp=np, time_axis=1, writes_per_step=1)
    phases = Timing(
        gap=model.gap,
        write=model.write,
        pause=model.pause,
        settle=model.settle,
        read=model.read,
        tau_nmda=model.tau_nmda_decay,
        theta_d=model.theta_d,
    )
    course = plan(form, phases, erase_limit=min(model.erase_limit, 1 - 1e-6), where="spiking")
    return _script(compensated(course, form, model), form, model)


def _script(course: Plan, form: NormalForm, model: SpikingModel) -> _Script:
    columns = form.write.shape[-1]
    per_key = model.cells_per_key
    key_rate = model.peak_rate / max(form.key.max(), form.query.max())
    teach_rate = model.peak_rate / np.abs(course.teach).max()
    lengths = [np.linalg.norm(x[0], axis=-1).max() for x in (form.key, form.query)]
    steps = np.array([steps_of(phase, model.dt) for phase in course.phases])
    unit = int(np.gcd.reduce(steps))
    rows: dict[str, list[np.ndarray]] = {}
    for before, phase in zip((None, *course.phases[:-1]), course.phases, strict=True):
        t, writing = phase.write, phase.kind == "write"
        cued = phase.kind in {"settle", "read"}
        rates = course.key[0, t] * writing + course.query[0, phase.step] * cued
        turned = before is not None and before.kind == "gap"
        kept = np.exp(-course.turnover[0, t] * model.gap) if turned else np.ones(1)
        teach = np.maximum(SIGNS * course.teach[0, t], 0).ravel() * writing
        plastic = course.plasticity[0, t] * writing
        now = {
            "chance": np.repeat(rates * key_rate * model.dt, per_key),
            "keep": np.repeat(np.broadcast_to(kept, rates.shape), per_key),
            "expected": teach * (teach_rate * model.cells_per_value * model.dt),
            "taught": np.full(2 * columns, float(plastic > 0)),
            "lr": np.full(2 * columns, plastic / key_rate),
        }
        length = steps_of(phase, model.dt) // unit
        for name, values in now.items():
            table = rows.setdefault(name, [])
            table += [values] * length
            if name == "keep":  # turned over once, when the gap has just ended
                table[len(table) - length + 1 :] = [np.ones_like(values)] * (length - 1)
    tables = {name: np.array(table) for name, table in rows.items()}
    jumps = {
        "jump": (per_key * key_rate, model.tau_ampa),
        "taught_jump": (model.cells_per_value * teach_rate, model.tau_nmda_decay),
    }
    largest = np.abs(form.write[0]).max()
    return _Script(
        model=model,
        tables=tables,
        unit=unit * model.dt,
        steps=int(steps.sum()),
        events=float(tables["chance"].sum()) * unit * 2 * columns,
        cells=(tables["chance"].shape[1], 2 * columns),
        numbers={
            name: -np.expm1(-model.dt / tau) / (rate * model.dt)
            for name, (rate, tau) in jumps.items()
        }
        | {
            "w_0": model.baseline * weight_scale(form, np.zeros((1, 1, 1))),
            "gain": model.gain / (largest * lengths[0] * lengths[1]) * b2.volt,
            "bias": model.drive(np.array(model.base_rate)) * b2.volt,
            "theta_d": model.theta_d,
        },
    )


def _ours(given: xr.Dataset, model: SpikingModel, script: _Script, seed: int) -> Contender:
    def run() -> Sample:
        options: dict[str, Any] = {"cells_per_key": model.cells_per_key, "engine": model.engine}
        done = execute(given, "spiking", seed=seed, **options)
        config = done.attrs["substrate_config"]
        return Sample(
            weights=done.weights.values[0, -1],
            seconds=config["run_s"],
            compile_s=config["compile_s"],
            events=script.events,
        )

    name = f"fwbio, {model.engine}"
    return Contender(name=name, engine=model.engine, ours=True, run=run)


def _by_hand(script: _Script, by: str, seed: int) -> Contender:
    model, duration = script.model, script.steps * script.model.dt

    def alone() -> Sample:
        def made() -> standalone.Made:
            b2.seed(seed)
            objects, weights = _objects(script)
            network = b2.Network(*objects)
            return standalone.Made(
                network=network, duration=duration, variables={"fast.w": weights}
            )

        began = time.perf_counter()
        layout = {"steps": script.steps, "cells": script.cells, "seed": seed}
        layout |= {name: str(number) for name, number in script.numbers.items()}
        layout |= {"model": repr(model)}
        project = standalone.project(layout, [__name__], model.dt, made)
        built = time.perf_counter()
        given = {f"{name}_table.values": table for name, table in script.tables.items()}
        (flat,), seconds = standalone.run(project, given, ["fast.w"])
        return _sample(flat, script, seconds, built - began)

    def here() -> Sample:
        with engine(by, model.dt, seed):
            began = time.perf_counter()
            objects, weights = _objects(script)
            watch = Stopwatch()
            b2.Network(*objects).run(
                duration * b2.second, report=watch, report_period=1 * b2.second, namespace={}
            )
            flat = np.array(weights.get_value())
        return _sample(flat, script, watch.seconds, watch.started - began)

    return Contender(
        name=f"by hand, {by}", engine=by, ours=False, run=alone if by == STANDALONE else here
    )


def _sample(flat: np.ndarray, script: _Script, seconds: float, compile_s: float) -> Sample:
    each = flat.reshape(-1, script.model.cells_per_key, 2, script.cells[1] // 2).mean(1)
    weights = each[:, 0] - each[:, 1]
    return Sample(weights=weights, seconds=seconds, compile_s=compile_s, events=script.events)


def _objects(script: _Script) -> tuple[list[Any], Any]:
    """The script: Brian2's objects, and the conductances."""
    model, (key_cells, value_cells) = script.model, script.cells
    tables: dict[str, Callable[..., Any]] = {
        f"{name}_table": b2.TimedArray(table, dt=script.unit * b2.second, name=f"{name}_table")
        for name, table in script.tables.items()
    }
    ticks = b2.Clock(dt=script.unit * b2.second, name="ticks")
    entering: dict[str, Any] = {"clock": ticks, "when": "start", "order": -2}
    keys = b2.NeuronGroup(
        key_cells,
        "chance : 1\nkeep : 1",
        threshold="chance > 0 and rand() < chance",
        namespace=tables,
        name="keys",
    )
    keys.run_regularly("chance = chance_table(t, i)\nkeep = keep_table(t, i)", **entering)
    units = {"v": b2.volt, "t": b2.second}
    constants = {
        name: getattr(model, name) * units[name[0]]
        for name in (
            *("v_rest", "v_reset", "v_threshold"),
            *("tau_membrane", "tau_ampa", "tau_nmda_decay"),
        )
    }
    values = b2.NeuronGroup(
        value_cells,
        _VALUES,
        threshold="v > v_threshold",
        reset=RESET,
        refractory=model.refractory_steps * model.dt * b2.second,
        method="exponential_euler",
        namespace=tables | constants | dict(script.numbers),
        name="values",
    )
    other = np.arange(value_cells).reshape(2, -1)[::-1].ravel()
    values.opposite_ampa = b2.linked_var(values, "ampa", index=other)
    values.opposite_s = b2.linked_var(values, "s", index=other)
    values.v = "v_reset + rand() * (v_threshold - v_reset)"
    values.run_regularly(
        "expected = expected_table(t, i)\ntaught = taught_table(t, i)\nlr = lr_table(t, i)",
        **entering,
    )
    values.run_regularly("s += taught_jump * poisson(expected)", when="synapses", name="teaching")
    fast = b2.Synapses(
        keys, values, "w : 1", on_pre=_ON_KEY_SPIKE, namespace=dict(script.numbers), name="fast"
    )
    i, j = dense(1, key_cells, value_cells)
    fast.connect(i=i, j=j)
    fast.w = script.numbers["w_0"]
    fast.run_regularly(
        "w = w_0 + (w - w_0) * keep_pre", clock=ticks, when="start", order=-1, name="turn_over"
    )
    return [keys, values, fast], fast.variables["w"]
