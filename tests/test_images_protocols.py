"""Images of the figures of protocols."""

import numpy as np
import pytest
import xarray as xr
from images import MPL
from matplotlib.figure import Figure

from fwbio.analyses import protocol_plots


def curve(x, *parts):
    return sum(height * np.exp(-x / scale) for height, scale in parts)


def dataset():
    """All that a panel can show: series, closed forms, errors, publications, curves, log scales."""
    lag, fine, time = np.arange(5.0, 60, 10), np.linspace(5, 55, 40), np.linspace(0, 100, 60)
    order = ["pre then post", "post then pre"]
    change = np.stack([curve(lag, (1, 20)), -curve(lag, (0.6, 35))])
    return xr.Dataset(
        {
            "change": (("order", "lag"), change + 0.02, {"units": "1", "long_name": "change"}),
            "change_expected": (
                ("order", "fine"),
                np.stack([curve(fine, (1, 20)), -curve(fine, (0.6, 35))]),
            ),
            "change_se": (("order", "lag"), np.full((2, 6), 0.04)),
            "change_published": (("order", "lag"), change - 0.1),
            "change_published_se": (("order", "lag"), np.full((2, 6), 0.08)),
            "conductance": (
                ("receptor", "time"),
                np.stack([curve(time, (1, 5)), curve(time, (1, 60), (-1, 10))]),
                {"units": "nS", "long_name": "conductance"},
            ),
            "rate": ("frequency", [0.2, 1.5, 12.0, 40.0], {"units": "Hz", "scale": "log"}),
        },
        coords={
            "lag": ("lag", lag, {"units": "ms", "long_name": "lag"}),
            "fine": ("fine", fine, {"units": "ms"}),
            "time": ("time", time, {"units": "ms", "long_name": "time"}),
            "order": order,
            "receptor": ["AMPA", "NMDA"],
            "frequency": (
                "frequency",
                [1.0, 10.0, 100.0, 1000.0],
                {"units": "Hz", "long_name": "frequency", "scale": "log"},
            ),
        },
        attrs={"title": "A protocol"},
    )


@pytest.mark.mpl_image_compare(**MPL)
def test_image_protocol_plots_protocol():
    figure = Figure(figsize=(6.4, 2.5), layout="constrained")
    protocol_plots.protocol(dataset().drop_vars(["rate", "frequency"]), figure)
    return figure


@pytest.mark.mpl_image_compare(**MPL)
def test_image_protocol_plots_protocol__logarithmic():
    found = dataset()[["rate"]]
    figure = Figure(figsize=protocol_plots.size(found), layout="constrained")
    protocol_plots.protocol(found, figure)
    return figure
