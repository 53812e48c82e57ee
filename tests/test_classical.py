"""Willshaw's and Hopfield's memories: closed forms against every case there is, and measured."""

import itertools
import json
import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from click.testing import CliRunner
from images import MPL
from scipy import special
from tolerances import TOLERANCES, assert_close

from fwbio import FwbioError
from fwbio.analyses import classical_plots
from fwbio.analyses.capacity_measures import wrong_signs
from fwbio.analyses.classical import hopfield, willshaw
from fwbio.analyses.classical_command import classical_command
from fwbio.analyses.classical_config import HopfieldSweep, WillshawSweep
from fwbio.analyses.classical_laws import (
    deviations,
    hopfield_theory,
    willshaw_sizes,
    willshaw_theory,
)
from fwbio.analyses.classical_memories import (
    binary_patterns,
    clipped_sum,
    fired,
    flipped,
    hebbian_sum,
    settle,
    sign_patterns,
    without_self,
)
from fwbio.analyses.classical_theory import (
    active_synapses,
    best_information,
    bit_error,
    critical_load,
    gaussian_error,
    load_of,
    pattern_information,
    retrieval_overlap,
    sparse_information,
    spurious,
    spurious_of_independent,
)

FAR = 4.5  # standard errors of fifty memories: a dozen points at once miss it once in a thousand


def sets(units, active):
    """All patterns with that many ones, (pattern, units)."""
    return np.array(
        [np.isin(range(units), ones) for ones in itertools.combinations(range(units), active)],
        dtype=float,
    )


@pytest.fixture(scope="module")
def every_net():
    """All nets of three pairs of 4-unit keys and 3-unit values whose first pair is given."""
    keys, values = sets(4, 2), sets(3, 1)
    others = itertools.product(range(len(keys)), range(len(values)), repeat=2)
    k, v = [], []
    for one, its, other, her in others:
        k.append(np.stack([keys[0], keys[one], keys[other]]))
        v.append(np.stack([values[0], values[its], values[her]]))
    k, v = np.stack(k), np.stack(v)
    return k, v, clipped_sum(k, v)


def test_spurious_units_are_counted_exactly_in_all_nets_there_are(every_net):
    keys, values, weights = every_net
    silent = values[:, 0] == 0
    share = fired(weights, keys[:, :1])[:, 0][silent].mean()
    assert_close(share, spurious(3, 4, 2, 1 / 3), "float64")
    assert share > spurious_of_independent(3, 2, 1 / 2, 1 / 3)


def test_synapses_that_are_on_are_counted_exactly_in_all_nets_there_are(every_net):
    # the first pair is the same in all: two others write the synapses that it leaves off
    keys, values, weights = every_net
    off = np.einsum("tk,tv->tkv", keys[:, 0], values[:, 0]) == 0
    assert_close(weights[off].mean(), active_synapses(2, 1 / 2, 1 / 3), "float64")


@pytest.mark.parametrize(("pairs", "units", "active"), [(30, 32, 4), (400, 64, 5), (90, 128, 7)])
def test_coverage_step_by_step_is_inclusion_and_exclusion(pairs, units, active):
    share = active / units
    s = np.arange(active + 1)
    missed = special.comb(units - s, active) / special.comb(units, active)
    ways = (-1.0) ** s * special.comb(active, s)
    must = (ways * (1 - share * (1 - missed)) ** (pairs - 1)).sum()
    found = spurious(pairs, units, active, share)
    assert_close(found, must, "alternating signs")
    assert found > spurious_of_independent(pairs, active, share, share)


def test_synapses_of_large_sparse_nets_are_nearly_independent():
    ratios = []
    for doublings in (8, 12, 16, 20):
        units, active = 2**doublings, doublings
        share = active / units
        pairs = round(np.log(2) / share**2)
        rough = spurious_of_independent(pairs, active, share, share)
        ratios.append(spurious(pairs, units, active, share) / rough)
    assert (np.diff(ratios) < 0).all()
    assert 1 < ratios[-1] < 1.05


def test_a_pattern_and_its_recall_share_what_the_closed_form_says():
    """The mutual information of all values and all recalls, counted, keys being given."""
    keys, values = sets(4, 2), sets(4, 2)
    cases = list(itertools.product(range(len(values)), range(len(keys)), range(len(values))))
    k = np.stack([[keys[0], keys[other]] for _, other, _ in cases])
    v = np.stack([[values[own], values[her]] for own, _, her in cases])
    recalled = fired(clipped_sum(k, v), k[:, :1])[:, 0]
    joint = pd.crosstab([own for own, _, _ in cases], [str(units) for units in recalled]).values
    joint = joint / joint.sum()
    apart = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    told = (joint[joint > 0] * np.log2((joint / apart)[joint > 0])).sum()
    extra = recalled.sum(-1) - 2
    assert_close(pattern_information(4, 2, extra).mean(), told, "float64")


def test_information_rises_to_ln_2_with_size():
    grown = np.array([sparse_information(n) for n in (10, 20, 50, 100, 200, 500, 1000)])
    assert (np.diff(grown) > 0).all()
    assert 0.985 * np.log(2) < grown[-1] < np.log(2)


def test_finite_nets_hold_less_and_clean_ones_less_again():
    sizes = willshaw_sizes((16, 64, 256, 1024, 4096))
    for name in sizes.data_vars:
        assert (np.diff(sizes[name]) > 0).all()
        assert (sizes[name] < np.log(2)).all()
    assert (sizes.best > sizes.logarithmic).all() and (sizes.logarithmic > sizes.clean).all()


def test_the_cleanest_load_leaves_as_many_errors_as_allowed():
    _, pairs, active = best_information(128, errors=0.01)
    allowed = 0.01 * active / (128 - active)
    share = active / 128
    assert spurious(pairs, 128, active, share) <= allowed < spurious(pairs + 1, 128, active, share)


@pytest.mark.parametrize("self_coupling", [False, True])
@pytest.mark.parametrize("flips", [0, 1, 2])
@pytest.mark.parametrize(("pairs", "units"), [(3, 4), (2, 5)])
def test_bit_errors_are_counted_exactly_in_all_nets_there_are(pairs, units, flips, self_coupling):
    signs = np.array(list(itertools.product([-1.0, 1.0], repeat=pairs * units)))
    patterns = signs.reshape(-1, pairs, units)
    weights = hebbian_sum(patterns, patterns, strength=1 / units)
    weights = weights if self_coupling else without_self(weights)
    cues = patterns[:, :1].copy()
    cues[..., :flips] *= -1
    share = wrong_signs(cues @ weights, patterns[:, :1]).mean()
    must = bit_error(pairs, units, flipped=flips, self_coupling=self_coupling)
    assert_close(share, must, "float64")


def test_bit_errors_of_many_patterns_are_those_of_normal_noise():
    assert_close(bit_error(400, 2000), gaussian_error(400, 2000), "normal noise")
    assert bit_error(400, 2000, self_coupling=True) < bit_error(400, 2000)


def test_the_critical_load_is_the_published_one():
    assert_close(critical_load(), 0.137905, "published digits")  # of Steffan & Kuehn 1994
    assert round(critical_load(), 3) == 0.138
    assert round(retrieval_overlap(critical_load()), 2) == 0.97
    assert np.isnan(retrieval_overlap(critical_load() + 1e-9))


@pytest.mark.parametrize("load", [0.03, 0.08, 0.12, 0.1379])
def test_retrieval_solves_the_equations_of_amit_gutfreund_and_sompolinsky(load):
    m = retrieval_overlap(load)
    y = special.erfinv(m)
    spread = m / (np.sqrt(2) * y)  # sqrt(alpha r)
    slope = np.sqrt(2 / np.pi) / spread * np.exp(-(y**2))
    assert_close(spread**2, load / (1 - slope) ** 2, "root of a flat tail")
    assert_close(load_of(y), load, "root of a flat tail")


def test_clipping_after_every_write_is_clipping_once(rng):
    keys, values = rng.random((2, 3, 20, 5))
    weights = np.zeros((3, 5, 5))
    for k, v in zip(keys.swapaxes(0, 1), values.swapaxes(0, 1), strict=True):
        weights = np.minimum(weights + k[:, :, None] * v[:, None, :], 1)
    assert_close(clipped_sum(keys, values), weights, "float64")
    with pytest.raises(FwbioError, match="not negative"):
        clipped_sum(keys, -values)


@pytest.fixture(scope="module")
def pairs():
    rng = np.random.default_rng(3)
    return np.stack([[binary_patterns(rng, 12, 12, 3) for _ in range(2)] for _ in range(2)])


@pytest.mark.parametrize("substrate", ["kernel", "flow"])
def test_sums_without_bounds_are_clipped_alike(substrate, pairs):
    assert_close(clipped_sum(*pairs, substrate), clipped_sum(*pairs), "float64")


def test_bounded_rate_synapses_are_willshaws_in_the_limit_of_small_steps(pairs):
    must = clipped_sum(*pairs)
    errors = []
    for dt in (5e-3, 2.5e-3):
        options = {"engine": "numpy", "gap": 1.5, "dt": dt}
        weights = clipped_sum(*pairs, "rate", options=options)
        assert weights.max() <= 1 + 1e-12
        assert (fired(weights, pairs[0]) == fired(must, pairs[0])).all()
        errors.append(np.abs(weights - must).max())
    order = np.log2(errors[0] / errors[1])
    assert abs(order - 1) < TOLERANCES["order"].value


def test_what_is_left_of_the_last_teaching_input_takes_weights_off_their_bound(pairs):
    must = clipped_sum(*pairs)
    lost = []
    for gap in (0.1, 0.3):
        options = {"engine": "numpy", "gap": gap, "dt": 5e-3}
        lost.append((must - clipped_sum(*pairs, "rate", options=options)).max())
    assert lost[0] > 0.03 > lost[1]


def test_signed_keys_reach_synapses_as_on_and_off_cells(rng):
    patterns = np.stack([sign_patterns(rng, 5, 8) for _ in range(3)])
    must = np.einsum("tpk,tpv->tkv", patterns, patterns) / 8
    for substrate in ("reference", "flow"):
        assert_close(hebbian_sum(patterns, patterns, substrate, strength=1 / 8), must, "float64")


def test_a_net_settles_where_no_unit_turns_and_energy_has_fallen(rng):
    patterns = np.stack([sign_patterns(rng, 9, 48) for _ in range(4)])
    weights = without_self(hebbian_sum(patterns, patterns, strength=1 / 48))
    cues = flipped(rng, patterns, 12)
    assert ((cues != patterns).sum(-1) == 12).all()
    states, still = settle(weights, cues, rng)
    assert still.all() and (np.abs(states) == 1).all()
    assert ((states @ weights) * states >= -1e-9).all()

    def energy(x):
        return -np.einsum("tci,tij,tcj->tc", x, weights, x) / 2

    changed = (states != cues).any(-1)
    assert changed.any()
    assert (energy(states)[changed] < energy(cues)[changed]).all()
    assert not settle(weights, cues, rng, sweeps=1)[1].all()


def test_one_pattern_attracts_every_cue_on_its_side(rng):
    pattern = sign_patterns(rng, 1, 20)[None]
    weights = without_self(hebbian_sum(pattern, pattern, strength=1 / 20))
    for flips in (0, 5, 9):
        states, _ = settle(weights, flipped(rng, pattern, flips), rng)
        assert (states == pattern).all()
    states, _ = settle(weights, flipped(rng, pattern, 11), rng)
    assert (states == -pattern).all()


def test_measured_willshaw_nets_are_within_their_standard_errors(seed):
    sweep = WillshawSweep(
        units=(24, 48),
        active=(3, 5),
        loads=(0.3, 0.6, 1.0),
        substrates=("reference", "kernel"),
        trials=50,
        seed=seed,
    )
    measured = willshaw(sweep, progress=False)
    off = deviations(measured)
    assert off.spurious.notnull().all() and off.active_synapses.notnull().all()
    assert abs(off).max().to_array().max() < FAR
    assert (measured.missed == 0).all()
    one, other = (measured.sel(substrate=name) for name in sweep.substrates)
    xr.testing.assert_equal(one.drop_vars("substrate"), other.drop_vars("substrate"))
    rough = willshaw_theory(measured).information
    assert (abs(measured.information / rough - 1) < 0.15).all()


def test_measured_hopfield_nets_are_within_their_standard_errors(seed):
    sweep = HopfieldSweep(
        units=(48, 96),
        loads=(0.2, 0.3),
        flipped=(0.0, 0.25),
        substrates=("kernel",),
        trials=50,
        seed=seed,
    )
    measured = hopfield(sweep, progress=False)
    off = deviations(measured)
    assert off.bit_error.notnull().all()
    assert abs(off.bit_error).max() < FAR
    assert (measured.settled == 1).all()


def test_a_hopfield_net_retrieves_below_the_critical_load_and_not_far_above(seed):
    sweep = HopfieldSweep(
        units=(256,), loads=(0.05, 0.25), substrates=("kernel",), trials=8, seed=seed
    )
    measured = hopfield(sweep, progress=False).squeeze()
    retrieved, lost = measured.overlap.sel(flipped=0.2).values
    assert abs(retrieved - retrieval_overlap(0.05)) < 0.01
    assert lost < 0.6
    assert np.isnan(hopfield_theory(measured.expand_dims("units")).overlap.values[0, 1])


@pytest.mark.parametrize(
    ("config", "wrong", "words"),
    [
        (WillshawSweep, {"substrates": ("paper",)}, "substrate"),
        (WillshawSweep, {"loads": ()}, "none"),
        (WillshawSweep, {"loads": (0.0,)}, "above 0"),
        (WillshawSweep, {"active": (3,)}, "for 4 sizes"),
        (WillshawSweep, {"units": (8,), "active": (8,)}, "active"),
        (HopfieldSweep, {"units": (2,)}, "too few"),
        (HopfieldSweep, {"trials": 1}, "standard error"),
        (HopfieldSweep, {"flipped": (0.7,)}, "flipped"),
        (HopfieldSweep, {"cues": 0}, "cued"),
    ],
)
def test_what_is_no_sweep_is_refused_in_words(config, wrong, words):
    with pytest.raises(FwbioError, match=words):
        config(**wrong)


def test_closed_forms_refuse_what_is_no_net():
    for call in (
        lambda: spurious(0, 8, 2, 0.25),
        lambda: spurious(3, 8, 9, 0.25),
        lambda: bit_error(0, 8),
        lambda: bit_error(3, 8, flipped=9),
    ):
        with pytest.raises(FwbioError):
            call()


def test_the_command_writes_tables_figures_and_a_page(tmp_path):
    done = CliRunner().invoke(classical_command, ["--quick", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    for kind in ("willshaw", "hopfield"):
        table = pd.read_csv(tmp_path / f"{kind}.csv")
        told = {"substrate", "units", "nominal_load", "pairs", "measure", "value", "se"}
        assert told <= {*table.columns}
        assert table.value.notna().all()
        assert (tmp_path / f"{kind}.png").read_bytes().startswith(b"\x89PNG")
        assert xr.open_dataset(tmp_path / f"{kind}.nc", engine="h5netcdf").sizes["units"] >= 1
    told = json.loads((tmp_path / "classical.json").read_text())
    assert abs(told["closed_forms"]["critical_load"] - critical_load()) < 1e-12
    page = (tmp_path / "README.md").read_text()
    assert "fwbio sweep classical --quick" in page and ".1379" in page
    heading, rule = "| memory | substrate |", "| --- |"
    (start,) = (i for i, line in enumerate(page.splitlines()) if line.startswith(heading))
    rows = itertools.takewhile(lambda line: line.startswith("|"), page.splitlines()[start:])
    told = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows if rule not in row]
    printed = [re.split(r"  +", line.strip()) for line in done.stdout.splitlines()]
    assert len(told) > 4 and all(row in printed for row in told)


def fixed_willshaw():
    sweep = WillshawSweep(
        units=(32, 64), loads=(0.2, 0.5, 1.0), substrates=("reference", "kernel"), trials=2
    )
    measured = willshaw(sweep, progress=False)
    theory = willshaw_theory(measured, [0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1.05, 1.2])
    for name in ("spurious", "information"):
        exact = willshaw_theory(measured)[name]
        measured[name] = (measured[name] * 0 + exact) * [0.9, 1.02, 1.01]
        measured[f"{name}_se"] = measured[name] * 0.05
    return measured, theory


def fixed_hopfield():
    sweep = HopfieldSweep(
        units=(32, 64), loads=(0.1, 0.14, 0.2), substrates=("reference", "kernel"), trials=2
    )
    measured = hopfield(sweep, progress=False)
    theory = hopfield_theory(measured, [0.08, 0.1, 0.12, 0.13, 0.1379, 0.17, 0.22])
    nothing = measured.bit_error * 0
    measured["bit_error"] = nothing + hopfield_theory(measured).bit_error * 1.05
    measured["bit_error_se"] = measured.bit_error * 0.1
    measured["overlap"] = nothing + xr.DataArray([0.97, 0.8, 0.5], dims="nominal_load")
    measured["overlap_se"] = nothing + 0.02
    return measured, theory


@pytest.mark.mpl_image_compare(**MPL)
def test_image_classical_plots_by_size():
    measured, theory = fixed_willshaw()
    figure, axes = plt.subplots(1, 2, figsize=(6.0, 2.7), layout="constrained")
    for ax, measure in zip(axes, ("spurious", "information"), strict=True):
        classical_plots.by_size(measured, ax, measure=measure, theory=theory).legend(fontsize=5)
    return figure


@pytest.mark.mpl_image_compare(**MPL)
def test_image_classical_plots_by_size__hopfield():
    measured, theory = fixed_hopfield()
    figure, axes = plt.subplots(1, 2, figsize=(6.0, 2.7), layout="constrained")
    for ax, measure in zip(axes, ("bit_error", "overlap"), strict=True):
        classical_plots.by_size(measured, ax, measure=measure, theory=theory, flipped=0.2).legend(
            fontsize=6
        )
    return figure


@pytest.mark.mpl_image_compare(**MPL)
def test_image_classical_plots_by_substrate():
    measured, theory = fixed_willshaw()
    figure, ax = plt.subplots(figsize=(3.8, 3.0), layout="constrained")
    classical_plots.by_substrate(measured, ax, measure="spurious", theory=theory, units=64)
    ax.legend(fontsize=5)
    return figure


@pytest.mark.mpl_image_compare(**MPL)
def test_image_classical_plots_capacity_by_size():
    measured, _ = fixed_willshaw()
    figure, ax = plt.subplots(figsize=(3.8, 3.0), layout="constrained")
    classical_plots.capacity_by_size(willshaw_sizes((32, 64, 256)), ax, measured=[measured])
    ax.legend(fontsize=5)
    return figure


@pytest.mark.parametrize(
    ("units", "active", "label"),
    [
        ((32, 64), (), "log2 N"),
        ((16,), (), "log2 N"),
        ((16,), (2,), "2"),
        ((16, 32), (2, 2), "2"),
        ((16, 32), (4, 4), "4"),
        ((16, 32), (4, 6), "4 and 6"),
    ],
)
def test_measured_capacities_are_named_by_their_active_units(units, active, label):
    sweep = WillshawSweep(
        units=units, active=active, loads=(0.5,), substrates=("kernel",), trials=2
    )
    _, ax = plt.subplots()
    measured = willshaw(sweep, progress=False)
    classical_plots.capacity_by_size(willshaw_sizes(units), ax, measured=[measured])
    assert f"measured, {label} active" in ax.get_legend_handles_labels()[1]
    plt.close("all")


def test_figures_name_what_was_not_measured():
    measured, theory = fixed_hopfield()
    _, ax = plt.subplots()
    for wrong in (
        {"measure": "beauty"},
        {"measure": "overlap", "substrate": "paper"},
        {"measure": "overlap", "flipped": 0.4},
    ):
        with pytest.raises(FwbioError):
            classical_plots.by_size(measured, ax, theory=theory, **wrong)
    with pytest.raises(FwbioError, match="choose from 32, 64"):
        classical_plots.by_substrate(measured, ax, measure="overlap", theory=theory, units=63)
    plt.close("all")
