"""The files of an identification; the last one stays until all are written aside."""

from collections.abc import Iterable
from pathlib import Path
from textwrap import wrap

import xarray as xr

from fwbio.analyses.identification.answer import Candidate, Identification
from fwbio.analyses.identification.data import Recording, from_record
from fwbio.analyses.identification.meanings import in_units
from fwbio.analyses.identification.replay import replay
from fwbio.analyses.identification.tables import constants, groups, plain, rows
from fwbio.analyses.outputs import json_text, png
from fwbio.files import write_together
from fwbio.record import versions
from fwbio.rule import Rule

DATA, TABLE, FIGURE = "identification.json", "identification.csv", "identification.png"
LINE = 0.2  # inches that a line of a row's label takes
MOST_WEIGHTS = 10_000_000  # of all steps at once, that are run anew for a figure


def write(
    answer: Identification,
    record: xr.Dataset | Recording,
    folder: Path,
    *,
    command: str,
    rules: Iterable[Rule] = (),
) -> list[Path]:
    """Write identification.json, identification.csv and identification.png.

    Args:
        answer: of `fwbio.analyses.identification.identify`.
        record: what it is about.
        folder: where they go; earlier ones stay until all are ready.
        command: what makes the same again, kept with the numbers.
        rules: those of its candidates that are not of the table.

    Returns:
        The paths written.

    Raises:
        FwbioError: the folder can't be written.
    """
    recording = record if isinstance(record, Recording) else from_record(record)
    told = {"command": command, "versions": versions(), **plain(answer, recording)}
    contents: dict[str, str | bytes] = {
        DATA: json_text(told),
        TABLE: rows(answer, recording).to_csv(index=False).encode(),
        FIGURE: figure(answer, recording, rules=rules),
    }
    return write_together(folder, contents)


def figure(
    answer: Identification, record: xr.Dataset | Recording, *, rules: Iterable[Rule] = ()
) -> bytes:
    """The ranking, the constants, and what the best rules predict, as PNG.

    Args:
        answer: of `fwbio.analyses.identification.identify`.
        record: what it is about.
        rules: those of its candidates that are not of the table.
    """
    from matplotlib.figure import Figure

    from fwbio.analyses.identification import plots

    recording = record if isinstance(record, Recording) else from_record(record)
    answer = in_units(answer, recording)
    height = max(4.4, 1.2 + LINE * plots.ranking_lines(answer))
    drawn = Figure(figsize=(13.5, height), layout="constrained")
    left, middle, right = drawn.subplots(1, 3, width_ratios=(1.1, 1, 1))
    plots.ranking(answer, left)
    plots.parameters(answer, middle)
    own = {rule.name: rule for rule in rules}
    weights = recording.steps * recording.pre * recording.post
    trials = max(1, MOST_WEIGHTS // weights)
    plots.changes(
        {
            c.rule: replay(
                recording, c, observed=answer.observed, trials=trials, rule=own.get(c.rule)
            )
            for c in compared(answer)
        },
        right,
    )
    drawn.suptitle("\n".join(wrap(answer.sentence, 150)), fontsize=10)
    return png(drawn, dpi=130)


def compared(answer: Identification) -> list[Candidate]:
    """The rule of the answer, or the nearest, and the best of as few constants beside it."""
    ranked = [group[0] for group in groups(answer)]
    first, *others = ranked
    simple = [c for c in others if c.rule not in answer.rules and constants(c) <= constants(first)]
    return [first, *simple[:1]]
