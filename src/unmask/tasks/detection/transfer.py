"""`transfer --to detect`: boxes, and masks where there are some. Li et al. 2022 (ViTDet)."""

from pathlib import Path
from typing import ClassVar

import torch
from rich.console import Console

from unmask.data.datasets.detection import Boxed
from unmask.data.loaders.map_style import Loader
from unmask.data.modality import IMAGE, make_modality
from unmask.data.transforms.labelled.detection import Jitter, collate
from unmask.errors import UserError
from unmask.files import Json
from unmask.models.encoder import Encoder
from unmask.models.state import copied
from unmask.planning.plan import Plan
from unmask.runtime.machine import Machine, autocast_dtype
from unmask.runtime.progress import make_say, progress
from unmask.seeds import mix
from unmask.tasks.detection.detector import ImageDetector
from unmask.tasks.detection.evaluate import box_headline, judge_split
from unmask.tasks.detection.objective import Detect
from unmask.tasks.detection.plan import plan_detect
from unmask.tasks.detection.predict import find_objects, predictions_place
from unmask.tasks.detection.settings import NAME, DetectOptions, DetectSettings
from unmask.tasks.task import DataOptions, Score, TransferTask

__all__ = ["DetectTask"]
MAX_SIDE = 2048  # pixels of an image's shorter side that are kept
WATCHED = ("map", "map50", "mask_map")


class DetectTask(TransferTask[DetectOptions, DetectSettings, ImageDetector, Boxed]):
    name, settings = NAME, DetectSettings
    looks: ClassVar[int] = 20
    takes_threshold: ClassVar[bool] = True

    @classmethod
    def suited(cls, modality: str) -> type[TransferTask]:
        if modality != IMAGE:
            raise UserError(f"--to detect is for images; this encoder takes {make_modality(modality).word}s")
        return cls

    def __init__(self, data: DataOptions, options: DetectOptions, encoder: Encoder, console: Console):
        self.encoder, say = encoder, make_say(console)
        with progress(console, "looking at the annotated images") as update:
            self.data = Boxed(
                data.on,
                max_side=MAX_SIDE,
                form=options.format,
                images=None if options.images is None else str(options.images),
                masks=options.masks,
                crowds=options.crowds,
                most=data.most,
                seed=data.seed,
                max_bad=options.max_bad,
                say=say,
                progress=update,
            )
        for line in [*self.data.sheet.unlike(*encoder.statistics), *self.data.check()]:
            say(line)
        number = sum(sum(counts.values()) for counts in self.data.sheet.boxes.values())
        what = "boxes and masks" if self.data.masks else "boxes"
        say(f"{len(self.data.classes)} classes; {self.data.said} images; {number:,} {what}")

    def plan(self, plan: Plan, scratch: bool, machine: Machine) -> DetectSettings:
        return plan_detect(plan, self.data, self.encoder, scratch, machine)

    def facts(self) -> Json:
        return super().facts() | {"ids": self.data.ids}

    def data_facts(self) -> Json:
        return {"counts": self.data.class_counts(), "faults": self.data.sheet.fault_counts}

    def make_objective(self, settings: DetectSettings, scratch: bool) -> Detect:
        torch.manual_seed(mix(settings.seed, 0xDE7EC7))
        encoder = copied(self.encoder, settings.drop_path, scratch)
        return Detect(self.make_model(encoder, settings, self.facts()), settings.protocol, settings.layer_decay)

    @staticmethod
    def make_model(encoder: Encoder, settings: DetectSettings, facts: Json) -> ImageDetector:
        return ImageDetector(
            encoder,
            facts["classes"],
            size=settings.input_size,
            anchors=settings.anchors,
            ratios=settings.ratios,
            width=settings.width,
            rois=settings.rois,
            masks=settings.masks == "on",
            pyramid=settings.pyramid,
            standardize=settings.standardize,
        )

    def make_loader(self, settings: DetectSettings, micro: int | None = None) -> Loader:
        fill = tuple(self.encoder.mean.tolist())
        view = Jitter(settings.input_size, fill, settings.jitter, settings.flip == "on")
        samples = self.data.samples("train", self.encoder.channels)
        return Loader(samples=samples, view=view, collate=collate, **settings.loading(micro))

    def score(self, model: ImageDetector, split: str, settings: DetectSettings) -> Score:
        result = self.judge_split(model, split, settings, None)
        watched = {name: result[name] for name in WATCHED if result.get(name) is not None}
        return Score(result[result["main"]] or 0.0, watched, tie=result["map50"] or 0.0)

    def judge_split(self, model: ImageDetector, split: str, settings: DetectSettings, out: Path | None) -> Json:
        boxes = self.data.samples(split, self.encoder.channels)
        return judge_split(model, boxes, settings.workers, autocast_dtype(settings.precision), out)

    @staticmethod
    def headline(result: Json, classes: list[str]) -> str:
        return box_headline(result)

    predictions_place = staticmethod(predictions_place)
    predict = staticmethod(find_objects)
