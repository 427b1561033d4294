"""Attention maps of a ViT block: the class token's attention to the patches, head by head.

As made popular by Caron et al. 2021 (DINO, https://arxiv.org/abs/2104.14294). Without a class token: the average
attention that each patch receives. Class and register tokens have no position and are left out of the map. The
attention is timm's own, with the fused kernel switched off so that its weights can be read.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, Shaped
from torch import Tensor, nn

from unmask.errors import UserError
from unmask.evaluation.features import judged
from unmask.models.encoder import Encoder


@dataclass(frozen=True)
class Attention:
    maps: Float[Tensor, "b heads rows columns"]  # shares of attention
    kind: str  # "of the class token", or "received on average"


def attention(encoder: Encoder, x: Shaped[Tensor, "b c h w"], block: int = -1) -> Attention:
    """Attention maps of raw pixels of any size in one block, counted from 0 or from -1 backwards.

    The class token's attention to patches, itself and registers sums to 1. Raises UserError for encoders and blocks in
    which no token sees all patches: Hiera, and windowed blocks.
    """
    blocks = getattr(encoder.net, "blocks", [])
    name = encoder.arguments.get("model_name", type(encoder.net).__name__)
    number = encoder.layer_numbers([block])[0] if hasattr(encoder.net, "patch_drop") else -1
    layer = getattr(blocks[number], "attn", blocks[number]) if number >= 0 else None
    if (
        layer is None
        or not hasattr(layer, "fused_attn")
        or not isinstance(getattr(layer, "attn_drop", None), nn.Module)
    ):
        raise UserError(
            f"{name} has no attention maps: they need a ViT in which tokens see all patches. Hiera's units see each"
            " other in its late stages only, pooled; --what features works for it"
        )
    with judged(encoder), _recorded(layer) as weights:
        rows, columns = encoder.features(x, layers=[number])[0].shape[2:]
    shares = weights[-1]
    prefix = getattr(encoder.net, "num_prefix_tokens", 0)
    if shares.shape[-1] != prefix + rows * columns or len(shares) != len(x):
        raise UserError(
            f"block {number} of {name} sees windows only; take one that sees all patches, e.g. the last (-1)"
        )
    units = shares[..., prefix:]
    if getattr(encoder.net, "cls_token", None) is not None:
        return Attention(units[:, :, 0].unflatten(-1, (rows, columns)), "of the class token")
    return Attention(units[:, :, prefix:].mean(dim=2).unflatten(-1, (rows, columns)), "received on average")


@contextmanager
def _recorded(layer: Any) -> Iterator[list[Float[Tensor, "b heads t t"]]]:
    """Collects the attention weights of every forward pass within this context."""
    weights: list[Tensor] = []
    fused, drop = layer.fused_attn, layer.attn_drop
    assert isinstance(drop, nn.Module)
    hook = drop.register_forward_hook(lambda module, args, out: weights.append(out.float()))
    layer.fused_attn = False
    try:
        yield weights
    finally:
        layer.fused_attn = fused
        hook.remove()
