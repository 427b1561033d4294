"""`unmask map RUN DATA --out map.html`: all images on one page, those alike near each other."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from tyro.conf import Positional

from unmask.cli.shared_options import IndexOptions
from unmask.errors import UserError, closest
from unmask.plain import (
    ImagePlaces,
    NonNegativeInt,
    Place,
    PositiveInt,
    WeightsPlace,
    check_fields,
    settle,
    texts,
)

__all__ = ["Map"]

METHODS = ("auto", "pca", "tsne", "umap")


@dataclass(frozen=True)
class Map(IndexOptions):
    """Draw a map of all images, with similar ones near each other."""

    run: Positional[WeightsPlace]  # folder of a run, a file of weights, or a timm model
    data: Positional[ImagePlaces]  # images: whatever pretrain takes, streams excepted
    _: KW_ONLY
    out: Place | None = None  # the page; an image and a table are written beside it; by default RUN/map.html
    # how features become positions on the map: pca, tsne or umap; by default umap if installed, else tsne, or pca for
    # very many images
    method: str = "auto"
    most: PositiveInt = 20_000  # number of images on the map, spread over the data
    # folder that keeps the features for the next time; by default in the run's folder, else beside the map
    index: Place | None = None
    seed: NonNegativeInt = 0  # seed of t-SNE and UMAP

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
