"""Hugging Face's plain ViT and ViTMAE: which of our models fit them, and under which names and settings.

Key names are those of the hub's files, which every version of transformers since 4.48 reads.
"""

from typing import Any

from torch import Tensor, nn

from unmask.data.modality import IMAGE, make_modality
from unmask.export.exportable import Exportable
from unmask.files import Json
from unmask.masking.mask import num_hidden
from unmask.methods.targets.pixels import Pixels
from unmask.models.decoders.full import Full
from unmask.models.decoders.partial import Partial
from unmask.models.encoder import Encoder

MAES = (Full, Partial)  # decoders that compute what MAE's does
BLOCK = {
    "norm1": "layernorm_before",
    "attn.proj": "attention.output.dense",
    "norm2": "layernorm_after",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}  # ours, which are timm's -> transformers'
MORE = {  # parts of other ViTs, by what is in the names of their weights, in words
    "reg_token": "register tokens",
    "dist_token": "a distillation token",
    "norm_pre": "a norm before the blocks",
    "gamma": "layer scale",
    "q_norm.": "normalised queries and keys",
    "k_norm.": "normalised queries and keys",
}


def why_not_vit(encoder: Encoder) -> str:
    """The reason why transformers' ViT does not compute what an encoder computes, or nothing if it does."""
    net = encoder.net
    if encoder.modality != IMAGE:
        return f"it takes {make_modality(encoder.modality).word}s"
    if encoder.own and encoder.class_tokens == 1:
        return "it has relative positions" if encoder.own.get("relative") else "it attends within windows"
    names = set(net.state_dict())
    if "patch_embed.proj.weight" not in names or not any(name.startswith("blocks.0.attn.qkv") for name in names):
        return f"it is {'no plain ViT' if 'blocks.0.norm1.weight' in names else type(net).__name__}"
    wanted = set(_timm_names(len(net.blocks)))
    for name in sorted(names - wanted):
        return f"it has {next((words for part, words in MORE.items() if part in name), name)}"
    for name in sorted(wanted - names):
        return f"it has no {({'cls_token': 'class token', 'pos_embed': 'position table'}).get(name, name)}"
    block = net.blocks[0]
    if type(net).__name__ != "VisionTransformer" or type(block).__name__ != "Block":
        return f"it is a {type(net).__name__} of {type(block).__name__}s"
    if not isinstance(block.mlp.act, nn.GELU) or block.mlp.act.approximate != "none":
        return f"its activation is {block.mlp.act}"
    if len({part.eps for part in net.modules() if isinstance(part, nn.LayerNorm)}) != 1:
        return "its norms differ in eps"
    return ""


def why_not_mae(subject: Exportable) -> str:
    """The reason why ViTMAEForPreTraining cannot hold a pretraining run whose encoder it can hold, or nothing."""
    objective, grid = subject.objective, subject.encoder.grid
    if objective is None:
        return "the run has no checkpoint with its decoder"
    decoder: Any = getattr(objective, "decoder", None)
    if type(decoder) not in MAES or type(objective.target) is not Pixels or objective.target.scales != (1,):
        return f"its decoder is {type(decoder).__name__} and its target {type(objective.target).__name__}, not MAE's"
    if grid.shape[0] != grid.shape[1] or grid.unit[0] != grid.unit[1]:
        return f"it takes square images only, this run's are {' x '.join(map(str, grid.size))}"
    if decoder.norm.eps != subject.encoder.net.norm.eps:
        return "the norms of encoder and decoder differ in eps"
    if subject.encoder.dim % 4 or decoder.norm.normalized_shape[0] % 4:
        return "its position tables need widths that are multiples of 4"
    return ""


def encoder_state(encoder: Encoder, prefix: str = "") -> dict[str, Tensor]:
    """The encoder's weights under transformers' names, in the layout of the hub's files."""
    state = encoder.net.state_dict()
    table = state["pos_embed"]
    if table.shape[1] == encoder.grid.num_units:  # timm's no_embed_class: the class token's position is zero
        table = nn.functional.pad(table, (0, 0, 1, 0))
    renamed = {
        "embeddings.cls_token": state["cls_token"],
        "embeddings.position_embeddings": table,
        "embeddings.patch_embeddings.projection.weight": state["patch_embed.proj.weight"],
        "embeddings.patch_embeddings.projection.bias": state["patch_embed.proj.bias"],
        "layernorm.weight": state["norm.weight"],
        "layernorm.bias": state["norm.bias"],
    }
    for depth in range(len(encoder.net.blocks)):
        renamed |= _block(state, f"blocks.{depth}.", f"encoder.layer.{depth}.")
    return {prefix + name: value for name, value in renamed.items()}


def mae_state(subject: Exportable) -> dict[str, Tensor]:
    """Encoder and decoder. Ours keeps the decoder's position table as a constant, transformers as a weight."""
    decoder: Any = getattr(subject.objective, "decoder", None)
    state = decoder.state_dict()
    renamed = {
        "mask_token": state["mask_token"],
        "decoder_pos_embed": nn.functional.pad(decoder.position, (0, 0, 1, 0))[None],  # a row of zeros: the class token
    }
    for ours, theirs in (("embed", "decoder_embed"), ("norm", "decoder_norm"), ("predict", "decoder_pred")):
        renamed |= {f"{theirs}.{kind}": state[f"{ours}.{kind}"] for kind in ("weight", "bias")}
    for depth in range(len(decoder.blocks)):
        renamed |= _block(state, f"blocks.{depth}.", f"decoder_layers.{depth}.")
    return encoder_state(subject.encoder, "vit.") | {f"decoder.{name}": value for name, value in renamed.items()}


def vit_config(encoder: Encoder) -> Json:
    """config.json of a ViT. Its norms have timm's eps of 1e-6, not transformers' default."""
    net, grid = encoder.net, encoder.grid
    return {
        "model_type": "vit",
        "hidden_size": encoder.dim,
        "num_hidden_layers": len(net.blocks),
        "num_attention_heads": net.blocks[0].attn.num_heads,
        "intermediate_size": net.blocks[0].mlp.fc1.out_features,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "layer_norm_eps": net.norm.eps,
        "image_size": grid.size[0] if grid.size[0] == grid.size[1] else list(grid.size),
        "patch_size": grid.unit[0] if grid.unit[0] == grid.unit[1] else list(grid.unit),
        "num_channels": encoder.channels,
        "qkv_bias": True,
    }


def mae_config(subject: Exportable) -> Json:
    """config.json of a ViTMAE. The mask ratio is moved by less than a patch where transformers' rounding would hide
    another number of patches."""
    objective: Any = subject.objective
    decoder, num = objective.decoder, subject.encoder.grid.num_units
    ratio, visible = objective.mask.ratio, num - num_hidden(num, objective.mask.ratio)
    block = decoder.blocks[0]
    return vit_config(subject.encoder) | {
        "model_type": "vit_mae",
        "decoder_hidden_size": decoder.norm.normalized_shape[0],
        "decoder_num_hidden_layers": len(decoder.blocks),
        "decoder_num_attention_heads": block.attn.num_heads,
        "decoder_intermediate_size": block.mlp.fc1.out_features,
        "mask_ratio": ratio if int(num * (1 - ratio)) == visible else 1 - (visible + 0.5) / num,
        "norm_pix_loss": objective.target.normalize,
    }


def _timm_names(depth: int) -> list[str]:
    """Names of the weights of timm's plain ViT."""
    linear = ["patch_embed.proj", "norm"]
    linear += [f"blocks.{i}.{part}" for i in range(depth) for part in ("attn.qkv", *BLOCK)]
    return ["cls_token", "pos_embed", *(f"{name}.{kind}" for name in linear for kind in ("weight", "bias"))]


def _block(state: dict[str, Tensor], ours: str, theirs: str) -> dict[str, Tensor]:
    """The weights of one block; timm stacks query, key and value in one matrix, transformers does not."""
    renamed = {}
    for kind in ("weight", "bias"):
        renamed |= {f"{theirs}{new}.{kind}": state[f"{ours}{old}.{kind}"] for old, new in BLOCK.items()}
        parts = state[f"{ours}attn.qkv.{kind}"].chunk(3)
        renamed |= {f"{theirs}attention.attention.{n}.{kind}": p for n, p in zip(("query", "key", "value"), parts)}
    return renamed
