"""Turns Ctrl-C, SIGTERM and SIGUSR1 into a request to stop, which the loop follows between two steps, after saving.

SIGUSR1 is what SLURM sends on request some time before a job's end (docs/scale.md).
"""

import signal
import threading
import time
from types import FrameType

from unmask.runtime.distributed.launcher import launch

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))
SAME = 10.0  # seconds: a launcher passes on what its processes got already, so they get it twice


class StopRequest:
    """`with StopRequest() as stop:` and look at `stop.signum`; a second signal ends the process at once.

    Of several processes started together, a signal within SAME seconds of the first counts as the same.
    """

    def __init__(self):
        self.signum: int | None = None
        self.when = 0.0
        self._before: dict[int, object] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():  # Python allows handlers only there
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is not None:
            if launch().world > 1 and time.monotonic() - self.when < SAME:
                return
            self.__exit__()
            signal.raise_signal(signum)
        self.signum, self.when = signum, time.monotonic()
