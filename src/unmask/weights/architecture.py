"""The timm model that a state dict belongs to, from its keys and shapes. The number of heads follows a rule, which is
said."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

import timm
import torch

from unmask.errors import UserError
from unmask.files import Json
from unmask.registry import parse
from unmask.weights.canonical import State, mlp_ratio
from unmask.weights.positions import num_prefix

# Standard ViTs: width -> name, blocks, heads. Heads are width / 64 but for the two largest.
STANDARD = {
    192: ("vit_tiny_patch16_224", 12, 3),
    384: ("vit_small_patch16_224", 12, 6),
    768: ("vit_base_patch16_224", 12, 12),
    1024: ("vit_large_patch16_224", 24, 16),
    1280: ("vit_huge_patch14_224", 32, 16),
    1408: ("vit_giant_patch14_224", 40, 16),
}
EVA = ("*dinov3*", "eva*", "vit_pe_*")  # families with rotary positions, whose options no key tells
GIANT = (1536, 40, 24, 8192)  # DINOv2's: width, blocks, heads, rows of the first linear layer of its SwiGLU
ENDINGS = {"safetensors", "pth", "pt", "bin", "ckpt", "tar"}


@dataclass(frozen=True)
class Architecture:
    model: str  # timm name with options
    heads: str  # how the number of attention heads is known, for people; empty if the name says it


def architecture(state: State, name: str, heads: int | None, origin: str, bare: bool) -> Architecture:
    """name: of the file, which may begin with a timm name. heads: where a config or the weights' maker tells, and how
    (origin). bare: the position table has rows for patches only.

    Raises UserError where no model of timm has these keys and shapes.
    """
    for hint in _hints(name):
        if fits(hint, state, heads):
            return Architecture(hint, "")
    if "pos_embed" not in state or any(re.search(r"blocks\.0\.(gamma_1|attn\.q_bias|mlp\.fc1_g)", k) for k in state):
        for model in _candidates(state):
            if fits(model, state):
                return Architecture(model, "")
        raise UserError(_unknown(state, name))
    return _plain(state, name, heads, origin, bare)


def default_config(model: str) -> Json:
    """timm's settings for a model, with its tag or without: input_size, mean, std (0..1) of its weights, of its default
    weights without one; empty for no model of timm."""
    try:
        settings = timm.get_pretrained_cfg(model.split("(")[0], allow_unregistered=True)
    except RuntimeError:  # no such tag
        return {}
    return settings.to_dict() if settings else {}


def require_size(model: str, state: State) -> None:
    """Raises UserError where a name tells another width or depth than the weights have: building what a small file says
    of itself may take all memory."""
    options = parse(model)[1]
    blocks = {match[1] for key in state if (match := re.match(r"blocks\.(\d+)\.", key))}
    width = state["patch_embed.proj.weight"].shape[0] if "patch_embed.proj.weight" in state else None
    if width and "patch_embed.part" in state:  # it holds the filters of several parts
        width //= max(1, len(state["patch_embed.part"]))
    if "patch_embed.place.leave.bias" in state:  # several layers embed points
        width = len(state["patch_embed.place.leave.bias"])
    for option, own in (("embed_dim", width), ("depth", len(blocks))):
        if option in options and own and not isinstance(options[option], list | tuple) and options[option] != own:
            raise UserError(f"{model}: {option} is {options[option]}, and that of the weights is {own}")


def named_config(*names: str) -> tuple[str, dict[str, Any]]:
    """The first of these names, of files or models, that is one of timm's, with or without its tag and an ending; and
    timm's settings for it. Nothing for names that only begin like one of timm's: who knows what they mean."""
    for name in names:
        words = name.split("/")[-1].split(".")
        for candidate in (".".join(words[:2]), ".".join(words[:1])):
            ending = words[candidate.count(".") + 1 :]
            if timm.is_model(words[0]) and set(ending) <= ENDINGS and (settings := default_config(candidate)):
                return candidate, settings
    return "", {}


def model_text(name: str, arguments: Mapping[str, Any]) -> str:
    """A timm name without its tag, with those arguments that no option of ours sets."""
    ours = ("num_classes", "global_pool", "in_chans", "img_size", "patch_size")
    text = ", ".join(f"{key}={value!r}" for key, value in arguments.items() if key not in ours)
    base = name.split(".")[0]
    return f"{base}({text})" if text else base


def one_of_a_kind(model: str) -> bool:
    """True for models whose architecture itself tells whose they are: EVA, DINOv3, Perception Encoder."""
    return any(fnmatch(model, pattern) for pattern in EVA)


def fits(model: str, state: State, heads: int | None = None) -> bool:
    """True if timm's model has exactly these keys, and these shapes where image and patch size do not matter; and this
    many attention heads, where they are known."""
    try:
        with torch.device("meta"):
            net: Any = timm.create_model(model, num_classes=0, global_pool="")
    except Exception:  # some of timm's models cannot be made without memory, or take no global_pool: not ours
        return False
    own = net.state_dict()
    if heads and hasattr(net, "blocks") and getattr(net.blocks[0].attn, "num_heads", heads) != heads:
        return False
    free = ("pos_embed", "patch_embed.proj.weight")
    return own.keys() == state.keys() and all(own[k].shape == state[k].shape for k in own if k not in free)


def _plain(state: State, name: str, heads: int | None, origin: str, bare: bool) -> Architecture:
    """A ViT of any size with absolute positions, as options of the standard one of its width."""
    if "patch_embed.proj.weight" not in state or "blocks.0.mlp.fc1.weight" not in state or "norm_pre.weight" in state:
        raise UserError(_unknown(state, name))
    width = state["patch_embed.proj.weight"].shape[0]
    depth = 1 + max(int(m[1]) for key in state if (m := re.match(r"blocks\.(\d+)\.", key)))
    standard, usual_depth, usual_heads = STANDARD.get(width, ("vit_base_patch16_224", 12, 0))
    options: dict[str, Any] = {}
    if width not in STANDARD:
        options["embed_dim"] = width
    if depth != usual_depth:
        options["depth"] = depth
    used = heads or usual_heads or (width // 64 if width % 64 == 0 else 0)
    if not used:
        raise UserError(
            f"{name}: a width of {width} does not tell the number of attention heads; say it with --model"
            f" 'vit_base_patch16_224(embed_dim={width}, depth={depth}, num_heads=...)'"
        )
    if used != usual_heads:
        options["num_heads"] = used
    ratio = mlp_ratio(state["blocks.0.mlp.fc1.weight"].shape[0], width)
    if ratio != 4:
        options["mlp_ratio"] = ratio
    if "blocks.0.attn.qkv.bias" not in state:
        options["qkv_bias"] = False
    if "blocks.0.ls1.gamma" in state:
        options["init_values"] = 1e-5
    if "blocks.0.attn.q_norm.weight" in state:
        options["qk_norm"] = True
    if "cls_token" not in state:
        options["class_token"] = False
    if "reg_token" in state:
        options["reg_tokens"] = state["reg_token"].shape[1]
    if num_prefix(state) and bare:
        options["no_embed_class"] = True
    text = ", ".join(f"{key}={value!r}" for key, value in options.items())
    why = origin if heads else "as usual for this width; the file does not say"
    return Architecture(f"{standard}({text})" if text else standard, f"{used} attention heads, {why}")


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


def _hints(name: str) -> Iterator[str]:
    """timm names that a file's name begins with, the longest first: vit_small_patch16_dinov3.lvd1689m.safetensors."""
    words = re.split(r"[.\s]", name.lower())[0].split("_")
    for end in range(len(words), 1, -1):
        model = "_".join(words[:end])
        if timm.is_model(model):
            yield model


def _candidates(state: State) -> list[str]:
    """timm names of the families that no shape describes, those of this width only: making one to compare takes a
    second or so."""
    if "patch_embed.proj.weight" not in state:
        return []
    sizes = {width: name.split("_")[1] for width, (name, *_) in STANDARD.items()}
    size = sizes.get(state["patch_embed.proj.weight"].shape[0])
    names = [name for pattern in EVA for name in timm.list_models(pattern) if not re.search("7b|enormous", name)]
    return [name for name in dict.fromkeys(names) if next((s for s in sizes.values() if s in name), None) == size]


def _unknown(state: State, name: str) -> str:
    shown = ", ".join(list(state)[:4])
    return (
        f"{name}: no timm model that unmask knows has these weights (they begin {shown}); if you know which it is, say"
        " it: --model NAME"
    )
