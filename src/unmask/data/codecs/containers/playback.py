"""Frames of a stream at wanted times: seeks to the key frame before, decodes from there, converts what is shown."""

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from unmask.data.codecs.containers.stream import Index, Stream, decoded, opened, video_of
from unmask.data.codecs.image import BadImage

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.reformatter import VideoReformatter
    from av.video.stream import VideoStream

SCALING = 4 | 0x2000 | 0x40000 | 0x80000  # swscale: bicubic, full chroma, accurate rounding, the same on every CPU
SEEK_AFTER = 2.0  # seconds from which a stream without an index is not decoded on but sought in
BACK_OFF = (0.0, 2.0, 10.0, math.inf)  # seconds before a frame where decoding begins; later ones if the first misleads
SLACK = 1.5  # frames that a stream may end early before it counts as truncated


def pictures(
    stream: Stream, targets: Sequence[int], index: Index | None, max_side: int | None
) -> Iterator[UInt8[Tensor, "c h w"]]:
    """Of each of these ascending time stamps, the frame on screen: decoded from the key frame before."""
    from av.video.reformatter import VideoReformatter

    with opened(stream.source, stream.container) as media:
        video = video_of(media, stream.number)
        head, reformatter = _Playhead(media, video, stream, index), VideoReformatter()
        with closing(head):
            for target in targets:
                yield _picture(head.frame_at(target), stream, reformatter, max_side)


class _Playhead:
    """A place in a stream that goes forwards by decoding, and jumps to key frames."""

    def __init__(self, media: "InputContainer", video: "VideoStream", stream: Stream, index: Index | None):
        self.media, self.video, self.stream, self.index = media, video, stream, index
        video.codec_context.thread_count = 1  # processes that load data are many already
        self._begin()

    def close(self) -> None:
        self.frames.close()

    def _begin(self) -> None:
        self.frames = decoded(self.media, self.video)
        self.stamped = self._stamped()
        self.shown: tuple[int, VideoFrame] | None = None
        self.ahead: tuple[int, VideoFrame] | None = None

    def _stamped(self) -> "Iterator[tuple[int, VideoFrame]]":
        last = -math.inf
        for number, frame in enumerate(self.frames):
            stamp = number if self.stream.ordinal else frame.pts
            if stamp is not None and stamp > last:
                last = stamp
                yield stamp, frame

    def frame_at(self, target: int) -> "VideoFrame":
        """The last frame at or before a time stamp. Raises BadImage where that is damaged or missing."""
        jumped = self._is_far(target)
        if not jumped:
            self._advance(target)
        if not self.stream.ordinal and (jumped or not self._good(target)):
            for back in BACK_OFF:
                earlier = max(self.stream.start, target - back / self.stream.base)
                self.close()
                self.media.seek(int(earlier), stream=self.video)
                self._begin()
                self._advance(target)
                if self._good(target):
                    break
        seconds = float((target - self.stream.start) * self.stream.base)
        if self.shown is None or not self._good(target):
            raise BadImage(f"truncated or damaged at {seconds:.2f} s")
        if self.ahead is None and self.shown[0] < target - SLACK * self.stream.step:
            reached = float((self.shown[0] - self.stream.start) * self.stream.base)
            if self.stream.seconds is None or seconds < self.stream.seconds:
                raise BadImage(f"truncated: nothing follows {reached:.2f} s, and {seconds:.2f} s should be there")
        return self.shown[1]

    def _is_far(self, target: int) -> bool:
        """True where going on by decoding would pass a key frame."""
        here = self.shown[0] if self.shown else self.stream.start
        if self.stream.ordinal or target - here <= 2 * self.stream.step:
            return False
        if self.index is None:
            return (target - here) * self.stream.base > SEEK_AFTER
        return bisect_right(self.index.keys, target) > bisect_right(self.index.keys, here)

    def _advance(self, target: int) -> None:
        while self.shown is None or self.shown[0] < target:
            self.ahead = self.ahead or next(self.stamped, None)
            if self.ahead is None or (self.shown is not None and self.ahead[0] > target):
                return
            self.shown, self.ahead = self.ahead, None

    def _good(self, target: int) -> bool:
        return self.shown is not None and self.shown[0] <= target and not self.shown[1].is_corrupt


def _picture(
    frame: "VideoFrame", stream: Stream, reformatter: "VideoReformatter", max_side: int | None
) -> UInt8[Tensor, "c h w"]:
    import av

    a, b, c, d = stream.matrix
    height, width = stream.size
    if max_side is not None and min(height, width) > max_side:
        height, width = (max(max_side, round(side * max_side / min(stream.size))) for side in (height, width))
    stored = (height, width) if b == 0 else (width, height)
    form = "rgba" if stream.transparent else "gray" if stream.channels == 1 else "rgb24"
    threads = {"threads": 1} if int(av.__version__.split(".")[0]) >= 18 else {}  # by default, one per core
    small = reformatter.reformat(frame, stored[1], stored[0], form, interpolation=SCALING, **threads)
    values = torch.from_numpy(np.array(small.to_ndarray()))
    pixels = values[None] if values.ndim == 2 else values.permute(2, 0, 1)
    if stream.transparent:  # on white, as images are
        share = pixels[3:].float() / 255
        pixels = (pixels[:3] * share + 255 * (1 - share)).round().to(torch.uint8)[: stream.channels]
    if b:
        pixels = pixels.transpose(1, 2)
    turned = [axis for axis, sign in ((1, d or b), (2, a or c)) if sign < 0]
    return (pixels.flip(turned) if turned else pixels).contiguous()
