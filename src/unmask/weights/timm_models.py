"""timm models by name: with timm's own weights, or untrained."""

from pathlib import Path, PurePosixPath

import huggingface_hub
import torch
from huggingface_hub import try_to_load_from_cache

from unmask import registry
from unmask.errors import UserError
from unmask.models.encoder import Encoder, create_encoder
from unmask.models.names import known_name
from unmask.runtime.network import why_unreachable
from unmask.weights.architecture import default_config
from unmask.weights.canonical import IMAGENET
from unmask.weights.known import require_known
from unmask.weights.reading import PLAIN, Reading

HUB_FILES = ("model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors", "open_clip_pytorch_model.bin")


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
    """A timm model with the weights that timm has for it; needs the network the first time.

    Raises UserError at once where no host answers; a slow one is asked again and again, as the hub's library does.
    """
    if cached(name) is None and (address := _address(name)) and (why := why_unreachable(address)):
        raise UserError(
            f"{name}: timm's weights of it are not on this machine, and cannot be fetched ({why}). Is there a network?"
            " Weights that lie here can be named as a file or a folder"
        )
    try:
        return create_encoder(name, pretrained=True).eval()
    except UserError:
        raise
    except Exception as error:  # whatever the hub raises: offline, unknown tag, no weights
        raise UserError(f"{name} is no run folder here, and timm could not fetch its weights: {error}") from error


def _address(name: str) -> str:
    """Where timm would fetch this model's weights; "" where it has none."""
    settings = default_config(registry.parse(name)[0])
    return huggingface_hub.constants.ENDPOINT if settings.get("hf_hub_id") else settings.get("url") or ""


def cached(name: str) -> Path | None:
    """The file that timm would read this model's weights from, where it lies on this disk already; nothing is
    fetched."""
    settings = default_config(registry.parse(name)[0])
    places = [Path(torch.hub.get_dir()) / "checkpoints" / PurePosixPath(settings.get("url") or "none").name]
    if hub_name := settings.get("hf_hub_id"):
        files = (settings.get("hf_hub_filename"), *HUB_FILES)
        copies = [try_to_load_from_cache(hub_name.split("@")[0], file) for file in files if file]
        places = [Path(copy) for copy in copies if isinstance(copy, str)] + places
    return next((place for place in places if place.is_file()), None)


def stated(name: str) -> str | None:
    """The licence that timm states for a model's weights."""
    return default_config(registry.parse(name)[0]).get("license")
