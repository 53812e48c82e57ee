"""Sound random programs of any rule: their streams follow from the rule's declaration."""

import numpy as np
import torch

from fwbio import RULES, program
from fwbio.rule import VOLLEYS


def random_streams(
    rule,
    rng,
    *,
    leading=(),
    steps=6,
    pre=4,
    post=3,
    substeps=2,
    nonnegative=False,
    passive=False,
):
    """Key, value, query and every further stream of a rule, each (*leading, step, ..).

    Args:
        nonnegative: keys, queries and erase keys are rates.
        passive: beta |k|^2 < 1 at every write, which is all that a passive flow can reach, and no
            volley of more than all cells.
    """
    rule = RULES[rule] if isinstance(rule, str) else rule
    sizes = {"step": steps, "substep": substeps, "pre": pre, "post": post}
    substep = ("substep",) if rule.terms.substeps else ()

    def normal(*dims):
        shape = (*leading, *(sizes[d] for d in dims))
        volleys = rule.terms.plasticity in VOLLEYS  # shares of cells, or some beyond all of them
        most = 1.0 if passive else 1.2
        x = rng.uniform(-most, most, shape) if volleys else rng.standard_normal(shape)
        x = np.abs(x) if nonnegative and dims[-1] == "pre" else x
        corrected = "post" if rule.terms.transposed else "pre"
        unit = passive and dims[-1] == corrected
        if volleys:
            return x
        return x / (np.linalg.norm(x, axis=-1, keepdims=True) if unit else np.sqrt(x.shape[-1]))

    draw = {
        "log_decay": lambda *dims: -rng.exponential(0.2, (*leading, *(sizes[d] for d in dims))),
        "beta": lambda *dims: rng.uniform(0.1, 0.9, (*leading, *(sizes[d] for d in dims))),
        "log_beta": lambda *dims: rng.uniform(-2, 2, (*leading, *(sizes[d] for d in dims))),
        "ridge": lambda *dims: rng.uniform(0.5, 1.5, (*leading, *(sizes[d] for d in dims))),
        "erase": lambda *dims: rng.uniform(0.1, 0.9, (*leading, *(sizes[d] for d in dims))),
        "interval": lambda *dims: np.broadcast_to(  # of all trials alike, in whole milliseconds
            1e-3 * rng.integers(40, 200, [sizes[d] for d in dims]),
            (*leading, *(sizes[d] for d in dims)),
        ),
        "theta_p": lambda *dims: rng.uniform(0, 0.1, (*leading, *(sizes[d] for d in dims))),
        "theta_d": lambda *dims: rng.uniform(0, 0.1, (*leading, *(sizes[d] for d in dims))),
        "erase_key": normal,
        "erase_direction": normal,
    }
    return {
        "key": normal("step", *substep, "pre"),
        "value": normal("step", *substep, "post"),
        "query": normal("step", "pre"),
        **{name: draw[name](*stream.dims) for name, stream in rule.streams.items()},
    }


def random_program(rule, rng, *, trials=2, heads=None, initial_weights=False, **sizes):
    """A random program; `trials` and `heads` may be None, `sizes` are those of `random_streams`."""
    leading = tuple(n for n in (trials, heads) if n is not None)
    streams = random_streams(rule, rng, leading=leading, **sizes)
    if initial_weights:
        pre, post = streams["key"].shape[-1], streams["value"].shape[-1]
        streams["initial_weights"] = rng.standard_normal((*leading, pre, post)) / np.sqrt(pre)
        companion = RULES[rule].terms.companion
        if companion == "normaliser":
            streams["initial_normaliser"] = rng.uniform(0, 1, (*leading, pre))
        if companion == "gram":
            streams["initial_gram"] = random_gram(rng, *leading, pre)
    return program.make(rule, **streams)


def random_gram(rng, *shape):
    """Second moments of keys: symmetric positive matrices."""
    keys = rng.standard_normal((*shape, shape[-1])) / np.sqrt(shape[-1])
    return keys @ keys.swapaxes(-1, -2)


def random_state(rule, rng, *shape, post):
    """A state as `fwbio.kernels.scan` takes it, for (.., pre) = shape."""
    terms = RULES[rule].terms
    state = rng.uniform(0, 1, (*shape, post + terms.extra_columns(shape[-1])))
    if terms.companion == "gram":
        state[..., post:] = random_gram(rng, *shape)
    if terms.write == "exponential":
        state[..., -1] = state[..., :1, -1]
    return state


def random_tensors(rule, rng, *, batch=2, heads=2, dtype=torch.float64, **sizes):
    """Random operands of `fwbio.kernels.scan`, by keyword, with an initial state."""
    streams = random_streams(rule, rng, leading=(batch, heads), **sizes)
    operands = {
        {"key": "k", "value": "v", "query": "q"}.get(name, name): torch.tensor(
            _time_before_head(rule, name, x), dtype=dtype
        )
        for name, x in streams.items()
    }
    sizes = {"post": operands["v"].shape[-1]}
    state = random_state(rule, rng, batch, heads, operands["q"].shape[-1], **sizes)
    return operands | {"initial_state": torch.tensor(state, dtype=dtype)}


def _time_before_head(rule, name, x):
    """(batch, head, step, (substep,) ..) laid out as [batch, time, head, ..]."""
    dims = {s.name: s.dims for s in RULES[rule].streams.values()}.get(name, ())
    if RULES[rule].terms.substeps and (name in {"key", "value"} or "substep" in dims):
        x = x.reshape(*x.shape[:2], x.shape[2] * x.shape[3], *x.shape[4:])
    return np.moveaxis(x, 2, 1)
