"""Figures of geometry: drawn from a few fixed numbers, and compared with images."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from images import MPL

from fwbio import FwbioError, reference
from fwbio.analyses import geometry_plots
from fwbio.analyses.alignment import alignment
from fwbio.analyses.geometry import spectra
from fwbio.analyses.interference import interference
from fwbio.analyses.labels import over_trials
from fwbio.models.programmer import designed
from fwbio.tasks import TASKS


@pytest.fixture(scope="module")
def runs():
    """Twelve pairs in a few trials, stored by three rules."""
    shown = TASKS["random_pairs"](seed=0, trials=4, pairs=12, pre=16, post=12)
    rules = ("hebb", "delta", "retnet")
    made = {rule: designed(shown, rule, coding="plain") for rule in rules}
    return {rule: reference.execute(program, weights="all") for rule, program in made.items()}


@pytest.fixture(scope="module")
def curves(runs):
    return {rule: over_trials(spectra(run.isel(snapshot=slice(12)))) for rule, run in runs.items()}


def noisy(run, size):
    rng = np.random.default_rng(0)
    spread = size * float(run.weights.std()) * rng.standard_normal(run.weights.shape)
    return run.assign(weights=run.weights + spread)


@pytest.mark.mpl_image_compare(**MPL)
def test_image_geometry_plots_interference(runs):
    figure, ax = plt.subplots(figsize=(5, 4), layout="constrained")
    found = interference(runs["hebb"]).interference.isel(trial=0)
    assert geometry_plots.interference(found, ax) is ax
    return figure


@pytest.mark.mpl_image_compare(**MPL)
def test_image_geometry_plots_spectrum(curves):
    figure, ax = plt.subplots(figsize=(5, 3.4), layout="constrained")
    assert geometry_plots.spectrum(curves["delta"], ax, modes=4) is ax
    return figure


@pytest.mark.mpl_image_compare(**MPL)
def test_image_geometry_plots_measure(curves):
    figure, ax = plt.subplots(figsize=(5, 3.4), layout="constrained")
    count = xr.DataArray(np.arange(1, 13), dims="snapshot", coords={"snapshot": np.arange(12)})
    drawn = geometry_plots.measure(curves, ax, theory={"pairs stored": count})
    assert drawn is ax
    return figure


@pytest.mark.mpl_image_compare(**MPL)
def test_image_geometry_plots_alignment(runs):
    figure, ax = plt.subplots(figsize=(5, 3.6), layout="constrained")
    exact = runs["delta"]
    found = {
        name: over_trials(alignment(noisy(exact, size), exact))
        for name, size in (("rate", 0.1), ("spiking", 1.0))
    }
    assert geometry_plots.alignment(found, ax) is ax
    return figure


@pytest.mark.mpl_image_compare(**MPL)
def test_image_geometry_plots_alignment_map(runs):
    figure, ax = plt.subplots(figsize=(4.6, 3.6), layout="constrained")
    names = list(runs)
    values = [
        [float(alignment(a, b, same_program=False).cka.mean()) for b in runs.values()]
        for a in runs.values()
    ]
    coords = {"run": names, "run_other": names}
    pairs = xr.DataArray(values, dims=("run", "run_other"), coords=coords, name="cka")
    assert geometry_plots.alignment_map(pairs, ax) is ax
    return figure


def test_an_unknown_measure_is_told(curves):
    with pytest.raises(FwbioError, match="there is no measure called 'efective_rank'; did you"):
        geometry_plots.measure(curves, plt.figure().add_subplot(), name="efective_rank")
    plt.close("all")
