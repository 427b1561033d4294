"""SimCLR's augmentation: crop, mirror, strong colour jitter, grey, blur. Chen et al. 2020, appendix A.

Two views of one image are two texts: "simclr", "simclr".
"""

from unmask.data.transform import Transform, View, notes_on
from unmask.data.transforms.kernels.colour import Colours
from unmask.data.transforms.kernels.crop import RandomCrop

__all__ = ["SimCLR"]


class SimCLR(Transform):
    def __init__(
        self,
        size: tuple[int, int],
        channels: int = 3,
        crop: float = 0.08,
        flip: bool = True,
        resize: str = "exact",
        strength: float = 1.0,
        grey: float = 0.2,
        blur: float = 0.5,
    ):
        """strength: of the colour jitter, 0 to 1; grey, blur: chances. Views up to 40 pixels are not blurred."""
        jitter = (0.8 * strength, 0.8 * strength, 0.8 * strength, 0.2 * strength)
        colours = Colours(jitter=jitter, jitter_chance=0.8, grey=grey, blur=blur)
        window = RandomCrop(size, scale=(crop, 1.0), flip=flip, resize=resize)
        super().__init__(View(window, colours), notes=notes_on(colours, channels, size))
