"""Settings of a run's data: images, size, crops and flips, loaders."""

from collections.abc import Sequence
from dataclasses import dataclass

from unmask.data.modality import IMAGE, make_modality


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    paths: tuple[str, ...]  # folders, archives, arrays, lists of paths or shards, as given
    count: int  # training images; of a stream about as many
    fingerprint: str  # of the content, to notice that it changed
    split: str | None  # "train" where the data has splits
    packed: str | None  # how a pack holds its images: "files", "jpeg" or "raw"; None: it is no pack
    modality: str = IMAGE  # what a sample is
    image_size: tuple[int, ...]  # of crops: height and width in pixels, or the sides along the modality's axes
    channels: int
    bands: tuple[str, ...] | None = None  # names of the channels
    mean: tuple[float, ...]  # of each channel, in raw units
    std: tuple[float, ...]
    max_side: int  # pixels; larger images are shrunk to it while they are decoded
    views: tuple[str, ...] = ("crops",)  # transforms that make the views of an image, as the method needs them
    crop: float  # least share of an image's area that a random crop takes
    crop_kind: str = "random"  # or "fixed", "whole"
    flip: str  # "on" or "off"
    resize: str = "exact"  # or "fast"
    views_per_image: int = 1  # crops of each decoded image
    in_memory: str = "off"  # "on": images live on the device
    workers: int = 0  # processes that load images; 0: the main one
    shuffle_buffer: int | None = None  # of streams: samples over which the order is mixed
    max_bad: float = 0.05  # share of bad files above which training does not start

    @property
    def word(self) -> str:
        """What a sample is called."""
        return make_modality(self.modality).word


def cheaper(modality: str, size: Sequence[int]) -> str:
    """What makes samples of a kind cheaper to read, for people. size: what a model sees of one."""
    return make_modality(modality).cheaper.format(side=2 * round(0.75 * size[-1]))
