"""The detections in an image, in the image's own pixels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torchvision.models.detection.roi_heads import paste_masks_in_image


@dataclass(frozen=True)
class Detections:
    """The most certain first."""

    name: str  # of the image
    size: tuple[int, int]  # its height and width
    boxes: Float[np.ndarray, "n 4"]  # left, top, right, bottom in pixels
    labels: Int64[np.ndarray, "n"]  # places in `classes`
    scores: Float[np.ndarray, "n"]  # 0 to 1
    classes: list[str]
    shapes: Float[np.ndarray, "n p p"] | None = None  # probability of each cell of a box to belong to the object

    @property
    def names(self) -> list[str]:
        """The class of each box."""
        return [self.classes[label] for label in self.labels]

    @property
    def masks(self) -> Bool[np.ndarray, "n h w"] | None:
        """The pixels of each object, computed on demand; None for a detector without masks."""
        if self.shapes is None:
            return None
        masks = np.zeros((len(self), *self.size), bool)
        for place in range(len(self)):
            masks[place] = self.mask(place)
        return masks

    def mask(self, place: int) -> Bool[np.ndarray, "h w"]:
        """The pixels of one object: the masks of all at once can take a hundred times an image's memory."""
        assert self.shapes is not None
        row = slice(place, place + 1)
        shape, box = torch.from_numpy(self.shapes[row])[:, None], torch.from_numpy(self.boxes[row])
        return (paste_masks_in_image(shape, box, self.size)[0, 0] > 0.5).numpy()

    def __len__(self) -> int:
        return len(self.scores)

    def above(self, threshold: float) -> "Detections":
        """The detections with at least this score."""
        keep = self.scores >= threshold
        shapes = None if self.shapes is None else self.shapes[keep]
        rest = (self.boxes[keep], self.labels[keep], self.scores[keep])
        return Detections(self.name, self.size, *rest, self.classes, shapes)


def counted(detections: Sequence[Detections]) -> dict[str, int]:
    """Objects of each class over several images."""
    classes = detections[0].classes if detections else []
    counts = np.bincount(np.concatenate([f.labels for f in detections] or [[]]).astype(int), minlength=len(classes))
    return {name: int(count) for name, count in zip(classes, counts)}
