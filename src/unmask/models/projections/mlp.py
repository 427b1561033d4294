"""The MLP heads of SimCLR (Chen et al. 2020), BYOL (Grill et al. 2020), SwAV and MoCo v3 (Chen et al. 2021)."""

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from unmask.errors import UserError, require_whole
from unmask.models.layers.batch_norm import BatchNorm
from unmask.models.projection import Projection

__all__ = ["MLP"]


class MLP(Projection):
    def __init__(
        self,
        in_dim: int,
        hidden: int = 2048,
        out: int = 128,
        layers: int = 2,
        last_norm: bool = False,
        last_affine: bool = True,
    ):
        """hidden, out: widths; layers: linear ones, with batch norm and ReLU between them.

        last_norm: a batch norm at the end too; last_affine: with weights of its own. Linear layers before a batch norm
        have no bias.
        """
        super().__init__()
        for name, value in (("hidden", hidden), ("out", out), ("layers", layers)):
            require_whole(name, value)
        if layers < 1:
            raise UserError(f"a head needs 1 layer or more, got {layers}")
        self.out_dim = out
        widths = [in_dim, *[hidden] * (layers - 1), out]
        steps: list[nn.Module] = []
        for place, (before, after) in enumerate(pairwise(widths)):
            last = place == layers - 1
            steps.append(nn.Linear(before, after, bias=last and not last_norm))
            if not last:
                steps += [BatchNorm(after), nn.ReLU(inplace=True)]
            elif last_norm:
                steps.append(BatchNorm(after, affine=last_affine))
        self.net = nn.Sequential(*steps)

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b k"]:
        return self.net(x)
