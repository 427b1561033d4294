"""Patch embedding of inputs that consist of several parts, such as an image and its depth: each part has its own, and a
learned vector says which part a token is of. Bachmann et al. 2022 (MultiMAE), https://arxiv.org/abs/2204.01678.

Parts may be missing. Where nothing is hidden, what holds no value is not attended to and has the mean of the other
tokens in its place, so that a mean over all units is a mean over what is there.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn
from torch.nn.functional import linear

from unmask.masking.grid import Grid, Part

CLASS_DIM = 16  # width of the vector of a class, in maps of classes


class PartEmbed(nn.Module):
    """In place of timm's PatchEmbed, for units packed into a row: `b 1 (n p)`, of which a part uses the first values of
    each unit. `proj` holds the filters of all parts, one after the other."""

    def __init__(self, parts: Sequence[Part], dim: int, norm: nn.Module):
        super().__init__()
        self.parts, width = tuple(parts), max(part.num_values for part in parts)
        self.grid_size = (sum(part.grid.num_units for part in parts),)
        self.img_size, self.patch_size = (self.grid_size[0] * width,), (width,)
        self.proj = nn.Conv1d(1, len(parts) * dim, kernel_size=width, stride=width)
        self.part = nn.Parameter(torch.zeros(len(parts), dim))
        counts = {str(i): part for i, part in enumerate(parts) if part.classes}
        self.vectors = nn.ModuleDict({i: nn.Embedding(part.classes + 1, CLASS_DIM) for i, part in counts.items()})
        self.maps = nn.ModuleDict({i: nn.Linear(CLASS_DIM * part.num_values, dim) for i, part in counts.items()})
        self.norm = norm

    def begin(self) -> None:
        """Initialises the filters of each part as MAE those of an image: Xavier-uniform, as the matrix that they
        are."""
        nn.init.normal_(self.part, std=0.02)
        for part, rows in zip(self.parts, self.proj.weight.data.chunk(len(self.parts))):
            matrix = torch.empty(len(rows), part.num_values, device=rows.device)
            rows[:, 0, : part.num_values] = nn.init.xavier_uniform_(matrix)
            rows[:, 0, part.num_values :] = 0

    def forward(self, x: Float[Tensor, "b 1 length"]) -> Float[Tensor, "b n d"]:
        units = x.unflatten(2, (-1, self.patch_size[0])).squeeze(1)
        weights = self.proj.weight.chunk(len(self.parts))
        biases = self.proj.get_parameter("bias").chunk(len(self.parts))
        tokens, first = [], 0
        for number, part in enumerate(self.parts):
            own = units[:, first : first + part.grid.num_units, : part.num_values]
            first += part.grid.num_units
            if part.classes:
                ids = own.round().long().clamp(0, part.classes)
                embedded = self.maps[str(number)](self.vectors[str(number)](ids).flatten(2))
            else:
                embedded = linear(own, weights[number][:, 0, : part.num_values], biases[number])
            tokens.append(embedded + self.part[number])
        return self.norm(torch.cat(tokens, dim=1))


def attended(x: Shaped[Tensor, "b c *size"], grid: Grid, prefix: int) -> Bool[Tensor, "b t t"]:
    """What each token of raw samples may attend to: prefix tokens, and units with a value."""
    holds = ~grid.cut(x.isnan()).all(dim=2)
    seen = torch.cat([holds.new_ones(holds.shape[0], prefix), holds], dim=1)
    return seen[:, None].expand(-1, seen.shape[1], -1)


def filled(units: Float[Tensor, "b n d"], allowed: Bool[Tensor, "b t t"]) -> Float[Tensor, "b n d"]:
    """Tokens of all units, with the mean of the others for those that none may attend to."""
    holds = allowed[:, 0, -units.shape[1] :, None]
    mean = (units * holds).sum(dim=1, keepdim=True) / holds.sum(dim=1, keepdim=True).clamp(min=1)
    return torch.where(holds, units, mean)
