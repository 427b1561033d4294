"""Which steps count: decided on the device without synchronisation, and read by the host at intervals.

A step whose loss or gradient is not finite, or whose loss is far above the recent ones, is skipped: its update is not
applied, so weights and moments stay as they were before its batch.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

import torch
from torch import Tensor

from unmask.runtime.distributed.data_parallel import Devices
from unmask.training.state import RunState

RECENT, ENOUGH = 100, 20  # number of recent losses in the rule for spikes; fewer than ENOUGH are too few to judge by
SCALE = 1.4826  # median absolute deviation -> standard deviation, for normally distributed losses


@dataclass(frozen=True)
class LeftOut:
    """A step whose update was skipped."""

    step: int
    lr: float
    loss: float
    norm: float  # of the gradient
    limit: float  # that a loss may reach

    @property
    def why(self) -> str:
        return "spike" if math.isfinite(self.loss) and math.isfinite(self.norm) else "non-finite"


class Guard:
    def __init__(self, state: RunState, spike: float | None, devices: Devices):
        """spike: deviations above the median of recent losses from which a loss is a spike; None: no limit."""
        self.spike, self.devices = spike, devices
        self.unread: list[Tensor] = []  # on the device: the values of a step, and whether it counts
        self.facts: list[tuple[list[str], int, float, float]] = []  # of the same: names, step, learning rate, limit
        self.last: LeftOut | None = None
        self.begin(state)

    def begin(self, state: RunState) -> None:
        """Starts from a state: at the beginning, and after a rollback."""
        self.unread.clear()
        self.facts.clear()
        self._allow(state.limit)

    def judge(self, outputs: dict[str, Tensor], step: int, lr: float) -> Tensor:
        """Whether step number `step` counts, as a 0-dim bool on the device. outputs: with "loss" and "grad_norm"."""
        values = self.devices.mean(torch.stack([value.detach().float() for value in outputs.values()]))
        names = list(outputs)
        loss, norm = values[names.index("loss")], values[names.index("grad_norm")]
        good = loss.isfinite() & norm.isfinite() & (loss <= self.limit_on_device)
        self.unread.append(torch.cat([values, good[None].float()]))
        self.facts.append((names, step, lr, self.limit))
        return good

    def read(self, state: RunState) -> tuple[RunState, list[LeftOut]]:
        """The state, updated from the device in one transfer, and the steps skipped since."""
        if not self.unread:
            return state, []
        flat, left_out = iter(torch.cat(self.unread).tolist()), []
        good, bad_in_row = [], state.bad_in_row
        for names, step, lr, limit in self.facts:
            values = dict(zip(names, islice(flat, len(names))))
            if next(flat):
                good.append(values)
                bad_in_row = 0
            else:
                bad_in_row += 1
                left_out.append(LeftOut(step, lr, values["loss"], values["grad_norm"], limit))
        self.unread.clear()
        self.facts.clear()
        self.last = left_out[-1] if left_out else self.last
        losses = (*state.losses, *(values["loss"] for values in good))[-RECENT:]
        counts = {"bad_in_row": bad_in_row, "skipped": state.skipped + len(left_out)}
        return replace(state, window=(*state.window, *good), losses=losses, **counts), left_out

    def means(self, state: RunState) -> tuple[RunState, dict[str, float]]:
        """Means over the steps that counted since the last call; sets the limit for the following steps."""
        columns: dict[str, list[float]] = {}
        for row in state.window:
            for name, value in row.items():
                columns.setdefault(name, []).append(value)
        self._allow(limit_of(state.losses, self.spike))
        means = {name: math.fsum(values) / len(values) for name, values in columns.items()}
        return replace(state, window=(), limit=self.limit), means

    def _allow(self, limit: float) -> None:
        self.limit, self.limit_on_device = limit, torch.tensor(limit, device=self.devices.device)


def limit_of(losses: Sequence[float], spike: float | None) -> float:
    """The largest loss that is not a spike: the median of recent losses plus `spike` deviations, and at least twice the
    median, so that ordinary noise never counts as one. The deviation is the robust one, from the median distance.
    """
    if spike is None or len(losses) < ENOUGH:
        return math.inf
    middle = statistics.median(losses)
    deviation = SCALE * statistics.median(abs(loss - middle) for loss in losses)
    return middle + max(spike * deviation, abs(middle))
