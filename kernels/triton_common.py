"""What the Triton kernels share: rows in and out, an exponential, and how a kernel is compiled."""

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from fwbio.errors import FwbioError

_TYPES = {
    torch.float64: "*fp64",
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.int64: "*i64",
}


class Compilation(NamedTuple):
    """One kernel as it is compiled ahead of time: what `triton.compiler.ASTSource` takes.

    Args:
        name: what a report calls it.
        kernel: the jitted function.
        signature: each parameter's type, "constexpr" for a compile-time constant.
        constexprs: the compile-time constants.
        options: warps and the like.
    """

    name: str
    kernel: Any
    signature: dict[str, str]
    constexprs: dict[str, Any]
    options: dict[str, int | bool]


class Launch(NamedTuple):
    """One launch of a kernel.

    Args:
        kernel: the jitted function.
        programs: how many programs run it; none run where there is nothing to do.
        arguments: its first parameters, tensors being contiguous.
        constants: its further parameters, all compile-time constants.
        warps: of each program.
    """

    kernel: Any
    programs: int
    arguments: tuple[Tensor | int | None, ...]
    constants: dict[str, Any]
    warps: int

    @property
    def options(self) -> dict[str, int | bool]:
        """Nothing is left to Triton's defaults, which change."""
        return {"num_warps": self.warps, "num_stages": 1, "enable_fp_fusion": True}

    def run(self) -> None:
        """Launch it on the device of its tensors."""
        if self.programs:
            with torch.cuda.device_of(self.arguments[0]):
                self.kernel[(self.programs,)](*self.arguments, **self.constants, **self.options)

    def compilation(self, name: str) -> Compilation:
        """The same launch as it is compiled ahead of time; tensors without numbers will do."""
        given = dict(zip(self.kernel.arg_names, self.arguments, strict=False))
        absent = {name: None for name, x in given.items() if x is None}
        signature = {
            name: _type(given[name]) if name in given and name not in absent else "constexpr"
            for name in self.kernel.arg_names
        }
        return Compilation(name, self.kernel, signature, absent | self.constants, self.options)


def _type(x: Tensor | int | None) -> str:
    return _TYPES[x.dtype] if isinstance(x, Tensor) else "i32"


@triton.jit
def span(packing, sequence, steps):
    """The first step and the number of steps of a sequence, which is a row of the batch unless
    `packing` [N + 1, 2] tells where packed ones end.
    """
    if packing is None:
        return sequence * steps, steps
    else:
        first = tl.load(packing + 2 * sequence)
        return first, (tl.load(packing + 2 * sequence + 2) - first).to(tl.int32)


@triton.jit
def first_kept(packing, sequence, kept_steps):
    """Which of all kept states is a sequence's first."""
    if packing is None:
        return sequence * kept_steps
    else:
        return tl.load(packing + 2 * sequence + 1)


@triton.jit
def load_row(pointer, index, SIZE: tl.constexpr, offsets, inside, DTYPE: tl.constexpr):
    """Row `index` of a tensor [.., SIZE]; zeros if it isn't inside, or if there is no tensor."""
    if pointer is None:
        return tl.zeros([offsets.shape[0]], DTYPE)
    else:
        mask = offsets < tl.where(inside, SIZE, 0)
        return tl.load(pointer + index * SIZE + offsets, mask=mask, other=0.0).to(DTYPE)


@triton.jit
def load_number(pointer, index, inside, absent: tl.constexpr, DTYPE: tl.constexpr):
    """A number of a tensor; 0 if it isn't inside, and `absent` if there is no tensor."""
    if pointer is None:
        return tl.full([], absent, DTYPE)
    else:
        return tl.load(pointer + index, mask=inside, other=0.0).to(DTYPE)


@triton.jit
def exponential(x):
    """exp(x) to about one rounding.

    A decay is multiplied up over thousands of steps, and CUDA's fast exponential is off by several
    roundings: enough to be seen. Cephes' polynomial, in float32.
    """
    if x.dtype == tl.float64:
        return tl.exp(x)
    else:
        bounded = tl.minimum(tl.maximum(x, -104.0), 89.0)
        power = tl.floor(bounded * 1.4426950408889634 + 0.5)
        rest = tl.fma(power, -0.693359375, bounded)
        rest = tl.fma(power, 2.12194440e-4, rest)
        tail = rest * 1.9875691500e-4 + 1.3981999507e-3
        tail = tl.fma(tail, rest, 8.3334519073e-3)
        tail = tl.fma(tail, rest, 4.1665795894e-2)
        tail = tl.fma(tail, rest, 1.6666665459e-1)
        tail = tl.fma(tail, rest, 5.0000001201e-1)
        mantissa = tl.fma(rest * rest, tail, rest) + 1.0
        scale = ((power.to(tl.int32) + 127) << 23).to(tl.float32, bitcast=True)
        result = tl.where(x < -87.3, 0.0, mantissa * scale)
        return tl.where(x == x, result, x)


def check_device(kernel: object, x: Tensor) -> None:
    """Refuse tensors that a kernel can't reach.

    Raises:
        FwbioError: the tensor is on no GPU, and the kernel isn't interpreted.
    """
    if isinstance(kernel, triton.JITFunction) and not x.is_cuda:
        raise FwbioError(
            f"Triton runs on a GPU, and the tensors are on {x.device}",
            where="device",
            mend='move them to "cuda", or set TRITON_INTERPRET=1 before Python starts',
        )
