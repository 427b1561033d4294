"""The cores that this process may use, and work that threads share on them."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

MOST = 8  # threads that read and decode: with more, they wait for each other
Item = TypeVar("Item")
Result = TypeVar("Result")


def num_cores() -> int:
    """Cores of this process, which may be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], threads: int | None = None, ahead: int = 2
) -> Iterator[Result]:
    """Results in the order of the items. At most `ahead` per thread wait, so that memory stays bounded however slow the
    caller is; joblib's generators and `ThreadPoolExecutor.map` finish everything ahead of it.

    threads: one per core, at most 8, unless given.
    """
    threads = threads or min(MOST, num_cores())
    pool, waiting = ThreadPoolExecutor(threads), deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > ahead * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C need not wait for what nobody will look at
