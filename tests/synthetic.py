"""Comparisons without simulation: the reference with noise stands in for synapses."""

import numpy as np
import xarray as xr

from fwbio import reference
from fwbio.record import from_run

NOISE = {"flow": 0.001, "rate": 0.01, "spiking": 0.1}


def synaptic_record(program, substrate="spiking", *, seed=0, progress=False):
    """What `fwbio.models.execute` would hand back, by its names, from the reference and noise."""
    rng = np.random.default_rng(seed)
    exact = reference.execute(program)

    def noisy(name):
        values = exact[name].values
        return values + NOISE[substrate] * values.std() * rng.standard_normal(values.shape)

    record = from_run(
        program,
        substrate=substrate,
        backend="synthetic",
        readout=noisy("readout"),
        weights=noisy("weights"),
        snapshots=exact.snapshot.values,
        leading=("trial",),
        config={"dt": 1e-3},
        exact=["turnover"],
        approximate=[f"{program.attrs['rule']} with noise"],
    )
    return record.assign(traces(rng)) if substrate == "spiking" else record


def traces(rng):
    """Spikes and conductances of one presentation."""
    time = np.arange(0.1, 0.4, 2e-3)
    coords = {
        "time": ("time", time, {"units": "s", "long_name": "time since the start"}),
        "cell": ("cell", [3, 5], {"units": "1", "long_name": "value cell"}),
    }
    slow = (1 - np.exp(-(time - 0.1) / 0.1))[:, None] * [1.0, 0.6]
    fast = 0.3 + 0.1 * rng.standard_normal((len(time), 2))
    found = {
        name: xr.DataArray(
            values, dims=("time", "cell"), coords=coords, attrs={"units": "1", "long_name": name}
        )
        for name, values in (("g_nmda", slow), ("g_ampa", fast))
    }
    for side, cells in (("pre", 40), ("post", 12)):
        when = np.sort(rng.uniform(0.1, 0.4, 5 * cells))
        which = rng.integers(0, cells, 5 * cells)
        for kind, values, units in (("time", when, "s"), ("cell", which, "1")):
            name = f"{side}_spike_{kind}"
            found[name] = xr.DataArray(
                values, dims=f"{side}_spike", attrs={"units": units, "long_name": name}
            )
    return found


def refuse_oja(rule, substrate):
    return "its error runs backwards" if rule.name == "oja" else None
