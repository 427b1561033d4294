"""Images: JPEG, PNG, TIFF and the like, and arrays of pixels. Grey and RGB stand for each other."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Shaped
from torch import Tensor

from unmask.choice import Choice
from unmask.data.codecs.decode import decode, to_channels
from unmask.data.codecs.image import BadImage
from unmask.data.codecs.signature import sniff
from unmask.data.labels import is_image_name
from unmask.data.modality import Decoded, Facts, Modality, Raw, Window
from unmask.data.transforms.kernels.crop import LARGEST, TINY, FixedCrop, RandomCrop, WholeImage, usual_square
from unmask.data.value_range import ends_of

__all__ = ["Image"]


class Image(Modality):
    cheaper = "`unmask pack DATA OUT.pack`, which keeps images no larger than needed; --views-per-image 2 or more"
    colour, labelled = True, "pixel"
    keys, array_axes = ("images", "image", "imgs", "x", "data"), (3, 4)

    @classmethod
    def claims(cls, name: str, head: bytes) -> bool:
        return sniff(head[:32]) is not None or is_image_name(name)

    def decode(self, raw: Raw, max_side: int | None = None) -> Decoded:
        if not isinstance(raw, bytes | np.ndarray):
            raise BadImage("an image is one file or one array")
        image = decode(raw, max_side=max_side)
        facts = (image.format, image.size, image.pixels.shape[0], image.bits, image.notes, ends_of(image))
        return Decoded(image.pixels, *facts)

    def fitted(self, content: Shaped[Tensor, "c h w"], channels: int) -> Shaped[Tensor, "channels h w"]:
        return to_channels(content, channels)

    def shown(self, content: Shaped[Tensor, "c h w"], view: Shaped[Tensor, "c *size"]) -> Shaped[Tensor, "c h w"]:
        return content

    def window(self, kind: str, size: tuple[int, ...], share: float, flip: bool, resize: str) -> Window:
        height, width = size
        if kind == "fixed":
            return FixedCrop((height, width), flip=flip, resize=resize)
        if kind == "whole":
            return WholeImage((height, width), flip=flip)
        return RandomCrop((height, width), scale=(share, 1.0), flip=flip, resize=resize)

    def whole(self, size: tuple[int, ...]) -> WholeImage:
        return WholeImage((size[0], size[1]))

    def choices(
        self, sheet: Facts, patch: int | None, small: bool, size: tuple[int, ...] | None = None
    ) -> Mapping[str, Choice]:
        side = int(min(sheet.median_size))
        large = "as in MAE" if side >= LARGEST else "about the images' own size"
        return {"image_size": usual_square(side, patch, small, "images", large)}

    def augmentation(self, sheet: Facts, channels: int) -> Mapping[str, Choice]:
        if sheet.share_extreme > 0.75:
            reason = f"{sheet.share_extreme:.0%} of the pixels are near black or white: digits, text or scans"
            crop = Choice(0.5, f"{reason}; small crops would cut strokes")
            return {"crop": crop, "flip": Choice("off", f"{reason}; mirrored they mean something else")}
        if channels == 1:
            crop = Choice(0.5, "grey images are mostly scans, where scale carries meaning")
            flip = Choice("off", "in grey scans left and right often differ; --flip on for others")
            return {"crop": crop, "flip": flip}
        side = int(min(sheet.median_size))
        if side <= TINY:
            crop = Choice(0.4, f"images of {side} px: smaller crops would only be blurred up")
            return {"crop": crop, "flip": Choice("on", "as in MAE")}
        return {"crop": Choice(0.2, "as in MAE"), "flip": Choice("on", "as in MAE")}
