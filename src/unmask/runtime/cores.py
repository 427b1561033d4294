"""The cores available to this process, and parallel maps over threads."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

MOST = 8  # threads that read and decode: with more, they wait for each other
Item = TypeVar("Item")
Result = TypeVar("Result")


def num_cores() -> int:
    """Cores available to this process, which may be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], threads: int | None = None, ahead: int = 2
) -> Iterator[Result]:
    """Results in the order of the items. At most `ahead` results per thread are pending, so that memory stays bounded
    with a slow caller; joblib's generators and `ThreadPoolExecutor.map` would compute everything ahead.

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
