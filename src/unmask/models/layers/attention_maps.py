"""What tokens of a ViT attend to: the weights of one block, and how much of them each unit receives.

The attention is timm's own, with the fused kernel switched off so that its weights can be read.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from unmask.errors import UserError
from unmask.models.encoder import Encoder


def received(encoder: Encoder, x: Shaped[Tensor, "b c h w"], block: int = -1) -> Float[Tensor, "b heads n"]:
    """How much each unit is attended to, in each head: by the class token, or on average by all units where there is
    none. Class and register tokens have no position and are left out."""
    weights, prefix = encoder.attention(x, block), int(getattr(encoder.net, "num_prefix_tokens", 0))
    if has_class(encoder):
        return weights[:, :, 0, prefix:]
    return weights[:, :, prefix:, prefix:].mean(dim=2)


def has_class(encoder: Encoder) -> bool:
    """Whether a class token does the attending."""
    return getattr(encoder.net, "cls_token", None) is not None


def require_maps(encoder: Encoder, block: int = -1, instead: str = "") -> None:
    """Raises UserError for encoders and blocks in which no token sees all units: Hiera, and windowed blocks. instead:
    what works for them."""
    name = encoder.arguments.get("model_name", type(encoder.net).__name__)
    number = encoder.layer_numbers([block])[0] if hasattr(encoder.net, "patch_drop") else -1
    layer = getattr(encoder.net.blocks[number], "attn", encoder.net.blocks[number]) if number >= 0 else None
    if layer is None or not (hasattr(layer, "fused_attn") and isinstance(getattr(layer, "attn_drop", None), nn.Module)):
        raise UserError(
            f"{name} has no attention maps: they need a ViT in which tokens see all patches. Hiera's units see each"
            f" other in its late stages only, pooled{f'; {instead}' if instead else ''}"
        )
    if getattr(encoder.net.blocks[number], "windows", None) is not None:
        raise UserError(
            f"block {number} of {name} sees windows only; take one that sees all patches, e.g. the last (-1)"
        )


def weights_of(
    block: Any, tokens: Float[Tensor, "b t d"], options: Mapping[str, object]
) -> Float[Tensor, "b heads t t"]:
    """Attention weights within a block, in fp32: in bf16 many would be equal."""
    with torch.autocast(tokens.device.type, enabled=False), watched(block) as weights:
        block(tokens.float(), **options)
    return weights[-1]


@contextmanager
def watched(block: Any) -> Iterator[list[Float[Tensor, "b heads t t"]]]:
    """Collects the attention weights of every forward pass of a block within this context, with their gradients."""
    with _uncompiled(block), _recorded(getattr(block, "attn", block)) as weights:
        yield weights


@contextmanager
def _uncompiled(block: Any) -> Iterator[None]:
    """The block computes as its class does, whatever its `forward` was wrapped in; its hooks run."""
    wrapped = vars(block).pop("forward", None)
    try:
        yield
    finally:
        if wrapped is not None:
            block.forward = wrapped


@contextmanager
def _recorded(layer: Any) -> Iterator[list[Float[Tensor, "b heads t t"]]]:
    """Collects the attention weights of every forward pass within this context."""
    weights: list[Tensor] = []
    fused, drop = layer.fused_attn, layer.attn_drop
    assert isinstance(drop, nn.Module)

    def unfuse(module: Any, args: object) -> None:  # after other hooks, which may choose by the length of the sequence
        module.fused_attn = False

    before = layer.register_forward_pre_hook(unfuse)
    hook = drop.register_forward_hook(lambda module, args, out: weights.append(out.float()))
    layer.fused_attn = False
    try:
        yield weights
    finally:
        layer.fused_attn = fused
        before.remove()
        hook.remove()
