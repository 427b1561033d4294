"""Clips: video files and animated GIFs, folders of frames, arrays. Frames are decoded as they are asked for, and the
whole clip never. See `containers/stream.py` for what reads files and why."""

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from unmask.data.codecs.containers.playback import pictures
from unmask.data.codecs.containers.stream import Index, Stream, open_stream, read_index
from unmask.data.codecs.decode import decode
from unmask.data.codecs.image import BadImage, DecodedImage
from unmask.errors import many

NAMES = {"mov": "MP4", "matroska": "MKV", "asf": "WMV", "mpegts": "MPEG-TS"}  # of FFmpeg's names, those that say little
UNEVEN = 1.5  # longest over shortest step from which a frame rate is called variable
ONE = "one frame only: a picture, not a clip"


@dataclass(frozen=True)
class Clip(ABC):
    """A clip that can be pickled and holds no open file. Size, rate and duration are those of the clip as it is to be
    shown: turned by its rotation tag, with square pixels."""

    format: str  # "MP4 (h264)", "GIF", "PNG frames", "array"
    size: tuple[int, int, int]  # frames, height, width
    channels: int  # 1 only where the stream is grey, else 3
    bits: int  # per value as stored; frames are given with 8
    rate: float | None  # frames per second, on average; None where nothing says it
    duration: float | None  # seconds, those of the last frame included
    notes: tuple[str, ...] = ()
    estimated: bool = False  # size[0] is what the container's head says or implies; `counted` counts

    @property
    def num_frames(self) -> int:
        return self.size[0]

    def counted(self) -> "Clip":
        """The same clip with its frames counted. Raises BadImage for a file that ends early."""
        return self

    def frames(self, indices: Sequence[int], max_side: int | None = None) -> UInt8[Tensor, "c t h w"]:
        """The frames of these numbers, in this order, repeated where a number is. max_side: pixels; where the shorter
        side is longer, frames shrink until it is this long. Raises BadImage for what is broken or beyond the clip."""
        beyond = next((index for index in indices if not 0 <= index < self.num_frames), None)
        if beyond is not None:
            raise BadImage(f"has {many(self.num_frames, 'frame')}; frame {beyond} (from 0) was asked for")
        wanted = sorted({int(index) for index in indices})
        decoded = dict(zip(wanted, self._pictures(wanted, max_side)))
        return torch.stack([decoded[int(index)] for index in indices], dim=1)

    def at(self, seconds: Sequence[float], max_side: int | None = None) -> UInt8[Tensor, "c t h w"]:
        """The frames on screen at these times, counted from the first frame; the first one before, the last after."""
        if self.rate is None:
            raise BadImage("its frames carry no times: give the frame rate")
        last = self.num_frames - 1
        return self.frames([min(last, max(0, int(time * self.rate + 1e-6))) for time in seconds], max_side)

    @abstractmethod
    def _pictures(self, indices: list[int], max_side: int | None) -> Iterator[UInt8[Tensor, "c h w"]]:
        """Frames of ascending, distinct numbers."""


def open_clip(
    source: str | bytes | np.ndarray | Sequence[str | bytes], *, rate: float | None = None, count: bool = True
) -> Clip:
    """A clip from a file (path or content), from the images that are its frames (in their order), or from an array:
    t h w, t h w c, or t c h w, of 8 or 16 bits; channels are last unless only the second axis is 1 or 3.

    rate: frames per second of what carries no times (images, arrays). count: read all packets, without decoding them,
    which counts frames and finds what ends early; without it only the file's head and its first frame are read, and
    the number of frames is `estimated`. Raises BadImage with the reason; UserError where PyAV is not installed.
    """
    try:
        if isinstance(source, np.ndarray):
            return _from_array(source, rate)
        return _from_file(source, count) if isinstance(source, str | bytes) else _from_images(tuple(source), rate)
    except OSError as error:
        raise BadImage(f"cannot be read ({error.strerror or error})") from error


@dataclass(frozen=True)
class FileClip(Clip):
    stream: Stream | None = None
    index: Index | None = None

    def counted(self) -> "FileClip":
        return _with_index(self, self._index) if self.estimated else self

    def frames(self, indices: Sequence[int], max_side: int | None = None) -> UInt8[Tensor, "c t h w"]:
        return self.counted().frames(indices, max_side) if self.estimated else super().frames(indices, max_side)

    def at(self, seconds: Sequence[float], max_side: int | None = None) -> UInt8[Tensor, "c t h w"]:
        assert self.stream is not None
        start, base = self.stream.start, self.stream.base
        stamps = [start + int(max(0.0, time) / base + 1e-6) for time in seconds]
        if self.index is not None:
            return self.frames([bisect_right(self.index.stamps, stamp) - 1 for stamp in stamps], max_side)
        wanted = sorted(set(stamps))
        decoded = dict(zip(wanted, pictures(self.stream, wanted, None, max_side)))
        return torch.stack([decoded[stamp] for stamp in stamps], dim=1)

    def _pictures(self, indices: list[int], max_side: int | None) -> Iterator[UInt8[Tensor, "c h w"]]:
        assert self.stream is not None
        return pictures(self.stream, [int(self._index.stamps[i]) for i in indices], self._index, max_side)

    @cached_property
    def _index(self) -> Index:
        assert self.stream is not None
        return self.index or read_index(self.stream)


@dataclass(frozen=True)
class ImagesClip(Clip):
    sources: tuple[str | bytes, ...] = ()

    def _pictures(self, indices: list[int], max_side: int | None) -> Iterator[UInt8[Tensor, "c h w"]]:
        for index in indices:
            image = _image(self.sources[index], index, max_side)
            if image.size != self.size[1:] or image.pixels.shape[0] != self.channels:
                kinds = [(*image.size, image.pixels.shape[0]), (*self.size[1:], self.channels)]
                told = [f"{height} x {width} of {many(channels, 'channel')}" for height, width, channels in kinds]
                raise BadImage(f"frame {index} is {told[0]}, the first is {told[1]}")
            yield _eight_bits(image)


@dataclass(frozen=True)
class ArrayClip(Clip):
    array: np.ndarray | None = None  # t h w or t h w c

    def _pictures(self, indices: list[int], max_side: int | None) -> Iterator[UInt8[Tensor, "c h w"]]:
        assert self.array is not None
        for index in indices:
            yield _eight_bits(decode(np.ascontiguousarray(self.array[index]), max_side=max_side))


def _from_file(source: str | bytes, count: bool) -> Clip:
    stream = open_stream(source)
    name = NAMES.get(stream.container, stream.container.upper())
    if stream.container == "mov" and _head(source)[8:10] == b"qt":
        name = "MOV"
    if stream.container == "matroska" and stream.codec in ("vp8", "vp9", "av1"):
        name = "WebM"
    clip = FileClip(
        format=name if name == "GIF" else f"{name} ({stream.codec})",
        size=(stream.declared or round((stream.seconds or 0) * stream.rate), *stream.size),
        channels=stream.channels,
        bits=stream.bits,
        rate=stream.rate,
        duration=stream.seconds,
        notes=stream.notes,
        estimated=True,
        stream=stream,
    )
    return clip.counted() if count or clip.num_frames < 2 else clip


def _with_index(clip: FileClip, index: Index) -> FileClip:
    """The counted clip."""
    stream, count = clip.stream, len(index.stamps)
    assert stream is not None
    if count < 2:
        raise BadImage(ONE)
    duration = float((index.end - int(index.stamps[0])) * stream.base)
    steps, notes = np.diff(np.asarray(index.stamps)), clip.notes
    variable = steps.max() > UNEVEN * steps.min() + 2  # containers round times to whole units
    if variable:
        shortest, longest = (float(step * stream.base) for step in (steps.min(), steps.max()))
        notes = (*notes, f"variable frame rate: a frame lasts {shortest:.3g} to {longest:.3g} s")
    rate = count / duration
    rate = stream.rate if not variable and abs(stream.rate / rate - 1) < 0.02 else rate  # exact: 30000/1001
    size = (count, *clip.size[1:])
    return replace(clip, size=size, rate=rate, duration=duration, notes=notes, estimated=False, index=index)


def _from_images(sources: tuple[str | bytes, ...], rate: float | None) -> ImagesClip:
    if len(sources) < 2:
        raise BadImage(ONE if sources else "no frames")
    first = _image(sources[0], 0, None)
    channels, size = _eight_bits(first).shape[0], (len(sources), *first.size)
    duration = len(sources) / rate if rate else None
    return ImagesClip(f"{first.format} frames", size, channels, first.bits, rate, duration, sources=sources)


def _image(source: str | bytes, index: int, max_side: int | None) -> DecodedImage:
    try:
        return decode(source if isinstance(source, bytes) else Path(source).read_bytes(), max_side=max_side)
    except (BadImage, OSError) as error:
        raise BadImage(f"frame {index}: {error.strerror if isinstance(error, OSError) else error}") from error


def _from_array(array: np.ndarray, rate: float | None) -> ArrayClip:
    if array.ndim == 4 and array.shape[3] not in (1, 3) and array.shape[1] in (1, 3):
        array = array.transpose(0, 2, 3, 1)  # t c h w -> t h w c
    if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[3] not in (1, 3)):
        raise BadImage(f"array of shape {array.shape}, a clip is t h w, t h w c or t c h w with 1 or 3 channels")
    if array.dtype.kind not in "bu" or array.dtype.itemsize > 2:
        raise BadImage(f"array of {array.dtype}, the frames of a clip are uint8 or uint16")
    if len(array) < 2 or not array.size:
        raise BadImage(ONE if array.size else "no frames")
    channels = array.shape[3] if array.ndim == 4 else 1
    duration = len(array) / rate if rate else None
    bits = 1 if array.dtype == bool else 8 * array.dtype.itemsize
    return ArrayClip("array", array.shape[:3], channels, bits, rate, duration, array=array)


def _eight_bits(image: DecodedImage) -> UInt8[Tensor, "c h w"]:
    """16-bit images come on the scale of 8 bits; other deep ones have no scale."""
    if image.as_stored:
        raise BadImage(f"values of {image.bits} bits ({image.mode}): frames of a clip have 8 or 16")
    return image.pixels if image.pixels.dtype == torch.uint8 else image.pixels.round().clamp(0, 255).to(torch.uint8)


def _head(source: str | bytes) -> bytes:
    if isinstance(source, bytes):
        return source[:16]
    with open(source, "rb") as file:
        return file.read(16)
