"""What the report of a comparison says."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from fwbio.analyses.compare import METRICS, PROGRAMMERS, require_comparison, summary
from fwbio.analyses.figures import Records
from fwbio.analyses.report.explorer import explorer
from fwbio.analyses.substrates import SUBSTRATES
from fwbio.analyses.words import listed, number
from fwbio.rules import RULES
from fwbio.tasks import TASKS

SHOWN = tuple(m for m in METRICS if m not in {"recall_accuracy_se", "chance_level", "trials"})

CONTENTS = (
    ("summary", "Summary"),
    ("not-run", "What was not run"),
    ("explorer", "Explorer of episodes"),
    ("figures", "Figures"),
    ("substrates", "Substrates"),
    ("rules", "Rules"),
    ("references", "References"),
    ("versions", "Versions"),
)


@dataclass(frozen=True, kw_only=True)
class SubstrateNote:
    """What to know of a substrate's runs.

    Args:
        name: of the substrate; `meaning`: what it is.
        backends: the engines that really ran.
        exact, approximate: statements in words, each followed by the runs it holds for where it
            does not hold for all of them.
        parameters: its configuration, SI units.
    """

    name: str
    meaning: str
    backends: list[str]
    exact: list[str]
    approximate: list[str]
    parameters: Mapping[str, Any] = field(default_factory=dict)


def words(tree: xr.DataTree) -> dict[str, Any]:
    """What comparison.html.j2 names, of a comparison.

    Args:
        tree: as `fwbio.analyses.compare` makes it.

    Raises:
        FwbioError: the tree is not a comparison.
    """
    require_comparison(tree, where="comparison")
    table, frame = Records(tree), summary(tree)
    task = tree.attrs["config"]["task"]
    return {
        "contents": CONTENTS,
        "task": TASKS[task].summary if task in TASKS else "",
        "ledger": _merged(tree.attrs["ledger"]),
        "programmers": {name: PROGRAMMERS.get(name, "") for name in table.programmers},
        "substrates": table.substrates,
        "rules": [RULES[name] for name in table.rules if name in RULES],
        "cells": {p: _cells(frame, p, table) for p in table.programmers},
        "details": {p: _details(frame, p) for p in table.programmers},
        "metrics": {name: METRICS[name] for name in SHOWN if (frame.metric == name).any()},
        "notes": [_note(name, table) for name in table.substrates],
        "trials": table.trials,
        "explorer": explorer(table),
        "chance": frame[frame.metric == "chance_level"]["value"].mean(),
    }


def _runs(frame: pd.DataFrame, programmer: str) -> dict[tuple[str, str], pd.Series]:
    """Metric to value of every run of a programmer's, by rule and substrate."""
    mine = frame[frame.programmer == programmer]
    grouped = mine.groupby(["rule", "substrate"], sort=False)
    return {case: rows.set_index("metric")["value"] for case, rows in grouped}


def _cells(frame: pd.DataFrame, programmer: str, table: Records) -> dict[str, dict[str, Any]]:
    """Rule to substrate to what a cell of the summary says; None where nothing was run."""
    runs = _runs(frame, programmer)

    def cell(values: pd.Series | None) -> dict[str, str] | None:
        if values is None:
            return None
        error = values["recall_accuracy_se"]
        return {
            "accuracy": f"{values['recall_accuracy']:.2f}",
            "error": _spread(error),
            "same_trials": f"{values['reference_accuracy']:.2f}",
            "agreement": number(values["readout_agreement"]),
        }

    return {rule: {s: cell(runs.get((rule, s))) for s in table.substrates} for rule in table.rules}


def _spread(error: float) -> str:
    """A standard error over trials in words, nothing where there is none."""
    if np.isnan(error):
        return ""
    if error == 0:
        return "in every trial"
    return f"± {error:.2f}" if error >= 0.005 else f"± {number(error)}"


def _details(frame: pd.DataFrame, programmer: str) -> list[dict[str, str]]:
    """One row a rule and substrate, every metric as text."""
    return [
        {
            "rule": rule,
            "substrate": substrate,
            **{metric: number(value) for metric, value in values.items()},
            "trials": f"{values['trials']:g}",
        }
        for (rule, substrate), values in _runs(frame, programmer).items()
    ]


def _merged(ledger: list[dict[str, str]]) -> list[dict[str, str]]:
    """The ledger with one entry for all programmers that share a reason."""
    programmers: dict[tuple[str, str, str], list[str]] = {}
    for entry in ledger:
        case = (entry["rule"], entry["substrate"], entry["reason"])
        programmers.setdefault(case, []).append(entry["programmer"])
    return [
        {"rule": rule, "substrate": substrate, "reason": reason, "programmer": listed(names)}
        for (rule, substrate, reason), names in programmers.items()
    ]


def _note(substrate: str, table: Records) -> SubstrateNote:
    runs = {key: record for key, record in table.records.items() if key[1] == substrate}

    def statements(kind: str) -> list[str]:
        said: dict[str, list[str]] = {}
        for (programmer, _, rule), record in runs.items():
            for words in record.attrs.get(kind, []):
                said.setdefault(words, []).append(f"{programmer} {rule}")
        return [
            words if len(cases) == len(runs) else f"{words} ({', '.join(cases)})"
            for words, cases in said.items()
        ]

    one = next(iter(runs.values()))
    return SubstrateNote(
        name=substrate,
        meaning=SUBSTRATES[substrate],
        backends=sorted({str(record.attrs["backend"]) for record in runs.values()}),
        exact=statements("exact"),
        approximate=statements("approximate"),
        parameters=one.attrs.get("substrate_config", {}),
    )
