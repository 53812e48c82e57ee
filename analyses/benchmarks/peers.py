"""Whose speed is compared: this package's backends, and what its users would take instead.

To compare another peer, write its adapter, a function of the row's tensors laid out as
`fwbio.kernels.scan` takes them, and add one line to `PEERS`. Adapters import what they call when
they are called, and leave the scale of read-outs at K^-0.5, which is every row's.
"""

import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from fwbio.analyses.benchmarks.rows import DIRECTIONS, Device, Direction, Row

FLA, TRANSFORMERS = "flash-linear-attention", "transformers"
PEER_PACKAGES = (FLA, TRANSFORMERS)
INSTALL = "pip install 'fwbio[bench]'"

Run = Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class Implementation:
    """A function that runs a rule.

    Args:
        name: under which its figures stand.
        rule: the rule that it runs.
        device: the class of device that it is for.
        package: what must be installed to have it; None for this package.
        source: where its code is.
        run: from q, k, v and the rule's gates, [B, T, H, ..], to read-outs [B, T, H, V].
        heads_first: whether it takes and gives [B, H, T, ..]; what is moved is moved untimed.
        unscaled: whether it leaves queries unscaled; they are given scaled then, untimed.
        dtypes: what it runs in.
        directions: what it can do.
    """

    name: str
    rule: str
    device: Device
    package: str | None
    source: str
    run: Run
    heads_first: bool = False
    unscaled: bool = False
    dtypes: tuple[str, ...] = ("float32", "bfloat16")
    directions: tuple[Direction, ...] = DIRECTIONS

    def missing(self) -> str | None:
        """Why it is not there, or None where it is."""
        if self.package is None or installed_version(self.package):
            return None
        return f"{self.package} is not installed: {INSTALL}"

    def unsupported(self, row: Row) -> str | None:
        """Why it does not run a row, in words, or None where it does."""
        if row.dtype not in self.dtypes:
            return f"does not run {row.dtype}"
        return None if row.direction in self.directions else f"has no {row.direction}"


def installed_version(package: str) -> str | None:
    """The version of an installed package, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def ours(rule: str, backend: str, row: Row) -> Implementation:
    """One of this package's backends, for a row's device and scale."""

    def run(**operands: Any) -> Any:
        from fwbio.kernels import scan

        return scan(rule, **operands, scale=row.scale, backend=backend)[0]

    return Implementation(
        name=f"fwbio {backend}",
        rule=rule,
        device=row.device,
        package=None,
        source=f"fwbio.kernels.scan(backend={backend!r})",
        run=run,
        dtypes=("float64", "float32", "bfloat16", "float16"),
    )


def peers(row: Row) -> tuple[Implementation, ...]:
    """The peers that run a row's rule on its device."""
    return tuple(peer for peer in PEERS if (peer.rule, peer.device) == (row.rule, row.device))


@contextmanager
def _quiet() -> Iterator[None]:
    """Peers warn when they are imported where there is no GPU."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _naive_chunk_linear(q: Any, k: Any, v: Any) -> Any:
    with _quiet():
        from fla.ops.linear_attn.naive import naive_chunk_linear_attn
    return naive_chunk_linear_attn(q, k, v)


def _naive_chunk_simple_gla(q: Any, k: Any, v: Any, *, log_decay: Any) -> Any:
    with _quiet():
        from fla.ops.simple_gla.naive import naive_chunk_simple_gla
    return naive_chunk_simple_gla(q, k, v, log_decay)[0]


def _mamba2_chunk_scan(q: Any, k: Any, v: Any, *, log_decay: Any) -> Any:
    """State-space duality: time steps of 1, A the log decay, B the key, C the query."""
    import torch

    with _quiet():
        from transformers.models.mamba2.modeling_mamba2 import mamba2_chunk_scan
    steps = torch.ones_like(log_decay)
    return inspect.unwrap(mamba2_chunk_scan)(v, steps, log_decay, k, q, chunk_size=64)


def _naive_recurrent_gla(q: Any, k: Any, v: Any, *, log_decay: Any) -> Any:
    with _quiet():
        from fla.ops.gla.naive import naive_recurrent_gla
    return naive_recurrent_gla(q, k, v, log_decay)[0]


def _delta_rule_chunkwise(q: Any, k: Any, v: Any, *, beta: Any) -> Any:
    with _quiet():
        from fla.ops.delta_rule.naive import delta_rule_chunkwise
    return delta_rule_chunkwise(q, k, v, beta, chunk_size=32)[0]


def _torch_chunk_gated_delta(q: Any, k: Any, v: Any, *, log_decay: Any, beta: Any) -> Any:
    with _quiet():
        from transformers.models.qwen3_next.modeling_qwen3_next import torch_chunk_gated_delta_rule
    return inspect.unwrap(torch_chunk_gated_delta_rule)(q, k, v, g=log_decay, beta=beta)[0]


def _naive_chunk_gated_delta(q: Any, k: Any, v: Any, *, log_decay: Any, beta: Any) -> Any:
    with _quiet():
        from fla.ops.gated_delta_rule.naive import naive_chunk_gated_delta_rule
    return naive_chunk_gated_delta_rule(q, k, v, log_decay, beta)[0]


def _naive_recurrent_kda(q: Any, k: Any, v: Any, *, log_decay: Any, beta: Any) -> Any:
    with _quiet():
        from fla.ops.kda.naive import naive_recurrent_kda
    return naive_recurrent_kda(q, k, v, log_decay, beta)[0]


def _naive_chunk_kda(q: Any, k: Any, v: Any, *, log_decay: Any, beta: Any) -> Any:
    with _quiet():
        from fla.ops.kda.naive import naive_chunk_kda
    return naive_chunk_kda(q, k, v, log_decay, beta)[0]


def _chunk_linear(q: Any, k: Any, v: Any) -> Any:
    from fla.ops.linear_attn import chunk_linear_attn

    return chunk_linear_attn(q, k, v, normalize=False)[0]


def _recurrent_linear(q: Any, k: Any, v: Any) -> Any:
    from fla.ops.linear_attn import fused_recurrent_linear_attn

    return fused_recurrent_linear_attn(q, k, v, normalize=False)[0]


def _chunk_simple_gla(q: Any, k: Any, v: Any, *, log_decay: Any) -> Any:
    from fla.ops.simple_gla import chunk_simple_gla

    return chunk_simple_gla(q, k, v, g=log_decay)[0]


def _recurrent_simple_gla(q: Any, k: Any, v: Any, *, log_decay: Any) -> Any:
    from fla.ops.simple_gla import fused_recurrent_simple_gla

    return fused_recurrent_simple_gla(q, k, v, g=log_decay)[0]


def _chunk_gla(q: Any, k: Any, v: Any, *, log_decay: Any) -> Any:
    from fla.ops.gla import chunk_gla

    return chunk_gla(q, k, v, g=log_decay)[0]


def _recurrent_gla(q: Any, k: Any, v: Any, *, log_decay: Any) -> Any:
    from fla.ops.gla import fused_recurrent_gla

    return fused_recurrent_gla(q, k, v, gk=log_decay)[0]


def _chunk_delta(q: Any, k: Any, v: Any, *, beta: Any) -> Any:
    from fla.ops.delta_rule import chunk_delta_rule

    return chunk_delta_rule(q, k, v, beta=beta)[0]


def _recurrent_delta(q: Any, k: Any, v: Any, *, beta: Any) -> Any:
    from fla.ops.delta_rule import fused_recurrent_delta_rule

    return fused_recurrent_delta_rule(q, k, v, beta=beta)[0]


def _chunk_gated_delta(q: Any, k: Any, v: Any, *, log_decay: Any, beta: Any) -> Any:
    from fla.ops.gated_delta_rule import chunk_gated_delta_rule

    return chunk_gated_delta_rule(q, k, v, g=log_decay, beta=beta)[0]


def _recurrent_gated_delta(q: Any, k: Any, v: Any, *, log_decay: Any, beta: Any) -> Any:
    from fla.ops.gated_delta_rule import fused_recurrent_gated_delta_rule

    return fused_recurrent_gated_delta_rule(q, k, v, g=log_decay, beta=beta)[0]


def _chunk_kda(q: Any, k: Any, v: Any, *, log_decay: Any, beta: Any) -> Any:
    from fla.ops.kda import chunk_kda

    return chunk_kda(q, k, v, g=log_decay, beta=beta)[0]


def _recurrent_kda(q: Any, k: Any, v: Any, *, log_decay: Any, beta: Any) -> Any:
    from fla.ops.kda import fused_recurrent_kda

    return fused_recurrent_kda(q, k, v, g=log_decay, beta=beta)[0]


def _fla(rule: str, run: Run, where: str, device: Device, **limits: Any) -> Implementation:
    module, function = where.rsplit(".", 1)
    return Implementation(
        name=f"fla {function}",
        rule=rule,
        device=device,
        package=FLA,
        source=f"fla.ops.{module}.{function}",
        run=run,
        **limits,
    )


def _transformers(rule: str, run: Run, where: str, **limits: Any) -> Implementation:
    module, function = where.rsplit(".", 1)
    return Implementation(
        name=f"transformers {function}",
        rule=rule,
        device="cpu",
        package=TRANSFORMERS,
        source=f"transformers.models.{module}.{function}",
        run=run,
        **limits,
    )


PEERS: tuple[Implementation, ...] = (
    _fla("hebb", _naive_chunk_linear, "linear_attn.naive.naive_chunk_linear_attn", "cpu"),
    _fla("mamba2", _naive_chunk_simple_gla, "simple_gla.naive.naive_chunk_simple_gla", "cpu"),
    _transformers(
        "mamba2", _mamba2_chunk_scan, "mamba2.modeling_mamba2.mamba2_chunk_scan", unscaled=True
    ),
    _fla("gla", _naive_recurrent_gla, "gla.naive.naive_recurrent_gla", "cpu"),
    _fla(
        "delta",
        _delta_rule_chunkwise,
        "delta_rule.naive.delta_rule_chunkwise",
        "cpu",
        heads_first=True,
    ),
    _transformers(
        "gated_delta",
        _torch_chunk_gated_delta,
        "qwen3_next.modeling_qwen3_next.torch_chunk_gated_delta_rule",
    ),
    _fla(
        "gated_delta",
        _naive_chunk_gated_delta,
        "gated_delta_rule.naive.naive_chunk_gated_delta_rule",
        "cpu",
    ),
    _fla("kda", _naive_recurrent_kda, "kda.naive.naive_recurrent_kda", "cpu"),
    _fla("kda", _naive_chunk_kda, "kda.naive.naive_chunk_kda", "cpu"),
    _fla("hebb", _chunk_linear, "linear_attn.chunk_linear_attn", "gpu"),
    _fla("hebb", _recurrent_linear, "linear_attn.fused_recurrent_linear_attn", "gpu"),
    _fla("mamba2", _chunk_simple_gla, "simple_gla.chunk_simple_gla", "gpu"),
    _fla("mamba2", _recurrent_simple_gla, "simple_gla.fused_recurrent_simple_gla", "gpu"),
    _fla("gla", _chunk_gla, "gla.chunk_gla", "gpu"),
    _fla("gla", _recurrent_gla, "gla.fused_recurrent_gla", "gpu"),
    _fla("delta", _chunk_delta, "delta_rule.chunk_delta_rule", "gpu", dtypes=("bfloat16",)),
    _fla("delta", _recurrent_delta, "delta_rule.fused_recurrent_delta_rule", "gpu"),
    _fla("gated_delta", _chunk_gated_delta, "gated_delta_rule.chunk_gated_delta_rule", "gpu"),
    _fla(
        "gated_delta",
        _recurrent_gated_delta,
        "gated_delta_rule.fused_recurrent_gated_delta_rule",
        "gpu",
        directions=("forward",),
    ),
    _fla("kda", _chunk_kda, "kda.chunk_kda", "gpu"),
    _fla("kda", _recurrent_kda, "kda.fused_recurrent_kda", "gpu", directions=("forward",)),
)
