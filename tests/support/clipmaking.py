"""Tiny clips, each frame of its own brightness, so that a decoded frame tells its number."""

import io
import shutil
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

LEVELS = 7  # brightness from one frame to the next
KINDS = {  # of file: FFmpeg's container, codec, pixel format
    "mp4": ("mp4", "libx264", "yuv420p"),
    "mov": ("mov", "mpeg4", "yuv420p"),
    "avi": ("avi", "mpeg4", "yuv420p"),
    "mkv": ("matroska", "libx264", "yuv420p"),
    "webm": ("webm", "libvpx-vp9", "yuv420p"),
    "gif": ("gif", "gif", "gray"),
    "flv": ("flv", "libx264", "yuv420p"),
    "ts": ("mpegts", "libx264", "yuv420p"),
}


def frame(number: int, size: tuple[int, int] = (32, 48), mark: bool = False) -> np.ndarray:
    """h w 3, uint8. mark: the top left quarter is white, to show which way up it is."""
    pixels = np.full((*size, 3), 10 + LEVELS * number, np.uint8)
    if mark:
        pixels[: size[0] // 2, : size[1] // 2] = 255
    return pixels


def clip(
    kind: str = "mp4",
    count: int = 24,
    *,
    size: tuple[int, int] = (32, 48),
    rate: int = 12,
    times: Sequence[int] | None = None,
    codec: str | None = None,
    pixels: str | None = None,
    rotation: tuple[float, bool] | None = None,
    aspect: Fraction | None = None,
    container: dict[str, str] | None = None,
    mark: bool = False,
    **options: str,
) -> bytes:
    """A file. times: of each frame, in units of 1 / rate; rotation: degrees counter-clockwise, and whether mirrored."""
    form, usual, usual_pixels = KINDS[kind]
    path = Path(tempfile.mkdtemp()) / "clip"  # a file: MP4 is read again while it is written
    with av.open(str(path), "w", format=form, options=container or {}) as media:
        video = media.add_stream(codec or usual, rate=rate, options=options)
        video.height, video.width = size
        video.pix_fmt = pixels or usual_pixels
        video.codec_context.thread_count = 1
        if aspect is not None:
            video.codec_context.sample_aspect_ratio = aspect
        if rotation is not None:
            video.set_display_rotation(rotation[0], hflip=rotation[1])
        for number in range(count):
            picture = av.VideoFrame.from_ndarray(frame(number, size, mark), "rgb24").reformat(format=video.pix_fmt)
            picture.time_base, picture.pts = Fraction(1, rate), times[number] if times else number
            media.mux(video.encode(picture))
        media.mux(video.encode(None))
    data = path.read_bytes()
    shutil.rmtree(path.parent)
    return data


def sound_only() -> bytes:
    """An MP4 without pictures."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as media:
        audio = media.add_stream("aac", rate=16000, layout="mono")
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), "fltp", "mono")
        samples.sample_rate = 16000
        media.mux(audio.encode(samples))
        media.mux(audio.encode(None))
    return file.getvalue()


def numbers(frames) -> list[int]:
    """Which frames these are: c t h w."""
    return [round((float(level) - 10) / LEVELS) for level in frames.float().mean(dim=(0, 2, 3))]
