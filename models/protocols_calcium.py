"""Protocols of calcium-based plasticity: curves of spike timing and of rate."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import brian2 as b2
import numpy as np
import xarray as xr
from tqdm import tqdm

from fwbio.data import constants, measurements
from fwbio.errors import FwbioError
from fwbio.models.plasticity_calcium import GraupnerBrunel
from fwbio.models.plasticity_shouval import Shouval
from fwbio.models.simulation import engine

_GB = "Graupner & Brunel 2012, 10.1073/pnas.1109359109"
_SHOUVAL = "Shouval, Bear & Cooper 2002, 10.1073/pnas.152343099"
_CHANGE = {"units": "1", "long_name": "strength after / before"}


@dataclass(frozen=True)
class Motif:
    """Spikes that are repeated.

    Args:
        frequency: of the motif, Hz.
        repeats: how often it is shown.
        lag: first postsynaptic minus presynaptic spike, s; None where there is no postsynaptic one.
        burst: postsynaptic spikes at these times after the first, s.
    """

    frequency: float
    repeats: int
    lag: float | None
    burst: tuple[float, ...] = (0.0,)

    @property
    def duration(self) -> float:
        """How long it takes to show it so often, s."""
        return self.repeats / self.frequency

    @property
    def post(self) -> np.ndarray:
        """Postsynaptic spike times if the presynaptic one is at 0, s."""
        return np.empty(0) if self.lag is None else self.lag + np.array(self.burst)

    def trains(self, start: float) -> tuple[np.ndarray, np.ndarray]:
        """All pre- and all postsynaptic spike times, s, the first presynaptic one at `start`."""
        turns = start + np.arange(self.repeats) / self.frequency
        return turns, (turns[:, None] + self.post).ravel()


def graupner_brunel(
    seed: int = 0, progress: bool = False, *, synapses: int = 100, lags: int = 11
) -> xr.Dataset:
    """Change of strength by calcium above two thresholds: spike timing for four sets, and rate.

    Simulated synapses, the bistable term included, on the closed form of the paper, which leaves
    it out and spreads drive and noise over time.

    Args:
        seed: of the noise.
        progress: whether to show a bar.
        synapses: how many start DOWN, and how many UP, at each point.
        lags: points of each curve of timing.
    """
    burst = (0.0, 0.012)
    curves = {
        "dp": ("dp", 0.08, {"1 Hz, 60 pairs": (1, 60, (0.0,))}),
        "hippocampal_culture": ("hippocampal_culture", 0.04, {"1 Hz, 60 pairs": (1, 60, (0.0,))}),
        "hippocampal_slice": (
            "hippocampal_slice",
            0.06,
            {
                "5 Hz, 200 pairs": (5, 200, (0.0,)),
                "5 Hz, 100 times, two post": (5, 100, burst),
                "5 Hz, 30 times, two post": (5, 30, burst),
            },
        ),
        "cortical_slice": ("cortical_slice", 0.02, {"20 Hz, 75 pairs": (20, 75, (0.0,))}),
    }
    seeds = iter(np.random.SeedSequence(seed).generate_state(len(curves) + 1).tolist())
    found = xr.Dataset()
    for name, (parameters, widest, series) in tqdm(
        curves.items(), desc="graupner_brunel", disable=not progress, leave=False
    ):
        model = GraupnerBrunel.named(parameters)
        dt = 1e-3 if name == "cortical_slice" else 2e-3
        grid = np.round(np.linspace(-widest, widest, lags) / dt) * dt
        # only lag less delay matters: the delay is rounded to steps, and the lag shifted with it
        shift = model.delay - round(model.delay / dt) * dt
        dense = np.linspace(-widest - dt, widest + dt, 401)
        x, denser = f"lag_{name}", f"lag_{name}_expected"
        shown = [Motif(f, n, lag, b) for f, n, b in series.values() for lag in grid]
        change, error = simulated_change(model, shown, synapses=synapses, dt=dt, seed=next(seeds))
        expected = [
            [_published(model, Motif(f, n, lag, b)) for lag in dense] for f, n, b in series.values()
        ]
        shape = (len(series), lags)
        dims = ("stimulation_" + name, x)
        long_name = f"change, {name.replace('_', ' ')}"
        found[name] = dims, change.reshape(shape), _CHANGE | {"long_name": long_name}
        found[f"{name}_se"] = dims, error.reshape(shape), _CHANGE
        found[f"{name}_expected"] = (dims[0], denser), np.array(expected), _CHANGE
        found = found.assign_coords({
            dims[0]: list(series),
            x: (x, 1e3 * (grid + shift), _lag()),
            denser: (denser, 1e3 * dense, _lag()),
        })  # fmt: skip
    found = found.merge(_rates(2 * synapses, next(seeds)))
    found.attrs = {
        "title": "Calcium above two thresholds (Graupner & Brunel 2012)",
        "claim": "DP: depression for post before pre, potentiation for pre before post. Slice:"
        " depression alone with single spikes, potentiation between two windows of depression with"
        " two postsynaptic ones. Cortex: depression by post before pre at low rates, potentiation"
        " at all lags above 29 Hz.",
        "source": f"{_GB}; Sjostrom, Turrigiano & Nelson 2001, 10.1016/S0896-6273(01)00542-6",
        "seed": seed,
    }
    return found


def shouval(seed: int = 0, progress: bool = False) -> xr.Dataset:
    """Change of weight by calcium through NMDA receptors: voltage, rate and timing.

    Brian2's synapses on the closed form for periodic calcium. Nothing in it is random.

    Args:
        seed: taken as by every protocol, and without effect.
        progress: whether to show a bar.
    """
    model = Shouval()
    tetanus = replace(model, epsp=constants("plasticity")["shouval_epsp_tetanus"])
    clamps = np.array([-70, -62, -58, -55, -52, -48, -40, -30, -20])
    rates = np.array([1, 2, 4, 5, 8, 10, 20, 25])
    lags = np.array([-60, -30, -20, -10, -4, 2, 10, 20, 40, 60, 80, 100, 150])
    counts = (100, 900)
    clamped = [replace(model, v_rest=v / 1e3, epsp=0.0) for v in clamps]
    shown = [(m, Motif(1, 100, None)) for m in clamped]
    shown += [(tetanus, Motif(f, n, None)) for n in counts for f in rates if n <= 100 * f]
    shown += [(model, Motif(1, 100, lag / 1e3)) for lag in lags]
    with tqdm(total=1, desc="shouval", disable=not progress, leave=False) as bar:
        weights = simulated_weights(shown, dt=1e-3)
        bar.update()
    at = clamps.size
    by_rate = np.full((2, rates.size), np.nan)
    for row, n in zip(by_rate, counts, strict=True):
        done = n <= 100 * rates
        row[done] = weights[at : at + done.sum()]
        at += int(done.sum())
    calcium = np.linspace(0, 1, 201)
    dense_v = np.arange(-70, -19.5, 0.5).tolist()
    dense_f = np.arange(0.5, 25.1, 0.25).tolist()
    dense_lag = np.arange(-60, 151, 2.0).tolist()
    ca, volts = {"units": "umol/L", "long_name": "calcium"}, {"units": "mV", "long_name": "clamp"}
    rate = {"units": "Hz", "long_name": "frequency of presynaptic spikes"}
    by_voltage = _CHANGE | {"long_name": "weight after / before, clamped, 1 Hz"}
    return xr.Dataset(
        {
            "omega": ("calcium", model.omega(calcium), {"long_name": "target Omega"}),
            "learning_rate": (
                "calcium",
                1 / model.time_constant(calcium),
                {"units": "1/s", "long_name": "rate of approach 1 / tau"},
            ),
            "voltage": ("clamp", weights[: clamps.size], by_voltage),
            "voltage_expected": (
                "clamp_expected",
                [replace(model, v_rest=v / 1e3, epsp=0.0).repeated(1, 100) for v in dense_v],
            ),
            "rate": (
                ("spikes", "frequency"),
                by_rate,
                _CHANGE | {"long_name": "weight after / before, EPSPs of 10 mV"},
            ),
            "rate_expected": (
                ("spikes", "frequency_expected"),
                [[tetanus.repeated(f, n) for f in dense_f] for n in counts],
            ),
            "timing": (
                "lag",
                weights[at:],
                _CHANGE | {"long_name": "weight after / before, 1 Hz"},
            ),
            "timing_expected": (
                "lag_expected",
                [model.repeated(1, 100, lag / 1e3) for lag in dense_lag],
            ),
        },
        coords={
            "calcium": ("calcium", calcium, ca),
            "clamp": ("clamp", clamps, volts),
            "clamp_expected": ("clamp_expected", dense_v, volts),
            "spikes": [f"{n} spikes" for n in counts],
            "frequency": ("frequency", rates, rate),
            "frequency_expected": ("frequency_expected", dense_f, rate),
            "lag": ("lag", lags, _lag()),
            "lag_expected": ("lag_expected", dense_lag, _lag()),
        },
        attrs={
            "title": "Calcium through NMDA receptors (Shouval, Bear & Cooper 2002)",
            "claim": "Nothing changes at low calcium; depression at intermediate, potentiation at"
            " high voltage and rate; potentiation shortly after a presynaptic spike, between a"
            " window of depression at negative lags and a second one at large positive lags.",
            "source": _SHOUVAL,
            "seed": seed,
        },
    )


def simulated_change(
    model: GraupnerBrunel, motifs: Sequence[Motif], *, synapses: int, dt: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The change of strength of simulated synapses, and its standard error.

    Args:
        model: the synapses'.
        motifs: each a point (point,).
        synapses: how many start DOWN, and how many UP, at each point.
        dt: time step, s.
        seed: of the noise.

    Returns:
        Change and standard error, dimensionless (point,) each.
    """
    passed = simulated_efficacy(model, motifs, synapses=synapses, dt=dt, seed=seed) > model.rho_star
    U, D = passed[:, 0].mean(axis=1), 1 - passed[:, 1].mean(axis=1)
    # one more of each outcome than counted, so that no error is 0
    spread = [p * (1 - p) / synapses for p in ((synapses * q + 1) / (synapses + 2) for q in (U, D))]
    beta, b = model.beta, model.b
    error = np.sqrt(beta**2 * spread[0] + (1 - beta) ** 2 * spread[1])
    return np.asarray(model.change(U, D)), abs(b - 1) / (beta + b * (1 - beta)) * error


def simulated_efficacy(
    model: GraupnerBrunel, motifs: Sequence[Motif], *, synapses: int, dt: float, seed: int
) -> np.ndarray:
    """The efficacies of simulated synapses after each motif (point, DOWN or UP at first, synapse).

    The arguments are those of `simulated_change`.
    """
    with engine("numpy", dt, seed):
        pre, post, until = _generators(motifs, dt)
        cell = np.repeat(np.arange(len(motifs)), 2 * synapses)
        connected = model.synapse().connect(pre, post, cell, cell)
        connected.rho = np.tile(np.repeat([0.0, 1.0], synapses), len(motifs))
        b2.Network(pre, post, connected).run(until * b2.second, namespace={})
        return np.array(connected.rho).reshape(len(motifs), 2, synapses)


def simulated_weights(shown: Sequence[tuple[Shouval, Motif]], *, dt: float) -> np.ndarray:
    """The weights of simulated synapses over the resting one (point,).

    Args:
        shown: models, which may differ in `v_rest` and `epsp` alone, and their motifs (point,).
        dt: time step, s.

    Raises:
        FwbioError: the models differ in anything else, or dt is too large for them.
    """
    first = shown[0][0]
    if any(replace(m, v_rest=first.v_rest, epsp=first.epsp) != first for m, _ in shown):
        raise FwbioError(
            "the models differ", where="shown", mend="let nothing but v_rest and epsp differ"
        )
    if dt > first.tau_bpap_fast / 2:
        raise FwbioError(
            f"dt = {dt:g} s is too large", where="dt", mend=f"give {first.tau_bpap_fast / 2:g} s"
        )
    with engine("numpy", dt, seed=0):
        pre, post, until = _generators([motif for _, motif in shown], dt)
        cell = np.arange(len(shown))
        connected = first.synapse().connect(pre, post, cell, cell)
        connected.v_rest = np.array([model.v_rest for model, _ in shown]) * b2.volt
        connected.epsp = np.array([model.epsp for model, _ in shown]) * b2.volt
        b2.Network(pre, post, connected).run(until * b2.second, namespace={})
        return np.array(connected.w) / first.omega_rest


def _generators(
    motifs: Sequence[Motif], dt: float
) -> tuple[b2.SpikeGeneratorGroup, b2.SpikeGeneratorGroup, float]:
    earliest = min((motif.post.min(initial=0.0) for motif in motifs), default=0.0)
    start = np.ceil(max(-earliest, 0) / dt + 1) * dt
    trains = [motif.trains(start) for motif in motifs]
    groups = []
    for side, name in enumerate(("presynaptic", "postsynaptic")):
        index = np.repeat(np.arange(len(trains)), [len(train[side]) for train in trains])
        steps = np.round(np.concatenate([train[side] for train in trains]) / dt)
        groups.append(b2.SpikeGeneratorGroup(len(trains), index, steps * dt * b2.second, name=name))
    return groups[0], groups[1], start + max(motif.duration for motif in motifs)


def _rates(synapses: int, seed: int) -> xr.Dataset:
    dt, pairs = 2e-4, 75
    model = GraupnerBrunel.named("cortical_slice")
    model = replace(model, delay=round(model.delay / dt) * dt)
    lags = {"pre 10 ms before post": 0.01, "post 10 ms before pre": -0.01}
    rates = np.array([10.0, 20.0, 25.0, 40.0, 50.0])
    dense = np.concatenate([np.linspace(0.1, 5, 20), np.arange(5.25, 50.1, 0.25)])
    motifs = [Motif(f, pairs, lag) for lag in lags.values() for f in rates]
    change, error = simulated_change(model, motifs, synapses=synapses, dt=dt, seed=seed)
    expected = [[_published(model, Motif(f, pairs, lag)) for f in dense] for lag in lags.values()]
    table = measurements("sjostrom2001").pivot_table(index="lag", columns="frequency")
    measured = table["change"].loc[list(lags.values())] + 1
    attrs = {"units": "Hz", "long_name": "frequency of pairs"}
    dims, shape = ("order", "frequency"), (len(lags), rates.size)
    errors = table["standard_error"].loc[list(lags.values())].to_numpy()
    long_name = "change, cortical slice"
    return xr.Dataset(
        {
            "rate": (dims, change.reshape(shape), _CHANGE | {"long_name": long_name}),
            "rate_se": (dims, error.reshape(shape), _CHANGE),
            "rate_expected": (("order", "frequency_expected"), np.array(expected), _CHANGE),
            "rate_published": (("order", "frequency_published"), measured.to_numpy(), _CHANGE),
            "rate_published_se": (("order", "frequency_published"), errors, _CHANGE),
        },
        coords={
            "order": list(lags),
            "frequency": ("frequency", rates, attrs),
            "frequency_expected": ("frequency_expected", dense, attrs),
            "frequency_published": ("frequency_published", measured.columns.to_numpy(), attrs),
        },
    )


def _published(model: GraupnerBrunel, motif: Motif) -> float:
    return model.published_change(motif.frequency, motif.repeats, [0.0], motif.post)


def _lag() -> dict[str, str]:
    return {"units": "ms", "long_name": "postsynaptic minus presynaptic spike"}
