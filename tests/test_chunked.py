"""The chunked backend: every switch, size and gate, both ways, against the plain loop."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from recurrences import (
    OPERANDS,
    SWITCHES,
    cast,
    changed,
    everything,
    random_recurrence,
    step_by_step,
    weights,
)
from scipy import stats
from tolerances import TOLERANCES, assert_close, relative_error

from fwbio import FwbioError
from fwbio.kernels import chunked, recurrent
from fwbio.kernels.chunked import _chunked, _segments

switched = pytest.mark.parametrize(
    "switches", SWITCHES, ids=lambda s: f"{s[0]}-{s[1]}{'-undecayed' if s[2] else ''}"
)


def assert_same(actual, expected, tolerance):
    assert actual.keys() == expected.keys()
    for name in expected:
        assert_close(actual[name], expected[name], tolerance)


@switched
@pytest.mark.parametrize("steps", [0, 1, 2, 15, 16, 17, 63, 64, 65, 127])
def test_every_length_forward_and_backward(switches, steps, rng):
    recurrence, state = random_recurrence(switches, rng, steps=steps, batch=1)
    weigh = weights(rng)
    expected = step_by_step(recurrence, state, weigh)
    assert_same(everything(chunked.run, recurrence, state, weigh), expected, "float64")


@switched
@pytest.mark.parametrize("steps", [1000, 4097])
def test_long_sequences(switches, steps, rng):
    recurrence, state = random_recurrence(switches, rng, steps=steps, batch=1, heads=1)
    weigh = weights(rng)
    expected = step_by_step(recurrence, state, weigh)
    assert_same(everything(chunked.run, recurrence, state, weigh), expected, "float64")


@switched
@pytest.mark.parametrize(
    ("pre", "post"), [(1, 8), (8, 1), (16, 24), (60, 100), (100, 60), (128, 16), (256, 8), (8, 256)]
)
def test_every_size(switches, pre, post, rng):
    recurrence, state = random_recurrence(switches, rng, steps=37, batch=1, pre=pre, post=post)
    weigh = weights(rng)
    expected = step_by_step(recurrence, state, weigh)
    assert_same(everything(chunked.run, recurrence, state, weigh), expected, "float64")


@switched
@pytest.mark.parametrize("writes", [2, 3, 70])
def test_several_writes_a_step(switches, writes, rng):
    steps = 3 if writes == 70 else 25
    recurrence, state = random_recurrence(switches, rng, steps=steps, writes=writes, pre=24)
    weigh = weights(rng)
    expected = step_by_step(recurrence, state, weigh, keep_every=2)
    actual = everything(chunked.run, recurrence, state, weigh, keep_every=2)
    assert_same(actual, expected, "float64")


@switched
@pytest.mark.parametrize("keep_every", [1, 3, 16, 50, 64, 97, 128, 200])
def test_kept_states_have_gradients(switches, keep_every, rng):
    recurrence, state = random_recurrence(switches, rng, steps=150, batch=1, heads=1)
    weigh = weights(rng)
    expected = step_by_step(recurrence, state, weigh, keep_every=keep_every)
    actual = everything(chunked.run, recurrence, state, weigh, keep_every=keep_every)
    assert_same(actual, expected, "float64")


@switched
@pytest.mark.parametrize("rows", [1, 16, 32, 64, 128])
def test_chunks_of_every_length_agree(switches, rows, rng):
    recurrence, state = random_recurrence(switches, rng, steps=150, batch=1)
    weigh = weights(rng)
    expected = step_by_step(recurrence, state, weigh)
    assert_same(everything(chunked.run, recurrence, state, weigh, rows=rows), expected, "float64")


@switched
def test_segments_and_parts_of_the_batch_are_invisible(switches, rng, monkeypatch):
    recurrence, state = random_recurrence(switches, rng, steps=150, batch=3)
    weigh = weights(rng)
    whole = everything(chunked.run, recurrence, state, weigh, keep_every=64)
    monkeypatch.setattr(chunked, "CACHED", 1)
    assert_same(everything(chunked.run, recurrence, state, weigh, keep_every=64), whole, "float64")


@pytest.mark.parametrize("steps", [0, 1, 63, 64, 65, 1000])
@pytest.mark.parametrize("every", [0, 1, 7, 64, 97, 128, 2000])
@pytest.mark.parametrize("count", [1, 3, 100])
def test_segments_follow_one_another_and_end_on_kept_steps(steps, every, count):
    segments = _segments(steps, 64, every, count)
    assert [s.start for s in segments] == [0, *(s.end for s in segments)][: len(segments)]
    assert (segments[-1].end if segments else 0) == steps
    assert all(0 < s.length <= 64 and 0 < s.count <= count for s in segments)
    kept = [at for s in segments for _, at in s.kept(every)]
    assert kept == list(range(steps // every if every else 0))


def rounding(actual, expected, least=0.0):
    """The largest relative error of any head and of any time, by name.

    Relative to the largest number of the slice, or to the root mean square of the whole where all
    of a slice is small (a gate has but one gradient a time), or to `least`.
    """
    found = {}
    for name, x in expected.items():
        scale = x.square().mean().sqrt().clamp_min(max(least, 1e-300))
        axes = (1,) if name in {"final", "gradient of state"} else (1, 2)
        slices = [
            pair
            for axis in axes
            for pair in zip(actual[name].unbind(axis), x.unbind(axis), strict=True)
        ]
        found[name] = max(
            float((a - b).abs().max() / torch.maximum(b.abs().max(), scale)) for a, b in slices
        )
    return found


def assert_rounds_as_the_loop(actual, loop, exact, enough, least=0.0):
    """By head and by time: well enough, or at most twice what the plain loop rounds."""
    allowed = rounding(loop, exact, least)
    for name, error in rounding(actual, exact, least).items():
        assert error <= max(TOLERANCES["times the rounding"].value * allowed[name], enough), name


@switched
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, "float32"), (torch.bfloat16, "bfloat16")]
)
def test_roundings_are_those_of_the_plain_loop(switches, dtype, tolerance, rng):
    recurrence, state = random_recurrence(switches, rng, steps=200, pre=16, post=16, batch=1)
    recurrence, state = cast(recurrence, dtype), state.float()
    weigh = weights(rng)
    exact = step_by_step(cast(recurrence, torch.float64), state.double(), weigh, keep_every=100)
    loop = step_by_step(recurrence, state, weigh, keep_every=100)
    run = everything(chunked.run, recurrence, state, weigh, keep_every=100)
    assert run["y"].dtype == dtype
    assert_same(run, exact, tolerance)
    few = TOLERANCES["few roundings"].value * torch.finfo(dtype).eps
    assert_rounds_as_the_loop(run, loop, exact, few)


@switched
@pytest.mark.parametrize("log_decay", [0.0, -1e-6, -5.0, -1000.0, "resets"])
@pytest.mark.parametrize("strength", [0.0, 1.0, 2.0])
def test_extreme_gates_and_keys(switches, log_decay, strength, rng):
    """Over several chunks, with repeated and zero keys, as finite and right as the plain loop.

    Where a chunk forgets the state before it, what is left is a difference of numbers of the size
    of the inputs, which is 1.
    """
    recurrence, state = random_recurrence(switches, rng, steps=150, batch=1, heads=1)

    def extreme(name, x):
        if name == "strength":
            return torch.full_like(x, strength)
        if name == "log_decay" and log_decay == "resets":
            x = x.clone()
            x[:, ::20] = -1000.0
            return x
        if name == "log_decay":
            return torch.full_like(x, log_decay)
        if name == "key":
            x = x.clone()
            x[:, 10:30] = x[:, 10:11]
            x[:, 40:45] = 0.0
            return x
        return x

    recurrence = changed(recurrence, extreme)
    if recurrence.erase is not None:
        recurrence = replace(recurrence, erase=0.5 * recurrence.key)
    recurrence, state = cast(recurrence, torch.float32), state.float()
    weigh = weights(rng)
    exact = step_by_step(cast(recurrence, torch.float64), state.double(), weigh)
    loop = step_by_step(recurrence, state, weigh)
    run = everything(chunked.run, recurrence, state, weigh)
    enough = TOLERANCES["reflections float32" if strength == 2 else "float32"].value
    assert_rounds_as_the_loop(run, loop, exact, enough, least=1.0)


@switched
def test_the_future_changes_nothing_before_it(switches, rng):
    """Across a chunk's rows, to the bit: read-outs, and the gradients of a loss on them."""
    past = 70
    recurrence, state = random_recurrence(switches, rng, steps=150)
    other, _ = random_recurrence(switches, rng, steps=150)
    others = dict(zip(OPERANDS, other.operands, strict=True))
    mixed = changed(recurrence, lambda n, x: torch.cat([x[:, :past], others[n][:, past:]], 1))
    drawn = torch.as_tensor(rng.standard_normal((2, 150, 2, 3)))
    drawn[:, past:] = 0.0

    def weigh(name, x):
        return drawn if name == "y" else torch.zeros_like(x)

    one, two = (everything(chunked.run, given, state, weigh) for given in (recurrence, mixed))
    assert torch.equal(one["y"][:, :past], two["y"][:, :past])
    assert not torch.equal(one["y"][:, past:], two["y"][:, past:])
    for name in one.keys() - {"y", "final"}:
        if name == "gradient of state":
            assert torch.equal(one[name], two[name])
        else:
            assert torch.equal(one[name][:, :past], two[name][:, :past])
            assert not one[name][:, past:].any()


@switched
def test_one_token_at_a_time_is_the_same(switches, rng):
    recurrence, state = random_recurrence(switches, rng, steps=70, batch=1)
    y, final, _ = chunked.run(recurrence, state)
    reads = []
    for step in range(70):
        read, state, _ = chunked.run(recurrence.between(step, step + 1), state)
        reads.append(read)
    assert_close(torch.cat(reads, 1), y, "float64")
    assert_close(state, final, "float64")


@switched
def test_the_same_run_is_equal_to_the_bit(switches, rng):
    recurrence, state = random_recurrence(switches, rng, steps=150, dtype=torch.float32)
    weigh = weights(rng)
    first = everything(chunked.run, recurrence, state, weigh)
    for _ in range(24):
        again = everything(chunked.run, recurrence, state, weigh)
        assert all(torch.equal(again[name], x) for name, x in first.items())


@pytest.mark.parametrize("decay", ["none", "scalar"])
def test_errors_do_not_drift(decay, rng):
    """Float32 at full strength and a decay near 1, from 2^9 steps to 2^17."""
    recurrence, state = random_recurrence(
        (decay, "tied", False), rng, steps=2**17, batch=1, heads=1, pre=8, post=4
    )
    recurrence = changed(
        recurrence,
        lambda name, x: {"strength": torch.ones_like, "log_decay": lambda x: 1e-5 * x}.get(
            name, lambda x: x
        )(x),
    )
    with torch.no_grad():
        exact, _, _ = chunked.run(recurrence, state)
        y, _, _ = chunked.run(cast(recurrence, torch.float32), state.float())
    lengths = 2 ** np.arange(9, 18)
    errors = [relative_error(y[:, n // 2 : n], exact[:, n // 2 : n]) for n in lengths]
    assert max(errors) <= TOLERANCES["float32"].value
    slope = stats.linregress(np.log(lengths), np.log(errors)).slope
    assert slope <= 0.5  # a random walk of roundings would have this slope


@pytest.mark.parametrize("switches", [s for s in SWITCHES if not s[2]], ids=str)
def test_the_operator_is_sound(switches, rng):
    recurrence, state = random_recurrence(switches, rng, steps=9)
    operands = [None if x is None else x.requires_grad_() for x in recurrence.operands]
    inputs = (*operands, state.requires_grad_())
    for keep_every in (0, 4):
        settings = (recurrence.tied, False, 1, keep_every, 64, 0.7, True)
        torch.library.opcheck(_chunked, (*inputs, *settings))


def test_without_gradients_nothing_is_kept_for_them(rng):
    recurrence, state = random_recurrence(("scalar", "tied", False), rng)
    recurrence = changed(recurrence, lambda name, x: x.requires_grad_())
    with torch.no_grad():
        y, final, _ = chunked.run(recurrence, state)
    assert not y.requires_grad
    assert not final.requires_grad


def test_a_second_derivative_is_refused_in_words(rng):
    recurrence, state = random_recurrence(("scalar", "tied", False), rng)
    query = recurrence.query.requires_grad_()
    y, _, _ = chunked.run(recurrence, state)
    (grad,) = torch.autograd.grad(y.square().sum(), query, create_graph=True)
    with pytest.raises(FwbioError, match="recurrent"):
        grad.sum().backward()


def test_the_forward_pass_needs_no_memory_that_grows_with_time(rng):
    """But for its outputs: what it allocates at its peak, beside the read-outs, is bounded."""

    def peak(steps):
        recurrence, state = random_recurrence(
            ("channel", "tied", False), rng, steps=steps, batch=1, heads=1, dtype=torch.float32
        )
        with (
            torch.no_grad(),
            torch.profiler.profile(
                activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
            ) as profile,
        ):
            y, _, _ = chunked.run(recurrence, state)
        live = most = 0
        for event in profile.profiler.kineto_results.events():
            if event.name() == "[memory]":
                live += event.nbytes()
                most = max(most, live)
        return most - y.numel() * y.element_size()

    short, long = peak(2**14), peak(2**16)
    assert long <= 1.1 * short


def test_the_plain_loop_may_be_differentiated_twice(rng):
    recurrence, state = random_recurrence(("scalar", "tied", False), rng, batch=1, steps=3, heads=1)

    def read(query, key):
        return recurrent.run(replace(recurrence, query=query, key=key), state)[0]

    leaves = [x.detach().requires_grad_() for x in (recurrence.query, recurrence.key)]
    assert torch.autograd.gradgradcheck(read, leaves)
