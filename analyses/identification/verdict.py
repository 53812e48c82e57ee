"""Which of the fitted rules the data speak for, and how far they can tell."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fwbio.analyses.identification.answer import Candidate, Identification, Parameter, Verdict
from fwbio.analyses.identification.fitting import Fit, long_run
from fwbio.analyses.identification.unknowns import Model, Unknown
from fwbio.rule import Rule, Terms

DECISIVE = 1.96  # standard errors of a log-likelihood's difference
NORMAL = 1.959964  # of a 95 % confidence interval
SAME = 0.1  # root sum of squared differences in log-likelihood that fitting itself leaves
EXPLAINS = 0.1  # share of the changes that the worst rule of the table explains, if one does
WORTH = 0.002  # share of the changes that a richer rule of a noisy memory must explain beyond
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
    def name(self) -> str:
        """The rule's name."""
        return self.rule.name


def rival(rule: Rule, fit: Fit) -> Rival:
    """A fit with its constants counted."""
    model = fit.model
    with np.errstate(invalid="ignore"):
        neutral = np.abs(fit.theta - model.each("neutral")) <= NEUTRAL * model.each("typical")
    free = fit.rank(~neutral)
    return Rival(rule=rule, fit=fit, free=free, span=free + int(neutral.sum()))


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
    alike = [r for r in order if r.span == size and _same(r, chosen)]
    open_ = [r for r in close if r.span == size and abs(_vuong(r, chosen, total)) < DECISIVE]
    answer = [r for r in order if r in alike or r in open_]
    candidates = tuple(
        _candidate(r, nothing, total, scores[r.name], [o.name for o in order if _same(o, r)])
        for r in order
    )
    by_name = {c.rule: c for c in candidates}
    verdict: Verdict
    names: tuple[str, ...]
    if _vuong_fits(chosen.fit, nothing, chosen.free, 0, total) < DECISIVE or (
        by_name[chosen.name].explained < EXPLAINS
    ):
        verdict, names = "none", ()
    else:
        names = tuple(r.name for r in answer)
        verdict = _verdict(chosen, answer)
    return Identification(
        observed=chosen.fit.model.observed,
        candidates=(*candidates, *refused),
        rules=names,
        verdict=verdict,
        sentence=_sentence(verdict, by_name, chosen, answer, order),
    )


def _verdict(chosen: Rival, answer: Sequence[Rival]) -> Verdict:
    if len(answer) == 1:
        return "identified"
    kinds = {_kind(r.rule.terms, chosen.fit.model) for r in answer}
    return (
        "equivalent" if len(kinds) == 1 and all(_same(r, chosen) for r in answer) else "can't tell"
    )


def _kind(terms: Terms, model: Model) -> Terms:
    """What of a rule constant gates and keys of one length can show at all."""
    terms = replace(
        terms,
        write="channel" if terms.write == "channel" else "scalar",
        solve="explicit",
        feature="identity" if terms.feature == "scaled" else terms.feature,
    )
    if model.observed == "weights":
        terms = replace(terms, normaliser="none", readout="weights")
    if "scale" in model.slices or model.in_their_unit:
        # in an unknown unit, error correction is erasing of a strength of its own
        terms = replace(terms, erase="key" if terms.erase == "erase_key" else terms.erase)
    return terms


def _bic(r: Rival, total: float) -> float:
    return r.free * np.log(total) - 2 * r.fit.log_likelihood


def _vuong(one: Rival, other: Rival, total: float) -> float:
    return (
        0.0 if _same(one, other) else _vuong_fits(one.fit, other.fit, one.free, other.free, total)
    )


def _vuong_fits(one: Fit, other: Fit, free: int, other_free: int, total: float) -> float:
    """Vuong's statistic with Schwarz' correction, steps hanging together: above 0, `one` is better.

    Source: Vuong 1989, 10.2307/1912557.
    """
    difference = one.parts - other.parts
    gain = difference.sum() - (free - other_free) / 2 * np.log(total)
    centred = difference - difference.mean()
    return float(gain / np.hypot(np.sqrt(long_run(centred[..., None])[0, 0]), BLUR))


def _same(one: Rival, other: Rival) -> bool:
    """Whether two rules of as many constants predict the same."""
    if one.span != other.span:
        return False
    return bool(np.sqrt(((one.fit.parts - other.fit.parts) ** 2).sum()) < SAME)


def _worth_little(r: Rival, best: Rival, nothing: Fit) -> bool:
    """Whether a better rule with more constants hardly predicts a noisy memory any better.

    Synapses depart from every rule by a little (on spiking ones, what is read back is off by a few
    percent), which a richer rule picks up, significantly so where the record is long. A memory is
    noisy if even the better rule leaves noise of its own.
    """
    if best.fit.rho == 0 or r.span >= best.span:
        return False
    gained = (r.fit.squares.sum() - best.fit.squares.sum()) / nothing.squares.sum()
    return bool(gained < WORTH)


def _candidate(r: Rival, nothing: Fit, total: float, z: float, alike: Sequence[str]) -> Candidate:
    fit = r.fit
    p = fit.squares.sum() / total
    seen = _mean_square(fit)
    process = 1 - fit.variance * total / fit.squares.sum() if fit.squares.sum() > 0 else 0.0
    return Candidate(
        rule=r.name,
        parameters=parameters(fit),
        free=r.free,
        log_likelihood=fit.log_likelihood,
        bic=float(_bic(r, total)),
        explained=float(1 - fit.squares.sum() / nothing.squares.sum()),
        residual=float(np.sqrt(p / seen)),
        process=float(np.clip(process, 0, 1)),
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
        ends = [value, low, high]
        if unknown.name == "scale" or (unknown.name == "beta" and fit.model.in_their_unit):
            ends = [x * fit.model.divided for x in ends]
        if unknown.logarithmic:
            found.append(_parameter(unknown.name, [np.exp(x) for x in ends], unknown, known))
            with np.errstate(divide="ignore"):
                lives = [np.log(2) / np.maximum(-x, 0.0) for x in ends]
            found.append(_parameter("half_life", lives, unknown, known, "steps"))
        else:
            found.append(_parameter(unknown.name, ends, unknown, known))
    return tuple(found)


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
) -> str:
    seen = "changes" if chosen.fit.model.observed == "weights" else "read-outs"

    def share(r: Rival) -> str:
        return f"{100 * max(candidates[r.name].explained, 0):.0f} %"

    if verdict == "none":
        return (
            f"None of the rules: the nearest, {chosen.name}, explains {share(chosen)} of the"
            f" {seen}, hardly more than weights that change by chance."
        )
    if verdict == "identified":
        others = [r for r in order if r is not chosen and r.span <= chosen.span]
        beaten = (
            f"; of the others with as few constants the nearest, {others[0].name}, explains"
            f" {share(others[0])}"
            if others
            else ""
        )
        return f"It is {chosen.name}, which explains {share(chosen)} of the {seen}{beaten}."
    names = [r.name for r in answer]
    listed = ", ".join(names[:-1]) + f" or {names[-1]}"
    if verdict == "equivalent":
        return (
            f"It is {listed}, which are one rule on such data and explain {share(chosen)} of the"
            f" {seen}."
        )
    return (
        f"These data can't tell {listed} apart: each explains {share(chosen)} of the {seen}. What"
        f" would: {_telling([r.rule.terms for r in answer])}."
    )


def _telling(terms: Sequence[Terms]) -> str:
    """What recording would tell rules apart, by the terms in which they differ."""
    ways: dict[str, set] = {
        "keys that overlap and come again": {(t.erase, t.transposed, t.decay) for t in terms},
        "keys of different lengths": {(t.solve, t.feature) for t in terms},
        "values of different sizes, and steps closer in time": {t.plasticity for t in terms},
        "queries of different lengths": {(t.normaliser, t.readout) for t in terms},
    }
    found = [way for way, kinds in ways.items() if len(kinds) > 1]
    return "; ".join([*found, "more steps"])
