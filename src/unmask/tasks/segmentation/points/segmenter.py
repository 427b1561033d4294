"""A segmenter that reads clouds: returned by `unmask.load` for a folder of `transfer --to segment` of such.

The encoder sees as many points as in pretraining, in groups or as voxels; its features are read out at each point of
the file, however many there are, and the head says what the point belongs to.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from unmask.data.annotations.legend import VOID
from unmask.data.codecs.image import BadImage
from unmask.data.codecs.points import PointCloud
from unmask.data.modalities.points import Points
from unmask.data.modality import make_modality
from unmask.data.source import Images, open_source, why
from unmask.data.transforms.kernels.cloud_view import Groups, Voxels
from unmask.data.transforms.labelled.points import whole_cloud
from unmask.errors import DataError, UserError
from unmask.models.encoder import Encoder
from unmask.models.layers.spread_points import spread_from_centres, spread_from_cubes
from unmask.models.segmenter import Segmenter
from unmask.tasks.segmentation.segmenter import Maps

__all__ = ["CloudSegmenter"]
AT_ONCE = 1 << 14  # points that the head sees at a time


@dataclass(frozen=True)
class CloudMaps(Maps):
    """The classes of the points of n clouds, in the order given."""

    maps: list[UInt8[np.ndarray, "_"]]  # place in `classes` of every point of a file, in its order; 255: no point

    def shares(self) -> Float[np.ndarray, "n k"]:
        """Of each cloud's points, by class."""
        return np.array([shares_of(map_, len(self.classes)) for map_ in self.maps]).reshape(-1, len(self.classes))


class CloudSegmenter(Segmenter):
    """A head on an encoder of clouds, and how all points of a cloud get their class from what the encoder sees."""

    def __init__(
        self,
        encoder: Encoder,
        classes: Sequence[str],
        numbers: Sequence[int],
        *,
        head: str = "pointwise",
        window: tuple[int, ...] | None = None,  # points in all groups, or voxels; None: the encoder's own size
    ):
        super().__init__(encoder, classes, numbers, head=head, window=window)

    @staticmethod
    def read_out(encoder: Encoder) -> tuple[tuple[int, ...], int]:
        return (1,), encoder.channels if encoder.grid.space else len(encoder.input_size)

    def parted(self, views: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], Int64[Tensor, "b n"]]:
        x, labelled = views
        return (x, labelled[:, :-1]), labelled[:, -1].long()

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, x: Float[Tensor, "b c *size"], points: Float[Tensor, "b d n"]
    ) -> Float[Tensor, "b k n"]:
        """Logits of points, which lie where those of the view do and have their features."""
        return self.read(self.features(x, points), (points.shape[2],))[0]

    def features(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, x: Float[Tensor, "b c *size"], points: Float[Tensor, "b d n"]
    ) -> list[Tensor]:
        return self.at_points(self.seen(x), x, points)

    def seen(self, x: Float[Tensor, "b c *size"]) -> list[Float[Tensor, "b d *grid"]]:
        """The encoder's maps that the head reads."""
        return self.encoder.features(x, self.layers, norm=self.head.norm)

    def at_points(self, maps: list[Tensor], x: Float[Tensor, "b c *size"], points: Float[Tensor, "b d n"]) -> list:
        """The maps at each point, and the points themselves where the head wants them."""
        grid = self.encoder.grid_of(x)
        if grid.places is None:
            own, spread = points.float(), spread_from_cubes(maps, points[:, :3])
        else:
            own, spread = self.encoder.normalize(points), spread_from_centres(maps, grid.places, points[:, :3])
        return [own, *spread] if self.head.taps == "input" else spread

    def read(self, features: list[Tensor], size: tuple[int, ...]) -> list[Float[Tensor, "b k n"]]:
        return [self.head(features).float()]

    def traced(self, pixels: Float[Tensor, "b c *size"]) -> tuple[Tensor, ...]:
        """For exports: logits of each point of each group, or of the middle of each voxel."""
        if self.encoder.grid.space:
            return (self(pixels, pixels),)
        axes = [(torch.arange(side, device=pixels.device) + 0.5) / side * 2 - 1 for side in pixels.shape[2:]]
        middles = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)
        logits = self(pixels, middles.expand(pixels.shape[0], -1, -1))
        return (logits.unflatten(2, tuple(pixels.shape[2:])),)

    @property
    def modality(self) -> Points:
        """How clouds are read for it."""
        modality = make_modality(self.encoder.modality)
        assert isinstance(modality, Points)
        return modality

    @property
    def view(self) -> Groups | Voxels:
        """What the encoder sees of a cloud, without chance."""
        return self.modality.whole(self.window)

    @torch.inference_mode()
    def map_of(self, cloud: PointCloud, autocast: torch.dtype | None = None) -> UInt8[np.ndarray, "n"]:
        """The class of every point of a cloud's file, in its order; VOID for those that are not finite, or more than
        can be read. The model should be in eval mode. Raises BadImage for a cloud of other features."""
        where = self.encoder.mean.device
        fitted = self.modality.fitted(cloud, self.encoder.channels)
        x, points = (part[None].to(where) for part in whole_cloud(self.view, fitted))
        with torch.autocast(where.type, dtype=autocast) if autocast else nullcontext():
            maps = self.seen(x)
            parts = [
                self.read(self.at_points(maps, x, some), (some.shape[2],))[0].argmax(dim=1)[0]
                for some in points.split(AT_ONCE, dim=2)
            ]
        map_ = np.full(cloud.stored or len(cloud.points), VOID, np.uint8)
        map_[cloud.of_file.numpy()] = torch.cat(parts).cpu().numpy()
        return map_

    def predict(self, images: Images, batch: int | None = None, seen: Callable[[str], Any] | None = None) -> CloudMaps:
        """The classes of all points of clouds: paths, whatever else `pretrain` takes as data, or values n p c, of which
        the first three are coordinates.

        batch: not needed, clouds are seen one by one; seen: called with each name when its map is finished. Raises
        DataError with the reason for a cloud that cannot be read, UserError for values of another shape.
        """
        was, maps, names = self.training, [], []
        self.eval()
        for name, cloud in self._clouds(images):
            maps.append(self.map_of(cloud))
            names.append(name)
            if seen is not None:
                seen(name)
        self.train(was)
        return CloudMaps(names, self.classes, self.numbers, maps)

    def _clouds(self, images: Images) -> Iterator[tuple[str, PointCloud]]:
        """Each cloud with its name."""
        if isinstance(images, np.ndarray | Tensor):
            values = np.asarray(torch.as_tensor(images).cpu())
            if values.ndim != 3 or values.shape[2] < 3:
                raise UserError(f"values must be n x points x 3 or more, got {tuple(values.shape)}")
            raws = ((str(place), cloud) for place, cloud in enumerate(values))
        else:
            source = open_source(images, self.encoder.modality)
            raws = ((item.name, source.raw(index)) for index, item in enumerate(source.items))
        for name, raw in raws:
            try:
                yield name, self.modality.cloud(raw)[0]
            except (BadImage, OSError) as error:
                raise DataError(f"{name}: {why(error)}") from error


def shares_of(map_: UInt8[np.ndarray, "n"], count: int) -> Float[np.ndarray, "k"]:
    """Of the points that have a class, those of each."""
    return np.bincount(map_[map_ != VOID], minlength=count) / max(1, int((map_ != VOID).sum()))
