"""A data set of decoded images. One that turns out bad while training is replaced and recorded; the run goes on."""

import os
from collections.abc import Mapping, Sequence
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import Dataset

from unmask.data.captions.table import captions_in
from unmask.data.captions.tokens import Captions
from unmask.data.codecs.image import BadImage
from unmask.data.labels import natural
from unmask.data.source import Source, why
from unmask.data.value_range import UsualRange
from unmask.errors import DataError, UserError
from unmask.seeds import mix

BAD_FILES = "bad_files.txt"  # in the folder of a run
_LISTED: dict[Path, tuple[int, int, set[bytes]]] = {}  # inode, bytes read so far, and names, of lists of bad files
NEXT, TRIES = 8, 100  # images after a bad one that are tried in its place; up to so many, others at random; then all


@runtime_checkable
class Images(Protocol):
    """The contract of images for inspection: a length, images by index, and names."""

    @property
    def names(self) -> Sequence[str]: ...

    def __len__(self) -> int: ...

    def image(self, i: int) -> Any: ...


class Samples(Dataset):
    """The images of `source` at `indices`, in that order; an index `i` below counts in that order."""

    names: list[str]
    labels: Tensor | None  # n, int64: places in `classes`, -1 for none; or n k, 0 and 1, where there may be several per
    # image (float32, -1 where nothing is known); None where no image has a label
    classes: list[str]  # sorted; numbers by value
    num_unlabelled: int
    bad: dict[int, str]  # in this process: i -> reason

    def __init__(
        self,
        source: Source,
        indices: Sequence[int],
        *,
        channels: int,
        max_side: int | None = None,  # pixels, as for `decode`
        cache: Mapping[int, Any] | None = None,  # decoded samples by index in `source`, as `inspect` gives
        classes: Sequence[str] | None = None,  # those of another part of the data; others count as unlabelled
        usual_range: UsualRange | None = None,  # of the values; images that are unlike are bad. None: not looked at
    ):
        self.source, self.indices = source, list(indices)
        if not self.indices:
            raise DataError(f"no images of {source.where} are left to use")
        self.channels, self.max_side, self.cache = channels, max_side, cache or {}
        self.usual_range = usual_range
        items = [source.items[i] for i in self.indices]
        self.names = [item.name for item in items]
        label_names = [source.classes(i) for i in self.indices]
        class_names = {name for names in label_names for name in names or ()}
        self.classes = sorted(class_names, key=natural) if classes is None else list(classes)
        self.labels = _targets(label_names, self.classes, source.multi_label) if class_names else None
        self.num_unlabelled = label_names.count(None) if class_names else len(items)
        self.bad = {}
        self._log: Path | None = None
        self._stacks: dict[tuple[str, int], Tensor] = {}

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, i: int) -> Any:
        return self.image(i)

    def image(self, i: int) -> Any:
        """Sample `i` as its modality decodes it: an image c h w at its own size, at most `max_side`, uint8, or float32
        where it is deeper than 8 bits."""
        return self.substitute(i)[0]

    def itself(self, i: int) -> Any:
        """Image `i`, for what is said of that image by name. Raises DataError where it cannot be used any more."""
        image, used = self.substitute(i)
        if used != i:
            raise DataError(
                f"{self.names[i]} cannot be used any more: {self.bad[i]}; it was good when the images were looked at."
                " Once it is mended or gone for good, give the same command again"
            )
        return image

    def substitute(self, i: int) -> tuple[Any, int]:
        """Image `i` or, if it is bad, another good one, and the index used: a function of `i` and the files. Beyond the
        next few it is drawn from all over: where a whole folder is gone, its neighbour shall not stand in for all."""
        if not 0 <= i < len(self):
            raise IndexError(f"there are {len(self)} images, no {i}")
        for step in range(TRIES + len(self)):
            place = mix(i, step) % len(self) if NEXT < step < TRIES else (i + step) % len(self)
            if place in self.bad:
                continue
            try:
                return self._good(place), place
            except (BadImage, OSError) as error:
                self._record(place, why(error))
        gone = "" if "channels" in self.bad[i] else f"; is {self.source.where} still there?"
        raise DataError(f"no image of {len(self):,} can be used any more, e.g. {self.names[i]}: {self.bad[i]}{gone}")

    def stacked(self, device: torch.device | str) -> UInt8[Tensor, "n c h w"]:
        """All images as one tensor on a device, built once: they must be 8-bit and of one size."""
        key = (str(device), self.channels)
        if key not in self._stacks:
            images = [self.image(i) for i in range(len(self))]
            odd = next((i for i, p in enumerate(images) if p.shape != images[0].shape or p.dtype != torch.uint8), None)
            if odd is not None:
                raise DataError(
                    f"{self.names[odd]} is not an 8-bit image of the same size as the others; --in-memory off takes"
                    " images of any kind"
                )
            self._stacks[key] = torch.stack([p.contiguous() for p in images]).to(device)
        return self._stacks[key]

    @cached_property
    def captions(self) -> Captions:
        """What the images are said to show."""
        return Captions([captions_in(self.source.items[i].columns) for i in self.indices])

    def light(self) -> "Samples":
        """A copy without decoded images in memory, to send to another process."""
        same = copy(self)
        same.cache, same._stacks = {}, {}
        return same

    def report_bad_to(self, path: str | Path) -> None:
        """Makes every process add images that turn out bad to this file, each once."""
        self._log = Path(path)
        for place, reason in self.bad.items():
            append_bad_file(self._log, self.names[place], reason)

    def _good(self, place: int) -> Any:
        index = self.indices[place]
        content, modality = self.cache.get(index), self.source.modality
        if content is None:
            content = self.source.pixels(index)
            if content is None or (self.max_side is not None and min(content.shape[1:]) > self.max_side):
                sample = modality.decode(self.source.raw(index), self.max_side)
                if self.usual_range is not None:
                    self.usual_range.require(sample.ends)
                content = sample.content
        return modality.fitted(content, self.channels)

    def _record(self, place: int, reason: str) -> None:
        self.bad[place] = reason
        if self._log is not None:
            append_bad_file(self._log, self.names[place], reason)


def _targets(label_names: Sequence[list[str] | None], classes: Sequence[str], several: bool) -> Tensor:
    places = {label: place for place, label in enumerate(classes)}
    if not several:
        return torch.tensor([places.get(names[0], -1) if names else -1 for names in label_names])
    targets = torch.zeros(len(label_names), len(classes))
    for row, names in enumerate(label_names):
        if names is None:
            targets[row] = -1
        targets[row, [places[name] for name in names or () if name in places]] = 1
    return targets


def append_bad_file(path: Path, name: str, reason: str) -> None:
    """Adds `name TAB reason` in one write, unless the name is listed: worker processes find the same bad files. What
    was read of the list before is not read again."""
    try:
        with open(path, "a+b") as file:  # a: every write goes to the end, whoever else writes
            _lock(file.fileno())
            status = os.fstat(file.fileno())
            which, end, names = _LISTED.get(path, (0, 0, set[bytes]()))
            if which != status.st_ino or status.st_size < end:  # another list
                end, names = 0, set()
            file.seek(end)
            names |= {line.split(b"\t", 1)[0] for line in file.read().splitlines()}
            if name.encode() not in names:
                os.write(file.fileno(), f"{name}\t{reason}\n".encode())
                names.add(name.encode())
            _LISTED[path] = status.st_ino, os.fstat(file.fileno()).st_size, names
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error


def num_lost(path: Path) -> int:
    """How many names in a list of bad files came after the data was checked; 0 where there is no list."""
    try:
        first, *names = path.read_text(encoding="utf-8", errors="replace").splitlines()
        return len(names) - int(first.split()[1])
    except (OSError, ValueError, IndexError):  # no list, or none that `write_bad_files` began
        return 0


def _lock(handle: int) -> None:
    """Until the file is closed; where the system has no such lock (Windows), a line may come twice."""
    try:
        import fcntl
    except ImportError:
        return
    fcntl.flock(handle, fcntl.LOCK_EX)
