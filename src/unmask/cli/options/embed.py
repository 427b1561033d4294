"""`unmask embed RUN DATA --out features.npz`: one feature vector per image."""

from dataclasses import KW_ONLY, dataclass

from tyro.conf import Positional

from unmask.cli.shared_options import FeatureOptions
from unmask.errors import UserError
from unmask.plain import Batch, ImagePlaces, Place, WeightsPlace, check_fields, settle, texts

__all__ = ["Embed"]


@dataclass(frozen=True)
class Embed(FeatureOptions):
    """Write a feature vector for every image, with its path and label."""

    run: Positional[WeightsPlace]  # folder of a run, a file of weights, or a timm model
    data: Positional[ImagePlaces]  # images: whatever pretrain takes
    _: KW_ONLY
    out: Place | None = None  # file to write, .npz or .parquet; by default RUN/features.npz
    batch: Batch = 256  # images at a time

    def __post_init__(self):
        settle(self, "data", texts(self.data))
        if not self.data:
            raise UserError("name the images: unmask embed RUN DATA --out features.npz")
        check_fields(self)
