"""The flow map is exact: integrating the synapse's equation gives the rule's step."""

import numpy as np
import pytest
from programs import random_program
from scipy.integrate import solve_ivp
from tolerances import assert_close

from fwbio import RULES, FwbioError, models, reference
from fwbio.models.presentations import Timing, plan
from fwbio.normal_form import normal_form
from fwbio.program import operands

TIMING = Timing(gap=0.05, write=0.2, pause=0.03, settle=0.0, read=0.02, tau_nmda=0.1, theta_d=0.0)
PASSIVE = [name for name in RULES if models.unsupported(RULES[name], "flow") is None]


def operand_form(program):
    given = operands(program)
    return normal_form(
        given.rule, given.streams, xp=np, time_axis=1, writes_per_step=given.writes_per_step
    )


def integrate(form, course, timing):
    """The weights after every step, by an adaptive solver that knows only the equations."""
    n, _, rows = form.key.shape
    columns = form.write.shape[-1]
    scale = min(1.0, np.abs(form.write).max(initial=0))
    state = np.zeros((n, rows + 2, columns))  # weights, teaching trace, calcium
    after = {}
    for phase in course.phases:
        writing, t = phase.kind == "write", phase.write
        turnover = course.turnover[:, t, :, None] if phase.kind == "gap" else 0.0
        drive = writing * course.plasticity[:, t, None] * course.key[:, t]
        taught = writing * (course.plasticity[:, t] > 0)[:, None]

        def flow(_, flat, phase=phase, turnover=turnover, drive=drive, taught=taught):
            w, s, c = np.split(flat.reshape(n, rows + 2, columns), [rows, rows + 1], axis=1)
            error = s[:, 0] - np.einsum("nk,nkv->nv", course.predict[:, phase.write], w)
            plastic = (c[:, 0] > timing.theta_d) | (timing.theta_d == 0)
            teach = course.teach[:, phase.write] * (phase.kind == "write")
            return np.concatenate(
                [
                    -turnover * w + drive[:, :, None] * (plastic * error)[:, None],
                    (teach - s[:, 0])[:, None] / timing.tau_nmda,
                    (taught - c[:, 0])[:, None] / timing.tau_nmda,
                ],
                axis=1,
            ).ravel()

        loose = timing.theta_d > 0  # the gate's edge is no smooth function of time
        done = solve_ivp(
            flow,
            (0, phase.duration),
            state.ravel(),
            method="LSODA",
            rtol=1e-9 if loose else 1e-12,
            atol=scale * (1e-11 if loose else 1e-13),
            max_step=1e-4 if loose else np.inf,
        )
        state = done.y[:, -1].reshape(state.shape)
        after[phase.step] = state[:, :rows]
    return np.stack([after[step] for step in sorted(after)], axis=1)


@pytest.mark.parametrize("rule", PASSIVE)
def test_the_synapse_integrates_to_the_rule(rule, rng):
    program = random_program(rule, rng, steps=4, nonnegative=True, passive=True)
    form = operand_form(program)
    course = plan(form, TIMING, erase_limit=1 - 1e-9, where="test")
    expected = reference.execute(program, weights="all").weights.values
    weights = integrate(form, course, TIMING)[..., : expected.shape[-1]]
    assert_close(weights, expected, "ode")


@pytest.mark.parametrize("rule", ["hebb", "gated_delta"])
def test_a_calcium_threshold_opens_plasticity_when_the_map_says(rule, rng):
    timing = Timing(
        gap=0.05, write=0.2, pause=0.05, settle=0.0, read=0.02, tau_nmda=0.1, theta_d=0.4
    )
    program = random_program(rule, rng, trials=1, steps=3, nonnegative=True, passive=True)
    form = operand_form(program)
    course = plan(form, timing, erase_limit=1 - 1e-9, where="test")
    weights = integrate(form, course, timing)
    assert_close(weights, reference.execute(program, weights="all").weights.values, "gate edge")


def test_an_erasure_that_no_flow_completes_is_held_at_the_limit(rng):
    program = random_program("delta", rng, trials=1, steps=2, nonnegative=True, passive=True)
    program["beta"][:] = 1.0
    program["key"][:, 1] = program["key"][:, 0]
    form = operand_form(program)
    course = plan(form, TIMING, erase_limit=0.9, where="test")
    assert course.clipped == 2
    weights = integrate(form, course, TIMING)
    first, second = (np.einsum("k,kv->v", form.key[0, t], weights[0, t]) for t in (0, 1))
    assert_close(first, form.write[0, 0], "ode")
    assert_close(second, form.write[0, 1] + 0.1 * first, "ode")


def test_each_trial_may_write_or_rest_on_its_own(rng):
    program = random_program("gated_delta", rng, steps=5, nonnegative=True, passive=True)
    program["beta"][0, 1:3] = 0.0
    program["key"][1, 2] = 0.0
    form = operand_form(program)
    course = plan(form, TIMING, erase_limit=1 - 1e-9, where="test")
    weights = integrate(form, course, TIMING)
    assert_close(weights, reference.execute(program, weights="all").weights.values, "ode")


def test_time_passes_only_where_something_happens(rng):
    program = random_program("delta", rng, steps=3, nonnegative=True, passive=True)
    program["beta"][:, 2] = 0.0
    program["query"][:, 0] = 0.0
    course = plan(operand_form(program), TIMING, erase_limit=0.9, where="test")
    kinds = [(phase.step, phase.kind) for phase in course.phases]
    assert kinds == [
        (0, "gap"), (0, "write"),
        (1, "gap"), (1, "write"), (1, "pause"), (1, "read"),
        (2, "gap"), (2, "read"),
    ]  # fmt: skip
    np.testing.assert_allclose(course.onset(3), [0, 0.25, 0.55])
    assert course.duration == pytest.approx(0.62)


def test_negative_rates_are_refused(rng):
    program = random_program("delta", rng, steps=3, passive=True)
    with pytest.raises(FwbioError, match=r"rate substrate: the key reaches -.* ON/OFF"):
        models.execute(program, "rate")


def test_erasing_more_than_all_is_refused(rng):
    program = random_program("delta", rng, steps=3, nonnegative=True, passive=True)
    program["beta"][:] = 2.0
    with pytest.raises(FwbioError, match=r"erases 2 times .* beta \|k\|\^2 <= 1"):
        models.execute(program, "spiking")
