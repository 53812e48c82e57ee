"""The flow substrate: exact where an adaptive solver is, and where the rate model steps to."""

import numpy as np
import pytest
from programs import random_program
from scipy.integrate import solve_ivp
from test_presentations import TIMING, integrate, operand_form
from tolerances import assert_close

from fwbio import RULES, FwbioError, models, record, reference
from fwbio.models.presentations import plan

RUN = [name for name in RULES if models.unsupported(name, "flow") is None]
OPTIONS = {"gap": TIMING.gap, "write": TIMING.write, "read": TIMING.read}


def passive(rule, rng, **sizes):
    return random_program(rule, rng, nonnegative=True, passive=True, **sizes)


@pytest.mark.parametrize("rule", RUN)
@pytest.mark.parametrize("keep", ["last", "all", 3])
def test_the_flow_of_a_planned_program_is_the_rule(rule, keep, rng):
    program = passive(rule, rng, trials=3, steps=8, initial_weights=True)
    run = models.execute(program, "flow", weights=keep)
    expected = reference.execute(program, weights=keep)
    assert record.validate(run) == []
    assert run.snapshot.equals(expected.snapshot)
    for name in ("readout", "weights"):
        assert_close(run[name], expected[name], "float64")


@pytest.mark.parametrize("theta_d", [0.0, 0.3])
def test_it_solves_the_equations_that_an_adaptive_solver_solves(theta_d, rng):
    program = passive("gated_delta", rng, steps=4)
    timing = TIMING.__class__(**{**TIMING.__dict__, "theta_d": theta_d, "pause": 0.0})
    form = operand_form(program)
    course = plan(form, timing, erase_limit=0.5, where="test")
    solved = integrate(form, course, timing)
    run = models.execute(
        program, "flow", **OPTIONS, theta_d=theta_d, erase_limit=0.5, weights="all"
    )
    assert_close(run.weights, solved, "gate edge" if theta_d else "ode")


def test_turnover_that_never_stops_is_solved_too(rng):
    """Write and erase gates part: dW/dt = -lambda W + eta k (s - p^T W), lambda at all times."""
    program = passive("gated_delta", rng, trials=1, steps=3)
    form = operand_form(program)
    timing = TIMING.__class__(**{**TIMING.__dict__, "pause": 0.0})
    course = plan(form, timing, erase_limit=1 - 1e-9, where="test")
    rows, columns = form.key.shape[-1], form.write.shape[-1]
    state = np.zeros((rows + 1) * columns)
    after = {}
    for phase in course.phases:
        t, writing = phase.write, phase.kind == "write"
        lost = course.turnover[0, t, 0]
        drive = writing * course.plasticity[0, t] * course.key[0, t]

        def flow(_, flat, t=t, writing=writing, lost=lost, drive=drive):
            w, s = np.split(flat.reshape(rows + 1, columns), [rows])
            error = s[0] - course.predict[0, t] @ w
            teach = course.teach[0, t] * writing
            return np.concatenate(
                [-lost * w + np.outer(drive, error), (teach - s) / timing.tau_nmda]
            ).ravel()

        done = solve_ivp(flow, (0, phase.duration), state, method="LSODA", rtol=1e-11, atol=1e-14)
        state = done.y[:, -1]
        after[phase.step] = state.reshape(rows + 1, columns)[:rows]
    run = models.execute(
        program, "flow", **OPTIONS, turnover="always", erase_limit=1 - 1e-9, weights="all"
    )
    assert_close(run.weights[0], np.stack(list(after.values())), "ode")
    query = program["query"].values[0]
    read = np.einsum("tk,tkv->tv", query, run.weights.values[0])
    assert_close(run.readout[0], read, "float64")
    assert any("turnover goes on" in words for words in run.attrs["approximate"])


def test_the_rate_model_steps_towards_it(rng):
    program = passive("delta", rng, steps=4)
    flow = models.execute(program, "flow").readout.values
    errors = [
        np.abs(models.execute(program, "rate", engine="numpy", dt=dt).readout.values - flow).max()
        for dt in (1e-3, 0.5e-3)
    ]
    assert errors[1] < 0.6 * errors[0]


def test_a_flow_erases_less_than_all(rng):
    program = passive("delta", rng, steps=3)
    run = models.execute(program, "flow", erase_limit=0.5)
    clipped = [
        words for words in run.attrs["approximate"] if "erase 0.5 of the prediction" in words
    ]
    strongest = (program.beta * (program.key**2).sum("pre")).values
    assert len(clipped) == bool((strongest > 0.5).any())
    assert run.attrs["backend"] in {"recurrent", "chunked"}
    assert run.attrs["substrate_config"]["run_s"] > 0


@pytest.mark.parametrize(
    ("rule", "options", "words"),
    [
        ("kda", {"turnover": "always"}, "turn over at rates of their own, while they write"),
        ("delta", {"turnover": "never"}, "turnover = 'never' is no time"),
        ("delta", {"theta_d": 0.99}, "theta_d = 0.99 is never reached"),
        ("delta", {"theta_d": -0.1}, "theta_d = -0.1 is out of range; give a number from 0 to 1"),
        ("delta", {"backend": "slow"}, "no backend called 'slow'"),
        ("calcium", {}, "its step is not linear"),
    ],
)
def test_bad_options_are_told(rule, options, words, rng):
    program = passive(rule, rng, steps=2)
    with pytest.raises(FwbioError, match=words):
        models.execute(program, "flow", **options)


def test_a_decay_may_only_stand_for_what_takes_as_long(rng):
    """A gap of .1 s and a decay to exp(-.2): tau is half a second, no protein turnover."""
    made = passive("retnet", rng, steps=2)
    made["log_decay"] = 0 * made.log_decay - 0.2
    run = models.execute(made, "flow", process="short_term_plasticity")
    assert run.attrs["substrate_config"]["tau_turnover"] == pytest.approx([0.5, 0.5])
    assert run.attrs["substrate_config"]["process"] == "short_term_plasticity"
    assert "plasticity" in models.execute(made, "flow").attrs["substrate_config"]["process"]
    with pytest.raises(FwbioError, match=r"500 ms is no protein turnover, .* may stand for"):
        models.execute(made, "flow", process="protein_turnover")
    with pytest.raises(FwbioError, match="no time scale called 'protein'"):
        models.execute(made, "flow", process="protein")
    with pytest.raises(FwbioError, match="nothing decays in this program"):
        models.execute(passive("delta", rng), "flow", process="trafficking")
