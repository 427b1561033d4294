"""Chooses the model, its image size and patch size, and the augmentation, from the data and the machine."""

import math
from collections.abc import Sequence

from unmask.data.sheet import Sheet
from unmask.errors import UserError
from unmask.models.encoder import Encoder, create_encoder
from unmask.models.names import sees_wholes
from unmask.planning.batch import plan_batch
from unmask.planning.method import plan_method, plan_views, refuse_batch
from unmask.planning.plan import Plan
from unmask.runtime.machine import Machine
from unmask.training.resolution import NONE, early_and_full, parse

HIERA = "hiera"  # what names of such models begin with
TINY = 40  # pixels: below this, images are used at their own size


def plan_model(plan: Plan, sheet: Sheet, machine: Machine) -> Encoder:
    """Chooses model, parts, augmentation and batch; returns the encoder, which proves that it can be built."""
    small, patch = machine.device != "cuda", plan.settings["patch_size"]
    plan.choose("channels", sheet.channels, "what the data has" if sheet.channels in (1, 3) else "bands of the data")
    side = _median_side(sheet)
    if side <= TINY:
        size, why = max(8, round(side / 4) * 4), f"the images' own size (median short side {side} px)"
    elif small:
        size, why = 64, "without a CUDA GPU: small enough to see many images in the time"
    else:
        size, why = min(224, max(32, side // 16 * 16)), "as in MAE" if side >= 224 else "about the images' own size"
    if patch and size % patch:
        size, why = max(2, round(size / patch)) * patch, f"{why}, and a multiple of the patch"
    plan.choose("image_size", [size, size], why)
    if small or not plan.settings["model"]:
        name = usual_model(sheet.count, machine.device)
        why = (
            "half the smallest standard ViT: without a CUDA GPU, more steps beat more layers"
            if small
            else f"fits {sheet.count:,} images and a GPU"
        )
        plan.choose("model", name, why)
    patch = patch_of(plan.settings["model"], plan.settings["image_size"], machine)
    units = math.prod(s // patch for s in plan.settings["image_size"])
    hiera = plan.settings["model"].startswith(HIERA)
    whole = "the whole image: this network hides nothing" if sees_wholes(plan.settings["model"]) else ""
    why = "Hiera's unit" if hiera else whole or f"gives {units} patches per image"
    plan.choose("patch_size", patch, why)
    plan_resolutions(plan)
    encoder = create_encoder(
        plan.settings["model"],
        image_size=tuple(plan.settings["image_size"]),
        patch_size=plan.settings["patch_size"],
        channels=plan.settings["channels"],
    )
    plan_method(plan, sheet, machine, encoder)
    _plan_augmentation(plan, sheet)
    method = type(plan_views(plan, encoder))
    plan.choose("weight_decay", 0.05, "as in MAE")
    plan_batch(plan, sheet, machine, encoder.dim)
    refuse_batch(plan.settings, method, sheet.count)
    return encoder


def plan_resolutions(plan: Plan) -> None:
    """Chooses the resolution schedule, once image and patch size are known."""
    settings = plan.settings
    if settings.get("resolutions") == "auto":
        text = early_and_full(tuple(settings["image_size"]), settings["patch_size"])
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


def _plan_augmentation(plan: Plan, sheet: Sheet) -> None:
    side = _median_side(sheet)
    if sheet.share_extreme > 0.75:
        reason = f"{sheet.share_extreme:.0%} of the pixels are near black or white: digits, text or scans"
        plan.choose("crop", 0.5, f"{reason}; small crops would cut strokes")
        plan.choose("flip", "off", f"{reason}; mirrored they mean something else")
    elif plan.settings["channels"] == 1:
        plan.choose("crop", 0.5, "grey images are mostly scans, where scale carries meaning")
        plan.choose("flip", "off", "in grey scans left and right often differ; --flip on for others")
    elif side <= TINY:
        plan.choose("crop", 0.4, f"images of {side} px: smaller crops would only be blurred up")
        plan.choose("flip", "on", "as in MAE")
    else:
        plan.choose("crop", 0.2, "as in MAE")
        plan.choose("flip", "on", "as in MAE")


def _median_side(sheet: Sheet) -> int:
    return int(min(sheet.median_size))


def patch_of(model: str, image_size: Sequence[int], machine: Machine) -> int:
    """The default patch size in pixels."""
    if model.startswith(HIERA):
        return 32
    if sees_wholes(model):
        return min(image_size)
    return _patch(math.gcd(*image_size), min(image_size), machine.device != "cuda")


def usual_model(count: int, device: str) -> str:
    """The default model for this many images."""
    if device != "cuda":
        return "vit_tiny_patch16_224(depth=6)"
    size = "tiny" if count < 2_000 else "small" if count < 100_000 else "base"
    return f"vit_{size}_patch16_224"


def _patch(common: int, side: int, small: bool) -> int:
    """About 8 x 8 patches on a small machine, 14 x 14 on a GPU, of at most 32 and 16 pixels, since a model hardly
    resolves detail within larger ones; always a divisor of both sides, whose greatest common divisor is `common`."""
    wanted = min(32, side / 8) if small or side <= TINY else min(16, max(4, side / 14))
    divisors = (p for p in range(2, common + 1) if common % p == 0 and p < side)
    return min(divisors, key=lambda p: abs(p - wanted), default=side)
