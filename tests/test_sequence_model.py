"""The stack of mixers: what it computes, what it may see, how large it is, and its plain data."""

import json

import pytest
import torch
from tolerances import TOLERANCES, assert_close

from fwbio import FwbioError
from fwbio.kernels import scan
from fwbio.models.networks.attention import AttentionConfig
from fwbio.models.networks.fast_weights_rnn import FastWeightsRNNConfig
from fwbio.models.networks.key_value_model import KeyValueModel, KeyValueModelConfig
from fwbio.models.networks.memory import FastWeightMemory, FastWeightMemoryConfig
from fwbio.models.networks.mixers import MIXERS, make_mixer, mixer_name
from fwbio.models.networks.models import MODELS, build, config_from_dict, config_to_dict
from fwbio.models.networks.recurrent import IRNNConfig, LSTMConfig
from fwbio.models.networks.sequence_model import SequenceModel, SequenceModelConfig

B, T, WIDTH, VOCABULARY, CLASSES = 2, 37, 12, 11, 5
PLAIN = {"residual": False, "norm": "none", "mlp": 0}


def mixer_config(name):
    return MIXERS[name][0]()


def config(mixer="attention", **changes):
    mixer = mixer_config(mixer) if isinstance(mixer, str) else mixer
    inputs = {} if "features" in changes else {"vocabulary": VOCABULARY}
    sizes = {"classes": CLASSES, "width": WIDTH, "mixer": mixer}
    return SequenceModelConfig(**(inputs | sizes | changes))


def made(seed, *args, **changes):
    torch.manual_seed(seed)
    return SequenceModel(config(*args, **changes)).double()


def tokens(rng, steps=T):
    return torch.tensor(rng.integers(VOCABULARY, size=(B, steps)))


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


# What may be seen


@pytest.mark.parametrize("name", MIXERS)
def test_a_mixer_takes_no_sequences_too(name):
    """The share of a process, where a batch has fewer sequences than there are processes."""
    mixer = make_mixer(mixer_config(name), WIDTH)
    out = mixer(torch.zeros(0, 5, WIDTH))
    assert out.shape == (0, 5, WIDTH)
    out.sum().backward()


@pytest.mark.parametrize("name", MIXERS)
def test_a_mixer_sees_the_past_alone(rng, seed, name):
    torch.manual_seed(seed)
    mixer = make_mixer(mixer_config(name), WIDTH).double()
    x = torch.tensor(rng.standard_normal((B, T, WIDTH)))
    out = mixer(x)
    assert out.shape == (B, T, mixer.out_features)
    for t in (1, 20, T - 1):
        other = x.clone()
        other[:, t:] = torch.tensor(rng.standard_normal((B, T - t, WIDTH)))
        changed = mixer(other)
        assert_close(changed[:, :t], out[:, :t], "float64")
        assert not torch.allclose(changed[:, t:], out[:, t:])


@pytest.mark.parametrize("name", MIXERS)
def test_sequences_of_a_batch_do_not_see_each_other(rng, seed, name):
    model, shown = made(seed, name, layers=1), tokens(rng)
    alone = torch.cat([model(shown[i : i + 1]) for i in range(B)])
    assert_close(model(shown), alone, "float64")


@pytest.mark.parametrize("name", ["memory", "attention", "lstm"])
def test_a_stack_sees_the_past_alone_and_all_of_it(rng, seed, name):
    changes = {"features": WIDTH, "embed": False, "positions": "learned", "max_length": T}
    model = made(seed, name, layers=3, **changes)
    x = torch.tensor(rng.standard_normal((B, T, WIDTH)), requires_grad=True)
    (slope,) = torch.autograd.grad(model(x)[:, 20].square().sum(), x)
    assert not slope[:, 21:].any()
    assert slope[:, :21].abs().amax(-1).gt(0).all()


# What is computed


def test_layers_add_what_they_make_of_a_normalised_stream(rng, seed):
    model, shown = made(seed, layers=2), tokens(rng)
    x = model.embedding(shown)
    for layer in model.layers:
        x = x + layer.mixer(x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt())
        y = x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        mlp = layer.mlp[1]
        drive = y @ mlp.up.weight.T
        x = x + (drive * drive.sigmoid() * (y @ mlp.gate.weight.T)) @ mlp.down.weight.T
    x = x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    assert_close(model(shown), x @ model.head[0].weight.T + model.head[0].bias, "float64")


def test_layers_that_add_nothing_leave_the_stream(rng, seed):
    model, shown = made(seed, norm="layer", activation="gelu", layers=3), tokens(rng)
    for layer in model.layers:
        torch.nn.init.zeros_(layer.mixer.output.weight)
        torch.nn.init.zeros_(layer.mlp[1].down.weight)
    x = model.embedding(shown)
    centred = x - x.mean(-1, keepdim=True)
    expected = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    assert_close(model(shown), model.head(expected), "float64")


def test_plain_composition_is_that(rng, seed):
    model, shown = made(seed, LSTMConfig(units=7), **PLAIN, layers=3, head=(4,)), tokens(rng)
    first, second, third = (layer.mixer for layer in model.layers)
    x = third(second(first(model.embedding(shown))))
    assert x.shape[-1] == 7
    inner, _, outer = model.head
    hidden = (x @ inner.weight.T + inner.bias).clamp_min(0)
    assert_close(model(shown), hidden @ outer.weight.T + outer.bias, "float64")


def test_a_linear_model_of_features_can_be_all_there_is(rng, seed):
    """Scaling the values' and the queries' inputs scales an unnormalised Hebbian layer thrice."""
    memory = FastWeightMemoryConfig(rule="hebb", normalise="none", output_norm=False)
    model = made(seed, memory, features=WIDTH, embed=False, layers=1, **PLAIN)
    torch.nn.init.zeros_(model.head[0].bias)
    x = torch.tensor(rng.standard_normal((B, T, WIDTH)))
    assert_close(model(2 * x), 8 * model(x), "float64")


def test_learned_positions_are_all_that_tells_equal_tokens_apart(seed):
    shown = torch.zeros(1, T, dtype=torch.int64)
    plain = made(seed)(shown)
    assert_close(plain, plain[:, :1].expand_as(plain), "float64")
    placed = made(seed, positions="learned", max_length=T, layers=1)
    torch.nn.init.zeros_(placed.embedding.weight)
    torch.nn.init.zeros_(placed.layers[0].mixer.output.weight)
    torch.nn.init.zeros_(placed.layers[0].mlp[1].down.weight)
    assert_close(placed(shown)[0], placed.head(placed.norm(placed.positions.weight)), "float64")


def test_tied_embeddings_are_the_output_s_weights(rng, seed):
    model = made(seed, classes=VOCABULARY, tie_embeddings=True)
    free = made(seed, classes=VOCABULARY)
    assert count(free) - count(model) == VOCABULARY * WIDTH
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    model(tokens(rng)).square().mean().backward()
    optimiser.step()
    assert torch.equal(model.head[0].weight, model.embedding.weight)


# Runs of the memories


def test_memories_run_where_they_are_told_to(rng, seed):
    model, shown, told = made(seed, "memory", layers=3), tokens(rng), []

    def run(layer, memory, streams):
        told.append((layer, memory))
        return scan(memory.rule, **streams)[0]

    assert torch.equal(model(shown, run), model(shown))
    assert told == model.memories()
    assert [layer for layer, _ in told] == [0, 1, 2]
    assert all(isinstance(memory, FastWeightMemory) for _, memory in told)


def test_a_layer_s_read_outs_are_those_of_the_run(rng, seed):
    model, shown = made(seed, "memory", layers=2, mlp=0), tokens(rng)

    def silent(layer, memory, streams):
        y = scan(memory.rule, **streams)[0]
        return y * 0 if layer == 1 else y

    model_of_one = made(seed, "memory", layers=1, mlp=0)
    model_of_one.load_state_dict(
        {name: model.state_dict()[name] for name in model_of_one.state_dict()}
    )
    assert_close(model(shown, silent), model_of_one(shown), "float64")


def test_models_without_memories_have_none_to_run(rng, seed):
    model, shown = made(seed, "lstm"), tokens(rng)
    assert model.memories() == []
    assert torch.equal(
        model(shown, lambda *_: pytest.fail("there is nothing to run")), model(shown)
    )


# Sizes


@pytest.mark.parametrize(
    ("changes", "parameters"),
    [
        ({}, 2 * (4 * WIDTH**2 + 3 * WIDTH * 24 + 2 * WIDTH) + WIDTH),
        ({"activation": "gelu"}, 2 * (4 * WIDTH**2 + 2 * WIDTH * 24 + 2 * WIDTH) + WIDTH),
        ({"norm": "layer", "mlp": 0}, 2 * (4 * WIDTH**2 + 2 * WIDTH) + 2 * WIDTH),
        ({"norm": "none", "mlp": 0.5, "layers": 1}, 4 * WIDTH**2 + 3 * WIDTH * 6),
        (
            {"positions": "learned", "max_length": 9, "norm": "none", "mlp": 0},
            8 * WIDTH**2 + 9 * 12,
        ),
    ],
)
def test_parameters_are_as_many_as_the_formula_has(changes, parameters):
    ends = VOCABULARY * WIDTH + (WIDTH + 1) * CLASSES
    assert count(SequenceModel(config(**changes))) == parameters + ends


def test_the_model_of_ba_2016_is_one_of_them():
    units, width = 20, 100
    model = build(
        SequenceModelConfig(
            vocabulary=37,
            classes=10,
            width=width,
            layers=1,
            mixer=FastWeightsRNNConfig(units=units),
            head=(100,),
            **PLAIN,
        )
    )
    mixer = units * (width + 1) + units**2 + 2 * units
    assert count(model) == 37 * width + mixer + (units + 1) * 100 + (100 + 1) * 10
    assert model(torch.zeros(3, 11, dtype=torch.int64)).shape == (3, 11, 10)


def test_embeddings_start_as_wide_as_asked(seed):
    for changes, std in (
        ({}, 1.0),
        ({"embedding_std": 0.02}, 0.02),
        ({"classes": 4000, "tie_embeddings": True}, WIDTH**-0.5),
    ):
        weight = made(seed, **({"vocabulary": 4000} | changes)).embedding.weight
        standard_error = std * (2 * weight.numel()) ** -0.5
        assert abs(weight.std() - std) < TOLERANCES["standard errors"].value * standard_error


# Plain data


@pytest.mark.parametrize("name", MIXERS)
def test_a_config_survives_as_plain_data(rng, seed, name):
    first = config(name, layers=1, head=(3, 4), mlp=1)
    text = json.dumps(config_to_dict(first))
    again = config_from_dict(json.loads(text))
    assert again == first
    assert json.dumps(config_to_dict(again)) == text
    assert mixer_name(again.mixer) == name
    one, other = (build(c).double() for c in (first, again))
    other.load_state_dict(one.state_dict())
    shown = tokens(rng)
    assert torch.equal(other(shown), one(shown))


def test_a_key_value_model_survives_as_plain_data():
    first = KeyValueModelConfig(keys=5, values=4, rule="delta", nu=2)
    again = config_from_dict(json.loads(json.dumps(config_to_dict(first))))
    assert again == first
    assert isinstance(build(again), KeyValueModel)


def test_files_from_before_a_field_had_a_default_stay_readable():
    old = {"model": "sequence", "vocabulary": 3, "classes": 2, "mixer": {"mixer": "lstm"}}
    expected = SequenceModelConfig(vocabulary=3, classes=2, mixer=LSTMConfig())
    assert config_from_dict(old) == expected


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": "sequenc"}, "no model called 'sequenc'; did you mean 'sequence'"),
        ({"widht": 3}, "no field called 'widht'; did you mean 'width'"),
        ({"mixer": {"mixer": "lstn"}}, "no mixer called 'lstn'; did you mean 'lstm'"),
        ({"mixer": {"mixer": "lstm", "unit": 3}}, "no field called 'unit'; did you mean 'units'"),
        ({"mixer": {"units": 3}}, "it names no model or mixer"),
        ({"mixer": 3}, "int is no mixer's config"),
        ({"model": None}, "it names no model or mixer"),
        ({"width": "wide"}, "width = 'wide'"),
        ({"head": 5}, "head = 5; give a list"),
        ({"head": {"a": 1}}, "head = {'a': 1}; give a list"),
    ],
)
def test_plain_data_that_is_no_config_is_told_in_one_line(changes, says):
    data = {"model": "sequence", "vocabulary": 3, "classes": 2, "mixer": {"mixer": "lstm"}}
    with pytest.raises(FwbioError, match=says) as error:
        config_from_dict(data | changes)
    assert "\n" not in str(error.value)


def test_a_missing_field_is_named():
    with pytest.raises(FwbioError, match="network config 'sequence': classes is missing"):
        config_from_dict({"model": "sequence", "vocabulary": 3, "mixer": {"mixer": "lstm"}})


def test_what_is_no_config_is_neither_built_nor_written():
    for function in (build, config_to_dict):
        with pytest.raises(FwbioError, match="dict is no"):
            function({"model": "sequence"})
    with pytest.raises(FwbioError, match="LSTMConfig is no model's config"):
        build(LSTMConfig())


def test_every_config_of_the_tables_stands_beside_its_module():
    for kind, module in (*MIXERS.values(), *MODELS.values()):
        assert kind.__name__ == f"{module.__name__}Config"
        assert kind.__module__ == module.__module__


# What is refused


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"vocabulary": 0}, "vocabulary = 0 and features = 0; give one of them"),
        ({"vocabulary": 3, "features": 2}, "give one of them"),
        ({"width": 0}, "width = 0"),
        ({"layers": 1.0}, "layers = 1.0"),
        ({"classes": -1}, "classes = -1"),
        ({"norm": "rsm"}, "did you mean 'rms'"),
        ({"activation": "relu"}, "no activation called 'relu'"),
        ({"positions": "sine"}, "no positions called 'sine'"),
        ({"mlp": -1.0}, "mlp = -1.0"),
        ({"mlp": 0.01}, "mlp = 0.01 leaves a width of 12 no hidden unit"),
        ({"residual": False}, "with residual=False give norm='none' and mlp=0"),
        ({"features": 3, "embed": False}, "features = 3 can't enter a width of 12"),
        ({"embed": False}, "features = 0 can't enter a width of 12"),
        ({"positions": "learned"}, "positions = 'learned' with max_length = 0"),
        ({"max_length": 5}, "positions = 'none' with max_length = 5"),
        ({"tie_embeddings": True}, "an output tied to the embeddings"),
        ({"head": (0,)}, "head = 0"),
        ({"mixer": "lstm"}, "str is no mixer's config"),
    ],
)
def test_a_config_that_makes_no_model_is_told_in_one_line(changes, says):
    inputs = {} if "features" in changes else {"vocabulary": VOCABULARY}
    sizes = {"classes": CLASSES, "width": WIDTH, "mixer": AttentionConfig()}
    with pytest.raises(FwbioError, match=says) as error:
        SequenceModelConfig(**(inputs | sizes | changes))
    assert "\n" not in str(error.value)


def test_a_mixer_has_to_fit_the_stream():
    with pytest.raises(FwbioError, match="5 outputs can't add to a stream of 12 channels"):
        SequenceModel(config(IRNNConfig(units=5)))
    tied = config(IRNNConfig(units=5), classes=VOCABULARY, tie_embeddings=True, **PLAIN)
    with pytest.raises(FwbioError, match="gives 5 channels and an embedding has 12"):
        SequenceModel(tied)


def test_inputs_of_another_kind_are_refused():
    of_tokens = SequenceModel(config(positions="learned", max_length=4))
    of_features = SequenceModel(config(features=3))
    whole = torch.zeros(B, 4, dtype=torch.int64)
    for model, inputs, says in (
        (of_tokens, torch.zeros(B, 4), r"give tokens \[B, T\]"),
        (of_tokens, whole > 0, "dtype torch.bool"),
        (of_tokens, whole + VOCABULARY, "tokens from 11 to 11, of a vocabulary of 11"),
        (of_tokens, whole - 1, "tokens from -1 to -1"),
        (of_tokens, whole[0], r"shape \[4\] and dtype torch.int64"),
        (of_tokens, whole.repeat(1, 2), "8 steps, where 4 positions were learned"),
        (of_features, torch.zeros(B, 4, 2), r"give features \[B, T, 3\]"),
        (of_features, torch.zeros(3), r"give features \[B, T, 3\]"),
        (of_features, whole, r"give features \[B, T, 3\]"),
    ):
        with pytest.raises(FwbioError, match=says):
            model(inputs)
