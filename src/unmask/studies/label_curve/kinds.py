"""Which study of segmenters is for which kind of data."""

from unmask.studies.label_curve.points import CloudStudy
from unmask.studies.label_curve.segmentation import SegmentationStudy
from unmask.studies.label_curve.volumes import VolumeStudy
from unmask.tasks.segmentation.points.task import CloudSegmentTask
from unmask.tasks.segmentation.transfer import SegmentTask
from unmask.tasks.segmentation.volumes.task import VolumeSegmentTask

STUDIES = {SegmentTask: SegmentationStudy, VolumeSegmentTask: VolumeStudy, CloudSegmentTask: CloudStudy}


def find_study(modality: str) -> type[SegmentationStudy]:
    """The study for a kind of data. Raises UserError for one that has no maps of labels."""
    return STUDIES[SegmentTask.suited(modality)]
