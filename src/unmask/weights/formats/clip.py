"""Hugging Face folders of CLIP: the image tower, of a whole model or alone. Radford et al. 2021.

Of the last layer, Hugging Face normalises the class token alone; here all tokens are, as in timm and as EVA's targets.
"""

import re
from dataclasses import replace
from typing import Any

from unmask.errors import UserError
from unmask.weights.canonical import (
    Canonical,
    State,
    Statistics,
    WeightFile,
    WeightFormat,
    fuse,
    left_out,
    mlp_ratio,
    preprocessing,
    stated_size,
    translate,
    under,
)

__all__ = ["Clip"]
ANCHOR = "embeddings.class_embedding"
OPENAI: Statistics = ((122.77, 116.75, 104.09), (68.5, 66.63, 70.32))  # mean, std in 0..255, of OpenAI's and LAION's
ACTIVATIONS = {"quick_gelu": "quickgelu_", "gelu": ""}  # config's -> what timm's names have for them
USUAL = {"embed_dim": 768, "depth": 12, "num_heads": 12, "mlp_ratio": 4.0}  # of vit_base
RULES = (
    (r"embeddings\.class_embedding", "cls_token"),
    (r"embeddings\.position_embedding\.weight", "pos_embed"),
    (r"embeddings\.patch_embedding\.weight", "patch_embed.proj.weight"),
    (r"pre_layrnorm\.(\w+)", r"norm_pre.\1"),
    (r"post_layernorm\.(\w+)", r"norm.\1"),
    (r"encoder\.layers\.(\d+)\.layer_norm(\d)\.(\w+)", r"blocks.\1.norm\2.\3"),
    (r"encoder\.layers\.(\d+)\.self_attn\.([qkv])_proj\.(\w+)", r"blocks.\1.attn.\2.\3"),
    (r"encoder\.layers\.(\d+)\.self_attn\.out_proj\.(\w+)", r"blocks.\1.attn.proj.\2"),
    (r"encoder\.layers\.(\d+)\.mlp\.(fc\d)\.(\w+)", r"blocks.\1.mlp.\2.\3"),
)


class Clip(WeightFormat):
    @staticmethod
    def recognises(file: WeightFile) -> bool:
        return any(key.endswith(ANCHOR) for key in file.state)

    @staticmethod
    def canonical(file: WeightFile) -> Canonical:
        config = file.config.get("vision_config") or file.config
        if "num_attention_heads" not in config:
            raise UserError(
                f"{file.name} holds CLIP's image tower, and no config.json tells its attention heads and activation:"
                " give the whole folder"
            )
        act = config.get("hidden_act", "quick_gelu")
        if act not in ACTIVATIONS:
            raise UserError(f"{file.name}: its hidden_act is {act!r}; unmask builds {' and '.join(ACTIVATIONS)}")
        prefix = min((key.removesuffix(ANCHOR) for key in file.state if key.endswith(ANCHOR)), key=len)
        encoder, rest = translate(under(file.state, prefix), RULES)
        others = [key for key in file.state if not key.startswith(prefix)] if prefix else []
        encoder = fuse(encoder)
        encoder |= {"cls_token": encoder["cls_token"].view(1, 1, -1), "pos_embed": encoder["pos_embed"][None]}
        statistics, origin = preprocessing(replace(file, config=config), OPENAI)
        return Canonical(
            layout="Hugging Face CLIP",
            encoder=encoder,
            model=_model(encoder, ACTIVATIONS[act], int(config["num_attention_heads"])),
            norm_eps=config.get("layer_norm_eps", 1e-5),
            image_size=stated_size(config),
            statistics=statistics,
            origin=origin.replace("0.5", "CLIP's"),
            licence=file.config.get("license"),
            remarks=left_out([*rest, *others]),
        )


def _model(encoder: State, act: str, heads: int) -> str:
    """timm's name, with options where the tower is no ViT-B."""
    width = encoder["cls_token"].shape[-1]
    depth = 1 + max(int(match[1]) for key in encoder if (match := re.match(r"blocks\.(\d+)\.", key)))
    ratio = mlp_ratio(encoder["blocks.0.mlp.fc1.weight"].shape[0], width)
    own: dict[str, Any] = {"embed_dim": width, "depth": depth, "num_heads": heads, "mlp_ratio": ratio}
    options = ", ".join(f"{name}={value!r}" for name, value in own.items() if value != USUAL[name])
    return f"vit_base_patch16_clip_{act}224" + (f"({options})" if options else "")
