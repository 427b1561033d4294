"""What unmask writes itself: the checkpoint of a run, encoder.safetensors, and the classifier of a transfer."""

from typing import Any

from unmask.errors import UserError
from unmask.files import Json, parse_json
from unmask.models.decoder import SelfAttention, essence
from unmask.registry import parse
from unmask.weights.architecture import model_text
from unmask.weights.canonical import Canonical, WeightFile, WeightFormat, under
from unmask.weights.files import is_run
from unmask.weights.licence import handed_on

__all__ = ["Ours"]


class Ours(WeightFormat):
    @staticmethod
    def recognises(file: WeightFile) -> bool:
        return any(key.startswith("encoder.net.") for key in file.state) or "timm" in file.header

    @staticmethod
    def canonical(file: WeightFile) -> Canonical:
        whole = under(file.state, "encoder.net.")
        encoder = whole or file.state
        facts = _facts(file.config) or {k: _value(v) for k, v in file.header.items()}
        settings = facts.get("settings") or {}
        arguments = dict(facts["timm"]) if "timm" in facts else {}
        decoder = under(file.state, "decoder.")
        part = settings.get("decoder") if decoder else None
        of_pixels = not settings or _predicts_pixels(settings.get("target"))
        full = {"embed.weight", "mask_token", "predict.weight"} <= set(decoder) and _is_full(part) and of_pixels
        full = full and "groups" not in arguments  # a unit's pixels are those of its group of bands
        head = under(file.state, "head.") if whole else {}
        own_norm = head and "norm.weight" in file.state and "norm.weight" not in encoder
        if own_norm:  # a classifier that pools before its norm has taken the encoder's away
            encoder |= {f"norm.{key}": value for key, value in under(file.state, "norm.").items()}
        statistics = file.state.get("encoder.mean"), file.state.get("encoder.std")
        mean, std = (() if s is None else tuple(s.tolist()) for s in statistics)
        mean, std = tuple(facts.get("mean") or ()) or mean, tuple(facts.get("std") or ()) or std  # facts are in float64
        size, unit = arguments.get("img_size") or settings.get("image_size"), arguments.get("patch_size")
        return Canonical(
            layout="unmask",
            encoder=encoder,
            decoder=decoder if full else None,
            model=model_text(arguments.pop("model_name"), arguments) if arguments else settings.get("model"),
            decoder_heads=essence(part)[1]["heads"] if full and part else None,
            decoder_part=part,
            channels=arguments.get("in_chans"),
            image_size=tuple(size) if size else None,
            unit=tuple(unit) if isinstance(unit, list | tuple) and len(unit) == 1 else None,
            statistics=(mean, std) if mean and std else None,
            origin="the run's own",
            normalize=_normalize(settings) if full or part else None,
            target=settings.get("target") if decoder else None,
            head=head or None,
            pooling=(settings.get("pooling") or ("mean" if own_norm else "cls")) if head else None,
            classes=tuple(facts["classes"]) if head and facts.get("classes") else None,
            licence=facts.get("licence"),
            modality=str(facts.get("modality") or settings.get("modality") or "image"),
        )


def _facts(config: Json) -> Json:
    """What a config.json says of the weights: a pretraining run's, or a task's."""
    if "timm" in config or not is_run(config):
        return config if "timm" in config else {}
    model, data, method = config["model"], config["data"], config["method"]
    settings = {**method, "model": model["name"], "image_size": data["image_size"]}
    licence = handed_on(config["record"]["licence"], config["record"].get("teachers", []))
    facts = {"settings": settings, "timm": model["timm"], "mean": data["mean"], "std": data["std"], "licence": licence}
    return facts | {"modality": data.get("modality", "image")}


def _is_full(part: str | None) -> bool:
    """True if a decoder computes what `full` does; others may have the same keys. A checkpoint without its config.json
    does not say."""
    try:
        return part is None or essence(part)[0] is SelfAttention.forward
    except UserError:  # somebody's own file that is not here
        return False


def _predicts_pixels(target: str | None) -> bool:
    """Whether a decoder's outputs are the pixels of a unit in order, so that they can be resized."""
    name, options = parse(target) if target else ("", {})
    return name == "pixels" and "scales" not in options


def _normalize(settings: Json) -> bool:
    return "normalize=False" not in str(settings.get("target")).replace(" ", "")


def _value(text: str) -> Any:
    """A fact of a safetensors header: JSON, or plain text."""
    try:
        return parse_json(text)
    except ValueError:
        return text
