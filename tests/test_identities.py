"""What must hold between rules: reductions, the delta rule's algebra, and the time of a flow."""

import numpy as np
import pytest
from programs import random_streams
from scipy.integrate import solve_ivp
from sklearn.linear_model import Ridge
from tolerances import assert_close

from fwbio import RULES, program, reference


def run(rule, **streams):
    """Read-outs and every step's weights."""
    record = reference.execute(program.make(rule, **streams), weights="all")
    return record.readout.values, record.weights.values


def assert_same(one, other):
    for actual, expected in zip(one, other, strict=True):
        assert_close(actual, expected, "float64")


@pytest.fixture
def streams(rng):
    """Streams of a rule with an initial state, or only some of them; for two trials."""

    def make(rule, *, only=None, **sizes):
        made = random_streams(rule, rng, leading=(2,), **sizes)
        pre, post = made["key"].shape[-1], made["value"].shape[-1]
        made["initial_weights"] = rng.standard_normal((2, pre, post))
        return made if only is None else {name: made[name] for name in ("key", *only)}

    return make


def test_hebb_is_causal_attention_without_softmax(streams):
    s = streams("hebb", only=("value", "query"), steps=9)
    scores = np.tril(s["query"] @ s["key"].swapaxes(-1, -2))
    assert_close(run("hebb", **s)[0], scores @ s["value"], "float64")


def test_retnet_is_attention_masked_by_its_decay(rng):
    s = random_streams("retnet", rng, leading=(2, 3), steps=9)
    del s["log_decay"], s["beta"]
    n = np.arange(9)
    gamma = 1 - 2.0 ** -(5 + np.arange(3))
    mask = np.tril(gamma[:, None, None] ** np.abs(n[:, None] - n))
    scores = s["query"] @ s["key"].swapaxes(-1, -2) * mask
    assert_close(run("retnet", **s)[0], scores @ s["value"], "float64")


def test_linear_attention_reads_an_average_of_values(streams, rng):
    s = streams("linear_attention", only=("value", "query"), steps=9)
    readout, _ = run("linear_attention", **s)
    for t in range(9):
        seen = s["value"][:, : t + 1]
        assert (readout[:, t] <= seen.max(1) + 1e-12).all()
        assert (readout[:, t] >= seen.min(1) - 1e-12).all()
    constant = np.broadcast_to(rng.standard_normal((2, 1, 3)), s["value"].shape)
    assert_close(run("linear_attention", **s | {"value": constant})[0], constant, "float64")


@pytest.mark.parametrize(
    ("by_channel", "by_step"), [("gla", "mamba2"), ("kda", "gated_delta")], ids=str
)
def test_equal_channels_decay_as_one(streams, by_channel, by_step):
    s = streams(by_step)
    channels = np.repeat(s["log_decay"][..., None], s["key"].shape[-1], axis=-1)
    assert_same(run(by_channel, **s | {"log_decay": channels}), run(by_step, **s))


@pytest.mark.parametrize(
    ("gated", "ungated"),
    [
        ("retnet", "hebb"),
        ("mamba2", "hebb"),
        ("gla", "hebb"),
        ("gated_delta", "delta"),
        ("kda", "delta"),
    ],
)
def test_without_decay_a_gated_rule_is_the_ungated_one(streams, gated, ungated):
    s = streams(ungated)
    assert_same(run(gated, **s, log_decay=0.0), run(ungated, **s))


def test_without_error_correction_gated_delta_2_is_gla(streams):
    s = streams("gla")
    beta = np.repeat(s["beta"][..., None], s["value"].shape[-1], axis=-1)
    assert_same(run("gated_delta_2", **s | {"beta": beta}, erase=0.0), run("gla", **s))


def test_with_equal_gates_gated_delta_2_is_kda(streams):
    s = streams("kda")
    gates = {
        "beta": np.repeat(s["beta"][..., None], s["value"].shape[-1], axis=-1),
        "erase": np.repeat(s["beta"][..., None], s["key"].shape[-1], axis=-1),
    }
    assert_same(run("gated_delta_2", **s | gates), run("kda", **s))


def test_comba_with_the_key_as_erase_key_is_gated_delta(streams):
    s = streams("gated_delta")
    assert_same(run("comba", **s, erase_key=s["key"]), run("gated_delta", **s))


def test_rwkv7_with_one_gate_is_gated_delta(streams):
    """diag(w) = gamma I, a = -gamma beta k and b = k, with beta v for its value."""
    s = streams("gated_delta")
    gamma, beta = np.exp(s["log_decay"]), s["beta"]
    rwkv7 = s | {
        "log_decay": np.repeat(s["log_decay"][..., None], s["key"].shape[-1], axis=-1),
        "erase_key": (gamma * beta)[..., None] * s["key"],
        "erase_direction": s["key"],
    }
    assert_same(run("rwkv7", **rwkv7), run("gated_delta", **s))


def test_rwkv7_with_decayed_erase_keys_is_kda(streams):
    s = streams("kda")
    rwkv7 = s | {
        "erase_key": np.exp(s["log_decay"]) * s["beta"][..., None] * s["key"],
        "erase_direction": s["key"],
    }
    assert_same(run("rwkv7", **rwkv7), run("kda", **s))


@pytest.mark.parametrize("penalty", [1e-2, 1.0, 30.0])
def test_mesa_is_ridge_regression(streams, penalty):
    """Without decay it reads what regression on all pairs so far predicts for the query."""
    s = streams("mesa", only=("value", "query"), steps=9)
    readout, _ = run("mesa", **s, log_decay=0.0, ridge=penalty)
    for trial, t in np.ndindex(readout.shape[:2]):
        seen = {name: s[name][trial, : t + 1] for name in ("key", "value")}
        fitted = Ridge(alpha=penalty, fit_intercept=False, solver="svd").fit(*seen.values())
        assert_close(readout[trial, t], fitted.predict(s["query"][trial, t : t + 1])[0], "float64")


def test_mesa_minimises_its_objective(streams):
    """Weighted least squares: pairs by their strength and age, channels by their ridge."""
    s = streams("mesa", steps=9)
    del s["initial_weights"]
    age = np.cumsum(s["log_decay"][:, ::-1], 1)[:, ::-1] - s["log_decay"]
    root = np.sqrt(np.exp(age) * s["beta"])[..., None]
    for trial in range(2):
        penalty = np.diag(np.sqrt(s["ridge"][trial, -1]))
        keys = np.vstack([root[trial] * s["key"][trial], penalty])
        values = np.vstack([root[trial] * s["value"][trial], np.zeros((len(penalty), 3))])
        fitted = np.linalg.lstsq(keys, values, rcond=None)[0]
        readout, _ = run("mesa", **{name: x[trial] for name, x in s.items()})
        assert_close(readout[-1], s["query"][trial, -1] @ fitted, "float64")


def test_mesa_under_a_large_ridge_is_mamba2(streams):
    s = streams("mamba2")
    del s["initial_weights"]
    ridge = 1e14
    assert_close(ridge * run("mesa", **s, ridge=ridge)[0], run("mamba2", **s)[0], "float64")


def test_mlstm_of_small_inputs_is_mamba2_with_scaled_keys(streams):
    """Read-outs are divided only where the normaliser exceeds 1."""
    s = streams("mamba2")
    log_beta = np.log(s.pop("beta")) - 9
    scaled = s | {"key": s["key"] / 2, "beta": np.exp(log_beta)}
    assert_same(run("mlstm", **with_normaliser(s), log_beta=log_beta), run("mamba2", **scaled))


def with_normaliser(streams):
    return streams | {"initial_normaliser": np.zeros(streams["initial_weights"].shape[:-1])}


def test_mlstm_of_large_inputs_reads_an_average(streams):
    """With positive keys and queries and a normaliser above 1 it reads a mean of values."""
    s = streams("mlstm", only=("log_decay", "query"))
    s |= {name: np.abs(s[name]) for name in ("key", "query")}
    value = np.broadcast_to([1.0, -2.0, 0.5], (*s["key"].shape[:-1], 3))
    assert_close(run("mlstm", **s, value=value, log_beta=20.0)[0], value, "float64")


def test_delta_product_with_one_substep_is_gated_delta(streams):
    s = streams("delta_product", substeps=1)
    one = s | {name: s[name][:, :, 0] for name in ("key", "value", "beta")}
    assert_same(run("delta_product", **s), run("gated_delta", **one))
    ungated = {name: x for name, x in one.items() if name != "log_decay"}
    assert_same(run("delta_product", **s | {"log_decay": 0.0}), run("delta", **ungated))


def test_delta_product_is_gated_delta_read_every_nth_step(streams):
    n, s = 3, streams("delta_product", substeps=3)
    expanded = s | {
        name: s[name].reshape(2, -1, *s[name].shape[3:]) for name in ("key", "value", "beta")
    }
    expanded["query"] = np.repeat(s["query"], n, axis=1)
    expanded["log_decay"] = np.zeros_like(expanded["beta"])
    expanded["log_decay"][:, ::n] = s["log_decay"]
    readout, weights = run("gated_delta", **expanded)
    assert_same(run("delta_product", **s), (readout[:, n - 1 :: n], weights[:, n - 1 :: n]))


def test_oja_is_delta_on_the_transposed_state(streams):
    s = streams("oja")
    mirrored = s | {
        "key": s["value"],
        "value": s["key"],
        "query": np.zeros_like(s["value"]),
        "initial_weights": s["initial_weights"].swapaxes(-1, -2),
    }
    _, weights = run("delta", **mirrored)
    assert_close(run("oja", **s)[1], weights.swapaxes(-1, -2), "float64")


def test_oja_converges_to_the_principal_component(rng):
    """Oja 1982: the mean of small steps turns a cell's weights to the first eigenvector."""
    patterns = rng.standard_normal((32, 4)) * [3.0, 1.0, 0.5, 0.2]
    weights = rng.standard_normal((4, 1))
    for _ in range(100):
        streams = {"key": patterns, "value": patterns @ weights, "query": patterns}
        one_step_a_trial = {name: x[:, None] for name, x in streams.items()}
        after = run("oja", **one_step_a_trial, beta=0.05, initial_weights=weights)[1]
        weights = after[:, 0].mean(0)
    principal = np.linalg.eigh(patterns.T @ patterns)[1][:, -1:]
    assert_close(weights * np.sign(principal.T @ weights), principal, "convergence")


STEP_SIZE = {
    "longhorn": lambda beta, norm: beta / (1 + beta * norm),
    "efla": lambda beta, norm: -np.expm1(-beta * norm) / norm,
}


def test_every_solve_has_its_step_size_here():
    assert {name for name, r in RULES.items() if r.terms.solve != "explicit"} == STEP_SIZE.keys()


@pytest.mark.parametrize("rule", STEP_SIZE)
def test_solved_steps_are_delta_steps_of_another_size(streams, rule):
    s = streams(rule)
    size = STEP_SIZE[rule](s["beta"], (s["key"] ** 2).sum(-1))
    assert_same(run(rule, **s), run("delta", **s | {"beta": size}))


@pytest.mark.parametrize("rule", STEP_SIZE)
@pytest.mark.parametrize("norm", [3e-5, 1e-4, 1e-2, 30.0])
def test_step_sizes_are_accurate_at_every_size_of_key(streams, rule, norm):
    """One write into an empty memory is b k v^T: nothing hides the error of a small b."""
    s = streams(rule, steps=1)
    s["initial_weights"][:] = 0.0
    s["key"] *= norm / np.linalg.norm(s["key"], axis=-1, keepdims=True)
    size = STEP_SIZE[rule](s["beta"], norm**2)[..., None]
    outer = s["key"][..., :, None] * (size * s["value"])[..., None, :]
    assert_close(run(rule, **s)[1], outer, "float64")


@pytest.mark.parametrize("rule", STEP_SIZE)
@pytest.mark.parametrize("norm", [0.0, 1e-160, 1e-9])
def test_solved_steps_become_explicit_as_keys_vanish(streams, rule, norm):
    s = streams(rule, steps=1)
    s["initial_weights"][:] = 0.0
    s["key"] *= norm / np.linalg.norm(s["key"], axis=-1, keepdims=True)
    assert_same(run(rule, **s), run("delta", **s))


@pytest.mark.parametrize("beta", [1e-3, 0.1, 1.0, 30.0])
def test_flow_lies_between_the_implicit_and_the_explicit_step(rng, beta):
    """The share of the error that one step corrects: x/(1+x) < 1 - e^-x < x."""
    key = rng.standard_normal((1, 4))
    share = {
        rule: run(rule, key=key, value=[[1.0]], query=key, beta=beta)[0][0, 0]
        for rule in ("longhorn", "efla", "delta")
    }
    x = beta * (key**2).sum()
    assert_close(list(share.values()), [x / (1 + x), -np.expm1(-x), x], "float64")
    assert share["longhorn"] < share["efla"] < share["delta"]


def test_efla_is_the_flow_of_the_delta_rule(rng):
    """dW/dt = k (v - W^T k)^T integrated by an adaptive solver for a duration beta."""
    s = random_streams("efla", rng, steps=1)
    k, v = s["key"][0], s["value"][0]
    start = rng.standard_normal((len(k), len(v)))
    duration = 2.5

    def slope(_, flat):
        W = flat.reshape(start.shape)
        return np.outer(k, v - W.T @ k).ravel()

    flow = solve_ivp(slope, (0, duration), start.ravel(), method="DOP853", rtol=1e-12, atol=1e-13)
    _, weights = run("efla", **s | {"beta": duration}, initial_weights=start)
    assert_close(weights[0], flow.y[:, -1].reshape(start.shape), "ode")


def test_flows_compose_and_explicit_steps_do_not(rng):
    """Twice half the time is the whole time, along one key; two half explicit steps fall short."""
    s = random_streams("efla", rng, steps=1)
    once = s | {"beta": np.array([0.8])}
    twice = {name: np.repeat(x, 2, axis=0) for name, x in s.items()} | {"beta": 0.4}
    assert_close(run("efla", **twice)[1][-1], run("efla", **once)[1][-1], "float64")
    short, long = run("delta", **twice)[1][-1], run("delta", **once)[1][-1]
    assert np.linalg.norm(short) < np.linalg.norm(long)


def test_delta_blends_the_old_value_with_the_new(streams, rng):
    """W_t^T k = (1 - beta |k|^2) W_{t-1}^T k + beta |k|^2 v."""
    s = streams("delta", steps=1)
    share = (s["beta"] * (s["key"] ** 2).sum(-1))[..., None]
    _, weights = run("delta", **s)
    old, new = (s["key"] @ W for W in (s["initial_weights"], weights[:, 0]))
    assert_close(new, (1 - share) * old + share * s["value"], "float64")


@pytest.mark.parametrize("rule", ["delta", "gated_delta", "kda", "comba", "delta_product"])
def test_the_last_pair_is_recalled_exactly_at_full_strength(streams, rule):
    """beta |k|^2 = 1 leaves nothing of the old value: the read-out is v."""
    s = streams(rule)
    s["beta"] = 1 / (s["key"] ** 2).sum(-1)
    s["query"] = s["key"][:, :, -1] if RULES[rule].terms.substeps else s["key"]
    if RULES[rule].needs("erase_key"):
        s["erase_key"] = s["key"]
    value = s["value"][:, :, -1] if RULES[rule].terms.substeps else s["value"]
    assert_close(run(rule, **s)[0], value, "float64")


@pytest.mark.parametrize("rule", ["hebb", "delta", "longhorn", "efla"])
def test_an_orthogonal_query_is_untouched(streams, rule):
    s = streams(rule, steps=1)
    k, q = s["key"], s["query"]
    s["query"] = q - (q * k).sum(-1, keepdims=True) / (k * k).sum(-1, keepdims=True) * k
    assert_close(run(rule, **s)[0], s["query"] @ s["initial_weights"], "float64")


def transition(rule, key, beta):
    """The matrix by which a rule maps the weights before a step to those after, for v = 0."""
    pre = len(key)
    start = np.eye(pre)
    zero = np.zeros((1, pre))
    return run(rule, key=[key], value=zero, query=zero, beta=beta, initial_weights=start)[1][0]


@pytest.mark.parametrize("strength", [-0.3, 0.0, 0.4, 1.0, 2.0, 2.3])
def test_delta_is_non_expansive_up_to_twice_the_full_strength(rng, strength):
    """I - beta k k^T has eigenvalues 1 and 1 - beta |k|^2: no growth iff beta |k|^2 in [0, 2]."""
    key = rng.standard_normal(5)
    matrix = transition("delta", key, strength / (key @ key))
    eigenvalues = np.sort(np.linalg.eigvalsh((matrix + matrix.T) / 2))
    assert_close(eigenvalues, np.sort([1.0] * 4 + [1 - strength]), "float64")
    grows = np.linalg.norm(matrix, 2) > 1 + 1e-12
    assert grows == (not 0 <= strength <= 2)


@pytest.mark.parametrize("rule", STEP_SIZE)
@pytest.mark.parametrize("strength", [0.1, 3.0, 30.0])
def test_passive_flows_never_overshoot(rng, rule, strength):
    key = rng.standard_normal(5)
    eigenvalues = np.linalg.eigvalsh(transition(rule, key, strength / (key @ key)))
    assert eigenvalues[0] > 0
    assert_close(eigenvalues[1:], np.ones(4), "float64")


def parity_run(rule, bits, strength):
    """The state of one synapse, started at 1, that presents k = 1, v = 0 with beta a bit's."""
    return run(
        rule,
        key=np.ones((len(bits), 1)),
        value=np.zeros((len(bits), 1)),
        query=np.ones((len(bits), 1)),
        beta=strength * bits,
        initial_weights=[[1.0]],
    )[0][:, 0]


def test_delta_counts_parity_with_negative_eigenvalues(rng):
    bits = rng.integers(0, 2, 200)
    assert np.array_equal(parity_run("delta", bits, 2.0), (-1.0) ** np.cumsum(bits))


@pytest.mark.parametrize("strength", [0.1, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("rule", STEP_SIZE)
def test_a_passive_flow_can_not_count_parity(rng, rule, strength):
    """Its state never changes sign, whatever the strength: beta_E |k|^2 < 1."""
    assert (parity_run(rule, rng.integers(0, 2, 60), strength) > 0).all()


@pytest.mark.parametrize(
    "rule",
    [n for n, r in RULES.items() if r.terms.companion is None and not r.terms.traces],
)
def test_one_call_equals_two_through_the_weights(streams, rule):
    s = streams(rule, steps=7)
    whole = run(rule, **s)
    sequence = {name: x for name, x in s.items() if name != "initial_weights"}
    first = {name: x[:, :3] for name, x in sequence.items()}
    second = {name: x[:, 3:] for name, x in sequence.items()}
    readout, weights = run(rule, **first, initial_weights=s["initial_weights"])
    assert_same((readout, weights), (x[:, :3] for x in whole))
    assert_same(run(rule, **second, initial_weights=weights[:, -1]), (x[:, 3:] for x in whole))
