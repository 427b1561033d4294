"""Chooses how a segmenter of clouds is trained, by its initial weights, the machine, and the number of clouds.

Point-MAE (Pang et al. 2022, https://arxiv.org/abs/2203.06604) segments the parts of 12,137 shapes in 300 epochs, batch
16, AdamW at 2e-4; fewer clouds are passed over more often. docs/modalities.md has a section on it.
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
from unmask.tasks.segmentation.points.settings import CloudSettings

PAPER = "as in Point-MAE"
OTHERS = {  # options of `--to segment` that mean nothing here
    "side": "clouds are brought into a sphere of radius 1",
    "scale": "clouds are stretched by 0.8 to 1.25 along each axis",
    "class_limit": "clouds are seen whole",
}


def plan_clouds(
    plan: Plan, count: int, encoder: Encoder, scratch: bool, sheet: Sheet, machine: Machine
) -> CloudSettings:
    """Fills in what `plan` leaves open, for `count` labelled training clouds."""
    _refuse_others(plan)
    gpu, narrow = machine.device == "cuda", encoder.dim < 384
    frozen = plan.choose("protocol", "full", "everything is trained") == "linear"
    why = "what the features say by themselves" if frozen else "features of four depths, and the points themselves"
    plan.choose("head", "linear" if frozen else "pointwise", why)
    plan_crop(plan, encoder)
    most = 2 ** int(math.log2(max(2, count / 4)))
    plan.choose("batch", max(2, min(16, most)), f"{PAPER}, and at least four steps per epoch")
    plan_epochs(plan, _epochs(count, gpu), f"{count:,} clouds", scratch)
    plan_parts(plan, machine)
    plan_rate(plan)
    plan.choose("optimizer", "adamw", PAPER)
    peak = 1e-3 if narrow or frozen else 2e-4
    plan.choose("lr", peak, "narrow encoders and heads alone train well at 1e-3" if peak == 1e-3 else PAPER)
    decay = 1.0 if scratch or frozen else 0.9 if narrow else 0.75
    plan.choose("layer_decay", decay, "none" if decay == 1.0 else "early layers change less than late ones")
    plan.choose("weight_decay", 0.05, PAPER)
    plan.choose("betas", (0.9, 0.999), "the usual ones")
    plan.choose("drop_path", 0.0 if frozen or narrow else 0.1, "narrow or frozen" if frozen or narrow else PAPER)
    flip = make_modality(encoder.modality).augmentation(sheet, encoder.channels)["flip"]
    plan.choose("flip", flip.value, flip.reason)
    plan.choose("dice", 0.0, f"cross-entropy alone, {PAPER}; 1 helps where parts are small")
    plan.choose("balanced", "off", "every point counts the same; on: classes by the root of how rare their points are")
    plan.choose("workers", min(8, machine.cores - 1) if gpu else 0, "as for pretraining")
    plan_runtime(plan, machine)
    return plan.fill(CloudSettings)


def _refuse_others(plan: Plan) -> None:
    for name, reason in OTHERS.items():
        if plan.settings.get(name) is not None:
            raise UserError(f"--{name.replace('_', '-')} is not for clouds: {reason}")
    if plan.settings.get("distort") == "on":
        raise UserError("--distort on is for images; clouds are turned, stretched and jittered as in pretraining")
    if plan.settings.get("flip") == "on":
        raise UserError("--flip on is not for clouds: a mirrored shape may be another one")


def _epochs(count: int, gpu: bool) -> float:
    if gpu:
        return max(100.0, min(600.0, 300 * math.sqrt(2000 / count)))
    return max(15.0, min(200.0, 40 * math.sqrt(60 / count)))
