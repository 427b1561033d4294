"""`unmask map RUN DATA --out map.html`: all images on one page, those alike near each other."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from tyro.conf import Positional

from unmask.cli.shared_options import ConfigOption
from unmask.errors import UserError, closest
from unmask.plain import ImagePlaces, NonNegativeInt, Place, PositiveInt, WeightsPlace, check_fields, settle, texts

__all__ = ["Map"]

METHODS = ("auto", "pca", "tsne", "umap")


@dataclass(frozen=True)
class Map(ConfigOption):
    """Draw a map of a folder: images that the encoder finds alike lie near each other."""

    run: Positional[WeightsPlace]  # folder of a run, or a timm name
    data: Positional[ImagePlaces]  # images: anything that pretrain takes, but streams
    _: KW_ONLY
    out: Place | None = None  # the page; an image and a table are written beside it; by default RUN/map.html
    method: str = "auto"  # pca, tsne or umap; auto is umap where it is installed, else tsne, else pca for very many
    most: PositiveInt = 20_000  # images on the map at the most, spread over the data
    pooling: str = "mean"  # mean of the patches, cls, or mean4: of the last four layers, concatenated
    index: Place | None = None  # folder that keeps the features; by default in the run's folder, else beside OUT
    seed: NonNegativeInt = 0  # of t-SNE and UMAP
    batch: PositiveInt = 64  # images at a time
    device: str = "auto"  # cuda, mps, cpu, or auto

    def __post_init__(self):
        settle(self, "data", texts(self.data))
        settle(self, "out", None if self.out is None else Path(self.out))
        if not self.data:
            raise UserError("name the images: unmask map RUN DATA --out map.html")
        if self.method not in METHODS:
            raise UserError(f"--method {self.method!r} is none of {', '.join(METHODS)}{closest(self.method, METHODS)}")
        if self.out is not None and Path(self.out).suffix.lower() not in (".html", ".htm"):
            raise UserError(f"--out {self.out}: a map is written as .html")
        check_fields(self)
