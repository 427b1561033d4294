"""Opens and inspects the data of a run: data sheet, bad files, training split."""

from collections.abc import Sequence

from rich.console import Console

from unmask.data.datasets.held import hold
from unmask.data.datasets.images import Samples
from unmask.data.datasets.stream_preview import StreamSamples, glimpse
from unmask.data.modality import IMAGE
from unmask.data.shards.stream import is_stream, open_stream
from unmask.data.sheet import Sheet, check_bad, inspect
from unmask.data.source import open_source
from unmask.errors import UserError, many
from unmask.runtime.machine import machine
from unmask.runtime.progress import progress, stage

CACHE_SHARE = 0.2  # of the free memory, for decoded images


def look_at(
    data: Sequence[str],
    console: Console,
    *,
    max_side: int,
    channels: int | None = None,
    shuffle_buffer: int | None = None,
    max_bad: float = 0.05,
    modality: str | None = IMAGE,
    in_memory: str = "auto",
) -> tuple[Sheet, Samples | StreamSamples]:
    """Opens and inspects the data: the training split if there are splits, otherwise everything.

    max_side: pixels to which larger images are shrunk; channels: None for as many as the data has; modality: the
    kind of samples, None for what most are; in_memory: "off" where no clip is decoded beforehand. Raises UserError for
    data that cannot be opened, DataError if more than a share of `max_bad` is bad.
    """
    if is_stream(data):
        return _look_at_stream(data, console, max_side, channels, max_bad, modality)
    if shuffle_buffer is not None:
        raise UserError("--shuffle-buffer is for streams (docs/streams.md); these images are mixed over all of them")
    source = open_source(data, modality)
    train = [i for i, item in enumerate(source.items) if item.split in (None, "train")]
    indices = train or list(range(len(source.items)))
    room = int(CACHE_SHARE * machine("cpu", "32").memory)
    with progress(console, f"looking at the {source.modality.word}s", len(indices)) as update:
        sheet, cache = inspect(
            source,
            indices=indices,
            max_side=max_side,
            keep_bytes=room,
            progress=update,
        )
    good = _good(sheet, indices, console, max_bad)
    if in_memory != "off":
        with progress(console, f"decoding the {source.modality.word}s", len(cache)) as update:
            held = hold(cache, room - sum(content.nbytes for content in cache.values()), update)
        if held is not None:
            size = sum(content.nbytes for content in held.values()) / 2**20
            console.print(
                f"In memory: {many(len(held), sheet.word)}, decoded, {size:,.0f} MB (--in-memory off: each when needed)"
            )
            cache = held
    shared = {"channels": channels or sheet.channels, "max_side": max_side, "usual_range": sheet.usual_range}
    return sheet, Samples(source, good, cache=cache, **shared)


def _look_at_stream(
    data: Sequence[str], console: Console, max_side: int, channels: int | None, max_bad: float, modality: str | None
) -> tuple[Sheet, StreamSamples]:
    """Opens a stream and inspects a part of it: inspecting all of it before training could take too long."""
    stream = open_stream(data, kind=modality).training()
    with stage(console, f"looking into {many(len(stream.shards), 'shard')}"):
        preview = glimpse(stream)
        sheet = preview.amend(inspect(preview.held, max_side=max_side)[0], stream)
    good = _good(sheet, range(len(preview.held.items)), console, max_bad)
    shared = {"channels": channels or sheet.channels, "max_side": max_side, "usual_range": sheet.usual_range}
    held = Samples(preview.held, good, **shared)
    return sheet, StreamSamples(stream, held, preview.count)


def _good(sheet: Sheet, indices: Sequence[int], console: Console, max_bad: float) -> list[int]:
    """Prints the sheet and returns the indices of readable files."""
    console.print(sheet.text(), soft_wrap=True)
    check_bad(sheet, max_bad)
    bad = {index for index, _, _ in sheet.bad}
    return [i for i in indices if i not in bad]
