"""The canonical form of weights: a plain timm state dict for the encoder, ours for the decoder.

A file of weights says little about itself: shapes, key names, sometimes a config.json beside it. A part in `formats/`
recognises one family of files, translates its keys, and adds what is known about that family but written nowhere.
"""

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from unmask.errors import UserError, many
from unmask.files import Json

State = dict[str, Tensor]
Statistics = tuple[tuple[float, ...], tuple[float, ...]]  # mean and std per channel, raw units
Rules = Sequence[tuple[str, str]]  # regular expression of a key, its new name
IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))  # mean, std in 0..255; of nearly all ViT weights
HALF = ((127.5,) * 3, (127.5,) * 3)  # pixels to -1..1; of Google's ViT


@dataclass(frozen=True, kw_only=True)
class WeightFile:
    """The content of a file or folder of weights, of whatever origin."""

    state: State
    name: str  # of the file or folder, for messages and for names that say something
    config: Json = field(default_factory=dict)  # config.json beside it
    preprocessor: Json = field(default_factory=dict)  # preprocessor_config.json beside it
    header: Json = field(default_factory=dict)  # written into the file beside the tensors
    networks: tuple[str, ...] = ()  # names of the networks that its checkpoint holds
    remarks: tuple[str, ...] = ()  # which of them these are, for people


@dataclass(frozen=True, kw_only=True)
class Canonical:
    layout: str  # for people
    encoder: State  # timm's keys, without a head; `relative.N.rows` and `.columns` beside them
    decoder: State | None = None  # keys of decoders/full.py, and its "position" table with rows for prefix tokens
    model: str | None = None  # timm name, with options; None: read off the shapes
    heads: int | None = None  # of attention; no shape tells; None: the usual number for this width
    heads_origin: str = "as its config says"  # how `heads` is known
    decoder_heads: int | None = None
    predictor: str | None = None  # text of what `decoder` is, where it predicts features, in the keys of that part
    decoder_part: str | None = None  # of a run of ours: which decoder it has, whether or not as `decoder`
    norm_eps: float | None = None  # of its LayerNorms; None: 1e-6, timm's and the reference's
    channels: int | None = None  # of images, where no patch embedding tells
    image_size: tuple[int, ...] | None = None  # None: square, as many patches as the position table has rows
    unit: tuple[int, ...] | None = None  # of the grid, where no patch embedding tells
    modality: str = "image"  # what the network takes
    statistics: Statistics | None = None
    origin: str = ""  # whose mean and std these are, for people
    normalize: bool | None = None  # the decoder predicts per-patch normalised pixels (True) or pixels (False)
    target: str | None = None  # text of the target that the decoder of a run of ours predicts
    head: State | None = None  # "weight" k d and "bias" k of a classifier
    pooling: str | None = None  # what that head takes: "mean" (normalised after pooling) or "cls"
    classes: tuple[str, ...] | None = None
    licence: str | None = None  # where the files say it
    remarks: tuple[str, ...] = ()  # assumptions and what was left out, for people


class WeightFormat(ABC):
    """One family of files. Our own is tried first, the others in alphabetical order; the first that recognises a file
    reads it."""

    @staticmethod
    @abstractmethod
    def recognises(file: WeightFile) -> bool:
        """Whether key names, header or config are those of this family."""

    @staticmethod
    @abstractmethod
    def canonical(file: WeightFile) -> Canonical:
        """Its weights under our names. Raises UserError for a file that lacks what is needed."""


def translate(state: State, rules: Rules) -> tuple[State, list[str]]:
    """Keys renamed by the first rule (regular expression, replacement) that matches the whole key; and the keys that no
    rule matches, in order."""
    renamed, rest = {}, []
    for key, value in state.items():
        for pattern, new in rules:
            if match := re.fullmatch(pattern, key):
                renamed[match.expand(new)] = value
                break
        else:
            rest.append(key)
    return renamed, rest


def translate_blocks(state: State, prefix: str, outer: Rules, inner: Rules) -> tuple[State, list[str]]:
    """As `translate`: `prefix` and a number are renamed to `blocks.N.`, what follows by `inner`; other keys by
    `outer`."""
    renamed, rest = translate({key: v for key, v in state.items() if not key.startswith(prefix)}, outer)
    for key, value in under(state, prefix).items():
        number, _, name = key.partition(".")
        block, unknown = translate({name: value}, inner)
        renamed |= {f"blocks.{number}.{name}": tensor for name, tensor in block.items()}
        rest += [prefix + key for _ in unknown]
    return renamed, rest


def fuse(state: State) -> State:
    """Joins attn.q, attn.k and attn.v, stored apart, into timm's attn.qkv, in that order."""
    fused = dict(state)
    for key in state:
        if match := re.fullmatch(r"(.*attn\.)q\.(weight|bias)", key):
            parts = [f"{match[1]}{name}.{match[2]}" for name in "qkv"]
            missing = [part for part in parts if part not in state]
            if missing:
                raise UserError(f"the weights have {key} but lack {', '.join(missing)}")
            fused[f"{match[1]}qkv.{match[2]}"] = torch.cat([fused.pop(part) for part in parts])
    return fused


MAE_DECODER = (  # the reference implementation's names, used by many
    (r"mask_token", "mask_token"),
    (r"decoder_pos_embed", "position"),
    (r"decoder_embed\.(\w+)", r"embed.\1"),
    (r"decoder_blocks\.(.+)", r"blocks.\1"),
    (r"decoder_norm\.(\w+)", r"norm.\1"),
    (r"decoder_pred\.(\w+)", r"predict.\1"),
)


def under(state: State, prefix: str) -> State:
    """The entries whose keys begin with `prefix`, without it."""
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def hash_of(state: State) -> str:
    """SHA-256 of tensors with their names and shapes: the same for the same weights in any file."""
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def mlp_ratio(rows: int, width: int) -> float:
    """The ratio of which timm, which rounds down, makes this many rows."""
    ratio = rows / width
    return ratio if int(width * ratio) == rows else (rows + 0.5) / width


ANCHOR = "patch_embed.proj.weight"  # by which a ViT of timm's keys is found, whatever stands before it


def vit_prefix(state: State) -> str | None:
    """What stands before the patch embedding's name; of several, the shortest; None where there is none."""
    return min((key.removesuffix(ANCHOR) for key in state if key.endswith(ANCHOR)), key=len, default=None)


TUBELETS = "encoder.embeddings.patch_embeddings.proj.weight"  # no other model of transformers has this name


def is_vjepa2(state: State) -> bool:
    """Whether these are weights of V-JEPA 2 in transformers' names."""
    return any(key.endswith(TUBELETS) for key in state)


UNUSED = ("mask_token", "masked_embed")  # what masked patches were replaced by; nothing is masked here


def timm_vit(file: WeightFile, layout: str, **facts: Any) -> Canonical:
    """A ViT under timm's keys, wherever they lie in a file: a head that pools gives its norm to the encoder, and what
    is no part of it is left out and said. facts: fields of Canonical that the maker of the file is known for."""
    prefix = vit_prefix(file.state) or ""
    state = under(file.state, prefix)
    head = {name: state[f"head.{name}"] for name in ("weight", "bias") if f"head.{name}" in state}
    pooled = "fc_norm.weight" in state and "norm.weight" not in state
    if pooled:
        state = {key.replace("fc_norm.", "norm."): value for key, value in state.items()}
    encoder = {key: value for key, value in state.items() if not key.startswith((*HEADS, *UNUSED))}
    rest = [key for key in state if key not in encoder and (not key.startswith("head.") or not head)]
    rest += [key for key in file.state if not key.startswith(prefix)]
    remarks = (*facts.pop("remarks", ()), *left_out(rest))
    pooling = ("mean" if pooled else "cls") if head else None
    return Canonical(layout=layout, encoder=encoder, head=head or None, pooling=pooling, remarks=remarks, **facts)


HEADS = ("head.", "head_dist.", "attn_pool.", "fc_norm.")  # of classifiers, in timm


def left_out(keys: Sequence[str]) -> tuple[str, ...]:
    """A remark on keys that belong to neither encoder nor decoder, by their first names; empty if there are none."""
    names = list(dict.fromkeys(key.split(".")[0] for key in keys))
    shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
    return (f"left out, no part of encoder or decoder: {many(len(keys), 'tensor')} in {shown}",) if names else ()


def without_class_row(encoder: State) -> State:
    """The class token with its position added, and positions for patches only, as timm's models with registers."""
    table = encoder["pos_embed"]
    return encoder | {"cls_token": encoder["cls_token"] + table[:, :1], "pos_embed": table[:, 1:]}


def preprocessing(file: WeightFile, usual: Statistics) -> tuple[Statistics | None, str]:
    """Mean and std of a Hugging Face folder, and whose they are: as its preprocessor_config.json says, or the usual
    ones for three channels."""
    mean, std = file.preprocessor.get("image_mean"), file.preprocessor.get("image_std")
    if mean and std:
        statistics = tuple(255.0 * m for m in mean), tuple(255.0 * s for s in std)
        return statistics, "as its preprocessor_config.json says"
    whose = "ImageNet's" if usual == IMAGENET else "0.5"
    origin = f"{whose}, as this kind of model usually has; there is no preprocessor_config.json beside it"
    return usual if file.config.get("num_channels", 3) == 3 else None, origin


def stated_size(config: Json) -> tuple[int, int]:
    """Height and width of the images that a Hugging Face model was made for."""
    size = config.get("image_size", 224)
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def class_names(config: Json) -> tuple[str, ...] | None:
    """The classes of a Hugging Face classifier in their order."""
    names = config.get("id2label")
    return tuple(names[key] for key in sorted(names, key=int)) if names else None
