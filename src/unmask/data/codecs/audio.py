"""Recordings: WAV, FLAC, OGG, MP3 and what else libsndfile reads, by soundfile. Parts are read without the rest."""

import io
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from unmask.data.codecs.containers.cut_short import cut_short
from unmask.data.codecs.image import BadImage
from unmask.data.codecs.signature import HEAD, audio_format, video_format, what_else
from unmask.errors import UserError, many
from unmask.version import install_line

if TYPE_CHECKING:
    import soundfile

BITS = {"S8": 8, "U8": 8, "16": 16, "24": 24, "32": 32, "FLOAT": 32, "DOUBLE": 64, "ULAW": 8, "ALAW": 8}  # of subtypes
MOST = 8192  # samples per byte of a file: silence in FLAC has 5,461; beyond, its head is damaged
HALF_WIDTH = 10  # zero crossings of the resampling filter on each side
BETA = 8.0  # of its Kaiser window: about 80 dB between what passes and what folds back


@dataclass(frozen=True)
class Recording:
    """A recording that can be pickled and holds no open file."""

    source: str | bytes
    format: str  # "WAV (PCM_16)"
    size: tuple[int]  # samples of each channel, as stored
    channels: int  # as stored; `read` mixes them
    rate: int  # samples per second, as stored
    bits: int  # per value, as stored; 16 where a codec keeps none (OGG, MP3)
    notes: tuple[str, ...] = ()

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.size[0] / self.rate

    def read(
        self, start: float = 0.0, length: float | None = None, *, rate: int | None = None
    ) -> tuple[Float[Tensor, "1 n"], int]:
        """A part, from `start` for `length` seconds (to the end, where None or longer), mixed to one channel, and its
        rate. Whole numbers are brought to -1..1; floating-point files keep what they have. rate: samples per second
        that are wanted; a part of a resampled recording equals that part of it resampled as a whole. Raises BadImage,
        also for a part that holds no sample."""
        target = rate or self.rate
        divisor = math.gcd(self.rate, target)
        up, down = target // divisor, self.rate // divisor
        total = -(-self.size[0] * up // down)  # samples after resampling
        first = min(total, max(0, round(start * target)))
        last = total if length is None else min(total, first + max(0, round(length * target)))
        if last <= first:
            raise BadImage(f"lasts {self.duration:.2f} s; nothing lies {length or 0:.2f} s from {start:.2f} s on")
        if up == down:
            return torch.from_numpy(self._samples(first, last))[None], target
        margin = HALF_WIDTH * max(up, down) // up + 1  # stored samples that the filter reaches on each side
        begin = max(0, (first * down // up - margin) // down * down)  # a multiple of `down`, where phases begin anew
        end = min(self.size[0], -(-last * down // up) + margin)
        offset = first - begin // down * up
        resampled = _resampled(self._samples(begin, end), up, down)[offset : offset + last - first]
        return torch.from_numpy(np.ascontiguousarray(resampled))[None], target

    def waveform(self) -> Float[Tensor, "c n"]:
        """All samples of all channels, as `read` scales them. Raises BadImage."""
        with _opened(self.source) as file:
            values = file.read(dtype="float32", always_2d=True)
        return torch.from_numpy(np.ascontiguousarray(np.nan_to_num(values.T, nan=0.0, posinf=0.0, neginf=0.0)))

    def _samples(self, first: int, last: int) -> np.ndarray:
        """Stored samples, mixed to one channel, float32."""
        with _opened(self.source) as file:
            passed = self._run_up(first)  # decoded only to be dropped, and in one call: soundfile seeks between calls
            if first > passed:
                file.seek(first - passed)
            values = file.read(passed + last - first, dtype="float32", always_2d=True)[passed:]
        if len(values) < last - first:
            raise BadImage(f"truncated: ends at {(first + len(values)) / self.rate:.2f} of {self.duration:.2f} s")
        mono = values[:, 0] if values.shape[1] == 1 else values.mean(axis=1, dtype=np.float64).astype(np.float32)
        finite = np.isfinite(mono)
        if not finite.any() and len(mono) > 1:
            raise BadImage(
                f"no numbers, only NaN or infinity, from {first / self.rate:.2f} to {last / self.rate:.2f} s"
            )
        return mono if finite.all() else np.nan_to_num(mono, nan=0.0, posinf=0.0, neginf=0.0)

    def _run_up(self, first: int) -> int:
        """Samples before a part that must be decoded too: frames of MP3 borrow bits from earlier ones, which libmpg123
        loses where it seeks, even to where it is. Decoding all from the start takes a millisecond per second of sound;
        later on, 30 frames are enough."""
        if not self.format.startswith("MP3"):
            return 0
        return first if first < 120 * self.rate else 30 * 1152


def open_recording(source: str | bytes) -> Recording:
    """A recording from a file's path or content. Its head is read, and its last sample decoded, which finds files cut
    short. Raises BadImage with the reason, and UserError if soundfile is not installed."""
    try:
        head, length, fault = _look(source)
    except OSError as error:
        raise BadImage(f"cannot be read ({error.strerror or error})") from error
    if not length:
        raise BadImage("empty file")
    form = audio_format(head, os.path.basename(source) if isinstance(source, str) else ".mp3")
    if form == "AAC":
        raise BadImage("AAC (M4A), which libsndfile does not read: convert it to FLAC or WAV")
    if form is None:
        moving = video_format(head) is not None
        raise BadImage("a clip, not a recording" if moving else what_else(head).replace("an image", "a recording", 1))
    if fault:
        raise BadImage(fault)
    with _opened(source) as file:
        if not file.frames:
            raise BadImage("no samples")
        notes = [f"mono mix of {many(file.channels, 'channel')}"] if file.channels > 1 else []
        bits = next((bits for ending, bits in BITS.items() if file.subtype.endswith(ending)), 16)
        size, channels, rate, subtype = file.frames, file.channels, file.samplerate, file.subtype
    if size > MOST * length:
        raise BadImage(f"damaged: {size:,} samples in {length:,} bytes")
    name = form if subtype.startswith("MPEG") else f"{form} ({subtype})"
    recording = Recording(source, name, (size,), channels, rate, bits, tuple(notes))
    if form != "MP3":  # its last sample comes after all others
        recording._samples(size - 1, size)
    return recording


def write_wav(path: str, samples: Float[Tensor, "1 n"], rate: int) -> None:
    """Writes 16-bit WAV; values beyond -1..1 are cut off."""
    soundfile = _soundfile()
    values = samples[0].detach().cpu().clamp(-1, 1).numpy()
    soundfile.write(path, values, rate, subtype="PCM_16", format="WAV")


@contextmanager
def _opened(source: str | bytes) -> "Iterator[soundfile.SoundFile]":
    """soundfile's file, closed at the end; what libsndfile raises meanwhile becomes BadImage with the reason."""
    soundfile = _soundfile()
    place = io.BytesIO(source) if isinstance(source, bytes) else cast(str, os.fsencode(source))  # any bytes in a name
    try:
        with soundfile.SoundFile(place) as file:
            yield file
    except (soundfile.SoundFileError, ValueError, TypeError, OSError) as error:
        text = " ".join(str(error).split()).split(": ")[-1] or type(error).__name__
        raise BadImage(f"truncated or damaged ({text[:120]})") from error


def _look(source: str | bytes) -> tuple[bytes, int, str | None]:
    """First bytes, length, and whether it is cut short."""
    if isinstance(source, str) and not os.path.isfile(source):
        raise BadImage("not a regular file" if os.path.lexists(source) else "there is no such file")
    with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as file:
        head, length = file.read(HEAD), file.seek(0, os.SEEK_END)
        form = audio_format(head, os.path.basename(source) if isinstance(source, str) else ".mp3")
        return head, length, cut_short(file, form, length) if form and length else None


def _soundfile() -> ModuleType:
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: libsndfile itself is missing
        line = install_line("unmask[audio]")
        raise UserError(f"recordings are read by soundfile, which is not installed: {line}") from error
    return soundfile


@lru_cache(maxsize=32)
def _filter(up: int, down: int) -> np.ndarray:
    """A low pass at the lower of the two rates' halves: a sinc under a Kaiser window, for `resample_poly`."""
    widest = max(up, down)
    places = np.arange(-HALF_WIDTH * widest, HALF_WIDTH * widest + 1)
    taps = np.sinc(places / widest) * np.kaiser(len(places), BETA)
    return taps / taps.sum()


def _resampled(samples: np.ndarray, up: int, down: int) -> np.ndarray:
    """Polyphase resampling in double precision, which makes it independent of where a part begins."""
    from scipy.signal import resample_poly

    return resample_poly(samples.astype(np.float64), up, down, window=_filter(up, down)).astype(np.float32)
