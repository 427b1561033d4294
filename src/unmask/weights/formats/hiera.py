"""Weights of Hiera, in the names of its makers, timm and Hugging Face: pretrained (MAE), fine-tuned, or its encoder.

Where they differ: the last norm is `norm` in fine-tuned files, `encoder_norm` in pretrained ones, timm's `head.norm`;
the classifier is `head.projection`, timm's `head.fc`. A pretrained file's decoder predicts from all stages: it is
left out. The width of the first stage and the blocks that widen tell the architecture.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

from unmask.errors import UserError, many
from unmask.weights.canonical import (
    IMAGENET,
    Canonical,
    State,
    WeightFile,
    WeightFormat,
    class_names,
    left_out,
    mlp_ratio,
    preprocessing,
    stated_size,
    translate,
    under,
    vit_prefix,
)
from unmask.weights.licence import NOT_COMMERCIAL, by_layout

__all__ = ["HieraFile"]

RULES = (
    (r"(?:encoder_|head\.)?norm\.(\w+)", r"head.norm.\1"),
    (r"head\.(?:projection|fc)\.(\w+)", r"classifier.\1"),
    (r"pos_embed(?:_abs)?", "pos_embed"),
    (r"((?:patch_embed|blocks)\..+|pos_embed_win)", r"\1"),
)
MODELS: dict[tuple[int, tuple[int, ...]], str] = {  # width and blocks of the stages -> timm name
    (96, (1, 2, 7, 2)): "hiera_tiny_224",
    (96, (1, 2, 11, 2)): "hiera_small_224",
    (96, (2, 3, 16, 3)): "hiera_base_224",
    (112, (2, 3, 16, 3)): "hiera_base_plus_224",
    (144, (2, 6, 36, 4)): "hiera_large_224",
    (256, (2, 6, 36, 4)): "hiera_huge_224",
}
WINDOWED = {"hiera_small_224": "hiera_small_abswin_256", "hiera_base_224": "hiera_base_abswin_256"}
POOLS = 3  # stages that tokens are pooled before, in timm and elsewhere; 2 in pretraining, from which weights fit both
HEADS = {96: 1, 112: 2, 144: 2, 256: 4}  # width of the first stage -> heads there

HUGGING_FACE = (
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
    "masked_unit_size": [8, 8], "embed_dim_multiplier": 2,
    "masked_unit_attention": [True, True, False, False],
}  # fmt: skip


class HieraFile(WeightFormat):
    @staticmethod
    def recognises(file: WeightFile) -> bool:
        if _is_hugging_face(file):
            return True
        prefix = vit_prefix(file.state)
        if prefix in (None, "encoder.net.") or "timm" in file.header:
            return False
        return len(_stage_starts(under(file.state, prefix or ""))) > 1

    @staticmethod
    def canonical(file: WeightFile) -> Canonical:
        hub = _is_hugging_face(file)
        file = replace(file, state=_makers_names(file)) if hub else file
        prefix = vit_prefix(file.state) or ""
        encoder, rest = translate(under(file.state, prefix), RULES)
        head = {key: encoder.pop(f"classifier.{key}") for key in ("weight", "bias") if f"classifier.{key}" in encoder}
        if "head.norm.weight" not in encoder:
            raise UserError(f"{file.name} is a Hiera without its last norm (norm or encoder_norm): is it complete?")
        heads = file.config.get("num_heads")  # of each stage, in Hugging Face's config.json
        model, remark = _model(encoder, file.name, int(heads[0]) if heads else None)
        if (pools := int(file.config.get("num_query_pool", POOLS))) != POOLS:
            model = f"{model.removesuffix(')')}, q_pool={pools})" if "(" in model else f"{model}(q_pool={pools})"
        weights = Canonical(
            layout="Hiera",
            encoder=encoder,
            model=model,
            statistics=IMAGENET,
            origin="ImageNet's, as in Hiera's code",
            head=head or None,
            pooling="mean" if head else None,
            licence=by_layout("Meta's Hiera", NOT_COMMERCIAL),
            remarks=(*remark, *left_out([*rest, *(key for key in file.state if not key.startswith(prefix))])),
        )
        if not hub:
            return weights
        statistics, origin = preprocessing(file, IMAGENET)
        return replace(
            weights,
            layout="Hugging Face Hiera",
            norm_eps=file.config.get("layer_norm_eps"),
            image_size=stated_size(file.config),
            statistics=statistics,
            origin=origin,
            classes=class_names(file.config) if head else None,
            licence=file.config.get("license") or weights.licence,
        )


def _is_hugging_face(file: WeightFile) -> bool:
    return file.config.get("model_type") == "hiera" and any("embeddings.patch_embeddings." in key for key in file.state)


def _makers_names(file: WeightFile) -> State:
    """The weights of a Hugging Face folder in the names of Hiera's makers. Raises UserError for one that timm's Hiera
    cannot be."""
    if (act := file.config.get("hidden_act", "gelu")) != "gelu":
        raise UserError(f"{file.name}: its hidden_act is {act!r}, and the blocks that unmask builds have gelu")
    for name, value in TIMM_HIERA.items():
        own = file.config.get(name, value)
        if (list(own) if isinstance(own, list | tuple) else own) != value:
            raise UserError(f"{file.name}: its {name} is {own}, and timm's Hiera, which unmask builds, has {value}")
    heads = file.config.get("num_heads") or ()
    if any(after != 2 * before for before, after in pairwise(heads)):
        raise UserError(f"{file.name}: its num_heads are {heads}, and in timm's Hiera each is twice the one before")
    state = {key.removeprefix("hiera."): value for key, value in file.state.items()}
    encoder, rest = translate(state, HUGGING_FACE)
    places = sorted({(int(m[1]), int(m[2])) for key in encoder if (m := re.match(r"stages\.(\d+)\.(\d+)\.", key))})
    numbers = {f"stages.{stage}.{layer}": f"blocks.{number}" for number, (stage, layer) in enumerate(places)}
    named = {
        re.sub(r"^stages\.\d+\.\d+", lambda match: numbers[match[0]], key): value for key, value in encoder.items()
    }
    return named | {key: state[key] for key in rest}


def _model(encoder: State, name: str, heads: int | None) -> tuple[str, tuple[str, ...]]:
    """timm's name, with options where it has none of these sizes; and what was assumed. heads: of the first stage."""
    width = encoder["patch_embed.proj.weight"].shape[0]
    blocks = 1 + max(int(match[1]) for key in encoder if (match := re.match(r"blocks\.(\d+)\.", key)))
    stages: tuple[int, ...] = tuple(end - start for start, end in pairwise([*_stage_starts(encoder), blocks]))
    ratio = mlp_ratio(encoder["blocks.0.mlp.fc1.weight"].shape[0], width)
    usual = HEADS.get(width, max(1, width // 64))
    model = MODELS.get((width, stages)) if ratio == 4 and heads in (None, usual) else None
    if "pos_embed_win" in encoder:
        if model not in WINDOWED:
            raise UserError(f"{name}: no Hiera with windows of positions has stages {stages} of width {width}")
        return WINDOWED[model], ()
    if model:
        return model, ()
    options = f"embed_dim={width}, num_heads={heads or usual}, stages={stages}"
    options += f", mlp_ratio={ratio}" if ratio != 4 else ""
    remark = f"{many(usual, 'attention head')} in the first stage, which no shape tells: assumed"
    return f"hiera_base_224({options})", () if heads else (remark,)


def _stage_starts(state: State) -> list[int]:
    """Numbers of the blocks that stages begin with: the first, and those that hand on more channels than they take."""
    norms = {int(match[1]): value for key, value in state.items()
             if (match := re.fullmatch(r"blocks\.(\d+)\.norm1\.weight", key))}  # fmt: skip
    wider = [
        number for number, norm in norms.items() if len(norm) != len(state.get(f"blocks.{number}.norm2.weight", norm))
    ]
    return [0, *sorted(wider)]
