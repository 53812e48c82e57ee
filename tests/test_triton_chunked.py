"""The chunked Triton kernels, by the interpreter: every switch, forward and backward."""

import functools
import inspect
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from recurrences import (
    SWITCHES,
    cast,
    changed,
    everything,
    random_recurrence,
    step_by_step,
    weights,
)
from tolerances import TOLERANCES, assert_close, relative_error

from fwbio import FwbioError
from fwbio.kernels import recurrent
from fwbio.kernels.recurrence import state_dtype

pytest.importorskip("triton")
import triton

from fwbio.kernels import triton_chunked, triton_chunks
from fwbio.kernels.triton_chunked_plan import chunk_count, layout_of, pieces_for, tiles

run = functools.partial(triton_chunked.run, chunk=16)
GATED, MOST = ("scalar", "tied", False), ("channel", "separate", True)
switched = pytest.mark.parametrize(
    "switches", SWITCHES, ids=lambda s: f"{s[0]}-{s[1]}{'-undecayed' if s[2] else ''}"
)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
some = pytest.mark.parametrize("switches", [GATED, MOST], ids=["gated delta", "most"])


@pytest.fixture(autouse=True)
def device():
    """Where tensors are made: where the kernels run, interpreted or not."""
    with torch.device(DEVICE):
        yield DEVICE


@pytest.fixture(scope="module", autouse=True)
def interpreter():
    """Triton's interpreter, spared most of its work, and rounding to bfloat16 as a GPU does.

    It patches the language anew for every function that a kernel calls, though it is patched
    already, which takes most of its time; and it rounds to bfloat16 by leaving bits away.
    """
    if not triton.knobs.runtime.interpret:
        yield
        return
    interpreted = pytest.importorskip("triton.runtime.interpreter")
    language, patch_language = triton.language, interpreted._patch_lang
    convert = interpreted._convert_float

    def patch(function):
        modules = [x for x in function.__globals__.values() if inspect.ismodule(x)]
        spoken = [x for x in modules if x is language or x is language.core]
        if any(language.core.is_builtin(module.load) for module in spoken):
            return patch_language(function)
        return interpreted._LangPatchScope()

    def to_nearest(x, source, target, mode):
        if (source, target) == (language.float32, language.bfloat16):
            bits = np.ascontiguousarray(x).view(np.uint32)
            x = (bits + 0x7FFF + ((bits >> 16) & 1)).view(np.float32)
        return convert(x, source, target, mode)

    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(interpreted, "_patch_lang", patch)
        patches.setattr(interpreted, "_convert_float", to_nearest)
        yield


def assert_follows(recurrence, state, rng, *, tolerance="float64", **options):
    """Outputs and gradients are those of the plain loop in float64."""
    own = {n: options.pop(n) for n in ("chunk", "pieces", "precision") if n in options}
    weigh = weights(rng)
    wide = state_dtype(recurrence.query.dtype)
    exact = cast(recurrence, torch.float64)
    expected = step_by_step(exact, state.to(wide).double(), weigh, **options)
    actual = everything(functools.partial(run, **own), recurrence, state.to(wide), weigh, **options)
    assert actual.keys() == expected.keys()
    for name, x in expected.items():
        of_gradient = f"gradient {tolerance}" if name.startswith("gradient") else tolerance
        bound = of_gradient if of_gradient in TOLERANCES else tolerance
        assert_close(actual[name].double(), x, bound)


@switched
@pytest.mark.parametrize("writes", [1, 2])
def test_every_switch_forward_and_backward(switches, writes, rng):
    recurrence, state = random_recurrence(
        switches, rng, steps=9 * (3 - writes), batch=1, heads=1, writes=writes, pre=5, post=3
    )
    assert_follows(recurrence, state, rng)


@pytest.mark.parametrize("erase", ["none", "tied"])
def test_strength_may_be_missing(erase, rng):
    recurrence, state = random_recurrence(("scalar", erase, False), rng, steps=18, batch=1)
    assert_follows(replace(recurrence, strength=None), state, rng)


@pytest.mark.parametrize("steps", [0, 1, 2, 15, 16, 17, 63, 64, 65, 127])
def test_every_length(steps, rng):
    recurrence, state = random_recurrence(GATED, rng, steps=steps, batch=1, heads=1)
    assert_follows(recurrence, state, rng, chunk=64)


@some
@pytest.mark.parametrize("chunk", [16, 32, 64])
def test_every_chunk(switches, chunk, rng):
    recurrence, state = random_recurrence(switches, rng, steps=70, batch=1, heads=1)
    assert_follows(recurrence, state, rng, chunk=chunk)


@pytest.mark.parametrize(
    ("switches", "pre", "post"),
    [(GATED, *sizes) for sizes in ((1, 24), (24, 1), (60, 8), (8, 100), (100, 60))]
    + [(MOST, 1, 8), (MOST, 24, 60)],
)
def test_every_size(switches, pre, post, rng):
    recurrence, state = random_recurrence(
        switches, rng, steps=9, batch=1, heads=1, pre=pre, post=post
    )
    assert_follows(recurrence, state, rng)


@pytest.mark.parametrize("empty", [{"batch": 0}, {"heads": 0}, {"pre": 0}, {"post": 0}])
def test_empty_sizes(empty, rng):
    recurrence, state = random_recurrence(GATED, rng, **({"batch": 1, "steps": 4} | empty))
    weigh = weights(rng)
    outputs = everything(run, recurrence, state, weigh, keep_every=2)
    expected = step_by_step(recurrence, state, weigh, keep_every=2)
    for name, x in expected.items():
        assert_close(outputs[name], x, "float64")


@some
@pytest.mark.parametrize("keep_every", [1, 7, 16, 20, 30])
def test_kept_states_and_their_gradients(switches, keep_every, rng):
    recurrence, state = random_recurrence(
        switches, rng, steps=4 if keep_every == 1 else 22, batch=1, heads=1
    )
    assert_follows(recurrence, state, rng, keep_every=keep_every)


@some
@pytest.mark.parametrize("keep_every", [None, 6])
def test_packed_sequences_and_empty_ones(switches, keep_every, rng):
    recurrence, _ = random_recurrence(switches, rng, steps=25, batch=1, heads=1, writes=2)
    ends = (0, 0, 1, 14, 14, 25, 25)
    state = torch.as_tensor(rng.standard_normal((len(ends) - 1, 1, 4, 3)))
    assert_follows(recurrence, state, rng, keep_every=keep_every, ends=ends)


@some
def test_time_in_pieces_follows(switches, rng):
    recurrence, state = random_recurrence(switches, rng, steps=52, batch=1, heads=1, pre=18)
    assert_follows(recurrence, state, rng, pieces=3, keep_every=20)


def test_packed_sequences_in_pieces(rng):
    recurrence, _ = random_recurrence(GATED, rng, steps=40, batch=1, heads=1)
    state = torch.as_tensor(rng.standard_normal((3, 1, 4, 3)))
    assert_follows(recurrence, state, rng, pieces=2, ends=(0, 5, 5, 40))


@switched
def test_float32(switches, rng):
    recurrence, state = random_recurrence(switches, rng, steps=35, batch=1, heads=1, pre=8)
    assert_follows(cast(recurrence, torch.float32), state, rng, tolerance="float32", chunk=32)


@some
@pytest.mark.parametrize("precision", ["tf32", "tf32x3"])
def test_precisions(switches, precision, rng):
    recurrence, state = random_recurrence(switches, rng, steps=18, batch=1, heads=1)
    single = cast(recurrence, torch.float32)
    assert_follows(single, state, rng, tolerance="tf32", precision=precision)


def test_float64_has_one_precision(rng):
    recurrence, state = random_recurrence(GATED, rng, steps=18, batch=1, heads=1)
    assert_follows(recurrence, state, rng, precision="bf16")


@some
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_short_dtypes(switches, dtype, rng):
    recurrence, state = random_recurrence(switches, rng, steps=35, batch=1, heads=1, pre=8)
    assert_follows(cast(recurrence, dtype), state, rng, tolerance="bfloat16", chunk=32)


@some
def test_bfloat16_may_have_finer_products(switches, rng):
    """Then only operands and results are rounded."""
    recurrence, state = random_recurrence(switches, rng, steps=35, batch=1, heads=1, pre=8)
    short = cast(recurrence, torch.bfloat16)
    final, finer = (run(short, state.float(), precision=p)[1] for p in (None, "tf32"))
    expected = recurrent.run(cast(short, torch.float64), state.float().double())[1]
    assert relative_error(finer, expected) < TOLERANCES["tf32"].value
    assert relative_error(final, expected) > relative_error(finer, expected)


def test_gates_of_the_states_dtype_keep_it(rng):
    recurrence, state = random_recurrence(GATED, rng, steps=18, batch=1, heads=1)
    wide = {"strength": torch.float32, "log_decay": torch.float32}
    mixed = changed(recurrence, lambda name, x: x.to(wide.get(name, torch.bfloat16)))
    found = everything(run, mixed, state.float(), weights(rng))
    assert found["y"].dtype == found["gradient of key"].dtype == torch.bfloat16
    for name in ("final", "gradient of state", "gradient of strength", "gradient of log_decay"):
        assert found[name].dtype == torch.float32
    assert_follows(mixed, state, rng, tolerance="bfloat16")


@some
@pytest.mark.parametrize("log_decay", [0.0, -1e-6, -5.0, -1000.0])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_extreme_decays(switches, log_decay, dtype, rng):
    recurrence, state = random_recurrence(switches, rng, steps=19, batch=1, heads=1)
    extreme = replace(recurrence, log_decay=torch.full_like(recurrence.log_decay, log_decay))
    assert_follows(cast(extreme, getattr(torch, dtype)), state, rng, tolerance=dtype, chunk=32)


@some
def test_a_decay_beside_a_reset_stays_exact(switches, rng):
    """No difference of sums of log decays: beside -1000, float32 knows -1e-3 no more."""
    recurrence, state = random_recurrence(switches, rng, steps=40, batch=1, heads=1)
    gates = recurrence.log_decay.clone()
    gates[:, ::9] = -1000.0
    mixed = cast(replace(recurrence, log_decay=gates), torch.float32)
    assert_follows(mixed, state, rng, tolerance="float32", chunk=32)


def test_a_decay_of_minus_infinity_resets(rng):
    recurrence, state = random_recurrence(MOST, rng, steps=19, batch=1, heads=1)
    gates = recurrence.log_decay.clone()
    gates[:, 7] = -torch.inf
    assert_follows(replace(recurrence, log_decay=gates), state, rng)


@pytest.mark.parametrize("strength", [0.0, 1.0, 2.0])
def test_extreme_strengths_of_repeated_keys(strength, rng):
    recurrence, state = random_recurrence(GATED, rng, steps=40, batch=1, heads=1)
    recurrence = replace(
        recurrence,
        strength=torch.full_like(recurrence.strength, strength),
        key=recurrence.key[:, :1].expand_as(recurrence.key),
    )
    assert_follows(recurrence, state, rng, chunk=32)


@pytest.mark.parametrize("scale", [0.0, 1.6])
def test_zero_and_unnormalised_keys(scale, rng):
    recurrence, state = random_recurrence(GATED, rng, steps=20, batch=1, heads=1)
    assert_follows(replace(recurrence, key=scale * recurrence.key), state, rng, chunk=32)


def test_layouts_do_not_matter_and_inputs_stay(rng):
    recurrence, state = random_recurrence(GATED, rng, steps=18, batch=2)

    def strided(name, x):
        if name == "strength":
            return x[:, :, :1].expand_as(x)
        return x.transpose(1, 2).contiguous().transpose(1, 2)

    laid_out = changed(recurrence, strided)
    plain = changed(laid_out, lambda _, x: x.contiguous())
    before = [x.clone() for x in laid_out.operands if x is not None]
    outputs = run(laid_out, state.mT.contiguous().mT)
    for x, y in zip(outputs[:2], run(plain, state)[:2], strict=True):
        assert torch.equal(x, y)
    for x, y in zip(before, (x for x in laid_out.operands if x is not None), strict=True):
        assert torch.equal(x, y)


@some
def test_what_comes_later_changes_nothing(switches, rng):
    recurrence, state = random_recurrence(switches, rng, steps=40, batch=1, heads=1)

    def later(_, x):
        return torch.cat([x[:, :21], x[:, 21:].flip(1)], 1)

    y, other = (run(r, state)[0] for r in (recurrence, changed(recurrence, later)))
    assert torch.equal(y[:, :21], other[:, :21])


@some
def test_one_call_equals_two_through_the_state(switches, rng):
    recurrence, state = random_recurrence(switches, rng, steps=40, batch=1, heads=1)
    y, final, _ = run(recurrence, state)
    first, between, _ = run(recurrence.between(0, 21), state)
    second, last, _ = run(recurrence.between(21, 40), between)
    assert_close(torch.cat([first, second], 1), y, "float64")
    assert_close(last, final, "float64")


@some
def test_repetition_is_equal_to_the_bit(switches, rng):
    recurrence, state = random_recurrence(switches, rng, steps=20, batch=1, dtype=torch.float32)
    weigh = weights(rng)
    first = everything(run, recurrence, state, weigh, keep_every=6)
    for _ in range(2):
        again = everything(run, recurrence, state, weigh, keep_every=6)
        assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize("keep_every", [0, 1, 5, 16, 20, 33])
def test_chunks_cover_every_row_and_end_where_states_are_kept(keep_every):
    ends = (0, 0, 40, 41, 41, 107)
    layout = layout_of(ends, 16, keep_every, 3, torch.device("cpu"))
    chunks = layout.chunks.tolist()
    assert [row for start, size, _ in chunks for row in range(start, start + size)] == [*range(107)]
    kept = [(start + size, index) for start, size, index in chunks if index >= 0]
    stops = [
        row
        for a, b in itertools.pairwise(ends)
        for row in range(a + 1, b + 1)
        if keep_every and (row - a) % keep_every == 0
    ]
    assert kept == [(row, index) for index, row in enumerate(stops)]
    counts = [chunk_count(b - a, 16, keep_every) for a, b in itertools.pairwise(ends)]
    assert sum(counts) == len(chunks)


def operator_arguments(recurrence, state, keep_every, save=True):
    operands = [None if x is None else x.detach().requires_grad_() for x in recurrence.operands]
    switches = (recurrence.tied, recurrence.undecayed, keep_every, None)
    return (*operands, state.detach().requires_grad_(), *switches, "ieee", 16, 0, save)


@some
def test_operators_pass_opcheck(switches, rng):
    recurrence, state = random_recurrence(switches, rng, steps=5, batch=1, heads=1)
    torch.library.opcheck(
        torch.ops.fwbio.triton_chunked.default, operator_arguments(recurrence, state, 2)
    )


def test_the_backward_operator_passes_opcheck(rng):
    recurrence, state = random_recurrence(GATED, rng, steps=5, batch=1, heads=1)
    arguments = operator_arguments(recurrence, state, 2)
    with torch.no_grad():
        y, final, kept, states = torch.ops.fwbio.triton_chunked(*arguments)
    operands = [None if x is None else x.detach() for x in arguments[:6]]
    torch.library.opcheck(
        torch.ops.fwbio.triton_chunked_backward.default,
        (y, final, kept, states, *operands, *arguments[7:14]),
        test_utils=("test_schema", "test_faketensor"),
    )


@some
def test_it_compiles_as_one_graph(switches, rng):
    recurrence, state = random_recurrence(switches, rng, steps=6, batch=1, heads=1, writes=2)

    def both(query, state):
        y, final, kept = run(replace(recurrence, query=query), state, 3)
        return y.sum() + final.sin().sum() + kept.cos().sum()

    query = recurrence.query.clone().requires_grad_()
    first = state.clone().requires_grad_()
    compiled = torch.compile(both, fullgraph=True, backend="aot_eager")
    found = torch.autograd.grad(compiled(query, first), (query, first))
    expected = torch.autograd.grad(both(query, first), (query, first))
    for x, y in zip(found, expected, strict=True):
        assert_close(x, y, "float64")


def test_a_second_derivative_is_refused_in_words(rng):
    recurrence, state = random_recurrence(GATED, rng, steps=3, batch=1, heads=1)
    state.requires_grad_()
    y, _, _ = run(recurrence, state)
    (gradient,) = torch.autograd.grad(y.sin().sum(), state, create_graph=True)
    with pytest.raises(FwbioError, match='second derivative; use backend="recurrent"'):
        gradient.sum().backward()


def test_a_backward_without_saved_states_is_refused_in_words(rng):
    recurrence, state = random_recurrence(GATED, rng, steps=3, batch=1, heads=1)
    y, *_ = torch.ops.fwbio.triton_chunked(*operator_arguments(recurrence, state, 0, save=False))
    with pytest.raises(FwbioError, match="save=True"):
        y.sum().backward()


def test_without_gradients_no_states_are_saved(rng, monkeypatch):
    recurrence, state = random_recurrence(GATED, rng, steps=3, batch=1, heads=1)
    saved = []

    def operator(*arguments):
        saved.append(arguments[-1])
        return recurrent.run(recurrence, state)[0], state, None, None

    monkeypatch.setattr(triton_chunked, "forward", operator)
    run(recurrence, state)
    run(recurrence, state.requires_grad_())
    with torch.no_grad():
        run(recurrence, state)
    assert saved == [False, True, False]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "tf31"}, "did you mean 'tf32'"),
        ({"chunk": 48}, "16, 32 or 64"),
    ],
)
def test_wrong_options_are_refused_in_words(options, message, rng):
    with pytest.raises(FwbioError, match=message):
        run(*random_recurrence(GATED, rng), **options)


def test_keys_too_wide_are_refused_in_words(rng):
    with pytest.raises(FwbioError, match="at most 256"):
        run(*random_recurrence(GATED, rng, pre=257))


def test_tensors_out_of_reach_are_refused_in_words(rng, monkeypatch):
    @triton.runtime.jit.JITFunction
    def kernel():
        pass

    monkeypatch.setattr(triton_chunks, "scan", kernel)
    with torch.device("cpu"):
        operands = random_recurrence(GATED, rng, steps=2)
    with pytest.raises(FwbioError, match="TRITON_INTERPRET=1"):
        run(*operands)


def test_few_heads_over_a_long_time_are_split_and_many_are_not():
    chosen = tiles(64, 64, "tf32", "scalar")
    assert pieces_for(8, 32768, chosen) == 16
    assert pieces_for(8, 1024, chosen) == 1
    assert pieces_for(192, 32768, chosen) == 1


def test_errors_are_measured_against_something(rng):
    """The plain loop and the kernels differ by rounding: the tests above compare two things."""
    recurrence, state = random_recurrence(MOST, rng, steps=20)
    y, expected = run(recurrence, state)[0], recurrent.run(recurrence, state)[0]
    assert 0 < relative_error(y, expected) < TOLERANCES["float64"].value
