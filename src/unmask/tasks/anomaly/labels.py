"""Ground truth for anomaly detection: which images are normal, and where the defects of the others are."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from unmask.data.codecs.decode import decode
from unmask.data.codecs.image import BadImage
from unmask.data.datasets.images import Samples
from unmask.data.names import key_of, match_keys
from unmask.data.source import Source, open_source, why
from unmask.errors import DataError, UserError, closest
from unmask.tasks.anomaly.tiling import Tiling

NORMAL = ("normal", "good", "ok", "healthy", "negative")  # what a class of normal images is called; also 0 beside 1
LEVELS = 16  # values in a mask of plain numbers: zeros and ones, zeros and 255, or classes of defects
SHAPE = 0.02  # largest difference between the aspect ratios of an image and its mask
NAMED = 5  # examples in a message


def normal_classes(source: Source, chosen: Sequence[str]) -> list[str]:
    """The normal classes of a source: the chosen ones, or those with a common name; empty if there are none.

    Raises UserError for an unknown class.
    """
    classes = sorted({name for i in range(len(source.items)) for name in source.classes(i) or ()})
    for name in chosen:
        if name not in classes:
            listed = (
                f" There are: {', '.join(classes[:20])}" if classes else f" No image in {source.where} has a label."
            )
            raise UserError(f"--normal {name}: no such class{closest(name, classes)}{listed}")
    if classes == ["0", "1"]:
        return list(chosen) or ["0"]
    return list(chosen) or [name for name in classes if name.lower() in NORMAL]


def labels_of(source: Source, rows: Sequence[int], normal: Sequence[str]) -> np.ndarray:
    """n: 0 normal, 1 anomalous, -1 unknown. With several labels an image is normal if all of them are."""
    labels = [source.classes(i) for i in rows]
    return np.array([-1 if names is None else int(not set(names) <= set(normal)) for names in labels], dtype=np.int64)


def read_masks(
    place: Path, samples: Samples, tiling: Tiling, labels: np.ndarray, say: Callable[[str], object]
) -> tuple[list[Bool[np.ndarray, "h w"] | None], np.ndarray]:
    """For each image where its defects are on its canvas, None where that is unknown; and the labels with what masks
    add. An image without a mask is normal, unless its label says that it is not: then nothing is known of its pixels.

    Masks are found by the image's path without its ending, also with `_mask`, `_gt` or `_label` behind it, by the rule
    of `names`. All values above 0 are defect; in a mask of more than `LEVELS` values, which is one with soft edges or
    JPEG's noise, those above half of the highest. What does not fit is counted and named. Raises UserError where no
    mask fits any image.
    """
    source = open_source(place)
    matches = match_keys(
        {item.name: key_of(_stem(item.name)) for item in source.items}, {n: key_of(_stem(n)) for n in samples.names}
    )
    mask_of = {matches.files[item.name]: i for i, item in enumerate(source.items) if item.name in matches.files}
    for remark in matches.remarks("masks are found"):
        say(remark)
    masks: list[np.ndarray | None] = []
    labels, wrong, missing, used = labels.copy(), [], [], set()
    for i, name in enumerate(samples.names):
        at = mask_of.get(name)
        canvas = tiling.canvas(*samples.image(i).shape[-2:])
        if at is None:
            if labels[i] == 1:
                missing.append(samples.names[i])
            masks.append(None if labels[i] == 1 else np.zeros(canvas, dtype=bool))
            labels[i] = max(labels[i], 0)
            continue
        used.add(at)
        try:
            mask = _read(source, at, samples.image(i))
        except (BadImage, OSError) as error:
            wrong.append(f"{source.items[at].name}: {why(error)}")
            masks.append(None)
            continue
        if labels[i] == 1 and not mask.any():
            wrong.append(f"{source.items[at].name}: empty, but its image is not normal")
            masks.append(None)
            continue
        masks.append((tiling.whole(mask)[0] > 127).numpy())
        labels[i] = int(mask.any())
    if not used:
        raise UserError(
            f"no mask in {place} fits an image by its name, e.g. {source.items[0].name} against {samples.names[0]}"
        )
    unused = [item.name for i, item in enumerate(source.items) if i not in used]
    _say(say, unused, "masks fit no image that is judged")
    _say(say, wrong, "masks cannot be used; their images do not count for pixels")
    _say(say, missing, "anomalous images have no mask; they do not count for pixels")
    lost = [samples.names[i] for i, m in enumerate(masks) if m is not None and labels[i] == 1 and not m.any()]
    _say(say, lost, "images have defects only where the view cuts them off, or too small for it; --tiles sees more")
    return masks, labels


def check_both(labels: np.ndarray, where: str) -> None:
    """Raises DataError unless there are both normal and anomalous images."""
    normal, anomalous = int((labels == 0).sum()), int((labels == 1).sum())
    if not normal or not anomalous:
        raise DataError(
            f"{where} has {normal} normal and {anomalous} anomalous images that can be read; telling them apart needs"
            " both. Name the classes that are normal: --normal NAME"
        )


def _read(source: Source, at: int, image: Tensor) -> Tensor:
    pixels = decode(source.read(at)).pixels.float().amax(dim=0, keepdim=True)
    height, width = image.shape[-2:]
    if abs(pixels.shape[1] * width / (pixels.shape[2] * height) - 1) > SHAPE:
        raise BadImage(f"{pixels.shape[1]} x {pixels.shape[2]}, where the image is {height} x {width}")
    least = float(pixels.max()) / 2 if len(pixels.unique()) > LEVELS else 0.0
    mask = (pixels > least).to(torch.uint8) * 255
    return torch.nn.functional.interpolate(mask[None], (height, width), mode="nearest")[0]


def _stem(name: str) -> str:
    """A path without its suffix and without a mask's marker."""
    path = PurePosixPath(name)
    return str(path.with_name(re.sub(r"[_-](mask|gt|label|labels|ground_truth)$", "", path.stem)))


def _say(say: Callable[[str], object], names: Sequence[str], words: str) -> None:
    if names:
        say(f"{len(names):,} {words}: {', '.join(names[:NAMED])}{', ...' if len(names) > NAMED else ''}")
