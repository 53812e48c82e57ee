"""The calcium rule on synapses of its own: Graupner and Brunel's efficacy between volleys."""

import numpy as np
import pytest
from programs import random_program
from tolerances import assert_close

from fwbio import FwbioError, models, reference
from fwbio.record import validate


def volleys(rng, **sizes):
    made = random_program("calcium", rng, nonnegative=True, passive=True, **sizes)
    return made.assign(value=abs(made.value))


def test_synapses_make_the_rule(rng):
    made = volleys(rng, steps=6)
    run = models.execute(made, "rate", engine="numpy", weights="all")
    expected = reference.execute(made, weights="all")
    assert validate(run) == []
    assert np.abs(expected.weights).max() > 1e-3
    assert_close(run.weights, expected.weights, "rate")
    assert_close(run.readout, expected.readout, "rate")


def test_a_pause_leaves_no_calcium_and_a_burst_does(rng):
    """Two volleys 20 ms apart, the second's calcium on top of the first's, grow more than apart."""
    made = volleys(rng, trials=1, steps=2, pre=1, post=1)
    made = made.assign(key=0 * made.key + 1, value=0 * made.value + 0.6, beta=0 * made.beta + 1)
    apart, burst = (
        models.execute(made.assign(interval=0 * made.interval + s), "rate", engine="numpy")
        for s in (0.2, 0.02)
    )
    assert burst.weights.values.item() > 1.2 * apart.weights.values.item()


def test_other_sets_are_other_synapses(rng):
    made = volleys(rng)
    cortex, culture = (
        models.execute(made, "rate", engine="numpy", parameters=name)
        for name in ("cortical_slice", "hippocampal_culture")
    )
    assert (cortex.weights.values != culture.weights.values).any()
    assert any("hippocampal_culture" in words for words in culture.attrs["approximate"])


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        ({"query": -1.0}, {}, r"the query reaches -1, and rates can't be negative"),
        ({"interval": 0.02005}, {}, r"an interval of 0.02005 s; .* dt = 0.0001 s"),
        ({}, {"dt": 0.3e-3}, "dt = 0.0003 s does not divide the lead"),
        ({"beta": 60.0}, {"dt": 1e-3}, "dt = 0.001 s is too coarse for weights that change"),
        ({}, {"parameters": "cortex"}, "no set of parameters called 'cortex'"),
    ],
)
def test_mistakes_are_told(change, options, words, rng):
    made = volleys(rng)
    made = made.assign({name: 0 * made[name] + value for name, value in change.items()})
    with pytest.raises(FwbioError, match=words):
        models.execute(made, "rate", engine="numpy", **options)


def test_trials_share_their_intervals(rng):
    made = volleys(rng)
    other = made.interval.values.copy()
    other[1, 1] += 0.05
    with pytest.raises(FwbioError, match="trials have intervals of their own"):
        models.execute(made.assign(interval=(made.interval.dims, other)), "rate", engine="numpy")
