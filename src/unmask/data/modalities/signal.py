"""Recordings of sensors: channels over time, from CSV, Parquet and NumPy files; the case of one axis.

A file may hold one or many, which are told apart by columns that name them, or lie along the first axis of an array.
Files of sound are read too where that is asked for, as waveforms.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Generator, Tensor

from unmask.choice import Choice
from unmask.data.codecs.audio import open_recording
from unmask.data.codecs.image import BadImage
from unmask.data.codecs.scenes.piece import Division, Piece
from unmask.data.codecs.series import Series, read_series
from unmask.data.codecs.signature import HEAD, audio_format, is_series
from unmask.data.codecs.tables.clock import at_rate
from unmask.data.codecs.tables.pieces import pieces_of, read_piece
from unmask.data.modality import Decoded, Facts, Modality, Raw, Window, make_modality
from unmask.data.regular_files import head_of
from unmask.errors import many
from unmask.plain import PositiveFloat

__all__ = ["Signal"]
LONGEST = {True: 4096, False: 16_384}  # samples that a model sees at the most, without a CUDA GPU and with one
UNITS, PATCHES = 64, (4, 8, 16, 32, 64, 128, 256)  # about so many units, of one of these lengths
LOOKED = 8  # recordings of a file by which the rate is chosen
ROWS = 16  # of a channel in a picture


@dataclass(frozen=True)
class Stretch:
    """So many samples, from a random place or the middle; NaN where the recording has ended."""

    size: tuple[int, ...]  # samples
    random: bool

    def __call__(self, sample: Float[Tensor, "c t"], generator: Generator | None = None) -> Float[Tensor, "c n"]:
        """The same recording and generator state give the same view."""
        (length,), spare = self.size, max(0, sample.shape[1] - self.size[0])
        random = self.random and generator is not None
        first = int(torch.randint(0, spare + 1, (1,), generator=generator)) if random else spare // 2
        view = sample.new_full((sample.shape[0], length), torch.nan)
        part = sample[:, first : first + length]
        view[:, : part.shape[1]] = part
        return view


class Signal(Modality):
    cheaper = "NPY, or Parquet in small row groups, in place of text; recordings resampled to one rate beforehand"
    word, axes, sizes = "signal", ("samples",), ("samples",)
    gaps, by_path, mirrored, weak, lines = True, True, False, True, True
    divides, piece = True, "recording"
    keys, array_axes = ("signals", "signal", "series", "recordings", "waveforms", "ecg", "imu"), (2, 3)

    def __init__(self, rate: PositiveFloat | None = None, recording: str | None = None):
        """rate: samples per second to which recordings are resampled whose files say another; by default the most
        common one. recording: the column of tables that says which recording a row belongs to; by default it is found
        by its name, "": the rows of a file are one recording."""
        self.rate, self.column = rate, recording

    @classmethod
    def claims(cls, name: str, head: bytes) -> bool:
        """Tables and .npy files of numbers, and Parquet that is no shard of images; .npz files and those of sound only
        where signals are asked for."""
        return is_series(head, name) or head[:4] == b"PAR1"

    @classmethod
    def claims_if_wanted(cls, name: str, head: bytes) -> bool:
        tables = name.lower().endswith((".npz", ".npy", ".csv", ".tsv"))
        return cls.claims(name, head) or tables or audio_format(head, name) is not None

    def settled(self, raws: Sequence[Callable[[], Raw]]) -> Modality:
        if self.rate is not None:
            return self
        rates = Counter[float]()
        for raw in raws:
            with suppress(BadImage, OSError):
                whole = raw()
                if isinstance(whole, str | bytes | np.ndarray) and (cuts := self.pieces(whole).cuts[:LOOKED]):
                    series = [self._read(Piece(whole, cut.place)) for cut in cuts]
                else:
                    series = [self._read(whole)]
                rates.update(one.rate for one in series if one.rate)
        if not rates:
            return self
        column = "" if self.column is None else f", recording={self.column!r}"
        return make_modality(f"signal(rate={max(rates, key=lambda rate: (rates[rate], rate)):g}{column})")

    def pieces(self, raw: Raw) -> Division:
        if not isinstance(raw, str | bytes | np.ndarray) or _is_sound(raw):
            return Division()
        try:
            return pieces_of(raw, self.column)
        except (BadImage, OSError):
            return Division()

    def row(self, array: Shaped[np.ndarray, "n *axes"], place: int) -> Shaped[np.ndarray, "c t"]:
        """Of three axes, the longer of the last two is time."""
        one = array[place] if array.ndim == 3 else array[place][None]
        return one.T if array.ndim == 3 and array.shape[1] >= array.shape[2] else one

    def decode(self, raw: Raw, max_side: int | None = None) -> Decoded:
        series = self._read(raw)
        values, notes = series.values, list(series.notes)
        if self.rate and series.rate and series.rate != self.rate:
            values = torch.from_numpy(at_rate(values.numpy(), series.rate, self.rate))
            notes.append(f"resampled to {self.rate:g} Hz")
        elif self.rate and not series.rate:
            notes.append(f"nothing says its rate: taken as {self.rate:g} Hz")
        ends = float(values.min()), float(values.max())
        return Decoded(values, series.format, series.size, series.channels, series.bits, tuple(notes), ends)

    def _read(self, raw: Raw) -> Series:
        """Whatever is wrong with it is BadImage."""
        if isinstance(raw, Piece):
            return read_piece(raw.of, raw.place, self.column)
        if isinstance(raw, tuple):
            raise BadImage("a signal is one file or one array")
        if isinstance(raw, np.ndarray):
            return read_series(raw, layout="t" if raw.ndim == 1 else "c t")
        if _is_sound(raw):
            return _waveform(raw)
        cuts = pieces_of(raw, self.column).cuts
        if len(cuts) > 1:
            raise BadImage(f"holds {many(len(cuts), 'recording')}, of which one is expected here")
        return read_piece(raw, cuts[0].place, self.column) if cuts else read_series(raw)

    def window(self, kind: str, size: tuple[int, ...], share: float, flip: bool, resize: str) -> Window:
        return Stretch(size, random=kind != "whole")

    def whole(self, size: tuple[int, ...]) -> Stretch:
        return Stretch(size, random=False)

    def choices(
        self, sheet: Facts, patch: int | None, small: bool, size: tuple[int, ...] | None = None
    ) -> Mapping[str, Choice]:
        length = min(LONGEST[small], int(sheet.median_size[0]))
        unit = patch or min(PATCHES, key=lambda samples: abs(samples - length / UNITS))
        count = max(2, round(length / unit))
        return {
            "image_size": Choice([count * unit], "samples: the median length, as far as it can be seen at once"),
            "patch_size": Choice(unit, f"samples: {count} stretches of a recording"),
        }

    def augmentation(self, sheet: Facts, channels: int) -> Mapping[str, Choice]:
        why = "signals are cut in time only, and never mirrored"
        return {"crop": Choice(1.0, why), "flip": Choice("off", why)}

    def flat(self, x: Shaped[Tensor, "c n"]) -> Shaped[Tensor, "one h n"]:
        """A strip for each channel, below each other: bright is high."""
        return x.repeat_interleave(ROWS, dim=0)[None]


def _is_sound(raw: str | bytes | np.ndarray) -> bool:
    if isinstance(raw, np.ndarray):
        return False
    head, name = (raw[:HEAD], "") if isinstance(raw, bytes) else (head_of(raw), raw)
    return audio_format(head, name) is not None


def _waveform(raw: str | bytes) -> Series:
    """All channels of a file of sound, whole."""
    recording = open_recording(raw)
    facts = (float(recording.rate), (), recording.format, recording.bits)
    return Series(recording.waveform(), *facts)
