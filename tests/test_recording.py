"""Recorded networks: programs that say what the network does, and networks run on substrates."""

import numpy as np
import pytest
import torch
import xarray as xr
from tolerances import assert_close

from fwbio import RULES, FwbioError, kernels, models, record, reference
from fwbio.models.networks import recording
from fwbio.models.networks.attention import AttentionConfig
from fwbio.models.networks.key_value_model import KeyValueModel, KeyValueModelConfig
from fwbio.models.networks.memory import FastWeightMemoryConfig
from fwbio.models.networks.sequence_model import SequenceModel, SequenceModelConfig
from fwbio.models.networks.training import SequenceTraining, TrainedNetwork, evaluate
from fwbio.tasks import TASKS

rules = pytest.mark.parametrize("rule", RULES)
VOCABULARY, TRIALS = 8, 3
# rules that the flow runs, to rounding, of keys from 0 up
FLOWING = [rule for rule in RULES if models.unsupported(rule, "flow") is None]


@pytest.fixture
def episode(seed):
    return TASKS["mqar"](seed=seed % 2**31, trials=TRIALS, vocabulary=VOCABULARY, length=8, pairs=2)


def made(seed, rule="delta", *, layers=2, dtype=torch.float64, **options):
    torch.manual_seed(seed)
    feature = "identity" if RULES[rule].terms.feature == "elu_plus_one" else "relu"
    mixer = FastWeightMemoryConfig(rule=rule, **({"feature": feature, "convolution": 2} | options))
    config = SequenceModelConfig(
        vocabulary=VOCABULARY, classes=VOCABULARY, width=6, layers=layers, mixer=mixer
    )
    return SequenceModel(config).to(dtype)


def own(model, episode, run=None):
    """The network's outputs as it computes them by itself."""
    with torch.no_grad():
        return model(torch.from_numpy(episode.tokens.values), run).numpy()


# What is recorded


@rules
def test_the_reference_runs_what_was_recorded(rule, episode, seed):
    """Reads and states of the program, by the rule's plain loop and by the network."""
    found = recording.record(made(seed, rule), episode, weights="all")
    ideal = reference.execute(found, weights="all")
    assert_close(found.readout.values, ideal.readout.values, "float64")
    assert_close(found.weights.values, ideal.weights.values, "float64")


@rules
def test_the_reference_agrees_with_networks_to_their_rounding(rule, episode, seed):
    calcium = RULES[rule].terms.plasticity in {"calcium", "calcium_control", "thresholded"}
    model, reads = made(seed, rule, dtype=torch.float32), {}

    def kept(layer, memory, streams):
        reads[layer] = kernels.scan(rule, **streams)[0]
        return reads[layer]

    own(model, episode, kept)
    ideal = reference.execute(recording.program(model, episode))
    for layer, y in reads.items():
        expected = ideal.readout.sel(layer=layer).transpose("trial", "step", "head", "post")
        bound = "passed thresholds float32" if calcium else "float32"
        assert_close(y.numpy(), expected.values, bound)


@pytest.mark.parametrize("rule", ["delta", "gla", "delta_product", "linear_attention"])
def test_states_are_those_of_scan(rule, episode, seed):
    model, states = made(seed, rule), {}

    def kept(layer, memory, streams):
        y, last, every = kernels.scan(rule, **streams, return_states=3)
        states[layer] = torch.cat([every, last[:, None]], 1)
        return y

    own(model, episode, kept)
    found = recording.record(model, episode, weights=3)
    assert found.snapshot.values.tolist() == [2, 5, 7]
    for layer, expected in states.items():
        columns = found.sizes["post"]
        weights = found.weights.sel(layer=layer).transpose("trial", "snapshot", "head", ...)
        assert_close(weights.values, expected[..., :columns].numpy(), "float64")
        if "normaliser" in found:
            z = found.normaliser.sel(layer=layer).transpose("trial", "snapshot", "head", "pre")
            assert_close(z.values, expected[..., columns].numpy(), "float64")


def test_records_name_their_axes(episode, seed, tmp_path):
    model = made(seed, "gated_delta", key_width=4)
    found = recording.record(model, episode)
    assert found.key.dims == ("layer", "head", "trial", "step", "pre")
    assert found.value.dims == found.readout.dims == ("layer", "head", "trial", "step", "post")
    assert found.beta.dims == ("layer", "head", "trial", "step")
    assert found.weights.dims == ("layer", "head", "trial", "snapshot", "pre", "post")
    sizes = {"layer": 2, "head": 2, "trial": TRIALS, "step": 8, "pre": 4, "post": 3, "snapshot": 1}
    assert dict(found.sizes) == sizes
    for dim in ("layer", "head", "trial", "step"):
        assert found[dim].values.tolist() == list(range(sizes[dim]))
    assert record.validate(found) == []
    assert record.load(record.save(found, tmp_path / "found.nc")).identical(found)
    one = recording.program(model, episode, layer=1)
    assert one.key.dims == ("head", "trial", "step", "pre")
    assert one.drop_vars("layer").equals(found.sel(layer=1, drop=True)[list(one.data_vars)])


def test_substeps_are_an_axis_of_their_own(episode, seed):
    found = recording.program(made(seed, "delta_product", substeps=3), episode)
    assert found.key.dims == ("layer", "head", "trial", "step", "substep", "pre")
    assert found.sizes["substep"] == 3


def test_layers_that_differ_are_a_tree(episode, seed):
    narrow, wide = (
        recording.program(made(seed, key_width=width), episode, layer=0) for width in (2, 4)
    )
    tree = recording.stacked({0: narrow, 3: wide})
    assert isinstance(tree, xr.DataTree)
    assert set(tree.children) == {"layer_0", "layer_3"}
    assert tree["layer_3"].to_dataset().identical(wide)
    other = recording.program(made(seed, "hebb", key_width=2), episode, layer=0)
    assert isinstance(recording.stacked({0: narrow, 1: other}), xr.DataTree)


def test_a_record_has_the_dtype_asked_for(episode, seed):
    model = made(seed, dtype=torch.float32)
    assert recording.record(model, episode).readout.dtype == np.float32
    wide = recording.record(model, episode, dtype="float64")
    assert wide.readout.dtype == np.float64
    assert_close(wide.readout.values, reference.execute(wide).readout.values, "float64")
    assert next(model.parameters()).dtype == torch.float32


# The network run on substrates


OPTIONS = [
    {},
    {"rule": "hebb", "feature": "dpfp", "nu": 2, "attention_normalised": True},
    {"rule": "gated_delta", "feature": "softmax", "output_gate": True, "output_norm": False},
    {"rule": "delta", "feature": "identity", "negative_eigenvalues": True},
    {"rule": "retnet", "feature": "identity", "convolution": 0},
    {"rule": "mamba2", "feature": "elu"},
    {"rule": "mlstm"},
    {"rule": "mesa"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("substrate", ["reference", "kernel"])
def test_substrates_that_run_the_rule_give_the_network_itself(substrate, options, episode, seed):
    model = made(seed, **options)
    found = recording.execute(model, episode, substrate)
    assert found.substrate == substrate
    assert_close(found.answers.output.values, own(model, episode), "float64")


@pytest.mark.parametrize("rule", FLOWING)
def test_synapses_from_event_to_event_are_the_network_itself(rule, episode, seed):
    model = made(seed, rule)
    if rule == "comba":  # a query less its key may be negative
        for _, memory in model.memories():
            torch.nn.init.zeros_(memory.erasing.correction)
    found = recording.execute(model, episode, "flow")
    assert_close(found.answers.output.values, own(model, episode), "float64")
    assert set(found.records) == {0, 1}


def test_rates_are_the_network_but_for_their_steps(episode, seed):
    model = made(seed, layers=1)
    few = episode.isel(trial=slice(1), step=slice(3))
    found = recording.execute(model, few, "rate", engine="numpy", write=0.1)
    assert_close(found.answers.output.values, own(model, few), "rate")


def test_spiking_reads_go_on_through_the_network(episode, seed):
    model, few = made(seed, layers=1), episode.isel(trial=slice(1), step=slice(3))
    found = recording.execute(model, few, "spiking", engine="numpy", write=0.1, seed=1)
    read = torch.from_numpy(found.records[0].readout.transpose("trial", "step", "head", ...).values)
    expected = own(model, few, lambda layer, memory, streams: read)
    assert_close(found.answers.output.values, expected, "float64")
    assert not np.allclose(expected, own(model, few))  # spikes are noisy


def test_what_a_layer_reads_is_what_the_next_one_programs_from(episode, seed):
    """Half the erasure in the first layer: the second layer's program is another one."""
    model = made(seed)

    def halved(layer, memory, streams):
        if layer == 0:
            given = recording.program(model, episode, layer=0)
            read = models.execute(given, "flow", erase_limit=0.1).readout
            return torch.from_numpy(read.transpose("trial", "step", "head", "post").values)
        return kernels.scan(memory.rule, **streams)[0]

    found = recording.execute(model, episode, "flow", layers=(0,), erase_limit=0.1)
    assert list(found.records) == [0]
    assert_close(found.answers.output.values, own(model, episode, halved), "float64")
    both = recording.execute(model, episode, "flow", erase_limit=0.1)
    unmoved = recording.program(model, episode)
    assert_close(both.records[0].value.values, unmoved.value.sel(layer=0).values, "float64")
    assert not np.allclose(both.records[1].value, unmoved.value.sel(layer=1))


def test_losses_and_accuracies_are_those_of_evaluation(episode, seed):
    model = made(seed)
    found, expected = recording.execute(model, episode, "kernel"), evaluate(model, episode)
    assert found.loss == pytest.approx(expected["loss"])
    assert found.accuracy == pytest.approx(expected["accuracy"])
    assert found.answers.output.dims == ("trial", "step", "channel")
    assert set(found.answers.data_vars) == {"loss", "correct", "output"}
    counted = found.answers.loss.notnull()
    assert (counted == episode.scored).all()
    shares = found.answers.correct.mean("trial").values
    np.testing.assert_allclose(shares, expected["step_accuracy"])


def test_a_trained_network_is_evaluated_as_its_model(episode, seed):
    model = made(seed)
    config = SequenceTraining(task="mqar", model=model.config, steps=1)
    network = TrainedNetwork(model=model, config=config, history=(), checkpoint="mqar.pt")
    found, expected = evaluate(network, episode), evaluate(model, episode)
    assert (found["loss"], found["accuracy"]) == (expected["loss"], expected["accuracy"])


@pytest.mark.parametrize(
    ("task", "sizes", "told"),
    [
        ("parity", {}, r"vocabulary = 2 in place of 8, classes = 2 in place of 8"),
        ("copying", {"symbols": 6}, r"classes = 6 in place of 8"),
        ("modular_sum", {"modulus": 8}, None),
        ("mqar", {"vocabulary": 4, "pairs": 1}, r"vocabulary = 4 in place of 8"),
        ("mqar", {"vocabulary": 8, "length": 16, "pairs": 3}, None),
        ("regression", {"inputs": 2}, r"vocabulary = 0 in place of 8, features = 3 in place of 0"),
        ("key_value", {"keys": 8}, r"it has contents;"),
    ],
)
def test_episodes_of_other_tokens_or_classes_are_refused(task, sizes, told, seed):
    model, shown = made(seed), TASKS[task](seed=1, trials=2, **sizes)
    for call in (evaluate, recording.record, recording.program):
        if told is None:
            call(model, shown)
            continue
        with pytest.raises(FwbioError, match=f"episode of '{task}' does not fit .*{told}"):
            call(model, shown)


@pytest.mark.parametrize(
    ("shown", "told"),
    [
        (("key_value", {"keys": 3}), "keys = 3 in place of 4, values = 3 in place of 4"),
        (("parity", {}), "no contents, keys = 2 in place of 4"),
    ],
)
def test_key_value_models_are_shown_their_keys_and_values(shown, told):
    model = KeyValueModel(KeyValueModelConfig(keys=4, values=4, d_key=3))
    task, sizes = shown
    for call in (evaluate, recording.record):
        with pytest.raises(FwbioError, match=told):
            call(model, TASKS[task](seed=1, trials=2, **sizes))


def test_regression_has_a_loss_and_no_accuracy(seed):
    shown = TASKS["regression"](seed=seed % 2**31, trials=2, inputs=3, examples=4)
    torch.manual_seed(seed)
    model = SequenceModel(
        SequenceModelConfig(
            features=4, classes=1, width=6, layers=1, mixer=FastWeightMemoryConfig(rule="hebb")
        )
    )
    found = recording.execute(model, shown, "reference")
    assert found.loss == pytest.approx(evaluate(model, shown)["loss"], rel=1e-5)
    assert np.isnan(found.accuracy)


@pytest.mark.parametrize("rule", ["hebb", "delta"])
def test_key_value_models_are_recorded_too(rule, seed):
    shown = TASKS["key_value"](seed=seed % 2**31, trials=2, keys=4, repeated=True)
    torch.manual_seed(seed)
    model = KeyValueModel(KeyValueModelConfig(keys=4, values=4, d_key=3, rule=rule)).double()
    inputs = (torch.from_numpy(shown[name].values) for name in ("tokens", "contents"))
    expected = model(*inputs).detach().numpy()
    for substrate in ("reference", "kernel", "flow"):
        found = recording.execute(model, shown, substrate)
        assert_close(found.answers.output.values, expected, "float64")
        assert (found.records[0].scored == shown.scored.values).all()


# What can't be recorded, or can't be run


@pytest.mark.parametrize("substrate", ["flow", "rate", "spiking"])
def test_rates_can_not_be_negative(substrate, episode, seed):
    model = made(seed, feature="identity")
    assert "rates can't be negative" in recording.refusal(model, substrate)
    with pytest.raises(FwbioError, match=r"'identity' have both signs.*train with feature='relu'"):
        recording.execute(model, episode, substrate)


@pytest.mark.parametrize("substrate", recording.SUBSTRATES)
@rules
def test_networks_are_refused_where_their_rule_is(rule, substrate, seed):
    reason = recording.refusal(made(seed, rule), substrate)
    if substrate in models.SUBSTRATES and models.unsupported(rule, substrate):
        assert models.unsupported(rule, substrate) in reason
    else:
        assert reason is None


def test_what_one_episode_asks_too_much_of_is_told_with_its_layer(episode, seed):
    model = made(seed, negative_eigenvalues=True)
    with torch.no_grad():
        for _, memory in model.memories():
            memory.gates["beta"].bias.fill_(9.0)
    assert recording.refusal(model, "flow") is None
    with pytest.raises(FwbioError, match="layer 0, flow substrate: a write erases 2 times"):
        recording.execute(model, episode, "flow")


def test_mistakes_are_told(episode, seed):
    model = made(seed)
    attention = SequenceModel(
        SequenceModelConfig(
            vocabulary=VOCABULARY, classes=VOCABULARY, width=6, mixer=AttentionConfig()
        )
    )
    pairs = TASKS["random_pairs"](seed=0, trials=1, pairs=2)
    for call, told in {
        lambda: recording.record(attention, episode): "'attention', which program no fast weights",
        lambda: recording.record(torch.nn.Linear(2, 2), episode): "Linear is no network",
        lambda: recording.program(model, episode, layer=5): "no layer 5",
        lambda: recording.execute(model, episode, "kernel", layers=(7,)): "choose from 0, 1",
        lambda: recording.execute(model, episode, "kernal"): "did you mean",
        lambda: recording.record(model, episode, dtype="float16"): "'float16' is not offered",
        lambda: recording.record(model, pairs): "shows no sequences",
        lambda: recording.record(model, TASKS["key_value"](0, trials=1)): "does not fit",
        lambda: recording.execute(model, episode, "flow", gapp=1): "no option called 'gapp'",
    }.items():
        with pytest.raises(FwbioError, match=told):
            call()
