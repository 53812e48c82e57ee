"""The flow map: from a rule's discrete steps to rates, durations and time constants, and back.

A synapse that turns over at the rate lambda between presentations and is driven during one by

    dw_ij/dt = drive_i (s_j - sum_l p_l w_lj),   ds_j/dt = (teach_j - s_j) / tau_nmda

(drive: presynaptic rate times plasticity rate; s: the slow NMDA-like trace of the teaching input;
the sum: the AMPA prediction) does in closed form what one step of the normal form does:

    W(T) = W~ + k u^T - k (p^T W~)

Here the drive, the teaching input and the turnover that achieve this are computed, the trace's
slow rise and what is left of the last presentation's trace included.
"""

from dataclasses import dataclass

import numpy as np

from fwbio.errors import FwbioError
from fwbio.models.mapping import driven, opening, reached
from fwbio.normal_form import NormalForm


@dataclass(frozen=True, kw_only=True)
class Timing:
    """How long the parts of a presentation last, in seconds.

    Args:
        gap: silence before the presentation, in which receptors turn over.
        write: presentation of a key together with its teaching input.
        pause: silence between a presentation and a cue of the same step.
        settle: a cue's first part, not read; read: its second part, read.
        tau_nmda: decay of the teaching trace.
        theta_d: calcium, from 0 to 1, above which a synapse is plastic; calcium rises with
            tau_nmda from the start of a presentation. 0: plastic for all of it.
    """

    gap: float
    write: float
    pause: float
    settle: float
    read: float
    tau_nmda: float
    theta_d: float


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A part of a presentation: which write or step it belongs to, what it is, how long it lasts.

    Args:
        kind: "gap", "write", "pause", "settle" or "read".
        step: the program's step.
        write: the micro-step of the normal form, steps times writes per step in all.
        start: seconds since the start of the run.
        duration: seconds.
    """

    kind: str
    step: int
    write: int
    start: float
    duration: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What drives the synapses in each phase; n trials, T writes.

    Args:
        phases: in order of time.
        turnover: (n, T, 1 or row), 1/s, in gaps.
        key: (n, T, row), presynaptic rates of a write, in units of the code.
        plasticity: (n, T), 1/s, weight change per unit of key and error.
        predict: (n, T, row), the rates by which the prediction is read.
        teach: (n, T, column), teaching input.
        query: (n, steps, pre), presynaptic rates of a cue.
        clipped: writes whose erasure was more than a passive flow can do and was held at the limit.
        duration: of the whole run, s.
    """

    phases: tuple[Phase, ...]
    turnover: np.ndarray
    key: np.ndarray
    plasticity: np.ndarray
    predict: np.ndarray
    teach: np.ndarray
    query: np.ndarray
    clipped: int
    duration: float

    def onset(self, steps: int) -> np.ndarray:
        """When each step starts, in seconds, (steps,)."""
        first = {phase.step: phase.start for phase in reversed(self.phases)}
        return np.array([first[step] for step in range(steps)])


def plan(form: NormalForm, timing: Timing, *, erase_limit: float, where: str) -> Plan:
    """The presentations that carry out a program, by the exact flow map.

        x = -ln(1 - k.p),  plasticity rate x / (T k.p) in units of p,
        teach such that  integral of  rate exp(-x (T - t)/T) s(t) dt  =  u

    Args:
        form: operands (n, time, channel), not transposed.
        timing: the parts of a presentation.
        erase_limit: the largest share k.p of a prediction that one presentation may erase, < 1.
        where: the substrate, for error messages.

    Raises:
        FwbioError: negative rates, or k.p above 1, which no passive flow can do.
    """
    for name, rates in (("key", form.key), ("query", form.query), ("erase key", form.erase)):
        _require_rates(rates, name, where)
    overlap = np.zeros(form.key.shape[:2])
    if form.erase is not None:
        overlap = (form.erase * form.key).sum(-1)
    _require_passive(overlap, where)
    _require_calcium(timing, where)
    clipped = int((overlap > erase_limit).sum())
    phases, duration = _phases(form, timing)
    plasticity, predict, teach = _drives(form, timing, phases, overlap, erase_limit)
    gap = timing.gap
    turnover = (
        np.zeros((*form.key.shape[:2], 1)) if form.log_decay is None else -form.log_decay / gap
    )
    return Plan(
        phases=phases,
        turnover=turnover,
        key=form.key,
        plasticity=plasticity,
        predict=predict,
        teach=teach,
        query=form.query,
        clipped=clipped,
        duration=duration,
    )


def _require_rates(rates: np.ndarray | None, name: str, where: str) -> None:
    if rates is not None and (rates < 0).any():
        raise FwbioError(
            f"the {name} reaches {rates.min():.3g}, and rates can't be negative",
            where=f"{where} substrate",
            mend="code signed items with ON/OFF cells (coding='on_off'), and keep gates from 0 up",
        )


def _require_passive(overlap: np.ndarray, where: str) -> None:
    worst = overlap.max(initial=0.0)
    if worst > 1 + 1e-6:
        raise FwbioError(
            f"a write erases {worst:.3g} times the prediction, and a passive flow at most once",
            where=f"{where} substrate",
            mend="scale beta so that beta |k|^2 <= 1, or use the reference or kernel substrate",
        )


def _require_calcium(timing: Timing, where: str) -> None:
    highest = -np.expm1(-timing.write / timing.tau_nmda)
    if timing.theta_d >= highest:
        raise FwbioError(
            f"theta_d = {timing.theta_d:g} is never reached: calcium rises to {highest:.3g}",
            where=f"{where} substrate",
            mend="lower theta_d or lengthen write",
        )


def _phases(form: NormalForm, timing: Timing) -> tuple[tuple[Phase, ...], float]:
    """The phases of all steps: no write where no trial writes, no read where none asks."""
    writing = np.asarray(_writing(form).any(axis=0))
    asking = np.asarray((form.query != 0).any(axis=(0, 2)))
    phases: list[Phase] = []
    now = 0.0

    def add(kind: str, step: int, write: int) -> None:
        nonlocal now
        duration = getattr(timing, kind)
        if duration > 0:
            phases.append(Phase(kind=kind, step=step, write=write, start=now, duration=duration))
            now += duration

    for write in range(form.key.shape[1]):
        step, part = divmod(write, form.writes_per_step)
        add("gap", step, write)
        if writing[write]:
            add("write", step, write)
        if part == form.writes_per_step - 1 and asking[step]:
            if writing[write]:
                add("pause", step, write)
            add("settle", step, write)
            add("read", step, write)
    return tuple(phases), now


def _writing(form: NormalForm) -> np.ndarray:
    """(n, T): whether a trial writes or erases anything."""
    content = np.any(form.write != 0, axis=-1)
    if form.erase is not None:
        content = content | np.any(form.erase != 0, axis=-1)
    return np.asarray(np.any(form.key != 0, axis=-1) & content)


def _drives(
    form: NormalForm,
    timing: Timing,
    phases: tuple[Phase, ...],
    overlap: np.ndarray,
    erase_limit: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Plasticity rates, prediction rates and teaching inputs, write by write.

    The trace s and the calcium c run along, since what is left of them at the next presentation
    is part of the map.
    """
    n, writes, _ = form.key.shape
    predict = np.zeros_like(form.key)
    share = np.ones((n, writes))
    write, erase = form.write, form.erase
    if erase is not None:
        squared = (form.key**2).sum(-1)
        share = np.where(overlap > 0, overlap / np.where(squared > 0, squared, 1), 1.0)
        predict = erase / share[..., None]
    shown = presented(phases)
    on, y = _writing(form)[:, shown], overlap[:, shown]
    late, window = windows(timing, phases, on)
    x = reached(np.minimum(y, erase_limit))
    steady, fading = driven(x / window, window, late, timing.tau_nmda)
    if erase is None:
        rate = 1 / (steady - fading)
    else:
        rate = np.where(y > 1e-12, x / np.where(y > 1e-12, y, 1), 1.0) / window
    rate = rate * share[:, shown]
    target = write[:, shown] / rate[..., None]
    admitted, fading = (steady - fading)[..., None], fading[..., None]
    # teach such that teach * admitted + trace * fading = target, step by step: the trace runs along
    wanted = np.where(on[..., None], target / admitted, 0.0)
    owed = np.where(on[..., None], fading / admitted, 0.0)
    left, kept = _fading(timing, phases)
    needed = np.zeros_like(wanted)
    trace = np.zeros((n, write.shape[-1]))
    for t in range(len(shown)):
        trace = left[t] * trace
        needed[:, t] = wanted[:, t] - owed[:, t] * trace
        trace = kept * trace + (1 - kept) * needed[:, t]
    plasticity, teach = np.zeros((n, writes)), np.zeros(write.shape)
    plasticity[:, shown] = np.where(on, rate, 0.0)
    teach[:, shown] = needed
    return plasticity, predict, teach


def presented(phases: tuple[Phase, ...]) -> list[int]:
    """The writes that are presented, in order of time."""
    return [phase.write for phase in phases if phase.kind == "write"]


def windows(
    timing: Timing, phases: tuple[Phase, ...], on: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """When calcium opens plasticity in each presentation, and for how long, s.

    Args:
        timing: the parts of a presentation.
        phases: in order of time; w of them are presentations.
        on: whether a trial writes in it, (n, w).

    Returns:
        Seconds from its start, and seconds from then to its end, (n, w) each.
    """
    calcium = np.zeros(on.shape)
    if timing.theta_d > 0:
        calcium = remains(timing, phases, on.astype(float)[..., None])[..., 0]
    late = opening(timing.theta_d, timing.tau_nmda, calcium)
    return late, timing.write - late


def remains(timing: Timing, phases: tuple[Phase, ...], level: np.ndarray) -> np.ndarray:
    """What is left, as each presentation starts, of a trace that tends to a level during each.

    Args:
        timing: the parts of a presentation, and the trace's time constant `tau_nmda`.
        phases: in order of time; w of them are presentations.
        level: (n, w, column).
    """
    left, kept = _fading(timing, phases)
    before = np.zeros_like(level)
    after = np.zeros((len(level), level.shape[-1]))
    for t in range(level.shape[1]):
        before[:, t] = left[t] * after
        after = kept * before[:, t] + (1 - kept) * level[:, t]
    return before


def _fading(timing: Timing, phases: tuple[Phase, ...]) -> tuple[np.ndarray, float]:
    """What a trace keeps over the silence before each presentation, and over a presentation."""
    starts = np.array([phase.start for phase in phases if phase.kind == "write"])
    silence = np.diff(starts, prepend=-timing.write) - timing.write
    return np.exp(-silence / timing.tau_nmda), float(np.exp(-timing.write / timing.tau_nmda))
