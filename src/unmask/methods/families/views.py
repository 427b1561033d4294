"""Tokens, settings and schedules of methods that compare views of an image, with or without a teacher's prototypes."""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from unmask.choice import Choice
from unmask.data.sheet import Sheet
from unmask.models.ema import cosine
from unmask.models.encoder import Encoder, Tokens

NARROW = 384  # width of an encoder below which short runs need, and bear, a higher rate
NARROW_RATE = 5e-4  # at any batch
LARGEST = 256  # images of a batch of methods that compare samples; four or more steps in an epoch


def of_views(encoder: Callable[[Tensor], Tokens], views: Sequence[Tensor]) -> list[Tokens]:
    """The tokens of every view, each b c and a size of its own; views of one size go through the encoder together."""
    sizes = list(dict.fromkeys(tuple(view.shape[2:]) for view in views))
    tokens: dict[int, Tokens] = {}
    for size in sizes:
        places = [place for place, view in enumerate(views) if tuple(view.shape[2:]) == size]
        together = encoder(torch.cat([views[place] for place in places]))
        parts = zip(together.prefix.chunk(len(places)), together.units.chunk(len(places)))
        tokens |= {place: Tokens(*part) for place, part in zip(places, parts)}
    return [tokens[place] for place in range(len(views))]


def pooled_views(encoder: Callable[[Tensor], Tokens], views: Sequence[Tensor]) -> Float[Tensor, "b v d"]:
    """One vector for every view of every image."""
    return torch.stack([tokens.pooled for tokens in of_views(encoder, views)], dim=1)


def joint_defaults(
    encoder: Encoder, sheet: Sheet, *, crop: float, weight_decay: float, blr: float, name: str
) -> Mapping[str, Choice]:
    """Settings of methods that compare views: those of the paper called `name`, on a batch that fits the data."""
    batch = 2 ** int(math.log2(max(2, min(8, sheet.count), min(LARGEST, sheet.count / 4))))
    return {
        "batch": Choice(batch, f"{name} compares the images of a batch; {sheet.count:,} images"),
        "crop": Choice(crop, f"as in {name}"),
        "weight_decay": Choice(weight_decay, f"as in {name}"),
        **_rate(encoder, blr, name),
    }


def _rate(encoder: Encoder, blr: float, name: str) -> Mapping[str, Choice]:
    if encoder.dim >= NARROW:
        return {"blr": Choice(blr, f"as in {name}, per 256 images")}
    why = f"encoders narrower than {NARROW} bear more than {name}'s, and short runs need it"
    return {"lr": Choice(NARROW_RATE, why)}


def distillation_defaults(encoder: Encoder, *, crop: float, name: str, blr: float = 5e-4) -> Mapping[str, Choice]:
    """Settings of methods with a teacher's prototypes: DINO's, Caron et al. 2021."""
    return {
        "crop": Choice(crop, f"as in {name}, of large views"),
        "weight_decay": Choice(0.04, f"at first, 0.4 at the end, as in {name}"),
        "clip": Choice(3.0, f"of each tensor by itself, as in {name}"),
        "floor": Choice(1e-6, f"as in {name}"),
        "betas": Choice((0.9, 0.999), f"as in {name}"),
        **_rate(encoder, blr, name),
    }


def distillation_schedules(progress: float, momentum: float, temperature: float) -> Mapping[str, float]:
    """DINO's schedules. The teacher's temperature rises from 0.04 over the first tenth: 30 of 300 epochs."""
    return {
        "weight_decay": cosine(0.04, 0.4, progress),
        "momentum": cosine(momentum, 1.0, progress),
        "teacher_temperature": temperature + (min(0.04, temperature) - temperature) * max(0.0, 1 - 10 * progress),
    }
