"""Hugging Face folders of ViTMAE, ViT, ViT-MSN, DINOv2, I-JEPA and Hiera: config.json, and model.safetensors or
pytorch_model.bin.

Query, key and value are stored apart. Names changed over the versions of transformers: decoder blocks are under
decoder_layers or decoder_encoder.layer, encoder blocks under encoder.layer, or under layers with q_proj inside. The
LayerNorm epsilon of ViT and I-JEPA is 1e-12 by default, where the reference has 1e-6. Hiera's keys are brought to those
of its makers, which `hiera.py` reads.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch

from unmask.errors import UserError
from unmask.weights.canonical import (
    HALF,
    IMAGENET,
    MAE_DECODER,
    Canonical,
    State,
    Statistics,
    WeightFile,
    WeightFormat,
    fuse,
    left_out,
    translate,
    under,
)
from unmask.weights.formats.dinov2 import LICENCE, swiglu_model, without_class_row
from unmask.weights.formats.hiera import HieraFile
from unmask.weights.licence import NOT_COMMERCIAL, by_layout

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
    (r"layernorm\.(\w+)", r"norm.\1"),
    *_numbered(r"encoder\.layer|layers"),
]
DECODER = [*MAE_DECODER, *_numbered(r"decoder_layers|decoder_encoder\.layer")]
HIERA = (
    (r"embeddings\.position_embeddings", "pos_embed"),
    (r"embeddings\.patch_embeddings\.projection\.(\w+)", r"patch_embed.proj.\1"),
    (r"encoder\.stages\.(\d+)\.layers\.(\d+)\.layernorm_before\.(\w+)", r"stages.\1.\2.norm1.\3"),
    (r"encoder\.stages\.(\d+)\.layers\.(\d+)\.layernorm_after\.(\w+)", r"stages.\1.\2.norm2.\3"),
    (r"encoder\.stages\.(\d+)\.layers\.(\d+)\.(.+)", r"stages.\1.\2.\3"),
    (r"pooler\.layernorm\.(\w+)", r"norm.\1"),
    (r"encoder_norm\.(\w+)", r"encoder_norm.\1"),
    (r"classifier\.(\w+)", r"head.projection.\1"),
)
TIMM_HIERA: Mapping[str, Any] = {  # what timm's Hiera has in common with transformers' default, and no option for
    "patch_size": [7, 7], "patch_stride": [4, 4], "patch_padding": [3, 3], "query_stride": [2, 2],
    "masked_unit_size": [8, 8], "embed_dim_multiplier": 2, "num_query_pool": 3,
    "masked_unit_attention": [True, True, False, False],
}  # fmt: skip


@dataclass(frozen=True)
class _Kind:
    """One model_type of transformers."""

    layout: str
    prefix: str  # before the encoder's keys in a model with a head
    statistics: Statistics
    norm_eps: float  # where the config does not say
    licence: str | None = None
    pooling: str | None = None  # what its classifier takes; None: what no classifier here takes, so it is left out


DINOV2 = _Kind("Hugging Face DINOv2", "dinov2.", IMAGENET, 1e-6, by_layout("Meta's DINOv2", LICENCE))
KINDS = {
    "vit_mae": _Kind("Hugging Face ViTMAE", "vit.", IMAGENET, 1e-12, pooling="cls"),
    "vit": _Kind("Hugging Face ViT", "vit.", HALF, 1e-12, pooling="cls"),
    "vit_msn": _Kind("Hugging Face ViT-MSN", "vit.", IMAGENET, 1e-6, pooling="cls"),
    "dinov2": DINOV2,
    "dinov2_with_registers": replace(DINOV2, prefix="dinov2_with_registers."),
    "ijepa": _Kind("Hugging Face I-JEPA", "ijepa.", IMAGENET, 1e-12, by_layout("Meta's I-JEPA", NOT_COMMERCIAL)),
    "hiera": _Kind("Hugging Face Hiera", "hiera.", IMAGENET, 1e-6, by_layout("Meta's Hiera", NOT_COMMERCIAL), "mean"),
}
ELSEWHERE = {"dinov3_vit": "timm's copies of these weights are read: vit_small_patch16_dinov3 and the like"}


class HuggingFace(WeightFormat):
    @staticmethod
    def recognises(file: WeightFile) -> bool:
        return any("embeddings.patch_embeddings." in key for key in file.state)

    @staticmethod
    def canonical(file: WeightFile) -> Canonical:
        config = file.config
        name = config.get("model_type")
        if name not in KINDS:
            why = f"its model_type is {name!r}" if config else "it has no config.json, which tells heads and patch size"
            raise UserError(
                f"{file.name} has the keys of a Hugging Face model, but {why}; give the whole folder of a"
                f" {', '.join(KINDS)} model, config.json included"
                + (f" ({ELSEWHERE[name]})" if name in ELSEWHERE else "")
            )
        kind = KINDS[name]
        if (act := config.get("hidden_act", "gelu")) != "gelu" and not config.get("use_swiglu_ffn"):
            raise UserError(f"{file.name}: its hidden_act is {act!r}, and the blocks that unmask builds have gelu")
        weights = _hiera(file, kind) if name == "hiera" else _vit(file, kind)
        names, size = config.get("id2label") or {}, config.get("image_size", 224)
        stated = file.preprocessor.get("image_mean")
        return replace(
            weights,
            layout=kind.layout,
            norm_eps=config.get("layer_norm_eps", kind.norm_eps),
            image_size=(size, size) if isinstance(size, int) else tuple(size),
            statistics=_statistics(file, kind.statistics),
            origin="as its preprocessor_config.json says" if stated else _assumed(kind.statistics),
            pooling=kind.pooling if weights.head else None,
            classes=tuple(names[key] for key in sorted(names, key=int)) if weights.head and names else None,
            licence=config.get("license") or kind.licence,
        )


def _vit(file: WeightFile, kind: _Kind) -> Canonical:
    config = file.config
    prefix = kind.prefix if any(key.startswith(kind.prefix) for key in file.state) else ""
    own = {k: v for k, v in file.state.items() if prefix or not k.startswith(("decoder.", "classifier."))}
    encoder, rest = translate(under(own, prefix), ENCODER)
    encoder = _gated(fuse(encoder))
    decoder, _ = translate(under(file.state, "decoder."), DECODER)
    complete = "embed.weight" in decoder and "predict.weight" in decoder
    head = under(file.state, "classifier.")
    if head and kind.pooling is None:
        head, rest = {}, [*rest, *(f"classifier.{key}" for key in head)]
    swiglu = bool(config.get("use_swiglu_ffn"))
    model = swiglu_model(encoder, int(config["num_attention_heads"])) if swiglu else None
    registers = "reg_token" in encoder
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


def _gated(encoder: State) -> State:
    """SwiGLU's two projections, stored apart by later versions, as the one of timm and of earlier versions."""
    joined = dict(encoder)
    for key in encoder:
        if match := re.fullmatch(r"(.*mlp\.)gate\.(weight|bias)", key):
            up = joined.pop(f"{match[1]}up.{match[2]}")
            joined[f"{match[1]}fc1.{match[2]}"] = torch.cat([joined.pop(key), up])
    return joined


def _hiera(file: WeightFile, kind: _Kind) -> Canonical:
    """Raises UserError for one that timm's Hiera cannot be."""
    for name, value in TIMM_HIERA.items():
        own = file.config.get(name, value)
        if (list(own) if isinstance(own, list | tuple) else own) != value:
            raise UserError(f"{file.name}: its {name} is {own}, and timm's Hiera, which unmask builds, has {value}")
    heads = file.config.get("num_heads") or ()
    if any(after != 2 * before for before, after in pairwise(heads)):
        raise UserError(f"{file.name}: its num_heads are {heads}, and in timm's Hiera each is twice the one before")
    state = {key.removeprefix(kind.prefix): value for key, value in file.state.items()}
    encoder, rest = translate(state, HIERA)
    places = sorted({(int(m[1]), int(m[2])) for key in encoder if (m := re.match(r"stages\.(\d+)\.(\d+)\.", key))})
    numbers = {f"stages.{stage}.{layer}": f"blocks.{number}" for number, (stage, layer) in enumerate(places)}
    named = {
        re.sub(r"^stages\.\d+\.\d+", lambda match: numbers[match[0]], key): value for key, value in encoder.items()
    }
    return HieraFile.canonical(replace(file, state=named | {key: state[key] for key in rest}))


def _statistics(file: WeightFile, usual: Statistics) -> Statistics | None:
    mean, std = file.preprocessor.get("image_mean"), file.preprocessor.get("image_std")
    channels = file.config.get("num_channels", 3)
    if mean and std:
        return tuple(255.0 * m for m in mean), tuple(255.0 * s for s in std)
    return usual if channels == 3 else None


def _assumed(statistics: Statistics) -> str:
    usual = "ImageNet's" if statistics == IMAGENET else "0.5"
    return f"{usual}, as this kind of model usually has; there is no preprocessor_config.json beside it"
