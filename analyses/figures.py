"""The figures of a comparison: which plots, of which records, and what the captions say."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from PIL import Image

from fwbio.analyses import plots
from fwbio.analyses.compare import require_comparison, summary
from fwbio.analyses.recall import recall_by_lag, recall_hits
from fwbio.analyses.report.night import PAPER, night
from fwbio.analyses.words import listed, number, plural

DPI = 130
CUES = 8  # of an episode that are drawn
FEW = 12  # cases that words for a figure name
SCREEN = 80  # CSS pixels an inch, at which the figures' letters are as large as captions


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure with its words.

    Args:
        name: the name of its file, without suffix.
        title: its heading.
        caption: what was run and what is drawn.
        alternative: what it shows, for those who don't see it.
        figure: the figure.
    """

    name: str
    title: str
    caption: str
    alternative: str
    figure: Figure

    @property
    def size(self) -> tuple[int, int]:
        """Width and height at which a page can show it legibly, CSS pixels."""
        width, height = (round(inches * SCREEN) for inches in self.figure.get_size_inches())
        return width, height

    def png(self, *, dark: bool = False) -> bytes:
        """The figure as a PNG image of at most 256 colours; equal figures give equal bytes.

        Args:
            dark: on a dark page's ground and in its colours, in place of white.
        """
        if not dark:
            return _png(self.figure, "white")
        self.figure.draw_without_rendering()
        with night(self.figure):
            return _png(self.figure, PAPER)


def _png(figure: Figure, ground: str) -> bytes:
    drawn, packed = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=DPI, facecolor=ground)
    # by coverage: thin marks keep their colour, however few pixels they have
    image = Image.open(drawn).convert("RGB")
    few = image.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE)
    few.save(packed, format="png", optimize=True)
    return packed.getvalue()


def draw(tree: xr.DataTree) -> Iterator[Drawing]:
    """The figures of a comparison, one after another.

    Raises:
        FwbioError: the tree is not a comparison.
    """
    require_comparison(tree, where="comparison")
    table = Records(tree)
    yield _recall(table)
    if any("lag" in record for record in table.records.values()):
        yield _lag(table)
    for programmer in table.programmers:
        yield _episode(table, programmer)
        yield _weights(table, programmer)
        if len(table.substrates) > 1:
            yield _agreement(table, programmer)
        yield from _traces(table, programmer)


class Records:
    """The records of a comparison by programmer, rule and substrate."""

    def __init__(self, tree: xr.DataTree) -> None:
        self.tree = tree
        self.config: dict[str, Any] = tree.attrs["config"]
        self.records = {
            tuple(node.path.strip("/").split("/")): node.to_dataset()
            for node in tree.leaves
            if node.path.count("/") == 3
        }
        self.programmers = [p for p in self.config["programmers"] if p in tree.children]
        self.rules: list[str] = list(self.config["rules"])
        self.substrates = [s for s in plots.COLOURS if any(s == key[1] for key in self.records)]

    def of(self, programmer: str, rule: str) -> dict[str, xr.Dataset]:
        """Substrate to record."""
        keys = {s: (programmer, s, rule) for s in self.substrates}
        return {s: self.records[key] for s, key in keys.items() if key in self.records}

    @property
    def what(self) -> str:
        """What was run, for captions."""
        c = self.config
        parts = [plural(c["pairs"], "pair"), f"cue noise {c['noise']:g}"]
        parts += [f"a gap of {plural(c['gap'], 'step')}"] if c["gap"] else []
        parts += [f"{name} {value}" for name, value in c.get("sizes", {}).items()]
        shown = self.tree["episode"]
        parts += [
            f"items of {shown.sizes['item_feature']} and contents of"
            f" {shown.sizes['content_feature']} features"
        ]
        return f"Task {c['task']}: {', '.join(parts)}, seed {c['seed']}."

    @property
    def trials(self) -> str:
        """How many trials each substrate ran, as a sentence."""
        counts: dict[int, list[str]] = {}
        for s in self.substrates:
            counts.setdefault(self._most(1, s), []).append(s)
        many = max(counts, default=0)
        ran = [f"{listed(names)} {_of_first(n, many)}" for n, names in counts.items()]
        fewer = [
            f"; with the {programmer} programmer all {_of_first(n, many)}"
            for programmer in self.programmers
            if (n := self._most(0, programmer)) < many
        ]
        return f"Trials: {', '.join(ran)}{''.join(fewer)}."

    def _most(self, place: int, name: str) -> int:
        """The most trials of the records of a programmer (place 0) or a substrate (1)."""
        return max(r.sizes["trial"] for key, r in self.records.items() if key[place] == name)


def _of_first(count: int, many: int) -> str:
    """A number of trials, the first ones where others ran more."""
    return f"{count}" if count == many else f"the first {count}"


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")


def _legend(figure: Figure, *, columns: int) -> None:
    """One legend below all panels, substrates first, then what else there is.

    Where panels are of unequal trials, the counts stand in one entry of the substrate.
    """
    handles: dict[str, Any] = {}
    counts: dict[str, list[int]] = {}
    for ax in figure.axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            name, _, trials = label.partition(" (")
            if name in plots.COLOURS:
                counts.setdefault(name, []).extend(int(n) for n in trials.split()[:1])
            handles.setdefault(name if name in plots.COLOURS else label, handle)
    labels = [*[s for s in plots.COLOURS if s in handles]]
    labels += [label for label in handles if label not in plots.COLOURS]
    figure.legend(
        [handles[label] for label in labels],
        [_with_trials(label, counts.get(label, [])) for label in labels],
        loc="outside lower center",
        ncols=columns,
        frameon=False,
    )


def _with_trials(label: str, counts: list[int]) -> str:
    """A substrate's label with its trials, those of the first panel first.

    >>> _with_trials("rate", [64, 64, 8]), _with_trials("chance (0.05)", [])
    ('rate (64 or 8 trials)', 'chance (0.05)')
    """
    distinct = list(dict.fromkeys(counts))
    if not distinct:
        return label
    *others, last = distinct
    return f"{label} ({' or '.join([*map(str, others), plural(last, 'trial')])})"


def _recall(table: Records) -> Drawing:
    programmers = table.programmers
    figure = _figure(max(5.5, (1.6 + len(table.rules)) * len(programmers)), 4.4)
    axes = figure.subplots(1, len(programmers), sharey=True, squeeze=False)[0]
    frame = summary(table.tree)
    for programmer, ax in zip(programmers, axes, strict=True):
        plots.recall(frame, programmer, ax)
        ax.label_outer()
    _legend(figure, columns=2 if len(programmers) == 1 else 3)
    found = frame[frame.metric == "recall_accuracy"].sort_values("value", kind="stable")
    best, worst = found.iloc[-1], found.iloc[0]
    trials = frame[frame.metric == "trials"].groupby("programmer")["value"]
    unequal = (trials.min() < trials.max()).any()
    dash = (
        "; a dash across a point is what the reference recalls on the same trials"
        if unequal
        else ""
    )
    return Drawing(
        name="recall",
        title="Recall",
        caption=f"{table.what} Share of cues whose nearest stored value, by cosine, is the right "
        f"one. Bars are standard errors over trials, the dashed line is chance{dash}. "
        f"{table.trials}",
        alternative="Recall accuracy by rule and substrate, from"
        f" {worst.value:.2f} ({worst.rule} on {worst.substrate}, {worst.programmer} programmer) to"
        f" {best.value:.2f} ({best.rule} on {best.substrate}, {best.programmer} programmer).",
        figure=figure,
    )


def _lag(table: Records) -> Drawing:
    programmers, rules = table.programmers, table.rules
    figure = _figure(2.6 * len(rules) + 0.6, 2.7 * len(programmers) + 0.6)
    width = max(1, -(-table.config["pairs"] // 5))
    grid = figure.subplots(len(programmers), len(rules), sharex=True, sharey=True, squeeze=False)
    told = []
    for programmer, row in zip(programmers, grid, strict=True):
        for rule, ax in zip(rules, row, strict=True):
            records = table.of(programmer, rule)
            curves = {s: recall_by_lag(r, width=width) for s, r in records.items()}
            plots.recall_by_lag(curves, ax)
            cosines = next(iter(curves.values())).cosine.values
            told.append(f"{programmer} {rule} {cosines[0]:.2f} to {cosines[-1]:.2f}")
            ax.set_title(f"{programmer}, {rule}", fontsize=9)
            ax.yaxis.label.set_size(8)
            ax.label_outer()
    _legend(figure, columns=4)
    return Drawing(
        name="lag",
        title="Recall against age",
        caption=f"{table.what} Cosine of the read-out with its target against the presentations "
        f"since the pair was stored{f', {width} lags a point' if width > 1 else ''}; points are "
        "moved apart a little, bars are standard errors over trials. "
        f"{table.trials}",
        alternative="Curves of recall cosine against lag, one panel a programmer and rule, one "
        f"curve a substrate. From the newest to the oldest pairs, reference: {_few(told)}.",
        figure=figure,
    )


def _episode(table: Records, programmer: str) -> Drawing:
    rows = {
        f"{rule} {substrate}": record
        for rule in table.rules
        for substrate, record in table.of(programmer, rule).items()
    }
    shown = table.tree["episode"].to_dataset()
    steps = np.flatnonzero(shown.scored.values[0])[:CUES]
    right = {name: recall_hits(r.isel(trial=0)).values[steps] for name, r in rows.items()}
    told = [f"{name} {int(hits.sum())}" for name, hits in right.items()]
    figure = _figure(6.6, 0.62 * (len(rows) + 2) + 0.2)
    plots.episode(rows, shown, figure, cues=CUES)
    return Drawing(
        name=f"episode_{programmer}",
        title=f"One episode, {programmer} programmer",
        caption=f"{table.what} The first {plural(len(steps), 'cue')} of the first trial, what they "
        "ask for, and what each rule recalls on each substrate. A cross marks a recall whose "
        "nearest stored value is not the target's. Recalls are drawn on the contents' scale; where "
        "the code is not an image, the content of the nearest stored value stands for it.",
        alternative="Rows of small images: cues, targets and recalls by rule and substrate. Right "
        f"of {len(steps)}: {_few(told)}.",
        figure=figure,
    )


def _weights(table: Records, programmer: str) -> Drawing:
    figure = _figure(1.75 * len(table.substrates) + 1.2, 2.3 * len(table.rules))
    grid = figure.subplots(len(table.rules), len(table.substrates), squeeze=False)
    for rule, row in zip(table.rules, grid, strict=True):
        records = table.of(programmer, rule)
        plots.weights({s: records.get(s) for s in table.substrates}, row)
        row[0].set_ylabel(f"{rule}\npre (cell)")
    return Drawing(
        name=f"weights_{programmer}",
        title=f"Final fast weights, {programmer} programmer",
        caption=f"{table.what} The weights after the last step of the first trial. Each rule has "
        "one colour scale for all its substrates.",
        alternative="Weight matrices as images, one row a rule, one column a substrate."
        f"{_least(table, programmer, 'weight_agreement', 'cosine with the reference')}",
        figure=figure,
    )


def _agreement(table: Records, programmer: str) -> Drawing:
    others = [s for s in table.substrates if s != "reference"]
    shape = (len(table.rules), len(others))
    across = shape if len(others) > 1 else shape[::-1]  # one column of panels is one row
    figure = _figure(2.5 * across[1] + 0.5, 2.6 * across[0])
    grid = figure.subplots(*across, squeeze=False).reshape(shape)
    for rule, row in zip(table.rules, grid, strict=True):
        records = table.of(programmer, rule)
        for substrate, ax in zip(others, row, strict=True):
            if substrate not in records:
                plots.not_run(ax)
                continue
            plots.agreement(records[substrate], records["reference"], ax)
            ax.set_title(rule, fontsize=9)
    return Drawing(
        name=f"agreement_{programmer}",
        title=f"Agreement with the reference, {programmer} programmer",
        caption=f"{table.what} Each dot is one channel of one scored read-out; the line is "
        "equality, r is Pearson's. At most 2,000 dots a panel, evenly picked. "
        f"{table.trials}",
        alternative="Scatter plots of read-outs against the reference's, by rule and substrate."
        f"{_least(table, programmer, 'readout_agreement', 'r')}",
        figure=figure,
    )


def _least(table: Records, programmer: str, metric: str, name: str) -> str:
    """The least of a metric over a programmer's runs, as a sentence; none where there is none."""
    frame = summary(table.tree)
    mine = frame[(frame.programmer == programmer) & (frame.metric == metric)]
    others = mine[(mine.substrate != "reference") & mine.value.notna()]
    if others.empty:
        return ""
    least = others.loc[others.value.idxmin()]
    return f" The least {name} is {number(least.value)}, of {least.rule} on {least.substrate}."


def _few(parts: Sequence[str]) -> str:
    """Parts in a row, of very many the first.

    >>> _few(["a", "b"]), _few(["a"] * 20)[-13:]
    ('a, b', ' and 8 others')
    """
    rest = len(parts) - FEW
    return ", ".join(parts[:FEW]) + (f" and {plural(rest, 'other')}" if rest > 0 else "")


def _traces(table: Records, programmer: str) -> Iterator[Drawing]:
    found = [
        (rule, substrate, record)
        for rule in table.rules
        for substrate, record in table.of(programmer, rule).items()
        if plots.has_traces(record)
    ]
    for rule, substrate, record in found[-1:]:
        figure = _figure(6.6, 5.6)
        plots.traces(record, figure)
        yield Drawing(
            name=f"traces_{programmer}",
            title=f"One presentation on {substrate} synapses, {programmer} programmer",
            caption=f"{table.what} The rule {rule}. Spikes of the cells and the NMDA and AMPA "
            "conductances of a few postsynaptic cells during one presentation.",
            alternative=_traced(record),
            figure=figure,
        )


def _traced(record: xr.Dataset) -> str:
    """What the figure of one presentation shows, as far as the record has it."""
    spikes = [
        f"{plural(record.sizes[record[name].dims[0]], 'spike')} of {side}synaptic cells"
        for side in ("pre", "post")
        if (name := f"{side}_spike_time") in record
    ]
    names = {"g_nmda": "slow NMDA", "g_ampa": "fast AMPA"}
    curves = [
        f"{said} conductances up to {float(record[name].max()):.2g}"
        for name, said in names.items()
        if name in record
    ]
    return f"Against time: {', '.join([*spikes, *curves])}."
