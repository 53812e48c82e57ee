"""The benchmark of training: a model's tokens a second, beside the same with a peer's memory.

Every contender is one `SequenceModel` with the same initial weights, batch, loss and optimiser, but
for the functions that run its memories: a peer's rule, after torch's own convolution as the peers'
layers call it on a CPU. A second model of each peer borrows this package's convolution, so that the
memory alone differs. They take their steps in turns, so that a busy minute hits
all of them, and a speed is shown only of what is right: the loss and all gradients of the first
step are compared with those of the same model in float64, step by step.
"""

import copy
import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from fwbio import __version__
from fwbio.analyses.benchmarks.measure import Gate, errors, threads_set
from fwbio.analyses.benchmarks.training_models import (
    Contender,
    Row,
    Runner,
    ours,
    peers,
    prepared,
    problem,
    step_by_step,
)
from fwbio.errors import FwbioError, unknown_name

if TYPE_CHECKING:
    from torch import Tensor

    from fwbio.models.networks.memory import FastWeightMemory
    from fwbio.models.networks.sequence_model import SequenceModel

SCHEMA = 1
TURNS = 15
TARGET = 1.3
GATE = Gate(
    ours=1e-4, peers=1e-3, reason="float32 sums of thousands of terms, through two layers and back"
)
Entry = dict[str, Any]


ROWS: tuple[Row, ...] = tuple(
    Row(rule=rule, width=width) for rule in ("delta", "gated_delta") for width in (64, 128, 256)
)
NAMES = tuple(row.name for row in ROWS)


def training(
    *,
    rows: Sequence[str] = NAMES,
    threads: Sequence[int] = (1, 2),
    turns: int = TURNS,
    seed: int = 0,
    quick: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Measure steps of training (forward, loss, backward, AdamW) and their peers' on the CPU.

    Args:
        rows: which of `NAMES`.
        threads: of torch, every row with each.
        turns: how often each contender takes a step.
        seed: of weights and tokens.
        quick: whether sizes are cut so far that only the benchmark itself is tested.
        progress: whether to show bars, on standard error.

    Returns:
        What `training.json` holds: `schema`, `fwbio`, `machine`, `settings`, `gate` and `results`,
        times in seconds.

    Raises:
        FwbioError: there is no such row, or a number out of range.
    """
    for name in rows:
        if name not in NAMES:
            raise unknown_name(name, NAMES, kind="row", where="rows")
    for what, values, least in (
        ("threads", threads, 1),
        ("turns", [turns], 1),
        ("seed", [seed], 0),
    ):
        if not values or min(values) < least:
            raise FwbioError(
                f"{what} of {list(values)} can't be measured",
                where="bench training",
                mend=f"give whole numbers of at least {least}",
            )
    from fwbio.analyses.benchmarks.kernels import machine

    wanted = [row for row in ROWS if row.name in rows]
    if quick:
        wanted = [
            dataclasses.replace(row, width=row.width // 8, head=8, batch=2, length=64)
            for row in wanted
        ]
    results: list[Entry] = []
    for row in tqdm(wanted, desc="rows", unit="row", disable=not progress):
        results += measure(row, threads=threads, turns=turns, seed=seed, progress=progress)
    return {
        "schema": SCHEMA,
        "fwbio": __version__,
        "machine": machine(max(threads)),
        "settings": {
            "rows": list(rows),
            "threads": list(threads),
            "turns": turns,
            "seed": seed,
            "quick": quick,
            "dtype": "float32",
        },
        "gate": dataclasses.asdict(GATE),
        "results": results,
    }


def measure(
    row: Row,
    *,
    threads: Sequence[int],
    turns: int,
    seed: int,
    rivals: Sequence[Contender] | None = None,
    progress: bool = False,
) -> list[Entry]:
    """The entries of a row, one for each number of threads and contender.

    Args:
        row: what to train.
        threads: of torch.
        turns: how often each takes a step, after one that is compared and not timed.
        seed: of weights and tokens.
        rivals: what to compare with; the peers of `fwbio.analyses.benchmarks.peers` unless given.
        progress: whether to show a bar.
    """
    model, tokens, targets = problem(row, seed)
    with threads_set(max(threads)):
        expected = _gradients(copy.deepcopy(model).double(), tokens, targets, step_by_step)
    contenders = [ours(row), *(peers(row) if rivals is None else rivals)]
    entries: list[Entry] = []
    for count in threads:
        with threads_set(count):
            shown, running = [], []
            for one in contenders:
                entry, trainer = _attempt(one, row, count, (model, tokens, targets), expected)
                shown.append(entry)
                if trainer is not None:
                    running.append((entry, trainer))
            bar = tqdm(range(turns), desc=f"{row.name}, threads: {count}", unit="turn", leave=False)
            for _ in bar if progress else range(turns):
                for _, trainer in running:
                    trainer.turn()
            for entry, trainer in running:
                entry |= times(trainer.steps, trainer.memories, row)
        compare(shown)
        entries += shown
    return entries


def _loss(model: "SequenceModel", tokens: "Tensor", targets: "Tensor", run: Runner) -> "Tensor":
    from torch.nn.functional import cross_entropy

    return cross_entropy(model(tokens, run).flatten(0, 1), targets.flatten())


def _gradients(
    model: "SequenceModel", tokens: "Tensor", targets: "Tensor", run: Runner
) -> "dict[str, Tensor]":
    """The loss and the gradient of every parameter."""
    import torch

    named = dict(model.named_parameters())
    loss = _loss(model, tokens, targets, run)
    gradients = torch.autograd.grad(loss, list(named.values()))
    return {"loss": loss.detach(), **dict(zip(named, gradients, strict=True))}


class _Trainer:
    """A model in training, and its first memory alone, both timed turn by turn."""

    def __init__(
        self, model: "SequenceModel", tokens: "Tensor", targets: "Tensor", run: Runner
    ) -> None:
        import torch

        self.model, self.tokens, self.targets, self.run = model, tokens, targets, run
        self.optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
        self.steps: list[float] = []
        self.memories: list[float] = []
        self.streams: dict[str, Tensor] = {}
        with torch.no_grad():
            _loss(model, tokens, targets, self._keep)
        self.readouts = torch.randn_like(self.streams["v"])
        self.step()
        self.memory()

    def _keep(self, layer: int, memory: "FastWeightMemory", streams: "dict[str, Tensor]") -> Any:
        """Run a layer, and keep the first one's streams as its memory is given them."""
        if layer == 0:
            self.streams = {name: x.detach().requires_grad_() for name, x in streams.items()}
        return self.run(layer, memory, streams)

    def step(self) -> None:
        """One step of training."""
        self.optimiser.zero_grad()
        _loss(self.model, self.tokens, self.targets, self.run).backward()
        self.optimiser.step()

    def memory(self) -> None:
        """The memories alone, forward and backward, each with the first one's streams."""
        import torch

        for layer, memory in self.model.memories():
            y = self.run(layer, memory, self.streams)
            torch.autograd.grad(y, list(self.streams.values()), self.readouts)

    def turn(self) -> None:
        """Time a step, and the memories alone."""
        for call, seconds in ((self.step, self.steps), (self.memory, self.memories)):
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)


def _attempt(
    one: Contender, row: Row, threads: int, problem: Any, expected: "Mapping[str, Tensor]"
) -> tuple[Entry, _Trainer | None]:
    """An entry but for its times, and what to time if it is right."""
    figures = (
        *("error", "error_of", "loss", "step_s", "step_s_q1", "step_s_q3", "step_s_min"),
        *("tokens_per_s", "memory_s", "memory_share", "best_peer", "ratio", "ratio_of_minima"),
        *("ratio_bound", "ratio_borrowing", "target"),
    )
    entry: Entry = {
        "row": row.name,
        **dataclasses.asdict(row),
        "threads": threads,
        "implementation": one.name,
        "ours": one.package is None,
        "borrows": one.borrows,
        "source": one.source,
        "status": "not measured",
        "reason": None,
        **dict.fromkeys(figures),
    }
    if reason := one.missing():
        return entry | {"status": "not installed", "reason": reason}, None
    model, tokens, targets = problem
    try:
        found = _gradients(prepared(model, one), tokens, targets, one.run)
        deviations = errors(found, expected)
        worst = max(deviations, key=lambda name: deviations[name])
        error = deviations[worst]
        if not error <= (GATE.ours if one.package is None else GATE.peers):
            told = f"error {error:.0e}" if math.isfinite(error) else "not finite or misshapen"
            known = {"error": error if math.isfinite(error) else None, "error_of": worst}
            return entry | known | {"status": "wrong", "reason": f"wrong: {told}"}, None
        trainer = _Trainer(prepared(model, one), tokens, targets, one.run)
    except Exception as failure:  # that it fails is a finding, and no reason to lose the others
        words = " ".join(str(failure).split())
        return entry | {"reason": f"fails: {type(failure).__name__}: {words[:160]}"}, None
    known = {"error": error, "error_of": worst, "loss": float(found["loss"])}
    return entry | known | {"status": "measured"}, trainer


def times(steps: Sequence[float], memories: Sequence[float], row: Row) -> Entry:
    """The figures of a contender.

    Args:
        steps: seconds of each step of training.
        memories: seconds of its memories alone, in the same turns.
        row: what was trained.
    """
    low, middle, high = np.percentile(steps, [25, 50, 75])
    memory = float(np.median(memories))
    return {
        "step_s": float(middle),
        "step_s_q1": float(low),
        "step_s_q3": float(high),
        "step_s_min": float(min(steps)),
        "tokens_per_s": row.tokens / float(middle),
        "memory_s": memory,
        "memory_share": memory / float(middle),
    }


def compare(entries: Sequence[Entry]) -> None:
    """Name the fastest right peer, and how many times faster this package trains.

    `ratio` is of medians, `ratio_of_minima` of the fastest turns, and `ratio_bound` what `ratio`
    would be if this package's memories took no time. `ratio_borrowing` is the ratio to the fastest
    model that borrows all but its memory from this package.

    Args:
        entries: of one row and number of threads; changed in place.
    """
    right = [entry for entry in entries if entry["status"] == "measured"]
    rivals = [entry for entry in right if not entry["ours"] and not entry["borrows"]]
    borrowing = [float(entry["step_s"]) for entry in right if entry["borrows"]]
    if not rivals:
        return
    best = min(rivals, key=lambda rival: float(rival["step_s"]))
    for entry in (entry for entry in right if entry["ours"]):
        rest = entry["step_s"] - entry["memory_s"]
        entry |= {
            "best_peer": best["implementation"],
            "ratio": best["step_s"] / entry["step_s"],
            "ratio_of_minima": best["step_s_min"] / entry["step_s_min"],
            "ratio_bound": best["step_s"] / rest if rest > 0 else None,
            "ratio_borrowing": min(borrowing) / entry["step_s"] if borrowing else None,
            "target": TARGET,
        }
