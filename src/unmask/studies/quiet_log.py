"""The log of a training within a study: it records as usual, prints nothing, and tells its progress."""

from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from unmask.runs.config import Config
from unmask.training.log import Log


class QuietLog(Log):
    def __init__(self, folder: Path, config: Config, count: int, tell: Callable[[int], object]):
        """count: images of an epoch; tell: called with the step that was recorded."""
        quiet = Console(quiet=True, force_terminal=False)
        super().__init__(folder, quiet, config.training.batch, count, config.record.context)
        self.tell = tell

    def step(
        self, step: int, lr: float, means: dict[str, float], seconds: float, skipped: int, waited: float = 0.0
    ) -> None:
        super().step(step, lr, means, seconds, skipped, waited)
        self.tell(step)
