"""How careful a run is: checkpoints kept, when a loss is a spike, how often to go back, and determinism to the bit."""

import os
import shutil
from pathlib import Path

from torch import nn

from unmask.errors import UserError, many
from unmask.planning.plan import Plan
from unmask.training.settings import Fit
from unmask.weights.files import ENCODER

SPIKE, KEEP_LAST, ROLLBACKS = 10.0, 2, 3
MOMENTS = 3  # times the weights: themselves and AdamW's two moments


def plan_caution(plan: Plan) -> None:
    """Fills in what was left open, with reasons."""
    plan.choose("keep_last", KEEP_LAST, "newest checkpoints, so that a damaged one costs little")
    plan.choose(
        "spike",
        SPIKE,
        "a step is left out if its loss is so many deviations above recent ones, and above twice their median",
    )
    plan.choose("rollbacks", ROLLBACKS, "times to go back to a good state when steps go wrong in a row")
    if plan.settings.get("deterministic"):
        plan.reasons["deterministic"] = (
            "asked for: the same bytes every time on the same machine and versions; slower on a GPU, and operations"
            " that cannot be are refused"
        )


def require_writable(out: Path) -> None:
    """Raises UserError, before anything slow, for a folder that nothing can be written into."""
    parent = next(folder for folder in (out, *out.resolve().parents) if folder.exists())
    if not os.access(parent, os.W_OK):
        raise UserError(f"{out} cannot be written: {parent} is read-only, or not yours; give another folder with --out")


def weight_bytes(model: nn.Module) -> int:
    """What the parameters take, once."""
    return sum(p.numel() * p.element_size() for p in model.parameters())


def short_of_room(objective: nn.Module, training: Fit, out: Path) -> str | None:
    """A sentence where the disk has no room for all checkpoints that the run is to keep, else nothing."""
    weights = weight_bytes(objective)
    lasting = training.steps // training.keep_every if training.keep_every and not training.lasting_copies else 0
    count, size = training.keep_last + lasting + 1, MOMENTS * weights  # and the one being written
    free, copies = shutil.disk_usage(out).free, training.lasting_copies
    if count * size + copies * weights <= free:
        return None
    besides = f" and {copies} of {weights / 2**20:,.0f} MB" if copies else ""
    return (
        f"{count} checkpoints of {size / 2**20:,.0f} MB{besides} do not fit into the {free / 2**20:,.0f} MB free at"
        f" {out}: make room, or keep fewer with --keep-last and --keep-every"
    )


def kept(out: Path) -> str:
    """What of the checkpoints of a finished run is kept, and how much that is."""
    names = ", ".join(sorted(path.name for path in out.glob("*.ckpt") if not path.name.startswith("step_")))
    sizes = {file.stat().st_ino: file.stat().st_size for file in out.rglob("*") if file.is_file()}  # links count once
    copies, encoder = len(list(out.glob("step_*.ckpt"))), (out / ENCODER).stat().st_size
    total = sum(sizes.values())
    return (
        f"Kept: {names} to draw and to go on from, {many(copies, 'lasting checkpoint')}, {ENCODER}; in all"
        f" {total / 1e6:,.0f} MB, {total / encoder:.1f} times the encoder"
    )
