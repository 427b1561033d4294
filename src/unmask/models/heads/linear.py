"""One 1x1 convolution behind BatchNorm, on the last feature map: a linear probe for every pixel.

The usual dense probe (Zhou et al. 2021, iBOT; Oquab et al. 2023, DINOv2), with the encoder frozen or tuned.
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from unmask.models.head import Head

__all__ = ["LinearHead"]


class LinearHead(Head):
    taps, norm = "last", True

    def __init__(self, dims: Sequence[int], num_classes: int):
        super().__init__()
        self.norm_in = nn.BatchNorm2d(dims[-1])
        self.classify = nn.Conv2d(dims[-1], num_classes, 1)
        nn.init.normal_(self.classify.weight, std=0.01)
        assert self.classify.bias is not None
        nn.init.zeros_(self.classify.bias)

    def forward(self, maps: Sequence[Float[Tensor, "b _ _ _"]]) -> Float[Tensor, "b k _ _"]:
        return self.classify(self.norm_in(maps[-1].float()))
