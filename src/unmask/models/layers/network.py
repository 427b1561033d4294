"""Makes timm's networks: for images of any whole number of patches, with windows, and for inputs of other axes."""

from collections.abc import Sequence
from typing import Any

import timm
import torch
from timm.models.vision_transformer import Block

from unmask.errors import UserError
from unmask.masking.grid import Part
from unmask.models.layers.point_embed import embed_points
from unmask.models.layers.unit_embed import STAND_IN, embed_units, require_unit
from unmask.models.layers.windowed_attention import WindowedBlock
from unmask.models.names import require_values

OURS = {"num_classes", "global_pool", "in_chans", "img_size", "patch_size"}  # arguments with flags of their own


def arguments_of(
    model: str,
    image_size: tuple[int, ...] | None,
    patch_size: int | tuple[int, ...] | None,
    channels: int,
    class_tokens: int,
    options: dict[str, Any],
) -> dict[str, Any]:
    """Of timm's model. Raises UserError for options that have flags of their own, and for those that are None."""
    require_values(model, options)
    # global_pool="" keeps `norm`; any other value may move it to fc_norm, which forward_features skips
    arguments = {"num_classes": 0, "global_pool": "", "in_chans": channels, **options}
    arguments |= {"img_size": tuple(image_size)} if image_size else {}
    arguments |= {"patch_size": patch_size} if patch_size else {}
    for name in OURS & options.keys():
        raise UserError(f"{name} in {model}(...) is set by unmask; use --image-size, --patch-size or --channels")
    if class_tokens > 1:
        registers = "num_reg_tokens" if family(model.split(".")[0]) == "eva" else "reg_tokens"
        arguments.setdefault(registers, class_tokens - 1)
    return arguments


def sees_windows(model: str, window: int | None, relative: bool) -> bool:
    """Whether blocks see windows or relative positions. Raises UserError for a model that cannot have them."""
    if (window is not None or relative) and family(model.split(".")[0]) == "eva":
        words = "window= and relative= are" if relative else "window= is"
        raise UserError(f"{words} for ViTs without rotary positions; {model} is none. E.g. vit_*, deit*")
    return window is not None or relative


def make_network(
    model: str,
    arguments: dict[str, Any],
    pretrained: bool,
    windowed: bool,
    axes: int = 2,
    parts: Sequence[Part] = (),
    placed: bool = False,
) -> Any:
    """timm's model for inputs of any whole number of units; windowed: with blocks that support windows; parts: of an
    input; placed: its units have places of their own."""
    if axes != 2:
        if windowed or pretrained:
            raise UserError(f"inputs of {axes} axes go with neither window=, relative= nor timm's own weights")
        return _with_axes(model, arguments, parts, placed)
    size, patch = arguments.get("img_size"), arguments.get("patch_size")
    if size and patch and any(s % patch for s in size):
        near = tuple(max(1, round(s / patch)) * patch for s in size)
        raise UserError(f"image size {size} is no multiple of patch size {patch}; the nearest is {near}")
    try:
        options: dict[str, Any] = {**arguments, "dynamic_img_size": True}
        if windowed:
            with torch.device("meta"):
                plain: Any = timm.create_model(model, **options)
            kind = type(plain.blocks[0])
            if kind is not Block:
                raise UserError(f"windows and relative positions need timm's usual ViT blocks, not {kind.__name__}")
            options["block_fn"] = WindowedBlock
        return timm.create_model(model, pretrained=pretrained, **options)
    except (TypeError, AssertionError, RuntimeError, ValueError) as error:
        raise UserError(f"timm cannot build {model}: {error}. Options given: {arguments}") from error


def _with_axes(model: str, arguments: dict[str, Any], parts: Sequence[Part], placed: bool) -> Any:
    """timm's model with a patch embedding for inputs of another number of axes than two."""
    size, unit = arguments["img_size"], arguments["patch_size"]
    require_unit(size, unit)
    net = make_network(model, {**arguments, **STAND_IN}, pretrained=False, windowed=False)
    if placed:
        embed_points(net, size, unit, arguments["in_chans"])
    else:
        embed_units(net, size, unit, arguments["in_chans"], parts)
    return net


def shape_of(net: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Units along each axis of an input, and the size of one."""
    return tuple(net.patch_embed.grid_size), tuple(net.patch_embed.patch_size)


def family(name: str) -> str:
    """The file of timm that defines a model."""
    return timm.model_entrypoint(name).__module__.rsplit(".", 1)[-1]
