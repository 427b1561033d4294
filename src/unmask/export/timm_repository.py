"""A folder in the layout of timm's own repositories on model hubs: config.json and model.safetensors.

timm opens it as `local-dir:FOLDER`, transformers through its wrapper of timm models.
"""

import json
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from unmask.data.modality import IMAGE, make_modality
from unmask.files import Json
from unmask.models.any_network import TIMM
from unmask.models.classifier import Classifier
from unmask.models.encoder import Encoder
from unmask.models.encoders.maps import Maps

POOL = {"mean": "avg", "cls": "token"}  # ours -> timm's
FC_NORM = {"VisionTransformer": "fc_norm", "Eva": "use_fc_norm"}  # argument that says where the last norm stands


def write_repository(model: Encoder | Classifier, folder: Path) -> None:
    """Writes both files into an existing folder."""
    state = {name: value.detach().contiguous() for name, value in weights(model).items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    text = json.dumps(settings(model), indent=2, ensure_ascii=False)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")


RELATIVE = "it has relative positions, which lie beside the timm model"
ALONE = "(the weights alone fit: encoder.safetensors of the run)"
WINDOWED = f"it attends within windows {ALONE}"
CLASSES = f"the mean of several class tokens stands for its image {ALONE}"
CELLS = f"it gives the mean of several tokens for each of its patches {ALONE}"


def why_not_timm(model: Encoder | Classifier) -> str:
    """The reason why no timm model computes what this one does, or nothing. timm has one last norm, before or after
    pooling."""
    encoder = model if isinstance(model, Encoder) else model.encoder
    if encoder.modality != IMAGE:
        return f"it takes {make_modality(encoder.modality).word}s"
    if isinstance(encoder, Maps):
        return _why_not_timm(model, encoder)
    if encoder.own:
        return RELATIVE if encoder.own.get("relative") else CLASSES if encoder.class_tokens > 1 else WINDOWED
    if encoder.stages[-1][1] > 1:
        return CELLS
    if isinstance(model, Encoder):
        return ""
    net, kind = model.encoder.net, model.norm_kind
    if model.pooling not in POOL:
        return f"it has no {model.pooling} pooling"
    if type(net).__name__ not in (*FC_NORM, "Hiera"):
        return f"the head of a {type(net).__name__} is another"
    if model.pooling == "cls" and kind == "layer":
        return "it has no second norm for the class token"
    if type(net).__name__ == "Hiera" and kind != "layer":
        return "its Hiera has no norm before the pooling"
    return ""


def _why_not_timm(model: Encoder | Classifier, encoder: Maps) -> str:
    """The same for a network that sees whole images."""
    if encoder.network.library != TIMM:
        return "it is none of timm's (encoder.safetensors of the run has its own library's keys)"
    if isinstance(model, Encoder):
        return ""
    if model.pooling != "mean" or model.norm_kind == "layer":
        return "timm puts the head right behind the network's own pooling"
    options: dict[str, Any] = dict(encoder.network.options)
    with torch.device("meta"):
        net = timm.create_model(encoder.network.name, num_classes=len(model.classes), in_chans=3, **options)
    return "" if weights(model).keys() == net.state_dict().keys() else "its head there is another"


def plain_head(model: Classifier) -> tuple[Tensor, Tensor]:
    """Weight and bias of the head, with a preceding BatchNorm folded into them."""
    weight, bias = model.head.weight.detach(), model.head.bias.detach()
    if not isinstance(model.norm, nn.BatchNorm1d):
        return weight, bias
    mean, var = model.norm.running_mean, model.norm.running_var
    assert mean is not None
    assert var is not None
    weight = weight / (var + model.norm.eps).sqrt()
    return weight, bias - weight @ mean


def weights(model: Encoder | Classifier) -> dict[str, Tensor]:
    """timm's state dict. It calls a norm after pooling fc_norm, or head.norm in Hiera."""
    if isinstance(model, Encoder):
        return model.net.state_dict()
    net, hiera = model.encoder.net, type(model.encoder.net).__name__ == "Hiera"
    head = dict(zip(("weight", "bias"), plain_head(model)))
    norm = model.norm.state_dict() if model.norm_kind == "layer" else {}
    names = ("head.fc.", "head.norm.") if hiera else ("head.", "fc_norm.")
    names = (f"{net.pretrained_cfg['classifier']}.", "") if model.encoder.staged else names
    renamed = {names[0] + name: value for name, value in head.items()}
    return net.state_dict() | renamed | {names[1] + name: value for name, value in norm.items()}


def settings(model: Encoder | Classifier) -> Json:
    """config.json: what timm needs to build the model and to prepare its images."""
    encoder = model if isinstance(model, Encoder) else model.encoder
    arguments = {k: v for k, v in encoder.arguments.items() if k not in ("model_name", "num_classes")}
    name, classes = encoder.arguments["model_name"].split(".")[0], list[str]()
    if isinstance(encoder, Maps):
        name, arguments = encoder.network.name, {"in_chans": encoder.channels, **encoder.network.options}
    if isinstance(model, Classifier):
        classes = model.classes
    if isinstance(model, Classifier) and not encoder.staged:
        arguments["global_pool"] = POOL[model.pooling]
        if type(encoder.net).__name__ in FC_NORM:
            arguments[FC_NORM[type(encoder.net).__name__]] = model.norm_kind == "layer"
    pool = arguments.get("global_pool")
    own = encoder.net.pretrained_cfg
    return {
        "model_type": "timm_wrapper",  # by which transformers knows that timm builds it
        "architecture": name,
        "num_classes": len(classes),
        "num_features": encoder.dim,
        **({"global_pool": pool} if pool else {}),
        "model_args": arguments,
        **({"label_names": classes} if classes else {}),
        "pretrained_cfg": {
            "tag": "unmask",
            "custom_load": False,
            "input_size": [encoder.channels, *encoder.grid.size],
            "fixed_input_size": not encoder.staged,
            "interpolation": "bicubic",
            "crop_pct": model.eval_crop if isinstance(model, Classifier) else 1.0,
            "crop_mode": "center",
            "mean": [m / 255 for m in encoder.mean.tolist()],  # timm's pixels are 0 to 1, ours 0 to 255
            "std": [s / 255 for s in encoder.std.tolist()],
            "num_classes": len(classes),
            "pool_size": None,
            "first_conv": own.get("first_conv", "patch_embed.proj"),
            "classifier": own.get("classifier", "head"),
        },
    }
