"""What the report's explorer of episodes shows, as plain data small enough to stand in the page.

Arrays are kept as whole numbers of one or two bytes, little-endian and in base64, with the step
that one of them stands for: a value is `step * number`.
"""

from base64 import b64encode
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from fwbio.analyses.figures import Records
from fwbio.analyses.plots import brightness_limits, in_content_space, picture_shape
from fwbio.analyses.recall import cosine, recall_hits, shown_value

BUDGET = 780_000  # bytes before base64, which makes them four thirds
TRIALS, CUES, CANDIDATES = 8, 40, 5
COSINE_STEP = 1e-4
SHARE = 99.5  # percent of read-outs that a scale of a code reaches


def explorer(table: Records) -> dict[str, Any]:
    """Cues, targets and recalls of the first trials of a comparison, for JSON.

    Returns:
        `programmers`, `rules`, `substrates`: the names to choose from. `trials` and `cues`: how
        many of each are here, `trials_run` and `cues_run` how many were run. `item`, `content`:
        width, height and limits of their pictures. `cue` (trial, cue, item feature), `contents`
        (trial, pair, content feature), `source` and `lag` (trial, cue). `runs`, of each record:
        `programmer`, `substrate`, `rule`, `trials`, and over (trial, cue) `hit`, `cosine` with
        the target, `nearest` and `nearest_cosine`, the best candidates, best first, (.., rank),
        and `recalled`, the read-out, in the space of contents where `of_contents`; `code` is
        width, height and limits of its picture where it is not.

    Raises:
        FwbioError: a record lacks what recall is measured by.
    """
    shown = table.tree["episode"].to_dataset()
    scored = np.asarray(shown.scored.values)
    cues = int(scored.sum(-1).min())
    kept = min(cues, CUES)
    trials = _trials(table, shown, kept)
    steps = np.stack([np.flatnonzero(row)[:kept] for row in scored[:trials]])
    own = np.arange(trials)[:, None]
    content = shown.content.values[:trials, shown.writes.values]
    codes = {
        (programmer, rule): _code(list(table.of(programmer, rule).values()))
        for programmer in table.programmers
        for rule in table.rules
    }
    return {
        "programmers": table.programmers,
        "rules": table.rules,
        "substrates": table.substrates,
        "trials": trials,
        "trials_run": shown.sizes["trial"],
        "cues": kept,
        "cues_run": cues,
        "pairs": content.shape[1],
        "item": _pictures(shown.item.values[:trials]),
        "content": _pictures(content),
        "cue": _quantised(shown.cue.values[own, steps]),
        "contents": _quantised(content),
        "source": _whole(shown.source.values[own, steps]),
        "lag": _whole(shown.lag.values[own, steps]),
        "runs": [
            {"programmer": programmer, "substrate": substrate, "rule": rule}
            | _run(record.isel(trial=slice(trials)), shown, steps)
            | {"code": codes[programmer, rule]}
            for (programmer, substrate, rule), record in table.records.items()
        ],
    }


def _trials(table: Records, shown: xr.Dataset, cues: int) -> int:
    """How many trials fit the budget; one at least."""
    per_run = cues * (4 * CANDIDATES + 3)
    a_trial = sum(per_run + cues * record.sizes["post"] for record in table.records.values())
    a_trial += cues * shown.sizes["item_feature"]
    a_trial += int(shown.writes.sum()) * shown.sizes["content_feature"]
    return int(np.clip(BUDGET // a_trial, 1, min(TRIALS, shown.sizes["trial"])))


def _run(record: xr.Dataset, shown: xr.Dataset, steps: np.ndarray) -> dict[str, Any]:
    """What a record of the first trials recalls at the steps (trial, cue)."""
    record = record.transpose("trial", "step", ...)
    trials = record.sizes["trial"]
    own, steps = np.arange(trials)[:, None], steps[:trials]
    readout = record.readout.values[own, steps].astype(np.float64)
    values = shown_value(record).transpose("trial", "step", "post").values
    cosines = np.where(
        record.stored.values[:, None], _cosines(readout, values), -np.inf
    )  # (trial, cue, step)
    best = np.argsort(-cosines, axis=-1, kind="stable")[..., :CANDIDATES]
    best = best[..., : int(record.stored.sum("step").min())]
    of_contents = all(in_content_space(record, shown, trial) for trial in range(trials))
    drawn = readout + shown.content_baseline.values if of_contents else readout
    hits = recall_hits(record).transpose("trial", "step").values
    return {
        "trials": trials,
        "of_contents": of_contents,
        "recalled": _quantised(drawn),
        "hit": _whole(hits[own, steps]),
        "cosine": _whole(cosine(readout, record.target.values[own, steps]) / COSINE_STEP, "<i2"),
        "nearest": _whole(best, "<i2"),
        "nearest_cosine": _whole(np.take_along_axis(cosines, best, -1) / COSINE_STEP, "<i2"),
    }


def _code(records: list[xr.Dataset]) -> dict[str, Any] | None:
    """How read-outs of one program are drawn in its code, on one scale for all substrates."""
    if not records:
        return None
    read = [np.abs(r.readout.where(r.scored, 0).values) for r in records]
    top = max(float(np.percentile(x[x > 0], SHARE)) if x.any() else 1.0 for x in read)
    height, width = picture_shape(records[0].sizes["post"])
    return {"width": width, "height": height, "low": -top, "high": top}


def _cosines(readout: np.ndarray, value: np.ndarray) -> np.ndarray:
    """The cosine of every read-out (.., t, n) with every value (.., s, n), (.., t, s)."""
    norms = [np.linalg.norm(x, axis=-1, keepdims=True) for x in (readout, value)]
    y, v = (x / np.where(n > 0, n, 1) for x, n in zip((readout, value), norms, strict=True))
    return np.einsum("...tn,...sn->...ts", y, v)


def _pictures(features: np.ndarray) -> dict[str, Any]:
    """How features (.., feature) are drawn: the size of a picture, and the limits of its scale."""
    height, width = picture_shape(features.shape[-1])
    low, high = brightness_limits(features)
    return {"width": width, "height": height, "low": low, "high": high}


def _quantised(values: np.ndarray) -> Mapping[str, Any]:
    """Values in 255 even steps about 0."""
    top = float(np.abs(values).max(initial=0.0))
    step = top / 127 or 1.0
    return {**_whole(values / step, "<i1"), "step": step}


def _whole(values: np.ndarray, kind: str = "<i2") -> dict[str, Any]:
    """Numbers, rounded to whole ones that `kind` holds, and their shape."""
    rounded = np.round(values).astype(kind)
    return {
        "kind": {"i1": "int8", "i2": "int16"}[kind[-2:]],
        "shape": list(rounded.shape),
        "data": b64encode(rounded.tobytes()).decode(),
    }
