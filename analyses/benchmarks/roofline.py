"""What a row costs at least: its bytes and operations, and how fast this machine moves and counts.

N = B T H rows run in chunks of C = 64 steps (of T, where that is less). A rule without error
correction takes four products: the scores Q K^T, their product with V, the read-out of the state
Q S, and its update K^T V:

    2 N (C K + C V + 2 K V)

error correction five more, K K^T, the inverse applied to V and to K, and W S, and the inverse of a
triangular matrix of C rows, C^3 / 3 a chunk:

    2 N (2 C K + C V + K V) + N C^2 / 3

A backward takes two products for each of the forward. Element-wise work is not counted. Bytes are
those that must move once: forward, all inputs and the read-outs; backward, all inputs and the
read-outs' gradients, and the gradients of all inputs.
"""

from dataclasses import dataclass

from fwbio.analyses.benchmarks.measure import QUICK, Effort, timed, torch_device
from fwbio.analyses.benchmarks.rows import Device, Row
from fwbio.errors import FwbioError
from fwbio.rules import RULES

CHUNK = 64
BYTES = {"float64": 8, "float32": 4, "bfloat16": 2}
GATE_BYTES = 4
EFFORT = Effort(seconds=6.0, least=5, most=15)


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What the machine was measured to do, in the same run.

    Args:
        copy: bytes read or written a second, by a large copy.
        matrix: operations a second, by one large matrix product.
        batched: operations a second, by many products of 64 x 64 matrices.
    """

    copy: float
    matrix: float
    batched: float


def operations(row: Row) -> float:
    """The operations of a row's chunked form, by the formula above.

    Raises:
        FwbioError: the rule writes several times a step or from the state's other side.
    """
    terms = RULES[row.rule].terms
    if terms.substeps or terms.transposed:
        raise FwbioError(
            "there is no count of operations for a rule with substeps or a transposed state",
            where=f"rule {row.rule}",
            mend="name another rule",
        )
    N, C = row.B * row.T * row.H, min(CHUNK, row.T)
    K, V = row.K, row.V + terms.extra_columns(row.K)
    forward: float = 2 * N * (C * K + C * V + 2 * K * V)
    if terms.erase != "none":
        forward += 2 * N * (2 * C * K + C * V + K * V) + N * C**2 / 3
    return 3 * forward if row.direction == "forward+backward" else forward


def bytes_moved(row: Row) -> int:
    """The bytes that must move at least: every input and output once a pass."""
    rule, size = RULES[row.rule], BYTES[row.dtype]
    widths = {"pre": row.K, "post": row.V}
    a_step = (2 * row.K + row.V) * size
    for name, stream in rule.streams.items():
        if rule.needs(name):
            a_step += widths.get(stream.dims[-1], 1) * (GATE_BYTES if name == "log_decay" else size)
    steps = row.B * row.T * row.H
    inputs, outputs = steps * a_step, steps * row.V * size
    return 3 * inputs + 2 * outputs if row.direction == "forward+backward" else inputs + outputs


def floor_seconds(row: Row, rates: Rates) -> float:
    """The time under which the row can't go where it moves and multiplies at those rates."""
    return max(bytes_moved(row) / rates.copy, operations(row) / rates.matrix)


def measured_rates(device: Device, dtype: str, *, threads: int, quick: bool = False) -> Rates:
    """The rates of this machine now.

    Args:
        device: a class of device.
        dtype: of the matrices.
        threads: of torch.
        quick: whether arrays are small: rates of caches, then.
    """
    import torch

    where = torch_device(device)
    size = {("cpu", False): (2**26, 2048, 4096), ("gpu", False): (2**30, 8192, 65536)}.get(
        (device, quick), (2**18, 128, 16)
    )
    cells, side, batch = size
    given = torch.ones(cells, device=where)
    taken = torch.empty_like(given)
    large = torch.ones(side, side, device=where, dtype=getattr(torch, dtype))
    many = torch.ones(batch, CHUNK, CHUNK, device=where, dtype=getattr(torch, dtype))
    product, products = torch.empty_like(large), torch.empty_like(many)
    seconds = timed(
        {
            "copy": lambda: taken.copy_(given),
            "matrix": lambda: torch.mm(large, large, out=product),
            "batched": lambda: torch.bmm(many, many, out=products),
        },
        threads=threads,
        effort=QUICK if quick else EFFORT,
    )
    return Rates(
        copy=2 * given.nbytes / seconds["copy"].median,
        matrix=2 * side**3 / seconds["matrix"].median,
        batched=2 * batch * CHUNK**3 / seconds["batched"].median,
    )
