"""The image encoder of SAM: an MAE-initialised ViT with windows and relative positions. Kirillov et al. 2023.

Read from SAM's own files (`image_encoder.`), Hugging Face's (`vision_encoder.`), timm's (`samvit_*`). It has no class
token and no last norm; its neck of two convolutions, the prompt encoder and the mask decoder are left out. Of every
quarter of its blocks the last sees everything, the others windows of 14 x 14 patches, whose padding takes part in the
attention. Features are those of the last block. An encoder with relative positions takes no mask.
"""

import re

from unmask.errors import UserError
from unmask.models.layers.windowed_attention import last_of_parts
from unmask.weights.canonical import IMAGENET, Canonical, State, WeightFile, WeightFormat, left_out, translate, under
from unmask.weights.licence import by_layout

__all__ = ["Sam"]

LICENCE = "Apache 2.0"
RULES = (
    (r"pos_embed", "pos_embed"),
    (r"patch_embed\.proj(?:ection)?\.(\w+)", r"patch_embed.proj.\1"),
    (r"(?:blocks|layers)\.(\d+)\.(?:norm|layer_norm)([12])\.(\w+)", r"blocks.\1.norm\2.\3"),
    (r"(?:blocks|layers)\.(\d+)\.attn\.(qkv|proj)\.(\w+)", r"blocks.\1.attn.\2.\3"),
    (r"(?:blocks|layers)\.(\d+)\.attn\.rel_pos_h", r"relative.\1.rows"),
    (r"(?:blocks|layers)\.(\d+)\.attn\.rel_pos_w", r"relative.\1.columns"),
    (r"(?:blocks|layers)\.(\d+)\.mlp\.(?:lin|fc)([12])\.(\w+)", r"blocks.\1.mlp.fc\2.\3"),
)


class Sam(WeightFormat):
    @staticmethod
    def recognises(file: WeightFile) -> bool:
        return any(key.endswith("attn.rel_pos_h") for key in file.state)

    @staticmethod
    def canonical(file: WeightFile) -> Canonical:
        key = next((key for key in file.state if re.search(r"patch_embed\.proj(ection)?\.weight$", key)), None)
        if key is None:
            raise UserError(f"{file.name} has relative positions, but no patch embedding: it is no whole image encoder")
        prefix = key[: key.index("patch_embed.")]
        own = {name: value for name, value in under(file.state, prefix).items() if not name.startswith("neck.")}
        encoder, rest = translate(own, RULES)
        if "pos_embed" not in encoder:
            raise UserError(f"{file.name} is an image encoder like SAM's without positions, which unmask does not read")
        table = encoder["pos_embed"]  # 1 h w d
        patch = encoder["patch_embed.proj.weight"].shape[-1]
        others = [name.removeprefix(prefix) for name in file.state if name.removeprefix(prefix) not in own]
        return Canonical(
            layout="SAM's image encoder",
            encoder=encoder | {"pos_embed": table.flatten(1, 2)},
            model=_model(encoder, file.name),
            image_size=(table.shape[1] * patch, table.shape[2] * patch),
            statistics=IMAGENET,
            origin="ImageNet's, as in SAM's code",
            licence=by_layout("Meta's SAM", LICENCE),
            remarks=left_out([*rest, *others]),
        )


def _model(encoder: State, name: str) -> str:
    width, head_dim = encoder["patch_embed.proj.weight"].shape[0], encoder["relative.0.rows"].shape[1]
    tables = [encoder[f"relative.{number}.rows"].shape[0] for number in range(_depth(encoder))]
    seeing_all = {number for number, rows in enumerate(tables) if rows != min(tables)}
    options = f"embed_dim={width}, depth={len(tables)}, num_heads={width // head_dim}, class_token=False"
    if seeing_all:
        if seeing_all != last_of_parts(len(tables), len(seeing_all)):
            blocks = ", ".join(map(str, sorted(seeing_all)))
            raise UserError(f"{name}: its blocks {blocks} see everything; SAM's are the last of equal parts of them")
        options += f", window={(min(tables) + 1) // 2}, global_blocks={len(seeing_all)}, attend_padding=True"
    return f"vit_base_patch16_224({options}, final_norm=False, relative=True)"


def _depth(encoder: State) -> int:
    return sum(key.endswith(".rows") for key in encoder)
