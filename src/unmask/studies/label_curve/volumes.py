"""Label-efficiency of segmenters of volumes: like that of images, with Dice instead of mIoU."""

from rich.console import Console

from unmask.data.datasets.volumes import SegmentedVolumes
from unmask.models.encoder import Encoder
from unmask.planning.plan import Plan
from unmask.studies.label_curve.segmentation import SegmentationStudy, SegmentSetting
from unmask.tasks.segmentation.volumes.finetune import (
    make_volume_loader,
    make_volume_task,
    read_volumes,
    score_volumes,
)
from unmask.tasks.segmentation.volumes.plan import plan_volumes
from unmask.tasks.segmentation.volumes.segmenter import VolumeSegmenter


class VolumeStudy(SegmentationStudy):
    """Data, encoder and draws."""

    score = "Dice"

    def read(self, setting: SegmentSetting, console: Console) -> None:
        self.data = read_volumes(setting.data, setting.options, self.encoder, console)

    def trained(self, start: Encoder, scratch: bool, rows: list[int], plan: Plan) -> float:
        assert isinstance(self.data, SegmentedVolumes)
        settings = plan_volumes(plan, len(rows), start, scratch, self.data.sheet, self.hardware)
        task = make_volume_task(start, self.data, settings, scratch)
        volumes = self.data.segments("train", start.channels, rows)
        loader = make_volume_loader(volumes, self.data, start, settings)
        model = self.fitted(task, loader, settings, len(rows))
        assert isinstance(model, VolumeSegmenter)
        return score_volumes(model, self.data, "test", settings.precision)["dice"]
