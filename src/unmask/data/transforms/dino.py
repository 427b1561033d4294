"""DINO's multi-crop: two large crops and several small ones of each image. Caron et al. 2021, appendix A; SwAV's, Caron
et al. 2020, before it."""

from unmask.data.transform import Transform, View, notes_on, smaller
from unmask.data.transforms.kernels.colour import Colours
from unmask.data.transforms.kernels.crop import RandomCrop
from unmask.errors import UserError
from unmask.plain import NonNegativeInt, PositiveShare

__all__ = ["DINO"]
LOCAL = 96 / 224  # side of a small view, as a share of a large one's


class DINO(Transform):
    def __init__(
        self,
        size: tuple[int, int],
        patch: int,
        channels: int = 3,
        crop: PositiveShare = 0.25,
        flip: bool = True,
        resize: str = "exact",
        local: NonNegativeInt = 8,
        smallest: PositiveShare = 0.05,
        jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.2, 0.1),
        blur: tuple[float, float, float] = (1.0, 0.1, 0.5),
        solarise: float = 0.2,
    ):
        """local: small views, of 96 pixels where the large ones have 224, in whole patches; they cover from `smallest`
        to `crop` of the area, the large ones from `crop` on. blur: chances in the first and second large view and in
        small ones; solarise: chance in the second."""
        if not smallest < crop:
            raise UserError(
                f"small views cover {smallest:g} of an image or more and large ones from --crop on, which must lie"
                f" above it; got {crop:g}"
            )
        shared = {"jitter": jitter, "jitter_chance": 0.8, "grey": 0.2}
        first, second = Colours(**shared, blur=blur[0]), Colours(**shared, blur=blur[1], solarise=solarise)
        large = RandomCrop(size, scale=(crop, 1.0), flip=flip, resize=resize)
        small = RandomCrop(smaller(size, LOCAL, patch), scale=(smallest, crop), flip=flip, resize=resize)
        views = [View(large, first), View(large, second), *[View(small, Colours(**shared, blur=blur[2]))] * local]
        notes = (*notes_on(first, channels, size), *(notes_on(second, channels, small.size) if local else ()))
        super().__init__(*views, notes=tuple(dict.fromkeys(notes)))
