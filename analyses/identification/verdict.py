"""Which of the fitted rules the data speak for, and how far they can tell.

1. Rules are ranked by BIC. Close to the best are those that Vuong's test does not call worse, and
   those with fewer constants to which the best adds little: under `WORTH` of the variance, or under
   `LEFT` of what they leave and `MOST` of the variance. Little counts only where the best leaves
   noise of the memory's own (`OWN`): such memories depart from every rule. Where all noise is of
   observing, the test decides but for differences below `EXACT`.
2. The answer is the close rule of fewest determined constants, with those of as many that predict
   the same or that the test does not tell from it.
3. It is none of the rules where the answer is no better than weights that wander by chance, or
   lacks more than `LACKING` of what can be predicted from keys, values and weights
   (`leftover.missed`). Where that can't be said, of read-outs and few observations, it is none
   where it explains less than `ENOUGH` of all but noise of observing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fwbio.analyses.identification.answer import Candidate, Identification, Parameter, Verdict
from fwbio.analyses.identification.fitting import Fit, long_run
from fwbio.analyses.identification.leftover import missed
from fwbio.analyses.identification.unknowns import Model, Unknown
from fwbio.rule import Rule, Terms

DECISIVE = 1.96  # standard errors of a log-likelihood's difference
NORMAL = 1.959964  # of a 95 % confidence interval
SAME = 0.1  # root sum of squared differences in log-likelihood that fitting itself leaves
# Set by eye on a few recordings, no bounds of theory: of synapses with a moderate ceiling or bound,
# which lacked .036 and less, and of foreign rules, which lacked .053 and more (but for decay to a
# baseline and rules that multiply, .006 to .026); read-outs of rules that explained .77 and more.
LACKING, ENOUGH = 0.05, 0.75
WORD = 0.005  # share of the changes that a rule lacks from which on it is said
# Shares that a synapse's departures from its rule may leave for richer rules to pick up: set by eye
# on small recordings of rate and spiking synapses and on read-outs of digits, no bounds of theory.
WORTH, LEFT, MOST = 0.002, 0.2, 0.01
EXACT = 1e-6  # of the variance: what .1 % of the changes adds is no rule's, whatever the noise
ROUNDED = 1e-12  # likewise: of numbers of single precision rounding leaves no more
OWN = 0.1  # share of the unpredicted; chance gives fits to noise of observing less
CHANCE = 0.1  # share of the changes below which answers say that it is next to nothing
BLUR = 0.5  # log-likelihood within which fits are never told apart
NEUTRAL = 1e-6


@dataclass(frozen=True, kw_only=True)
class Rival:
    """A rule's fit, and how rich the rule is on these data.

    Args:
        rule: as the table has it.
        fit: its fit.
        free: the constants, or combinations of them, that the data determine, but for those that
            stand where a simpler rule has none.
        span: the same with those.
    """

    rule: Rule
    fit: Fit
    free: int
    span: int

    @property
    def counted(self) -> int:
        """How many constants were fitted that a likelihood is to pay for, with rho."""
        return self.free + _noisy(self.fit)

    @property
    def name(self) -> str:
        """The rule's name."""
        return self.rule.name


def rival(rule: Rule, fit: Fit) -> Rival:
    """A fit with its constants counted."""
    model = fit.model
    with np.errstate(invalid="ignore"):
        neutral = np.abs(fit.theta - model.each("neutral")) <= NEUTRAL * model.each("typical")
    free = fit.rank(~neutral)
    # a constant that no longer shows, as of a step that replaces all it reads, is one still
    span = max(free + int(neutral.sum()), min(model.size, 1))
    return Rival(rule=rule, fit=fit, free=free, span=span)


def decide(rivals: Sequence[Rival], nothing: Fit, refused: Sequence[Candidate]) -> Identification:
    """The answer that the fits of all rules give together.

    Args:
        rivals: at least one rule, fitted.
        nothing: the fit of weights that wander and follow no rule.
        refused: rules that are no candidates.
    """
    total = float(nothing.counts.sum())
    order = sorted(rivals, key=lambda r: (round(_bic(r, total), 2), r.span))
    best = order[0]
    scores = {r.name: _vuong(r, best, total) for r in order}
    close = [r for r in order if scores[r.name] > -DECISIVE or _worth_little(r, best, nothing)]
    chosen = min(close, key=lambda r: r.span)
    size = chosen.span

    def alike(r: Rival) -> list[Rival]:
        return [o for o in order if _same(o, r) or _one_exactly(o, r, nothing)]

    open_ = [r for r in close if r.span == size and abs(_vuong(r, chosen, total)) < DECISIVE]
    answer = [r for r in order if r in alike(chosen) or r in open_]
    noise = min((1 - f.process) * f.squares.sum() for f in (best.fit, chosen.fit))
    explainable = float(1 - noise / nothing.squares.sum())
    candidates = tuple(
        replace(
            _candidate(r, nothing, total, scores[r.name], [o.name for o in alike(r)]),
            explainable=explainable,
        )
        for r in order
    )
    by_name = {c.rule: c for c in candidates}
    lacking = max(missed(chosen.fit), 0.0) * (1 - by_name[chosen.name].explained)
    verdict = _verdict(chosen, answer)
    if _fails(by_name[chosen.name], lacking):
        verdict, answer = "none", []
    elif _by_chance(chosen, nothing, total):
        few = by_name[chosen.name].explained > max(CHANCE, ENOUGH * explainable)
        verdict, answer = ("can't tell", close) if few and len(close) > 1 else ("none", [])
    return Identification(
        observed=chosen.fit.model.observed,
        candidates=(*candidates, *refused),
        rules=tuple(r.name for r in answer),
        verdict=verdict,
        sentence=_sentence(verdict, by_name, chosen, answer, order, total, lacking),
        start=chosen.fit.model.recording.start,
        lacking=lacking,
    )


def _fails(found: Candidate, lacking: float) -> bool:
    """Whether a rule lacks too much of what can be predicted."""
    if np.isnan(lacking):
        return found.explained < ENOUGH * found.explainable
    return lacking >= LACKING * (found.explained + lacking)


def _by_chance(chosen: Rival, nothing: Fit, total: float) -> bool:
    """Whether the rule is no better than weights that wander."""
    z = _vuong_fits(chosen.fit, nothing, chosen.counted, _noisy(nothing), total)
    return z < DECISIVE


def _verdict(chosen: Rival, answer: Sequence[Rival]) -> Verdict:
    if len(answer) == 1:
        return "identified"
    alike = {_kind(r.rule.terms, chosen.fit.model) for r in answer}
    one = {_unit_kind(r.rule.terms, chosen.fit.model) for r in answer}
    same = len(one) == 1 or all(_same(r, chosen) for r in answer)
    return "equivalent" if len(alike) == 1 and same else "can't tell"


def _kind(terms: Terms, model: Model) -> Terms:
    """What of a rule constant gates and keys of one length can show at all."""
    return replace(
        _unit_kind(terms, model),
        solve="explicit",
        feature="identity" if terms.feature == "scaled" else terms.feature,
    )


def _unit_kind(terms: Terms, model: Model) -> Terms:
    """What of a rule constant gates can show at all."""
    terms = replace(terms, write="channel" if terms.write == "channel" else "scalar")
    if model.observed == "weights":
        terms = replace(terms, normaliser="none", readout="weights")
    if "scale" in model.slices or model.in_their_unit:
        # in an unknown unit, error correction is erasing of a strength of its own
        terms = replace(terms, erase="key" if terms.erase == "erase_key" else terms.erase)
    return terms


def _bic(r: Rival, total: float) -> float:
    return r.counted * np.log(total) - 2 * r.fit.log_likelihood


def _vuong(one: Rival, other: Rival, total: float) -> float:
    if _same(one, other):
        return 0.0
    return _vuong_fits(one.fit, other.fit, one.counted, other.counted, total)


def _vuong_fits(one: Fit, other: Fit, count: int, other_count: int, total: float) -> float:
    """Vuong's statistic with Schwarz' correction, steps hanging together: above 0, `one` is better.

    Source: Vuong 1989, 10.2307/1912557.
    """
    difference = one.parts - other.parts
    gain = difference.sum() - (count - other_count) / 2 * np.log(total)
    centred = difference - difference.mean()
    return float(gain / np.hypot(np.sqrt(long_run(centred[..., None], one.channels)[0, 0]), BLUR))


def _same(one: Rival, other: Rival) -> bool:
    """Whether two rules of as many constants predict the same."""
    if one.span != other.span:
        return False
    return bool(np.sqrt(((one.fit.parts - other.fit.parts) ** 2).sum()) < SAME)


def _one_exactly(one: Rival, other: Rival, nothing: Fit) -> bool:
    """Whether two rules leave nothing but rounding, or next to nothing and are one on such data."""
    if one.span != other.span:
        return False
    kinds = {_unit_kind(r.rule.terms, r.fit.model) for r in (one, other)}
    most = max(r.fit.squares.sum() for r in (one, other)) / nothing.squares.sum()
    return bool(most < (EXACT if len(kinds) == 1 else ROUNDED))


def _worth_little(r: Rival, best: Rival, nothing: Fit) -> bool:
    """Whether a better rule with more constants hardly predicts a memory of own noise any better.

    Such memories depart from every rule by a little, which a richer rule picks up, significantly so
    where the record is long. One that a rule explains but for rounding departs from none.
    """
    if r.span >= best.span:
        return False
    left, total = r.fit.squares.sum(), nothing.squares.sum()
    gained = left - best.fit.squares.sum()
    little = max(WORTH * total, min(LEFT * left, MOST * total))
    if best.fit.process < OWN or best.fit.squares.sum() < EXACT * total:
        little = EXACT * total
    return bool(0 <= gained < little)


def _noisy(fit: Fit) -> int:
    """1 where the memory's own noise was fitted, else 0."""
    return int(fit.rho > 0)


def _candidate(r: Rival, nothing: Fit, total: float, z: float, alike: Sequence[str]) -> Candidate:
    fit = r.fit
    p = fit.squares.sum() / total
    seen = _mean_square(fit)
    return Candidate(
        rule=r.name,
        parameters=parameters(fit),
        free=r.free,
        log_likelihood=fit.log_likelihood,
        bic=float(_bic(r, total)),
        explained=float(1 - fit.squares.sum() / nothing.squares.sum()),
        residual=float(np.sqrt(p / seen)),
        process=fit.process,
        z=z,
        equivalent=tuple(name for name in alike if name != r.name),
    )


def _mean_square(fit: Fit) -> float:
    return float(np.nanmean(np.square(fit.model.recording.observations(fit.model.observed))))


def parameters(fit: Fit) -> tuple[Parameter, ...]:
    """A fit's constants in the rule's own terms, with their confidence intervals."""
    found = []
    for unknown in fit.model.unknowns:
        where = fit.model.slices[unknown.name]
        value = fit.theta[where]
        with np.errstate(invalid="ignore"):
            reach = NORMAL * np.sqrt(np.diag(fit.covariance)[where])
        low, high = np.maximum(value - reach, unknown.low), np.minimum(value + reach, unknown.high)
        known = bool(np.isfinite(reach).all())
        low = np.where(np.isfinite(reach), low, -np.inf)
        high = np.where(np.isfinite(reach), high, np.inf)
        ends, units = [value, low, high], "1"
        if unknown.name == "scale" or (unknown.name == "beta" and fit.model.in_their_unit):
            ends, units = [x * fit.model.divided for x in ends], _units(fit.model)
        if unknown.logarithmic:
            found.append(_parameter(unknown.name, [np.exp(x) for x in ends], unknown, known))
            with np.errstate(divide="ignore"):
                lives = [np.log(2) / np.maximum(-x, 0.0) for x in ends]
            found.append(_parameter("half_life", lives, unknown, known, "steps"))
        else:
            found.append(_parameter(unknown.name, ends, unknown, known, units))
    return tuple(found)


def _units(model: Model) -> str:
    given = model.recording
    return (given.weight_units if model.observed == "weights" else given.readout_units) or "1"


def _parameter(
    name: str, ends: list[np.ndarray], unknown: Unknown, known: bool, units: str = "1"
) -> Parameter:
    value, low, high = (x if unknown.size > 1 else x[0] for x in map(np.asarray, ends))
    return Parameter(
        name=name,
        value=np.asarray(value),
        low=np.asarray(low),
        high=np.asarray(high),
        units=units,
        determined=known,
    )


def _sentence(
    verdict: Verdict,
    candidates: dict[str, Candidate],
    chosen: Rival,
    answer: Sequence[Rival],
    order: Sequence[Rival],
    total: float,
    lacking: float,
) -> str:
    model = chosen.fit.model
    seen = "changes" if model.observed == "weights" else "read-outs"
    if model.observed == "weights" and len(model.recording.snapshots) == 1:
        seen = "only snapshot"

    def share(r: Rival) -> str:
        return _percent(candidates[r.name].explained)

    if verdict == "none":
        return _none(chosen, order[0], candidates, seen, lacking)
    names = [r.name for r in answer]
    if verdict == "can't tell":
        listed = ", ".join(names[:-1]) + f" and {names[-1]}"
        return (
            f"These data can't tell {listed} apart: each explains {share(chosen)} of the {seen}."
            f" What would: {_telling([r.rule.terms for r in answer], model)}."
        )
    richer = _richer(chosen, candidates, order, total)
    if verdict == "equivalent":
        listed = ", ".join(names[:-1]) + f" or {names[-1]}"
        told = f"It is {listed}, which are one rule on such data and explain {share(chosen)} of the"
        told += f" {seen}"
    else:
        told = f"It is {chosen.name}, which explains {share(chosen)} of the {seen}"
        others = [r for r in order if r is not chosen and r.span <= chosen.span]
        if others:
            told += f"; of the others with as few constants the nearest, {others[0].name}, explains"
            told += f" {share(others[0])}"
    if richer is not None:
        told += f". It suffices, but {richer.name}, which has more constants and explains"
        told += f" {share(richer)}, can't be excluded"
    lost = [
        p.name
        for p in candidates[chosen.name].parameters
        if not p.determined and p.name != "half_life"
    ]
    if verdict == "identified" and lost:
        told += f". These data don't determine its {' and '.join(lost)}"
    return f"{told}{_left(candidates[chosen.name], lacking)}."


def _left(found: Candidate, lacking: float) -> str:
    """What the answer leaves, where that is much."""
    if lacking >= WORD:
        return (
            f". Another {_percent(lacking)} follow from keys, values and weights in a way that the"
            " rule lacks"
        )
    if found.explained < ENOUGH * found.explainable:
        return ". Most of the rest is noise of the memory's own, or of what was not recorded"
    return ""


def _none(
    chosen: Rival, best: Rival, candidates: dict[str, Candidate], seen: str, lacking: float
) -> str:
    found, other = candidates[chosen.name], candidates[best.name]
    told = f"None of the rules: the nearest, {chosen.name}, explains {_percent(found.explained)}"
    told += f" of the {seen}"
    if other.explained > found.explained + MOST:
        told += f", and {best.name}, which has more constants, {_percent(other.explained)}"
    if lacking >= WORD:
        return (
            f"{told}; another {_percent(lacking)} follow from keys, values and weights otherwise."
        )
    if found.explained >= CHANCE:
        return f"{told}; at most {_percent(found.explainable)} are not noise of observing."
    given = chosen.fit.model
    if given.observed == "weights" and given.recording.start == "zero":
        told += " (if weights started at zero; else start where they were observed)"
    return f"{told}: hardly more than weights that change by chance."


def _richer(
    chosen: Rival, candidates: dict[str, Candidate], order: Sequence[Rival], total: float
) -> Rival | None:
    """The best rule of more constants that predicts better and that the test doesn't exclude."""
    better = candidates[chosen.name].explained + WORTH
    open_ = (
        r
        for r in order
        if r.span > chosen.span
        and candidates[r.name].explained > better
        and _vuong(r, chosen, total) > -DECISIVE
    )
    return next(open_, None)


def _percent(share: float) -> str:
    """A share in percent, near 100 with the digits that tell it from all."""
    left = 1 - max(share, 0.0)
    if EXACT < left < 1e-4:
        return "over 99.99 %"
    return (
        f"{100 * (1 - left):.{0 if left > 0.05 or left <= EXACT else 1 if left > 1e-3 else 2}f} %"
    )


def _telling(terms: Sequence[Terms], model: Model) -> str:
    """What recording would tell rules apart, by the terms in which they differ."""
    given = model.recording
    ways: dict[str, set] = {
        "keys that overlap and come again": {(t.erase, t.transposed, t.decay) for t in terms},
        "keys of different lengths": {(t.solve, t.feature) for t in terms}
        if _of_one_length(given.keys)
        else set(),
        "values of different sizes, and steps closer in time": {t.plasticity for t in terms},
    }
    if model.observed == "readout":
        divided = {(t.normaliser, t.readout) for t in terms}
        ways["the unit that the read-outs are in"] = divided if not model.in_their_unit else set()
        ways["queries of different lengths"] = (
            divided if given.queries is not None and _of_one_length(given.queries) else set()
        )
    found = [way for way, kinds in ways.items() if len(kinds) > 1]
    return "; ".join([*found, "more steps"])


def _of_one_length(x: np.ndarray) -> bool:
    """Whether all that is not zero is of one length."""
    length = np.linalg.norm(x, axis=-1)
    length = length[length > 0]
    return bool(length.size == 0 or np.ptp(length) < 1e-3 * length.max())
