"""The key-value model: the rank floor of its paper, its equations, its two ways to read."""

import numpy as np
import pytest
import torch
from tolerances import assert_close

from fwbio import FwbioError, program, reference
from fwbio.kernels import scan
from fwbio.models.networks.features import feature_map, width
from fwbio.models.networks.key_value_model import KeyValueModel, KeyValueModelConfig
from fwbio.tasks import TASKS

KINDS = {
    "linear": {"rule": "hebb", "feature": "elu"},
    "dpfp": {"rule": "hebb", "feature": "dpfp"},
    "delta": {"rule": "delta", "feature": "dpfp"},
    "unnormalised": {"rule": "hebb", "feature": "identity", "normaliser": "none"},
}
kinds = pytest.mark.parametrize("kind", KINDS)


def made(seed, keys, dtype=torch.float64, **options):
    torch.manual_seed(seed)
    model = KeyValueModel(KeyValueModelConfig(**{"keys": keys, "values": keys, **options}))
    return model.to(dtype)


def shown(seed, keys, trials=3, repeated=False):
    episode = TASKS["key_value"](seed=seed, trials=trials, keys=keys, repeated=repeated)
    return {n: torch.tensor(episode[n].values) for n in ("tokens", "contents", "target", "scored")}


def loss_of(model, seen):
    """Half the squared distance of each scored read-out from its one-hot value, their mean."""
    wanted = torch.nn.functional.one_hot(seen["target"], model.config.values)
    y = model(seen["tokens"], seen["contents"])
    return (y - wanted).square().sum(-1)[seen["scored"]].mean() / 2


def floor(S, d):
    return (1 - d / S) / 2


def set_by_hand(model, keys):
    """Make each key's own feature input what is given, for writing and for asking."""
    size = model.embedding.embedding_dim
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.embedding.weight[:, : keys.shape[1]] = keys
        model.key.weight[:, :size] = torch.eye(keys.shape[1], size)
        model.query.weight[:] = torch.eye(keys.shape[1], size)


@pytest.mark.parametrize(("S", "d"), [(5, 1), (7, 3), (12, 12)])
def test_the_rank_floor_is_what_a_projection_leaves(S, d, seed, rng):
    """Keys that are rows of d orthonormal columns leave exactly (1 - d / S) / 2."""
    model = made(seed, S, d_key=d, **KINDS["unnormalised"])
    columns, _ = np.linalg.qr(rng.standard_normal((S, d)))
    set_by_hand(model, torch.tensor(columns))
    assert_close(loss_of(model, shown(seed, S)) + 1, floor(S, d) + 1, "float64")


@kinds
def test_no_parameters_beat_the_rank_floor(kind, seed):
    """A read of rank d of a one-hot permutation, by Eckart and Young, even one fitted to it."""
    S, d = 12, 2
    model = made(seed, S, d_key=d, **KINDS[kind])
    seen = shown(seed, S, trials=1)
    bound = floor(S, width(model.config.feature, d))
    optimiser = torch.optim.Adam(model.parameters(), 1e-1)
    started = loss_of(model, seen).detach()
    for _ in range(60):
        optimiser.zero_grad()
        loss = loss_of(model, seen)
        loss.backward()
        optimiser.step()
        assert loss >= bound
    assert loss < started


def test_dpfp_keeps_four_keys_in_two_channels(seed):
    """One key a quadrant: the features are orthogonal, and nothing is left of the loss."""
    quadrants = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]]).double()
    model = made(seed, 4, d_key=2, normaliser="none", **KINDS["dpfp"])
    set_by_hand(model, quadrants)
    assert_close(loss_of(model, shown(seed, 4)) + 1, 1, "float64")


def test_the_last_value_counts_for_the_delta_rule(seed):
    """With beta = 1 and orthogonal keys each write replaces the one before it exactly."""
    quadrants = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]]).double()
    loss = {}
    for rule in ("delta", "hebb"):
        model = made(seed, 4, d_key=2, rule=rule)
        set_by_hand(model, quadrants)
        if model.strength is not None:
            torch.nn.init.constant_(model.strength.bias, 100.0)
        loss[rule] = loss_of(model, shown(seed, 4, trials=20, repeated=True)).item()
    assert_close(loss["delta"] + 1, 1, "float64")
    assert loss["hebb"] > 0.1


@kinds
@pytest.mark.parametrize("repeated", [False, True])
def test_reads_are_those_of_a_plain_loop(kind, repeated, seed):
    """The equations of the paper's section 6.1, one sequence at a time in NumPy."""
    model = made(seed, 6, d_key=4, **KINDS[kind])
    seen = shown(seed, 6, repeated=repeated)
    actual = model(seen["tokens"], seen["contents"]).detach().numpy()
    weights = {name: p.detach().numpy() for name, p in model.named_parameters()}
    for b, (tokens, contents) in enumerate(zip(seen["tokens"], seen["contents"], strict=True)):
        for t, read in enumerate(plain_reads(model.config, weights, tokens, contents)):
            assert_close(actual[b, t], read, "float64")


def plain_reads(config, weights, tokens, contents):
    def phi(x):
        found = feature_map(config.feature, torch.tensor(x)).numpy()
        return found / found.sum() if config.normaliser == "sum" else found

    W, z = np.zeros((width(config.feature, config.d_key), config.values)), 0.0
    for token, content in zip(tokens.tolist(), contents.tolist(), strict=True):
        e = weights["embedding.weight"][token]
        if content < 0:
            q = phi(weights["query.weight"] @ e + weights["query.bias"])
            yield q @ W / (z @ q + 1e-6 if config.normaliser == "attention" else 1.0)
            continue
        v = np.eye(config.values)[content]
        pair = np.concatenate([e, v])
        k = phi(weights["key.weight"] @ pair + weights["key.bias"])
        z = z + k
        if config.rule == "delta":
            drive = weights["strength.weight"] @ pair + weights["strength.bias"]
            W = W + np.outer(k, (v - W.T @ k) / (1 + np.exp(-drive)))
        else:
            W = W + np.outer(k, v)
        yield np.zeros(config.values)


@kinds
def test_the_last_state_reads_as_a_full_scan_does(kind, seed):
    model = made(seed, 6, d_key=4, **KINDS[kind])
    seen = shown(seed, 6, repeated=True)
    given = seen["tokens"], seen["contents"]
    by_scan = model(*given, run=lambda model, streams: scan(model.rule, **streams)[0])
    assert_close(model(*given), by_scan, "float64")


@kinds
def test_queries_may_come_between_writes(kind, seed):
    """A sequence's beginning reads as it does alone, though another trial writes there."""
    model = made(seed, 5, d_key=32, **KINDS[kind])
    tokens = torch.tensor([[0, 1, 0, 2, 1], [3, 4, 0, 3, 4]])
    contents = torch.tensor([[2, 3, -1, 1, -1], [1, 1, 4, -1, -1]])
    together = model(tokens, contents)
    assert_close(together[:1, :3], model(tokens[:1, :3], contents[:1, :3]), "float64")
    assert_close(together[1:], model(tokens[1:], contents[1:]), "float64")
    assert together[0, 2].any()
    assert not together[0, 3].any()


@kinds
def test_streams_are_a_program(kind, seed):
    model = made(seed, 5, d_key=4, **KINDS[kind])
    seen = shown(seed, 5, trials=2)
    streams = {
        n: x[:, :, 0].detach().numpy()
        for n, x in model.streams(seen["tokens"], seen["contents"]).items()
    }
    q, k, v = (streams.pop(name) for name in "qkv")
    record = reference.execute(program.make(model.rule, k, v, q, **streams))
    y = model(
        seen["tokens"],
        seen["contents"],
        run=lambda *_: torch.tensor(record.readout.values)[:, :, None],
    )
    assert_close(y, model(seen["tokens"], seen["contents"]), "float64")


@kinds
def test_gradients_reach_all_parameters(kind, seed):
    model = made(seed, 6, torch.float32, **KINDS[kind])
    loss_of(model, shown(seed, 6, repeated=True)).backward()
    for name, parameter in model.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


def test_training_learns_to_keep_what_has_room(seed):
    """Setting 1 with S = 20 below the 128 features of DPFP-1: almost all of the loss goes."""
    model = made(seed, 20, torch.float32, **KINDS["dpfp"])
    optimiser = torch.optim.Adam(model.parameters(), 1e-3)
    for step in range(150):
        optimiser.zero_grad()
        loss_of(model, shown(step, 20, trials=32)).backward()
        optimiser.step()
    assert loss_of(model, shown(1000, 20, trials=32)) < 0.01


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"rule": "kda"}, "no rule called 'kda'"),
        ({"rule": "delta", "normaliser": "attention"}, "normaliser='sum'"),
        ({"feature": "identity"}, "may vanish"),
        ({"feature": "dpfq"}, "did you mean 'dpfp'"),
        ({"normaliser": "l2"}, "no normaliser called"),
        ({"keys": 0}, "whole number from 1 up"),
        ({"feature": "dpfp", "d_key": 2, "nu": 4}, "at most 3"),
    ],
)
def test_configs_refused(options, told):
    with pytest.raises(FwbioError, match=told):
        KeyValueModelConfig(**{"keys": 4, "values": 4, **options})


@pytest.mark.parametrize(
    ("tokens", "contents", "told"),
    [
        ([[4]], [[0]], "tokens from 4 to 4, where there are 4"),
        ([[0]], [[-2]], "contents from -2"),
        ([[0, 1]], [[0]], r"give both as \[batch, time\]"),
    ],
)
def test_inputs_refused(tokens, contents, told, seed):
    with pytest.raises(FwbioError, match=told):
        made(seed, 4)(torch.tensor(tokens), torch.tensor(contents))
