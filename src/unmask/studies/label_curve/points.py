"""Label-efficiency of segmenters of clouds: like that of images, on shares of the labelled clouds."""

from rich.console import Console

from unmask.data.datasets.clouds import SegmentedClouds
from unmask.models.encoder import Encoder
from unmask.planning.plan import Plan
from unmask.studies.label_curve.segmentation import SegmentationStudy, SegmentSetting
from unmask.tasks.segmentation.points.finetune import make_cloud_loader, make_cloud_task, read_clouds, score_clouds
from unmask.tasks.segmentation.points.plan import plan_clouds
from unmask.tasks.segmentation.points.segmenter import CloudSegmenter


class CloudStudy(SegmentationStudy):
    """Data, encoder and draws."""

    def read(self, setting: SegmentSetting, console: Console) -> None:
        self.data = read_clouds(setting.data, setting.options, self.encoder, console)

    def trained(self, start: Encoder, scratch: bool, rows: list[int], plan: Plan) -> float:
        assert isinstance(self.data, SegmentedClouds)
        settings = plan_clouds(plan, len(rows), start, scratch, self.data.sheet, self.hardware)
        task = make_cloud_task(start, self.data, settings, scratch)
        clouds = self.data.segments("train", start.channels, rows)
        loader = make_cloud_loader(clouds, self.data, settings)
        model = self.fitted(task, loader, settings, len(rows))
        assert isinstance(model, CloudSegmenter)
        return score_clouds(model, self.data, "test", settings.precision)["miou"]
