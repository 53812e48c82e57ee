"""Figures: each function draws records on the Axes it is given, and computes and saves nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from fwbio.analyses.agreement import readout_agreement, scored_readouts
from fwbio.analyses.palette import AMPA, COLOURS, FAINT, MARKERS, NMDA, SPIKE, VERMILLION
from fwbio.analyses.recall import nearest_stored, recall_hits, shown_value
from fwbio.analyses.words import number, plural
from fwbio.errors import FwbioError

SAME_TRIALS = "reference on the same trials"


def recall(summary: pd.DataFrame, programmer: str, ax: Axes) -> Axes:
    """Recall accuracy by rule and substrate, with standard errors over trials and chance.

    A dash across a point of fewer trials marks what the reference recalls on those.

    Args:
        summary: as `fwbio.analyses.summary` makes it.
        programmer: whose programs to show.
        ax: where to draw.
    """
    mine = summary[summary.programmer == programmer]
    table = mine.pivot_table(index=["rule", "substrate"], columns="metric", values="value")
    rules = list(dict.fromkeys(mine.rule))
    substrates = [s for s in COLOURS if s in set(mine.substrate)]
    for i, substrate in enumerate(substrates):
        here = [rule for rule in rules if (rule, substrate) in table.index]
        offset = 0.16 * (i - (len(substrates) - 1) / 2)
        points = table.loc[[(rule, substrate) for rule in here]]
        ax.errorbar(
            [rules.index(rule) + offset for rule in here],
            points.recall_accuracy,
            yerr=points.get("recall_accuracy_se"),
            fmt=MARKERS[substrate],
            color=COLOURS[substrate],
            label=f"{substrate} ({plural(int(points.trials.iloc[0]), 'trial')})",
            capsize=3,
            markersize=6,
        )
        if points.trials.max() < table.trials.max():
            ax.hlines(
                points.reference_accuracy,
                [rules.index(rule) + offset - 0.07 for rule in here],
                [rules.index(rule) + offset + 0.07 for rule in here],
                color=COLOURS["reference"],
                linewidth=1.2,
                label=SAME_TRIALS,
            )
    chance = table.chance_level.mean()
    ax.axhline(chance, color=FAINT, linestyle="--", linewidth=1, label=f"chance ({chance:.3g})")
    ax.set_xticks(range(len(rules)), rules)
    ax.set_xlim(-0.6, len(rules) - 0.4)
    ax.set_ylim(-0.03, 1.03)
    ax.set_ylabel("recall accuracy (share of cues)")
    ax.set_title(f"{programmer} programmer")
    ax.grid(axis="y", color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)
    return _open(ax)


def recall_by_lag(curves: Mapping[str, xr.Dataset], ax: Axes) -> Axes:
    """The cosine of read-outs with their targets against the age of the cued pair.

    Args:
        curves: substrate to curve, as `fwbio.analyses.recall_by_lag` makes them.
        ax: where to draw.
    """
    spacing = float(np.diff(next(iter(curves.values())).lag).min(initial=np.inf))
    dodge = 0.08 * spacing if np.isfinite(spacing) else 0.0
    earliest = min(float(curve.lag.min()) for curve in curves.values())
    for i, (substrate, curve) in enumerate(curves.items()):
        under = substrate == "reference"
        ax.errorbar(
            curve.lag + dodge * (i - (len(curves) - 1) / 2),
            curve.cosine,
            yerr=curve.cosine_se,
            marker=MARKERS[substrate],
            markersize=4,
            linewidth=4 if under else 1.2,
            alpha=0.5 if under else 1,
            elinewidth=1,
            color=COLOURS[substrate],
            label=substrate,
        )
    ax.axhline(0, color=FAINT, linewidth=0.8)
    ax.set_xlim(left=min(0.0, earliest - dodge * (len(curves) + 1) / 2))
    ax.set_ylim(top=1.05)
    ax.set_xlabel("lag (presentations)")
    ax.set_ylabel("cosine with target (dimensionless)")
    return _open(ax)


def episode(
    records: Mapping[str, xr.Dataset],
    shown: xr.Dataset,
    figure: Figure | SubFigure,
    *,
    trial: int = 0,
    cues: int = 8,
) -> list[Axes]:
    """Cues, targets and what each run recalled, as images; a cross marks a wrong recall.

    A read-out in the space of contents is drawn itself, on the scale of the contents. One in a
    code of its own is no image: the content bound to the nearest stored value is drawn instead,
    and its row says so.

    Args:
        records: rows by name; a name that is a substrate's, or ends in one, takes its colour.
        shown: the episode that they ran.
        figure: a figure or sub-figure to fill.
        trial: which trial.
        cues: how many of its cues, in the order of their presentation.
    """
    steps = np.flatnonzero(shown.scored.values[trial])[:cues]
    source = shown.source.values[trial, steps]
    content = shown.content.values[trial]
    baseline = shown.content_baseline.values
    rows: list[tuple[str, np.ndarray, np.ndarray | None]] = [
        ("cue", shown.cue.values[trial, steps], None),
        ("target", content[source], None),
    ]
    for name, record in records.items():
        one = record.isel(trial=trial)
        if in_content_space(record, shown, trial):
            images, label = one.readout.values[steps] + baseline, name
        else:
            nearest = nearest_stored(one).values[steps]
            images, label = content[nearest], f"{name}\n(nearest stored)"
        rows.append((label, images, recall_hits(one).values[steps]))
    limits = {"cue": brightness_limits(shown.item.values[trial])}
    axes = figure.subplots(len(rows), len(steps), squeeze=False)
    for (label, images, right), row in zip(rows, axes, strict=True):
        low, high = limits.get(label, brightness_limits(content))
        for i, (image, ax) in enumerate(zip(images, row, strict=True)):
            ax.imshow(
                image.reshape(picture_shape(image.size)),
                cmap="gray" if low == 0 else "PuOr",
                vmin=low,
                vmax=high,
            )
            _bare(ax)
            if right is not None and not right[i]:
                ax.text(0.97, 0.03, "×", transform=ax.transAxes, ha="right", va="bottom", **_CROSS)
        row[0].set_ylabel(
            label, rotation=0, ha="right", va="center", fontsize=8, color=_colour_of(label)
        )
    return list(axes.ravel())


def weights(
    records: Mapping[str, xr.Dataset | None], axes: Sequence[Axes], *, trial: int = 0
) -> Sequence[Axes]:
    """The final weights of runs of one program, side by side on one colour scale.

    The scale ends at the 99.5th percentile of the weights' sizes.

    Args:
        records: substrate to record, or to None where it was not run; `weights` are (pre, post)
            with or without `trial`, and with `snapshot` or `step` or neither, of which the last
            one is drawn.
        axes: where to draw, one each; a colour bar is added beside the last.
        trial: which trial, of those that a record has.

    Raises:
        FwbioError: a record has no weights, others dims, or not so many trials.
    """
    finals = {
        name: _final(record, name, trial) for name, record in records.items() if record is not None
    }
    if not finals:
        return [not_run(ax) for ax in axes]
    sizes = np.concatenate([np.abs(final.values).ravel() for final in finals.values()])
    top = float(np.percentile(sizes, 99.5)) or 1.0
    for name, ax in zip(records, axes, strict=True):
        ax.set_title(name, color=COLOURS.get(name, "black"), fontsize=9)
        if name not in finals:
            not_run(ax)
            continue
        final = finals[name]
        image = ax.imshow(
            final, cmap="RdBu_r", vmin=-top, vmax=top, aspect="auto", interpolation="nearest"
        )
        ax.set_xlabel("post (cell)")
        if name == next(iter(finals)):
            ax.set_ylabel("pre (cell)")
        else:
            ax.tick_params(labelleft=False)
    label = f"weight ({_unit(next(iter(finals.values())))})"
    axes[0].figure.colorbar(
        image, ax=list(axes), label=label, extend="both", fraction=0.03, pad=0.02
    )
    return axes


def agreement(record: xr.Dataset, reference: xr.Dataset, ax: Axes, *, points: int = 2000) -> Axes:
    """A run's scored read-outs against the reference's, with the line of equality.

    Args:
        record: a record.
        reference: the reference's record of the same program.
        ax: where to draw.
        points: how many read-outs to draw at most, evenly picked.
    """
    y, y_ref = scored_readouts(record, reference)
    every = -(-y.size // points)
    y, y_ref = y[::every], y_ref[::every]
    low, high = min(y.min(), y_ref.min()), max(y.max(), y_ref.max())
    margin = 0.05 * (high - low or 1.0)
    ends = (low - margin, high + margin)
    substrate = str(record.attrs.get("substrate"))
    ax.plot(ends, ends, color=FAINT, linewidth=1)
    ax.plot(
        y_ref,
        y,
        linestyle="",
        marker=".",
        markersize=2.5,
        alpha=0.5,
        color=COLOURS.get(substrate, "black"),
        rasterized=True,
    )
    ax.set(xlim=ends, ylim=ends, aspect="equal")
    ax.locator_params(nbins=4, steps=[1, 2, 5, 10])
    ax.tick_params(labelsize=8)
    ax.set_xlabel(f"reference read-out\n({_unit(reference.readout)})")
    ax.set_ylabel(f"{substrate} read-out\n({_unit(record.readout)})")
    r = readout_agreement(record, reference)
    ax.text(0.04, 0.96, f"r = {number(r)}", transform=ax.transAxes, va="top", fontsize=9)
    return _open(ax)


def traces(record: xr.Dataset, figure: Figure | SubFigure) -> list[Axes]:
    """Spikes of one example presentation and the NMDA and AMPA conductances they drive.

    Whatever the record holds is drawn: pre and post spikes as rasters, conductances of a few post
    cells against `time`.

    Args:
        record: with any of `pre_spike_time`, `pre_spike_cell`, `post_spike_time`,
            `post_spike_cell`, `g_nmda (time, cell)` and `g_ampa (time, cell)`; times in seconds.
        figure: a figure or sub-figure to fill.

    Raises:
        FwbioError: the record holds none of them.
    """
    rasters = [side for side in ("pre", "post") if f"{side}_spike_time" in record]
    curves = [name for name in ("g_nmda", "g_ampa") if name in record]
    if not has_traces(record):
        raise FwbioError(
            "there are no spikes and no conductances to draw",
            where="record",
            mend="give the record of a spiking run",
        )
    count = len(rasters) + len(curves)
    axes = figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0]
    for side, ax in zip(rasters, axes, strict=False):
        ax.plot(
            record[f"{side}_spike_time"],
            record[f"{side}_spike_cell"],
            "|",
            color=SPIKE,
            markersize=3,
            markeredgewidth=0.7,
            rasterized=True,
        )
        ax.set_ylabel(f"{side}synaptic\n(cell)", fontsize=9)
        ax.margins(y=0.03)
    titles = {"g_nmda": ("NMDA", NMDA), "g_ampa": ("AMPA", AMPA)}
    for name, ax in zip(curves, axes[len(rasters) :], strict=True):
        title, colour = titles[name]
        lines = ax.plot(record["time"], record[name].transpose("time", ...), color=colour, lw=1)
        for i, line in enumerate(lines):
            line.set_alpha(1 - 0.7 * i / max(len(lines), 1))
        ax.set_title(record[name].attrs.get("long_name", ""), fontsize=8, loc="left")
        ax.set_ylabel(f"{title}\n({_unit(record[name])})", fontsize=9)
    for ax in axes:
        _open(ax)
    axes[-1].set_xlabel("time (s)")
    figure.align_ylabels(axes)
    return list(axes)


def not_run(ax: Axes) -> Axes:
    """Leave the place of a run that there is none of empty, and say so."""
    ax.set_axis_off()
    ax.text(0.5, 0.5, "not run", ha="center", color=FAINT, transform=ax.transAxes)
    return ax


def has_traces(record: xr.Dataset) -> bool:
    """Whether the record holds anything that `traces` draws."""
    return any(n in record for n in ("pre_spike_time", "post_spike_time", "g_nmda", "g_ampa"))


_CROSS: dict[str, Any] = {"color": VERMILLION, "fontsize": 13, "fontweight": "bold"}


def in_content_space(record: xr.Dataset, shown: xr.Dataset, trial: int) -> bool:
    """Whether values are contents less their mean, so that a read-out is a content again."""
    contrast = shown.content.values[trial] - shown.content_baseline.values
    writes = shown.writes.values
    value = shown_value(record).isel(trial=trial).values
    return value.shape == contrast.shape and np.allclose(value[writes], contrast[writes])


def brightness_limits(images: np.ndarray) -> tuple[float, float]:
    """The scale of images: from 0 where they are brightnesses, else even about 0."""
    top = float(np.abs(images).max()) or 1.0
    return (0.0, top) if images.min() >= 0 else (-top, top)


def picture_shape(size: int) -> tuple[int, int]:
    """Height and width of the most nearly square picture that `size` features fill."""
    height = max(h for h in range(1, int(np.sqrt(size)) + 1) if size % h == 0)
    return height, size // height


def _final(record: xr.Dataset, name: str, trial: int) -> xr.DataArray:
    """The last weights of one trial, (pre, post)."""
    if "weights" not in record:
        mend = "give a record that holds them"
        raise FwbioError("there are no weights to draw", where=name, mend=mend)
    found = record.weights
    for time in {"snapshot", "step"} & set(found.dims):
        found = found.isel({time: -1})
    if "trial" in found.dims:
        count = found.sizes["trial"]
        if not -count <= trial < count:
            raise FwbioError(
                f"there is no trial {trial}, only {plural(count, 'trial')}",
                where=name,
                mend=f"choose one from 0 to {count - 1}",
            )
        found = found.isel(trial=trial)
    if set(found.dims) != {"pre", "post"}:
        others = sorted(map(str, set(found.dims) - {"pre", "post"}))
        lacks = sorted({"pre", "post"} - set(map(str, found.dims)))
        raise FwbioError(
            f"weights over {', '.join(map(str, found.dims))} are no matrix of pre and post",
            where=name,
            mend=f"choose one of {others[0]}: record.isel({others[0]}=0)"
            if others
            else f"name the axes {' and '.join(lacks)}",
        )
    return found.transpose("pre", "post")


def _unit(array: xr.DataArray) -> str:
    units = str(array.attrs.get("units") or "1")
    return "dimensionless" if units == "1" else units


def _colour_of(label: str) -> str:
    words: Sequence[str] = label.replace("\n", " ").split()
    return next((COLOURS[word] for word in words if word in COLOURS), "black")


def _bare(ax: Axes) -> None:
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)


def _open(ax: Axes) -> Axes:
    ax.spines[["top", "right"]].set_visible(False)
    return ax
