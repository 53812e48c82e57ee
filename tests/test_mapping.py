"""The map between a rule's step and a synapse: exact both ways, and its errors where it is not."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from tolerances import assert_close

from fwbio import FwbioError
from fwbio.models.mapping import (
    Flow,
    Presentation,
    Step,
    channel_error,
    driven,
    threshold_of,
    to_flow,
    to_step,
)

CASES = [
    {"turnover": turnover, "corrects": corrects, **calcium}
    for turnover in ("between", "always")
    for corrects in (True, False)
    for calcium in ({}, {"tau_nmda": 0.1}, {"tau_nmda": 0.1, "theta": 0.4})
]


def presentation(rng, **case):
    sizes = {name: rng.uniform(0.1, 0.8, 6) for name in ("squared_key", "duration", "gap")}
    sizes["duration"] += 0.2
    return Presentation(**sizes, **case)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_step_goes_to_a_synapse_and_back(case, rng):
    shown = presentation(rng, **case)
    erase = rng.uniform(0.05, 0.95, 6) / shown.squared_key * shown.corrects
    step = Step(alpha=rng.uniform(0.2, 1, 6), write=rng.uniform(0.1, 2, 6), erase=erase)
    again = to_step(to_flow(step, shown), shown)
    for name in ("alpha", "write", "erase"):
        assert_close(getattr(again, name), getattr(step, name), "float64")


@pytest.mark.parametrize("case", CASES[:6], ids=str)
def test_a_synapse_goes_to_a_step_and_back(case, rng):
    shown = presentation(rng, **case)
    flow = Flow(tau=rng.uniform(0.5, 20, 6), eta=rng.uniform(1, 30, 6), gain=rng.uniform(0.5, 2, 6))
    again = to_flow(to_step(flow, shown), shown)
    fixed = () if shown.corrects else ("eta",)  # without an erase strength only eta * gain is told
    for name in {"tau", "eta", "gain"} - set(fixed):
        if shown.corrects or name != "gain":
            assert_close(getattr(again, name), getattr(flow, name), "float64")
    if not shown.corrects:
        assert_close(again.eta * again.gain, flow.eta * flow.gain, "float64")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_step_is_where_the_synapse_s_equation_ends(case, rng):
    shown = Presentation(squared_key=0.7, duration=0.4, gap=0.2, **case)
    flow = Flow(tau=1.3, eta=9.0, gain=1.4)
    step = to_step(flow, shown)
    key = rng.uniform(0, 1, 5)
    key *= np.sqrt(0.7) / np.linalg.norm(key)
    start, value = rng.standard_normal(5), 0.8

    def synapse(t, w, plastic):
        s = -np.expm1(-t / shown.tau_nmda) if shown.tau_nmda else 1.0
        error = flow.gain * value * s - shown.corrects * key @ w
        return -w / flow.tau * (shown.turnover == "always") + plastic * flow.eta * key * error

    w = start * np.exp(-shown.gap / flow.tau)
    for begin, end, plastic in ((0, shown.opening, 0.0), (shown.opening, shown.duration, 1.0)):
        done = solve_ivp(synapse, (begin, end), w, "LSODA", args=(plastic,), rtol=1e-11, atol=1e-13)
        w = done.y[:, -1]
    erased = step.alpha * (start - step.erase * key * (key @ start))
    assert_close(w, erased + step.write * key * value, "ode")


@pytest.mark.parametrize("turnover", ["between", "always"])
def test_without_decay_nothing_turns_over(turnover):
    step = Step(alpha=1.0, write=0.4, erase=0.5)
    shown = Presentation(turnover=turnover)
    flow = to_flow(step, shown)
    assert flow.tau == np.inf
    again = to_step(flow, shown)
    for name in ("alpha", "write", "erase"):
        assert_close(getattr(again, name), getattr(step, name), "float64")


@pytest.mark.parametrize("rate", [0.0, 3.0, 1e5])
@pytest.mark.parametrize("tau", [1e-5, 0.1, 1e4])
def test_drives_are_their_integrals_at_any_rate(rate, tau):
    """(e^-(T/tau) - e^-(rate T)) / (rate - 1/tau), its two exponents far apart."""
    window, start = 0.3, 0.02
    steady, fading = driven(np.array(rate), window, start, tau)
    late = np.exp(-start / tau) * (np.exp(-window / tau) - np.exp(-rate * window))
    assert_close(steady, -np.expm1(-rate * window) / rate if rate else window, "float64")
    assert_close(fading, late / (rate - 1 / tau), "convergence")


def test_turnover_during_the_writing_parts_the_gates():
    """Without it one gate writes and erases, as in gated_delta; with it writing is the weaker."""
    flow = Flow(tau=0.5, eta=10.0)
    between, always = (to_step(flow, Presentation(turnover=when)) for when in ("between", "always"))
    assert between.write == pytest.approx(between.erase, rel=1e-12)
    assert always.write < always.erase


def test_hebb_gains_what_turnover_leaves():
    """Eta tau (1 - exp(-T / tau)) with turnover, eta T without."""
    flow = Flow(tau=0.5, eta=3.0)
    for turnover, gained in (("always", 3 * 0.5 * -np.expm1(-0.3 / 0.5)), ("between", 3 * 0.3)):
        shown = Presentation(corrects=False, turnover=turnover)
        assert to_step(flow, shown).write == pytest.approx(gained, rel=1e-12)


def test_the_flow_lies_between_the_implicit_and_the_explicit_step(rng):
    shown = presentation(rng)
    eta = rng.uniform(0.1, 30, 6)
    erase = to_step(Flow(tau=np.inf, eta=eta), shown).erase
    explicit = eta * shown.duration
    implicit = explicit / (1 + explicit * shown.squared_key)
    assert (implicit < erase).all()
    assert (erase < explicit).all()
    assert (erase * shown.squared_key < 1).all()


def test_equal_channels_are_exact_and_the_error_of_others_grows_with_their_spread(rng):
    key = rng.uniform(0.2, 1, 5)
    equal = channel_error(np.full(5, 2.0), 8.0, key, 0.3)
    near, far = (
        channel_error(2.0 + spread * np.linspace(-1, 1, 5), 8.0, key, 0.3) for spread in (0.1, 1.0)
    )
    assert equal < 1e-12
    assert 5 * near < far


def test_thresholds_scale_with_calcium():
    assert threshold_of(0.4, 2.0) == 0.2


def plain(numbers):
    """One number as such, more of them as an array."""
    return numbers[0] if len(numbers) == 1 else np.array(numbers)


TAKING = {
    **{
        name: lambda x, name=name: Presentation(**{name: x})
        for name in ("squared_key", "duration", "gap", "tau_nmda", "theta")
    },
    "tau": lambda x: to_step(Flow(tau=x, eta=1.0), Presentation()),
    "eta": lambda x: to_step(Flow(tau=1.0, eta=x), Presentation()),
    "gain": lambda x: to_step(Flow(tau=1.0, eta=1.0, gain=x), Presentation()),
    "alpha": lambda x: to_flow(Step(alpha=x, write=1.0, erase=0.5), Presentation()),
    "write": lambda x: to_flow(Step(alpha=0.9, write=x, erase=0.5), Presentation()),
    "erase": lambda x: to_flow(Step(alpha=0.9, write=1.0, erase=x), Presentation()),
    "theta_calcium": lambda x: threshold_of(x, 1.0),
    "calcium_per_product": lambda x: threshold_of(1.0, x),
    "rates": lambda x: channel_error(np.append(x, 1.0), 1.0, np.ones(1 + np.size(x)), 0.1),
    "key": lambda x: channel_error(np.ones(1 + np.size(x)), 1.0, np.append(x, 1.0), 0.1),
}
ENDLESS = {"tau"}
SINGLE = {"tau_nmda", "theta"}


@pytest.mark.parametrize("beside", [(), (0.5, 0.25)], ids=["alone", "among others"])
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", TAKING)
def test_what_is_not_finite_is_refused(name, number, beside):
    if name in ENDLESS and number == np.inf:
        return
    given = (number,) if name in SINGLE else (*beside, number)
    with pytest.raises(FwbioError, match=rf": {name} = {number:g} is out of range") as told:
        TAKING[name](plain(given))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", [name for name in TAKING if name not in {"rates", "key"}])
def test_words_are_refused(name):
    with pytest.raises(FwbioError, match=f": {name} = 'slow' is no number"):
        TAKING[name]("slow")


def test_a_silent_key_has_no_error():
    with pytest.raises(FwbioError, match="the key is silent"):
        channel_error(np.ones(3), 1.0, np.zeros(3), 0.1)


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        (lambda: to_flow(Step(alpha=1.1, write=1), Presentation()), "alpha = 1.1 .* up to 1"),
        (lambda: to_flow(Step(alpha=0, write=1), Presentation()), "alpha = 0 "),
        (
            lambda: to_flow(Step(alpha=1, write=1, erase=1.0), Presentation()),
            "erase .* reaches 1; a passive synapse erases less than all",
        ),
        (
            lambda: to_flow(Step(alpha=0.9, write=1), Presentation()),
            "writes and does not erase; .* give corrects=False, or erase above 0",
        ),
        (
            lambda: to_flow(Step(alpha=0.9, write=1, erase=0.2), Presentation(corrects=False)),
            "a step erases, and the presentation corrects no error; give erase = 0",
        ),
        (lambda: to_step(Flow(tau=-1.0, eta=1), Presentation()), "tau = -1 .* above 0"),
        (lambda: to_step(Flow(tau=1.0, eta=-1), Presentation()), "eta = -1 .* from 0 up"),
        (lambda: Presentation(duration=0.0), "duration = 0 is out of range"),
        (lambda: Presentation(turnover="never"), "turnover = 'never'"),
        (lambda: Presentation(tau_nmda=0.1, theta=0.99), "theta = 0.99 is never reached"),
        (lambda: Presentation(tau_nmda=-0.1), "tau_nmda = -0.1"),
        (lambda: threshold_of(0.1, 0.0), "calcium_per_product = 0 "),
        (lambda: threshold_of(-0.1, 1.0), "theta_calcium = -0.1"),
    ],
)
def test_what_no_synapse_does_is_told(mistake, words):
    with pytest.raises(FwbioError, match=words) as told:
        mistake()
    assert "\n" not in str(told.value)
