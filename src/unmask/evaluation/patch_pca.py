"""Colours for patches: the first three principal components of their features, fitted over several images together.

Patches of like features get like colours in all images, as Oquab et al. 2023 (DINOv2, https://arxiv.org/abs/2304.07193)
show them. As there, the background can be taken off: the first component often tells it from the rest, and then three
components of what is left are shown. Which side is the background is told by the borders of the images.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

LOW, HIGH = 0.02, 0.98  # quantiles that become black and full colour


@dataclass(frozen=True)
class Colours:
    images: list[Float[Tensor, "rows columns 3"]]  # 0 to 1; 0 where background was taken off
    kept: list[Bool[Tensor, "rows columns"]]  # True where it is not background
    explained: tuple[float, float, float]  # shares of the variance that the components have


def patch_colours(maps: Sequence[Float[Tensor, "d _ _"]], background: bool = True) -> Colours:
    """Colours of feature maps, which may differ in size. background=False: taken off first."""
    patches = torch.cat([map_.flatten(1).T.double() for map_ in maps])
    kept = torch.ones(len(patches), dtype=torch.bool, device=patches.device)
    if not background and len(patches) > 1:
        first = _components(patches, 1)[0][:, 0]
        above = first > _threshold(first)
        border = torch.cat([_border(*map_.shape[1:]).flatten() for map_ in maps]).to(above.device)
        share, inside = above[border].double().mean(), above[~border].double().mean()
        left = ~above if float(share) > float(inside) else above
        kept = left if left.any() else kept  # all patches alike
    scores, explained = _components(patches[kept], 3)
    low, high = torch.quantile(scores[:: max(1, len(scores) // 1_000_000)], scores.new_tensor([LOW, HIGH]), dim=0)
    colours = torch.zeros(len(patches), 3, dtype=torch.float32, device=patches.device)
    colours[kept] = ((scores - low) / (high - low).clamp(min=1e-12)).clamp(0, 1).float()
    sizes = [(map_.shape[1], map_.shape[2]) for map_ in maps]
    lengths = [rows * columns for rows, columns in sizes]
    return Colours(
        [part.view(*size, 3) for part, size in zip(colours.split(lengths), sizes)],
        [part.view(*size) for part, size in zip(kept.split(lengths), sizes)],
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
    """Between the two parts of some values that differ most from each other (Otsu 1979), in the middle of their gap."""
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
