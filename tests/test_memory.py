"""The fast-weight layer: every rule's equation, gates as published, causality, state tracking."""

import math

import numpy as np
import pytest
import torch
from textbook import TEXTBOOK
from tolerances import TOLERANCES, assert_close

from fwbio import RULES, FwbioError, program, reference
from fwbio.models.networks.features import feature_map, normalised
from fwbio.models.networks.memory import STRENGTHS, FastWeightMemory, FastWeightMemoryConfig
from fwbio.rule import VOLLEYS

rules = pytest.mark.parametrize("rule", RULES)
WIDTH = 6


def made(seed, rule="delta", *, width=WIDTH, dtype=torch.float64, **options):
    if RULES[rule].terms.plasticity in VOLLEYS:
        options = {"feature": "relu"} | options
    torch.manual_seed(seed)
    return FastWeightMemory(FastWeightMemoryConfig(rule=rule, **options), width).to(dtype)


def drawn(rng, *shape):
    return torch.tensor(rng.standard_normal(shape))


def by_head(rule, streams, b, h):
    """One sequence and head of a memory's streams as NumPy arrays, by the names of programs."""
    names = {"q": "query", "k": "key", "v": "value"}
    found = {names.get(n, n): x[b, :, h].detach().numpy() for n, x in streams.items()}
    stand_ins = {"beta": 1.0, "interval": 0.1, "theta_p": 0.0, "theta_d": 0.0}
    for name in RULES[rule].streams.keys() - found.keys():
        found[name] = np.full(len(found["query"]), stand_ins[name])
    if RULES[rule].terms.substeps:
        writes = len(found["key"]) // len(found["query"])
        for name in ("key", "value", "beta"):
            found[name] = found[name].reshape(-1, writes, *found[name].shape[1:])
    return found


@rules
def test_reads_are_those_of_the_textbook(rule, rng, seed):
    """What the layer's kernels read of its streams, and the rule's own source reads of them."""
    memory, x = made(seed, rule, convolution=3, output_gate=True), drawn(rng, 2, 5, WIDTH)

    def by_the_book(memory, streams):
        y = torch.zeros(2, 5, 2, memory.value_width, dtype=torch.float64)
        for b, h in np.ndindex(2, 2):
            given = by_head(rule, streams, b, h)
            start = np.zeros((memory.feature_width, memory.value_width))
            reads = [read for read, _ in TEXTBOOK[rule](start, **given)]
            y[b, :, h] = torch.tensor(np.array(reads))
        return y

    assert_close(memory(x), memory(x, by_the_book), "float64")


@rules
def test_streams_are_a_program_for_every_substrate(rule, rng, seed):
    memory, x = made(seed, rule), drawn(rng, 2, 4, WIDTH)
    names = {"q": "query", "k": "key", "v": "value"}

    def laid_out(memory, streams):
        heads = [[by_head(rule, streams, b, h) for h in range(2)] for b in range(2)]
        given = {n: np.array([[s[n] for s in row] for row in heads]) for n in heads[0][0]}
        emitted = {n: x for n, x in given.items() if n in {names.get(s, s) for s in streams}}
        record = reference.execute(program.make(rule, **emitted))
        return torch.tensor(record.readout.transpose("trial", "step", "head", "post").values)

    assert_close(memory(x), memory(x, laid_out), "float64")


def plain_layer(memory, x):
    """One sequence x [T, width] through a layer, from its parameters alone, in plain NumPy."""
    p = {name: t.detach().numpy() for name, t in memory.state_dict().items()}
    rule, H = memory.rule.name, memory.config.heads
    K, V = memory.key_width, memory.value_width
    projected = np.split(x @ p["projection.weight"].T, [H * K, 2 * H * K], -1)
    q, k, v = (part.reshape(len(x), H, -1) for part in projected)

    def drive(gate):
        hidden = x @ p.get(f"{gate}.inner.weight", np.eye(x.shape[1])).T
        shape = (len(x), *p[f"{gate}.bias"].shape)
        return (hidden @ p[f"{gate}.outer.weight"].T).reshape(shape) + p[f"{gate}.bias"]

    def sigmoid(a):
        return 1 / (1 + np.exp(-a))

    alpha = {
        "delta": lambda: np.ones((len(x), H, 1)),
        "linear_attention": lambda: np.ones((len(x), H, 1)),
        "gated_delta": lambda: np.exp(
            -np.log1p(np.exp(drive("gates.log_decay.steps")))
            * np.exp(p["gates.log_decay.log_rate"])
        )[..., None],
        "gla": lambda: sigmoid(drive("gates.log_decay")) ** (1 / 16),
    }[rule]()
    corrects = rule in {"delta", "gated_delta"}
    if corrects:
        q, k = (a / np.linalg.norm(a, axis=-1, keepdims=True) for a in (q, k))
        beta = sigmoid(drive("gates.beta"))
    if rule == "gla":
        q = q / np.sqrt(K)
    if rule == "linear_attention":
        q, k = (np.where(a > 0, a + 1, np.exp(a)) for a in (q, k))
    for t in range(len(x)):
        heads = []
        for h in range(H):
            W, z = np.zeros((K, V)), np.zeros(K)
            for s in range(t + 1):
                W = alpha[s, h][:, None] * W
                error = v[s, h] - W.T @ k[s, h] if corrects else v[s, h]
                W = W + np.outer(k[s, h], (beta[s, h] if corrects else 1) * error)
                z = z + k[s, h]
            y = W.T @ q[t, h] / (z @ q[t, h] if rule == "linear_attention" else 1)
            heads.append(y / np.sqrt(np.mean(y**2) + 1e-5) * p["norm"])
        yield p["output.weight"] @ np.concatenate(heads)


@pytest.mark.parametrize("rule", ["delta", "gated_delta", "linear_attention", "gla"])
def test_a_layer_is_its_equations_from_its_parameters(rule, rng, seed):
    memory, x = made(seed, rule), drawn(rng, 1, 6, WIDTH)
    torch.nn.init.normal_(memory.norm)
    assert_close(memory(x)[0], np.array(list(plain_layer(memory, x[0].numpy()))), "float64")


@rules
def test_the_future_changes_nothing_before_it(rule, rng, seed):
    memory, x = made(seed, rule, convolution=3), drawn(rng, 2, 7, WIDTH)
    other = torch.cat([x[:, :4], drawn(rng, 2, 3, WIDTH)], 1)
    assert torch.equal(memory(x)[:, :4], memory(other)[:, :4])
    assert not torch.equal(memory(x)[:, 4:], memory(other)[:, 4:])


@rules
def test_gradients_reach_all_parameters(rule, rng, seed):
    memory = made(seed, rule, convolution=3, output_gate=True, dtype=torch.float32)
    x = drawn(rng, 2, 9, WIDTH).float().requires_grad_()
    memory(x).sin().sum().backward()
    for name, tensor in [*memory.named_parameters(), ("x", x)]:
        assert torch.isfinite(tensor.grad).all(), name
        assert tensor.grad.any(), name


@rules
def test_every_dtype_runs(rule, rng, seed):
    memory, x = made(seed, rule, convolution=3, dtype=torch.float32), drawn(rng, 16, 9, WIDTH)
    single = memory(x.float())
    with torch.autocast("cpu", torch.bfloat16):
        short = memory(x.float())
    double = memory.double()(x)
    assert [y.dtype for y in (short, single, double)] == [torch.bfloat16, x.float().dtype, x.dtype]
    bound = "float32" if RULES[rule].terms.linear else "passed thresholds float32"
    assert_close(single, double, bound)
    if RULES[rule].terms.plasticity in VOLLEYS:
        return  # thresholds of voltage and calcium turn small differences into large ones
    off = torch.linalg.vector_norm(short - double) / torch.linalg.vector_norm(double)
    assert off < TOLERANCES["autocast"].value


def test_equal_seeds_give_equal_layers_that_repeat_themselves(rng, seed):
    x = drawn(rng, 2, 40, WIDTH)
    one, two = (made(seed, "kda", convolution=4) for _ in range(2))
    assert torch.equal(one(x), two(x))
    assert torch.equal(one(x), one(x))


def test_a_convolution_sees_its_last_steps(rng, seed):
    """silu(sum_i w_i x_(t - i)) of each channel, w_0 last in the kernel."""
    memory, x = made(seed, "hebb", heads=1, convolution=3), drawn(rng, 1, 5, WIDTH)
    projected = memory.projection(x)[0].detach().numpy()
    kernel = memory.convolution.depthwise.weight.detach().numpy()[:, 0]
    padded = np.concatenate([np.zeros((2, projected.shape[1])), projected])
    a = np.array([sum(kernel[:, 2 - i] * padded[t + 2 - i] for i in range(3)) for t in range(5)])
    q, k, v = np.split(a / (1 + np.exp(-a)), 3, -1)
    streams = {name: s[0, :, 0] for name, s in memory.streams(x).items()}
    assert_close(streams["q"], q / np.sqrt(WIDTH), "float64")
    assert_close(streams["k"], k, "float64")
    assert_close(streams["v"], v, "float64")


@pytest.mark.parametrize("feature", ["elu", "dpfp"])
def test_attention_normalised_reads_are_averages_of_values(feature, rng, seed):
    """Katharopoulos' y = sum_s a_s v_s with a_s = phi(q) phi(k_s) over their sum."""
    options = {"feature": feature, "heads": 1, "output_norm": False}
    memory = made(seed, "hebb", attention_normalised=True, **options)
    x = drawn(rng, 1, 6, WIDTH)
    q, k, v = memory.projection(x)[0].split(WIDTH, -1)
    similarity = (feature_map(feature, q) @ feature_map(feature, k).T).tril()
    total = similarity.sum(-1, keepdim=True)
    y = similarity / torch.where(total > 0, total, 1) @ v
    assert_close(memory(x)[0], memory.output(y), "float64")
    if feature == "elu":
        own = made(seed, "linear_attention", heads=1, output_norm=False)
        own.load_state_dict(memory.state_dict())
        assert_close(memory(x), own(x), "float64")


def test_a_silent_query_reads_nothing(seed):
    memory = made(seed, "hebb", feature="relu", attention_normalised=True)
    x = torch.zeros(1, 4, WIDTH, dtype=torch.float64, requires_grad=True)
    memory(x).sum().backward()
    assert not memory(x).any()
    assert torch.isfinite(x.grad).all()


def parity_memory():
    """Token 0 starts with a write of 1; a bit x writes 0 with beta = 2 x: the sign turns."""
    options = {"heads": 1, "key_width": 1, "value_width": 1, "output_norm": False}
    memory = made(0, width=4, negative_eigenvalues=True, **options)
    with torch.no_grad():
        memory.projection.weight[:] = torch.tensor(
            [[1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0]]
        )
        memory.gates.beta.outer.weight[:] = torch.tensor([[0.0, -100.0, 100.0, 0.0]])
        memory.output.weight[:] = torch.tensor([[1.0], [0.0], [0.0], [0.0]])
    return memory


def test_negative_eigenvalues_keep_parity(rng):
    """k = 1, v = 0 and beta = 2 x make (-1)^(sum x), at any length."""
    bits = torch.tensor(rng.integers(2, size=(3, 300)))
    tokens = torch.cat([torch.zeros(3, 1, dtype=torch.int64), 1 + bits], 1)
    x = torch.nn.functional.one_hot(tokens, 4).double()
    parity = (-1.0) ** bits.cumsum(1).double()
    assert torch.equal(parity_memory()(x)[:, 1:, 0], parity)


@pytest.mark.parametrize("rule", ["delta", "gated_delta", "kda", "delta_product"])
@pytest.mark.parametrize("negative", [False, True])
def test_a_write_shrinks_or_turns_by_at_most_one(rule, negative, rng, seed):
    """The eigenvalue 1 - beta |k|^2 is in (0, 1), or with negative eigenvalues in (-1, 1)."""
    memory = made(seed, rule, negative_eigenvalues=negative)
    streams = memory.streams(20 * drawn(rng, 4, 50, WIDTH))
    eigenvalue = 1 - streams["beta"] * streams["k"].square().sum(-1)
    slack = TOLERANCES["float64"].value
    assert eigenvalue.max() <= 1 + slack
    assert eigenvalue.min() >= (-1 if negative else 0) - slack
    assert (eigenvalue.min() < -0.9) == negative


@pytest.mark.parametrize(
    ("rule", "slowest", "fastest"),
    [
        ("mamba2", -0.001, -1.6),
        ("gated_delta", -0.001, -1.6),
        ("kda", -0.001, -1.6),
        ("mlstm", math.log(1 / (1 + math.exp(-6))), math.log(1 / (1 + math.exp(-3)))),
        ("gla", -math.log(2) / 16, -math.log(2) / 16),
        ("rwkv7", -math.exp(-0.5) / (1 + math.exp(5.5)), -math.exp(-0.5) / (1 + math.exp(-0.5))),
    ],
)
def test_decays_start_as_published(rule, slowest, fastest, seed):
    """Of an input of zero: steps of .001 to .1 at rates of 1 to 16; mLSTM's biases 3 to 6."""
    memory = made(seed, rule, width=64, heads=32)
    decay = memory.streams(torch.zeros(1, 1, 64, dtype=torch.float64))["log_decay"]
    slack = TOLERANCES["float32"].value
    assert slowest * (1 - slack) >= decay.max()
    assert decay.min() >= fastest * (1 + slack)
    if rule in {"mlstm", "rwkv7"}:
        assert_close(decay.max(), slowest, "float32")
        assert_close(decay.min(), fastest, "float32")


def test_strengths_are_as_published_unless_given():
    given = {rule: FastWeightMemoryConfig(rule=rule).beta for rule in ("mamba2", "delta", "efla")}
    assert given == {"mamba2": "step", "delta": "sigmoid", "efla": "softplus"}
    assert FastWeightMemoryConfig(rule="gla").beta == "one"
    assert FastWeightMemoryConfig(rule="mesa").beta == "sigmoid"


def test_retnet_decays_by_head_and_learns_no_decay(seed):
    memory = made(seed, "retnet", heads=3)
    decay = memory.streams(torch.zeros(2, 5, WIDTH, dtype=torch.float64))["log_decay"]
    expected = np.log(1 - 2.0 ** -(5 + np.arange(3)))
    assert_close(decay, np.broadcast_to(expected, (2, 5, 3)), "float32")
    assert not any("log_decay" in name for name, _ in memory.named_parameters())


def test_the_ridge_of_mesa_starts_at_one_and_stays_above_a_quarter(seed):
    memory, x = made(seed, "mesa"), torch.zeros(1, 1, WIDTH, dtype=torch.float64)
    assert_close(memory.streams(x)["ridge"], np.ones((1, 1, 2, 3)), "float32")
    torch.nn.init.constant_(memory.gates.ridge.start, -1000.0)
    assert_close(memory.streams(x)["ridge"], np.full((1, 1, 2, 3), 0.25), "float64")


def test_rwkv7_erases_along_the_unit_direction_that_it_reads(rng, seed):
    """a = -erase_key and b = erase_direction: every eigenvalue of diag(w) + a b^T is at most 1."""
    streams = made(seed, "rwkv7").streams(3 * drawn(rng, 2, 20, WIDTH))
    read, erased = streams["erase_key"], streams["erase_direction"]
    assert_close(read.square().sum(-1), np.ones((2, 20, 2)), "float64")
    share = erased / read
    assert share.min() > 0
    assert share.max() < 1
    transition = (
        torch.diag_embed(streams["log_decay"].exp()) - erased[..., :, None] * read[..., None, :]
    )
    assert torch.linalg.eigvals(transition).abs().max() <= 1


def test_comba_reads_its_prediction_by_a_share_of_the_key(rng, seed):
    memory, x = made(seed, "comba"), drawn(rng, 2, 5, WIDTH)
    streams = memory.streams(x)
    share = 1 / (1 + math.exp(-1))
    assert_close(streams["erase_key"], share * streams["k"], "float64")
    q = memory.projection(x)[..., :WIDTH].unflatten(-1, (2, 3))
    corrected = normalised(q, "l2") - 0.02 * streams["erase_key"]
    assert_close(streams["q"], corrected, "float32")


@rules
@pytest.mark.parametrize("how", STRENGTHS)
def test_write_strengths_are_in_their_range_or_refused(rule, how, rng, seed):
    """Of a refused one, that its rule writes by exp(log_beta), or has no step."""
    terms, x = RULES[rule].terms, 5 * drawn(rng, 1, 30, WIDTH)
    stepping = rule in {"mamba2", "gated_delta", "comba"}
    if (terms.write == "exponential" and how != "one") or (how == "step" and not stepping):
        with pytest.raises(FwbioError, match=f"beta = '{how}' does not suit the rule '{rule}'"):
            made(seed, rule, beta=how)
        return
    memory = made(seed, rule, beta=how)
    streams = memory.streams(x)
    assert torch.isfinite(memory(x)).all()
    if how == "one":
        assert ("beta" in streams) == RULES[rule].needs("beta")
        assert (streams.get("beta", torch.ones(1)) == 1).all()
        return
    beta = streams["beta"]
    assert beta.min() >= 0
    assert how == "step" or (beta.max() > 1) == (how == "softplus")
    if how == "step":
        rate = memory.gates.log_decay.log_rate.exp()
        assert_close(streams["log_decay"], -beta * rate, "float64")


def test_features_and_widths_of_heads(rng, seed):
    options = {"heads": 3, "key_width": 4, "value_width": 5, "feature": "dpfp", "nu": 2}
    memory = made(seed, "delta_product", substeps=3, width=7, normalise="l1", **options)
    streams = memory.streams(drawn(rng, 2, 6, 7))
    assert streams["q"].shape == (2, 6, 3, 16)
    assert streams["k"].shape == (2, 18, 3, 16)
    assert streams["v"].shape == (2, 18, 3, 5)
    assert streams["beta"].shape == (2, 18, 3)
    assert_close(streams["k"].sum(-1), np.ones((2, 18, 3)), "float64")
    assert memory(drawn(rng, 2, 6, 7)).shape == (2, 6, memory.out_features) == (2, 6, 7)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"rule": "detla"}, "did you mean 'delta'"),
        ({"heads": 0}, "heads = 0"),
        ({"convolution": -1}, "convolution = -1"),
        ({"output_gate": 1}, "output_gate = 1"),
        ({"feature": "cosine"}, "no feature map called 'cosine'"),
        ({"normalise": "l3"}, "no normalise called 'l3'"),
        ({"beta": "tanh"}, "no beta called 'tanh'"),
        ({"rule": "stdp"}, "shares of cells"),
        ({"rule": "linear_attention", "feature": "elu"}, "a feature map of its own"),
        ({"rule": "linear_attention", "attention_normalised": True}, "a normaliser of its own"),
        ({"rule": "delta", "attention_normalised": True}, "rules that sum writes"),
        ({"rule": "hebb", "attention_normalised": True}, "a signed sum may vanish"),
        ({"rule": "delta", "beta": "step"}, "no multiple of a step"),
        ({"rule": "mlstm", "beta": "sigmoid"}, r"exp\(log_beta\)"),
        ({"rule": "hebb", "negative_eigenvalues": True}, "such as 'delta'"),
        ({"rule": "longhorn", "negative_eigenvalues": True}, "such as 'delta'"),
        ({"negative_eigenvalues": True, "normalise": "l1"}, "unit keys"),
        ({"negative_eigenvalues": True, "beta": "softplus"}, "unit keys"),
    ],
)
def test_configs_refused(options, told):
    with pytest.raises(FwbioError, match=told):
        FastWeightMemoryConfig(**options)


def test_widths_refused(rng, seed):
    with pytest.raises(FwbioError, match="2 heads do not divide a width of 7"):
        made(seed, width=7)
    with pytest.raises(FwbioError, match=r"give \[batch, time, 6\]"):
        made(seed)(drawn(rng, 2, 5, 7))
