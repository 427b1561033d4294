"""MAE's only augmentation: a crop of random size and shape, mirrored half of the time.
He et al. 2021, table 1e. Of other data than images, the random window that its modality cuts."""

from unmask.data.modality import IMAGE, Modality, make_modality
from unmask.data.transform import Transform, View, notes_on
from unmask.data.transforms.kernels.colour import Colours
from unmask.errors import UserError, closest

__all__ = ["Crops"]
KINDS = ("random", "fixed", "whole")


class Crops(Transform):
    def __init__(
        self,
        size: tuple[int, ...],
        channels: int = 3,
        crop: float = 0.2,
        crop_kind: str = "random",
        flip: bool = True,
        resize: str = "exact",
        jitter: float = 0.0,
        modality: Modality | None = None,
    ):
        """jitter: strength of colour jitter, 0 to 1, with the proportions of MoCo v2 (Chen et al. 2020); MAE does
        better without. modality: what is cropped, images unless given."""
        colours, modality = Colours(jitter=(jitter, jitter, jitter, jitter / 4)), modality or make_modality(IMAGE)
        if crop_kind not in KINDS:
            raise UserError(f"no crop {crop_kind!r}{closest(crop_kind, KINDS)} There are: {', '.join(KINDS)}")
        if jitter and not modality.colour:
            raise UserError(f"crops(jitter={jitter:g}): {modality.word}s have no colours")
        window = modality.window(crop_kind, size, crop, flip, resize)
        super().__init__(View(window, colours), notes=notes_on(colours, channels, size) if modality.colour else ())
