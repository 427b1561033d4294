"""An encoder with a dense head: raw samples in, a class for every pixel, voxel or point out. What
`transfer --to segment` trains; what differs for volumes and clouds lies in that task."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64, Shaped, UInt8
from torch import Tensor, nn
from torch.nn.functional import interpolate

from unmask import registry
from unmask.errors import UserError
from unmask.models.encoder import Encoder
from unmask.models.sliding_window import Size, slide, slide_strips

MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}  # of interpolation, by the number of axes


class Segmenter(nn.Module):
    """head(pyramid(encoder.features(x))): logits for every class and pixel.

    window: height and width of the crops that it sees of an image, which is first resized to a shorter side of `side`.
    """

    window: Any  # Size; of volumes three sides

    def __init__(
        self,
        encoder: Encoder,
        classes: Sequence[str],
        numbers: Sequence[int],
        *,
        head: str = "light",  # a part of heads/
        window: tuple[int, ...] | None = None,  # pixels; None: the encoder's own size
        side: int | None = None,  # pixels; None: the shorter side of the window
    ):
        """Raises UserError for an unknown head, or one for inputs of other axes."""
        super().__init__()
        self.encoder, self.classes, self.numbers = encoder, list(classes), list(numbers)
        self.window = tuple(encoder.input_size if window is None else window)
        self.side = side or min(self.window)
        kind, (unit, own) = registry.find("head", registry.parse(head)[0]), self.read_out(encoder)
        axes = len(encoder.input_size) if unit is None else len(unit)
        if axes not in kind.axes:
            suited = [name for name in registry.names("head") if axes in registry.find("head", name).axes]
            listed = f"there are: {', '.join(suited)}" if suited else "there is none"
            of = "points" if unit == (1,) else f"inputs of {axes} axes"
            raise UserError(f"the head {head} is not for {of}; {listed}")
        self.pyramid: Any = None
        if kind.taps == "pyramid":
            stages = encoder.num_maps < encoder.num_blocks  # Hiera's maps have four strides already
            self.pyramid = registry.build(
                "pyramid", "stages(dim=None)" if stages else "taps(dim=None)", encoder=encoder
            )
            self.layers, dims = list(self.pyramid.layers), list(self.pyramid.dims)
        else:
            self.layers = [encoder.num_maps - 1] if kind.taps == "last" else quarters(encoder.num_maps)
            dims = [own] * (kind.taps == "input") + encoder.feature_dims(self.layers)
        sides = {} if unit is None else {"unit": unit}
        self.head = registry.build("head", head, dims=dims, num_classes=len(self.classes), **sides)

    @staticmethod
    def read_out(encoder: Encoder) -> tuple[tuple[int, ...] | None, int]:
        """The sides of a unit, where they are not those of an image's, and the channels of what a head reads beside the
        encoder's maps."""
        return (None if len(encoder.input_size) == 2 else encoder.grid.unit), encoder.channels

    def parted(self, views: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], Int64[Tensor, "b *size"]]:
        """What `features` takes of the views of a batch, and the true class of every place: the last channel."""
        (both,) = views
        return (both[:, :-1],), both[:, -1].long()

    def forward(self, x: Shaped[Tensor, "b c *size"]) -> Float[Tensor, "b k *size"]:
        """Logits of raw pixels, at their size."""
        return self.read(self.features(x), tuple(x.shape[2:]))[0]

    outputs = ("logits",)  # of `traced`

    def traced(self, pixels: Shaped[Tensor, "b c *size"]) -> tuple[Tensor, ...]:
        """For exports: logits b k *size of windows."""
        return (self(pixels),)

    @property
    def input_size(self) -> tuple[int, ...]:
        """Sides of a window in pixels."""
        return self.window

    def features(self, x: Shaped[Tensor, "b c *size"]) -> list[Tensor]:
        """The maps that the head, or the pyramid before it, reads: the encoder's, and the input where it wants that."""
        maps = self.encoder.features(x, self.layers, norm=self.head.norm)
        return [self.encoder.whole(x), *maps] if self.head.taps == "input" else maps

    def read(self, features: list[Tensor], size: tuple[int, ...]) -> list[Float[Tensor, "b k ..."]]:
        """The head's logits at `size`; during training also those of its auxiliary head, if it has one."""
        maps = features if self.pyramid is None else self.pyramid(features)
        outputs = [self.head(maps)]
        if self.training and self.head.auxiliary_weight:
            outputs.append(self.head.auxiliary(maps))
        mode = MODES[len(size)]
        return [interpolate(logits.float(), size, mode=mode, align_corners=False) for logits in outputs]

    @torch.inference_mode()
    def maps(
        self,
        images: Iterable[tuple[Shaped[Tensor, "_ _ _"], Size]],
        batch: int = 16,
        autocast: torch.dtype | None = None,
    ) -> Iterator[UInt8[np.ndarray, "_ _"]]:
        """A class map for each image at the size given with it; the model should be in eval mode.

        batch: windows at a time.
        """
        run = partial(self._run, autocast=autocast)
        yield from slide(run, images, window=self.window, side=self.side, fill=self._fill, batch=batch)

    @torch.inference_mode()
    def strips(
        self, rows: Callable[[int, int], Float[Tensor, "c r w"]], size: Size, share: float, batch: int = 16
    ) -> Iterator[tuple[int, UInt8[np.ndarray, "_ _"]]]:
        """The class map of one image that need not fit into memory, strip by strip: see `slide_strips`. share: by which
        it is resized; the model should be in eval mode."""
        shape = {"window": self.window, "fill": self._fill, "classes": len(self.classes), "batch": batch}
        yield from slide_strips(self._run, rows, size, share=share, **shape)

    def _run(self, x: Tensor, autocast: torch.dtype | None = None) -> Tensor:
        where = self.encoder.mean.device
        with torch.autocast(where.type, dtype=autocast) if autocast else nullcontext():
            return self(x.to(where))

    @property
    def _fill(self) -> Float[Tensor, "_"]:
        """What lies beyond an image: the data's mean, which the network sees as 0."""
        return torch.cat([self.encoder.mean.cpu(), torch.zeros(self.encoder.planes)])


def quarters(depth: int) -> list[int]:
    """Indices of the last block of each quarter: 2, 5, 8 and 11 of twelve; fewer for an encoder of fewer than four
    blocks."""
    return sorted({-(-part * depth // 4) - 1 for part in range(1, 5)})
