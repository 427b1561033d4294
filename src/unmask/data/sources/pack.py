"""A folder made by `unmask pack`: few large files instead of many small ones, read by index without searching.

    unmask-pack.json   what it is, from what, by which settings; sizes and checksums of the files
    shard-00000.bin    images one after the other: JPEG files, original files, or pixels
    shard-00000.jsonl  a line per image: name, label, split, other columns
    index.npy          a row per image: shard, offset, length, checksum, height, width, channels, kind (int64)

The idea of an indexed file read by memory mapping is old; FFCV (Leclerc et al. 2023) showed what it saves in training.
"""

import hashlib
import json
import mmap
import os
import threading
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from unmask.data.codecs.image import BadImage
from unmask.data.labels import PACK
from unmask.data.source import Item, Source
from unmask.errors import DataError

__all__ = ["Pack"]

VERSION = 1
INDEX = "index.npy"
SHARD, OFFSET, LENGTH, CHECKSUM, HEIGHT, WIDTH, CHANNELS, KIND = range(8)  # columns of the index
DTYPES = {1: np.dtype("uint8"), 2: np.dtype("<f4")}  # kinds of pixels; kind 0 is a file


class Pack(Source):
    def __init__(self, path: str):
        super().__init__(path)
        self.root = Path(os.path.expanduser(path)).absolute()
        facts = self._facts()
        try:
            self.index = _mapped(self.root / INDEX)
            shards = [dict(shard) for shard in facts["shards"]]
            self._check(INDEX, facts["index"])
            for number, shard in enumerate(shards):
                self.items += self._items(number, shard)
            self.packed = str(facts["format"])
            self.plural, self.multi_label = bool(facts["plural"]), bool(facts["multi_label"])
            self.ignored, self.remarks = 0, [str(remark) for remark in facts["remarks"]]
        except OSError as error:
            raise DataError(f"{path}: {_name(error)} cannot be read ({error.strerror or error}); {_REMEDY}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path} is damaged ({error or type(error).__name__}); {_REMEDY}") from error
        if self.index.shape != (len(self.items), 8) or self.index.dtype != np.int64:
            raise DataError(f"{path} is damaged: its index does not fit its {len(self.items):,} names; {_REMEDY}")
        self._prepare()

    @classmethod
    def accepts(cls, path: str) -> bool:
        return os.path.isfile(os.path.join(os.path.expanduser(path), PACK))

    def read(self, index: int) -> bytes | np.ndarray:
        row = self._checked(index)
        if row[KIND] == 0:
            return self._map(row[SHARD])[row[OFFSET] : row[OFFSET] + row[LENGTH]]
        pixels = self._array(row)
        return pixels[..., 0] if pixels.shape[2] == 1 else pixels

    def pixels(self, index: int) -> Shaped[Tensor, "c h w"] | None:
        if self.index[index, KIND] == 0:
            return None
        return torch.from_numpy(self._array(self._checked(index))).permute(2, 0, 1)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if k not in ("lock", "maps", "sound", "index")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.index = _mapped(self.root / INDEX)
        self._prepare()

    def _prepare(self) -> None:
        self.lock, self.maps = threading.Lock(), {}
        self.sound = bytearray(len(self.items))  # 1: its checksum was found right in this process

    def _facts(self) -> dict[str, Any]:
        try:
            facts = json.loads((self.root / PACK).read_text(encoding="utf-8"))
            version, complete = facts["version"], facts["complete"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self.where}: {PACK} is damaged ({error}); {_REMEDY}") from error
        if version != VERSION:
            raise DataError(f"{self.where} is a pack of version {version}; this unmask reads version {VERSION}")
        if not complete:
            raise DataError(f"{self.where} is not finished: give the command that began it again: {facts['command']}")
        return facts

    def _items(self, number: int, shard: dict[str, Any]) -> list[Item]:
        name = f"shard-{number:05d}"
        if (self.root / f"{name}.bin").stat().st_size != shard["bytes"]:
            raise ValueError(f"{name}.bin has another size than it was packed with")
        lines = self._check(f"{name}.jsonl", shard["names"]).decode("utf-8").splitlines()
        return [Item(line[0], line[1], line[2], line[3]) for line in map(json.loads, lines) if len(line) > 2]

    def _check(self, name: str, expected: str) -> bytes:
        content = (self.root / name).read_bytes()
        if digest(content) != expected:
            raise ValueError(f"the checksum of {name} is wrong")
        return content

    def _checked(self, index: int) -> list[int]:
        """The index's row; what is read for the first time is compared with its checksum."""
        row = self.index[index].tolist()
        if not self.sound[index]:
            part = memoryview(self._map(row[SHARD]))[row[OFFSET] : row[OFFSET] + row[LENGTH]]
            if zlib.crc32(part) != row[CHECKSUM]:
                raise BadImage("damaged in the pack (a checksum is wrong)")
            self.sound[index] = 1
        return row

    def _array(self, row: list[int]) -> np.ndarray:
        """h w c, lying in the file: changes to it would never reach it."""
        dtype = DTYPES[row[KIND]]
        flat = np.frombuffer(self._map(row[SHARD]), dtype, row[LENGTH] // dtype.itemsize, row[OFFSET])
        return flat.reshape(row[HEIGHT], row[WIDTH], row[CHANNELS])

    def _map(self, number: int) -> mmap.mmap:
        if number not in self.maps:
            with self.lock, open(self.root / f"shard-{number:05d}.bin", "rb") as file:
                if number not in self.maps:
                    self.maps[number] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        return self.maps[number]


_REMEDY = "take the pack again from where it came, or make it anew: unmask pack DATA OUT.pack"


def _mapped(path: Path) -> np.ndarray:
    """Lies in the file; a plain array, which is asked ten times as fast as NumPy's own kind for that."""
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


def digest(content: bytes) -> str:
    """Of the small files of a pack."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _name(error: OSError) -> str:
    return os.path.basename(str(error.filename)) if error.filename else "a file"
