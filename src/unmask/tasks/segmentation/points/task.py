"""`transfer --to segment` of clouds: a class for every point."""

from pathlib import Path

import numpy as np

from unmask.data.codecs.points import PointCloud
from unmask.data.datasets.clouds import SegmentedClouds
from unmask.data.loaders.map_style import Loader
from unmask.files import Json
from unmask.models.encoder import Encoder
from unmask.planning.plan import Plan
from unmask.runtime.machine import Machine
from unmask.tasks.segmentation.dense import DenseTask
from unmask.tasks.segmentation.figures import write_rows
from unmask.tasks.segmentation.objective import Segment
from unmask.tasks.segmentation.points.figures import draw_clouds, headline
from unmask.tasks.segmentation.points.finetune import (
    answers,
    make_cloud_loader,
    make_cloud_segmenter,
    make_cloud_task,
    read_clouds,
    score_clouds,
)
from unmask.tasks.segmentation.points.plan import plan_clouds
from unmask.tasks.segmentation.points.predict import predict_clouds
from unmask.tasks.segmentation.points.segmenter import CloudSegmenter
from unmask.tasks.segmentation.points.settings import CloudSettings
from unmask.tasks.task import Score


class CloudSegmentTask(DenseTask[CloudSettings, CloudSegmenter, SegmentedClouds]):
    settings, network = CloudSettings, CloudSegmenter
    read = staticmethod(read_clouds)

    def plan(self, plan: Plan, scratch: bool, machine: Machine) -> CloudSettings:
        return plan_clouds(plan, self.count, self.encoder, scratch, self.data.sheet, machine)

    def make_objective(self, settings: CloudSettings, scratch: bool) -> Segment:
        return make_cloud_task(self.encoder, self.data, settings, scratch)

    @staticmethod
    def make_model(encoder: Encoder, settings: CloudSettings, facts: Json) -> CloudSegmenter:
        return make_cloud_segmenter(encoder, facts["classes"], facts["numbers"], settings)

    def make_loader(self, settings: CloudSettings, micro: int | None = None) -> Loader:
        clouds = self.data.segments("train", self.encoder.channels)
        return make_cloud_loader(clouds, self.data, settings, micro)

    def score(self, model: CloudSegmenter, split: str, settings: CloudSettings) -> Score:
        result = score_clouds(model, self.data, split, settings.precision)
        watched = {name: result[name] for name in ("miou", "pixel_accuracy")}
        return Score(result["miou"], watched, tie=result["pixel_accuracy"])

    def judge_split(self, model: CloudSegmenter, split: str, settings: CloudSettings, out: Path | None) -> Json:
        rows: list[Json] = []
        result = score_clouds(model, self.data, split, settings.precision, rows)
        if out is not None:
            clouds = self.data.segments(split, self.encoder.channels)

            def answer(row: int) -> tuple[PointCloud, np.ndarray, np.ndarray]:
                return next(answers(model, clouds, settings.precision, [row]))

            write_rows(rows, out, ("pixel_accuracy", "miou", "void"))
            upright = self.data.modality.upright
            draw_clouds(result, rows, answer, self.data.classes, self.colours, upright, out)
        return result

    headline = staticmethod(headline)
    predict = staticmethod(predict_clouds)
