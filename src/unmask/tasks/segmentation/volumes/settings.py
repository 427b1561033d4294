"""The settings of a segmenter of volumes, when all is chosen."""

from dataclasses import dataclass

from unmask.tasks.training_settings import TaskSettings


@dataclass(frozen=True, kw_only=True)
class VolumeSettings(TaskSettings):
    """What a segmenter of volumes and its batches are made from."""

    head: str
    crop_size: tuple[int, int, int]  # depth, height, width of a box in voxels
    share: float  # by which volumes are resized first
    scale: tuple[float, float]
    turn: float  # degrees
    distort: str  # on or off
    dice: float
    balanced: str  # on or off
