"""Recordings as log-mel spectrograms: WAV, FLAC, OGG, MP3. Huang et al. 2022 (AudioMAE), https://arxiv.org/abs/2207.06405.

A model sees `seconds` of a recording, mixed to one channel, as an image of mel bands over time. What a recording is too
short for holds no value.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal

import torch
from jaxtyping import Float, Shaped
from torch import Generator, Tensor

from unmask.choice import Choice
from unmask.data.codecs.audio import Recording, open_recording, write_wav
from unmask.data.codecs.image import BadImage
from unmask.data.codecs.signature import audio_format
from unmask.data.modality import Decoded, Facts, Modality, Raw, Window, make_modality
from unmask.data.transforms.kernels.spectrogram import Mel, levelled, log_mel, sound_from
from unmask.plain import PositiveFloat, PositiveInt

__all__ = ["Audio"]
RATE, SECONDS = 16_000, 10.24  # the most that is chosen, as in AudioMAE
BANDS = {True: 64, False: 128}  # whether the rate is low
LOW_RATE = 8_000
HOP = 0.01  # seconds from one column to the next
COUNTED = 4.0  # seconds of each recording that count in the statistics, from its middle
MASKED = 0.2  # of the bands and of the columns, at the most, when a classifier is trained

Level = Literal["stored", "even"]  # loudness of what a model sees


@dataclass(frozen=True)
class Sound:
    """A recording that is read in parts."""

    recording: Recording
    mel: Mel
    level: Level = "stored"
    nbytes: int = 0

    def spectrogram(self, start: float, seconds: float) -> Float[Tensor, "1 bands frames"]:
        samples, _ = self.recording.read(start, seconds, rate=self.mel.rate)
        spectrogram = log_mel(samples, self.mel)
        return levelled(spectrogram) if self.level == "even" else spectrogram


@dataclass(frozen=True)
class SoundWindow:
    """So many columns of the spectrogram, from a random place or the middle; NaN where the recording has ended."""

    size: tuple[int, ...]  # bands, columns
    random: bool

    def __call__(self, sample: Sound, generator: Generator | None = None) -> Float[Tensor, "1 bands frames"]:
        """The same recording and generator state give the same view."""
        columns, mel = self.size[1], sample.mel
        seconds = mel.num_samples(columns) / mel.rate
        spare = max(0.0, sample.recording.duration - seconds)
        random = self.random and generator is not None
        chance = torch.rand(1, generator=generator).item() if random else 0.5
        seen = sample.spectrogram(chance * spare, seconds)[..., :columns]
        view = torch.full((1, mel.bands, columns), torch.nan)
        view[..., : seen.shape[-1]] = seen
        return view


class Audio(Modality):
    cheaper = "recordings resampled to this rate beforehand, as WAV, in files of some minutes at most"
    word, axes, sizes = "recording", ("bands", "columns"), ("samples",)
    endings = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".m4a", ".aac", ".aif", ".aiff")
    gaps, by_path, mirrored = True, True, False
    written = "as sound made from the spectrogram by Griffin and Lim's algorithm, which makes up its phases"

    def __init__(
        self,
        rate: PositiveInt | None = None,
        seconds: PositiveFloat | None = None,
        bands: PositiveInt | None = None,
        level: Level = "even",
    ):
        """rate: samples per second to which recordings are resampled; seconds: that a model sees; bands: of the mel
        scale. By default the data's most common rate, at most 16 kHz, their median length, at most 10.24 s, and 128
        bands, 64 at 8 kHz or less. level: "even": what a model sees is brought to one loudness, as in wav2vec 2.0
        (Baevski et al. 2020), since loudness says more of people and microphones than of what is heard; "stored":
        loudness is kept, as in AudioMAE."""
        self.seconds = seconds
        self.given: tuple[int | None, float | None, int | None] = (rate, seconds, bands)
        self.level: Level = level
        self.rate, self.open = rate or RATE, None in self.given
        self.bands = bands or BANDS[self.rate <= LOW_RATE]
        self.mel = Mel(rate=self.rate, bands=self.bands)

    @classmethod
    def claims(cls, name: str, head: bytes) -> bool:
        return audio_format(head, name) is not None

    def settled(self, raws: Sequence[Callable[[], Raw]]) -> Modality:
        if not self.open:
            return self
        rates, lengths = Counter[int](), []
        for raw in raws:
            with suppress(BadImage, OSError):
                recording = _opened(raw())
                rates[recording.rate] += 1
                lengths.append(recording.duration)
        if not lengths:
            return self
        rate, seconds, bands = self.given
        rate = rate or min(RATE, max(rates, key=lambda r: (rates[r], r)))
        seconds = seconds or round(min(SECONDS, max(16 * HOP, median(lengths))), 2)
        bands = bands or BANDS[rate <= LOW_RATE]
        return make_modality(f'audio(rate={rate}, seconds={seconds:g}, bands={bands}, level="{self.level}")')

    def decode(self, raw: Raw, max_side: int | None = None) -> Decoded:
        recording = _opened(raw)
        notes = [*recording.notes]
        if recording.rate != self.rate:
            notes.append(f"resampled to {self.rate} Hz")
        if self.level == "even":
            notes.append("brought to one loudness")
        content = Sound(recording, self.mel, self.level, len(raw) if isinstance(raw, bytes) else 0)
        return Decoded(content, recording.format, recording.size, 1, recording.bits, tuple(notes))

    def fitted(self, content: Sound, channels: int) -> Sound:
        if channels != 1:
            raise BadImage(f"recordings are mixed to one channel, the run uses {channels}")
        return content

    def num_channels(self, content: Sound) -> int:
        return 1

    def values(self, content: Sound) -> Float[Tensor, "1 bands frames"]:
        seconds = min(COUNTED, content.recording.duration)
        return content.spectrogram((content.recording.duration - seconds) / 2, seconds)

    def window(self, kind: str, size: tuple[int, ...], share: float, flip: bool, resize: str) -> Window:
        return SoundWindow(size, random=kind != "whole")

    def whole(self, size: tuple[int, ...]) -> SoundWindow:
        return SoundWindow(size, random=False)

    def choices(
        self, sheet: Facts, patch: int | None, small: bool, size: tuple[int, ...] | None = None
    ) -> Mapping[str, Choice]:
        columns = (self.seconds or SECONDS) / HOP
        unit = patch or (16 if columns * self.bands >= 64 * 16**2 else 8)
        shape = [max(1, self.bands // unit) * unit, max(2, round(columns / unit)) * unit]
        return {
            "image_size": Choice(shape, f"mel bands, and columns of {1000 * HOP:g} ms: {shape[1] * HOP:.2f} s"),
            "patch_size": Choice(
                unit, "as in AudioMAE" if unit == 16 else "short recordings: smaller than AudioMAE's 16"
            ),
            "mask": Choice("random(ratio=0.8)", "as in AudioMAE: without structure"),
        }

    def augmentation(self, sheet: Facts, channels: int) -> Mapping[str, Choice]:
        why = "recordings are cut in time only, and never mirrored"
        return {"crop": Choice(1.0, why), "flip": Choice("off", why)}

    def masked_for_labels(self, x: Float[Tensor, "1 b t"], generator: Generator) -> Float[Tensor, "1 b t"]:
        """Some bands and some columns without a value, as in AudioMAE's fine-tuning."""
        x, chance = x.clone(), torch.rand(4, generator=generator).tolist()
        for axis, (length, place) in zip((1, 2), (chance[:2], chance[2:])):
            count = int(length * MASKED * x.shape[axis])
            x.narrow(axis, int(place * (x.shape[axis] - count)), count).fill_(torch.nan)
        return x

    def flat(self, x: Shaped[Tensor, "c b t"]) -> Shaped[Tensor, "c b t"]:
        """Low tones below."""
        return x.flip(1)

    def write(self, x: Float[Tensor, "1 b t"], path: Path) -> Path:
        """The sound of a spectrogram, by Griffin and Lim's algorithm: its phases are made up."""
        filled = x[0, :, ~x[0].isnan().all(dim=0)].nan_to_num(nan=float(x[~x.isnan()].min()))
        path = path.with_suffix(".wav")
        write_wav(str(path), sound_from(filled, self.mel)[None], self.rate)
        return path


def _opened(raw: Raw) -> Recording:
    if not isinstance(raw, str | bytes):
        raise BadImage("a recording is one file")
    return open_recording(raw)
