"""Weights of DINOv2: timm's keys but for registers, SwiGLU and blocks that are stored in chunks.

With registers, its position table has a row for the class token and none for the registers, which come in after it; in
timm such models have positions for patches only. So the class token's row is added to the class token: the sum is what
enters the blocks.
"""

import re
from dataclasses import replace

from unmask.weights.canonical import (
    IMAGENET,
    Canonical,
    State,
    WeightFile,
    WeightFormat,
    mlp_ratio,
    timm_vit,
    vit_prefix,
)
from unmask.weights.licence import by_layout

__all__ = ["DinoV2"]

LICENCE = "Apache 2.0"
GIANT = (1536, 40, 24, 8192)  # width, blocks, heads, rows of the first linear layer of SwiGLU
RENAMED = (
    (r"blocks\.\d+\.(\d+\.)", r"blocks.\1"),  # chunks, whose blocks keep their numbers
    (r"\.mlp\.w12\.", ".mlp.fc1."),
    (r"\.mlp\.w3\.", ".mlp.fc2."),
    (r"register_tokens$", "reg_token"),
)


class DinoV2(WeightFormat):
    @staticmethod
    def recognises(file: WeightFile) -> bool:
        prefix = vit_prefix(file.state)
        if prefix is None:
            return False
        token = file.state.get(f"{prefix}mask_token")
        scaled = any(key.endswith("ls1.gamma") for key in file.state)
        mine = f"{prefix}register_tokens" in file.state or (scaled and token is not None and token.ndim == 2)
        return (
            mine or file.name.lower().startswith("dinov2_") or any(key.startswith("dino_head.") for key in file.state)
        )

    @staticmethod
    def canonical(file: WeightFile) -> Canonical:
        state = {}
        for key, value in file.state.items():
            for pattern, new in RENAMED:
                key = re.sub(pattern, new, key)
            state[key] = value
        weights = timm_vit(
            replace(file, state=state),
            "DINOv2",
            statistics=IMAGENET,
            origin="ImageNet's, as in DINOv2's code",
            licence=by_layout("Meta's DINOv2", LICENCE),
        )
        encoder, width = weights.encoder, weights.encoder["patch_embed.proj.weight"].shape[0]
        giant = width == 1536  # the only one with SwiGLU, which no option of timm's standard ViTs gives
        if "reg_token" in encoder:
            return replace(
                weights, encoder=without_class_row(encoder), model="vit_giant_patch14_reg4_dinov2" if giant else None
            )
        return replace(weights, model="vit_giant_patch14_dinov2" if giant else None)


def without_class_row(encoder: State) -> State:
    """The class token with its position added, and positions for patches only, as timm's models with registers."""
    table = encoder["pos_embed"]
    return encoder | {"cls_token": encoder["cls_token"] + table[:, :1], "pos_embed": table[:, 1:]}


def swiglu_model(encoder: State, heads: int) -> str:
    """timm's name, with options, of a DINOv2 of any size with SwiGLU, which only its giant one has."""
    rows, width = encoder["blocks.0.mlp.fc1.weight"].shape
    depth = 1 + max(int(match[1]) for key in encoder if (match := re.match(r"blocks\.(\d+)\.", key)))
    options = {"embed_dim": width, "depth": depth, "num_heads": heads, "mlp_ratio": mlp_ratio(rows, width)}
    if (width, depth, heads, rows) == GIANT:
        options = {}
    if "reg_token" in encoder and encoder["reg_token"].shape[1] != 4:
        options["reg_tokens"] = encoder["reg_token"].shape[1]
    if "blocks.0.attn.qkv.bias" not in encoder:
        options["qkv_bias"] = False
    text = ", ".join(f"{key}={value!r}" for key, value in options.items())
    model = f"vit_giant_patch14_{'reg4_' if 'reg_token' in encoder else ''}dinov2"
    return f"{model}({text})" if text else model
