"""What tests of capacity share: means held to closed forms, and a sweep of written numbers."""

import numpy as np
import xarray as xr
from scipy import stats

FAMILY = 1e-4  # how often a whole family of comparisons may fail by chance


def assert_means(samples, must):
    """Means of samples, (sample, ..), within what chance leaves a family of them."""
    samples = np.asarray(samples, float)
    must = np.broadcast_to(must, samples.shape[1:]).ravel()
    samples = samples.reshape(len(samples), -1)
    error = samples.std(0, ddof=1) / np.sqrt(len(samples))
    bound = stats.norm.isf(FAMILY / 2 / must.size)
    gap = np.abs(samples.mean(0) - must)
    assert (gap <= bound * error + 1e-9).all(), (gap / error, samples.mean(0), must)


def small():
    """A sweep of fixed numbers."""
    dims = ("programmer", "substrate", "rule", "pairs")
    curves = np.array([[[1, 0.9, 0.3], [1, 1, 0.8]], [[0.98, 0.85, 0.25], [1, 0.97, 0.7]]])[None]
    noise = 1.02 - curves
    data = {"recall_accuracy": (curves, 0.02), "noise_power": (noise, 0.005)}
    return xr.Dataset(
        {
            **{name: (dims, values) for name, (values, _) in data.items()},
            **{f"{name}_se": (dims, np.full(curves.shape, se)) for name, (_, se) in data.items()},
            **{f"{name}_cov": (dims, np.zeros(curves.shape)) for name in data},
            "chance_level": ("pairs", [0.25, 0.125, 0.03]),
            "trials": ("substrate", [64, 8]),
        },
        coords={
            "programmer": ["direct"],
            "substrate": ["reference", "spiking"],
            "rule": ["hebb", "delta"],
            "pairs": ("pairs", [4, 8, 32], {"units": "pairs"}),
        },
        attrs={"config": {"axis": "pairs"}},
    )
