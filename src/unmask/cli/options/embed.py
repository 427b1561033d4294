"""`unmask embed RUN DATA --out features.npz`: one feature vector per image."""

from dataclasses import KW_ONLY, dataclass

from tyro.conf import Positional

from unmask.cli.shared_options import ConfigOption
from unmask.errors import UserError
from unmask.plain import ImagePlaces, Place, PositiveInt, WeightsPlace, check_fields, settle, texts

__all__ = ["Embed"]


@dataclass(frozen=True)
class Embed(ConfigOption):
    """Write one feature vector per image, with its path and label."""

    run: Positional[WeightsPlace]  # folder of a run, or a timm name
    data: Positional[ImagePlaces]  # anything that pretrain takes
    _: KW_ONLY
    out: Place | None = None  # .npz or .parquet; by default RUN/features.npz
    pooling: str = "mean"  # mean of the patches, cls, or mean4: of the last four layers, concatenated
    batch: PositiveInt = 256  # images at a time
    device: str = "auto"  # cuda, mps, cpu, or auto

    def __post_init__(self):
        settle(self, "data", texts(self.data))
        if not self.data:
            raise UserError("name the images: unmask embed RUN DATA --out features.npz")
        check_fields(self)
