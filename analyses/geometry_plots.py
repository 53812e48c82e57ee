"""Figures of geometry, interference and alignment: numbers in, Axes out."""

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from fwbio.analyses.alignment import MEASURES as ALIGNMENTS
from fwbio.analyses.geometry import MEASURES
from fwbio.analyses.palette import COLOURS, MARKERS, RULE_STYLES, Style, series_style
from fwbio.errors import unknown_name

SHARES = ("cosine", "overlap", "procrustes", "cka", "cka_unbiased", "rsa")
_SHORT = {
    "cosine": "cosine",
    "overlap": "subspaces",
    "procrustes": "Procrustes",
    "cka": "CKA",
    "cka_unbiased": "CKA, unbiased",
    "rsa": "RSA",
}
_UNITS = {"1": "dimensionless", "rad": "rad"}


def interference(matrix: xr.DataArray, ax: Axes) -> Axes:
    """An interference matrix: a row for each cue, a column for each pair, blank for missing ones.

    The scale ends at the 99th percentile of the entries' sizes, or at 1.

    Args:
        matrix: (cue, pair), one trial's or a mean of trials, as
            `fwbio.analyses.interference.interference` makes them; dimensionless.
        ax: where to draw; a colour bar is added beside it.
    """
    shown = matrix.transpose("cue", "pair").values
    top = max(1.0, float(np.nanpercentile(np.abs(shown), 99)))
    image = ax.imshow(shown, cmap="RdBu_r", vmin=-top, vmax=top, interpolation="nearest")
    for axis, dim in ((ax.xaxis, "pair"), (ax.yaxis, "cue")):
        steps = matrix[dim].values
        places = np.unique(np.linspace(0, steps.size - 1, min(steps.size, 5)).round().astype(int))
        axis.set_ticks(places, [str(step) for step in steps[places]])
    ax.set_xlabel("value of the pair stored at (steps)")
    ax.set_ylabel("read by the key stored at (steps)")
    ax.figure.colorbar(
        image, ax=ax, label="in the read-out (share of the value)", fraction=0.046, pad=0.04
    )
    return ax


def spectrum(spectra: xr.Dataset, ax: Axes, *, modes: int = 6) -> Axes:
    """Singular values of the weights over steps.

    Args:
        spectra: means with `singular_value` (snapshot, mode), as `over_trials(spectra(record))`
            makes them; standard errors in `singular_value_se` are drawn as bands.
        ax: where to draw.
        modes: how many to draw, spread evenly over all with the first and the last among them.
    """
    values = spectra.singular_value
    count = values.sizes["mode"]
    picked = np.unique(np.linspace(0, count - 1, min(modes, count)).round().astype(int))
    styles = series_style([int(values.mode[i]) for i in picked])
    for i in picked:
        mode = int(values.mode[i])
        curve = values.isel(mode=i)
        style = styles[mode].joined | {"markersize": 4, "linewidth": 1.2}
        ax.plot(curve.snapshot + 1, curve, label=_ordinal(mode), markevery=_every(curve), **style)
        if "singular_value_se" in spectra:
            error = spectra.singular_value_se.isel(mode=i).fillna(0)
            colour = styles[mode].colour
            band = (curve.snapshot + 1, curve - error, curve + error)
            ax.fill_between(*band, color=colour, alpha=0.2, linewidth=0)
    ax.set_ylim(bottom=0)
    ax.set_xlabel("time (presentations)")
    ax.set_ylabel(f"singular value ({_UNITS.get(values.attrs.get('units', '1'), 'dimensionless')})")
    ax.legend(frameon=False, fontsize=8)
    return _open(ax)


def measure(
    curves: Mapping[str, xr.Dataset],
    ax: Axes,
    *,
    name: str = "effective_rank",
    theory: Mapping[str, xr.DataArray] | None = None,
) -> Axes:
    """A measure of the weights' geometry over steps, one curve a rule or substrate.

    Args:
        curves: rule, substrate or any name to means over trials, as `over_trials(spectra(record))`
            makes them; standard errors are drawn as bars.
        ax: where to draw.
        name: of the measure: effective_rank, participation_ratio, stable_rank, rank, condition,
            spectral_norm or frobenius_norm.
        theory: name to a closed form over `snapshot`, drawn as a line.

    Raises:
        FwbioError: there is no such measure.
    """
    if name not in MEASURES:
        raise unknown_name(name, MEASURES, kind="measure", where="name")
    styles = _styles(curves)
    for label, found in curves.items():
        curve, style = found[name], styles[label].joined
        ax.errorbar(
            curve.snapshot + 1,
            curve,
            yerr=found.get(f"{name}_se"),
            label=label,
            markersize=4,
            linewidth=1.2,
            elinewidth=1,
            markevery=_every(curve),
            errorevery=_every(curve),
            **style,
        )
    for label, line in (theory or {}).items():
        ax.plot(line.snapshot + 1, line, color="#888888", linewidth=3, alpha=0.5, label=label)
    ax.set_ylim(bottom=0)
    ax.set_xlabel("time (presentations)")
    unit = "directions" if name.endswith(("rank", "ratio")) else "dimensionless"
    ax.set_ylabel(f"{MEASURES[name].split(' of ')[0]} ({unit})")
    ax.legend(frameon=False, fontsize=8)
    return _open(ax)


def alignment(found: Mapping[str, xr.Dataset], ax: Axes) -> Axes:
    """How alike runs are, by every measure that is 1 for what it is blind to.

    Args:
        found: substrate, or any name, to means over trials, as `over_trials(alignment(..))` makes
            them; standard errors are drawn as bars. What is NaN is left out.
        ax: where to draw.
    """
    styles = _styles(found)
    for i, (label, run) in enumerate(found.items()):
        offset = 0.14 * (i - (len(found) - 1) / 2)
        ax.errorbar(
            np.arange(len(SHARES)) + offset,
            [float(run[name]) for name in SHARES],
            yerr=[float(run.get(f"{name}_se", np.nan)) for name in SHARES],
            label=label,
            markersize=6,
            capsize=3,
            **styles[label].points,
        )
    ax.axhline(1, color="#888888", linewidth=0.8)
    ax.axhline(0, color="#888888", linewidth=0.8)
    ax.set_xticks(range(len(SHARES)), [_SHORT[name] for name in SHARES], rotation=30, ha="right")
    ax.set_xlim(-0.6, len(SHARES) - 0.4)
    ax.set_ylim(top=1.05)
    ax.set_ylabel("alignment (dimensionless)")
    ax.legend(frameon=False, fontsize=8)
    return _open(ax)


def alignment_map(pairs: xr.DataArray, ax: Axes) -> Axes:
    """One measure of alignment between every two runs, as a map with its numbers.

    Args:
        pairs: (run, run_other) with the runs' names as coordinates, from 0 or below to 1; its name
            is that of a measure of `fwbio.analyses.alignment.alignment`.
        ax: where to draw; a colour bar is added beside it.
    """
    shown = pairs.transpose("run", "run_other")
    image = ax.imshow(shown, cmap="cividis", vmin=min(0.0, float(shown.min())), vmax=1)
    for (i, j), value in np.ndenumerate(shown.values):
        dark = value < 0.5
        ax.text(j, i, f"{value:.2f}", ha="center", va="center", color="w" if dark else "k")
    names = [str(name) for name in shown.run.values]
    ax.set_xticks(range(len(names)), [str(name) for name in shown.run_other.values])
    ax.set_yticks(range(len(names)), names)
    words = ALIGNMENTS.get(str(pairs.name), str(pairs.name))
    ax.figure.colorbar(image, ax=ax, label=f"{words}\n(dimensionless)", fraction=0.046, pad=0.04)
    return ax


def _styles(names: Mapping[str, object]) -> dict[str, Style]:
    """A substrate's look, a rule's, or one of a series for whatever else is drawn."""
    others = iter(series_style([name for name in names if not _known(name)]).values())
    return {name: _known(name) or next(others) for name in names}


def _known(name: str) -> Style | None:
    if name in COLOURS:
        return Style(colour=COLOURS[name], marker=MARKERS[name], linestyle="-")
    return RULE_STYLES.get(name)


def _every(curve: xr.DataArray) -> int:
    """Every how many points a mark is drawn, so that some ten are."""
    return max(curve.size // 10, 1)


def _ordinal(mode: int) -> str:
    return "largest" if mode == 1 else f"{mode}th" if mode > 3 else ("2nd", "3rd")[mode - 2]


def _open(ax: Axes) -> Axes:
    ax.spines[["top", "right"]].set_visible(False)
    return ax
