"""BYOL's two views, of which only the second is solarised and hardly one is sharp in both. Grill et al. 2020, table 6;
MoCo v3 takes the same pair (Chen et al. 2021, section 4)."""

from unmask.data.transform import Transform, View, notes_on
from unmask.data.transforms.kernels.colour import Colours
from unmask.data.transforms.kernels.crop import RandomCrop

__all__ = ["BYOL"]


class BYOL(Transform):
    def __init__(
        self,
        size: tuple[int, int],
        channels: int = 3,
        crop: float = 0.08,
        flip: bool = True,
        resize: str = "exact",
        jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.2, 0.1),
    ):
        """jitter: brightness, contrast, saturation and hue."""
        first = Colours(jitter=jitter, jitter_chance=0.8, grey=0.2, blur=1.0)
        second = Colours(jitter=jitter, jitter_chance=0.8, grey=0.2, blur=0.1, solarise=0.2)
        window = RandomCrop(size, scale=(crop, 1.0), flip=flip, resize=resize)
        super().__init__(View(window, first), View(window, second), notes=notes_on(first, channels, size))
