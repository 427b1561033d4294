"""Attention maps of a ViT block: the class token's attention to the patches, head by head.

As made popular by Caron et al. 2021 (DINO, https://arxiv.org/abs/2104.14294). Without a class token: the average
attention that each patch receives.
"""

from dataclasses import dataclass

from jaxtyping import Float, Shaped
from torch import Tensor

from unmask.evaluation.features import judged
from unmask.models.encoder import Encoder
from unmask.models.layers.attention_maps import has_class, received, require_maps


@dataclass(frozen=True)
class Attention:
    maps: Float[Tensor, "b heads rows columns"]  # shares of attention
    kind: str  # "of the class token", or "received on average"


def attention(encoder: Encoder, x: Shaped[Tensor, "b c h w"], block: int = -1) -> Attention:
    """Attention maps of raw pixels of any size in one block, counted from 0 or from -1 backwards.

    The class token's attention to patches, itself and registers sums to 1. Raises UserError for encoders and blocks in
    which no token sees all patches: Hiera, and windowed blocks.
    """
    require_maps(encoder, block, "--what features works for it")
    with judged(encoder):
        shares, grid = received(encoder, x, block), encoder.grid_of(encoder.whole(x))
    kind = "of the class token" if has_class(encoder) else "received on average"
    return Attention(shares.unflatten(-1, grid.shape), kind)
