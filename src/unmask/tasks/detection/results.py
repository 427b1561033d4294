"""Detections in COCO's results format, in the pixels and with the ids of the annotation file that they are for."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from unmask.data.annotations.geometry import run_lengths, turned
from unmask.data.annotations.objects import Id, Instance
from unmask.data.datasets.detection import Boxes
from unmask.files import Json, write_json
from unmask.tasks.detection.detections import Detections

RESULTS = "results.json"
BACK = {6: 8, 8: 6}  # EXIF's orientations that undo each other; every other one undoes itself


@dataclass(frozen=True)
class Annotation:
    """How an annotation file speaks of an image."""

    id_: Id
    turn: int = 1  # EXIF's orientation by which its pixels are turned to be shown; 1: it speaks of the image as shown


def frame_of(size: tuple[int, int], turn: int) -> tuple[int, int]:
    """Height and width in the annotation's pixels of an image that is shown with this height and width."""
    return size if turn < 5 else (size[1], size[0])


def result_entries(detections: Detections, image: Annotation, categories: Sequence[Id]) -> list[Json]:
    """One entry for each detection. categories: the id of each class."""
    entries = []
    for place in range(len(detections)):
        left, top, right, bottom = (float(v) for v in detections.boxes[place])
        instance = Instance(detections.names[place], (left, top, right, bottom))
        if detections.shapes is not None:
            instance = replace(instance, rle=run_lengths(detections.mask(place)))
        if image.turn > 1:
            instance = turned(instance, detections.size, BACK.get(image.turn, image.turn))
        left, top, right, bottom = (round(v, 2) for v in instance.box)
        entry: Json = {
            "image_id": image.id_,
            "category_id": categories[int(detections.labels[place])],
            "bbox": [left, top, round(right - left, 2), round(bottom - top, 2)],
            "score": round(float(detections.scores[place]), 5),
        }
        entries.append(entry if instance.rle is None else entry | {"segmentation": dict(instance.rle)})
    return entries


def write_split_results(answers: Sequence[Detections], boxes: Boxes, out: Path) -> None:
    """What was found in a split, where one annotation file with ids tells of all its images; else nothing."""
    files = {scene.told_in for scene in boxes.scenes}
    ids = [scene.id_ for scene in boxes.scenes]
    if len(files) != 1 or None in ids:
        return
    names = boxes.category_ids[files.pop()]
    free = max([id_ for id_ in names.values() if isinstance(id_, int)], default=0) + 1
    categories = [names.get(name, free + place) for place, name in enumerate(boxes.classes)]
    entries = []
    for place, (detections, scene) in enumerate(zip(answers, boxes.scenes)):
        assert scene.id_ is not None
        full_size = _at_size(detections, boxes.size(place))
        entries += result_entries(full_size, Annotation(scene.id_, scene.turn), categories)
    write_json(out / RESULTS, entries)


def _at_size(detections: Detections, size: tuple[int, int]) -> Detections:
    """Detections in the pixels of an image's full size, which may have been shrunk to be kept."""
    if detections.size == size:
        return detections
    y, x = size[0] / detections.size[0], size[1] / detections.size[1]
    boxes = (detections.boxes * np.array([x, y, x, y])).astype(detections.boxes.dtype)
    return replace(detections, size=size, boxes=boxes)
