"""Networks in Brian2 by any of its engines: compiled at once, alone, or not at all.

A network reads what drives it from tables, so that a program compiled once runs without Python, and
again for everything of the same layout. The dense plastic network here follows a `Schedule`.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

import brian2 as b2
import numpy as np
from tqdm import tqdm

from fwbio.errors import unknown_name
from fwbio.models import compiled, dense_code, schedule, simulation, standalone
from fwbio.models.schedule import Outcome, Schedule

STANDALONE = "cpp_standalone"
ENGINES = (*simulation.ENGINES, STANDALONE)
Inputs = Mapping[str, np.ndarray]

_ADVANCE = """
prediction = advance(i, s, bound)
s = teach + (s - teach) * remains
"""
_NOW = "(int(phase_of(t)) + 0.5) * second"
_ENTER_ROWS = "\n".join(f"{name} = {name}_of({_NOW}, i)" for name in ("rate", "drive", "keep"))
_ENTER_COLUMNS = f"teach = teach_of({_NOW}, i)"
_LEAVE = "phase = leave(phase, int(phase_of(t)), bound, quantum)"


def run(
    plan: Schedule, initial: np.ndarray, *, engine: str, seed: int, progress: bool, title: str
) -> Outcome:
    """Step a dense plastic network through its schedule.

    Args:
        plan: the schedule.
        initial: weights before it, (n, row, column).
        engine: "cython", "numpy" or "cpp_standalone"; the last is built once a layout and kept.
        seed: of the engine's own generator, which the network does not use.
        progress: whether to show a bar; a standalone program shows none.
        title: the bar's name.

    Raises:
        FwbioError: there is no such engine, or the standalone program can't be built or kept.
    """
    layout = {
        "shape": plan.shape,
        "dt": plan.dt,
        "unit": plan.unit,
        "ticks": len(plan.phases()),
        "reads": _slots(plan.reads),
        "keeps": _slots(plan.keeps),
    }
    done = stepped(
        partial(_network, plan),
        _inputs(plan, initial),
        ("outcome_readouts.value", "outcome_weights.value"),
        engine=engine,
        dt=plan.dt,
        seed=seed,
        layout=layout,
        text=[dense_code, schedule, __name__],
        phases=len(plan.steps),
        title=title,
        progress=progress,
    )
    return _outcome(plan, done)


@dataclass(frozen=True, kw_only=True)
class Stepped:
    """What stepping a network gave.

    Args:
        outputs: the variables asked for, flat.
        run_s: seconds that stepping took.
        compile_s: seconds before it: the network's making, and the compiler where it ran.
    """

    outputs: list[np.ndarray]
    run_s: float
    compile_s: float


def stepped(
    make: Callable[[Inputs], standalone.Made],
    inputs: Inputs,
    outputs: Sequence[str],
    *,
    engine: str,
    dt: float,
    seed: int,
    layout: Mapping[str, Any],
    text: Sequence[ModuleType | str],
    phases: int,
    title: str,
    progress: bool,
) -> Stepped:
    """Make a network and step it, by any engine.

    Args:
        make: makes it, from inputs of the right shapes; what depends on their values is set after.
        inputs: its variables' initial values and its tables' values, by "group.name".
        outputs: the variables to return.
        engine: "cython", "numpy" or "cpp_standalone"; the last is built once a layout and kept.
        dt: time step, s.
        seed: of the engine's own generator; engines draw different numbers from it.
        layout: what a standalone program's code depends on, beside the inputs' shapes.
        text: the modules that `make` follows from.
        phases: the bar's length.
        title: the bar's name.
        progress: whether to show a bar, and to say when the compiler runs; a standalone program
            shows no bar.

    Raises:
        FwbioError: there is no such engine, or the standalone program can't be built or kept.
    """
    if engine not in ENGINES:
        raise unknown_name(engine, ENGINES, kind="engine", where="engine")
    began = time.perf_counter()
    if engine == STANDALONE:
        shapes = {name: list(values.shape) for name, values in inputs.items()}
        project = standalone.project(
            {"inputs": shapes, **layout},
            [compiled, *text],
            dt,
            lambda: make({name: np.zeros_like(values) for name, values in inputs.items()}),
            told=title if progress else None,
        )
        built = time.perf_counter()
        found, seconds = standalone.run(project, inputs, outputs, seed)
        return Stepped(outputs=found, run_s=seconds, compile_s=built - began)
    with (
        simulation.engine(engine, dt, seed),
        simulation.compiling_told(title, progress=progress),
    ):
        network = make(inputs)
        for name in inputs.keys() & network.variables.keys():
            network.variables[name].get_value()[:] = inputs[name]
        watch = Stopwatch(phases, title, progress=progress)
        network.network.run(
            network.duration * b2.second,
            report=watch,
            report_period=0.2 * b2.second,
            namespace={},
        )
        found = [np.array(network.variables[name].get_value()) for name in outputs]
    return Stepped(outputs=found, run_s=watch.seconds, compile_s=watch.started - began)


def _outcome(plan: Schedule, done: Stepped) -> Outcome:
    n, rows, columns = plan.shape
    reads, keeps = _slots(plan.reads), _slots(plan.keeps)
    readout, weights = done.outputs
    return Outcome(
        readout=readout[: reads * n * columns].reshape(reads, n, columns),
        weights=weights[: keeps * n * columns * rows].reshape(keeps, n, columns, rows),
        run_s=done.run_s,
        compile_s=done.compile_s,
    )


def _slots(of_phases: np.ndarray) -> int:
    return int(of_phases.max(initial=schedule.NONE)) + 1


def _inputs(plan: Schedule, initial: np.ndarray) -> dict[str, np.ndarray]:
    """What differs between programs of one layout, by the names that Brian2's programs take."""
    rest = {"rate": 0.0, "drive": 0.0, "keep": 1.0, "teach": 0.0}
    scale = {"drive": plan.dt}
    tables = {
        name: np.pad(
            scale.get(name, 1.0) * getattr(plan, name).reshape(len(plan.steps), -1),
            ((0, 1), (0, 0)),
            constant_values=after,
        )
        for name, after in rest.items()
    }
    slots = {name: getattr(plan, name) for name in ("turns", "rounds", "reads", "keeps")}
    draws = {name: getattr(plan, name) for name in ("factor", "shift", "chance")}
    numbers = {
        "rate_columns.bound": plan.bound,
        "rate_columns.remains": np.exp(-plan.dt / plan.tau),
        "conductor.bound": plan.bound,
        "conductor.quantum": plan.quantum,
    }
    return (
        {f"{name}_of.values": table for name, table in tables.items()}
        | {"phase_of.values": plan.phases().astype(float)}
        | {f"agenda.{name}": np.asarray(values, np.int32) for name, values in slots.items()}
        | {f"{name}.value": _never_empty(values.ravel()) for name, values in draws.items()}
        | {name: np.array([number]) for name, number in numbers.items()}
        | {"rate_synapses.w": np.ascontiguousarray(initial.swapaxes(-1, -2)).ravel()}
    )


def _never_empty(values: np.ndarray) -> np.ndarray:
    return values if values.size else np.zeros(1)


def _network(plan: Schedule, inputs: Inputs) -> standalone.Made:
    """The Brian2 objects; it runs one time step longer than the phases, which ends the last."""
    n, rows, columns = plan.shape
    cells, synapses = n * columns, n * columns * rows
    ticks = b2.Clock(dt=plan.unit * plan.dt * b2.second, name="ticks")
    tables = {
        name: b2.TimedArray(inputs[f"{name}_of.values"], dt=1 * b2.second, name=f"{name}_of")
        for name in ("rate", "drive", "keep", "teach")
    }
    phase_of = b2.TimedArray(
        inputs["phase_of.values"], dt=plan.unit * plan.dt * b2.second, name="phase_of"
    )
    entering = {"phase_of": phase_of} | {f"{name}_of": table for name, table in tables.items()}
    pre = b2.NeuronGroup(
        n * rows, "rate : 1\ndrive : 1\nkeep : 1", namespace=entering, name="rate_rows"
    )
    post = b2.NeuronGroup(
        cells,
        "s : 1\nteach : 1\nprediction : 1\nbound : 1 (shared)\nremains : 1 (shared)",
        name="rate_columns",
    )
    conductor = b2.NeuronGroup(
        1,
        "phase : integer\nbound : 1\nquantum : 1",
        name="conductor",
    )
    stored = {
        name: b2.NeuronGroup(max(size, 1), "value : 1", name=name)
        for name, size in {
            "factor": plan.factor.size,
            "shift": plan.shift.size,
            "chance": plan.chance.size,
            "outcome_readouts": _slots(plan.reads) * cells,
            "outcome_weights": _slots(plan.keeps) * synapses,
        }.items()
    }
    weights = b2.NeuronGroup(synapses, "w : 1", name="rate_synapses")
    agenda = b2.NeuronGroup(
        len(plan.steps),
        "turns : integer\nrounds : integer\nreads : integer\nkeeps : integer",
        name="agenda",
    )
    groups = [pre, post, conductor, *stored.values(), weights, agenda]
    variables = {
        f"{group.name}.{name}": group.variables[name]
        for group in groups
        for name in group.equations.names
    }
    called = dense_code.functions(
        plan.shape,
        {name.split(".")[1]: variable for name, variable in variables.items()}
        | {"weights": weights.variables["w"]}
        | {name: stored[name].variables["value"] for name in ("factor", "shift", "chance")}
        | {x: stored[f"outcome_{x}"].variables["value"] for x in ("readouts",)}
        | {"snapshots": stored["outcome_weights"].variables["value"]},
    )
    post.namespace.update(entering | called)
    conductor.namespace.update(entering | called)
    conductor.run_regularly(_LEAVE, clock=ticks, when="start", order=-2, name="leave_phase")
    pre.run_regularly(_ENTER_ROWS, clock=ticks, when="start", order=-1, name="enter_rows")
    post.run_regularly(_ENTER_COLUMNS, clock=ticks, when="start", order=-1, name="enter_columns")
    post.run_regularly(_ADVANCE, when="groups", order=0, name="advance_columns")
    for held in (*stored.values(), weights, agenda):
        held.active = False
    for group in (pre, post, conductor):
        group.state_updater.active = False  # it has no differential equation to step
    return standalone.Made(
        network=b2.Network(*groups),
        variables=variables,
        duration=(int(plan.steps.sum()) + 1) * plan.dt,
    )


class Stopwatch:
    """Notes when stepping starts and ends, as Brian2 reports it (`report=`), and shows a bar.

    Args:
        phases: the bar's length.
        title: the bar's name.
        progress: whether to show it.

    Attributes:
        started: when stepping started, by `time.perf_counter`.
        seconds: how long it took.
    """

    def __init__(self, phases: int = 1, title: str = "", *, progress: bool = False) -> None:
        self.started = self.seconds = 0.0
        self._bar: Callable[..., tqdm] = lambda: tqdm(
            total=phases, desc=title, disable=not progress, leave=False
        )
        self._shown: tqdm | None = None

    def __call__(self, elapsed: Any, completed: float, start: Any, duration: Any) -> None:
        """Be told that a share of the run is done."""
        if self._shown is None:
            self._shown = self._bar()
            self.started = time.perf_counter()
        self._shown.update(int(completed * self._shown.total) - self._shown.n)
        self.seconds = time.perf_counter() - self.started
        if completed >= 1:
            self._shown.close()
