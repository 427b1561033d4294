"""A classifier that reads images: returned by `unmask.load` for a folder of `transfer --to classify`."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from unmask.data.datasets.images import Samples
from unmask.data.loaders.map_style import each_once
from unmask.data.modality import IMAGE, WholeWindow, make_modality
from unmask.data.source import Images, open_source
from unmask.data.transforms.kernels.crop import WholeImage
from unmask.errors import UserError
from unmask.models.classifier import Classifier
from unmask.models.encoder import Encoder

__all__ = ["ImageClassifier"]


@dataclass(frozen=True)
class Predictions:
    """Predictions for n images, in the order given."""

    names: list[str]
    classes: list[str]
    probabilities: np.ndarray  # n k, float32; rows add up to 1 unless there are several labels per image
    multi_label: bool = False

    @property
    def labels(self) -> list[Any]:
        """The most probable class of each image; with several labels per image, all with a probability above one
        half."""
        if self.multi_label:
            return [[self.classes[i] for i in np.flatnonzero(row > 0.5)] for row in self.probabilities]
        return [self.classes[i] for i in self.probabilities.argmax(axis=1)]

    def __len__(self) -> int:
        return len(self.names)


class ImagePredictor(nn.Module, ABC):
    """A classifier that reads files and arrays."""

    encoder: Encoder
    classes: list[str]
    multi_label: bool = False
    eval_crop: float = 1.0  # share of an image's short side that is kept
    clips: int = 1  # of a video, whose logits are averaged

    @abstractmethod
    def probabilities(self, x: Shaped[Tensor, "b ..."]) -> Float[Tensor, "b k"]:
        """Of raw pixels, or of several views of each sample."""

    @property
    def views(self) -> Callable[[Any], Tensor]:
        """What is seen of a sample at evaluation: `view`, or several clips."""
        if self.clips == 1:
            return self.view
        return make_modality(self.encoder.modality).views_at_test(self.encoder.grid.size, self.clips)

    @property
    def view(self) -> WholeWindow:
        """One view of a sample at evaluation."""
        size = self.encoder.grid.size
        if self.encoder.modality == IMAGE:
            return WholeImage((size[0], size[1]), self.eval_crop)
        return make_modality(self.encoder.modality).whole(size)

    @torch.inference_mode()
    def predict(self, images: Images, batch: int = 64) -> Predictions:
        """Probabilities of images: paths, whatever else `pretrain` takes as data, or raw pixels `b c h w`.

        Images from files are resized to cover the input size and cut at the centre, as in training. Raises DataError
        with the reason for an image that cannot be read, UserError for pixels of another size.
        """
        if isinstance(images, np.ndarray | Tensor):
            pixels = torch.as_tensor(images)
            size = (self.encoder.channels, *self.encoder.grid.size)
            if pixels.ndim != len(size) + 1 or tuple(pixels.shape[1:]) != size:
                raise UserError(f"pixels must be n x {' x '.join(map(str, size))}, got {tuple(pixels.shape)}")
            parts, names = pixels.split(batch), [str(i) for i in range(len(pixels))]
        else:
            samples = read_images(images, self.encoder)
            names = samples.names
            loader = each_once(samples, self.views, batch)
            parts = (piece["views"][0] for piece in loader)
        was, device = self.training, self.encoder.mean.device
        self.eval()
        probabilities = [self.probabilities(part.to(device)).float().cpu() for part in parts]
        self.train(was)
        return Predictions(names, self.classes, torch.cat(probabilities).numpy(), self.multi_label)


class ImageClassifier(Classifier, ImagePredictor):
    """The same network and the same weights as `Classifier`, with `predict` for files and arrays."""


def read_images(images: str | Path | Sequence[str | Path], encoder: Encoder) -> Samples:
    """All images of a source, for an encoder; a bad one raises an error when it is read."""
    source = open_source(images, encoder.modality)
    return Samples(source, range(len(source.items)), channels=encoder.channels, max_side=4 * max(encoder.grid.size))
