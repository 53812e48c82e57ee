"""Identification: its filter, its fits and its answers, on recordings whose rule is known."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from scipy import stats
from tolerances import TOLERANCES, assert_close

from fwbio import RULES, FwbioError, models, program, reference, tasks
from fwbio.analyses.identification import from_record, identify
from fwbio.analyses.identification.filtering import derived, filtered, seen
from fwbio.analyses.identification.fitting import fit, long_run
from fwbio.analyses.identification.study import EQUIVALENT, RULES_STUDIED, case, is_right
from fwbio.analyses.identification.unknowns import Refused, model

SMALL = {"pre": 8, "post": 8, "steps": 100}
SUMS_AND_CORRECTIONS = ("hebb", "retnet", "gla", "delta", "gated_delta", "comba", "longhorn")


def recorded(record):
    """What an identification gets of a case, and the constants behind it."""
    truth = record.attrs["truth"]
    return record.drop_attrs(deep=False), truth


def parameters_of(truth, found):
    """The constants of a case in the order and the terms of a model."""
    each = []
    for unknown in found.unknowns:
        value = np.broadcast_to(truth[unknown.name], (unknown.size,))
        each.append(np.log(value) if unknown.logarithmic else value)
    return np.concatenate(each)


@pytest.mark.parametrize("rule", RULES_STUDIED)
def test_at_its_constants_a_rule_predicts_all_it_made(rule, seed):
    record, truth = recorded(case(rule, seed, pre=5, post=4, steps=12, noise=0))
    found = model(RULES[rule], from_record(record), observed="weights", scale=1.0)
    theta = parameters_of(truth, found)
    left = filtered(found, seen(found), theta[None], np.zeros(1))
    assert_close(np.sqrt(left.squares.sum()) / np.linalg.norm(record.weights), 0.0, "float64")


@pytest.mark.parametrize("rule", ["gated_delta", "kda", "oja", "rwkv7", "dendritic_error"])
@pytest.mark.parametrize("observed", ["weights", "readout"])
def test_slopes_are_those_of_the_sum_of_squares(rule, observed, seed, rng):
    record, truth = recorded(case(rule, seed, pre=3, post=2, steps=9, noise=0.3))
    record["readout"] = (("step", "post"), rng.standard_normal((9, 2)))
    found = model(RULES[rule], from_record(record), observed=observed, scale=None)
    theta = parameters_of(truth | {"scale": 1.3}, found)
    _, slopes = derived(found, seen(found), theta[None], np.zeros(1))
    step = 1e-5
    around = theta + step * np.concatenate([np.eye(found.size), -np.eye(found.size)])
    half = filtered(found, seen(found), around, np.zeros(len(around))).squares.sum((1, 2)) / 2
    central = (half[: found.size] - half[found.size :]) / (2 * step)
    assert_close(slopes.slope[0], central, "differences")


@pytest.mark.parametrize(("rule", "decay"), [("hebb", 1.0), ("retnet", 0.8)])
@pytest.mark.parametrize("kept", [(range(7),), ((0, 2, 3, 6),), (range(7), (1, 4, 5), (0, 6))])
def test_the_filter_gives_the_exact_likelihood_of_sums(rule, decay, kept, rng):
    """A synapse is an autoregression seen in noise: its numbers are jointly normal."""
    steps, q, r = 7, 0.3, 0.5
    shape = (len(kept), steps)
    keys, values = rng.standard_normal((*shape, 2)), rng.standard_normal((*shape, 3))
    weights = np.full((*shape, 2, 3), np.nan)
    for trial, places in enumerate(kept):
        weights[trial, places] = rng.standard_normal((len(places), 2, 3))
    record = xr.Dataset(
        {
            "key": (("trial", "step", "pre"), keys),
            "value": (("trial", "step", "post"), values),
            "weights": (("trial", "step", "pre", "post"), weights),
        }
    )
    found = model(RULES[rule], from_record(record), observed="weights", scale=1.0)
    theta = np.array([0.7] if rule == "hebb" else [np.log(decay), 0.7])
    shared = np.array([sum(decay ** (2 * lag) for lag in range(t + 1)) for t in range(steps)])
    exact = 0.0
    for trial, places in enumerate(map(np.array, kept)):
        W, mean = np.zeros((2, 3)), []
        for k, v in zip(keys[trial], values[trial], strict=True):
            W = decay * W + 0.7 * np.outer(k, v)
            mean.append(W)
        earlier, later = np.minimum.outer(places, places), np.maximum.outer(places, places)
        covariance = q * shared[earlier] * decay ** (later - earlier) + r * np.eye(len(places))
        away = (weights[trial] - np.array(mean))[places].reshape(len(places), -1).T
        exact += stats.multivariate_normal(np.zeros(len(places)), covariance).logpdf(away).sum()
    run = filtered(found, seen(found), theta[None], np.array([q / r]))
    variance, n = r * run.spread[0], run.counts
    likelihood = -0.5 * (n * np.log(2 * np.pi * variance) + run.squares[0] / variance).sum()
    assert_close(likelihood, exact, "float64")


def test_estimates_are_unbiased_and_their_intervals_honest(seed):
    """95 % intervals miss as often as they say, and estimates are right on average."""
    rng = np.random.default_rng(seed)
    decay, beta, repeats = 0.9, 0.5, 50
    inside, errors = [], []
    for _ in range(repeats):
        keys, values = rng.standard_normal((2, 60, 3))
        streams = {"log_decay": np.log(decay), "beta": beta}
        made = reference.execute(
            program.make("gated_delta", keys / 2, values, keys, **streams), weights="all"
        )
        noisy = made.weights + 0.1 * rng.standard_normal(made.weights.shape)
        found = model(
            RULES["gated_delta"],
            from_record(made[["key", "value"]].assign(weights=noisy)),
            observed="weights",
            scale=1.0,
        )
        done = fit(found)
        done = fit(found, start=done)
        error = done.theta - [np.log(decay), beta]
        width = np.sqrt(np.diag(done.covariance))
        errors.append(error / width)
        inside.append(np.abs(error) < 1.96 * width)
    bound = TOLERANCES["several means"].value
    scaled = np.array(errors)
    assert (np.abs(scaled.mean(0)) < bound / np.sqrt(repeats) * scaled.std(0)).all()
    missed = repeats * 2 - np.sum(inside)
    assert missed <= stats.binom(repeats * 2, 0.05).isf(1e-4)


@pytest.mark.parametrize(
    "rule",
    [
        *("hebb", "mamba2", "gla", "delta", "kda", "gated_delta_2", "comba", "efla", "oja"),
        *("rwkv7", "covariance", "stdp", "calcium"),
    ],
)
def test_names_the_rule_that_made_the_weights(rule, seed):
    record, truth = recorded(case(rule, seed, **SMALL))
    rivals = {rule, *SUMS_AND_CORRECTIONS}
    answer = identify(record, rules=[name for name in RULES if name in rivals])
    assert is_right(rule, answer.rules), answer.sentence
    for parameter in answer[rule].parameters:
        if parameter.name in truth and parameter.value.ndim == 0:
            assert_close(parameter.value, truth[parameter.name], "identified")


def test_weighs_the_whole_table(seed):
    record, _ = recorded(case("gated_delta", seed, pre=6, post=6, steps=60))
    answer = identify(record)
    assert answer.rules == ("gated_delta",) and answer.verdict == "identified"
    assert {c.rule for c in answer.candidates} == RULES.keys()
    refused = [c.rule for c in answer.candidates if c.refused is not None]
    assert refused == ["delta_product"] and answer.candidates[-1].rule == "delta_product"
    best = answer.candidates[0]
    assert best.z == 0 and all(c.z <= 0 for c in answer.candidates if c.refused is None)


def test_richer_rules_that_contain_the_one_are_no_rivals(seed):
    record, _ = recorded(case("delta", seed, **SMALL))
    richer = ("gated_delta", "kda", "gated_delta_2", "comba", "rwkv7")
    answer = identify(record, rules=("delta", *richer))
    assert answer.rules == ("delta",) and answer.verdict == "identified"
    for name in richer:  # none fits worse, but for what fits leave undone
        assert answer[name].log_likelihood > answer["delta"].log_likelihood - 0.5


def test_rules_of_one_step_on_such_data_are_said_to_be_one(seed):
    record, _ = recorded(case("retnet", seed, **SMALL))
    answer = identify(record, rules=["hebb", "retnet", "mamba2", "mlstm", "mesa", "gla"])
    assert set(answer.rules) == {"retnet", "mamba2", "mlstm", "mesa"}
    assert answer.verdict == "equivalent" and frozenset(answer.rules) in EQUIVALENT
    assert set(answer["mesa"].equivalent) == {"retnet", "mamba2", "mlstm"}


def shown(rule, keys, values, *, noise, rng, **streams):
    """A noisy recording of a rule."""
    made = reference.execute(program.make(rule, keys, values, keys, **streams), weights="all")
    spread = noise * np.sqrt((made.weights.values**2).mean())
    noisy = made.weights + spread * rng.standard_normal(made.weights.shape)
    return made[["key", "value"]].assign(weights=noisy.assign_attrs(units="1"))


def test_keys_of_one_length_make_solved_steps_equivalent(rng):
    keys, values = rng.standard_normal((2, 60, 6))
    keys /= np.linalg.norm(keys, axis=-1, keepdims=True)
    record = shown("efla", keys, values, noise=0.05, rng=rng, beta=0.9)
    answer = identify(record, rules=["hebb", "delta", "longhorn", "efla", "gated_delta"])
    assert set(answer.rules) == {"delta", "longhorn", "efla"} and answer.verdict == "equivalent"
    assert_close(answer["delta"].parameters[0].value, 1 - np.exp(-0.9), "identified")


@pytest.mark.parametrize("rule", ["hebb", "delta"])
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_orthonormal_keys_can_not_tell(rule, noise, rng):
    """Nothing is read back before a key comes again, so that correction never shows."""
    keys = np.linalg.qr(rng.standard_normal((16, 16)))[0]
    values = rng.standard_normal((16, 8))
    record = shown(rule, keys, values, noise=noise, rng=rng, beta=0.8)
    answer = identify(record, rules=["hebb", "delta", "retnet", "gated_delta", "oja"])
    assert set(answer.rules) == {"hebb", "delta"} and answer.verdict == "can't tell"
    assert "keys that overlap and come again" in answer.sentence
    assert answer["hebb"].equivalent == ("delta",)
    unit_unknown = identify(record, rules=["hebb", "delta", "retnet"], scale="fitted")
    assert set(unit_unknown.rules) == {"hebb", "delta"}
    assert not unit_unknown["delta"].parameters[0].determined  # but its product with the unit


def test_weights_that_wander_follow_none_of_the_rules(rng):
    keys, values = rng.standard_normal((2, 80, 6))
    walk = np.cumsum(rng.standard_normal((80, 6, 6)), 0)
    noisy = walk + 0.05 * rng.standard_normal(walk.shape)
    record = xr.Dataset(
        {
            "key": (("step", "pre"), keys),
            "value": (("step", "post"), values),
            "weights": (("step", "pre", "post"), noisy),
        }
    )
    answer = identify(record, rules=["hebb", "retnet", "delta", "gla"])
    assert (
        answer.verdict == "none" and answer.rules == () and "None of the rules" in answer.sentence
    )


def test_read_outs_alone_tell_rules_apart(seed, rng):
    made = case("gated_delta", seed, noise=0, **SMALL)
    decay, beta = made.attrs["truth"]["decay"], made.attrs["truth"]["beta"]
    keys, values, queries = (made[name].values for name in ("key", "value", "query"))
    streams = {"log_decay": np.log(decay), "beta": beta}
    y = reference.execute(program.make("gated_delta", keys, values, queries, **streams)).readout
    noisy = y + 0.05 * float(y.std()) * rng.standard_normal(y.shape)
    record = made[["key", "value", "query"]].assign(readout=noisy.assign_attrs(units="1"))
    rivals = ("hebb", "mamba2", "mlstm", "mesa", "delta", "gated_delta", "kda", "comba")
    answer = identify(record.drop_attrs(deep=False), rules=rivals)
    assert answer.observed == "readout" and answer.rules == ("gated_delta",)
    found = {p.name: p for p in answer["gated_delta"].parameters}
    assert_close(found["decay"].value, decay, "identified")
    assert_close(found["beta"].value, beta, "identified")


@pytest.mark.parametrize("rule", ["linear_attention", "mlstm", "mesa"])
def test_what_read_outs_are_divided_by_leaves_their_unit_to_be_fitted(rule, rng):
    record = answered(rule, rng, beta=0.7, log_beta=1.0, log_decay=-0.03, ridge=1.0)
    unit = 3e-3
    record["readout"] = (unit * record.readout).assign_attrs(units="mV")
    found = identify(record, rules=["hebb", "retnet", "delta", rule])
    assert found.rules == (rule,)
    scale = {p.name: p for p in found[rule].parameters}["scale"]
    assert_close(float(scale.value) / unit, 1.0, "identified")
    assert scale.units == "mV"


def test_noise_of_a_normalised_memory_is_its_own(rng):
    """Values that were never seen are written too: nothing was wrong with the observing."""
    record = answered("linear_attention", rng, hidden=1.5, noise=0.0, beta=0.7)
    answer = identify(record, rules=["hebb", "retnet", "linear_attention"])
    assert answer.rules == ("linear_attention",)
    assert answer["linear_attention"].process > 0.9


def test_a_channel_that_was_never_read_leaves_the_others(rng):
    record = answered("delta", rng, beta=0.1)
    record["readout"] = record.readout.where(record.post != 1)
    answer = identify(record, rules=["hebb", "delta", "oja"])
    assert answer.rules == ("delta",)
    assert_close(float(answer["delta"].parameters[0].value), 0.1, "identified")


def test_read_outs_do_not_show_where_they_start(rng):
    record = answered("delta", rng, beta=0.1)
    with pytest.raises(FwbioError, match="do not show the weights"):
        identify(from_record(record, initial="observed"))


def answered(rule, rng, *, hidden=0.0, noise=0.02, steps=150, **gates):
    """Noisy read-outs of a rule, some of whose values nobody saw."""
    keys, queries = rng.standard_normal((2, steps, 6))
    values = rng.standard_normal((steps, 4))
    written = values + hidden * rng.standard_normal(values.shape)
    gates = {name: x for name, x in gates.items() if name in RULES[rule].streams}
    run = reference.execute(program.make(rule, keys, written, queries, **gates))
    spread = noise * float(run.readout.std())
    seen_ = run.readout + spread * rng.standard_normal(run.readout.shape)
    record = run[["key", "query"]].assign(value=(("step", "post"), values), readout=seen_)
    return record.drop_attrs(deep=False)


def test_what_data_do_not_determine_is_said(rng):
    """A normaliser divides by the write strength what was multiplied by it."""
    keys, values, queries = rng.standard_normal((3, 40, 4))
    made = reference.execute(program.make("linear_attention", keys, values, queries))
    answer = identify(made, observed="readout", rules=["linear_attention", "hebb"])
    assert answer.rules == ("linear_attention",)
    (beta,) = answer["linear_attention"].parameters
    assert not beta.determined and beta.low == -np.inf and beta.high == np.inf


def test_weights_missing_at_steps_and_synapses(seed, rng):
    record, truth = recorded(case("gated_delta", seed, **SMALL))
    weights = record.weights.where(rng.random(record.weights.shape) < 0.7)
    record["weights"] = weights.where(record.step % 3 == 0)
    answer = identify(record, rules=["retnet", "delta", "gated_delta", "comba"])
    assert answer.rules == ("gated_delta",)
    found = {p.name: p for p in answer["gated_delta"].parameters}
    assert_close(found["beta"].value, truth["beta"], "identified")


def test_a_unit_of_the_weights_is_fitted(seed):
    record, truth = recorded(case("delta", seed, **SMALL))
    unit = 3e-9
    record["weights"] = (unit * record.weights).assign_attrs(units="S")
    answer = identify(record, rules=["hebb", "delta", "oja", "efla", "gated_delta"])
    assert answer.rules == ("delta",)
    found = {p.name: float(p.value) for p in answer["delta"].parameters}
    assert_close(found["scale"] / unit, 1.0, "identified")
    assert_close(found["beta"], truth["beta"], "identified")
    known = identify(record, rules=["hebb", "delta"], scale="known")
    assert "scale" not in {p.name for p in known["delta"].parameters}


def test_a_recording_may_start_from_weights_that_were_seen(rng):
    keys, values = rng.standard_normal((2, 80, 5)) / 2
    start = rng.standard_normal((5, 5))
    record = shown(
        "delta", keys, values, noise=0.05, rng=rng, beta=0.5, initial_weights=start
    ).isel(step=slice(20, None), snapshot=slice(20, None))
    record = record.assign_coords(snapshot=np.arange(60))
    answer = identify(
        from_record(record.assign_attrs(initial="observed")), rules=["hebb", "delta", "gated_delta"]
    )
    assert answer.rules == ("delta",)
    assert_close(answer["delta"].parameters[0].value, 0.5, "identified")


def test_what_is_not_known_of_the_start_is_no_noise_of_the_memory(rng):
    """A slow decay over few steps shows, and is not let pass for the memory's own noise."""
    keys = rng.standard_normal((12, 12))
    keys /= np.linalg.norm(keys, axis=-1, keepdims=True)
    values = rng.standard_normal((12, 12))
    start = rng.standard_normal((12, 12))
    made = {"beta": 0.7, "log_decay": np.log(0.98), "initial_weights": start}
    record = shown("retnet", keys, values, noise=0.02, rng=rng, **made)
    answer = identify(from_record(record, initial="observed"), rules=["hebb", "retnet"])
    assert answer.rules == ("retnet",)
    assert answer["retnet"].process < 0.05


@pytest.mark.parametrize("half_life", [60, 300])
def test_without_any_noise_the_slightest_decay_shows(half_life, rng):
    keys, values = rng.standard_normal((2, 120, 6)) / 2
    decay = -np.log(2) / half_life
    record = shown("gated_delta", keys, values, noise=0.0, rng=rng, beta=0.7, log_decay=decay)
    answer = identify(record, rules=["hebb", "delta", "gated_delta", "comba"])
    assert answer.rules == ("gated_delta",)


def test_errors_that_channels_share_count_as_one(rng):
    """A sum of n equal numbers has n^2 the variance of one; of independent ones n."""
    steps, channels = 400, 8
    alone = rng.standard_normal((1, steps, 2))
    shared = np.repeat(alone, channels, axis=1)
    assert_close(long_run(shared, channels), channels**2 * long_run(alone), "float64")
    white = rng.standard_normal((1, steps * channels, 1))
    assert long_run(white, channels)[0, 0] < 2 * steps * channels


def test_each_weight_starts_where_it_was_first_seen(rng):
    keys, values = rng.standard_normal((2, 60, 4))
    start = 30 + rng.standard_normal((4, 4))
    record = shown("hebb", keys, values, noise=0.001, rng=rng, beta=0.1, initial_weights=start)
    late = (record.pre + record.post) % 3
    record["weights"] = record.weights.where(record.snapshot >= 5 * late)
    answer = identify(
        from_record(record.drop_attrs(deep=False), initial="observed"), rules=["hebb", "delta"]
    )
    assert answer.rules == ("hebb",)
    assert_close(answer["hebb"].parameters[0].value, 0.1, "identified")


def test_one_snapshot_in_noise_is_not_told_more_of_than_it_tells(seed):
    """Its channels say how far one rule fits better by chance."""
    rng = np.random.default_rng(seed)
    repeats, wrong = 40, 0
    for _ in range(repeats):
        keys, values = rng.standard_normal((2, 6, 8)) / 2
        record = shown("hebb", keys, values, noise=0.0, rng=rng, beta=0.5).isel(snapshot=[-1])
        size = float(np.sqrt((record.weights**2).mean()))
        noisy = record.weights + size * rng.standard_normal(record.weights.shape)
        answer = identify(record.assign(weights=noisy), rules=["hebb", "delta", "oja"])
        wrong += answer.verdict == "identified" and answer.rules != ("hebb",)
    assert wrong <= stats.binom(repeats, 0.05).isf(1e-4)


def test_weights_too_large_for_their_first_writes_start_where_they_were_seen(rng):
    keys, values = rng.standard_normal((2, 60, 4))
    made = {"noise": 0.001, "rng": rng, "beta": 0.1}
    start = 30 + rng.standard_normal((4, 4))
    record = shown("hebb", keys, values, initial_weights=start, **made)
    late = identify(record.drop_attrs(deep=False), rules=["hebb", "delta"])
    assert late.start == "observed" and late.rules == ("hebb",)
    record = shown("hebb", keys, values, **made)
    early = identify(record.drop_attrs(deep=False), rules=["hebb", "delta"])
    assert early.start == "zero" and early.rules == ("hebb",)


def test_rules_that_leave_most_of_what_is_not_noise_are_none(rng):
    """Half of each change follows the product of the step before, which no rule knows."""
    keys, values = rng.standard_normal((2, 60, 5))
    products = np.einsum("tk,tv->tkv", keys, values)
    changes = products + 1.3 * np.roll(products, 1, axis=0)
    record = xr.Dataset(
        {
            "key": (("step", "pre"), keys),
            "value": (("step", "post"), values),
            "weights": (("step", "pre", "post"), changes.cumsum(0)),
        }
    )
    answer = identify(record, rules=["hebb", "delta"])
    assert answer.verdict == "none" and answer.rules == ()
    nearest = answer["hebb"]
    assert 0.2 < nearest.explained < 0.6 < nearest.explainable
    assert answer.lacking > 0.3 and "follow from keys, values and weights" in answer.sentence


@pytest.mark.parametrize("rule", ["hebb", "gated_delta"])
def test_noise_of_the_memory_is_nothing_that_a_rule_lacks(rule, rng):
    """Most of each change is chance, and none of it could have been foretold."""
    keys, values = rng.standard_normal((2, 150, 5)) / 2
    W, course = np.zeros((5, 5)), []
    for k, v in zip(keys, values, strict=True):
        W = W if rule == "hebb" else 0.95 * W
        W = W + np.outer(k, v - (0.0 if rule == "hebb" else 0.4 * k @ W))
        W = W + 0.3 * rng.standard_normal(W.shape)
        course.append(W)
    record = xr.Dataset(
        {
            "key": (("step", "pre"), keys),
            "value": (("step", "post"), values),
            "weights": (("step", "pre", "post"), np.array(course), {"units": "nS"}),
        }
    )
    answer = identify(record, rules=["hebb", "retnet", "delta", "gated_delta"])
    assert answer.verdict != "none"
    assert answer.lacking < 0.1 and answer[rule].process > 0.5


def test_a_change_too_short_to_tell_from_chance_is_not_none(rng):
    """One change of all weights that a rule explains is no evidence against it."""
    keys, values = rng.random((2, 40, 4))
    start = rng.uniform(1, 3, (4, 4))
    record = shown("hebb", keys, values, noise=0.001, rng=rng, beta=0.1, initial_weights=start)
    pair = record.isel(snapshot=[0, -1]).drop_attrs(deep=False)
    answer = identify(pair, rules=["hebb", "retnet", "delta"])
    assert answer.start == "observed"
    assert answer.verdict != "none" and "hebb" in answer.rules


@pytest.mark.parametrize("rule", ["hebb", "delta", "gated_delta"])
def test_richer_rules_gain_too_little_on_synapses(rule, seed):
    """Synapses of rates depart from their rule by less than .1 % of its changes, significantly."""
    episode = tasks.TASKS["random_pairs"](
        seed=seed, trials=1, pairs=12, pre=8, post=6, keys="sparse", values="gaussian", active=0.5
    )
    record = models.execute(
        models.designed(episode, rule, strength=0.7), "rate", weights="all", engine="numpy"
    )
    for observed in ("weights", "readout"):
        answer = identify(
            record, rules=["hebb", "delta", "gated_delta", "comba"], observed=observed
        )
        assert answer.rules == (rule,), answer.sentence


def test_few_steps_do_not_exclude_richer_rules(rng):
    keys, values = rng.standard_normal((2, 3, 4))
    streams = {"log_decay": np.log(0.97), "beta": 0.2}
    record = shown("gated_delta", keys, values, noise=0.15, rng=rng, **streams)
    answer = identify(record, rules=["delta", "gated_delta"])
    told = "gated_delta" in answer.rules or "can't be excluded" in answer.sentence
    gained = answer["gated_delta"].explained - answer["delta"].explained
    assert told == (gained > 0.002)


def test_rules_of_one_step_in_unknown_units_are_said_to_be_one(rng):
    keys, values = rng.standard_normal((2, 60, 5)) / 2
    streams = {"log_decay": np.log(0.9), "beta": 0.8}
    record = shown("gated_delta", keys, values, noise=0.0, rng=rng, **streams)
    answer = identify(record, rules=["hebb", "delta", "gated_delta", "comba"], scale="fitted")
    assert answer.verdict == "equivalent" and set(answer.rules) == {"gated_delta", "comba"}


def test_constants_have_the_unit_of_the_weights_where_they_scale_them(rng):
    keys, values = rng.standard_normal((2, 40, 4)) / 2
    record = shown("delta", keys, values, noise=0.02, rng=rng, beta=0.7)
    record["weights"] = record.weights.assign_attrs(units="pA")
    answer = identify(record, rules=["hebb", "delta"])
    units = {(c.rule, p.name): p.units for c in answer.candidates for p in c.parameters}
    assert units == {("hebb", "beta"): "pA", ("delta", "scale"): "pA", ("delta", "beta"): "1"}


def test_an_erase_gate_that_varies_is_known_up_to_a_factor(rng):
    steps = 60
    keys, queries = rng.standard_normal((2, steps, 6)) / 2
    values = rng.standard_normal((steps, 5))
    erase = rng.uniform(0, 1.2, (steps, 6))
    made = reference.execute(
        program.make(
            "gated_delta_2", keys, values, queries, erase=erase, beta=0.7, log_decay=-0.05
        ),
        weights="all",
    )
    noise = 0.02 * float(made.weights.std()) * rng.standard_normal(made.weights.shape)
    record = made[["key", "value", "erase"]].assign(
        weights=(made.weights + noise).assign_attrs(units="1")
    )
    answer = identify(record, rules=["hebb", "delta", "kda", "gated_delta_2"])
    assert answer.rules == ("gated_delta_2",)
    factor = {p.name: p.value for p in answer["gated_delta_2"].parameters}["erase_factor"]
    assert_close(factor, np.ones(6), "identified")


def test_gates_that_vary_are_known_up_to_a_factor(rng):
    keys, values = rng.standard_normal((2, 80, 5)) / 2
    beta = rng.uniform(0.1, 1.0, 80)
    record = shown("delta", keys, values, noise=0.05, rng=rng, beta=beta)
    rivals = ["hebb", "delta", "gated_delta"]
    knowing = identify(record.assign(beta=("step", beta / 2)), rules=rivals)
    assert knowing.rules == ("delta",)
    assert_close(knowing["delta"].parameters[0].value, 2.0, "identified")
    assert knowing["delta"].residual < identify(record, rules=rivals)["delta"].residual


def test_keys_in_substeps_are_a_product_of_steps(rng):
    keys, values = rng.standard_normal((2, 50, 2, 5)) / 2
    streams = {"log_decay": np.log(0.95), "beta": 0.6}
    made = program.make("delta_product", keys, values, keys[:, 0], **streams)
    made = reference.execute(made, weights="all")
    answer = identify(made)
    assert answer.rules == ("delta_product",)
    assert all(c.refused for c in answer.candidates if c.rule != "delta_product")
    with pytest.raises(FwbioError, match="no rule is a candidate: hebb, it writes one key a step"):
        identify(made, rules=["hebb", "delta"])


def test_trials_share_their_constants(rng):
    keys, values = rng.standard_normal((2, 3, 30, 4)) / 2
    record = shown("mamba2", keys, values, noise=0.05, rng=rng, log_decay=np.log(0.9), beta=0.4)
    answer = identify(record, rules=["hebb", "mamba2", "delta"])
    together = {p.name: p for p in answer["mamba2"].parameters}
    alone = identify(record.isel(trial=[0]), rules=["hebb", "mamba2", "delta"])
    assert answer.rules == alone.rules == ("mamba2",)
    widths = [
        next(p.high - p.low for p in a["mamba2"].parameters if p.name == "beta")
        for a in (answer, alone)
    ]
    assert widths[0] < widths[1]
    assert_close(together["half_life"].value, np.log(0.5) / np.log(0.9), "identified")


@pytest.mark.parametrize("rule", ["hebb", "delta"])
def test_names_the_rule_of_spiking_synapses(rule):
    """Values of different sizes, so that rules that are not linear in them show."""
    episode = tasks.TASKS["random_pairs"](
        seed=3, trials=3, pairs=20, pre=16, post=8, keys="sparse", values="gaussian", active=0.4
    )
    made = models.designed(episode, rule, strength=0.7)
    record = models.execute(made, "spiking", seed=1, weights="all", engine="numpy", dt=1e-3)
    answer = identify(record)
    alike = {"hebb": {"hebb"}, "delta": {"delta", "longhorn", "efla"}}[rule]
    assert set(answer.rules) == alike, answer.sentence
    assert answer[rule].process > 0.5  # its spikes are noise of the memory's own


def test_a_rule_that_was_no_candidate_is_told(rng):
    keys, values = rng.standard_normal((2, 20, 3))
    record = shown("hebb", keys, values, noise=0.05, rng=rng)
    with pytest.raises(FwbioError, match="no rule called 'oja'"):
        identify(record, rules=["hebb", "delta"])["oja"]


def test_the_answer_as_a_dataset_names_every_axis_and_unit(seed):
    record, _ = recorded(case("gla", seed, pre=3, post=3, steps=40))
    answer = identify(record, rules=["hebb", "gla", "delta_product"])
    dataset = answer.to_dataset()
    for variable in dataset.variables.values():
        assert {"units", "long_name"} <= variable.attrs.keys()
    assert dataset.attrs["verdict"] == answer.verdict
    assert dataset.sel(candidate="gla").answer and not dataset.sel(candidate="hebb").answer
    assert (dataset.low <= dataset.value).all() and (dataset.value <= dataset.high).all()
    assert dataset.value.sel(parameter="gla.decay[2]") == answer["gla"].parameters[0].value[2]


def test_fits_that_overflow_are_refused(rng):
    keys, values = rng.standard_normal((2, 60, 4))
    record = shown("hebb", keys, values, noise=0.05, rng=rng).isel(snapshot=[59])
    found = model(RULES["delta"], from_record(record), observed="weights", scale=1.0)
    bad = replace(found, unknowns=tuple(replace(u, low=1e9, high=1e10) for u in found.unknowns))
    with pytest.raises(Refused, match="overflow"):
        fit(bad)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"observed": "spikes"}, "nothing to explain"),
        ({"observed": "readout"}, "no readout with query"),
        ({"scale": "both"}, "no scale"),
        ({"rules": []}, "no rules to choose from"),
        ({"trials": 0}, "0 trials are none"),
        ({"rules": ["hebbian"]}, "did you mean 'hebb'"),
    ],
)
def test_mistakes_are_told(given, told, rng):
    keys, values = rng.standard_normal((2, 10, 3))
    record = shown("hebb", keys, values, noise=0.05, rng=rng)
    with pytest.raises(FwbioError, match=told):
        identify(record, **given)


def test_a_rule_that_is_not_in_the_table_is_a_candidate_too(rng):
    keys, values = rng.standard_normal((2, 40, 4)) / 2
    record = shown("delta", keys, values, noise=0.05, rng=rng, beta=0.6)
    own = replace(RULES["delta"], name="mine")
    answer = identify(record, rules=["hebb", own])
    assert answer.rules == ("mine",)
    assert [c.rule for c in identify(record, rules=own).candidates] == ["mine"]
    assert [c.rule for c in identify(record, rules="hebb").candidates] == ["hebb"]


def test_more_trials_than_it_takes_are_left_out_and_that_is_said(rng, monkeypatch):
    monkeypatch.setattr("fwbio.analyses.identification.identifying.LONGEST", 3 * 30 * 9 * 8)
    keys, values = rng.standard_normal((2, 5, 30, 3)) / 2
    record = shown("hebb", keys, values, noise=0.05, rng=rng)
    answer = identify(record, rules=["hebb", "delta"])
    assert answer.rules == ("hebb",)
    assert "Only the first 3 trials were fitted, of 5" in answer.sentence and answer.trials == 3
    whole = identify(record, rules=["hebb", "delta"], trials=5)
    assert whole.trials == 5 and "Only" not in whole.sentence


def test_trials_that_are_left_out_are_not_read(rng):
    keys, values = rng.standard_normal((2, 5, 30, 3)) / 2
    record = shown("hebb", keys, values, noise=0.05, rng=rng)

    def read(block, block_info):
        first = block_info[0]["array-location"][0][0]
        if first >= 2:
            raise AssertionError(f"trial {first} was read")
        return block

    weights = record.weights.chunk(dict.fromkeys(record.weights.dims, -1) | {"trial": 1})
    watched = weights.data.map_blocks(read, dtype=float, meta=np.empty(0))
    record["weights"] = (weights.dims, watched, weights.attrs)
    answer = identify(record, rules=["hebb", "delta"], trials=2)
    assert answer.rules == ("hebb",) and answer.trials == 2
    assert "of 5" in answer.sentence
