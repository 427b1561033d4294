"""The data of a study: opened by the command, and again by every process that works for it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rich.console import Console

from unmask.data.datasets.classification import Labelled
from unmask.data.datasets.images import Samples
from unmask.data.sheet import Sheet
from unmask.errors import DataError, UserError
from unmask.planning.inspect_data import look_at
from unmask.runtime.progress import make_say, progress


@dataclass(frozen=True)
class Opening:
    """Where the images of a study lie, and how they are read."""

    data: tuple[str, ...]  # to pretrain on
    on: tuple[str, ...]  # labelled, to judge on
    max_side: int  # pixels to which larger images are shrunk
    channels: int | None
    max_bad: float  # share of unreadable files above which the study does not start
    labels: int | None  # training images to judge with at most
    test: int | None  # test images at most
    seed: int  # of their choice
    modality: str | None = None  # what the samples are; None: what most files of the data are

    def samples(self, console: Console) -> tuple[Sheet, Samples]:
        """What to pretrain on. Raises UserError for a stream."""
        settings = {"max_side": self.max_side, "channels": self.channels, "max_bad": self.max_bad}
        sheet, samples = look_at(self.data, console, modality=self.modality, **settings)
        if not isinstance(samples, Samples):
            raise UserError(
                f"a study looks at its {sheet.word}s again and again: bring the stream onto this disk, unmask pack"
            )
        return sheet, samples

    def of_kind(self, samples: Samples) -> "Opening":
        """The same, of the kind of data that the samples were found to be."""
        return replace(self, modality=samples.source.modality.text)

    def labelled(self, console: Console, command: str, judged: Sequence[str] = ("train", "val", "test")) -> Labelled:
        """The labelled data, with a validation split. judged: the splits that are looked at. Raises DataError for
        data that cannot be judged on."""
        say = make_say(console)
        with progress(console, "looking at the labelled data") as update:
            labelled = Labelled(
                self.on or self.data,
                max_side=self.max_side,
                modality=self.modality,
                most=self.labels,
                most_test=self.test,
                seed=self.seed,
                say=say,
                progress=update,
            )
        word = labelled.source.modality.word
        if labelled.multi_label:
            raise DataError(
                f"these {word}s have several labels each; {command} judges on data with one label per {word}"
            )
        counts = ", ".join(f"{len(labelled.splits[split]):,} {split}" for split in judged)
        say(f"Judged on {counts} {word}s of {len(labelled.classes)} classes")
        for line in labelled.check():
            say(line)
        return labelled
