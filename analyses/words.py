"""Numbers and lists as people read them."""

from collections.abc import Sequence

import numpy as np


def number(value: float) -> str:
    """A metric: three decimals, more where they tell it from 1, an exponent where it is tiny.

    >>> [number(x) for x in (0.25, 0.99987, 1.0, 1.2e-7, float("nan"))]
    ['0.250', '0.99987', '1', '1.2e-07', '–']
    """
    if np.isnan(value):
        return "–"
    if 0.9995 <= value < 1 - 1e-6:
        return f"{value:.{int(np.ceil(-np.log10(1 - value))) + 1}f}"
    return f"{value:.3f}" if 0.001 <= abs(value) < 0.9995 else f"{value:.2g}"


def over_trials(error: float, trials: int) -> str:
    """A standard error over trials, or that there is none to be told.

    >>> over_trials(0.03, 64), over_trials(0.0, 64), over_trials(float("nan"), 1)
    ('± 0.030', 'in all of 64 trials', '')
    """
    if np.isnan(error):
        return ""
    return (
        f"\N{PLUS-MINUS SIGN} {number(error)}" if error else f"in all of {plural(trials, 'trial')}"
    )


def plural(count: int, noun: str) -> str:
    """A count and its noun.

    >>> plural(1, "trial"), plural(4, "trial")
    ('1 trial', '4 trials')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


def listed(names: Sequence[str]) -> str:
    """Names in a row.

    >>> listed(["a", "b", "c"]), listed(["a"])
    ('a, b and c', 'a')
    """
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
