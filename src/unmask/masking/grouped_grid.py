"""Units of groups of channels: Cong et al. 2022 (SatMAE), https://arxiv.org/abs/2207.08051, section 3.2.

An input is cut into places as usual, and each place has a unit for every group of channels. The first axis of the grid
is the group; an input's size has no such axis.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from unmask.masking.grid import Grid


@dataclass(frozen=True)
class GroupedGrid(Grid):
    """shape: groups, rows, columns; unit: 1, height, width."""

    groups: tuple[tuple[int, ...], ...] = ()  # numbers of the channels of each

    @property
    def size(self) -> tuple[int, ...]:
        return self.plane.size

    @property
    def plane(self) -> Grid:
        return Grid(self.shape[1:], self.unit[1:])

    def width(self, channels: int) -> int:
        return max(map(len, self.groups))

    def covering(self, size: Sequence[int]) -> "GroupedGrid":
        return replace(self, shape=(len(self.groups), *self.plane.covering(size).shape))

    def cut(self, x: Shaped[Tensor, "b c *size"]) -> Shaped[Tensor, "b n p"]:
        """Units of one length: the channels of a smaller group are repeated, which changes no mean over them if the
        larger one is a multiple of it."""
        order = self._order()
        parts = x[:, order.flatten().to(x.device)].unflatten(1, tuple(order.shape)).transpose(1, 2)  # -> b k g h w
        return self._whole().cut(parts)

    def join(self, units: Shaped[Tensor, "b n p"]) -> Shaped[Tensor, "b c *size"]:
        parts = self._whole().join(units).transpose(1, 2)  # -> b g k h w
        first = {channel: (g, k) for g, group in enumerate(self.groups) for k, channel in enumerate(group)}
        return torch.stack([parts[:, first[channel][0], first[channel][1]] for channel in sorted(first)], dim=1)

    def mapped(self, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b d *places"]:
        return tokens.transpose(1, 2).unflatten(2, self.shape).mean(dim=2)

    def spread(self, values: Shaped[Tensor, "b n"]) -> Shaped[Tensor, "b c *size"]:
        return self.join(values[..., None].expand(-1, -1, math.prod(self.unit) * self.width(0)))

    def _whole(self) -> Grid:
        return Grid(self.shape, self.unit)

    def _order(self) -> Int[Tensor, "g k"]:
        width = self.width(0)
        return torch.tensor([[group[k % len(group)] for k in range(width)] for group in self.groups])
