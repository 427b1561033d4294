"""A detector that reads images: returned by `unmask.load` for a folder of `transfer --to detect`."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor
from torchvision.ops import clip_boxes_to_image, remove_small_boxes

from unmask.data.codecs.decode import decode, to_channels
from unmask.data.codecs.image import BadImage
from unmask.data.source import Images, Source, open_source, why
from unmask.data.transforms.labelled.detection import Fitted, View
from unmask.errors import DataError, UserError
from unmask.models.detector import Detector
from unmask.tasks.detection.detections import Detections

__all__ = ["ImageDetector"]


class ImageDetector(Detector):
    """The same network and the same weights as `Detector`, with `predict` for files and arrays."""

    @property
    def view(self) -> Fitted:
        """The view of a whole image."""
        return Fitted(self.size, tuple(self.encoder.mean.tolist()))

    @torch.inference_mode()
    def predict(self, images: Images, batch: int = 8, threshold: float = 0.5) -> list[Detections]:
        """Objects in images: paths, whatever else `pretrain` takes as data, one array or tensor b c h w, or a list of
        c h w of any sizes; raw pixels. Boxes are in each image's own pixels.

        Raises DataError with the reason for an image that cannot be read, UserError for arrays of another shape.
        """
        if not (isinstance(threshold, int | float) and 0 <= threshold <= 1):
            raise UserError(f"threshold is a score between 0 and 1, got {threshold!r}")
        names, opened = self._opened(images)
        return [detections.above(threshold) for detections in self.stream(names, opened, batch)]

    @torch.inference_mode()
    def stream(
        self, names: Sequence[str], images: Iterable[Tensor], batch: int = 8, autocast: torch.dtype | None = None
    ) -> list[Detections]:
        """All detections of each image, in order, computed in batches of one shape."""
        detections: dict[int, Detections] = {}
        waiting: dict[tuple[int, ...], list[tuple[int, View]]] = {}
        was, kind, view = self.training, self.encoder.mean.device.type, self.view
        self.eval()

        def work(group: list[tuple[int, View]]) -> None:
            x = torch.stack([seen.image.float() for _, seen in group]).to(self.encoder.mean.device)
            with torch.autocast(kind, dtype=autocast or torch.bfloat16, enabled=autocast is not None):
                answers = self.detect(x)
            for (place, seen), answer in zip(group, answers):
                detections[place] = self._own(names[place], seen, answer)

        for place, image in enumerate(images):
            seen = view(image)
            group = waiting.setdefault(tuple(seen.image.shape), [])
            group.append((place, seen))
            if len(group) == batch:
                work(waiting.pop(tuple(seen.image.shape)))
        for group in waiting.values():
            work(group)
        self.train(was)
        return [detections[place] for place in sorted(detections)]

    def _own(self, name: str, seen: View, answer: dict[str, Tensor]) -> Detections:
        """Converts from the view's pixels to the image's."""
        y, x = seen.rates
        rates = torch.tensor([x, y, x, y], device=answer["boxes"].device)
        boxes = clip_boxes_to_image(answer["boxes"].float() / rates, seen.size)
        keep = remove_small_boxes(boxes, min_size=1e-2)
        shapes = answer["masks"][keep][:, 0].float().cpu().numpy() if self.has_masks else None
        labels, scores = answer["labels"][keep].cpu().numpy(), answer["scores"][keep].float().cpu().numpy()
        return Detections(name, seen.size, boxes[keep].cpu().numpy(), labels, scores, self.classes, shapes)

    def _opened(self, images: Images) -> tuple[list[str], Iterable[Tensor]]:
        arrays = isinstance(images, np.ndarray | Tensor)
        if arrays or (isinstance(images, Sequence) and any(isinstance(i, np.ndarray | Tensor) for i in images)):
            pixels = [i if isinstance(i, Tensor) else torch.from_numpy(np.array(i)) for i in images]
            for image in pixels:
                if image.ndim != 3 or image.shape[0] != self.encoder.channels:
                    raise UserError(f"pixels must be {self.encoder.channels} x h x w, got {tuple(image.shape)}")
            return [str(i) for i in range(len(pixels))], pixels
        source = open_source(images)
        return [item.name for item in source.items], self._read(source)

    def _read(self, source: Source) -> Iterator[Tensor]:
        for index, item in enumerate(source.items):
            try:
                yield read_image(source, index, self.encoder.channels)
            except (BadImage, OSError) as error:
                raise DataError(f"{item.name}: {why(error)}") from error


def read_image(source: Source, index: int, channels: int) -> Shaped[Tensor, "c h w"]:
    """An image at its full size, for an encoder of so many channels. Raises BadImage or OSError."""
    pixels = source.pixels(index)
    return to_channels(decode(source.read(index)).pixels if pixels is None else pixels, channels)
