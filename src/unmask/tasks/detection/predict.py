"""`unmask predict` with a detector: COCO's JSON, and images with the detections drawn on them."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from torch import Tensor

from unmask.data.annotations.coco_tables import Id, near, read_table, stated_images, valid_categories
from unmask.data.annotations.geometry import pixels_in, run_lengths
from unmask.data.annotations.objects import Annotated, Images
from unmask.data.codecs.image import BadImage
from unmask.data.labels import class_name, printable, some
from unmask.data.source import Files, Item, Source, open_source, why
from unmask.errors import DataError, UserError
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
    opened = open_images(options.images, model.classes, config["ids"])
    source, bad = opened.source, list(opened.missing)
    for remark in opened.remarks:
        console.print(remark, soft_wrap=True, markup=False)
    writer = Writer(out, model.classes, opened.categories, options.threshold)
    height, width = model.size
    batch = max(1, min(options.batch, AT_A_TIME // (height * width)))
    with progress(console, "finding", len(source.items)) as update:
        for places, images in _portions(source, model.encoder.channels, batch, bad):
            names = [source.items[place].name for place in places]
            for place, detections, image in zip(places, model.stream(names, images, batch), images):
                writer.add(detections, image, opened.ids[place] if opened.ids else None)
            update(len(writer.kept) + len(bad))
    say_left_out(bad, len(writer.kept), console)
    writer.finish()
    say_first([f"{detections.name}: {_counts(detections)}" for detections in writer.kept], console)
    number = sum(len(detections) for detections in writer.kept)
    where = f"{out / DATASET}, {out / RESULTS}, {out / DRAWN}"
    console.print(f"{number:,} objects in {len(writer.kept):,} images: {where}", soft_wrap=True, markup=False)
    return writer.kept


@dataclass(frozen=True)
class AskedImages:
    """Images to look at, and the ids that the results carry."""

    source: Source
    categories: list[Id]  # of each class of the detector
    ids: list[Id] | None = None  # of each image; None: they are numbered
    missing: Sequence[tuple[str, str]] = ()  # name, reason
    remarks: Sequence[str] = ()


def open_images(places: Sequence[str], classes: Sequence[str], categories: list[Id]) -> AskedImages:
    """Images, or those that a COCO .json lists, with its ids of images and of categories, so that results can be judged
    against it. Raises UserError for a .json beside other places, DataError for one that lists no images."""
    tables = [place for place in places if place.lower().endswith(".json")]
    if not tables:
        return AskedImages(open_source(places), categories)
    if len(places) > 1:
        raise UserError(f"results carry the ids of one annotation file: give {tables[0]} alone")
    try:
        table = read_table(tables[0], ("images", "categories"))
    except (OSError, ValueError) as error:
        raise DataError(f"{tables[0]} cannot be read: {error}") from error
    told, folder = Annotated("coco", [], [], []), os.path.dirname(os.path.abspath(tables[0]))
    stated = list(stated_images(told, tables[0], table).values())
    matches = Images(near(tables[0], tables[0])).match(image.name for image in stated)
    missing = [(fault.file, f"{fault.kind}: {fault.detail}") for fault in told.faults]
    missing += [(i.name, f"is not there. {matches.why_not(i.name)}") for i in stated if i.name not in matches.files]
    present = [image for image in stated if image.name in matches.files]
    if not present:
        raise DataError(f"none of the {len(stated):,} images that {tables[0]} lists lies in {folder} or beside it")
    source = Files(tables[0], [Item(printable(i.name)) for i in present], [matches.files[i.name] for i in present])
    ids = {class_name(category["name"]): category["id"] for category in valid_categories(table)}
    free = max([id_ for id_ in ids.values() if isinstance(id_, int)], default=0) + 1
    lacking = [name for name in classes if class_name(name) not in ids]
    remarks = matches.remarks("images are found")
    if lacking:
        remarks.append(f"{tables[0]} lacks {some(lacking)}: in results they have numbers from {free} on")
    ids |= {class_name(name): free + place for place, name in enumerate(lacking)}
    return AskedImages(source, [ids[class_name(n)] for n in classes], [i.id_ for i in present], missing, remarks)


def _counts(detections: Detections) -> str:
    return ", ".join(f"{count} {name}" for name, count in counted([detections]).items() if count) or "nothing"


def _portions(
    source: Source, channels: int, most: int, bad: list[tuple[str, str]]
) -> Iterator[tuple[list[int], list[Tensor]]]:
    """Places and pixels of a few images at a time: `most`, or as many as memory should hold. Those that cannot be read
    are added to `bad`."""
    places: list[int] = []
    images: list[Tensor] = []
    for index, item in enumerate(source.items):
        try:
            images.append(read_image(source, index, channels))
            places.append(index)
        except (BadImage, OSError) as error:
            bad.append((item.name, why(error)))
        if len(places) == most or sum(p.nbytes for p in images) > HELD:
            yield places, images
            places, images = [], []
    if places:
        yield places, images


class Writer:
    """Gathers detections image by image, and writes them in COCO's two forms: a data set of what has the score
    asked for, and results of everything, which COCO's evaluation wants."""

    def __init__(self, out: Path, classes: list[str], ids: list[Id], threshold: float):
        self.out, self.ids, self.threshold = out, ids, threshold
        self.categories = [{"id": id_, "name": name} for id_, name in zip(ids, classes)]
        self.kept: list[Detections] = []
        self.images: list[Json] = []
        self.results: list[Json] = []
        self.taken: set[str] = set()

    def add(self, detections: Detections, image: Tensor, id_: Id | None = None) -> None:
        """image: raw values, to be drawn on; id_: of the image, else it is numbered."""
        number = len(self.images) + 1 if id_ is None else id_
        height, width = detections.size
        self.images.append({"id": number, "file_name": detections.name, "height": height, "width": width})
        for place in range(len(detections)):
            left, top, right, bottom = (round(float(v), 2) for v in detections.boxes[place])
            entry: Json = {
                "image_id": number,
                "category_id": self.ids[int(detections.labels[place])],
                "bbox": [left, top, round(right - left, 2), round(bottom - top, 2)],
                "score": round(float(detections.scores[place]), 5),
            }
            if detections.shapes is not None:
                entry["segmentation"] = run_lengths(detections.mask(place))
            self.results.append(entry)
        self.kept.append(detections.above(self.threshold))
        save_png(self.out / DRAWN / self._file(detections.name), draw(image, self.kept[-1]))

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


def _area(entry: Json) -> float:
    """Area in pixels of the mask if there is one, otherwise of the box."""
    if "segmentation" in entry:
        return pixels_in(entry["segmentation"])
    return round(entry["bbox"][2] * entry["bbox"][3], 2)
