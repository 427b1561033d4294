"""Four feature maps, each through its own 1x1 convolution, joined and brought to a quarter of the patch by two learnt
upsamplings: an all-MLP head as SegFormer's (Xie et al. 2021, section 3.2), on the encoder's own maps.

For machines and data for which UperNet is too expensive: this head takes at most a tenth of the encoder's FLOPs,
UperNet five to ten times the encoder's.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from unmask.models.head import Head, group_norm

__all__ = ["LightHead"]


class LightHead(Head):
    taps, norm = "four", False

    def __init__(self, dims: Sequence[int], num_classes: int, channels: int = 128, dropout: float = 0.1):
        super().__init__()
        self.inward = nn.ModuleList(nn.Sequential(group_norm(dim), nn.Conv2d(dim, channels, 1)) for dim in dims)
        half = max(8, channels // 2)
        self.fuse = nn.Sequential(nn.Conv2d(len(dims) * channels, channels, 1), group_norm(channels), nn.GELU())
        self.grow = nn.Sequential(
            nn.ConvTranspose2d(channels, half, 2, stride=2), group_norm(half), nn.GELU(),
            nn.ConvTranspose2d(half, half, 2, stride=2), group_norm(half), nn.GELU(),
        )  # fmt: skip
        self.drop = nn.Dropout2d(dropout)
        self.classify = nn.Conv2d(half, num_classes, 1)

    def forward(self, maps: Sequence[Float[Tensor, "b _ _ _"]]) -> Float[Tensor, "b k _ _"]:
        size = maps[0].shape[2:]
        inward = [part(map_) for part, map_ in zip(self.inward, maps)]
        inward = [x if x.shape[2:] == size else interpolate(x, size, mode="bilinear") for x in inward]
        return self.classify(self.drop(self.grow(self.fuse(torch.cat(inward, dim=1)))))
