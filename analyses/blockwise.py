"""Array functions on records, in memory or lazy: axes by name, lazy ones block by block."""

import sys
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import xarray as xr

WORKSPACE = 2**20  # numbers in a temporary array: 8 MiB, which caches hold in part


def blockwise(
    function: Callable[..., Any],
    *arrays: xr.DataArray,
    core: Sequence[Sequence[Hashable]],
    out: Sequence[str] | Sequence[Sequence[str]] = (),
    dtype: type | Sequence[type] = float,
    sizes: Mapping[Hashable, int] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Any:
    """Apply a function of the last axes along named dims, lazily where an array is.

    Args:
        function: of arrays (.., *core), which broadcast along all leading axes.
        *arrays: of a record. Lazy ones are first cut anew where a core dim is in pieces.
        core: the dims of each array that become the function's last axes.
        out: the last dims of the result; a sequence of such where the function returns several.
        dtype: of the result, or of each.
        sizes: of dims that the arrays don't have.
        options: further keyword arguments of the function.

    Returns:
        A DataArray (*leading, *out), or a tuple of them.
    """
    several = bool(out) and not isinstance(out[0], str)
    made: Any = out if several else [out]

    def applied(*parts: xr.DataArray) -> Any:
        return xr.apply_ufunc(
            function,
            *parts,
            input_core_dims=core,
            output_core_dims=made,
            kwargs=dict(options or {}),
            dask="parallelized",
            output_dtypes=dtype if isinstance(dtype, Sequence) else [dtype],
            dask_gufunc_kwargs={"output_sizes": dict(sizes or {})},
        )

    if any(array.chunks is not None for array in arrays):
        return applied(*(whole(array, dims) for array, dims in zip(arrays, core, strict=True)))
    found = [applied(*parts) for parts in _trials(arrays)]
    if len(found) == 1:
        return found[0]
    if several:
        return tuple(xr.concat(parts, "trial") for parts in zip(*found, strict=True))
    return xr.concat(found, "trial")


def _trials(arrays: Sequence[xr.DataArray]) -> Iterator[tuple[xr.DataArray, ...]]:
    """The arrays, a few trials at a time where they are large."""
    trials = max((array.sizes.get("trial", 0) for array in arrays), default=0)
    numbers = max(array.size for array in arrays)
    if trials < 2 or numbers <= WORKSPACE:
        yield tuple(arrays)
        return
    at_once = max(trials * WORKSPACE // numbers, 1)
    for first in range(0, trials, at_once):
        part = {"trial": slice(first, first + at_once)}
        yield tuple(array.isel(part, missing_dims="ignore") for array in arrays)


def whole(array: xr.DataArray, dims: Sequence[Hashable]) -> xr.DataArray:
    """The array with dims in one piece, where it is lazy and they are not."""
    cut = {dim for dim, pieces in array.chunksizes.items() if len(pieces) > 1}
    return array.chunk({dim: -1 for dim in dims if dim in cut}) if cut & set(dims) else array


def pieces(
    shape: tuple[int, ...], rows: int, width: int
) -> Iterator[tuple[tuple[np.ndarray, ...], slice]]:
    """Indices of leading axes and slices of rows, so that rows times `width` fit in WORKSPACE.

    Args:
        shape: of the leading axes.
        rows: of each item of them.
        width: numbers that a row takes.
    """
    at_once = max(WORKSPACE // max(width, 1), 1)
    items = max(at_once // max(rows, 1), 1)
    count = int(np.prod(shape))
    for first in range(0, count, items):
        flat = np.arange(first, min(first + items, count))
        index = np.unravel_index(flat, shape) if shape else ()
        for start in range(0, rows, at_once):
            yield index, slice(start, min(start + at_once, rows))


@contextmanager
def shown(what: str, *, progress: bool) -> Iterator[None]:
    """Show on standard error how many blocks of a lazy computation are done.

    Args:
        what: what is computed, in words.
        progress: whether to show it.
    """
    if not progress:
        yield
        return
    from dask.callbacks import Callback
    from tqdm import tqdm

    with tqdm(desc=what, unit="block", file=sys.stderr) as bar:

        def start(graph: Any, state: Mapping[str, Any]) -> None:
            bar.reset(total=sum(len(state[kind]) for kind in ("ready", "waiting")))

        def done(key: Any, result: Any, graph: Any, state: Any, worker: Any) -> None:
            bar.update()

        with Callback(start_state=start, posttask=done):
            yield
