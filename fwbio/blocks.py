"""How large records are cut into blocks: what stores keep together, and what is read at once.

Steps, channels and cells stay together, for analyses need them whole; trials, heads and snapshots
are cut.
"""

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from fwbio.errors import FwbioError, unknown_name

STORED = 2**23  # bytes of a stored block: some milliseconds to read
READ = "8 MiB"  # of a block that is read and analysed at once, with a few copies in each thread
SNAPSHOTS = 8  # at most in a stored block, so that the last ones are read without most others
LARGEST = 2**30  # bytes that a codec takes in one piece, with room to spare


def stored(sizes: Mapping[Hashable, int], itemsize: int, whole: Iterable[str]) -> tuple[int, ...]:
    """The shape of a variable's stored blocks; empty where that is left to the store.

    Args:
        sizes: the variable's dims and their sizes.
        itemsize: bytes of a number.
        whole: dims that are not cut.

    >>> stored({"trial": 1000, "snapshot": 200, "pre": 64, "post": 64}, 4, ["pre", "post"])
    (64, 8, 64, 64)
    """
    together = set(whole)
    shape = {dim: max(size, 1) for dim, size in sizes.items()}
    taken = itemsize * int(np.prod([size for dim, size in shape.items() if dim in together]))
    if taken > LARGEST:
        return ()
    for dim in reversed([dim for dim in shape if dim not in together]):
        most = SNAPSHOTS if dim == "snapshot" else shape[dim]
        shape[dim] = min(shape[dim], most, max(STORED // taken, 1))
        taken *= shape[dim]
    return tuple(shape.values())


def laid_out(node: Any, whole: Iterable[str]) -> Any:
    """A dataset whose numbers will be stored in blocks, and are cut so where they are lazy.

    Args:
        node: a dataset or a tree of them, which is not changed.
        whole: dims that are not cut.
    """
    together = tuple(whole)
    if isinstance(node, xr.DataTree):
        nodes = {part.path: part.to_dataset(inherit=False) for part in node.subtree}
        return xr.DataTree.from_dict({at: laid_out(part, together) for at, part in nodes.items()})
    cut = node.copy()
    for name, array in node.variables.items():
        if name in node.indexes or array.ndim == 0 or array.dtype.kind not in "biufc":
            continue
        shape = stored(array.sizes, array.dtype.itemsize, together)
        if not shape:
            continue
        if array.chunks is not None:
            blocks = dict(zip(array.dims, shape, strict=True))
            cut = cut.assign({name: node[name].chunk(blocks)})
        kept = {k: v for k, v in array.encoding.items() if k not in {"preferred_chunks", "shards"}}
        cut[name].encoding = kept | {"chunks": shape}
    return cut


def check(chunks: Any, dims: Iterable[str]) -> None:
    """Check the `chunks` that a user asks for.

    Args:
        chunks: sizes by dim.
        dims: those that the store has.

    Raises:
        FwbioError: they are no sizes by dim, or one of them is no dim of the store, or no size.
    """
    if not isinstance(chunks, Mapping):
        raise FwbioError(
            f"{chunks!r} are none", where="chunks", mend='give "auto", None or sizes by dim'
        )
    known = set(dims)
    for dim, size in chunks.items():
        if dim not in known:
            raise unknown_name(dim, known, kind="dim", where="chunks")
        if not isinstance(size, int) or (size < 1 and size != -1):
            raise FwbioError(
                f"{size!r} is no size of {dim!r}",
                where="chunks",
                mend="give a whole number from 1, or -1 for the whole dim",
            )


def read(nodes: Iterable[xr.Dataset], whole: Iterable[str]) -> dict[Any, Any]:
    """The `chunks` by which xarray opens records: some dims whole, those beside them cut.

    Args:
        nodes: the datasets of the store, as they are opened without any.
        whole: dims that are not cut.
    """
    together = set(whole)
    dims = [set(array.dims) for node in nodes for array in node.variables.values()]
    beside = set().union(*(found for found in dims if found & together))
    return {dim: -1 if dim in together else "auto" for dim in beside}
