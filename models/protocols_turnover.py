"""Protocols of short-term plasticity and of turnover."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import brian2 as b2
import numpy as np
import xarray as xr
from scipy import stats
from tqdm import tqdm

from fwbio.models.protocols_rates import axis, dataset, standard_error
from fwbio.models.short_term import PRESETS as SHORT_TERM
from fwbio.models.short_term import ShortTerm
from fwbio.models.simulation import engine
from fwbio.models.time_scales import PRESETS
from fwbio.models.turnover import SHAPES, Kesten, Turnover, heterogeneous_rates, mean_decay

_DAY = 86400.0


def tsodyks_markram(seed: int = 0, progress: bool = False) -> xr.Dataset:
    """Releases in a train, in its steady state and to Poisson spikes, of five synapses.

    Args:
        seed: of the Poisson spikes.
        progress: whether to show a bar.

    Source: Markram, Wang & Tsodyks 1998, 10.1073/pnas.95.9.5323 (recalled).
    """
    models = [ShortTerm.preset(name) for name in SHORT_TERM]
    spikes, gap = np.arange(1, 11), 0.05
    rates, intervals = np.array([1.0, 2, 5, 10, 20, 50]), np.array([0.01, 0.03, 0.1, 0.3, 1.0, 3.0])
    trains = [gap * np.arange(1, n + 1) for n in spikes]
    regular = [np.arange(1, round(25 * rate) + 1) / rate for rate in rates]
    pairs = [np.array([0.1, 0.1 + interval]) for interval in intervals]
    last = _last_releases(models, [*trains, *regular, *pairs], progress)
    train, steady, pair = np.split(last, np.cumsum([len(trains), len(regular)]), axis=1)
    mean, error = _poisson_releases(models, rates, seed, progress)
    first = np.array([[model.use] for model in models])
    dense = np.geomspace(rates[0], rates[-1], 80)
    moments = np.array([[model.poisson(rate)["release"] for rate in rates] for model in models])
    field = np.array([model.mean_field(rates)["release"] for model in models])
    apart = np.abs(field / moments - 1).max()

    def each(of: Any) -> np.ndarray:
        return np.array([of(model) for model in models])

    found = dataset(
        {
            "train": (("synapse", "spike"), train / first, "release, by the first"),
            "train_expected": (
                ("synapse", "spike"),
                each(lambda model: model.train(trains[-1])["release"]) / first,
                "",
            ),
            "pair": (("synapse", "interval"), pair / first, "second release, by the first"),
            "pair_expected": (
                ("synapse", "interval"),
                each(lambda model: model.paired_pulse(intervals)),
                "",
            ),
            "steady": (("synapse", "rate"), steady, "release, steady regular train"),
            "steady_expected": (
                ("synapse", "rate_expected"),
                each(lambda model: model.steady(dense)["release"]),
                "",
            ),
            "poisson": (("synapse", "rate"), mean, "mean release, Poisson spikes"),
            "poisson_se": (("synapse", "rate"), error, ""),
            "poisson_expected": (
                ("synapse", "rate_expected"),
                each(lambda model: model.mean_field(dense)["release"]),
                "",
            ),
        },
        {
            "synapse": [name.replace("_", " ") for name in SHORT_TERM],
            "spike": axis(spikes, "spike of a train of 20 Hz"),
            "interval": axis(intervals, "interval", "s", scale="log"),
            "rate": axis(rates, "presynaptic rate", "Hz", scale="log"),
            "rate_expected": axis(dense, "presynaptic rate", "Hz", scale="log"),
        },
        title="Short-term plasticity",
        claim="Releases depress or facilitate as their recursion has it. To Poisson spikes the"
        " closed form is the mean field, exact for depression alone; elsewhere it is at most"
        f" {apart:.1%} off the moments, since u and x have seen the same intervals.",
        source="Markram, Wang & Tsodyks 1998, 10.1073/pnas.95.9.5323 (recalled); Mongillo 2008,"
        " 10.1126/science.1150769 (recalled)",
        seed=seed,
    )
    found["poisson_expected"].attrs["label"] = "mean field"
    return found


def _last_releases(
    models: Sequence[ShortTerm], trains: Sequence[np.ndarray], progress: bool
) -> np.ndarray:
    """What the last spike of each train releases (model, train)."""
    dt, cells = 1e-3, np.arange(len(trains))
    with engine("numpy", dt, 0):
        source = b2.SpikeGeneratorGroup(
            len(trains),
            np.repeat(cells, [len(times) for times in trains]),
            np.rint(np.concatenate(trains) / dt) * dt * b2.second,
            name="trains",
        )
        target = b2.NeuronGroup(1, "", name="train_target")
        made = [
            model.synapse().connect(source, target, cells, 0 * cells, name=f"synapses_{k}")
            for k, model in enumerate(models)
        ]
        _run([source, target, *made], max(times[-1] for times in trains) + dt, progress)
        return np.array([synapses.release[:] for synapses in made])


def _poisson_releases(
    models: Sequence[ShortTerm], rates: np.ndarray, seed: int, progress: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Mean release of a Poisson spike (model, rate) once settled, and its error over cells."""
    dt, settle, seconds, cells = 1e-3, 8.0, 8.0, 60
    index = np.arange(len(rates) * cells)
    with engine("numpy", dt, seed):
        source = b2.PoissonGroup(len(index), np.repeat(rates, cells) * b2.Hz, name="poisson")
        target = b2.NeuronGroup(1, "", name="poisson_target")
        made = []
        for k, model in enumerate(models):
            part = model.synapse()
            counted = "\ntotal += release * int(t > settle)\ncount += int(t > settle)"
            part = replace(
                part,
                equations=f"{part.equations}\ntotal : 1\ncount : 1",
                on_pre={"pre": part.on_pre["pre"] + counted},
                namespace={**part.namespace, "settle": settle * b2.second},
            )
            made.append(part.connect(source, target, index, 0 * index, name=f"synapses_{k}"))
        _run([source, target, *made], settle + seconds, progress)
        sums = np.array([[part.total[:], part.count[:]] for part in made])
    total, count = sums.reshape(len(models), 2, len(rates), cells).swapaxes(0, 1)
    mean = total.sum(-1) / count.sum(-1)
    away = (total - mean[..., None] * count) / count.mean(-1, keepdims=True)
    return mean, standard_error(away, -1)


def turnover(seed: int = 0, progress: bool = False) -> xr.Dataset:
    """What is left of weights: by process, by the spread of their rates, and by fluctuations.

    Args:
        seed: of rates and noise.
        progress: whether to show a bar.

    Source: Cohen 2013, 10.1371/journal.pone.0063191; Kesten 1973, 10.1007/BF02392040 (recalled).
    """
    rng = np.random.default_rng(seed)
    elapsed = np.geomspace(1e-3, 100 * _DAY, 45)
    taus = {name: float(np.sqrt(scale.low * scale.high)) for name, scale in PRESETS.items()}
    left = np.array(
        [_decayed(Turnover(tau=tau, preset=name), elapsed / tau) for name, tau in taus.items()]
    )
    tau, cv, days = taus["protein_turnover"], 1.0, np.linspace(1, 60, 30)
    spread = {shape: heterogeneous_rates(rng, 1 / tau, cv, shape, 2000) for shape in SHAPES}
    each = np.array(
        [
            _decayed(
                Turnover(tau=tau, preset="protein_turnover"), np.outer(rates, days * _DAY).ravel()
            ).reshape(-1, len(days))
            for rates in [np.full(2000, 1 / tau), *spread.values()]
        ]
    )
    means = [np.exp(-days * _DAY / tau)]
    means += [mean_decay(days * _DAY, 1 / tau, cv, shape) for shape in SHAPES]
    model = Kesten(tau=1.0, sigma_m=0.5, sigma_a=0.3)
    times, squares = _kesten_squares(model, seed, progress)
    exponents = {f"mu = {Kesten(tau=1.0, sigma_m=s).tail:.3g}": s for s in (0.7, 1.0, 1.3)}
    sizes, tails, laws = _tails(rng, list(exponents.values()))
    return dataset(
        {
            "left": (("process", "elapsed"), left, "weight left"),
            "left_expected": (
                ("process", "elapsed"),
                np.exp(-elapsed / np.array(list(taus.values()))[:, None]),
                "",
            ),
            "population": (("rates", "day"), each.mean(1), "mean weight left, 2000 synapses"),
            "population_se": (("rates", "day"), standard_error(each, 1), ""),
            "population_expected": (("rates", "day"), np.array(means), ""),
            "variance": (("time",), squares.mean(1), "variance of fluctuating weights"),
            "variance_se": (("time",), standard_error(squares, 1), ""),
            "variance_expected": (("time",), model.variance(1.5, times), ""),
            "larger": (("exponent", "magnitude"), tails, "share of larger weights"),
            "larger_expected": (("exponent", "magnitude"), laws, ""),
        },
        {
            "process": [scale.process for scale in PRESETS.values()],
            "elapsed": axis(elapsed, "time", "s", scale="log"),
            "rates": ["equal rates", *(f"{shape} rates" for shape in SHAPES)],
            "day": axis(days, "time", "days"),
            "time": axis(times, "time, the mean decay taking 1 s", "s"),
            "exponent": list(exponents),
            "magnitude": axis(sizes, "size of the weight, by its scale", scale="log"),
        },
        title="Turnover: which process, how evenly, how steadily",
        claim="Each process loses a weight on a time scale of its own. Rates that differ leave"
        " more than their mean would, gamma-distributed ones a power of time. Fluctuations in"
        " proportion to the weight make tails that fall as w^-mu.",
        source="Cohen 2013, 10.1371/journal.pone.0063191; Kesten 1973, 10.1007/BF02392040"
        " (recalled)",
        seed=seed,
        log=("population", "larger"),
    )


def _decayed(model: Turnover, spans: np.ndarray) -> np.ndarray:
    """What Brian2 leaves of weights of 1 after spans (synapse,) of their time constant."""
    with engine("numpy", model.tau / 4, 0):
        cells = b2.NeuronGroup(1, "", name="turnover_cells")
        every = np.zeros(len(spans), dtype=int)
        made = model.synapse().connect(cells, cells, every, every, name="turnover_synapses")
        made.w, made.pace = 1.0, spans
        b2.Network(cells, made).run(model.tau * b2.second, namespace={})
        return np.array(made.w[:])


def _kesten_squares(model: Kesten, seed: int, progress: bool) -> tuple[np.ndarray, np.ndarray]:
    """Squared distances (time, synapse) of weights from their mean, all from 1.5, by Brian2."""
    count, seconds, dt = 10_000, 4.0, 5e-3
    with engine("numpy", dt, seed):
        cells = b2.NeuronGroup(1, "", name="kesten_cells")
        every = np.zeros(count, dtype=int)
        made = model.synapse().connect(cells, cells, every, every, name="kesten_synapses")
        made.w = 1.5
        seen = b2.StateMonitor(
            made, "w", record=True, dt=0.2 * b2.second, when="start", name="kesten_seen"
        )
        _run([cells, made, seen], seconds + dt, progress)
        times, weights = np.asarray(seen.t / b2.second), np.asarray(seen.w).T
    return times, (weights - weights.mean(1, keepdims=True)) ** 2


def _tails(
    rng: np.random.Generator, noises: Sequence[float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sizes by their scale, and the shares (noise, size) of larger stationary weights."""
    sizes = np.geomspace(0.3, 40, 24)
    shares, laws = [], []
    for noise in noises:
        model = Kesten(tau=1.0, sigma_m=noise, sigma_a=0.3)
        weights = np.zeros(100_000)
        for _ in range(150):
            weights = model.step(rng, weights, 0.1)
        ordered = np.sort(np.abs(weights) / model.scale)
        larger = 1 - np.searchsorted(ordered, sizes) / len(ordered)
        # fewer than ten weights show no share
        shares.append(np.where(larger * len(ordered) >= 10, larger, np.nan))
        laws.append(2 * stats.t(model.tail).sf(sizes))
    return sizes, np.array(shares), np.array(laws)


def _run(parts: Sequence[object], seconds: float, progress: bool) -> None:
    """Run Brian2 objects, with a bar of a hundred ticks."""
    tick = seconds / 100
    with tqdm(total=100, disable=not progress, leave=False) as bar:
        dt = float(b2.defaultclock.dt / b2.second)
        every = max(round(tick / dt), 1) * dt * b2.second
        watch = [b2.NetworkOperation(lambda: bar.update(), dt=every)] if progress else []
        b2.Network(*parts, *watch).run(seconds * b2.second, namespace={})
