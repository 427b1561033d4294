"""Turns Ctrl-C and SIGTERM into a request that the loop answers between two steps, after saving."""

import signal
import threading
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """`with StopRequest() as stop:` and look at `stop.signum`; a second signal ends the process at once."""

    def __init__(self):
        self.signum: int | None = None
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
            self.__exit__()
            signal.raise_signal(signum)
        self.signum = signum
