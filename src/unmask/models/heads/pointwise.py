"""A small network for each point: features of four depths at the point, and the point itself, in; classes out.

As in Point-MAE (Pang et al. 2022, https://arxiv.org/abs/2203.06604) and PointNet++, whose features are spread from
centres to points before they get here. Nothing is normalised across points: what a point is called does not depend on
which others are asked for.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unmask.models.head import Head

__all__ = ["PointwiseHead"]


class PointwiseHead(Head):
    taps, norm, axes = "input", True, (1,)

    def __init__(
        self,
        dims: Sequence[int],
        num_classes: int,
        unit: tuple[int, ...] = (1,),
        channels: int = 128,
        dropout: float = 0.1,
    ):
        """dims: channels of a point, then of the maps. unit: not needed."""
        super().__init__()
        own, *deep = dims
        self.own = nn.Sequential(nn.Linear(own, channels), nn.GELU(), nn.Linear(channels, channels))
        self.deep = nn.Linear(sum(deep), channels)
        self.mix = nn.Sequential(
            nn.LayerNorm(channels), nn.GELU(), nn.Linear(channels, channels), nn.LayerNorm(channels), nn.GELU()
        )
        self.drop = nn.Dropout(dropout)
        self.classify = nn.Linear(channels, num_classes)

    def forward(self, maps: Sequence[Float[Tensor, "b _ n"]]) -> Float[Tensor, "b k n"]:
        own, *deep = (map_.transpose(1, 2) for map_ in maps)
        mixed = self.mix(self.own(own) + self.deep(torch.cat(deep, dim=2)))
        return self.classify(self.drop(mixed)).transpose(1, 2)
