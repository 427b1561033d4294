"""Colour jitter: brightness, contrast, saturation and hue of an image, drawn from one generator."""

import torch
from jaxtyping import Shaped
from torch import Generator, Tensor
from torchvision.transforms.v2 import functional as F

from unmask.errors import UserError


def jittered(image: Shaped[Tensor, "c h w"], strength: float, generator: Generator) -> Shaped[Tensor, "c h w"]:
    """Brightness, contrast and saturation each times a number from 1 - strength to 1 + strength, and hue turned by at
    most a quarter of the strength (of the circle), in random order; grey images have neither saturation nor hue.

    These are torchvision's ColorJitter with the proportions of MoCo v2 (Chen et al. 2020). Images that are not 8-bit
    are jittered on the scale between their own smallest and largest value. Raises UserError for other than 1 or 3
    channels.
    """
    if image.shape[0] not in (1, 3):
        raise UserError(f"colour jitter is for 1 or 3 channels, this image has {image.shape[0]}; leave out --jitter")
    order = torch.randperm(4, generator=generator).tolist()
    factors = [_uniform(max(0.0, 1 - strength), 1 + strength, generator) for _ in range(3)]
    hue = _uniform(-min(0.5, strength / 4), min(0.5, strength / 4), generator)
    changes = [
        lambda x: F.adjust_brightness(x, factors[0]),
        lambda x: F.adjust_contrast(x, factors[1]),
        lambda x: F.adjust_saturation(x, factors[2]),
        lambda x: F.adjust_hue(x, hue),
    ]
    low, span = 0.0, 1.0
    if image.is_floating_point():
        low, high = float(image.min()), float(image.max())
        span = (high - low) or 1.0
        image = (image - low) / span
    for place in order:
        if place < 2 or image.shape[0] == 3:
            image = changes[place](image)
    return image * span + low if image.is_floating_point() else image


def check_colours(channels: int) -> None:
    """Raises UserError where there are no colours to change."""
    if channels not in (1, 3):
        raise UserError(f"colour jitter is for images of 1 or 3 channels, these have {channels}; leave out --jitter")


def _uniform(low: float, high: float, generator: Generator) -> float:
    return torch.empty(1).uniform_(low, high, generator=generator).item()


def _check_jitter(jitter: float) -> None:
    if not 0 <= jitter <= 1:
        raise UserError(f"colour jitter must lie between 0 and 1; got {jitter}")
