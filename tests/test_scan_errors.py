"""Every mistake in a call of the kernels is told in one line: what, where, and the mend."""

import pytest
import torch
from programs import random_program, random_tensors

from fwbio import RULES, FwbioError, kernels
from fwbio.kernels import scan
from fwbio.traces import SHORTEST

B, T, H, K, V = 2, 3, 2, 4, 5


def zeros(*shape, dtype=torch.float64, device="cpu"):
    return torch.zeros(shape, dtype=dtype, device=device)


def meta(*shape):
    return zeros(*shape, device="meta")


MISTAKES = {
    "q is no tensor": ("hebb", {"q": [[1.0]]}, "q: list is not a floating tensor of four axes"),
    "q has three axes": ("hebb", {"q": zeros(B, T, K)}, r"q: shape \(2, 3, 4\)"),
    "q has whole numbers": (
        "hebb",
        {"q": zeros(B, T, H, K, dtype=torch.int64)},
        r"q: .* torch.int64 .* floating .* in float64, float32, bfloat16 or float16",
    ),
    "k is single": (
        "hebb",
        {"k": zeros(B, T, H, K, dtype=torch.float32)},
        "k: .* torch.float32 .* q is torch.float64 .* one dtype",
    ),
    "k is elsewhere": ("hebb", {"k": meta(B, T, H, K)}, "k: .* on meta, but q .* on cpu"),
    "k is longer": ("hebb", {"k": zeros(B, T + 1, H, K)}, r"k: .* \[2, 3, 2, 4\]"),
    "k is wider": ("hebb", {"k": zeros(B, T, H, K + 1)}, r"k: .* \[2, 3, 2, 4\]"),
    "k fits no substeps": (
        "delta_product",
        {"k": zeros(B, 2 * T + 1, H, K)},
        r"k: .* \[2, 3 n, 2, 4\]",
    ),
    "k has no substep": ("delta_product", {"k": zeros(B, 0, H, K)}, r"k: .* \[2, 3 n, 2, 4\]"),
    "v has other heads": ("hebb", {"v": zeros(B, T, H + 1, V)}, r"v: .* \[2, 3, 2, V\]"),
    "v has other substeps": ("delta_product", {"v": zeros(B, T, H, V)}, r"v: .* \[2, 6, 2, V\]"),
    "unknown rule": ("detla", {}, "rule: there is no rule called 'detla'; did you mean 'delta'"),
    "rule is a number": (3, {}, "rule: a rule is a name or a fwbio.Rule, not int"),
    "unknown backend": ("hebb", {"backend": "cuda"}, "backend: there is no backend .* recurrent"),
    "unknown precision": (
        "hebb",
        {"precision": "tf3", "backend": "triton_chunked"},
        "precision: there is no precision called 'tf3'; did you mean 'tf32'",
    ),
    "precision that a backend lacks": (
        "hebb",
        {"precision": "tf32", "backend": "chunked"},
        "precision: the backend 'chunked' has no tf32 products; .*triton_chunked",
    ),
    "missing beta": ("delta", {"beta": None}, "beta: the rule 'delta' needs 'beta'; give it as"),
    "missing decay": ("mamba2", {"log_decay": None}, "log_decay: .* needs 'log_decay'"),
    "missing erase key": ("comba", {"erase_key": None}, "erase_key: .* needs 'erase_key'"),
    "decay that the rule lacks": (
        "delta",
        {"log_decay": zeros(B, T, H)},
        "log_decay: the rule 'delta' has no stream 'log_decay'; leave it out; it takes beta",
    ),
    "typo": ("delta", {"betas": zeros(B, T, H)}, "betas: .* no stream 'betas'; leave it out"),
    "beta by channel": ("delta", {"beta": zeros(B, T, H, V)}, r"beta: .* give \[2, 3, 2\]"),
    "decay of other heads": (
        "gla",
        {"log_decay": zeros(B, T, H + 1, K)},
        r"log_decay: shape \(2, 3, 3, 4\) does not fit; give \[2, 3, 2, 4\], or sizes of 1",
    ),
    "beta lacks heads": ("delta", {"beta": zeros(B, T)}, r"beta: .* give \[2, 3, 2\]"),
    "beta is single": (
        "delta",
        {"beta": zeros(B, T, H, dtype=torch.float32)},
        r"beta: .* torch.float32 on cpu, but q is torch.float64",
    ),
    "beta is a word": ("delta", {"beta": "half"}, "beta: str, but q is torch.float64"),
    "decay above one": (
        "mamba2",
        {"log_decay": torch.tensor([[[-0.1], [0.25], [0.1]]], dtype=torch.float64)},
        "log_decay: it reaches 0.25; give it up to 0$",
    ),
    "decay above one, a number": ("gla", {"log_decay": 0.1}, "log_decay: it reaches 0.1; give"),
    "ridge of nothing": ("mesa", {"ridge": zeros(B, T, H, K)}, "ridge: it reaches 0; .* above 0$"),
    "ridge below nothing": ("mesa", {"ridge": -2}, "ridge: it reaches -2; give it above 0$"),
    "time that runs back": ("bcm", {"interval": -0.1}, "interval: it reaches -0.1; .* above 0$"),
    "steps that end before their values": (
        "stdp",
        {"interval": zeros(B, T, H) + 1e-6},
        f"interval: it reaches 1e-06; give it above {SHORTEST['pairs']:g}$",
    ),
    "threshold below nothing": (
        "thresholded_delta",
        {"theta_d": -0.5},
        "theta_d: it reaches -0.5; give it from 0$",
    ),
    "decay in words": ("mamba2", {"log_decay": "half"}, "log_decay: str, but q is torch.float64"),
    "state lacks the normaliser": (
        "linear_attention",
        {"initial_state": zeros(B, H, K, V)},
        r"initial_state: .* give \[2, 2, 4, 6\]",
    ),
    "state is transposed": (
        "oja",
        {"initial_state": zeros(B, H, V, K)},
        r"initial_state: .* give \[2, 2, 4, 5\]",
    ),
    "state is no tensor": ("hebb", {"initial_state": 0.0}, "initial_state: float, but q is"),
    "state is single": (
        "hebb",
        {"initial_state": zeros(B, H, K, V, dtype=torch.float32)},
        "initial_state: .* torch.float32 on cpu, but q",
    ),
    "keep none": ("hebb", {"return_states": 0}, "return_states: can't keep every 0-th state"),
    "keep all in words": ("hebb", {"return_states": "all"}, "return_states: .*'all'"),
    "packed batch": (
        "hebb",
        {"cu_seqlens": torch.tensor([0, T])},
        "cu_seqlens: .* a batch of 2; pack sequences along time with B = 1",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told(mistake, rng):
    rule, wrong, told = MISTAKES[mistake]
    sizes = {"batch": B, "steps": T, "heads": H, "pre": K, "post": V, "substeps": 2}
    operands = random_tensors(rule if rule in RULES else "delta", rng, **sizes)
    with pytest.raises(FwbioError, match=f"^{told}") as error:
        scan(rule, **operands | wrong)
    assert "\n" not in str(error.value)
    assert error.value.mend


@pytest.mark.parametrize(
    "ends",
    [[0, 2], [1, 3], [0, 2, 1, 3], [3], [], [0.0, 3.0], [[0, 3]], [0, -1, 3]],
    ids=str,
)
@pytest.mark.parametrize("as_tensor", [True, False])
def test_wrong_ends_of_packed_sequences_are_told(ends, as_tensor, rng):
    operands = random_tensors("hebb", rng, batch=1, steps=3)
    given = torch.tensor(ends) if as_tensor else ends
    with pytest.raises(FwbioError, match=r"^cu_seqlens: .* does not divide 3 steps"):
        scan("hebb", **operands, cu_seqlens=given)


def test_a_rule_may_be_given_as_itself(rng):
    operands = random_tensors("kda", rng)
    assert torch.equal(scan("kda", **operands)[0], scan(RULES["kda"], **operands)[0])


RUNS = [
    (rule, backend)
    for rule in RULES
    for backend in ("recurrent", "chunked")
    if kernels.unsupported(rule, backend) is None
]


@pytest.mark.parametrize("pair", RUNS, ids="-".join)
def test_meta_tensors_give_shapes(pair, rng):
    rule, backend = pair
    operands = random_tensors(rule, rng)
    settings = {"backend": backend, "return_states": 2}
    shapes = scan(rule, **{name: x.to("meta") for name, x in operands.items()}, **settings)
    for made, real in zip(shapes, scan(rule, **operands, **settings), strict=True):
        assert made.is_meta
        assert (made.shape, made.dtype) == (real.shape, real.dtype)


def test_ranges_hold_at_their_ends(rng):
    scan("gla", **random_tensors("gla", rng) | {"log_decay": 0.0})
    scan("thresholded_delta", **random_tensors("thresholded_delta", rng) | {"theta_p": 0.0})
    operands = random_tensors("gla", rng, steps=0)
    assert operands["log_decay"].numel() == 0
    scan("gla", **operands)


def test_nan_goes_through_as_in_torch(rng):
    operands = random_tensors("gla", rng)
    operands["log_decay"][0, 1] = torch.nan
    y, _ = scan("gla", **operands)
    assert y[0, 1:].isnan().all()
    assert y[0, 0].isfinite().all()
    assert y[1].isfinite().all()


def test_ranges_are_not_asked_for_where_values_are_hidden(rng):
    """Inside vmap a tensor can't be asked; a decay above one is run as it is."""
    operands = random_tensors("mamba2", rng)
    log_decay = -operands.pop("log_decay")[None].repeat(2, 1, 1, 1)
    state = operands.pop("initial_state")

    def read(log_decay):
        return scan(
            "mamba2", **operands, log_decay=log_decay, initial_state=state, backend="recurrent"
        )[0]

    with pytest.raises(FwbioError, match=r"^log_decay: it reaches"):
        read(log_decay[0])
    assert torch.vmap(read)(log_decay).isfinite().all()
    torch.compiler.reset()
    compiled = torch.compile(read, fullgraph=True, backend="eager")
    assert compiled(log_decay[0]).isfinite().all()


@pytest.mark.parametrize(
    ("device", "why"), [(None, "device"), ("meta", "it holds no numbers"), ("abacus", "Expected")]
)
def test_a_program_runs_on_a_device_that_holds_numbers(device, why, rng):
    with pytest.raises(FwbioError, match=f"^device: {device!r} can't be used .*{why}") as error:
        kernels.execute(random_program("hebb", rng), device=device)
    assert "\n" not in str(error.value)


REFUSED = [
    (rule, backend)
    for rule in RULES
    for backend in kernels.BACKENDS
    if kernels.unsupported(rule, backend) is not None
]


@pytest.mark.parametrize("pair", REFUSED, ids="-".join)
def test_a_backend_that_does_not_run_a_rule_says_why(pair, rng):
    rule, backend = pair
    assert not RULES[rule].terms.linear
    reason = kernels.unsupported(rule, backend)
    assert len(reason.split()) >= 5, "a reason is a sentence"
    with pytest.raises(FwbioError, match=f"^backend: '{backend}' does not run '{rule}': {reason}"):
        scan(rule, **random_tensors(rule, rng), backend=backend)
    with pytest.raises(FwbioError, match=reason):
        kernels.execute(random_program(rule, rng), backend=backend)


def test_what_is_not_linear_runs_step_by_step(rng):
    program = random_program("calcium", rng, steps=100)
    assert kernels.execute(program).attrs["backend"] == "recurrent"
    assert {rule for rule, _ in REFUSED} == {n for n, r in RULES.items() if not r.terms.linear}
