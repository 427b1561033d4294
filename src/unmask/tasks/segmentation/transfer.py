"""`transfer --to segment`: a class for every pixel. He et al. 2021, section 5."""

from pathlib import Path

import numpy as np
from rich.console import Console

from unmask.data.datasets.segmentation import Segmented
from unmask.data.loaders.map_style import Loader
from unmask.data.modality import make_modality
from unmask.errors import UserError
from unmask.files import Json
from unmask.models.encoder import Encoder
from unmask.plain import numbers, sides
from unmask.planning.plan import Plan
from unmask.runtime.machine import Machine
from unmask.tasks.segmentation.dense import DenseTask
from unmask.tasks.segmentation.figures import draw_results, headline, write_rows
from unmask.tasks.segmentation.finetune import (
    answers,
    make_segment_loader,
    make_segment_task,
    make_segmenter,
    read_segmented,
    score_split,
)
from unmask.tasks.segmentation.objective import Segment
from unmask.tasks.segmentation.plan import plan_segment
from unmask.tasks.segmentation.points.task import CloudSegmentTask
from unmask.tasks.segmentation.predict import Written, predict_maps
from unmask.tasks.segmentation.scenes import predict_scenes
from unmask.tasks.segmentation.segmenter import ImageSegmenter
from unmask.tasks.segmentation.settings import SegmentOptions, SegmentSettings
from unmask.tasks.segmentation.volumes.task import VolumeSegmentTask
from unmask.tasks.task import DataOptions, PredictOptions, Score, TransferTask

__all__ = ["SegmentTask"]


class SegmentTask(DenseTask[SegmentSettings, ImageSegmenter, Segmented]):
    settings = SegmentSettings
    read = staticmethod(read_segmented)

    @classmethod
    def suited(cls, modality: str) -> type[TransferTask]:
        kind = make_modality(modality)
        if not kind.labelled:
            raise UserError(f"--to segment is for images, volumes and clouds; this encoder takes {kind.word}s")
        return {"voxel": VolumeSegmentTask, "point": CloudSegmentTask}.get(kind.labelled, cls)

    def __init__(self, data: DataOptions, options: SegmentOptions, encoder: Encoder, console: Console):
        if options.crop_size is not None:
            sides("crop_size", numbers(options.crop_size))
        super().__init__(data, options, encoder, console)

    def plan(self, plan: Plan, scratch: bool, machine: Machine) -> SegmentSettings:
        return plan_segment(plan, self.count, self.encoder, scratch, self.data.sheet, machine)

    def make_objective(self, settings: SegmentSettings, scratch: bool) -> Segment:
        return make_segment_task(self.encoder, self.data, settings, scratch)

    @staticmethod
    def make_model(encoder: Encoder, settings: SegmentSettings, facts: Json) -> ImageSegmenter:
        return make_segmenter(encoder, facts["classes"], facts["numbers"], settings)

    def make_loader(self, settings: SegmentSettings, micro: int | None = None) -> Loader:
        return make_segment_loader(self.data.segments("train", self.encoder.channels), self.encoder, settings, micro)

    def score(self, model: ImageSegmenter, split: str, settings: SegmentSettings) -> Score:
        result = score_split(model, self.data, split, settings.precision)
        watched = {name: result[name] for name in ("miou", "pixel_accuracy")}
        return Score(result[result["main"]] or 0.0, watched, tie=result["pixel_accuracy"])

    def judge_split(self, model: ImageSegmenter, split: str, settings: SegmentSettings, out: Path | None) -> Json:
        rows: list[Json] = []
        result = score_split(model, self.data, split, settings.precision, rows)
        if out is not None:
            segments = self.data.segments(split, self.encoder.channels)

            def answer(row: int) -> np.ndarray:
                return next(answers(model, segments, settings.precision, [row]))[0]

            write_rows(rows, out)
            draw_results(result, rows, segments, answer, self.data.classes, self.colours, out)
        return result

    headline = staticmethod(headline)

    @staticmethod
    def predict(model: ImageSegmenter, config: Json, options: PredictOptions, out: Path, console: Console) -> Written:
        divides = make_modality(model.encoder.modality).divides
        return (predict_scenes if divides else predict_maps)(model, config, options, out, console)
