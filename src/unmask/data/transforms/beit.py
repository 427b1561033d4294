"""BEiT's pair: one crop at two sizes, for the encoder and for the tokenizer, with the same colours. Bao et al. 2021,
section 3 (224 and 112 pixels)."""

from unmask.data.transform import Transform, View, notes_on, smaller
from unmask.data.transforms.kernels.colour import Colours
from unmask.data.transforms.kernels.crop import RandomCrop

__all__ = ["BEiT"]


class BEiT(Transform):
    def __init__(
        self,
        size: tuple[int, int],
        patch: int,
        channels: int = 3,
        crop: float = 0.08,
        flip: bool = True,
        resize: str = "exact",
        jitter: float = 0.4,
        second: float = 0.5,
    ):
        """jitter: of brightness, contrast and saturation; second: side of the second view, as a share of the first's,
        in whole patches."""
        colours = Colours(jitter=(jitter, jitter, jitter, 0.0))
        window = RandomCrop(size, scale=(crop, 1.0), flip=flip, resize=resize)
        view = View(window, colours, also=(smaller(size, second, patch),))
        super().__init__(view, notes=notes_on(colours, channels, size))
