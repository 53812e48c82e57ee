"""What the classical memories must recall, point by point, and how far off measured points are."""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from fwbio.analyses import classical_theory as closed
from fwbio.analyses.classical_config import attributes

_RARE = 100  # errors expected of a point, below which their scatter says little


def willshaw_theory(measured: xr.Dataset, loads: Sequence[float] | None = None) -> xr.Dataset:
    """What Willshaw's memory must recall, at the loads measured or at others.

    Args:
        measured: as `willshaw` makes it; its sizes are taken.
        loads: writes per synapse; those of the points unless given.

    Returns:
        By (units, nominal_load): `active_synapses`, `spurious` and `missed`, exact; `information`,
        approximate; `spurious_independent`, as if synapses were independent. `writes` is the load.
    """
    sizes = zip(measured.units.values, measured.active.values, strict=True)
    rows = []
    for i, (n, m) in enumerate((int(n), int(m)) for n, m in sizes):
        if loads is None:
            counts = [int(p) for p in measured.pairs.values[i]]
        else:
            counts = [max(2, round(x * (n / m) ** 2)) for x in loads]
        rows.append([_willshaw_point(p, n, m) for p in counts])
    return _lines(rows, measured, loads, ("units", "nominal_load"))


def hopfield_theory(measured: xr.Dataset, loads: Sequence[float] | None = None) -> xr.Dataset:
    """What Hopfield's memory must recall, at the loads measured or at others.

    Args:
        measured: as `hopfield` makes it; its sizes and cues are taken.
        loads: patterns per unit; those of the points unless given.

    Returns:
        By (units, flipped, nominal_load): `bit_error`, exact. By (units, nominal_load): `overlap`,
        of infinitely many units at zero temperature, NaN above the critical load, at just the loads
        asked for; `patterns`, the load with a whole number of patterns.
    """
    shares = [float(x) for x in measured.flipped.values]
    error, overlap, load = [], [], []
    for i, n in enumerate(int(n) for n in measured.units.values):
        if loads is None:
            counts = [int(p) for p in measured.pairs.values[i]]
        else:
            counts = [max(2, round(x * n)) for x in loads]
        error.append(
            [[closed.bit_error(p, n, flipped=round(s * n)) for p in counts] for s in shares]
        )
        load.append([p / n for p in counts])
        overlap.append([closed.retrieval_overlap(float(x)) for x in (loads or load[-1])])
    at = measured.nominal_load.values if loads is None else np.asarray(loads, float)
    return xr.Dataset(
        {
            "bit_error": (("units", "flipped", "nominal_load"), error, attributes("bit_error")),
            "overlap": (("units", "nominal_load"), overlap, attributes("overlap")),
            "patterns": (
                ("units", "nominal_load"),
                load,
                {"units": "1", "long_name": "patterns per unit"},
            ),
        },
        coords={"units": measured.units, "flipped": measured.flipped, "nominal_load": at},
        attrs={"critical_load": closed.critical_load()},
    )


def deviations(measured: xr.Dataset) -> xr.Dataset:
    """How many standard errors measured points are off their exact closed forms.

    Of `willshaw`: `active_synapses` and `spurious`; of `hopfield`: `bit_error`. It is NaN where
    fewer than a hundred errors are to be expected: their scatter then says little.

    Args:
        measured: as `willshaw` or `hopfield` makes it.
    """
    trials = measured.trials
    if "spurious" in measured:
        must = willshaw_theory(measured)
        silent = trials * measured.pairs * (measured.units - measured.active)
        often = {
            "active_synapses": xr.full_like(silent, np.inf, dtype=float),
            "spurious": silent * np.minimum(must.spurious, 1 - must.spurious),
        }
    else:
        must = hopfield_theory(measured)
        often = {"bit_error": trials * measured.pairs * measured.units * must.bit_error}
    found = {}
    for name, count in often.items():
        spread = measured[f"{name}_se"]
        z = (measured[name] - must[name]) / spread.where(spread > 0)
        found[name] = z.where(count >= _RARE).transpose(*measured[name].dims)
        found[name].attrs = {"units": "1", "long_name": "standard errors off the closed form"}
    return xr.Dataset(found)


def at_every_point(measured: xr.Dataset, name: str) -> xr.Dataset:
    """The runs of the first substrate that has a measure at every point, or else at most of them.

    Args:
        measured: as `fwbio.analyses.classical` makes it.
        name: of the measure.
    """
    dims = [d for d in measured[name].dims if d != "substrate"]
    return measured.isel(substrate=int(np.argmax(measured[name].count(dims).values)))


def _willshaw_point(pairs: int, units: int, active: int) -> dict[str, float]:
    share = active / units
    rate = closed.spurious(pairs, units, active, share)
    return {
        "active_synapses": closed.active_synapses(pairs, share, share),
        "spurious": rate,
        "missed": 0.0,
        "information": closed.information(pairs, units, active, units, rate),
        "spurious_independent": closed.spurious_of_independent(pairs, active, share, share),
        "writes": pairs * share**2,
    }


def _lines(
    rows: Sequence[Sequence[Mapping[str, float]]],
    measured: xr.Dataset,
    loads: Sequence[float] | None,
    dims: tuple[str, str],
) -> xr.Dataset:
    at = measured.nominal_load.values if loads is None else np.asarray(loads, float)
    return xr.Dataset(
        {
            name: (dims, [[point[name] for point in row] for row in rows], attributes(name))
            for name in rows[0][0]
        },
        coords={"units": measured.units, "nominal_load": at},
    )


def willshaw_sizes(units: Sequence[int]) -> xr.Dataset:
    """The most information per synapse that Willshaw's memory gives back, by its size; approximate.

    Args:
        units: sizes N, up to some 10^6.

    Returns:
        In bits by units: `best`, with the best number of active units, however noisy the recall;
        `logarithmic`, with log2 N of them; `clean`, with log2 N and one spurious unit for a hundred
        active ones.
    """
    found: dict[str, list[float]] = {"best": [], "logarithmic": [], "clean": []}
    for n in units:
        active = round(float(np.log2(n)))
        found["best"].append(closed.best_information(n)[0])
        found["logarithmic"].append(closed.best_information(n, active=active)[0])
        found["clean"].append(closed.best_information(n, active=active, errors=0.01)[0])
    words = {
        "best": "best number active",
        "logarithmic": "log2 N active",
        "clean": "log2 N active, nearly clean",
    }
    return xr.Dataset(
        {k: ("units", x, {"units": "bits", "long_name": words[k]}) for k, x in found.items()},
        coords={"units": ("units", list(units), {"units": "units", "long_name": "size N"})},
    )
