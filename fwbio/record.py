"""What a run hands back: a dataset that names every axis and unit, checked, saved and loaded.

Variables are `record["readout"]`; of `query` that is the only way, as `record.query` is a method of
every `xarray.Dataset`.
"""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import xarray as xr

from fwbio import blocks
from fwbio.attributes import decoded_attrs, encoded_attrs
from fwbio.errors import FwbioError
from fwbio.files import written_aside
from fwbio.rules import RULES

Keep = Literal["last", "all"] | int
Chunks = Mapping[str, int] | Literal["auto"] | None


@dataclass(frozen=True)
class Variable:
    """A variable of the schema: its dims after the leading ones, its unit and its name in words.

    Dims in `optional` may be missing, for a rule that has no such axis. A variable `of_run` is
    made by a substrate, the others belong to the program.
    """

    dims: tuple[str, ...]
    long_name: str
    units: str = "1"
    optional: tuple[str, ...] = ()
    logical: bool = False
    of_run: bool = False


SCHEMA: Mapping[str, Variable] = {
    "key": Variable(("step", "substep", "pre"), "key, presynaptic rate", optional=("substep",)),
    "value": Variable(("step", "substep", "post"), "value, teaching input", optional=("substep",)),
    "query": Variable(("step", "pre"), "query, presynaptic rate of the cue"),
    "log_decay": Variable(("step", "pre"), "log of the decay before the write", optional=("pre",)),
    "beta": Variable(("step", "substep", "post"), "write strength", optional=("substep", "post")),
    "log_beta": Variable(("step",), "log of the write strength"),
    "erase": Variable(("step", "pre"), "erase gate"),
    "erase_key": Variable(("step", "pre"), "key of the prediction to erase"),
    "erase_direction": Variable(("step", "pre"), "direction along which it is erased"),
    "ridge": Variable(("step", "pre"), "ridge of the least squares read"),
    "interval": Variable(("step",), "time since the step before", "s"),
    "theta_p": Variable(("step",), "calcium above which synapses grow"),
    "theta_d": Variable(("step",), "calcium below minus which synapses shrink"),
    "initial_weights": Variable(("pre", "post"), "fast weights before the first step"),
    "initial_normaliser": Variable(("pre",), "summed keys before the first step"),
    "initial_gram": Variable(
        ("pre", "pre_other"), "second moments of the keys before the first step"
    ),
    "target": Variable(("step", "post"), "value that the read-out should be nearest to"),
    "scored": Variable(("step",), "whether the step's read-out counts", logical=True),
    "stored": Variable(
        ("step",), "whether the step's value is one that a cue may ask for", logical=True
    ),
    "lag": Variable(("step",), "presentations since the cued pair was stored"),
    "readout": Variable(("step", "post"), "read-out", of_run=True),
    "weights": Variable(("snapshot", "pre", "post"), "fast weights", of_run=True),
    "normaliser": Variable(
        ("snapshot", "pre"), "summed keys that divide the read-out", of_run=True
    ),
    "gram": Variable(("snapshot", "pre", "pre_other"), "second moments of the keys", of_run=True),
    "onset": Variable(("step",), "start of the step", "s", of_run=True),
    "pre_spike_time": Variable(("pre_spike",), "time of a key cell's spike", "s", of_run=True),
    "pre_spike_cell": Variable(("pre_spike",), "key cell that fired", of_run=True),
    "post_spike_time": Variable(("post_spike",), "time of a value cell's spike", "s", of_run=True),
    "post_spike_cell": Variable(("post_spike",), "value cell that fired", of_run=True),
    "g_nmda": Variable(("time", "cell"), "NMDA teaching trace above its pair's", of_run=True),
    "g_ampa": Variable(("time", "cell"), "AMPA prediction above its pair's", of_run=True),
    "calcium": Variable(("time", "cell"), "calcium, 1 being its steady value", of_run=True),
}

PROGRAM = ("key", "value", "query")
RECORD = (*PROGRAM, "readout", "weights")
UNCUT = frozenset(dim for variable in SCHEMA.values() for dim in variable.dims) - {"snapshot"}


def labelled(name: str, values: Any, dims: tuple[Hashable, ...]) -> xr.DataArray:
    """Values as a variable of the schema, with its unit and name in words."""
    variable = SCHEMA[name]
    return xr.DataArray(
        values, dims=dims, attrs={"units": variable.units, "long_name": variable.long_name}
    )


def snapshot_steps(weights: Keep, steps: int) -> np.ndarray:
    """The steps after which weights are kept: the last, all, or every n-th and the last.

    Raises:
        FwbioError: `weights` is none of these.
    """
    if weights == "all":
        return np.arange(steps)
    if weights == "last":
        return np.arange(max(steps - 1, 0), steps)
    whole = isinstance(weights, (int, np.integer)) and not isinstance(weights, bool)
    if whole and int(weights) > 0:
        every = np.arange(weights - 1, steps, weights)
        return np.union1d(every, snapshot_steps("last", steps))
    raise FwbioError(
        f"{weights!r} does not say which steps' weights to keep",
        where="weights",
        mend='give "last", "all" or a positive number n for every n-th step',
    )


def with_snapshots(record: xr.Dataset) -> xr.Dataset:
    """The record, its weights over `step` as weights with a snapshot, from 0, after every step.

    Raises:
        FwbioError: it has weights that lack one of the dims (.., snapshot or step, pre, post).
    """
    for name in SCHEMA.keys() & set(record.data_vars):
        array = record[name]
        if "snapshot" in SCHEMA[name].dims and {"snapshot", "step"} & set(array.dims) == {"step"}:
            array = array.drop_vars("step", errors="ignore").rename(step="snapshot")
            record = record.assign({name: array})
    dims = record["weights"].dims if "weights" in record else SCHEMA["weights"].dims
    if not set(SCHEMA["weights"].dims) <= set(dims):
        raise FwbioError(
            f"dims {dims} where (.., snapshot or step, pre, post) are needed",
            where="record, weights",
            mend="rename its dims; weights seen once are expand_dims(snapshot=[the step])",
        )
    if "snapshot" in record.coords or record.sizes.get("snapshot", 0) != record.sizes.get("step"):
        return record
    return record.assign_coords(snapshot=np.arange(record.sizes["snapshot"]))


def from_run(
    program: xr.Dataset,
    *,
    substrate: str,
    backend: str,
    readout: np.ndarray,
    weights: np.ndarray,
    snapshots: np.ndarray,
    leading: tuple[str, ...],
    normaliser: np.ndarray | None = None,
    gram: np.ndarray | None = None,
    config: Mapping[str, Any] | None = None,
    exact: Iterable[str] = (),
    approximate: Iterable[str] = (),
    traces: Mapping[str, xr.DataArray] | None = None,
) -> xr.Dataset:
    """The record of a program's run.

    Args:
        program: what was run; a record is a program too, and loses what its own run added.
        substrate: what ran it.
        backend: the engine that really did the work.
        readout: (*leading, step, post).
        weights: (*leading, snapshot, pre, post).
        snapshots: the step after which each snapshot was taken.
        leading: the names of the leading dims, as `program.operands` gives them.
        normaliser: (*leading, snapshot, pre), for rules that have one.
        gram: second moments of the keys (*leading, snapshot, pre, pre), for rules that read by
            least squares.
        config: the substrate's parameters, SI units.
        exact: what in the run is exact, in words.
        approximate: what is not, in words.
        traces: further variables of the schema that the run made.

    Raises:
        FwbioError: the run overflowed.
    """
    for name, values in (("read-outs", readout), ("weights", weights)):
        if not np.isfinite(values).all():
            raise FwbioError(
                f"the {name} are no longer finite",
                where=f"{substrate} substrate",
                mend="scale keys, values or gates down (a delta rule is stable for beta |k|^2 from"
                " 0 to 2), or give more precision",
            )
    made = [name for name in program.data_vars if name in SCHEMA and SCHEMA[str(name)].of_run]
    fresh = program.drop_vars(made).drop_dims(["snapshot", "time", "cell"], errors="ignore")
    record = fresh.assign(
        {
            "readout": labelled("readout", readout, (*leading, "step", "post")),
            "weights": labelled("weights", weights, (*leading, "snapshot", "pre", "post")),
            **(traces or {}),
        }
    ).assign_coords(snapshot=("snapshot", snapshots))
    record["snapshot"].attrs |= {"units": "1", "long_name": "step after which weights were kept"}
    if normaliser is not None:
        record["normaliser"] = labelled("normaliser", normaliser, (*leading, "snapshot", "pre"))
    if gram is not None:
        record["gram"] = labelled("gram", gram, (*leading, "snapshot", "pre", "pre_other"))
    record.attrs |= {
        "substrate": substrate,
        "backend": backend,
        "substrate_config": dict(config or {}),
        "exact": list(exact),
        "approximate": list(approximate),
        "versions": versions(),
        "references": RULES[program.attrs["rule"]].source if program.attrs["rule"] in RULES else "",
    }
    return record


def versions() -> dict[str, str]:
    """The versions of the packages that numbers may depend on."""
    return dict(_versions())


@cache
def _versions() -> dict[str, str]:
    found = {}
    for package in ("fwbio", "numpy", "xarray", "torch", "triton", "brian2", "scikit-learn"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def validate(record: object, *, need: Iterable[str] = RECORD) -> list[str]:
    """What is wrong with a record, one sentence a fault; an empty list where nothing is.

    Args:
        record: a program, or a record of its run.
        need: the variables it must have (`PROGRAM` for a program).
    """
    if not isinstance(record, xr.Dataset):
        return [f"a dataset of fwbio.program.make is needed, not {type(record).__name__}"]
    faults = []
    rule = record.attrs.get("rule")
    if not isinstance(rule, str):
        faults.append("the attribute 'rule' is missing: it names the rule that was run")
    faults += [f"the variable {name!r} is missing" for name in need if name not in record]
    for name in record.data_vars:
        array = record.variables[name]
        variable = SCHEMA.get(cast(str, name))
        if variable is None:
            faults += [
                f"{name!r} is not in the schema and has no {attr!r}"
                for attr in ("units", "long_name")
                if attr not in array.attrs
            ]
            continue
        faults += _dim_faults(cast(str, name), array, variable)
        faults += _value_faults(cast(str, name), array, variable)
    return faults


def _dim_faults(name: str, array: xr.Variable, variable: Variable) -> list[str]:
    every = "snapshot" not in array.dims and "step" in array.dims
    dims = ["step" if every and d == "snapshot" else d for d in variable.dims]
    needed = [d for d in dims if d not in variable.optional or d in array.dims]
    if missing := [d for d in needed if d not in array.dims]:
        return [f"{name!r} has dims {array.dims} and lacks {', '.join(missing)}"]
    if list(array.dims[array.ndim - len(needed) :]) != needed:
        return [f"{name!r} has dims {array.dims}, which should end in {tuple(needed)}"]
    return []


def _value_faults(name: str, array: xr.Variable, variable: Variable) -> list[str]:
    values = array.data  # lazy where the record is: a test of it goes block by block
    if variable.logical:
        return [] if values.dtype == bool else [f"{name!r} should be true or false at each step"]
    if values.dtype.kind not in "iuf":
        return [f"{name!r} holds {values.dtype}, not real numbers"]
    bad = ~np.isfinite(values)
    if bad.any():
        count = int(bad.sum())
        return [f"{name!r} is NaN or infinite in {count} places, first {_place(array, bad)}"]
    if name == "log_decay" and (values > 0).any():
        where = _place(array, values > 0)
        return [f"'log_decay' is above 0 (a decay above one), first {where}"]
    if name in {"ridge", "interval"} and (values <= 0).any():
        return [f"{name!r} is not above 0, first {_place(array, values <= 0)}"]
    if name in {"theta_p", "theta_d"} and (values < 0).any():
        return [f"{name!r} is below 0, first {_place(array, values < 0)}"]
    if name == "initial_gram" and not _symmetric(array.values):
        return ["'initial_gram' is not symmetric, as second moments are"]
    return []


def _symmetric(matrices: np.ndarray) -> bool:
    """Whether matrices are square and symmetric, to the rounding of a run in float32."""
    if matrices.shape[-2] != matrices.shape[-1]:
        return False
    apart = np.abs(matrices - np.swapaxes(matrices, -1, -2)).max(initial=0)
    return bool(apart <= 1e-4 * np.abs(matrices).max(initial=0))


def _place(array: xr.Variable, mask: np.ndarray) -> str:
    index = np.unravel_index(int(mask.argmax()), mask.shape)
    at = ", ".join(f"{dim} {i}" for dim, i in zip(array.dims, index, strict=True)) or "its value"
    return f"at {at} ({float(array[tuple(index)]):g})"


def require(record: xr.Dataset, *, where: str, need: Iterable[str] = RECORD) -> xr.Dataset:
    """The record itself, once it is known to be sound.

    Raises:
        FwbioError: it isn't; the first fault is told.
    """
    if faults := validate(record, need=need):
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise FwbioError(
            faults[0] + more,
            where=where,
            mend="mend the data, or see fwbio.record.validate for every fault",
        )
    return record


def save(record: xr.Dataset | xr.DataTree, path: str | Path) -> Path:
    """Write a record or a tree of them to NetCDF (`.nc`) or Zarr (`.zarr`), aside, then rename.

    Attributes that a store can't hold (None, true, false, dicts, lists) are encoded as JSON. Zarr
    keeps blocks of trials and snapshots, steps and channels whole; what is lazy (as `load` opens
    Zarr) is written block by block.

    Raises:
        FwbioError: the suffix is neither, or the folder can't be written.
    """
    path = Path(path)
    if path.suffix not in {".nc", ".zarr"}:
        raise FwbioError(
            f"the suffix {path.suffix!r} names no store",
            where=str(path),
            mend="end the name in .nc (NetCDF) or .zarr (Zarr)",
        )
    encoded = encoded_attrs(record)
    with written_aside(path) as aside:
        if path.suffix == ".nc":
            encoded.to_netcdf(aside, engine="h5netcdf")
        else:
            # Zarr's format 3 doesn't specify strings of fixed length yet; format 2 does.
            blocks.laid_out(encoded, UNCUT).to_zarr(aside, consolidated=False, zarr_format=2)
    return path


def save_blocks(parts: Iterable[xr.Dataset], path: str | Path, *, dim: str = "trial") -> Path:
    """Write a record that is made part by part, and need never be in memory whole, to Zarr.

    Args:
        parts: records that follow one another along `dim` and are alike else; each is written
            before the next is asked for. No block on disk holds more of them than the first part
            has: parts of some megabytes are read fastest.
        path: ends in `.zarr`.
        dim: the dim along which they are joined.

    Raises:
        FwbioError: the suffix is another, there are no parts, a part does not go with the first,
            or the folder can't be written.
    """
    path = Path(path)
    if path.suffix != ".zarr":
        raise FwbioError(
            f"the suffix {path.suffix!r} names no store that grows",
            where=str(path),
            mend="end the name in .zarr (Zarr)",
        )
    with written_aside(path) as aside:
        for i, part in enumerate(parts):
            encoded = encoded_attrs(part)
            try:
                if i == 0:
                    blocks.laid_out(encoded, UNCUT).to_zarr(
                        aside, consolidated=False, zarr_format=2
                    )
                else:
                    encoded.to_zarr(aside, append_dim=dim, consolidated=False)
            except ValueError as error:
                raise FwbioError(
                    f"part {i} can't be joined ({str(error).splitlines()[0]})",
                    where=str(path),
                    mend=f"give parts with the dim {dim!r} and the same variables and sizes else",
                ) from error
        if not aside.exists():
            raise FwbioError("there are no parts", where=str(path), mend="give at least one record")
    return path


def load(path: str | Path, *, chunks: Chunks = "auto") -> xr.Dataset | xr.DataTree:
    """Read what `save` wrote: a dataset, or a tree where groups were saved.

    NetCDF is read whole. Zarr is opened as dask arrays, whatever its size: analyses go through it
    block by block, and a damaged chunk is met only when it is read; `.load()` reads it whole. Its
    variables are taken by name: record["query"], for `record.query` is xarray's own method.

    Args:
        path: ends in `.nc` or `.zarr`.
        chunks: how Zarr is cut: "auto", blocks of trials and snapshots of some megabytes, steps
            and channels whole; sizes by dim, as xarray takes them; None, not at all: it is read
            whole, as NetCDF is.

    Raises:
        FwbioError: there is no such file, it is not (or no longer) a whole store, or chunks are
            asked of NetCDF, of dims that it lacks, or of no size.
    """
    path = Path(path)
    if not path.exists():
        raise FwbioError("there is no such file", where=str(path), mend="check the name")
    if path.is_dir() and path.suffix != ".zarr":
        raise FwbioError(
            "a folder is not a record", where=str(path), mend="name the .nc or .zarr in it"
        )
    if path.suffix != ".zarr" and chunks not in ("auto", None):
        raise FwbioError(
            "NetCDF is read whole", where="chunks", mend="save it as .zarr, or leave chunks out"
        )
    try:
        tree = _open_zarr(path, chunks) if path.suffix == ".zarr" else _read_netcdf(path)
    except FwbioError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        told = (str(error) or "no details").splitlines()[0]
        raise FwbioError(
            f"not a whole record ({type(error).__name__}: {told})",
            where=str(path),
            mend="make it again; a file cut short can't be mended",
        ) from error
    tree = decoded_attrs(tree)
    return tree if tree.children else tree.to_dataset()


def _read_netcdf(path: Path) -> xr.DataTree:
    with xr.open_datatree(path, engine="h5netcdf") as opened:
        return opened.load()


def _open_zarr(path: Path, chunks: Chunks) -> xr.DataTree:
    def opened(cut: Any) -> xr.DataTree:
        return xr.open_datatree(path, engine="zarr", consolidated=False, chunks=cut)

    if chunks is None:
        return opened(None).load()
    nodes = [node.to_dataset(inherit=False) for node in opened(None).subtree]
    if chunks != "auto":
        blocks.check(chunks, {str(dim) for node in nodes for dim in node.dims})
        return opened(dict(chunks))
    import dask

    with dask.config.set({"array.chunk-size": blocks.READ}):
        return opened(blocks.read(nodes, UNCUT))
