"""What a segmenter sees of a cloud: the view of its encoder, and the points that are classified, with their labels."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from unmask.data.batch import Batch
from unmask.data.codecs.points import PointCloud
from unmask.data.loaders.map_style import collate
from unmask.data.transforms.kernels.cloud_view import Groups, Voxels, drawn, in_sphere, placed_like, seen, values_of


@dataclass(frozen=True)
class PointsView:
    """Points that are drawn and changed by chance as in pretraining, each with its label; and their view."""

    window: Groups | Voxels

    def __call__(
        self, cloud: PointCloud, generator: Generator
    ) -> tuple[Float[Tensor, "c *size"], Float[Tensor, "d n"]]:
        """The view; and the points with their features, the label in the last channel. The same cloud and generator
        state give the same."""
        window = self.window
        values, labels = seen(cloud, window.count, window.share, window.turns, generator)
        if labels is None:
            raise ValueError("a cloud without labels")
        return window.of(values), torch.cat([values, labels[:, None].float()], dim=1).T.contiguous()

    @property
    def size(self) -> tuple[int, ...]:
        return self.window.size


def whole_cloud(window: Groups | Voxels, cloud: PointCloud) -> tuple[Float[Tensor, "c *size"], Float[Tensor, "d n"]]:
    """The view of a cloud without chance; and all of its points with their features, moved and scaled alike."""
    values, _ = drawn(cloud, window.count, None)
    return window.of(in_sphere(values)), placed_like(values_of(cloud), values).T.contiguous()


def collate_both(items: list[Batch]) -> Batch:
    """A batch of two views: what the encoder sees, and the labelled points."""
    return collate([item | {"views": [*item["views"][0]]} for item in items])
