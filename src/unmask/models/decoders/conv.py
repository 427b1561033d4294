"""data2vec 2.0's decoder: convolutions over the whole grid, one token for all hidden units. Baevski et al. 2022."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import gelu

from unmask.errors import UserError, require_whole
from unmask.masking.grid import Grid, take
from unmask.masking.mask import Mask
from unmask.models.decoder import Decoder
from unmask.models.encoder import Tokens
from unmask.models.layers.weight_init import initialize

__all__ = ["Conv"]
CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class Conv(Decoder):
    def __init__(
        self,
        grid: Grid,
        in_dim: int,
        out_dim: int,
        dim: int | None = None,
        depth: int = 6,
        kernel: int = 3,
        groups: int = 16,
    ):
        """dim: channels, by default the encoder's width; depth: convolutions; groups: of channels that are mixed, fewer
        where they do not divide the width."""
        super().__init__()
        for name, value in (("depth", depth), ("kernel", kernel), ("groups", groups)):
            require_whole(name, value)
        if len(grid.shape) not in CONVOLUTIONS or not kernel % 2:
            raise UserError(f"conv needs a grid of 1 to 3 axes and an odd kernel; got {len(grid.shape)} and {kernel}")
        width = dim or in_dim
        groups = next(count for count in range(groups, 0, -1) if width % count == 0)
        self.keep_positions(grid, width - width % (2 * len(grid.shape)))
        self.embed = nn.Linear(in_dim, width)
        self.hidden = nn.Parameter(torch.zeros(1, 1, width))
        layer = CONVOLUTIONS[len(grid.shape)]
        self.layers_of_grid = nn.ModuleList(
            layer(width, width, kernel, padding=kernel // 2, groups=groups) for _ in range(depth)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=False) for _ in range(depth))
        self.predict = nn.Linear(width, out_dim)
        initialize(self)

    def forward(self, tokens: Tokens, mask: Mask, grid: Grid | None = None) -> Float[Tensor, "b h p"]:
        grid = grid or self.grid
        visible = self.embed(tokens.units)
        whole = self.hidden.to(visible.dtype).expand(len(visible), grid.num_units, -1)
        position = self.position_of(grid)
        whole = whole.scatter(1, mask.visible[..., None].expand_as(visible), visible)
        whole = torch.cat([whole[..., : position.shape[1]] + position, whole[..., position.shape[1] :]], dim=-1)
        x = whole.transpose(1, 2).unflatten(2, grid.shape)  # b d h w
        for convolution, norm in zip(self.layers_of_grid, self.norms):
            y = convolution(x).movedim(1, -1)
            x = x + gelu(norm(y)).movedim(-1, 1)
        return self.predict(take(x.flatten(2).transpose(1, 2), mask.hidden))
