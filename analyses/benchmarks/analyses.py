"""The benchmark of analyses: seconds and memory that a large record takes, kept on disk or read.

A record of a noisy run of the delta rule, with the weights of every step, is made block by block
and kept as Zarr; every analysis then runs in a process of its own, whose peak memory is told.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from tqdm import tqdm

from fwbio import __version__
from fwbio.errors import FwbioError, unknown_name
from fwbio.files import write_together

SCHEMA = 1
DATA, TABLE = "analyses.json", "analyses.csv"
RUN, REFERENCE = "run.zarr", "reference.zarr"
GATE = 1e-9  # relative: sums of blocks in another order
# Of BLAS in each thread of dask's, as dask advises: matrices of 64 channels are not worth more.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
Entry = dict[str, Any]
Pair = tuple[xr.Dataset, xr.Dataset]


@dataclass(frozen=True, kw_only=True)
class Size:
    """The record that is analysed.

    Args:
        trials, steps, channels: its sizes; half of the steps store a pair, the others cue it.
        block: trials that are made at once.
    """

    trials: int = 1000
    steps: int = 200
    channels: int = 64
    block: int = 50


FULL, QUICK = Size(), Size(trials=6, steps=12, channels=8, block=3)


def _overview(snapshots: int | None) -> Callable[[xr.Dataset, xr.Dataset], Any]:
    def run(record: xr.Dataset, reference: xr.Dataset) -> Any:
        from fwbio.analyses.overview import overview

        return overview(record, reference, snapshots=snapshots)

    return run


def _recall(record: xr.Dataset, reference: xr.Dataset) -> Any:
    from fwbio.analyses import recall

    return recall.recall_accuracy(record), recall.recall_cosine(record)


def _by_lag(record: xr.Dataset, reference: xr.Dataset) -> Any:
    from fwbio.analyses import recall

    return recall.recall_by_lag(record)


def _agreement(record: xr.Dataset, reference: xr.Dataset) -> Any:
    from fwbio.analyses import agreement

    return (
        agreement.readout_agreement(record, reference),
        agreement.weight_agreement(record, reference),
        agreement.relative_error(record, reference),
    )


def _interference(record: xr.Dataset, reference: xr.Dataset) -> Any:
    from fwbio.analyses.interference import interference

    return interference(record).mean("trial").compute()


def _spectra(record: xr.Dataset, reference: xr.Dataset) -> Any:
    from fwbio.analyses.geometry import spectra

    return spectra(record).compute()


def _alignment(record: xr.Dataset, reference: xr.Dataset) -> Any:
    from fwbio.analyses.alignment import alignment

    return [alignment(record, reference, of=of).compute() for of in ("weights", "readout")]


ANALYSES: Mapping[str, tuple[str, Callable[[xr.Dataset, xr.Dataset], Any]]] = {
    "overview": ("recall, agreement, spectra of 20 snapshots, in one pass", _overview(20)),
    "overview of all": ("the same, spectra of all snapshots", _overview(None)),
    "recall": ("recall_accuracy and recall_cosine", _recall),
    "by lag": ("recall_by_lag", _by_lag),
    "agreement": ("read-outs, weights, relative error", _agreement),
    "spectra": ("of all snapshots", _spectra),
    "interference": ("of all pairs", _interference),
    "alignment": ("of final weights and of read-outs", _alignment),
}
PLACES: Mapping[str, str] = {
    "zarr": "lazily, weights of every step",
    "memory": "read before the clock starts, final weights alone",
}


def analyses(
    *,
    names: Sequence[str] = tuple(ANALYSES),
    folder: Path,
    seed: int = 0,
    quick: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Measure the analyses of a large record.

    Args:
        names: which of `ANALYSES`.
        folder: where the record is kept meanwhile; some gigabytes are needed, and given back.
        seed: of the pairs and the noise.
        quick: whether sizes are cut so far that only the benchmark itself is tested.
        progress: whether to show bars, on standard error.

    Returns:
        What `analyses.json` holds: `schema`, `fwbio`, `machine`, `settings`, `record` with its
        sizes, bytes and the seconds that it took to make, `error` and `results`, in seconds and
        bytes.

    Raises:
        FwbioError: there is no such analysis; the folder can't be written; what is told of a lazy
            record is not what is told of it in memory.
    """
    for name in names:
        if name not in ANALYSES:
            raise unknown_name(name, ANALYSES, kind="analysis", where="names")
    from fwbio.analyses.benchmarks.kernels import machine

    size = QUICK if quick else FULL
    versions = {"numpy": np.__version__, "xarray": xr.__version__}
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="analyses-", dir=folder) as kept:
        made = make(Path(kept), size, seed, progress=progress)
        error = disagreement(Path(kept), size.block)
        if not error <= GATE:
            raise FwbioError(
                f"lazy numbers are off by {error:.0e}",
                where="bench analyses",
                mend=f"mend what is told of blocks: {GATE:g} is allowed",
            )
        jobs = [(name, place) for name in names for place in PLACES]
        results = [
            {
                "analysis": name,
                "place": place,
                "what": ANALYSES[name][0],
                **in_process(name, place, kept),
            }
            for name, place in tqdm(jobs, desc="analyses", unit="run", disable=not progress)
        ]
    return {
        "schema": SCHEMA,
        "fwbio": __version__,
        "machine": machine(1) | versions | {"load_average": os.getloadavg()[0]},
        "settings": {"names": list(names), "seed": seed, "quick": quick},
        "record": asdict(size) | made,
        "error": error,
        "results": results,
    }


def make(folder: Path, size: Size, seed: int, *, progress: bool = False) -> dict[str, Any]:
    """Make a noisy run and its reference block by block, as Zarr in a folder.

    Returns:
        The bytes that their numbers take in memory, and the seconds that making them took.
    """
    from fwbio import record

    start = time.perf_counter()
    starts = range(0, size.trials, size.block)

    def runs() -> Iterator[xr.Dataset]:
        for first in tqdm(starts, desc="record", unit="block", disable=not progress):
            yield _noisy(_exact(size, first, seed), seed + first)

    record.save_blocks(runs(), folder / RUN)
    final = (_exact(size, first, seed).isel(snapshot=[-1]) for first in starts)
    record.save_blocks((_single(part) for part in final), folder / REFERENCE)
    kept = [record.load(folder / name) for name in (RUN, REFERENCE)]
    return {
        "bytes": int(kept[0].nbytes),
        "weights_bytes": int(kept[0]["weights"].nbytes),
        "make_s": time.perf_counter() - start,
    }


def _exact(size: Size, first: int, seed: int) -> xr.Dataset:
    """The reference's run of a block of trials, with the weights of every step."""
    from fwbio import reference
    from fwbio.models.programmer import designed
    from fwbio.tasks import TASKS

    shape = {"pairs": size.steps // 2, "pre": size.channels, "post": size.channels}
    trials = min(size.block, size.trials - first)
    shown = TASKS["random_pairs"](seed=seed + first, trials=trials, **shape)
    return reference.execute(designed(shown, "delta", coding="plain"), weights="all")


def _noisy(run: xr.Dataset, seed: int) -> xr.Dataset:
    rng = np.random.default_rng([seed, 1])

    def noise(array: xr.DataArray) -> xr.DataArray:
        return array + 0.1 * float(array.std()) * rng.standard_normal(array.shape, dtype=np.float32)

    noisy = {
        name: noise(run[name]).assign_attrs(run[name].attrs) for name in ("readout", "weights")
    }
    return _single(run.assign(noisy).assign_attrs(substrate="noisy"))


def _single(run: xr.Dataset) -> xr.Dataset:
    """The run in float32."""
    return run.assign({n: x.astype(np.float32) for n, x in run.items() if x.dtype == np.float64})


def disagreement(folder: Path, trials: int) -> float:
    """How far, relative, the overview of the first trials is from that of the same in memory."""
    from fwbio.analyses.overview import overview

    lazy, lazy_reference = (part.isel(trial=slice(trials)) for part in _opened(folder))
    expected = overview(lazy.load(), lazy_reference.load(), snapshots=3)
    lazy, lazy_reference = (part.isel(trial=slice(trials)) for part in _opened(folder))
    found = overview(lazy, lazy_reference, snapshots=3)
    apart = [0.0]
    for name, wanted in expected.data_vars.items():
        finite = np.isfinite(wanted.values)
        scale = np.abs(wanted.values[finite]).max(initial=0) or 1.0
        apart.append(np.abs((found[name] - wanted).values[finite]).max(initial=0) / scale)
    return float(max(apart))


def _opened(folder: Path) -> Pair:
    from fwbio import record

    run, reference = (record.load(folder / name) for name in (RUN, REFERENCE))
    assert isinstance(run, xr.Dataset)
    assert isinstance(reference, xr.Dataset)
    return run, reference


def in_process(name: str, place: str, folder: str | Path) -> Entry:
    """What one analysis takes, measured in a process of its own.

    Returns:
        `seconds` and `cpu_seconds` of the analysis (of all threads: what a busy machine does not
        stretch), and `peak_bytes` of its process, from its start.
    """
    here = "from fwbio.analyses.benchmarks.analyses import measured"
    code = f"{here}; import json, sys; print(json.dumps(measured(*sys.argv[1:])))"
    done = subprocess.run(  # noqa: S603 - our own Python and our own words
        [sys.executable, "-c", code, name, place, str(folder)],
        capture_output=True,
        text=True,
        env=os.environ | ONE_THREAD,
    )
    if done.returncode:
        raise FwbioError(
            f"it ended by {(done.stderr.strip() or 'a signal').splitlines()[-1]}",
            where=f"bench analyses: {name}, {place}",
            mend="give it more memory, or mend the analysis",
        )
    entry: Entry = json.loads(done.stdout)
    return entry


def measured(name: str, place: str, folder: str) -> Entry:
    """Run one analysis here and tell what it and its process took."""
    run, reference = _opened(Path(folder))
    if place == "memory":
        run = run.isel(snapshot=[-1]).load()
        reference = reference.load()
    start, busy = time.perf_counter(), time.process_time()
    ANALYSES[name][1](run, reference)
    return {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - busy,
        "peak_bytes": peak_bytes(),
    }


def peak_bytes() -> int:
    """The most memory that this process has had, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count the process that this one was forked from
        (line,) = (x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def write(found: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write analyses.json and analyses.csv; earlier ones stay until both are ready.

    Args:
        found: as `analyses` makes it.
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

    size = found["record"]
    shown = Table(
        title=f"{size['trials']} trials of {size['steps']} steps, {size['channels']} x"
        f" {size['channels']} weights: seconds, those of all threads"
        " together, and peak memory of the process",
        title_justify="left",
    )
    for name in ("analysis", "of"):
        shown.add_column(name, overflow="fold")
    for name in ("record", "s", "CPU s", "GiB"):
        shown.add_column(name, justify="right", no_wrap=True)
    for entry in found["results"]:
        times = (f"{entry[x]:.3g}" for x in ("seconds", "cpu_seconds"))
        memory = f"{entry['peak_bytes'] / 2**30:.2f}"
        shown.add_row(entry["analysis"], entry["what"], entry["place"], *times, memory)
    return shown
