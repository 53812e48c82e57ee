"""The cells of the spiking substrate: their parameters, and their f-I curve in both directions."""

from dataclasses import dataclass

import numpy as np

from fwbio.data import constants
from fwbio.models.parameters import within

_RECEPTORS = constants("receptors")


# The potential rises on from the reset by as long as it had been above the threshold within the
# step: exact for a drive that is constant in a step, so that no interval is rounded to whole steps.
RESET = """
v = v_steady - (v_steady - v_reset) * (v_steady - v) / (v_steady - v_threshold)
v = clip(v, v_reset, v_threshold)
"""


@dataclass(frozen=True, kw_only=True)
class SpikingModel:
    """Parameters of the spiking substrate, SI units, and its graded departures from the ideal.

    Noise falls as 1 / sqrt(cells_per_key), 1 / sqrt(write) and 1 / sqrt(read). A departure at its
    neutral value costs nothing and changes nothing.

    Args:
        dt: time step, s.
        gap: silence before each presentation, s.
        write: duration of a presentation, s.
        pause: silence between a presentation and a cue of the same step, s.
        settle: first part of a cue, not read, s.
        read: part of a cue in which spikes are counted, s.
        cells_per_key: Poisson cells for each key channel.
        cells_per_value: Poisson teaching cells for each value cell, which only it receives.
        peak_rate: rate of a cell at the largest key or teaching input, Hz.
        base_rate: rate of a value cell without input, Hz.
        gain: change of a value cell's membrane drive by the largest value as a cue recalls it, V.
        tau_ampa, tau_nmda_decay: decays of the two receptors, s (Wang 2002).
        tau_membrane, tau_refractory: of the value cells, s (Wang 2002); the dendrite's too.
        v_rest, v_reset, v_threshold: of the value cells, V (Wang 2002).
        theta_d: calcium above which synapses are plastic, 1 being its steady value.
        baseline: baseline conductance w_0, in units of the largest weight that the writes alone
            would add up to if they were independent.
        erase_limit: largest share of a prediction that one presentation may erase; the more, the
            higher the plasticity rate and its noise.
        ceiling: share of peak_rate above which key and teaching cells can't fire; 1: none.
        receptors: receptors that carry a synapse's largest conductance, 2 w_0; at each change the
            conductance is rounded to whole receptors at random, its mean kept; 0: graded.
        release: probability that a spike of a key cell, or of a teaching cell, releases at a
            synapse, independent over synapses and spikes; what it transmits and what it changes
            are scaled by 1 / release, so that means are kept and only noise is added.
        turnover_cv: coefficient of variation of the turnover rate over synapses, which is
            gamma-distributed about its mean lambda and fixed for the run, so that the mean weight
            decays by (1 + cv^2 lambda t)^(-1 / cv^2); 0: equal rates.
        noise_multiplicative, noise_additive: sigma and tau of a conductance x above its baseline
            in gaps, dx = -lambda x dt + sigma x dB + tau dB', in 1 / sqrt(s) and in units of the
            weights / sqrt(s) (Kesten 1973, 10.1007/BF02392040, recalled); 0: none.
        engine: Brian2's code generation: "cython"; "numpy"; or "cpp_standalone", a program that is
            compiled once for all of a program's shape and phases, kept in $FWBIO_CACHE (or
            .cache/fwbio in the user's home) and run again with other numbers. From one seed,
            engines may draw different spikes.
        record_bound: bytes of weights, kept and simulated, and of random numbers drawn for them
            before the run, above which it warns.
    """

    dt: float = 0.5e-3
    gap: float = 0.1
    write: float = 0.3
    pause: float = 0.1
    settle: float = 0.1
    read: float = 0.3
    cells_per_key: int = 8
    cells_per_value: int = 64
    peak_rate: float = 100.0
    base_rate: float = 80.0
    gain: float = 0.02
    tau_ampa: float = _RECEPTORS["tau_ampa"]
    tau_nmda_decay: float = _RECEPTORS["tau_nmda_decay"]
    tau_membrane: float = _RECEPTORS["tau_membrane"]
    tau_refractory: float = _RECEPTORS["tau_refractory"]
    v_rest: float = _RECEPTORS["v_rest"]
    v_reset: float = _RECEPTORS["v_reset"]
    v_threshold: float = _RECEPTORS["v_threshold"]
    theta_d: float = within(0.4, high=1 - 1e-12)
    baseline: float = 1.0
    erase_limit: float = within(0.99, high=1.0)
    ceiling: float = within(1.0, high=1.0)
    receptors: int = within(0)
    release: float = within(1.0, low=0.01, high=1.0)
    turnover_cv: float = within(0.0, high=10.0)
    noise_multiplicative: float = within(0.0, high=100.0)
    noise_additive: float = within(0.0, high=100.0)
    engine: str = "cython"
    record_bound: float = within(1e9)

    def faults(self) -> list[tuple[str, str]]:
        """Combinations of parameters that make no cell, each with its mend."""
        found = []
        if self.dt >= self.tau_refractory:
            found.append(
                (
                    f"dt = {self.dt:g} s outlasts the refractory period",
                    f"give dt below {self.tau_refractory:g} s",
                )
            )
        for name in ("tau_ampa", "tau_membrane", "tau_nmda_decay"):
            tau = getattr(self, name)
            if self.dt > 0.5 * tau:
                found.append(
                    (
                        f"dt = {self.dt:g} s is too coarse for {name} = {tau:g} s",
                        f"give dt of at most {0.5 * tau:g} s",
                    )
                )
        if self.ceiling == 0:
            found.append(("ceiling = 0 leaves nothing", "give a ceiling above 0"))
        if self.peak_rate * self.dt > 0.2:
            found.append(
                (
                    f"at peak_rate = {self.peak_rate:g} Hz a cell would often fire twice in a step",
                    f"give at most {0.2 / self.dt:g} Hz, or a smaller dt",
                )
            )
        if not max(self.v_rest, self.v_reset) < self.v_threshold:
            found.append(
                (
                    f"v_threshold = {self.v_threshold:g} V is not above rest and reset",
                    "give v_rest and v_reset below v_threshold",
                )
            )
        if self.base_rate * self.tau_refractory > 0.5:
            found.append(
                (
                    f"base_rate = {self.base_rate:g} Hz leaves a value cell no room to rise",
                    f"give at most {0.5 / self.tau_refractory:g} Hz",
                )
            )
        return found

    def departures(self) -> list[str]:
        """In words, the graded departures from the ideal that these parameters ask for."""
        told = {
            f"key and teaching cells saturate at {self.ceiling:g} of the largest rate asked for": (
                self.ceiling < 1
            ),
            f"conductances of whole receptors, {self.receptors} in the largest": (
                self.receptors > 0
            ),
            f"spikes release with probability {self.release:g}": self.release < 1,
            f"turnover rates with a coefficient of variation of {self.turnover_cv:g}": (
                self.turnover_cv > 0
            ),
            f"conductances fluctuate in gaps, by {self.noise_multiplicative:g} of themselves and by"
            f" {self.noise_additive:g} per sqrt(s)": (
                self.noise_multiplicative > 0 or self.noise_additive > 0
            ),
        }
        return [words for words, holds in told.items() if holds]

    def rate(self, drive: np.ndarray) -> np.ndarray:
        """The f-I curve of a value cell: Hz from volts of steady drive above rest.

        f = 1 / (tau_ref + tau_m ln((rest + drive - reset) / (rest + drive - threshold)))

        A cell stepped by dt fires so too (`RESET`), refractory for a whole number of steps.
        """
        above = self.v_rest + np.asarray(drive, dtype=float) - self.v_threshold
        firing = above > 0
        safe = np.where(firing, above, 1.0)
        interval = self._silent + self.tau_membrane * np.log1p(
            (self.v_threshold - self.v_reset) / safe
        )
        return np.where(firing, 1 / interval, 0.0)

    @property
    def _silent(self) -> float:
        return round(self.tau_refractory / self.dt) * self.dt

    @property
    def refractory_steps(self) -> int:
        """Steps from one spike's step to the next that the potential moves in."""
        return round(self.tau_refractory / self.dt) + 1

    def drive(self, rate: np.ndarray) -> np.ndarray:
        """The inverse of `rate`: volts from Hz; a silent cell is taken to be at its rheobase."""
        rate = np.minimum(np.asarray(rate, dtype=float), 0.99 / self._silent)
        firing = rate > 0
        interval = np.where(firing, 1 / np.where(firing, rate, 1.0), np.inf)
        swing = np.expm1(np.maximum(interval - self._silent, 0) / self.tau_membrane)
        above = (self.v_threshold - self.v_reset) / swing
        return self.v_threshold - self.v_rest + above
