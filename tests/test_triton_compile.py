"""Every Triton kernel compiles for a Hopper GPU, none being there, and spills no register.

Run as a program, on the name of a module, this prints what each of the module's `compilations()`
takes: in a process of its own, since an interpreted kernel can't be compiled.
"""

import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

# By module: the most registers of a thread, of 255, which leaves a newer compiler some room.
MOST_REGISTERS = {"fwbio.kernels.triton_recurrent": 248, "fwbio.kernels.triton_chunked": 252}


@pytest.mark.parametrize("module", MOST_REGISTERS)
def test_kernels_compile_for_hopper_and_spill_nothing(module):
    pytest.importorskip("triton")
    environment = {name: x for name, x in os.environ.items() if name != "TRITON_INTERPRET"}
    run = subprocess.run(
        [sys.executable, "-W", "error", __file__, module],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    found = [json.loads(line) for line in run.stdout.splitlines()]
    assert found
    for kernel in found:
        assert kernel["STACK"] == kernel["LOCAL"] == 0, kernel
        assert kernel["REG"] <= MOST_REGISTERS[module], kernel


def resources(compilation):
    """Registers, and the bytes of stack and local memory that spilling takes, by name."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    aligned = {
        (place,): [["tt.divisibility", 16]]
        for place, kind in enumerate(compilation.signature.values())
        if kind.startswith("*")
    }
    source = ASTSource(compilation.kernel, compilation.signature, compilation.constexprs, aligned)
    target = GPUTarget("cuda", 90, 32)
    compiled = triton.compile(source, target=target, options=compilation.options)
    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as cubin:
        cubin.write(compiled.asm["cubin"])
        cubin.flush()
        report = subprocess.run(
            [tools / "cuobjdump", "-res-usage", cubin.name],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    used = dict(re.findall(r"\b(REG|STACK|LOCAL):(\d+)", report))
    return {"name": compilation.name} | {name: int(x) for name, x in used.items()}


if __name__ == "__main__":
    for compilation in importlib.import_module(sys.argv[1]).compilations():
        sys.stdout.write(json.dumps(resources(compilation)) + "\n")
