"""How a program is held against the one that it was meant to be."""

import numpy as np
import pytest
from programs import random_program
from tolerances import assert_close

from fwbio import FwbioError, reference
from fwbio.analyses.streams import imposed_agreement, program_agreement, stream_agreement


@pytest.fixture
def imposed(rng):
    program = random_program("gated_delta", rng, trials=3, steps=20, pre=8, post=6)
    return program.assign(scored=("step", np.arange(20) >= 10))


def test_a_program_agrees_with_itself_whatever_its_scale(imposed):
    half = imposed.assign(key=imposed.key / 2)
    found = stream_agreement(half, imposed)
    assert list(found) == ["key", "value", "query", "log_decay", "beta"]
    for name, one in found.items():
        assert_close(one.correlation, 1, "float64")
        share = 0.5 if name == "key" else 1
        assert_close([one.scale, one.relative_error], [share, 1 - share], "float64")
    assert_close(program_agreement(half, imposed), 1, "float64")


def test_noise_of_known_size_gives_a_known_correlation(rng):
    imposed = random_program("delta", rng, trials=50, steps=50, pre=20, post=20)
    value = imposed.value
    noise = float(value.std()) * rng.standard_normal(value.shape)
    noisy = imposed.assign(value=value + noise)
    found = stream_agreement(noisy, imposed)["value"]
    # 50,000 pairs of numbers: r of 1 / sqrt(2) has a standard error of (1 - r^2) / sqrt(50,000)
    assert abs(found.correlation - np.sqrt(0.5)) < 3 * 0.5 / np.sqrt(50_000)
    assert program_agreement(noisy, imposed) == found.correlation


def test_steps_where_both_are_silent_do_not_count(imposed):
    silent = imposed.copy(deep=True)
    silent["key"][:, 5:] = 0
    other = silent.copy(deep=True)
    other["key"][:, :5] = other.key[:, :5][..., ::-1]
    shorter = stream_agreement(other.isel(step=slice(5)), silent.isel(step=slice(5)))
    assert stream_agreement(other, silent)["key"] == shorter["key"]


def test_the_first_trials_of_a_longer_run_are_compared(imposed):
    whole, part = reference.execute(imposed), reference.execute(imposed.isel(trial=slice(2)))
    assert_close(imposed_agreement(part, whole), 1, "float64")
    assert_close(program_agreement(part, whole), 1, "float64")
    turned = part.assign(readout=-part.readout)
    assert_close(imposed_agreement(turned, whole), -1, "float64")
    unasked = part.assign(readout=part.readout.where(part.scored, 9.0))
    assert_close(imposed_agreement(unasked, whole), 1, "float64")


def test_a_constant_stream_has_no_correlation(imposed):
    constant = imposed.assign(beta=imposed.beta * 0 + 0.5)
    assert np.isnan(stream_agreement(constant, constant)["beta"].correlation)


def test_other_programs_are_refused(imposed, rng):
    other = random_program("hebb", rng, trials=3, steps=20, pre=8, post=6)
    with pytest.raises(FwbioError, match="the rules 'hebb' and 'gated_delta' differ"):
        program_agreement(other, imposed)
    shorter = imposed.isel(step=slice(5))
    with pytest.raises(FwbioError, match="'key' has the sizes"):
        program_agreement(shorter, imposed)
    runs = reference.execute(shorter), reference.execute(imposed)
    with pytest.raises(FwbioError, match="'readout' differs in size"):
        imposed_agreement(*runs)
    elsewhere = runs[1].assign(scored=~runs[1].scored)
    with pytest.raises(FwbioError, match="they ask at different steps"):
        imposed_agreement(elsewhere, runs[1])
