"""How the chunked Triton kernels are launched: blocks by shape, chunks, pieces, the plan of all."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from fwbio.kernels import triton_chunks as kernels
from fwbio.kernels.recurrence import Decay, state_dtype
from fwbio.kernels.triton_common import Compilation, check_device

_TYPES = {
    torch.float64: "*fp64",
    torch.float32: "*fp32",
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.int64: "*i64",
}
_PROCESSORS = 132  # of a Hopper GPU: fewer programs than that leave it idle


@dataclass(frozen=True)
class Tiles:
    """The static configuration of a shape class.

    Args:
        chunk: rows of a chunk, C.
        keys: key columns that a kernel parallel over chunks takes at a time.
        values: value columns that it takes at a time.
        columns: value columns of a program of the scans, which hold a state's whole key side.
        warps: warps of a program parallel over chunks.
        scan_warps: warps of a program of the scans.
        stages: chunks whose loads are under way at once in the scans.
    """

    chunk: int
    keys: int
    values: int
    columns: int
    warps: int
    scan_warps: int
    stages: int


def tiles(keys: int, values: int, precision: str, decay: Decay) -> Tiles:
    """The configuration for K, V, a precision and a decay, by a written table.

    Its numbers are the largest whose kernels spill no register on sm_90 for K, V of at most 128:
    products without tensor cores hold whole rows of their operands in registers, and a decay per
    channel takes several exponentials of every operand.
    """
    rows, columns = padded(keys), padded(values)
    if precision == "ieee" and rows <= 64 and decay != "channel":
        found = Tiles(32, 16, 16, 16, 8, 4, 1)
    elif precision in ("ieee", "tf32x3"):
        found = Tiles(16, 16, 16, 16, 4 if precision == "ieee" else 8, 8, 1)
    elif decay == "channel":
        found = Tiles(32, 16, 16, 16, 8 if precision == "bf16" else 4, 8, 2)
    elif precision == "bf16":
        found = Tiles(64, 32, 32, 32 if rows <= 128 else 16, 8, 8, 2)
    else:
        found = Tiles(64, 32, 32, 16, 8, 8, 1)
    return replace(
        found,
        keys=min(found.keys, rows),
        values=min(found.values, columns),
        columns=min(found.columns, columns),
    )


def decay_of(log_decay: Tensor | None) -> Decay:
    """Which decay a log decay is."""
    if log_decay is None:
        return "none"
    return "scalar" if log_decay.ndim == 3 else "channel"


def padded(size: int) -> int:
    """The width of a block that holds so many columns: a power of two, at least 16."""
    return max(16, triton.next_power_of_2(size))


def ends_of(batch: int, rows: int, ends: Sequence[int] | None) -> Sequence[int]:
    """The ends of all sequences, laid one after another."""
    return [rows * n for n in range(batch + 1)] if ends is None else ends


def chunk_count(rows: int, chunk: int, keep_every: int) -> int:
    """Chunks of a sequence, which end wherever a state is kept."""
    if not keep_every:
        return -(-rows // chunk)
    return (rows // keep_every) * -(-keep_every // chunk) - (-(rows % keep_every) // chunk)


@dataclass(frozen=True)
class Layout:
    """Where chunks and pieces lie.

    Args:
        chunks: first row, length and kept state (or -1) of every chunk, [chunks, 3].
        pieces: the first chunk and the chunk after the last of every piece, [pieces, 2].
        of_sequence: first piece of every sequence, and the number of pieces at the end.
    """

    chunks: Tensor
    pieces: Tensor
    of_sequence: tuple[int, ...]

    @property
    def split(self) -> bool:
        """Whether a sequence has more than one piece."""
        return self.pieces.shape[0] > len(self.of_sequence) - 1


@lru_cache(maxsize=256)
def layout_of(
    ends: tuple[int, ...], chunk: int, keep_every: int, split: int, device: torch.device
) -> Layout:
    """Chunks that end with their sequence and wherever a state is kept, and pieces of them."""
    chunks: list[tuple[int, int, int]] = []
    pieces: list[tuple[int, int]] = []
    of_sequence = [0]
    kept = 0
    for start, end in pairwise(ends):
        first = len(chunks)
        row = start
        while row < end:
            until_kept = keep_every - (row - start) % keep_every if keep_every else chunk
            length = min(chunk, end - row, until_kept)
            row += length
            keeps = keep_every > 0 and length == until_kept
            chunks.append((row - length, length, kept if keeps else -1))
            kept += keeps
        count = len(chunks) - first
        parts = max(1, min(split, count))
        bounds = [first + count * part // parts for part in range(parts + 1)]
        pieces.extend(pairwise(bounds))
        of_sequence.append(len(pieces))
    return Layout(
        torch.tensor(chunks, dtype=torch.int64).view(-1, 3).to(device),
        torch.tensor(pieces, dtype=torch.int64).view(-1, 2).to(device),
        tuple(of_sequence),
    )


def _compilation(kernel: Any, arguments: dict[str, Any], options: dict[str, int]) -> Compilation:
    """How a kernel is compiled for arguments: what is neither a tensor nor `heads` is constant."""
    signature, constants = {}, {}
    for name, argument in arguments.items():
        if isinstance(argument, Tensor):
            signature[name] = _TYPES[argument.dtype]
        elif name == "heads":
            signature[name] = "i32"
        else:
            signature[name], constants[name] = "constexpr", argument
    return Compilation(kernel.fn.__name__, kernel, signature, constants, options)


@dataclass(frozen=True)
class Plan:
    """A call: its operands, its switches, its layout and the configuration of its launches.

    Args:
        query, key, value, strength, erase, log_decay: as in `Recurrence`, row after row.
        undecayed: as there.
        tied: as there.
        precision: of products.
        tiles: the configuration.
        layout: where chunks and pieces lie.
        compilations: where operands have no numbers, how every launch would be compiled.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    strength: Tensor | None
    erase: Tensor | None
    log_decay: Tensor | None
    tied: bool
    undecayed: bool
    precision: str
    tiles: Tiles
    layout: Layout
    compilations: list[Compilation] = field(default_factory=list)

    @property
    def heads(self) -> int:
        """H."""
        return self.query.shape[2]

    @property
    def chunks(self) -> int:
        """The number of chunks."""
        return self.layout.chunks.shape[0]

    @property
    def erases(self) -> bool:
        """Whether anything is erased."""
        return self.tied or self.erase is not None

    @property
    def decay(self) -> Decay:
        """Which decay there is."""
        return decay_of(self.log_decay)

    @property
    def wide(self) -> torch.dtype:
        """The dtype of states and of all that is summed."""
        return state_dtype(self.query.dtype)

    @property
    def work(self) -> torch.dtype:
        """The dtype of what passes from launch to launch to enter a product."""
        return torch.bfloat16 if self.precision == "bf16" else self.wide

    def empty(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """A tensor of the working dtype, unless another is given."""
        return self.query.new_empty(shape, dtype=dtype or self.work)

    def launch(
        self, kernel: Any, programs: tuple[int, ...], options: dict[str, int], **arguments: Any
    ) -> None:
        """Launch a kernel; for operands without numbers, take down how it would be compiled."""
        arguments |= {
            "chunks": self.layout.chunks,
            "heads": self.heads,
            "K": self.query.shape[-1],
            "V": self.value.shape[-1],
            "KEYS": padded(self.query.shape[-1]),
            "VALUES": padded(self.value.shape[-1]),
            "C": self.tiles.chunk,
            "LEVELS": self.tiles.chunk.bit_length() - 1,
            "DECAY": self.decay,
            "ERASES": self.erases,
            "UNDECAYED": self.undecayed,
            "PRECISION": self.precision,
            "FINE": "tf32" if self.precision == "bf16" else self.precision,
            "WIDE": tl.float64 if self.wide == torch.float64 else tl.float32,
        }
        if self.precision == "bf16" and triton.knobs.runtime.interpret:
            arguments["PRECISION"] = "bf16 interpreted"
        arguments = {name: arguments[name] for name in kernel.arg_names}
        options |= {"enable_fp_fusion": True}  # a default that changes
        if self.query.is_meta:
            self.compilations.append(_compilation(kernel, arguments, options))
        else:
            with torch.cuda.device_of(self.query):
                kernel[programs](**arguments, **options)

    def launch_by_chunk(self, kernel: Any, programs: tuple[int, ...], **arguments: Any) -> None:
        """Launch a kernel that is parallel over chunks."""
        options = {"num_warps": self.tiles.warps, "num_stages": 1}
        self.launch(
            kernel, programs, options, **arguments, BK=self.tiles.keys, BV=self.tiles.values
        )


def planned(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    strength: Tensor | None,
    erase: Tensor | None,
    log_decay: Tensor | None,
    tied: bool,
    undecayed: bool,
    keep_every: int,
    ends: Sequence[int] | None,
    precision: str,
    chunk: int,
    pieces: int,
) -> Plan:
    """The plan of a call."""
    if not query.is_meta:
        check_device(kernels.scan, query)
    batch, rows, heads, keys = query.shape
    chosen = tiles(keys, value.shape[-1], precision, decay_of(log_decay))
    if chunk:
        chosen = replace(chosen, chunk=chunk)
    spans = tuple(ends_of(batch, rows, ends))
    if not pieces:
        programs = (len(spans) - 1) * heads * triton.cdiv(value.shape[-1], chosen.columns)
        pieces = pieces_for(programs, max((b - a for a, b in pairwise(spans)), default=0), chosen)
    return Plan(
        query.contiguous(),
        key.contiguous(),
        value.contiguous(),
        None if strength is None else strength.contiguous(),
        None if erase is None else erase.contiguous(),
        None if log_decay is None else log_decay.contiguous(),
        tied,
        undecayed,
        precision,
        chosen,
        layout_of(spans, chosen.chunk, keep_every, pieces, query.device),
    )


def pieces_for(programs: int, longest: int, chosen: Tiles) -> int:
    """Into how many pieces to split a sequence: one where its programs keep a GPU busy.

    A split costs a second scan with K columns more, so that it has to win threefold; a piece of
    fewer than 16 chunks is not worth its launch.
    """
    possible = min(_PROCESSORS // max(1, programs), longest // (16 * chosen.chunk))
    return possible if possible >= 4 else 1
