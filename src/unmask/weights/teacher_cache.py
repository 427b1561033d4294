"""Features of a frozen teacher, kept on the disk while a run sees the same views in every epoch.

A view is known by a hash of its pixels, so that changed data, another crop or another teacher is never taken for it.
Where a batch holds a view that is not kept yet, the features of the whole batch are computed: they are then those that
the same batch gives in a run that was stopped and goes on, to the bit.
"""

import hashlib
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float, Shaped
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from unmask.files import is_full, write_atomically

FOLDER = "teacher_features"  # in that of a run, until it is finished
MOST = 4 * 2**30  # bytes of features that are kept
CHUNK = 2**26  # bytes of features in a file, about


class KeptFeatures:
    """Files of features in a folder, each written whole or not at all; for one process."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.count, self.writable = folder, 0, True
        self.places: dict[bytes, tuple[Path, int]] = {}  # hash of a view -> file, and row in it
        self.new: dict[bytes, Tensor] = {}  # of no file yet
        for path in sorted(folder.glob("*.safetensors")):
            self.count = max(self.count, int(path.stem) + 1)
            try:
                with safe_open(path, "pt") as file:
                    keys = file.get_tensor("keys")
            except (OSError, SafetensorError):  # damaged on the disk: computed again
                path.unlink()
                continue
            self.places |= {bytes(key): (path, row) for row, key in enumerate(keys.numpy())}

    def of(
        self, x: Shaped[Tensor, "b c h w"], made_by: str, compute: Callable[[], Float[Tensor, "b n d"]]
    ) -> Float[Tensor, "b n d"]:
        """The features of views, kept ones as they are. made_by: what, beside a view, decides on its features."""
        salt = hashlib.blake2b(f"{made_by} {x.dtype} {tuple(x.shape[1:])}".encode(), digest_size=16).digest()
        keys = [_hash(view, salt) for view in x.detach().cpu().contiguous()]
        if all(key in self.new or key in self.places for key in keys):
            return torch.stack(self._kept(keys)).to(x.device)
        features = compute()
        for key, values in zip(keys, features):
            if key not in self.places and self.writable:
                self.new.setdefault(key, values.detach().cpu().clone())
        if sum(values.nbytes for values in self.new.values()) >= CHUNK:
            self.write()
        kept = [place for place, key in enumerate(keys) if key in self.places or key in self.new]
        if kept:
            features = features.clone()
            features[kept] = torch.stack(self._kept([keys[place] for place in kept])).to(features.device)
        return features

    def write(self) -> None:
        """Writes what is new. Where the disk is full, nothing more is kept: features are computed every time then."""
        if not self.new:
            return
        path = self.folder / f"{self.count:06d}.safetensors"
        keys = torch.frombuffer(bytearray(b"".join(self.new)), dtype=torch.uint8).view(len(self.new), -1)
        content = {"keys": keys, "features": torch.stack(list(self.new.values()))}
        try:
            write_atomically(path, lambda part: save_file(content, part))
        except OSError as error:
            if not is_full(error):
                raise
            self.writable = False
            self.new.clear()
            print(f"{self.folder}: {error.strerror}; no more features are kept, they are computed", file=sys.stderr)
            return
        self.places |= {key: (path, row) for row, key in enumerate(self.new)}
        self.new, self.count = {}, self.count + 1

    def _kept(self, keys: list[bytes]) -> list[Float[Tensor, "n d"]]:
        rows: dict[bytes, Tensor] = {key: self.new[key] for key in keys if key in self.new}
        of_files: dict[Path, list[bytes]] = {}
        for key in keys:
            if key not in rows:
                of_files.setdefault(self.places[key][0], []).append(key)
        for path, own in of_files.items():
            with safe_open(path, "pt") as file:
                features = file.get_slice("features")
                for key in own:
                    row = self.places[key][1]
                    rows[key] = features[row : row + 1][0]
        return [rows[key] for key in keys]


def no_room(need: int, folder: Path) -> str | None:
    """Why so many bytes of features cannot be kept, as the end of a sentence; None where they can."""
    free = shutil.disk_usage(folder).free
    if need > MOST:
        return f"they take {need / 2**30:,.1f} GB, more than {MOST / 2**30:,.0f} GB"
    if 2 * need > free:
        return f"they take {need / 2**30:,.1f} GB, and {free / 2**30:,.1f} GB are free"
    return None


def forget(folder: Path) -> None:
    """Removes what was kept in the folder of a run."""
    shutil.rmtree(folder / FOLDER, ignore_errors=True)


def _hash(view: Tensor, salt: bytes) -> bytes:
    return hashlib.blake2b(view.reshape(-1).view(torch.uint8).numpy().tobytes(), key=salt, digest_size=16).digest()
