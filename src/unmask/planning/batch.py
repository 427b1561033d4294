"""Chooses the batch size, the number of micro-batches, and the learning rate that goes with it."""

import math
from collections.abc import Sequence

from unmask.data.modality import make_modality
from unmask.data.sheet import Sheet
from unmask.planning.plan import Plan
from unmask.runtime.distributed.launcher import launch
from unmask.runtime.machine import Machine
from unmask.training.schedule import peak_rate

LARGEST = 256  # images per micro-batch where running out of memory kills the process instead of raising an error


def plan_rate(plan: Plan) -> None:
    """Converts a rate per 256 images to one for the batch: the linear rule (Goyal et al. 2017)."""
    blr, batch = plan.settings.pop("blr", None), plan.settings["batch"]
    if blr is not None:
        why = plan.reasons.pop("blr", "asked for")
        plan.choose("lr", blr * batch / 256, f"{why}: {blr:g} x {batch:,} / 256")
    plan.settings["blr"] = None


def plan_parts(plan: Plan, machine: Machine) -> None:
    """Number of micro-batches per batch; on a GPU the trial determines whether more are needed."""
    batch = plan.settings["batch"]
    per_device = batch // launch().world
    whole, crops = (
        machine.device == "cuda" or per_device <= LARGEST or not plan.divisible,
        plan.settings.get("views_per_image", 1),
    )
    counts = range(-(-per_device // LARGEST), per_device // crops + 1)
    parts = 1 if whole else next((n for n in counts if per_device % (n * crops) == 0), 1)
    plan.choose("accumulate", parts, "the batch fits" if whole else f"parts of {per_device // parts}, to save memory")


def num_units(size: Sequence[int], unit: int | Sequence[int]) -> int:
    """Units of an input."""
    sides = [unit] * len(size) if isinstance(unit, int) else unit
    return math.prod(side // part for side, part in zip(size, sides))


def plan_batch(plan: Plan, sheet: Sheet, machine: Machine, width: int) -> None:
    most, usual = {"cpu": (32, 256), "mps": (256, 256)}.get(machine.device, (1024, 784))  # images, and their units
    size, modality = plan.settings["image_size"], make_modality(plan.settings["modality"])
    units = num_units(size, modality.unit(plan.settings["patch_size"], tuple(size)))
    large = units > usual
    most = max(4, most // 2 ** math.ceil(math.log2(units / usual))) if large else most
    fits = 2 ** int(math.log2(max(sheet.count / 4, 16)))  # four or more steps per epoch
    world = launch().world
    why = f"images of {units:,} patches are large" if large else "more updates in the same time"
    batch, why = min(most, fits), why if most <= fits else f"for {modality.many(sheet.count)}"
    if world > 1:
        batch = max(1, min(most * world, 4096, max(fits, world)) // world) * world
        why = f"over all devices, {batch // world} on each"
    crops, parts = plan.settings.get("views_per_image", 1), plan.settings["accumulate"] or 1
    if batch % (equal := world * crops * parts):
        batch, why = max(1, batch // equal) * equal, f"{why}; parts and crops of an image go evenly into it"
    plan.choose("batch", batch, why)
    plan_parts(plan, machine)
    plan_rate(plan)
    rule = (
        "narrow encoders train well at a high rate"
        if width < 384
        else "MAE's 2.4e-3 at batch 4096, times the root of the share"
    )
    plan.choose("lr", float(f"{peak_rate(plan.settings['batch'], width):.2g}"), rule)
