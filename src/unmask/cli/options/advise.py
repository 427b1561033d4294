"""`unmask advise DATA --on LABELLED`: what to do with these images, on what grounds, at what cost."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from unmask.cli.shared_options import ConfigOption
from unmask.errors import UserError
from unmask.plain import ImagePlaces, OneOf, PartOf, Place, PositiveFloat, WeightsPlaces, check_fields, settle, texts

__all__ = ["Advise"]

KINDS = ("photographs", "xray", "microscopy", "satellite", "drawings")


@dataclass(frozen=True)
class Advise(ConfigOption):
    """Say what to do with these images: weights, method, settings, cost, and why.

    Looks at a sample of the images and at this machine, decides by a table of published results, and ends with the
    command to run.
    """

    data: Positional[ImagePlaces]  # images: whatever pretrain takes
    _: KW_ONLY
    on: ImagePlaces = ()  # labelled data for the task to come; by default the labels of DATA, where it has any
    # what the data is, such as audio or signal; by default what most files are
    modality: Annotated[str | None, PartOf("modality")] = None
    # what the images are: photographs, xray, microscopy, satellite or drawings; by default guessed from the pixels
    kind: Annotated[str | None, OneOf(KINDS)] = None
    # weights at hand, taken before those that the table names: runs, files of weights, timm models; by default those
    # of the table, with a word on whether they are on this disk
    against: WeightsPlaces = ()
    # time for trials on these images, judged on the labels: methods, random weights, raw pixels and weights at hand; by
    # default none, and nothing is trained
    minutes: PositiveFloat | None = None
    out: Place | None = None  # folder for advice.html and advice.json; by default advice, advice-2, ...
    device: str = "auto"  # cuda, mps or cpu; by default the first of these that this machine has

    def __post_init__(self):
        settle(self, "data", texts(self.data))
        settle(self, "on", texts(self.on))
        settle(self, "against", texts(self.against))
        settle(self, "out", None if self.out is None else Path(self.out))
        if not self.data:
            raise UserError("name the images: unmask advise DATA")
        check_fields(self)
