"""What a detector sees of an image, and boxes and masks moved along: a jittered crop to learn, the whole to judge.

Large-scale jitter (Ghiasi et al. 2021) as ViTDet trains: the image is scaled by chance, and a window of fixed size
cut out of it or filled up. The moves are torchvision's (transforms.v2), on the part of the image that will be seen.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Shaped
from torch import Generator, Tensor
from torchvision.transforms.v2 import functional as F
from torchvision.tv_tensors import BoundingBoxes, BoundingBoxFormat, Image, Mask

from unmask.data.annotations.objects import Shown, Target
from unmask.data.batch import Batch
from unmask.data.transforms.kernels.crop import RandomCrop, fill_for
from unmask.errors import UserError

LEAST = 1.0  # pixels that a box must keep in a crop


@dataclass(frozen=True)
class Jitter:
    """A crop of fixed size from an image scaled by chance. The same image and generator state give the same view.

    Objects that are left with less than a pixel are dropped, and crowds, which nothing is learnt from.
    """

    size: tuple[int, int]  # height, width of the result in pixels
    fill: tuple[float, ...]  # per channel, raw units: what lies beyond the image
    scale: tuple[float, float] = (0.5, 1.5)  # of an image that would just fit into `size`
    flip: bool = True  # mirror left and right half of the time

    def __post_init__(self):
        RandomCrop(self.size)  # which checks it
        if not 0 < self.scale[0] <= self.scale[1]:
            raise UserError(f"--jitter needs 0 < smallest <= largest; got {self.scale[0]:g} {self.scale[1]:g}")

    def __call__(self, shown: Shown, generator: Generator) -> Shown:
        (height, width), (h, w) = self.size, shown.image.shape[1:]
        low, high = self.scale
        rate = min(height / h, width / w) * (low + (high - low) * float(torch.rand(1, generator=generator)))
        part = (min(h, max(1, round(height / rate))), min(w, max(1, round(width / rate))))  # of the image, in view
        top, left = (_below(side - seen + 1, generator) for side, seen in zip((h, w), part))
        seen = (min(height, max(1, round(part[0] * rate))), min(width, max(1, round(part[1] * rate))))
        y, x = _below(height - seen[0] + 1, generator), _below(width - seen[1] + 1, generator)
        mirrored = self.flip and float(torch.rand(1, generator=generator)) < 0.5
        around = [x, y, width - seen[1] - x, height - seen[0] - y]

        def move(value: Any, fill: Any = 0) -> Any:
            value = F.pad(F.resize(F.crop(value, top, left, *part), list(seen)), around, fill=fill)
            return F.horizontal_flip(value) if mirrored else value

        learnt = ~shown.target.crowd
        boxes = BoundingBoxes(shown.target.boxes[learnt], format=BoundingBoxFormat.XYXY, canvas_size=(h, w))  # type: ignore[call-overload]
        boxes, kept = F.sanitize_bounding_boxes(F.clamp_bounding_boxes(move(boxes)), min_size=LEAST)
        masks = shown.target.masks
        if masks is not None:
            masks = move(Mask(masks[learnt][kept])).as_subclass(Tensor)
        image = move(Image(shown.image), fill_for(self.fill, shown.image.dtype)).as_subclass(Tensor)
        labels, crowd = (value[learnt][kept] for value in (shown.target.labels, shown.target.crowd))
        return Shown(image, Target(boxes.as_subclass(Tensor), labels, crowd, masks))


class View(NamedTuple):
    """A whole image, resized and filled up to a size that detectors take."""

    image: Shaped[Tensor, "c h w"]
    rates: tuple[float, float]  # pixels of the view per pixel of the image, down and across: sides are whole numbers
    size: tuple[int, int]  # height, width of the image itself


@dataclass(frozen=True)
class Fitted:
    """A whole image at the top left of a window of `size`, or of `size` turned for an upright image."""

    size: tuple[int, int]  # height, width in pixels
    fill: tuple[float, ...]

    def __call__(self, image: Shaped[Tensor, "c h w"]) -> View:
        (height, width), (h, w) = self.size, image.shape[1:]
        if (h > w) != (height > width):
            height, width = width, height
        rate = min(height / h, width / w)
        seen = (min(height, max(1, round(h * rate))), min(width, max(1, round(w * rate))))
        resized = F.resize(Image(image), list(seen))
        filled = F.pad(resized, [0, 0, width - seen[1], height - seen[0]], fill=fill_for(self.fill, image.dtype))
        return View(filled.as_subclass(Tensor), (seen[0] / h, seen[1] / w), (h, w))


def collate(items: list[Batch]) -> Batch:
    """A batch: images of one size stacked, with as many targets as there are images."""
    shown: list[Shown] = [item["views"][0] for item in items]
    images = [s.image for s in shown]
    if len({image.dtype for image in images}) > 1:
        images = [image.float() for image in images]
    targets = [{"boxes": s.target.boxes, "labels": s.target.labels} for s in shown]
    for target, s in zip(targets, shown):
        if s.target.masks is not None:
            target["masks"] = s.target.masks
    index = torch.tensor([item["index"] for item in items])
    return {"views": [torch.stack(images)], "targets": targets, "index": index}


def _below(number: int, generator: Generator) -> int:
    return int(torch.randint(0, number, (1,), generator=generator))
