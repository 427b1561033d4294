"""`transfer --to detect`: boxes, and masks where there are some. Li et al. 2022 (ViTDet)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from rich.console import Console

from unmask.data.datasets.detection import Boxed
from unmask.data.loaders.map_style import Loader
from unmask.data.transforms.detection import Jitter, collate
from unmask.models.encoder import Encoder
from unmask.models.state import copied
from unmask.planning.plan import Plan
from unmask.runtime.machine import Machine, autocast_dtype
from unmask.seeds import mix
from unmask.tasks.detection.detector import ImageDetector
from unmask.tasks.detection.evaluate import box_headline, judge_split
from unmask.tasks.detection.objective import Detect
from unmask.tasks.detection.plan import plan_detect
from unmask.tasks.detection.predict import find_objects, predictions_place
from unmask.tasks.detection.settings import NAME, DetectOptions
from unmask.tasks.task import DataOptions, TransferTask, reading
from unmask.tasks.training_settings import TrainingSettings, loader_options

__all__ = ["DetectTask"]
MAX_SIDE = 2048  # pixels of an image's shorter side that are kept
WATCHED = ("map", "map50", "mask_map")


@dataclass(frozen=True, kw_only=True)
class DetectSettings(TrainingSettings):
    """What a detector and its batches are made from, when everything has been chosen."""

    input_size: tuple[int, int]  # height, width in pixels
    jitter: tuple[float, float]
    anchors: tuple[float, ...]
    ratios: tuple[float, ...]
    width: int
    rois: int
    pyramid: str
    masks: str  # on or off
    standardize: bool


class DetectTask(TransferTask[DetectOptions, DetectSettings]):
    name, model, settings = NAME, ImageDetector, DetectSettings
    looks: ClassVar[int] = 20
    takes_threshold: ClassVar[bool] = True
    data: Boxed

    def __init__(self, data: DataOptions, options: DetectOptions, encoder: Encoder, console: Console):
        self.encoder = encoder
        with reading(console, "looking at the annotated images") as told:
            self.data = Boxed(
                data.on,
                max_side=MAX_SIDE,
                form=options.format,
                images=None if options.images is None else str(options.images),
                masks=options.masks,
                most=data.most,
                seed=data.seed,
                max_bad=options.max_bad,
                **told,
            )
        self.data.sheet.statistics(encoder.channels)  # refuses images that cannot be brought to these channels
        for line in self.data.check():
            told["say"](line)
        number = sum(sum(counts.values()) for counts in self.data.sheet.boxes.values())
        what = "boxes and masks" if self.data.masks else "boxes"
        told["say"](f"{len(self.data.classes)} classes; {self.data.said} images; {number:,} {what}")

    def plan(self, plan: Plan, scratch: bool, machine: Machine) -> None:
        plan_detect(plan, self.data, self.encoder, scratch, machine)

    def facts(self) -> dict[str, Any]:
        return super().facts() | {"ids": self.data.ids}

    def data_facts(self) -> dict[str, Any]:
        return {"counts": self.data.class_counts(), "faults": self.data.sheet.fault_counts}

    def make_objective(self, settings: DetectSettings, scratch: bool) -> Detect:
        torch.manual_seed(mix(settings.seed, 0xDE7EC7))
        detector = ImageDetector(
            copied(self.encoder, settings.drop_path, scratch),
            self.data.classes,
            size=settings.input_size,
            anchors=settings.anchors,
            ratios=settings.ratios,
            width=settings.width,
            rois=settings.rois,
            masks=settings.masks == "on",
            pyramid=settings.pyramid,
            standardize=settings.standardize,
        )
        return Detect(detector, settings.protocol, settings.layer_decay)

    def make_loader(self, settings: DetectSettings, micro: int | None = None) -> Loader:
        fill = tuple(self.encoder.mean.tolist())
        view: Any = Jitter(settings.input_size, fill, settings.jitter, settings.flip == "on")
        samples = self.data.samples("train", self.encoder.channels)
        return Loader(samples=samples, view=view, collate=collate, **loader_options(settings, micro))

    def score(self, model: Any, split: str, settings: DetectSettings, device: torch.device) -> dict[str, Any]:
        result = self.judge_split(model, split, settings, device, None)
        watched = [name for name in WATCHED if result.get(name) is not None]
        return result | {"watched": watched, "tie": result["map50"] or 0.0}

    def judge_split(
        self, model: Any, split: str, settings: DetectSettings, device: torch.device, out: Path | None
    ) -> dict[str, Any]:
        boxes = self.data.samples(split, self.encoder.channels)
        return judge_split(model, boxes, settings.workers, autocast_dtype(settings.precision), out)

    @staticmethod
    def headline(result: dict[str, Any], classes: list[str]) -> str:
        return box_headline(result)

    predictions_place = staticmethod(predictions_place)
    predict = staticmethod(find_objects)
