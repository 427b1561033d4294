"""Networks by name, with random weights: any of timm's, torchvision's classifiers, and classes that the user brings.

Each comes without its classifier's last layer, so that it gives features. Its state dict is that of its own library.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import timm
import torchvision
from torch import nn

from unmask import registry
from unmask.errors import UserError
from unmask.models.names import LOADING, USABLE, require_values, timm_names
from unmask.plain import call_text

TIMM, TORCHVISION, OWN = "timm", "torchvision", "own"
SET = {"num_classes", "in_chans", "img_size", "features_only", "weights", "weights_backbone", *LOADING}  # by us
EXAMPLES = "mobilenetv3_small_100, resnet18, torchvision:resnet18, ./net.py:Net or my_lab.nets.Net"


@dataclass(frozen=True)
class Network:
    """A network, and where it comes from."""

    module: nn.Module | None  # None where only its origin is meant
    library: str  # timm, torchvision, or own for a class from outside
    name: str  # in its library; of a class: how it was named
    options: Mapping[str, object]  # of its constructor, besides those that follow from the data
    removed: str | None = None  # the layer of torchvision's network that `nn.Identity` replaces


def library_of(text: str) -> tuple[str, str, dict[str, object]]:
    """Library, name and options of a network as a user writes it: `resnet18`, `timm:resnet18(drop_rate=0.1)`,
    `torchvision:resnet18`, `./net.py:Net(width=8)`. A name alone is timm's, or else torchvision's.

    Imports nothing from outside. Raises UserError for a name that there is not, with the nearest.
    """
    name, options = registry.parse(text)
    library, colon, rest = name.partition(":")
    if registry.is_foreign(name) and library not in timm_names():
        if library.split(".")[0] in timm_names():
            raise UserError(
                f"{name}: a student begins with random weights, so the tag {library.partition('.')[2]!r} of trained"
                f" ones means nothing; give {library.split('.')[0]}"
            )
        return OWN, name, options
    name, own = rest if colon else name, {TIMM: timm_names(), TORCHVISION: _of_torchvision()}
    for candidate in (library,) if colon else (TIMM, TORCHVISION):
        if name in own[candidate]:
            _refuse_set(candidate, name, options)
            return candidate, name, options
    near = get_close_matches(name.lower(), [*own[library]] if colon else [*own[TIMM], *own[TORCHVISION]], n=1)
    where = library if colon else "timm or torchvision"
    raise UserError(f"no network {name!r} in {where}{f', did you mean {near[0]!r}?' if near else '.'} E.g. {EXAMPLES}")


def model_of(text: str) -> str:
    """The encoder, as `--model` names it, that holds a network: a ViT that can hide patches is one itself."""
    library, name, options = library_of(text)
    if library == TIMM and timm_names()[name] in USABLE:
        return call_text(name, options)
    return call_text("maps", {"net": text})


def create_network(text: str, channels: int, size: tuple[int, ...], drop_path: float = 0.0) -> Network:
    """The network of a text as for `library_of`, for images of these channels and this size.

    drop_path: rate of stochastic depth. Raises UserError for what cannot be built; a class from outside is imported
    only where it is given (`registry.given`).
    """
    library, name, options = library_of(text)
    more: dict[str, Any] = {"drop_path_rate": drop_path} if drop_path else {}
    try:
        if library == TIMM:
            fixed = timm.get_pretrained_cfg(name, allow_unregistered=True)
            more |= {"img_size": tuple(size)} if fixed is not None and fixed.fixed_input_size else {}
            require_values(name, options)
            more |= options
            net = timm.create_model(name, num_classes=0, in_chans=channels, **more)
            return Network(net, library, name, options)
        if library == TORCHVISION:
            net = torchvision.models.get_model(name, weights=None, **(more | options))
            return Network(net, library, name, options, _without_last_layer(net))
        net = registry.find("encoder", name)(**options, **more)
    except UserError:
        raise
    except Exception as error:  # of a constructor of somebody else's
        raise UserError(
            f"{call_text(name, {**options, **more})} cannot be built: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(net, nn.Module):
        raise UserError(f"{text} gives a {type(net).__name__}; give a class of nn.Module, or a function that makes one")
    return Network(net, library, name, options)


def how_to_build(network: Network, channels: int) -> str:
    """Python that builds it, for a state dict that loads strictly."""
    name, options = network.name, dict(network.options)
    if network.library == OWN:
        return f"net = {call_text(name.partition(':')[2] or name, options)}"
    more = "".join(f", {key}={value!r}" for key, value in options.items())
    if network.library == TIMM:
        return f"net = timm.create_model({name!r}, num_classes=0, in_chans={channels}{more})"
    then = f"; net.set_submodule({network.removed!r}, torch.nn.Identity())" if network.removed else ""
    return f"net = torchvision.models.get_model({name!r}{more}){then}"


def _of_torchvision() -> list[str]:
    return torchvision.models.list_models(module=torchvision.models)


def _refuse_set(library: str, name: str, options: Mapping[str, object]) -> None:
    for option in SET & options.keys():
        raise UserError(f"{option} in {library}:{name}(...) is set by unmask: take it out")


def _without_last_layer(net: nn.Module) -> str | None:
    """Replaces a classifier's last linear layer by nothing; its name, or None where there is none (SqueezeNet)."""
    layers = [name for name, part in net.named_modules() if isinstance(part, nn.Linear)]
    if not layers or layers[-1].split(".")[0] not in ("fc", "classifier", "head", "heads"):
        return None
    parent, _, last = layers[-1].rpartition(".")
    setattr(net.get_submodule(parent), last, nn.Identity())
    return layers[-1]
