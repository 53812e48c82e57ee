"""The study of identification, carried out in several processes and resumed where it stopped."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict
from importlib import import_module
from multiprocessing import active_children, get_context
from pathlib import Path
from signal import SIG_IGN, SIGINT, signal
from typing import Any

import pandas as pd
from tqdm import tqdm

from fwbio.analyses.identification.study_cases import Case, carry_out
from fwbio.errors import FwbioError
from fwbio.files import writes_told

LEDGER = "cases.jsonl"
COMMAND = "bench identification"
GO_ON = "give the same command again: what was done is kept"
HERE = "fwbio.analyses.identification"
DECISIVE = (  # modules on which an answer depends
    *(
        f"{HERE}.{name}"
        for name in (
            "data",
            "unknowns",
            "filtering",
            "fitting",
            "leftover",
            "identifying",
            "verdict",
            "study",
            "study_cases",
            "study_foreign",
        )
    ),
    *(
        f"fwbio.{name}"
        for name in (
            "rule",
            "rules",
            "traces",
            "local",
            "normal_form",
            "program",
            "reference",
            "record",
        )
    ),
)
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def run(
    cases: Sequence[Case], folder: Path, *, jobs: int = 1, progress: bool = False
) -> pd.DataFrame:
    """Carry out cases, those that were not yet by the same code.

    Args:
        cases: of `fwbio.analyses.identification.study_cases.cases`.
        folder: keeps a line a case in `cases.jsonl`, as soon as it is done.
        jobs: processes, with one thread each. Several are started anew, so that a script needs
            `if __name__ == "__main__":`.
        progress: whether to show a bar on standard error.

    Returns:
        A row a case, in their order, as `carry_out` makes them.

    Raises:
        FwbioError: the folder can't be written, or a process was killed.
        KeyboardInterrupt: it was stopped; called again it goes on.
    """
    code = fingerprint()
    ledger = folder / LEDGER
    with writes_told(ledger):
        folder.mkdir(parents=True, exist_ok=True)
        _mend(ledger)
        found = _done(ledger, code)
        left = [one for one in cases if one not in found]
        bar = tqdm(
            total=len(cases),
            initial=len(cases) - len(left),
            desc="cases",
            unit="case",
            disable=not progress,
        )
        with ledger.open("a", encoding="utf-8") as file, bar:
            for one, row in _each(left, jobs):
                found[one] = row
                file.write(json.dumps({"code": code, **row}, allow_nan=False) + "\n")
                file.flush()
                bar.update()
                bar.set_postfix_str(f"{one.rule} {one.seed}: {row['answer'] or 'none'}")
    table = pd.DataFrame([found[one] for one in cases])
    return table.astype({"error": float, "covered": float})


def fingerprint() -> str:
    """What tells this code from code that may answer otherwise."""
    files = [Path(str(import_module(name).__file__)) for name in DECISIVE]
    for package, kind in (("fwbio.models", "*.py"), ("fwbio.data", "*.toml")):
        files += sorted(Path(str(import_module(package).__file__)).parent.glob(kind))
    text = b"".join(path.read_bytes() for path in files)
    return hashlib.sha256(text).hexdigest()[:16]


def _mend(ledger: Path) -> None:
    """Cut off a last line that was not written whole."""
    if ledger.exists():
        text = ledger.read_bytes()
        if not text.endswith(b"\n"):
            ledger.write_bytes(text[: text.rfind(b"\n") + 1])


def _done(ledger: Path, code: str) -> dict[Case, dict[str, Any]]:
    if not ledger.exists():
        return {}
    rows = [json.loads(line) for line in ledger.read_text(encoding="utf-8").splitlines()]
    names = asdict(Case(series="rules", rule="", seed=0))
    return {
        Case(**{name: row[name] for name in names}): {n: x for n, x in row.items() if n != "code"}
        for row in rows
        if row["code"] == code
    }


def _each(cases: Sequence[Case], jobs: int) -> Iterator[tuple[Case, dict[str, Any]]]:
    """The rows as they come."""
    if jobs == 1:
        for one in cases:
            yield one, carry_out(one)
        return
    before = set(active_children())
    with _one_thread():
        pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_leave_ctrl_c)
        try:
            pending = {pool.submit(carry_out, one): one for one in cases}
            for done in as_completed(pending):
                yield pending[done], done.result()
        except BaseException as error:
            ended = set(active_children()) - before
            pool.shutdown(wait=False, cancel_futures=True)
            for process in ended:
                process.terminate()
            for process in ended:
                process.join()
            if isinstance(error, BrokenProcessPool):
                raise FwbioError("a process was killed", where=COMMAND, mend=GO_ON) from error
            raise
        pool.shutdown()


def _leave_ctrl_c() -> None:
    """Let the parent alone answer Ctrl-C, which reaches all: it ends the others."""
    signal(SIGINT, SIG_IGN)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let processes that are started in the block use one thread each."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
