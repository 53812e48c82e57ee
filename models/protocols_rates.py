"""Protocols of plasticity between rate cells, and what their datasets are made of."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from fwbio.models.plasticity_rates import BCM, Covariance, DendriticError, Oja, simulate

_STEP = 0.1  # s, of a presentation


def bcm(seed: int = 0, progress: bool = False) -> xr.Dataset:
    """A cell with a sliding threshold becomes selective to one of five patterns.

    Args:
        seed: of the patterns, their order and the weights.
        progress: whether to show a bar.

    Source: Bienenstock, Cooper & Munro 1982, 10.1523/JNEUROSCI.02-01-00032.1.
    """
    rng, model, count, cells = np.random.default_rng(seed), BCM(), 5, 24
    patterns = np.linalg.qr(rng.normal(size=(count, count)))[0]
    patterns = patterns + 0.1 * rng.normal(size=(count, count))
    patterns /= np.linalg.norm(patterns, axis=1, keepdims=True)
    shown = patterns[rng.integers(count, size=(30_000, cells))]
    start = np.linalg.solve(patterns, np.ones(count)) + 0.1 * rng.normal(size=(cells, count))
    course = simulate(
        model, shown, start, duration=_STEP, dt=_STEP, every=300, seed=seed, progress=progress
    )
    response = course.weights @ patterns.T
    ranked = np.sort(response, axis=-1)[..., ::-1]
    selectivity = 1 - response.mean(-1) / response.max(-1)
    rates, thresholds = np.linspace(0, 2.5, 26), np.array([0.5, 1.0, 2.0])
    changes, expected = _phi(model, rates, thresholds, seed)
    ranks = ["selected", *(f"other {n}" for n in range(1, count))]
    ends = np.where(np.arange(count) == 0, model.response(1 / count), 0.0)
    return dataset(
        {
            "change": (("threshold", "rate"), changes, "change of the weight, by eta x"),
            "change_expected": (("threshold", "rate"), expected, ""),
            "response": (("pattern", "time"), ranked.mean(1).T, "response, mean of 24 cells"),
            "response_expected": (("pattern", "time"), along(ends, course.times), ""),
            "selectivity": (("time",), selectivity.mean(1), "selectivity, 1 - mean / largest"),
            "selectivity_se": (("time",), standard_error(selectivity, 1), ""),
            "selectivity_expected": (("time",), along(1 - 1 / count, course.times), ""),
        },
        {
            "threshold": [f"threshold {theta:g}" for theta in thresholds],
            "rate": axis(rates, "postsynaptic rate"),
            "pattern": ranks,
            "time": axis(course.times, "time", "s"),
        },
        title="BCM: a threshold that slides with the squared rate",
        claim="From near the fixed point that responds to all five patterns, which is not stable,"
        " every cell comes to respond to one, with 1 / p = 5, and hardly to the others:"
        f" in the end {ranked[-1, :, 0].mean():.2f} and at most"
        f" {np.abs(ranked[-1, :, 1:]).max():.2f}. Closed forms are the fixed point, not the way.",
        source="Bienenstock, Cooper & Munro 1982, 10.1523/JNEUROSCI.02-01-00032.1;"
        " Intrator & Cooper 1992, 10.1016/S0893-6080(05)80003-6 (recalled)",
        seed=seed,
    )


def _phi(
    model: BCM, rates: np.ndarray, thresholds: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """One step's change of weights at given rates and thresholds, simulated and expected."""
    y, theta = (grid.ravel() for grid in np.meshgrid(rates, thresholds))
    course = simulate(
        model,
        np.ones((1, len(y), 1)),
        y[:, None],
        duration=_STEP,
        dt=_STEP,
        seed=seed,
        inputs={"theta": theta[None]},
    )
    moved = (course.weights[-1, :, 0] - y) / (model.eta * _STEP)
    shape = (len(thresholds), len(rates))
    return moved.reshape(shape), model.change(y, theta).reshape(shape)


def covariance(seed: int = 0, progress: bool = False) -> xr.Dataset:
    """Weights drift by the covariance of both rates, and depress where they part.

    Args:
        seed: of the rates.
        progress: whether to show a bar.

    Source: Sejnowski 1977, 10.1007/BF00275079 (recalled).
    """
    rng, cells = np.random.default_rng(seed), 60
    # too slow for the weights to bring anything that the teaching input doesn't
    model = Covariance(eta=1e-9, tau_mean=2.0)
    covariances = np.linspace(-0.9, 0.9, 7)
    x, noise = rng.normal(size=(2, 2100, len(covariances), cells))
    y = covariances[:, None] * x + np.sqrt(1 - covariances[:, None] ** 2) * noise
    course = simulate(
        model,
        2 + x.reshape(2100, -1, 1),
        np.zeros((x[0].size, 1)),
        duration=_STEP,
        dt=_STEP,
        every=300,
        seed=seed,
        inputs={"teach": 2 + y.reshape(2100, -1)},
        progress=progress,
    )
    spent = course.times[-1] - course.times[1]
    drift = (course.weights[-1] - course.weights[1]).reshape(x.shape[1:]) / (model.eta * spent)
    states, rates = {"input above its mean": 1.5, "input below its mean": 0.5}, np.linspace(0, 2, 9)
    changes, expected = _quadrants(model, list(states.values()), rates, seed)
    return dataset(
        {
            "change": (("input", "rate"), changes, "change of the weight, by eta"),
            "change_expected": (("input", "rate"), expected, ""),
            "drift": (("covariance",), drift.mean(1), "mean drift of the weight, by eta"),
            "drift_se": (("covariance",), standard_error(drift, 1), ""),
            "drift_expected": (("covariance",), model.drift(covariances, _STEP) / model.eta, ""),
        },
        {
            "input": list(states),
            "rate": axis(rates, "postsynaptic rate, its mean being 1"),
            "covariance": axis(covariances, "covariance of both rates"),
        },
        title="The covariance rule",
        claim="The mean drift is eta times the covariance, none where the rates have nothing to do"
        " with each other; an active input to a cell below its mean depresses, and so does a"
        " silent one to a cell above it.",
        source="Sejnowski 1977, 10.1007/BF00275079 (recalled)",
        seed=seed,
    )


def _quadrants(
    model: Covariance, inputs: Sequence[float], rates: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """A presentation's change after both averages have settled at 1, simulated and expected."""
    x, y = (grid.ravel() for grid in np.meshgrid(inputs, rates, indexing="ij"))
    settled = np.ones((400, len(x)))
    course = simulate(
        model,
        np.vstack([settled, x])[..., None],
        np.zeros((len(x), 1)),
        duration=_STEP,
        dt=_STEP,
        every=400,
        seed=seed,
        inputs={"teach": np.vstack([settled, y])},
    )
    moved = (course.weights[-1] - course.weights[1])[:, 0] / (model.eta * _STEP)
    shape = (len(inputs), len(rates))
    return moved.reshape(shape), ((x - 1) * (y - 1)).reshape(shape)


def oja(seed: int = 0, progress: bool = False) -> xr.Dataset:
    """Weights turn to the first principal component of their inputs, and to norm 1.

    Args:
        seed: of the inputs.
        progress: whether to show a bar.

    Source: Oja 1982, 10.1007/BF00275687.
    """
    rng, model, cells = np.random.default_rng(seed), Oja(), 32
    axes = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    mixing = axes * np.sqrt([3.0, 1.0, 0.6, 0.3, 0.1])
    start = axes @ np.array([0.03, 0.15, 0.15, 0.15, 0.15])
    course = simulate(
        model,
        rng.normal(size=(4000, cells, 5)) @ mixing.T,
        np.tile(start, (cells, 1)),
        duration=_STEP,
        dt=_STEP,
        every=40,
        seed=seed,
        progress=progress,
    )
    flow = model.expected(mixing @ mixing.T, start, course.times)
    norm, cosine = _direction(course.weights, axes[:, 0])
    expected_norm, expected_cosine = _direction(flow, axes[:, 0])
    starts = np.array([0.1, 0.7, 1.8, -0.4])
    one = simulate(
        model, np.ones((5000, 4, 1)), starts[:, None], duration=_STEP, dt=_STEP, every=50, seed=seed
    )
    alone = [model.expected(np.ones((1, 1)), w[None], one.times)[:, 0] for w in starts]
    return dataset(
        {
            "norm": (("time",), norm.mean(1), "norm of the weights, mean of 32 cells"),
            "norm_se": (("time",), standard_error(norm, 1), ""),
            "norm_expected": (("time",), expected_norm, ""),
            "cosine": (("time",), cosine.mean(1), "cosine with the first component"),
            "cosine_se": (("time",), standard_error(cosine, 1), ""),
            "cosine_expected": (("time",), expected_cosine, ""),
            "weight": (("start", "moment"), one.weights[..., 0].T, "weight of a single input"),
            "weight_expected": (("start", "moment"), np.array(alone), ""),
        },
        {
            "time": axis(course.times, "time", "s"),
            "start": [f"from {w:g}" for w in starts],
            "moment": axis(one.times, "time", "s"),
        },
        title="Oja's rule: the first principal component, at norm 1",
        claim="The weights turn to the first principal component and their norm to 1, near the"
        f" exact course of the averaged flow; in the end the norm is {norm[-1].mean():.3f}, the"
        f" cosine {cosine[-1].mean():.3f}. A single constant input's weight goes to 1 or -1.",
        source="Oja 1982, 10.1007/BF00275687",
        seed=seed,
    )


def _direction(weights: np.ndarray, axis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Norms of weights (..., input), and the cosines of their angles with an axis."""
    norm = np.linalg.norm(weights, axis=-1)
    return norm, np.abs(weights @ axis) / norm


def dendritic_error(seed: int = 0, progress: bool = False) -> xr.Dataset:
    """A dendrite learns to predict its soma, and rests when nothing nudges the soma.

    Args:
        seed: of the engine; nothing is drawn.
        progress: whether to show a bar.

    Source: Urbanczik & Senn 2014, 10.1016/j.neuron.2013.11.030 (recalled).
    """
    linear, sigmoid = DendriticError(phi="linear"), DendriticError(eta=60.0)
    targets, nudge, power, length = np.array([0.5, 0.8, 1.2]), 900.0, 1.0, 4.8e-3
    taught, alone = 175, 75
    runs = {}
    for model in (linear, sigmoid):
        given = [np.tile(g, (taught + alone, 1)) for g in model.conductances(targets, nudge)]
        for values in given:
            values[taught:] = 0
        runs[model.phi] = simulate(
            model,
            np.tile(np.sqrt([0.64 * power, 0.36 * power]), (taught + alone, 3, 1)),
            np.zeros((3, 2)),
            duration=length,
            dt=8e-5,
            every=4,
            seed=seed,
            inputs=dict(zip(("g_exc", "g_inh"), given, strict=True)),
            watch=("V_star",),
            progress=progress,
        )
    times = runs["linear"].times
    held = np.minimum(times, taught * length)
    closed = [linear.expected(target, nudge, power, held) for target in targets]
    learned = sigmoid.rate(runs["sigmoid"].cell["V_star"])
    return dataset(
        {
            "potential": (
                ("target", "time"),
                runs["linear"].cell["V_star"].T,
                "the dendrite's prediction V*, linear",
            ),
            "potential_expected": (("target", "time"), np.array(closed), ""),
            "rate": (("target", "time"), learned.T, "rate that the dendrite predicts, sigmoid"),
            "rate_expected": (("target", "time"), along(sigmoid.rate(targets), times), ""),
        },
        {
            "target": [f"target {target:g}" for target in targets],
            "time": axis(times, "time", "s"),
        },
        title="The dendrite's prediction of its soma",
        claim=f"The prediction comes to be the target's, and stays when nudging ends at"
        f" {taught * length:g} s. With a linear rate it is the delta rule on its exact course; with"
        " a sigmoid the grey lines are its targets.",
        source="Urbanczik & Senn 2014, 10.1016/j.neuron.2013.11.030 (recalled; rates in place of"
        " its spikes)",
        seed=seed,
    )


def standard_error(samples: np.ndarray, axis: int) -> np.ndarray:
    """The standard error of a mean along an axis."""
    return samples.std(axis, ddof=1) / np.sqrt(samples.shape[axis])


def along(levels: Any, times: np.ndarray) -> np.ndarray:
    """Constant levels (..,) as lines (.., time)."""
    return np.multiply.outer(np.asarray(levels, dtype=float), np.ones(len(times)))


def axis(values: np.ndarray, name: str, units: str = "1", **attrs: str) -> dict[str, Any]:
    """A numeric axis of a panel: its values, and its name and unit for the figure."""
    return {"data": values, "attrs": {"long_name": name, "units": units, **attrs}}


def dataset(
    variables: Mapping[str, tuple[tuple[str, ...], np.ndarray, str]],
    axes: Mapping[str, Any],
    *,
    log: tuple[str, ...] = (),
    **attrs: Any,
) -> xr.Dataset:
    """A protocol's dataset: dimensionless variables over axes, those in `log` on log scales."""
    coords = {
        name: (name, axis["data"], axis["attrs"]) if isinstance(axis, dict) else list(axis)
        for name, axis in axes.items()
    }
    found = {}
    for name, (dims, values, words) in variables.items():
        scale = {"scale": "log"} if name in log else {}
        found[name] = (dims, values, {"units": "1", "long_name": words, **scale})
    return xr.Dataset(found, coords=coords, attrs=attrs)
