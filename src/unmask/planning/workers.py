"""How images get to the device in time: from memory or decoded, by how many processes; what to do when it waits."""

import math
from typing import Any

from unmask.data.codecs.jpeg import decoder_name
from unmask.data.loaders.on_device import SMALL
from unmask.data.modality import IMAGE
from unmask.data.settings import cheaper
from unmask.data.sheet import Sheet
from unmask.errors import UserError
from unmask.planning.plan import Plan
from unmask.runtime.distributed.launcher import launch
from unmask.runtime.machine import Machine

MEMORY_SHARE = 0.2  # of the device's free memory that images may take there
MUCH = 0.3  # of the time that reading may take before the plan says what to do
SPARE = 1.5  # times as many processes as the measured speed asks for, since images and disks differ


def plan_supply(plan: Plan, sheet: Sheet, machine: Machine, packed: str | None, stream: bool = False) -> None:
    """Chooses the resize of crops, and whether images are kept on the device. packed: as of a source; stream: the
    images come one after the other, from far away."""
    settings = plan.settings
    quick = packed in ("jpeg", "raw") and settings["crop_kind"] != "whole"
    why = "a pack is for speed: OpenCV's bicubic where crops hardly shrink" if quick else "antialiased bicubic"
    plan.choose("resize", "fast" if quick else "exact", f"{why}; JPEG by {decoder_name()}")
    if settings["views_per_image"] > 1:
        plan.reasons["views_per_image"] = "asked for: crops of each decoded image; epochs count crops"
    never, rather_not = _obstacles(settings, sheet, machine)
    never = "a stream is read as it comes" if stream else never
    if settings["in_memory"] == "on" and never:
        raise UserError(f"--in-memory on: {never}; leave it out")
    if never or rather_not:
        plan.choose("in_memory", "off", str(never or rather_not))
    else:
        size = sheet.max_size
        plan.choose(
            "in_memory", "on", f"all are {size[0]} x {size[1]} and fit: crops are cut for whole batches at once"
        )


def plan_workers(plan: Plan, machine: Machine, preparing: float, step: float) -> float:
    """Chooses the processes that prepare batches, from the seconds of one core that a step's images take and those
    that the rest of the step takes; returns the seconds that a step will take in all."""
    if plan.settings["in_memory"] == "on":
        plan.choose("workers", 0, "the images are there already")
        return step + preparing
    measured = f"a batch takes {_ms(preparing)} of a core, a step {_ms(step)}"
    if machine.device == "cpu":
        share = preparing / max(preparing + step, 1e-9)
        why = f"the cores are busy with the model; preparing data takes {share:.0%} of the time"
        plan.choose("workers", 0, why + _remedy(plan, share))
    else:
        wanted = max(1, math.ceil(SPARE * preparing / max(step, 1e-9)))
        most = max(1, machine.cores // launch().here - 1)
        short = f"; {wanted} would be needed, more cores are not there" if wanted > most else ""
        waits = 1 - step / max(step, preparing / most)  # share of the time in which the device has nothing to do
        plan.choose("workers", min(wanted, most), measured + short + _remedy(plan, waits))
    workers = plan.settings["workers"]
    return max(step, preparing / workers) if workers else step + preparing


def _obstacles(settings: dict[str, Any], sheet: Sheet, machine: Machine) -> tuple[str | None, str | None]:
    """Why images cannot be kept on the device, and why they rather should not."""
    if len(sheet.max_size) != 2 or sheet.modality != IMAGE:
        return f"{sheet.word}s are cut one by one, not on the device", None
    height, width = sheet.max_size
    num_bytes = sheet.count * settings["channels"] * height * width
    never = rather_not = None
    if tuple(sheet.min_size) != tuple(sheet.max_size):
        never = "the images differ in size"
    elif sheet.checked < sheet.count:
        never = "not all images were looked at, so their sizes may differ"
    elif set(sheet.bits) - {"1", "8"}:
        never = "the images have more than 8 bits per value"
    elif settings["crop_kind"] == "whole":
        never = "whole images are made one by one"
    elif max(height, width) > SMALL:
        rather_not = f"images above {SMALL} px are decoded as they are needed"
    elif num_bytes > MEMORY_SHARE * machine.memory:
        rather_not = f"{num_bytes / 2**20:,.0f} MB are more than a fifth of the free memory"
    return never, rather_not


def _remedy(plan: Plan, share: float) -> str:
    """What makes reading cheaper, where it takes more than `MUCH` of the time."""
    if share <= MUCH:
        return ""
    idle = "; --workers 1 or more, if cores are idle meanwhile" if not plan.settings.get("workers") else ""
    return f", which is much{idle}; cheaper to read: {cheaper(plan.settings['modality'], plan.settings['image_size'])}"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms"
