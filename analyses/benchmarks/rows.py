"""What is benchmarked: a table of shapes, and the rows that they make.

To measure something else, add one line to `CASES` (or, for its cost against size, to
`fwbio.analyses.benchmarks.scaling.SWEEPS`).
"""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Direction = Literal["forward", "forward+backward"]
Launch = Literal["eager", "graphed"]
Device = Literal["cpu", "gpu"]

LINEAR = ("hebb", "mamba2", "gla", "delta", "gated_delta", "kda")
DEVICES: tuple[Device, ...] = ("cpu", "gpu")
DIRECTIONS: tuple[Direction, ...] = ("forward", "forward+backward")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A shape that rules are measured in, forward alone and with backward.

    Args:
        device: the class of device that it is measured on.
        B: sequences. T: steps. H: heads. K: channels of keys. V: channels of values.
        dtype: of queries, keys, values and betas; log decays are float32.
        rules: the rules that are measured in it.
    """

    device: Device
    B: int
    T: int
    H: int
    K: int
    V: int
    dtype: str
    rules: tuple[str, ...] = LINEAR


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the benchmark: a rule in a shape, in one direction, launched one way.

    Args:
        rule: its name.
        B: sequences. T: steps. H: heads. K: channels of keys. V: channels of values.
        dtype: of queries, keys, values and betas.
        direction: "forward", without gradients, or "forward+backward", with those of every input.
        launch: "eager", or "graphed", replayed as one CUDA graph.
        device: the class of device that it is measured on.
    """

    rule: str
    B: int
    T: int
    H: int
    K: int
    V: int
    dtype: str
    direction: Direction = "forward"
    launch: Launch = "eager"
    device: Device = "cpu"

    @property
    def shape(self) -> str:
        """Its sizes in words."""
        return f"B {self.B} T {self.T} H {self.H} K {self.K} V {self.V}"

    @property
    def scale(self) -> float:
        """The factor on read-outs that peers apply unless told otherwise."""
        return float(self.K**-0.5)


CASES = (
    Case(device="cpu", B=1, T=2048, H=4, K=64, V=64, dtype="float32"),
    Case(device="cpu", B=1, T=2048, H=4, K=128, V=128, dtype="float32"),
    # many short trials, as in neuroscience
    Case(device="gpu", B=4096, T=64, H=1, K=32, V=32, dtype="float32"),
    Case(device="gpu", B=256, T=128, H=4, K=16, V=16, dtype="float32"),
    Case(device="gpu", B=64, T=512, H=4, K=64, V=64, dtype="float32"),
    # few heads, long sequences
    Case(device="gpu", B=1, T=32768, H=4, K=64, V=64, dtype="bfloat16"),
    Case(device="gpu", B=1, T=32768, H=4, K=128, V=128, dtype="bfloat16"),
    # the shapes that flash-linear-attention publishes
    Case(device="gpu", B=1, T=8192, H=96, K=128, V=128, dtype="bfloat16"),
    Case(device="gpu", B=4, T=2048, H=16, K=128, V=128, dtype="bfloat16"),
    Case(device="gpu", B=8, T=1024, H=8, K=64, V=64, dtype="bfloat16"),
)


def rows_of(case: Case) -> tuple[Row, ...]:
    """The rows of a case: every rule, direction and, on a GPU, launch."""
    launches: tuple[Launch, ...] = ("eager",) if case.device == "cpu" else ("eager", "graphed")
    sizes = {name: value for name, value in dataclasses.asdict(case).items() if name != "rules"}
    return tuple(
        Row(rule=rule, direction=direction, launch=launch, **sizes)
        for rule in case.rules
        for direction in DIRECTIONS
        for launch in launches
    )


ROWS: tuple[Row, ...] = tuple(row for case in CASES for row in rows_of(case))


def small(rows: Iterable[Row]) -> tuple[Row, ...]:
    """The rows cut to sizes that take milliseconds, each once."""
    limits = {"B": 2, "T": 128, "H": 2, "K": 16, "V": 16}

    def cut(row: Row) -> Row:
        sizes = {name: min(getattr(row, name), most) for name, most in limits.items()}
        return dataclasses.replace(row, **sizes)

    return tuple(dict.fromkeys(map(cut, rows)))
