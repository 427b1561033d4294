"""Chooses how a classifier is trained, by protocol, initial weights and number of labels.

The published recipes are for 1.28 million images (He et al. 2021, tables 9 to 11). With few labels, epochs are cheap
and mixup makes unmixed images rare, so: more epochs, no mixup. docs/transfer.md has the rule as a table.
"""

import math

from unmask.data.modality import IMAGE, make_modality
from unmask.data.sheet import Sheet
from unmask.errors import UserError
from unmask.models.encoder import Encoder
from unmask.planning.batch import plan_parts, plan_rate
from unmask.planning.plan import Plan
from unmask.planning.runtime import plan_runtime
from unmask.runtime.machine import Machine
from unmask.tasks.classification.settings import ClassifySettings

MIXING = 5_000  # images from which mixup and cutmix pay
PAPER_BATCH = 1024
RANDAUG = "rand-m9-mstd0.5-inc1"


def plan_transfer(
    plan: Plan, count: int, encoder: Encoder, scratch: bool, sheet: Sheet, machine: Machine
) -> ClassifySettings:
    """Fills in what `plan` leaves open, for `count` labelled training images."""
    protocol = plan.choose("protocol", "full", "everything is trained")
    head_only = protocol in ("linear", "attentive")
    if plan.settings.get("blocks") is not None and protocol != "partial":
        raise UserError(f"--blocks is for --protocol partial; with {protocol} it has no effect: take it out")
    pooling = plan.choose("pooling", "attentive" if protocol == "attentive" else "mean", "all patches count")
    if protocol == "attentive" and pooling != "attentive":
        raise UserError(f"--protocol attentive trains its own pooling; take --pooling {pooling} out")
    plan.settings["norm"] = _norm(protocol, pooling, encoder)
    _plan_length(plan, count, scratch, machine)
    plan_parts(plan, machine)
    plan_rate(plan)
    _plan_optimizer(plan, encoder, scratch, head_only)
    _plan_augmentation(plan, count, encoder, sheet, head_only)
    _plan_clips(plan, encoder, sheet)
    plan.choose("balanced", "off", "every sample once per epoch")
    plan.choose("workers", min(8, machine.cores - 1) if machine.device == "cuda" else 0, "as for pretraining")
    plan_runtime(plan, machine)
    if protocol == "partial" and plan.settings.get("blocks") is None:
        plan.settings["blocks"] = 1.0
    return plan.fill(ClassifySettings)


def _plan_clips(plan: Plan, encoder: Encoder, sheet: Sheet) -> None:
    """Views of a sample in tests. Raises UserError where several are asked for of what has one."""
    modality, size = make_modality(encoder.modality), encoder.grid.size
    choice = modality.num_views(sheet, size)
    if choice is not None:
        plan.choose("clips", *choice)
    elif plan.settings.get("clips") not in (None, 1):
        modality.views_at_test(size, plan.settings["clips"])  # raises


def _norm(protocol: str, pooling: str, encoder: Encoder) -> str:
    """Between pooling and head. Class token and query come behind the encoder's norm, and a second one would fit no
    model of timm or transformers; a mean in fine-tuning comes before it. A network that sees whole images has its own
    pooling, and its library puts the head right behind it."""
    if protocol in ("linear", "attentive"):
        return "batch"
    return "layer" if pooling == "mean" and not encoder.staged else "none"


def usual_epochs(count: int, device: str) -> int:
    """Passes over so many labelled images, behind a pretrained encoder."""
    least = 50 if device == "cuda" and count > 100_000 else 10
    return max(least, min(150, round(20 * math.sqrt(2000 / count))))


def _plan_length(plan: Plan, count: int, scratch: bool, machine: Machine) -> None:
    largest = 256 if machine.device == "cuda" else 64
    batch = max(8, min(largest, 2 ** int(math.log2(max(8, count / 8)))))
    plan.choose("batch", batch, "at least eight steps per epoch, where there are enough images")
    epochs = usual_epochs(count, machine.device) * (2 if scratch else 1)
    why = f"{count:,} labelled images: the fewer, the more epochs"
    epochs = plan.choose("epochs", float(epochs), why + (", twice as many from scratch" if scratch else ""))
    plan.choose("warmup", round(0.05 * epochs, 2), "epochs; 5 % of the run, as in MAE's fine-tuning")


def _plan_optimizer(plan: Plan, encoder: Encoder, scratch: bool, head_only: bool) -> None:
    batch = plan.settings["batch"]
    if head_only:
        usual = "sgd" if plan.settings["protocol"] == "linear" else "adamw"
        sgd = plan.choose("optimizer", usual, "for a head alone") != "adamw"
        plan.choose("lr", 0.1 * batch / 256 if sgd else 1e-3, "for a head alone")
        plan.choose("weight_decay", 0.0 if sgd else 0.05, "as in MAE's linear evaluation" if sgd else "for a query")
        plan.choose("layer_decay", 1.0, "no layer but the head is trained")
        plan.choose("drop_path", 0.0, "the encoder is frozen")
    else:
        plan.choose("optimizer", "adamw", "as in MAE's fine-tuning")
        peak = (1.6e-3 if scratch else 4e-3) * math.sqrt(batch / (4096 if scratch else PAPER_BATCH))
        if encoder.dim < 384:
            peak = 1e-3
        plan.choose("lr", peak, "MAE's, times the root of the batch; narrow encoders train well at 1e-3")
        decay = 1.0 if scratch else 0.75
        plan.choose("layer_decay", decay, "none from scratch" if scratch else "lower layers keep what they learnt")
        plan.choose(
            "weight_decay", 0.3 if scratch else 0.05, "as in MAE's training from scratch" if scratch else "MAE's"
        )
        rate = 0.0 if encoder.staged else 0.1
        plan.choose("drop_path", rate, "as in MAE's fine-tuning" if rate else "as convolutional networks are trained")
    plan.choose("betas", (0.9, 0.95) if scratch else (0.9, 0.999), "as in MAE's recipes")


def _plan_augmentation(plan: Plan, count: int, encoder: Encoder, sheet: Sheet, head_only: bool) -> None:
    mixing = count >= MIXING and not head_only
    why = f"from {MIXING:,} images on, and not for a frozen encoder"
    images = encoder.modality == IMAGE
    plan.choose("mixup", 0.8 if mixing else 0.0, why)
    plan.choose("cutmix", 1.0 if mixing and images else 0.0, why if images else "pastes parts of images")
    plan.choose("smoothing", 0.0 if head_only else 0.1, "of labels, as in MAE's fine-tuning")
    if not images:
        plan.choose("randaug", "off", "it is for images")
        plan.choose("erase", 0.0, "it is for images")
        plan.choose_all(make_modality(encoder.modality).augmentation(sheet, encoder.channels))
        return
    eight_bit = set(sheet.bits) <= {"1", "8"} and encoder.channels in (1, 3) and 0 <= sheet.value_range[0]
    writing = sheet.share_extreme > 0.75
    rand = RANDAUG if eight_bit and not head_only and not writing else "off"
    why = (
        "as in MAE's fine-tuning"
        if rand != "off"
        else "not for a frozen encoder, nor for digits, deep or many-band data"
    )
    plan.choose("randaug", rand, why)
    plan.choose("erase", 0.0, "its effect is below the noise")
    small = 0.5 if writing or encoder.channels == 1 else 0.2
    plan.choose("crop", small, "least share of the image's area in a crop")
    plan.choose("flip", "off" if writing or encoder.channels == 1 else "on", "mirrored images mean the same")
