"""One 1x1 convolution behind BatchNorm, on the last feature map: a linear probe for every pixel, voxel or point.

The usual dense probe (Zhou et al. 2021, iBOT; Oquab et al. 2023, DINOv2), with the encoder frozen or tuned.
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from unmask.models.head import Head

__all__ = ["LinearHead"]
NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}  # by the number of axes
CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class LinearHead(Head):
    taps, norm, axes = "last", True, (1, 2, 3)

    def __init__(self, dims: Sequence[int], num_classes: int, unit: tuple[int, ...] | None = None):
        """unit: the sides of a patch, where they are not those of an image's."""
        super().__init__()
        axes = 2 if unit is None else len(unit)
        self.norm_in = NORMS[axes](dims[-1])
        self.classify = CONVOLUTIONS[axes](dims[-1], num_classes, 1)
        nn.init.normal_(self.classify.weight, std=0.01)
        assert self.classify.bias is not None
        nn.init.zeros_(self.classify.bias)

    def forward(self, maps: Sequence[Float[Tensor, "b _ ..."]]) -> Float[Tensor, "b k ..."]:
        return self.classify(self.norm_in(maps[-1].float()))
