"""Chooses the model, its image size and patch size, and the augmentation, from the data and the machine."""

import math
from collections.abc import Sequence

from unmask.data.modality import IMAGE, make_modality
from unmask.data.sheet import Sheet
from unmask.errors import UserError, many
from unmask.models.encoder import Encoder, create_encoder
from unmask.models.names import sees_wholes
from unmask.planning.batch import num_units, plan_batch
from unmask.planning.method import for_method, plan_method, plan_views, refuse_batch
from unmask.planning.plan import Plan
from unmask.registry import parse as parse_text
from unmask.runtime.machine import Machine
from unmask.training.resolution import NONE, early_and_full, parse
from unmask.weights.architecture import model_text

HIERA = "hiera"  # what names of such models begin with
TINY = 40  # pixels: smaller images have about as many patches on a GPU as elsewhere


def plan_model(plan: Plan, sheet: Sheet, machine: Machine) -> Encoder:
    """Chooses model, parts, augmentation and batch; returns the encoder, which proves that it can be built."""
    small, patch = machine.device != "cuda", plan.settings["patch_size"]
    modality = make_modality(sheet.modality)
    plan.settings["modality"] = modality.text
    if modality.text != IMAGE:
        plan.reasons.setdefault("modality", f"most of the files are {modality.word}s")
    if plan.settings["flip"] == "on" and not modality.mirrored:
        raise UserError(f"--flip on: a {modality.word} that is mirrored means something else; leave it out")
    plan.choose("channels", sheet.channels, "what the data has" if sheet.channels in (1, 3) else "bands of the data")
    given = plan.settings["image_size"]
    choices = modality.choices(sheet, patch, small, modality.full_size(given) if given else None)
    plan.choose_all(for_method(choices, plan.settings["method"]))
    plan.settings["image_size"] = list(modality.full_size(plan.settings["image_size"]))
    if small or not plan.settings["model"]:
        name = usual_model(sheet.count, machine.device)
        why = (
            "half the smallest standard ViT: without a CUDA GPU, more steps beat more layers"
            if small
            else f"fits {many(sheet.count, modality.word)} and a GPU"
        )
        plan.choose("model", name, why)
    if network := modality.network(plan.settings["channels"]):
        name, options = parse_text(plan.settings["model"])
        plan.settings["model"] = model_text(name, {**network, **options})
    patch = plan.settings["patch_size"] or patch_of(plan.settings["model"], plan.settings["image_size"], machine)
    size = tuple(plan.settings["image_size"])
    units = num_units(size, modality.unit(patch, size))
    hiera = plan.settings["model"].startswith(HIERA)
    whole = "the whole image: this network hides nothing" if sees_wholes(plan.settings["model"]) else ""
    why = "Hiera's unit" if hiera else whole or f"gives {units} patches per {modality.word}"
    plan.choose("patch_size", patch, why)
    plan_resolutions(plan)
    encoder = create_encoder(
        plan.settings["model"],
        image_size=size,
        patch_size=modality.unit(plan.settings["patch_size"], size),
        channels=plan.settings["channels"],
        **modality.for_encoder,
    )
    plan_method(plan, sheet, machine, encoder)
    plan.choose_all(modality.augmentation(sheet, plan.settings["channels"]))
    method = type(plan_views(plan, encoder))
    plan.choose("weight_decay", 0.05, "as in MAE")
    plan_batch(plan, sheet, machine, encoder.dim)
    refuse_batch(plan.settings, method, sheet.count)
    return encoder


def plan_resolutions(plan: Plan) -> None:
    """Chooses the resolution schedule, once image and patch size are known."""
    settings = plan.settings
    if len(settings["image_size"]) != 2 and settings.get("resolutions") not in (None, NONE):
        raise UserError(
            f"--resolutions is for images; these are {settings['modality']} of {len(settings['image_size'])} axes"
        )
    if settings.get("resolutions") == "auto":
        height, width = settings["image_size"]
        text = early_and_full((height, width), settings["patch_size"])
        plan.choose("resolutions", text, "half of the steps with half of the patches" if text != NONE else "too small")
    plan.choose("resolutions", NONE, "one size; smaller crops early on save time: --resolutions auto")
    for stage in parse(settings["resolutions"]):
        patch = settings["patch_size"]
        if any(side % patch for side in stage.size):
            near = tuple(max(1, round(side / patch)) * patch for side in stage.size)
            raise UserError(
                f"resolutions {settings['resolutions']!r}: {stage.size} is no multiple of patch size {patch}; the"
                f" nearest is {near}"
            )


def patch_of(model: str, image_size: Sequence[int], machine: Machine) -> int:
    """The default patch size in pixels."""
    if model.startswith(HIERA):
        return 32
    if sees_wholes(model):
        return min(image_size)
    small = machine.device != "cuda" or min(image_size) <= TINY
    return _patch(math.gcd(*image_size), min(image_size), small)


def usual_model(count: int, device: str) -> str:
    """The default model for this many images."""
    if device != "cuda":
        return "vit_tiny_patch16_224(depth=6)"
    size = "tiny" if count < 2_000 else "small" if count < 100_000 else "base"
    return f"vit_{size}_patch16_224"


def _patch(common: int, side: int, small: bool) -> int:
    """About 8 x 8 patches on a small machine, 14 x 14 on a GPU, of at most 32 and 16 pixels, since a model hardly
    resolves detail within larger ones; always a divisor of both sides, whose greatest common divisor is `common`."""
    wanted = min(32, side / 8) if small else min(16, max(4, side / 14))
    divisors = (p for p in range(2, common + 1) if common % p == 0 and p < side)
    return min(divisors, key=lambda p: abs(p - wanted), default=side)
