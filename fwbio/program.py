"""Programs: the streams that a rule consumes, one row a step, as a labelled dataset."""

from collections.abc import Hashable, Mapping, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from fwbio.errors import FwbioError
from fwbio.record import PROGRAM, SCHEMA, labelled, require
from fwbio.rule import DEFAULTS, Rule
from fwbio.rules import RULES, resolve
from fwbio.traces import SHORTEST

LEADING = ("trial", "head")
GATES = (
    "log_decay",
    "beta",
    "log_beta",
    "erase",
    "erase_key",
    "erase_direction",
    "ridge",
    "interval",
    "theta_p",
    "theta_d",
)
INITIAL = ("initial_weights", "initial_normaliser", "initial_gram")
EXECUTED = (*PROGRAM, *GATES, *INITIAL)
_INNER = ("step", "substep", "pre", "pre_other", "post")
_SUMMED = {
    "normaliser": "the keys summed in them",
    "gram": "the second moments of the keys in them",
}
_OF_RUNS = ("snapshot", "time", "cell", "pre_spike", "post_spike")


def make(
    rule: Rule | str,
    key: Any,
    value: Any,
    query: Any,
    *,
    log_decay: Any = None,
    beta: Any = None,
    log_beta: Any = None,
    erase: Any = None,
    erase_key: Any = None,
    erase_direction: Any = None,
    ridge: Any = None,
    interval: Any = None,
    theta_p: Any = None,
    theta_d: Any = None,
    initial_weights: Any = None,
    initial_normaliser: Any = None,
    initial_gram: Any = None,
    target: Any = None,
    scored: Any = None,
    stored: Any = None,
    lag: Any = None,
    programmer: str = "imposed",
    seed: int | None = None,
    config: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """The program of a rule: streams checked, labelled and completed.

        W~ = diag(exp(log_decay)) W;   W <- W~ + k (beta v)^T - k (p^T W~);   y = W^T query

    Arrays are dimensionless and may have leading axes, named `trial` and `head`; an
    `xarray.DataArray` may name its own, and is taken by position along them: its coordinates are
    not kept. A number stands for the same number at every step.

    Args:
        rule: a rule or its name.
        key: (.., step, pre), or (.., step, substep, pre) for a rule with substeps.
        value: (.., step, post), likewise.
        query: (.., step, pre).
        log_decay: log of the decay before the write, <= 0: (.., step), or (.., step, pre) for a
            rule that decays by channel.
        beta: write strength: (.., step), with (substep) and (post) where the rule has them.
        log_beta: log of the write strength (.., step), for rules that write exponentially.
        erase: erase gate (.., step, pre), for rules with a gate of their own.
        erase_key: (.., step, pre), for rules that read their prediction by another key.
        erase_direction: (.., step, pre), for rules that erase along another key.
        ridge: > 0, (.., step, pre), for rules that read by least squares.
        interval: seconds since the step before, as long as which a step lasts, (.., step), for
            rules that keep traces or follow calcium in time; above 0, and what the rule's volleys
            take (`fwbio.traces.SHORTEST`); 0.1 unless given.
        theta_p: calcium above which synapses grow, >= 0, (.., step), for rules with thresholds; 0
            unless given.
        theta_d: calcium below minus which they shrink, likewise.
        initial_weights: (.., pre, post), zero unless given.
        initial_normaliser: summed keys that go with them (.., pre), for rules with a normaliser.
        initial_gram: second moments of the keys that go with them (.., pre, pre_other), for rules
            that read by least squares.
        target: what each read-out should be nearest to, (.., step, post).
        scored: which read-outs count, (.., step), true or false.
        stored: which steps' values a cue may ask for, (.., step), true or false.
        lag: presentations since the cued pair was stored, (.., step).
        programmer: the name of what made the program.
        seed: the seed behind it.
        config: the configuration behind it, kept with the record.

    Raises:
        FwbioError: an unknown rule; a stream that the rule lacks or needs; wrong shapes; NaN,
            infinite numbers, a decay above one, or a ridge, interval or threshold out of its range.
    """
    rule = resolve(rule)
    if config is not None and not isinstance(config, Mapping):
        raise FwbioError(
            f"{type(config).__name__} is no mapping", where="config", mend="give settings by name"
        )
    if RULES.get(rule.name) != rule:
        raise FwbioError(
            f"a program names its rule, and the table has no such {rule.name!r}",
            where="rule",
            mend="run a rule of your own by fwbio.kernels.scan",
        )
    given = {
        "log_decay": log_decay,
        "beta": beta,
        "log_beta": log_beta,
        "erase": erase,
        "erase_key": erase_key,
        "erase_direction": erase_direction,
        "ridge": ridge,
        "interval": interval,
        "theta_p": theta_p,
        "theta_d": theta_d,
        "initial_weights": initial_weights,
        "initial_normaliser": initial_normaliser,
        "initial_gram": initial_gram,
        "target": target,
        "scored": scored,
        "stored": stored,
        "lag": lag,
    }
    given = {name: x for name, x in given.items() if x is not None}
    check_streams(rule, given.keys() & set(GATES))
    _check_initial(rule, given.keys())
    dims = stream_dims(rule)
    streams = {
        name: _variable(name, x, dims[name], {})
        for name, x in (("key", key), ("query", query), ("value", value))
    }
    sizes = _sizes(streams)
    if "log_decay" in rule.streams and "log_decay" not in given:
        given["log_decay"] = _default_log_decay(rule, sizes)
    given |= {name: x for name, x in DEFAULTS.items() if name in rule.streams.keys() - given.keys()}
    positional = max(array.ndim - len(dims[name]) for name, array in streams.items())
    for name, x in given.items():
        spread = sizes | {"pre_other": sizes["pre"]}
        streams[name] = _variable(name, x, dims.get(name, SCHEMA[name].dims), spread)
        _refuse_own_axes(name, x, streams[name], dims.get(name, SCHEMA[name].dims), positional)
    _sizes(streams)
    _refuse_empty(sizes)
    _refuse_short_steps(rule, streams)
    program = xr.Dataset(streams, coords={"step": np.arange(sizes["step"])})
    program["step"].attrs = {"units": "1", "long_name": "presentation"}
    program.attrs = {
        "rule": rule.name,
        "programmer": programmer,
        "seed": seed,
        "config": dict(config or {}),
    }
    return require(program, where=f"program of {rule.name}", need=PROGRAM)


def _check_initial(rule: Rule, given: Set[str]) -> None:
    """Refuse a memory that starts without a part of its state, or with one that it hasn't."""
    own = rule.terms.companion
    for name, summed in _SUMMED.items():
        if f"initial_{name}" in given and name != own:
            raise FwbioError(
                f"the rule {rule.name!r} has no {name}",
                where=f"initial_{name}",
                mend="leave it out",
            )
        if name == own and len(given & {"initial_weights", f"initial_{name}"}) == 1:
            raise FwbioError(
                f"the rule {rule.name!r} starts from weights and {summed}",
                where="initial_weights",
                mend=f"give initial_weights and initial_{name}, or neither",
            )


def _refuse_own_axes(
    name: str, given: Any, array: xr.DataArray, dims: tuple[str, ...], positional: int
) -> None:
    """Refuse leading axes of an unlabelled array that key, value and query lack."""
    if not isinstance(given, xr.DataArray) and array.ndim - len(dims) > positional:
        raise FwbioError(
            f"shape {array.shape} has leading axes that key, value and query lack",
            where=name,
            mend=f"give it as {dims}, or name the axes of an xarray.DataArray",
        )


def _refuse_empty(sizes: Mapping[str, int]) -> None:
    for dim, size in sizes.items():
        if size == 0 and dim != "step":
            raise FwbioError(f"there is no {dim}", where="program", mend=f"give at least one {dim}")


def _refuse_short_steps(rule: Rule, streams: Mapping[Any, xr.DataArray]) -> None:
    """Refuse steps that end before their own values do."""
    shortest = SHORTEST.get(rule.terms.plasticity)
    if shortest and "interval" in streams and (streams["interval"] <= shortest).any():
        raise FwbioError(
            f"a step of {float(streams['interval'].min()):g} s ends before its value does",
            where="interval",
            mend=f"give {rule.name!r} intervals above {shortest:g} s",
        )


def check_streams(rule: Rule, given: set[str]) -> None:
    """Refuse streams that the rule lacks, and ask for those it needs.

    Raises:
        FwbioError: naming the first of either.
    """
    for name in sorted(given - rule.streams.keys()):
        raise FwbioError(
            f"the rule {rule.name!r} has no stream {name!r}",
            where=name,
            mend=f"leave it out; it takes {', '.join(rule.streams)}",
        )
    for name in rule.streams:
        if rule.needs(name) and name not in given:
            dims = ", ".join(rule.streams[name].dims)
            raise FwbioError(
                f"the rule {rule.name!r} needs {name!r}",
                where=name,
                mend=f"give it as (.., {dims}) or as one number",
            )


@dataclass(frozen=True, kw_only=True)
class Operands:
    """A program as plain float64 arrays with equal leading axes, ready for `normal_form`.

    Args:
        rule: the program's rule.
        leading: names of the leading dims; `shape` their sizes.
        streams: (*shape, time, channel); substeps are laid out along time, and a scalar a step
            has a channel axis of size 1.
        writes_per_step: writes along time per step.
        initial: (*shape, pre, post), or None; what the rule sums beside its weights is in further
            columns.
        steps, pre, post: sizes.
    """

    rule: Rule
    leading: tuple[str, ...]
    shape: tuple[int, ...]
    streams: dict[str, np.ndarray]
    writes_per_step: int
    initial: np.ndarray | None
    steps: int
    pre: int
    post: int

    def parts(self, states: np.ndarray) -> dict[str, Any]:
        """The weights in kept states, and what the rule sums beside them, as `from_run` takes them.

        Args:
            states: (*shape, snapshot, pre, column).
        """
        weights, beside = states[..., : self.post], states[..., self.post :]
        if self.rule.terms.companion == "normaliser":
            return {"weights": weights, "normaliser": beside[..., 0]}
        if self.rule.terms.companion == "gram":
            return {"weights": weights, "gram": beside}
        return {"weights": weights}


def operands(program: xr.Dataset) -> Operands:
    """The arrays of a program.

    Raises:
        FwbioError: it is not a sound program of a rule in the table.
    """
    require(program, where="program", need=PROGRAM)
    rule = RULES.row(program.attrs["rule"], where="program.attrs['rule']")
    check_streams(rule, {gate for gate in GATES if gate in program})
    _check_initial(rule, {str(name) for name in program.data_vars})
    _refuse_short_steps(rule, program.data_vars)
    expected = stream_dims(rule)
    used = [name for name in expected if name in program]
    for name in used:
        _refuse_surplus(name, program[name].dims, expected[name])
    leading: dict[str, int] = {}
    for stream in (*used, *(name for name in INITIAL if name in program)):
        array = program[stream]
        leading |= {str(d): array.sizes[d] for d in array.dims if d not in _INNER}
    order, shape = tuple(leading), tuple(leading.values())

    def laid_out(stream: str, dims: tuple[str, ...]) -> np.ndarray:
        array = program[stream]
        here = tuple(d for d in dims if d in array.dims)
        values = array.transpose(*(d for d in order if d in array.dims), *here).values
        index = tuple(slice(None) if d in array.dims else None for d in (*order, *dims))
        return np.asarray(values, dtype=np.float64)[index]

    writes = program.sizes.get("substep", 1) if rule.terms.substeps else 1
    streams = {}
    for stream in used:
        channel = "post" if "post" in expected[stream] else "pre"
        wide = laid_out(stream, ("step", "substep", channel))
        if rule.terms.substeps and stream in {"value", "key", "beta"}:
            wide = np.broadcast_to(wide, (*wide.shape[:-2], writes, wide.shape[-1]))
        flat = wide.reshape(*wide.shape[:-3], -1, wide.shape[-1])
        streams[stream] = np.broadcast_to(flat, (*shape, *flat.shape[-2:]))
    sizes = program.sizes
    initial = None
    if "initial_weights" in program:
        initial = laid_out("initial_weights", ("pre", "post"))
        initial = np.broadcast_to(initial, (*shape, *initial.shape[-2:]))
        if beside := rule.terms.companion:
            summed = laid_out(f"initial_{beside}", SCHEMA[f"initial_{beside}"].dims)
            summed = summed[..., None] if beside == "normaliser" else summed
            initial = np.concatenate(
                [initial, np.broadcast_to(summed, (*shape, *summed.shape[-2:]))], -1
            )
    for name in rule.streams.keys() & DEFAULTS.keys() - streams.keys():
        streams[name] = np.full((*shape, sizes["step"], 1), DEFAULTS[name])
    return Operands(
        rule=rule,
        leading=order,
        shape=shape,
        streams=streams,
        writes_per_step=writes,
        initial=initial,
        steps=sizes["step"],
        pre=sizes["pre"],
        post=sizes["post"],
    )


def stream_dims(rule: Rule) -> dict[str, tuple[str, ...]]:
    """The dims, after the leading ones, of key, value, query and every other stream of a rule."""
    substep = ("substep",) if rule.terms.substeps else ()
    return {
        "key": ("step", *substep, "pre"),
        "value": ("step", *substep, "post"),
        "query": ("step", "pre"),
        **{name: stream.dims for name, stream in rule.streams.items()},
    }


def _refuse_surplus(name: str, found: tuple[Hashable, ...], dims: tuple[str, ...]) -> None:
    """Refuse inner dims that the stream hasn't under this rule."""
    if surplus := [str(d) for d in found if d in _INNER and d not in dims]:
        raise FwbioError(
            f"its dims {found} have {', '.join(surplus)} too many",
            where=name,
            mend=f"give it as (.., {', '.join(dims)}), or name a rule that has these dims",
        )
    if taken := [str(d) for d in found if d in _OF_RUNS]:
        raise FwbioError(
            f"the dims {', '.join(taken)} are a run's own", where=name, mend="rename them"
        )


def _variable(name: str, x: Any, dims: tuple[str, ...], sizes: Mapping[str, int]) -> xr.DataArray:
    """One stream as a labelled array, spread over the `sizes` of the dims that it lacks."""
    if isinstance(x, xr.DataArray):
        if unnamed := [d for d in x.dims if not isinstance(d, str)]:
            raise FwbioError(
                f"its dim {unnamed[0]!r} is not a name", where=name, mend="name every dim in words"
            )
        if missing := [d for d in dims if d not in x.dims and d not in sizes]:
            raise FwbioError(
                f"its dims {x.dims} lack {', '.join(missing)}",
                where=name,
                mend=f"name its dims (.., {', '.join(dims)})",
            )
        _refuse_surplus(name, x.dims, dims)
        array = labelled(name, _numbers(name, x.values), tuple(map(str, x.dims)))
        return array.expand_dims({d: sizes[d] for d in dims if d not in x.dims}).transpose(
            *(d for d in x.dims if d not in dims), *dims
        )
    values = _numbers(name, x)
    if values.ndim == 0 and sizes:
        values = np.broadcast_to(values, tuple(sizes[d] for d in dims))
    extra = values.ndim - len(dims)
    if not 0 <= extra <= len(LEADING):
        raise FwbioError(
            f"shape {values.shape} has {values.ndim} axes, where (.., {', '.join(dims)}) has"
            f" {len(dims)} to {len(dims) + len(LEADING)}",
            where=name,
            mend="reshape it, or name the axes of an xarray.DataArray",
        )
    return labelled(name, values, (*LEADING[:extra], *dims))


def _numbers(name: str, x: Any) -> np.ndarray:
    if np.ma.is_masked(x):
        raise FwbioError(
            "some of its numbers are masked", where=name, mend="fill them, or leave the steps out"
        )
    try:
        values = np.asarray(x)
    except (TypeError, ValueError, RuntimeError) as error:
        raise FwbioError(
            f"{type(x).__name__} is not an array of numbers ({error})",
            where=name,
            mend="give a rectangular array of real numbers",
        ) from error
    logical = SCHEMA[name].logical
    if logical and not np.isin(values, (0, 1)).all():
        raise FwbioError(
            "it holds more than true and false", where=name, mend="give true or false at each step"
        )
    if values.dtype.kind not in "biuf":
        raise FwbioError(
            f"{values.dtype} is not a type of real numbers",
            where=name,
            mend="give a rectangular array of real numbers",
        )
    return values.astype(bool if logical else np.float64)


def _sizes(streams: Mapping[str, xr.DataArray]) -> dict[str, int]:
    """The size of every dim, once the streams agree on it."""
    sizes: dict[str, int] = {}
    owner: dict[str, str] = {}
    for name, array in streams.items():
        for dim, size in array.sizes.items():
            dim = str(dim)
            if sizes.setdefault(dim, size) != size:
                raise FwbioError(
                    f"shape {array.shape} has {dim} = {size}, but {owner[dim]} has"
                    f" {dim} = {sizes[dim]}",
                    where=name,
                    mend=f"give both the same {dim} (the dims of {name} are {array.dims})",
                )
            owner.setdefault(dim, name)
    return sizes


def _default_log_decay(rule: Rule, sizes: Mapping[str, int]) -> xr.DataArray:
    """log(1 - 2^-(h + offset)) of each head h, of head 0 where there are none."""
    assert rule.default_decay_offset is not None
    dims = tuple(d for d in ("head", "step") if d in sizes)
    h = np.arange(sizes.get("head", 1))[:, None] if "head" in sizes else 0
    log_gamma = np.log1p(-np.exp2(-(h + rule.default_decay_offset)))
    return xr.DataArray(np.broadcast_to(log_gamma, tuple(sizes[d] for d in dims)), dims=dims)
