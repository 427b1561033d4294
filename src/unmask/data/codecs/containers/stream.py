"""The moving pictures of a file (MP4, MKV, AVI, GIF ...): whether it is whole, what its stream holds, where frames lie.

By PyAV, not TorchCodec: PyAV's wheels carry FFmpeg itself (x86-64 and arm64; Linux, macOS, Windows), where TorchCodec
needs an FFmpeg of the system and a build that fits the version of torch. PyAV also reads from bytes, gives packets that
are not decoded, and takes swscale's bit-exact flags. Its known leak, containers that nobody closes, cannot happen here:
every container is closed before a call returns. benchmarks/video_reads.py measures that.
"""

import io
import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, cast

import numpy as np

from unmask.data.codecs.containers.cut_short import cut_short, gif_frames
from unmask.data.codecs.image import MAX_PIXELS, BadImage
from unmask.data.codecs.signature import HEAD, audio_format, video_format, what_else
from unmask.errors import UserError
from unmask.version import install_line

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream


@dataclass(frozen=True)
class Index:
    """Of every frame, in the order of presentation, its time stamp in units of the stream's time base."""

    stamps: Sequence[int] | np.ndarray  # a range where frames are evenly spaced
    keys: Sequence[int] | np.ndarray  # those at which decoding can begin
    end: int  # of the last frame


@dataclass(frozen=True)
class Stream:
    """The moving pictures of a file: where they are, and what its head and its first frame say."""

    source: str | bytes  # path or content
    container: str  # FFmpeg's name of the format
    number: int  # of the stream within the container
    codec: str
    start: int  # time stamp of the first frame
    base: Fraction  # seconds per unit of a time stamp
    step: int  # units that a frame lasts, on average
    rate: float  # frames per second, by the container
    seconds: float | None  # by the container
    declared: int  # frames, by the container; 0 where it does not say
    size: tuple[int, int]  # height, width as shown: turned, with square pixels
    channels: int
    bits: int
    matrix: tuple[int, int, int, int]  # signs of the display matrix: x' = a x + c y, y' = b x + d y
    transparent: bool
    ordinal: bool  # no order of presentation is kept: time stamps are 0, 1, 2 ... from the start, and nothing is sought
    notes: tuple[str, ...]


@contextmanager
def opened(source: str | bytes, container: str) -> "Iterator[InputContainer]":
    """PyAV's container, closed at the end; what FFmpeg raises meanwhile becomes BadImage with the reason."""
    try:
        import av
        import av.error
    except ImportError as error:
        raise UserError(f"clips are read by PyAV, which is not installed: {install_line('unmask[video]')}") from error
    place = io.BytesIO(source) if isinstance(source, bytes) else "file:" + os.path.abspath(source)
    try:
        with av.open(place, "r", format=container, metadata_errors="replace") as media:
            yield media
    except av.error.EOFError as error:
        raise BadImage("truncated") from error
    except av.error.DecoderNotFoundError as error:
        raise BadImage("its codec is unknown to FFmpeg") from error
    except av.error.FFmpegError as error:
        raise BadImage(f"truncated or damaged ({error.strerror or error})") from error


def video_of(media: "InputContainer", number: int) -> "VideoStream":
    """The stream of this number within its container."""
    for video in media.streams.video:
        if video.index == number:
            return video
    raise BadImage("has changed since it was opened")


def decoded(media: "InputContainer", video: "VideoStream") -> "Generator[VideoFrame, None, None]":
    """Frames in the order of presentation, from where the container is."""
    with _packets(media, video) as packets:
        for packet in packets:
            yield from packet.decode()


def _packets(media: "InputContainer", video: "VideoStream") -> "closing[Generator[Packet, None, None]]":
    """Closed when it is left, since PyAV loses a packet where its own loop is merely dropped."""
    return closing(cast("Generator[Packet, None, None]", media.demux(video)))


def open_stream(source: str | bytes) -> Stream:
    """Checks that a file is whole as far as its head tells, and decodes the first frame. Raises BadImage."""
    with _file(source) as file:
        head, length = file.read(HEAD), file.seek(0, os.SEEK_END)
        if not length:
            raise BadImage("empty file")
        if (container := video_format(head)) is None:
            sound = audio_format(head, source if isinstance(source, str) else ".mp3")
            raise BadImage("sound only, no pictures" if sound else what_else(head).replace("an image", "a clip", 1))
        if fault := cut_short(file, container, length):
            raise BadImage(fault)
        gif = gif_frames(_all(file)) if container == "gif" else 0
    with opened(source, container) as media:
        video = _pictures_of(media)
        with closing(decoded(media, video)) as frames:
            frame = next(frames, None)
        if frame is None:
            raise BadImage("truncated or damaged: no frame can be decoded")
        return _stream(source, container, media, video, frame, gif)


def _stream(
    source: str | bytes, container: str, media: "InputContainer", video: "VideoStream", frame: "VideoFrame", gif: int
) -> Stream:
    form, notes = frame.format, []
    side = frame.side_data.get("DISPLAYMATRIX")
    stored = np.frombuffer(bytes(side), "=i4")[[0, 1, 3, 4]].astype(int) if side is not None else np.array([1, 0, 0, 1])
    quarter = abs(stored[0]) < abs(stored[1])
    matrix = tuple(int(sign) for sign in np.sign(stored) * ((0, 1, 1, 0) if quarter else (1, 0, 0, 1)))
    aspect = video.sample_aspect_ratio or Fraction(1)
    width = round(frame.width * aspect) if Fraction(1, 10) < aspect < 10 else frame.width
    size = (width, frame.height) if quarter else (frame.height, width)
    if width != frame.width:
        notes.append(f"pixels of {aspect.numerator}:{aspect.denominator} made square")
    if matrix != (1, 0, 0, 1):
        notes.append("turned by its rotation tag" if matrix[0] * matrix[3] - matrix[1] * matrix[2] > 0 else "mirrored")
    bits = max(part.bits for part in form.components)
    if bits > 8:
        notes.append(f"{bits} bits shown as 8")
    grey = not form.has_palette and all(part.is_luma or part.is_alpha for part in form.components)
    transparent = any(part.is_alpha for part in form.components)
    ordinal = frame.pts is None or (container == "avi" and bool(video.codec_context.has_b_frames))
    rate = float(video.average_rate or video.guessed_rate or 25)
    base = 1 / Fraction(rate).limit_denominator(100_000) if ordinal else Fraction(video.time_base or 1)
    whole = media.duration / 1_000_000 if media.duration else None
    return Stream(
        source=source,
        container=container,
        number=video.index,
        codec=video.codec_context.name,
        start=0 if ordinal else int(frame.pts or 0),
        base=base,
        step=max(1, round(1 / (rate * base))),
        rate=rate,
        seconds=float(video.duration * video.time_base) if video.duration and video.time_base else whole,
        declared=gif or video.frames,
        size=size,
        channels=1 if grey else 3,
        bits=bits,
        matrix=(matrix[0], matrix[1], matrix[2], matrix[3]),
        transparent=transparent,
        ordinal=ordinal,
        notes=tuple(notes),
    )


def read_index(stream: Stream) -> Index:
    """The time stamps of all frames, from packets that are not decoded. Raises BadImage for what ends early."""
    stamps, keys, last = [], [], 0
    with opened(stream.source, stream.container) as media, _packets(media, video_of(media, stream.number)) as packets:
        for packet in packets:
            if not packet.size or packet.is_discard:
                continue
            stamp = len(stamps) if stream.ordinal else packet.pts
            if packet.is_corrupt or stamp is None:
                raise BadImage(f"truncated or damaged at frame {len(stamps) + 1}")
            if stream.codec == "vp8" and not memoryview(packet)[0] & 0x10:  # a frame for reference only, never shown
                continue
            if stamp >= stream.start:
                stamps.append(stamp)
                last = max(last, stamp + (packet.duration or 0 if not stream.ordinal else 1))
                if packet.is_keyframe:
                    keys.append(stamp)
    if not stamps:
        raise BadImage("truncated or damaged: no frame")
    ordered = np.unique(np.array(stamps, np.int64))
    end = last if last > ordered[-1] else int(ordered[-1]) + stream.step
    return Index(_compact(ordered), _compact(np.unique(np.array(keys, np.int64))), end)


def _compact(stamps: np.ndarray) -> range | np.ndarray:
    steps = np.diff(stamps)
    if len(steps) and (steps == steps[0]).all():
        return range(int(stamps[0]), int(stamps[-1]) + 1, int(steps[0]))
    return stamps


def _pictures_of(media: "InputContainer") -> "VideoStream":
    """The stream to read: no cover of a recording, and of several the container's own first choice."""
    streams = [
        video for video in media.streams.video if not int(video.disposition) & 0x400
    ]  # 0x400: an attached picture
    if not streams:
        raise BadImage("sound only, no pictures" if media.streams.audio else "no stream of pictures")
    video = next((video for video in streams if int(video.disposition) & 1), streams[0])
    if video.codec_context is None:
        raise BadImage("its codec is unknown to FFmpeg")
    if video.width * video.height > MAX_PIXELS:
        raise BadImage(f"decompression bomb: {video.height} x {video.width} pixels, the limit is {MAX_PIXELS:,}")
    return video


def _file(source: str | bytes) -> io.BufferedIOBase:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    if not os.path.isfile(source):
        raise BadImage("not a regular file" if os.path.lexists(source) else "there is no such file")
    return open(source, "rb")


def _all(file: io.BufferedIOBase) -> bytes:
    file.seek(0)
    return file.read()
