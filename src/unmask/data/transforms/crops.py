"""MAE's only augmentation: a crop of random size and shape, mirrored half of the time. He et al. 2021, table 1e."""

from unmask.data.transform import Transform, View, notes_on
from unmask.data.transforms.kernels.colour import Colours
from unmask.data.transforms.kernels.crop import FixedCrop, RandomCrop, WholeImage
from unmask.errors import UserError, closest

__all__ = ["Crops"]
KINDS = ("random", "fixed", "whole")


class Crops(Transform):
    def __init__(
        self,
        size: tuple[int, int],
        channels: int = 3,
        crop: float = 0.2,
        crop_kind: str = "random",
        flip: bool = True,
        resize: str = "exact",
        jitter: float = 0.0,
    ):
        """jitter: strength of colour jitter, 0 to 1, with the proportions of MoCo v2 (Chen et al. 2020); MAE does
        better without."""
        colours = Colours(jitter=(jitter, jitter, jitter, jitter / 4))
        if crop_kind == "random":
            window = RandomCrop(size, scale=(crop, 1.0), flip=flip, resize=resize)
        elif crop_kind == "fixed":
            window = FixedCrop(size, flip=flip, resize=resize)
        elif crop_kind == "whole":
            window = WholeImage(size, flip=flip)
        else:
            raise UserError(f"no crop {crop_kind!r}{closest(crop_kind, KINDS)} There are: {', '.join(KINDS)}")
        super().__init__(View(window, colours), notes=notes_on(colours, channels, size))
