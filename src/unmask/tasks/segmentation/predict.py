"""`unmask predict` with a segmenter: a PNG of class numbers, an overlay and a row of shares per image."""

import csv
from collections import deque
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from torch import Tensor

from unmask.data.datasets.full_size import Shown, read_shown
from unmask.data.source import open_source
from unmask.errors import UserError, many
from unmask.files import Json, write_atomically, write_json
from unmask.models.segmenter import Segmenter
from unmask.models.sliding_window import windows_at_once
from unmask.runtime.progress import progress
from unmask.tasks.prediction import say_first, say_left_out
from unmask.tasks.segmentation.figures import Colours, as_image, laid_over
from unmask.tasks.segmentation.segmenter import ImageSegmenter
from unmask.tasks.task import PredictOptions

SHARES, OVERLAYS, CLASSES = "shares.csv", "overlays", "classes.json"


@dataclass(frozen=True)
class Written:
    """The result of `unmask.predict` with a segmenter: maps stay on disk, so that a folder may have any size."""

    folder: Path
    names: list[str]  # of the images
    files: list[Path]  # of their maps: PNG of class numbers, or GeoTIFF of scenes, NIfTI of volumes, PLY of clouds
    classes: list[str]
    numbers: list[int]  # of each class
    shares: np.ndarray  # n k: of each image's pixels, volume's voxels or cloud's points, by class

    def __len__(self) -> int:
        return len(self.names)


def predictions_place(out: Path | None) -> Path:
    """The requested folder, `predictions` by default. Raises UserError for a file."""
    out = out or Path("predictions")
    if out.suffix.lower() == ".csv" or (out.exists() and not out.is_dir()):
        raise UserError(f"a segmenter writes an image for each image: --out names a folder; got {out}")
    return out


def predict_maps(model: ImageSegmenter, config: Json, options: PredictOptions, out: Path, console: Console) -> Written:
    """See `TransferTask.predict`."""
    source, bad = open_source(options.images, model.encoder.modality), []
    shown = read_shown(source, model.encoder.channels, 4 * model.side, lambda name, why: bad.append((name, why)))
    names, shares, waiting = [], [], deque()
    files: dict[Path, None] = {}  # in order

    def passing() -> Iterator[tuple[Tensor, tuple[int, int]]]:
        for image in shown:
            waiting.append(image)
            yield image.pixels, image.size

    with progress(console, "segmenting", len(source.items)) as update:
        for map_ in model.maps(passing(), min(options.batch, windows_at_once(model.window))):
            image = waiting.popleft()
            file = file_for(image.name, files)
            files[file] = None
            _write(image, map_, model.numbers, config["colours"], out, file)
            names.append(image.name)
            shares.append(np.bincount(map_.ravel(), minlength=len(model.classes)) / map_.size)
            update(len(names) + len(bad))
    words = {"sample": "image", "maps": "class numbers as PNG", "pictures": "overlays"}
    return conclude(model, names, files, shares, bad, out, console, **words)


def conclude(
    model: Segmenter,
    names: list[str],
    files: Iterable[Path],  # of the maps, below `out`
    shares: list[np.ndarray],
    bad: list[tuple[str, str]],
    out: Path,
    console: Console,
    *,
    sample: str,
    maps: str,  # what they are and what they are written as
    pictures: str,
) -> Written:
    """Names the samples that were left out, writes the tables, and says the first shares and what lies where. Raises
    DataError where no sample could be read."""
    say_left_out(bad, len(names), console)
    write_shares(names, shares, model.classes, out / SHARES)
    write_json(out / CLASSES, {str(number): name for number, name in zip(model.numbers, model.classes)})
    say_first([f"{name}: {largest(row, model.classes)}" for name, row in zip(names, shares)], console)
    told = f"{many(len(names), sample)}: {maps} in {out}, {pictures} in {out / OVERLAYS}, {out / SHARES}"
    console.print(told, soft_wrap=True, markup=False)
    return Written(out, names, [out / file for file in files], model.classes, model.numbers, np.array(shares))


def largest(shares: np.ndarray, classes: list[str]) -> str:
    return ", ".join(f"{classes[i]} {shares[i]:.0%}" for i in np.argsort(-shares)[:3] if shares[i] >= 0.005)


def _write(shown: Shown, map_: np.ndarray, numbers: list[int], colours: Colours, out: Path, file: Path) -> None:
    """Writes a palette image, so that viewers show colours and programs read class numbers; 16-bit grey above 255
    classes."""
    table = np.array(numbers)
    values = table[map_]
    path, aside = out / file, (out / OVERLAYS / file).with_suffix(".jpg")
    for place in (path, aside):
        place.parent.mkdir(parents=True, exist_ok=True)
    if max(numbers) < 256:
        image: Any = Image.fromarray(values.astype(np.uint8), mode="P")
        palette = np.zeros((256, 3), dtype=np.uint8)
        palette[table] = np.array(colours, dtype=np.uint8)
        image.putpalette(palette.ravel().tolist())
    else:
        image = Image.fromarray(values.astype(np.uint16))
    write_atomically(path, lambda part: image.save(part, format="PNG"))
    over = Image.fromarray(laid_over(as_image(shown.pixels, shown.size), map_, colours))
    write_atomically(aside, lambda part: over.save(part, format="JPEG", quality=90))


def file_for(name: str, taken: Container[Path], ending: str = ".png") -> Path:
    """Path below the folder, mirroring the image's; images that share a stem keep their suffixes."""
    whole = below(name, "image")
    short = whole.with_suffix(ending)
    return short if short not in taken else whole.with_name(f"{whole.name}{ending}")


def below(name: str, nameless: str) -> Path:
    """A sample's name as a path that leads out of no folder; nameless: for one of which nothing is left."""
    parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", "..")]
    return Path(*parts) if parts else Path(nameless)


def write_shares(names: list[str], shares: list[np.ndarray], classes: list[str], path: Path) -> None:
    def write(part: Path) -> None:
        with open(part, "w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["path", *classes])
            table.writerows([name, *(f"{share:.6f}" for share in row)] for name, row in zip(names, shares))

    write_atomically(path, write)
