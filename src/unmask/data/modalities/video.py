"""Clips: video files, animated GIFs, folders of frames. A sample is some frames at even steps, decoded when needed.

Tong et al. 2022 (VideoMAE), https://arxiv.org/abs/2203.12602; Feichtenhofer et al. 2022 (MAE-ST),
https://arxiv.org/abs/2205.09113."""

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Shaped, UInt8
from torch import Generator, Tensor

from unmask.choice import Choice
from unmask.data.codecs.decode import to_channels
from unmask.data.codecs.image import BadImage
from unmask.data.codecs.scenes.piece import Piece
from unmask.data.codecs.signature import HEAD, sniff, video_format
from unmask.data.codecs.video import Clip, open_clip
from unmask.data.labels import is_image_name
from unmask.data.modality import Decoded, Facts, Modality, Raw, Window
from unmask.data.regular_files import head_of
from unmask.data.transforms.kernels.crop import RandomCrop, WholeImage, resized
from unmask.errors import many
from unmask.plain import PositiveInt

__all__ = ["Video"]
LEAST = 20  # places in a frame of which a tenth is enough to see
SHOWN = 8  # frames of a clip in a picture, half of them in a row
CLIPS = 5  # of a video in tests, at the most: VideoMAE's number
COUNTED = 4  # frames of each clip that count in the statistics


@dataclass(frozen=True)
class Moving:
    """A clip whose frames are read when they are asked for."""

    clip: Clip
    channels: int
    max_side: int | None  # pixels to which the shorter side of a frame is shrunk
    nbytes: int = 0

    @property
    def num_frames(self) -> int:
        return self.clip.num_frames

    def frames(self, numbers: Sequence[int]) -> UInt8[Tensor, "c t h w"]:
        return to_channels(self.clip.frames(numbers, self.max_side), self.channels)

    @property
    def held_bytes(self) -> int:
        """What all frames take, decoded."""
        frames, height, width = self.clip.size
        share = min(1.0, (self.max_side or height) / min(height, width))
        return round(frames * height * width * share**2 * self.clip.channels)

    def held(self) -> "Moving":
        """The same clip with all frames decoded. Raises BadImage."""
        frames = self.clip.frames(range(self.num_frames), self.max_side)
        array = frames.permute(1, 2, 3, 0).contiguous().numpy()  # t h w c
        return Moving(open_clip(array, rate=self.clip.rate), self.channels, None, array.nbytes)


@dataclass(frozen=True)
class Held:
    """A stretch of a clip whose frames were decoded, for several views of it."""

    decoded: UInt8[Tensor, "c t h w"]

    @property
    def num_frames(self) -> int:
        return self.decoded.shape[1]

    def frames(self, numbers: Sequence[int]) -> UInt8[Tensor, "c t h w"]:
        return self.decoded[:, list(numbers)]


@dataclass(frozen=True)
class ClipWindow:
    """Frames at even steps from some time on, each cut and resized alike."""

    size: tuple[int, ...]  # frames, height, width
    step: int  # frames from one to the next, fewer in clips that are too short
    scale: tuple[float, float] | None  # of the area of a random crop; None: the middle of the clip, the whole frame
    flip: bool = False

    def __call__(self, sample: Moving | Held, generator: Generator | None = None) -> UInt8[Tensor, "c t h w"]:
        """The same clip and generator state give the same view."""
        count, (height, width) = self.size[0], self.size[1:]
        step, spare = steps(sample.num_frames, count, self.step)
        chance = None if self.scale is None else generator
        first = spare // 2 if chance is None else int(torch.randint(0, spare + 1, (1,), generator=chance))
        last = sample.num_frames - 1
        frames = sample.frames([min(last, first + step * n) for n in range(count)])
        stacked = frames.transpose(0, 1)  # -> t c h w, resized as images are
        if chance is None or self.scale is None:
            whole = WholeImage((height, width))
            return torch.stack([whole(frame) for frame in stacked], dim=1)
        crop = RandomCrop((height, width), scale=self.scale)
        top, left, h, w = crop.box(frames.shape[2], frames.shape[3], chance)
        cut = torch.stack([resized(frame[:, top : top + h, left : left + w], (height, width)) for frame in stacked], 1)
        return cut.flip(-1) if self.flip and torch.rand(1, generator=chance) < 0.5 else cut


@dataclass(frozen=True)
class ClipsInTime:
    """Several clips of a video at even steps from its beginning to its end, whole frames, decoded together."""

    size: tuple[int, ...]  # frames, height, width
    step: int
    count: int  # clips

    def __call__(self, sample: Moving | Held, generator: Generator | None = None) -> UInt8[Tensor, "n c t h w"]:
        frames, last = self.size[0], sample.num_frames - 1
        step, spare = steps(sample.num_frames, frames, self.step)
        firsts = [round(place * spare / max(1, self.count - 1)) for place in range(self.count)]
        numbers = [min(last, first + step * n) for first in firsts for n in range(frames)]
        used = sorted(set(numbers))
        whole = WholeImage((self.size[1], self.size[2]))
        decoded = [whole(frame) for frame in sample.frames(used).transpose(0, 1)]
        return torch.stack([decoded[used.index(n)] for n in numbers]).unflatten(0, (-1, frames)).transpose(1, 2)


def steps(available: int, count: int, step: int) -> tuple[int, int]:
    """Frames from one of `count` to the next, at most `step`, where so many are available; and how many are left."""
    step = max(1, min(step, (available - 1) // max(1, count - 1)))
    return step, max(0, available - 1 - step * (count - 1))


class Video(Modality):
    cheaper = (
        "larger clips encoded anew at a height of about {side} (ffmpeg -i CLIP -vf scale=-2:{side} OUT), half as much"
        " again as a model sees, so that they may fit into memory too; --views-per-image 4 or more"
    )
    word, axes, sizes = "clip", ("frames", "height", "width"), ("frames", "height", "width")
    colour, by_path = True, True
    written = "as an animation of the frames that the model sees"
    endings = tuple(".mp4 .m4v .mov .avi .mkv .webm .mpg .mpeg .wmv .flv .ogv .3gp .mts .m2ts".split())

    def __init__(
        self, frames: PositiveInt = 16, step: PositiveInt = 2, tubelet: PositiveInt = 2, inflate: str = "average"
    ):
        """frames: that a model sees of a clip; step: frames of the file from one to the next, fewer in clips that are
        too short for it; tubelet: frames of a unit; inflate: how weights of images come to see tubelets, by average or
        centre (see weights/resize.py)."""
        self.frames, self.step, self.tubelet = frames, step, tubelet
        self.inflate = inflate

    @classmethod
    def claims(cls, name: str, head: bytes) -> bool:
        """Animated GIFs and folders of frames only where clips are asked for: see `grouped`."""
        return video_format(head) not in (None, "gif")

    def grouped(self, paths: Sequence[str], root: str | None) -> tuple[list[tuple[str, ...]], list[str]]:
        frames: dict[str, list[str]] = defaultdict(list)
        files = []
        clips = any(not is_image_name(path) for path in paths)  # beside which a clip may be called as images are
        for path in paths:
            if is_image_name(path) and not path.lower().endswith(".gif") and not (clips and _is_clip(path, root)):
                frames[os.path.dirname(path)].append(path)
            else:
                files.append((path,))
        count = many(sum(map(len, frames.values())), "image")
        if frames and root is None:
            return files, [f"left out: {count}; frames are read as clips from folders only"]
        if files and frames:
            return files, [f"left out: {count} beside clips; folders of frames are clips where there are no others"]
        return files + [tuple(frames[folder]) for folder in sorted(frames)], []

    @classmethod
    def claims_if_wanted(cls, name: str, head: bytes) -> bool:
        return video_format(head) is not None or sniff(head[:32]) is not None or is_image_name(name)

    def decode(self, raw: Raw, max_side: int | None = None) -> Decoded:
        assert not isinstance(raw, Piece)  # clips are not read in pieces
        if isinstance(raw, bytes) and sniff(raw[:32]) is not None and video_format(raw[:HEAD]) is None:
            raise BadImage("an image: frames are read as clips from folders only")
        clip = open_clip(raw)
        held = len(raw) if isinstance(raw, bytes) else 0
        content = Moving(clip, clip.channels, max_side, held)
        return Decoded(content, clip.format, clip.size, clip.channels, clip.bits, clip.notes)

    def fitted(self, content: Moving, channels: int) -> Moving:
        return Moving(content.clip, channels, content.max_side, content.nbytes)

    def num_channels(self, content: Moving) -> int:
        return content.channels

    def values(self, content: Moving) -> UInt8[Tensor, "c t h w"]:
        count = min(COUNTED, content.num_frames)
        return content.frames([n * content.num_frames // count for n in range(count)])

    def window(self, kind: str, size: tuple[int, ...], share: float, flip: bool, resize: str) -> Window:
        return ClipWindow(size, self.step, None if kind == "whole" else (share, 1.0), flip)

    def whole(self, size: tuple[int, ...]) -> ClipWindow:
        return ClipWindow(size, self.step, None)

    def num_views(self, sheet: Facts, size: tuple[int, ...]) -> Choice:
        median = int(sheet.median_size[0])
        span = 1 + steps(median, size[0], self.step)[0] * (size[0] - 1)
        count = max(1, min(CLIPS, round(median / span)))
        return Choice(count, f"clips at even steps in time, which cover a video of {median} frames; at most {CLIPS}")

    def views_at_test(self, size: tuple[int, ...], count: int) -> ClipsInTime:
        return ClipsInTime(size, self.step, count)

    def repeated(self, content: Moving | Held, generator: Generator) -> Held:
        """A stretch of twice the frames that a view spans, at random, as in MAE-ST's repeated sampling."""
        if isinstance(content, Held):
            return content
        length = min(content.num_frames, 2 * self.frames * self.step)
        first = int(torch.randint(0, content.num_frames - length + 1, (1,), generator=generator))
        return Held(content.frames(range(first, first + length)))

    def choices(
        self, sheet: Facts, patch: int | None, small: bool, size: tuple[int, ...] | None = None
    ) -> Mapping[str, Choice]:
        side = int(min(sheet.median_size[1:]))
        unit = patch or (8 if small else 16)
        wanted = min(side, 64 if small else 224)
        side = max(2, round(wanted / unit)) * unit
        places = ((min(size[1:]) if size else side) // unit) ** 2
        ratio = 0.9 if places >= LEAST else 0.75
        frames = max(2, min(self.frames, int(sheet.median_size[0])) // self.tubelet) * self.tubelet
        why = "without a CUDA GPU: small enough to see many clips in the time" if small else "as in VideoMAE"
        return {
            "image_size": Choice([frames, side, side], f"frames, height and width; {why}"),
            "patch_size": Choice(unit, f"pixels; a tubelet spans {self.tubelet} frames too"),
            "mask": Choice(
                f"tube(ratio={ratio:g})", "as in VideoMAE: frames repeat each other, so the same places are hidden"
            ),
        }

    def augmentation(self, sheet: Facts, channels: int) -> Mapping[str, Choice]:
        return {
            "crop": Choice(0.5, "the same crop of all frames, as in MAE-ST"),
            "flip": Choice("off", "left and right are directions of motion; --flip on where they mean nothing"),
        }

    def full_size(self, given: Sequence[int]) -> tuple[int, ...]:
        return (self.frames, *given) if len(given) == 2 else super().full_size(given)

    def unit(self, patch: int, size: tuple[int, ...]) -> tuple[int, ...]:
        return (self.tubelet, patch, patch)

    def write(self, x: Shaped[Tensor, "c t h w"], path: Path) -> Path:
        """An animated GIF, eight frames a second."""
        from PIL import Image

        frames = to_channels(x, 3).float().round().clamp(0, 255).byte().permute(1, 2, 3, 0).cpu().numpy()
        images = [Image.fromarray(frame).resize((4 * frame.shape[1], 4 * frame.shape[0])) for frame in frames]
        path = path.with_suffix(".gif")
        images[0].save(path, save_all=True, append_images=images[1:], duration=125, loop=0)
        return path

    def flat(self, x: Shaped[Tensor, "c t h w"]) -> Shaped[Tensor, "c p q"]:
        """Eight frames at even steps, in two rows."""
        count = min(SHOWN, x.shape[1])
        shown = [x[:, n * x.shape[1] // count] for n in range(count)]
        across = (count + 1) // 2
        shown += [torch.zeros_like(shown[0])] * (2 * across - count)
        return torch.cat([torch.cat(shown[:across], dim=2), torch.cat(shown[across:], dim=2)], dim=1)


def _is_clip(path: str, root: str | None) -> bool:
    """By its content, whatever its name; in an archive it is taken to be what its name says."""
    return root is not None and video_format(head_of(os.path.join(root, path))) not in (None, "gif")
