"""The README of the study: right answers, confusions by name, and what was not measured."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fwbio.analyses.identification.study import is_right
from fwbio.analyses.identification.study_cases import FIRST
from fwbio.analyses.identification.study_outputs import figure, tables
from fwbio.analyses.identification.study_page import page
from fwbio.analyses.identification.study_summary import wilson


def study(*rows, seed=FIRST):
    """A study of recordings (series, rule, answer, ..), all else as it mostly is."""
    made = []
    for at, (series, rule, answer, *condition) in enumerate(rows):
        noise, steps = condition or (0.05, 200)
        none = series == "foreign"
        made.append(
            {
                "series": series,
                "rule": rule,
                "seed": seed + at,
                "answer": answer,
                "verdict": "identified" if answer else "none",
                "right": not answer if none else is_right(rule, answer.split()),
                "named": rule in answer.split(),
                "error": 0.01 if series == "rules" else np.nan,
                "covered": 1.0,
                "seconds": 1.0,
                "noise": noise,
                "steps": steps,
            }
        )
    return pd.DataFrame(made)


EQUAL = "retnet mamba2 mlstm mesa"
RIGHT = [("rules", "hebb", "hebb"), ("rules", "delta", "delta"), ("rules", "retnet", EQUAL)]
VARIED = [("noise", "hebb", "hebb", 0.1, 200), ("steps", "hebb", "delta", 0.05, 25)]


def table_row(text, *words):
    """The only row of a Markdown table that has these words."""
    (row,) = [line for line in text.splitlines() if all(f"| {word}" in line for word in words)]
    return row


def test_every_series_has_its_share_and_interval():
    text = page(study(*RIGHT, *VARIED), "command")
    share = wilson([True] * 3)
    assert f"3 of 3: 100.0 % ({100 * share.low:.1f} .. 100.0)" in table_row(text, "rules |")
    assert "0 of 1: 0.0 %" in table_row(text, "steps |")
    assert "not run" in table_row(text, "readout |")
    assert "Wilson" in text and "not measured" in text
    assert f"Seeds {FIRST} to {FIRST + 2}: not used in developing the method" in " ".join(
        text.split()
    )


def test_confusions_are_named_with_how_rules_are_related():
    confused = [
        ("rules", "thresholded_delta", "efla"),
        ("noise", "gated_delta", "gated_delta oja", 0.1, 200),
        ("rules", "kda", ""),
        ("spiking", "hebb", "hebb stdp"),
    ]
    text = page(study(*RIGHT, *VARIED, *confused), "command")
    assert "right: one rule on such data" in table_row(text, "retnet | retnet, mamba2, mlstm")
    row = table_row(text, "thresholded_delta | efla")
    assert "**not right**" in row and "efla is a special case of thresholded_delta" in row
    assert "not nested" in table_row(text, "hebb | delta | 1 (steps 1)")
    assert "not told from others" in table_row(text, "gated_delta | gated_delta and oja")
    assert "nothing is named" in table_row(text, "kda | none")
    assert "right: one rule" in table_row(text, "hebb | hebb and stdp | 1")
    assert "hebb | hebb |" not in text.split("## Confusions")[1]
    alone = page(study(*RIGHT[:2]), "command")
    assert "Every answer is the rule alone" in alone


def test_memories_of_no_rule_are_right_where_none_is_named():
    text = page(study(*RIGHT, ("foreign", "delayed", ""), ("foreign", "delayed", "oja")), "command")
    assert "1 of 2 | oja |" in table_row(text, "delayed")
    assert "delayed" not in text.split("## Confusions")[1].split("##")[0]


def test_a_quick_form_says_that_it_shows_nothing():
    few = study(*RIGHT, seed=0)
    assert "it shows nothing" in page(few, "command")
    assert "it shows nothing" not in page(study(*RIGHT), "command")
    verdicts = [cell.plain for cell in tables(few)[1].columns[-1].cells]
    assert "not measured" in verdicts


@pytest.mark.parametrize("rows", [RIGHT, [*RIGHT, *VARIED, ("rules", "delta", "longhorn")]])
def test_the_figure_frames_wrong_answers_alone(rows):
    drawn = np.asarray(Image.open(io.BytesIO(figure(study(*rows)))).convert("RGB")).astype(int)
    framed = (np.abs(drawn - (0xD5, 0x5E, 0x00)).max(-1) < 8).any()
    assert framed == any(
        series == "rules" and rule != "retnet" and rule != answer
        for series, rule, answer, *_ in rows
    )
