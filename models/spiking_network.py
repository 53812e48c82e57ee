"""The Brian2 objects of a spiking network that reads what drives it from tables.

One network serves every engine. What differs between programs of one layout - tables, scales, first
weights and potentials - is set after the network is made, so that a standalone program is built
once a layout; the model's time constants, voltages and kinds of departure are in its code.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import brian2 as b2
import numpy as np
from brian2.core.variables import ArrayVariable

from fwbio.models import cells, engines, simulation, spiking_code, standalone
from fwbio.models.cells import RESET, SpikingModel
from fwbio.models.simulation import dense

_VALUE_CELLS = """
dv/dt = (v_steady - v) / tau_membrane : volt (unless refractory)
dampa/dt = (g_ampa - ampa) / tau_membrane : 1
dg_ampa/dt = -g_ampa / tau_ampa : 1
ds/dt = -s / tau_nmda_decay : 1
dcalcium/dt = (taught - calcium) / tau_nmda_decay : 1
v_steady = v_rest + bias + gain * (ampa - opposite_ampa) : volt (constant over dt)
error = s - opposite_s - corrects * (ampa - opposite_ampa) : 1
change = lr * int(calcium > theta_d) * error / 2 : 1 (constant over dt)
opposite_ampa : 1 (linked)
opposite_s : 1 (linked)
taught : 1
taught_spikes : 1
lr : 1
fired : 1
bias : volt (shared)
gain : volt (shared)
corrects : 1 (shared)
theta_d : 1 (shared)
taught_jump : 1 (shared)
"""
_SYNAPSES = """
w : 1
jump : 1 (shared)
g_max : 1 (shared)
quantum : 1 (shared)
"""
_VOLTS = ("v_rest", "v_reset", "v_threshold")
_TIMES = ("tau_membrane", "tau_ampa", "tau_nmda_decay")
# tables that the conductor reads, whole numbers and floats, and what it writes
_WHOLE = ("starts", "turns", "reads", "keeps", "window", "shown")
_FLOATS = (
    *("chances", "teaching", "open", "rates"),
    *("remains", "factors", "shifts", "roundings"),
)
_NOTED = ("pre_noted", "post_noted")
_OUTCOMES = ("counts", "lasts", "snapshots", "curves", *_NOTED)


def on_key_spike(model: SpikingModel) -> str:
    """What a spike of a key cell does to a synapse, in Brian2's notation.

    Args:
        model: parameters; only departures that are not neutral are in the code.
    """
    release, times = "", ""
    if model.release < 1:
        release, times = "sent = int(rand() < release) / release\n", "sent * "
    rounding = ""
    if model.receptors:
        rounding = "w = quantum * floor(w / quantum + rand())\n"
    return (
        f"{release}"
        f"g_ampa_post += {times}jump * w\n"
        f"w = clip(w + {times}change_post, 0, g_max)\n"
        f"{rounding}"
    )


@dataclass(frozen=True, kw_only=True)
class Tables:
    """What a spiking network goes through: n trials, P phases, R rows; a slot as in a `Schedule`.

    A table has a last row, past the end, of silence.

    Args:
        starts: time step in which each phase starts, the end, and -1, (P + 2,).
        turns: slots of phases at whose end conductances turn over, (P,).
        reads: slots of phases at whose end spikes are counted, (P,).
        keeps: slots of phases at whose end weights are kept, (P,).
        window: first step whose spikes and traces are noted, and the first after it, (2,).
        shown: value cells of the first trial whose traces are noted, then their opposites, (2 m,).
        chances: of a key cell's spike in a step, (P + 1, n, R).
        teaching: expected teaching spikes of a value cell in a step, (P + 1, n, 2, column).
        open: what calcium tends to, (P + 1, n).
        rates: plasticity, (P + 1, n).
        remains: what turnover leaves of a conductance above its baseline, (turn, n, R).
        factors, shifts: in its place where turnover is uneven or noisy, (turn, synapse).
        roundings: uniform random numbers, where conductances are whole receptors, (turn, synapse).
        numbers: shared variables of the network, by "group.name".
        conductances: before the first step, (n, R, cells a key, 2, column).
        potentials: of the value cells, V, (n, 2, column).
        room: for spikes of key cells, and of value cells, in the window.
    """

    starts: np.ndarray
    turns: np.ndarray
    reads: np.ndarray
    keeps: np.ndarray
    window: np.ndarray
    shown: np.ndarray
    chances: np.ndarray
    teaching: np.ndarray
    open: np.ndarray
    rates: np.ndarray
    remains: np.ndarray
    factors: np.ndarray
    shifts: np.ndarray
    roundings: np.ndarray
    numbers: Mapping[str, float]
    conductances: np.ndarray
    potentials: np.ndarray
    room: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a spiking network hands back.

    Args:
        counts: spikes of each value cell since the start, (read, n, 2, column).
        lasts: when it last fired, s, (read, n, 2, column).
        snapshots: weights, w_on - w_off in the mean over a key's cells, (keep, n, row, column).
        conductances: at the end, (synapse,).
        curves: teaching trace and prediction above the opposite cell's, and calcium, of the cells
            shown, (step, 3, m).
        pre, post: step and cell of the first trial's spikes in the window, (spike, 2).
        run_s, compile_s: as `fwbio.models.engines.Stepped` has them.
    """

    counts: np.ndarray
    lasts: np.ndarray
    snapshots: np.ndarray
    conductances: np.ndarray
    curves: np.ndarray
    pre: np.ndarray
    post: np.ndarray
    run_s: float
    compile_s: float


def run(tables: Tables, model: SpikingModel, *, seed: int, progress: bool) -> Outcome:
    """Step a spiking network through its tables.

    Args:
        tables: what it goes through.
        model: parameters.
        seed: of the engine's own generator, which draws spikes and releases.
        progress: whether to show a bar; a standalone program shows none.

    Raises:
        FwbioError: there is no such engine, or the standalone program can't be built or kept.
    """
    n, rows, _, pair, columns = tables.conductances.shape
    inputs = _inputs(tables)
    sizes = _outcome_sizes(tables)
    in_code = (*_VOLTS, *_TIMES, "dt", "refractory_steps", "release")
    done = engines.stepped(
        lambda given: _network(tables, model, given),
        inputs,
        ("fast_synapses.w", *(f"{name}.value" for name in _OUTCOMES)),
        engine=model.engine,
        dt=model.dt,
        seed=seed,
        layout={name: float(getattr(model, name)) for name in in_code}
        | {"shape": list(tables.conductances.shape), "steps": int(tables.starts[-2])}
        | {"sizes": sizes, "receptors": model.receptors > 0},
        text=[cells, simulation, spiking_code, __name__],
        phases=len(tables.turns),
        title="spiking synapses",
        progress=progress,
    )
    found = dict(zip(("conductances", *_OUTCOMES), done.outputs, strict=True))
    pre, post = (found[name][1 : 1 + 2 * found[name][0]].reshape(-1, 2) for name in _NOTED)

    def shaped(name: str, *shape: int) -> np.ndarray:
        return np.asarray(found[name][: sizes[name]].reshape(-1, *shape))

    return Outcome(
        counts=shaped("counts", n, pair, columns),
        lasts=shaped("lasts", n, pair, columns),
        snapshots=shaped("snapshots", n, rows, columns),
        conductances=found["conductances"],
        curves=shaped("curves", 3, max(len(tables.shown) // 2, 1)),
        pre=pre,
        post=post,
        run_s=done.run_s,
        compile_s=done.compile_s,
    )


def _outcome_sizes(tables: Tables) -> dict[str, int]:
    n, rows, _, pair, columns = tables.conductances.shape
    reads, keeps = (int(slots.max(initial=-1)) + 1 for slots in (tables.reads, tables.keeps))
    return {
        "counts": reads * n * pair * columns,
        "lasts": reads * n * pair * columns,
        "snapshots": keeps * n * rows * columns,
        "curves": int(np.diff(tables.window)[0]) * 3 * (len(tables.shown) // 2),
        "pre_noted": 1 + 2 * tables.room[0],
        "post_noted": 1 + 2 * tables.room[1],
    }


def _inputs(tables: Tables) -> dict[str, np.ndarray]:
    held = {f"{name}.value": getattr(tables, name).astype(np.int32) for name in _WHOLE}
    held |= {f"{name}.value": getattr(tables, name).astype(float).ravel() for name in _FLOATS}
    return (
        {
            name: values if values.size else np.zeros(1, values.dtype)
            for name, values in held.items()
        }
        | {name: np.array([number]) for name, number in tables.numbers.items()}
        | {"conductor.phase": np.array([-1], np.int32)}
        | {"fast_synapses.w": tables.conductances.ravel()}
        | {"value_cells.v": tables.potentials.ravel()}
    )


def _network(tables: Tables, model: SpikingModel, inputs: engines.Inputs) -> standalone.Made:
    """The Brian2 objects; it runs one time step longer than the phases, which ends the last."""
    n, rows, per_key, _, columns = tables.conductances.shape
    keys = b2.NeuronGroup(
        n * rows * per_key,
        "chance : 1 # of a spike in a step",
        threshold="chance > 0 and rand() < chance",
        name="key_cells",
    )
    values = _value_cells(n, columns, model)
    fast = b2.Synapses(
        keys,
        values,
        _SYNAPSES,
        on_pre=on_key_spike(model),
        namespace={"release": model.release},
        name="fast_synapses",
    )
    i, j = dense(n, rows * per_key, 2 * columns)
    fast.connect(i=i, j=j)
    conductor = b2.NeuronGroup(1, "phase : integer", name="conductor")
    sizes = {name: len(inputs[f"{name}.value"]) for name in (*_WHOLE, *_FLOATS)}
    sizes |= {name: max(size, 1) for name, size in _outcome_sizes(tables).items()}
    whole = {*_WHOLE, *_NOTED}
    stored = {
        name: b2.NeuronGroup(size, f"value : {'integer' if name in whole else '1'}", name=name)
        for name, size in sizes.items()
    }
    groups = (keys, values, conductor, *stored.values())
    variables: dict[str, Any] = {
        f"{group.name}.{name}": group.variables[name]
        for group in groups
        for name in group.equations.names
        if isinstance(group.variables[name], ArrayVariable)
    }
    variables |= {f"fast_synapses.{name}": fast.variables[name] for name in _SHARED_OR_WEIGHT}
    conduct = spiking_code.conductor(
        (
            *(n, rows, columns, per_key, len(tables.shown) // 2),
            *(int(tables.factors.size > 0), int(model.receptors > 0)),
            *(2 * room + 1 for room in tables.room),
        ),
        {name.split(".")[1]: variable for name, variable in variables.items()}
        | {name: group.variables["value"] for name, group in stored.items()}
        | {"lastspike": values.variables["lastspike"]}
        | {"key_spikes": keys.variables["_spikespace"]}
        | {"value_spikes": values.variables["_spikespace"]},
    )
    conductor.namespace["conduct"] = conduct
    conductor.run_regularly(
        "phase = conduct(phase, t_in_timesteps)", when="start", order=-1, name="conducting"
    )
    conductor.state_updater.active = keys.state_updater.active = False
    for held in stored.values():
        held.active = False
    return standalone.Made(
        network=b2.Network(fast, *groups),
        duration=(int(tables.starts[-2]) + 1) * model.dt,
        variables=variables,
    )


_SHARED_OR_WEIGHT = ("w", "jump", "g_max", "quantum")


def _value_cells(n: int, columns: int, model: SpikingModel) -> b2.NeuronGroup:
    values = b2.NeuronGroup(
        n * 2 * columns,
        _VALUE_CELLS,
        threshold="v > v_threshold",
        reset=f"{RESET}\nfired += 1",
        refractory=model.refractory_steps * b2.defaultclock.dt,
        method="exponential_euler",
        namespace={name: getattr(model, name) * b2.volt for name in _VOLTS}
        | {name: getattr(model, name) * b2.second for name in _TIMES},
        name="value_cells",
    )
    opposite = np.arange(len(values)).reshape(n, 2, columns)[:, ::-1].ravel()
    values.opposite_ampa = b2.linked_var(values, "ampa", index=opposite)
    values.opposite_s = b2.linked_var(values, "s", index=opposite)
    values.run_regularly(
        "s += taught_jump * poisson(taught_spikes)", when="synapses", name="teach_cells"
    )
    return values
