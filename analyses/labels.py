"""Units and names of what analyses make, and means of it over trials."""

import numpy as np
import xarray as xr


def attributes(long_name: str, units: str = "1") -> dict[str, str]:
    """The attributes of a variable or coordinate: what it is, and its unit.

    >>> attributes("time constant", "s")
    {'units': 's', 'long_name': 'time constant'}
    """
    return {"units": units, "long_name": long_name}


def label(array: xr.DataArray, long_name: str, units: str = "1") -> xr.DataArray:
    """The same array, told what it is and its unit."""
    array.attrs = attributes(long_name, units)
    return array


def over_trials(found: xr.Dataset) -> xr.Dataset:
    """Means over trials, each with its standard error in `<name>_se`.

        se = sd(x_i) / sqrt(trials),   over the trials in which x is not NaN

    Args:
        found: quantities (.., trial, ..); those without the dim are kept as they are.

    Returns:
        The same without `trial`; standard errors of fewer than two trials are NaN.
    """
    means = xr.Dataset(coords=found.drop_dims("trial", errors="ignore").coords)
    for name, array in found.compute().data_vars.items():
        if "trial" not in array.dims:
            means[name] = array
            continue
        count: xr.DataArray = array.notnull().sum("trial")
        mean = array.sum("trial") / count.where(count > 0)
        with np.errstate(invalid="ignore"):  # of an infinite mean, which has no standard error
            spread = ((array - mean) ** 2).sum("trial") / (count - 1).where(count > 1)
        error = ((spread / count) ** 0.5).where(mean.notnull() & (abs(mean) < np.inf))
        units, words = array.attrs.get("units", "1"), array.attrs.get("long_name", str(name))
        means[name] = label(mean, words, units)
        means[f"{name}_se"] = label(error, f"standard error of: {words}", units)
    return means
