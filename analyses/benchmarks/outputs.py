"""The files and the printed table of a benchmark."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from fwbio.analyses.outputs import json_text, png
from fwbio.files import write_together

DATA, TABLE, FIGURE = "kernels.json", "kernels.csv", "scaling.png"


def write(found: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write kernels.json, kernels.csv and, if a cost was measured against size, scaling.png.

    Args:
        found: as `fwbio.analyses.benchmarks.kernels.kernels` makes it.
        folder: where they go; earlier ones stay until all are ready.

    Returns:
        The paths written.

    Raises:
        FwbioError: the folder can't be written.
    """
    contents: dict[str, str | bytes] = {
        DATA: json_text(found),
        TABLE: pd.DataFrame(found["results"]).to_csv(index=False).encode(),
    }
    if found["scaling"]:
        contents[FIGURE] = _figure(found["scaling"])
    return write_together(folder, contents)


def _figure(points: Sequence[Mapping[str, Any]]) -> bytes:
    from matplotlib.figure import Figure

    from fwbio.analyses.benchmarks.plots import scaling_panels, scaling_size

    rows = pd.DataFrame(points)
    drawn = Figure(figsize=scaling_size(rows), layout="constrained")
    scaling_panels(rows, drawn)
    return png(drawn, dpi=160)


def tables(found: Mapping[str, Any]) -> list[Any]:
    """The results for a terminal: speeds, exponents, and what was not measured and why."""
    results = pd.DataFrame(found["results"])
    made = []
    if (results.status == "measured").any():
        made.append(_speeds(results[results.status == "measured"]))
    if found["fits"]:
        made.append(_exponents(found["fits"]))
    if (results.status != "measured").any():
        made.append(_not_measured(results[results.status != "measured"]))
    return made


def _speeds(results: pd.DataFrame) -> Any:
    from rich.table import Table

    shown = Table(
        title="Speed: median of turns ± half their interquartile range; a ratio above 1 is faster"
        " than the best peer",
        title_justify="left",
    )
    for name in ("row", "implementation"):
        shown.add_column(name, overflow="fold")
    for name in ("ms", "MiB", "error", "ratio", "copy %", "matrix %"):
        shown.add_column(name, justify="right", no_wrap=True)
    keys = ["rule", "B", "T", "H", "K", "V", "dtype", "direction", "launch", "device"]
    for (rule, B, T, H, K, V, *rest), entries in results.groupby(keys, sort=False):
        where = f"{rule} {' '.join(x for x in rest if x not in ('eager', 'cpu'))}"
        for i, entry in enumerate(entries.sort_values("seconds").to_dict("records")):
            shown.add_row(
                f"{where}\nB {B} T {T} H {H} K {K} V {V}" if i == 0 else "",
                f"{entry['implementation']}",
                f"{1e3 * entry['seconds']:.3g} ± {5e2 * entry['seconds_iqr']:.1g}",
                f"{entry['peak_bytes'] / 2**20:.3g}",
                f"{entry['error']:.0e}",
                "–" if pd.isna(entry["ratio"]) else f"{entry['ratio']:.2f}",
                f"{100 * entry['copy_fraction']:.2g}",
                f"{100 * entry['matrix_fraction']:.2g}",
                style="bold" if entry["ours"] else None,
                end_section=i == len(entries) - 1,
            )
    return shown


def _exponents(fits: Sequence[Mapping[str, Any]]) -> Any:
    from rich.table import Table

    shown = Table(title="Cost against size: exponent ± standard error", title_justify="left")
    for name in ("rule", "backend", "against", "of", "direction"):
        shown.add_column(name)
    shown.add_column("exponent", justify="right")
    shown.add_column("sizes", justify="right")
    for fit in fits:
        shown.add_row(
            fit["rule"],
            fit["backend"],
            {"T": "steps", "B": "trials"}[fit["axis"]],
            {"seconds": "time", "extra_bytes": "memory"}[fit["quantity"]],
            fit["direction"],
            f"{fit['exponent']:.3f} ± {fit['standard_error']:.3f}",
            f"{fit['from']} .. {fit['to']}",
        )
    return shown


def _not_measured(results: pd.DataFrame) -> Any:
    """One line an implementation, class of device and reason, with how many rows it concerns."""
    from rich.table import Table
    from rich.text import Text

    shown = Table(title="Not measured", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for name in ("implementation", "device", "rows", "reason"):
        shown.add_column(name, no_wrap=name != "reason")
    named = results.assign(implementation=results.implementation.fillna("any"))
    groups = named.groupby(["implementation", "device", "reason"], sort=False)
    for (implementation, device, reason), entries in groups:
        shown.add_row(implementation, device, str(len(entries)), Text(reason))
    return shown
