"""`transfer --to segment` of volumes: a class for every voxel."""

from pathlib import Path

import numpy as np

from unmask.data.datasets.volumes import SegmentedVolumes
from unmask.data.loaders.map_style import Loader
from unmask.files import Json
from unmask.models.encoder import Encoder
from unmask.planning.plan import Plan
from unmask.runtime.machine import Machine
from unmask.tasks.segmentation.dense import DenseTask
from unmask.tasks.segmentation.objective import Segment
from unmask.tasks.segmentation.volumes.figures import draw_volumes, headline, write_rows
from unmask.tasks.segmentation.volumes.finetune import (
    answers,
    make_volume_loader,
    make_volume_segmenter,
    make_volume_task,
    read_volumes,
    score_volumes,
)
from unmask.tasks.segmentation.volumes.plan import plan_volumes
from unmask.tasks.segmentation.volumes.predict import predict_volumes
from unmask.tasks.segmentation.volumes.segmenter import VolumeSegmenter
from unmask.tasks.segmentation.volumes.settings import VolumeSettings
from unmask.tasks.task import Score


class VolumeSegmentTask(DenseTask[VolumeSettings, VolumeSegmenter, SegmentedVolumes]):
    settings = VolumeSettings
    read = staticmethod(read_volumes)

    def plan(self, plan: Plan, scratch: bool, machine: Machine) -> VolumeSettings:
        return plan_volumes(plan, self.count, self.encoder, scratch, self.data.sheet, machine)

    def make_objective(self, settings: VolumeSettings, scratch: bool) -> Segment:
        return make_volume_task(self.encoder, self.data, settings, scratch)

    @staticmethod
    def make_model(encoder: Encoder, settings: VolumeSettings, facts: Json) -> VolumeSegmenter:
        return make_volume_segmenter(encoder, facts["classes"], facts["numbers"], settings)

    def make_loader(self, settings: VolumeSettings, micro: int | None = None) -> Loader:
        volumes = self.data.segments("train", self.encoder.channels)
        return make_volume_loader(volumes, self.data, self.encoder, settings, micro)

    def score(self, model: VolumeSegmenter, split: str, settings: VolumeSettings) -> Score:
        result = score_volumes(model, self.data, split, settings.precision)
        return Score(result["dice"], {name: result[name] for name in ("dice", "miou")}, tie=result["miou"])

    def judge_split(self, model: VolumeSegmenter, split: str, settings: VolumeSettings, out: Path | None) -> Json:
        rows: list[Json] = []
        result = score_volumes(model, self.data, split, settings.precision, rows)
        if out is not None:
            volumes = self.data.segments(split, self.encoder.channels)

            def answer(row: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[float, float, float]]:
                located, predicted, truth = next(answers(model, volumes, settings.precision, [row]))
                values, laid = located.content[0].numpy(), located.laid(predicted).numpy()
                return values, laid, located.laid(truth).numpy(), located.steps

            write_rows(rows, self.data.classes, out)
            draw_volumes(result, rows, answer, self.data.classes, self.colours, self.data.background, out)
        return result

    headline = staticmethod(headline)
    predict = staticmethod(predict_volumes)
