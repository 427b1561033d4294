"""The files of a search index: rows in chunks, the content of each file, and the encoder that computed them."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped
from torch import Tensor

from unmask.data.limits import require_modest_zip
from unmask.errors import UserError
from unmask.files import MARK, parse_json, write_atomically, write_json

FACTS, STAMPS = "index.json", "stamps.npz"


@dataclass(frozen=True)
class Row:
    """The index entry of a content, besides its features."""

    digest: bytes  # of the file
    pixels: bytes  # digest of the decoded pixels
    tiny: Float[np.ndarray, "768"]  # see `likeness.py`
    thumb: bytes  # JPEG
    view: Shaped[Tensor, "c *size"]  # what the encoder sees; not kept


class Store:
    """The files of an index."""

    def __init__(self, folder: Path, key: str, say: Callable[[str], object]):
        self.folder, self.key = folder, key
        facts = folder / FACTS
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder} is a file; an index is a folder")
        if folder.exists() and not facts.exists() and any(not path.name.startswith(MARK) for path in folder.iterdir()):
            raise UserError(f"{folder} holds other things than an index of unmask; give another folder by --index")
        folder.mkdir(parents=True, exist_ok=True)
        if facts.exists() and _key(facts) != key:
            say(f"{folder} was made with other weights or settings; it is made anew")
            for path in [*folder.glob("rows-*.npz"), folder / STAMPS, facts]:
                path.unlink(missing_ok=True)
        if not facts.exists():
            write_json(facts, {"made by": "unmask search, for the weights whose hash is in the key", "key": key})
        self.rows: dict[bytes, tuple[Path, int]] = {}
        self.bad: dict[bytes, str] = {}
        for path in sorted(folder.glob("rows-*.npz")):
            self._register(path)
        self.stamps = self._stamps()

    def add(self, fresh: dict[bytes, Row], features: np.ndarray) -> int:
        """Writes rows; returns how many."""
        rows = list(fresh.values())
        arrays = {
            "files": _bytes([row.digest for row in rows]),
            "pixels": _bytes([row.pixels for row in rows]),
            "features": features.astype(np.float32),
            "tiny": np.stack([row.tiny for row in rows]).astype(np.float16),
            "thumbs": np.frombuffer(b"".join(row.thumb for row in rows), np.uint8),
            "ends": np.cumsum([len(row.thumb) for row in rows]),
        }
        name = hashlib.blake2b(b"".join(fresh), digest_size=8).hexdigest()  # so that two searches at a time never clash
        path = self.folder / f"rows-{name}.npz"
        write_atomically(path, lambda part: _save(part, arrays))
        self._register(path)
        return len(rows)

    def settle(self, stamps: dict[bytes, bytes], wanted: set[bytes]) -> None:
        """Writes the table of files; chunks whose rows no image has any more are deleted."""
        bad = {digest: reason for digest, reason in self.bad.items() if digest in wanted}
        reasons = np.array(list(bad.values()) or [""], dtype=str)
        arrays = {
            "stamps": _bytes(stamps.keys()),
            "files": _bytes(stamps.values()),
            "bad": _bytes(bad),
            "why": reasons,
        }
        write_atomically(self.folder / STAMPS, lambda part: _save(part, arrays))
        used = {path for digest, (path, _) in self.rows.items() if digest in wanted}
        for path in self.folder.glob("rows-*.npz"):
            if path not in used:
                path.unlink()

    def gather(self, at: list[tuple[Path, int]]) -> tuple[np.ndarray, np.ndarray, list[bytes]]:
        """Features n d, tiny images n 768 and digests of pixels of some rows, one file at a time."""
        features, tiny = np.zeros((0, 0), np.float32), np.zeros((0, 0), np.float16)
        pixels = [b""] * len(at)
        wanted: dict[Path, list[int]] = {}
        for place, (path, _) in enumerate(at):
            wanted.setdefault(path, []).append(place)
        for path, places in wanted.items():
            rows = [at[place][1] for place in places]
            require_modest_zip(path)
            with np.load(path) as content:
                if not features.size:
                    features = np.zeros((len(at), content["features"].shape[1]), np.float32)
                    tiny = np.zeros((len(at), content["tiny"].shape[1]), np.float16)
                features[places], tiny[places] = content["features"][rows], content["tiny"][rows]
                for place, digest in zip(places, content["pixels"][rows]):
                    pixels[place] = digest.tobytes()
        return features, tiny, pixels

    def _register(self, path: Path) -> None:
        try:
            require_modest_zip(path)
            with np.load(path) as content:
                files = [row.tobytes() for row in content["files"]]
        except Exception:  # numpy and zipfile raise many kinds for a damaged file; its rows are computed again
            path.unlink()
            return
        self.rows |= {digest: (path, row) for row, digest in enumerate(files) if digest not in self.rows}

    def _stamps(self) -> dict[bytes, bytes]:
        try:
            require_modest_zip(self.folder / STAMPS)
            with np.load(self.folder / STAMPS) as content:
                self.bad = {row.tobytes(): str(reason) for row, reason in zip(content["bad"], content["why"])}
                pairs = zip(content["stamps"], content["files"])
                return {stamp.tobytes(): digest.tobytes() for stamp, digest in pairs}
        except Exception:  # missing or damaged: all files are read again
            self.bad = {}
            return {}


def _key(facts: Path) -> str:
    try:
        return str(parse_json(facts.read_text(encoding="utf-8")).get("key"))
    except (OSError, ValueError, AttributeError):
        return ""  # damaged: made anew


def _bytes(digests: Iterable[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 16)


def _save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with open(path, "wb") as file:  # a file, since savez would add .npz to the name
        np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]


def thumbs(path: Path) -> list[bytes]:
    """The JPEGs of a file, in the order of its rows."""
    require_modest_zip(path)
    with np.load(path) as content:
        joined, ends = content["thumbs"].tobytes(), content["ends"].tolist()
    return [joined[start:end] for start, end in zip([0, *ends], ends)]
