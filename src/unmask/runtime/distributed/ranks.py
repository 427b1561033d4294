"""The processes of one training among themselves: what the first one says, what all agree on, who may speak.

Everything here goes over a group of its own on the CPU (gloo), so that nothing waits for a GPU, and with a patience of
days: the others wait for the first process while it inspects data, probes or draws. In one process all of it is free.
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
SIGNS = ("gloo", "Connection closed", "Connection reset", "NCCL", "process group")  # of a lost process, in errors


class Ranks:
    """Made in every process at the same place of the program; so is every call below."""

    def __init__(self):
        there = dist.is_available() and dist.is_initialized()
        self.rank, self.world = (dist.get_rank(), dist.get_world_size()) if there else (0, 1)
        self.group: Any = dist.new_group(backend="gloo", timeout=PATIENCE) if self.world > 1 else None
        self._flag = torch.zeros(1, dtype=torch.int64)
        self._asked: Any = None

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes, prints and looks."""
        return self.rank == 0

    def share(self, value: Value) -> Value:
        """What the first process has, in all of them."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.group)
        return box[0]

    def only_first(self, action: Callable[[], Value]) -> Value | None:
        """Runs `action` in the first process while the others wait; None in these. A UserError is raised in all."""
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
        """What `action` gives in the first process, in all of them."""
        value: Any = self.only_first(action)
        return self.share(value)

    def everybodys(self, value: Value) -> list[Value]:
        """What each process has, in order of rank."""
        if self.world == 1:
            return [value]
        found: list[Any] = [None] * self.world
        dist.all_gather_object(found, value, group=self.group)
        return found

    def most(self, *numbers: float) -> tuple[float, ...]:
        """The largest of each number in any process."""
        if self.world == 1:
            return numbers
        line = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(line, dist.ReduceOp.MAX, group=self.group)
        return tuple(line.tolist())

    def agree(self, wish: int) -> int:
        """The largest wish of any process, as it stood one call ago, so that nobody waits for the exchange.

        Called once per step: all processes get the same answer at the same step, whenever a signal reached each.
        """
        if self.world == 1:
            return wish
        self.settle()
        seen = int(self._flag)
        self._flag = torch.tensor([wish])
        flag: Any = self._flag
        self._asked = dist.all_reduce(flag, dist.ReduceOp.MAX, group=self.group, async_op=True)
        return seen

    def settle(self) -> None:
        """Waits for the exchange under way, if there is one."""
        if self._asked is not None:
            self._asked.wait()
            self._asked = None

    def wait(self) -> None:
        """Until all are here."""
        if self.world > 1:
            dist.barrier(group=self.group)


@contextmanager
def together() -> Iterator[None]:
    """Turns what a collective raises when another process is gone into one clear error, `Lost`."""
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
    """True in the first process that asks, of all of one launch: an error that ends all of them is said once.

    They ask the store at which they met. Where it is gone too, the first process of each machine speaks.
    """
    launched = launch()
    if launched.world == 1:
        return True
    try:
        place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = dist.TCPStore(  # pyright: ignore[reportPrivateImportUsage]
            *place, is_master=False, timeout=timedelta(seconds=5), wait_for_workers=False
        )
        return store.add(f"unmask/said/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", 1) == 1
    except (KeyError, ValueError, RuntimeError):
        return launched.rank % launched.here == 0
