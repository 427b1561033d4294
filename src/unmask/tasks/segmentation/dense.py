"""What the tasks of all kinds of data have in common that give a class to every pixel, voxel or point."""

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from rich.console import Console

from unmask.data.datasets.segmentation import Segmented
from unmask.files import Json
from unmask.models.encoder import Encoder
from unmask.models.segmenter import Segmenter
from unmask.tasks.segmentation.figures import colours_of
from unmask.tasks.segmentation.predict import predictions_place
from unmask.tasks.segmentation.settings import NAME, SegmentOptions
from unmask.tasks.task import DataOptions, TransferTask
from unmask.tasks.training_settings import TaskSettings

Settings = TypeVar("Settings", bound=TaskSettings)
Model = TypeVar("Model", bound=Segmenter)
Data = TypeVar("Data", bound=Segmented)


class DenseTask(TransferTask[SegmentOptions, Settings, Model, Data]):
    name = NAME
    looks: ClassVar[int] = 20  # every val sample is seen whole: dearer than an epoch of random parts
    network: ClassVar[type[Segmenter]] = Segmenter  # that refuses heads that are not for this kind
    read: ClassVar[Callable[..., Any]]  # opens and checks the samples and their labels, and prints remarks

    def __init__(self, data: DataOptions, options: SegmentOptions, encoder: Encoder, console: Console):
        self.encoder = encoder
        if options.head is not None:
            self.network(encoder, ("class",), (0,), head=options.head)  # refuses wrong options before samples are read
        self.data = self.read(data, options, encoder, console)
        self.colours = colours_of(self.data.numbers, self.data.legend)

    def facts(self) -> Json:
        own = {"numbers": self.data.numbers, "void": sorted(self.data.void), "colours": self.colours}
        return super().facts() | own

    def data_facts(self) -> Json:
        return {"shares": self.data.sheet.pixel_shares, "left_out": len(self.data.sheet.left_out)}

    predictions_place = staticmethod(predictions_place)
