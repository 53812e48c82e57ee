"""The kernels' entry: gradients, causality, packing, layouts, extreme gates, repetition."""

import itertools

import numpy as np
import pytest
import torch
from backends import backends
from programs import random_streams, random_tensors
from tolerances import assert_close

from fwbio import RULES, kernels, program, reference
from fwbio.kernels import scan

rules = pytest.mark.parametrize("rule", RULES)
DECAYING = [name for name, rule in RULES.items() if "log_decay" in rule.streams]


def needing_gradients(operands):
    return {name: x.detach().clone().requires_grad_() for name, x in operands.items()}


def loss_of(outputs):
    """A loss that no symmetry hides from: every output weighed differently, through a sine."""
    return sum(
        (torch.sin(x) * torch.linspace(1, 2, x.numel(), dtype=x.dtype).view(x.shape)).sum()
        for x in outputs
    )


def gradients(rule, operands, **options):
    leaves = needing_gradients(operands)
    return dict(
        zip(
            leaves,
            torch.autograd.grad(loss_of(scan(rule, **leaves, **options)), list(leaves.values())),
            strict=True,
        )
    )


@rules
@backends
def test_gradients_of_every_input_through_every_output(rule, backend, rng):
    """By finite differences: read-outs, final state and kept states, initial state included."""
    operands = needing_gradients(
        random_tensors(rule, rng, batch=1, heads=2, steps=3, pre=3, post=2, substeps=2)
    )

    def run(*tensors):
        named = dict(zip(operands, tensors, strict=True))
        return scan(rule, **named, scale=0.7, return_states=2, backend=backend)

    assert torch.autograd.gradcheck(run, tuple(operands.values()))


@rules
@backends
def test_float32_gradients_follow_float64(rule, backend, rng):
    double = random_tensors(rule, rng, batch=2, heads=2, steps=33, pre=8, post=5)
    single = {name: x.float() for name, x in double.items()}
    options = {"return_states": 8, "backend": backend}
    expected, actual = (gradients(rule, operands, **options) for operands in (double, single))
    for name in double:
        assert_close(actual[name], expected[name], "gradient float32")


@rules
@backends
def test_the_default_decay_and_missing_gates_have_gradients_too(rule, backend, rng):
    needed = {"q", "k", "v"} | {s for s in RULES[rule].streams if RULES[rule].needs(s)}
    operands = random_tensors(rule, rng, heads=3)
    bare = {name: operands[name] for name in operands if name in needed}
    for gradient in gradients(rule, bare, backend=backend).values():
        assert torch.isfinite(gradient).all()
        assert gradient.abs().sum() > 0


@backends
@pytest.mark.parametrize("rule", [n for n, r in RULES.items() if r.terms.feature != "identity"])
def test_features_of_large_inputs_have_finite_gradients(rule, backend, rng):
    operands = random_tensors(rule, rng)
    large = operands | {name: 2000 * operands[name] for name in ("q", "k")}
    for gradient in gradients(rule, large, backend=backend).values():
        assert torch.isfinite(gradient).all()


def test_retnet_decays_by_head_unless_told(rng):
    operands = random_tensors("retnet", rng, heads=3)
    del operands["log_decay"]
    by_head = torch.log(1 - 2.0 ** -(5 + torch.arange(3, dtype=torch.float64)))
    given = scan("retnet", **operands, log_decay=by_head.view(1, 1, 3))
    assert_close(scan("retnet", **operands)[0], given[0], "float64")


@rules
@backends
def test_the_future_changes_nothing_before_it(rule, backend, rng):
    """Outputs before step P, and gradients of a loss on them, are equal to the bit."""
    P, operands = 4, random_tensors(rule, rng, steps=7, substeps=2)
    other = random_tensors(rule, rng, steps=7, substeps=2)

    def prefix(name, x):
        return x[:, : P * x.shape[1] // 7] if name != "initial_state" else x

    changed = {
        name: torch.cat([prefix(name, x), other[name][:, prefix(name, x).shape[1] :]], 1)
        for name, x in operands.items()
    }
    seen = []
    for given in (operands, changed):
        leaves = needing_gradients(given)
        y, _, states = scan(rule, **leaves, return_states=2, backend=backend)
        past = (y[:, :P], states[:, : P // 2])
        grads = torch.autograd.grad(loss_of(past), list(leaves.values()), allow_unused=True)
        for name, gradient in zip(leaves, grads, strict=True):
            if name != "initial_state":
                assert not gradient[:, prefix(name, gradient).shape[1] :].any()
        seen.append([*past, *(prefix(n, g) for n, g in zip(leaves, grads, strict=True))])
    for one, two in zip(*seen, strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("rule", [name for name, r in RULES.items() if not r.terms.traces])
@backends
def test_one_call_equals_two_through_the_state(rule, backend, rng):
    """The state carries all there is, the normaliser's column and the transposed side included."""
    operands = random_tensors(rule, rng, steps=7, substeps=2)
    state = operands.pop("initial_state")
    y, final = scan(rule, **operands, initial_state=state, backend=backend)
    parts = []
    for start, end in ((0, 3), (3, 3), (3, 7)):
        n = {name: x.shape[1] // 7 for name, x in operands.items()}
        part = {name: x[:, n[name] * start : n[name] * end] for name, x in operands.items()}
        read, state = scan(rule, **part, initial_state=state, backend=backend)
        parts.append(read)
    assert_close(torch.cat(parts, 1), y, "float64")
    assert_close(state, final, "float64")


@rules
@backends
def test_kept_states_are_those_of_shorter_runs(rule, backend, rng):
    operands = random_tensors(rule, rng, steps=7, substeps=2)
    _, final, states = scan(rule, **operands, return_states=3, backend=backend)
    assert states.shape == (2, 2, *final.shape[1:])
    for kept, end in ((0, 3), (1, 6)):
        shorter = {
            name: x if name == "initial_state" else x[:, : end * x.shape[1] // 7]
            for name, x in operands.items()
        }
        assert_close(states[:, kept], scan(rule, **shorter, backend=backend)[1], "float64")
    assert scan(rule, **operands, return_states=8, backend=backend)[2].shape[1] == 0


@rules
@backends
def test_packed_sequences_equal_a_loop_over_them(rule, backend, rng):
    lengths = [3, 0, 1, 5, 0]
    ends = [0, *itertools.accumulate(lengths)]
    operands = random_tensors(rule, rng, batch=1, steps=sum(lengths), substeps=2)
    shape = operands.pop("initial_state").shape
    states = torch.tensor(rng.uniform(0, 1, (len(lengths), *shape[1:])))
    y, final, kept = scan(
        rule,
        **operands,
        initial_state=states,
        cu_seqlens=torch.tensor(ends),
        return_states=2,
        backend=backend,
    )
    n = {name: x.shape[1] // sum(lengths) for name, x in operands.items()}
    loop = [
        scan(
            rule,
            **{name: x[:, n[name] * start : n[name] * end] for name, x in operands.items()},
            initial_state=states[i : i + 1],
            return_states=2,
            backend=backend,
        )
        for i, (start, end) in enumerate(itertools.pairwise(ends))
    ]
    assert_close(y, torch.cat([part[0] for part in loop], 1), "float64")
    assert_close(final, torch.cat([part[1] for part in loop]), "float64")
    assert_close(kept, torch.cat([part[2] for part in loop], 1), "float64")


@rules
@backends
def test_layouts_in_memory_do_not_matter_and_inputs_stay(rule, backend, rng):
    dense = random_tensors(rule, rng, heads=3)
    dense["q"] = dense["q"][:, :1].expand_as(dense["q"]).contiguous()
    strided = {
        name: x.transpose(1, 2).contiguous().transpose(1, 2) for name, x in dense.items()
    } | {"q": dense["q"][:, :1].expand_as(dense["q"])}
    assert not any(x.is_contiguous() for x in strided.values())
    before = {name: x.clone() for name, x in strided.items()}
    for one, two in zip(
        scan(rule, **strided, backend=backend), scan(rule, **dense, backend=backend), strict=True
    ):
        assert_close(one, two, "float64")
    assert all(torch.equal(strided[name], x) for name, x in before.items())


@rules
@backends
def test_sizes_of_one_and_numbers_are_spread(rule, backend, rng):
    operands = random_tensors(rule, rng)
    for name in RULES[rule].streams:
        gate = operands[name]
        narrow = gate[:1, :1, :, :1] if gate.ndim == 4 else gate[:1, :1]
        for spread in (narrow, narrow.ravel()[0].item()):
            full = torch.as_tensor(spread, dtype=gate.dtype).expand_as(gate).contiguous()
            given = scan(rule, **operands | {name: spread}, backend=backend)
            expected = scan(rule, **operands | {name: full}, backend=backend)
            assert_close(given[0], expected[0], "float64")


@rules
def test_scale_multiplies_the_readout(rule, rng):
    operands = random_tensors(rule, rng)
    (plain, state), (scaled, same) = scan(rule, **operands), scan(rule, **operands, scale=0.3)
    assert_close(scaled, 0.3 * plain, "float64")
    assert torch.equal(state, same)


@rules
@backends
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("wide_gates", [False, True])
def test_short_dtypes_have_single_states(rule, backend, dtype, wide_gates, rng):
    """Against float64 on the same rounded inputs; gates and states in either dtype."""
    operands = random_tensors(rule, rng, steps=20, pre=8, post=6, dtype=dtype)
    wide = {*RULES[rule].streams, "initial_state"} if wide_gates else set()
    given = {name: x.float() if name in wide else x for name, x in operands.items()}
    outputs = scan(rule, **given, return_states=4, backend=backend)
    assert [x.dtype for x in outputs] == [dtype, torch.float32, torch.float32]
    exact = scan(rule, **{name: x.double() for name, x in operands.items()}, return_states=4)
    for actual, expected in zip(outputs, exact, strict=True):
        assert_close(actual.float(), expected, "bfloat16")


@rules
@backends
def test_autocast_changes_nothing(rule, backend, rng):
    operands = random_tensors(rule, rng, dtype=torch.float32)
    plain = scan(rule, **operands, backend=backend)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = scan(rule, **operands, backend=backend)
    assert all(map(torch.equal, plain, cast))


@rules
@backends
def test_the_same_run_is_equal_to_the_bit(rule, backend, rng):
    operands = random_tensors(rule, rng, dtype=torch.float32, steps=9)

    def everything():
        outputs = scan(rule, **operands, return_states=2, backend=backend)
        return [*outputs, *gradients(rule, operands, backend=backend).values()]

    first = everything()
    for _ in range(4):
        assert all(map(torch.equal, first, everything()))


def extreme(rule, rng, **gates):
    """Streams of a rule with constant gates, and repeated, zero and orthogonal unit keys."""
    streams = random_streams(rule, rng, steps=8, pre=4, post=3, substeps=2)
    corrected = "value" if RULES[rule].terms.transposed else "key"
    x = streams[corrected]
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    x[2:5] = x[2]
    x[6] = 0.0
    for name, value in gates.items():
        if name in streams:
            streams[name] = np.full_like(streams[name], value)
    return streams


def assert_finite_and_right(rule, streams, backend, device):
    expected = reference.execute(program.make(rule, **streams))
    assert np.isfinite(expected.readout).all()
    for dtype in ("float64", "float32"):
        run = kernels.execute(
            program.make(rule, **streams), backend=backend, dtype=dtype, device=device
        )
        passed = rule == "calcium" and dtype == "float32"
        tolerance = "passed thresholds float32" if passed else dtype
        assert_close(run.readout, expected.readout, tolerance)
        assert_close(run.weights, expected.weights, tolerance)
    for dtype in (torch.float64, torch.float32):
        flat = {}
        for name, x in streams.items():
            wide = x.reshape(-1, *x.shape[2:]) if name in {"key", "value"} and x.ndim == 3 else x
            wide = wide.ravel() if name == "beta" and RULES[rule].terms.substeps else wide
            name = {"key": "k", "value": "v", "query": "q"}.get(name, name)
            flat[name] = torch.tensor(wide, dtype=dtype)[None, :, None]
        for gradient in gradients(rule, flat, backend=backend).values():
            assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("rule", DECAYING)
@backends
@pytest.mark.parametrize("log_decay", [0.0, -1e-6, -5.0, -1000.0])
def test_extreme_decays_are_finite_and_right(rule, backend, log_decay, rng, device):
    assert_finite_and_right(rule, extreme(rule, rng, log_decay=log_decay), backend, device)


@rules
@backends
@pytest.mark.parametrize("beta", [0.0, 1.0, 2.0])
def test_extreme_strengths_are_finite_and_right(rule, backend, beta, rng, device):
    """At 0 nothing is written, at 1 a pair is exchanged, at 2 a prediction changes its sign."""
    assert_finite_and_right(rule, extreme(rule, rng, beta=beta, erase=beta), backend, device)


@pytest.mark.parametrize("log_decay", [-5.0, -1000.0])
@pytest.mark.parametrize("rule", [r for r in DECAYING if RULES[r].terms.reads == "decayed"])
def test_complete_forgetting_leaves_the_last_write(rule, log_decay, rng):
    streams = extreme(rule, rng, log_decay=log_decay, beta=1.0)
    one = {name: x[-1:] for name, x in streams.items()}
    whole, last = (reference.execute(program.make(rule, **s)).weights for s in (streams, one))
    difference = np.abs(whole.values - last.values).max()
    assert difference <= np.exp(log_decay) * 20 * np.abs(whole.values).max()


def test_an_empty_normalised_memory_reads_zero(rng):
    streams = random_streams("linear_attention", rng, steps=3) | {"beta": np.array([0.0, 0, 1])}
    readout = reference.execute(program.make("linear_attention", **streams)).readout.values
    assert not readout[:2].any()
    assert_close(readout[2], streams["value"][2], "float64")
