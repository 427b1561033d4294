"""Looks at a sample of the images in a bounded time: data sheet, decoded images, and a data set to plan with."""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from jaxtyping import Shaped
from torch import Tensor

from unmask.data.codecs.decode import decode_side
from unmask.data.datasets.images import Samples
from unmask.data.datasets.stream_preview import StreamSamples, glimpse
from unmask.data.modality import IMAGE
from unmask.data.shards.stream import is_stream, open_stream
from unmask.data.sheet import Sheet, check_bad, inspect
from unmask.data.source import Source, open_source
from unmask.studies.advice.appearance import Appearance, measure_appearance

MOST = 1000  # images that are decoded, at the most
FIRST, SECONDS, ROOM = 32, 15.0, 2**30  # images by which time and bytes of one are measured; time and bytes for all
SAMPLED = 64  # samples of other kinds, which may be large, that are decoded
SHRUNK = 224  # pixels to which the shorter side of larger images is shrunk
MOST_BAD = 0.5  # share of unreadable images above which there is nothing to advise on


@dataclass(frozen=True)
class Look:
    """What was seen of the data."""

    sheet: Sheet  # facts of the sample; `count` is of all
    samples: Samples | StreamSamples  # all images but those found bad
    pixels: dict[int, Shaped[Tensor, "c h w"]]  # decoded ones of the sample, by index in the source
    names: list[str]  # of these
    labels: list[str]  # of these; "" for none
    appearance: Appearance
    seconds: float  # that reading and decoding an image takes


def look_at_sample(
    data: Sequence[str], progress: Callable[[int, int], None] | None = None, *, seconds: float = SECONDS
) -> Look:
    """Decodes a random sample of the training split, or of all: as many images as the time allows, at most MOST.

    Raises UserError for data that cannot be opened, DataError if more than half of the sample is bad.
    """
    side = decode_side(SHRUNK)  # that training decodes to
    if is_stream(data):
        stream = open_stream(data).training()
        preview = glimpse(stream)
        sheet, pixels, each = _sample(preview.held, range(len(preview.held.items)), seconds, progress)
        sheet = replace(preview.amend(sheet, stream), checked=sheet.checked)
        held = Samples(preview.held, sorted(pixels), channels=sheet.channels, max_side=side)
        return _seen(preview.held, sheet, StreamSamples(stream, held, preview.count), pixels, each)
    source = open_source(data)
    train = [i for i, item in enumerate(source.items) if item.split in (None, "train")]
    indices = train or list(range(len(source.items)))
    sheet, pixels, each = _sample(source, indices, seconds, progress)
    bad = {index for index, _, _ in sheet.bad}
    good = [i for i in indices if i not in bad]
    shared = {"channels": sheet.channels, "max_side": side, "usual_range": sheet.usual_range}
    cache = pixels if max(sheet.max_size) <= SHRUNK else None  # as they are: larger ones are shrunk less in training
    return _seen(source, sheet, Samples(source, good, cache=cache, **shared), pixels, each)


def find_other_kind(data: Sequence[str], modality: str | None) -> Source | None:
    """The data, opened, if it is no images: what was asked for, or what most files are where there are no images; None
    for images, and for streams, which are of images. Raises UserError for data that cannot be opened."""
    if is_stream(data):
        return None
    source = open_source(data, modality)
    return None if source.modality.word == IMAGE else source


def look_at_kind(source: Source, progress: Callable[[int, int], None] | None = None) -> Sheet:
    """The sheet of a random sample of what is to train on, at most SAMPLED; its `count` is of all. Raises DataError if
    more than half of the sample is bad."""
    train = [i for i, item in enumerate(source.items) if item.split in (None, "train")]
    indices = train or list(range(len(source.items)))
    chosen = sorted(random.Random(0).sample(indices, min(SAMPLED, len(indices))))
    sheet, _ = inspect(source, indices=chosen, max_side=decode_side(SHRUNK), limit=len(chosen), progress=progress)
    check_bad(sheet, MOST_BAD, fixed=True)
    return replace(sheet, count=len(indices))


def _sample(
    source: Source, indices: Sequence[int], seconds: float, progress: Callable[[int, int], None] | None
) -> tuple[Sheet, dict[int, Tensor], float]:
    """The sheet of a random sample, its count that of all indices, the decoded images, and the seconds of one."""
    order = random.Random(0).sample(list(indices), len(indices))
    number = len(order)
    if number > FIRST:
        began = time.monotonic()
        _, first = inspect(source, indices=sorted(order[:FIRST]), max_side=SHRUNK, limit=FIRST, keep_bytes=ROOM)
        each, size = (time.monotonic() - began) / FIRST, sum(image.nbytes for image in first.values()) / FIRST
        number = max(FIRST, min(MOST, number, int(seconds / max(each, 1e-9)), int(ROOM / max(size, 1))))
    chosen, began = sorted(order[:number]), time.monotonic()
    sheet, pixels = inspect(
        source, indices=chosen, max_side=SHRUNK, limit=len(chosen), keep_bytes=2 * ROOM, progress=progress
    )
    check_bad(sheet, MOST_BAD, fixed=True)
    return replace(sheet, count=len(order)), pixels, (time.monotonic() - began) / len(chosen)


def _seen(
    source: Source, sheet: Sheet, samples: Samples | StreamSamples, pixels: dict[int, Tensor], seconds: float
) -> Look:
    items = [source.items[i] for i in pixels]
    names, labels = [item.name for item in items], [item.label or "" for item in items]
    return Look(sheet, samples, pixels, names, labels, measure_appearance(pixels), seconds)
