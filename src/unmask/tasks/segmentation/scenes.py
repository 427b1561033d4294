"""`unmask predict` with a segmenter of scenes: a GeoTIFF of class numbers in the place of each scene.

A scene is read and segmented by rows of windows that overlap by a half, so that no seams show and none must fit into
memory with its bands and logits: what is held whole are a byte of class and a truth value for each pixel.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from rich.console import Console
from torch import Tensor

from unmask.data.annotations.legend import VOID
from unmask.data.codecs.image import BadImage
from unmask.data.codecs.scene import write_scene
from unmask.data.codecs.scenes.georeference import Georeference
from unmask.data.codecs.scenes.piece import Piece
from unmask.data.modalities.bands import Bands
from unmask.data.source import Source, open_source, why
from unmask.files import Json, write_atomically
from unmask.models.sliding_window import windows_at_once
from unmask.runtime.progress import progress
from unmask.tasks.segmentation.figures import Colours, as_image, laid_over
from unmask.tasks.segmentation.predict import OVERLAYS, Written, conclude, file_for
from unmask.tasks.segmentation.segmenter import ImageSegmenter
from unmask.tasks.task import PredictOptions

SHOWN = 1024  # pixels of the longer side of an overlay
ROWS = 256  # of a scene that are read at once, at the least
PART = 1 << 24  # values that are read at once, where rows are long


def predict_scenes(
    model: ImageSegmenter, config: Json, options: PredictOptions, out: Path, console: Console
) -> Written:
    """A map for each scene, as large as it is, with its coordinate system; where there is no data there is no class."""
    source = open_source(options.images, model.encoder.modality)
    scenes: dict[str, list[int]] = {}  # the name of a file -> its windows
    for index, item in enumerate(source.items):
        name = item.name.rpartition("@")[0] if isinstance(source.raw(index), Piece) else item.name
        scenes.setdefault(name, []).append(index)
    names, shares, bad, files = [], [], [], dict[Path, None]()
    modality, done = scenes_of(source), 0
    with progress(console, "segmenting", len(source.items)) as update:
        for name, windows in scenes.items():
            raw = source.raw(windows[0])
            whole = raw.of if isinstance(raw, Piece) else raw
            assert not isinstance(whole, tuple)  # samples of several files are none of this kind
            try:
                share = partial(_part_done, update, done, len(windows))
                map_, valid, place = _map_of(model, modality, whole, options.batch, share)
            except (BadImage, OSError) as error:
                bad.append((name, why(error)))
                continue
            finally:
                done += len(windows)
                update(done)
            file = file_for(name, files).with_suffix(".tif")
            files[file] = None
            _write(map_, valid, place, model.numbers, out / file)
            _draw(modality, whole, map_, config["colours"], (out / OVERLAYS / file).with_suffix(".jpg"))
            names.append(name)
            counts = _counted(map_, valid, len(model.classes))
            shares.append(counts / max(1, counts.sum()))
    words = {"sample": "scene", "maps": "class numbers as GeoTIFF", "pictures": "overlays"}
    return conclude(model, names, files, shares, bad, out, console, **words)


def _map_of(
    model: ImageSegmenter, modality: Bands, whole: bytes | np.ndarray | str, batch: int, seen: Callable[[float], Any]
) -> tuple[UInt8[np.ndarray, "h w"], Bool[np.ndarray, "h w"], Georeference]:
    """The class of every pixel of a scene, where it has data, and where it lies. seen: called with the share that is
    finished. Raises BadImage and OSError."""
    place = modality.georeference(whole)
    map_, valid = np.full(place.size, VOID, np.uint8), np.zeros(place.size, bool)
    rows = _Rows(modality, whole, place.size, model.encoder.channels, valid)
    short = min(*place.size, modality.side or min(place.size))  # the shorter side of what was learned from
    batch = min(batch, windows_at_once(model.window))
    for top, part in model.strips(rows, place.size, model.side / short, batch):
        map_[top : top + len(part)] = part
        seen((top + len(part)) / len(map_))
    if not valid.any():
        raise BadImage("no pixel has data")
    map_[~valid] = VOID
    return map_, valid, place


class _Rows:
    """Rows of a scene, read from top to bottom, each once: so many at a time that tiles are not unpacked often."""

    def __init__(
        self, modality: Bands, whole: bytes | np.ndarray | str, size: tuple[int, int], channels: int, valid: np.ndarray
    ):
        """valid: h w, in which it is noted where there is data."""
        self.modality, self.whole, self.size, self.channels, self.valid = modality, whole, size, channels, valid
        self.top, self.held = 0, torch.empty(channels + modality.planes, 0, size[1])

    def __call__(self, first: int, end: int) -> Float[Tensor, "c r w"]:
        held = self.held[:, first - self.top :]
        bottom = first + held.shape[1]
        if end > bottom:
            held = torch.cat([held, self._read(bottom, min(self.size[0], max(end, bottom + ROWS)))], dim=1)
        self.top, self.held = first, held
        return held[:, : end - first]

    def _read(self, first: int, end: int) -> Float[Tensor, "c r w"]:
        parts, step = [], max(ROWS, PART // ((end - first) * self.channels))
        for left in range(0, self.size[1], step):
            place = (first, left, end - first, min(step, self.size[1] - left))
            content = self.modality.fitted(self.modality.decode(Piece(self.whole, place)).content, self.channels)
            self.valid[first:end, left : left + step] = ~self.modality.values(content).isnan().all(dim=0).numpy()
            parts.append(content)
        return torch.cat(parts, dim=2)


def scenes_of(source: Source) -> Bands:
    """The kind of what lies there, which is scenes."""
    if not isinstance(source.modality, Bands):
        raise ValueError(f"{source.where} holds {source.modality.word}s")
    return source.modality


def _write(map_: np.ndarray, valid: np.ndarray, place: Georeference, numbers: list[int], path: Path) -> None:
    kind = np.uint8 if max(numbers) < 255 else np.uint16
    nothing = next(number for number in range(np.iinfo(kind).max, -1, -1) if number not in numbers)
    table = np.full(256, nothing, kind)
    table[: len(numbers)] = numbers
    path.parent.mkdir(parents=True, exist_ok=True)
    write_scene(path, table[map_], place, names=("class",), nodata=nothing, valid=valid)


def _counted(map_: np.ndarray, valid: np.ndarray, classes: int) -> np.ndarray:
    """Pixels of each class where there is data, row by row: counting makes eight bytes of each."""
    counts = np.zeros(classes, np.int64)
    for row, row_valid in zip(map_, valid):
        counts += np.bincount(row[row_valid], minlength=classes)[:classes]
    return counts


def _part_done(update: Callable[[int], Any], before: int, windows: int, share: float) -> None:
    update(before + int(share * windows))


def _draw(kind: Bands, whole: bytes | np.ndarray | str, map_: np.ndarray, colours: Colours, path: Path) -> None:
    """The scene with its classes over it, no larger than `SHOWN`."""
    step = -(-max(map_.shape) // SHOWN)
    small = map_[::step, ::step]
    content = kind.overview(whole, max(small.shape))
    shown = kind.shown(content, content)
    path.parent.mkdir(parents=True, exist_ok=True)
    over = Image.fromarray(laid_over(as_image(shown, (small.shape[0], small.shape[1])), small, colours))
    write_atomically(path, lambda part: over.save(part, format="JPEG", quality=90))
