"""How far apart two runs of the same program may be: one table for every test, no escape."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch


class Bound(NamedTuple):
    """A bound and why it is where it is."""

    value: float
    reason: str


TOLERANCES: Mapping[str, Bound] = MappingProxyType(
    {
        # relative errors: at most
        "float64": Bound(1e-12, "a few thousand roundings of 1.1e-16, in any order of summation"),
        "float32": Bound(1e-5, "a hundred roundings of 6e-8 that don't cancel"),
        "passed thresholds float32": Bound(
            1e-3,
            "codes rounded by 6e-8, over how little calcium exceeds a threshold that it passes",
        ),
        "reflections float32": Bound(
            5e-5, "a chunk of reflections sums as many numbers of alternating sign as it has rows"
        ),
        "gradient float32": Bound(1e-5, "the backward pass rounds as the forward pass does"),
        "shared batches": Bound(
            1e-4, "gradients are summed in another order: 6e-8 a step, which Adam divides by itself"
        ),
        "least squares float32": Bound(2e-3, "roundings of 6e-8 times a condition of 1e4"),
        "bfloat16": Bound(1e-2, "three roundings of 3.9e-3 on the way in and out"),
        "autocast": Bound(0.05, "root mean square of a dozen roundings of 3.9e-3"),
        "tf32": Bound(1e-3, "products of 11 significant bits: two roundings of 4.9e-4"),
        "notebook numbers": Bound(
            0.01, "numbers shown with three digits; spikes that roundings of another machine move"
        ),
        "ode": Bound(1e-9, "the adaptive solver is asked for 1e-12 a step"),
        "fitted law": Bound(1e-5, "least squares that stop when a step gains 1e-8 of chi^2"),
        "convergence": Bound(1e-7, "a hundred iterations, each at least .85 times nearer"),
        "averaged start": Bound(0.02, "400 weights of standard deviation .05 leave .0025"),
        "learned": Bound(1e-3, "a learning curve's last thousandth, which repeats would halve"),
        "event driven": Bound(1e-9, "changes added to a baseline some thousand times as large"),
        "rate": Bound(
            1e-3, "first order in dt: 6e-4 at the default step for 20 pairs of unit keys"
        ),
        "gate edge": Bound(1e-5, "a step function of time, met by solver steps of at most 0.1 ms"),
        "shown for nine time constants": Bound(3e-4, "exp(-9) of the receptors are yet to open"),
        "long presentations": Bound(
            1e-6, "exp(-20) of the last presentation, in a net whose drives nearly cancel"
        ),
        "mean flow": Bound(1e-7, "a gap leaves e^-25 of a prediction; what is left is bisection"),
        # rounding error, in units of that of the same run step by step: at most
        "times the rounding": Bound(2.0, "as many roundings, and those between two anchors"),
        # the same in units of the dtype's epsilon, below which it is not compared: at most
        "few roundings": Bound(16.0, "a chunk's sums of log decays round as their size, a few"),
        "turned matrices": Bound(
            1e-9, "rounding times the condition of a random matrix, 1e4 once in thousands"
        ),
        "independent values": Bound(
            1e-8, "rounding times the condition of a few random values, squared at most"
        ),
        # memory that an analysis takes, over that of the whole record: at most
        "share of a record in memory": Bound(
            0.6, "two threads, each with blocks of 8 MiB of 350, read, and copied in float64"
        ),
        # orders of convergence: distance at most
        "order": Bound(0.05, "the next order's term is some percent of the first's"),
        # classical memories: relative errors, at most
        "alternating signs": Bound(
            1e-9, "roundings of terms a thousand times as large, to the power of the pairs"
        ),
        "normal noise": Bound(2e-3, "of 800,000 signs; the next term of Edgeworth's is 1e-3"),
        "published digits": Bound(5e-6, "0.137905 has six digits, cut or rounded"),
        "root of a flat tail": Bound(1e-7, "erf(y) near 1 leaves y as many digits as 1 - m has"),
        # exponents of noise: distance from -1/2 at most
        "noise exponent": Bound(0.1, "read-outs keep a bias of 1 % or so; fits are good to .03"),
        # agreement of read-outs, Pearson's r: at least
        "spiking": Bound(0.99, "Poisson counts of 8 cells a key: .995 and more is usual"),
        "spiking, traces": Bound(
            0.9, "32 cells a key, of growth and depression that nearly cancel"
        ),
        "spiking, 8 cells": Bound(0.98, "the aim; 8 cells a key reach .995 on pairs and digits"),
        # recall of 20 held-out digits cued with noise .3: at least
        "trained recall": Bound(0.85, "the aim; three points below the worst of four seeds"),
        "trained recall, spiking": Bound(0.70, "the aim; 8 cells a key and 4 trials reach .90"),
        "trained recall, noisy": Bound(0.80, "every rate 20 % off, which costs two points"),
        # short-term plasticity and turnover: relative errors, at most
        "steady train": Bound(1e-6, "150 spikes at 50 Hz leave e^-15 of the way from rest"),
        "limiting frequency": Bound(1e-2, "1 / (U rate tau), .1 % at 2 kHz, is left out"),
        "moments": Bound(1e-9, "each moment is at most .8 of the one before"),
        "mean field": Bound(0.04, "u and x share the last interval; at most 3 %, at 10 Hz"),
        "brief memory": Bound(1e-3, "of intervals of 100 ms a memory of .01 ms sees one in 10,000"),
        "decay quadrature": Bound(1e-7, "adaptive quadrature is asked for 1.5e-8"),
        "nearly equal rates": Bound(1e-6, "the spread of 1e-5 enters squared"),
        "difference quotient": Bound(1e-6, "central differences of 1e-4: their square"),
        "shares": Bound(0.03, "a tenth of 100,000 weights leaves 1 %; steps of a tenth of tau"),
        # exponents of power laws: distance at most
        "power law": Bound(1e-4, "the approach to the power is of order 1 / t"),
        # probabilities of a fit that is right: at least
        "chance": Bound(1e-3, "missed by chance once in 1000; the seed is fixed"),
        # receptors, relative errors: at most
        "receptor steps": Bound(1e-9, "exact steps; spikes are told a billionth of a step early"),
        "receptor rk4": Bound(1e-5, "at 1/20 of the fastest constant, trains of 500 Hz included"),
        "receptor differences": Bound(1e-5, "five-point differences over 1/50 of a time constant"),
        "receptor decay": Bound(1e-4, "what is left of faster constants after ten of the slowest"),
        "receptor order": Bound(0.15, "steps from 1/16 of a time constant: the next order's term"),
        "receptor mean field": Bound(1e-6, "x stands still but for a ripple, which cancels"),
        "receptor rare spikes": Bound(1e-5, "one spike in a thousand seconds, 5 ms long"),
        "receptor protocol": Bound(
            5e-3, "a figure's closed form is interpolated; a train's start is forgotten to 3e-4"
        ),
        "receptor standard errors": Bound(4.0, "fifteen means at once; missed once in a thousand"),
        "receptor trough": Bound(1e-5, "a slope of 1 S by differences over 10 microvolts"),
        # plasticity between rate cells: relative errors, at most
        "threshold's fluctuations": Bound(
            0.05, "a threshold that averages over 200 presentations varies by a tenth"
        ),
        "brief presentations": Bound(0.05, "32 cells, each swaying by some percent of its way"),
        "soma's delay": Bound(0.03, "a soma of .3 ms lags behind the learning of 100 ms"),
        "slow learning": Bound(1e-4, "learning is 3e4 times slower than the soma"),
        "dendrite learned": Bound(1e-6, "twenty e-folds of the slowest cell"),
        "soma at rest": Bound(1e-8, "20 e-folds after the soma's start"),
        "protocol's steps": Bound(2e-3, "first order in steps of at most 1 % of a learning curve"),
        # a weight vector's mean distance from norm 1, at most, and its least cosine
        "norm": Bound(0.05, "steps of 1e-3 times the first eigenvalue, 3, squared inputs varying"),
        "cosine": Bound(0.99, "the same steps"),
        # models against measurements: distance in the measurement's standard errors, at most
        "measured": Bound(2.0, "missed by chance once in 22, were the model true"),
        "measured, mean square": Bound(1.0, "what noise of the measurements alone would leave"),
        # closed forms of spike timing: relative errors, at most
        "trapezoid": Bound(1e-6, "steps of 10 us are off by (dt / tau)^2 / 12"),
        "geometric sums": Bound(1e-11, "a difference of sums ten times as large; 1 - q cancels"),
        "small steps": Bound(1e-5, "first order in dt, 1e-9 of a ms-scale trace, and cancellation"),
        # calcium-based plasticity: relative errors, at most
        "printed digits": Bound(2e-6, "321.808 has six digits"),
        "periodic calcium": Bound(1e-9, "exact but for the roundings of spike times of 1e-16 s"),
        "clamped calcium": Bound(1e-6, "second order in steps of 2 ms of 1.2 s: (dt / tau)^2 / 6"),
        "periodic calcium, first spikes": Bound(
            2e-2, "the first of five spikes finds 1.5 % more receptors closed than the others"
        ),
        "receptors open": Bound(1e-2, "in .5 ms between spikes .6 % of them close"),
        # identification: relative errors, at most
        "differences": Bound(1e-4, "one-sided steps of 1e-6 beside central ones of 1e-5"),
        "fits": Bound(1e-5, "log-likelihoods within 1e-7 of their greatest, and numbers as text"),
        "identified": Bound(0.05, "the noise of a few thousand numbers, and of 5 % each"),
        # shares of time, efficacies and weights: distance at most
        "counted time": Bound(4e-5, "100,000 points of a period, four crossings"),
        "averaged drive": Bound(1e-2, "one pair moves the efficacy by at most 3 % of its way"),
        "drawn": Bound(1e-2, "straight lines between 401 points of a curve that has corners"),
        "sigmoid": Bound(1e-3, "slope 80, .1 from either edge: e^-8 / 4 and e^-8"),
        # biases of spiking cells: relative errors, at most
        "mean readout": Bound(0.03, "the f-I curve bends: a percent or two at this noise"),
        # closed forms of capacity: distance at most, relative or of a share
        "large sizes": Bound(0.04, "the limit of many dimensions, at 24 of them: order 1 / 24"),
        "independent rivals": Bound(
            0.012, "rivals share more than length and projection of a read-out of 12 channels"
        ),
        # statistics: distance in standard errors, at most
        "standard errors": Bound(3.0, "missed by chance once in 370; the seed is fixed"),
        "several means": Bound(4.0, "dozens at once; missed by chance once in 500"),
    }
)


def relative_error(actual, expected):
    """The largest deviation, in units of the largest expected magnitude."""
    actual, expected = _float64(actual), _float64(expected)
    assert actual.shape == expected.shape, f"shape {actual.shape}, expected {expected.shape}"
    if actual.size == 0:
        return 0.0
    scale = np.abs(expected).max()
    return float(np.abs(actual - expected).max() / (scale if scale > 0 else 1.0))


def _float64(x):
    x = x.detach().double().cpu().numpy() if isinstance(x, torch.Tensor) else x
    return np.asarray(x, np.float64)


def assert_close(actual, expected, tolerance):
    """Assert that two arrays agree to a tolerance of the table, given by name."""
    bound = TOLERANCES[tolerance]
    error = relative_error(actual, expected)
    assert error <= bound.value, f"relative error {error:.2e} > {bound.value:g} ({bound.reason})"


def assert_expected(samples, expected):
    """Assert that independent samples have the expected mean, by their standard error."""
    samples = np.asarray(samples, np.float64).ravel()
    standard_error = samples.std(ddof=1) / np.sqrt(samples.size)
    distance = abs(samples.mean() - expected) / standard_error
    bound = TOLERANCES["standard errors"]
    assert distance <= bound.value, (
        f"mean {samples.mean():.6g} is {distance:.1f} standard errors from {expected:.6g}"
        f" ({bound.reason})"
    )
