"""The baselines - softmax attention, modern Hopfield layers, recurrent nets - by their algebra."""

import numpy as np
import pytest
import torch
from tolerances import TOLERANCES, assert_close

from fwbio import FwbioError
from fwbio.models.networks.attention import Attention, AttentionConfig, attend, rotated
from fwbio.models.networks.hopfield import Hopfield, HopfieldConfig, energy, retrieve
from fwbio.models.networks.recurrent import IRNN, LSTM, IRNNConfig, LSTMConfig

B, T, WIDTH = 2, 13, 12


def made(kind, config, seed, width=WIDTH):
    torch.manual_seed(seed)
    return kind(config, width).double()


def sequence(rng, steps=T, width=WIDTH):
    return torch.tensor(rng.standard_normal((B, steps, width)))


def parameters(mixer):
    return {name: p.detach().numpy() for name, p in mixer.named_parameters()}


def in_heads(x, weight, heads):
    return np.einsum("btw,hcw->bhtc", x, weight.reshape(heads, -1, weight.shape[1]))


def textbook_attention(mixer, x, heads, window):
    """Sums over the past, token by token, by the exponentials that the softmax stands for."""
    p, x = parameters(mixer), x.numpy()
    q, k, v = (in_heads(x, p[f"{name}.weight"], heads) for name in ("query", "key", "value"))
    y = np.zeros_like(v)
    for t in range(x.shape[1]):
        past = slice(max(0, t + 1 - window), t + 1)
        weight = np.exp(np.einsum("bhc,bhsc->bhs", q[:, :, t], k[:, :, past]) / q.shape[-1] ** 0.5)
        total = weight.sum(-1)[..., None]
        y[:, :, t] = np.einsum("bhs,bhsc->bhc", weight, v[:, :, past]) / total
    return np.moveaxis(y, 1, 2).reshape(*x.shape[:2], -1) @ p["output.weight"].T


# Attention


@pytest.mark.parametrize("window", [None, 1, 5, T, T + 1])
def test_attention_is_its_formula(rng, seed, window):
    config = AttentionConfig(heads=3, key_width=6, value_width=2, window=window)
    mixer, x = made(Attention, config, seed), sequence(rng)
    assert_close(mixer(x), textbook_attention(mixer, x, 3, window or T), "float64")


def test_a_window_of_one_returns_the_token_s_own_value(rng, seed):
    mixer, x = made(Attention, AttentionConfig(window=1, rotary=True), seed), sequence(rng)
    assert_close(mixer(x), mixer.output(mixer.value(x)), "float64")


def test_equal_keys_make_a_window_s_mean(rng):
    v = torch.tensor(rng.standard_normal((T, 3)))
    y = attend(torch.tensor(rng.standard_normal((T, 4))), torch.ones(T, 4).double(), v, window=4)
    assert_close(y[3:], v.unfold(0, 4, 1).mean(-1), "float64")


def test_the_past_has_no_order_without_positions(rng, seed):
    x = sequence(rng)
    order = torch.tensor([*rng.permutation(T - 1), T - 1])
    plain, turned = (
        made(Attention, AttentionConfig(rotary=rotary), seed) for rotary in (False, True)
    )
    assert_close(plain(x[:, order])[:, -1], plain(x)[:, -1], "float64")
    assert not torch.allclose(turned(x[:, order])[:, -1], turned(x)[:, -1])


def test_rotary_scores_depend_on_the_distance_alone(rng):
    q, k = (torch.tensor(rng.standard_normal(8)).expand(T, 8) for _ in range(2))
    scores = rotated(q) @ rotated(k).T
    assert_close(scores[1:, 1:], scores[:-1, :-1], "float64")
    assert_close(scores.diagonal(), (q * k).sum(-1), "float64")
    frequency = 10000.0 ** (-np.arange(4) / 4)
    pairs = q[0, :4].numpy() + 1j * q[0, 4:].numpy(), k[0, :4].numpy() + 1j * k[0, 4:].numpy()
    turned = np.exp(1j * np.arange(T)[:, None] * frequency) * pairs[0] * pairs[1].conj()
    assert_close(scores[:, 0], turned.real.sum(-1), "float64")


def test_rotary_positions_keep_norms(rng):
    x = torch.tensor(rng.standard_normal((3, T, 6)))
    assert_close(rotated(x, base=100.0).norm(dim=-1), x.norm(dim=-1), "float64")


def test_windowed_rotary_attention_does_not_know_when_it_began(rng, seed):
    mixer, x = made(Attention, AttentionConfig(rotary=True, window=4), seed), sequence(rng)
    later = torch.cat([sequence(rng, 9), x], 1)
    assert_close(mixer(later)[:, 9 + 3 :], mixer(x)[:, 3:], "float64")


# Hopfield


def unit_patterns(rng, count, channels):
    x = torch.tensor(rng.standard_normal((count, channels)))
    return x / x.norm(dim=-1, keepdim=True)


def test_far_more_patterns_than_channels_are_fixed_points(rng):
    """Theorem 5 of Ramsauer et al.: the error of one step, by the patterns' separation."""
    count, channels, beta, away = 2000, 64, 100.0, 0.05
    patterns = unit_patterns(rng, count, channels)
    overlaps = (patterns @ patterns.T).fill_diagonal_(-1)
    separation = 1 - overlaps.max(1).values
    bound = 2 * (count - 1) * torch.exp(-beta * (separation - 2 * away))
    start = patterns + away * unit_patterns(rng, count, channels)
    error = (retrieve(patterns, start, beta=beta) - patterns).norm(dim=-1)
    assert (error <= bound).all()
    assert bound.max() < away**2
    again = retrieve(patterns, start, beta=beta, steps=6)
    assert_close(retrieve(patterns, again, beta=beta), again, "float64")


def test_a_hot_network_retrieves_the_mean(rng):
    patterns = unit_patterns(rng, 7, 4)
    state = 5 * unit_patterns(rng, 3, 4)
    assert_close(retrieve(patterns, state, beta=0.0), patterns.mean(0).expand(3, 4), "float64")


def test_a_cold_network_retrieves_the_nearest_pattern(rng):
    patterns, state = unit_patterns(rng, 7, 4), unit_patterns(rng, 5, 4)
    nearest = (state @ patterns.T).argmax(-1)
    assert_close(retrieve(patterns, state, beta=1e6), patterns[nearest], "float64")


def test_every_step_lowers_the_energy(rng):
    patterns = torch.tensor(rng.standard_normal((9, 4)))
    states = [torch.tensor(rng.standard_normal((50, 4)))]
    for _ in range(5):
        states.append(retrieve(patterns, states[-1], beta=1.5))
    energies = torch.stack([energy(patterns, state, beta=1.5) for state in states])
    rounding = TOLERANCES["float64"].value * energies.max()
    assert (energies[1:] <= energies[:-1] + rounding).all()
    assert (energies[1:] >= 0).all()


def test_what_a_step_moves_is_the_energy_s_slope(rng):
    patterns = torch.tensor(rng.standard_normal((9, 4)))
    state = torch.tensor(rng.standard_normal((5, 4)), requires_grad=True)
    (slope,) = torch.autograd.grad(energy(patterns, state, beta=0.7).sum(), state)
    assert_close(state - slope, retrieve(patterns, state, beta=0.7), "float64")


def test_one_step_of_hopfield_is_attention(rng, seed):
    x = sequence(rng)
    attention = made(Attention, AttentionConfig(heads=3), seed)
    hopfield = made(Hopfield, HopfieldConfig(heads=3, steps=1), seed + 1)
    hopfield.load_state_dict(attention.state_dict())
    assert_close(hopfield(x), attention(x), "float64")


def test_a_token_retrieves_from_its_own_past(rng, seed):
    config = HopfieldConfig(heads=1, beta=2.0, steps=4)
    mixer, x = made(Hopfield, config, seed), sequence(rng)
    with torch.no_grad():
        mixer.value.weight.copy_(mixer.key.weight)
        mixer.output.weight.copy_(torch.eye(WIDTH))
    out = mixer(x)
    for t in (0, 5, T - 1):
        for one in range(B):
            stored, start = mixer.key(x[one, : t + 1]), mixer.query(x[one, t])
            assert_close(out[one, t], retrieve(stored, start, beta=2.0, steps=4), "float64")


def test_states_of_another_size_are_refused():
    for function in (retrieve, energy):
        with pytest.raises(FwbioError, match=r"states \[3\] for patterns \[5, 4\]"):
            function(torch.zeros(5, 4), torch.zeros(3), beta=1.0)


# Recurrent nets


def logistic(x):
    return 1 / (1 + np.exp(-x))


def test_lstm_is_its_formula(rng, seed):
    mixer, x = made(LSTM, LSTMConfig(units=5), seed), sequence(rng)
    p = parameters(mixer.cells)
    h, c, states = np.zeros((B, 5)), np.zeros((B, 5)), []
    for t in range(T):
        drive = x[:, t].numpy() @ p["weight_ih_l0"].T + h @ p["weight_hh_l0"].T
        i, f, g, o = np.split(drive + p["bias_ih_l0"] + p["bias_hh_l0"], 4, axis=-1)
        c = logistic(f) * c + logistic(i) * np.tanh(g)
        h = logistic(o) * np.tanh(c)
        states.append(h)
    assert_close(mixer(x), np.stack(states, 1), "float64")


def test_the_forget_bias_is_the_log_odds_of_keeping(seed):
    mixer = made(LSTM, LSTMConfig(units=3, forget_bias=2.0), seed, width=3)
    with torch.no_grad():
        for name, parameter in mixer.cells.named_parameters():
            kept = parameter[3:6].clone() if name.startswith("bias") else 0.0
            parameter.zero_()
            parameter[3:6] = kept
        mixer.cells.weight_ih_l0[6:9] = torch.eye(3)
    x = torch.zeros(1, T, 3).double()
    x[:, 0] = torch.tensor([1.0, -0.5, 2.0])
    cell = logistic(2.0) ** np.arange(T)[:, None] * np.tanh(x[0, 0].numpy()) / 2
    assert_close(mixer(x)[0], np.tanh(cell) / 2, "float64")


def test_irnn_is_its_formula_and_starts_as_published(rng, seed):
    mixer, x = made(IRNN, IRNNConfig(units=200), seed, width=300), sequence(rng, 4, 300)
    p = parameters(mixer.cells)
    assert np.array_equal(p["weight_hh_l0"], np.eye(200))
    assert not (p["bias_ih_l0"].any() or p["bias_hh_l0"].any())
    spread = p["weight_ih_l0"].std() / 1e-3 - 1
    standard_error = (2 * p["weight_ih_l0"].size) ** -0.5
    assert abs(spread) < TOLERANCES["standard errors"].value * standard_error
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.normal_(std=0.1)
    h, states, p = np.zeros((B, 200)), [], parameters(mixer.cells)
    for t in range(4):
        drive = x[:, t].numpy() @ p["weight_ih_l0"].T + h @ p["weight_hh_l0"].T
        h = np.maximum(0, drive + p["bias_ih_l0"] + p["bias_hh_l0"])
        states.append(h)
    assert_close(mixer(x), np.stack(states, 1), "float64")


def test_irnn_keeps_its_activity_while_nothing_enters(rng, seed):
    x = sequence(rng)
    x[:, 1:] = 0
    states = made(IRNN, IRNNConfig(units=7, input_std=1.0), seed)(x)
    assert (states[:, 0] > 0).any()
    assert torch.equal(states, states[:, :1].expand_as(states))
    leaky = made(IRNN, IRNNConfig(units=7, input_std=1.0, identity=0.5), seed)(x)
    assert_close(leaky[:, 3], states[:, 0] / 8, "float64")


# Sizes, and what is refused


def count(mixer):
    return sum(parameter.numel() for parameter in mixer.parameters())


@pytest.mark.parametrize(
    ("kind", "config", "parameters"),
    [
        (Attention, AttentionConfig(heads=4), 4 * WIDTH**2),
        (Attention, AttentionConfig(heads=2, key_width=5, value_width=3), 2 * 2 * (5 + 3) * WIDTH),
        (Hopfield, HopfieldConfig(heads=2, key_width=5, value_width=3), 2 * 2 * (5 + 3) * WIDTH),
        (LSTM, LSTMConfig(), 4 * WIDTH * (2 * WIDTH + 2)),
        (LSTM, LSTMConfig(units=5), 4 * 5 * (WIDTH + 5 + 2)),
        (IRNN, IRNNConfig(units=5), 5 * (WIDTH + 5 + 2)),
    ],
)
def test_parameters_are_as_many_as_the_formula_has(kind, config, parameters):
    mixer = kind(config, WIDTH)
    assert count(mixer) == parameters
    assert mixer(torch.zeros(B, T, WIDTH)).shape == (B, T, mixer.out_features)


@pytest.mark.parametrize(
    ("config", "values", "says"),
    [
        (AttentionConfig, {"heads": 0}, "heads = 0"),
        (AttentionConfig, {"window": 1.5}, "window = 1.5"),
        (AttentionConfig, {"rotary": "yes"}, "rotary = 'yes'"),
        (AttentionConfig, {"base": 1.0}, "base = 1.0; give a number above 1"),
        (AttentionConfig, {"rotary": True, "key_width": 3}, "in pairs, and a head has 3"),
        (HopfieldConfig, {"steps": 0}, "steps = 0"),
        (HopfieldConfig, {"beta": -1.0}, "beta = -1.0"),
        (HopfieldConfig, {"key_width": True}, "key_width = True"),
        (LSTMConfig, {"units": 0}, "units = 0"),
        (LSTMConfig, {"forget_bias": float("nan")}, "forget_bias = nan"),
        (IRNNConfig, {"units": "many"}, "units = 'many'"),
        (IRNNConfig, {"input_std": float("inf")}, "input_std = inf"),
    ],
)
def test_a_number_out_of_range_is_told_in_one_line(config, values, says):
    with pytest.raises(FwbioError, match=f"^{config.__name__}: .*{says}") as error:
        config(**values)
    assert "\n" not in str(error.value)


def test_heads_have_to_fit_the_width():
    with pytest.raises(FwbioError, match="5 heads do not divide a width of 12"):
        Attention(AttentionConfig(heads=5), WIDTH)
    with pytest.raises(FwbioError, match="5 heads do not divide a width of 12"):
        Hopfield(HopfieldConfig(heads=5), WIDTH)
    with pytest.raises(FwbioError, match="a head has 3"):
        Attention(AttentionConfig(heads=4, rotary=True), WIDTH)
