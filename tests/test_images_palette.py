"""Colours, markers and lines: one look for each rule and substrate."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from images import MPL

from fwbio import RULES
from fwbio.analyses.palette import RULE_STYLES, rule_style


def test_every_rule_has_a_style():
    assert set(RULE_STYLES) == set(RULES)


@pytest.mark.mpl_image_compare(**MPL)
def test_image_palette_rules():
    figure, ax = plt.subplots(figsize=(5, 5))
    for i, (rule, style) in enumerate(rule_style(RULES).items()):
        ax.plot([0, 1, 2, 3, 4], np.full(5, -i), **style.joined)
        ax.text(4.2, -i, rule, va="center", fontsize=7)
    ax.set_xlim(-0.5, 6)
    ax.set_axis_off()
    return figure
