"""A folder made by `unmask pack`: few large files instead of many small ones, read by index without searching.

    unmask-pack.json   what it is, from what, by which settings; sizes and checksums of the files
    shard-00000.bin    images one after the other: JPEG files, original files, or pixels
    shard-00000.jsonl  a line per image: name, label, split, other columns
    index.npy          a row per image: shard, offset, length, checksum, height, width, channels, kind (int64)

The idea of an indexed file read by memory mapping is old; FFCV (Leclerc et al. 2023) showed what it saves in training.
"""

import hashlib
import os
import threading
import zlib
from pathlib import Path
from typing import IO

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from unmask.data.codecs.image import BadImage
from unmask.data.labels import PACK
from unmask.data.regular_files import read_part
from unmask.data.source import Item, Source
from unmask.errors import DataError
from unmask.files import Json, parse_json

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
            self.index = np.load(self.root / INDEX, allow_pickle=False)
            shards = [dict(shard) for shard in facts["shards"]]
            self._check(INDEX, facts["index"])
            for number, shard in enumerate(shards):
                self.items += self._items(number, shard)
            self.packed = str(facts["format"])
            self.plural, self.multi_label = bool(facts["plural"]), bool(facts["multi_label"])
            self.ignored, self.remarks = 0, [str(remark) for remark in facts["remarks"]]
        except OSError as error:
            raise DataError(f"{path}: {_name(error)} cannot be read ({error.strerror or error}); {_REMEDY}") from error
        except Exception as error:  # of a damaged index, NumPy raises anything
            raise DataError(f"{path} is damaged ({error or type(error).__name__}); {_REMEDY}") from error
        if self.index.shape != (len(self.items), 8) or self.index.dtype != np.int64:
            raise DataError(f"{path} is damaged: its index does not fit its {len(self.items):,} names; {_REMEDY}")
        self._prepare()

    @classmethod
    def accepts(cls, path: str) -> bool:
        return os.path.isfile(os.path.join(os.path.expanduser(path), PACK))

    def read(self, index: int) -> bytes | np.ndarray:
        row, content = self._content(index)
        if row[KIND] == 0:
            return bytes(content)
        pixels = _array(row, content)
        return pixels[..., 0] if pixels.shape[2] == 1 else pixels

    def pixels(self, index: int) -> Shaped[Tensor, "c h w"] | None:
        if self.index[index, KIND] == 0:
            return None
        return torch.from_numpy(_array(*self._content(index))).permute(2, 0, 1)

    def __getstate__(self) -> dict[str, object]:
        return {k: v for k, v in vars(self).items() if k not in ("lock", "files", "sound", "index")}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state)
        self.index = np.load(self.root / INDEX, allow_pickle=False)
        self._prepare()

    def _prepare(self) -> None:
        self.lock, self.files = threading.Lock(), {}
        self.sound = bytearray(len(self.items))  # 1: its checksum was found right in this process

    def _facts(self) -> Json:
        try:
            facts = parse_json((self.root / PACK).read_text(encoding="utf-8"))
            version, complete = facts["version"], facts["complete"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self.where}: {PACK} is damaged ({error}); {_REMEDY}") from error
        if version != VERSION:
            raise DataError(f"{self.where} is a pack of version {version}; this unmask reads version {VERSION}")
        if not complete:
            raise DataError(f"{self.where} is not finished: give the command that began it again: {facts['command']}")
        return facts

    def _items(self, number: int, shard: Json) -> list[Item]:
        name = f"shard-{number:05d}"
        if (self.root / f"{name}.bin").stat().st_size != shard["bytes"]:
            raise ValueError(f"{name}.bin has another size than it was packed with")
        lines = self._check(f"{name}.jsonl", shard["names"]).decode("utf-8").splitlines()
        return [Item(line[0], line[1], line[2], line[3]) for line in map(parse_json, lines) if len(line) > 2]

    def _check(self, name: str, expected: str) -> bytes:
        content = (self.root / name).read_bytes()
        if digest(content) != expected:
            raise ValueError(f"the checksum of {name} is wrong")
        return content

    def _content(self, index: int) -> tuple[list[int], bytearray]:
        """The index's row and the bytes; what is read for the first time is compared with its checksum."""
        row = self.index[index].tolist()
        content = read_part(self._open(row[SHARD]).fileno(), row[OFFSET], row[LENGTH])
        if not self.sound[index]:
            if zlib.crc32(content) != row[CHECKSUM]:
                raise BadImage("damaged in the pack (a checksum is wrong)")
            self.sound[index] = 1
        return row, content

    def _open(self, number: int) -> IO[bytes]:
        if number not in self.files:
            with self.lock:
                if number not in self.files:
                    self.files[number] = open(self.root / f"shard-{number:05d}.bin", "rb")
        return self.files[number]


_REMEDY = "take the pack again from where it came, or make it anew: unmask pack DATA OUT.pack"


def _array(row: list[int], content: bytearray) -> np.ndarray:
    """h w c."""
    return np.frombuffer(content, DTYPES[row[KIND]]).reshape(row[HEIGHT], row[WIDTH], row[CHANNELS])


def digest(content: bytes) -> str:
    """Of the small files of a pack."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _name(error: OSError) -> str:
    return os.path.basename(str(error.filename)) if error.filename else "a file"
