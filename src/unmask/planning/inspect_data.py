"""Opens the data of a run and looks at it: data sheet, bad files, training split."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console

from unmask.data.codecs.decode import decode_side
from unmask.data.datasets.images import Samples
from unmask.data.datasets.stream_preview import StreamSamples, glimpse
from unmask.data.shards.stream import is_stream, open_stream
from unmask.data.sheet import Sheet, check_bad, inspect
from unmask.data.source import open_source
from unmask.errors import UserError, many
from unmask.plain import numbers
from unmask.runtime.machine import machine
from unmask.runtime.progress import progress

CACHE_SHARE = 0.2  # of the free memory, for decoded images


def look_at(
    data: Sequence[str],
    saved: dict[str, Any] | None,
    console: Console,
    *,
    image_size: tuple[int, ...] | None = None,
    channels: int | None = None,
    shuffle_buffer: int | None = None,
    max_bad: float = 0.05,
) -> tuple[Sheet, Samples | StreamSamples]:
    """Opens and inspects the data; the training split where there are splits, else everything."""
    if not data:
        raise UserError("say on which images: unmask pretrain DATA (a folder, an archive, an .npz, or demo)")
    if is_stream(data):
        return _look_at_stream(data, saved, console, image_size, channels, max_bad)
    if shuffle_buffer is not None:
        raise UserError("--shuffle-buffer is for streams (docs/streams.md); these images are mixed over all of them")
    source = open_source(data)
    train = [i for i, item in enumerate(source.items) if item.split in (None, "train")]
    indices = train or list(range(len(source.items)))
    max_side = saved["max_side"] if saved else decode_side(numbers(image_size or 224))
    with progress(console, "looking at the images", len(indices)) as update:
        sheet, cache = inspect(
            source,
            indices=indices,
            max_side=max_side,
            keep_bytes=int(CACHE_SHARE * machine("cpu", "32").memory),
            progress=update,
        )
    bad = {index for index, _, _ in sheet.bad}
    good = [i for i in indices if i not in bad]
    console.print(sheet.text(), soft_wrap=True)
    check_bad(sheet, max_bad)
    wanted = channels or (saved["settings"]["channels"] if saved else sheet.channels)
    return sheet, Samples(source, good, channels=wanted, max_side=max_side, cache=cache)


def _look_at_stream(
    data: Sequence[str],
    saved: dict[str, Any] | None,
    console: Console,
    image_size: tuple[int, ...] | None,
    channels: int | None,
    max_bad: float,
) -> tuple[Sheet, StreamSamples]:
    """Opens a stream and looks at some of it: it may be too long to look at all before anything is learned."""
    stream = open_stream(data).training()
    max_side = saved["max_side"] if saved else decode_side(numbers(image_size or 224))
    with console.status(f"looking into {many(len(stream.shards), 'shard')}"):
        seen = glimpse(stream)
        sheet = seen.amend(inspect(seen.held, max_side=max_side)[0], stream)
    console.print(sheet.text(), soft_wrap=True)
    check_bad(sheet, max_bad)
    bad = {index for index, _, _ in sheet.bad}
    good = [i for i in range(len(seen.held.items)) if i not in bad]
    wanted = channels or (saved["settings"]["channels"] if saved else sheet.channels)
    return sheet, StreamSamples(stream, Samples(seen.held, good, channels=wanted, max_side=max_side), seen.count)
