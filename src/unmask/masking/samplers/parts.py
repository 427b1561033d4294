"""Hides within parts of what is seen, then whole parts. Li et al. 2022 (SemMAE), https://arxiv.org/abs/2206.10207.

Parts are clusters of a teacher's features, found in each image by k-means on the sphere. At the beginning of the
training the same share of every part is hidden, so that each can be completed from what is left of itself; at the end
whole parts are, which have to be guessed from the others; in between, some parts lose more than others. The paper
learns its parts beforehand, from the attention of an iBOT network; here any teacher's features serve.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from unmask.masking.grid import Grid
from unmask.masking.mask import Context, Noise, Ratio, Sampler
from unmask.plain import SeveralInt

__all__ = ["Parts"]
ROUNDS = 8  # of k-means


class Parts(Sampler):
    placed = True
    needs = frozenset({"features", "progress"})

    def __init__(self, ratio: Ratio = 0.75, parts: SeveralInt = 6, of: str | None = None, model: str | None = None):
        """parts: in each image, 6 in the paper; of: a frozen teacher, a run folder, a file or folder of weights, or a
        timm name, instead of the method's own; model: a timm name, where a file does not tell."""
        super().__init__(ratio)
        self.parts, self.of, self.model = parts, of, model

    def score(self, batch: int, grid: Grid, noise: Noise, context: Context) -> Float[Tensor, "b n"]:
        features, count = context.get("features"), min(self.parts, grid.num_units)
        assert features is not None  # they are needed
        chance, order = noise(batch, grid.num_units), noise(batch, count).argsort(dim=1)
        cluster = clusters(features, count, chance[:, 0])
        sizes = one_hot(cluster, count).sum(dim=1)  # b k
        place = (cluster + chance).argsort(dim=1).argsort(dim=1)  # part by part, in each by chance
        before = place - (sizes.cumsum(dim=1) - sizes).gather(1, cluster)
        within = (before + 0.5) / sizes.gather(1, cluster)  # place of a unit in the order of its part, 0 to 1
        whole = order.gather(1, cluster) / max(1, count - 1)  # place of its part in the order of parts
        late = min(max(context.get("progress", 1.0), 0.0), 1.0)
        return (1 - late) * within + late * whole + 0.1 / count * late * within + 1e-4 * chance


def clusters(features: Float[Tensor, "b n d"], count: int, chance: Float[Tensor, "b"]) -> Int[Tensor, "b n"]:
    """The cluster of each unit, by k-means on directions. The first centre is a unit by chance, 0 to 1; each next one
    is the unit that is least like those chosen."""
    x = normalize(features.float(), dim=2)
    first = (chance * x.shape[1]).long().clamp(max=x.shape[1] - 1)
    centres = x[torch.arange(len(x), device=x.device), first][:, None]  # b 1 d
    for _ in range(count - 1):
        nearest = (x @ centres.transpose(1, 2)).amax(dim=2)  # b n
        farthest = nearest.argmin(dim=1)[:, None, None].expand(-1, 1, x.shape[2])
        centres = torch.cat([centres, x.gather(1, farthest)], dim=1)
    for _ in range(ROUNDS):
        inside = one_hot((x @ centres.transpose(1, 2)).argmax(dim=2), count).to(x.dtype)
        mean = inside.transpose(1, 2) @ x  # b k d; zero where a cluster has no unit
        empty = inside.sum(dim=1)[..., None] == 0
        centres = torch.where(empty, centres, normalize(mean, dim=2))
    return (x @ centres.transpose(1, 2)).argmax(dim=2)
