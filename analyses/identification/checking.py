"""What was read of a recording, before anything is fitted to it."""

from typing import Any

import numpy as np

from fwbio.analyses.identification.data import Recording
from fwbio.analyses.identification.meanings import START
from fwbio.rule import DEFAULTS


def contents(recording: Recording) -> dict[str, Any]:
    """What a recording holds, as JSON has it.

    Args:
        recording: of `fwbio.analyses.identification.read`.

    Returns:
        `trials`, `steps`, `substeps`, `pre`, `post`; of `weights` and `readout`, where they are,
        the `units`, the share that is `missing` among those that were to be seen, and of weights
        the `snapshots` with any; `start`; `interval` [s], shortest and longest, or None;
        `varying`, the gates that vary; `presented`, what else was.
    """
    weights, readout = recording.weights, recording.readout
    times = recording.presented.get("interval")
    return {
        "trials": recording.trials,
        "steps": recording.steps,
        "substeps": recording.keys.shape[2] if recording.keys.ndim == 4 else 1,
        "pre": recording.pre,
        "post": recording.post,
        "weights": None
        if weights is None
        else {
            "units": recording.weight_units or None,
            "snapshots": len(recording.snapshots),
            "missing": _missing(weights),
            "rms": _size(weights),
        },
        "readout": None
        if readout is None
        else {
            "units": recording.readout_units or None,
            "missing": _missing(readout),
            "rms": _size(readout),
        },
        "start": recording.start,
        "interval": None if times is None else [float(times.min()), float(times.max())],
        "varying": sorted(recording.courses),
        "presented": sorted(set(recording.presented) - {"interval"}),
    }


def _missing(observed: np.ndarray) -> float:
    return float(np.isnan(observed).mean())


def _size(observed: np.ndarray) -> float:
    return float(np.sqrt(np.nanmean(np.square(observed))))


def table(recording: Recording) -> Any:
    """The same for a terminal.

    Args:
        recording: of `fwbio.analyses.identification.read`.
    """
    from rich.table import Table
    from rich.text import Text

    found = contents(recording)
    shown = Table(title="What was read", title_justify="left", show_header=False)
    shown.add_column("what", style="bold", no_wrap=True)
    shown.add_column("found", overflow="fold")
    for name in ("trials", "steps", "substeps", "pre", "post"):
        if name != "substeps" or found[name] > 1:
            shown.add_row(name, str(found[name]))
    for name in ("weights", "readout"):
        shown.add_row(name, Text(_seen(found[name], found["steps"])))
    shown.add_row("start", f"weights before the first step: {START[found['start']]}")
    if found["interval"] is None:
        told = f"not recorded; rules with time constants take {DEFAULTS['interval']:g} s"
    else:
        told = " .. ".join(f"{end:g}" for end in dict.fromkeys(found["interval"])) + " s"
    shown.add_row("interval", told)
    shown.add_row("gates that vary", ", ".join(found["varying"]) or "none; all are fitted")
    if found["presented"]:
        shown.add_row("also presented", ", ".join(found["presented"]))
    return shown


def _seen(found: dict[str, Any] | None, steps: int) -> str:
    if found is None:
        return "none"
    units = {None: "unit not named", "1": "dimensionless"}.get(found["units"], found["units"])
    size = f"root mean square {found['rms']:.4g}, {units}"
    missing = f"{100 * found['missing']:.3g} % missing"
    if "snapshots" in found:
        return f"after {found['snapshots']} of {steps} steps, {missing} there; {size}"
    return f"{missing}; {size}"
