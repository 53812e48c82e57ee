"""The benchmark of the synaptic models: seconds of a time step beside the fastest script by hand.

Each row is a network, run by this package and by Brian2 scripts of the same equations in turns, so
that a busy minute hits all of them. Compiling is told apart. A speed is shown only of what is
right: the weights at the end are first compared with a plain loop's.
"""

import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from fwbio import __version__
from fwbio.errors import FwbioError, unknown_name
from fwbio.files import write_together

SCHEMA = 1
DATA, TABLE = "synapses.json", "synapses.csv"
ROWS = ("rate 100", "rate 500", "flow 64", "spiking 64", "spiking 256")
TURNS = 15
Entry = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One run.

    Args:
        weights: at its end, any shape.
        seconds: that all of its time steps took.
        compile_s: seconds before them.
        events: synaptic events, where spikes drive the synapses.
    """

    weights: np.ndarray
    seconds: float
    compile_s: float
    events: float | None = None


@dataclass(frozen=True, kw_only=True)
class Contender:
    """What is measured.

    Args:
        name: of the implementation.
        engine: Brian2's.
        ours: whether it is this package's.
        run: one run; the first may compile.
    """

    name: str
    engine: str
    ours: bool
    run: Callable[[], Sample]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A network.

    Args:
        name: of the row.
        pre, post: key and value channels.
        steps: time steps of a run.
        expected: the right weights.
        error: how far weights are from them.
        gate: the largest such error with which a speed is shown.
        target: how many times the time of the best peer of the same engine this package may take.
        contenders: what is measured.
    """

    name: str
    pre: int
    post: int
    steps: int
    expected: np.ndarray
    error: Callable[[np.ndarray, np.ndarray], float]
    gate: float
    target: float
    contenders: Sequence[Contender]


def synapses(
    *,
    rows: Sequence[str] = ROWS,
    turns: int = TURNS,
    seed: int = 0,
    quick: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Measure the synaptic models and their peers.

    Args:
        rows: which of `ROWS`.
        turns: how often each contender runs.
        seed: of the programs and of what is random in them.
        quick: whether sizes are cut so far that only the benchmark itself is tested.
        progress: whether to show a bar, on standard error.

    Returns:
        What `synapses.json` holds: `schema`, `fwbio`, `machine`, `settings` and `results`, times
        in seconds.

    Raises:
        FwbioError: there is no such row, or no turn.
    """
    for row in rows:
        if row not in ROWS:
            raise unknown_name(row, ROWS, kind="row", where="rows")
    if turns < 1 or seed < 0:
        raise FwbioError(
            f"{turns} turns of seed {seed} can't be run",
            where="bench synapses",
            mend="give at least one turn, and a seed from 0 up",
        )
    import brian2

    from fwbio.analyses.benchmarks.kernels import machine

    results: list[Entry] = []
    with _fresh_caches():
        for name in tqdm(rows, desc="rows", unit="row", disable=not progress):
            results += measure(_row(name, seed, quick=quick), turns, progress=progress)
    described = machine(1) | {"brian2": brian2.__version__, "numpy": np.__version__}
    settings = {"rows": list(rows), "turns": turns, "seed": seed, "quick": quick}
    return {
        "schema": SCHEMA,
        "fwbio": __version__,
        "machine": described,
        "settings": settings,
        "results": results,
    }


def measure(row: Row, turns: int, *, progress: bool = False) -> list[Entry]:
    """The entries of a row, one a contender.

    Args:
        row: what to run.
        turns: how often each runs; the first run, which may compile, is not timed.
        progress: whether to show a bar.
    """
    entries, running = [], []
    for one in row.contenders:
        entry, sample = _attempt(row, one)
        entries.append(entry)
        if sample is not None:
            running.append((entry, one, list[Sample]()))
    for _ in tqdm(range(turns), desc=row.name, unit="turn", disable=not progress, leave=False):
        for _, one, samples in running:
            samples.append(one.run())
    for entry, _, samples in running:
        entry |= _times(row, samples)
    _compare(row, [entry for entry, _, _ in running])
    return entries


def _attempt(row: Row, one: Contender) -> tuple[Entry, Sample | None]:
    entry: Entry = {
        "row": row.name,
        "pre": row.pre,
        "post": row.post,
        "steps": row.steps,
        "implementation": one.name,
        "engine": one.engine,
        "ours": one.ours,
        "status": "not measured",
        "reason": None,
        **dict.fromkeys(
            (
                *("error", "compile_s", "step_s", "step_s_q1", "step_s_q3", "step_s_min"),
                *("events_per_s", "best_peer", "ratio", "ratio_of_minima"),
                *("engine_peer", "engine_ratio", "engine_ratio_of_minima", "target"),
            )
        ),
    }
    try:
        sample = one.run()
        error = row.error(sample.weights, row.expected)
    except Exception as problem:  # that it fails is a finding, and no reason to lose the others
        words = " ".join(str(problem).split())
        return entry | {"reason": f"fails: {type(problem).__name__}: {words[:160]}"}, None
    entry |= {"error": error if math.isfinite(error) else None, "compile_s": sample.compile_s}
    if not error <= row.gate:
        return entry | {"status": "wrong", "reason": f"wrong: error {error:.0e}"}, None
    return entry | {"status": "measured"}, sample


def _times(row: Row, samples: Sequence[Sample]) -> Entry:
    seconds = np.array([sample.seconds for sample in samples]) / row.steps
    low, middle, high = np.percentile(seconds, [25, 50, 75])
    rates = [s.events / s.seconds for s in samples if s.events is not None]
    return {
        "step_s": float(middle),
        "step_s_q1": float(low),
        "step_s_q3": float(high),
        "step_s_min": float(seconds.min()),
        "events_per_s": float(np.median(rates)) if rates else None,
    }


def _compare(row: Row, entries: Iterable[Entry]) -> None:
    """Name the fastest right peer, of any engine and of the same one, and the ratios to it."""
    entries = list(entries)
    for entry in (entry for entry in entries if entry["ours"]):
        rivals = [rival for rival in entries if not rival["ours"]]
        alike = [rival for rival in rivals if rival["engine"] == entry["engine"]]
        if rivals:
            entry |= _against(entry, rivals, ("best_peer", "ratio", "ratio_of_minima"))
        if alike:
            names = ("engine_peer", "engine_ratio", "engine_ratio_of_minima")
            entry |= _against(entry, alike, names) | {"target": row.target}


def _against(entry: Entry, rivals: Sequence[Entry], names: tuple[str, str, str]) -> Entry:
    best = min(rivals, key=lambda rival: float(rival["step_s"]))
    values = (
        best["implementation"],
        entry["step_s"] / best["step_s"],
        entry["step_s_min"] / best["step_s_min"],
    )
    return dict(zip(names, values, strict=True))


@contextmanager
def _fresh_caches() -> Iterator[None]:
    """Compile everything anew, so that what this takes is measured too."""
    import brian2

    from fwbio.models.standalone import CACHE

    before, compiled = os.environ.get(CACHE), brian2.prefs.codegen.runtime.cython.cache_dir
    with tempfile.TemporaryDirectory(prefix="fwbio-") as fresh:
        os.environ[CACHE] = fresh
        brian2.prefs.codegen.runtime.cython.cache_dir = str(Path(fresh) / "cython")
        try:
            yield
        finally:
            brian2.prefs.codegen.runtime.cython.cache_dir = compiled
            os.environ.pop(CACHE)
            if before is not None:
                os.environ[CACHE] = before


def _row(name: str, seed: int, *, quick: bool) -> Row:
    kind, _, size = name.partition(" ")
    if kind == "rate":
        from fwbio.analyses.benchmarks.synapses_rate import rate_row

        return rate_row(name, 8 if quick else int(size), seed, quick=quick)
    if kind == "flow":
        from fwbio.analyses.benchmarks.synapses_flow import flow_row

        return flow_row(name, 8 if quick else int(size), seed, quick=quick)
    from fwbio.analyses.benchmarks.synapses_spiking import spiking_row

    return spiking_row(name, int(size), seed, quick=quick)


def write(found: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write synapses.json and synapses.csv; earlier ones stay until both are ready.

    Args:
        found: as `synapses` makes it.
        folder: where they go.

    Raises:
        FwbioError: the folder can't be written.
    """
    import pandas as pd

    from fwbio.analyses.outputs import json_text

    contents = {
        DATA: json_text(found),
        TABLE: pd.DataFrame(found["results"]).to_csv(index=False),
    }
    return write_together(folder, contents)


def table(found: Mapping[str, Any]) -> Any:
    """The results for a terminal."""
    from rich.table import Table

    shown = Table(
        title="Time of a step: median of turns and quartiles; ratio to the best script by hand,"
        " of any engine, and of the same one",
        title_justify="left",
    )
    for name in ("row", "implementation"):
        shown.add_column(name, overflow="fold")
    for name in ("us", "quartiles", "ratio", "same", "compile s", "error"):
        shown.add_column(name, justify="right", no_wrap=True)
    for entry in found["results"]:
        if entry["status"] != "measured":
            shown.add_row(entry["row"], f"{entry['implementation']}: {entry['reason']}")
            continue
        low, middle, high, ratio, same = (
            entry[x] for x in ("step_s_q1", "step_s", "step_s_q3", "ratio", "engine_ratio")
        )
        shown.add_row(
            entry["row"],
            entry["implementation"],
            f"{1e6 * middle:.4g}",
            f"{1e6 * low:.4g} .. {1e6 * high:.4g}",
            "–" if ratio is None else f"{ratio:.2f}",
            "–" if same is None else f"{same:.2f}",
            f"{entry['compile_s']:.3g}",
            f"{entry['error']:.0e}",
            style="bold" if entry["ours"] else None,
        )
    return shown
