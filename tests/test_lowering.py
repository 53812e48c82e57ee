"""Rules that need more than one run of the recurrence, or a rescaled state: mlstm and mesa."""

import numpy as np
import pytest
import torch
from backends import backends
from programs import random_program, random_streams, random_tensors
from textbook import TEXTBOOK
from tolerances import assert_close

from fwbio import FwbioError, kernels, program, reference
from fwbio.kernels import scan
from fwbio.models.programmer import designed
from fwbio.normal_form import stabilisers
from fwbio.rule import Terms
from fwbio.tasks import TASKS


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own
@pytest.mark.parametrize("rule", ["delta", "linear_attention", "oja", "mlstm", "rwkv7", "mesa"])
@pytest.mark.parametrize("backend", ["recurrent", "chunked"])
def test_every_lowering_compiles_as_one_graph(rule, backend, rng):
    """Forward and backward, without a break; mesa then always takes 2 K iterations."""
    torch.compiler.reset()
    operands = {n: x.requires_grad_() for n, x in random_tensors(rule, rng, steps=3).items()}

    def read(operands):
        return scan(rule, **operands, return_states=2, backend=backend)

    compiled = torch.compile(read, fullgraph=True, backend="aot_eager")
    for actual, expected in zip(compiled(operands), read(operands), strict=True):
        assert_close(actual.detach(), expected.detach(), "float64")
    leaves = list(operands.values())
    actual, expected = (
        torch.autograd.grad(sum(x.sin().sum() for x in run(operands)), leaves)
        for run in (compiled, read)
    )
    for one, other in zip(actual, expected, strict=True):
        assert_close(one, other, "float64")


# The stabiliser of exponential writes


@pytest.mark.parametrize("start", [0.0, 7.0, 300.0])
@pytest.mark.parametrize("log_decay", [0.0, -1e-6, -0.3, -1000.0])
def test_a_stabiliser_is_its_recurrence(start, log_decay, rng):
    log_beta = rng.uniform(-50, 200, (40, 1))
    log_decay = np.full_like(log_beta, log_decay)
    before, after = stabilisers(
        log_decay, log_beta, xp=np, time_axis=0, start=np.full((1, 1), start)
    )
    m = start
    for t in range(40):
        assert_close(before[t], [m], "float64")
        m = max(m + log_decay[t, 0], log_beta[t, 0], 0.0)
        assert_close(after[t], [m], "float64")


@backends
def test_stabilised_is_unstabilised(backend, rng):
    """Where the weights as they are do not overflow: up to e^60."""
    streams = random_streams("mlstm", rng, steps=30)
    streams["log_beta"] = rng.uniform(-60, 60, 30)
    expected = list(TEXTBOOK["mlstm"](np.zeros((4, 3)), **streams))
    made = program.make("mlstm", **streams)
    for run in (reference.execute(made), kernels.execute(made, backend=backend, dtype="float64")):
        assert_close(run.readout, [y for y, _ in expected], "float64")
        assert_close(run.weights[-1], expected[-1][1], "float64")


@backends
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_scale_of_the_state_does_not_matter(backend, dtype, rng):
    operands = random_tensors("mlstm", rng, dtype=dtype)
    rescaled = operands["initial_state"].clone()
    rescaled[..., :-1] *= np.exp(1.5)
    rescaled[..., -1] -= 1.5
    y, state = scan("mlstm", **operands, backend=backend)
    same, other = scan("mlstm", **operands | {"initial_state": rescaled}, backend=backend)
    assert_close(same, y, str(dtype).removeprefix("torch."))
    true, again = (x[..., :-1] * x[..., -1:].exp() for x in (state, other))
    assert_close(again, true, str(dtype).removeprefix("torch."))


@backends
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("log_beta", [-800.0, -200.0, 0.0, 200.0])
@pytest.mark.parametrize("log_decay", [0.0, -1.0, -1000.0])
def test_writes_of_any_exponent_are_finite_and_right(backend, dtype, log_beta, log_decay, rng):
    operands = random_tensors("mlstm", rng, batch=1, heads=1, steps=20, dtype=dtype)
    del operands["initial_state"]
    operands |= {
        "q": operands["q"].abs(),
        "k": operands["k"].abs(),  # so that no normaliser is nearly 0
        "log_beta": log_beta + operands["log_beta"],
        "log_decay": torch.full_like(operands["log_decay"], log_decay),
    }
    names = {"q": "query", "k": "key", "v": "value"}
    streams = {names.get(n, n): x[0, :, 0].double().numpy() for n, x in operands.items()}
    expected = reference.execute(program.make("mlstm", **streams)).readout.values
    for x in operands.values():
        x.requires_grad_()
    y, state = scan("mlstm", **operands, backend=backend)
    if log_beta >= 0 or dtype == torch.float64:
        assert_close(y[0, :, 0].detach(), expected, str(dtype).removeprefix("torch."))
    else:
        assert max(y.abs().max(), abs(expected).max()) < 1e-30
    assert torch.isfinite(state).all()
    for gradient in torch.autograd.grad(y.sum(), list(operands.values())):
        assert torch.isfinite(gradient).all()


@backends
def test_huge_writes_go_through_the_state(backend, rng):
    """One call equals two in float32, where the true weights, e^200, have no float32."""
    operands = random_tensors("mlstm", rng, dtype=torch.float32, steps=12, heads=2)
    operands["log_beta"] = 200 + operands["log_beta"]
    state = operands.pop("initial_state")
    whole, final = scan("mlstm", **operands, initial_state=state, backend=backend)
    parts = []
    for part in (slice(5), slice(5, 12)):
        here = {name: x[:, part] for name, x in operands.items()}
        y, state = scan("mlstm", **here, initial_state=state, backend=backend)
        parts.append(y)
    assert_close(torch.cat(parts, 1), whole, "float32")
    assert_close(state, final, "float32")


def test_a_long_memory_that_forgets_everything_keeps_its_scale(rng):
    """The sums of log decays reach -1e8, their small differences are still right."""
    steps = 100_000
    log_beta = rng.uniform(-5, 5, (steps, 1))
    _, after = stabilisers(np.full_like(log_beta, -1000.0), log_beta, xp=np, time_axis=0)
    assert np.abs(after - np.maximum(log_beta, 0)).max() < 1e-7


@backends
def test_programs_go_on_from_weights_beyond_float32(backend, rng):
    streams = random_streams("mlstm", rng, steps=8)
    streams["log_beta"] = 150 + streams["log_beta"]
    halves = [{name: x[part] for name, x in streams.items()} for part in np.s_[:4, 4:]]
    first = kernels.execute(program.make("mlstm", **halves[0]), backend=backend)
    assert np.abs(first.weights).max() > np.finfo(np.float32).max
    state = {
        "initial_weights": first.weights[-1],
        "initial_normaliser": first.normaliser[-1],
    }
    second = kernels.execute(program.make("mlstm", **halves[1], **state), backend=backend)
    whole = reference.execute(program.make("mlstm", **streams))
    assert_close(second.readout, whole.readout[4:], "float32")
    assert_close(second.weights, whole.weights, "float32")


def test_exponential_writes_need_a_bounded_normaliser():
    with pytest.raises(FwbioError, match=r"^Terms: exponential writes .* normaliser='bounded'"):
        Terms(decay="scalar", write="exponential")
    with pytest.raises(FwbioError, match=r"^Terms: exponential writes .* decay='scalar'"):
        Terms(write="exponential", normaliser="bounded")


def test_a_strength_without_a_logarithm_is_told():
    episode = TASKS["random_pairs"](seed=1, trials=1, pairs=2)
    with pytest.raises(FwbioError, match=r"^designed programmer: the strength 0 has no logarithm"):
        designed(episode, "mlstm", strength=0.0)


# The least squares read


@backends
@pytest.mark.parametrize("ridge", [1e-2, 1.0, 1e3])
def test_least_squares_of_many_repeated_keys(backend, ridge, rng):
    """The system's condition is that of the keys' second moments, up to 1e4 here."""
    streams = random_streams("mesa", rng, steps=60, pre=8)
    streams["key"][20:] = streams["key"][20]
    streams["ridge"][:] = ridge
    streams["log_decay"][:] = 0.0
    made = program.make("mesa", **streams)
    expected = reference.execute(made)
    run = kernels.execute(made, backend=backend, dtype="float64")
    assert_close(run.readout, expected.readout, "float64")
    single = kernels.execute(made, backend=backend, dtype="float32")
    assert_close(single.readout, expected.readout, "least squares float32")


@backends
def test_ridges_of_any_scale(backend, rng):
    """Channels of very different scale, which the diagonal takes care of."""
    streams = random_streams("mesa", rng, steps=30, pre=8)
    scale = 10.0 ** np.arange(-3, 5)
    streams["key"] *= scale
    streams["query"] *= scale
    streams["ridge"] *= scale**2
    made = program.make("mesa", **streams)
    run = kernels.execute(made, backend=backend, dtype="float64")
    assert_close(run.readout, reference.execute(made).readout, "float64")


@backends
def test_queries_of_zero_and_of_any_size_are_solved(backend, rng):
    operands = random_tensors("mesa", rng, dtype=torch.float32, steps=6)
    plain = scan("mesa", **operands, backend=backend)[0]
    for size in (0.0, 1e-30, 1e30):
        scaled = scan("mesa", **operands | {"q": size * operands["q"]}, backend=backend)[0]
        assert_close(scaled, size * plain, "float32")


@backends
def test_a_second_derivative_of_a_solution_is_refused(backend, rng):
    operands = {n: x.requires_grad_() for n, x in random_tensors("mesa", rng, steps=2).items()}
    y, _ = scan("mesa", **operands, backend=backend)
    (gradient,) = torch.autograd.grad(y.sum(), operands["q"], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


GRAMS = {
    "no gram": ({"initial_weights": np.zeros((4, 3))}, r"^initial_weights: .* second moments of"),
    "a gram alone": ({"initial_gram": np.eye(4)}, r"^initial_weights: .* initial_gram, or neither"),
    "a gram that is no square": (
        {"initial_weights": np.zeros((4, 3)), "initial_gram": np.ones((4, 3))},
        "'initial_gram' is not symmetric",
    ),
    "a gram that is not symmetric": (
        {"initial_weights": np.zeros((4, 3)), "initial_gram": np.tri(4)},
        "'initial_gram' is not symmetric",
    ),
    "a ridge of 0": ({"ridge": 0.0}, r"'ridge' is not above 0, first at step 0, pre 0 \(0\)"),
    "no ridge": ({"ridge": None}, "ridge: the rule 'mesa' needs 'ridge'; give it as"),
}


@pytest.mark.parametrize("mistake", GRAMS)
def test_a_mistake_in_a_least_squares_program_is_told(mistake, rng):
    wrong, told = GRAMS[mistake]
    with pytest.raises(FwbioError, match=told):
        program.make("mesa", **random_streams("mesa", rng) | wrong)


def test_a_number_stands_for_every_second_moment(rng):
    streams = random_streams("mesa", rng)
    made = program.make("mesa", **streams, initial_weights=0.0, initial_gram=0.0)
    assert made.initial_gram.shape == (4, 4)
    assert_close(
        reference.execute(made).readout,
        reference.execute(program.make("mesa", **streams)).readout,
        "float64",
    )


def test_other_rules_have_no_second_moments(rng):
    with pytest.raises(FwbioError, match="the rule 'hebb' has no gram"):
        reference.execute(
            random_program("hebb", rng, trials=None).assign(
                initial_gram=(("pre", "pre_other"), np.eye(4))
            )
        )
