"""Embeds groups of points, and the places of the groups: a small PointNet and a small network.

Qi et al. 2017 (PointNet), https://arxiv.org/abs/1612.00593, as in Pang et al. 2022 (Point-MAE),
https://arxiv.org/abs/2203.06604. Point-MAE normalises by batch, which lets hidden groups and other samples be felt;
here nothing is normalised across points.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unmask.errors import UserError

SPACE = 3  # axes of a place: the first channels


class PlaceEmbed(nn.Module):
    """What a table of positions is where units stand on a grid: a vector of each unit's place."""

    def __init__(self, dim: int, hidden: int = 128):
        super().__init__()
        self.enter, self.leave = nn.Linear(SPACE, hidden), nn.Linear(hidden, dim)

    def forward(self, places: Float[Tensor, "b n 3"]) -> Float[Tensor, "b n d"]:
        return self.leave(nn.functional.gelu(self.enter(places)))


class PointEmbed(nn.Module):
    """A token of each group, whatever the order of its points behind the first, which is its centre."""

    def __init__(self, size: Sequence[int], unit: Sequence[int], channels: int, dim: int):
        """size: points of an input, group by group; unit: points of a group; channels: of a point, x y z first."""
        super().__init__()
        self.img_size, self.patch_size = tuple(size), tuple(unit)
        self.grid_size = tuple(side // part for side, part in zip(size, unit))
        self.scale = math.sqrt(math.prod(self.grid_size)) / 2  # of distances in a group of a cloud of radius 1
        wide = max(16, dim // 3)  # for 384, Point-MAE's 128, 256 and 512
        self.proj, self.local = nn.Linear(channels, wide), nn.Linear(wide, 2 * wide)
        self.whole, self.mix = nn.Linear(2 * wide, 4 * wide), nn.Linear(2 * wide, 4 * wide, bias=False)
        self.token = nn.Linear(4 * wide, dim)
        self.place = PlaceEmbed(dim)

    def forward(self, x: Float[Tensor, "b c n"]) -> Float[Tensor, "b g d"]:
        points = x.transpose(1, 2).unflatten(1, (-1, self.patch_size[0]))  # b g k c
        places = points[..., :1, :SPACE]
        points = torch.cat([(points[..., :SPACE] - places) * self.scale, points[..., SPACE:]], dim=3)
        points = self.local(nn.functional.gelu(self.proj(points)))
        points = self.mix(points) + self.whole(points.amax(dim=2, keepdim=True))  # of both side by side
        return self.token(nn.functional.gelu(points)).amax(dim=2)


def embed_points(net: Any, size: Sequence[int], unit: Sequence[int], channels: int) -> None:
    """Gives timm's model an embedding of groups of points, with positions of their places instead of a table. Raises
    UserError for a model with rotary positions, which turn by the place on a grid."""
    if getattr(net, "rope", None) is not None:
        raise UserError("clouds of points have no grid for rotary positions: take a model without, vit_* or deit*")
    net.patch_embed = PointEmbed(size, unit, channels, net.num_features)
    net.pos_embed = None
