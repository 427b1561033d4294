"""Communication among the processes of one training: broadcasts, agreement, and which process prints errors.

Everything here uses a separate CPU group (gloo), so that nothing waits for a GPU, with a timeout of days: the others
wait while the first process inspects data, probes or draws. With a single process, all of it costs nothing.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from unmask.errors import Lost, UserError
from unmask.runtime.distributed.launcher import launch

Value = TypeVar("Value")
PATIENCE = timedelta(days=7)
SIGNS = ("gloo", "Connection closed", "Connection reset", "NCCL", "process group")  # how errors of a lost process read


class Ranks:
    """To be created, and called, in every process at the same point of the program."""

    def __init__(self):
        joined = dist.is_available() and dist.is_initialized()
        self.rank, self.world = (dist.get_rank(), dist.get_world_size()) if joined else (0, 1)
        self.group: Any = dist.new_group(backend="gloo", timeout=PATIENCE) if self.world > 1 else None
        self._flag = torch.zeros(1, dtype=torch.int64)
        self._asked: Any = None

    @property
    def first(self) -> bool:
        """True in the process that writes, prints and evaluates."""
        return self.rank == 0

    def share(self, value: Value) -> Value:
        """The first process's value, in all of them."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.group)
        return box[0]

    def only_first(self, action: Callable[[], Value]) -> Value | None:
        """Runs `action` in the first process while the others wait and get None. A UserError is raised in all."""
        value, failed = None, None
        if self.first:
            try:
                value = action()
            except UserError as error:
                failed = error
        if (failed := self.share(failed)) is not None:
            raise failed
        return value

    def from_first(self, action: Callable[[], Value]) -> Value:
        """The result of `action` in the first process, in all of them."""
        value: Any = self.only_first(action)
        return self.share(value)

    def everybodys(self, value: Value) -> list[Value]:
        """Each process's value, in order of rank."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value, group=self.group)
        return values

    def most(self, *numbers: float) -> tuple[float, ...]:
        """The element-wise maximum over processes."""
        if self.world == 1:
            return numbers
        line = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(line, dist.ReduceOp.MAX, group=self.group)
        return tuple(line.tolist())

    def agree(self, wish: int) -> int:
        """The largest request of any process as of the previous call, so that no process waits for the exchange.

        Called once per step: all processes get the same answer at the same step, whenever a signal reached each.
        """
        if self.world == 1:
            return wish
        self.settle()
        largest = int(self._flag)
        self._flag = torch.tensor([wish])
        flag: Any = self._flag
        self._asked = dist.all_reduce(flag, dist.ReduceOp.MAX, group=self.group, async_op=True)
        return largest

    def settle(self) -> None:
        """Waits for a pending exchange, if there is one."""
        if self._asked is not None:
            self._asked.wait()
            self._asked = None

    def wait(self) -> None:
        """Waits until all processes have called it."""
        if self.world > 1:
            dist.barrier(group=self.group)


@contextmanager
def together() -> Iterator[None]:
    """Turns the errors of a collective whose peer is gone into one clear error, `Lost`."""
    try:
        yield
    except RuntimeError as error:
        gone = isinstance(error, dist.DistError) or any(sign in str(error) for sign in SIGNS)
        if launch().world == 1 or not gone:
            raise
        raise Lost(
            "another process of this training ended, so all stop. The same command goes on from the last checkpoint;"
            " torchrun --max-restarts N does so by itself (docs/scale.md)"
        ) from error


def may_speak() -> bool:
    """True in the first process of a launch that calls it, so that an error that ends all of them is printed once.

    Decided by the store through which they connected. If that is gone too, the first process of each machine prints.
    """
    launched = launch()
    if launched.world == 1:
        return True
    try:
        address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = dist.TCPStore(*address, is_master=False, timeout=timedelta(seconds=5), wait_for_workers=False)
        return store.add(f"unmask/said/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", 1) == 1
    except (KeyError, ValueError, RuntimeError):
        return launched.local == 0
