"""CMAE's pair: one crop, and the same moved by a few pixels and recoloured, so that both show the same things at nearly
the same places. Huang et al. 2022, section 3.3, https://arxiv.org/abs/2207.13532."""

from unmask.data.transform import Shifted as ShiftedView
from unmask.data.transform import Transform, notes_on
from unmask.data.transforms.kernels.colour import Colours
from unmask.data.transforms.kernels.crop import RandomCrop
from unmask.plain import Share

__all__ = ["Shifted"]


class Shifted(Transform):
    def __init__(
        self,
        size: tuple[int, int],
        channels: int = 3,
        crop: float = 0.2,
        flip: bool = True,
        resize: str = "exact",
        shift: Share = 31 / 224,
        jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.2, 0.1),
        blur: Share = 0.1,
        solarise: Share = 0.2,
    ):
        """shift: the most that the second view is moved, as a share of the shorter side; jitter, blur and solarise: of
        the second view."""
        pixels = round(shift * min(size))
        colours = Colours(jitter=jitter, jitter_chance=0.8, grey=0.2, blur=blur, solarise=solarise)
        larger = (size[0] + pixels, size[1] + pixels)
        window = RandomCrop(larger, scale=(crop, 1.0), flip=flip, resize=resize)
        super().__init__(ShiftedView(window, colours, shift=pixels), notes=notes_on(colours, channels, size))
