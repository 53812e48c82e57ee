"""How often identification is right: recordings of every rule with constants drawn at random."""

from collections.abc import Callable, Iterable, Mapping
from time import process_time
from types import MappingProxyType
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd
import xarray as xr
from tqdm import tqdm

from fwbio import program, reference
from fwbio.analyses.identification.answer import Identification
from fwbio.analyses.identification.identifying import identify
from fwbio.rule import VOLLEYS
from fwbio.rules import RULES

PRE = POST = 16
STEPS = 200
NOISE = 0.05

# Rules that make the same weights of constant gates, and why nothing could tell them apart.
EQUIVALENT: Mapping[frozenset[str], str] = MappingProxyType(
    {
        frozenset({"retnet", "mamba2", "mlstm", "mesa"}): "W <- alpha W + beta k v^T in all of"
        " them: they differ in whether alpha and beta move, which constants don't, and in how the"
        " weights are read (mlstm's keys are shorter by a constant factor, which beta makes up)",
    }
)

RULES_STUDIED = tuple(name for name, rule in RULES.items() if not rule.terms.substeps)


def case(
    rule: str,
    seed: int,
    *,
    pre: int = PRE,
    post: int = POST,
    steps: int = STEPS,
    noise: float = NOISE,
) -> xr.Dataset:
    """A recording of one rule with constants drawn at random, and nothing that gives them away.

    Keys are Gaussian, of length .5 to 1.5, values and queries Gaussian of unit variance; of rules
    of volleys all are shares of cells from 0 to 1. Steps are 40 to 200 ms apart. The constants are

        half-lives of decays (of each channel)            5 to 100 steps, log-uniform
        beta of sums                                      .1 to 2, log-uniform; of calcium 10 to 100
        beta |k|^2 of error correction, |k| at its mean   .2 to 1.2 (explicit), .3 to 3 (solved for)
        erase |k|^2 where it has a gate                   .2 to 1.2, of comba .3 to .8 of its beta
        thresholds                                        the .1 to .5 quantile of |k_i v_j|

    Args:
        rule: a name of `RULES_STUDIED`.
        seed: of everything drawn.
        pre: presynaptic channels.
        post: postsynaptic channels.
        steps: presentations.
        noise: standard deviation of Gaussian noise on the weights, in units of their root mean
            square over the recording.

    Returns:
        `key`, `value`, `query`, `interval` [s] and the noisy `weights` of all steps; the constants
        are in the attribute `truth`, by the names of `Parameter`.
    """
    made, truth, rng = run(rule, seed, pre=pre, post=post, steps=steps)
    seen = noisy(made["weights"].values, noise, rng)
    record = made[["key", "value", "query", "interval"]].assign(
        weights=(("step", "pre", "post"), seen, made["weights"].attrs),
    )
    record.attrs = {"truth": truth, "rule": rule}
    return record


def run(
    rule: str, seed: int, *, pre: int = PRE, post: int = POST, steps: int = STEPS
) -> tuple[xr.Dataset, dict[str, Any], np.random.Generator]:
    """What a rule made of constants drawn at random, as of `case` without noise.

    Args:
        rule: a name of `RULES_STUDIED`.
        seed: of everything drawn.
        pre: presynaptic channels.
        post: postsynaptic channels.
        steps: presentations.

    Returns:
        The reference's record with all weights and with `interval`, the constants, and what else is
        drawn by.
    """
    rng = drawn_by(rule, seed)
    terms = RULES[rule].terms
    volleys = terms.plasticity in VOLLEYS
    key, value, query = presented(rng, volleys=volleys, pre=pre, post=post, steps=steps)
    drawn = _Drawn(rule, rng, key, value)
    streams, truth = drawn.streams()
    interval = 1e-3 * rng.integers(40, 201, steps)
    if "interval" in RULES[rule].streams:
        streams["interval"] = interval
    made = reference.execute(program.make(rule, key, value, query, **streams), weights="all")
    made["interval"] = ("step", interval, {"units": "s", "long_name": "time since the step before"})
    return made, truth, rng


def drawn_by(rule: str, seed: int, *purpose: int) -> np.random.Generator:
    """Random numbers of a rule and a seed, and of a purpose where there are several."""
    return np.random.default_rng([seed, crc32(rule.encode()), *purpose])


def noisy(clean: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    """The same with Gaussian noise, its standard deviation in units of their root mean square."""
    return clean + noise * np.sqrt((clean**2).mean()) * rng.standard_normal(clean.shape)


def presented(
    rng: np.random.Generator, *, pre: int, post: int, steps: int, volleys: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keys (step, pre), values (step, post) and queries (step, pre) as of `case`."""
    if volleys:
        key, query = rng.uniform(0, 1, (2, steps, pre))
        return key, rng.uniform(0, 1, (steps, post)), query
    key, query = rng.standard_normal((2, steps, pre))
    key *= rng.uniform(0.5, 1.5, (steps, 1)) / np.linalg.norm(key, axis=-1, keepdims=True)
    return key, rng.standard_normal((steps, post)), query


class _Drawn:
    """Constants of a rule, stream by stream of its declaration."""

    def __init__(
        self, rule: str, rng: np.random.Generator, key: np.ndarray, value: np.ndarray
    ) -> None:
        self.rule, self.rng, self.key, self.value = rule, rng, key, value
        self.terms = RULES[rule].terms
        corrected = value if self.terms.transposed else key
        self.power = float((corrected**2).sum(-1).mean())
        self.truth: dict[str, Any] = {}

    def streams(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The rule's streams, and the constants behind them by the names that reports use."""
        found = {}
        for name in RULES[self.rule].streams:
            if name in _DRAWS:
                found[name] = _DRAWS[name](self)
        return found, self.truth

    def log_decay(self) -> np.ndarray:
        shape = self.key.shape[-1:] if self.terms.decay == "channel" else ()
        life = np.exp(self.rng.uniform(np.log(5), np.log(100), shape))
        self.truth["decay"] = np.exp(-np.log(2) / life)
        return np.broadcast_to(np.log(self.truth["decay"]), (len(self.key), *shape))

    def beta(self) -> np.ndarray:
        shape = self.value.shape[-1:] if self.terms.write == "channel" else ()
        if self.terms.plasticity in {"calcium", "calcium_control"}:
            low, high, per = 10.0, 100.0, 1.0
        elif self.terms.erase in {"none", "direction"} and self.terms.linear:
            low, high, per = 0.1, 2.0, 1.0
        else:
            low, high = (0.2, 1.2) if self.terms.solve == "explicit" else (0.3, 3.0)
            per = self.power
        beta = np.exp(self.rng.uniform(np.log(low), np.log(high), shape)) / per
        self.truth["beta"] = beta
        return np.broadcast_to(beta, (len(self.key), *shape))

    def log_beta(self) -> np.ndarray:
        return np.log(self.beta())

    def erase(self) -> np.ndarray:
        gate = self.rng.uniform(0.2, 1.2, self.key.shape[-1]) / self.power
        self.truth["erase"] = gate
        return np.broadcast_to(gate, self.key.shape)

    def erase_key(self) -> np.ndarray:
        if self.terms.erase == "erase_key":
            share = self.rng.uniform(0.3, 0.8)
            self.truth["erase"] = share * self.truth["beta"]
            return share * self.key
        self.truth["erase"] = self.rng.uniform(0.2, 1.2) / self.power
        return self.truth["erase"] * self.key

    def erase_direction(self) -> np.ndarray:
        return self.key

    def threshold(self, name: str) -> np.ndarray:
        products = np.abs(self.key[:, :, None] * self.value[:, None, :])
        self.truth[name] = float(np.quantile(products, self.rng.uniform(0.1, 0.5)))
        return np.full(len(self.key), self.truth[name])

    def ridge(self) -> np.ndarray:
        return np.ones(self.key.shape)


_DRAWS: Mapping[str, Callable[[_Drawn], np.ndarray]] = MappingProxyType(
    {
        "log_decay": _Drawn.log_decay,
        "beta": _Drawn.beta,
        "log_beta": _Drawn.log_beta,
        "erase": _Drawn.erase,
        "erase_key": _Drawn.erase_key,
        "erase_direction": _Drawn.erase_direction,
        "ridge": _Drawn.ridge,
        "theta_p": lambda drawn: drawn.threshold("theta_p"),
        "theta_d": lambda drawn: drawn.threshold("theta_d"),
    }
)


def study(
    rules: Iterable[str], seeds: Iterable[int], *, progress: bool = False, **sizes: Any
) -> pd.DataFrame:
    """Identify one recording of each rule and seed.

    Args:
        rules: names of `RULES_STUDIED`.
        seeds: one recording each.
        progress: whether to show a bar on stderr.
        **sizes: of `case`.

    Returns:
        A row a recording: `rule`, `seed`, `answer`, `verdict`; `right`, whether the rule is in the
        answer and all others in it are its equivalents by `EQUIVALENT`; `error`, the largest
        relative error of its constants; `covered`, the share of them within their intervals; and
        `seconds` of one core.
    """
    cases = [(rule, seed) for rule in rules for seed in seeds]
    rows = []
    for rule, seed in tqdm(cases, desc="cases", disable=not progress):
        record = case(rule, seed, **sizes)
        truth = record.attrs.pop("truth")
        start = process_time()
        answer = identify(record.drop_attrs(deep=False))
        seconds = process_time() - start
        rows.append(
            {
                "rule": rule,
                "seed": seed,
                "answer": " ".join(answer.rules),
                "verdict": answer.verdict,
                "right": is_right(rule, answer.rules),
                **_parameters(answer, rule, truth),
                "seconds": seconds,
            }
        )
    return pd.DataFrame(rows)


def is_right(rule: str, answer: Iterable[str]) -> bool:
    """Whether an answer names the rule and nothing but its equivalents."""
    answer = set(answer)
    alike = next((names for names in EQUIVALENT if rule in names), frozenset({rule}))
    return rule in answer and answer <= alike


def _parameters(answer: Identification, rule: str, truth: Mapping[str, Any]) -> dict[str, float]:
    """The largest relative error of a rule's constants, and their share within intervals."""
    errors, inside = [], []
    for parameter in answer[rule].parameters:
        if parameter.name in truth:
            true = np.broadcast_to(truth[parameter.name], parameter.value.shape)
            errors.append(np.max(np.abs(parameter.value / true - 1)))
            inside.append(np.ravel((parameter.low <= true) & (true <= parameter.high)))
    return {"error": float(max(errors)), "covered": float(np.concatenate(inside).mean())}
