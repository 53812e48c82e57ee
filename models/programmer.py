"""Programmers: slow nets that turn an episode's raw items into a program.

`designed` codes items analytically; `fwbio.models.slow_net` holds the trained one. Both hand their
codes to `assemble`, which lays them out as the program of a rule.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from fwbio import program
from fwbio.data import constants
from fwbio.errors import FwbioError, unknown_name
from fwbio.rule import VOLLEYS, Rule
from fwbio.rules import resolve

CODINGS = ("on_off", "rates", "plain")


def require_pairs(episode: object) -> None:
    """Refuse what is no episode of pairs.

    Raises:
        FwbioError: it is none.
    """
    found = type(episode).__name__
    if isinstance(episode, xr.Dataset):
        if {"item", "content", "cue"} <= set(episode.data_vars):
            return
        found = f"a dataset of {episode.attrs.get('task', 'no task')!r}"
    raise FwbioError(
        f"{found} shows no pairs",
        where="episode",
        mend="give an episode of a task in fwbio.tasks.PAIR_TASKS",
    )


def designed(
    episode: xr.Dataset,
    rule: Rule | str,
    *,
    coding: str | None = None,
    strength: float = 1.0,
    time_constant: float = 32.0,
    rehearsals: int = 2,
    ridge: float = 1.0,
    threshold: float = 0.01,
) -> xr.Dataset:
    """The program that a hand-made code gives an episode.

        on_off:  k = [max(x - b, 0), max(b - x, 0)] / norm, b the mean training item
        rates:   k = x / norm, for items that are rates already
        plain:   k = x / norm, signed: no synapse can carry it
        value:   v = content - its mean training content

    and for rules of volleys of spikes, k and v over each step's largest, the shares of cells that
    fire. Queries are coded as keys are. Steps that present nothing have key, value and beta 0.

    Args:
        episode: as a task of `fwbio.tasks.PAIR_TASKS` makes it.
        rule: a rule or its name.
        coding: one of the three; the episode's own unless given.
        strength: beta |k|^2 of a write (of `oja`: beta |v|^2), k before a rule's own scaling; of
            rules of volleys beta, of `calcium` beta over the 60 pairings of a protocol.
        time_constant: steps in which the weights decay to 1/e, for rules that decay and have no
            default; by channel, from a quarter of it to four times it.
        rehearsals: writes of the same pair in one step, for rules with substeps.
        ridge: penalty of every channel, for rules that read by least squares.
        threshold: key times error that calcium must pass either way, for rules with thresholds.

    Raises:
        FwbioError: no episode of pairs, an unknown rule or coding, or negative items coded as
            rates.
    """
    rule = resolve(rule)
    require_pairs(episode)
    coding = coding or str(episode.attrs.get("coding"))
    if coding not in CODINGS:
        raise unknown_name(coding, CODINGS, kind="coding", where="designed programmer")
    baseline = episode.item_baseline.values
    key, query = (_code(episode[name].values, baseline, coding) for name in ("item", "cue"))
    writes = episode.writes.values
    key = key * writes[:, None]
    query = query * episode.scored.values[..., None]
    value = (episode.content.values - episode.content_baseline.values) * writes[:, None]
    if rule.terms.plasticity in VOLLEYS:
        key, query, value = _volleys(key), _volleys(query), _volleys(value)
    if rule.terms.plasticity == "calcium":
        strength *= constants("volleys")["pairings"]
    beta = np.broadcast_to(strength * writes, key.shape[:-1])
    if rule.terms.transposed:
        beta = beta / np.where(writes, (value**2).sum(-1), 1)
    gates = _gates(rule, key, value, beta, time_constant)
    if rule.needs("ridge"):
        gates["ridge"] = np.full(key.shape, ridge)
    for name in {"theta_p", "theta_d"} & rule.streams.keys():
        gates[name] = np.full(key.shape[:-1], threshold)
    if rule.terms.write == "exponential":
        gates["log_beta"] = np.full(gates.pop("beta").shape, _logarithm(strength))
    if rule.terms.substeps:
        key, value = (np.repeat(x[..., None, :], rehearsals, axis=-2) for x in (key, value))
        gates["beta"] = np.repeat(beta[..., None], rehearsals, axis=-1)
    return assemble(
        episode,
        rule,
        key=key,
        value=value,
        query=query,
        gates=gates,
        programmer="designed",
        config={
            "coding": coding,
            "strength": strength,
            "time_constant": time_constant,
            "threshold": threshold,
        },
    )


def _gates(
    rule: Rule, key: np.ndarray, value: np.ndarray, beta: np.ndarray, time_constant: float
) -> dict[str, np.ndarray]:
    """A rule's decay, write strength and erase streams, equal for all of its channels but decay."""
    by_channel = np.broadcast_to(beta[..., None], key.shape)
    gates = {"beta": beta}
    if rule.terms.write == "channel":
        gates["beta"] = np.broadcast_to(beta[..., None], value.shape)
    decay = np.zeros((*key.shape[:-1], 1))
    if rule.needs("log_decay"):
        spread = np.geomspace(0.25, 4, key.shape[-1]) if rule.terms.decay == "channel" else 1.0
        decay = np.full((*key.shape[:-1], np.size(spread)), -1 / time_constant) / spread
        gates["log_decay"] = decay[..., 0] if rule.terms.decay == "scalar" else decay
    if rule.needs("erase"):
        gates["erase"] = by_channel
    if rule.needs("erase_direction"):
        # what the key would predict from the weights once they have decayed
        gates |= {"erase_direction": key, "erase_key": np.exp(decay) * by_channel * key}
    elif rule.needs("erase_key"):
        gates["erase_key"] = key
    return gates


def _volleys(codes: np.ndarray) -> np.ndarray:
    """Codes (trial, step, channel) of which the largest of each step is 1."""
    largest = np.abs(codes).max(-1, keepdims=True, initial=0)
    return codes / np.where(largest > 0, largest, 1)


def _logarithm(strength: float) -> float:
    if strength <= 0:
        raise FwbioError(
            f"the strength {strength:g} has no logarithm",
            where="designed programmer",
            mend="give a strength above 0, or another rule",
        )
    return float(np.log(strength))


def assemble(
    episode: xr.Dataset,
    rule: Rule,
    *,
    key: np.ndarray,
    value: np.ndarray,
    query: np.ndarray,
    gates: Mapping[str, np.ndarray],
    programmer: str,
    config: Mapping[str, Any],
) -> xr.Dataset:
    """Lay an episode's codes out as a program, with the targets that its cues ask for.

    Args:
        episode: the episode that was coded.
        rule: the rule to program.
        key: (trial, step, (substep,) pre).
        value: (trial, step, (substep,) post).
        query: (trial, step, pre).
        gates: the rule's other streams by name, as `fwbio.program.make` takes them.
        programmer: the name of what coded it.
        config: its configuration.
    """
    source = episode.source.values
    shown = value[..., -1, :] if rule.terms.substeps else value
    target = np.take_along_axis(shown, np.maximum(source, 0)[..., None], axis=1)
    return program.make(
        rule,
        key,
        value,
        query,
        **gates,
        target=np.where(source[..., None] < 0, 0.0, target),
        scored=episode.scored.values,
        stored=episode.stored.values,
        lag=episode.lag.values,
        programmer=programmer,
        seed=episode.attrs["seed"],
        config={
            "task": episode.attrs["task"],
            "episode": episode.attrs["config"],
            "programmer": dict(config),
        },
    )


def _code(items: np.ndarray, baseline: np.ndarray, coding: str) -> np.ndarray:
    if coding == "on_off":
        contrast = items - baseline
        items = np.concatenate([np.maximum(contrast, 0), np.maximum(-contrast, 0)], axis=-1)
    elif coding == "rates" and (items < 0).any():
        raise FwbioError(
            f"items reach {items.min():g}, and rates can't be negative",
            where="designed programmer, coding 'rates'",
            mend="use the coding 'on_off'",
        )
    norm = np.linalg.norm(items, axis=-1, keepdims=True)
    return items / np.where(norm > 0, norm, 1)
