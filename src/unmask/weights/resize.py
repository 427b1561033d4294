"""Resizes weights to another image size, patch size or set of channels, keeping what they learned.

Positions are interpolated (bicubic, antialiased, as timm does); patch filters are resampled so that their answers to
resized patches stay the same (Beyer et al. 2023, FlexiViT). Channels are mixed by a matrix, new from old, whose rows
keep the scale of the activations.

For inputs of three axes, clips or volumes, whose new axis comes first, the filters of images are spread over it
(Carreira and Zisserman 2017, I3D, https://arxiv.org/abs/1705.07750): averaged, so that a still clip gives the tokens of
its frame; or in the middle, zero elsewhere (Arnab et al. 2021, ViViT, https://arxiv.org/abs/2103.15691). Positions are
those of the image in every layer, plus fixed ones along the new axis, half as large, to tell layers apart.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from timm.layers import resample_patch_embed
from torch import Tensor
from torch.nn.functional import interpolate

from unmask.errors import UserError, closest, many
from unmask.masking.grid import Grid
from unmask.models.layers.position import resampled, sincos
from unmask.registry import parse
from unmask.weights.canonical import Canonical, State

NAMES = {"r": "R", "red": "R", "g": "G", "green": "G", "b": "B", "blue": "B"}
SAME = 1e-3  # two position tables that differ by less are one
WAYS = ("average", "centre")
SHARE = 0.5  # of the new axis' positions, as a share of the size of the image's


def channel_mix(old: int, new: int, bands: Sequence[str] | None) -> Float[Tensor, "new old"]:
    """The weight of each old channel's filter in each new channel's.

    As many channels without names stay as they are. With other numbers, every new channel gets the sum of the old
    filters divided by the number of new ones: images with equal channels give the very same activations (and one
    channel those of a grey image seen as RGB). `bands` names the new channels: R, G and B keep their own filter,
    others get the average of the three; all are scaled by old / new. Raises UserError for names that cannot be used.
    """
    if not bands:
        return torch.eye(old) if new == old else torch.full((new, old), 1 / new)
    if old != 3:
        raise UserError(f"--bands names channels for weights that know R, G and B; these have {many(old, 'channel')}")
    if len(bands) != new:
        raise UserError(f"--bands names {many(len(bands), 'channel')} ({', '.join(bands)}), the data has {new}")
    letters = [NAMES.get(band.lower()) for band in bands]
    for name in "RGB":
        if letters.count(name) > 1:
            raise UserError(f"--bands {', '.join(bands)} names {name} more than once")
    rows = [torch.eye(3)["RGB".index(name)] if name else torch.full((3,), 1 / 3) for name in letters]
    return torch.stack(rows) * (3 / new)


def require_channels(old: int, new: int, source: str) -> None:
    """Raises UserError for other channels than those of a network whose filters are not known to us."""
    if new != old:
        raise UserError(
            f"{source} takes {many(old, 'channel')}, not {new}: only filters of ViTs and Hiera can be brought to other"
            " channels"
        )


def mixed_statistics(
    weights: tuple[tuple[float, ...], tuple[float, ...]] | None,
    data: tuple[tuple[float, ...], tuple[float, ...]],
    mix: Float[Tensor, "new old"],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std per new channel: the weights' for a channel that is one of theirs, the data's for every other."""
    if weights is None:
        return data
    origin = [int(row.argmax()) if int((row != 0).sum()) == 1 else None for row in mix]
    if mix.shape[1] == 1 != len(mix):
        origin = [None] * len(mix)  # one old filter in all new channels: none of them is the old one
    mean = tuple(data[0][i] if o is None else weights[0][o] for i, o in enumerate(origin))
    std = tuple(data[1][i] if o is None else weights[1][o] for i, o in enumerate(origin))
    return mean, std


def resize_encoder(state: State, old: Grid, new: Grid, mix: Tensor, prefix: int) -> State:
    """A timm state dict for another grid and other channels; prefix: rows of its position table before the units'."""
    state = dict(state)
    if "pos_embed" in state and state["pos_embed"].ndim == 3 and old.shape != new.shape:
        state["pos_embed"] = resampled(state["pos_embed"], old.shape, new.shape, prefix)
    key = "patch_embed.proj.weight"
    if key in state:
        weight = mixed(state[key], mix)
        state[key] = resample_patch_embed(weight, list(new.unit)) if old.unit != new.unit else weight
    return state


def mixed(weight: Float[Tensor, "d old p q"], mix: Float[Tensor, "new old"]) -> Float[Tensor, "d new p q"]:
    """Patch filters for other channels."""
    return weight if _is_identity(mix) else torch.einsum("no,dopq->dnpq", mix.to(weight.dtype), weight)


def token_grid(model: str, grid: Grid) -> Grid:
    """The grid that a position table has rows for: Hiera's are of patches of 4 pixels, 8 x 8 in each of its units."""
    return Grid(tuple(8 * side for side in grid.shape), (4, 4)) if model.startswith("hiera") else grid.plane


def for_grid(state: State, old: Grid, new: Grid, mix: Tensor, prefix: int, modality: str) -> State:
    """A timm state dict for another grid of as many axes, or of three for an image's two, and other channels.
    modality: what the encoder takes, whose text may say how filters are spread. Of one or three axes, more or fewer
    units are possible where there is no table of positions. Raises UserError where weights cannot be brought to it."""
    if len(new.unit) == 3 > len(old.unit):
        return inflate(state, old, new, mix, prefix, parse(modality)[1].get("inflate", WAYS[0]))
    if not len(new.unit) == len(old.unit) == 2:
        any_shape = "pos_embed" not in state or new.shape == old.shape
        same = len(new.unit) == len(old.unit) and bool(new.space or (new.unit == old.unit and any_shape))
        if not same or not _is_identity(mix):
            shown = [
                f"{' x '.join(map(str, grid.size))}, units of {' x '.join(map(str, grid.unit))}" for grid in (old, new)
            ]
            raise UserError(f"these weights are for inputs of {shown[0]}; they cannot be brought to {shown[1]}")
        return dict(state)
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


def resize_relative(tables: State, own: State) -> State:
    """Tables of relative positions for the sides of another grid, interpolated as for a call on another grid."""
    return {
        key: interpolate(table.T[None], size=len(own[key]), mode="linear")[0].T
        if key in own and len(own[key]) != len(table)
        else table
        for key, table in tables.items()
    }


def resize_decoder(state: State, old: Grid, new: Grid, mix: Tensor) -> State:
    """A decoder's state for another grid and other channels. Its predictions of a pixel are interpolated between those
    of the old patch's pixels; a new channel's are the same mixture of the old channels' that its filters are."""
    state = dict(state)
    if "position" in state and old.shape != new.shape:
        table = state["position"]
        prefix = table.shape[-2] - old.num_units
        state["position"] = resampled(table[None], old.shape, new.shape, prefix)[0]
    share = mix / mix.sum(dim=1, keepdim=True)
    for name in ("predict.weight", "predict.bias"):
        value = state[name]
        rows = value.reshape(*old.unit, mix.shape[1], -1)  # (p q c) d -> p q c d
        if not _is_identity(mix):
            rows = torch.einsum("no,pqod->pqnd", share.to(rows.dtype), rows)
        if old.unit != new.unit:
            flat = rows.flatten(2).permute(2, 0, 1)[None]  # -> 1 (c d) p q
            flat = interpolate(flat, size=new.unit, mode="bilinear", antialias=True, align_corners=False)
            rows = flat[0].permute(1, 2, 0).unflatten(2, rows.shape[2:])
        state[name] = rows.flatten(0, 2) if value.ndim > 1 else rows.flatten()
    return state


def settle_decoder(weights: Canonical, grid: Grid) -> tuple[Canonical, list[str]]:
    """Fills in the decoder's heads, and gives its position table one row for prefix tokens, as ours has."""
    if weights.decoder is None or weights.predictor is not None:
        return weights, []
    decoder, remarks = dict(weights.decoder), []
    dim, heads = decoder["embed.weight"].shape[0], weights.decoder_heads
    if heads is None:
        heads = 16 if dim % 16 == 0 and dim >= 512 else max(1, dim // 32)
        remarks.append(f"{heads} attention heads in the decoder, as usual for its width; the file does not say")
    table = decoder.get("position")
    table = sincos(grid, dim) if table is None else table.reshape(-1, dim)
    prefix, units = table[: len(table) - grid.num_units], table[-grid.num_units :]
    if len(table) < grid.num_units or (len(prefix) > 1 and float((prefix - prefix[:1]).abs().max()) > 0):
        remarks.append(f"its decoder is left out: a position table of {len(table)} rows cannot be used")
        return replace(weights, decoder=None), remarks
    first = prefix[:1] if len(prefix) else torch.zeros(1, dim)
    return replace(weights, decoder=decoder | {"position": torch.cat([first, units])}, decoder_heads=heads), remarks


def fixed_table(table: Float[Tensor, "n d"], grid: Grid) -> bool:
    """True for MAE's own sine-cosine table, [x | y], which a decoder makes for itself."""
    return table.shape[0] == grid.num_units and bool((table - sincos(grid, table.shape[1])).abs().max() < SAME)


def _is_identity(mix: Tensor) -> bool:
    return mix.shape[0] == mix.shape[1] and bool(torch.equal(mix, torch.eye(len(mix))))
