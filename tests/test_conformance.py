"""Rules x substrates: every pair agrees with the reference, or is refused with its reason."""

import numpy as np
import pytest
import torch
from backends import TORCH, TRITON, backends
from programs import random_program, random_tensors
from tolerances import TOLERANCES, assert_close

from fwbio import RULES, FwbioError, kernels, models, reference
from fwbio.record import validate

SYNAPTIC = {
    (rule, substrate): models.unsupported(RULES[rule], substrate)
    for rule in RULES
    for substrate in models.SUBSTRATES
}
RUNS_ON = {
    substrate: [rule for rule, s in SYNAPTIC if s == substrate and SYNAPTIC[rule, s] is None]
    for substrate in models.SUBSTRATES
}
REFUSED = {pair: reason for pair, reason in SYNAPTIC.items() if reason is not None}


def assert_conforms(run, expected, tolerance):
    assert validate(run) == []
    assert run.snapshot.equals(expected.snapshot)
    beside = {"normaliser", "gram"} & set(expected)
    for name in ("readout", "weights", *beside):
        assert run[name].dims == expected[name].dims
        assert_close(run[name], expected[name], tolerance)


def synaptic_program(rule, rng, **sizes):
    return random_program(rule, rng, nonnegative=True, passive=True, **sizes)


@pytest.mark.parametrize("rule", RULES)
@backends
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("keep", ["all", 7])
def test_kernel_agrees_with_the_reference(rule, backend, dtype, keep, rng, device):
    program = random_program(rule, rng, trials=3, heads=2, steps=21, pre=6, post=5)
    run = kernels.execute(program, backend=backend, dtype=dtype, weights=keep, device=device)
    assert_conforms(run, reference.execute(program, weights=keep), dtype)
    assert run.attrs["backend"] == backend
    assert run.attrs["substrate_config"]["dtype"] == run.readout.dtype == dtype


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("backend", TRITON)
def test_tritons_interpreter_agrees_with_the_reference(rule, backend, rng):
    """Every rule reaches Triton's kernels; their own tests go through all that they can do."""
    if torch.cuda.is_available():
        pytest.skip("Triton compiles for the GPU; the tests marked gpu run it")
    program = random_program(rule, rng, trials=None, steps=3, pre=3, post=2, initial_weights=True)
    run = kernels.execute(program, backend=backend, dtype="float64", weights=2)
    assert_conforms(run, reference.execute(program, weights=2), "float64")
    assert run.attrs["backend"] == backend


@pytest.mark.parametrize("backend", [*TORCH, *TRITON])
def test_every_backend_scales_its_readouts(backend, rng):
    if backend in TRITON and torch.cuda.is_available():
        pytest.skip("Triton compiles for the GPU; the tests marked gpu run it")
    operands = random_tensors("delta", rng, batch=1, steps=3)
    (plain, _), (scaled, _) = (
        kernels.scan("delta", **operands, scale=scale, backend=backend) for scale in (1.0, 0.3)
    )
    assert_close(scaled, 0.3 * plain, "float64")


@pytest.mark.parametrize(
    ("device", "stretch", "heads", "backend"),
    [
        ("cpu", 3, 1000, "recurrent"),
        ("cpu", 2048, 1, "chunked"),
        ("cuda", 64, 4096, "triton_recurrent"),
        ("cuda", 512, 1024, "triton_recurrent"),
        ("cuda", 512, 4, "triton_chunked"),
        ("cuda", 32768, 4, "triton_chunked"),
        ("mps", 32768, 4, "chunked"),
    ],
)
def test_auto_follows_the_table(device, stretch, heads, backend):
    assert kernels.support.chosen("auto", device=device, stretch=stretch, heads=heads) == backend


def test_the_record_names_what_auto_ran(rng):
    for steps, backend in ((3, "recurrent"), (40, "chunked")):
        run = kernels.execute(random_program("delta", rng, steps=steps))
        assert run.attrs["backend"] == backend


@pytest.mark.parametrize("rule", RULES)
@backends
@pytest.mark.parametrize("steps", [0, 1, 2, 15, 17])
@pytest.mark.parametrize(("pre", "post"), [(1, 1), (1, 4), (7, 1), (3, 8)])
def test_kernel_at_awkward_sizes(rule, backend, steps, pre, post, rng, device):
    """Of three trials, for the one number that a trial may read can cancel to nearly nothing."""
    program = random_program(
        rule, rng, trials=3, steps=steps, pre=pre, post=post, initial_weights=True
    )
    for keep in ("last", "all", 4):
        run = kernels.execute(
            program, backend=backend, dtype="float64", weights=keep, device=device
        )
        assert_conforms(run, reference.execute(program, weights=keep), "float64")


@pytest.mark.parametrize(("keep", "every"), [("last", None), ("all", 1), (3, 3), (np.int64(9), 9)])
def test_kernels_keep_no_more_states_than_asked_for(keep, every, rng, monkeypatch):
    from fwbio.kernels import substrate

    asked = []

    def scan(*args, return_states, **options):
        asked.append(return_states)
        return kernels.scan(*args, return_states=return_states, **options)

    monkeypatch.setattr(substrate, "scan", scan)
    kernels.execute(random_program("delta", rng, steps=9), weights=keep)
    assert asked == [every]


@pytest.mark.parametrize("rule", RULES)
def test_kernel_starts_from_initial_weights(rule, rng):
    program = random_program(rule, rng, initial_weights=True)
    run = kernels.execute(program, dtype="float64")
    assert_conforms(run, reference.execute(program), "float64")


# What the rate model follows in time, the rule of dendritic error takes in one step.
@pytest.mark.parametrize("rule", [r for r in RUNS_ON["rate"] if r != "dendritic_error"])
def test_rate_model_agrees_with_the_reference(rule, rng):
    program = synaptic_program(rule, rng, initial_weights=True)
    run = models.execute(program, substrate="rate", weights="all")
    assert_conforms(run, reference.execute(program, weights="all"), "rate")


@pytest.mark.parametrize("rule", RUNS_ON["spiking"])
def test_spiking_model_agrees_with_the_reference(rule, rng):
    program = synaptic_program(rule, rng, trials=2, pre=16, post=8)
    traces = RULES[rule].terms.traces
    run = models.execute(program, "spiking", cells_per_key=32 if traces else 8)
    assert validate(run) == []
    expected = reference.execute(program)
    readouts = np.ravel(run.readout), np.ravel(expected.readout)
    bound = TOLERANCES["spiking, traces" if traces else "spiking"].value
    assert np.corrcoef(*readouts)[0, 1] >= bound


@pytest.mark.parametrize("substrate", models.SUBSTRATES)
@pytest.mark.parametrize("keep", ["last", "all", 2])
def test_synapses_keep_the_steps_asked_for(substrate, keep, rng):
    program = synaptic_program("delta", rng, trials=1, steps=3)
    run = models.execute(program, substrate=substrate, weights=keep)
    expected = reference.execute(program, weights=keep)
    assert run.snapshot.values.tolist() == expected.snapshot.values.tolist()
    assert run.weights.shape == expected.weights.shape


@pytest.mark.parametrize("substrate", models.SUBSTRATES)
@pytest.mark.parametrize(("steps", "pre", "post"), [(0, 3, 2), (1, 1, 1), (3, 2, 5)])
def test_synapses_at_awkward_sizes(substrate, steps, pre, post, rng):
    program = synaptic_program("gated_delta", rng, trials=1, steps=steps, pre=pre, post=post)
    run = models.execute(program, substrate=substrate, weights="all")
    assert validate(run) == []
    assert run.readout.shape == (1, steps, post)
    assert run.weights.shape == (1, steps, pre, post)


@pytest.mark.parametrize(("rule", "substrate"), REFUSED, ids="-".join)
def test_an_unsupported_pair_is_refused_with_its_reason(rule, substrate, rng):
    reason = REFUSED[rule, substrate]
    assert len(reason.split()) >= 5, "a reason is a sentence"
    program = synaptic_program(rule, rng, trials=1, steps=1)
    with pytest.raises(FwbioError) as told:
        models.execute(program, substrate=substrate)
    assert rule in str(told.value)
    assert reason in str(told.value)


def test_every_substrate_runs_the_delta_rule_and_something_is_refused():
    assert all("delta" in rules for rules in RUNS_ON.values())
    assert REFUSED


@pytest.mark.parametrize("substrate", models.SUBSTRATES)
def test_synapses_refuse_what_no_synapse_can_do(substrate, rng):
    program = synaptic_program("delta", rng, trials=1, steps=2)
    with pytest.raises(FwbioError, match="rates can't be negative"):
        models.execute(program.assign(key=-program.key), substrate=substrate)
    with pytest.raises(FwbioError, match="passive flow"):
        models.execute(program.assign(beta=2 / program.beta), substrate=substrate)


def test_a_record_runs_again_on_another_substrate(rng):
    program = synaptic_program("delta", rng, trials=1, steps=3)
    spiking = models.execute(program, substrate="spiking")
    again = reference.execute(spiking, weights="all")
    assert again.identical(reference.execute(program, weights="all"))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"dtype": "bfloat16"},
            r"^dtype: 'bfloat16' is not offered; choose from float32, float64$",
        ),
        ({"backend": "chunky"}, r"^backend: there is no backend called 'chunky'; "),
        ({"device": "abacus"}, r"^device: 'abacus' can't be used"),
        ({"weights": "first"}, r"^weights: 'first' does not say"),
    ],
)
def test_kernel_options_are_told_in_words(options, told, rng):
    with pytest.raises(FwbioError, match=told):
        kernels.execute(random_program("hebb", rng), **options)


def test_support_questions_are_told_in_words():
    with pytest.raises(FwbioError, match="rule: there is no rule called 'helta'; did you mean"):
        kernels.unsupported("helta")
    with pytest.raises(FwbioError, match="there is no backend called 'recurent'; did you mean"):
        kernels.unsupported("delta", "recurent")
    with pytest.raises(FwbioError, match="there is no substrate called 'rates'; did you mean"):
        models.unsupported(RULES["delta"], "rates")
