"""The simple feature pyramid: every level is computed from the last block's map alone. Li et al. 2022 (ViTDet).

https://arxiv.org/abs/2203.16527, section 3: after enlarging or shrinking, a 1x1 convolution to `dim` channels and a 3x3
one, each without bias and followed by a norm over channels.
"""

from collections.abc import Sequence

from torch import nn

from unmask.models.encoder import Encoder
from unmask.models.pyramid import SCALES, ChannelNorm, Maps, Pyramid, check_width, expect, rescale, scaled_strides

__all__ = ["Simple"]


class Simple(Pyramid):
    def __init__(self, encoder: Encoder, dim: int = 256, scales: Sequence[float] = SCALES):
        """dim: channels of every level. scales: what the encoder's stride is divided by, one for each level, powers of
        two. With the usual ones a patch of 16 has strides 4, 8, 16, 32, one of 8 has 2, 4, 8, 16 and one of 14 has 3.5,
        7, 14, 28; scales=(2, 1, 0.5, 0.25) give 4, 8, 16, 32 for a patch of 8, at a quarter of the cost."""
        super().__init__()
        self.layers = (encoder.num_maps - 1,)
        self.strides = scaled_strides(encoder, self.layers, scales)
        self.dims = [check_width(dim)] * len(self.strides)
        (width,) = encoder.feature_dims(self.layers)
        self.levels = nn.ModuleList(_level(width, scale, dim) for scale in scales)

    def forward(self, features: Maps) -> Maps:
        (last,) = expect(features, 1)
        return [level(last) for level in self.levels]


def _level(width: int, scale: float, dim: int) -> nn.Module:
    scaled, width = rescale(width, scale, shrink=True, norm="layer")
    pointwise, three = nn.Conv2d(width, dim, 1, bias=False), nn.Conv2d(dim, dim, 3, padding=1, bias=False)
    return nn.Sequential(*scaled, pointwise, ChannelNorm(dim), three, ChannelNorm(dim))
