"""Label-efficiency of segmenters of clouds: like that of images, on shares of the labelled clouds."""

import torch
from rich.console import Console

from unmask.data.datasets.clouds import SegmentedClouds
from unmask.models.encoder import Encoder
from unmask.planning.plan import Plan
from unmask.runtime.distributed.data_parallel import make_devices
from unmask.studies.label_curve.segmentation import SegmentationStudy, SegmentSetting
from unmask.tasks.segmentation.points.finetune import make_cloud_loader, make_cloud_task, read_clouds, score_clouds
from unmask.tasks.segmentation.points.plan import plan_clouds
from unmask.tasks.segmentation.points.segmenter import CloudSegmenter
from unmask.tasks.task import DataOptions
from unmask.training.log import Silent
from unmask.training.loop import fit
from unmask.training.speed.compile import ready


class CloudStudy(SegmentationStudy):
    """Data, encoder and draws."""

    unit = "training clouds"

    def read(self, setting: SegmentSetting, console: Console) -> None:
        data = DataOptions(setting.on, setting.most, setting.seed)
        self.data = read_clouds(data, self.encoder, console, images=setting.images, classes=setting.classes)

    def trained(self, start: Encoder, scratch: bool, rows: list[int], plan: Plan) -> float:
        assert isinstance(self.data, SegmentedClouds)
        settings = plan_clouds(plan, len(rows), start, scratch, self.data.sheet, self.hardware)
        task = make_cloud_task(start, self.data, settings, scratch)
        clouds = self.data.segments("train", start.channels, rows)
        loader = make_cloud_loader(clouds, self.data, settings)
        fit(ready(task, settings), loader, settings.fit(len(rows)), None, make_devices(settings), Silent())
        model = task.result.eval().to(torch.device(settings.device))
        assert isinstance(model, CloudSegmenter)
        return score_clouds(model, self.data, "test", settings.precision)["miou"]
