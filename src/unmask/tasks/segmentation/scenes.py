"""`unmask predict` with a segmenter of scenes: a GeoTIFF of class numbers in the place of each scene, by windows."""

from collections import deque
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image
from rich.console import Console
from torch import Tensor

from unmask.data.annotations.legend import VOID
from unmask.data.codecs.image import BadImage
from unmask.data.codecs.scene import write_scene
from unmask.data.codecs.scenes.georeference import Georeference
from unmask.data.codecs.scenes.piece import Piece
from unmask.data.modalities.bands import Bands
from unmask.data.modality import Raw
from unmask.data.source import Source, open_source, why
from unmask.errors import many
from unmask.files import Json, write_atomically, write_json
from unmask.models.sliding_window import windows_at_once
from unmask.runtime.progress import progress
from unmask.tasks.prediction import say_first, say_left_out
from unmask.tasks.segmentation.figures import Colours, as_image, laid_over
from unmask.tasks.segmentation.predict import CLASSES, OVERLAYS, SHARES, Written, file_for, largest, write_shares
from unmask.tasks.segmentation.segmenter import ImageSegmenter
from unmask.tasks.task import PredictOptions

SHOWN = 1024  # pixels of the longer side of an overlay


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
    with progress(console, "segmenting", len(source.items)) as update:
        for number, (name, windows) in enumerate(scenes.items(), start=1):
            try:
                map_, valid, place = _map_of(model, source, windows, options.batch)
            except (BadImage, OSError) as error:
                bad.append((name, why(error)))
                continue
            file = file_for(name, files).with_suffix(".tif")
            files[file] = None
            _write(map_, valid, place, model.numbers, out / file)
            _draw(source, windows, map_, config["colours"], (out / OVERLAYS / file).with_suffix(".jpg"))
            names.append(name)
            counts = np.bincount(map_[valid], minlength=len(model.classes))[: len(model.classes)]
            shares.append(counts / max(1, counts.sum()))
            update(sum(map(len, list(scenes.values())[:number])))
    say_left_out(bad, len(names), console)
    write_shares(names, shares, model.classes, out / SHARES)
    write_json(out / CLASSES, {str(number): name for number, name in zip(model.numbers, model.classes)})
    say_first([f"{name}: {largest(row, model.classes)}" for name, row in zip(names, shares)], console)
    told = (
        f"{many(len(names), 'scene')}: class numbers as GeoTIFF in {out}, overlays in {out / OVERLAYS}, {out / SHARES}"
    )
    console.print(told, soft_wrap=True, markup=False)
    return Written(out, names, [out / file for file in files], model.classes, model.numbers, np.array(shares))


def _map_of(
    model: ImageSegmenter, source: Source, windows: list[int], batch: int
) -> tuple[UInt8[np.ndarray, "h w"], Bool[np.ndarray, "h w"], Georeference]:
    """The class of every pixel of a scene, where it has data, and where it lies. Raises BadImage and OSError."""
    modality, waiting = scenes_of(source), deque[np.ndarray]()
    place = modality.georeference(source.raw(windows[0]))
    map_, valid = np.full(place.size, VOID, np.uint8), np.zeros(place.size, bool)

    def passing() -> Iterator[tuple[Tensor, tuple[int, int]]]:
        for index in windows:
            content = modality.fitted(modality.decode(source.raw(index)).content, model.encoder.channels)
            waiting.append(~modality.values(content).isnan().all(dim=0).numpy())
            yield content, (content.shape[1], content.shape[2])

    for index, part in zip(windows, model.maps(passing(), min(batch, windows_at_once(model.window)))):
        inside = slices(source.raw(index), place.size)
        map_[inside], valid[inside] = part, waiting.popleft()
    return map_, valid, place


def scenes_of(source: Source) -> Bands:
    """The kind of what lies there, which is scenes."""
    if not isinstance(source.modality, Bands):
        raise ValueError(f"{source.where} holds {source.modality.word}s")
    return source.modality


def slices(raw: Raw, size: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of a window, or of the whole."""
    top, left, height, width = raw.place if isinstance(raw, Piece) else (0, 0, *size)
    return slice(top, top + height), slice(left, left + width)


def _write(map_: np.ndarray, valid: np.ndarray, place: Georeference, numbers: list[int], path: Path) -> None:
    kind = np.uint8 if max(numbers) < 255 else np.uint16
    nothing = next(number for number in range(np.iinfo(kind).max, -1, -1) if number not in numbers)
    table = np.full(256, nothing, kind)
    table[: len(numbers)] = numbers
    path.parent.mkdir(parents=True, exist_ok=True)
    write_scene(path, table[map_], place, names=("class",), nodata=nothing, valid=valid)


def _draw(source: Source, windows: list[int], map_: np.ndarray, colours: Colours, path: Path) -> None:
    """The scene with its classes over it, no larger than `SHOWN`."""
    step = -(-max(map_.shape) // SHOWN)
    small = map_[::step, ::step]
    kind = scenes_of(source)
    content = kind.overview(source.raw(windows[0]), max(small.shape))
    shown = kind.shown(content, content)
    path.parent.mkdir(parents=True, exist_ok=True)
    over = Image.fromarray(laid_over(as_image(shown, (small.shape[0], small.shape[1])), small, colours))
    write_atomically(path, lambda part: over.save(part, format="JPEG", quality=90))
