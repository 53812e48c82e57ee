"""The table of tasks: what an experiment shows.

A task is a frozen config and a pure, seeded function; `TASKS[name](seed=0, **sizes)` makes an
episode, whose layout is told in `fwbio.pair_tasks` for kind "pairs" and in `fwbio.sequence_tasks`
for kind "sequence".
"""

from fwbio.corpus import Bytes, byte_windows
from fwbio.pair_tasks import Digits, RandomPairs, Rebinding, digits, random_pairs, rebinding
from fwbio.sequence_tasks import (
    MQAR,
    AssociativeRetrieval,
    Copying,
    KeyValue,
    Regression,
    associative_retrieval,
    copying,
    key_value,
    mqar,
    regression,
)
from fwbio.state_tasks import (
    ModularSum,
    Parity,
    Permutations,
    modular_sum,
    parity,
    permutations,
)
from fwbio.table import Table
from fwbio.task import Kind, Task

__all__ = [
    "MQAR",
    "PAIR_TASKS",
    "SEQUENCE_TASKS",
    "TASKS",
    "AssociativeRetrieval",
    "Bytes",
    "Copying",
    "Digits",
    "KeyValue",
    "ModularSum",
    "Parity",
    "Permutations",
    "RandomPairs",
    "Rebinding",
    "Regression",
    "Task",
]

TASKS = Table(
    {
        task.name: task
        for task in (
            Task(
                name="digits",
                summary="handwritten digits bound to others, cued by noisy versions",
                kind="pairs",
                config=Digits,
                make=digits,
            ),
            Task(
                name="random_pairs",
                summary="random items bound to random contents",
                kind="pairs",
                config=RandomPairs,
                make=random_pairs,
            ),
            Task(
                name="rebinding",
                summary="items repeat with new contents; the last counts",
                kind="pairs",
                config=Rebinding,
                make=rebinding,
            ),
            Task(
                name="associative_retrieval",
                summary="letter-digit pairs, then a letter that asks for its digit (Ba 2016)",
                kind="sequence",
                config=AssociativeRetrieval,
                make=associative_retrieval,
            ),
            Task(
                name="key_value",
                summary="keys bound to values, once or again and again (Schlag 2021)",
                kind="sequence",
                config=KeyValue,
                make=key_value,
            ),
            Task(
                name="mqar",
                summary="multi-query associative recall at power-law gaps (Zoology)",
                kind="sequence",
                config=MQAR,
                make=mqar,
            ),
            Task(
                name="parity",
                summary="the parity of the bits so far",
                kind="sequence",
                config=Parity,
                make=parity,
            ),
            Task(
                name="modular_sum",
                summary="the sum of the numbers so far, modulo m",
                kind="sequence",
                config=ModularSum,
                make=modular_sum,
            ),
            Task(
                name="permutations",
                summary="what permutations come to, one after the other (S3 by swaps)",
                kind="sequence",
                config=Permutations,
                make=permutations,
            ),
            Task(
                name="copying",
                summary="symbols to recall after a delay (Arjovsky 2016)",
                kind="sequence",
                config=Copying,
                make=copying,
            ),
            Task(
                name="regression",
                summary="linear regression in context (Garg 2022, von Oswald 2023)",
                kind="sequence",
                config=Regression,
                make=regression,
            ),
            Task(
                name="bytes",
                summary="the next byte of a text file or of a folder of them",
                kind="sequence",
                config=Bytes,
                make=byte_windows,
            ),
        )
    },
    kind="task",
    name="fwbio.tasks.TASKS",
)


def _of_kind(kind: Kind, name: str) -> Table[Task]:
    own = {task.name: task for task in TASKS.values() if task.kind == kind}
    return Table(own, kind=f"task of kind {kind!r}", name=f"fwbio.tasks.{name}")


PAIR_TASKS = _of_kind("pairs", "PAIR_TASKS")
SEQUENCE_TASKS = _of_kind("sequence", "SEQUENCE_TASKS")
