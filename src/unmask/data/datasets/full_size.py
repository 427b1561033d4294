"""Images one at a time, each with the size of the original: for models that predict every pixel."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Shaped
from torch import Tensor

from unmask.data.codecs.image import BadImage
from unmask.data.modality import IMAGE
from unmask.data.source import Source, open_source, why


@dataclass(frozen=True)
class Shown:
    name: str
    pixels: Shaped[Tensor, "c h w"]  # maybe smaller than the original
    size: tuple[int, int]  # height, width of the original, after EXIF rotation


def read_shown(
    images: str | Path | Sequence[str | Path] | Source,
    channels: int,
    max_side: int | None,  # pixels, as for `decode`
    bad: Callable[[str, str], Any],  # told name and reason of an image that cannot be used; it is passed over
    modality: str = IMAGE,  # what they are
) -> Iterator[Shown]:
    """One image at a time, so that a folder of any size fits into memory."""
    source = images if isinstance(images, Source) else open_source(images, modality)
    for index, item in enumerate(source.items):
        try:
            image = source.modality.decode(source.raw(index), max_side)
            pixels = source.modality.fitted(image.content, channels)
        except (BadImage, OSError) as error:
            bad(item.name, why(error))
            continue
        yield Shown(item.name, pixels, (image.size[0], image.size[1]))


def as_shown(pixels: Shaped[Tensor, "n c h w"]) -> list[Shown]:
    """Images given as raw pixels; their names are their indices."""
    return [Shown(str(i), image, (image.shape[1], image.shape[2])) for i, image in enumerate(pixels)]
