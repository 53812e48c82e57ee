"""Which rule of the table made these weights, or these read-outs?"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Literal

import numpy as np
import xarray as xr
from tqdm import tqdm

from fwbio.analyses.arguments import named
from fwbio.analyses.identification.answer import Candidate, Identification
from fwbio.analyses.identification.data import Recording, check_dataset, from_record
from fwbio.analyses.identification.fitting import Fit, fit
from fwbio.analyses.identification.unknowns import Model, Observed, Refused, model
from fwbio.analyses.identification.verdict import decide, rival
from fwbio.errors import FwbioError
from fwbio.rule import Rule
from fwbio.rules import RULES, resolve

# Beyond these, trials are left out: weights of a step times the richest rule's constants (memory),
# and times steps and the constants of all rules (time; some 30 s of one core).
LARGEST, LONGEST = 30_000_000, 250_000_000
NEAR = 500.0  # log-likelihood from the best within which fits are refined


def identify(
    record: xr.Dataset | Recording,
    *,
    rules: Rule | str | Iterable[Rule | str] | None = None,
    observed: Literal["auto", "weights", "readout"] = "auto",
    scale: Literal["auto", "known", "fitted"] = "auto",
    trials: int | None = None,
    progress: bool = False,
) -> Identification:
    """Which rule of the table made these weights, or these read-outs?

    Every rule's gates are fitted as constants to what was observed, by the likelihood of what each
    observation adds to all before it; the rules are then compared by Vuong's test.

    Args:
        record: `key` (.., step, pre) and `value` (.., step, post) with `weights` (.., snapshot,
            pre, post), or with `query` (.., step, pre) and `readout` (.., step, post); leading dims
            are trials that share the rule's constants. See `from_record`.
        rules: the candidates, one or several, the whole table unless given.
        observed: what to explain: "weights", "readout" (what the queries read); "auto" takes the
            weights where two snapshots or more of them are there.
        scale: whether the rule's weights are in the observations' unit ("known") or up to a factor
            ("fitted"); "auto" takes them as known where `units` is "1".
        trials: how many of the trials to fit, the first ones; unless given, as many as some 30 s
            allow with these rules, one at least (the sentence says so where some are left out).
        progress: whether to show a bar on stderr.

    Raises:
        FwbioError: the record is no recording (see `from_record`), lacks what is to be explained,
            an option is not one of those above, or no rule of those given is a candidate.
    """
    table = {rule.name: rule for rule in _rules(rules)}
    if trials is None:
        trials = affordable(record, table.values())
    recording = (
        record.first(trials)
        if isinstance(record, Recording)
        else from_record(record, trials=trials)
    )
    seen = _observed(recording, observed)
    unit = _unit(recording, seen, scale)
    _check_explained(recording, seen)
    recording, size = _normalised(recording, seen)
    rough: dict[str, Fit] = {}
    refused = []
    done: dict[object, Fit] = {}
    for rule in tqdm(table.values(), desc="rules", disable=not progress):
        try:
            found = model(
                rule, recording, observed=seen, scale=None if unit is None else unit / size
            )
            found = replace(found, scale=1.0 if unit is None else unit / size, divided=size)
            signature = (rule.terms.erase, found.rule.terms, found.unknowns)
            rough[rule.name] = done[signature] = done.get(signature) or fit(found)
        except Refused as reason:
            refused.append(Candidate(rule=rule.name, refused=str(reason)))
    fitted = [rival(table[name], found) for name, found in _refined(rough).items()]
    if not fitted:
        raise FwbioError(
            f"no rule is a candidate: {refused[0].rule}, {refused[0].refused}"
            if refused
            else "there are no rules to choose from",
            where="rules",
            mend="name others, or leave them out for the whole table",
        )
    nothing = fit(_nothing(recording, seen))
    answer = decide(fitted, fit(nothing.model, start=nothing), refused)
    answer = replace(answer, trials=recording.trials, scale="fitted" if unit is None else "known")
    if not recording.left_out:
        return answer
    whole = recording.trials + recording.left_out
    some = "trial was" if recording.trials == 1 else f"{recording.trials} trials were"
    told = f" Only the first {some} fitted, of {whole}: ask for {whole} trials to fit all."
    return replace(answer, sentence=answer.sentence + told)


def affordable(
    record: xr.Dataset | Recording, rules: Rule | str | Iterable[Rule | str] | None = None
) -> int:
    """How many trials some 30 s and a few GiB allow to fit, one at least.

    Args:
        record: as in `identify`.
        rules: the candidates, the whole table unless given.

    Raises:
        FwbioError: the record is none, or a rule is not of the table.
    """
    if isinstance(record, Recording):
        steps, pre, post = record.steps, record.pre, record.post
    else:
        check_dataset(record, "record")
        steps, pre, post = (record.sizes.get(d, 1) for d in ("step", "pre", "post"))
    constants = [_constants(rule, pre, post) for rule in _rules(rules)]
    by_memory = LARGEST // (pre * post * max(constants, default=1))
    by_time = LONGEST // (pre * post * steps * max(sum(constants), 1))
    return max(min(by_memory, by_time), 1)


def _rules(rules: Rule | str | Iterable[Rule | str] | None) -> list[Rule]:
    if rules is None:
        return list(RULES.values())
    several = [rules] if isinstance(rules, Rule) else named("rules", rules)
    return [resolve(rule) for rule in several]


def _constants(rule: Rule, pre: int, post: int) -> int:
    """How many settings a rule's derivatives take, about."""
    terms = rule.terms
    by_pre = (terms.decay == "channel") + (terms.erase == "gate")
    return 4 + by_pre * pre + (terms.write == "channel") * post


def _refined(rough: Mapping[str, Fit]) -> dict[str, Fit]:
    """The fits, those that may be the best with their last digits."""
    best = max((f.log_likelihood for f in rough.values()), default=0.0)
    near = {id(f): f for f in rough.values() if f.log_likelihood > best - NEAR}
    fine = {key: fit(f.model, start=f) for key, f in near.items()}
    return {name: fine.get(id(f), f) for name, f in rough.items()}


def _observed(recording: Recording, observed: str) -> Observed:
    some = recording.weights is not None
    if observed == "auto":
        several = some and len(recording.snapshots) > 1
        return "weights" if several or recording.readout is None else "readout"
    if observed not in {"weights", "readout"}:
        raise FwbioError(
            f"{observed!r} is nothing to explain", where="observed", mend="auto, weights or readout"
        )
    recording.observations("weights" if observed == "weights" else "readout")
    return "weights" if observed == "weights" else "readout"


def _check_explained(recording: Recording, seen: Observed) -> None:
    if seen == "readout" and recording.initial is None:
        raise FwbioError(
            "read-outs do not show the weights that they start from",
            where="readout",
            mend="give `initial_weights`, or start at zero where they were zero",
        )
    if seen == "weights" and recording.initial is None and len(recording.snapshots) < 2:
        raise FwbioError(
            "one snapshot is where the weights start, and none is left to explain",
            where="weights",
            mend="give another, or the weights before the first step as `initial_weights`",
        )


def _unit(recording: Recording, seen: Observed, scale: str) -> float | None:
    if scale not in {"auto", "known", "fitted"}:
        raise FwbioError(f"{scale!r} is no scale", where="scale", mend="auto, known or fitted")
    units = recording.weight_units if seen == "weights" else recording.readout_units
    known = scale == "known" or (scale == "auto" and units == "1")
    return 1.0 if known else None


def _normalised(recording: Recording, seen: Observed) -> tuple[Recording, float]:
    """The recording with observations of size 1, and their size."""
    values = recording.observations(seen)
    size = float(np.sqrt(np.nanmean(np.square(values))))
    size = size if size > 0 else 1.0
    initial = None if recording.initial is None else recording.initial / size
    if seen == "weights":
        return replace(recording, initial=initial, weights=values / size), size
    return replace(recording, initial=initial, readout=values / size), size


def _nothing(recording: Recording, seen: Observed) -> Model:
    """Weights that wander and follow no rule."""
    if recording.keys.ndim == 4:
        recording = replace(
            recording, keys=recording.keys[:, :, 0], values=recording.values[:, :, 0]
        )
    still = model(RULES["hebb"], recording, observed=seen, scale=1.0)
    silent = still.fixed | {"beta": np.zeros((1, 1, still.fixed["key"].shape[2], 1))}
    return replace(still, unknowns=(), gates={}, fixed=silent)
