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
    WeightFile,
    WeightFormat,
    timm_vit,
    vit_prefix,
    without_class_row,
)
from unmask.weights.licence import APACHE, by_layout

__all__ = ["DinoV2"]

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
            licence=by_layout("Meta's DINOv2", APACHE),
        )
        encoder, width = weights.encoder, weights.encoder["patch_embed.proj.weight"].shape[0]
        giant = width == 1536  # the only one with SwiGLU, which no option of timm's standard ViTs gives
        if "reg_token" in encoder:
            return replace(
                weights, encoder=without_class_row(encoder), model="vit_giant_patch14_reg4_dinov2" if giant else None
            )
        return replace(weights, model="vit_giant_patch14_dinov2" if giant else None)
