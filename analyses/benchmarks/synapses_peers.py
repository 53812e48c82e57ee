"""What the rate model's speed is measured beside: Brian2 scripts of the same equations.

    dw_ij/dt = -lambda_i w_ij + drive_i (s_j - sum_l rate_l w_lj),   ds_j/dt = (teach_j - s_j) / tau

They are written as a user of Brian2 would who knows it well: named integrators, inputs in tables
that are read where they change, no monitors, explicit indices. The variants differ in how the sum
and the update are put to Brian2, and in the order of the synapses in memory; the fastest counts.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import brian2 as b2
import numpy as np

from fwbio.models import standalone
from fwbio.models.schedule import Schedule


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A way to write the dense network.

    Args:
        model: the synapse's equations.
        update: code of each time step for the synapses, where `model` does not integrate.
        before: code of each time step for the value cells, before it.
        by_column: whether the synapses of one value cell, not of one key cell, lie side by side.
        function: a C++ function of a value cell that does all, in place of synapses.
    """

    model: str = ""
    update: str = ""
    before: str = ""
    by_column: bool = False
    function: str = ""


_SUMMED = "ampa_post = rate_pre * w : 1 (summed)"
_UPDATE = "w = keep_pre * w + dt * drive_pre * (s_post - ampa_post)"
_INTEGRATED = "dw/dt = -lost_pre * w + drive_pre * (s_post - ampa_post) : 1 (clock-driven)"
_SYNAPSES = {
    "summed variable, run_regularly": Variant(model=f"w : 1\n{_SUMMED}", update=_UPDATE),
    "summed variable, state updater": Variant(model=f"{_INTEGRATED}\n{_SUMMED}"),
    "one run_regularly for both": Variant(
        model="w : 1",
        update=f"{_UPDATE}\ncoming_post += ahead_pre * w",
        before="ampa = coming\ncoming = 0",
    ),
}
_FUNCTION = """
double column_step(int j, double s)
{
    double* __restrict w = brian::_array_fast_w + j * ROWS;
    const double* __restrict rate = brian::_array_keys_rate;
    const double* __restrict drive = brian::_array_keys_drive;
    const double* __restrict keep = brian::_array_keys_keep;
    double ampa = 0;
    for (int i = 0; i < ROWS; i++)
        ampa += rate[i] * w[i];
    for (int i = 0; i < ROWS; i++)
        w[i] = keep[i] * w[i] + DT * drive[i] * (s - ampa);
    return ampa;
}
"""
VARIANTS: Mapping[str, Variant] = MappingProxyType(
    {
        f"{name}, by {'column' if by_column else 'row'}": replace(variant, by_column=by_column)
        for name, variant in _SYNAPSES.items()
        for by_column in (False, True)
    }
    | {"C++ function of a column": Variant(function=_FUNCTION, by_column=True)}
)


def euler(plan: Schedule) -> np.ndarray:
    """The weights (row, column) at the end of the first network's schedule, by a plain loop."""
    _, rows, columns = plan.shape
    w, s = np.zeros((rows, columns)), np.zeros(columns)
    for phase, steps in enumerate(plan.steps):
        rate, drive, keep, teach = (
            getattr(plan, name)[phase, 0] for name in ("rate", "drive", "keep", "teach")
        )
        for _ in range(steps):
            error = s - rate @ w
            w = keep[:, None] * w + plan.dt * drive[:, None] * error
            s = teach + (s - teach) * np.exp(-plan.dt / plan.tau)
    return w


def run(name: str, plan: Schedule) -> tuple[np.ndarray, float, float]:
    """Run a variant's compiled program, and compile it where that was not done before.

    Args:
        name: one of `VARIANTS`.
        plan: the schedule of one network (n is 1), which starts from weights of 0.

    Returns:
        The weights at the end (row, column), the seconds that all time steps took, and those
        before them.

    Raises:
        FwbioError: it does not compile, or fails.
    """
    began = time.perf_counter()
    variant, inputs = VARIANTS[name], _inputs(plan)
    layout = {
        "variant": name,
        "shape": plan.shape,
        "steps": int(plan.steps.sum()),
        "unit": plan.unit,
        "dt": plan.dt,
        "tau": plan.tau,
    }
    project = standalone.project(layout, [__name__], plan.dt, _maker(variant, plan))
    built = time.perf_counter()
    (flat,), seconds = standalone.run(project, inputs, ["fast.w"])
    _, rows, columns = plan.shape
    weights = flat.reshape(columns, rows).T if variant.by_column else flat.reshape(rows, columns)
    return weights, seconds, built - began


def _inputs(plan: Schedule) -> dict[str, np.ndarray]:
    """Tables with a row for each unit of time."""
    ticks = plan.phases()[:-1]
    return {
        f"{name}_table.values": getattr(plan, name)[ticks, 0]
        for name in ("rate", "drive", "keep", "teach")
    }


def _maker(variant: Variant, plan: Schedule) -> Callable[[], standalone.Made]:
    def make() -> standalone.Made:
        objects, weights = _script(variant, plan)
        return standalone.Made(
            network=b2.Network(*objects),
            duration=int(plan.steps.sum()) * plan.dt,
            variables={"fast.w": weights},
        )

    return make


def _script(variant: Variant, plan: Schedule) -> tuple[list[Any], Any]:
    _, rows, columns = plan.shape
    tick = plan.unit * plan.dt * b2.second
    units = {"drive_table.values": b2.Hz}
    tables = {
        key.removesuffix(".values"): b2.TimedArray(
            np.zeros_like(x) * units.get(key, 1), dt=tick, name=key.removesuffix(".values")
        )
        for key, x in _inputs(plan).items()
    }
    ticks = b2.Clock(dt=tick, name="ticks")
    keys = b2.NeuronGroup(
        rows,
        "rate : 1\nahead : 1\ndrive : Hz\nkeep : 1\nlost : Hz",
        namespace=tables | {"step": plan.dt * b2.second},
        name="keys",
    )
    keys.run_regularly(
        "rate = rate_table(t, i)\ndrive = drive_table(t, i)\nkeep = keep_table(t, i)\n"
        "lost = (1 - keep) / step",
        clock=ticks,
        when="start",
        order=-1,
        name="enter_keys",
    )
    values = b2.NeuronGroup(
        columns,
        "ds/dt = (teach - s) / tau : 1\nteach : 1\nampa : 1\ncoming : 1",
        method="exact",
        namespace=tables | {"tau": plan.tau * b2.second},
        name="values",
    )
    values.state_updater.when = "end"
    values.run_regularly(
        "teach = teach_table(t, i)", clock=ticks, when="start", order=-1, name="enter_values"
    )
    if variant.function:
        fast = b2.NeuronGroup(rows * columns, "w : 1", name="fast")
        values.namespace["column_step"] = _column_step(variant.function, rows, plan.dt)
        values.run_regularly("ampa = column_step(i, s)", when="synapses", name="update")
        return [keys, values, fast], fast.variables["w"]
    fast = b2.Synapses(keys, values, variant.model, method="euler", name="fast")
    i, j = np.indices((rows, columns)).reshape(2, -1)
    if variant.by_column:
        j, i = np.indices((columns, rows)).reshape(2, -1)
    fast.connect(i=i, j=j)
    if variant.update:
        fast.run_regularly(variant.update, when="synapses", name="update")
    if variant.before:
        keys.run_regularly("ahead = rate_table(t + dt, i)", when="start", name="look_ahead")
        values.run_regularly(variant.before, when="groups", name="take_sum")
    return [keys, values, fast], fast.variables["w"]


def _column_step(code: str, rows: int, dt: float) -> b2.Function:
    def unavailable(j: np.ndarray, s: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    made = b2.Function(
        unavailable,
        arg_units=[1, 1],
        return_unit=1,
        arg_types=["integer", "float"],
        return_type="float",
        stateless=False,
    )
    code = code.replace("ROWS", str(rows)).replace("DT", repr(dt))
    made.implementations.add_implementation("cpp", code)
    return made
