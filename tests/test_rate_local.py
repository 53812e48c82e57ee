"""Rules not linear in their weights on rate synapses, beside the reference and the kernel."""

import numpy as np
import pytest
from programs import random_program
from tolerances import TOLERANCES, assert_close

from fwbio import FwbioError, kernels, models, reference
from fwbio.models.mapping import threshold_of


def gated(rng, **sizes):
    return random_program("thresholded_delta", rng, nonnegative=True, **sizes)


def test_synapse_reference_and_kernel_are_twins(rng):
    made = gated(rng, trials=2, steps=5, initial_weights=True)
    expected = reference.execute(made, weights="all")
    assert_close(kernels.execute(made, dtype="float64", weights="all").weights, expected.weights,
                 "float64")  # fmt: skip
    run = models.execute(made, "rate", weights="all", engine="numpy")
    assert_close(run.weights, expected.weights, "rate")
    assert_close(run.readout, expected.readout, "rate")


def test_the_error_is_of_first_order_in_the_time_step(rng):
    made = gated(rng, trials=1, steps=3)
    expected = reference.execute(made).weights.values
    steps = np.array([2e-3, 1e-3, 0.5e-3])
    errors = [
        np.abs(models.execute(made, "rate", engine="numpy", dt=dt).weights.values - expected).max()
        for dt in steps
    ]
    order = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert abs(order - 1) <= TOLERANCES["order"].value


def test_thresholds_keep_small_errors(rng):
    """The higher the threshold, the fewer synapses change."""
    made = gated(rng, trials=1, steps=1, pre=12, post=6)
    changed = []
    for theta in (0.0, 0.05, 0.2, 10.0):
        high = made.assign({f"theta_{x}": 0 * made.theta_p + theta for x in "pd"})
        weights = models.execute(high, "rate", engine="numpy", dt=1e-3).weights.values
        changed.append(np.count_nonzero(weights))
    assert changed == sorted(changed, reverse=True)
    assert changed[0] == 72
    assert changed[-1] == 0


def test_a_gate_that_follows_calcium_corrects_less(rng):
    made = gated(rng, trials=1, steps=1, pre=12, post=6)
    made = made.assign({f"theta_{x}": 0 * made.theta_p + 0.05 for x in "pd"})
    latched, following = (
        models.execute(made, "rate", engine="numpy", dt=1e-3, gate=gate)
        for gate in ("latched", "following")
    )
    size = [np.abs(run.weights.values).sum() for run in (latched, following)]
    assert size[1] < size[0]
    assert any("follows calcium" in words for words in following.attrs["approximate"])


def test_a_calcium_threshold_becomes_the_rule_s(rng):
    """Calcium of 2 per unit of key times error, plastic .1 above rest: theta = .05."""
    made = gated(rng, trials=1, steps=4)
    theta = threshold_of(0.1, 2.0)
    made = made.assign({f"theta_{x}": 0 * made.theta_p + theta for x in "pd"})
    run = models.execute(made, "rate", engine="numpy", dt=0.5e-3, weights="all")
    before = np.concatenate([np.zeros((1, 1, 4, 3)), run.weights.values[:, :-1]], 1)
    key, value = made.key.values[..., :, None], made.value.values[..., None, :]
    calcium = 2.0 * key * (value - np.einsum("btk,btkv->btv", made.key, before)[..., None, :])
    moved = np.abs(run.weights.values - before) > 1e-12
    np.testing.assert_array_equal(moved, np.abs(calcium) > 0.1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"gate": "open"}, "gate = 'open' is no gate"),
        ({"dt": 0.2}, "dt = 0.2 s is too coarse for weights that change at up to 3.33 /s"),
        ({"write": -1.0}, "write = -1.0 is out of range"),
        ({"gap": 0.1}, "no option called 'gap'"),
    ],
)
def test_bad_options_are_told(options, words, rng):
    made = gated(rng)
    made["beta"] = 0 * made.beta + 1 / (made.key**2).sum("pre")
    with pytest.raises(FwbioError, match=words):
        models.execute(made, "rate", engine="numpy", **options)


def test_calcium_held_for_too_long_a_step_is_told(rng):
    """Weak keys let weights change as fast as strong ones do: tau of calcium comes down to P4."""
    made = random_program("shouval", rng, nonnegative=True)
    long = made.assign(key=0.3 * made.key, interval=0 * made.interval + 1e4)
    with pytest.raises(FwbioError, match=r"too coarse for weights .* give dt below \S+ s"):
        models.execute(long, "rate", engine="numpy")


def test_negative_rates_are_told(rng):
    made = gated(rng)
    with pytest.raises(FwbioError, match=r"the key reaches .* rates can't be negative"):
        models.execute(made.assign(key=-made.key), "rate", engine="numpy")


def test_a_dendrite_that_is_followed_is_the_rule_for_small_steps(rng):
    """The rule's one step and the flow part at second order in beta."""
    made = random_program("dendritic_error", rng, nonnegative=True, trials=1, steps=1)
    errors = []
    for beta in (0.08, 0.04, 0.02):
        weak = made.assign(beta=0 * made.beta + beta)
        flow = models.execute(weak, "rate", engine="numpy", dt=0.1e-3).weights.values
        errors.append(np.abs(flow - reference.execute(weak).weights.values).max())
    slope = np.polyfit(np.log([0.08, 0.04, 0.02]), np.log(errors), 1)[0]
    assert slope == pytest.approx(2, abs=0.1)


def test_calcium_that_is_held_moves_weights_as_the_rule_says(rng):
    made = random_program("shouval", rng, trials=2, nonnegative=True)
    expected = reference.execute(made, weights="all")
    run = models.execute(made, "rate", engine="numpy", dt=1e-3, weights="all")
    assert_close(run.weights, expected.weights, "rate")
