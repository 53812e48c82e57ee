"""A published result trained and measured anew: every run, in as many processes as wished."""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import active_children, get_context
from pathlib import Path
from signal import SIG_IGN, SIGINT, signal
from typing import Any

import torch
from tqdm import tqdm

from fwbio.analyses.reproductions.reproduction import Claim, Measured, Outcome, Reproduction, Run
from fwbio.errors import FwbioError
from fwbio.files import written_aside
from fwbio.models.networks.training import TrainedNetwork, checkpoint_path, train

CHECKPOINTS = "checkpoints"
GO_ON = "give the same command again: what was trained is kept"
INTERRUPTED = 130
Measure = Callable[[TrainedNetwork, Run], Measured]


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What a reproduction found.

    Args:
        reproduction: which.
        outcomes: one a run, in the order of the runs.
        claims: what must show, and whether it does.
        quick: whether it was the quick form.
        command: what makes the same again.
    """

    reproduction: Reproduction
    outcomes: tuple[Outcome, ...]
    claims: tuple[Claim, ...]
    quick: bool
    command: str


def reproduce(
    reproduction: Reproduction,
    folder: str | Path,
    *,
    quick: bool = False,
    seeds: int | None = None,
    jobs: int = 1,
    progress: bool = False,
) -> Findings:
    """Train and measure every run of a reproduction, and hold it to its claims.

    Args:
        reproduction: of `fwbio.analyses.reproductions.table.REPRODUCTIONS`.
        folder: its folder `checkpoints` keeps the networks: those that are finished are measured
            again without training, those that were stopped go on.
        quick: the form of at most two minutes.
        seeds: how many, from 0 up; the reproduction's own number unless given.
        jobs: processes, with one thread each. Several are started anew, so that a script needs
            `if __name__ == "__main__":`.
        progress: whether to show a bar over the runs, on standard error.

    Raises:
        FwbioError: a run that can't be trained, told when the others are done.
        KeyboardInterrupt: it was stopped; called again it goes on.
    """
    if seeds is None:
        seeds = reproduction.quick_seeds if quick else reproduction.seeds
    runs = reproduction.runs(quick, range(seeds))
    checkpoints = Path(folder) / CHECKPOINTS
    first = sorted(range(len(runs)), key=lambda i: -runs[i].cost)
    outcomes: dict[int, Outcome] = {}
    mistakes: list[FwbioError] = []
    bar = tqdm(total=len(runs), desc=f"reproducing {reproduction.name}", disable=not progress)
    with bar:
        for i, outcome in _each(runs, first, reproduction.measure, checkpoints, jobs):
            bar.update()
            if isinstance(outcome, FwbioError):
                mistakes.append(outcome)
                continue
            outcomes[i] = outcome
            bar.set_postfix_str(_told(outcome, reproduction))
    if mistakes:
        raise mistakes[0]
    ordered = tuple(outcomes[i] for i in range(len(runs)))
    quickly = " --quick" if quick else ""
    return Findings(
        reproduction=reproduction,
        outcomes=ordered,
        claims=tuple(reproduction.claims(ordered)),
        quick=quick,
        command=f"fwbio reproduce {reproduction.name}{quickly} --seeds {seeds}",
    )


def carry_out(run: Run, measure: Measure, checkpoints: Path) -> Outcome:
    """Train a run's network unless it is there already, and measure it, on one thread.

    Args:
        run: which.
        measure: what is measured of the network.
        checkpoints: the folder that keeps it, and beside it how long its training took.

    Raises:
        FwbioError: it can't be trained.
    """
    took = checkpoint_path(run.training, checkpoints).with_suffix(".seconds.json")
    with _one_thread():
        with _timed(took):
            network = train(run.training, checkpoints, progress=False)
        metrics, curves = measure(network, run)
    return Outcome(
        condition=dict(run.condition),
        seed=run.training.seed,
        metrics={name: float(x) for name, x in metrics.items()},
        curves={name: [float(x) for x in curve] for name, curve in curves.items()},
        seconds=_seconds(took),
        steps=int(network.history[-1]["step"]),
        training=network.config.to_dict(),
        checkpoint=network.checkpoint,
    )


def _each(
    runs: Sequence[Run], order: Sequence[int], measure: Measure, checkpoints: Path, jobs: int
) -> Iterator[tuple[int, Outcome | FwbioError]]:
    """The runs' outcomes as they come, with their places."""
    if jobs == 1:
        for i in order:
            yield i, _carried_out(runs[i], measure, checkpoints)
        return
    before = set(active_children())
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_leave_ctrl_c)
    try:
        pending = {pool.submit(_in_child, runs[i], measure, checkpoints): i for i in order}
        for done in as_completed(pending):
            yield pending[done], done.result()
    except BrokenProcessPool as error:
        raise FwbioError("a process was killed", where="reproduce", mend=GO_ON) from error
    finally:
        ended = set(active_children()) - before
        pool.shutdown(wait=False, cancel_futures=True)
        for process in ended:
            process.terminate()  # what is training keeps a checkpoint of its own
        for process in ended:
            process.join()


def _leave_ctrl_c() -> None:
    """Let the parent alone answer Ctrl-C, which reaches all: it ends the others."""
    signal(SIGINT, SIG_IGN)


def _in_child(run: Run, measure: Measure, checkpoints: Path) -> Outcome | FwbioError:
    try:
        return _carried_out(run, measure, checkpoints)
    except KeyboardInterrupt:
        os._exit(INTERRUPTED)  # the pool would hand a process that returns the next run


def _carried_out(run: Run, measure: Measure, checkpoints: Path) -> Outcome | FwbioError:
    try:
        return carry_out(run, measure, checkpoints)
    except FwbioError as mistake:
        return mistake


def _told(outcome: Outcome, reproduction: Reproduction) -> str:
    names = [name for name in reproduction.metrics if name in outcome.metrics]
    what = " ".join(str(x) for x in outcome.condition.values())
    return f"{what} seed {outcome.seed}: {outcome.metrics[names[0]]:.4g}" if names else what


@contextmanager
def _timed(path: Path) -> Iterator[None]:
    """Add the seconds of the block to those that a file holds, be it stopped or not."""
    begun = time.perf_counter()
    before = _seconds(path)
    trained = path.with_suffix("").with_suffix(".pt").exists()
    try:
        yield
    finally:
        if not trained:
            with written_aside(path) as aside:
                aside.write_text(json.dumps(before + time.perf_counter() - begun))


def _seconds(path: Path) -> float:
    try:
        return float(json.loads(path.read_text()))
    except (OSError, ValueError):
        return 0.0


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def plain(findings: Findings) -> dict[str, Any]:
    """What was found as plain data, settings in full."""
    from fwbio.record import versions

    reproduction = findings.reproduction
    return {
        "name": reproduction.name,
        "title": reproduction.title,
        "source": reproduction.source,
        "command": findings.command,
        "quick": findings.quick,
        "versions": versions(),
        "claims": [claim._asdict() for claim in findings.claims],
        "published": [vars(entry) for entry in reproduction.published],
        "runs": [vars(outcome) for outcome in findings.outcomes],
    }
