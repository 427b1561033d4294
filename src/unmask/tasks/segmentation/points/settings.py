"""The settings of a segmenter of clouds, when all is chosen."""

from dataclasses import dataclass

from unmask.tasks.training_settings import TaskSettings


@dataclass(frozen=True, kw_only=True)
class CloudSettings(TaskSettings):
    """What a segmenter of clouds and its batches are made from."""

    head: str
    crop_size: tuple[int, ...]  # points in all groups together, or voxels along each side
    dice: float
    balanced: str  # on or off
