"""One training of a segmenter, from settings: what `transfer` does once and studies do many times."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from unmask.data.annotations.legend import VOID
from unmask.data.codecs.decode import decode_side
from unmask.data.datasets.segmentation import Segmented, Segments
from unmask.data.loaders.map_style import Loader
from unmask.data.transforms.segmentation import SceneView
from unmask.models.encoder import Encoder
from unmask.models.segmenter import Segmenter
from unmask.models.sliding_window import windows_at_once
from unmask.models.state import copied
from unmask.plain import texts
from unmask.runtime.machine import autocast_dtype
from unmask.seeds import mix
from unmask.tasks.segmentation.metrics import overlap
from unmask.tasks.segmentation.objective import Segment
from unmask.tasks.segmentation.plan import class_weights
from unmask.tasks.task import looking


def make_segment_task(encoder: Encoder, data: Segmented, settings: dict[str, Any], scratch: bool) -> Segment:
    """The segmenter before training: weights of `encoder`, or fresh ones, and a head, drawn from the seed."""
    torch.manual_seed(mix(settings["seed"], 0x5E63))
    copy = copied(encoder, settings["drop_path"], scratch)
    shape = {"head": settings["head"], "window": tuple(settings["crop_size"]), "side": settings["side"]}
    weights = class_weights(data.pixels["train"].astype(float)) if settings["balanced"] == "on" else None
    named = {name: settings[name] for name in ("protocol", "layer_decay", "dice")}
    return Segment(Segmenter(copy, data.classes, data.numbers, **shape), weights=weights, **named)


def make_segment_loader(segments: Any, encoder: Encoder, settings: dict[str, Any], micro: int | None = None) -> Loader:
    """Augmented training batches of images with their maps."""
    view = SceneView(
        (settings["crop_size"][0], settings["crop_size"][1]),
        settings["side"],
        tuple(encoder.mean.tolist()),
        scale=(settings["scale"][0], settings["scale"][1]),
        limit=settings["class_limit"],
        flip=settings["flip"] == "on",
        distort=settings["distort"] == "on",
    )
    shared = {"seed": settings["seed"], "workers": settings["workers"], "pin": settings["device"] == "cuda"}
    batch = micro or settings["batch"] // settings["accumulate"]
    return Loader(samples=segments, view=view, batch=batch, **shared)


def answers(
    model: Any, segments: Segments, settings: dict[str, Any], rows: list[int] | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Answered and true map of images, one after the other, as the model is used later: whole, by windows."""
    rows, truths = list(range(len(segments))) if rows is None else rows, []

    def shown() -> Iterator[tuple[Tensor, tuple[int, int]]]:
        for row in rows:
            image, truth = segments.pair(row)
            truths.append(truth)
            yield image, (truth.shape[0], truth.shape[1])

    maps = model.maps(shown(), windows_at_once(model.window), autocast_dtype(settings["precision"]))
    for place, found in enumerate(maps):
        yield found, truths[place]
        truths[place] = None  # many large maps would not fit into memory


def score_split(
    model: Any, data: Segmented, split: str, settings: dict[str, Any], rows: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """See `overlap`. rows: filled with a line for each image."""
    was, segments = model.training, data.segments(split, model.encoder.channels)
    model.eval()

    def watched() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for place, (found, truth) in enumerate(answers(model, segments, settings)):
            if rows is not None:
                known = truth != VOID
                right = float((found == truth)[known].mean()) if known.any() else None
                rows.append({"path": segments.names[place], "pixel_accuracy": right, "void": float(1 - known.mean())})
            yield found, truth

    result = overlap(watched(), data.classes)
    model.train(was)
    return result


def read_segmented(options: Any, encoder: Encoder, console: Console) -> Segmented:
    """The segmented data, checked for this purpose. What a person should know is said."""
    with looking(console, "looking at images and masks") as told:
        data = Segmented(
            texts(options.on),
            max_side=decode_side(options.side or min(options.crop_size or encoder.input_size)),
            images=None if options.images is None else Path(options.images),
            classes=None if options.classes is None else Path(options.classes),
            void=options.void or (),
            most=options.most,
            seed=options.seed,
            max_bad=options.max_bad,
            **told,
        )
    data.sheet.statistics(encoder.channels)  # refuses images that cannot be brought to these channels
    told["say"](f"{len(data.classes)} classes; {data.said} images")
    return data
