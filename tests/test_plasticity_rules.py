"""What plasticity rules do as rules of a memory: reductions, fixed points, windows, thresholds."""

import numpy as np
import pytest
import torch
from programs import random_program, random_streams, random_tensors
from tolerances import assert_close

from fwbio import RULES, FwbioError, program, reference, traces
from fwbio.data import constants
from fwbio.kernels import scan
from fwbio.normal_form import normal_form


def run(rule, **streams):
    record = reference.execute(program.make(rule, **streams), weights="all")
    return record.readout.values, record.weights.values


def test_thresholds_of_zero_make_it_the_delta_rule_s_flow(rng):
    streams = random_streams("efla", rng, leading=(2,), steps=8)
    gated = run("thresholded_delta", **streams)
    for one, other in zip(gated, run("efla", **streams), strict=True):
        assert_close(one, other, "float64")


def test_below_both_thresholds_nothing_is_plastic(rng):
    streams = random_streams("thresholded_delta", rng, steps=5)
    start = rng.standard_normal((4, 3))
    streams |= {"theta_p": np.full(5, 1e3), "theta_d": np.full(5, 1e3), "initial_weights": start}
    _, weights = run("thresholded_delta", **streams)
    np.testing.assert_array_equal(weights, np.broadcast_to(start, weights.shape))


def test_each_threshold_holds_its_own_direction(rng):
    streams = random_streams("thresholded_delta", rng, steps=1, nonnegative=True)
    start = rng.standard_normal((4, 3))
    streams["value"] = streams["key"] @ start + [0.5, -0.5, 0.3]
    streams |= {"theta_p": np.zeros(1), "theta_d": np.full(1, 1e3), "initial_weights": start}
    change = run("thresholded_delta", **streams)[1][0] - start
    assert (change >= 0).all()
    assert (change > 0).any()
    streams |= {"theta_p": np.full(1, 1e3), "theta_d": np.zeros(1)}
    change = run("thresholded_delta", **streams)[1][0] - start
    assert (change <= 0).all()
    assert (change < 0).any()


def test_repeated_thresholded_writes_stop_at_the_threshold(rng):
    """An error is corrected until no synapse's calcium k_i |e_j| passes the threshold."""
    key, value, theta = (
        rng.uniform(0.2, 1, 5),
        rng.choice([-1, 1], 3) * rng.uniform(0.5, 1, 3),
        0.05,
    )
    streams = {"key": np.tile(key, (1500, 1)), "value": np.tile(value, (1500, 1))}
    done = run(
        "thresholded_delta",
        **streams,
        query=streams["key"],
        beta=0.02,
        theta_p=theta,
        theta_d=theta,
    )
    left = np.abs(key[:, None] * (value - done[0][-1])).max(0)
    assert (left <= theta * (1 + 1e-9)).all()
    assert (left > 0.9 * theta).all()


@pytest.mark.parametrize("gap", [0.005, 0.02, 0.1])
def test_a_pair_of_spikes_gives_the_window(gap):
    """A value LEAD after its key: exp(-LEAD/tau+); the next key after it: -1.05 exp(-dt/tau-)."""
    song = constants("plasticity")
    interval = [1.0, traces.LEAD + gap]
    record = run("stdp", key=[[1], [1]], value=[[1], [0]], query=[[1], [1]], interval=interval)
    weights = record[1][:, 0, 0]
    grown = np.exp(-traces.LEAD / song["pair_tau_plus"])
    shrunk = -song["pair_depression"] * np.exp(-gap / song["pair_tau_minus"])
    assert_close(weights, [grown, grown + shrunk], "float64")


def test_without_triplets_only_depression_and_nearly_no_growth(rng):
    """The full visual cortex set: a pair alone hardly potentiates (A2+ = 5e-10)."""
    lonely = run("triplet_stdp", key=[[1.0]], value=[[1.0]], query=[[1.0]])[1]
    assert 0 < lonely.item() < 1e-9
    pairs = np.ones((60, 1))
    slow = run("triplet_stdp", key=pairs, value=pairs, query=pairs, interval=10.0)[1][-1]
    fast = run("triplet_stdp", key=pairs, value=pairs, query=pairs, interval=0.02)[1][-1]
    assert abs(slow.item()) < 1e-6
    assert fast.item() > 0.1


def test_the_bcm_threshold_slides(rng):
    """A value well above the mean of its square grows; the same value often shown no more does."""
    tau = constants("plasticity")["bcm_tau_theta"]
    steps = 400
    ones = np.full((steps, 1), 2.0)
    weights = run("bcm", key=ones / 2, value=ones, query=ones, interval=tau / 20)[1][:, 0, 0]
    change = np.diff(weights, prepend=0)
    assert change[0] == pytest.approx(2.0**2)  # nothing is known of the mean yet
    assert change[-1] == pytest.approx(2.0 * (2.0 - 4.0))  # theta = <v^2> = 4


def test_covariance_learns_nothing_of_what_never_changes(rng):
    steps = 600
    key, value = (np.tile(x, (steps, 1)) for x in (rng.uniform(0, 1, 4), rng.standard_normal(3)))
    interval = constants("plasticity")["covariance_tau_mean"] / 10
    weights = run("covariance", key=key, value=value, query=key, interval=interval)[1]
    assert_close(weights[-1], weights[300], "float64")


def test_rested_synapses_let_a_first_volley_through_whole(rng):
    streams = random_streams("tsodyks_markram", rng, steps=1)
    streams["query"] = 0 * streams["query"]
    weights = run("tsodyks_markram", **streams)[1]
    assert_close(weights, run("hebb", **{k: x for k, x in streams.items() if k != "interval"})[1],
                 "float64")  # fmt: skip


def test_long_pauses_make_every_volley_the_first(rng):
    streams = random_streams("tsodyks_markram", rng, steps=6)
    streams |= {"interval": np.full(6, 1e3), "query": 0 * streams["query"]}
    plain = {name: x for name, x in streams.items() if name != "interval"}
    assert_close(run("tsodyks_markram", **streams)[1], run("hebb", **plain)[1], "float64")


def test_a_dendrite_learns_to_predict_its_soma(rng):
    key = np.eye(4)[rng.permutation(4)]
    value = rng.uniform(-1.2, 1.2, (4, 3))
    shown = {name: np.tile(x, (4000, 1)) for name, x in (("key", key), ("value", value))}
    readout, _ = run("dendritic_error", **shown, query=shown["key"], beta=1.0)
    fit = constants("plasticity")
    share = fit["dendritic_g_dendrite"] / (fit["dendritic_g_dendrite"] + fit["dendritic_g_leak"])
    assert_close(share * readout[-4:], value, "learned")


def test_the_calcium_rule_settles_where_its_rates_balance(rng):
    """What is repeated for ever ends at the weights where growth and shrinking are equal."""
    table = constants("plasticity")
    gamma_p, gamma_d = (table[f"cortical_slice_gamma_{x}"] for x in "pd")
    ones = np.ones((60, 1))
    weights = run("calcium", key=ones, value=ones, query=ones, beta=1e5, interval=1.0)[1]
    assert_close(weights[-1], weights[-2], "float64")
    assert 0 < weights[-1].item() < gamma_p / (gamma_p + gamma_d)


@pytest.mark.parametrize(("strength", "moves"), [(0.0, False), (1.0, True)])
def test_without_calcium_above_a_threshold_the_weights_rest(strength, moves):
    shown = np.full((1, 1), strength)
    start = [[0.5]]
    done = run("calcium", key=shown, value=shown, query=shown, initial_weights=start)[1]
    assert (done.item() != 0.5) == moves


@pytest.mark.parametrize(
    ("key", "value", "goes_to"), [(0.3, 0.0, 0.25), (0.75, 0.0, 0.0), (0.75, 0.5, 1.0)]
)
def test_a_weight_goes_where_its_calcium_points(key, value, goes_to):
    """Shouval 2002: nothing new at rest, depression at moderate and growth at high calcium."""
    done = run(
        "shouval", key=[[key]], value=[[value]], query=[[1]], interval=1e6, initial_weights=[[0.5]]
    )
    assert_close(done[1].ravel(), [goes_to], "learned")


@pytest.mark.parametrize(
    "rule", ["stdp", "triplet_stdp", "clopath", "tsodyks_markram", "bcm", "covariance"]
)
def test_a_call_starts_its_traces_anew(rule, rng):
    """What the first interval says counts for nothing."""
    streams = random_streams(rule, rng, steps=5)
    other = streams | {"interval": np.r_[7.0, streams["interval"][1:]]}
    for one, two in zip(run(rule, **streams), run(rule, **other), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("rule", [name for name, r in RULES.items() if r.terms.traces])
@pytest.mark.parametrize("interval", [0.031, 0.1])
def test_packed_sequences_do_not_share_traces(rule, interval, rng):
    """Short steps of strong keys and values, so that calcium is high as the next step starts."""
    streams = random_streams(rule, rng)
    streams |= {name: 5 * np.abs(streams[name]) for name in ("key", "value")}
    streams["interval"] = np.full(6, interval)
    whole = {n: torch.tensor(x)[None, :, None] for n, x in streams.items()}
    operands = {{"key": "k", "value": "v", "query": "q"}.get(n, n): x for n, x in whole.items()}
    _, packed = scan(rule, **operands, cu_seqlens=torch.tensor([0, 2, 2, 6]))
    for state, part in zip(packed, (np.s_[:2], np.s_[2:2], np.s_[2:6]), strict=True):
        alone = scan(rule, **{name: x[:, part] for name, x in operands.items()})[1]
        assert_close(state, alone[0], "float64")


def test_a_rule_that_is_not_linear_has_no_normal_form(rng):
    with pytest.raises(FwbioError, match="'calcium' is not linear in its weights"):
        normal_form(RULES["calcium"], {}, xp=np, time_axis=0)


@pytest.mark.parametrize(
    ("rule", "wrong", "words"),
    [
        ("shouval", {"interval": 0.0}, "'interval' is not above 0"),
        ("thresholded_delta", {"theta_p": -0.1}, "'theta_p' is below 0"),
        ("hebb", {"interval": 0.1}, "has no stream 'interval'"),
        ("stdp", {"interval": 0.01}, "a step of 0.01 s ends before its .* above 0.01 s"),
        (
            "clopath",
            {"interval": 0.025},
            "a step of 0.025 s ends .* 'clopath' intervals above 0.03",
        ),
        ("calcium", {"interval": 0.001}, "a step of 0.001 s ends before its value does"),
    ],
)
def test_bad_streams_are_told(rule, wrong, words, rng):
    streams = random_streams(rule, rng)
    with pytest.raises(FwbioError, match=words):
        program.make(rule, **streams | wrong)


def test_short_steps_of_a_changed_program_are_told(rng):
    made = random_program("calcium", rng)
    with pytest.raises(FwbioError, match=r"a step of 0\.005 s ends before its value does"):
        reference.execute(made.assign(interval=0 * made.interval + 0.005))


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own
@pytest.mark.parametrize("rule", [n for n, r in RULES.items() if r.terms.plasticity != "product"])
def test_every_plasticity_compiles_as_one_graph(rule, rng):
    torch.compiler.reset()
    operands = random_tensors(rule, rng, steps=3)

    def read(operands):
        return scan(rule, **operands, return_states=2)

    compiled = torch.compile(read, fullgraph=True, backend="eager")
    for actual, expected in zip(compiled(operands), read(operands), strict=True):
        assert_close(actual, expected, "float64")


def test_a_program_records_what_it_was_not_told(rng):
    made = random_program("stdp", rng).drop_vars("interval")
    again = program.make("stdp", made.key, made.value, made["query"])
    assert (again.interval == 0.1).all()
    assert again.interval.attrs["units"] == "s"
    assert reference.execute(again).readout.identical(
        reference.execute(again.drop_vars("interval")).readout
    )
