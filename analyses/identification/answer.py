"""What an identification answers, as plain data."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import xarray as xr

from fwbio.analyses.labels import attributes
from fwbio.errors import unknown_name

Verdict = Literal["identified", "equivalent", "can't tell", "none"]


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One constant of a rule with its 95 % confidence interval.

    Args:
        name: "decay", "beta", "erase", "theta_p", "scale", ...
        value, low, high: the estimate and the ends of its interval, () or (channel,); infinite
            where the data don't determine it.
        units: "1", "steps", or those of the weights.
        determined: whether the data determine it.
    """

    name: str
    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    units: str = "1"
    determined: bool = True


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A rule of the table, fitted.

    Args:
        rule: its name.
        parameters: its constants.
        free: how many of them count: not those that stand where a simpler rule has none.
        log_likelihood: of everything observed.
        bic: n log N - 2 log L, where n is `free`, and one more where the memory has noise of its
            own: less is better.
        explained: the share of the variance of one-step changes that the rule explains: 1 minus the
            mean square of what it fails to predict over that of weights that wander by chance and
            follow no rule, filtered alike.
        explainable: the share that a rule could explain at best: all but noise of observing, by the
            least that the best fits say of it; the same for all candidates.
        residual: root mean square of what it fails to predict over that of what was observed.
        process: the share of that which is noise of the memory's own, not of observing it.
        refused: why the rule is no candidate, or None.
        z: Vuong's statistic against the best candidate, negative where it is worse.
        equivalent: rules that predict the same on these data.
    """

    rule: str
    parameters: tuple[Parameter, ...] = ()
    free: int = 0
    log_likelihood: float = float("nan")
    bic: float = float("nan")
    explained: float = float("nan")
    explainable: float = float("nan")
    residual: float = float("nan")
    process: float = float("nan")
    refused: str | None = None
    z: float = float("nan")
    equivalent: tuple[str, ...] = ()


_NUMBERS = {
    "free": "parameters that count",
    "log_likelihood": "log-likelihood of the observations",
    "bic": "Bayesian information criterion",
    "explained": "share of one-step changes that the rule explains",
    "explainable": "share of one-step changes that is not noise of observing",
    "residual": "unpredicted over observed, root mean squares",
    "process": "share of the unpredicted that is noise of the memory's own",
    "z": "Vuong's z against the best candidate",
}


@dataclass(frozen=True, kw_only=True)
class Identification:
    """Which rules of the table may have made a recording.

    Args:
        observed: what was to be explained.
        candidates: best first, refused ones last.
        rules: the answer: one rule, those that can't be told from it, or none.
        verdict: "identified": one rule; "equivalent": rules that are one rule on such data;
            "can't tell": rules that other data could tell apart; "none" of the table.
        sentence: the answer in words.
        start: what the weights were taken to be before the first step: "zero", "given" (by
            `initial_weights`), or "observed", where they are first seen.
        trials: how many of the recording's trials were fitted, the first ones; 0 where not told.
        lacking: the share of the changes that keys, values and weights of the same steps predict
            and the answer, or the nearest rule, does not; NaN where that can't be said.
        scale: whether the rules' weights were taken to be in the observations' unit, "known", or up
            to a factor.
    """

    observed: Literal["weights", "readout"]
    candidates: tuple[Candidate, ...]
    rules: tuple[str, ...]
    verdict: Verdict
    sentence: str
    start: Literal["zero", "given", "observed"] = "zero"
    trials: int = 0
    scale: Literal["known", "fitted"] = "known"
    lacking: float = float("nan")

    def __getitem__(self, rule: str) -> Candidate:
        """The candidate of that name.

        Raises:
            FwbioError: the rule was none of the candidates.
        """
        for candidate in self.candidates:
            if candidate.rule == rule:
                return candidate
        raise unknown_name(rule, [c.rule for c in self.candidates], kind="rule", where="answer")

    def to_dataset(self) -> xr.Dataset:
        """The candidates as a dataset over `candidate`, and their constants over `parameter`.

        Returns:
            The numbers of `Candidate` by `candidate`, `refused` in words and `answer`, whether the
            rule is one of the answer's; `value`, `low` and `high` by `parameter`, named
            rule.name or rule.name[channel]. All carry units and long_name.
        """
        columns = {
            name: ("candidate", np.array([getattr(c, name) for c in self.candidates], dtype=float))
            for name in _NUMBERS
        }
        dataset = xr.Dataset(columns, coords={"candidate": [c.rule for c in self.candidates]})
        for name, meaning in _NUMBERS.items():
            dataset[name].attrs = attributes(meaning)
        words = [c.refused or "" for c in self.candidates]
        dataset["refused"] = ("candidate", words, attributes("why the rule is no candidate"))
        said = [c.rule in self.rules for c in self.candidates]
        dataset["answer"] = ("candidate", said, attributes("whether the rule is in the answer"))
        rows = [row for c in self.candidates for p in c.parameters for row in _rows(c.rule, p)]
        dataset = dataset.assign_coords(parameter=[row[0] for row in rows])
        for at, (name, meaning) in enumerate(
            (
                ("value", "estimate"),
                ("low", "lower end of its 95 % interval"),
                ("high", "upper end of its 95 % interval"),
            )
        ):
            numbers = np.array([row[1 + at] for row in rows], dtype=float)
            dataset[name] = ("parameter", numbers, attributes(meaning))
        units = [row[4] for row in rows]
        dataset["parameter_units"] = ("parameter", units, attributes("unit of the parameter"))
        dataset["candidate"].attrs = attributes("rule")
        dataset["parameter"].attrs = attributes("constant of a rule")
        dataset.attrs = {
            "observed": self.observed,
            "rules": list(self.rules),
            "verdict": self.verdict,
            "sentence": self.sentence,
            "start": self.start,
            "trials": self.trials,
            "scale": self.scale,
            "lacking": self.lacking,
        }
        return dataset


def _rows(rule: str, parameter: Parameter) -> list[tuple[str, float, float, float, str]]:
    value, low, high = (np.ravel(x) for x in (parameter.value, parameter.low, parameter.high))
    single = np.ndim(parameter.value) == 0
    names = [f"{rule}.{parameter.name}" + ("" if single else f"[{i}]") for i in range(len(value))]
    return [
        (name, float(at), float(lowest), float(highest), parameter.units)
        for name, at, lowest, highest in zip(names, value, low, high, strict=True)
    ]
