"""How pictures get to the device in time: from memory or decoded, by how many processes; what to do when it waits."""

import math
from collections.abc import Iterable
from typing import Any

from unmask.errors import UserError
from unmask.jpeg import decoder_name
from unmask.launch import launch
from unmask.plan import Plan
from unmask.runtime import Machine
from unmask.sheet import Sheet

SMALL = (
    64  # pixels: pictures up to this side may live on the device; larger ones are cut in less time than they take up
)
MEMORY_SHARE = 0.2  # of the device's free memory that pictures may take there
WAITING = 0.1  # share of the time above which a run is told what to do
SPARE = 1.5  # times as many processes as the measured speed asks for, since pictures and disks differ


def plan_supply(plan: Plan, sheet: Sheet, machine: Machine, packed: str | None, stream: bool = False) -> None:
    """Chooses the resize of crops, and whether pictures are kept on the device. packed: as of a source; stream: the
    pictures come one after the other, from far away."""
    settings = plan.settings
    quick = packed in ("jpeg", "raw") and settings["crop_kind"] != "whole"
    why = "a pack is for speed: OpenCV's bicubic where crops hardly shrink" if quick else "antialiased bicubic"
    plan.choose("resize", "fast" if quick else "exact", f"{why}; JPEG by {decoder_name()}")
    if settings["views_per_image"] > 1:
        plan.reasons["views_per_image"] = "asked for: crops of each decoded picture; epochs count crops"
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
    """Chooses the processes that prepare batches, from the seconds of one core that a step's pictures take and those
    that the rest of the step takes; returns the seconds that a step will take in all."""
    if plan.settings["in_memory"] == "on":
        plan.choose("workers", 0, "the pictures are there already")
        return step + preparing
    measured = f"a batch takes {_ms(preparing)} of a core, a step {_ms(step)}"
    if machine.device == "cpu":
        share = preparing / max(preparing + step, 1e-9)
        plan.choose(
            "workers", 0, f"the cores are busy with the model; preparing pictures takes {share:.0%} of the time"
        )
    else:
        wanted = max(1, math.ceil(SPARE * preparing / max(step, 1e-9)))
        most = max(1, machine.cores // launch().here - 1)
        short = f"; {wanted} would be needed, more cores are not there" if wanted > most else ""
        plan.choose("workers", min(wanted, most), measured + short)
    workers = plan.settings["workers"]
    return max(step, preparing / workers) if workers else step + preparing


def waiting_share(records: Iterable[dict[str, Any]]) -> float | None:
    """Of a run's whole time, the part spent waiting for data; None where that was not recorded."""
    waited, before = 0.0, 0.0
    known = False
    for record in records:
        if "waiting" in record and "seconds" in record:
            waited += record["waiting"] * max(0.0, record["seconds"] - before)
            before, known = record["seconds"], True
    return waited / before if known and before > 0 else None


def waiting_advice(share: float | None, settings: dict[str, Any], packed: str | None, cores: int) -> str | None:
    """What would feed the device faster, where it waits more than a tenth of the time."""
    if share is None or share <= WAITING:
        return None
    ways = []
    workers, stream = settings.get("workers") or 0, settings.get("shuffle_buffer") is not None
    if settings.get("device") != "cpu" and workers < cores - 1 and settings.get("in_memory") != "on":
        ways.append(f"more processes (--workers {min(cores - 1, max(2, 2 * workers))})")
    if stream:
        ways.append("copy the shards onto a disk of this machine, or pack what fits there (unmask pack)")
    elif packed is None:
        ways.append("pack the pictures once (unmask pack DATA data.pack, then train on data.pack)")
    elif packed != "raw":
        ways.append("pack them as pixels (unmask pack DATA data.pack --format raw)")
    if settings.get("views_per_image", 1) == 1:
        ways.append("take several crops of each decoded picture (--views-per-image 4)")
    if not stream and settings.get("in_memory") == "off" and max(settings["image_size"]) <= SMALL:
        ways.append("keep them on the device if they are small and of one size (--in-memory on)")
    return f"{share:.0%} of the time went into waiting for data. What helps: {'; '.join(ways)}." if ways else None


def _obstacles(settings: dict[str, Any], sheet: Sheet, machine: Machine) -> tuple[str | None, str | None]:
    """Why pictures cannot be kept on the device, and why they rather should not."""
    height, width = sheet.max_size
    num_bytes = sheet.count * settings["channels"] * height * width
    never = rather_not = None
    if tuple(sheet.min_size) != tuple(sheet.max_size):
        never = "the pictures differ in size"
    elif sheet.checked < sheet.count:
        never = "not all pictures were looked at, so their sizes may differ"
    elif set(sheet.bits) - {"1", "8"}:
        never = "the pictures have more than 8 bits per value"
    elif settings["jitter"] or settings["crop_kind"] == "whole":
        never = "jitter and whole pictures are made one by one"
    elif max(height, width) > SMALL:
        rather_not = f"pictures above {SMALL} px are decoded as they are needed"
    elif num_bytes > MEMORY_SHARE * machine.memory:
        rather_not = f"{num_bytes / 2**20:,.0f} MB are more than a fifth of the free memory"
    return never, rather_not


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms"
