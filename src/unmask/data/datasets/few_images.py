"""A few images by name, for drawing."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from unmask.data.codecs.decode import decode_side
from unmask.data.datasets.images import Samples
from unmask.data.modality import IMAGE
from unmask.data.sheet import inspect
from unmask.data.source import open_source
from unmask.errors import DataError

SUFFIXES = (".png", ".pdf", ".svg", ".jpg")


def read_images(
    places: str | Path | Sequence[str | Path],
    most: int,
    size: tuple[int, ...],
    channels: int,
    view: Callable[[Any], Tensor],
    modality: str = IMAGE,
) -> tuple[list[str], list[Tensor]]:
    """Names and images as `view` makes them, at most `most`; bad ones are named and left out, unless none is good.

    size: of what is wanted, of images height and width in pixels; images are decoded four times as large.
    """
    source = open_source(places, modality)
    count = min(most, len(source.items))
    indices = [i * len(source.items) // count for i in range(count)]  # spread over the data, not the first of them
    sheet, cache = inspect(source, indices=indices, max_side=decode_side(size), keep_bytes=2**31)
    bad = {index: f"{name}: {reason}" for index, name, reason in sheet.bad}
    if len(bad) == len(indices):
        raise DataError(f"no {source.modality.word} could be read: " + "; ".join(bad.values()))
    for text in bad.values():
        print(f"left out: {text}")
    good = [i for i in indices if i not in bad]
    samples = Samples(source, good, channels=channels, max_side=decode_side(size), cache=cache)
    names = ["/".join(Path(name).parts[-2:]) for name in samples.names]
    return names, [view(samples.image(i)).float() for i in range(len(good))]
