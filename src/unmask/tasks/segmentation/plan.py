"""Chooses how a segmenter is trained, by its initial weights, the machine, and the number of images.

The published recipe (He et al. 2021, section 5, as in implus/mae_segmentation) is for 20,210 images of ADE20K: crops
of 512, batch 16, 160,000 steps, AdamW 1e-4, layer decay 0.65, weight decay 0.05, drop path 0.1. docs/segment.md has the
rules below as a table.
"""

import math

import numpy as np
from jaxtyping import Float

from unmask.data.modality import make_modality
from unmask.data.sheet import Sheet
from unmask.errors import UserError
from unmask.models.encoder import Encoder
from unmask.planning.batch import plan_parts, plan_rate
from unmask.planning.plan import Plan
from unmask.planning.runtime import plan_runtime
from unmask.runtime.machine import Machine
from unmask.tasks.segmentation.settings import SegmentSettings

PAPER_BATCH = 16
PAPER = "as in the public recipe on ADE20K"
HEAVIEST = 10.0  # weight of a class, at the most


def plan_segment(
    plan: Plan, count: int, encoder: Encoder, scratch: bool, sheet: Sheet, machine: Machine
) -> SegmentSettings:
    """Fills in what `plan` leaves open, for `count` segmented training images."""
    gpu = machine.device == "cuda"
    frozen = plan.choose("protocol", "full", "everything is trained") == "linear"
    light = "at most a tenth of the encoder's arithmetic; upernet is several times as much"
    head, why = ("upernet", PAPER) if gpu else ("light", light)
    plan.choose("head", "linear" if frozen else head, "what the features say by themselves" if frozen else why)
    crop = plan.settings["crop_size"] = list(
        plan.choose("crop_size", list(encoder.input_size), "what the encoder was made for")
    )
    divides = make_modality(encoder.modality).divides
    own = (min(sheet.median_size), "scenes keep their resolution, which crops show in part")
    usual_side, why = own if divides else (min(crop), "images' shorter side fits a crop, as in the public recipe")
    side = plan.choose("side", usual_side, why)
    if side < min(crop) / 4:
        raise UserError(f"--side {side} is less than a quarter of the crops of {crop}")
    most = 2 ** int(math.log2(max(2, count / 4)))
    plan.choose("batch", max(2, min(PAPER_BATCH if gpu else 8, most)), "at least four steps per epoch")
    usual = _epochs(count, gpu) * (2.0 if scratch else 1.0)
    epochs = plan.choose("epochs", usual, _why_epochs(count, scratch))
    plan.choose("warmup", round(0.05 * epochs, 2), "epochs; 5 % of the run")
    plan_parts(plan, machine)
    plan_rate(plan)
    _plan_optimizer(plan, encoder, scratch, frozen)
    _plan_augmentation(plan, encoder, sheet)
    plan.choose("dice", 0.0, "cross-entropy alone; 1 helps where objects are small")
    plan.choose("balanced", "off", "every pixel counts the same; on: classes by the root of how rare their pixels are")
    plan.choose("workers", min(8, machine.cores - 1) if gpu else 0, "as for pretraining")
    plan_runtime(plan, machine)
    return plan.fill(SegmentSettings)


def plan_crop(plan: Plan, encoder: Encoder) -> list[int]:
    """How much of a volume or a cloud is seen at once. Raises UserError, with the nearest sizes, where that is no whole
    number of the encoder's units."""
    crop = plan.choose("crop_size", list(encoder.input_size), "what the encoder was made for")
    crop = plan.settings["crop_size"] = list(make_modality(encoder.modality).full_size(crop))
    encoder.grid.covering(crop)
    return crop


def plan_epochs(plan: Plan, pretrained: float, counted: str, scratch: bool) -> None:
    """Length and warm-up for volumes or clouds. pretrained: epochs from a pretrained encoder; counted: how many samples
    of which kind."""
    more = ", half as many again from scratch" if scratch else ""
    usual = float(round(pretrained * (1.5 if scratch else 1.0)))
    epochs = plan.choose("epochs", usual, f"{counted}: the fewer, the more epochs{more}")
    plan.choose("warmup", round(0.05 * epochs, 2), "epochs; 5 % of the run")


def class_weights(pixels: Float[np.ndarray, "k"]) -> list[float]:
    """Weights of classes by their number of training pixels: the square root of the median over the class's own (Eigen
    & Fergus 2015), so that rare classes do not dominate; at most 10, and 0 for a class without pixels."""
    present = pixels[pixels > 0]
    weights = np.sqrt(np.median(present) / np.maximum(pixels, 1))
    return [float(min(HEAVIEST, w)) if n else 0.0 for w, n in zip(weights, pixels)]


def _epochs(count: int, gpu: bool) -> float:
    if gpu:
        return float(max(100, min(400, round(130 * math.sqrt(20_000 / count)))))
    return float(max(20, min(200, round(40 * math.sqrt(200 / count)))))


def _why_epochs(count: int, scratch: bool) -> str:
    return f"{count:,} images: the fewer, the more epochs" + (", twice as many from scratch" if scratch else "")


def _plan_optimizer(plan: Plan, encoder: Encoder, scratch: bool, frozen: bool) -> None:
    batch, narrow = plan.settings["batch"], encoder.dim < 384
    plan.choose("optimizer", "adamw", PAPER)
    peak = 1e-3 if narrow or frozen else 1e-4 * math.sqrt(batch / PAPER_BATCH)
    plan.choose(
        "lr", peak, "a head alone and narrow encoders train well at 1e-3" if narrow or frozen else f"{PAPER}, by batch"
    )
    decay = 1.0 if scratch or frozen else 0.9 if narrow else 0.65
    plan.choose(
        "layer_decay", decay, "none" if decay == 1.0 else "narrow encoders have still to learn" if narrow else PAPER
    )
    plan.choose("weight_decay", 0.05, PAPER)
    plan.choose("betas", (0.9, 0.999), PAPER)
    plan.choose("drop_path", 0.0 if frozen or narrow else 0.1, "narrow or frozen" if frozen or narrow else PAPER)


def _plan_augmentation(plan: Plan, encoder: Encoder, sheet: Sheet) -> None:
    plan.choose("scale", (0.5, 2.0), f"random factor on the image's size, {PAPER}")
    plan.choose("class_limit", 0.75, f"of a crop, drawn again up to ten times, {PAPER}")
    writing = sheet.share_extreme > 0.75
    plan.choose("flip", "off" if writing else "on", "mirrored images mean the same" if not writing else "text or scans")
    eight_bit = set(sheet.bits) <= {"1", "8"} and encoder.channels in (1, 3)
    why = PAPER if eight_bit else "not for deep or many-band images"
    if plan.choose("distort", "on" if eight_bit else "off", why) == "on" and not eight_bit:
        raise UserError("--distort on is for 8-bit images with 1 or 3 channels; these are others")
