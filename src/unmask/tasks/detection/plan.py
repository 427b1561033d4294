"""Chooses how a detector is built and trained, by its boxes, the number of images, and the machine.

ViTDet's recipe (Li et al. 2022) is for 118,000 images of COCO on 64 GPUs: inputs of 1024, 256 channels, large-scale
jitter, 100 epochs of batch 64 at 1e-4. docs/detect.md has the rule that scales it down as a table.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unmask.data.datasets.detection import Boxed
from unmask.errors import UserError
from unmask.models.encoder import Encoder
from unmask.planning.batch import plan_parts, plan_rate
from unmask.planning.plan import Plan
from unmask.planning.runtime import plan_runtime
from unmask.runtime.machine import Machine
from unmask.tasks.detection.settings import DetectSettings

LARGE = 5_000  # images from which on the jitter of the published recipe pays
LONGEST = {"cuda": 1024, "mps": 512, "cpu": 320}  # pixels of the longer side of an input
LSJ, MILD = (0.1, 2.0), (0.5, 1.5)
PASSES = {"cuda": 100.0, "mps": 30.0, "cpu": 20.0}  # epochs for FEW images
FEW = 200


@dataclass(frozen=True)
class Shapes:
    """What anchors and inputs must fit, over the training split."""

    images: np.ndarray  # n 2: heights and widths
    boxes: np.ndarray  # n 2: heights and widths, pixels of their images
    of: np.ndarray  # n: the image of each box

    @classmethod
    def of_boxed(cls, boxed: Boxed) -> "Shapes":
        scenes = [boxed.annotated.scenes[i] for i in boxed.splits["train"]]
        sizes = np.array([scene.stated for scene in scenes], float).reshape(-1, 2)
        numbered = [(i, o.box) for i, scene in enumerate(scenes) for o in scene.instances if not o.crowd]
        boxes = np.array([(box[3] - box[1], box[2] - box[0]) for _, box in numbered], float).reshape(-1, 2)
        return cls(sizes, boxes, np.array([i for i, _ in numbered], int))

    def scaled(self, size: Sequence[int]) -> np.ndarray:
        """Heights and widths of the boxes at an input size, which is transposed for upright images."""
        upright = self.images[:, 0] > self.images[:, 1]
        low, high = min(size), max(size)
        square = size[0] == size[1]
        room = np.where((upright | square)[:, None], [high, low], [low, high]).astype(float)
        rates = (room / self.images).min(axis=1)
        return self.boxes * rates[self.of][:, None]


def plan_detect(plan: Plan, boxed: Boxed, encoder: Encoder, scratch: bool, machine: Machine) -> DetectSettings:
    """Fills in what `plan` leaves open."""
    frozen = plan.choose("protocol", "full", "everything is trained") == "linear"
    count = len(boxed.splits["train"])
    plan.settings["standardize"] = True
    plan.reasons["standardize"] = "of pretrained features a few vary far more than the rest; as in linear probes"
    shapes = Shapes.of_boxed(boxed)
    plan.settings["masks"] = "on" if boxed.masks else "off"
    plan.reasons["masks"] = "objects have polygons or RLE" if boxed.masks else "boxes only"
    strides = _plan_pyramid(plan, encoder)
    _plan_input(plan, shapes, machine, round(2 * strides[-1]))
    _plan_anchors(plan, shapes.scaled(plan.settings["input_size"]), strides)
    _plan_heads(plan, count, machine)
    _plan_length(plan, count, scratch, machine)
    plan_parts(plan, machine)
    plan_rate(plan)
    _plan_optimizer(plan, encoder, scratch, frozen)
    _plan_augmentation(plan, boxed, count)
    plan.choose("workers", min(8, machine.cores - 1) if machine.device == "cuda" else 0, "as for pretraining")
    if machine.device == "cuda":
        plan.choose("compile", "on", "blocks compiled once; shapes in the heads change, which CUDA graphs do not bear")
    plan_runtime(plan, machine)
    return plan.fill(DetectSettings)


def fit_anchors(boxes: np.ndarray, strides: Sequence[float]) -> tuple[list[float], list[float], str]:
    """Sides of the anchors of each level, their ratios of height to width, and why. boxes: n 2, heights and widths."""
    sides, ratios = np.sqrt(boxes.prod(axis=1)), boxes[:, 0] / boxes[:, 1]
    low, high = (float(v) for v in np.quantile(sides, [0.05, 0.95]))
    base = min(8 * strides[0], max(2 * strides[0], 2.0 ** round(math.log2(max(low, 1.0)))))
    step = max(2.0, (high / base) ** (1 / len(strides)))
    anchors = [round(base * step**level, 1) for level in range(len(strides) + 1)]
    long = float((np.maximum(ratios, 1 / ratios) > 3).mean())
    chosen_ratios = [0.25, 0.5, 1.0, 2.0, 4.0] if long > 0.05 else [0.5, 1.0, 2.0]
    why = f"pixels, level by level; 90 % of the boxes are {low:.0f} to {high:.0f} px large at this size"
    return anchors, chosen_ratios, why


def _plan_pyramid(plan: Plan, encoder: Encoder) -> list[float]:
    """A part of unmask.pyramids with strides as near to 4, 8, 16, 32 as the patches allow."""
    own = encoder.feature_strides([encoder.num_maps - 1])[0]
    if len(set(encoder.feature_strides(range(encoder.num_maps)))) > 1:
        plan.choose("pyramid", "stages", "the encoder has stages of its own")
        return [float(stride) for stride in sorted(set(encoder.feature_strides(range(encoder.num_maps))))]
    first = next((scale for scale in (8, 4, 2, 1) if own % scale == 0 and own / scale >= 4), 1)
    scales = tuple(first / 2**level for level in range(4))
    text = "simple" if scales == (4, 2, 1, 0.5) else f"simple(scales={scales})".replace(".0", "")
    strides = [own / scale for scale in scales]
    why = f"as in ViTDet: strides {', '.join(f'{s:g}' for s in strides)} of patches of {own}"
    pyramid = plan.choose("pyramid", text, why)
    if pyramid in ("simple", "taps") and text != "simple":
        plan.settings["pyramid"] = text.replace("simple", pyramid)
    return strides


def _plan_input(plan: Plan, shapes: Shapes, machine: Machine, multiple: int) -> None:
    upright = float((shapes.images[:, 0] > shapes.images[:, 1]).mean())
    height, width = (float(v) for v in np.median(shapes.images, axis=0))
    if 0.2 < upright < 0.8:
        height = width = max(height, width)
    rate = min(1.0, LONGEST[machine.device] / max(height, width))
    size = [max(multiple, round(side * rate / multiple) * multiple) for side in (height, width)]
    what = f"about {rate:.0%} of the usual image, {height:.0f} x {width:.0f}; multiples of {multiple}"
    given = [int(side) for side in plan.choose("input_size", size, f"{what}; upright images turn it")]
    given = plan.settings["input_size"] = given * 2 if len(given) == 1 else given
    if any(side % multiple for side in given):
        near = " ".join(str(max(multiple, round(side / multiple) * multiple)) for side in given)
        sides = " ".join(map(str, given))
        raise UserError(f"--input-size must be multiples of {multiple} here, got {sides}; e.g. --input-size {near}")


def _plan_anchors(plan: Plan, boxes: np.ndarray, strides: Sequence[float]) -> None:
    anchors, ratios, why = fit_anchors(boxes, strides)
    why_ratios = "height / width; boxes are long" if len(ratios) > 3 else "height / width of anchors"
    chosen = {"anchors": plan.choose("anchors", anchors, why), "ratios": plan.choose("ratios", ratios, why_ratios)}
    if len(chosen["anchors"]) != len(strides) + 1:
        raise UserError(f"--anchors takes {len(strides) + 1} sides, one for each level from fine to coarse")
    plan.settings |= {name: [float(v) for v in values] for name, values in chosen.items()}


def _plan_heads(plan: Plan, count: int, machine: Machine) -> None:
    if machine.device == "cpu":
        width, rois, why = 64, 64, "channels of pyramid and heads: a CPU's time goes into them"
    elif count < LARGE:
        width, rois, why = 128, 256, f"channels of pyramid and heads: {count:,} images feed no more"
    else:
        width, rois, why = 256, 512, "channels of pyramid and heads, as in ViTDet"
    plan.choose("width", width, why)
    plan.choose("rois", rois, "boxes per image that the heads learn from")


def _plan_length(plan: Plan, count: int, scratch: bool, machine: Machine) -> None:
    batch = {"cuda": 8 if count < LARGE else 16, "mps": 4}.get(machine.device, 2)
    plan.choose("batch", max(1, min(batch, count)), "small: more updates in the same time")
    epochs = max(12.0, PASSES[machine.device] * math.sqrt(FEW / count))
    epochs = float(round(min(epochs, 5 * PASSES[machine.device])) * (2 if scratch else 1))
    why = f"{count:,} images with boxes: the fewer, the more epochs"
    epochs = plan.choose("epochs", epochs, why + (", twice as many from scratch" if scratch else ""))
    plan.choose("warmup", round(0.05 * epochs, 2), "epochs; 5 % of the run")


def _plan_optimizer(plan: Plan, encoder: Encoder, scratch: bool, frozen: bool) -> None:
    narrow = encoder.dim < 384
    plan.choose("optimizer", "adamw", "as in ViTDet")
    rate = 5e-4 if narrow else 1e-4 * math.sqrt(plan.settings["batch"] / 4)
    plan.choose(
        "lr", rate, "narrow encoders train well at it" if narrow else "ViTDet's 1e-4 of batch 64, but few steps"
    )
    plan.choose("weight_decay", 0.1, "as in ViTDet")
    decay = 1.0 if scratch or frozen else 0.7
    plan.choose("layer_decay", decay, "as in ViTDet for ViT-B" if decay < 1 else "no layer learnt anything to keep")
    plan.choose("drop_path", 0.0 if frozen or encoder.num_blocks < 8 else 0.1, "as in ViTDet; none for few blocks")
    plan.choose("betas", (0.9, 0.999), "as in ViTDet")
    plan.choose("clip", 1.0, "the gradient of few boxes is uneven")


def _plan_augmentation(plan: Plan, boxed: Boxed, count: int) -> None:
    low, high = LSJ if count >= LARGE else MILD
    why = "large-scale jitter, as in ViTDet" if count >= LARGE else f"below {LARGE:,} images milder than ViTDet's"
    jitter = plan.choose("jitter", [low, high], f"scales, by chance; {why}")
    plan.settings["jitter"] = [float(v) for v in jitter]
    writing = boxed.sheet.share_extreme > 0.75
    plan.choose("flip", "off" if writing else "on", "mirrored images mean the same" if not writing else "writing")
