"""The lesson of `transfer --to detect`: boxes, and masks where there are some. Li et al. 2022 (ViTDet)."""

from pathlib import Path
from typing import Any, ClassVar

import torch
from rich.console import Console
from torch import nn

from unmask.data.datasets.detection import Boxed
from unmask.data.loaders.map_style import Loader
from unmask.data.transforms.detection import Jitter, collate
from unmask.errors import UserError
from unmask.files import RESULT, write_json
from unmask.models.detections import Detections
from unmask.models.detector import Detector, shape_of
from unmask.models.encoder import Encoder
from unmask.models.state import copied
from unmask.plain import texts
from unmask.planning.plan import Plan
from unmask.runtime.machine import Machine, autocast_dtype
from unmask.seeds import mix
from unmask.tasks.detection.evaluate import box_headline, judge_split
from unmask.tasks.detection.objective import PROTOCOLS, Detect
from unmask.tasks.detection.plan import plan_detect
from unmask.tasks.detection.predict import find_objects
from unmask.tasks.task import Lesson, looking

__all__ = ["DetectLesson"]
MAX_SIDE = 2048  # pixels of an image's shorter side that are kept
WATCHED = ("map", "map50")


class DetectLesson(Lesson):
    name = "detect"
    looks: ClassVar[int] = 20

    def __init__(self, options: Any, encoder: Encoder, console: Console):
        if options.protocol not in (None, *PROTOCOLS):
            raise UserError(f"--protocol {options.protocol}: to detect there are {' and '.join(PROTOCOLS)}")
        if options.balanced == "on":
            raise UserError("--balanced on is for --to classify; an image with boxes has no one class: take it out")
        self.encoder, self.boxed = encoder, read_boxed(options, encoder, console)
        self.sheet, self.count = self.boxed.sheet, len(self.boxed.splits["train"])
        self.has_val = bool(self.boxed.splits["val"])

    def plan(self, plan: Plan, scratch: bool, machine: Machine) -> None:
        plan_detect(plan, self.boxed, self.encoder, scratch, machine)

    def facts(self) -> dict[str, Any]:
        return {"classes": self.boxed.classes, "ids": self.boxed.ids}

    def data_facts(self) -> dict[str, Any]:
        return {"counts": self.boxed.class_counts(), "faults": self.sheet.fault_counts}

    def make_task(self, settings: dict[str, Any], scratch: bool) -> Detect:
        torch.manual_seed(mix(settings["seed"], 0xDE7EC7))
        encoder = copied(self.encoder, settings["drop_path"], scratch)
        detector = Detector(encoder, self.boxed.classes, **shape_of(settings))
        return Detect(detector, settings["protocol"], settings["layer_decay"])

    def make_loader(self, settings: dict[str, Any], micro: int | None = None) -> Loader:
        size, fill = tuple(settings["input_size"]), tuple(self.encoder.mean.tolist())
        view = Jitter((size[0], size[1]), fill, tuple(settings["jitter"]), settings["flip"] == "on")  # type: ignore[arg-type]
        samples = self.boxed.samples("train", self.encoder.channels)
        batch = micro or settings["batch"] // settings["accumulate"]
        shared = {"seed": settings["seed"], "workers": settings["workers"], "pin": settings["device"] == "cuda"}
        return Loader(samples=samples, view=view, batch=batch, collate=collate, **shared)  # type: ignore[arg-type]

    def score(self, model: nn.Module, split: str, settings: dict[str, Any], where: torch.device) -> dict[str, Any]:
        found = self._judged(model, split, settings)
        watched = [name for name in (*WATCHED, "mask_map") if found.get(name) is not None]
        return found | {"watched": watched, "tie": found["map50"] or 0.0}

    def judge(self, model: nn.Module, config: dict[str, Any], out: Path, where: torch.device) -> str:
        result: dict[str, Any] = {"classes": config["classes"], "on": config["asked"]["on"]}
        for split in ("val", "test"):
            if self.boxed.splits[split]:
                drawn = out if split == "test" else None
                result[split] = self._judged(model, split, config["settings"], drawn)
        write_json(out / RESULT, result)
        return box_headline(result["test"])

    @classmethod
    def predict(cls, options: Any, folder: Path, console: Console) -> list[Detections]:
        return find_objects(options, folder, console)

    def _judged(self, model: Any, split: str, settings: dict[str, Any], out: Path | None = None) -> dict[str, Any]:
        boxes = self.boxed.samples(split, self.encoder.channels)
        return judge_split(model, boxes, settings["workers"], autocast_dtype(settings["precision"]), out)


def read_boxed(options: Any, encoder: Encoder, console: Console) -> Boxed:
    """The annotated images, checked. What a person should know is said."""
    with looking(console, "looking at the annotated images") as told:
        boxed = Boxed(
            texts(options.on),
            max_side=MAX_SIDE,
            form=options.format,
            images=None if options.images is None else str(options.images),
            masks=options.masks,
            most=options.most,
            seed=options.seed,
            max_bad=options.max_bad,
            **told,
        )
    boxed.sheet.statistics(encoder.channels)  # refuses images that cannot be brought to these channels
    for line in boxed.check():
        told["say"](line)
    number = sum(sum(counts.values()) for counts in boxed.sheet.boxes.values())
    what = "boxes and masks" if boxed.masks else "boxes"
    told["say"](f"{len(boxed.classes)} classes; {boxed.said} images; {number:,} {what}")
    return boxed
