"""Evaluates a detector: metrics, example images, and one line of summary."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from unmask.data.annotations.objects import Target
from unmask.data.datasets.detection import Boxes
from unmask.data.loaders.map_style import begin_worker
from unmask.files import Json
from unmask.tasks.detection.detections import Detections
from unmask.tasks.detection.detector import ImageDetector
from unmask.tasks.detection.figures import draw_curves, draw_examples
from unmask.tasks.detection.metrics import RECALLS, box_scores
from unmask.tasks.detection.results import write_split_results

EXAMPLES, CURVES = "examples.png", "precision_recall.png"
BATCH = 8  # images at a time
SHOWN = 6  # images that are drawn, spread over the test split
THRESHOLD = 0.5  # lowest score that they show


def find_all(
    model: ImageDetector, boxes: Boxes, workers: int, autocast: torch.dtype | None
) -> tuple[list[Detections], list[Callable[[], Target]]]:
    """What is found in every image of a split, and what gives what is true, since masks of a whole split are large;
    both in the pixels of the image as it was read."""
    truth: list[Callable[[], Target]] = []

    def images() -> Any:
        for image, place in DataLoader(_Each(boxes), batch_size=None, num_workers=workers, worker_init_fn=begin_worker):
            truth.append(partial(boxes.target, int(place), (image.shape[1], image.shape[2])))
            yield image

    return model.stream(boxes.names, images(), BATCH, autocast), truth


class _Each(Dataset):
    def __init__(self, boxes: Boxes):
        self.boxes = boxes

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.boxes.images.substitute(index)


def judge_split(
    model: ImageDetector, boxes: Boxes, workers: int, autocast: torch.dtype | None, out: Path | None = None
) -> Json:
    """Metrics of a split; with `out`, images too."""
    detections, truth = find_all(model, boxes, workers, autocast)
    result, curves = box_scores(detections, (true() for true in truth), boxes.classes, boxes.masks)
    if out is not None:
        write_split_results(detections, boxes, out)
        places = sorted({round(i * (len(boxes) - 1) / max(1, SHOWN - 1)) for i in range(min(SHOWN, len(boxes)))})
        rows = [(boxes.image(i).image, truth[i](), detections[i]) for i in places]
        draw_examples(rows, THRESHOLD, out / EXAMPLES, boxes.classes)
        draw_curves(curves, RECALLS, out / CURVES, boxes.classes)
    return result


def box_headline(result: Json) -> str:
    """The result in one line."""
    text = (
        f"Boxes: mAP {_share(result['map'])}, at overlap 0.5 {_share(result['map50'])}, 0.75 {_share(result['map75'])}"
    )
    if result["masks"]:
        text += f"; masks: mAP {_share(result['mask_map'])}, at overlap 0.5 {_share(result['mask_map50'])}"
    return f"{text}; {result['count']:,} test images, {result['objects']:,} objects."


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"
