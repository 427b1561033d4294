"""The encoder of DALL-E's discrete autoencoder, which BEiT's ids come from: residual groups of convolutions, an id of
8192 for each 8 x 8 pixels. Ramesh et al. 2021, https://arxiv.org/abs/2102.12092, appendix A.

Sizes are read from weights, which have to be given: see `weights/tokenizers.py`.
"""

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from unmask.masking.grid import Grid
from unmask.models.tokenizer import Tokenizer

__all__ = ["DallE"]

GROUPS = 4  # each twice as wide as the one before; pooling lies between them
EDGE = 0.1  # pixels of 0..1 are brought into EDGE .. 1 - EDGE: the logit-Laplace distribution has no mass at the ends


class DallE(Tokenizer):
    def __init__(self, width: int = 256, depth: int = 2, codes: int = 8192, channels: int = 3):
        """width: of the first group; depth: residual blocks in a group."""
        super().__init__()
        side = 2 ** (GROUPS - 1)
        self.num_codes, self.channels, self.grid = codes, channels, Grid((14, 14), (side, side))
        self.text = f"dalle(width={width}, depth={depth}, codes={codes}, channels={channels})"
        self.input = nn.Conv2d(channels, width, 7, padding=3)
        widths = [width, *(width * 2**group for group in range(GROUPS))]
        self.groups = nn.ModuleList(
            nn.Sequential(
                *(
                    Residual(widths[g] if block == 0 else widths[g + 1], widths[g + 1], GROUPS * depth)
                    for block in range(depth)
                )
            )
            for g in range(GROUPS)
        )
        self.output = nn.Conv2d(widths[-1], codes, 1)

    def forward(self, x: Shaped[Tensor, "b c h w"]) -> Float[Tensor, "b k rows columns"]:
        """Logits of the ids for raw 8-bit pixels."""
        x = self.input((1 - 2 * EDGE) * x.float() / 255 + EDGE)
        for number, group in enumerate(self.groups):
            x = group(nn.functional.max_pool2d(x, 2) if number else x)
        return self.output(x.relu())

    @torch.no_grad()
    def ids(self, x: Shaped[Tensor, "b c *size"]) -> Int[Tensor, "b n"]:
        return self(x).argmax(dim=1).flatten(1)


class Residual(nn.Module):
    """Three convolutions of 3 x 3 in a quarter of the width, one of 1 x 1 back; scaled down by the squared number of
    blocks."""

    def __init__(self, width: int, out: int, blocks: int):
        super().__init__()
        self.scale, narrow = 1 / blocks**2, out // 4
        self.skip = nn.Conv2d(width, out, 1) if width != out else nn.Identity()
        inner = [nn.Conv2d(width, narrow, 3, padding=1), *(nn.Conv2d(narrow, narrow, 3, padding=1) for _ in range(2))]
        self.convolutions = nn.ModuleList([*inner, nn.Conv2d(narrow, out, 1)])

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        inside = x
        for convolution in self.convolutions:
            inside = convolution(inside.relu())
        return self.skip(x) + self.scale * inside
