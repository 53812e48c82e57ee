"""How a run is measured: its tensors, its error against float64, its memory and its time."""

import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from fwbio.analyses.benchmarks.peers import Implementation
from fwbio.analyses.benchmarks.rows import Device, Row
from fwbio.errors import FwbioError
from fwbio.rules import RULES

if TYPE_CHECKING:
    from torch import Tensor

SEGMENT = 64  # steps between the states that the reference keeps for its backward
GATE_DIVISOR = 16.0  # log decays are log sigmoids over this, as flash-linear-attention tests them
BLOCK = 0.02  # seconds that one timed block takes at least
WARM = 2  # runs that torch's timer adds to every block


@dataclass(frozen=True, kw_only=True)
class Gate:
    """The largest relative errors with which a speed is shown.

    Args:
        ours: of this package's backends.
        peers: of others, whose products may be less exact (TF32) by intent.
        reason: why they are where they are.
    """

    ours: float
    peers: float
    reason: str


GATES: Mapping[str, Gate] = MappingProxyType(
    {
        "float64": Gate(ours=1e-12, peers=1e-5, reason="peers keep float32 states"),
        "float32": Gate(ours=1e-5, peers=5e-3, reason="peers' products may be TF32's, 11 bits"),
        "bfloat16": Gate(ours=1e-2, peers=5e-2, reason="8 bits, and bfloat16 states in peers"),
    }
)


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of one run.

    Args:
        median: over the timed blocks.
        iqr: their interquartile range.
        blocks: how many there were.
    """

    median: float
    iqr: float
    blocks: int


Results = tuple["Tensor", ...]
Call = Callable[[], Results]


def torch_device(device: Device) -> str:
    """Torch's name of a class of devices."""
    return "cuda" if device == "gpu" else "cpu"


@contextmanager
def threads_set(threads: int) -> Iterator[None]:
    """Run torch on so many threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def operands(row: Row, seed: int) -> tuple[dict[str, "Tensor"], "Tensor"]:
    """The tensors of a row, by the names that `scan` gives them, and the gradient of its read-outs.

    Queries and keys are unit vectors, values and the gradient are normal, betas sigmoids of normal
    numbers, log decays log sigmoids of them over 16. Optional streams are left out.

    Raises:
        FwbioError: the rule needs a stream that is none of these.
    """
    import torch
    from torch.nn.functional import logsigmoid, normalize

    generator = torch.Generator().manual_seed(seed)
    device, dtype = torch_device(row.device), getattr(torch, row.dtype)

    def normal(*last: int) -> "Tensor":
        return torch.randn(row.B, row.T, row.H, *last, generator=generator).to(device)

    made = {
        "q": normalize(normal(row.K), dim=-1).to(dtype),
        "k": normalize(normal(row.K), dim=-1).to(dtype),
        "v": normal(row.V).to(dtype),
    }
    rule = RULES[row.rule]
    for name, stream in rule.streams.items():
        if not rule.needs(name):
            continue
        if name == "log_decay":
            channels = [row.K] if "pre" in stream.dims else []
            made[name] = logsigmoid(normal(*channels)) / GATE_DIVISOR
        elif name == "beta" and stream.dims == ("step",):
            made[name] = normal().sigmoid().to(dtype)
        else:
            raise FwbioError(
                f"there is no benchmark of a rule that needs {name!r} {list(stream.dims)}",
                where=f"rule {row.rule}",
                mend="name another rule",
            )
    return made, normal(row.V).to(dtype)


def reference(
    row: Row, tensors: Mapping[str, "Tensor"], cotangent: "Tensor | None"
) -> dict[str, "Tensor"]:
    """The read-outs (`y`) and, given their gradient, every input's, in float64 step by step.

    The sequence runs in segments whose insides are run again for the backward, so that memory
    grows by one state a segment instead of several a step.
    """
    import torch
    from torch.utils.checkpoint import checkpoint

    from fwbio.kernels import scan

    leaves = {n: x.double().requires_grad_(cotangent is not None) for n, x in tensors.items()}

    def segment(state: "Tensor | None", *parts: "Tensor") -> Results:
        named: dict[str, Any] = dict(zip(leaves, parts, strict=True))
        y, end, *_ = scan(
            row.rule, **named, initial_state=state, scale=row.scale, backend="recurrent"
        )
        return y, end

    state, readouts = None, []
    with torch.set_grad_enabled(cotangent is not None):
        for parts in zip(*(x.split(SEGMENT, 1) for x in leaves.values()), strict=True):
            if cotangent is None:
                y, state = segment(state, *parts)
            else:
                y, state = checkpoint(segment, state, *parts, use_reentrant=False)
            readouts.append(y)
        found = {"y": torch.cat(readouts, 1)}
    if cotangent is not None:
        gradients = torch.autograd.grad(found["y"], list(leaves.values()), cotangent.double())
        found |= dict(zip(leaves, gradients, strict=True))
    return {name: x.detach() for name, x in found.items()}


def prepared(
    implementation: Implementation,
    row: Row,
    tensors: Mapping[str, "Tensor"],
    cotangent: "Tensor",
) -> tuple[Call, Callable[[Results], dict[str, "Tensor"]]]:
    """What is timed, and what names and lays out its results as the reference's.

    The first takes no arguments and gives the read-outs and, in the row's direction, the gradients
    of all inputs; layouts and scales are the implementation's own already.
    """
    import torch

    backward = row.direction == "forward+backward"

    def moved(x: "Tensor") -> "Tensor":
        return x.transpose(1, 2) if implementation.heads_first else x

    scales = {"q": row.scale} if implementation.unscaled else {}
    leaves = {
        name: (scales.get(name, 1) * moved(x)).contiguous().detach().requires_grad_(backward)
        for name, x in tensors.items()
    }
    upstream = moved(cotangent).contiguous()

    def call() -> Results:
        if not backward:
            with torch.no_grad():
                return (implementation.run(**leaves),)
        y = implementation.run(**leaves)
        return (y, *torch.autograd.grad(y, list(leaves.values()), upstream))

    def named(results: Results) -> dict[str, "Tensor"]:
        names = ["y", *leaves][: len(results)]
        return {n: scales.get(n, 1) * moved(x) for n, x in zip(names, results, strict=True)}

    return call, named


def graphed(call: Call) -> Call:
    """The call captured as one CUDA graph: what replays it and gives its (static) results."""
    import torch

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = call()

    def replay() -> Results:
        graph.replay()
        return results

    return replay


def errors(actual: Mapping[str, "Tensor"], expected: Mapping[str, "Tensor"]) -> dict[str, float]:
    """The largest deviation of each result, in units of its largest expected magnitude."""
    found = {}
    for name, x in actual.items():
        if x.shape != expected[name].shape:
            found[name] = float("inf")
            continue
        largest = float(expected[name].abs().max()) or 1.0
        deviation = float((x.detach().double() - expected[name]).abs().max()) / largest
        found[name] = float("inf") if math.isnan(deviation) else deviation
    return found


def peak_bytes(call: Call, device: Device) -> int:
    """The most memory that a run allocates beside what is there before it, results included."""
    import torch

    if device == "gpu":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    from torch.profiler import ProfilerActivity, profile

    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # its own lines on standard error
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    live = peak = 0
    for event in events:
        if event["name"] == "[memory]" and event["args"]["Device Type"] == 0:
            live += event["args"]["Bytes"]
            peak = max(peak, live)
    return peak


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much time measuring may take.

    Args:
        seconds: about how long all calls are timed for.
        least: how often each is timed at least.
        most: how often at most.
    """

    seconds: float
    least: int
    most: int


QUICK = Effort(seconds=0.0, least=2, most=2)


def timed(
    calls: Mapping[str, Callable[[], Any]], *, threads: int, effort: Effort
) -> dict[str, Timing]:
    """The seconds of each call, measured in turns (A B A B): a busy minute hits all of them.

    Args:
        calls: what to time, by name.
        threads: of torch.
        effort: how much time this may take.
    """
    from torch.utils.benchmark import Measurement, Timer

    timers = {
        name: Timer("call()", globals={"call": call}, num_threads=threads)
        for name, call in calls.items()
    }
    once = {name: timer.timeit(1).median for name, timer in timers.items()}
    runs = {name: max(1, int(BLOCK / seconds)) for name, seconds in once.items()}
    a_turn = sum((runs[name] + WARM) * seconds for name, seconds in once.items())
    turns = int(min(max(effort.seconds / a_turn, effort.least), effort.most)) if calls else 0
    blocks: dict[str, list[Measurement]] = {name: [] for name in timers}
    for _ in range(turns):
        for name, timer in timers.items():
            blocks[name].append(timer.timeit(runs[name]))
    merged = {name: Measurement.merge(found)[0] for name, found in blocks.items()}
    return {
        name: Timing(median=m.median, iqr=m.iqr, blocks=len(m.times)) for name, m in merged.items()
    }
