"""A light UNETR for volumes: tokens of four depths are read out to finer and finer voxels and joined with the input.

Hatamizadeh et al. 2021, https://arxiv.org/abs/2103.10504, whose decoder is several times as dear: here each depth is
read out by one transposed convolution to the scale where it is needed, and each scale has one convolution of 3 x 3 x 3.
The deepest tokens begin at the patches' own scale; the input comes in at that of voxels, so that edges are sharp.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from unmask.models.head import Head, group_norm

__all__ = ["UnetrHead"]


class UnetrHead(Head):
    taps, norm, axes = "input", False, (3,)

    def __init__(
        self,
        dims: Sequence[int],
        num_classes: int,
        unit: tuple[int, ...] = (8, 8, 8),
        channels: int = 64,
        least: int = 12,
        dropout: float = 0.1,
    ):
        """dims: channels of the input, then of the maps; channels: at the scale of patches, halved from scale to scale
        down to `least`."""
        super().__init__()
        inputs, *deep = dims
        steps = 0  # halvings of a patch, up to voxels where its sides are powers of two
        while all(side % 2 ** (steps + 1) == 0 for side in unit):
            steps += 1
        widths = [max(least, channels // 2**step) for step in range(steps + 1)]
        self.deepest = nn.Sequential(group_norm(deep[-1]), nn.Conv3d(deep[-1], widths[0], 1), group_norm(widths[0]))
        self.grow = nn.ModuleList(nn.ConvTranspose3d(a, b, 2, stride=2) for a, b in pairwise(widths))
        earlier = list(reversed(deep[:-1]))[: max(0, steps - 1)]  # the finest scale has the input instead
        self.aside = nn.ModuleList(
            nn.Sequential(group_norm(dim), nn.ConvTranspose3d(dim, width, 2 ** (step + 1), stride=2 ** (step + 1)))
            for step, (dim, width) in enumerate(zip(earlier, widths[1:]))
        )
        self.mix = nn.ModuleList(_conv(2 * width, width) for width in widths[1 : 1 + len(earlier)])
        self.stem = _conv(inputs, widths[-1])
        self.last = _conv(2 * widths[-1], widths[-1])
        self.drop = nn.Dropout3d(dropout)
        self.classify = nn.Conv3d(widths[-1], num_classes, 1)

    def forward(self, maps: Sequence[Float[Tensor, "b _ ..."]]) -> Float[Tensor, "b k ..."]:
        inputs, *deep = maps
        earlier = list(reversed(deep[:-1]))
        x = self.deepest(deep[-1])
        for step, grow in enumerate(self.grow):
            x = grow(x)
            if step < len(self.aside):
                x = self.mix[step](torch.cat([x, self.aside[step](earlier[step])], dim=1))
        if x.shape[2:] != inputs.shape[2:]:  # patches whose sides are no powers of two
            x = interpolate(x, inputs.shape[2:], mode="trilinear", align_corners=False)
        return self.classify(self.drop(self.last(torch.cat([x, self.stem(inputs)], dim=1))))


def _conv(inward: int, outward: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv3d(inward, outward, 3, padding=1, bias=False), group_norm(outward), nn.GELU())
