"""Chooses what the user left open, for this data and this machine, with a reason for every choice."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from unmask.encoder import Encoder, create_encoder
from unmask.errors import UserError, many
from unmask.launch import launch
from unmask.optim import peak_rate
from unmask.resolution import NONE, early_and_full, parse
from unmask.runtime import Machine, choices
from unmask.sheet import Sheet

HIERA = "hiera"  # what names of such models begin with
TINY = 40  # pixels: below this, pictures are used at their own size
PAPER_EPOCHS, PAPER_WARMUP = 1600, 0.05  # He et al. 2021, table 8: 40 warm-up epochs of 800
BUDGET, BUDGET_EPOCHS = "budget", 300  # of recipes/pretrain_budget.py; EMAE's 300 beat 1600 of MAE on ViT-B
LARGEST = 256  # pictures at a time where running out of memory ends the process instead of raising an error
DECODER_WARMUP = 500  # steps at most, a tenth of a short run
ASKED = "asked for"  # the reason of what the user gave
GRAPHS = 128  # pictures up to which launching kernels takes a large part of a step on a GPU
HOURS = {"cpu": 0.4, "mps": 2.0, "cuda": 8.0}  # length of a run when no budget is given


@dataclass
class Plan:
    """Settings by option name, every one with a value, and why each was chosen."""

    settings: dict[str, Any]
    reasons: dict[str, str] = field(default_factory=dict)
    new_decoder: bool = False  # a trained encoder meets a decoder that starts at random

    def choose(self, name: str, value: Any, why: str) -> None:
        """Fills an option that was left open; one that was given stays."""
        if self.settings.get(name) in (None, "auto"):
            self.settings[name], self.reasons[name] = value, why
        else:
            self.reasons.setdefault(name, ASKED)

    def rows(self) -> list[tuple[str, str, str]]:
        """Name, value, reason of every choice, for people."""
        return [(name, _text(self.settings.get(name, "the data's")), why) for name, why in self.reasons.items()]


def plan_model(plan: Plan, sheet: Sheet, machine: Machine) -> Encoder:
    """Chooses everything but the length of the run; returns the encoder it chose, as proof that it can be built."""
    small, patch = machine.device != "cuda", plan.settings["patch_size"]
    plan.choose("channels", sheet.channels, "what the data has" if sheet.channels in (1, 3) else "bands of the data")
    side = _median_side(sheet)
    if side <= TINY:
        size, why = max(8, round(side / 4) * 4), f"the pictures' own size (median short side {side} px)"
    elif small:
        size, why = 64, "without a CUDA GPU: small enough to see many pictures in the time"
    else:
        size, why = min(224, max(32, side // 16 * 16)), "as in MAE" if side >= 224 else "about the pictures' own size"
    if patch and size % patch:
        size, why = max(2, round(size / patch)) * patch, f"{why}, and a multiple of the patch"
    plan.choose("image_size", [size, size], why)
    if small or not plan.settings["model"]:
        name = usual_model(sheet.count, machine.device)
        why = (
            "half the smallest standard ViT: without a CUDA GPU, more steps beat more layers"
            if small
            else f"fits {sheet.count:,} pictures and a GPU"
        )
        plan.choose("model", name, why)
    patch = patch_of(plan.settings["model"], plan.settings["image_size"], machine)
    units = math.prod(s // patch for s in plan.settings["image_size"])
    hiera = plan.settings["model"].startswith(HIERA)
    plan.choose("patch_size", patch, "Hiera's unit" if hiera else f"gives {units} patches per picture")
    plan_resolutions(plan)
    encoder = create_encoder(
        plan.settings["model"],
        image_size=tuple(plan.settings["image_size"]),
        patch_size=plan.settings["patch_size"],
        channels=plan.settings["channels"],
    )
    narrow, cheap = encoder.dim < 384, plan.settings.get("recipe") == BUDGET
    if cheap and plan.settings["decoder"] == "cross":
        plan.settings["decoder"] = f"cross({'dim=128, depth=2, heads=4' if narrow else 'dim=512, depth=4, heads=16'})"
        plan.reasons["decoder"] += ": shallow, and no wider than the encoder needs"
    decoder = "full(dim=128, depth=2, heads=4)" if narrow else "full(dim=512, depth=8, heads=16)"
    light = f"a decoder of 8 x 512 would take most of the time beside an encoder {encoder.dim} wide"
    plan.choose("decoder", decoder, light if narrow else "MAE's decoder")
    _plan_augmentation(plan, sheet)
    plan.choose("mask", "random(ratio=0.75)", "as in MAE")
    several = cheap and machine.device == "cuda"
    why = f"recipe {BUDGET}: each decoded picture is used twice" if several else "as in MAE; --masks-per-image for more"
    plan.choose("masks_per_image", 2 if several else 1, why)
    plan.choose("target", "pixels", "each patch normalised, as in MAE")
    plan.choose("weight_decay", 0.05, "as in MAE")
    _plan_batch(plan, sheet, machine, encoder.dim)
    return encoder


def plan_rate(plan: Plan) -> None:
    """A rate per 256 pictures becomes one for the batch, whatever that is: the linear rule (Goyal et al. 2017)."""
    blr, batch = plan.settings.pop("blr", None), plan.settings["batch"]
    if blr is not None:
        why = plan.reasons.pop("blr", "asked for")
        plan.choose("lr", blr * batch / 256, f"{why}: {blr:g} x {batch:,} / 256")
    plan.settings["blr"] = None


def plan_parts(plan: Plan, machine: Machine) -> None:
    """Parts that the batch is worked off in; on a GPU the trial finds out whether there must be more."""
    batch = plan.settings["batch"]
    per_device = batch // launch().world
    whole, crops = machine.device == "cuda" or per_device <= LARGEST, plan.settings.get("views_per_image", 1)
    counts = range(-(-per_device // LARGEST), per_device // crops + 1)
    parts = 1 if whole else next((n for n in counts if per_device % (n * crops) == 0), 1)
    plan.choose("accumulate", parts, "the batch fits" if whole else f"parts of {per_device // parts}, to save memory")


def plan_length(
    plan: Plan, count: int, seconds_per_step: float, machine: Machine, spent: float
) -> tuple[int, float | None]:
    """Optimizer steps and, for `--hours`, the seconds that are left; fills in epochs, warm-up and the intervals.

    count: pictures per epoch; spent: seconds since the command began.
    """
    settings, batch = plan.settings, plan.settings["batch"]
    per_epoch, seconds = count / batch, None
    if settings["steps"]:
        steps = settings["steps"]
        plan.reasons.setdefault("steps", "asked for")
    elif settings["epochs"]:
        steps = max(1, round(settings["epochs"] * per_epoch))
        plan.reasons.setdefault("epochs", "asked for")
    elif settings["hours"]:
        seconds = settings["hours"] * 3600 - spent
        reserve = min(0.1 * seconds, 15 + 0.03 * seconds)  # for pictures, checkpoints and the report
        seconds -= reserve
        steps = max(1, int(0.97 * seconds / seconds_per_step))
        plan.reasons["hours"] = f"asked for; room for {many(steps, 'step')} at the measured speed"
    else:
        most = HOURS[machine.device] * 3600 / seconds_per_step
        cheap = settings.get("recipe") == BUDGET
        wanted = max((BUDGET_EPOCHS if cheap else PAPER_EPOCHS) * per_epoch, 2000)
        epochs = max(1, round(min(most, wanted) / per_epoch))
        steps = max(1, round(epochs * per_epoch))
        why = (
            f"about {HOURS[machine.device]:g} hours here"
            if most < wanted
            else f"recipe {BUDGET}"
            if cheap
            else "MAE's longest schedule"
        )
        plan.choose("epochs", epochs, f"{why}; more helps: --epochs, or --hours for a time")
    length = steps / per_epoch
    warmup = min(40.0, PAPER_WARMUP * length)
    plan.choose("warmup", round(warmup, 3), "epochs; 5 % of the run, at most 40, as in MAE")
    _plan_decoder_warmup(plan, steps)
    plan.choose("log_every", max(1, min(100, steps // 200)), "steps")
    plan.choose(
        "save_every", max(1, min(2000, int(120 / seconds_per_step))), "steps; about two minutes at the most are lost"
    )
    plan.choose("keep_every", max(1, math.ceil(steps / 4)), "steps; four lasting checkpoints")
    if settings["probe"]:
        plan.choose("probe_every", max(1.0, round(length / 5)), "epochs; five probes")
    return steps, seconds


def _plan_decoder_warmup(plan: Plan, steps: int) -> None:
    """Steps in which a fresh decoder learns alone, before its gradients may move a trained encoder."""
    if plan.settings.get("decoder_warmup") is None and not plan.new_decoder:
        return
    fresh = (
        "the weights bring no decoder for this: the fresh one learns alone first, so that it does not spoil the encoder"
    )
    plan.choose("decoder_warmup", min(DECODER_WARMUP, steps // 10), f"steps; {fresh}")
    refuse_warmup(plan.settings["decoder_warmup"], steps)


def refuse_warmup(decoder_warmup: int, steps: int) -> None:
    """Raises UserError where the encoder would never learn."""
    if decoder_warmup >= steps:
        raise UserError(f"--decoder-warmup {decoder_warmup} leaves none of {many(steps, 'step')} for the encoder")


def plan_resolutions(plan: Plan) -> None:
    """Sizes over the run, once image and patch size are known."""
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
        what = f"{sheet.share_extreme:.0%} of the pixels are near black or white: digits, text or scans"
        plan.choose("crop", 0.5, f"{what}; small crops would cut strokes")
        plan.choose("flip", "off", f"{what}; mirrored they mean something else")
    elif plan.settings["channels"] == 1:
        plan.choose("crop", 0.5, "grey pictures are mostly scans, where scale carries meaning")
        plan.choose("flip", "off", "in grey scans left and right often differ; --flip on for others")
    elif side <= TINY:
        plan.choose("crop", 0.4, f"pictures of {side} px: smaller crops would only be blurred up")
        plan.choose("flip", "on", "as in MAE")
    else:
        plan.choose("crop", 0.2, "as in MAE")
        plan.choose("flip", "on", "as in MAE")


def _plan_batch(plan: Plan, sheet: Sheet, machine: Machine, width: int) -> None:
    most, usual = {"cpu": (32, 256), "mps": (256, 256)}.get(machine.device, (1024, 784))  # pictures, and their units
    units = math.prod(plan.settings["image_size"]) // plan.settings["patch_size"] ** 2
    large = units > usual
    most = max(4, most // 2 ** math.ceil(math.log2(units / usual))) if large else most
    fits = 2 ** int(math.log2(max(sheet.count / 4, 16)))  # four or more steps per epoch
    world = launch().world
    why = f"pictures of {units:,} patches are large" if large else "more updates in the same time"
    batch, why = min(most, fits), why if most <= fits else f"for {sheet.count} pictures"
    if world > 1:
        batch = max(1, min(most * world, 4096, max(fits, world)) // world) * world
        why = f"over all devices, {batch // world} on each"
    crops, parts = plan.settings.get("views_per_image", 1), plan.settings["accumulate"] or 1
    if batch % (equal := world * crops * parts):
        batch, why = max(1, batch // equal) * equal, f"{why}; parts and crops of a picture go evenly into it"
    plan.choose("batch", batch, why)
    plan_parts(plan, machine)
    plan_rate(plan)
    rule = "narrow encoders bear more" if width < 384 else "MAE's 2.4e-3 at batch 4096, times the root of the share"
    plan.choose("lr", float(f"{peak_rate(plan.settings['batch'], width):.2g}"), rule)
    plan_runtime(plan, machine)


def plan_runtime(plan: Plan, machine: Machine) -> None:
    """What makes this machine fast."""
    plan.settings["device"], plan.reasons["device"] = machine.device, machine.name
    plan.settings["precision"], plan.reasons["precision"] = machine.precision, machine.why_precision
    found = choices(machine.device, measure=not plan.settings.get("deterministic"))
    if machine.device == "cuda" and plan.settings["batch"] <= GRAPHS and plan.settings["accumulate"] == 1:
        found["compile"] = ("graphs", "blocks compiled once; the batch is so small that launching kernels would count")
    for name, (value, why) in found.items():
        plan.choose(name, value, why)


def _median_side(sheet: Sheet) -> int:
    return int(min(sheet.median_size))


def patch_of(model: str, image_size: Sequence[int], machine: Machine) -> int:
    """Pixels along a side of a patch, where none were asked for."""
    if model.startswith(HIERA):
        return 32
    return _patch(math.gcd(*image_size), min(image_size), machine.device != "cuda")


def usual_model(count: int, device: str) -> str:
    """The model for so many pictures, where none was asked for."""
    if device != "cuda":
        return "vit_tiny_patch16_224(depth=6)"
    size = "tiny" if count < 2_000 else "small" if count < 100_000 else "base"
    return f"vit_{size}_patch16_224"


def _patch(common: int, side: int, small: bool) -> int:
    """About 8 x 8 patches on a small machine, 14 x 14 on a GPU, but of 32 and 16 pixels at most, since what lies inside
    a larger one is hardly seen; always dividing both sides, whose greatest common divisor is `common`."""
    wanted = min(32, side / 8) if small or side <= TINY else min(16, max(4, side / 14))
    there = (p for p in range(2, common + 1) if common % p == 0 and p < side)
    return min(there, key=lambda p: abs(p - wanted), default=side)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " x ".join(str(v) for v in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
