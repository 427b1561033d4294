"""One 1x1 convolution behind BatchNorm, on the last feature map: a linear probe for every pixel or voxel.

The usual dense probe (Zhou et al. 2021, iBOT; Oquab et al. 2023, DINOv2), with the encoder frozen or tuned.
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from unmask.models.head import Head

__all__ = ["LinearHead"]


class LinearHead(Head):
    taps, norm, axes = "last", True, (2, 3)

    def __init__(self, dims: Sequence[int], num_classes: int, unit: tuple[int, ...] | None = None):
        """unit: the sides of a patch, where they are not those of an image's."""
        super().__init__()
        volumes = unit is not None and len(unit) == 3
        self.norm_in = (nn.BatchNorm3d if volumes else nn.BatchNorm2d)(dims[-1])
        self.classify = (nn.Conv3d if volumes else nn.Conv2d)(dims[-1], num_classes, 1)
        nn.init.normal_(self.classify.weight, std=0.01)
        assert self.classify.bias is not None
        nn.init.zeros_(self.classify.bias)

    def forward(self, maps: Sequence[Float[Tensor, "b _ ..."]]) -> Float[Tensor, "b k ..."]:
        return self.classify(self.norm_in(maps[-1].float()))
