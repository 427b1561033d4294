"""Recordings of sensors: channels over time, from CSV, Parquet and NumPy files; the case of one axis."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Generator, Tensor

from unmask.choice import Choice
from unmask.data.codecs.image import BadImage
from unmask.data.codecs.series import count_series, read_series
from unmask.data.codecs.signature import is_series
from unmask.data.modality import Decoded, Facts, Modality, Raw, Window
from unmask.errors import many

__all__ = ["Signal"]
LONGEST = {True: 4096, False: 16_384}  # samples that a model sees at the most, without a CUDA GPU and with one
UNITS, PATCHES = 64, (4, 8, 16, 32, 64, 128, 256)  # about so many units, of one of these lengths
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
    word, axes, sizes = "signal", ("samples",), ("samples",)
    gaps, by_path, mirrored, weak = True, True, False, True

    @classmethod
    def claims(cls, name: str, head: bytes) -> bool:
        """Tables and .npy files of numbers; Parquet and .npz files only where signals are asked for."""
        return is_series(head, name)

    @classmethod
    def claims_if_wanted(cls, name: str, head: bytes) -> bool:
        return is_series(head, name) or head[:4] == b"PAR1" or name.lower().endswith((".npz", ".npy", ".csv", ".tsv"))

    def decode(self, raw: Raw, max_side: int | None = None) -> Decoded:
        if not isinstance(raw, str | bytes | np.ndarray):
            raise BadImage("a signal is one file or one array")
        if (count := count_series(raw)) > 1:
            raise BadImage(f"holds {many(count, 'recording')}; one in each file is read")
        series = read_series(raw)
        ends = float(series.values.min()), float(series.values.max())
        facts = (series.format, series.size, series.channels, series.bits, series.notes, ends)
        return Decoded(series.values, *facts)

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
