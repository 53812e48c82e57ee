"""The engines: step by step the plain loop, whichever runs it, and programs compiled once."""

import dataclasses

import brian2 as b2
import numpy as np
import pytest
from brian2.codegen.runtime.cython_rt import extension_manager
from programs import random_program
from tolerances import assert_close

from fwbio import FwbioError, models
from fwbio.models import engines, standalone
from fwbio.models.schedule import NONE, Schedule
from fwbio.models.simulation import RecordingWarning, compiling_told, warn_of_recording

COMPILED = ("cython", "cpp_standalone")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """Programs are compiled once for the tests of this file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(standalone.CACHE, str(tmp_path_factory.mktemp("cache")))
        yield


def random_schedule(rng, n=2, rows=19, columns=3, **changes):
    """Every phase of one step or more reads, keeps, turns and rounds."""
    steps = np.array([1, 1, 2, 1, 3])
    P, shape = len(steps), (len(steps), n, columns, rows)
    each = np.arange(P)
    return Schedule(
        **{
            "dt": 1e-3,
            "tau": 0.02,
            "steps": steps,
            "rate": rng.random((P, n, rows)),
            "drive": 20 * rng.random((P, n, rows)),
            "keep": rng.uniform(0.9, 1, (P, n, rows)),
            "teach": rng.standard_normal((P, n, columns)),
            "turns": np.where(each == 1, 0, np.where(each == 3, 1, NONE)),
            "rounds": np.where(each == 2, 0, NONE),
            "reads": each,
            "keeps": each,
            "factor": rng.uniform(0.5, 1.5, (2, *shape[1:])),
            "shift": 0.1 * rng.standard_normal((2, *shape[1:])),
            "chance": rng.random((1, *shape[1:])),
            "bound": 1.5,
            "quantum": 0.25,
        }
        | changes
    )


def stepped(plan, w):
    """The same by a plain loop over explicit Euler steps: prediction, weights, trace, in order."""
    n, _, columns = plan.shape
    s, w = np.zeros((n, columns)), w.swapaxes(1, 2).copy()
    readouts, weights = [], []
    for phase, steps in enumerate(plan.steps):
        rate, drive, keep, teach = (
            getattr(plan, name)[phase] for name in ("rate", "drive", "keep", "teach")
        )
        for _ in range(steps):
            prediction = (w * rate[:, None]).sum(-1)
            change = plan.dt * drive[:, None] * (s - prediction)[..., None]
            w = np.clip(keep[:, None] * w + change, -plan.bound, plan.bound)
            s = teach + (s - teach) * np.exp(-plan.dt / plan.tau)
        if (at := plan.turns[phase]) != NONE:
            w = np.clip(plan.factor[at] * w + plan.shift[at], -plan.bound, plan.bound)
        if (at := plan.rounds[phase]) != NONE:
            level = np.floor((w + plan.bound) / plan.quantum + plan.chance[at])
            w = np.clip(level * plan.quantum - plan.bound, -plan.bound, plan.bound)
        readouts.append(prediction)
        weights.append(w)
    return np.array(readouts), np.array(weights)


@pytest.mark.parametrize("engine", engines.ENGINES)
def test_every_phase_is_the_plain_loop_s(engine, rng):
    """Phases of one step show every step; a second program of the layout is not the first's."""
    for changes in ({}, {}, {"bound": np.inf, "rounds": np.full(5, NONE)}):
        plan = random_schedule(rng, **changes)
        initial = rng.uniform(-1, 1, plan.shape)
        done = engines.run(plan, initial, engine=engine, seed=0, progress=False, title="test")
        readout, weights = stepped(plan, initial)
        assert_close(done.readout, readout, "float64")
        assert_close(done.weights, weights, "float64")
        assert done.run_s > 0


@pytest.mark.parametrize("rule", ["delta", "gated_delta_2"])
def test_engines_agree(rule, rng):
    program = random_program(rule, rng, steps=2, nonnegative=True, passive=True)
    coarse = {"dt": 2.5e-3, "receptors": 20, "bound": 2.0, "turnover_cv": 0.5, "seed": 5}
    plain = models.execute(program, "rate", engine="numpy", **coarse)
    for engine in COMPILED:
        done = models.execute(program, "rate", engine=engine, **coarse)
        assert_close(done.weights, plain.weights, "float64")
        assert_close(done.readout, plain.readout, "float64")
        assert done.attrs["backend"] == f"brian2-{engine}"


def test_a_program_is_compiled_once_a_layout(rng, tmp_path, monkeypatch):
    plan = random_schedule(rng)
    initial = np.zeros(plan.shape)
    run = {"engine": "cpp_standalone", "seed": 0, "progress": False, "title": "test"}
    engines.run(plan, initial, **run)
    built = list((standalone.cache_folder() / "brian2").iterdir())

    def never(*_):
        raise AssertionError("compiled again")

    monkeypatch.setattr(standalone, "_build", never)
    again = engines.run(random_schedule(rng), initial + 1, **run)
    assert again.compile_s < 1
    assert list((standalone.cache_folder() / "brian2").iterdir()) == built
    with pytest.raises(AssertionError, match="compiled again"):
        engines.run(random_schedule(rng, columns=4), np.zeros((2, 19, 4)), **run)
    monkeypatch.setenv(standalone.CACHE, str(tmp_path))
    with pytest.raises(AssertionError, match="compiled again"):
        engines.run(plan, initial, **run)


def test_a_program_s_key_follows_its_text(monkeypatch):
    layout = {"shape": [1, 2, 3]}
    key = standalone._key(layout, [engines])
    assert key == standalone._key(layout, [engines])
    assert key != standalone._key({"shape": [1, 3, 2]}, [engines])
    assert key != standalone._key(layout, [standalone])
    monkeypatch.setattr(standalone, "_machine", lambda: ["another processor"])
    assert key != standalone._key(layout, [engines])


def test_a_cache_that_can_t_be_written_is_told(rng, tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setenv(standalone.CACHE, str(blocked))
    plan = random_schedule(rng)
    with pytest.raises(FwbioError, match="can't be written"):
        engines.run(
            plan, np.zeros(plan.shape), engine="cpp_standalone", seed=0, progress=False, title=""
        )


def test_a_missing_compiler_is_told(monkeypatch):
    monkeypatch.setenv("PATH", "")
    standalone._machine.cache_clear()
    with pytest.raises(FwbioError, match=r"there is no C\+\+ compiler; see that g\+\+ and make"):
        standalone._key({}, [])
    standalone._machine.cache_clear()


def test_a_program_that_fails_is_told(tmp_path):
    main = tmp_path / "main"
    main.write_text("#!/bin/sh\necho no such table >&2\nexit 3\n")
    main.chmod(0o755)
    with pytest.raises(FwbioError, match=r"program failed: no such table; delete that folder"):
        standalone.run(standalone.Project(folder=tmp_path, files={}), {}, [])


def test_nothing_global_is_left_changed(rng):
    import brian2 as b2

    before = b2.get_device(), b2.prefs.codegen.target, b2.defaultclock.dt
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    plan = random_schedule(rng)
    for engine in engines.ENGINES:
        engines.run(plan, np.zeros(plan.shape), engine=engine, seed=3, progress=False, title="")
        assert (b2.get_device(), b2.prefs.codegen.target, b2.defaultclock.dt) == before
        np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_time_is_told_apart(rng):
    program = random_program("delta", rng, steps=1, nonnegative=True, passive=True)
    config = models.execute(program, "rate", engine="numpy", dt=2.5e-3).attrs["substrate_config"]
    assert config["run_s"] > 0
    assert config["compile_s"] > 0


def test_too_large_a_record_is_foretold(rng):
    """3 steps of 2 trials of 4 x 3 weights, 8 bytes each."""
    program = random_program("delta", rng, steps=3, nonnegative=True, passive=True)
    held = 3 * 2 * 4 * 3 * 8
    options = {"weights": "all", "engine": "numpy", "dt": 2.5e-3}
    with pytest.warns(RecordingWarning, match=f"will take {held} bytes, above record_bound = 575"):
        models.execute(program, "rate", record_bound=held - 1, **options)
    models.execute(program, "rate", record_bound=held, **options)


def test_the_warning_is_one_line():
    with pytest.warns(RecordingWarning) as caught:
        warn_of_recording(2e9, 1e9, "here")
    assert "\n" not in str(caught[0].message)


def test_a_phase_past_the_end_does_nothing(rng):
    """The step after the last phase ends it, and no more."""
    plan = random_schedule(rng)
    longer = dataclasses.replace(plan, steps=plan.steps * 2)
    assert longer.unit == 2
    assert longer.phases().tolist() == [0, 1, 2, 2, 3, 4, 4, 4, 5]


@pytest.fixture
def emptied(tmp_path):
    """Brian2's own folder of what Cython compiled, empty."""
    kept = b2.prefs.codegen.runtime.cython.cache_dir
    b2.prefs.codegen.runtime.cython.cache_dir = str(tmp_path)
    yield tmp_path
    b2.prefs.codegen.runtime.cython.cache_dir = kept


def test_compiling_is_told_once_and_only_where_it_happens(emptied, capfd, rng):
    """Code that no process has compiled; another time it is read from its folder."""
    number = rng.integers(2**40)

    def compile_two(progress):
        with compiling_told("synapses", progress=progress):
            for name in ("one", "two"):
                code = f"def {name}():\n    return {number}"
                manager.create_extension(code)
        manager._code_cache.clear()  # as a process that starts has it

    manager = extension_manager.cython_extension_manager
    remembered = dict(manager._code_cache)
    try:
        compile_two(progress=True)
        told = capfd.readouterr()
        assert told.out == ""
        assert told.err.count("\n") == 1
        assert told.err.startswith("synapses: compiling, which may take a minute; it is kept")
        assert str(emptied) in told.err
        compile_two(progress=True)
        assert capfd.readouterr().err == ""
        number += 1
        compile_two(progress=False)
        assert capfd.readouterr().err == ""
    finally:
        manager._code_cache.update(remembered)


def test_building_a_program_is_told_once(tmp_path, monkeypatch, capsys, rng):
    monkeypatch.setenv(standalone.CACHE, str(tmp_path))
    program = random_program("hebb", rng, steps=2, pre=2, post=2)
    program = program.assign(key=abs(program["key"]), query=abs(program["query"]))
    for line in (1, 0):
        models.execute(program, "rate", engine="cpp_standalone", progress=True)
        told = capsys.readouterr().err
        assert told.count("rate synapses: compiling") == line
    assert str(tmp_path) not in told
