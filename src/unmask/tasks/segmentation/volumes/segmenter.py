"""A segmenter that reads volumes: returned by `unmask.load` for a folder of `transfer --to segment` of such."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from unmask.data.codecs.image import BadImage
from unmask.data.codecs.volume import as_stored
from unmask.data.modalities.volume import Located, Volume
from unmask.data.modality import make_modality
from unmask.data.source import Images, open_source, why
from unmask.data.transforms.labelled.volume import at_share
from unmask.errors import DataError, UserError
from unmask.models.encoder import Encoder
from unmask.models.segmenter import Segmenter
from unmask.models.sliding_window import boxes_at_once, slide_box
from unmask.tasks.segmentation.segmenter import Maps

__all__ = ["VolumeSegmenter"]


@dataclass(frozen=True)
class VolumeMaps(Maps):
    """Class maps of n volumes, in the order given."""

    maps: list[UInt8[np.ndarray, "_ _ _"]]  # place in `classes` of every voxel, along the axes of the file


class VolumeSegmenter(Segmenter):
    """A head on an encoder of volumes, and how volumes of any size are seen by it in boxes."""

    def __init__(
        self,
        encoder: Encoder,
        classes: Sequence[str],
        numbers: Sequence[int],
        *,
        head: str = "unetr",
        window: tuple[int, ...] | None = None,  # voxels; None: the encoder's own size
        share: float = 1.0,  # by which volumes are resized first
    ):
        super().__init__(encoder, classes, numbers, head=head, window=window)
        self.share = share

    @property
    def modality(self) -> Volume:
        """How volumes are read for it."""
        modality = make_modality(self.encoder.modality)
        assert isinstance(modality, Volume)
        return modality

    @property
    def background(self) -> int:
        """The place in `classes` of what is no structure."""
        return self.numbers.index(0) if 0 in self.numbers else 0

    @torch.inference_mode()
    def logits(
        self, content: Float[Tensor, "c d h w"], batch: int | None = None, autocast: torch.dtype | None = None
    ) -> Float[Tensor, "k p q r"]:
        """Logits of a volume as its modality decodes it, at the size at which it is seen. batch: boxes at a time; the
        model should be in eval mode."""
        where = self.encoder.mean.device

        def run(x: Tensor) -> Tensor:
            with torch.autocast(where.type, dtype=autocast) if autocast else nullcontext():
                return self(x.to(where))

        batch = min(batch or 2**16, boxes_at_once(self.window))
        return slide_box(
            run, at_share(content, self.share), window=self.window, fill=self.encoder.mean.cpu(), batch=batch
        )

    def map_of(self, located: Located, batch: int | None = None, autocast: torch.dtype | None = None) -> np.ndarray:
        """The class of every voxel of a volume's file, d h w in canonical orientation. Raises BadImage for a volume of
        other channels."""
        content = self.modality.fitted(located.content, self.encoder.channels)
        return located.back(self.logits(content, batch, autocast), self.background)

    def predict(self, images: Images, batch: int | None = None, seen: Callable[[str], Any] | None = None) -> VolumeMaps:
        """Maps of volumes of any size: paths, whatever else `pretrain` takes as data, or values b c d h w, which are
        read as files of arrays are.

        batch: boxes at a time; seen: called with each name when its map is finished. Raises DataError with the reason
        for a volume that cannot be read, UserError for values of another shape.
        """
        was, maps, names = self.training, [], []
        self.eval()
        for name, located in self._located(images):
            try:
                map_ = self.map_of(located, batch)
            except BadImage as error:
                raise DataError(f"{name}: {error}") from error
            lying = isinstance(images, np.ndarray | Tensor)
            maps.append(map_ if lying else as_stored(map_[None], located.geometry)[0])
            names.append(name)
            if seen is not None:
                seen(name)
        self.train(was)
        return VolumeMaps(names, self.classes, self.numbers, maps)

    def _located(self, images: Images) -> Iterator[tuple[str, Located]]:
        """Each volume with its name."""
        modality = self.modality
        if isinstance(images, np.ndarray | Tensor):
            values = np.asarray(torch.as_tensor(images).cpu())
            if values.ndim != 5 or values.shape[1] != self.encoder.channels:
                shape = f"n x {self.encoder.channels} x depth x height x width"
                raise UserError(f"values must be {shape}, got {tuple(values.shape)}")
            yield from ((str(i), modality.located(np.moveaxis(volume, 0, -1))) for i, volume in enumerate(values))
            return
        source = open_source(images, self.encoder.modality)
        for index, item in enumerate(source.items):
            try:
                yield item.name, modality.located(source.raw(index))
            except (BadImage, OSError) as error:
                raise DataError(f"{item.name}: {why(error)}") from error
