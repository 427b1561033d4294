"""The test images of a trained classifier, decoded once, at its input size."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from rich.console import Console
from torch import Tensor

from unmask.data.codecs.decode import decode, to_channels
from unmask.data.codecs.image import BadImage
from unmask.data.datasets.classification import Labelled
from unmask.data.modality import IMAGE, make_modality
from unmask.data.source import Source, open_source, why
from unmask.errors import DataError, UserError, closest
from unmask.files import parse_json
from unmask.runs.run import CONFIG
from unmask.runtime.cores import in_order
from unmask.runtime.progress import tracked
from unmask.tasks.classification.classifier import ImageClassifier


@dataclass(frozen=True)
class EvaluationSet:
    """n images with their labels."""

    pixels: list[Tensor]  # each c h w, resized and cut as the classifier sees them, in the data's own channels
    numbers: list[int]  # their rows in the source
    truth: np.ndarray  # n, indices into the classifier's classes; or n k of 0 and 1
    names: list[str]  # as the source has them

    def __len__(self) -> int:
        return len(self.pixels)

    def right(self, probabilities: Float[np.ndarray, "n k"]) -> Bool[np.ndarray, "n"]:
        """True for correct predictions; with several labels per image, all of them must be correct."""
        if self.truth.ndim == 1:
            return probabilities.argmax(axis=1) == self.truth
        return ((probabilities > 0.5) == (self.truth > 0.5)).all(axis=1)

    def at(self, rows: list[int]) -> "EvaluationSet":
        """A subset, in the given order."""
        pixels, numbers = [self.pixels[i] for i in rows], [self.numbers[i] for i in rows]
        return EvaluationSet(pixels, numbers, self.truth[rows], [self.names[i] for i in rows])


def read_evaluation_set(
    places: Sequence[str], folder: Path, classifier: ImageClassifier, most: int | None, seed: int, console: Console
) -> EvaluationSet:
    """The test split of the data, otherwise its validation split; otherwise the images that `transfer` held out if the
    classifier was trained on this data, and all images if not. folder: the classifier's. most, seed: of the draw.

    Unsuitable channels, and classes that the classifier does not have, are refused before anything is decoded.
    """
    channels, modality = classifier.encoder.channels, classifier.encoder.modality
    if modality != IMAGE:
        raise UserError(f"corruptions are defined for images; {folder} takes {make_modality(modality).word}s")
    if channels not in (1, 3):
        raise UserError(f"corruptions are defined for grey and colour images; {folder} takes {channels} channels")
    source = open_source(places)
    for remark in source.remarks:
        console.print(remark, soft_wrap=True, markup=False)
    rows = _split(source, places, folder, classifier, console)
    truth = _truth(source, rows, classifier)
    if most is not None and len(rows) > most:
        drawn = np.sort(np.random.default_rng([seed, 2]).permutation(len(rows))[:most])
        console.print(f"{most:,} of {len(rows):,} test images are drawn; --most changes that", soft_wrap=True)
        rows, truth = [rows[i] for i in drawn], truth[drawn]
    decoded = _decode(source, rows, classifier, console)
    bad = [(source.items[row].name, reason) for row, reason in zip(rows, decoded) if isinstance(reason, str)]
    if len(bad) > 0.5 * len(rows):
        raise DataError(f"{len(bad)} of {len(rows)} test images are bad, e.g. {bad[0][0]}: {bad[0][1]}")
    if bad:
        text = f"{len(bad)} bad images are left out, e.g. {bad[0][0]}: {bad[0][1]}"
        console.print(text, soft_wrap=True, markup=False)
    good = [i for i, image in enumerate(decoded) if not isinstance(image, str)]
    images = [image for image in decoded if not isinstance(image, str)]
    grey = all(len(image) == 1 for image in images)  # noise on grey images is to be grey too
    images = [to_channels(image, 1 if grey else channels) for image in images]
    numbers = [rows[i] for i in good]
    return EvaluationSet(images, numbers, truth[good], [source.items[row].name for row in numbers])


def _decode(source: Source, rows: list[int], classifier: ImageClassifier, console: Console) -> list[Tensor | str]:
    """Each image as the classifier sees it, in its own channels, or the reason why it cannot be used."""
    encoder = classifier.encoder

    def read(row: int) -> Tensor | str:
        try:
            pixels = decode(source.read(row), max_side=4 * max(encoder.grid.size)).pixels
            to_channels(pixels, encoder.channels)
        except (BadImage, OSError) as error:
            return why(error)
        low, high = float(pixels.min()), float(pixels.max())
        if not 0 <= low <= high <= 255:
            name = source.items[row].name
            raise UserError(f"corruptions are defined for values in 0..255; {name} has {low:.4g} to {high:.4g}")
        return classifier.view(pixels).clamp(0, 255)  # deep images may ring a little beyond

    return list(tracked(console, "reading the test images", in_order(read, rows), len(rows)))


def _split(
    source: Source, places: Sequence[str], folder: Path, classifier: ImageClassifier, console: Console
) -> list[int]:
    labelled = [i for i, item in enumerate(source.items) if item.label is not None]
    if not labelled:
        raise DataError(
            f"no image in {source.where} has a label: put the images of each class, two or more, in a folder of its"
            " own, or add a labels.csv with the columns path and label, or labels to the .npz"
        )
    for split in ("test", "val"):
        own = [i for i in labelled if source.items[i].split == split]
        if own:
            if split == "val":
                console.print("the data has no test split: its val split is tested on", soft_wrap=True)
            return own
    trained = parse_json((folder / CONFIG).read_text(encoding="utf-8")).get("asked", {})
    if _resolved(places) != _resolved(trained.get("on", [])):
        console.print("the data has no test split: every image is tested on", soft_wrap=True)
        return labelled
    side = 4 * max(classifier.encoder.grid.size)
    data = Labelled(places, max_side=side, seed=trained.get("seed", 0), hold_out_val=False)
    console.print("the data has no test split: what was held out in training is tested on", soft_wrap=True)
    return data.splits["test"]


def _resolved(places: Sequence[str]) -> list[str]:
    return [str(Path(place).expanduser().resolve()) for place in places]


def _truth(source: Source, rows: Sequence[int], classifier: ImageClassifier) -> np.ndarray:
    if source.multi_label and not classifier.multi_label:
        raise UserError(f"{source.where} has several labels per image; the classifier was trained to give one")
    index = {name: number for number, name in enumerate(classifier.classes)}
    labels = [source.classes(row) or [] for row in rows]
    foreign = sorted({name for names in labels for name in names if name not in index})
    if foreign:
        near = closest(foreign[0], classifier.classes)
        raise UserError(
            f"{source.where} has classes that the classifier does not know: {', '.join(foreign[:5])}"
            f"{' and more' if len(foreign) > 5 else ''}{near} It knows: {', '.join(classifier.classes[:20])}"
        )
    if not classifier.multi_label:
        return np.array([index[names[0]] for names in labels])
    truth = np.zeros((len(labels), len(index)), np.int64)
    for row, names in enumerate(labels):
        truth[row, [index[name] for name in names]] = 1
    return truth
