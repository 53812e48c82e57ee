"""The flow substrate: the synapse's equations solved exactly from event to event.

    dw_ij/dt = -lambda_i w_ij                                   in gaps
    dw_ij/dt = -lambda w_ij + eta k_i (s_j - sum_l p_l w_lj)    while a key is presented
    ds_j/dt = (teach_j - s_j) / tau_nmda_decay

They are the equations that the rate model steps through, of the same presentations. Between two
events all that drives them is constant, so that what one presentation does to the weights is a
matrix in closed form,

    W(T) = e^(-lambda T) (I - (1 - e^(-eta y L)) / y k p^T) W(0) + k (eta integral e^(-a (T-t)) s)^T

with y = p.k, a = eta y + lambda, plastic for the last L seconds. The kernels run these maps, all
trials at once, in float64.
"""

import time
from dataclasses import dataclass

import numpy as np

from fwbio.data import constants
from fwbio.errors import FwbioError
from fwbio.models.mapping import driven
from fwbio.models.parameters import within
from fwbio.models.presentations import Plan, Timing, plan, presented, remains, windows
from fwbio.models.substrate import Run
from fwbio.normal_form import NormalForm

TURNOVER = ("between", "always")
_RECEPTORS = constants("receptors")


@dataclass(frozen=True, kw_only=True)
class FlowModel:
    """Parameters of the flow substrate; times in seconds.

    Args:
        gap: silence before each presentation, in which the weights turn over.
        write: duration of a presentation.
        read: duration of a cue.
        tau_nmda_decay: decay of the teaching trace, and rise of calcium (Wang 2002).
        theta_d: calcium above which synapses are plastic, 1 being its steady value.
        turnover: "between" presentations, as the rules have it, or "always": in presentations,
            pauses and cues too, which makes the write gate smaller than the erase gate.
        erase_limit: largest share of a prediction that one presentation may erase, below 1.
        backend: of the kernels, as `fwbio.kernels.scan` takes it.
    """

    gap: float = 0.1
    write: float = 0.3
    read: float = 0.05
    tau_nmda_decay: float = _RECEPTORS["tau_nmda_decay"]
    theta_d: float = within(0.0, high=1.0)
    turnover: str = "between"
    erase_limit: float = within(1 - 1e-6, high=1 - 1e-12)
    backend: str = "auto"

    def faults(self) -> list[tuple[str, str]]:
        """Combinations of parameters that make no model, each with its mend."""
        if self.turnover not in TURNOVER:
            return [(f"turnover = {self.turnover!r} is no time", 'give "between" or "always"')]
        return []


def run(
    form: NormalForm,
    initial: np.ndarray,
    kept: np.ndarray,
    model: FlowModel,
    seed: int,
    progress: bool,
) -> Run:
    """Solve a program's presentations.

    Args:
        form: operands (n, time, channel), n trials.
        initial: weights before the first step, (n, row, column).
        kept: steps after which weights are kept.
        model: parameters.
        seed: unused: nothing is random here.
        progress: unused: it takes no time.

    Raises:
        FwbioError: as `fwbio.models.presentations.plan` says, or turnover at rates of its own for
            each channel while it writes, which has no closed form of this kind.
    """
    begun = time.perf_counter()
    timing = Timing(
        gap=model.gap,
        write=model.write,
        pause=0.0,
        settle=0.0,
        read=model.read,
        tau_nmda=model.tau_nmda_decay,
        theta_d=model.theta_d,
    )
    course = plan(form, timing, erase_limit=model.erase_limit, where="flow")
    always = model.turnover == "always"
    if always and course.turnover.shape[-1] > 1:
        raise FwbioError(
            "channels that turn over at rates of their own, while they write, have no closed form",
            where="flow substrate",
            mend='give turnover="between", or a rule that decays by one factor',
        )
    planned = time.perf_counter()
    events = _Events(form, course, timing, always=always)
    drawn, snapshots, backend = events.solve(initial, kept, model.backend)
    solved = time.perf_counter()
    approximate = []
    if course.clipped:
        approximate.append(
            f"{course.clipped} writes erase {model.erase_limit:g} of the prediction, not all of it:"
            " a passive flow never quite does"
        )
    if always:
        approximate.append("turnover goes on during presentations, which the rule knows nothing of")
    return Run(
        readout=drawn,
        weights=snapshots,
        onset=course.onset(form.query.shape[1]),
        exact=("the synapse's equations, from event to event, to float64 rounding",),
        approximate=tuple(approximate),
        backend=backend,
        run_s=solved - planned,
        compile_s=planned - begun,
    )


class _Events:
    """The linear map that each event makes of the weights, as operands of the kernels' recurrence.

    Args:
        form: operands of the program.
        course: the presentations planned for it.
        timing: their parts.
        always: whether turnover goes on while a key or a cue is presented.
    """

    def __init__(self, form: NormalForm, course: Plan, timing: Timing, *, always: bool) -> None:
        self.form, self.course, self.timing, self.always = form, course, timing, always
        n, writes, _ = form.key.shape
        shown = presented(course.phases)
        rate, teach = course.plasticity[:, shown], course.teach[:, shown]
        late, window = windows(timing, course.phases, rate > 0)
        overlap = np.einsum("ntk,ntk->nt", course.predict, form.key)[:, shown]
        reach, tau = rate * overlap, timing.tau_nmda
        lost = course.turnover[:, shown, 0] if always else 0.0
        steady, fading = driven(reach + lost, window, late, tau)
        trace = remains(timing, course.phases, teach)
        self.value = np.zeros(form.write.shape)
        self.value[:, shown] = rate[..., None] * (
            teach * (steady - fading)[..., None] + trace * fading[..., None]
        )
        self.erased = np.zeros((n, writes))
        self.erased[:, shown] = rate * driven(reach, window, late, tau)[0]
        self.elapsed = np.zeros((writes, 2))  # seconds of turnover up to a write's end, and after
        for phase in course.phases:
            if always or phase.kind == "gap":
                after = phase.kind not in {"gap", "write"}
                self.elapsed[phase.write, int(after)] += phase.duration

    def solve(
        self, initial: np.ndarray, kept: np.ndarray, backend: str
    ) -> tuple[np.ndarray, np.ndarray, str]:
        """Read-outs (n, step, column), kept weights (n, snapshot, row, column), and what ran."""
        import torch

        from fwbio.kernels.entry import run_recurrence
        from fwbio.kernels.recurrence import Recurrence

        form = self.form
        turnover = np.broadcast_to(
            self.course.turnover, (*form.key.shape[:2], self.course.turnover.shape[-1])
        )
        # where a key also reads what it erases, one strength does for both
        strength = self.erased[..., None]
        value = self.value / np.where(strength > 0, strength, 1) if form.tied else self.value
        predict = strength if form.tied else self.course.predict * strength
        key, value, predict, turned = (
            self._with_end(x) for x in (form.key, value, predict, -turnover * self.elapsed[:, :1])
        )
        if self.always:
            last = form.writes_per_step - 1
            ends = -turnover[:, last :: last + 1] * self.elapsed[last :: last + 1, 1:]
            turned[:, last + 1 :: last + 2] = ends

        def shared(x: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(np.require(x, requirements=["C", "W"]))

        def tensor(x: np.ndarray) -> torch.Tensor:
            return shared(x)[:, :, None]

        recurrence = Recurrence(
            query=tensor(form.query),
            key=tensor(key),
            value=tensor(value),
            strength=tensor(predict[..., 0]) if form.tied else None,
            erase=tensor(predict) if predict.any() and not form.tied else None,
            tied=form.tied,
            log_decay=tensor(turned if turned.shape[-1] > 1 else turned[..., 0]),
            writes=form.writes_per_step + self.always,
        )
        every = _spacing(kept, form.query.shape[1])
        y, final, states, ran = run_recurrence(
            recurrence, shared(initial)[:, None], every, backend=backend
        )
        shown = final[:, None] if states is None else torch.cat([states, final[:, None]], 1)
        return y[:, :, 0].numpy(), shown[:, : len(kept), 0].numpy(), ran

    def _with_end(self, x: np.ndarray) -> np.ndarray:
        """Streams (n, time, channel) with a write of nothing at the end of each step."""
        if not self.always:
            return x
        n, _, channels = x.shape
        steps = x.reshape(n, -1, self.form.writes_per_step, channels)
        return np.pad(steps, [(0, 0), (0, 0), (0, 1), (0, 0)]).reshape(n, -1, channels)


def _spacing(kept: np.ndarray, steps: int) -> int | None:
    """Every how many steps the weights are kept, None where only the last."""
    if len(kept) == 0 or kept[0] == steps - 1:
        return None
    return int(kept[0]) + 1
