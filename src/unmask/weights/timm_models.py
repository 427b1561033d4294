"""timm models by name: with timm's own weights, or untrained."""

from pathlib import Path, PurePosixPath

import torch
from huggingface_hub import try_to_load_from_cache

from unmask import registry
from unmask.errors import UserError
from unmask.models.encoder import Encoder, create_encoder, known_name
from unmask.weights.architecture import default_config
from unmask.weights.canonical import IMAGENET
from unmask.weights.known import require_known
from unmask.weights.reading import PLAIN, Reading


def untrained(name: str, reading: Reading = PLAIN) -> Encoder:
    """A timm model by name with weights at random, for which nothing is fetched; normalised as given, else as timm's
    own of this name, or with ImageNet's mean and std where timm says nothing."""
    if not known_name(name):
        require_known(name)
    reading.refuse_choice(name)
    if reading.statistics is not None:
        return create_encoder(name, mean=reading.statistics[0], std=reading.statistics[1]).eval()
    settings = default_config(registry.parse(name)[0])
    mean, std = (tuple(255.0 * v for v in settings[key]) if settings else usual
                 for key, usual in zip(("mean", "std"), IMAGENET))  # fmt: skip
    return create_encoder(name, mean=mean, std=std).eval()


def pretrained(name: str) -> Encoder:
    """A timm model with the weights that timm has for it; needs the network the first time."""
    try:
        return create_encoder(name, pretrained=True).eval()
    except UserError:
        raise
    except Exception as error:  # whatever the hub raises: offline, unknown tag, no weights
        raise UserError(f"{name} is no run folder here, and timm could not fetch its weights: {error}") from error


def cached(name: str) -> Path | None:
    """The file that timm would read this model's weights from, where it lies on this disk already; nothing is
    fetched."""
    settings = default_config(registry.parse(name)[0])
    places = [Path(torch.hub.get_dir()) / "checkpoints" / PurePosixPath(settings.get("url") or "none").name]
    if hub_name := settings.get("hf_hub_id"):
        files = ("model.safetensors", "pytorch_model.bin")
        copies = [try_to_load_from_cache(hub_name.split("@")[0], file) for file in files]
        places = [Path(copy) for copy in copies if isinstance(copy, str)] + places
    return next((place for place in places if place.is_file()), None)


def stated(name: str) -> str | None:
    """The licence that timm states for a model's weights."""
    return default_config(registry.parse(name)[0]).get("license")
