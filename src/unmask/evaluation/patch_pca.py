"""Colours for patches: the first three principal components of their features, fitted over several images together.

Patches with similar features get similar colours in all images, as in Oquab et al. 2023 (DINOv2,
https://arxiv.org/abs/2304.07193). As there, the background can be removed: the first component often separates it, and
three components of the foreground are shown. The side that dominates the image borders counts as background.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

LOW, HIGH = 0.02, 0.98  # quantiles that become black and full colour


@dataclass(frozen=True)
class Colours:
    images: list[Float[Tensor, "rows columns 3"]]  # 0 to 1; 0 where the background was removed
    kept: list[Bool[Tensor, "rows columns"]]  # True where it is not background
    explained: tuple[float, float, float]  # the components' shares of the variance


def patch_colours(maps: Sequence[Float[Tensor, "d _ _"]], background: bool = True) -> Colours:
    """Colours of feature maps, which may differ in size. background=False removes it first."""
    patches = torch.cat([map_.flatten(1).T.double() for map_ in maps])
    foreground = torch.ones(len(patches), dtype=torch.bool, device=patches.device)
    if not background and len(patches) > 1:
        first = _components(patches, 1)[0][:, 0]
        above = first > _threshold(first)
        border = torch.cat([_border(*map_.shape[1:]).flatten() for map_ in maps]).to(above.device)
        share, inside = above[border].double().mean(), above[~border].double().mean()
        left = ~above if float(share) > float(inside) else above
        foreground = left if left.any() else foreground  # all patches alike
    scores, explained = _components(patches[foreground], 3)
    low, high = torch.quantile(scores[:: max(1, len(scores) // 1_000_000)], scores.new_tensor([LOW, HIGH]), dim=0)
    colours = torch.zeros(len(patches), 3, dtype=torch.float32, device=patches.device)
    colours[foreground] = ((scores - low) / (high - low).clamp(min=1e-12)).clamp(0, 1).float()
    sizes = [(map_.shape[1], map_.shape[2]) for map_ in maps]
    lengths = [rows * columns for rows, columns in sizes]
    return Colours(
        [part.view(*size, 3) for part, size in zip(colours.split(lengths), sizes)],
        [part.view(*size) for part, size in zip(foreground.split(lengths), sizes)],
        explained,
    )


def _components(x: Float[Tensor, "n d"], count: int) -> tuple[Float[Tensor, "n _"], tuple[float, float, float]]:
    """Scores on the first components, each turned so that its largest weight is positive, and shares of variance."""
    x = x - x.mean(dim=0)
    values, vectors = torch.linalg.eigh(x.T @ x)  # ascending
    vectors = vectors.flip(1)[:, :count]
    largest = vectors.abs().argmax(dim=0)
    vectors = vectors * vectors.gather(0, largest[None]).sign()
    shares = (values.flip(0)[:3] / values.sum().clamp(min=1e-300)).tolist()
    return x @ vectors, (shares[0], shares[1], shares[2])


def _threshold(x: Float[Tensor, "n"]) -> float:
    """The threshold that separates values best into two groups (Otsu 1979), in the middle of the gap between them."""
    x = x.sort().values
    below = torch.arange(1, len(x), device=x.device)
    total = x.cumsum(0)
    means = total[:-1] / below, (total[-1] - total[:-1]) / (len(x) - below)
    best = int((below * (len(x) - below) * (means[1] - means[0]) ** 2).argmax())
    return float(x[best] + x[best + 1]) / 2


def _border(rows: int, columns: int) -> Bool[Tensor, "rows columns"]:
    border = torch.zeros(rows, columns, dtype=torch.bool)
    border[[0, -1]] = True
    border[:, [0, -1]] = True
    return border
