"""Scans images and accumulates their facts for the data sheet."""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from unmask.data.codecs.image import BadImage
from unmask.data.codecs.scenes.piece import Piece
from unmask.data.labels import EXTENSIONS
from unmask.data.modality import Decoded, Raw
from unmask.data.moments import Statistics
from unmask.data.source import Source, why
from unmask.data.value_range import EIGHT_BITS, Ends, UsualRange, comparable, magnitude

Bad = tuple[int, str, str]  # index in the source, name, reason
PART = 1 << 20  # bytes of a file that are read at a time
FEW = 0.05  # share of images with another number of channels that count as bad rather than as a choice to make

_NAMED = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png", ".apng"),
    "TIFF": (".tif", ".tiff"),
    "GeoTIFF": (".tif", ".tiff"),
    "BMP": (".bmp", ".dib"),
    "JPEG2000": (".jp2", ".j2k", ".jpx"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}


class Room:
    """A budget of bytes for decoded images, shared by threads, so that all stop once it is used up."""

    def __init__(self, num_bytes: int):
        self.left = num_bytes if num_bytes > 0 else -1

    @property
    def open(self) -> bool:
        return self.left >= 0


@dataclass
class Looked:
    """Facts about some images, or about all so far."""

    bad: list[Bad] = field(default_factory=list)
    lost: list[Bad] = field(default_factory=list)  # parts of samples that are good but for these
    digests: dict[int, bytes] = field(default_factory=dict)  # index -> hash of the content, also of bad files
    formats: Counter[str] = field(default_factory=Counter)
    bits: Counter[int] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    channels: dict[int, int] = field(default_factory=dict)  # index -> number; the good images
    sizes: list[tuple[int, ...]] = field(default_factory=list)  # of originals, along their axes
    ranges: dict[int, Ends] = field(default_factory=dict)  # index -> ends, where values are as stored
    by_magnitude: dict[int | None, Statistics] = field(default_factory=dict)
    pixels: dict[int, Any] = field(default_factory=dict)  # decoded contents: all so far, or none

    @property
    def statistics(self) -> Statistics:
        """Of all images that are left."""
        total = Statistics()
        for _, statistics in sorted(self.by_magnitude.items(), key=lambda pair: str(pair[0])):
            total.merge(deepcopy(statistics))
        return total

    def merge(self, other: "Looked", room: Room) -> None:
        """Adds the facts of the next images."""
        self.bad += other.bad
        self.lost += other.lost
        self.digests.update(other.digests)
        self.formats.update(other.formats)
        self.bits.update(other.bits)
        self.notes.update(other.notes)
        self.channels.update(other.channels)
        self.sizes += other.sizes
        self.ranges.update(other.ranges)
        for power, statistics in other.by_magnitude.items():
            self.by_magnitude.setdefault(power, Statistics()).merge(statistics)
        if room.open:
            room.left -= sum(content.nbytes for content in other.pixels.values())
            self.pixels.update(other.pixels)
        if not room.open:
            self.pixels.clear()


def look(source: Source, indices: Sequence[int], max_side: int | None, room: Room) -> Looked:
    """Reads and decodes images, one after the other."""
    looked = Looked()
    for index in indices:
        name = source.items[index].name
        try:
            data = source.raw(index)
            looked.digests[index] = digest(data)
            sample = source.modality.decode(data, max_side)
            power = magnitude(sample.ends)
            statistics = looked.by_magnitude.get(power, Statistics())
            statistics.add(sample.content, source.modality)  # reads what decoding left in the file
        except (BadImage, OSError) as error:
            looked.bad.append((index, name, why(error)))
            continue
        looked.lost += [(index, name, reason) for reason in sample.lost]
        looked.formats[sample.format] += 1
        looked.bits[sample.bits] += 1
        looked.notes.update(_notes(sample, "" if source.packed else name))
        looked.channels[index] = sample.channels
        looked.sizes.append(sample.size)
        if sample.ends is not None:
            looked.ranges[index] = sample.ends
        looked.by_magnitude[power] = statistics
        if room.open and not isinstance(data, Piece):  # those of large files are read anew
            looked.pixels[index] = sample.content
    return looked


def digest_only(source: Source, indices: Sequence[int]) -> Looked:
    """Reads images only to find copies; unreadable ones are left out."""
    looked = Looked()
    for index in indices:
        try:
            looked.digests[index] = digest(source.raw(index))
        except (BadImage, OSError):
            continue
    return looked


def digest(data: Raw) -> bytes:
    """A 16-byte digest of a content; of paths, of what their files hold."""
    if isinstance(data, Piece):
        whole = data.of
        held = _digest_at(whole, *_changed(whole)) if isinstance(whole, str) else digest(whole)
        return hashlib.blake2b(held + repr(data.place).encode(), digest_size=16).digest()
    if isinstance(data, bytes):
        return hashlib.blake2b(data, digest_size=16).digest()
    if isinstance(data, str | tuple):
        total = hashlib.blake2b(digest_size=16)
        for path in [data] if isinstance(data, str) else filter(None, data):
            with open(path, "rb") as file:
                while part := file.read(PART):
                    total.update(part)
        return total.digest()
    head = f"{data.dtype.str} {data.shape} ".encode()
    return hashlib.blake2b(head + np.ascontiguousarray(data).tobytes(), digest_size=16).digest()


@lru_cache(maxsize=64)
def _digest_at(path: str, size: int, time: int) -> bytes:
    """Of a file of this size and time of change, which is read once for all of its parts."""
    return digest(path)


def _changed(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns


def usual_range(looked: Looked) -> UsualRange:
    """The range that most of the good images have."""
    ranges = [looked.ranges.get(index) for index in looked.channels]
    counts = Counter(magnitude(ends) for ends in ranges if ends != (0.0, 0.0))  # which say nothing
    main = counts.most_common(1)[0][0] if counts else None
    alike = [EIGHT_BITS] if main is None else [ends for ends in looked.ranges.values() if magnitude(ends) == main]
    return UsualRange(main, (min(low for low, _ in alike), max(high for _, high in alike)))


def reject_unlike(looked: Looked, source: Source) -> None:
    """Images whose values are of another order than those of most become bad: one with values up to 2e9 among 8-bit
    ones would set everybody's mean and standard deviation. So do a few with another number of channels."""
    usual = usual_range(looked)
    for index in list(looked.channels):
        if fault := usual.fault(looked.ranges.get(index)):
            _reject(looked, source, index, fault)
    looked.by_magnitude = {m: s for m, s in looked.by_magnitude.items() if comparable(m, usual.magnitude)}
    _reject_other_channels(looked, source)


def _reject_other_channels(looked: Looked, source: Source) -> None:
    """Where nearly all images share a number of channels (grey and RGB go together), the few others become bad."""
    same = 3 if source.modality.colour else None  # RGB counts as grey
    families = Counter(1 if number == same else number for number in looked.channels.values())
    if len(families) < 2:
        return
    main, count = families.most_common(1)[0]
    if count < (1 - FEW) * len(looked.channels):
        return
    usual = "1 or 3" if main == 1 and same else str(main)
    for index, number in list(looked.channels.items()):
        if (1 if number == same else number) != main:
            _reject(looked, source, index, f"has {number} channel{'s' * (number != 1)}, the others have {usual}")
    kept = (1, 3) if main == 1 and same else (main,)
    for statistics in looked.by_magnitude.values():
        statistics.moments = {n: m for n, m in statistics.moments.items() if n in kept}


def _reject(looked: Looked, source: Source, index: int, reason: str) -> None:
    del looked.channels[index]
    looked.pixels.pop(index, None)
    looked.bad.append((index, source.items[index].name, reason))


def _notes(image: Decoded, name: str) -> list[str]:
    notes = [re.sub(r"^first of \d+ frames$", "first of several frames", note) for note in image.notes]
    ending = os.path.splitext(name)[1].lower()
    single = " + " not in image.format  # a sample of several files is called after its first one
    if single and ending in EXTENSIONS and ending not in _NAMED.get(image.format, ("." + image.format.lower(),)):
        notes.append(f"named {ending}, is {image.format}")
    return notes
