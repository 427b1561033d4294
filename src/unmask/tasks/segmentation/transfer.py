"""`transfer --to segment`: a class for every pixel. He et al. 2021, section 5."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from rich.console import Console

from unmask.data.datasets.segmentation import Segmented
from unmask.data.loaders.map_style import Loader
from unmask.models.encoder import Encoder
from unmask.models.segmenter import Segmenter
from unmask.planning.plan import Plan
from unmask.runtime.machine import Machine
from unmask.tasks.segmentation.figures import colours_of, draw_results, headline, write_rows
from unmask.tasks.segmentation.finetune import (
    SegmentSettings,
    answers,
    make_segment_loader,
    make_segment_task,
    read_segmented,
    score_split,
)
from unmask.tasks.segmentation.objective import Segment
from unmask.tasks.segmentation.plan import plan_segment
from unmask.tasks.segmentation.predict import predict_maps, predictions_place
from unmask.tasks.segmentation.segmenter import ImageSegmenter
from unmask.tasks.segmentation.settings import NAME, SegmentOptions
from unmask.tasks.task import DataOptions, TransferTask

__all__ = ["SegmentTask"]


class SegmentTask(TransferTask[SegmentOptions, SegmentSettings]):
    name, model, settings = NAME, ImageSegmenter, SegmentSettings
    looks: ClassVar[int] = 20  # windows slide over every val image: dearer than an epoch of crops
    data: Segmented

    def __init__(self, data: DataOptions, options: SegmentOptions, encoder: Encoder, console: Console):
        self.encoder = encoder
        if options.head is not None:
            Segmenter(encoder, ("class",), (0,), head=options.head)  # refuses wrong options before masks are read
        chosen: Any = {name: getattr(options, name) for name in ("side", "crop_size", "images", "classes", "max_bad")}
        self.data = read_segmented(data, encoder, console, void=tuple(options.void or ()), **chosen)
        self.colours = colours_of(self.data.numbers, self.data.legend)

    def plan(self, plan: Plan, scratch: bool, machine: Machine) -> None:
        plan_segment(plan, self.count, self.encoder, scratch, self.data.sheet, machine)

    def facts(self) -> dict[str, Any]:
        own = {"numbers": self.data.numbers, "void": sorted(self.data.void), "colours": self.colours}
        return super().facts() | own

    def data_facts(self) -> dict[str, Any]:
        return {"shares": self.data.sheet.pixel_shares, "left_out": len(self.data.sheet.left_out)}

    def make_objective(self, settings: SegmentSettings, scratch: bool) -> Segment:
        return make_segment_task(self.encoder, self.data, settings, scratch)

    def make_loader(self, settings: SegmentSettings, micro: int | None = None) -> Loader:
        return make_segment_loader(self.data.segments("train", self.encoder.channels), self.encoder, settings, micro)

    def score(self, model: Any, split: str, settings: SegmentSettings, device: torch.device) -> dict[str, Any]:
        result = score_split(model, self.data, split, settings.precision)
        return result | {"watched": ["miou", "pixel_accuracy"], "tie": result["pixel_accuracy"]}

    def judge_split(
        self, model: Any, split: str, settings: SegmentSettings, device: torch.device, out: Path | None
    ) -> dict[str, Any]:
        rows: list[dict[str, Any]] = []
        result = score_split(model, self.data, split, settings.precision, rows)
        if out is not None:
            segments = self.data.segments(split, self.encoder.channels)

            def answer(row: int) -> np.ndarray:
                return next(answers(model, segments, settings.precision, [row]))[0]

            write_rows(rows, out)
            draw_results(result, rows, segments, answer, self.data.classes, self.colours, out)
        return result

    headline = staticmethod(headline)
    predictions_place = staticmethod(predictions_place)
    predict = staticmethod(predict_maps)
