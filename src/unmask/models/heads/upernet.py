"""UperNet: pyramid pooling on the coarsest map, a top-down path through the others, all maps fused. Xiao et al. 2018.

As the MAE paper has it on ADE20K (He et al. 2021, appendix A.4; reference implementation implus/mae_segmentation): four
taps of the ViT brought to strides 4, 8, 16 and 32, pooling to 1, 2, 3 and 6 cells, and an auxiliary head of one
convolution on the third map, whose loss has weight 0.4. GroupNorm replaces its SyncBN: results do not depend on the
batch, which may be a single image, or on the number of processes.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from unmask.models.head import Head, group_norm

__all__ = ["UperNetHead"]
SCALES = (1, 2, 3, 6)  # cells per side that the coarsest map is pooled to
AUXILIARY = 2  # the map that the auxiliary head looks at


class UperNetHead(Head):
    taps, norm, auxiliary_weight = "pyramid", False, 0.4

    def __init__(
        self,
        dims: Sequence[int],
        num_classes: int,
        channels: int | None = None,  # by default as wide as the maps
        dropout: float = 0.1,
        auxiliary_channels: int = 256,
    ):
        super().__init__()
        channels = channels or max(dims)
        self.pools = nn.ModuleList(_conv(dims[-1], channels, 1) for _ in SCALES)
        self.pooled = _conv(dims[-1] + len(SCALES) * channels, channels, 3)
        self.lateral = nn.ModuleList(_conv(dim, channels, 1) for dim in dims[:-1])
        self.smooth = nn.ModuleList(_conv(channels, channels, 3) for _ in dims[:-1])
        self.fuse = _conv(len(dims) * channels, channels, 3)
        self.classify = nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(channels, num_classes, 1))
        self.aside = nn.Sequential(
            _conv(dims[AUXILIARY], auxiliary_channels, 3),
            nn.Dropout2d(dropout),
            nn.Conv2d(auxiliary_channels, num_classes, 1),
        )

    def forward(self, maps: Sequence[Float[Tensor, "b _ _ _"]]) -> Float[Tensor, "b k _ _"]:
        coarse = maps[-1]
        pools = [_to(pool(adaptive_avg_pool2d(coarse, cells)), coarse) for cells, pool in zip(SCALES, self.pools)]
        levels = [lateral(map_) for lateral, map_ in zip(self.lateral, maps)]
        levels.append(self.pooled(torch.cat([coarse, *pools], dim=1)))
        for index in range(len(levels) - 2, -1, -1):  # from coarse to fine
            levels[index] = levels[index] + _to(levels[index + 1], levels[index])
        smooth = [part(level) for part, level in zip(self.smooth, levels)] + [levels[-1]]
        return self.classify(self.fuse(torch.cat([_to(level, smooth[0]) for level in smooth], dim=1)))

    def auxiliary(self, maps: Sequence[Float[Tensor, "b _ _ _"]]) -> Float[Tensor, "b k _ _"]:
        return self.aside(maps[AUXILIARY])


def _conv(inward: int, outward: int, size: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inward, outward, size, padding=size // 2, bias=False), group_norm(outward), nn.ReLU(inplace=True)
    )


def _to(x: Tensor, like: Tensor) -> Tensor:
    return x if x.shape[2:] == like.shape[2:] else interpolate(x, like.shape[2:], mode="bilinear")
