"""Random recurrences with every combination of switches, and runs of them with all gradients."""

import itertools
from dataclasses import replace

import torch

from fwbio.kernels import recurrent
from fwbio.kernels.recurrence import OPERANDS, Recurrence

SWITCHES = [
    (decay, erase, undecayed)
    for decay, erase, undecayed in itertools.product(
        ("none", "scalar", "channel"), ("none", "tied", "separate"), (False, True)
    )
    if not (undecayed and "none" in (decay, erase))
]


def random_recurrence(
    switches, rng, *, batch=2, steps=5, heads=2, pre=4, post=3, writes=1, dtype=torch.float64
):
    """A recurrence that doesn't grow - unit keys, strengths below 1 - and a state before it."""
    decay, erase, undecayed = switches
    rows = (batch, steps * writes, heads)

    def normal(*shape):
        return torch.as_tensor(rng.standard_normal(shape), dtype=dtype)

    def unit(x):
        return x / x.norm(dim=-1, keepdim=True).clamp_min(1e-6)

    def log_decay(*shape):
        return torch.as_tensor(-rng.exponential(0.1, shape), dtype=dtype)

    key = unit(normal(*rows, pre))
    recurrence = Recurrence(
        query=normal(batch, steps, heads, pre),
        key=key,
        value=normal(*rows, post),
        strength=torch.as_tensor(rng.uniform(0.1, 0.9, rows), dtype=dtype),
        erase=0.5 * unit(key + 0.3 * unit(normal(*rows, pre))) if erase == "separate" else None,
        log_decay={
            "none": lambda: None,
            "scalar": lambda: log_decay(*rows),
            "channel": lambda: log_decay(*rows, pre),
        }[decay](),
        tied=erase == "tied",
        undecayed=undecayed,
        writes=writes,
    )
    return recurrence, normal(batch, heads, pre, post)


def cast(recurrence, dtype):
    """The recurrence with every operand in a dtype."""
    return changed(recurrence, lambda name, x: x.to(dtype))


def changed(recurrence, change):
    """The recurrence with every operand that it has replaced by `change(name, operand)`."""
    return replace(
        recurrence,
        **{
            name: change(name, x)
            for name, x in zip(OPERANDS, recurrence.operands, strict=True)
            if x is not None
        },
    )


def everything(run, recurrence, state, weigh, **options):
    """All outputs of a run, and all gradients of their sum as `weigh` weighs them, by name."""
    leaves = {
        name: x.detach().clone().requires_grad_()
        for name, x in zip(OPERANDS, recurrence.operands, strict=True)
        if x is not None
    } | {"state": state.detach().clone().requires_grad_()}
    first = leaves["state"]
    run_of = replace(recurrence, **{n: x for n, x in leaves.items() if n != "state"})
    outputs = dict(zip(("y", "final", "kept"), run(run_of, first, **options), strict=True))
    outputs = {name: x for name, x in outputs.items() if x is not None}
    loss = sum((x.double() * weigh(name, x)).sum() for name, x in outputs.items())
    grads = torch.autograd.grad(
        loss, list(leaves.values()), allow_unused=True, materialize_grads=True
    )
    return {name: x.detach() for name, x in outputs.items()} | {
        f"gradient of {name}": grad for name, grad in zip(leaves, grads, strict=True)
    }


def weights(rng):
    """Random weights of every output, the same for each run that is weighed by them."""
    drawn = {}

    def weigh(name, x):
        if name not in drawn:
            drawn[name] = torch.as_tensor(rng.standard_normal(x.shape))
        return drawn[name]

    return weigh


def step_by_step(recurrence, state, weigh, **options):
    """`everything` of the plain loop."""
    return everything(recurrent.run, recurrence, state, weigh, **options)
