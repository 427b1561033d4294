"""State dicts of timm models, whatever they are prefixed with: files, hub folders, checkpoints of training.

Mean and std are those of timm's configuration, where a hub folder's config.json or the file's name says which: most of
timm's own ViTs have 0.5, DINO's, DeiT's and MAE's have ImageNet's. Where neither does, `open.py` says what it assumes.
"""

from dataclasses import replace

from unmask.files import Json
from unmask.weights.architecture import fits, model_text, named_config
from unmask.weights.canonical import (
    HALF,
    IMAGENET,
    Canonical,
    State,
    Statistics,
    WeightFile,
    WeightFormat,
    timm_vit,
    under,
    vit_prefix,
)
from unmask.weights.positions import is_mae_table

__all__ = ["TimmFile"]


class TimmFile(WeightFormat):
    @staticmethod
    def recognises(file: WeightFile) -> bool:
        return vit_prefix(file.state) is not None

    @staticmethod
    def canonical(file: WeightFile) -> Canonical:
        prefix, settings = vit_prefix(file.state) or "", file.config.get("pretrained_cfg") or {}
        arguments, names = file.config.get("model_args") or {}, file.config.get("label_names")
        size = arguments.get("img_size") or settings.get("input_size", (3, None))[1:]
        weights = timm_vit(
            file,
            "timm" + (f", under {prefix[:-1]}" if prefix else ""),
            image_size=(size, size) if isinstance(size, int) else tuple(size) if all(size) else None,
            classes=tuple(names) if names else None,
            licence=settings.get("license"),
        )
        if model := file.config.get("architecture"):
            weights = replace(weights, model=model_text(str(model), arguments))
        elif (trained := str(file.header.get("arch"))) and fits(trained, weights.encoder):  # of timm's training script
            weights = replace(weights, model=trained)
        if statistics := _statistics(settings):
            return replace(weights, statistics=statistics, origin="as its config.json says")
        name, named = named_config(file.name, weights.model or "")
        if statistics := _statistics(named):
            licence = weights.licence or named.get("license")
            return replace(weights, statistics=statistics, origin=f"as timm has them for {name}", licence=licence)
        return _by_content(weights, under(file.state, prefix))


def _by_content(weights: Canonical, state: State) -> Canonical:
    """Mean and std of weights without a name, where their parts tell whose they are."""
    if is_mae_table(state):
        return replace(weights, statistics=IMAGENET, origin="ImageNet's, as with all weights that have MAE's positions")
    if "attn_pool.latent" in state and "cls_token" not in state:
        return replace(weights, statistics=HALF, origin="0.5, as SigLIP's, whose pooling it has")
    scaled = "blocks.0.ls1.gamma" in state and state["patch_embed.proj.weight"].shape[-1] == 14
    if scaled:
        return replace(weights, statistics=IMAGENET, origin="ImageNet's, as DINOv2's, whose parts it has")
    return weights


def _statistics(settings: Json) -> Statistics | None:
    mean, std = settings.get("mean"), settings.get("std")
    return (tuple(255.0 * m for m in mean), tuple(255.0 * s for s in std)) if mean and std else None
