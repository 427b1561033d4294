"""State dicts of modules: strict loading, copies with the same settings, hashes of weights."""

import hashlib
from typing import Any

import torch
from torch import nn

from unmask.errors import UserError
from unmask.models.encoder import Encoder, create_encoder
from unmask.seeds import mix

NORMS = ("norm.", "head.norm.")  # names of an encoder's last norm in different families


def copied(encoder: Encoder, drop_path: float, scratch: bool) -> Encoder:
    """A copy of `encoder` with the same weights, or with new ones from torch's global generator."""
    options: dict[str, Any] = {"drop_path_rate": drop_path} if drop_path else {}
    copy = same_again(encoder, **options)
    if not scratch:
        fresh = {name: value for name, value in copy.net.state_dict().items() if name.startswith(NORMS)}
        load_strictly(copy.net, fresh | encoder.net.state_dict(), "the encoder")  # may be missing in a classifier
        load_relative(copy, encoder)
    return copy


def load_relative(copy: Encoder, encoder: Encoder) -> None:
    """Loads learned relative positions, which are kept beside the encoder's net. Raises UserError if windows differ."""
    if encoder.own.get("relative"):
        own, theirs = copy.get_submodule("relative"), encoder.get_submodule("relative")
        load_strictly(own, theirs.state_dict(), "the relative positions")


def weights_hash(model: torch.nn.Module) -> str:
    """32 hexadecimal digits that change with any weight, buffer or name."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def same_again(encoder: Encoder, image_size: tuple[int, ...] | None = None, **options: Any) -> Encoder:
    """An encoder of the same kind and normalisation with new weights; options of the timm model, such as
    drop_path_rate, may be changed. Patch size and, unless given, image size are those of `encoder`."""
    arguments = dict(encoder.arguments)
    model = arguments.pop("model_name").split(".")[0]
    set_by_us = {"num_classes", "global_pool", "in_chans", "img_size", "patch_size"}
    extra = {key: value for key, value in arguments.items() if key not in set_by_us} | {**encoder.own} | options
    text = ", ".join(f"{key}={value!r}" for key, value in extra.items())
    return create_encoder(
        f"{model}({text})" if text else model,
        image_size=tuple(image_size or encoder.grid.size),
        patch_size=arguments.get("patch_size"),
        channels=encoder.channels,
        mean=tuple(encoder.mean.tolist()),
        std=tuple(encoder.std.tolist()),
        modality=encoder.modality,
        gaps=encoder.gaps,
        parts=encoder.grid.parts,
        placed=encoder.grid.space > 0,
    )


def at_random(encoder: Encoder, seed: int) -> Encoder:
    """The same encoder at MAE's initialisation, with the same normalisation: the starting point of pretraining."""
    torch.manual_seed(mix(seed, 0xE7A1))
    return same_again(encoder)


def model_text(encoder: Encoder) -> str:
    """The timm model with its options, in the form that `--model` accepts; without drop path, which affects only
    training."""
    with torch.random.fork_rng(devices=[]):  # asking for a name must not move the caller's random numbers
        arguments = same_again(encoder).arguments | {**encoder.own}
    fixed = {"model_name", "num_classes", "global_pool", "in_chans", "img_size", "patch_size", "drop_path_rate"}
    options = ", ".join(f"{key}={value!r}" for key, value in arguments.items() if key not in fixed)
    return f"{arguments['model_name']}({options})" if options else arguments["model_name"]


def load_strictly(module: nn.Module, state: dict[str, Any], source: str) -> None:
    """Loads all of `state` into all of `module`, or raises UserError that lists both sides."""
    own = module.state_dict()
    missing = [key for key in own if key not in state]
    extra = [key for key in state if key not in own]
    shapes = [f"{k}: {tuple(state[k].shape)} in the file, {tuple(own[k].shape)} in the model"
              for k in own if k in state and state[k].shape != own[k].shape]  # fmt: skip
    if missing or extra or shapes:
        lines = [f"the weights of {source} do not fit this model."]
        for title, names in (("only in the model", missing), ("only in the file", extra), ("other shapes", shapes)):
            if names:
                lines.append(f"  {title} ({len(names)}): {', '.join(names[:6])}{', ...' if len(names) > 6 else ''}")
        raise UserError("\n".join(lines) + "\n  Give the model, patch and image size that the weights were made with.")
    module.load_state_dict(state)
