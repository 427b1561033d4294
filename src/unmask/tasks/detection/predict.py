"""`unmask predict` with a detector: COCO's JSON, and images with the detections drawn on them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import Tensor

from unmask.data.annotations.geometry import pixels_in, run_lengths
from unmask.data.codecs.image import BadImage
from unmask.data.source import Source, open_source, why
from unmask.errors import UserError
from unmask.files import Json, write_json
from unmask.runtime.progress import progress
from unmask.tasks.detection.detections import Detections, counted
from unmask.tasks.detection.detector import ImageDetector, read_image
from unmask.tasks.detection.figures import draw, save_png
from unmask.tasks.prediction import say_first, say_left_out
from unmask.tasks.task import PredictOptions

DATASET, RESULTS, DRAWN = "predictions.json", "results.json", "drawn"
AT_A_TIME = 8 * 1024**2  # pixels of inputs in a batch, at the most
HELD = 2**29  # bytes of images that wait for a batch, at the most


def predictions_place(out: Path | None) -> Path:
    """The requested folder, `predictions` by default. Raises UserError for a file."""
    out = out or Path("predictions")
    if out.is_file() or out.suffix.lower() in (".csv", ".json"):
        raise UserError(f"a detector writes several files: give a folder with --out, not {out.name!r}")
    return out


def find_objects(
    model: ImageDetector, config: Json, options: PredictOptions, out: Path, console: Console
) -> list[Detections]:
    """See `TransferTask.predict`: the detections with at least the requested score."""
    source = open_source(options.images)
    bad: list[tuple[str, str]] = []
    writer = Writer(out, model.classes, config["ids"], options.threshold)
    height, width = model.size
    batch = max(1, min(options.batch, AT_A_TIME // (height * width)))
    with progress(console, "finding", len(source.items)) as update:
        for names, images in _portions(source, model.encoder.channels, batch, bad):
            for detections, image in zip(model.stream(names, images, batch), images):
                writer.add(detections, image)
            update(len(writer.kept) + len(bad))
    say_left_out(bad, len(writer.kept), console)
    writer.finish()
    say_first([f"{detections.name}: {_counts(detections)}" for detections in writer.kept], console)
    number = sum(len(detections) for detections in writer.kept)
    where = f"{out / DATASET}, {out / RESULTS}, {out / DRAWN}"
    console.print(f"{number:,} objects in {len(writer.kept):,} images: {where}", soft_wrap=True, markup=False)
    return writer.kept


def _counts(detections: Detections) -> str:
    return ", ".join(f"{count} {name}" for name, count in counted([detections]).items() if count) or "nothing"


def _portions(
    source: Source, channels: int, most: int, bad: list[tuple[str, str]]
) -> Iterator[tuple[list[str], list[Tensor]]]:
    """Names and pixels of a few images at a time: `most`, or as many as memory should hold. Those that cannot be read
    are added to `bad`."""
    names: list[str] = []
    images: list[Tensor] = []
    for index, item in enumerate(source.items):
        try:
            images.append(read_image(source, index, channels))
            names.append(item.name)
        except (BadImage, OSError) as error:
            bad.append((item.name, why(error)))
        if len(names) == most or sum(p.nbytes for p in images) > HELD:
            yield names, images
            names, images = [], []
    if names:
        yield names, images


class Writer:
    """Gathers detections image by image, and writes them in COCO's two forms: a data set of what has the score
    asked for, and results of everything, which COCO's evaluation wants."""

    def __init__(self, out: Path, classes: list[str], ids: list[int], threshold: float):
        self.out, self.ids, self.threshold = out, ids, threshold
        self.categories = [{"id": id_, "name": name} for id_, name in zip(ids, classes)]
        self.kept: list[Detections] = []
        self.images: list[dict[str, Any]] = []
        self.results: list[dict[str, Any]] = []
        self.taken: set[str] = set()

    def add(self, found: Detections, image: Any) -> None:
        """image: raw values, to be drawn on."""
        number = len(self.images) + 1
        height, width = found.size
        self.images.append({"id": number, "file_name": found.name, "height": height, "width": width})
        for place in range(len(found)):
            left, top, right, bottom = (round(float(v), 2) for v in found.boxes[place])
            entry: dict[str, Any] = {
                "image_id": number,
                "category_id": self.ids[int(found.labels[place])],
                "bbox": [left, top, round(right - left, 2), round(bottom - top, 2)],
                "score": round(float(found.scores[place]), 5),
            }
            if found.shapes is not None:
                entry["segmentation"] = run_lengths(found.mask(place))
            self.results.append(entry)
        self.kept.append(found.above(self.threshold))
        save_png(self.out / DRAWN / self._file(found.name), draw(image, self.kept[-1]))

    def finish(self) -> None:
        """Writes both files."""
        chosen = [entry for entry in self.results if entry["score"] >= self.threshold]
        annotations = [
            entry | {"id": number, "iscrowd": 0, "area": _area(entry)} for number, entry in enumerate(chosen, 1)
        ]
        content = {"images": self.images, "annotations": annotations, "categories": self.categories}
        write_json(self.out / DATASET, {"info": {"description": "found by unmask"}} | content)
        write_json(self.out / RESULTS, self.results)

    def _file(self, name: str) -> str:
        """A unique file name for an image."""
        stem = re.sub(r"[^\w.-]+", "_", re.sub(r"\.\w+$", "", name)).strip("_.") or "image"
        file, number = f"{stem}.png", 1
        while file in self.taken:
            number += 1
            file = f"{stem}_{number}.png"
        self.taken.add(file)
        return file


def _area(entry: dict[str, Any]) -> float:
    """Area in pixels of the mask if there is one, otherwise of the box."""
    if "segmentation" in entry:
        return pixels_in(entry["segmentation"])
    return round(entry["bbox"][2] * entry["bbox"][3], 2)
