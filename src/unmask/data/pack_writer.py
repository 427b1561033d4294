"""Writes the files of a pack: images in order, a line for each, resumable after a kill.

Layout: see data/sources/pack.py. A shard under way has `.part` behind its names; it is taken over up to the last whole
image.
"""

import contextlib
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from unmask.data.sources.pack import VERSION
from unmask.files import parse_json

HEADER = b"UNMASK PACK 1\n".ljust(64, b"\0")  # so that no shard begins as an image does
ALIGN = 64  # bytes: where pixels begin


@dataclass(frozen=True)
class PackSettings:
    """What a pack is made of, and how."""

    data: list[str]  # folders and files of images, by absolute path
    format: Literal["jpeg", "original", "raw"]
    size: int | None  # pixels that the shorter side of larger images is shrunk to
    quality: int | None  # of JPEG
    shard_mb: int  # size after which a new file is begun


@dataclass(frozen=True)
class PackRecord:
    """What the pack's JSON file says from the beginning."""

    asked: PackSettings
    count: int  # images in the data, bad ones included
    names: str  # checksum of their names, labels, splits and other columns
    command: str
    complete: bool = False
    version: int = VERSION


@dataclass(frozen=True)
class Packed:
    """One image as it is to be written."""

    content: bytes
    shape: tuple[int, int, int] = (0, 0, 0)  # height, width, channels of pixels
    kind: int = 0  # as in data/sources/pack.py: 0 a file, 1 uint8, 2 float32


class Shards:
    """Writes images in order; what a kill left behind is taken over up to the last whole image."""

    def __init__(self, out: Path, most: int):
        self.out, self.most, self.rows, self.bad = out, most, [], []  # rows of the index; index, name, reason of bad
        self.number, self.done = 0, 0
        while (out / f"{self._name()}.jsonl").exists():
            self._take(self._lines(out / f"{self._name()}.jsonl"))
            self.number += 1
        self.names, self.images, self.end = self._continue()

    def add(self, name: str, line: list[Any], made: Packed | str) -> None:
        if isinstance(made, str):
            record = [name, made]
        else:
            start = -(-self.end // ALIGN) * ALIGN if made.kind else self.end
            self.images.write(b"\0" * (start - self.end) + made.content)
            self.end = start + len(made.content)
            numbers = [start, len(made.content), zlib.crc32(made.content), *made.shape, made.kind]
            record = [name, *line, numbers]
        self.names.write(json.dumps(record) + "\n")
        self._take([record])
        if self.end >= self.most:
            self.close()
            self.number += 1
            self.names, self.images, self.end = self._continue()
        elif self.done % 64 == 0:
            self.images.flush()  # before the names: a line says that its image is there
            self.names.flush()

    def close(self) -> None:
        """Ends the shard under way; one that holds nothing is removed, unless it is the only one."""
        empty = self.number > 0 and self.names.tell() == 0
        for file in (self.images, self.names):
            file.flush()
            os.fsync(file.fileno())
            file.close()
        for ending in ("bin", "jsonl"):  # the names last: they make the shard a whole one
            part = self.out / f"{self._name()}.{ending}.part"
            if empty:  # all images were written before a kill, or the last one filled the shard before
                part.unlink()
            else:
                os.replace(part, self.out / f"{self._name()}.{ending}")

    def leave(self) -> None:
        """Keeps what there is of the shard under way, as far as the disk has room for it."""
        for file in (self.images, self.names):
            with contextlib.suppress(OSError):
                file.close()

    def _name(self) -> str:
        return f"shard-{self.number:05d}"

    def _continue(self) -> tuple[Any, Any, int]:
        names, images = (self.out / f"{self._name()}.{ending}.part" for ending in ("jsonl", "bin"))
        kept, end = [], len(HEADER)
        if names.exists() and images.exists():
            with open(images, "rb") as file:
                for record in self._lines(names):
                    if len(record) > 2:
                        file.seek(record[-1][0])
                        content = file.read(record[-1][1])
                        if len(content) != record[-1][1] or zlib.crc32(content) != record[-1][2]:
                            break
                        end = record[-1][0] + record[-1][1]
                    kept.append(record)
        elif (whole := self.out / f"{self._name()}.bin").exists():
            whole.unlink()  # killed between the two renamings
        if not images.exists():
            images.write_bytes(HEADER)
        os.truncate(images, end)
        text = "".join(json.dumps(record) + "\n" for record in kept)
        names.write_text(text, encoding="utf-8")
        self._take(kept)
        return open(names, "a", encoding="utf-8"), open(images, "ab"), end

    def _take(self, records: Iterable[list[Any]]) -> None:
        for record in records:
            if len(record) > 2:
                self.rows.append([self.number, *record[-1]])
            else:
                self.bad.append((self.done, record[0], record[1]))
            self.done += 1

    def _lines(self, path: Path) -> Iterator[list[Any]]:
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                yield parse_json(line)
            except ValueError:  # cut off by a kill
                return
