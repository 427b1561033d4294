"""Hugging Face folders of ViTMAE, ViT, ViT-MSN, DINOv2, I-JEPA, Pixio, and of BEiT and data2vec with absolute
positions: config.json, and model.safetensors or pytorch_model.bin.

Query, key and value are stored apart. Names changed over the versions of transformers: decoder blocks are under
decoder_layers or decoder_encoder.layer, encoder blocks under encoder.layer, or under layers with q_proj inside. The
LayerNorm epsilon of ViT and I-JEPA is 1e-12 by default, where the reference has 1e-6.
"""

import re
from dataclasses import dataclass, replace

import torch

from unmask.errors import UserError
from unmask.weights.architecture import architecture, swiglu_model
from unmask.weights.canonical import (
    HALF,
    IMAGENET,
    MAE_DECODER,
    Canonical,
    State,
    Statistics,
    WeightFile,
    WeightFormat,
    class_names,
    fuse,
    is_vjepa2,
    left_out,
    preprocessing,
    stated_size,
    translate,
    under,
    without_class_row,
)
from unmask.weights.licence import APACHE, NOT_COMMERCIAL, NOT_COMMERCIAL_RESEARCH, by_layout

__all__ = ["HuggingFace"]

INNER = (
    (r"(?:layernorm_before|norm1)\.(\w+)", r"norm1.\1"),
    (r"(?:layernorm_after|norm2)\.(\w+)", r"norm2.\1"),
    (r"attention\.(?:attention\.query|q_proj)\.(\w+)", r"attn.q.\1"),
    (r"attention\.(?:attention\.key|k_proj)\.(\w+)", r"attn.k.\1"),
    (r"attention\.(?:attention\.value|v_proj)\.(\w+)", r"attn.v.\1"),
    (r"attention\.(?:output\.dense|o_proj)\.(\w+)", r"attn.proj.\1"),
    (r"(?:intermediate\.dense|mlp\.fc1|mlp\.weights_in)\.(\w+)", r"mlp.fc1.\1"),
    (r"(?:output\.dense|mlp\.fc2|mlp\.weights_out|mlp\.down_proj)\.(\w+)", r"mlp.fc2.\1"),
    (r"mlp\.(gate|up)_proj\.(\w+)", r"mlp.\1.\2"),
    (r"layer_scale([12])\.lambda1", r"ls\1.gamma"),
    (r"lambda_([12])", r"ls\1.gamma"),
)


def _numbered(prefixes: str) -> list[tuple[str, str]]:
    """The rules of INNER for blocks whose keys begin with one of `prefixes` and a number."""
    shifted = [(old, new.replace(r"\2", r"\3").replace(r"\1", r"\2")) for old, new in INNER]
    return [(rf"(?:{prefixes})\.(\d+)\.{old}", rf"blocks.\1.{new}") for old, new in shifted]


ENCODER = [
    (r"embeddings\.cls_token", "cls_token"),
    (r"embeddings\.register_tokens", "reg_token"),
    (r"embeddings\.position_embeddings", "pos_embed"),
    (r"embeddings\.patch_embeddings\.projection\.(\w+)", r"patch_embed.proj.\1"),
    (r"(?:pooler\.)?layernorm\.(\w+)", r"norm.\1"),  # the pooler's: applied to the mean alone, where there is no other
    *_numbered(r"encoder\.layer|layers"),
]
DECODER = [*MAE_DECODER, *_numbered(r"decoder_layers|decoder_encoder\.layer")]


@dataclass(frozen=True)
class _Kind:
    """One model_type of transformers."""

    layout: str
    prefix: str  # before the encoder's keys in a model with a head
    statistics: Statistics
    norm_eps: float  # where the config does not say
    licence: str | None = None
    pooling: str | None = None  # what its classifier takes; None: what no classifier here takes, so it is left out


DINOV2 = _Kind("Hugging Face DINOv2", "dinov2.", IMAGENET, 1e-6, by_layout("Meta's DINOv2", APACHE))
KINDS = {
    "vit_mae": _Kind("Hugging Face ViTMAE", "vit.", IMAGENET, 1e-12, pooling="cls"),
    "vit": _Kind("Hugging Face ViT", "vit.", HALF, 1e-12, pooling="cls"),
    "vit_msn": _Kind("Hugging Face ViT-MSN", "vit.", IMAGENET, 1e-6, pooling="cls"),
    "dinov2": DINOV2,
    "dinov2_with_registers": replace(DINOV2, prefix="dinov2_with_registers."),
    "beit": _Kind("Hugging Face BEiT", "beit.", HALF, 1e-12),
    "data2vec-vision": _Kind("Hugging Face data2vec", "data2vec_vision.", HALF, 1e-12),
    "pixio": _Kind("Hugging Face Pixio", "pixio.", IMAGENET, 1e-6, by_layout("Meta's Pixio", NOT_COMMERCIAL_RESEARCH)),
    "ijepa": _Kind("Hugging Face I-JEPA", "ijepa.", IMAGENET, 1e-12, by_layout("Meta's I-JEPA", NOT_COMMERCIAL)),
}
ELSEWHERE = {"dinov3_vit": "timm's copies of these weights are read: vit_small_patch16_dinov3 and the like"}


class HuggingFace(WeightFormat):
    @staticmethod
    def recognises(file: WeightFile) -> bool:
        mine = any("embeddings.patch_embeddings." in key for key in file.state)
        return mine and file.config.get("model_type") != "hiera" and not is_vjepa2(file.state)  # see hiera, vjepa2.py

    @staticmethod
    def canonical(file: WeightFile) -> Canonical:
        config = file.config
        name = config.get("model_type")
        if name not in KINDS:
            why = f"its model_type is {name!r}" if config else "it has no config.json, which tells heads and patch size"
            raise UserError(
                f"{file.name} has the keys of a Hugging Face model, but {why}; give the whole folder of a"
                f" {', '.join([*KINDS, 'hiera', 'vjepa2'])} model, config.json included"
                + (f" ({ELSEWHERE[name]})" if name in ELSEWHERE else "")
            )
        kind = KINDS[name]
        if (act := config.get("hidden_act", "gelu")) != "gelu" and not config.get("use_swiglu_ffn"):
            raise UserError(f"{file.name}: its hidden_act is {act!r}, and the blocks that unmask builds have gelu")
        weights = _vit(file, kind)
        statistics, origin = preprocessing(file, kind.statistics)
        return replace(
            weights,
            layout=kind.layout,
            norm_eps=config.get("layer_norm_eps", kind.norm_eps),
            image_size=stated_size(config),
            statistics=statistics,
            origin=origin,
            pooling=kind.pooling if weights.head else None,
            classes=class_names(config) if weights.head else None,
            licence=config.get("license") or kind.licence,
        )


def _vit(file: WeightFile, kind: _Kind) -> Canonical:
    config = file.config
    prefix = kind.prefix if any(key.startswith(kind.prefix) for key in file.state) else ""
    own = {k: v for k, v in file.state.items() if prefix or not k.startswith(("decoder.", "classifier."))}
    behind = {key: own[key] for key in own if prefix and key.startswith("layernorm.")}  # BEiT's, beside the encoder
    encoder, rest = translate(behind | under(own, prefix), ENCODER)
    if "norm.weight" not in encoder:
        raise UserError(
            f"{file.name} holds a {kind.layout.removeprefix('Hugging Face ')} without its last norm, which its makers'"
            " classifiers bring along: give the folder of one with it"
        )
    encoder = _gated(fuse(_with_key_bias(encoder)))
    decoder, _ = translate(under(file.state, "decoder."), DECODER)
    complete = "embed.weight" in decoder and "predict.weight" in decoder
    head = under(file.state, "classifier.")
    if head and kind.pooling is None:
        head, rest = {}, [*rest, *(f"classifier.{key}" for key in head)]
    swiglu = bool(config.get("use_swiglu_ffn"))
    model = swiglu_model(encoder, int(config["num_attention_heads"])) if swiglu else None
    registers = "reg_token" in encoder
    if (count := int(config.get("n_cls_tokens", 1))) > 1:
        encoder, model = _with_class_tokens(encoder, count, int(config["num_attention_heads"]))
    return Canonical(
        layout=kind.layout,
        encoder=without_class_row(encoder) if registers else encoder,
        model=model,
        decoder=fuse(decoder) if complete else None,
        heads=int(config["num_attention_heads"]),
        decoder_heads=int(config.get("decoder_num_attention_heads", 16)),
        normalize=bool(config.get("norm_pix_loss", False)) if complete else None,
        head=head or None,
        remarks=left_out(rest),
    )


def _with_key_bias(encoder: State) -> State:
    """BEiT has no bias of keys: one of zeros is the same."""
    missing = {
        key.replace("attn.q.bias", "attn.k.bias"): torch.zeros_like(value)
        for key, value in encoder.items()
        if key.endswith("attn.q.bias")
    }
    return missing | encoder


def _with_class_tokens(encoder: State, count: int, heads: int) -> tuple[State, str]:
    """Pixio's class tokens, those beyond the first in the place of timm's registers, and the model's text."""
    first, others = encoder["cls_token"].split([1, count - 1], dim=1)
    split = encoder | {"cls_token": first, "reg_token": others}
    model = architecture(split, "", heads, "", bare=False).model
    return split, f"{model.removesuffix(')')}, class_tokens={count})"


def _gated(encoder: State) -> State:
    """SwiGLU's two projections, stored apart by later versions, as the one of timm and of earlier versions."""
    joined = dict(encoder)
    for key in encoder:
        if match := re.fullmatch(r"(.*mlp\.)gate\.(weight|bias)", key):
            up = joined.pop(f"{match[1]}up.{match[2]}")
            joined[f"{match[1]}fc1.{match[2]}"] = torch.cat([joined.pop(key), up])
    return joined
