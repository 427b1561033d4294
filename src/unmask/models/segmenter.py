"""An encoder with a dense head: raw pixels in, a class for every pixel out. What `transfer --to segment` trains."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor, nn
from torch.nn.functional import interpolate

from unmask import registry
from unmask.models.encoder import Encoder
from unmask.models.sliding_window import Size, slide


class Segmenter(nn.Module):
    """head(pyramid(encoder.features(x))): logits for every class and pixel.

    window: height and width of the crops that it sees of an image, which is first resized to a shorter side of `side`.
    """

    def __init__(
        self,
        encoder: Encoder,
        classes: Sequence[str],
        numbers: Sequence[int],
        *,
        head: str = "light",  # a part of heads/
        window: Size | None = None,  # pixels; None: the encoder's own size
        side: int | None = None,  # pixels; None: the shorter side of the window
    ):
        """Raises UserError for an unknown head."""
        super().__init__()
        self.encoder, self.classes, self.numbers = encoder, list(classes), list(numbers)
        own = encoder.input_size
        self.window: Size = (own[0], own[1]) if window is None else (window[0], window[1])
        self.side = side or min(self.window)
        kind = registry.find("head", registry.parse(head)[0])
        self.pyramid: Any = None
        if kind.taps == "pyramid":
            stages = encoder.num_maps < encoder.num_blocks  # Hiera's maps have four strides already
            self.pyramid = registry.build(
                "pyramid", "stages(dim=None)" if stages else "taps(dim=None)", encoder=encoder
            )
            self.layers, dims = list(self.pyramid.layers), list(self.pyramid.dims)
        else:
            self.layers = quarters(encoder.num_maps) if kind.taps == "four" else [encoder.num_maps - 1]
            dims = encoder.feature_dims(self.layers)
        self.head = registry.build("head", head, dims=dims, num_classes=len(self.classes))

    def forward(self, x: Shaped[Tensor, "b c h w"]) -> Float[Tensor, "b k h w"]:
        """Logits of raw pixels, at their size."""
        return self.read(self.features(x), (x.shape[2], x.shape[3]))[0]

    outputs = ("logits",)  # of `traced`

    def traced(self, pixels: Shaped[Tensor, "b c h w"]) -> tuple[Tensor, ...]:
        """For exports: logits b k h w of windows."""
        return (self(pixels),)

    @property
    def input_size(self) -> Size:
        """Height and width of a window in pixels."""
        return self.window

    def features(self, x: Shaped[Tensor, "b c h w"]) -> list[Float[Tensor, "b _ _ _"]]:
        """The encoder's maps that the head, or the pyramid before it, reads."""
        return self.encoder.features(x, self.layers, norm=self.head.norm)

    def read(self, features: list[Float[Tensor, "b _ _ _"]], size: Size) -> list[Float[Tensor, "b k _ _"]]:
        """The head's logits at `size`; during training also those of its auxiliary head, if it has one."""
        maps = features if self.pyramid is None else self.pyramid(features)
        outputs = [self.head(maps)]
        if self.training and self.head.auxiliary_weight:
            outputs.append(self.head.auxiliary(maps))
        return [interpolate(logits.float(), size, mode="bilinear", align_corners=False) for logits in outputs]

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
        where = self.encoder.mean.device

        def run(x: Tensor) -> Tensor:
            on = torch.autocast(where.type, dtype=autocast) if autocast else nullcontext()
            with on:
                return self(x.to(where))

        # beyond an image lies the data's mean, which the network sees as 0
        shape = {"window": self.window, "side": self.side, "fill": self.encoder.mean.cpu(), "batch": batch}
        yield from slide(run, images, **shape)


def quarters(depth: int) -> list[int]:
    """Indices of the last block of each quarter: 2, 5, 8 and 11 of twelve; fewer for an encoder of fewer than four
    blocks."""
    return sorted({-(-part * depth // 4) - 1 for part in range(1, 5)})
