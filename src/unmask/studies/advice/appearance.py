"""What pixels show of the kind of images, measured on a sample, and a careful guess with its evidence.

Pixels can tell photographs (edges are level or upright, palettes differ), grey images that are framed alike (such as
X-rays), images of one palette without a preferred direction (such as stained tissue, or fields from above), and black
strokes on white. They cannot tell an X-ray from an electron micrograph: a person who knows says it with `--kind`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn.functional import interpolate

from unmask.data.sheet import Sheet
from unmask.report.reconstruction import displayed, value_range
from unmask.tasks.retrieval.likeness import tiny_image
from unmask.tasks.retrieval.neighbours import pairs

SIDE = 16  # pixels of a thumbnail
GREY = 0.012  # mean difference between the channels of a grey image, of 1: JPEG leaves that much
NEAR = 0.98  # likeness of near copies, as in `unmask search --duplicates`
FEW = 24  # images below which nothing is guessed
ALIKE, SAME_PALETTE = 0.3, 0.25  # shares from which images are framed alike, and below which they share a palette
LEVEL, ANY_WAY = 0.05, 0.03  # direction of edges: above, mostly level or upright; below, none is preferred
STROKES = 0.75  # share of values near either end of the range, as in the plan of `pretrain`
KINDS = {  # what --kind takes, and what may be guessed -> in words
    "photographs": "photographs",
    "xray": "X-rays",
    "microscopy": "microscopy",
    "satellite": "satellite or aerial images",
    "drawings": "drawings, digits or documents",
    "bands": "images of several bands",
    "scans": "grey images framed alike, such as X-rays or scans",
    "unoriented": "images of one palette without up and down, such as microscopy or views from above",
    "unknown": "not known",
}
SAID = ("photographs", "xray", "microscopy", "satellite", "drawings")  # what a person may say


@dataclass(frozen=True)
class Appearance:
    """Means over the images looked at; shares are from 0 to 1."""

    count: int
    grey: float  # share of images without colour, however they are stored
    grey_as_colour: float  # share that is stored with three channels nevertheless
    framed_alike: float  # squared length of the mean of all thumbnails, each normalised: 1 where they are the same
    palette: float  # of the colours' deviation, the share that lies between images: small for one palette
    direction: float  # of edges, weighted by strength: 1 all level or upright, -1 all oblique, 0 none preferred
    near_copies: int  # images with a near copy among the others, exact copies included
    thumbs: Float[np.ndarray, "n 3 s s"]


def measure_appearance(pixels: Mapping[int, Shaped[Tensor, "c h w"]]) -> Appearance:
    """Measures decoded images, of any number of channels, sizes and types."""
    shown = [_shown(image) for image in pixels.values()]
    thumbs = torch.stack([interpolate(image[None], (SIDE, SIDE), mode="area")[0] for image in shown])
    colourless = [float((image.max(0).values - image.min(0).values).mean()) < GREY for image in shown]
    three = [grey and image.shape[0] == 3 for grey, image in zip(colourless, pixels.values())]
    light = thumbs.mean(dim=1)
    centred = (light - light.mean(dim=(1, 2), keepdim=True)).flatten(1)
    alike = (centred / centred.norm(dim=1, keepdim=True).clamp_min(1e-6)).mean(dim=0).square().sum()
    chroma = torch.stack([thumbs[:, 2] - light, thumbs[:, 0] - light], dim=1).flatten(2)
    between = chroma.mean(dim=2).std(dim=0, correction=0).norm() / chroma.square().sum(dim=1).mean().sqrt().clamp_min(
        1e-6
    )
    edges = [_direction(image.mean(dim=0)) for image in shown if min(image.shape[1:]) >= SIDE]
    return Appearance(
        count=len(shown),
        grey=float(np.mean(colourless)),
        grey_as_colour=float(np.mean(three)),
        framed_alike=float(alike),
        palette=float(between),
        direction=float(np.mean(edges)) if edges else 0.0,
        near_copies=_near_copies(list(pixels.values())),
        thumbs=thumbs.numpy(),
    )


def lost_detail(pixels: Sequence[Shaped[Tensor, "c h w"]], side: int) -> float:
    """Share of the images' variance that is gone once their shorter side is `side` pixels; 0 where they are smaller."""
    losses = []
    for image in map(_shown, pixels):
        factor, variance = side / min(image.shape[1:]), float(image.var())
        if factor >= 1 or variance == 0:
            losses.append(0.0)
            continue
        size = [max(1, round(length * factor)) for length in image.shape[1:]]
        small = interpolate(image[None], size, mode="area")
        back = interpolate(small, tuple(image.shape[1:]), mode="bilinear")[0]
        losses.append(float((back - image).square().mean()) / variance)
    return float(np.mean(losses)) if losses else 0.0


def guess_kind(appearance: Appearance, sheet: Sheet) -> tuple[str, str]:
    """A key of KINDS, and the evidence in words. "unknown" where the pixels do not tell."""
    few = f"{appearance.count} images are too few to guess from" if appearance.count < FEW else ""
    if sheet.channels not in (1, 3):
        return "bands", f"{sheet.channels} channels"
    if sheet.share_extreme > STROKES:
        return "drawings", f"{sheet.share_extreme:.0%} of the values are near black or white"
    if few:
        return "unknown", few
    if appearance.grey > 0.95:
        alike = f"grey; a thumbnail shares {appearance.framed_alike:.0%} of its contrast with the mean of all"
        return (
            ("scans", alike) if appearance.framed_alike > ALIKE else ("unknown", f"{alike}, so they differ in layout")
        )
    one_palette, level = appearance.palette < SAME_PALETTE, appearance.direction > LEVEL
    palette = "all share one palette" if one_palette else "palettes differ from image to image"
    any_way = "point in all directions" if appearance.direction < ANY_WAY else "are hardly aligned"
    edges = "are mostly level or upright" if level else any_way
    evidence = f"{palette} ({appearance.palette:.0%}); edges {edges} ({appearance.direction:+.2f})"
    if one_palette and appearance.direction < ANY_WAY:
        return "unoriented", evidence
    return ("photographs" if level and not one_palette else "unknown"), evidence


def _shown(image: Shaped[Tensor, "c h w"]) -> Float[Tensor, "3 h w"]:
    """As it would be drawn: three channels from 0 to 1."""
    drawn = np.ascontiguousarray(displayed(image, *value_range(image)))
    return torch.from_numpy(drawn).permute(2, 0, 1).float()


def _direction(light: Float[Tensor, "h w"]) -> float:
    """Of edges, as in `Appearance`: the mean of cos 4a over their angles a, weighted by squared gradients."""
    across, down = light[1:-1, 2:] - light[1:-1, :-2], light[2:, 1:-1] - light[:-2, 1:-1]
    energy = across.square() + down.square()
    return float((energy * torch.cos(4 * torch.atan2(down, across))).sum() / energy.sum().clamp_min(1e-9))


def _near_copies(images: Sequence[Shaped[Tensor, "c h w"]]) -> int:
    """Images whose most similar other has a likeness of NEAR or more."""
    if len(images) < 2:
        return 0
    vectors = np.stack([tiny_image(image).numpy() for image in images])
    return int((pairs(vectors, NEAR).similarity >= NEAR).sum())
