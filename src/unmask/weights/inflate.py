"""Weights of an encoder of images for inputs of three axes, clips or volumes: the third axis comes first.

Patch filters are spread over it, by Carreira and Zisserman 2017 (I3D), https://arxiv.org/abs/1705.07750: averaged, so
that a still clip gives the tokens of its frame; or in the middle, zero elsewhere (Arnab et al. 2021, ViViT,
https://arxiv.org/abs/2103.15691). Positions are those of the image, in every layer along the new axis, plus fixed ones
along it, half as large, without which the layers could not be told apart.
"""

import torch
from timm.layers import resample_patch_embed
from torch import Tensor

from unmask.errors import UserError, closest
from unmask.masking.grid import Grid
from unmask.models.layers.position import resampled, sincos
from unmask.registry import parse
from unmask.weights.canonical import State
from unmask.weights.resize import mixed, resize_encoder

WAYS = ("average", "centre")
SHARE = 0.5  # of the new axis' positions, as a share of the size of the image's


def for_grid(state: State, old: Grid, new: Grid, mix: Tensor, prefix: int, modality: str) -> State:
    """A timm state dict for another grid of as many axes, or of three for an image's two, and other channels.
    modality: what the encoder takes, whose text may say how filters are spread."""
    if len(new.unit) == 3 > len(old.unit):
        return inflate(state, old, new, mix, prefix, parse(modality)[1].get("inflate", WAYS[0]))
    return resize_encoder(state, old, new, mix, prefix)


def inflate(state: State, old: Grid, new: Grid, mix: Tensor, prefix: int, how: str) -> State:
    """A timm state dict for a grid of three axes. mix: new channels from old, see `resize.py`; prefix: rows of its
    position table before the units'; how: one of WAYS. Raises UserError for another."""
    if how not in WAYS:
        raise UserError(f"patch filters are spread by average or centre, got {how!r}{closest(how, WAYS)}")
    state, key = dict(state), "patch_embed.proj.weight"
    (depth, *flat), across = new.unit, Grid(new.shape[1:], new.unit[1:])
    weight = mixed(state[key], mix)
    weight = weight if old.unit == across.unit else resample_patch_embed(weight, list(flat))
    if how == "average":
        state[key] = (weight / depth)[:, :, None].repeat(1, 1, depth, 1, 1)
    else:
        state[key] = torch.zeros(*weight.shape[:2], depth, *flat, dtype=weight.dtype)
        state[key][:, :, depth // 2] = weight
    if "pos_embed" in state:
        state["pos_embed"] = _positions(state["pos_embed"], old, new, across, prefix)
    return state


def _positions(table: Tensor, old: Grid, new: Grid, across: Grid, prefix: int) -> Tensor:
    table = resampled(table, old.shape, across.shape, prefix)
    units = table[:, prefix:]
    along = sincos(Grid(new.shape[:1], (1,)), table.shape[2]).to(table)
    along = along * (SHARE * units.std() / along.std().clamp(min=1e-6)) if len(along) > 1 else 0 * along
    spread = (units[:, None] + along[None, :, None]).flatten(1, 2)  # -> 1 (t h w) d
    return torch.cat([table[:, :prefix], spread], dim=1)
