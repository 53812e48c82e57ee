"""The Triton kernels that keep the state in registers, against float64 autograd step by step."""

import dataclasses
import itertools

import pytest
import torch
from tolerances import TOLERANCES, assert_close, relative_error

from fwbio import FwbioError
from fwbio.kernels import recurrent
from fwbio.kernels.recurrence import Recurrence, state_dtype

pytest.importorskip("triton")
from fwbio.kernels import triton_common, triton_recurrent, triton_steps

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ANCHORS = triton_recurrent.ANCHORS
DECAYS, ERASES = ("none", "scalar", "channel"), ("none", "tied", "separate")
SWITCHES = [
    {"decay": d, "erase": e, "strength": s, "undecayed": u, "writes": n}
    for d, e, s, u, n in itertools.product(DECAYS, ERASES, (False, True), (False, True), (1, 2))
    if not u or (d != "none" and e != "none")
]
MOST = {"decay": "channel", "erase": "separate", "strength": True, "undecayed": True, "writes": 2}
GATED = {"decay": "scalar", "erase": "tied", "strength": True, "undecayed": False, "writes": 1}
switched = pytest.mark.parametrize("switches", [GATED, MOST], ids=["gated delta", "most"])


def random_operands(
    rng,
    *,
    decay,
    erase,
    strength,
    undecayed,
    writes,
    dtype=torch.float64,
    batch=1,
    steps=5,
    heads=1,
    K=3,
    V=5,
    sequences=None,
    log_decay=None,
):
    """A random recurrence and initial state, in a dtype."""
    rows = (batch, steps * writes, heads)

    def normal(*shape):
        return torch.tensor(rng.standard_normal(shape), dtype=dtype) / shape[-1] ** 0.5

    def uniform(*shape):
        return torch.tensor(rng.uniform(0.1, 0.9, shape), dtype=dtype)

    shape = {"none": None, "scalar": rows, "channel": (*rows, K)}[decay]
    if shape is not None:
        gates = -uniform(*shape) if log_decay is None else torch.full(shape, log_decay, dtype=dtype)
    key = normal(*rows, K)
    recurrence = Recurrence(
        query=normal(batch, steps, heads, K),
        key=key / key.norm(dim=-1, keepdim=True).clamp_min(1),
        value=normal(*rows, V),
        strength=uniform(*rows) if strength else None,
        erase=normal(*rows, K) if erase == "separate" else None,
        log_decay=gates if shape is not None else None,
        tied=erase == "tied",
        undecayed=undecayed,
        writes=writes,
    )
    state = normal(sequences or batch, heads, K, V).to(state_dtype(dtype))
    return placed(recurrence, state, lambda x: x.to(DEVICE))


def placed(recurrence, state, place):
    """The operands and the state, each put in its place."""
    tensors = {
        field.name: place(getattr(recurrence, field.name))
        for field in dataclasses.fields(recurrence)
        if isinstance(getattr(recurrence, field.name), torch.Tensor)
    }
    return dataclasses.replace(recurrence, **tensors), place(state)


def loss_of(outputs):
    """A loss that no symmetry hides from: every output weighed differently, through a sine."""
    return sum(
        (
            torch.sin(x.double())
            * torch.linspace(1, 2, x.numel(), dtype=torch.float64, device=x.device).view(x.shape)
        ).sum()
        for x in outputs
        if x is not None
    )


def everything(run, recurrence, state, *options, loss=loss_of):
    """Outputs and gradients by name."""
    recurrence, state = placed(recurrence, state, lambda x: x.detach().clone().requires_grad_())
    outputs = run(recurrence, state, *options)
    names = ("query", "key", "value", "strength", "erase", "log_decay")
    leaves = {n: x for n, x in zip(names, recurrence.operands, strict=True) if x is not None}
    leaves["state"] = state
    gradients = torch.autograd.grad(loss(outputs), list(leaves.values()), allow_unused=True)
    named = {
        f"gradient of {n}": torch.zeros_like(x) if g is None else g
        for (n, x), g in zip(leaves.items(), gradients, strict=True)
    }
    readouts = dict(zip(("readouts", "final", "kept"), outputs, strict=True))
    return {n: x.detach() for n, x in (readouts | named).items() if x is not None}


def exact(recurrence, state, *options, **losses):
    """Outputs and gradients step by step in float64."""
    return everything(
        recurrent.run, *placed(recurrence, state, torch.Tensor.double), *options, **losses
    )


def assert_follows(recurrence, state, *options, tolerance, **losses):
    """The kernels' outputs and gradients are those of float64 within a tolerance."""
    expected = exact(recurrence, state, *options, **losses)
    actual = everything(triton_recurrent.run, recurrence, state, *options, **losses)
    for name, x in expected.items():
        gradient = name.startswith("gradient") and tolerance == "float32"
        assert_close(
            actual[name].double().cpu(), x.cpu(), f"gradient {tolerance}" if gradient else tolerance
        )
        assert actual[name].dtype == dtype_of(name, recurrence)


def dtype_of(name, recurrence):
    dtype = recurrence.query.dtype
    return state_dtype(dtype) if name in {"final", "kept", "gradient of state"} else dtype


@pytest.mark.parametrize("switches", SWITCHES, ids=lambda s: "-".join(map(str, s.values())))
def test_every_switch_forward_and_backward(switches, rng):
    operands = random_operands(rng, **switches, batch=2, steps=2)
    assert_follows(*operands, 2, tolerance="float64")


@switched
def test_anchors_blocks_of_columns_heads_and_kept_states(switches, rng):
    """Past an anchor, V in three blocks, with trajectories."""
    steps = (ANCHORS[switches["decay"]] + 5) // switches["writes"]
    recurrence, state = random_operands(rng, **switches, steps=steps, heads=2, K=6, V=12)
    assert triton_recurrent._blocks(state, triton_recurrent.BACKWARD) == 3
    assert_follows(recurrence, state, 3, tolerance="float64")


@pytest.mark.parametrize("writes", [0, 1, 2, 3])
def test_ends_near_an_anchor(writes, rng):
    operands = random_operands(rng, **GATED | {"decay": "channel"}, steps=15 + writes)
    assert ANCHORS["channel"] == 16
    assert_follows(*operands, tolerance="float64")


@switched
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_shorter_dtypes_follow_float64(switches, dtype, rng):
    operands = random_operands(rng, **switches, steps=8, K=16, V=8, dtype=getattr(torch, dtype))
    assert_follows(*operands, 4, tolerance="float32" if dtype == "float32" else "bfloat16")


@switched
@pytest.mark.parametrize("keep_every", [None, 2])
def test_packed_sequences_empty_ones_too(switches, keep_every, rng):
    ends = (0, 0, 18, 19, 19, 22)
    operands = random_operands(rng, **switches, steps=ends[-1], sequences=len(ends) - 1)
    assert_follows(*operands, keep_every, ends, tolerance="float64")


@switched
@pytest.mark.parametrize("log_decay", [0.0, -1e-6, -5.0, -1000.0, float("-inf")])
def test_extreme_decays(switches, log_decay, rng):
    operands = random_operands(
        rng, **switches, steps=9, K=4, V=4, log_decay=log_decay, dtype=torch.float32
    )
    expected = exact(*operands)
    actual = everything(triton_recurrent.run, *operands)
    for name, x in expected.items():
        assert_close(actual[name].double().cpu(), x.cpu(), "gradient float32")


@switched
def test_forgetting_everything_once(switches, rng):
    recurrence, state = random_operands(rng, **switches, steps=6)
    recurrence.log_decay[:, 3 * switches["writes"]] = -1000.0
    assert_follows(recurrence, state, tolerance="float64")


@pytest.mark.parametrize(
    "size", [(1, 1), (8, 1), (16, 24), (24, 8), (60, 3), (100, 5), (128, 2), (256, 9)]
)
def test_sizes(size, rng):
    K, V = size
    operands = random_operands(rng, **GATED, steps=2, K=K, V=V)
    assert_follows(*operands, tolerance="float64")


@switched
@pytest.mark.parametrize("ends", [None, (0, 0, 0)], ids=["batch", "packed"])
def test_no_steps(switches, ends, rng):
    operands = random_operands(rng, **switches, steps=0, sequences=ends and 2)
    found = everything(triton_recurrent.run, *operands, 2, ends)
    assert torch.equal(found["final"], operands[1])
    assert found["kept"].shape[1] == found["readouts"].shape[1] == 0
    assert_close(
        found["gradient of state"].cpu(),
        exact(*operands, 2, ends)["gradient of state"].cpu(),
        "float64",
    )


@switched
@pytest.mark.parametrize("output", [0, 1, 2], ids=["readouts", "final", "kept"])
def test_gradients_through_one_output_alone(switches, output, rng):
    operands = random_operands(rng, **switches, steps=4)
    assert_follows(
        *operands, 2, tolerance="float64", loss=lambda outputs: loss_of([outputs[output]])
    )


@switched
def test_layouts_in_memory_do_not_matter_and_inputs_stay(switches, rng):
    recurrence, state = random_operands(rng, **switches, batch=2, heads=2)
    dense = placed(recurrence, state, lambda x: x[:1].expand_as(x).contiguous())
    spread = placed(recurrence, state, lambda x: x[:1].expand_as(x))
    flipped = placed(*dense, lambda x: x.transpose(0, 2).contiguous().transpose(0, 2))
    before = [x.clone() for x in flipped[0].operands if x is not None]
    found = [triton_recurrent.run(*operands, 2) for operands in (dense, spread, flipped)]
    for one, two, three in zip(*found, strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, three)
    after = [x for x in flipped[0].operands if x is not None]
    assert all(map(torch.equal, before, after))


@switched
def test_the_same_run_is_equal_to_the_bit(switches, rng):
    operands = random_operands(rng, **switches, steps=3, K=6, V=20, dtype=torch.float32)
    first = everything(triton_recurrent.run, *operands, 2)
    for _ in range(2):
        again = everything(triton_recurrent.run, *operands, 2)
        assert all(torch.equal(first[name], again[name]) for name in first)


def test_nothing_is_saved_without_gradients(rng):
    recurrence, state = random_operands(rng, **GATED)
    options = (None, True, False, 1, 0, 0)
    for save, sizes in ((False, 0), (True, recurrence.value.numel())):
        *_, write, _ = torch.ops.fwbio.triton_recurrent(*recurrence.operands, state, *options, save)
        assert write.numel() == sizes


def test_rounding_is_that_of_a_run_step_by_step(rng):
    """float32 gradients are off by at most twice what autograd in float32 is."""
    operands = random_operands(
        rng, **GATED, steps=100, K=16, V=16, dtype=torch.float32, log_decay=-0.1
    )
    expected = exact(*operands)
    ours = everything(triton_recurrent.run, *operands)
    plain = everything(recurrent.run, *operands)
    for name, x in expected.items():
        errors = [relative_error(run[name].double().cpu(), x.cpu()) for run in (ours, plain)]
        assert errors[0] <= TOLERANCES["times the rounding"].value * errors[1], name


def flat(recurrence, state, save=True):
    """The operator's arguments."""
    kept = recurrence.query.shape[1] // 2
    switches = (recurrence.tied, recurrence.undecayed, recurrence.writes)
    return (*recurrence.operands, state, None, *switches, 2, kept, save)


@switched
def test_operators_are_sound(switches, rng):
    """Schema, fake tensors, autograd and dynamic shapes, as torch checks them."""
    recurrence, state = random_operands(rng, **switches, steps=2)
    needing = placed(recurrence, state, lambda x: x.requires_grad_())
    torch.library.opcheck(torch.ops.fwbio.triton_recurrent, flat(*needing))
    recurrence, state = placed(recurrence, state, torch.Tensor.detach)
    y, final, kept, write, anchors = torch.ops.fwbio.triton_recurrent(*flat(recurrence, state))
    torch.library.opcheck(
        torch.ops.fwbio.triton_recurrent_backward,
        (
            *(*recurrence.operands, state, None, write, anchors, y, final, kept),
            *(recurrence.tied, recurrence.undecayed, recurrence.writes, 2),
        ),
    )


@switched
@pytest.mark.parametrize("ends", [None, (0, 3, 3, 5)], ids=["batch", "packed"])
def test_compiles_as_one_graph(switches, ends, rng):
    operands = random_operands(rng, **switches, sequences=ends and 3)
    compiled = torch.compile(triton_recurrent.run, fullgraph=True, backend="aot_eager")
    plain, graphed = (
        everything(run, *operands, 2, ends) for run in (triton_recurrent.run, compiled)
    )
    for name, x in plain.items():
        assert torch.equal(graphed[name], x), name


def test_second_derivatives_are_refused_in_words(rng):
    recurrence, state = random_operands(rng, **GATED)
    recurrence.query.requires_grad_()
    y, *_ = triton_recurrent.run(recurrence, state)
    (gradient,) = torch.autograd.grad(y.sin().sum(), recurrence.query, create_graph=True)
    with pytest.raises(FwbioError, match='use backend="recurrent"'):
        gradient.sum().backward()


def test_more_channels_than_fit_are_refused_in_words(rng):
    with pytest.raises(FwbioError, match=r"257 channels .* give 1 to 256"):
        triton_recurrent.run(*random_operands(rng, **GATED, steps=1, K=257, V=1))


def test_tensors_out_of_reach_are_refused_in_words():
    from triton.runtime.jit import JITFunction

    compiled = JITFunction(triton_steps.forward.fn)
    with pytest.raises(FwbioError, match=r"tensors are on cpu; .*TRITON_INTERPRET=1"):
        triton_common.check_device(compiled, torch.zeros(1))
