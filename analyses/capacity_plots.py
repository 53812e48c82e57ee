"""Figures of capacity: measured points with standard errors, closed forms as lines."""

from collections.abc import Mapping

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from fwbio.analyses.palette import COLOURS, FAINT, MARKERS, Style, rule_style
from fwbio.errors import FwbioError

AXIS_LABELS: Mapping[str, str] = {
    "pairs": "load (stored pairs)",
    "noise": "noise on the cue (dimensionless)",
    "similarity": "similarity of the keys (dimensionless)",
    "active": "active features of a key (share)",
}
LABELS: Mapping[str, str] = {
    "recall_accuracy": "recall accuracy (share of cues)",
    "recall_cosine": "cosine with target (dimensionless)",
    "signal": "signal (share of target)",
    "noise_power": "noise power (share of target)",
    "residual": "squared error (share of target)",
    "bit_error": "wrong signs (share of channels)",
}
MOST_TICKS = 8
LOGARITHMIC = ("noise_power",)
COUNTED = ("pairs", "active")  # there are no places between these: lines are dotted where they are


def by_rule(
    measured: xr.Dataset,
    ax: Axes,
    *,
    programmer: str,
    measure: str = "recall_accuracy",
    substrate: str = "reference",
    theory: xr.Dataset | None = None,
    rough: xr.Dataset | None = None,
) -> Axes:
    """A measure along the axis of a sweep, a series for each rule.

    Args:
        measured: as `fwbio.analyses.capacity.capacity` makes it.
        ax: where to draw.
        programmer: whose programs to show.
        measure: a measure of the sweep.
        substrate: which substrate's runs to show.
        theory: closed forms, as `fwbio.analyses.capacity_laws.theory` makes them; drawn solid.
        rough: the same with approximate ones; those that are not in `theory` are drawn dotted.

    Raises:
        FwbioError: the sweep has no such measure, programmer or substrate.
    """
    here = _chosen(measured, measure, programmer=programmer, substrate=substrate)
    styles = rule_style([str(rule) for rule in here.rule.values])
    for rule, style in styles.items():
        line = theory if _has(theory, programmer, rule, measure) else rough
        if line is not None:
            _lines(line, programmer, rule, measure, style, ax)
        _points(here.sel(rule=rule), measure, style, rule, ax)
    _name_lines(theory, rough, programmer, measure, ax)
    return _finished(here, measure, ax)


def by_substrate(
    measured: xr.Dataset,
    ax: Axes,
    *,
    programmer: str,
    rule: str,
    measure: str = "recall_accuracy",
    theory: xr.Dataset | None = None,
) -> Axes:
    """A measure along the axis of a sweep, a series for each substrate.

    Args:
        measured: as `fwbio.analyses.capacity.capacity` makes it.
        ax: where to draw.
        programmer: whose programs to show.
        rule: which rule's runs to show.
        measure: a measure of the sweep.
        theory: closed forms, as `fwbio.analyses.capacity_laws.theory` makes them; drawn solid.

    Raises:
        FwbioError: the sweep has no such measure, programmer or rule.
    """
    here = _chosen(measured, measure, programmer=programmer, rule=rule)
    if theory is not None:
        _lines(theory, programmer, rule, measure, _style("reference"), ax)
    dodge = _dodge(here)
    names = [
        str(s)
        for s in here.substrate.values
        if bool(here[measure].sel(substrate=s).notnull().any())
    ]
    for i, name in enumerate(names):
        shift = dodge ** (i - (len(names) - 1) / 2)
        trials = int(here.trials.sel(substrate=name))
        label = f"{name} ({trials} trials)"
        _points(here.sel(substrate=name), measure, _style(name), label, ax, shift=shift)
    _name_lines(theory, None, programmer, measure, ax)
    ax.set_title(rule, fontsize=9)
    return _finished(here, measure, ax)


def _points(
    here: xr.Dataset, measure: str, style: Style, label: str, ax: Axes, *, shift: float = 1.0
) -> None:
    axis = _axis(here)
    ax.errorbar(
        here[axis].values * shift,
        here[measure],
        yerr=here[f"{measure}_se"].fillna(0),
        markersize=5,
        capsize=2,
        label=label,
        **style.points,
    )


def _lines(
    theory: xr.Dataset, programmer: str, rule: str, measure: str, style: Style, ax: Axes
) -> None:
    line = theory[measure].sel(programmer=programmer, rule=rule)
    rough = theory.attrs.get("approximate", False)
    ax.plot(
        theory[_axis(theory)],
        line,
        color=style.colour,
        linewidth=1.3,
        linestyle=":" if rough else "-",
        marker="." if _axis(theory) in COUNTED and not rough else "",
        markersize=3,
        zorder=1,
    )


def _has(theory: xr.Dataset | None, programmer: str, rule: str, measure: str) -> bool:
    if theory is None:
        return False
    return bool(theory[measure].sel(programmer=programmer, rule=rule).notnull().any())


def _name_lines(
    theory: xr.Dataset | None, rough: xr.Dataset | None, programmer: str, measure: str, ax: Axes
) -> None:
    """Say once what lines are, without a line for every rule."""
    for line, other, dashes, label in (
        (theory, None, "-", "closed form"),
        (rough, theory, ":", "approximation"),
    ):
        if line is None:
            continue
        rules = [str(rule) for rule in line.rule.values]
        shown = [r for r in rules if _has(line, programmer, r, measure)]
        if any(not _has(other, programmer, r, measure) for r in shown):
            ax.plot([], [], color=FAINT, linestyle=dashes, linewidth=1.3, label=label)


def _finished(here: xr.Dataset, measure: str, ax: Axes) -> Axes:
    axis = _axis(here)
    if measure == "recall_accuracy":
        ax.plot(
            here[axis], here.chance_level, color=FAINT, linestyle="--", linewidth=1, label="chance"
        )
        ax.set_ylim(-0.03, 1.03)
    if measure in LOGARITHMIC:
        ax.set_yscale("log")
    if axis == "pairs":
        ax.set_xscale("log")
        ticks = here[axis].values[:: -(-here.sizes[axis] // MOST_TICKS)]
        ax.set_xticks(ticks, [f"{x:g}" for x in ticks])
        ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel(AXIS_LABELS[axis])
    ax.set_ylabel(LABELS[measure])
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _dodge(here: xr.Dataset) -> float:
    """A factor that sets points of several series beside each other on a logarithmic axis."""
    return 1.05 if _axis(here) == "pairs" else 1.0


def _style(substrate: str) -> Style:
    return Style(colour=COLOURS[substrate], marker=MARKERS[substrate], linestyle="-")


def _axis(dataset: xr.Dataset) -> str:
    return str(next(d for d in dataset.dims if d in AXIS_LABELS))


def _chosen(measured: xr.Dataset, measure: str, **chosen: str) -> xr.Dataset:
    if measure not in measured:
        raise FwbioError(
            f"there is no {measure!r}",
            where="measured",
            mend=f"choose from {', '.join(n for n in LABELS if n in measured)}",
        )
    for dim, name in chosen.items():
        known = [str(x) for x in measured[dim].values]
        if name not in known:
            raise FwbioError(
                f"{name!r} was not run", where=dim, mend=f"choose from {', '.join(known)}"
            )
    return measured.sel(chosen)
