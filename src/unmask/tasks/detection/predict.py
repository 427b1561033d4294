"""`unmask predict` with a detector: COCO's JSON, and images with the detections drawn on them."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from torch import Tensor

from unmask.data.annotations.coco_tables import Stated, ids_by_class, near, read_table, stated_images
from unmask.data.annotations.geometry import look_at, pixels_in
from unmask.data.annotations.objects import Annotated, Id, Images
from unmask.data.annotations.repair import fits, turn_of
from unmask.data.codecs.image import BadImage
from unmask.data.labels import class_name, printable, some
from unmask.data.names import Matches
from unmask.data.source import Files, Item, Source, open_source, why
from unmask.errors import DataError, UserError, many
from unmask.files import Json, write_json
from unmask.runtime.progress import progress
from unmask.tasks.detection.detections import Detections, counted
from unmask.tasks.detection.detector import ImageDetector, read_image
from unmask.tasks.detection.figures import draw, save_png
from unmask.tasks.detection.results import RESULTS, Annotation, frame_of, result_entries
from unmask.tasks.prediction import say_first, say_left_out
from unmask.tasks.task import PredictOptions

DATASET, DRAWN = "predictions.json", "drawn"
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
                writer.add(detections, image, opened.annotations[place] if opened.annotations else None)
            update(len(writer.kept) + len(bad))
    say_left_out(bad, len(writer.kept), console)
    writer.finish()
    say_first([f"{detections.name}: {_counts(detections)}" for detections in writer.kept], console)
    number = sum(len(detections) for detections in writer.kept)
    where = f"{out / DATASET}, {out / RESULTS}, {out / DRAWN}"
    objects = f"{many(number, 'object')} with a score of {options.threshold:g} or more (--threshold)"
    console.print(f"{objects} in {many(len(writer.kept), 'image')}: {where}", soft_wrap=True, markup=False)
    return writer.kept


@dataclass(frozen=True)
class AskedImages:
    """Images to look at, and the ids that the results carry."""

    source: Source
    categories: list[Id]  # of each class of the detector
    annotations: list[Annotation] | None = None  # of each image; None: images are numbered
    missing: Sequence[tuple[str, str]] = ()  # name, reason
    remarks: Sequence[str] = ()


def open_images(places: Sequence[str], classes: Sequence[str], categories: list[Id]) -> AskedImages:
    """Images, or those that a COCO .json lists, with its ids of images and of categories, so that results can be judged
    against it; other places are then the folders that its images lie in. Raises UserError for two of them and for
    places that are no folders, DataError for one that lists no images."""
    tables = [place for place in places if place.lower().endswith(".json")]
    folders = [place for place in places if place not in tables]
    if not tables:
        numbered = "images are numbered from 1; for the ids of a COCO .json give that too, or alone"
        return AskedImages(open_source(places), categories, remarks=[numbered])
    if len(tables) > 1:
        raise UserError(f"results carry the ids of one annotation file: give {tables[0]} or {tables[1]}")
    if wrong := next((place for place in folders if not os.path.isdir(place)), None):
        raise UserError(f"{wrong} is no folder: beside {tables[0]} give the folders that its images lie in")
    try:
        table = read_table(tables[0], ("images", "categories"))
    except (OSError, ValueError) as error:
        raise DataError(f"{tables[0]} cannot be read: {error}") from error
    told, images = Annotated("coco", [], [], []), Images(folders or near(tables[0], tables[0]))
    stated = list(stated_images(told, tables[0], table).values())
    matches = images.match(image.name for image in stated)
    missing = [(fault.file, f"{fault.kind}: {fault.detail}") for fault in told.faults]
    missing += [(i.name, f"is not there. {matches.why_not(i.name)}") for i in stated if i.name not in matches.files]
    paths, annotations = _meant(stated, matches, missing)
    if not paths:
        where = some(folders, 3) if folders else f"{os.path.dirname(os.path.abspath(tables[0]))} or beside it"
        why = f" ({missing[0][0]}: {missing[0][1].strip()})" if missing else ""
        raise DataError(f"none of the {len(stated):,} images that {tables[0]} lists lies in {where}{why}")
    source = Files(tables[0], [Item(printable(name)) for name in paths], list(paths.values()))
    ids, remarks = ids_by_class(table), matches.remarks("images are found")
    free = max([id_ for id_ in ids.values() if isinstance(id_, int)], default=0) + 1
    lacking = [name for name in classes if class_name(name) not in ids]
    if lacking:
        remarks.append(f"{tables[0]} lacks {some(lacking)}: in results they have numbers from {free} on")
    if folders and (unlisted := len(images.keys.keys() - set(matches.files.values()))):
        remarks.append(f"{unlisted:,} images in {some(folders, 3)} are not listed in {tables[0]} and are left out")
    ids |= {class_name(name): free + place for place, name in enumerate(lacking)}
    return AskedImages(source, [ids[class_name(n)] for n in classes], annotations, missing, remarks)


def _meant(
    stated: Sequence[Stated], matches: Matches, missing: list[tuple[str, str]]
) -> tuple[dict[str, str], list[Annotation]]:
    """The files of images by their names, and how the annotation file speaks of each. One of another size than stated,
    and one that comes again, is added to `missing`."""
    paths: dict[str, str] = {}
    annotations = []
    for image in stated:
        path = matches.files.get(image.name)
        if path is None:
            continue
        try:
            stored, orientation = look_at(path)
        except (BadImage, OSError):  # said when it is to be read
            stored, orientation = image.size or (1, 1), 1
        turn = turn_of(image.size, stored, orientation)
        shown = frame_of(stored, orientation)
        if image.name in paths:
            missing.append((image.name, f"is listed again, with the id {image.id_}"))
        elif turn == 1 and not fits(image.size, shown):
            height, width = image.size or shown
            missing.append((image.name, f"is {shown[1]} x {shown[0]}, not {width} x {height} as stated"))
        else:
            paths[image.name] = path
            annotations.append(Annotation(image.id_, turn))
    return paths, annotations


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

    def add(self, detections: Detections, image: Tensor, annotation: Annotation | None = None) -> None:
        """image: raw values, to be drawn on; annotation: of the image, else it is numbered."""
        annotation = annotation or Annotation(len(self.images) + 1)
        height, width = frame_of(detections.size, annotation.turn)
        self.images.append({"id": annotation.id_, "file_name": detections.name, "height": height, "width": width})
        self.results += result_entries(detections, annotation, self.ids)
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
