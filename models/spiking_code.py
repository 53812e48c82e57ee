"""What conducts a spiking network through its phases, for each of Brian2's targets.

At the first time step of a phase the last one is left - conductances turn over, spikes are counted,
weights are kept - and every cell takes its row of the tables; in a window, spikes and traces are
noted down. In C++ all that is one call a step, which returns at once in most of them.
"""

from collections.abc import Mapping

import brian2 as b2
import numpy as np
from brian2.core.variables import ArrayVariable

from fwbio.models.compiled import Compiled

_CPP = """
// The first trial's spikes of the last step: pairs of step and cell, after their number.
static void fwbio_note(
    int step, int cells, int size, const int32_t* spikes, int room, int32_t* noted)
{
    for (int k = 0; k < spikes[size] && spikes[k] < cells; k++)
        if (2 * (noted[0] + 1) < room) {
            noted[1 + 2 * noted[0]] = step;
            noted[2 + 2 * noted[0]] = spikes[k];
            noted[0]++;
        }
}

static int fwbio_conduct(
    int trials, int rows, int columns, int per_key, int marked, int uneven, int rounded,
    int pre_room, int post_room,
    int phase, int step,
    const int32_t* starts, const int32_t* turns, const int32_t* reads, const int32_t* keeps,
    const int32_t* window, const int32_t* shown,
    const double* chances, const double* teaching, const double* open, const double* rates,
    const double* remains, const double* factors, const double* shifts, const double* roundings,
    double* chance, double* taught_spikes, double* taught, double* lr,
    const double* fired, const double* lastspike,
    double* w, const double* g_max, const double* quantum,
    const double* s, const double* ampa, const double* calcium,
    const int32_t* key_spikes, const int32_t* value_spikes,
    double* counts, double* lasts, double* snapshots,
    double* curves, int32_t* pre_noted, int32_t* post_noted)
{
    const int pair = 2 * columns, cells = trials * pair, channels = trials * rows;
    const size_t fan = (size_t)per_key * pair, synapses = channels * fan;
    if (step >= window[0] && step < window[1]) {
        double* now = curves + (size_t)(step - window[0]) * 3 * marked;
        for (int m = 0; m < marked; m++) {
            const int on = shown[m], off = shown[marked + m];
            now[m] = s[on] - s[off];
            now[marked + m] = ampa[on] - ampa[off];
            now[2 * marked + m] = calcium[on];
        }
    }
    if (step > window[0] && step <= window[1]) {
        fwbio_note(step - 1, rows * per_key, channels * per_key, key_spikes, pre_room, pre_noted);
        fwbio_note(step - 1, pair, cells, value_spikes, post_room, post_noted);
    }
    if (step != starts[phase + 1])
        return phase;
    if (phase >= 0 && turns[phase] >= 0) {
        const double* left = remains + (size_t)turns[phase] * channels;
        const size_t first = turns[phase] * synapses;
        const double rest = g_max[0] / 2;
        for (size_t k = 0; k < synapses; k++) {
            double above = w[k] - rest;
            above = uneven ? factors[first + k] * above + shifts[first + k] : left[k / fan] * above;
            w[k] = above > rest ? g_max[0] : (above < -rest ? 0 : rest + above);
            if (rounded)
                w[k] = quantum[0] * std::floor(w[k] / quantum[0] + roundings[first + k]);
        }
    }
    if (phase >= 0 && reads[phase] >= 0)
        for (int j = 0; j < cells; j++) {
            counts[(size_t)reads[phase] * cells + j] = fired[j];
            lasts[(size_t)reads[phase] * cells + j] = lastspike[j];
        }
    if (phase >= 0 && keeps[phase] >= 0)
        for (int c = 0; c < channels; c++)
            for (int j = 0; j < columns; j++) {
                double sum = 0;
                for (int i = 0; i < per_key; i++) {
                    const double* of = w + c * fan + (size_t)i * pair;
                    sum += of[j] - of[columns + j];
                }
                snapshots[((size_t)keeps[phase] * channels + c) * columns + j] = sum / per_key;
            }
    phase++;
    for (int i = 0; i < channels * per_key; i++)
        chance[i] = chances[(size_t)phase * channels + i / per_key];
    for (int j = 0; j < cells; j++) {
        taught_spikes[j] = teaching[(size_t)phase * cells + j];
        taught[j] = open[(size_t)phase * trials + j / pair];
        lr[j] = rates[(size_t)phase * trials + j / pair];
    }
    return phase;
}
"""
ARRAYS = (
    *("starts", "turns", "reads", "keeps", "window", "shown"),
    *("chances", "teaching", "open", "rates"),
    *("remains", "factors", "shifts", "roundings"),
    *("chance", "taught_spikes", "taught", "lr", "fired", "lastspike"),
    *("w", "g_max", "quantum", "s", "ampa", "calcium", "key_spikes", "value_spikes"),
    *("counts", "lasts", "snapshots", "curves", "pre_noted", "post_noted"),
)


def conductor(sizes: tuple[int, ...], arrays: Mapping[str, ArrayVariable]) -> b2.Function:
    """`conduct(phase, step)`, which returns the phase of a step, from -1 before the first.

    Args:
        sizes: trials, rows, columns, cells a key, cells whose traces are shown, whether turnover
            is uneven, whether conductances are whole receptors, and the room for spikes of key
            and of value cells.
        arrays: the variables of the network, by the names of `ARRAYS`.
    """
    return Compiled(
        name="conduct",
        returns="int",
        arguments=(("int", "phase"), ("int", "step")),
        arrays=ARRAYS,
        source=_CPP,
        guard="FWBIO_CONDUCT",
        plain=_conduct,
    ).of(sizes, arrays)


def _conduct(*given: np.ndarray) -> int:
    trials, rows, columns, per_key, marked, uneven, rounded = map(int, given[:7])
    phase, step = (int(np.ravel(x)[0]) for x in given[9:11])
    of = dict(zip(ARRAYS, given[11:], strict=True))
    first, last = of["window"]
    if first <= step < last:
        on, off = of["shown"].reshape(2, marked)
        now = of["curves"].reshape(-1, 3, marked)[step - first]
        now[0], now[1] = (of[name][on] - of[name][off] for name in ("s", "ampa"))
        now[2] = of["calcium"][on]
    if first < step <= last:
        _note(step - 1, rows * per_key, of["key_spikes"], of["pre_noted"])
        _note(step - 1, 2 * columns, of["value_spikes"], of["post_noted"])
    if step != of["starts"][phase + 1]:
        return phase
    if phase >= 0:
        _leave(of, phase, (trials, rows, per_key, 2, columns), uneven=uneven, rounded=rounded)
    phase += 1
    of["chance"][:] = np.repeat(of["chances"].reshape(-1, trials * rows)[phase], per_key)
    of["taught_spikes"][:] = of["teaching"].reshape(-1, trials * 2 * columns)[phase]
    for name, table in (("taught", "open"), ("lr", "rates")):
        of[name][:] = np.repeat(of[table].reshape(-1, trials)[phase], 2 * columns)
    return phase


def _note(step: int, cells: int, spikes: np.ndarray, noted: np.ndarray) -> None:
    fired = spikes[: np.searchsorted(spikes[: spikes[-1]], cells)]
    begin = 1 + 2 * noted[0]
    room = noted[begin : begin + 2 * len(fired)]
    pairs = room[: len(room) // 2 * 2].reshape(-1, 2)
    pairs[:, 0], pairs[:, 1] = step, fired[: len(pairs)]
    noted[0] += len(pairs)


def _leave(
    of: Mapping[str, np.ndarray],
    phase: int,
    shape: tuple[int, int, int, int, int],
    *,
    uneven: int,
    rounded: int,
) -> None:
    w, g_max = of["w"], of["g_max"][0]
    if (at := of["turns"][phase]) >= 0:
        above = w - g_max / 2
        if uneven:
            above = of["factors"].reshape(-1, w.size)[at] * above
            above += of["shifts"].reshape(-1, w.size)[at]
        else:
            left = of["remains"].reshape(-1, shape[0] * shape[1])[at]
            above *= np.repeat(left, w.size // left.size)
        w[:] = np.clip(g_max / 2 + above, 0, g_max)
        if rounded:
            quantum = of["quantum"][0]
            w[:] = quantum * np.floor(w / quantum + of["roundings"].reshape(-1, w.size)[at])
    if (at := of["reads"][phase]) >= 0:
        for name, kept in (("fired", "counts"), ("lastspike", "lasts")):
            of[kept].reshape(-1, of[name].size)[at] = of[name]
    if (at := of["keeps"][phase]) >= 0:
        now = w.reshape(shape).mean(2)
        signed = now[:, :, 0] - now[:, :, 1]
        of["snapshots"].reshape(-1, signed.size)[at] = signed.ravel()
