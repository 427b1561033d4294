"""The images that a finished classifier is tested on, decoded once, at the size that it sees."""

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from unmask.cli.options.stress import StressTest
from unmask.data.codecs.decode import decode, to_channels
from unmask.data.codecs.image import BadImage
from unmask.data.datasets.classification import Labelled
from unmask.data.source import Source, open_source, why
from unmask.errors import DataError, UserError, closest
from unmask.plain import texts
from unmask.runs.run import CONFIG
from unmask.tasks.classification.classifier import ImageClassifier


@dataclass(frozen=True)
class Tested:
    """n images with what is known of them."""

    images: list[Tensor]  # each c h w, resized and cut as the classifier sees them, in the data's own channels
    numbers: list[int]  # their places in the source
    truth: np.ndarray  # n, places in the classifier's classes; or n k of 0 and 1
    columns: list[dict[str, str]]  # what else labels.csv says of each

    def __len__(self) -> int:
        return len(self.images)

    def right(self, probabilities: Float[np.ndarray, "n k"]) -> Bool[np.ndarray, "n"]:
        """Which answers are right; with several labels per image, all labels of an image."""
        if self.truth.ndim == 1:
            return probabilities.argmax(axis=1) == self.truth
        return ((probabilities > 0.5) == (self.truth > 0.5)).all(axis=1)

    def at(self, places: list[int]) -> "Tested":
        """Some of them, in the order given."""
        images, numbers = [self.images[i] for i in places], [self.numbers[i] for i in places]
        return replace(
            self,
            images=images,
            numbers=numbers,
            truth=self.truth[places],
            columns=[self.columns[i] for i in places],
        )


def read_tested(options: StressTest, folder: Path, classifier: ImageClassifier, console: Console) -> Tested:
    """The test split of the data: its own, else its val split; else what `transfer` held out, where it is the data that
    the classifier was trained on, and everything where it is not.

    What cannot work is refused before anything is decoded: channels, classes that the classifier does not know.
    """
    encoder = classifier.encoder
    if encoder.channels not in (1, 3):
        raise UserError(
            f"corruptions are defined for grey and colour images; {folder} takes {encoder.channels} channels"
        )
    source = open_source(texts(options.on))
    for remark in source.remarks:
        console.print(remark, soft_wrap=True, markup=False)
    chosen = _split(source, options, folder, classifier, console)
    truth = _truth(source, chosen, classifier)
    if options.most is not None and len(chosen) > options.most:
        drawn = np.sort(np.random.default_rng([options.seed, 2]).permutation(len(chosen))[: options.most])
        console.print(f"{options.most:,} of {len(chosen):,} test images are drawn; --most changes that", soft_wrap=True)
        chosen, truth = [chosen[i] for i in drawn], truth[drawn]
    found = _decode(source, chosen, classifier, console)
    bad = [(source.items[i].name, what) for i, what in zip(chosen, found) if isinstance(what, str)]
    if len(bad) > 0.5 * len(chosen):
        raise DataError(f"{len(bad)} of {len(chosen)} test images are bad, e.g. {bad[0][0]}: {bad[0][1]}")
    if bad:
        text = f"{len(bad)} bad images are left out, e.g. {bad[0][0]}: {bad[0][1]}"
        console.print(text, soft_wrap=True, markup=False)
    kept = [place for place, what in enumerate(found) if not isinstance(what, str)]
    images = [what for what in found if not isinstance(what, str)]
    grey = all(len(image) == 1 for image in images)  # noise on grey images is to be grey too
    images = [to_channels(image, 1 if grey else encoder.channels) for image in images]
    numbers = [chosen[place] for place in kept]
    return Tested(images, numbers, truth[kept], [source.items[i].columns for i in numbers])


def _decode(source: Source, chosen: list[int], classifier: ImageClassifier, console: Console) -> list[Tensor | str]:
    """Each image as the classifier sees it, in its own channels, or why it cannot be used."""
    encoder = classifier.encoder

    def read(index: int) -> Tensor | str:
        try:
            pixels = decode(source.read(index), max_side=4 * max(encoder.grid.size)).pixels
            to_channels(pixels, encoder.channels)
        except (BadImage, OSError) as error:
            return why(error)
        if not 0 <= float(pixels.min()) <= float(pixels.max()) <= 255:
            raise UserError(
                f"corruptions are defined for values in 0..255; {source.items[index].name} has"
                f" {float(pixels.min()):.4g} to {float(pixels.max()):.4g}"
            )
        return classifier.view(pixels).clamp(0, 255)  # deep images may ring a little beyond

    with Progress(console=console, transient=True) as bar, ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return list(bar.track(pool.map(read, chosen), len(chosen), description="reading the test images"))


def _split(
    source: Source, options: StressTest, folder: Path, classifier: ImageClassifier, console: Console
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
    asked = json.loads((folder / CONFIG).read_text(encoding="utf-8")).get("asked", {})
    places = [str(Path(place).expanduser().resolve()) for place in texts(options.on)]
    if places != [str(Path(place).expanduser().resolve()) for place in asked.get("on", [])]:
        console.print("the data has no test split: every image is tested on", soft_wrap=True)
        return labelled
    side = 4 * max(classifier.encoder.grid.size)
    held = Labelled(texts(options.on), max_side=side, seed=asked.get("seed", 0), hold_out_val=False, max_bad=0.5)
    console.print("the data has no test split: what was held out in training is tested on", soft_wrap=True)
    return held.splits["test"]


def _truth(source: Source, chosen: Sequence[int], classifier: ImageClassifier) -> np.ndarray:
    if source.multi_label and not classifier.multi_label:
        raise UserError(f"{source.where} has several labels per image; the classifier was trained to give one")
    place = {name: number for number, name in enumerate(classifier.classes)}
    known = [source.classes(i) or [] for i in chosen]
    foreign = sorted({name for names in known for name in names if name not in place})
    if foreign:
        near = closest(foreign[0], classifier.classes)
        raise UserError(
            f"{source.where} has classes that the classifier does not know: {', '.join(foreign[:5])}"
            f"{' and more' if len(foreign) > 5 else ''}{near} It knows: {', '.join(classifier.classes[:20])}"
        )
    if not classifier.multi_label:
        return np.array([place[names[0]] for names in known])
    truth = np.zeros((len(known), len(place)), np.int64)
    for row, names in enumerate(known):
        truth[row, [place[name] for name in names]] = 1
    return truth
