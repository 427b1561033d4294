"""Opens labelled data for a segmenter of any kind: in `transfer`, and in studies."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from unmask.data.datasets.segmentation import Segmented
from unmask.models.encoder import Encoder
from unmask.runtime.progress import make_say, progress
from unmask.tasks.segmentation.settings import SegmentOptions
from unmask.tasks.task import DataOptions

Data = TypeVar("Data", bound=Segmented)


def read_labelled(
    make: Callable[..., Data],
    data: DataOptions,
    options: SegmentOptions,
    encoder: Encoder,
    console: Console,
    what: str,
) -> Data:
    """Calls `make`, which opens and checks the data, and prints its remarks and how it is unlike what the encoder was
    pretrained on. what: is looked at, as the progress bar says; of the options those about the data count."""
    say = make_say(console)
    with progress(console, f"looking at {what}") as update:
        labelled = make(
            data.on,
            images=None if options.images is None else Path(options.images),
            classes=None if options.classes is None else Path(options.classes),
            void=tuple(options.void or ()),
            most=data.most,
            seed=data.seed,
            max_bad=options.max_bad,
            say=say,
            progress=update,
        )
    for line in labelled.sheet.unlike(*encoder.statistics):
        say(line)
    return labelled
