"""TensorBoard: event files in the run's `tensorboard/`, to look at with `tensorboard --logdir RUN`."""

from collections.abc import Mapping
from pathlib import Path

from unmask.training.trackers import Plain, Tracker

__all__ = ["TensorBoard"]


class TensorBoard(Tracker):
    """Scalars by step, and the settings as hyper-parameters. What is recorded again replaces what was there."""

    def __init__(self):
        self._writer = None

    def begin(self, out: Path, settings: Mapping[str, Plain], step: int) -> None:
        from torch.utils.tensorboard.summary import hparams
        from torch.utils.tensorboard.writer import SummaryWriter

        self.close()
        folder = out / "tensorboard"
        begun = folder.exists() and any(folder.iterdir())
        self._writer = SummaryWriter(str(folder), purge_step=step + 1 if begun else None)
        if not begun:
            for summary in hparams(dict(settings), {"loss": 0}):
                self._writer._get_file_writer().add_summary(summary)  # add_hparams would begin another run

    def write(self, step: int, values: Mapping[str, float]) -> None:
        assert self._writer is not None
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
