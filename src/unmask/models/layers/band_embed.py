"""Patch embedding of scenes: groups of bands, what a pixel measures on the ground, and when a scene was taken.

Groups with tokens and embeddings of their own, and times as sines and cosines of year, month and hour: Cong et al. 2022
(SatMAE), https://arxiv.org/abs/2207.08051. Positions in metres: Reed et al. 2023 (Scale-MAE),
https://arxiv.org/abs/2212.14532.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d

from unmask.errors import UserError
from unmask.masking.grid import Grid
from unmask.masking.grouped_grid import GroupedGrid

WAVES = 8  # sines, and cosines, of each part of a time
OLDEST = 2002  # the year that counts as 0, as in SatMAE
BASE = 10_000.0  # of the wavelengths


class BandEmbed(nn.Module):
    """In place of timm's PatchEmbed, whose filters it keeps: a group's token is what the filters of its bands give,
    plus the group's own embedding."""

    def __init__(self, embed: Any, dim: int, channels: int, groups: tuple[tuple[int, ...], ...], planes: int):
        """embed: timm's; groups: channels of each, () for all together; planes: behind the channels, metres of a pixel,
        then year, month and hour, NaN where they are not known."""
        super().__init__()
        self.proj, self.norm, self.channels, self.groups = embed.proj, embed.norm, channels, groups
        self.img_size, self.patch_size = tuple(embed.img_size), tuple(embed.patch_size)
        plane = Grid(tuple(embed.grid_size), self.patch_size)
        self.grid = GroupedGrid((len(groups), *plane.shape), (1, *plane.unit), groups=groups) if groups else plane
        self.group = nn.Parameter(0.02 * torch.randn(len(groups), dim)) if groups else None
        self.time = nn.Linear(6 * WAVES, dim, bias=False) if planes > 1 else None

    def forward(self, x: Float[Tensor, "b _ h w"]) -> Float[Tensor, "b n d"]:
        weight, bias, stride = self.proj.weight, self.proj.bias, self.proj.stride
        bands = x[:, : self.channels]
        parts = [bands[:, group] for group in map(list, self.groups)] or [bands]
        filters = [weight[:, group] for group in map(list, self.groups)] or [weight]
        tokens = [conv2d(part, w, bias, stride).flatten(2).transpose(1, 2) for part, w in zip(parts, filters)]
        if self.group is not None:
            tokens = [part + own for part, own in zip(tokens, self.group)]
        units = self.norm(torch.cat(tokens, dim=1))
        if self.time is not None:
            units = units + self.time(times(x[:, self.channels + 1 : self.channels + 4, 0, 0]))[:, None]
        return units

    def begin(self) -> None:
        """Times say nothing at first, so that weights from elsewhere give the tokens that they gave."""
        if self.time is not None:
            nn.init.zeros_(self.time.weight)


def times(told: Float[Tensor, "b 3"]) -> Float[Tensor, "b f"]:
    """Sines and cosines of year, month and hour; zeros where they are not known."""
    freq = BASE ** (-torch.arange(WAVES, device=told.device, dtype=torch.float32) / WAVES)
    since = told.float() - told.new_tensor([OLDEST, 1, 0])
    angles = since[..., None] * freq
    return torch.cat([angles.sin(), angles.cos()], dim=2).flatten(1).nan_to_num(nan=0.0)


def in_metres(grid: Grid, dim: int, factor: Float[Tensor, "b"]) -> Float[Tensor, "b n d"]:
    """`sincos` of each sample's own grid, whose units lie `factor` times as far apart."""
    axes = len(grid.shape)
    num_freq = dim // (2 * axes)
    freq = BASE ** (-torch.arange(num_freq, device=factor.device, dtype=torch.float32) / num_freq)
    parts = []
    for axis in reversed(grid.coordinates(factor.device).unbind(dim=1)):
        angle = factor[:, None, None] * axis[:, None] * freq
        parts += [angle.sin(), angle.cos()]
    table = torch.cat(parts, dim=2)
    return nn.functional.pad(table, (0, dim - table.shape[2]))


def for_scenes(
    table: Float[Tensor, "1 t d"], grid: Grid, metres: Float[Tensor, "b"] | None, scale: float | None
) -> Float[Tensor, "_ _ d"]:
    """A table of the places of a grid, for each of its units. metres: of a pixel of each sample, NaN where nobody
    knows: positions lie metres / scale as far apart."""
    plane = grid.plane
    prefix, places = table.split([table.shape[1] - plane.num_units, plane.num_units], dim=1)
    if metres is not None and scale is not None:
        places = in_metres(plane, table.shape[2], (metres / scale).nan_to_num(nan=1.0)).to(table.dtype)
    places = places.repeat(1, grid.num_units // plane.num_units, 1)
    return torch.cat([prefix.expand(places.shape[0], -1, -1), places], dim=1)


def embed_bands(
    net: Any, channels: int, groups: Any, planes: int, scale: float | None, windowed: bool = False
) -> dict[str, Any]:
    """Gives timm's model a `BandEmbed`, where one is needed. Returns the options of which it is made. Raises UserError
    where the model cannot have it."""
    groups = tuple(tuple(int(channel) for channel in group) for group in groups or ())
    if not groups and not planes:
        return {}
    if windowed:
        raise UserError("windows and relative positions go with neither groups of bands nor what is told of scenes")
    if sorted(channel for group in groups for channel in group) != list(range(channels))[: len(groups) and channels]:
        raise UserError(f"groups have each of {channels} channels once; got {groups}")
    if scale and (net.pos_embed is None or getattr(net, "rope", None) is not None):
        raise UserError("distances on the ground are told by a table of positions, not by rotary ones: take a vit_*")
    net.patch_embed = BandEmbed(net.patch_embed, net.num_features, channels, groups, planes)
    net.patch_embed.begin()
    told: dict[str, Any] = {"groups": groups} if groups else {}
    return told | ({"planes": planes} if planes else {}) | ({"scale": scale} if scale else {})
