"""The benchmark of the kernels: every row, by every implementation, or the reason why not.

A speed is shown only of what is right: whatever is measured is first compared with the float64
step-by-step reference, read-outs and, in a backward row, the gradients of all inputs, on the very
tensors that are timed.
"""

import dataclasses
import itertools
import math
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from fwbio import __version__
from fwbio.analyses.benchmarks import measure, roofline, scaling
from fwbio.analyses.benchmarks.measure import GATES, QUICK, Effort
from fwbio.analyses.benchmarks.peers import (
    INSTALL,
    PEER_PACKAGES,
    Implementation,
    installed_version,
    ours,
    peers,
)
from fwbio.analyses.benchmarks.rows import DEVICES, ROWS, Device, Row, small
from fwbio.errors import FwbioError, unknown_name
from fwbio.kernels.support import BACKENDS, chosen, unsupported
from fwbio.rules import resolve

SCHEMA = 1
EFFORT = Effort(seconds=20.0, least=5, most=31)
NO_GPU = "there is no GPU here"
Entry = dict[str, Any]


def kernels(
    *,
    rules: Sequence[str] = (),
    devices: Sequence[Device] = DEVICES,
    backends: Sequence[str] = (),
    threads: int = 2,
    seed: int = 0,
    quick: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Measure the kernels and their peers.

    Args:
        rules: which rules' rows; all, unless named.
        devices: which classes of devices' rows.
        backends: which backends; unless named, in each row the one that "auto" chooses there, and
            all of the CPU's for the cost against size.
        threads: of torch.
        seed: of the tensors.
        quick: whether sizes are cut so far that only the benchmark itself is tested.
        progress: whether to show bars, on standard error.

    Returns:
        What `kernels.json` holds: `schema`, `fwbio`, `machine`, `settings`, `gates`, `rates` by
        device and dtype, `results`, `scaling` and `fits`. Times are in seconds, memory in bytes.

    Raises:
        FwbioError: an unknown or unmeasured rule, an unknown backend, or a number out of range.
    """
    _check(rules, backends, threads, seed)
    wanted = [row for row in ROWS if row.device in devices and (not rules or row.rule in rules)]
    wanted = list(small(wanted)) if quick else wanted
    sweeps = [sweep for sweep in scaling.SWEEPS if not rules or sweep.rule in rules]
    described = machine(threads)
    runnable = {"cpu", "gpu"} if described["gpu"] != "none" else {"cpu"}
    kinds = dict.fromkeys((row.device, row.dtype) for row in wanted if row.device in runnable)
    rates = {
        kind: roofline.measured_rates(*kind, threads=threads, quick=quick)
        for kind in tqdm(kinds, desc="rates", unit="rate", disable=not progress, leave=False)
    }
    results: list[Entry] = []
    with tqdm(total=len(wanted), desc="rows", unit="row", disable=not progress) as bar:
        for _, group in itertools.groupby(wanted, key=_problem):
            rows = list(group)
            if rows[0].device in runnable:
                results += measured(
                    rows,
                    backends or [chosen_for(rows[0])],
                    rates=rates[rows[0].device, rows[0].dtype],
                    threads=threads,
                    seed=seed,
                    effort=QUICK if quick else EFFORT,
                )
            else:
                results += [_entry(row, None, status="not measured", reason=NO_GPU) for row in rows]
            bar.update(len(rows))
    points: list[Entry] = []
    if "cpu" in devices:
        points = _scaling(sweeps, backends, threads, seed, quick=quick, progress=progress)
    return {
        "schema": SCHEMA,
        "fwbio": __version__,
        "machine": described,
        "settings": {
            "rules": list(rules) or list(dict.fromkeys(row.rule for row in wanted)),
            "devices": list(devices),
            "backends": list(backends) or "auto",
            "threads": threads,
            "seed": seed,
            "quick": quick,
        },
        "gates": {dtype: dataclasses.asdict(gate) for dtype, gate in GATES.items()},
        "rates": [
            {"device": device, "dtype": dtype, **dataclasses.asdict(rate)}
            for (device, dtype), rate in rates.items()
        ],
        "results": results,
        "scaling": points,
        "fits": scaling.fits(points),
    }


def chosen_for(row: Row) -> str:
    """The backend that `scan` takes for a row unless told otherwise."""
    device = measure.torch_device(row.device)
    return chosen("auto", device=device, stretch=row.T, heads=row.B * row.H)


def measured(
    rows: Sequence[Row],
    backends: Sequence[str],
    *,
    rates: roofline.Rates,
    threads: int,
    seed: int,
    effort: Effort,
    rivals: Sequence[Implementation] | None = None,
) -> list[Entry]:
    """The entries of rows that differ in direction and launch alone.

    Args:
        rows: such rows.
        backends: of this package, by name.
        rates: of the machine.
        threads: of torch.
        seed: of the tensors.
        effort: how long to time a row.
        rivals: what to compare with; the peers of the table, unless given.
    """
    tensors, cotangent = measure.operands(rows[0], seed)
    backward = any(row.direction == "forward+backward" for row in rows)
    entries: list[Entry] = []
    with measure.threads_set(threads):
        expected = measure.reference(rows[0], tensors, cotangent if backward else None)
    for row in rows:
        found = [ours(row.rule, name, row) for name in backends]
        found += peers(row) if rivals is None else rivals
        sound: dict[str, measure.Call] = {}
        shown: dict[str, Entry] = {}
        for one in found:
            with measure.threads_set(threads):
                entry, call = _attempt(one, row, tensors, cotangent, expected)
            shown[one.name] = entry
            if call is not None:
                sound[one.name] = call
        for name, timing in measure.timed(sound, threads=threads, effort=effort).items():
            shown[name] |= {
                "status": "measured",
                "seconds": timing.median,
                "seconds_iqr": timing.iqr,
                "blocks": timing.blocks,
                "copy_fraction": shown[name]["bytes"] / timing.median / rates.copy,
                "matrix_fraction": shown[name]["operations"] / timing.median / rates.matrix,
                "floor_seconds": roofline.floor_seconds(row, rates),
            }
        _compare(list(shown.values()))
        entries += shown.values()
    return entries


def machine(threads: int) -> dict[str, Any]:
    """The machine and the versions that were measured, in words."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "threads": threads,
        "vector_instructions": torch.backends.cpu.get_cpu_capability(),
        "gpu": gpu,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": installed_version("triton") or "none",
        "peers": {
            name: installed_version(name) or f"not installed: {INSTALL}" for name in PEER_PACKAGES
        },
    }


def _check(rules: Sequence[str], backends: Sequence[str], threads: int, seed: int) -> None:
    measured = list(dict.fromkeys(row.rule for row in ROWS))
    for rule in rules:
        if resolve(rule).name not in measured:
            raise FwbioError(
                f"no row measures {rule!r}",
                where="rules",
                mend=f"choose from {', '.join(measured)}",
            )
    for backend in backends:
        if backend not in BACKENDS:
            raise unknown_name(backend, BACKENDS, kind="backend", where="backend")
    for name, value, least in (("threads", threads, 1), ("seed", seed, 0)):
        if value < least:
            raise FwbioError(
                f"{value} is out of range", where=name, mend=f"give an integer of at least {least}"
            )


def _problem(row: Row) -> Row:
    """The row but for its direction and launch: what shares tensors and reference."""
    return dataclasses.replace(row, direction="forward", launch="eager")


def _entry(row: Row, implementation: Implementation | None, **known: Any) -> Entry:
    """An entry of the results, its unknown figures None."""
    figures = dict.fromkeys(
        (
            *("error", "error_of", "seconds", "seconds_iqr", "blocks", "peak_bytes"),
            *("copy_fraction", "matrix_fraction", "floor_seconds", "best_peer", "ratio"),
        )
    )
    return {
        **dataclasses.asdict(row),
        "implementation": implementation.name if implementation else None,
        "ours": bool(implementation and implementation.package is None),
        "source": implementation.source if implementation else None,
        "status": "not measured",
        "reason": None,
        "bytes": roofline.bytes_moved(row),
        "operations": roofline.operations(row),
        **figures,
        **known,
    }


def _attempt(
    one: Implementation, row: Row, tensors: Any, cotangent: Any, expected: Any
) -> tuple[Entry, measure.Call | None]:
    """An entry but for its times, and what to time if there is something right."""
    if reason := one.missing():
        return _entry(row, one, status="not installed", reason=reason), None
    if reason := one.unsupported(row):
        return _entry(row, one, reason=reason), None
    try:
        eager, named = measure.prepared(one, row, tensors, cotangent)
        call = measure.graphed(eager) if row.launch == "graphed" else eager
        errors = measure.errors(named(call()), expected)
        worst = max(errors, key=lambda name: errors[name])
        finite = math.isfinite(errors[worst])
        found = {"error": errors[worst] if finite else None, "error_of": worst}
        gate = GATES[row.dtype].ours if one.package is None else GATES[row.dtype].peers
        if not errors[worst] <= gate:
            reason = (
                f"wrong: error {errors[worst]:.0e}" if finite else "wrong: not finite or misshapen"
            )
            return _entry(row, one, status="wrong", reason=reason, **found), None
        peak = measure.peak_bytes(eager, row.device)
    except Exception as error:  # that it fails is a finding, and no reason to lose the others
        return _entry(row, one, reason=f"fails: {_line(error)}"), None
    return _entry(row, one, peak_bytes=peak, **found), call


def _compare(entries: Sequence[Entry]) -> None:
    """Name the fastest right peer of a row, and how many times slower it is than each."""
    rivals = [entry for entry in entries if entry["status"] == "measured" and not entry["ours"]]
    if not rivals:
        return
    best = min(rivals, key=lambda entry: float(entry["seconds"]))
    for entry in entries:
        if entry["status"] == "measured":
            entry["best_peer"] = best["implementation"]
            entry["ratio"] = best["seconds"] / entry["seconds"]


def _scaling(
    sweeps: Sequence[scaling.Sweep],
    backends: Sequence[str],
    threads: int,
    seed: int,
    *,
    quick: bool,
    progress: bool,
) -> list[Entry]:
    points: list[Entry] = []
    cases = [
        (sweep, backend)
        for sweep in sweeps
        for backend in backends or sweep.backends
        if unsupported(sweep.rule, backend) is None
    ]
    bar = tqdm(cases, desc="cost against size", unit="sweep", disable=not progress)
    for sweep, backend in bar:
        for size in sweep.sizes(quick=quick):
            try:
                point = scaling.measure(
                    sweep, backend, size, threads=threads, seed=seed, quick=quick
                )
            except FwbioError:
                break  # a backend for other devices; its rows say so
            points.append(point)
            if point["seconds"] > scaling.LONGEST:
                break
    return points


def _line(error: Exception) -> str:
    words = " ".join(str(error).split())
    return f"{type(error).__name__}{': ' if words else ''}{words[:160]}"


def _cpu_model() -> str:
    """The processor's name, where the system tells it."""
    listed = Path("/proc/cpuinfo")
    if listed.exists():
        for line in listed.read_text(encoding="utf-8").splitlines():
            name, _, model = line.partition(":")
            if name.strip() == "model name":
                return model.strip()
    return platform.processor() or "unknown"
