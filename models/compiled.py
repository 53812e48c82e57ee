"""Functions of a network's own arrays, written in C++ and NumPy, as code of Brian2 may call them.

C++ serves the compiled targets, by pointers to the arrays; NumPy the interpreted one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import brian2 as b2
import numpy as np
from brian2.core.variables import ArrayVariable
from brian2.devices.device import RuntimeDevice

# Brian2's standalone programs include these; what a function defines stands in a namespace there
_INCLUDES = """
#include <cmath>
#include <cstddef>
#include <cstdint>
"""
_KINDS = {"int": "integer", "double": "float"}


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """A function of scalars that reads and writes arrays.

    Args:
        name: as Brian2's code calls it; in C++ it is called fwbio_NAME.
        returns: "int" or "double".
        arguments: type and name of each scalar.
        arrays: names of the arrays, whole numbers or floats, by order.
        source: C++ that defines it: of sizes (int), arguments and pointers to the arrays.
        guard: a name of the source, which may define several functions.
        plain: the same by NumPy.
    """

    name: str
    returns: str
    arguments: Sequence[tuple[str, str]]
    arrays: Sequence[str]
    source: str
    guard: str
    plain: Callable[..., np.ndarray | int]

    def of(self, sizes: Sequence[int], arrays: Mapping[str, ArrayVariable]) -> b2.Function:
        """The function for the arrays of a network.

        Args:
            sizes: its first arguments. A standalone program holds them in its code.
            arrays: the variables that it reads and writes, by name.
        """
        used = {name: arrays[name] for name in self.arrays}

        def by_numpy(*given: np.ndarray) -> np.ndarray | int:
            return self.plain(*sizes, *given, *(each.get_value() for each in used.values()))

        made = b2.Function(
            by_numpy,
            arg_units=[1] * len(self.arguments),
            return_unit=1,
            arg_types=[_KINDS[kind] for kind, _ in self.arguments],
            return_type=_KINDS[self.returns],
            stateless=False,
        )
        made.implementations.add_numpy_implementation(by_numpy, discard_units=True)
        if isinstance(b2.get_device(), RuntimeDevice):
            made.implementations.add_implementation(
                "cython",
                self._cython(len(sizes), used),
                namespace={f"_{name}": each.get_value() for name, each in used.items()}
                | {f"_{self.name}_sizes": np.array(sizes, np.int32)},
            )
        else:
            made.implementations.add_implementation("cpp", self._cpp(sizes, used))
        return made

    def _cpp(self, sizes: Sequence[int], used: Mapping[str, ArrayVariable]) -> str:
        device = b2.get_device()
        pointers = (
            f"&brian::{device.get_array_name(each, access_data=False)}[0]" for each in used.values()
        )
        passed = ", ".join([*map(str, sizes), *self._scalars(), *pointers])
        return (
            f"#ifndef {self.guard}\n#define {self.guard}\n{self.source}\n#endif\n"
            f"static inline {self.returns} {self.name}({self._declared()})\n"
            f"{{\n    return fwbio_{self.name}({passed});\n}}\n"
        )

    def _cython(self, sizes: int, used: Mapping[str, ArrayVariable]) -> str:
        given = (f"_namespace_{self.name}_sizes[{k}]" for k in range(sizes))
        pointers = (f"_namespace_{name}" for name in used)
        types = [
            "int32_t*" if np.dtype(each.dtype).kind == "i" else "double*" for each in used.values()
        ]
        declared = ", ".join(["int"] * sizes + [self._declared(), *types])
        passed = ", ".join([*given, *self._scalars(), *pointers])
        return (
            f'cdef extern from *:\n    """\n{_INCLUDES}{self.source}\n    """\n'
            f"    {self.returns} fwbio_{self.name}({declared}) nogil\n"
            f"cdef {self.returns} {self.name}({self._declared()}) noexcept:\n"
            f"    return fwbio_{self.name}({passed})\n"
        )

    def _scalars(self) -> list[str]:
        return [name for _, name in self.arguments]

    def _declared(self) -> str:
        return ", ".join(f"{kind} {name}" for kind, name in self.arguments)
