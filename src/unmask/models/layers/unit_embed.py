"""Patch embedding and rotary positions for inputs of one axis (recordings of sensors) or three (clips and volumes).

Tubelets: Arnab et al. 2021 (ViViT), https://arxiv.org/abs/2103.15691. Rotations: Su et al. 2021 (RoFormer), shared out
over the axes as Heo et al. 2024 do for two, https://arxiv.org/abs/2403.13298. The other order of angles is that of
V-JEPA 2's code, Assran et al. 2025, https://arxiv.org/abs/2506.09985.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unmask.errors import UserError, closest
from unmask.masking.grid import Grid, Part
from unmask.models.layers.part_embed import PartEmbed

BASE = 10_000.0  # of the wavelengths of rotations
ORDERS = PAIRED, TILED = "paired", "tiled"  # of the angles of an axis, see `rotary`


class UnitEmbed(nn.Module):
    """What timm's PatchEmbed is for two axes: a linear map of each unit's values, as a convolution without overlap."""

    def __init__(self, size: Sequence[int], unit: Sequence[int], channels: int, dim: int, norm: nn.Module):
        """size, unit: samples along each axis of an input and of a unit; norm: of each unit's token."""
        super().__init__()
        self.img_size, self.patch_size = tuple(size), tuple(unit)
        self.grid_size = tuple(side // part for side, part in zip(size, unit))
        kinds = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
        if len(unit) not in kinds:
            raise UserError(f"inputs have one, two or three axes, these have {len(unit)}: {tuple(size)}")
        self.proj = kinds[len(unit)](channels, dim, kernel_size=self.patch_size, stride=self.patch_size)
        self.norm = norm

    def forward(self, x: Float[Tensor, "b c *size"]) -> Float[Tensor, "b n d"]:
        return self.norm(self.proj(x).flatten(2).transpose(1, 2))


STAND_IN = {"patch_size": 16, "img_size": (32, 32)}  # of the images that timm builds a network for, to be replaced


def require_unit(size: Sequence[int], unit: object) -> None:
    """Raises UserError for a unit of another number of axes, or a size that is no whole number of units."""
    if not isinstance(unit, tuple) or len(unit) != len(size):
        raise UserError(f"an input of {len(size)} axes needs a patch of as many, got {unit}")
    Grid((1,) * len(unit), unit).covering(size)


def embed_units(net: Any, size: Sequence[int], unit: Sequence[int], channels: int, parts: Sequence[Part] = ()) -> None:
    """Gives timm's model, built for `STAND_IN`, a patch embedding for other inputs and an empty table of positions.
    parts: that an input consists of, each of which is embedded by itself."""
    if getattr(net, "rope_mixed", False):
        raise UserError(f"a model with rope_mixed learns rotations for two axes; of {len(size)}, take one without")
    norm = getattr(net.patch_embed, "norm", None) or nn.Identity()
    old = math.prod(net.patch_embed.grid_size)
    dim = net.num_features
    net.patch_embed = PartEmbed(parts, dim, norm) if parts else UnitEmbed(size, unit, channels, dim, norm)
    if net.pos_embed is not None:
        rows = net.pos_embed.shape[1] - old + math.prod(net.patch_embed.grid_size)
        net.pos_embed = nn.Parameter(net.pos_embed.new_zeros(1, rows, net.num_features))


def rotary(grid: Grid, dim: int, order: str = PAIRED) -> Float[Tensor, "n two_d"]:
    """Sines, then cosines, of the angles by which timm's EVA blocks turn each pair of values of a head, for units on a
    grid of any number of axes.

    dim: of a head. Its pairs are shared out evenly over the axes; those left over are not turned. Units of several
    parts are turned by the positions in their own part.
    order: of the angles a, b, c of an axis over its values. PAIRED is a a b b c c: both values of a pair are turned by
    one angle. TILED is a b c a b c, as in V-JEPA 2's code: the values of a pair have different angles, so that they are
    not turned in the strict sense, and weights that were trained so need it.
    """
    if grid.parts:
        return torch.cat([rotary(part.grid, dim, order) for part in grid.parts])
    axes = len(grid.shape)
    each = dim // (2 * axes)
    if each < 1:
        raise UserError(f"heads of {dim} values are too narrow for rotary positions on {axes} axes")
    freq = BASE ** (-torch.arange(each, dtype=torch.float64) / each)
    angles = [place[:, None].double() * freq for place in grid.coordinates().unbind(dim=1)]
    turns = [axis.repeat(1, 2) if order == TILED else axis.repeat_interleave(2, dim=1) for axis in angles]
    table = nn.functional.pad(torch.cat(turns, dim=1), (0, dim - 2 * each * axes))
    return torch.cat([table.sin(), table.cos()], dim=1).float()


def require_rotary_order(order: str) -> None:
    """Raises UserError for an order of angles that there is not."""
    if order not in ORDERS:
        raise UserError(f"the order of rotary angles is {' or '.join(ORDERS)}, got {order!r}{closest(order, ORDERS)}")


def told_order(net: Any, model: str, axes: int, order: str) -> dict[str, str]:
    """What is recorded of the order of angles of timm's model: nothing where it is the usual one. Raises UserError
    where the order cannot be chosen: of models without rotary positions, and of images, whose angles are timm's."""
    require_rotary_order(order)
    if order == PAIRED:
        return {}
    if getattr(net, "rope", None) is None:
        raise UserError(f"rotary_order={order!r}: {model} has no rotary positions; take one that has, a vit_*_rope_*")
    if axes == 2:
        raise UserError(
            f"rotary_order={order!r} is for clips, volumes and signals: in images timm turns {model}, in its own order"
        )
    return {"rotary_order": order}
