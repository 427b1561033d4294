"""Chooses how a segmenter of volumes is trained, by its initial weights, the machine, and the number of volumes.

After nnU-Net (Isensee et al. 2021, https://doi.org/10.1038/s41592-020-01008-z): Dice and cross-entropy together, boxes
of one size at random places, turned, scaled and with other contrast; with AdamW and layer decay, as encoders want it.
"""

import math

from unmask.data.modality import make_modality
from unmask.data.sheet import Sheet
from unmask.errors import UserError
from unmask.models.encoder import Encoder
from unmask.planning.batch import plan_parts, plan_rate
from unmask.planning.plan import Plan
from unmask.planning.runtime import plan_runtime
from unmask.runtime.machine import Machine
from unmask.tasks.segmentation.plan import plan_crop, plan_epochs
from unmask.tasks.segmentation.volumes.settings import VolumeSettings

PAPER = "as in nnU-Net"
WIDEST = 2.0  # boxes along the longest side of a volume, where nothing else is asked for


def plan_volumes(
    plan: Plan, count: int, encoder: Encoder, scratch: bool, sheet: Sheet, machine: Machine
) -> VolumeSettings:
    """Fills in what `plan` leaves open, for `count` labelled training volumes."""
    gpu, narrow = machine.device == "cuda", encoder.dim < 384
    if plan.settings.get("class_limit") is not None:
        raise UserError("--class-limit is for images; of volumes, a third of the boxes is centred on a structure")
    frozen = plan.choose("protocol", "full", "everything is trained") == "linear"
    why = "what the features say by themselves" if frozen else "the features of four depths, and the voxels themselves"
    plan.choose("head", "linear" if frozen else "unetr", why)
    crop = plan_crop(plan, encoder)
    _plan_share(plan, sheet, crop)
    most = 2 ** int(math.log2(max(2, count / 4)))
    plan.choose("batch", max(2, min(8 if gpu else 4, most)), "at least four steps per epoch")
    plan_epochs(plan, _epochs(count, gpu), f"{count:,} volumes", scratch)
    plan_parts(plan, machine)
    plan_rate(plan)
    plan.choose("optimizer", "adamw", "the usual one of transformers")
    learns_fast = narrow or frozen
    why = "narrow encoders and heads alone learn faster than at 1e-3" if learns_fast else "for wide encoders"
    plan.choose("lr", 3e-3 if learns_fast else 3e-4, why)
    decay = 1.0 if scratch or frozen else 0.9 if narrow else 0.75
    plan.choose("layer_decay", decay, "none" if decay == 1.0 else "early layers change less than late ones")
    plan.choose("weight_decay", 0.05, "the usual one of transformers")
    plan.choose("betas", (0.9, 0.999), "the usual ones")
    plan.choose("drop_path", 0.0 if frozen or narrow else 0.1, "narrow or frozen" if frozen or narrow else "as in MAE")
    plan.choose("clip", 1.0, "Dice has steep gradients where a structure is small")
    plan.choose("scale", (0.8, 1.25), "random factor on a volume's size; larger ones change what is what")
    plan.settings["turn"] = 15.0
    plan.reasons["turn"] = f"degrees around each axis at most, {PAPER} for boxes that are no cubes"
    flip = make_modality(encoder.modality).augmentation(sheet, encoder.channels)["flip"]
    plan.choose("flip", flip.value, flip.reason)
    plan.choose("distort", "on", f"contrast, brightness and gamma, {PAPER}")
    plan.choose("dice", 1.0, f"Dice and cross-entropy together, {PAPER}: structures are small")
    plan.choose("balanced", "off", "Dice counts every class the same already")
    plan.choose("workers", min(8, machine.cores - 1) if gpu else 0, "as for pretraining")
    plan_runtime(plan, machine)
    return plan.fill(VolumeSettings)


def _plan_share(plan: Plan, sheet: Sheet, crop: list[int]) -> None:
    """How large volumes are seen: as they are, where boxes are no more than a half smaller along each axis."""
    size = sheet.median_size
    fits = min(1.0, *(WIDEST * side / have for side, have in zip(crop, size)))
    shorter = min(size)
    side = plan.choose(
        "side",
        max(1, round(fits * shorter)),
        "voxels of the median volume's shorter side: "
        + ("as it is" if fits == 1 else f"shrunk, so that it is at most {WIDEST:g} boxes long; more shows more"),
    )
    plan.settings["share"] = share = 1.0 if side == shorter else side / shorter
    plan.reasons["share"] = f"by which volumes of {' x '.join(map(str, size))} are resized, all alike"
    if any(share * have < side / 4 for have, side in zip(size, crop)):
        raise UserError(f"--side {side} makes volumes of less than a quarter of the boxes of {crop}")


def _epochs(count: int, gpu: bool) -> float:
    if gpu:
        return max(50.0, min(600.0, 150 * math.sqrt(100 / count)))
    return max(15.0, min(200.0, 40 * math.sqrt(40 / count)))
