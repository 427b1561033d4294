"""`unmask predict RUN IMAGE... --out OUT`: what a classifier, segmenter or detector says of images."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from tyro.conf import Positional

from unmask.cli.shared_options import ConfigOption
from unmask.errors import UserError
from unmask.plain import Batch, ImagePlaces, Names, Place, Share, WeightsPlace, check_fields, settle, texts

__all__ = ["Predict"]


@dataclass(frozen=True)
class Predict(ConfigOption):
    """Apply a trained classifier, segmenter or detector to images.

    A run that was only evaluated answers with its best classifier on frozen features.
    """

    run: Positional[WeightsPlace]  # folder that transfer wrote, the run that it started from, or an evaluated run
    images: Positional[ImagePlaces] = ()  # images: whatever pretrain takes; for a detector also a COCO .json
    _: KW_ONLY
    out: Place | None = None  # a .csv for a classifier, else a folder; by default predictions.csv or predictions in RUN
    # words to choose among ("a cat" "a dog"), of a run that was trained with captions; by default the classes that were
    # learnt
    classes: Names = ()
    batch: Batch = 64  # images at a time
    threshold: Share = 0.5  # detectors: score from which boxes are drawn and listed
    device: str = "auto"  # cuda, mps or cpu; by default the first of these that this machine has

    def __post_init__(self):
        settle(self, "images", texts(self.images))
        settle(self, "out", Path(self.out) if self.out is not None else None)
        settle(self, "classes", tuple(dict.fromkeys(text.strip() for text in texts(self.classes) if text.strip())))
        if len(self.classes) == 1:
            raise UserError("--classes: give two or more, else there is nothing to choose among")
        if not self.images:
            raise UserError("name at least one image: unmask predict RUN IMAGE... --out predictions.csv")
        check_fields(self)
