"""Sizes of networks that no machine can hold, refused by arithmetic before anything is built; and of what they take,
the mean and deviation.

Only lower bounds are computed here, so that nothing that works is refused; what a step needs is measured later.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from unmask.errors import UserError, require_room, require_whole
from unmask.runtime.machine import memory_here

DEEPEST = 10_000  # blocks; the deepest transformers published have 1,000
PER_BLOCK = 150_000  # bytes of Python objects that a block of a network consists of
TRAINED = 16  # bytes for a weight: itself, its gradient, two moments
NARROWEST = 16  # width where a model's name alone is given: less than that of any
WHOLE = ("depth", "embed_dim", "num_heads")  # options of timm's models
LONGEST = 1e15  # operations of attention for one image, forwards: hours on a CPU


def require_buildable(what: str, dim: int, depth: int, units: int = 0) -> None:
    """Raises UserError for blocks that take more memory than there is. dim: width; units: in a table of positions."""
    if depth > DEEPEST:
        raise UserError(f"{what}: depth must be at most {DEEPEST:,}, got {depth:,}")
    need = depth * (PER_BLOCK + 12 * dim**2 * TRAINED) + 2 * 4 * units * dim
    require_room(f"{what} with depth {depth:,}, width {dim:,}", need, memory_here())


def require_sizes(
    model: str, options: Mapping[str, Any], size: Sequence[int], patch: int | Sequence[int] | None, channels: int
) -> None:
    """Raises UserError for options of a timm model that are no sizes, and for images too large for this machine.

    size: of images in pixels, empty where it is the model's own.
    """
    for name in WHOLE:
        if isinstance(options.get(name), int | float | str | None) and options.get(name) is not None:
            require_whole(f"{name} of {model}", options[name])
    dim, heads = options.get("embed_dim"), options.get("num_heads")
    if isinstance(dim, int) and isinstance(heads, int) and dim % heads:
        raise UserError(f"{model}: embed_dim={dim} cannot be shared by num_heads={heads}; make it a multiple")
    dim = dim if isinstance(dim, int) else NARROWEST
    depth = options["depth"] if isinstance(options.get("depth"), int) else 1
    require_buildable(model, dim, depth)
    if size:
        shown, units = " x ".join(f"{side:,}" for side in size), _num_units(size, patch)
        values = 4 * channels * math.prod(size)
        require_room(f"one image of {shown} pixels, in {units:,} patches,", values + 8 * units * dim, memory_here())
        if depth * dim * 4 * (units / 4) ** 2 > LONGEST:
            raise UserError(
                f"images of {shown} pixels in {units:,} patches would take hours each: a larger --patch-size helps,"
                " or a smaller --image-size"
            )


def _num_units(size: Sequence[int], patch: int | Sequence[int] | None) -> int:
    """At least; a model's own patch is 32 pixels or less."""
    unit = [patch or 32] * len(size) if isinstance(patch, int | None) else patch
    return math.prod(max(1, side // part) for side, part in zip(size, unit))


def statistics_of(
    settings: Mapping[str, Any], mean: tuple[float, ...] | None, std: tuple[float, ...] | None, channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std per channel in raw units: those given, else those of timm's settings, in 0..1, else 0 and 1."""
    return (
        mean or tuple(255 * value for value in settings.get("mean", ())) or (0.0,) * channels,
        std or tuple(255 * value for value in settings.get("std", ())) or (1.0,) * channels,
    )
