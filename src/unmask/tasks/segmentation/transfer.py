"""The lesson of `transfer --to segment`: a class for every pixel. He et al. 2021, section 5."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from rich.console import Console
from torch import nn

from unmask.data.loaders.map_style import Loader
from unmask.files import RESULT, write_json
from unmask.models.encoder import Encoder
from unmask.models.segmenter import Segmenter
from unmask.planning.plan import Plan
from unmask.runtime.machine import Machine
from unmask.tasks.segmentation.figures import colours_of, draw_results, headline, write_rows
from unmask.tasks.segmentation.finetune import (
    answers,
    make_segment_loader,
    make_segment_task,
    read_segmented,
    score_split,
)
from unmask.tasks.segmentation.objective import Segment
from unmask.tasks.segmentation.plan import plan_segment
from unmask.tasks.segmentation.predict import predict_maps
from unmask.tasks.task import Lesson

__all__ = ["SegmentLesson"]


class SegmentLesson(Lesson):
    name = "segment"
    looks: ClassVar[int] = 20  # windows slide over every val image: dearer than an epoch of crops

    def __init__(self, options: Any, encoder: Encoder, console: Console):
        self.encoder = encoder
        if options.head is not None:
            Segmenter(encoder, ("one",), (0,), head=options.head)  # refuses wrong options before the masks are read
        self.data = read_segmented(options, encoder, console)
        self.sheet = self.data.sheet
        self.count = len(self.data.splits["train"])
        self.has_val = bool(self.data.splits["val"])

    def plan(self, plan: Plan, scratch: bool, machine: Machine) -> None:
        plan_segment(plan, self.count, self.encoder, scratch, self.sheet, machine)

    def facts(self) -> dict[str, Any]:
        return {
            "classes": self.data.classes,
            "numbers": self.data.numbers,
            "void": sorted(self.data.void),
            "colours": colours_of(self.data.numbers, self.data.legend),
        }

    def data_facts(self) -> dict[str, Any]:
        return {"shares": self.sheet.pixel_shares, "left_out": len(self.sheet.left_out)}

    def make_task(self, settings: dict[str, Any], scratch: bool) -> Segment:
        return make_segment_task(self.encoder, self.data, settings, scratch)

    def make_loader(self, settings: dict[str, Any], micro: int | None = None) -> Loader:
        return make_segment_loader(self.data.segments("train", self.encoder.channels), self.encoder, settings, micro)

    def score(self, model: nn.Module, split: str, settings: dict[str, Any], where: torch.device) -> dict[str, Any]:
        found = score_split(model, self.data, split, settings)
        return found | {"watched": ["miou", "pixel_accuracy"], "tie": found["pixel_accuracy"]}

    def judge(self, model: nn.Module, config: dict[str, Any], out: Path, where: torch.device) -> str:
        result: dict[str, Any] = {"classes": config["classes"], "on": config["asked"]["on"]}
        for split in ("val", "test"):
            if not self.data.splits[split]:
                continue
            rows: list[dict[str, Any]] = []
            result[split] = score_split(model, self.data, split, config["settings"], rows)
            if split == "test":
                segments = self.data.segments("test", self.encoder.channels)
                write_rows(rows, out)
                answer: Callable[[int], np.ndarray] = lambda i, s=segments: next(  # noqa: E731
                    answers(model, s, config["settings"], [i])
                )[0]
                draw_results(result["test"], rows, segments, answer, config, out)
        write_json(out / RESULT, result)
        return headline(result["test"], config["classes"])

    @classmethod
    def predict(cls, options: Any, folder: Path, console: Console) -> Any:
        return predict_maps(options, folder, console)
