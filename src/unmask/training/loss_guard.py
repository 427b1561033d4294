"""Which steps count: decided on the device without waiting for it, read by the host now and then.

A step whose loss or gradient is not finite, or whose loss is far above the recent ones, is left out: its update is not
made, so weights and moments stay what they were before its batch.
"""

import math
import statistics
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor

RECENT, ENOUGH = 100, 20  # losses that the rule for spikes looks back on; fewer than ENOUGH say nothing yet
SCALE = 1.4826  # makes the median distance from the median the deviation, where losses are normally distributed


@dataclass(frozen=True)
class LeftOut:
    """A step whose update was not made."""

    step: int
    lr: float
    loss: float
    norm: float  # of the gradient
    limit: float  # that a loss may reach

    @property
    def why(self) -> str:
        return "spike" if math.isfinite(self.loss) and math.isfinite(self.norm) else "non-finite"


def fresh() -> dict[str, Any]:
    """What the guard keeps in the state of a run, so that a resumed one decides and logs the very same."""
    return {"bad_in_row": 0, "skipped": 0, "losses": [], "limit": math.inf, "window": []}


class Guard:
    def __init__(self, state: dict[str, Any], spike: float | None, fabric: Fabric):
        """spike: deviations above the median of recent losses at which one is a spike; None: no such limit."""
        self.state, self.spike, self.fabric = state, spike, fabric
        self.unread: list[Tensor] = []  # on the device: the values of a step, and whether it counts
        self.facts: list[tuple[list[str], int, float, float]] = []  # of the same: names, step, learning rate, limit
        self.last: LeftOut | None = None
        self.begin()

    def begin(self) -> None:
        """Takes up the state anew: at the start, and after going back."""
        self.unread.clear()
        self.facts.clear()
        if isinstance(self.state["window"], dict):  # written by a version that kept sums
            sums = {name: float(value) for name, value in self.state["window"].items()}
            count = int(sums.pop("count", 0))
            self.state["window"] = [{name: value / count for name, value in sums.items()} for _ in range(count)]
        self.limit = torch.tensor(self.state["limit"], device=self.fabric.device)

    def judge(self, outputs: dict[str, Tensor], step: int, lr: float) -> Tensor:
        """Whether step number `step` counts, as a 0-dim bool on the device. outputs: with "loss" and "grad_norm"."""
        values = average(torch.stack([value.detach().float() for value in outputs.values()]), self.fabric)
        names = list(outputs)
        loss, norm = values[names.index("loss")], values[names.index("grad_norm")]
        good = loss.isfinite() & norm.isfinite() & (loss <= self.limit)
        self.unread.append(torch.cat([values, good[None].float()]))
        self.facts.append((names, step, lr, self.state["limit"]))
        return good

    def read(self) -> list[LeftOut]:
        """Brings the state up to date with the device, in one transfer; returns the steps that were left out."""
        if not self.unread:
            return []
        flat, found = iter(torch.cat(self.unread).tolist()), []
        for names, step, lr, limit in self.facts:
            values = dict(zip(names, islice(flat, len(names))))
            if next(flat):
                self.state["window"].append(values)
                self.state["losses"].append(values["loss"])
                self.state["bad_in_row"] = 0
                continue
            self.state["bad_in_row"] += 1
            self.state["skipped"] += 1
            found.append(LeftOut(step, lr, values["loss"], values["grad_norm"], limit))
        del self.state["losses"][:-RECENT]
        self.unread.clear()
        self.facts.clear()
        self.last = found[-1] if found else self.last
        return found

    def means(self) -> dict[str, float]:
        """Of the steps that counted since the last call; sets the limit for those that follow."""
        columns: dict[str, list[float]] = {}
        for row in self.state["window"]:
            for name, value in row.items():
                columns.setdefault(name, []).append(value)
        means = {name: math.fsum(values) / len(values) for name, values in columns.items()}
        self.state["window"] = []
        self.state["limit"] = limit_of(self.state["losses"], self.spike)
        self.limit = torch.tensor(self.state["limit"], device=self.fabric.device)
        return means


def limit_of(losses: list[float], spike: float | None) -> float:
    """The largest loss that is no spike: the median of the recent ones, plus `spike` deviations, but at least as much
    again as the median itself, so that ordinary noise never is one. The deviation is robust: from the median distance.
    """
    if spike is None or len(losses) < ENOUGH:
        return math.inf
    middle = statistics.median(losses)
    deviation = SCALE * statistics.median(abs(loss - middle) for loss in losses)
    return middle + max(spike * deviation, abs(middle))


def average(values: Tensor, fabric: Fabric) -> Tensor:
    """The same values on every device: means over them. One call per step, and the host does not wait for it."""
    return values if fabric.world_size == 1 else fabric.all_reduce(values, reduce_op="mean")  # type: ignore[return-value]
