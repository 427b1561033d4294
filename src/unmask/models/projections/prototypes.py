"""DINO's head: an MLP, a narrow layer of unit length, and cosines with prototypes. Caron et al. 2021, appendix C."""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from unmask.errors import require_whole
from unmask.models.projection import Projection

__all__ = ["Prototypes"]


class Prototypes(Projection):
    def __init__(self, in_dim: int, hidden: int = 2048, narrow: int = 256, prototypes: int = 4096, layers: int = 3):
        """hidden: width of the MLP; narrow: of the layer behind it; prototypes: outputs (65,536 for ImageNet)."""
        super().__init__()
        for name, value in (("hidden", hidden), ("narrow", narrow), ("prototypes", prototypes), ("layers", layers)):
            require_whole(name, value)
        self.out_dim = prototypes
        widths = [in_dim, *[hidden] * (layers - 1), narrow]
        steps: list[nn.Module] = []
        for before, after in pairwise(widths):
            steps += [nn.Linear(before, after), nn.GELU()]
        self.net = nn.Sequential(*steps[:-1])
        for module in self.net:
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        self.weight = nn.Parameter(torch.empty(prototypes, narrow))  # only its directions count
        nn.init.trunc_normal_(self.weight, std=0.02)

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b k"]:
        return linear(normalize(self.net(x), dim=-1, eps=1e-6), normalize(self.weight, dim=1))

    def last_layer(self) -> list[nn.Parameter]:
        return [self.weight]
