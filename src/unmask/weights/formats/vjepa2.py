"""Hugging Face folders of V-JEPA 2: encoder and predictor of clips with rotary positions. Assran et al. 2025,
https://arxiv.org/abs/2506.09985.

The predictor becomes the decoder `rotary`, for I-JEPA's method; a classifier's attentive pooling is left out. There is
no table of positions, so that both take clips of any number of frames and any size.
"""

from dataclasses import replace
from typing import Any

from unmask.errors import UserError, many, require_whole
from unmask.weights.canonical import (
    ANCHOR,
    IMAGENET,
    TUBELETS,
    Canonical,
    State,
    WeightFile,
    WeightFormat,
    fuse,
    is_vjepa2,
    left_out,
    mlp_ratio,
    preprocessing,
    translate,
    under,
)
from unmask.weights.licence import MIT, by_layout

__all__ = ["VJepa2"]

BLOCK = r"encoder\.layer\.(\d+)\."
RULES = (
    (r"encoder\.embeddings\.patch_embeddings\.proj\.(\w+)", r"patch_embed.proj.\1"),
    (r"encoder\.layernorm\.(\w+)", r"norm.\1"),
    (BLOCK + r"attention\.([qkv])\w+\.(\w+)", r"blocks.\1.attn.\2.\3"),
    (BLOCK + r"attention\.proj\.(\w+)", r"blocks.\1.attn.proj.\2"),
    (BLOCK + r"(norm[12]|mlp\.fc[12])\.(\w+)", r"blocks.\1.\2.\3"),
)
INNER = r"layer\.(\d+)\."
OF_PREDICTOR = (
    (r"embeddings\.predictor_embeddings\.(\w+)", r"embed.\1"),
    (r"embeddings\.(mask_token)s", r"\1"),
    (r"layernorm\.(\w+)", r"norm.\1"),
    (r"proj\.(\w+)", r"predict.\1"),
    (INNER + r"attention\.([qkv])\w+\.(\w+)", r"blocks.\1.attn.\2.\3"),
    (INNER + r"attention\.proj\.(\w+)", r"blocks.\1.attn.proj.\2"),
    (INNER + r"(norm[12]|mlp\.fc[12])\.(\w+)", r"blocks.\1.\2.\3"),
)
TOKEN = 1  # which of its mask tokens is kept: transformers' model uses the second, counted around
MODEL = "eva_giant_patch14_224"  # its blocks have a plain MLP and no layer scale, and can have rotary positions
TURNED = {"class_token": False, "use_abs_pos_emb": False, "use_rot_pos_emb": True, "attn_type": "rope"}
USUAL = {  # in transformers, where a config.json does not say
    "num_attention_heads": 16, "hidden_size": 1024, "num_hidden_layers": 24, "frames_per_clip": 64, "crop_size": 256,
    "tubelet_size": 2, "patch_size": 16, "pred_num_attention_heads": 12,
}  # fmt: skip


class VJepa2(WeightFormat):
    @staticmethod
    def recognises(file: WeightFile) -> bool:
        return is_vjepa2(file.state)

    @staticmethod
    def canonical(file: WeightFile) -> Canonical:
        config = file.config
        if config.get("model_type") != "vjepa2":
            kind = config.get("model_type")
            why = f"its model_type is {kind!r}" if kind else "no config.json tells more"
            raise UserError(f"{file.name} has the keys of V-JEPA 2, but {why}: give the whole folder of the model")
        if (act := config.get("hidden_act", "gelu")) != "gelu":
            raise UserError(f"{file.name}: its hidden_act is {act!r}, and the blocks that unmask builds have gelu")
        numbers = _numbers(file)
        prefix = min((key.removesuffix(TUBELETS) for key in file.state if key.endswith(TUBELETS)), key=len)
        whole = under(file.state, prefix)  # beside it lies what classifies clips
        encoder, rest = translate({key: whole[key] for key in whole if not key.startswith("predictor.")}, RULES)
        encoder, rest = fuse(encoder), [*rest, *(key for key in file.state if not key.startswith(prefix))]
        predictor, text, remarks = _predictor(under(whole, "predictor."), numbers)
        unit = (numbers["tubelet_size"], numbers["patch_size"], numbers["patch_size"])
        size = (numbers["frames_per_clip"], numbers["crop_size"], numbers["crop_size"])
        if unit != tuple(encoder[ANCHOR].shape[2:]):
            own, told = (" x ".join(map(str, sides)) for sides in (encoder[ANCHOR].shape[2:], unit))
            raise UserError(f"{file.name}: its config.json tells of tubelets of {told}, and its filters are of {own}")
        if any(side % part for side, part in zip(size, unit)):
            raise UserError(f"{file.name}: by its config.json, clips of {size} are no whole number of tubelets {unit}")
        channels = {"num_channels": encoder[ANCHOR].shape[1]}
        statistics, origin = preprocessing(replace(file, config=channels), IMAGENET)
        return Canonical(
            layout="Hugging Face V-JEPA 2",
            encoder=encoder,
            decoder=predictor,
            predictor=text,
            model=_model(file, encoder, numbers),
            norm_eps=config.get("layer_norm_eps", 1e-6),
            image_size=size,
            modality=f"video(frames={size[0]}, tubelet={unit[0]})",
            statistics=statistics,
            origin=origin.replace("preprocessor_config", "video_preprocessor_config"),
            licence=config.get("license") or by_layout("Meta's V-JEPA 2", MIT),
            remarks=(*remarks, *left_out(rest)),
        )


def _predictor(state: State, numbers: dict[str, int]) -> tuple[State | None, str | None, tuple[str, ...]]:
    """Weights of `rotary`, its text, and what was left out; of a predictor that `rotary` cannot be, all of it."""
    if not state:
        return None, None, ()
    weights, rest = translate(state, OF_PREDICTOR)
    tokens, embed, first = (weights.get(key) for key in ("mask_token", "embed.weight", "blocks.0.mlp.fc1.weight"))
    blocks = {key.split(".")[1] for key in weights if key.startswith("blocks.")}
    if tokens is None or embed is None or first is None or rest:
        return None, None, ("its predictor is left out: it is not whole, or has parts that are not known",)
    if "blocks.0.attn.q.bias" not in weights or first.shape[0] != 4 * first.shape[1]:
        return None, None, ("its predictor is left out: `rotary` has biases and an MLP of four times its width",)
    tokens = tokens.reshape(len(tokens), 1, 1, -1)
    kept = TOKEN % len(tokens)
    heads = numbers["pred_num_attention_heads"]
    text = f"rotary(dim={embed.shape[0]}, depth={len(blocks)}, heads={heads}, order='tiled')"
    remarks = (f"of the {many(len(tokens), 'mask token')} of its predictor number {kept} is kept",)
    return fuse(weights | {"mask_token": tokens[kept]}), text, remarks if len(tokens) > 1 else ()


def _numbers(file: WeightFile) -> dict[str, int]:
    """The whole numbers of config.json. Raises UserError for what is none; two equal sides of a patch count as one."""
    numbers: dict[str, Any] = {name: file.config.get(name, usual) for name, usual in USUAL.items()}
    sides = numbers["patch_size"]
    if isinstance(sides, list) and len(sides) == 2 and sides[0] == sides[1]:
        numbers["patch_size"] = sides[0]
    for name, value in numbers.items():
        require_whole(f"{file.name}: {name} in its config.json", value)
    return numbers


def _model(file: WeightFile, encoder: State, numbers: dict[str, int]) -> str:
    """timm's name with options: width, depth and heads as config.json tells, which the weights are held against."""
    first = encoder.get("blocks.0.mlp.fc1.weight")
    if first is None or first.ndim != 2:
        raise UserError(f"{file.name} is not whole: it has tubelets of V-JEPA 2, and no first block of its encoder")
    options: dict[str, Any] = {
        "embed_dim": numbers["hidden_size"],
        "depth": numbers["num_hidden_layers"],
        "num_heads": numbers["num_attention_heads"],
        "mlp_ratio": mlp_ratio(first.shape[0], first.shape[1]),
    }
    options |= {} if "blocks.0.attn.qkv.bias" in encoder else {"qkv_bias": False}
    options |= {**TURNED, "rotary_order": "tiled"}
    return f"{MODEL}({', '.join(f'{name}={value!r}' for name, value in options.items())})"
